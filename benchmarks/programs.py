"""Runs other programs, and tells of this machine."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 3600  # seconds for a program that runs to its end


class BenchmarkError(Exception):
    """Ends a measurement; says why."""


class NotMeasured(Exception):  # noqa: N818 (nothing is wrong: an alternative cannot be had here)
    """An alternative is left out; says why."""


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Runs a command to its end and returns what it printed."""
    done = subprocess.run(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode:
        raise BenchmarkError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout.strip()


def say(text: str) -> None:
    """Tells how far it is, beside what it prints."""
    print(text, file=sys.stderr, flush=True)


def keep_to(cpus: int) -> int:
    """Keeps this process, and all that it starts, to so many CPUs or fewer; returns how many there are."""
    mine = sorted(os.sched_getaffinity(0))[:cpus]
    os.sched_setaffinity(0, mine)
    return len(mine)


def cpu_name() -> str:
    """The CPU's model."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else os.uname().machine


def machine() -> str:
    """Names the CPUs that may be used, the memory and the day."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cpus = len(os.sched_getaffinity(0))
    return f"{datetime.now(UTC):%Y-%m-%d} on {cpus} CPUs ({cpu_name()}), {memory / 1e9:.0f} GB"


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def wait_until(is_so: Callable[[], bool], seconds: float, pause: float = 0.05) -> bool:
    """Looks again and again; says whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
