"""An S3 on a loopback port, and a proxy in front of it that fails when it is told to."""

import contextlib
import http.client
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import boto3
from moto.server import ThreadedMotoServer

CHUNK = 1 << 16


def environment(endpoint, folder):
    """What boto3 is to find, and nothing of the machine's own; `folder` holds no configuration."""
    return {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


class Store:
    """A server of moto's, with a client for tests to fill it."""

    numbers = count()

    def __init__(self):
        self._server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        self._server.start()
        self.host, self.port = self._server.get_host_and_port()
        self.endpoint = f"http://{self.host}:{self.port}"
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            region_name="us-east-1",
        )

    def bucket(self, objects=()):
        """Makes a bucket with these objects and gives its name."""
        name = f"bucket-{next(self.numbers)}"
        self.client.create_bucket(Bucket=name)
        with ThreadPoolExecutor(4) as threads:
            for key, content in dict(objects).items():
                threads.submit(self.client.put_object, Bucket=name, Key=key, Body=content)
        return name

    def keys(self, bucket):
        listed = self.client.list_objects_v2(Bucket=bucket)
        return [entry["Key"] for entry in listed.get("Contents", ())]

    def get(self, bucket, key):
        return self.client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def close(self):
        self.client.close()
        self._server.stop()


@contextlib.contextmanager
def store():
    opened = Store()
    try:
        yield opened
    finally:
        opened.close()


class Proxy:
    """Passes requests on to a store, but for those for which something else was asked.

    Attributes:
        requests: of each request so far the method, the path and the Range.
    """

    def __init__(self, target):
        self.requests = []
        self._target = target
        self._faults = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self):
                with contextlib.suppress(ConnectionError, TimeoutError):
                    super().handle_one_request()

            def do(self):
                proxy._handle(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do  # noqa: N815 (the names that http.server looks for)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def fail(self, fault, times=1, method="GET", of=""):
        """Lets the next `times` requests with this method and with `of` in their target meet a fault."""
        with self._lock:
            self._faults += [(method, of, fault)] * times

    def count(self, method, of=""):
        return sum(1 for came, path, _ in self.requests if came == method and of in path)

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handle(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            self.requests.append((request.command, request.path, request.headers.get("Range")))
            found = next((it for it in self._faults if it[0] == request.command and it[1] in request.path), None)
            if found:
                self._faults.remove(found)
        fault = found[2] if found else forward
        fault(self, request, body)

    def ask(self, request, body):
        """Asks the store; gives status, headers and body."""
        connection = http.client.HTTPConnection(self._target.host, self._target.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(request.command, request.path, body, dict(request.headers))
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()


def forward(proxy, request, body, send=None):
    status, headers, content = proxy.ask(request, body)
    request.send_response_only(status)
    for name, value in headers:
        if name.lower() not in ("connection", "transfer-encoding"):
            request.send_header(name, value)
    request.end_headers()
    if send:
        send(request, content)
    else:
        request.wfile.write(content)


def answers(status, code):
    """S3's answer to a request that it does not do."""

    def fault(proxy, request, body):
        content = f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
        request.send_response_only(status)
        request.send_header("Content-Type", "application/xml")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)

    return fault


def cut(after):
    """The connection closes behind this many bytes of the body."""

    def send(request, content):
        request.wfile.write(content[:after])
        request.close_connection = True

    return lambda proxy, request, body: forward(proxy, request, body, send)


def stalls(after, seconds):
    """Nothing comes behind this many bytes of the body, though the connection stays."""

    def send(request, content):
        request.wfile.write(content[:after])
        time.sleep(seconds)
        request.close_connection = True

    return lambda proxy, request, body: forward(proxy, request, body, send)


def damaged():
    """One byte of the body is another."""

    def send(request, content):
        request.wfile.write(bytes([content[0] ^ 1]) + content[1:])

    return lambda proxy, request, body: forward(proxy, request, body, send)


def slowly(seconds, bytes_per_second=None):
    """The answer comes late, and its body no faster than this."""

    def send(request, content):
        for start in range(0, len(content), CHUNK):
            request.wfile.write(content[start : start + CHUNK])
            if bytes_per_second:
                time.sleep(CHUNK / bytes_per_second)

    def fault(proxy, request, body):
        time.sleep(seconds)
        forward(proxy, request, body, send)

    return fault


def after(action):
    """Something is done before the request is passed on."""

    def fault(proxy, request, body):
        action()
        forward(proxy, request, body)

    return fault


@contextlib.contextmanager
def proxy(target):
    opened = Proxy(target)
    try:
        yield opened
    finally:
        opened.close()


def apply(monkeypatch, variables):
    """Sets the environment that boto3 reads, and takes away what else there is for it."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
