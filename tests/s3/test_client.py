import subprocess
import sys

import pytest
import s3_store

from knn_container.errors import PlatformError, UserError
from knn_container.s3.client import check_bucket, connect, head
from knn_container.s3.location import Location
from knn_container.s3.source import Source


def listing(bucket):
    """Lists a bucket with a client of its own."""
    client = connect()
    try:
        return Source(client, {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/"}).list()
    finally:
        client.close()


def test_the_endpoint_and_the_credentials_are_those_of_the_environment(store):
    assert [it.path for it in listing(store.bucket({"a": b"1"}))] == ["a"]


def test_they_may_be_those_of_a_profile(store, aws, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3"):
        aws.delenv(name)
    (tmp_path / "config").write_text(
        f"[profile mine]\naws_access_key_id = x\naws_secret_access_key = y\nendpoint_url = {store.endpoint}\n"
    )
    aws.setenv("AWS_PROFILE", "mine")
    assert [it.path for it in listing(store.bucket({"a": b"1"}))] == ["a"]


def test_a_region_need_not_be_given(store, aws):
    aws.delenv("AWS_DEFAULT_REGION")
    assert [it.path for it in listing(store.bucket({"a": b"1"}))] == ["a"]


def test_requests_are_tried_ten_times_in_the_standard_mode_and_have_timeouts(client):
    config = client.meta.config
    assert config.retries == {"mode": "standard", "total_max_attempts": 10}
    assert (config.connect_timeout, config.read_timeout) == (10, 30)


def test_the_configuration_may_say_otherwise(aws):
    aws.setenv("AWS_RETRY_MODE", "adaptive")
    aws.setenv("AWS_MAX_ATTEMPTS", "4")
    client = connect()
    assert client.meta.config.retries == {"mode": "adaptive", "total_max_attempts": 4}
    client.close()


def test_without_credentials_the_error_says_how_to_give_them(store, aws):
    bucket = store.bucket()
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match=rf"^s3://{bucket}/: no AWS credentials .* Set AWS_ACCESS_KEY_ID"):
        listing(bucket)


def test_half_of_the_credentials_are_none(aws):
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match="no AWS credentials that can be used: Partial credentials"):
        connect()


def test_a_profile_that_is_missing_is_named(aws):
    aws.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(UserError, match="nobody"):
        connect()


@pytest.mark.parametrize(("variable", "value"), [("AWS_ENDPOINT_URL_S3", "no address"), ("AWS_MAX_ATTEMPTS", "many")])
def test_a_configuration_that_cannot_be_used_is_an_error(aws, variable, value):
    aws.setenv(variable, value)
    with pytest.raises(UserError, match="S3: boto3's configuration cannot be used: "):
        connect()


def test_an_endpoint_that_nobody_listens_at_is_an_error(aws):
    aws.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    aws.setenv("AWS_MAX_ATTEMPTS", "2")
    with pytest.raises(PlatformError, match=r"S3 cannot be reached: .*127\.0\.0\.1:1.* Check .*AWS_ENDPOINT_URL_S3"):
        listing("bucket")


@pytest.mark.parametrize(
    ("status", "code", "error", "message"),
    [
        (403, "AccessDenied", UserError, r"access is denied \(AccessDenied: as told\)\. Check the credentials"),
        (403, "InvalidAccessKeyId", UserError, r"access is denied \(InvalidAccessKeyId: as told\)"),
        (400, "ExpiredToken", UserError, r"S3 has refused: ExpiredToken: as told\."),
        (404, "NoSuchBucket", UserError, "there is no such bucket"),
        (500, "InternalError", PlatformError, "S3 has answered every attempt with InternalError"),
        (503, "SlowDown", PlatformError, "S3 has answered every attempt with SlowDown"),
    ],
)
def test_an_answer_of_s3_says_whose_it_is_to_mend(store, through, proxy, status, code, error, message):
    bucket = store.bucket()
    proxy.fail(s3_store.answers(status, code), times=10)
    with pytest.raises(error, match=message):
        Source(through, {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/"}).list()


def test_a_missing_bucket_and_a_missing_object_are_told_apart_though_s3_does_not_say(store, client):
    with pytest.raises(UserError, match="there is no such bucket"):
        head(client, Location("no-such-bucket", "key"))
    with pytest.raises(UserError, match="there is no such object"):
        head(client, Location(store.bucket(), "key"))


def test_a_bucket_is_there_unless_s3_says_that_it_is_not(store, through, proxy):
    bucket = store.bucket()
    check_bucket(through, Location(bucket, ""))
    proxy.fail(s3_store.answers(403, "AccessDenied"), method="HEAD")
    check_bucket(through, Location(bucket, ""))  # of a bucket that one may only write to
    with pytest.raises(UserError, match="s3://no-such-bucket/x: there is no such bucket"):
        check_bucket(through, Location("no-such-bucket", "x"))


def test_without_boto3_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['boto3'] = None\n"
        "from knn_container.s3 import client, source, transfer\n"
        "client.connect()"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.endswith('UserError: s3:// needs boto3, which is not installed: pip install "knn-container[s3]".')


def test_boto3_is_imported_only_to_be_used():
    code = (
        "import sys; from knn_container.s3 import client, source, stream, transfer, checksum, location\n"
        "assert not {'boto3', 'botocore', 'urllib3'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
