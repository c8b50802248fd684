"""Entries of Matrix Market files: numbers between spaces and tabs, parsed piece by piece."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..atlas.memory import format_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["mtx_pieces"]

_PIECE = 2**17 * 12  # bytes; an entry has some twelve
_BLANKS = re.compile(rb" *\n *| {2,}")


def mtx_pieces(
    file: IO[bytes], dtype: np.dtype[Any]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]]:
    r"""Parse entries from where a file stands to its end.

    Parameters
    ----------
    file : binary file
        Below the line of sizes.
    dtype : numpy dtype
        Of the numbers, int64 or float64.

    Yields
    ------
    rows, columns, numbers : ndarray, (k,)
        Of some entries, never none of them; rows and columns count from 1.

    Raises
    ------
    pyarrow.ArrowInvalid
        A line that has not three numbers.
    ValueError
        A line longer than any entry, such as a tail of zeros.

    Examples
    --------
    >>> import io
    >>> rows, columns, numbers = next(mtx_pieces(io.BytesIO(b"1\t2  5\n 3 4 6\n"), np.dtype(int)))
    >>> rows.tolist(), columns.tolist(), numbers.tolist()
    ([1, 3], [2, 4], [5, 6])
    """
    rest = b""
    while piece := file.read(_PIECE):
        text, _, rest = (rest + piece).rpartition(b"\n")
        if len(rest) > _PIECE:
            raise ValueError(f"a line of more than {format_bytes(_PIECE)}")
        if text.strip():
            yield _parse(text, dtype)
    if rest.strip():
        yield _parse(rest, dtype)


def _parse(
    text: bytes, dtype: np.dtype[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    import pyarrow as pa
    from pyarrow import csv

    text = text.strip().replace(b"\r\n", b"\n").replace(b"\t", b" ")
    if b"  " in text or b" \n" in text or b"\n " in text:
        text = _BLANKS.sub(lambda found: b"\n" if b"\n" in found[0] else b" ", text)
    names = ["row", "column", "number"]
    kinds = (pa.int64(), pa.int64(), pa.from_numpy_dtype(dtype))
    table = csv.read_csv(
        pa.BufferReader(text),
        read_options=csv.ReadOptions(column_names=names, use_threads=False),
        parse_options=csv.ParseOptions(delimiter=" "),
        convert_options=csv.ConvertOptions(column_types=dict(zip(names, kinds, strict=True))),
    )
    rows, columns, numbers = (np.asarray(table[name]) for name in names)
    return rows, columns, numbers
