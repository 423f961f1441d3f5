import hashlib
import random
import signal
import subprocess
import sys
import time
import zlib
from base64 import b64encode
from collections import namedtuple

import pytest
import s3_store

from knn_container.errors import PlatformError, UserError
from knn_container.s3 import transfer
from knn_container.s3.checksum import Checksum
from knn_container.s3.location import Location, parse
from knn_container.s3.transfer import Output, download, upload

PART = 8 << 20
LARGE = random.Random(0).randbytes(2 * PART + 5)


@pytest.fixture
def file(tmp_path):
    """Writes content to a file and gives it."""

    def write(content):
        (tmp_path / "file").write_bytes(content)
        return tmp_path / "file"

    return write


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


class TestOutput:
    @pytest.mark.parametrize(
        ("path", "job", "folder"),
        [
            # As DescribeTrainingJob's example has it: s3://BUCKET/PREFIX/JOB/output/model.tar.gz.
            ("s3://bucket/prefix", "job", "s3://bucket/prefix/job/output"),
            ("s3://bucket/prefix/", "job", "s3://bucket/prefix/job/output"),
            ("s3://bucket", "job", "s3://bucket/job/output"),
            ("s3://bucket/prefix", "", "s3://bucket/prefix/output"),
            ("s3://bucket/", "", "s3://bucket/output"),
        ],
    )
    def test_results_go_where_sagemaker_puts_them(self, path, job, folder):
        assert Output.read({"S3OutputPath": path}, job) == Output(parse(folder))

    def test_the_key_of_kms_is_kept(self):
        assert Output.read({"S3OutputPath": "s3://b/p", "KmsKeyId": "alias/mine"}).kms_key == "alias/mine"

    @pytest.mark.parametrize("config", [{}, {"S3OutputPath": ""}, {"S3OutputPath": None, "KmsKeyId": "x"}])
    def test_without_a_path_there_is_no_output(self, config):
        assert Output.read(config) is None

    def test_a_path_that_is_not_in_s3_is_refused(self):
        with pytest.raises(UserError, match=r"S3OutputPath: expected s3://BUCKET/KEY, 'file:///tmp' came\."):
            Output.read({"S3OutputPath": "file:///tmp"})

    def test_gzip_is_the_one_compression(self):
        assert Output.read({"S3OutputPath": "s3://b", "CompressionType": "GZIP"})
        with pytest.raises(UserError, match=r"CompressionType: expected GZIP, 'NONE' came\."):
            Output.read({"S3OutputPath": "s3://b", "CompressionType": "NONE"})


class TestUpload:
    @pytest.mark.parametrize("content", [b"", b"small", LARGE[:PART], LARGE])
    def test_what_is_uploaded_is_what_is_there(self, store, client, file, content):
        bucket = store.bucket()
        upload(client, file(content), Location(bucket, "a/b.tar.gz"))
        assert store.get(bucket, "a/b.tar.gz") == content

    @pytest.mark.parametrize(("size", "parts"), [(PART - 1, 0), (2 * PART + 5, 3)])
    def test_a_checksum_goes_with_it_and_large_files_go_in_parts(self, store, through, proxy, file, size, parts):
        bucket = store.bucket()
        upload(through, file(LARGE[:size]), Location(bucket, "key"))
        assert proxy.count("PUT", "partNumber") == parts
        answer = store.client.head_object(Bucket=bucket, Key="key", ChecksumMode="ENABLED")
        assert answer["ContentLength"] == size
        if not parts:
            assert answer["ChecksumCRC32"] == b64encode(zlib.crc32(LARGE[:size]).to_bytes(4, "big")).decode()

    def test_it_is_encrypted_by_the_key_of_kms(self, store, client, file):
        bucket = store.bucket()
        upload(client, file(b"1"), Location(bucket, "key"), "alias/mine")
        answer = store.client.head_object(Bucket=bucket, Key="key")
        assert (answer["ServerSideEncryption"], answer["SSEKMSKeyId"]) == ("aws:kms", "alias/mine")

    def test_throttling_is_waited_out(self, store, through, proxy, file):
        bucket = store.bucket()
        proxy.fail(s3_store.answers(503, "SlowDown"), times=4, method="PUT")
        upload(through, file(LARGE), Location(bucket, "key"))
        assert store.get(bucket, "key") == LARGE

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    def test_one_that_fails_leaves_no_object_and_no_parts(self, store, through, proxy, file, method):
        bucket = store.bucket()
        proxy.fail(s3_store.answers(403, "AccessDenied"), method=method, of="uploadId" if method == "PUT" else "")
        with pytest.raises(UserError, match=f"s3://{bucket}/key: access is denied .*s3:PutObject"):
            upload(through, file(LARGE), Location(bucket, "key"))
        assert store.keys(bucket) == []
        assert "Uploads" not in store.client.list_multipart_uploads(Bucket=bucket)

    def test_one_that_fails_leaves_the_old_object(self, store, through, proxy, file):
        bucket = store.bucket({"key": b"old"})
        proxy.fail(s3_store.answers(403, "AccessDenied"), method="POST", of="uploadId")
        with pytest.raises(UserError):
            upload(through, file(LARGE), Location(bucket, "key"))
        assert store.get(bucket, "key") == b"old"

    def test_a_process_that_is_killed_in_the_middle_leaves_no_object(self, store, proxy, file, aws):
        bucket = store.bucket()
        proxy.fail(s3_store.slowly(60), times=2, method="PUT")
        aws.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        code = (
            "import sys; from pathlib import Path; from knn_container.s3 import client, location, transfer\n"
            "transfer.upload(client.connect(), Path(sys.argv[1]), location.parse(sys.argv[2]))"
        )
        with subprocess.Popen([sys.executable, "-c", code, file(LARGE), f"s3://{bucket}/key"]) as process:
            try:
                deadline = time.monotonic() + 30
                while proxy.count("PUT") < 2 and time.monotonic() < deadline:
                    time.sleep(0.02)
            finally:
                process.kill()
        assert process.returncode == -signal.SIGKILL
        assert store.keys(bucket) == []

    def test_a_missing_bucket_is_named(self, client, file):
        for content in (b"small", LARGE):
            with pytest.raises(UserError, match="s3://no-such-bucket/key: there is no such bucket"):
                upload(client, file(content), Location("no-such-bucket", "key"))

    def test_a_missing_file_is_an_error_of_the_machine(self, store, client, tmp_path):
        with pytest.raises(FileNotFoundError):
            upload(client, tmp_path / "none", Location(store.bucket(), "key"))


class TestDownload:
    @pytest.mark.parametrize("content", [b"", b"small", LARGE])
    def test_what_is_downloaded_is_what_is_there(self, store, client, folder, content):
        bucket = store.bucket({"a/model.tar.gz": content})
        file = download(client, Location(bucket, "a/model.tar.gz"), folder)
        assert file == folder / "model.tar.gz"
        assert file.read_bytes() == content
        assert list(folder.iterdir()) == [file]

    def test_what_came_in_parts_is_downloaded_too(self, store, client, file, folder):
        place = Location(store.bucket(), "key")
        upload(client, file(LARGE), place)
        assert download(client, place, folder).read_bytes() == LARGE

    def test_a_body_that_breaks_off_is_resumed(self, store, through, proxy, folder):
        bucket = store.bucket({"key": LARGE})
        proxy.fail(s3_store.cut(1000), times=5)
        assert download(through, Location(bucket, "key"), folder).read_bytes() == LARGE

    def fails(self, client, place, folder, error, message):
        with pytest.raises(error, match=message):
            download(client, place, folder)
        assert list(folder.iterdir()) == []

    def test_a_body_that_is_damaged_is_an_error_and_leaves_no_file(self, store, through, proxy, folder):
        bucket = store.bucket({"key": LARGE})
        proxy.fail(s3_store.damaged())
        expected = f"{zlib.crc32(LARGE):08x}"
        message = f"s3://{bucket}/key is damaged: expected the CRC32 {expected}, .* came"
        self.fails(through, Location(bucket, "key"), folder, PlatformError, message)

    def test_a_body_that_breaks_off_without_end_leaves_no_file(self, store, through, proxy, folder, monkeypatch):
        monkeypatch.setattr("knn_container.s3.stream._LONGEST_DELAY", 0.01)
        bucket = store.bucket({"key": LARGE})
        proxy.fail(s3_store.cut(0), times=100, of="key")
        self.fails(through, Location(bucket, "key"), folder, PlatformError, "breaks off at byte 0")

    def test_an_object_that_changes_in_the_middle_leaves_no_file(self, store, through, proxy, folder):
        bucket = store.bucket({"key": LARGE})
        change = s3_store.after(lambda: store.client.put_object(Bucket=bucket, Key="key", Body=LARGE[::-1]))
        proxy.fail(change, of="key")
        self.fails(through, Location(bucket, "key"), folder, UserError, "the object has changed")

    def test_what_is_missing_is_named(self, store, client, folder):
        bucket = store.bucket()
        self.fails(client, Location(bucket, "key"), folder, UserError, "key: there is no such object")
        self.fails(client, Location("no-such-bucket", "key"), folder, UserError, "key: there is no such bucket")

    def test_a_disk_without_room_is_an_error_before_anything_comes(self, store, through, proxy, folder, monkeypatch):
        bucket = store.bucket({"key": LARGE})
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: usage(100, 90, 10))
        message = f"s3://{bucket}/key has {len(LARGE)} bytes, {folder} has room for 10"
        self.fails(through, Location(bucket, "key"), folder, PlatformError, message)
        assert proxy.count("GET") == 0

    def test_a_process_that_is_killed_in_the_middle_leaves_no_file_of_the_final_name(self, store, proxy, folder, aws):
        bucket = store.bucket({"model.tar.gz": LARGE})
        proxy.fail(s3_store.slowly(0, 1e6), times=3)
        aws.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        code = (
            "import sys; from pathlib import Path; from knn_container.s3 import client, location, transfer\n"
            "transfer.download(client.connect(), location.parse(sys.argv[1]), Path(sys.argv[2]))"
        )
        with subprocess.Popen([sys.executable, "-c", code, f"s3://{bucket}/model.tar.gz", folder]) as process:
            try:
                deadline = time.monotonic() + 30
                while not list(folder.iterdir()) and time.monotonic() < deadline:
                    time.sleep(0.02)
            finally:
                process.kill()
        assert process.returncode == -signal.SIGKILL
        assert [path.name for path in folder.iterdir()] == ["model.tar.gz.part"]


class TestChecksum:
    CONTENT = b"The quick brown fox jumps over the lazy dog"
    # Of this sentence, as Wikipedia's articles on these functions have them.
    MD5 = "9e107d9d372bb6826bd81d3542a419d6"
    SHA1 = "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12"
    SHA256 = "d7a8fbb307d7809469ca9abcb0082e4f8d5651e46d3cdb762d02d0bf37c9e592"
    CRC32 = "414fa339"

    def answer(self, etag=None, **checksums):
        spelled = {
            name: b64encode(bytes.fromhex(value)).decode()
            if name.startswith("Checksum") and name != "ChecksumType"
            else value
            for name, value in checksums.items()
        }
        return {"ETag": f'"{etag or self.MD5}"'} | spelled

    def check(self, answer, content=CONTENT, bucket="bucket"):
        checksum = Checksum(Location(bucket, "key"), answer)
        checksum.add(content[:10])
        checksum.add(content[10:])
        checksum.compare()
        return checksum.name

    @pytest.mark.parametrize("name", ["SHA256", "SHA1", "CRC32"])
    def test_one_that_s3_has_is_computed(self, name):
        answer = self.answer("0" * 32, **{f"Checksum{name}": getattr(self, name)})
        assert self.check(answer) == name
        with pytest.raises(
            PlatformError, match=f"s3://bucket/key is damaged: expected the {name} {getattr(self, name)}"
        ):
            self.check(answer, self.CONTENT + b".")

    def test_the_md5_of_an_etag_is_computed_where_there_is_no_other(self):
        for answer in (self.answer(), self.answer(ServerSideEncryption="AES256"), self.answer(ChecksumCRC64NVME="00")):
            assert self.check(answer) == "MD5"
            with pytest.raises(PlatformError, match=f"expected the MD5 {self.MD5}"):
                self.check(answer, self.CONTENT + b".")

    def test_an_etag_that_is_no_md5_is_not_compared(self):
        other = "0" * 32
        assert self.check(self.answer(f"{other}-2")) is None
        assert self.check(self.answer(other, ServerSideEncryption="aws:kms")) is None
        assert self.check(self.answer(other, ServerSideEncryption="aws:kms:dsse")) is None
        assert self.check(self.answer(other, SSECustomerAlgorithm="AES256")) is None
        assert self.check(self.answer("anything")) is None
        assert self.check(self.answer(other), bucket="mine--usw2-az1--x-s3") is None
        assert self.check({}) is None

    def test_of_an_object_in_parts_the_checksum_of_all_of_it_alone_is_computed(self):
        etag = f"{self.MD5}-2"
        assert self.check(self.answer(etag, ChecksumCRC32="00000000")) is None
        assert self.check(self.answer(etag, ChecksumCRC32="00000000", ChecksumType="COMPOSITE")) is None
        assert self.check(self.answer(etag, ChecksumCRC32=self.CRC32, ChecksumType="FULL_OBJECT")) == "CRC32"

    def test_the_known_values_are_those_of_this_python(self):
        assert hashlib.md5(self.CONTENT).hexdigest() == self.MD5
        assert hashlib.sha1(self.CONTENT).hexdigest() == self.SHA1
        assert hashlib.sha256(self.CONTENT).hexdigest() == self.SHA256
        assert f"{zlib.crc32(self.CONTENT):08x}" == self.CRC32
