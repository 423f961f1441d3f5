"""Loads a server, and measures what it does under load."""

import http.client
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.programs import ROOT, BenchmarkError, NotMeasured, wait_until

CSV = "text/csv"
_LOST = 60.0  # seconds that an answer which never came, or was not 200, counts for
_LEFT_OVER = 10.0  # seconds at most for requests of which the load that made them has not seen the answers
_IDLE = 3  # the place of idle time in a line of /proc/stat
_MARK = "#measured "
_SCRIPT = ROOT / "benchmarks" / "rotating.lua"


@dataclass(frozen=True)
class Loaded:
    """What a server did under load.

    Attributes:
        rate: requests a second.
        p50, p99: seconds.
        failed: requests, with connections and answers that went wrong.
    """

    rate: float
    p50: float
    p99: float
    failed: int


def need_wrk() -> None:
    """Looks for the program that makes the load.

    Raises:
        NotMeasured: it is not there.
    """
    if shutil.which("wrk") is None:
        raise NotMeasured("there is no wrk (Debian's package `wrk`)")


@dataclass(frozen=True)
class Route:
    """What is asked.

    Attributes:
        port: of the loopback interface.
        path: of the route.
        bodies: a file of them, one a line.
        content_type: of the bodies.
    """

    port: int
    path: str
    bodies: Path
    content_type: str


def load(route: Route, connections: int, seconds: float) -> Loaded:
    """Has wrk ask over so many connections, each as soon as it is answered, once the machine is idle."""
    wait_until(_is_idle, _LEFT_OVER)
    url = f"http://127.0.0.1:{route.port}{route.path}"
    done = subprocess.run(
        ["wrk", "--threads=1", f"--connections={connections}", f"--duration={seconds:.0f}s", "--timeout=30s",
         f"--script={_SCRIPT}", url, "--", route.bodies, route.content_type],
        capture_output=True, text=True, timeout=seconds + 60, check=False,
    )  # fmt: skip
    return parse(done.stdout + done.stderr)


def _is_idle() -> bool:
    """Whether no server is still busy with what nobody waits for any more."""
    first = _cpu_times()
    time.sleep(0.2)
    spent = [after - before for before, after in zip(first, _cpu_times(), strict=True)]
    return spent[_IDLE] > 0.8 * sum(spent)


def _cpu_times() -> list[int]:
    """What all CPUs have done so far, in ticks: see proc_stat(5)."""
    return [int(ticks) for ticks in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]


def parse(printed: str) -> Loaded:
    """Reads what wrk printed."""
    lines = [line for line in printed.splitlines() if line.startswith(_MARK)]
    if len(lines) != 1:
        raise BenchmarkError(f"wrk measured nothing:\n{printed}")
    found = json.loads(lines[0].removeprefix(_MARK))
    rate = 1e6 * found["requests"] / found["microseconds"]
    return Loaded(rate, found["p50"] / 1e6, found["p99"] / 1e6, found["failed"])


class Client:
    """Asks over one connection that is kept."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)

    def post(self, body: str) -> tuple[float, bytes]:
        """Asks for predictions of CSV; returns the seconds and the answer."""
        start = time.perf_counter()
        self._connection.request("POST", "/invocations", body, {"Content-Type": CSV})
        answer = self._read()
        return time.perf_counter() - start, answer

    def ping(self) -> None:
        """Asks whether the server is well."""
        self._connection.request("GET", "/ping")
        self._read()

    def _read(self) -> bytes:
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise BenchmarkError(f"status {response.status}: {answer[:500]!r}")
        return answer

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


@contextmanager
def pinging(port: int, pause: float = 0.02) -> Iterator[Sequence[float]]:
    """Pings a server in the background; gives the list that fills with seconds."""
    seconds: list[float] = []
    over = threading.Event()

    def ping() -> None:
        client = Client(port)
        while not over.wait(pause):
            start = time.perf_counter()
            try:
                client.ping()
                seconds.append(time.perf_counter() - start)
            except (BenchmarkError, http.client.HTTPException, OSError):
                seconds.append(_LOST)
                client.close()
                client = Client(port)
        client.close()

    thread = threading.Thread(target=ping, daemon=True)
    thread.start()
    try:
        yield seconds
    finally:
        over.set()
        thread.join()
