"""The commands `train` and `serve`."""

import argparse
import gc
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from knn_container import cpu, heap, logs, settings
from knn_container.errors import UserError

_EPILOG = "Environment:\n" + "\n".join(
    f"  {row.variable:<38}{row.help}" + (f" Default: {row.default}." if row.default else "") for row in settings.TABLE
)


def main() -> NoReturn:
    """Runs `knn-container train` or `knn-container serve`; without an argument, `train`."""
    sys.exit(_run("knn-container", sys.argv[1:], None))


def train() -> NoReturn:
    """Runs `train`."""
    sys.exit(_run("train", sys.argv[1:], "train"))


def serve() -> NoReturn:
    """Runs `serve`."""
    sys.exit(_run("serve", sys.argv[1:], "serve"))


def _run(program: str, arguments: Sequence[str], command: str | None) -> int:
    # Process 1 of a container has no default action for SIGTERM: without this, one that comes early is lost.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser = argparse.ArgumentParser(
        program,
        description="Trains and serves k-nearest neighbours, in place of SageMaker's built-in k-NN.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if command is None:
        parser.add_argument("command", nargs="?", choices=("train", "serve"), default="train")
    options = parser.parse_args(arguments)
    command = command or options.command
    try:
        read = settings.read(os.environ)
    except UserError as error:
        if command == "train":  # the platform shows this file, not the log
            from knn_container.training import job  # noqa: PLC0415

            job.write_failure(job.Folders(Path(os.environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml")), error)
        parser.error(str(error))
    logs.configure(read.log_level)
    # OpenMP reads its environment when FAISS is imported, so this comes first and the imports below.
    os.environ.setdefault("OMP_NUM_THREADS", str(cpu.budget()))
    # Helpers that wait for work by spinning take the CPUs from other processes and threads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if command == "train":
        from knn_container.training import run  # noqa: PLC0415

        status = run.main(read)
        gc.freeze()  # or the interpreter looks for garbage before it ends, for 0.2 s
        return status
    heap.share_one_heap()  # measured: 5 MB less in each server process
    from knn_container.serving import preparation  # noqa: PLC0415

    prepared = preparation.Preparation(read.base / "model", read.model_data)
    if not read.multi_model:
        prepared.begin()
    from knn_container.serving import server  # noqa: PLC0415 (a third of a second, in which the check goes on)

    return server.main(read, prepared)
