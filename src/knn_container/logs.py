"""Log lines in the shape of the built-in algorithm's: `[MM/DD/YYYY HH:MM:SS LEVEL thread] text`, on standard output."""

import logging
import sys

_FORMAT = "[%(asctime)s %(levelname)s %(thread)d] %(message)s"


def configure(level: int | str = logging.INFO) -> None:
    """Sends the root logger's lines to standard output."""
    logging.basicConfig(level=level, format=_FORMAT, datefmt="%m/%d/%Y %H:%M:%S", stream=sys.stdout, force=True)
    # The tuner reads its lines, whatever the level of the others.
    logging.getLogger("knn_container.training.telemetry").setLevel(logging.INFO)
    # It reports every SIMD variant that it tries to load.
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
