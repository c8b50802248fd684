"""A matrix split while it streams: genes go on, the columns of other tables to scratch files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError
from .source import CsrBlock

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .source import ApartFeatures, CountsSource

__all__ = ["ApartSpill", "SplitCounts"]

_LARGEST_WHOLE = np.iinfo(np.uint32).max


@dataclass(frozen=True, slots=True)
class _Segment:
    """Rows of one block, as they lie in the scratch file: lengths, columns, values."""

    offset: int
    start_row: int
    n_rows: int
    nnz: int
    dtype: np.dtype[Any]


@dataclass(slots=True)
class ApartSpill:
    """Entries of one table on disk, in source order; a matrix that can be streamed again."""

    path: Path
    n_obs: int
    n_vars: int
    whole: bool = True
    """Whether all values so far are whole numbers that fit 32 bits."""
    stored: int = 0
    """Entries so far."""
    _segments: list[_Segment] = field(default_factory=list)

    @property
    def nnz(self) -> int | None:
        """Stored entries."""
        return self.stored

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number type of the first entries."""
        return self._segments[0].dtype if self._segments else np.dtype(np.uint16)

    def add(
        self,
        start_row: int,
        lengths: NDArray[np.uint32],
        columns: NDArray[np.int32],
        values: NDArray[Any],
    ) -> None:
        """Append the rows of a block."""
        if self.whole and values.dtype.kind != "b":
            self.whole = bool(
                (values >= 0).all()
                and (values <= _LARGEST_WHOLE).all()
                and (values.dtype.kind in "iu" or (values == np.floor(values)).all())
            )
        with self.path.open("ab") as file:
            segment = _Segment(file.tell(), start_row, lengths.size, values.size, values.dtype)
            for part in (lengths, columns, values):
                file.write(memoryview(np.ascontiguousarray(part)).cast("B"))
        self._segments.append(segment)
        self.stored += values.size

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield all rows once, in order, in the blocks they came in."""
        for one in self._segments:
            with self.path.open("rb") as file:
                file.seek(one.offset)
                lengths = np.fromfile(file, np.uint32, one.n_rows)
                columns = np.fromfile(file, np.int32, one.nnz)
                values = np.fromfile(file, one.dtype, one.nnz)
            indptr = np.zeros(one.n_rows + 1, np.int64)
            np.cumsum(lengths, out=indptr[1:])
            yield CsrBlock(one.start_row, indptr, columns, values)


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """The genes of a matrix; what else it holds is spilled while they stream by.

    Examples
    --------
    >>> import tempfile
    >>> from .source import ApartFeatures, MatrixCounts
    >>> matrix = MatrixCounts(np.array([[1, 7, 2]]))
    >>> blank = ApartFeatures(("Blank-1",), ("blank",), np.array([1]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     genes = SplitCounts.of(matrix, {"controls": blank}, Path(folder))
    ...     print([block.data.tolist() for block in genes.blocks(2**20)])
    ...     print([block.data.tolist() for block in genes.spills["controls"].blocks(2**20)])
    [[1, 2]]
    [[7]]
    """

    source: CountsSource
    """All columns."""
    n_vars: int
    """Genes."""
    spills: Mapping[str, ApartSpill]
    """The other tables; complete when all blocks went by."""
    _owner: NDArray[np.int16]
    """(columns + 1,) table of each column from 1, 0 for genes; the last is for bad numbers."""
    _number: NDArray[np.int32]
    """(columns,) place of each column in its table, or among the genes."""

    @classmethod
    def of(
        cls, source: CountsSource, apart: Mapping[str, ApartFeatures], folder: Path
    ) -> SplitCounts:
        """Plan the split; scratch files go to `folder`.

        Raises
        ------
        InputError
            Columns that are outside the matrix or in two tables, or without a name each.
        """
        owner = np.zeros(source.n_vars + 1, np.int16)
        number = np.zeros(source.n_vars, np.int32)
        spills = {}
        for k, (name, features) in enumerate(apart.items()):
            _check(name, features, owner)
            owner[features.columns] = k + 1
            number[features.columns] = np.arange(features.columns.size)
            spills[name] = ApartSpill(
                folder / f"apart-{k}", source.n_obs, int(features.columns.size)
            )
        genes = owner[:-1] == 0
        number[genes] = np.arange(int(genes.sum()))
        return cls(source, int(genes.sum()), spills, owner, number)

    @property
    def n_obs(self) -> int:
        """Rows."""
        return self.source.n_obs

    @property
    def nnz(self) -> int | None:
        """Unknown until all was read; the source counts other columns, too."""
        return None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number type of the entries."""
        return self.source.dtype

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield the genes of all rows; a third of the budget is left for what is split off."""
        for block in self.source.blocks(max(1, budget_bytes // 3)):
            yield self._split(block)

    def _split(self, block: CsrBlock) -> CsrBlock:
        n = self._number.size
        bad = (block.indices < 0) | (block.indices >= n)
        any_bad = bool(bad.any())
        safe = np.where(bad, n, block.indices) if any_bad else block.indices
        owner = self._owner[safe]
        for k, spill in enumerate(self.spills.values()):
            own = owner == k + 1
            lengths = np.diff(_pointers(own, block.indptr)).astype(np.uint32)
            columns = self._number[block.indices[own]]
            spill.add(block.start_row, lengths, columns, block.data[own])
        genes = owner == 0
        # Bad numbers stay what they are, and the writer refuses them by name.
        kept = block.indices[genes]
        columns = np.where(bad[genes], kept, self._number[np.where(bad[genes], 0, kept)])
        return CsrBlock(block.start_row, _pointers(genes, block.indptr), columns, block.data[genes])


def _pointers(own: NDArray[np.bool_], indptr: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row pointers of the entries of a mask."""
    ends = np.zeros(own.size + 1, np.int64 if own.size > np.iinfo(np.int32).max else np.int32)
    np.cumsum(own, out=ends[1:])
    return ends[indptr].astype(np.int64)


def _check(name: str, features: ApartFeatures, owner: NDArray[np.int16]) -> None:
    columns, n = features.columns, owner.size - 1
    if not columns.size == len(features.names) == len(features.feature_types):
        message = f"expected a name and a type for each of {columns.size} columns"
        got = f"{len(features.names)} names and {len(features.feature_types)} types"
        raise InputError(Fault(f"apart {name!r}", f"{message}, but got {got}"))
    ascending = bool((np.diff(columns) > 0).all())
    if not columns.size or not ascending or columns[0] < 0 or columns[-1] >= n:
        shown = np.array2string(columns, threshold=6)
        message = f"expected ascending columns in 0..{n - 1}, but got {shown}"
        raise InputError(Fault(f"apart {name!r}", message))
    if owner[columns].any():
        column = int(columns[np.flatnonzero(owner[columns])[0]])
        message = f"expected each column in one table, but got {column} in two"
        raise InputError(Fault(f"apart {name!r}", message))
