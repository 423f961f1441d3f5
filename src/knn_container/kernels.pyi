"""Exact search in C, on the thread that asks and without Python's lock: what exact search spends its time on.

Arrays are contiguous: vectors and values float32, numbers of rows int64. Rows may lie at any address. Metrics are
numbers: 0 for L2, 1 for INNER_PRODUCT, 2 for COSINE. All functions raise ValueError or BufferError for arrays that do
not fit, and MemoryError.
"""

from knn_container.batch import Float32Array, Int64Array

def search(
    metric: int,
    centre: Float32Array | None,
    queries: Float32Array,
    rows: Float32Array,
    values: Float32Array,
    numbers: Int64Array,
    first: int,
    screened_queries: Float32Array = ...,
    screened_rows: Float32Array = ...,
    /,
) -> None:
    """Finds the k nearest rows of each query, by the arithmetic of `Metric.between`.

    Float32 shows of most rows that they are not among the nearest; the others are compared in float64.

    Args:
        metric: what makes rows near.
        centre: (d,) that rows and queries are shifted by before they are multiplied as matrices, under L2; any array
            otherwise. With None, rows are compared one by one, which needs no centre and suits a few queries.
        queries: (n, d) finite.
        rows: (m, d) finite.
        values: (n, k) to be filled as `nearest` gives them, 0 where there is no further row.
        numbers: (n, k) to be filled, -1 where there is no further row.
        first: the number of the first row; all are below 2^32.
        screened_queries: (n, p) that float32 looks at in place of the queries, under L2; the centre is (p,) then.
        screened_rows: (m, p) likewise: no distance between these is more than that between what they stand for, but
            for an error of float32 in computing each.
    """

def search_listed(
    metric: int,
    listed: Int64Array,
    queries: Float32Array,
    rows: Float32Array,
    values: Float32Array,
    numbers: Int64Array,
    /,
) -> None:
    """As `search`, among (n, m) rows listed for each query; -1 is for none."""

def compare(metric: int, queries: Float32Array, rows: Float32Array, values: Float32Array, /) -> None:
    """Fills (n, m) values as `Metric.between` gives them, of (n, d) queries and (m, d) or (n, m, d) rows."""

def instruction_sets() -> list[str]:
    """The names of those that there is code for and that this machine has, the fastest first; it is in use."""

def use(name: str, /) -> None:
    """Has all threads use the code for one of `instruction_sets`: the answers are the same."""
