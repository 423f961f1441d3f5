"""AWS on this machine: moto's server over a socket, a proxy that does what goes wrong in front of it, and the commands.

Jobs end at once in moto, so that the proxy also answers in its place where a test needs a job that takes its time.
"""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import botocore.client
import numpy as np
import pytest
from botocore.loaders import JSONFileLoader, Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from moto.server import ThreadedMotoServer

from knn_sagemaker import cli

ROOT = Path(__file__).parents[2]
ACCOUNT = "123456789012"  # moto's
BUCKET = f"sagemaker-us-west-2-{ACCOUNT}"
ROLE = "arn:aws:iam::123456789012:role/knn"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STAMP = "knn-260102-030405"


@pytest.fixture(scope="session", autouse=True)
def _models_are_read_once():
    """Botocore reads the services' models, of megabytes, for each session anew; a test makes many sessions."""
    load, read = JSONFileLoader.load_file, {}

    def load_once(loader, path):
        if path not in read:
            read[path] = load(loader, path)
        return read[path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", load_once)
        yield


@pytest.fixture(scope="session")
def moto_port():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@dataclass
class Answer:
    """What the proxy says in the server's place: a status and a body, or less than the whole body."""

    status: int = 200
    body: bytes = b"{}"
    promised: int | None = None  # Content-Length, where it is to be wrong
    forward_first: bool = False  # the server does what was asked, and only its answer is lost


@dataclass
class Proxy:
    """Stands in front of moto.

    Attributes:
        url: to reach it at.
        seen: operations, as they came.
        answers: what to say instead, by operation, used up in order; the last one stays where `forever` has its name.
        held: operations that are never answered; the event tells that one came.
    """

    url: str = ""
    seen: list = field(default_factory=list)
    answers: dict = field(default_factory=lambda: defaultdict(list))
    forever: set = field(default_factory=set)
    held: dict = field(default_factory=dict)

    def say(self, operation, *answers, forever=False):
        self.answers[operation] += answers
        if forever:
            self.forever.add(operation)

    def say_json(self, operation, *documents):
        self.say(operation, *(Answer(body=json.dumps(document).encode()) for document in documents))

    def say_status(self, operation, status, body, *, times=1):
        self.say(operation, *[Answer(status, body)] * times)

    def break_body(self, operation, *, times=1):
        """The server does what it is asked to; of its answer only a part comes."""
        self.say(operation, *[Answer(200, b'{"Train', promised=500, forward_first=True)] * times)

    def throttle(self, operation, times, *, status=400):
        body = json.dumps({"__type": "ThrottlingException", "message": "Rate exceeded"}).encode()
        self.say(operation, *[Answer(status, body)] * times)

    def hold(self, operation):
        self.held[operation] = threading.Event()
        return self.held[operation]

    def next_answer(self, operation):
        waiting = self.answers.get(operation)
        if not waiting:
            return None
        return waiting[0] if operation in self.forever and len(waiting) == 1 else waiting.pop(0)


def operation_of(method, path, headers, body):
    """The API operation that a request asks for."""
    parts = urlsplit(path)
    if target := headers.get("X-Amz-Target"):
        return target.rpartition(".")[2]
    if "Action=" in body[:200].decode("latin-1"):
        return parse_qs(body.decode())["Action"][0]
    if found := re.fullmatch(r"/endpoints/[^/]+/(async-)?invocations", parts.path):
        return "InvokeEndpointAsync" if found[1] else "InvokeEndpoint"
    return operation_of_s3(method, parts, headers)


def operation_of_s3(method, parts, headers):
    query = parse_qs(parts.query, keep_blank_values=True)
    is_object = parts.path.strip("/").count("/") > 0
    copies = "x-amz-copy-source" in {name.lower() for name in headers}
    by_query = {
        "POST": {"uploads": "CreateMultipartUpload", "uploadId": "CompleteMultipartUpload", "": "DeleteObjects"},
        "PUT": {"partNumber": "UploadPart", "": "CopyObject" if copies else "PutObject"},
        "DELETE": {"": "AbortMultipartUpload"},
        "HEAD": {"": "HeadObject"},
        "GET": {"uploads": "ListMultipartUploads", "": "GetObject" if is_object else "ListObjectsV2"},
    }[method]
    return next((name for parameter, name in by_query.items() if parameter in query), by_query[""])


def _handler(proxy, port):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "chunked" in self.headers.get("Transfer-Encoding", "") or "aws-chunked" in self.headers.get(
                "Content-Encoding", ""
            ):
                assert body, "the tests' clients send whole bodies"
            operation = operation_of(self.command, self.path, self.headers, body)
            proxy.seen.append(operation)
            if operation in proxy.held:
                proxy.held[operation].set()
                self.rfile.read(1)  # until the client is gone
                return
            instead = proxy.next_answer(operation)
            if instead is None or instead.forward_first:
                status, headers, content = self.forward(body)
            if instead is not None:
                status, headers, content = (
                    instead.status,
                    [("Content-Type", "application/x-amz-json-1.1")],
                    instead.body,
                )
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "connection", "transfer-encoding", "server", "date"):
                    self.send_header(name, value)
            length = len(content) if instead is None or instead.promised is None else instead.promised
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
            self.close_connection = length != len(content)

        def forward(self, body):
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                upstream.request(self.command, self.path, body, dict(self.headers))
                response = upstream.getresponse()
                return response.status, response.getheaders(), response.read()
            finally:
                upstream.close()

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer  # noqa: N815 (http.server's names)

    return Handler


@pytest.fixture
def proxy(moto_port, monkeypatch):
    """AWS as the commands see it, empty but for the bucket."""
    for variable in [name for name in os.environ if name.startswith(("AWS_", "KNN_SAGEMAKER_"))]:
        monkeypatch.delenv(variable)
    proxy = Proxy()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy, moto_port))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    with _client("s3", moto_port) as s3:
        connection = http.client.HTTPConnection("127.0.0.1", moto_port, timeout=60)
        connection.request("POST", "/moto-api/reset")
        assert connection.getresponse().status == 200
        connection.close()
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    yield proxy
    server.shutdown()
    server.server_close()
    thread.join()


class _Closing:
    def __init__(self, client):
        self._client = client

    def __enter__(self):
        return self._client

    def __exit__(self, *_):
        self._client.close()


def _client(service, port):
    return _Closing(
        boto3.client(
            service,
            region_name="us-west-2",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id="other",
            aws_secret_access_key="other",
        )
    )


@pytest.fixture
def aws(proxy, moto_port):
    """Makes clients that go to moto past the proxy."""
    made = []

    def aws_(service):
        made.append(_client(service, moto_port))
        return made[-1].__enter__()

    yield aws_
    for each in made:
        each.__exit__()


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def run(capfd):
    """Runs a command in this process."""

    def run_(*arguments, now=NOW):
        capfd.readouterr()
        try:
            status = cli.main([str(it) for it in arguments], now)
        except SystemExit as end:
            status = end.code
        captured = capfd.readouterr()
        return Done(status, captured.out, captured.err)

    return run_


@pytest.fixture
def ok(proxy, run):
    """Runs a command against AWS; it has to do well."""

    def ok_(*arguments, **options):
        done = run(*arguments, **options)
        assert done.status == 0, done.err
        return done

    return ok_


@pytest.fixture
def start(proxy):
    """Starts a command as a process of its own, which ends with the test."""
    processes = []

    def start_(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "knn_sagemaker", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start_
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def calls(monkeypatch):
    """Notes all that boto3 is asked to send: (service, operation, parameters)."""
    noted = []
    send = botocore.client.BaseClient._make_api_call

    def note(client, operation, parameters):
        noted.append((client.meta.service_model.service_name, operation, dict(parameters)))
        return send(client, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", note)
    return noted


@pytest.fixture(scope="session")
def service_model():
    loader = Loader()
    models = {}

    def model(service):
        if service not in models:
            models[service] = ServiceModel(loader.load_service_model(service, "service-2"), service)
        return models[service]

    return model


@pytest.fixture(scope="session")
def assert_fits(service_model):
    """Checks a request against botocore's model of the service: names and types, and what botocore does not check
    itself, the enumerations, patterns and limits."""

    def check(shape, value, path):
        limits = shape.metadata
        if shape.type_name == "structure":
            for name, inner in value.items():
                check(shape.members[name], inner, f"{path}.{name}")
        elif shape.type_name == "list":
            assert limits.get("min", 0) <= len(value) <= limits.get("max", 10**9), path
            for i, inner in enumerate(value):
                check(shape.member, inner, f"{path}[{i}]")
        elif shape.type_name == "map":
            assert len(value) <= limits.get("max", 10**9), path
            for name, inner in value.items():
                check(shape.key, name, f"{path} key")
                check(shape.value, inner, f"{path}.{name}")
        elif shape.type_name == "string":
            assert not getattr(shape, "enum", None) or value in shape.enum, f"{path}: {value}"
            assert limits.get("min", 0) <= len(value) <= limits.get("max", 10**9), f"{path}: {value}"
            pattern = limits.get("pattern", "")
            # Python has no classes of Unicode properties.
            if pattern and "\\p" not in pattern:
                assert re.fullmatch(pattern, value), f"{path}: {value!r} is not {pattern}"
        elif shape.type_name in ("integer", "long", "float"):
            assert limits.get("min", value) <= value <= limits.get("max", value), f"{path}: {value}"

    def fits(service, operation, parameters):
        shape = service_model(service).operation_model(operation).input_shape
        if shape is None:
            assert parameters == {}
            return
        report = ParamValidator().validate(parameters, shape)
        assert not report.has_errors(), f"{operation}: {report.generate_report()}"
        check(shape, parameters, operation)

    return fits


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Files of three rows with two features, and of the same without labels."""
    folder = tmp_path_factory.mktemp("rows")
    rows = np.array([[0.5, 1.5], [2.5, 3.5], [4.5, 5.5]], np.float32)
    labels = np.array([0, 1, 1], np.float32)
    np.save(folder / "rows.npy", rows)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "table.npy", np.column_stack([labels, rows]))
    (folder / "table.csv").write_text("0,0.5,1.5\n1,2.5,3.5\n1,4.5,5.5\n")
    (folder / "rows.csv").write_text("0.5,1.5\n2.5,3.5\n4.5,5.5\n")
    (folder / "rows.jsonl").write_text('{"features": [0.5, 1.5]}\n{"features": [2.5, 3.5]}\n')
    return folder


@pytest.fixture
def wait_for():
    """Waits until something is so."""

    def wait_(condition, seconds=30):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.02)

    return wait_
