"""What a training job reads its channels with; the format is that of the file's name."""

import os
from pathlib import Path

from measuring import Total, measure

from knn_container.training.channels import open_channel
from knn_container.training.division import divide
from knn_container.training.reading import read

TYPES = {".csv": "text/csv;label_size=1", ".pbr": "application/x-recordio-protobuf"}
MINI_BATCH = 5000  # the hyperparameter's default


def rows(path: str, total: Total) -> None:
    """Reads mini-batches, as a job does, and keeps none."""
    channel = open_channel("train", {"ContentType": TYPES[Path(path).suffix]}, Path(path).parent)
    pieces = divide(channel, {"algo-1": channel.files()})["algo-1"]
    for _, _, batch in read(channel, pieces, MINI_BATCH, None, len(os.sched_getaffinity(0))):
        total.add(batch.features, batch.labels)


if __name__ == "__main__":
    measure(rows)
