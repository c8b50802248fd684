"""Neighbors on a lattice of spots or bins, ring by ring, as squidpy's grid graph defines them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ...errors import InvalidArgument
from ...lattice import MIN_ORDER, MIN_SPOTS, best_lattice
from ..edges import Edges
from .scale import LatticeScale, measure_lattice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ...quadtree import Runs
    from ..edges import PositionSource
    from .scale import LatticeKind, Run

__all__ = ["LatticeEdges", "check_lattice"]

# Rows of the middle of a section: in their order on disk they lie side by side.
_SAMPLE_ROWS = 20_000
_KINDS: dict[str, LatticeKind] = {"hexagonal": "hex", "square": "square"}


@dataclass(frozen=True, slots=True)
class LatticeEdges:
    """Edges between lattice neighbors up to `n_rings` steps apart; distances count the steps.

    First ring: the n nearest (six on hexagons, four on squares) that are nearer than 1.3 times
    the median distance of the section. Ring r: what ring r - 1 reaches by one more such step and
    no fewer steps reach. Steps are directed: where the n-th distance is tied, a cell may choose a
    neighbor that does not choose it.
    """

    section: PositionSource
    """The section."""
    lattice: LatticeKind | Literal["auto"]
    """hex, square, or auto to tell from the positions."""
    n_rings: int
    """Rings, at least one."""
    scale: LatticeScale | None = None
    """Kind and scale, once measured."""

    def prepare(self, blocks: Sequence[Runs], run: Run) -> LatticeEdges:
        """Measure the lattice, so that tasks need not each do it."""
        if self.scale is not None:
            return self
        check_lattice(self.section, self.lattice)
        scale = measure_lattice(self.section, self.lattice, blocks, run)
        return replace(self, scale=scale)

    @property
    def facts(self) -> dict[str, str | float]:
        """What was found out about the lattice."""
        if self.scale is None:
            return {}
        return {"lattice_found": self.scale.kind, "median_distance": self.scale.median}

    def edges(self, runs: Runs) -> Edges:
        """Return the edges of the rows.

        Notes
        -----
        Memory: about 48 bytes for each of the at most ``36 (n_rings - 1)`` steps of a row.
        """
        scale = self.scale
        if scale is None:
            raise RuntimeError("the lattice must be measured first: call prepare")
        n_obs = self.section.n_obs
        asked = [np.arange(*run, dtype=np.int64) for run in runs]
        rows = np.concatenate([np.empty(0, np.int64), *asked])
        shells = _FirstShells(self.section, scale)
        # A key is (position in `rows`, section row): sorted keys are CSR order.
        frontier = np.arange(rows.size, dtype=np.int64) * n_obs + rows
        seen = frontier
        found, rings = [], []
        for ring in range(1, self.n_rings + 1):
            reached = shells.step(frontier // n_obs, frontier % n_obs)
            frontier = np.setdiff1d(reached, seen, assume_unique=True)
            seen = np.union1d(seen, frontier)
            found.append(frontier)
            rings.append(np.full(frontier.size, float(ring)))
        keys = np.concatenate(found)
        order = np.argsort(keys)
        counts = np.bincount(keys // n_obs, minlength=rows.size)
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        return Edges(indptr, (keys[order] % n_obs).astype(np.int32), np.concatenate(rings)[order])


def check_lattice(section: PositionSource, kind: LatticeKind | Literal["auto"]) -> None:
    """Refuse a lattice graph of cells that lie on no such lattice.

    Too few cells to tell pass. Memory: some 300 bytes for each of at most 20,000 cells.

    Raises
    ------
    InvalidArgument
        The fit of `atlas.lattice` says otherwise; the message names it.
    """
    start = max(0, (section.n_obs - _SAMPLE_ROWS) // 2)
    points = section.positions([(start, min(section.n_obs, start + _SAMPLE_ROWS))])
    fit = best_lattice(points) if len(points) >= MIN_SPOTS else None
    if fit is None:
        return
    wanted = "a hex or square lattice" if kind == "auto" else f"a {kind} lattice"
    where = f"section {section.name!r}"
    if fit.order < MIN_ORDER:
        raise InvalidArgument(
            f"{wanted} is wanted, but got {where}, whose cells lie on none (order "
            f"{fit.order:.2f} of 1, at least {MIN_ORDER} wanted); build nearest neighbors "
            "instead: kind='knn'"
        )
    if kind not in ("auto", _KINDS[fit.kind]):
        raise InvalidArgument(
            f"{wanted} is wanted, but got {where}, whose spots lie on a {_KINDS[fit.kind]} one "
            f"(order {fit.order:.2f} of 1); name that, or build nearest neighbors: kind='knn'"
        )


class _FirstShells:
    """First rings of the rows asked for so far; each is searched once."""

    def __init__(self, section: PositionSource, scale: LatticeScale) -> None:
        self._section = section
        self._scale = scale
        self._rows = np.empty(0, np.int64)
        self._start = np.zeros(1, np.int64)
        self._columns = np.empty(0, np.int64)

    def step(self, origin: NDArray[np.int64], nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Keys (origin, neighbor of node), sorted, each once."""
        self._require(np.unique(nodes))
        at = np.searchsorted(self._rows, nodes)
        first, counts = self._start[at], self._start[at + 1] - self._start[at]
        inner = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        columns = self._columns[np.repeat(first, counts) + inner]
        return np.unique(np.repeat(origin, counts) * self._section.n_obs + columns)

    def _require(self, rows: NDArray[np.int64]) -> None:
        new = np.setdiff1d(rows, self._rows, assume_unique=True)
        if new.size == 0:
            return
        counts, columns = self._search(new)
        merged = np.concatenate([self._rows, new])
        all_counts = np.concatenate([np.diff(self._start), counts])
        all_columns = np.concatenate([self._columns, columns])
        order = np.argsort(merged)
        starts = np.cumsum(all_counts) - all_counts
        sizes = all_counts[order]
        inner = np.arange(all_columns.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        self._rows = merged[order]
        self._columns = all_columns[np.repeat(starts[order], sizes) + inner]
        self._start = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])

    def _search(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First rings of ascending rows: their sizes, and all columns in order of the rows."""
        from ..search.nearest import ordered_d2  # brings numba: only where neighbors are computed

        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        starts = rows[np.concatenate([[0], breaks])]
        stops = rows[np.concatenate([breaks - 1, [rows.size - 1]])] + 1
        runs = list(zip(starts.tolist(), stops.tolist(), strict=True))
        table = ordered_d2(self._section, runs, self._scale.n_neighs)
        near = np.sqrt(table.d2) < self._scale.cutoff
        return np.count_nonzero(near, axis=1).astype(np.int64), table.row[near].astype(np.int64)
