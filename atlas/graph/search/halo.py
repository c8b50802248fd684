"""Rows of a section together with everything near them: what exact work on tiles starts from.

A *patch* is a run of at most 64 consecutive rows. Rows follow a space-filling curve, so a patch is
compact and its tight box says where its cells are. A halo divides the rows of a section in three:

- `own`: the rows asked for;
- `band`: patches whose box comes within a reach of some patch of `own`;
- `apart`: row runs that were not loaded, each with a box that holds all of its cells.

Which of them to read is planned from boxes the section stores: those of tiles, then those of its
row blocks where it has some. What was read is divided once more, patch by patch, so that a band
holds little more than what lies in reach. The promise that certificates build on: every box of
`apart` is farther than its reach from every patch of `own`, and every cell of the section is in
exactly one of the three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from ...errors import Corrupt
from ...quadtree import merge_runs
from .patch_kernels import TOGETHER, cut_jumps, mark_near, tight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...quadtree import Runs, TileTable
    from ...section import Section
    from ..edges import PositionSource

__all__ = [
    "PATCH_ROWS",
    "Apart",
    "BandPlan",
    "Halo",
    "Patches",
    "plan_band",
    "read_patches",
    "read_positions",
    "surround",
]

PATCH_ROWS = 64
"""Most rows of a patch: about 8 by 8 cells."""


@dataclass(frozen=True, slots=True)
class Patches:
    """Short row runs, with their positions and tight boxes; 16 bytes a row, 48 a patch."""

    xy: NDArray[np.float64]
    """(m, 2) positions, one patch after the other."""
    ptr: NDArray[np.int64]
    """(p + 1,) patch i holds positions ptr[i]:ptr[i + 1]."""
    first_row: NDArray[np.int64]
    """(p,) section row of the first cell of each patch; the others follow it."""
    boxes: NDArray[np.float64]
    """(p, 4) tight boxes: xmin, ymin, xmax, ymax."""

    def __len__(self) -> int:
        return self.first_row.size

    def rows(self) -> NDArray[np.int32]:
        """(m,) section rows."""
        shift = self.first_row - self.ptr[:-1]
        return (np.arange(self.xy.shape[0]) + np.repeat(shift, np.diff(self.ptr))).astype(np.int32)

    def take(self, kept: NDArray[np.bool_]) -> Patches:
        """Return some of the patches, in the same order."""
        if kept.all():
            return self
        sizes = np.diff(self.ptr)
        ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[kept])])
        xy = self.xy[np.repeat(kept, sizes)]
        return Patches(xy, ptr, self.first_row[kept], self.boxes[kept])

    @classmethod
    def concatenate(cls, parts: list[Patches]) -> Patches:
        """Put patches side by side."""
        sizes = np.concatenate([np.diff(part.ptr) for part in parts])
        return cls(
            np.concatenate([part.xy for part in parts]),
            np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]),
            np.concatenate([part.first_row for part in parts]),
            np.concatenate([part.boxes for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Apart:
    """Row runs whose cells were not loaded."""

    boxes: NDArray[np.float64]
    """(b, 4) boxes that hold the cells of each; tight, or rounded outwards."""
    start: NDArray[np.int64]
    """(b,) first row of each run."""
    stop: NDArray[np.int64]
    """(b,) end of each run."""

    def __len__(self) -> int:
        return self.start.size

    def runs(self, chosen: NDArray[np.bool_] | None = None) -> list[tuple[int, int]]:
        """Row runs of those chosen, or of all, ascending."""
        start, stop = self.start, self.stop
        if chosen is not None:
            start, stop = start[chosen], stop[chosen]
        order = np.argsort(start)
        return list(zip(start[order].tolist(), stop[order].tolist(), strict=True))

    def take(self, kept: NDArray[np.bool_]) -> Apart:
        """Return some of them, in the same order."""
        return Apart(self.boxes[kept], self.start[kept], self.stop[kept])

    @classmethod
    def concatenate(cls, parts: list[Apart]) -> Apart:
        """Put runs side by side."""
        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.start for part in parts]),
            np.concatenate([part.stop for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Halo:
    """Rows of a section, what was loaded around them, and where everything else is."""

    own: Patches
    """The rows asked for, in row order."""
    band: Patches
    """What was loaded around them."""
    apart: Apart
    """The rest of the section."""

    def load(self, section: PositionSource, chosen: NDArray[np.bool_]) -> Halo:
        """Return a halo whose band also holds some of what was apart.

        Parameters
        ----------
        section : PositionSource
            The section.
        chosen : (b,) bool
            Which runs of `apart` to load.
        """
        if not chosen.any():
            return self
        found = read_patches(section, self.apart.runs(chosen))
        return Halo(self.own, Patches.concatenate([self.band, found]), self.apart.take(~chosen))


def read_positions(section: PositionSource, runs: Runs) -> NDArray[np.float64]:
    """Read positions and refuse what no distance can be computed from.

    Raises
    ------
    Corrupt
        A position is not finite.
    """
    xy = np.ascontiguousarray(section.positions(runs), dtype=np.float64)
    if not xy.flags.writeable:  # another type to compiled code
        xy = xy.copy()
    # A sum is finite only if all of it is; the reverse may fail for huge numbers.
    if not np.isfinite(np.sum(np.abs(xy))) and not np.isfinite(xy).all():
        raise Corrupt(
            f"finite positions are wanted, but got others in section {section.name!r}; ingest "
            "it again"
        )
    return xy


def read_patches(section: PositionSource, runs: Runs) -> Patches:
    """Read rows and divide them into patches.

    Cuts lie at multiples of 64 rows, between tiles, and where the curve jumps.

    Parameters
    ----------
    section : PositionSource
        The section.
    runs : sequence of (int, int)
        Ascending, disjoint row runs.

    Raises
    ------
    Corrupt
        A position is not finite.
    """
    xy = read_positions(section, runs) if runs else np.empty((0, 2))
    starts, sizes = _cut(runs, section.tiles.ptr)
    ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    starts, ptr = cut_jumps(xy, starts, ptr)
    boxes = np.empty((starts.size, 4))
    tight(xy, ptr, boxes)
    return Patches(xy, ptr, starts, boxes)


def _cut(runs: Runs, tile_ptr: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First rows and sizes of the patches of row runs."""
    starts: list[NDArray[np.int64]] = []
    sizes: list[NDArray[np.int64]] = []
    for start, stop in runs:
        if stop <= start:
            continue
        first = np.arange(start // PATCH_ROWS * PATCH_ROWS, stop, PATCH_ROWS, dtype=np.int64)
        inner = tile_ptr[np.searchsorted(tile_ptr, start) : np.searchsorted(tile_ptr, stop)]
        first[0] = start
        first = np.union1d(first, inner) if inner.size else first
        starts.append(first)
        sizes.append(np.diff(first, append=stop))
    if not starts:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(starts), np.concatenate(sizes)


@dataclass(frozen=True, slots=True)
class BandPlan:
    """What to read around some rows, decided from stored boxes alone."""

    own: Patches
    """The rows."""
    reach_d2: NDArray[np.float64]
    """(p,) squared reach of each patch of `own`."""
    near: Apart
    """Row runs to read."""
    far: Apart
    """Row runs not to read."""

    @property
    def n_rows(self) -> int:
        """Rows to read; the band keeps those patches that are in reach."""
        return int((self.near.stop - self.near.start).sum())

    def load(self, section: PositionSource) -> Halo:
        """Read, and keep what is within reach."""
        read = read_patches(section, merge_runs(self.near.runs()))
        hit = _Near(self.own.boxes, self.reach_d2).of(read.boxes)
        start = read.first_row[~hit]
        left = Apart(read.boxes[~hit], start, start + np.diff(read.ptr)[~hit])
        return Halo(self.own, read.take(hit), Apart.concatenate([self.far, left]))


def plan_band(
    section: PositionSource, own: Patches, reach: float | NDArray[np.float64]
) -> BandPlan:
    """Decide what to read so that everything within reach is loaded; see `surround`.

    A reach that is no number (NaN) takes in nothing. Cost: 2 ns for each tile of the section and
    each group of 32 patches.
    """
    with np.errstate(over="ignore"):  # an infinite reach takes in everything
        reach_d2 = np.square(np.broadcast_to(np.asarray(reach, np.float64), (len(own),)))
    near = _Near(own.boxes, reach_d2)
    tiles = section.tiles
    hit = near.of(tiles.bounds)
    # Also where the reach is no number; rows of another section are negative.
    hit[tiles.owner(own.first_row[own.first_row >= 0])] = True
    far = Apart(tiles.bounds[~hit], tiles.ptr[:-1][~hit], tiles.ptr[1:][~hit])
    rest = _without(_units(section, tiles, np.flatnonzero(hit)), own)
    hit = near.of(rest.boxes)
    return BandPlan(own, reach_d2, rest.take(hit), Apart.concatenate([far, rest.take(~hit)]))


def surround(section: PositionSource, own: Patches, reach: float | NDArray[np.float64]) -> Halo:
    """Load what lies within reach of some rows.

    Parameters
    ----------
    section : PositionSource
        The section; read in whole row blocks (see `Section.blocks`) or, without those, whole
        tiles.
    own : Patches
        The rows; see `read_patches`.
    reach : float or (p,) float64
        How far to look around each patch, in the unit of the positions: every box left apart has
        ``box_to_boxes(own.boxes[i], box) > reach[i] * reach[i]`` in computed numbers.

    Returns
    -------
    Halo
        Memory: 16 bytes for each row read and 48 for each tile of the section.
    """
    return plan_band(section, own, reach).load(section)


def _units(section: PositionSource, tiles: TileTable, near: NDArray[np.int64]) -> Apart:
    """Row runs of some tiles, as finely as the section knows boxes of them."""
    table: TileTable | None = None
    ends = tiles.ptr[near], tiles.ptr[near + 1]
    rows = 0
    if hasattr(section, "block_bounds"):
        rows = cast("Section", section).block_rows
        first, last = ends[0] // rows, -(-ends[1] // rows)
    elif (table := getattr(section, "blocks", None)) is not None:
        first = np.searchsorted(table.ptr, ends[0], side="right") - 1
        last = np.searchsorted(table.ptr, ends[1], side="left")
    else:
        return Apart(tiles.bounds[near], *ends)
    count = last - first
    inner = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    at = np.repeat(first, count) + inner
    # A block may reach over the border of a tile: its box still holds the part inside.
    low, high = np.repeat(ends[0], count), np.repeat(ends[1], count)
    if table is not None:
        start, stop, bounds = table.ptr[at], table.ptr[at + 1], table.bounds[at]
    else:
        start, stop = at * rows, (at + 1) * rows
        bounds = _read_bounds(cast("Section", section), at)
    return Apart(bounds, np.maximum(start, low), np.minimum(stop, high))


def _read_bounds(section: Section, blocks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Read the boxes of some row blocks, ascending: all of them are too many to keep."""
    if blocks.size == 0:
        return np.empty((0, 4))
    each, back = np.unique(blocks, return_inverse=True)
    new = np.flatnonzero(np.diff(each, prepend=-2) != 1)
    last = np.append(new[1:], each.size) - 1
    runs = list(zip(each[new].tolist(), (each[last] + 1).tolist(), strict=True))
    return section.block_bounds(runs)[back]


def _without(units: Apart, own: Patches) -> Apart:
    """Cut the rows of `own` out of ascending, disjoint row runs."""
    if len(own) == 0:
        return units
    size = np.diff(own.ptr)
    new = np.flatnonzero(np.append(True, own.first_row[1:] != (own.first_row + size)[:-1]))
    ends = np.append(new[1:] - 1, len(own) - 1)
    own_start = own.first_row[new]
    own_stop = (own.first_row + size)[ends]
    # What lies between two own runs, for each unit: own runs a - 1 to b - 1 touch or precede it.
    a = np.searchsorted(own_stop, units.start, side="right")
    b = np.searchsorted(own_start, units.stop, side="left")
    count = b - a + 1
    inner = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    unit = np.repeat(np.arange(len(units)), count)
    gap = a[unit] + inner
    begin = np.concatenate([[0], own_stop])[gap]
    stop = np.append(own_start, np.iinfo(np.int64).max)[gap]
    start = np.maximum(units.start[unit], begin)
    stop = np.minimum(units.stop[unit], stop)
    kept = stop > start
    return Apart(units.boxes[unit[kept]], start[kept], stop[kept])


class _Near:
    """Which boxes come within reach of some patch."""

    def __init__(self, boxes: NDArray[np.float64], reach_d2: NDArray[np.float64]) -> None:
        at = np.arange(0, len(boxes), TOGETHER)
        self._boxes, self._reach_d2 = boxes, reach_d2
        self._groups = np.empty((at.size, 5))
        if at.size:
            self._groups[:, :2] = np.minimum.reduceat(boxes[:, :2], at, axis=0)
            self._groups[:, 2:4] = np.maximum.reduceat(boxes[:, 2:], at, axis=0)
            self._groups[:, 4] = np.maximum.reduceat(reach_d2, at)

    def of(self, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        hit = np.zeros(len(boxes), dtype=np.bool_)
        # A copy: compiled code knows read-only arrays as another type.
        copied = np.array(boxes, dtype=np.float64)
        mark_near(copied, self._boxes, self._reach_d2, self._groups, hit)
        return hit
