"""Whether a sample fits into memory, told before the machine tells it by ending the job."""

from dataclasses import dataclass

from knn_container import index
from knn_container.errors import UserError
from knn_container.index import IndexSpec
from knn_container.metric import Metric

# Less than was measured, so that nothing is refused that would have fitted: the program with its libraries took
# 76 MB, and a row's label, key, file, number and id 91 to 155 bytes (1,000,000 x 54, seven kinds of indexes).
_PROGRAM = 60 << 20
_ROW = 80
_LIKELY = 0.6  # of the rows that a limit without its margins allows, those that were seen to fit
_REST = 1024  # bytes of a record beside its numbers at most: frames, keys, a uid
_MEGABYTE = 1e6


@dataclass(frozen=True)
class Capacity:
    """What a container can hold.

    Attributes:
        memory: its limit, in bytes.
        spec: the index to build; None on a host that only keeps rows.
        columns: of a row that is kept.
    """

    memory: int
    spec: IndexSpec | None
    columns: int

    def check(self, rows: int) -> None:
        """Checks that rows can be kept and, where an index is built, that they can be indexed.

        Args:
            rows: of which it is certain that they are to be kept.

        Raises:
            UserError: says how many rows would fit.
        """
        each = 4 * self.columns + _ROW
        if self.spec:
            each += index.bytes_per_row(self.spec, self.columns)
            if self.spec.index_type == index.FLAT and self.spec.metric is Metric.COSINE:
                each += 4 * self.columns  # the search holds unit rows beside the rows as they came
        if (needed := rows * each + _PROGRAM) > self.memory:
            room = int(_LIKELY * max(0, self.memory - _PROGRAM)) // each
            raise UserError(
                f"The sample cannot fit into memory: {rows} rows of {self.columns} columns take at least "
                f"{needed / _MEGABYTE:.0f} MB {'with their index' if self.spec else 'on a host'}, and this container "
                f"has {self.memory / _MEGABYTE:.0f} MB. Lower sample_size to about {room}, use machines with more "
                "memory, or reduce the rows' dimension."
            )


def certain_rows(size: int, columns: int, number_bytes: int) -> int:
    """The least number of rows that `size` bytes hold.

    Args:
        size: of the files.
        columns: features of a row.
        number_bytes: what one number takes at most.
    """
    return size // (number_bytes * (columns + 1) + _REST)


def most_rows(size: int, columns: int) -> int | None:
    """About the largest number of rows that `size` bytes hold: a digit and a comma for each number of a row.

    Args:
        size: of the files; 0 where that is not known.
        columns: features of a row.

    Returns:
        None where the size is not known.
    """
    return size // (2 * (columns + 1)) if size else None
