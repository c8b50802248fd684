"""Graphs of some cells of a section: the others are not there, neither as ends nor in between."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InvalidArgument
from ...quadtree import TileTable
from ..edges import Edges, cut_runs, n_rows, stream_edges
from .mask import Mask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ...quadtree import Runs
    from ..edges import EdgeSource, PositionSource
    from ..order_statistic import Run

__all__ = ["Mask", "MaskedEdges", "MaskedSection"]

# Rows read at once, excluded ones among them.
_READ_ROWS = 65_536


@dataclass(frozen=True)
class MaskedSection:
    """The kept cells of a section, numbered in its order, as a section of their own.

    Its tiles and row blocks are the section's, with fewer rows; those without a kept cell are gone.
    Their boxes stay as they are, so nothing has to be read: all that a certificate asks of a box is
    that it holds the cells of its tile (`search.certificate`), and a box that holds all cells of a
    tile holds some of them. It may be wider than they are, which can only load a tile in vain.
    """

    section: PositionSource
    """The whole section."""
    mask: Mask
    """The cells that take part."""

    def __post_init__(self) -> None:
        if self.mask.n_obs != self.section.n_obs:
            raise InvalidArgument(
                f"a mask of {self.section.n_obs:,} cells is wanted for section "
                f"{self.section.name!r}, but got one of {self.mask.n_obs:,}"
            )

    def __reduce__(self) -> tuple[type[MaskedSection], tuple[PositionSource, Mask]]:
        # Without the tables, which are larger than the mask and quickly made again.
        return MaskedSection, (self.section, self.mask)

    @property
    def name(self) -> str:
        """Name of the section."""
        return self.section.name

    @property
    def n_obs(self) -> int:
        """Number of kept cells."""
        return self.mask.n_kept

    @property
    def tiles(self) -> TileTable:
        """Tiles that hold kept cells, with the ranges of these."""
        return self._tiles

    @property
    def blocks(self) -> TileTable | None:
        """Row blocks that hold kept cells, where the section has row blocks."""
        return self._blocks

    @cached_property
    def _tiles(self) -> TileTable:
        return _kept_table(self.section.tiles, self.mask)

    @cached_property
    def _blocks(self) -> TileTable | None:
        blocks: TileTable | None = getattr(self.section, "blocks", None)
        return None if blocks is None else _kept_table(blocks, self.mask)

    def positions(self, runs: Runs | None = None) -> NDArray[np.float64]:
        """Return (m, 2) float64 positions of kept cells.

        Excluded cells between them are read too, 65,536 rows at a time.
        """
        runs = [(0, self.n_obs)] if runs is None else runs
        groups = cut_runs(self.mask.section_runs(runs), _READ_ROWS)
        parts = [self.section.positions(group)[self.mask.take(group)] for group in groups]
        return np.concatenate([np.empty((0, 2)), *parts])


def _kept_table(table: TileTable, mask: Mask) -> TileTable:
    before = mask.before(table.ptr)
    held = np.diff(before) > 0
    return TileTable(
        np.append(before[:-1][held], before[-1]),
        table.bounds[held],
        None if table.code is None else table.code[held],
        None if table.level is None else table.level[held],
        table.frame,
    )


@dataclass(frozen=True, slots=True)
class MaskedEdges:
    """A graph of the kept cells, spread over the rows of the whole section.

    Rows of excluded cells are empty, and no column names one.

    Examples
    --------
    >>> from tisseract.atlas.graph.search.knn_source import KnnEdges
    >>> mask = Mask.of(np.array([True, False, True]))
    >>> def make(section):  # of a section of three cells
    ...     return MaskedEdges(KnnEdges(MaskedSection(section, mask), 6), mask)
    """

    inner: EdgeSource
    """Graph of the `MaskedSection`."""
    mask: Mask
    """The cells that take part."""

    @property
    def facts(self) -> dict[str, str | float]:
        """What was found out about the kept cells, and how many they are."""
        return {**self.inner.facts, "n_kept": self.mask.n_kept}

    def prepare(self, blocks: Sequence[Runs], run: Run) -> MaskedEdges:
        """Prepare the inner source with the kept cells of the blocks."""
        kept = [runs for block in blocks if (runs := self.mask.kept_runs(block))]
        return replace(self, inner=self.inner.prepare(kept, run))

    def edges(self, runs: Runs) -> Edges:
        """Return the edges of the rows.

        Notes
        -----
        Memory: the edges of the inner source and 36 bytes for each of them.
        """
        kept = self.mask.kept_runs(runs)
        edges = self.inner.edges(kept) if kept else _none()
        indptr, _ = self._spread(runs, edges.indptr)
        return Edges(indptr, self.mask.rows(edges.indices).astype(np.int32), edges.distances)

    def stream(self, runs: Runs, most_edges: int) -> tuple[NDArray[np.int64], Iterator[Edges]]:
        """Compute the edges in pieces, where the inner source has many; see `stream_edges`."""
        kept = self.mask.kept_runs(runs)
        # Half a piece, since finding the rows of the neighbors takes copies of it.
        found = stream_edges(self.inner, kept, max(1, most_edges // 2)) if kept else None
        inner, pieces = found if found is not None else (_none().indptr, iter([_none()]))
        indptr, rows = self._spread(runs, inner)
        return indptr, self._pieces(indptr, rows, pieces)

    def _spread(
        self, runs: Runs, inner: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row pointers with the excluded cells among the kept ones, and where those lie.

        Returns
        -------
        indptr : array (m + 1,) int64
        rows : array (kept,) int64
            Number of each kept cell among the m rows.
        """
        rows = np.flatnonzero(self.mask.take(runs))
        counts = np.zeros(n_rows(runs), dtype=np.int64)
        counts[rows] = np.diff(inner)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), rows

    def _pieces(
        self, indptr: NDArray[np.int64], rows: NDArray[np.int64], pieces: Iterator[Edges]
    ) -> Iterator[Edges]:
        """Spread pieces: each begins after the last one's last row and ends with a kept cell.

        But the last, which has the excluded cells at the end as well.
        """
        first = done = 0
        for piece in pieces:
            done += piece.indptr.size - 1
            stop = indptr.size - 1 if done == rows.size else int(rows[done - 1]) + 1 if done else 0
            own = indptr[first : stop + 1] - indptr[first]
            yield Edges(own, self.mask.rows(piece.indices).astype(np.int32), piece.distances)
            first = stop


def _none() -> Edges:
    """Edges of no rows."""
    return Edges(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0))
