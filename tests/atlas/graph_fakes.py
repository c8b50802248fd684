"""Sections in memory and the definition of kNN by brute force, for the tests of graphs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tisseract.atlas import morton
from tisseract.atlas.quadtree import Runs, TileTable, split, tight_boxes


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
        return self.xy.shape[0]

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


def brute_force(
    xy: NDArray[np.float64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
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
