"""Sections in memory and the definition of kNN by brute force, for the tests of graphs."""

import uuid
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tisseract.atlas import morton
from tisseract.atlas.quadtree import Runs, TileTable, split, tight_boxes
from tisseract.atlas.snapshot import Change, SectionEntry
from tisseract.atlas.store import AtlasStore


@dataclass
class FakeSection:
    """As much of a section as graphs need; counts the rows that were read."""

    xy: NDArray[np.float64]
    tiles: TileTable
    name: str = "S1"
    attempt: str = "a" * 32
    um_per_unit: float | None = 1.0
    rows_read: int = 0

    @property
    def n_obs(self) -> int:
        return int(self.xy.shape[0])

    def positions(self, runs: Runs | None = None) -> NDArray[np.float64]:
        runs = [(0, self.n_obs)] if runs is None else runs
        self.rows_read += sum(stop - start for start, stop in runs)
        return np.concatenate([self.xy[start:stop] for start, stop in runs])


def morton_order(xy: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order of the rows of a section with these positions, ties by source row."""
    codes = morton.encode(xy, morton.Frame.around(xy))
    return np.argsort(codes, kind="stable")


def quadtree_section(xy: NDArray[np.float64], tile_cells: int) -> FakeSection:
    """Section of positions already in space-filling order, tiled as the store does it."""
    codes = morton.encode(xy, morton.Frame.around(xy))
    leaves = split(codes, tile_cells)
    return FakeSection(xy, TileTable(leaves.ptr, tight_boxes(xy, leaves.ptr)))


def cut_section(xy: NDArray[np.float64], cuts: list[int]) -> FakeSection:
    """Section cut into tiles anywhere: the certificate must not need squares."""
    ptr = np.unique(np.array([0, *cuts, xy.shape[0]], dtype=np.int64))
    return FakeSection(xy, TileTable(ptr, tight_boxes(xy, ptr)))


def brute_force(xy: NDArray[np.float64], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Neighbors by definition: the first k other rows under (d2, x, y, row); rows, then d2."""
    n = xy.shape[0]
    k = min(k, n - 1)
    rows, d2s = np.empty((n, k), np.int64), np.empty((n, k))
    for i in range(n):
        dx, dy = xy[:, 0] - xy[i, 0], xy[:, 1] - xy[i, 1]
        d2 = dx * dx + dy * dy
        order = np.lexsort((np.arange(n), xy[:, 1], xy[:, 0], d2))
        order = order[order != i][:k]
        rows[i], d2s[i] = order, d2[order]
    return rows, d2s


class FakeStore(AtlasStore):
    """A real store whose sections have positions alone, kept in memory."""

    shelf: ClassVar[dict[tuple[str, str], FakeSection]] = {}

    def section(self, name: str) -> Any:
        """Open a section as committed."""
        return self.shelf[name, self.snapshot.sections[name].attempt]


def put_section(store: FakeStore, section: FakeSection) -> None:
    """Commit a section under a new attempt, replacing one of the same name."""
    section.attempt = uuid.uuid4().hex
    store.shelf[section.name, section.attempt] = section
    entry = SectionEntry(
        section=section.name,
        attempt=section.attempt,
        digest="sha256:" + "0" * 64,
        n_obs=section.n_obs,
        n_vars=1,
        nnz=0,
        nbytes=0,
        n_tiles=len(section.tiles),
        tile_cells=4096,
        panel="0" * 64,
        values="counts",
        um_per_unit=section.um_per_unit,
        bounds=(0.0, 0.0, 1.0, 1.0),
        fingerprint=section.attempt,
    )
    store.commit(Change(add_sections=[entry], replace=True), f"section {section.name}")
