"""The triangulation of some rows of a section, and of as much around them as their stars need."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InvalidArgument
from ..search.certificate import box_to_boxes
from ..search.halo import PATCH_ROWS, Apart, read_patches, read_positions, surround
from .certificate import certify, clearances, group_boxes
from .mesh import insert, resized
from .stars import joined_line, read_stars

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..edges import Edges, PositionSource
    from ..search.halo import Patches
    from .mesh import Triangulation

__all__ = ["Block", "in_rounds"]

# How far around each patch cells are taken in at first, in mean distances of its cells. Circles
# reach 2 such distances almost always; what they do not reach need not be triangulated.
_REACH = 3.5
# Points are inserted in rounds, every 1024th first: each round finds a triangulation of the whole
# block, so that none is ever long and thin where the curve has not been yet.
_ROUNDS = (1024, 256, 64, 16, 4)
# Rounds of loading after which more is taken in at a time: tissue needs 3 to 6.
_PATIENCE = 8
# Below this share of the greatest coordinate, products of four could underflow.
_LEAST = 2.0**-200


class Block:
    """The triangulation of some rows and of as much around them as their stars need."""

    def __init__(self, section: PositionSource, own: Patches) -> None:
        halo = surround(section, own, _reach(own))
        self._section = section
        self._per_unit = _power_of_two(section)
        self._own_boxes = own.boxes
        self._patch_rows = np.diff(own.ptr)
        self._n_own = own.xy.shape[0]
        self._apart = halo.apart
        self._shelf: dict[int, NDArray[np.float64]] = {}
        self._rows = np.zeros(1, np.int32)  # section row of each vertex; vertex 0 is at infinity
        self._mesh: Triangulation = resized(None, 0)
        xy = np.concatenate([own.xy, halo.band.xy])
        self._insert(xy, np.concatenate([own.rows(), halo.band.rows()]))

    def edges(self) -> Edges:
        """Insert what is missing until every star is certified, then read them off."""
        own = np.arange(1, self._n_own + 1, dtype=np.int32)
        open_, rounds = own, 0
        clear_d2 = np.repeat(self._clearances(), self._patch_rows)
        while len(self._apart) and open_.size:
            if self._mesh.counts[0] == 0:
                wanted = self._nearby()
            else:
                spread = 4.0 ** max(0, rounds - _PATIENCE)
                wanted, open_ = self._look(open_, clear_d2, spread)
            self._load(wanted)
            rounds += 1
        if self._mesh.counts[0] == 0:
            return joined_line(self._mesh, self._rows, self._n_own, 1.0 / self._per_unit)
        return read_stars(self._mesh, self._rows, self._n_own, 1.0 / self._per_unit)

    def _insert(self, xy: NDArray[np.float64], rows: NDArray[np.int32]) -> None:
        before = self._rows.size
        self._rows = np.concatenate([self._rows, rows])
        self._mesh = mesh = resized(self._mesh, self._rows.size - 1)
        scaled = xy * self._per_unit
        _refuse_underflow(scaled, self._section)
        mesh.x[before:], mesh.y[before:] = scaled[:, 0], scaled[:, 1]
        # While all points lie on one line there is nothing yet that points could be added to.
        first = before if mesh.counts[0] else 1
        insert(first + in_rounds(self._rows.size - first), mesh)

    def _clearances(self) -> NDArray[np.float64]:
        """Squared distance from each patch of own rows to the nearest box apart, scaled."""
        own, boxes = self._own_boxes * self._per_unit, self._apart.boxes * self._per_unit
        return np.asarray(clearances(own, boxes, group_boxes(boxes)))

    def _look(
        self, open_: NDArray[np.int32], clear_d2: NDArray[np.float64], spread: float
    ) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
        """Certify open vertices: what to load for those that stay open, and these."""
        mesh = self._mesh
        boxes = self._apart.boxes * self._per_unit
        wanted = np.zeros(boxes.shape[0], dtype=np.bool_)
        still = np.empty(open_.size, dtype=np.int32)
        twins = mesh.same_as[open_]
        vertices = np.where(twins == 0, open_, twins)
        groups = group_boxes(boxes)
        n = certify(vertices, clear_d2[open_ - 1], mesh, boxes, groups, spread, wanted, still)
        return wanted, open_[still[:n]]

    def _nearby(self) -> NDArray[np.bool_]:
        """Choose what to load while all cells at hand lie on one line: up to twice the nearest."""
        boxes = self._own_boxes
        own = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
        d2 = box_to_boxes(own, self._apart.boxes)
        return np.asarray(d2 <= 4.0 * d2.min())

    def _load(self, wanted: NDArray[np.bool_]) -> None:
        """Insert the patches wanted; read longer runs and shelve their patches, to be wanted."""
        apart = self._apart
        whole = wanted & (apart.stop - apart.start > PATCH_ROWS)
        small = wanted & ~whole
        parts = [apart.take(~wanted)]
        if whole.any():
            found = read_patches(self._section, apart.runs(whole))
            for i, row in enumerate(found.first_row.tolist()):
                self._shelf[row] = found.xy[found.ptr[i] : found.ptr[i + 1]]
            size = np.diff(found.ptr)
            parts.append(Apart(found.boxes, found.first_row, found.first_row + size))
        if small.any():
            runs = apart.runs(small)
            unread = [run for run in runs if run[0] not in self._shelf]
            if unread:
                xy = read_positions(self._section, unread)
                at = 0
                for start, stop in unread:
                    self._shelf[start] = xy[at : at + stop - start]
                    at += stop - start
            xy = np.concatenate([self._shelf.pop(start) for start, _ in runs])
            rows = np.concatenate([np.arange(*run, dtype=np.int32) for run in runs])
            self._insert(xy, rows)
        self._apart = Apart.concatenate(parts)


def _reach(own: Patches) -> NDArray[np.float64]:
    """How far around each patch to load at first."""
    width, height = own.boxes[:, 2] - own.boxes[:, 0], own.boxes[:, 3] - own.boxes[:, 1]
    n = np.diff(own.ptr)
    spacing = np.sqrt(width / n) * np.sqrt(height)
    return np.asarray(_REACH * np.maximum(spacing, np.maximum(width, height) / n))


def in_rounds(n: int) -> NDArray[np.int32]:
    """Order of insertion of n points that follow a space-filling curve."""
    last = np.full(n, len(_ROUNDS), dtype=np.int8)
    for i, step in reversed(list(enumerate(_ROUNDS))):
        last[::step] = i
    return np.argsort(last, kind="stable").astype(np.int32)


def _power_of_two(section: PositionSource) -> float:
    """Factor that brings the coordinates of a section below one without rounding them."""
    largest = float(np.abs(section.tiles.bounds).max(initial=0.0))
    return math.ldexp(1.0, min(-math.frexp(largest)[1], 1000))


def _refuse_underflow(scaled: NDArray[np.float64], section: PositionSource) -> None:
    """Refuse coordinates whose products of four could lose bits at the small end."""
    size = np.abs(scaled)
    bad = (size < _LEAST) & (size > 0.0)
    if bad.any():
        raise InvalidArgument(
            f"coordinates that are 0 or at least 6e-61 of the greatest are wanted, but got others "
            f"in section {section.name!r}; round its positions, or build kind='knn'"
        )
