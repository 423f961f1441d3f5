"""Where everything goes: the account, the region, the bucket, and the name that all resources share."""

import re
from dataclasses import dataclass

from knn_sagemaker.errors import Mistake

TAG = "knn-container"  # the key of the tag by which `delete` knows its own
LONGEST_NAME = 16  # a tuning job's name has 32 characters, and a time is appended to this one
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Place:
    """Where a command works.

    Attributes:
        name: begins the names of all that is made, and is the value of their tag.
        partition: `aws`, `aws-cn`, `aws-us-gov`.
        region: such as `us-west-2`.
        account: its 12 digits.
        bucket: holds channels, models and results.
        repository: of the image, in the account's registry.
    """

    name: str
    partition: str
    region: str
    account: str
    bucket: str
    repository: str

    @property
    def prefix(self) -> str:
        """What the keys of all objects begin with."""
        return f"knn-container/{self.name}/"

    def key(self, *parts: str) -> str:
        """An object's key."""
        return self.prefix + "/".join(parts)

    def uri(self, *parts: str) -> str:
        """The same as an address."""
        return f"s3://{self.bucket}/{self.key(*parts)}"

    def owns(self, uri: str) -> bool:
        """Whether an address is below the prefix."""
        return uri.startswith(self.uri())

    @property
    def tags(self) -> list[dict[str, str]]:
        """The tags of a resource, as most services take them."""
        return [{"Key": TAG, "Value": self.name}]

    @property
    def registry(self) -> str:
        """The host of the account's image registry."""
        suffix = "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"
        return f"{self.account}.dkr.ecr.{self.region}.{suffix}"

    def image(self, tag: str) -> str:
        """The image as SageMaker is told it."""
        return f"{self.registry}/{self.repository}:{tag}"

    def arn(self, service: str, resource: str) -> str:
        """A resource of this account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def named(self, what: str, name: str, longest: int = 63) -> str:
        """Checks that a resource's name is one that `delete` finds and the policy allows.

        Raises:
            Mistake: it is not.
        """
        if not name.startswith(f"{self.name}-") or not _NAME.fullmatch(name) or len(name) > longest:
            raise Mistake(
                f"{what}: expected a name that begins with {self.name}- (from --name), in lower-case letters, digits "
                f"and single hyphens, of at most {longest} characters; {name!r} came."
            )
        return name


def check_name(name: str) -> str:
    """Checks the name that all resources share.

    Raises:
        Mistake: it would not fit into the names of resources.
    """
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise Mistake(
            f"--name: expected lower-case letters, digits and single hyphens, a letter first, at most {LONGEST_NAME} "
            f"characters; {name!r} came."
        )
    return name


def split_uri(what: str, uri: str) -> tuple[str, str]:
    """Takes `s3://BUCKET/KEY` apart.

    Raises:
        Mistake: it is something else.
    """
    found = re.fullmatch(r"s3://([^/]+)/?(.*)", uri)
    if not found:
        raise Mistake(f"{what}: expected s3://BUCKET/PREFIX, {uri!r} came.")
    return found[1], found[2]
