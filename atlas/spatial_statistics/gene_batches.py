"""Values of some genes for all cells, cell by cell, within a budget of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import InvalidArgument
from ..memory import refuse_above
from .row_graph import map_in_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..section import Section

__all__ = ["GeneBatch", "GeneReader", "Normalize", "plan_batches"]

type Normalize = Literal["log1p"] | None

_TARGET_SUM = 1e4
# Bytes an entry of a batch: 8 as read, by gene, and 6 by cell, both held while one is made of the
# other.
ENTRY_BYTES = 14
# Entries that one thread reads at once; a gene that has more is read alone.
_READ_ENTRIES = 2**20
# More entries than this in a batch save no time: each batch reads the graph once, which takes
# about as long as working on 10 M entries does.
_MOST_ENTRIES = 2**25
_MOST_GENES = 2**15
# Entries that are sorted by cell at once, all genes together: a core's second cache holds them.
# And the fewest of one gene, on average, that are worth a call.
_CACHED_ENTRIES, _CALL_ENTRIES = 2**17, 2**9


@dataclass(frozen=True, slots=True, eq=False)
class GeneBatch:
    """Non-zero values of g genes by cell, and sums over all cells of each gene.

    A gene whose values barely differ is held less its mean: the sums that matter would otherwise
    be small differences of large numbers.
    """

    ptr: NDArray[np.int64]
    """(n + 1,) cell i holds entries ptr[i]:ptr[i + 1]."""
    gene: NDArray[np.uint16]
    """(nnz,) number of the gene within the batch; ascending within a cell."""
    value: NDArray[np.float32]
    """(nnz,) value."""
    sums: NDArray[np.float64]
    """(g, 5) sum x, sum x**2, sum (x - mean)**2, sum e x, sum e x**2, where e is given."""
    constant: NDArray[np.bool_]
    """(g,) whether all cells have the same value."""


def plan_batches(nnz: NDArray[np.int64], budget: int) -> list[tuple[int, int]]:
    """Group consecutive genes so that a batch stays within a budget.

    Parameters
    ----------
    nnz : (g,) int64
        Non-zero values of each gene.
    budget : int
        Bytes for the entries of a batch.

    Returns
    -------
    list of (int, int)
        Ranges of genes; each holds at least one.

    Raises
    ------
    BudgetExceeded
        A gene does not fit alone.

    Examples
    --------
    >>> plan_batches(np.array([10, 10, 10]), 20 * ENTRY_BYTES)
    [(0, 2), (2, 3)]
    """
    refuse_above(
        budget,
        int(nnz.max(initial=0)) * ENTRY_BYTES,
        "holding the values of one gene",
        "raise memory_limit",
    )
    return _group(nnz, min(_MOST_ENTRIES, budget // ENTRY_BYTES), _MOST_GENES)


def _group(nnz: NDArray[np.int64], entries: int, genes: int) -> list[tuple[int, int]]:
    groups: list[tuple[int, int]] = []
    first, held = 0, 0
    for g, size in enumerate(nnz.tolist()):
        if g > first and (held + size > entries or g - first == genes):
            groups.append((first, g))
            first, held = g, 0
        held += size
    return [*groups, (first, nnz.size)] if nnz.size else groups


@dataclass(frozen=True, slots=True, eq=False)
class GeneReader:
    """Reads genes of a section in batches, from its by-gene order."""

    section: Section
    """The section."""
    ends: NDArray[np.float64]
    """(n,) factor e of each cell in the last two sums."""
    scale: NDArray[np.float64] | None
    """(n,) factor of each cell before the logarithm; None without."""
    logarithm: bool
    """Whether to take log1p."""
    kept: NDArray[np.bool_] | None
    """(n,) cells that are read; all without."""
    threads: int
    """Threads that read."""

    @classmethod
    def of(
        cls,
        section: Section,
        ends: NDArray[np.float64],
        normalize: Normalize,
        kept: NDArray[np.bool_] | None,
        threads: int,
    ) -> GeneReader:
        """Make a reader of values as stored, or as `to_anndata(normalize="log1p")` hands them out.

        Raises
        ------
        InvalidArgument
            An unknown normalization, or one of compositions.
        """
        if normalize is None:
            return cls(section, ends, None, False, kept, threads)
        if normalize != "log1p":
            raise InvalidArgument(f"normalize=None or 'log1p' is wanted, but got {normalize!r}")
        if section.values == "composition":
            raise InvalidArgument(
                "counts or normalized values are wanted for normalize='log1p', but got "
                f"compositions in section {section.name!r}; leave normalize out"
            )
        scale = None
        if section.values in ("counts", "expected"):
            depth = section.depth()
            scale = np.divide(_TARGET_SUM, depth, out=np.zeros_like(depth), where=depth > 0)
        return cls(section, ends, scale, section.values != "log1p", kept, threads)

    def read(self, genes: NDArray[np.int64], nnz: NDArray[np.int64]) -> GeneBatch:
        """Read genes by number; `nnz` has their non-zero values, which decide what is read at once.

        Returns
        -------
        GeneBatch
            Memory: 6 bytes an entry and 8 a cell; 14 an entry while it is made.
        """
        parts = [genes[first:stop] for first, stop in _group(nnz, _READ_ENTRIES, _MOST_GENES)]
        columns = [
            column
            for found in map_in_order(self._read_columns, parts, self.threads)
            for column in found
        ]
        sums = np.array([column.sums for column in columns]).reshape(len(columns), 5)
        constant = np.array([column.constant for column in columns], dtype=bool)
        return GeneBatch(*_by_cell(columns, self.section.n_obs, self.threads), sums, constant)

    def _read_columns(self, genes: NDArray[np.int64]) -> list[_Column]:
        matrix = self.section.gene_columns(genes)
        ptr = matrix.indptr
        return [
            self._column(matrix.indices[ptr[g] : ptr[g + 1]], matrix.data[ptr[g] : ptr[g + 1]])
            for g in range(genes.size)
        ]

    def _column(self, cells: NDArray[np.int32], stored: NDArray[np.float32]) -> _Column:
        """Transform and sum one gene."""
        values = stored
        if self.kept is not None:
            inside = self.kept[cells]
            cells, values = cells[inside], values[inside]
        if self.logarithm:
            exact = values * self.scale[cells] if self.scale is not None else values
            values = np.log1p(exact).astype(np.float32)
        n = self.section.n_obs if self.kept is None else int(self.kept.sum())
        column = _Column.of(cells, values, self.ends, n)
        total, squares, variation = column.sums[:3]
        if variation > 0.0 and squares > _BARELY_DIFFERENT * variation:
            dense = np.full(self.section.n_obs, -total / n)
            dense[cells] += values
            every = np.flatnonzero(np.ones(dense.size, bool) if self.kept is None else self.kept)
            rest = dense[every].astype(np.float32)
            column = _Column.of(every.astype(np.int32), rest, self.ends, n)
        return column


# Sums of x**2 above this many times the sum of squared deviations lose that much of the 16 digits
# of float64; next to no cell is zero then, so that holding every cell costs nothing.
_BARELY_DIFFERENT = 1e4


@dataclass(frozen=True, slots=True, eq=False)
class _Column:
    """One gene: cells and values, not zero elsewhere."""

    cells: NDArray[np.int32]
    values: NDArray[np.float32]
    sums: tuple[float, ...]
    """The five of `GeneBatch.sums`."""
    constant: bool

    @classmethod
    def of(
        cls,
        cells: NDArray[np.int32],
        values: NDArray[np.float32],
        ends: NDArray[np.float64],
        n: int,
    ) -> _Column:
        from .gene_kernels import sum_gene  # brings numba

        *sums, low, high = sum_gene(cells, values, ends, n)
        # Copies: views would keep all that was read with them.
        return cls(cells.copy(), values.copy(), tuple(sums), low == high)


def _by_cell(
    columns: list[_Column], n: int, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.float32]]:
    """Sort the entries of some genes by cell, then gene."""
    from .gene_kernels import count_cells, place_entries  # brings numba

    # Two places ahead: after placing, ptr[i + 1] has moved from the first entry of i to its end.
    ptr = np.zeros(n + 2, np.int64)
    for column in columns:
        count_cells(column.cells, ptr[2:])
    np.cumsum(ptr, out=ptr)
    entries = int(ptr[-1])
    gene, value = np.empty(entries, np.uint16), np.empty(entries, np.float32)
    n_ranges = max(1, min(entries // _CACHED_ENTRIES, entries // (_CALL_ENTRIES * len(columns))))
    borders = np.linspace(0, n, n_ranges + 1).astype(np.int64)
    cuts = [np.searchsorted(column.cells, borders).tolist() for column in columns]

    def place(r: int) -> None:
        for g, column in enumerate(columns):
            span = slice(cuts[g][r], cuts[g][r + 1])
            place_entries(g, column.cells[span], column.values[span], ptr[1:], gene, value)

    for _ in map_in_order(place, list(range(n_ranges)), threads):
        pass
    return ptr[:-1], gene, value
