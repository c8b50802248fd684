"""Tables of vendor folders, text or Parquet, one column or one block at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from ..source import ObsColumn, StringValues

__all__ = ["Table", "filled_table", "open_table"]


class Table(Protocol):
    """A table on disk whose columns are known by name."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Columns in their order."""
        ...

    @property
    def n_rows(self) -> int:
        """Rows; of text they are counted by reading it once."""
        ...

    def strings(self, name: str) -> StringValues:
        """Read a column as text, numbers in the way they are written."""
        ...

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Read a column of numbers, (n,); empty cells are NaN."""
        ...

    def columns(
        self,
        names: Sequence[str] | None = None,
        rows: NDArray[np.int64] | None = None,
    ) -> dict[str, ObsColumn]:
        """Columns for obs, lazily: all by default; lists and structs are left out."""
        ...

    def batches(
        self,
        columns: Sequence[str] | None = None,
        types: Mapping[str, pa.DataType] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Stream rows in their order.

        Raises
        ------
        InputError
            A line or page that cannot be read; names the file and, in text, the row.
        """
        ...


def open_table(
    path: Path,
    *,
    delimiter: str | None = None,
    names: Sequence[str] | None = None,
) -> Table:
    r"""Open a table; only its header is read.

    Parameters
    ----------
    path : Path
        .parquet, or text: .csv, .tsv, .txt, gzipped or not.
    delimiter : str, optional
        Of text; None takes the first of tab, comma, semicolon and space that the header has outside
        quotes and that splits the next line alike.
    names : sequence of str, optional
        Columns of text that has no header.

    Raises
    ------
    InputError
        It cannot be read, has no columns, or one name twice.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     path = Path(name, "cells.csv")
    ...     _ = path.write_text("id,x\na,1\nb,2.5\n")
    ...     table = open_table(path)
    ...     table.names, table.numbers("x").tolist(), table.strings("id").to_list()
    (('id', 'x'), [1.0, 2.5], ['a', 'b'])
    """
    if path.suffix.casefold() == ".parquet":
        from .parquet_table import ParquetTable

        return ParquetTable.of(path)
    from .text_table import TextTable

    return TextTable.of(path, delimiter=delimiter, names=names)


def filled_table(
    path: Path | None, notes: list[str], *, delimiter: str | None = None
) -> Table | None:
    """Open a table; None where there is none, or it is a header alone, which is noted.

    Parameters
    ----------
    path : Path, optional
        The file; the first block of its first column is read.
    notes : list of str
        Added to.
    delimiter : str, optional
        Of text.

    Raises
    ------
    InputError
        It cannot be read.
    """
    import pyarrow as pa

    if path is None:
        return None
    table = open_table(path, delimiter=delimiter)
    first = table.names[:1]
    as_words = None if path.suffix.casefold() == ".parquet" else dict.fromkeys(first, pa.string())
    if any(batch.num_rows for batch in table.batches(first, as_words)):
        return table
    notes.append(f"{path.name} has no rows")
    return None
