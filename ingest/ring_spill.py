"""Boundaries of cells in row order, from rings that come in any order, in bounded memory.

Rings are sorted as they stream: a few megabytes at a time are put in row order and appended to one
scratch file as a *run*. A row group of the shapes file is then gathered from the stretch of it that
each run holds. Of several rings of a cell the largest is taken: a larger one that comes later is
appended too, and the last of a row counts. Beside that, memory is the row of each cell, the area of
its ring, and one entry for each row group that a run touches.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError
from ..atlas.shapes import RingGroup
from .cell_areas import ring_areas
from .ring_checks import (
    LEAST_VERTICES,
    MOST_VERTICES,
    kept_rings,
    largest_first,
    opened,
    ragged,
    sound_rings,
)

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from .source import Polygons, RingPiece, RingsSource

__all__ = ["RING_BYTES", "RingSpill", "pieces_of"]

RING_BYTES = 48 * 2**20
"""Most that sorting and writing boundaries takes beside arrays of one entry a cell; measured 35."""

_GROUP_ROWS = 1 << 13  # rows of a row group: what a region must decode for each of its edges
_GROUP_VERTICES = 1 << 18  # a row group ends before it has more, so that it fits in memory
_RUN_VERTICES = 1 << 18
_JUDGED = 1 << 16  # vertices looked at together
_CORNERS = 8
_ANGLES = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)
_OCTAGON = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
_PIECE_RINGS = 4096


@dataclass(slots=True)
class _Seen:
    """What was left out, counted."""

    foreign: int = 0
    repeated: int = 0
    unusable: int = 0


@dataclass(frozen=True, slots=True)
class _Run:
    """Rings of some rows, ascending, as they lie in the scratch file."""

    offset: int
    n_rings: int

    @property
    def vertices(self) -> int:
        """Where the vertices begin, after rows and counts."""
        return self.offset + 8 * self.n_rings


@dataclass(slots=True)
class _Stretches:
    """For each run and row group it touches: where the rings of the group begin in the run."""

    run: list[NDArray[np.int64]] = field(default_factory=list)
    group: list[NDArray[np.int64]] = field(default_factory=list)
    ring: list[NDArray[np.int64]] = field(default_factory=list)
    n_rings: list[NDArray[np.int64]] = field(default_factory=list)
    vertex: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, run: int, rows: NDArray[np.uint32], counts: NDArray[np.int64]) -> None:
        groups, first = np.unique(rows // _GROUP_ROWS, return_index=True)
        self.run.append(np.full(groups.size, run, np.int64))
        self.group.append(groups.astype(np.int64))
        self.ring.append(first.astype(np.int64))
        self.n_rings.append(np.diff(first, append=rows.size).astype(np.int64))
        self.vertex.append((np.cumsum(counts) - counts)[first])

    def sorted(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(k,) groups, ascending, and (k, 4) run, first ring, rings and first vertex of each."""
        if not self.run:
            return np.zeros(0, np.int64), np.zeros((0, 4), np.int64)
        group = np.concatenate(self.group)
        parts = (self.run, self.ring, self.n_rings, self.vertex)
        table = np.stack([np.concatenate(part) for part in parts], axis=1)
        order = np.argsort(group, kind="stable")
        return group[order], table[order]


class RingSpill:
    """Sorts rings into row order on disk; a context manager that removes its file.

    Parameters
    ----------
    path : Path
        Scratch file; must not exist. It takes 16 bytes a vertex and 8 a ring.
    order : (n,) uint32
        Source row of each row. Memory: 8 bytes a cell, and `RING_BYTES`.
    positions : (n, 2) float64
        Positions in stored units and source order.
    factors : (2,) float64
        What x and y of a ring are multiplied by to be in stored units.
    radius : float or (n,) float64
        Radius of the octagon for a cell without a ring, in stored units; by source row.
    """

    def __init__(
        self,
        path: Path,
        order: NDArray[np.uint32],
        positions: NDArray[np.float64],
        factors: NDArray[np.float64],
        radius: float | NDArray[np.float64],
    ) -> None:
        self._path, self._order, self._positions = path, order, positions
        self._factors = factors
        self._radius = np.broadcast_to(np.asarray(radius, np.float64), order.shape)
        self._rank = np.empty_like(order)
        self._rank[order] = np.arange(order.size, dtype=np.uint32)
        self._area = np.full(order.size, -1, np.float32)  # -1: no ring so far
        self._counted = _Seen()
        self._runs: list[_Run] = []
        self._stretches = _Stretches()
        self._held: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
        self._held_vertices = 0
        self._file = path.open("x+b", buffering=0)

    def __enter__(self) -> RingSpill:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def add(self, piece: RingPiece) -> None:
        """Take some rings; what is no boundary, or not the largest of a cell, is left out.

        Raises
        ------
        InputError
            A row outside the section, or counts that do not add up to the vertices.
        """
        self._check(piece)
        self._counted.repeated += piece.n_further
        ends = np.cumsum(piece.counts)
        start = 0
        while start < ends.size:
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + _JUDGED, side="right"))
            stop = min(max(stop, start + 1), start + _JUDGED, ends.size)
            vertices = piece.vertices[before : int(ends[stop - 1])]
            self._judge(piece.rows[start:stop], piece.counts[start:stop], vertices)
            start = stop

    def _check(self, piece: RingPiece) -> None:
        n = self._order.size
        rows, counts = piece.rows, piece.counts
        if rows.shape != counts.shape or (counts < 0).any():
            raise InputError(Fault("shapes", "expected a count of vertices for each boundary"))
        if piece.vertices.shape != (int(counts.sum()), 2):
            raise InputError(
                Fault(
                    "shapes",
                    f"expected ({int(counts.sum())}, 2) vertices, but got {piece.vertices.shape}",
                )
            )
        if rows.size and not -1 <= int(rows.min()) <= int(rows.max()) < n:
            raise InputError(
                Fault(
                    "shapes",
                    f"expected boundaries of rows -1..{n - 1}, but got "
                    f"{int(rows.min())}..{int(rows.max())}",
                )
            )

    def _judge(
        self, rows: NDArray[np.int64], counts: NDArray[np.int64], vertices: NDArray[np.float64]
    ) -> None:
        """Keep sound rings that are larger than those their cells have so far."""
        seen = self._counted
        ours = rows >= 0
        fits = ours & (counts >= LEAST_VERTICES) & (counts <= MOST_VERTICES)
        rows, counts, vertices = kept_rings(fits, rows, counts, vertices)
        counts, vertices = opened(counts, vertices)
        with np.errstate(over="ignore"):
            vertices = vertices * self._factors
        sound = sound_rings(counts, vertices, self._positions[rows])
        rows, counts, vertices = kept_rings(sound, rows, counts, vertices)
        seen.foreign += int(ours.size - ours.sum())
        seen.unusable += int(ours.sum()) - rows.size
        areas = ring_areas(vertices, counts).astype(np.float32)
        new = np.zeros(rows.size, np.bool_)
        new[largest_first(areas, rows)] = True
        new &= areas > self._area[rows]
        replaced = int((self._area[rows[new]] >= 0).sum())
        seen.repeated += int(new.size - new.sum()) + replaced
        self._area[rows[new]] = areas[new]
        rows, counts, vertices = kept_rings(new, rows, counts, vertices)
        if self._held and self._held_vertices + vertices.shape[0] > _RUN_VERTICES:
            self._flush()
        self._held.append((rows, counts, vertices))
        self._held_vertices += vertices.shape[0]

    def _flush(self) -> None:
        """Append what is held to the file as one run."""
        held, self._held, self._held_vertices = self._held, [], 0
        rows = np.concatenate([one for one, _, _ in held])
        counts = np.concatenate([one for _, one, _ in held])
        vertices = np.concatenate([one for _, _, one in held])
        del held
        if rows.size == 0:
            return
        ranks = self._rank[rows]
        by_row = np.argsort(ranks, kind="stable")
        by_row = by_row[np.append(np.diff(ranks[by_row]) != 0, True)]  # the last of each row
        ranks, sizes = ranks[by_row], counts[by_row]
        vertices = vertices[ragged((np.cumsum(counts) - counts)[by_row], sizes)]
        self._stretches.add(len(self._runs), ranks, sizes)
        self._runs.append(_Run(self._file.seek(0, os.SEEK_END), ranks.size))
        for part in (ranks, sizes.astype(np.uint32), vertices):
            _write_all(self._file, part)

    def notes(self) -> tuple[str, ...]:
        """Tell what was left out or made up; call it when all rings were added."""
        seen, n = self._counted, self._area.size
        without = int((self._area < 0).sum())
        lines = []
        if without:
            of_these = f", {seen.unusable} rings being none" if seen.unusable else ""
            lines.append(
                f"{without} of {n} cells have no usable boundary{of_these}: each is drawn as an "
                "octagon"
            )
        elif seen.unusable:
            lines.append(f"{seen.unusable} rings that are no boundary were left out")
        if seen.repeated:
            lines.append(
                f"{seen.repeated} further boundaries of cells that have several were left out: the "
                "largest of each is taken"
            )
        if seen.foreign:
            lines.append(f"{seen.foreign} boundaries of no cell of the section were left out")
        return tuple(lines)

    def groups(self) -> Iterator[RingGroup]:
        """Rings of all rows, in row order, at most 8,192 rows at a time."""
        if self._held:
            self._flush()
        groups, table = self._stretches.sorted()
        for number, first in enumerate(range(0, self._order.size, _GROUP_ROWS)):
            low, high = np.searchsorted(groups, [number, number + 1])
            stop = min(first + _GROUP_ROWS, self._order.size)
            yield from self._group(first, stop, table[low:high])

    def _group(self, first: int, stop: int, stretches: NDArray[np.int64]) -> Iterator[RingGroup]:
        """Rings of some rows; in several parts where they have many vertices."""
        sizes = np.zeros(stop - first, np.int64)
        last = np.full(stop - first, -1, np.int64)  # the stretch that holds the ring of each row
        found: list[tuple[int, NDArray[Any], NDArray[np.int64]]] = []
        for run, ring, n_rings, vertex in stretches.tolist():
            at = self._runs[run]
            local = self._read(at.offset + 4 * ring, np.dtype(np.uint32), n_rings) - first
            counts = self._read(
                at.offset + 4 * (at.n_rings + ring), np.dtype(np.uint32), n_rings
            ).astype(np.int64)
            sizes[local] = counts
            last[local] = len(found)
            found.append((at.vertices + 16 * vertex, local, counts))
        missing = sizes == 0
        sizes[missing] = _CORNERS
        ends = np.cumsum(sizes)
        start = 0
        while start < sizes.size:
            before = int(ends[start - 1]) if start else 0
            end = int(np.searchsorted(ends, before + _GROUP_VERTICES, side="right"))
            end = max(end, start + 1)
            yield self._part(first, start, end, sizes, missing, last, found)
            start = end

    def _part(  # noqa: PLR0917 - private, one caller
        self,
        first: int,
        start: int,
        stop: int,
        sizes: NDArray[np.int64],
        missing: NDArray[np.bool_],
        last: NDArray[np.int64],
        found: list[tuple[int, NDArray[Any], NDArray[np.int64]]],
    ) -> RingGroup:
        counts = sizes[start:stop]
        starts = np.cumsum(counts) - counts
        vertices = np.empty((int(counts.sum()), 2))
        for number, (offset, local, lengths) in enumerate(found):
            low, high = np.searchsorted(local, [start, stop])
            skipped, wanted = int(lengths[:low].sum()), int(lengths[low:high].sum())
            read = self._read(offset + 16 * skipped, np.dtype(np.float64), 2 * wanted)
            rows, own = local[low:high], lengths[low:high]
            rows, own, read = kept_rings(last[rows] == number, rows, own, read.reshape(-1, 2))
            vertices[ragged(starts[rows - start], own)] = read
        rows = self._order[first + start : first + stop]
        centers = self._positions[rows]
        alone = np.flatnonzero(missing[start:stop])
        corners = self._radius[rows[alone], None, None] * _OCTAGON
        at = starts[alone, None] + np.arange(_CORNERS)
        vertices[at] = centers[alone, None, :] + corners
        return RingGroup(vertices, counts, centers, missing[start:stop])

    def _read(self, offset: int, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        values = np.empty(count, dtype)
        into = memoryview(values).cast("B")
        self._file.seek(offset)
        while len(into):
            got = self._file.readinto(into)
            if not got:
                raise OSError(f"{self._path} ends before byte {offset}")
            into = into[got:]
        return values


def pieces_of(rings: Polygons | RingsSource) -> Iterator[RingPiece]:
    """Pieces of either kind of boundaries."""
    from .source import RingPiece, RingsSource

    if isinstance(rings, RingsSource):
        yield from rings.pieces()
        return
    n = rings.offsets.size - 1
    for start in range(0, n, _PIECE_RINGS):
        edges = rings.offsets[start : min(start + _PIECE_RINGS, n) + 1]
        rows = np.arange(start, start + edges.size - 1)
        yield RingPiece(rows, np.diff(edges), rings.vertices[edges[0] : edges[-1]])


def _write_all(file: Any, values: NDArray[Any]) -> None:
    """Write all bytes to an unbuffered file."""
    rest = memoryview(np.ascontiguousarray(values)).cast("B")
    while len(rest):
        rest = rest[file.write(rest) :]
