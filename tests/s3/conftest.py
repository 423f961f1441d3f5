from types import SimpleNamespace

import pytest
import s3_store

from knn_container.s3.client import connect


@pytest.fixture(scope="session")
def store():
    with s3_store.store() as opened:
        yield opened


@pytest.fixture(autouse=True)
def aws(store, tmp_path, monkeypatch):
    """The environment in which boto3 finds the store; a test may change it before it connects."""
    s3_store.apply(monkeypatch, s3_store.environment(store.endpoint, tmp_path))
    # The waits between attempts are botocore's own to test.
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _seconds: None))
    return monkeypatch


@pytest.fixture(scope="module")
def client(store, tmp_path_factory):
    """A client of the store, made as the program makes it."""
    with pytest.MonkeyPatch.context() as patch:
        s3_store.apply(patch, s3_store.environment(store.endpoint, tmp_path_factory.mktemp("aws")))
        opened = connect()
    yield opened
    opened.close()


@pytest.fixture
def proxy(store):
    with s3_store.proxy(store) as opened:
        yield opened


@pytest.fixture
def through(proxy, aws):
    """A client that reaches the store through the proxy."""
    aws.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
    opened = connect()
    yield opened
    opened.close()
