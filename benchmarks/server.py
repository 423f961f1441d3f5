"""What a server takes of memory and time: its processes, its start, its image."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks import program
from benchmarks.bench import Bench, Found, Line, missing
from benchmarks.load import Client
from benchmarks.programs import ROOT, BenchmarkError, NotMeasured, free_port, run, say, wait_until
from benchmarks.readme import span, table
from benchmarks.records import Frames, csv_lines

_ROWS, _COLUMNS, _SEEN = 1_000_000, 128, 20
_SETTLED = 5.0  # seconds after which engines have been chosen
_BASE, _IMAGE = "debian:trixie-slim", "knn-container:benchmark"
_PRIVATE_GOAL, _START_GOAL, _IMAGE_GOAL, _CONTAINER_GOAL = 20e6, 1.5, 520e6, 2.0


def measure(bench: Bench) -> Found:
    """Trains a model of 500 MB and serves it, as a program and, where Docker answers, in a container."""
    job = bench.folder / "job"
    rows = bench.pick(_ROWS, 50_000)
    made = bench.source.table("uniform", rows, _COLUMNS, 1_000)
    channels = program.lay_out(job, {"k": 10, "predictor_type": "classifier", "sample_size": rows})
    program.without_test(job)
    path = channels["train"] / "rows.pbr"
    Frames(_COLUMNS).write(path, made.rows, made.labels)
    program.train(job)
    path.unlink()
    shutil.rmtree(job / "output")
    bodies = ["\n".join(csv_lines(made.queries[at : at + 10])) for at in range(0, 10 * _SEEN, 10)]
    found: Found = {"rows": rows, "columns": _COLUMNS, "index": (job / "model/index.faiss").stat().st_size}
    starts = []
    for _ in range(bench.pick(5, 2)):
        with program.serving(job) as server:
            starts.append(server.started)
    found["starts"] = starts
    with program.serving(job, SAGEMAKER_MODEL_SERVER_WORKERS="2") as server:
        for body in bodies:
            client = Client(server.port)  # a new connection each time: either process may take it
            client.post(body)
            client.close()
        time.sleep(_SETTLED)
        found["processes"] = [_memory(pid) for pid in (server.pid, *program.children(server.pid))]
    say(f"{found}")
    try:
        found["image"] = _image(bench, job)
    except NotMeasured as reason:
        found["image"] = {"missing": str(reason)}
    say(f"{found['image']}")
    return found


def _memory(pid: int) -> dict[str, int]:
    """A process's private and proportional memory, in bytes."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = {name: 1024 * int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    return {"private": sizes["Private_Clean"] + sizes["Private_Dirty"], "proportional": sizes["Pss"]}


def _image(bench: Bench, job: Path) -> Found:
    """Builds the CPU image; its size beside its base's, and how soon a container of it answers."""
    try:
        run("docker", "info")
    except (BenchmarkError, FileNotFoundError):
        raise NotMeasured("no Docker engine answers") from None
    try:
        run(ROOT / "scripts/base-image")
        arguments = ["--build-arg=FAISS=faiss-cpu"]
        if "PIP_INDEX_URL" in os.environ:
            arguments.append("--build-arg=PIP_INDEX_URL")
        run("docker", "build", *arguments, f"--tag={_IMAGE}", ROOT)
        sizes = {name: int(run("docker", "inspect", "--format={{.Size}}", name)) for name in (_BASE, _IMAGE)}
        starts = [_container_start(job) for _ in range(bench.pick(5, 2))]
    except BenchmarkError as reason:
        say(str(reason))
        raise NotMeasured(str(reason).splitlines()[0]) from None
    return {"base": sizes[_BASE], "size": sizes[_IMAGE], "starts": starts}


def _container_start(job: Path) -> float:
    """Seconds from `docker run` to the first 200 of /ping."""
    start = time.perf_counter()
    with _container(job) as port:
        if not wait_until(lambda: program.answers(port, "/ping"), 60, 0.005):
            raise BenchmarkError("The container did not become ready.")
        return time.perf_counter() - start


@contextmanager
def _container(job: Path) -> Iterator[int]:
    port = free_port()
    options = ["--detach", f"--publish=127.0.0.1:{port}:8080", f"--volume={job}:/opt/ml"]
    container = run("docker", "run", *options, f"--user={os.getuid()}:{os.getgid()}", _IMAGE, "serve")
    try:
        yield port
    finally:
        run("docker", "rm", "--force", container)


def report(found: Found) -> str:
    """Two tables."""
    first, *workers = found["processes"]
    rows = [
        (name, f"{it['private'] / 1e6:,.1f}", f"{it['proportional'] / 1e6:,.1f}")
        for name, it in [("first process", first), *((f"server process {n}", it) for n, it in enumerate(workers, 1))]
    ]
    image = found["image"]
    parts = [
        f"**A server with two processes** and an index of {found['index'] / 1e6:,.0f} MB ({found['rows']:,} x "
        f"{found['columns']}), after {_SEEN} requests\n",
        table(("", "private memory, MB", "proportional, MB"), rows),
        f"From the start of `serve` to the first 200 of `/ping`: {span(median(found['starts']))} at the median of "
        f"{len(found['starts'])}, {span(max(found['starts']))} at the most.",
    ]
    if "missing" in image:
        parts.append(f"The image was not measured: {image['missing']}.")
    else:
        parts.append(
            f"The image for CPUs has {image['size'] / 1e6:,.0f} MB, {(image['size'] - image['base']) / 1e6:,.0f} more "
            f"than its base. From `docker run … serve` to the first 200: {span(median(image['starts']))} at the median."
        )
    return "\n".join(parts) + "\n"


def lines(found: Found) -> list[Line]:
    """Memory of the second process, starts, and the image."""
    second = min(it["private"] for it in found["processes"][1:][-1:])
    start = median(found["starts"])
    size = f"{found['rows']:,} x {found['columns']}"
    made = [
        Line(
            f"second server process, index of {found['index'] / 1e6:,.0f} MB: private memory",
            f"{second / 1e6:,.1f} MB",
            "",
            None,
            f"under {_PRIVATE_GOAL / 1e6:.0f} MB",
            second < _PRIVATE_GOAL,
        ),
        Line(f"`serve` to `/ping`, {size}", span(start), "", None, f"under {span(_START_GOAL)}", start < _START_GOAL),
    ]
    image = found["image"]
    works = ("CPU image over its base", f"`docker run … serve` to `/ping`, {size}")
    goals = (f"under {_IMAGE_GOAL / 1e6:.0f} MB", f"under {span(_CONTAINER_GOAL)}")
    if "missing" in image:
        return made + [missing(work, goal, image["missing"]) for work, goal in zip(works, goals, strict=True)]
    added, start = image["size"] - image["base"], median(image["starts"])
    made.append(Line(works[0], f"{added / 1e6:,.0f} MB", "", None, goals[0], added < _IMAGE_GOAL))
    return [*made, Line(works[1], span(start), "", None, goals[1], start < _CONTAINER_GOAL)]
