"""The reader of SageMaker's Python SDK, version 2."""

from pathlib import Path

import numpy as np
from measuring import Total, measure
from sagemaker.amazon.common import read_records


def rows(path: str, total: Total) -> None:
    """Makes one table of all records."""
    with Path(path).open("rb") as file:
        records = read_records(file)
    features = np.stack([np.array(it.features["values"].float32_tensor.values, np.float32) for it in records])
    total.add(features, np.array([it.label["values"].float32_tensor.values[0] for it in records], np.float32))


if __name__ == "__main__":
    measure(rows)
