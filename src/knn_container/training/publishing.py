"""A job's results in S3, where no platform takes them there."""

import logging
from pathlib import Path
from typing import Any

from knn_container.s3.client import check_bucket
from knn_container.s3.transfer import Output, upload

log = logging.getLogger(__name__)


class Destination:
    """Where a job's results go.

    Args:
        client: boto3's.
        output: the place.
    """

    def __init__(self, client: Any, output: Output) -> None:
        self._client, self._output = client, output

    def check(self) -> None:
        """Checks that there is a bucket, so that a mistake is known before the work is done.

        Raises:
            UserError: there is none, or no credentials.
            PlatformError: S3 does not answer.
        """
        check_bucket(self._client, self._output.folder)

    def publish(self, file: Path) -> None:
        """Uploads a file under its name; there is no object of that name, or the old one, until all of it has come.

        Raises:
            UserError: credentials, permissions or names are not right.
            PlatformError: S3 does not answer.
        """
        target = self._output.folder.below(file.name)
        log.info("Uploading %s...", target)
        upload(self._client, file, target, self._output.kms_key)
        log.info("...Uploaded %d bytes.", file.stat().st_size)
