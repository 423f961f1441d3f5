"""The checksums that S3 keeps of objects."""

import hashlib
import re
import zlib
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from knn_container.errors import PlatformError
from knn_container.s3.location import Location


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_DIGESTS: dict[str, Callable[[], _Digest]] = {
    "SHA256": hashlib.sha256,
    "SHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "CRC32": _Crc32,
}


class Checksum:
    """Computes what S3 has of an object: SHA-256, SHA-1, CRC32, or the MD5 that an ETag often is; nothing otherwise.

    Of an object that came in parts S3 may have a checksum of the parts' checksums, which is not computed. An ETag is
    no MD5 of such an object, nor of one that is encrypted by a key of KMS or of the customer's, or in a directory
    bucket.

    Args:
        source: the object.
        answer: to HeadObject with `ChecksumMode=ENABLED`.

    Attributes:
        name: of what is computed; None if nothing is.
    """

    def __init__(self, source: Location, answer: Mapping[str, Any]) -> None:
        self.name: str | None = None
        self._source, self._expected = source, b""
        self._digest: _Digest
        etag = answer.get("ETag", "").strip('"')
        if "-" not in etag or answer.get("ChecksumType") == "FULL_OBJECT":
            for name, make in _DIGESTS.items():
                if stored := answer.get(f"Checksum{name}"):
                    self.name, self._digest, self._expected = name, make(), b64decode(stored)
                    return
        encrypted = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
        if re.fullmatch("[0-9a-f]{32}", etag) and not encrypted and not source.bucket.endswith("--x-s3"):
            self.name, self._digest = "MD5", hashlib.md5(usedforsecurity=False)
            self._expected = bytes.fromhex(etag)

    def add(self, data: bytes) -> None:
        """Takes the next bytes."""
        if self.name:
            self._digest.update(data)

    def compare(self) -> None:
        """Compares once all bytes have come.

        Raises:
            PlatformError: it is another.
        """
        if self.name and (came := self._digest.digest()) != self._expected:
            raise PlatformError(
                f"{self._source} is damaged: expected the {self.name} {self._expected.hex()}, {came.hex()} came. "
                "Try again, or write the object again."
            )
