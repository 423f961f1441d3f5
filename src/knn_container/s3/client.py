"""The client of S3, and its errors in this project's words."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from knn_container.errors import PlatformError, TrainingError, UserError
from knn_container.s3.location import Location

_CONNECT_SECONDS = 10
_READ_SECONDS = 30
_ATTEMPTS = 10  # at a request that is throttled all along, which takes about a minute
_CONNECTIONS = 64

_NO_BUCKET = "{}: there is no such bucket. Check the name and AWS_ENDPOINT_URL_S3."
_NO_CREDENTIALS = (
    "no AWS credentials that can be used: {reason}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the "
    "container a profile or a role."
)


def connect() -> Any:
    """Makes a client from boto3's usual configuration: environment, profiles, roles, `AWS_ENDPOINT_URL_S3`.

    Requests are retried in botocore's standard mode, 10 times; the configuration may say `adaptive` or another
    number.

    Raises:
        UserError: boto3 is not installed, or its configuration cannot be used.
    """
    try:
        import boto3  # noqa: PLC0415
        import botocore.session  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415
    except ImportError as error:
        raise UserError('s3:// needs boto3, which is not installed: pip install "knn-container[s3]".') from error
    try:
        with explained("S3"):
            session = botocore.session.get_session()
            config = Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                max_pool_connections=_CONNECTIONS,
                tcp_keepalive=True,
                retries={
                    "mode": "adaptive" if session.get_config_variable("retry_mode") == "adaptive" else "standard",
                    "total_max_attempts": session.get_config_variable("max_attempts") or _ATTEMPTS,
                },
            )
            return boto3.session.Session(botocore_session=session).client("s3", config=config)
    except ValueError as error:
        raise UserError(f"S3: boto3's configuration cannot be used: {error}.") from error


@contextmanager
def explained(where: Location | str) -> Iterator[None]:
    """Turns botocore's errors into errors that say what came and what to do.

    Args:
        where: what was asked for.

    Raises:
        UserError: credentials, permissions, names, or an object that has changed.
        PlatformError: S3 cannot be reached, or has answered none of the attempts.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        yield
    except ClientError as error:
        raise _refused(where, error) from error
    except BotoCoreError as error:
        raise _failed(where, error) from error


def head(client: Any, place: Location, **options: Any) -> Mapping[str, Any]:
    """Looks an object up; S3's own answer.

    Raises:
        UserError: there is none, or it may not be read.
        PlatformError: S3 does not answer.
    """
    from botocore.exceptions import ClientError  # noqa: PLC0415

    with explained(place):
        try:
            answer: Mapping[str, Any] = client.head_object(Bucket=place.bucket, Key=place.key, **options)
        except ClientError as error:
            if _status(error) == 404:  # of the bucket or of the object: without a body, S3 does not say
                check_bucket(client, place)
            raise
    return answer


def check_bucket(client: Any, place: Location) -> None:
    """Checks that there is a bucket; whether one may use it is not always told.

    Raises:
        UserError: there is none, or no credentials.
        PlatformError: S3 does not answer.
    """
    from botocore.exceptions import ClientError  # noqa: PLC0415

    with explained(place):
        try:
            client.head_bucket(Bucket=place.bucket)
        except ClientError as error:
            if _status(error) == 404:
                raise UserError(_NO_BUCKET.format(place)) from error
            if _status(error) != 403:  # who may write objects may still be refused this question
                raise


def _status(error: Any) -> int:
    """The HTTP status of a ClientError."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _refused(where: Location | str, error: Any) -> TrainingError:
    """Explains an answer of S3's."""
    code, message = (error.response.get("Error", {}).get(name, "") for name in ("Code", "Message"))
    came = f"{code}: {message}" if message else code
    if code == "NoSuchBucket":
        return UserError(_NO_BUCKET.format(where))
    match _status(error):
        case 404:
            return UserError(f"{where}: there is no such object. Check the name.")
        case 401 | 403:
            return UserError(
                f"{where}: access is denied ({came}). Check the credentials, and that they may s3:ListBucket and "
                "s3:GetObject, and for results s3:PutObject."
            )
        case 412:
            return UserError(
                f"{where}: the object has changed since it was listed, so that what was read of it fits no longer. "
                "Start again once nobody writes to it."
            )
        case 429 | 500 | 502 | 503 | 504:
            return PlatformError(f"{where}: S3 has answered every attempt with {came}. Try again later.")
    return UserError(f"{where}: S3 has refused: {came}.")


def _failed(where: Location | str, error: Any) -> TrainingError:
    """Explains an error that is not an answer of S3's."""
    from botocore import exceptions  # noqa: PLC0415

    reason = str(error).rstrip(".")
    match error:
        case (
            exceptions.NoCredentialsError()
            | exceptions.PartialCredentialsError()
            | exceptions.CredentialRetrievalError()
            | exceptions.ProfileNotFound()
        ):
            return UserError(f"{where}: {_NO_CREDENTIALS.format(reason=reason)}")
        case exceptions.ConnectionError() | exceptions.HTTPClientError():
            return PlatformError(f"{where}: S3 cannot be reached: {reason}. Check the network and AWS_ENDPOINT_URL_S3.")
    return UserError(f"{where}: {reason}.")
