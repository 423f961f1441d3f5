"""Objects in S3: uploads and downloads that are whole or not there."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from boto3.s3.transfer import TransferConfig

from knn_sagemaker.api import Api, failures
from knn_sagemaker.errors import Failure, Refused
from knn_sagemaker.place import Place, split_uri
from knn_sagemaker.requests import Request
from knn_sagemaker.rows import Rows

PART = 16 << 20
_MOST_PARTS = 10_000


def upload(place: Place, rows: Rows, key: str, kms_key: str | None = None) -> list[Request]:
    """Plans an upload: one request, or parts that become an object when the last one is there.

    Args:
        place: where.
        rows: what.
        key: the object's.
        kms_key: encrypts it.
    """
    target: dict[str, Any] = {"Bucket": place.bucket, "Key": key}
    options = _options(rows.content_type, kms_key)
    if rows.size < PART:
        body = f"<{rows.size:,} bytes>"
        return [Request("s3", "PutObject", target | {"Body": body} | options)]
    size = PART
    while rows.size > size * _MOST_PARTS:
        size *= 2  # as boto3 does
    parts = -(-rows.size // size)
    identified = target | {"UploadId": "<of the answer>"}
    checksum = {"ChecksumAlgorithm": options["ChecksumAlgorithm"]}
    return [
        Request("s3", "CreateMultipartUpload", target | options),
        Request(
            "s3",
            "UploadPart",
            identified | {"PartNumber": 1, "Body": f"<{size:,} bytes>"} | checksum,
            f"{parts} times, with PartNumber from 1 to {parts}",
        ),
        Request(
            "s3",
            "CompleteMultipartUpload",
            identified | {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": "<of the answer>"}]}},
            "with all parts: now the object is there",
        ),
        Request("s3", "AbortMultipartUpload", identified, "only after an error or Ctrl-C"),
    ]


def _options(content_type: str, kms_key: str | None) -> dict[str, str]:
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
    return {"ContentType": content_type, "ChecksumAlgorithm": "CRC32"} | encryption


def send_upload(api: Api, place: Place, rows: Rows, key: str, kms_key: str | None = None) -> None:
    """Uploads what `upload` plans.

    Raises:
        Failure: it is not there.
    """
    config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART)
    options = _options(rows.content_type, kms_key)
    with failures(f"Uploading {rows.name}"):
        api.client("s3").upload_fileobj(rows.body, place.bucket, key, ExtraArgs=options, Config=config)


def send_copy(api: Api, request: Request) -> None:
    """Copies an object; one that is too large for a single request, in parts."""
    try:
        api.send(request)
    except Refused as refused:
        if refused.code != "InvalidRequest":  # S3's word for more than 5 GB
            raise
        given = request.parameters
        bucket, _, key = str(given["CopySource"]).partition("/")
        with failures(request.operation):
            api.client("s3").copy({"Bucket": bucket, "Key": key}, given["Bucket"], given["Key"])


def listing(place: Place, prefix: str, note: str = "") -> Request:
    """Lists what is below a prefix."""
    return Request("s3", "ListObjectsV2", {"Bucket": place.bucket, "Prefix": prefix}, note)


def download_plan(place: Place, prefix: str) -> list[Request]:
    """Plans to fetch all objects below a prefix."""
    got = {"Bucket": place.bucket, "Key": f"<each key below {prefix}>"}
    return [listing(place, prefix), Request("s3", "GetObject", got, "for each object")]


def download(api: Api, place: Place, prefix: str, folder: Path) -> list[Path]:
    """Fetches all objects below a prefix; a file that is there is whole.

    Raises:
        Failure: one could not be fetched.
    """
    files = []
    for item in api.items(listing(place, prefix), "Contents"):
        name = str(item["Key"]).removeprefix(prefix)
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise Failure(f"The object {item['Key']} has a name that leads out of {folder}.")
        write_whole(path, read(api, place.bucket, item["Key"]))
        files.append(path)
    return files


def read(api: Api, bucket: str, key: str) -> bytes:
    """Fetches an object.

    Raises:
        Refused: `NoSuchKey`, where it is not there.
        Failure: it did not come whole.
    """
    return body_of(api, Request("s3", "GetObject", {"Bucket": bucket, "Key": key}))


def body_of(api: Api, request: Request) -> bytes:
    """Sends a request whose answer has a body, and reads that to its end.

    Raises:
        Failure: as `Api.send`, or the body did not come whole.
    """
    answer = api.send(request)
    with failures(request.operation):
        body: bytes = answer["Body"].read()
    return body


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that under its name is never half there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).rename(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def read_uri(api: Api, uri: str) -> bytes:
    """As `read`, by address."""
    return read(api, *split_uri("an answer", uri))
