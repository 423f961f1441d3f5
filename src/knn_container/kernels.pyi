"""Inner loops in C, without Python's lock: what exact search, and reading of text, spend their time on.

Arrays are contiguous: vectors and values float32, numbers of rows int64. Vectors may lie at any address. Metrics are
numbers: 0 for L2, 1 for INNER_PRODUCT, 2 for COSINE. All functions raise ValueError or BufferError for arrays that do
not fit, TypeError or OverflowError for what is no such argument, and MemoryError.
"""

from knn_container.batch import Float32Array, Int64Array

class Packed:
    """Rows as products need them; there is no such class, only an object to be given to `search`."""

def pack(metric: int, centre: Float32Array, rows: Float32Array, /) -> Packed:
    """Copies (m, d) rows for searches by products, which otherwise do so each time; the centre is theirs.

    Under L2 many rows lie along the column that spreads them most: what is further from a query there alone than its
    neighbours are is left out.
    """

def search(
    metric: int,
    centre: Float32Array | None,
    packed: Packed | None,
    queries: Float32Array,
    rows: Float32Array,
    values: Float32Array,
    numbers: Int64Array,
    threads: int,
    screened_queries: Float32Array = ...,
    screened_rows: Float32Array = ...,
    /,
) -> None:
    """Finds the k nearest rows of each query, by the arithmetic of `Metric.between`.

    Float32 shows of most rows that they are not among the nearest; the others are compared in float64.

    Args:
        metric: what makes rows near.
        centre: (d,) that rows and queries are shifted by under L2 before they are multiplied as matrices; otherwise it
            only says that they are to be multiplied. With None, rows are looked at one by one.
        packed: what `pack` made of the rows with this metric and this centre; it is for use with a centre, and not with
            what is screened.
        queries: (n, d) finite.
        rows: (m, d) finite, m < 2^32.
        values: (n, k) to be filled as `nearest` gives them, 0 where there is no further row.
        numbers: (n, k) to be filled, -1 where there is no further row.
        threads: how many may be used, the one that asks among them.
        screened_queries: (n, p) that float32 looks at in place of the queries, under L2; the centre is (p,) then. Along
            p - 1 orthonormal directions, and last the length of what these leave, computed in float64 and rounded: no
            distance is then more than that of the vectors. (Less than these, such as some of the columns, will do.)
        screened_rows: (m, p) likewise of the rows.
    """

def search_listed(
    metric: int,
    listed: Int64Array,
    queries: Float32Array,
    rows: Float32Array,
    values: Float32Array,
    numbers: Int64Array,
    threads: int,
    /,
) -> None:
    """As `search`, among (n, m) rows listed for each query, no row twice; negative numbers are for none."""

def compare(metric: int, queries: Float32Array, rows: Float32Array, values: Float32Array, /) -> None:
    """Fills (n, m) values as `Metric.between` gives them, of (n, d) queries and (m, d) or (n, m, d) rows."""

def parse_numbers(text: bytes, /) -> tuple[bytes, int] | None:
    """Parses lines of comma-separated decimal numbers, each line with its end.

    A number has a sign or none, digits with a point among them or none, an exponent or none, and may have blanks around
    it; it is rounded to the nearest float64.

    Returns:
        The float64 of (n, d) numbers, and d; None where lines differ in their number of cells, or a cell is anything
        else, or beyond float64.
    """

def instruction_sets() -> list[str]:
    """The names of those that there is code for and that this machine has, the fastest first; it is in use."""

def use(name: str, /) -> None:
    """Has searches that begin use the code for one of `instruction_sets`: the answers are the same."""
