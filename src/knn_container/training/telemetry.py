"""The lines of a training log that programs read, in the shapes of the built-in algorithm's.

Their source is the log stored in SageMaker's own k-NN notebook; the tuner's regular expressions look for
`#quality_metric`.
"""

import json
import logging
import time
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)

_LOSSES = ("mse",)


class Every:
    """Says when some seconds have passed since it last said so."""

    def __init__(self, seconds: float) -> None:
        self._interval = seconds
        self._started = self._last = time.perf_counter()

    def due(self) -> bool:
        """Whether it is time again."""
        if time.perf_counter() - self._last < self._interval:
            return False
        self._last = time.perf_counter()
        return True

    def seconds(self) -> float:
        """The time since the start."""
        return time.perf_counter() - self._started


class Telemetry:
    """Writes the lines of one host.

    Args:
        host: its name in `resourceconfig.json`.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._started = self._since = time.time()
        self._laps: dict[str, float] = {}

    def metrics(self, values: Mapping[str, float], meta: str | None = None) -> None:
        """Writes a `#metrics` line, about the time since the last one: each value as a sum of one.

        Args:
            values: by their names; times are in milliseconds.
            meta: what the values are about, such as `training_data_iter`.
        """
        dimensions = {"Algorithm": "AWS/KNN", "Host": self._host, "Operation": "training"}
        document: dict[str, Any] = {
            "StartTime": self._since,
            "EndTime": (now := time.time()),
            "Dimensions": dimensions | ({"Meta": meta} if meta else {}),
            "Metrics": {name: {"sum": value, "count": 1, "min": value, "max": value} for name, value in values.items()},
        }
        self._since = now
        print(f"#metrics {json.dumps(document)}", flush=True)

    def lap(self, name: str) -> None:
        """Notes how long the part of the job took that ends here."""
        self._laps[name] = 1000 * (time.time() - self._started) - sum(self._laps.values())

    def laps(self) -> None:
        """Writes how long each part took."""
        self.metrics({**self._laps, "epochs": 1})

    def end(self) -> None:
        """Writes how long the job took, and how long it was before it read."""
        self._since = self._started
        total = 1000 * (time.time() - self._started)
        self.metrics({"setuptime": self._laps.get("initialize.time", 0.0), "totaltime": total})

    def records(self, meta: str, rows: int, batches: int) -> None:
        """Writes how much of a channel was read."""
        self.metrics(
            {
                "Total Records Seen": rows,
                "Total Batches Seen": batches,
                "Max Records Seen Between Resets": rows,
                "Max Batches Seen Between Resets": batches,
                "Reset Count": 1,
                "Number of Records Since Last Reset": rows,
                "Number of Batches Since Last Reset": batches,
            },
            meta,
        )

    def progress(self, percent: float) -> None:
        """Writes how much of the reading is done."""
        log.info("#progress_metric: host=%s, completed %s %% of epochs", self._host, percent)

    def throughput(self, rows: int, seconds: float) -> None:
        """Writes how fast rows were read."""
        log.info("#throughput_metric: host=%s, train throughput=%s records/second", self._host, rows / seconds)

    def scores(self, scores: dict[str, float]) -> None:
        """Writes the scores of the test channel."""
        for name, value in scores.items():
            log.info("#test_score (%s) : %s", self._host, (name, value))
        for name, value in scores.items():
            kind = "<loss>" if name in _LOSSES else "<score>"
            log.info("#quality_metric: host=%s, test %s %s=%s", self._host, name, kind, value)
