"""protobuf's parser (upb), and numpy: the frames one by one."""

import struct
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Total, measure

# The compiled schema is ours, and its folder has modules whose names are the standard library's.
_SCHEMA = Path(__file__).parents[2] / "src" / "knn_container" / "formats" / "record_pb2.py"
_SPEC = spec_from_file_location("record_pb2", _SCHEMA)
_MODULE = module_from_spec(_SPEC)
sys.modules["record_pb2"] = _MODULE
_SPEC.loader.exec_module(_MODULE)
Record = _MODULE.Record


def _values(value: Any) -> Any:
    return (value.float32_tensor if value.HasField("float32_tensor") else value.float64_tensor).values


def rows(path: str, total: Total) -> None:
    """Makes one table of all records."""
    features, labels, at = [], [], 0
    data = Path(path).read_bytes()
    while at < len(data):
        _, length = struct.unpack_from("<II", data, at)
        record = Record.FromString(data[at + 8 : at + 8 + length])
        features.append(np.array(_values(record.features["values"]), np.float32))
        labels.append(_values(record.label["values"])[0])
        at += 8 + length + -length % 4
    total.add(np.stack(features), np.array(labels, np.float32))


if __name__ == "__main__":
    measure(rows)
