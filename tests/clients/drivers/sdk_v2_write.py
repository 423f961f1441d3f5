"""Writes arrays with the SDK's own recordio-protobuf writers."""

from pathlib import Path

import numpy as np
from driver import main
from sagemaker.amazon.common import write_numpy_to_dense_tensor, write_spmatrix_to_sparse_tensor
from scipy.sparse import csr_matrix


def drive(arrays, files):
    """Writes files.

    Args:
        arrays: an .npz file.
        files: what goes into each: the names of the rows, of their labels if there are any, and whether it is sparse.
    """
    there = np.load(arrays)
    for path, (rows, labels, sparse) in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("wb") as file:
            given = there[labels] if labels else None
            if sparse:
                write_spmatrix_to_sparse_tensor(file, csr_matrix(there[rows]), given)
            else:
                write_numpy_to_dense_tensor(file, there[rows], given)


main(drive)
