"""Whole objects: a file to S3, an object to a file. What is not whole never has the final name."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knn_container.errors import PlatformError, UserError
from knn_container.s3.checksum import Checksum
from knn_container.s3.client import explained, head
from knn_container.s3.location import Location, Object, parse
from knn_container.s3.stream import Check, ObjectStream, Room, go_on

_CHUNK = 1 << 20
_PART_SIZE = 8 << 20
_THREADS = 4


@dataclass(frozen=True)
class Output:
    """Where a job's results go, as SageMaker lays them out.

    Attributes:
        folder: `S3OutputPath/JOB/output`, or `S3OutputPath/output` of a job without a name.
        kms_key: the key that S3 is to encrypt them with; None leaves that to the bucket.
    """

    folder: Location
    kms_key: str | None = None

    @classmethod
    def read(cls, config: Mapping[str, Any], job_name: str = "") -> "Output | None":
        """Reads `CreateTrainingJob`'s `OutputDataConfig`; None where it has no `S3OutputPath`.

        Raises:
            UserError: it says something that is not known here.
        """
        if not (path := config.get("S3OutputPath")):
            return None
        if (compression := config.get("CompressionType") or "GZIP") != "GZIP":
            raise UserError(f"CompressionType: expected GZIP, {compression!r} came.")
        try:
            folder = parse(path)
        except ValueError as error:
            raise UserError(f"S3OutputPath: {error}.") from error
        return cls((folder.below(job_name) if job_name else folder).below("output"), config.get("KmsKeyId") or None)


def upload(client: Any, file: Path, target: Location, kms_key: str | None = None) -> None:
    """Uploads a file, in parts if it is large; there is no object or the old one until all of it has come.

    S3 checks the checksums that boto3 sends with it. Parts are removed where this fails; those of a killed process are
    no object either, and go with a lifecycle rule of the bucket.

    Args:
        client: boto3's.
        file: what to upload.
        target: where to.
        kms_key: the key that S3 is to encrypt it with.

    Raises:
        UserError: credentials, permissions or names are not right.
        PlatformError: S3 does not answer.
        OSError: the file cannot be read.
    """
    from boto3.exceptions import S3UploadFailedError  # noqa: PLC0415
    from boto3.s3.transfer import TransferConfig  # noqa: PLC0415

    extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
    config = TransferConfig(multipart_threshold=_PART_SIZE, multipart_chunksize=_PART_SIZE, max_concurrency=_THREADS)
    with explained(target):
        try:
            client.upload_file(str(file), target.bucket, target.key, ExtraArgs=extra, Config=config)
        except S3UploadFailedError as error:
            raise (error.__context__ or error) from error


def download(client: Any, source: Location, folder: Path, check: Check = go_on) -> Path:
    """Downloads an object to a file of its name, checked by its size and by a `Checksum` that S3 has of it.

    Args:
        client: boto3's.
        source: the object.
        folder: where to.
        check: called again and again; what it raises ends the download.

    Returns:
        The file, which is whole.

    Raises:
        UserError: there is no such object, it may not be read, or it has changed.
        PlatformError: S3 does not answer, the bytes are not those of the checksum, or the disk has no room.
    """
    answer = head(client, source, ChecksumMode="ENABLED")
    size = answer["ContentLength"]
    if (room := shutil.disk_usage(folder).free) < size:
        raise PlatformError(f"{source} has {size} bytes, {folder} has room for {room}.")
    target = folder / source.key.rpartition("/")[2]
    part = target.with_name(f"{target.name}.part")
    checksum = Checksum(source, answer)
    try:
        with (
            ObjectStream(client, Object(target.name, source, size, answer.get("ETag", "")), Room(), check) as stream,
            part.open("wb") as file,
        ):
            while chunk := stream.read(_CHUNK):
                file.write(chunk)
                checksum.add(chunk)
        checksum.compare()
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target
