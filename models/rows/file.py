"""Rows of float32 in a scratch file: the working memory of passes over more cells than memory."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument

__all__ = ["RowFile", "gaps_closed", "kept_blocks"]


def gaps_closed(rows: NDArray[np.int64], max_gap: int) -> list[tuple[int, int]]:
    """Cover sorted rows by runs, reading through gaps of at most `max_gap` rows.

    Parameters
    ----------
    rows : ndarray (m,) int64
        Sorted, without repeats.
    max_gap : int
        Rows one would rather read in vain than start another read.

    Returns
    -------
    list of (start, stop)
        Sorted, disjoint, half-open; every row lies in one of them.

    Examples
    --------
    >>> import numpy as np
    >>> gaps_closed(np.array([3, 4, 7, 30]), max_gap=2)
    [(3, 8), (30, 31)]
    """
    if len(rows) == 0:
        return []
    cuts = np.flatnonzero(np.diff(rows) > max_gap + 1)
    starts = np.concatenate([rows[:1], rows[cuts + 1]])
    stops = np.concatenate([rows[cuts], rows[-1:]]) + 1
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


class RowFile:
    """A table `(n_rows, width)` of float32 on disk that never holds more in memory than is asked.

    Positioned reads and writes, no memory map: pages of a map would count as this process's own
    memory. Open only while it is read or written: there may be more tables than files that a
    process may hold open. Rows not yet written read as zeros.
    """

    __slots__ = ("_center", "n_rows", "path", "width")

    def __init__(self, path: Path, n_rows: int, width: int) -> None:
        if n_rows < 0 or width < 1:
            raise InvalidArgument(
                f"wanted a table of some columns, but got {n_rows} rows x {width} columns"
            )
        self.path, self.n_rows, self.width = path, n_rows, width
        self._center: NDArray[np.float32] | None = None
        with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
            os.ftruncate(fd, n_rows * width * 4)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the file; closing twice does no harm."""
        self.path.unlink(missing_ok=True)

    def center(self, mean: NDArray[np.float64]) -> None:
        """Take a mean, `(width,)`, off every row from now on: when it is read, not on disk."""
        if mean.shape != (self.width,):
            raise InvalidArgument(
                f"wanted a mean of {self.width} columns, but got one of shape {mean.shape}"
            )
        added = mean.astype(np.float32)
        self._center = added if self._center is None else self._center + added

    def write(self, start: int, rows: NDArray[np.floating]) -> None:
        """Store rows `start : start + len(rows)`; they read back as they are given."""
        raw = rows if self._center is None else rows + self._center
        data = np.ascontiguousarray(raw, dtype=np.float32)
        if data.ndim != 2 or data.shape[1] != self.width or start + len(data) > self.n_rows:
            raise InvalidArgument(
                f"wanted rows of {self.width} columns within {self.n_rows}, "
                f"but got an array of shape {data.shape} at row {start}"
            )
        view, offset = memoryview(data).cast("B"), start * self.width * 4
        with _opened(self.path, os.O_WRONLY) as fd:
            while view:
                done = os.pwrite(fd, view, offset)
                view, offset = view[done:], offset + done

    def fill_centered(
        self,
        blocks: Iterable[NDArray[np.floating]],
        mask: NDArray[np.bool_] | None,
        done: Callable[[int], None] | None,
    ) -> Self:
        """Store blocks front to back, and center on the mean of the cells that take part.

        Parameters
        ----------
        blocks : iterable of ndarray (m, width)
            All rows, in order.
        mask : ndarray (n_rows,) bool or None
            Cells that the mean is taken over; None is all.
        done : callable or None
            Called with the rows of each block.

        Returns
        -------
        RowFile
            This one.
        """
        total, start = np.zeros(self.width), 0
        for block in blocks:
            counted = block if mask is None else block[mask[start : start + len(block)]]
            total += counted.sum(axis=0, dtype=np.float64)
            self.write(start, block)
            start += len(block)
            if done is not None:
                done(len(block))
        n_rows = self.n_rows if mask is None else int(mask.sum())
        self.center(total / max(n_rows, 1))
        return self

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows `start:stop`, `(stop - start, width)`."""
        with _opened(self.path, os.O_RDONLY) as fd:
            return self._read(fd, start, stop)

    def _read(self, fd: int, start: int, stop: int) -> NDArray[np.float32]:
        out = np.empty((stop - start, self.width), dtype=np.float32)
        if out.size == 0:
            return out
        view, offset = memoryview(out).cast("B"), start * self.width * 4
        while view:
            done = os.preadv(fd, [view], offset)
            if done == 0:
                raise InvalidArgument(f"wanted rows up to {stop}, but got a table of {self.n_rows}")
            view, offset = view[done:], offset + done
        if self._center is not None:
            out -= self._center
        return out

    def take(self, rows: NDArray[np.int64], max_gap: int = 64) -> NDArray[np.float32]:
        """Return the given rows in the given order; nearby ones are read together."""
        out = np.empty((len(rows), self.width), dtype=np.float32)
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        with _opened(self.path, os.O_RDONLY) as fd:
            for start, stop in gaps_closed(np.unique(ordered), max_gap):
                lo, hi = np.searchsorted(ordered, [start, stop])
                out[order[lo:hi]] = self._read(fd, start, stop)[ordered[lo:hi] - start]
        return out

    def blocks(self, block_rows: int) -> Iterator[NDArray[np.float32]]:
        """Yield all rows in order, `block_rows` at a time."""
        for start in range(0, self.n_rows, block_rows):
            yield self.read(start, min(start + block_rows, self.n_rows))


def kept_blocks(
    table: RowFile, mask: NDArray[np.bool_] | None, block_rows: int
) -> Iterator[NDArray[np.float32]]:
    """Yield the rows of the cells that take part, by blocks of all rows.

    Parameters
    ----------
    table : RowFile
    mask : ndarray (n_rows,) bool or None
        None takes every row.
    block_rows : int
        Rows read at once.
    """
    start = 0
    for block in table.blocks(block_rows):
        yield block if mask is None else block[mask[start : start + len(block)]]
        start += len(block)
