"""Delaunay: our triangulation against Qhull on the same points, and what certificates cost.

Usage: python benchmarks/bench_delaunay.py [--cells 1000000]
First, points of four shapes in space-filling order, triangulated whole by both, CPU seconds of one
thread; "other" counts triangles that only one of them has. Then the same points as a section of
tiles, block by block: cells inserted and rows read for each cell of the section, rounds of loading
for each block. docs/decisions/004-delaunay.md quotes these figures.
"""

from __future__ import annotations

import argparse
import importlib
import time
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

TILE_CELLS, BLOCK_ROWS = 4096, 65_536


def make_points(shape: str, n: int) -> NDArray[np.float64]:
    """Points of a named shape."""
    rng = np.random.default_rng(0)
    if shape == "clusters":
        nests = rng.random((50, 2))[rng.integers(0, 50, n)]
        return np.asarray(nests + rng.normal(0, 0.02, (n, 2)), dtype=np.float64)
    if shape in ("lattice", "rotated"):
        side = int(np.sqrt(n))
        grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) * 1.0
        turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
        return np.asarray(grid if shape == "lattice" else grid @ turn, dtype=np.float64)
    return rng.random((n, 2))


def triangulate(xy: NDArray[np.float64]) -> NDArray[np.int64]:
    """Triangles of our triangulation of points in space-filling order."""
    from tisseract.atlas.graph.triangulation.block import in_rounds
    from tisseract.atlas.graph.triangulation.mesh import insert, resized

    mesh = resized(None, len(xy))
    mesh.x[1:], mesh.y[1:] = xy[:, 0], xy[:, 1]
    n = insert(1 + in_rounds(len(xy)), mesh)
    found = mesh.corners[:n].astype(np.int64) - 1
    return found[(found >= 0).all(axis=1)]


def keys(triangles: NDArray[Any], n: int) -> NDArray[np.int64]:
    """One number for each triangle, the same for the same corners."""
    corners = np.sort(triangles.astype(np.int64), axis=1)
    return np.unique((corners[:, 0] * n + corners[:, 1]) * n + corners[:, 2])


def compare(shape: str, xy: NDArray[np.float64]) -> None:
    from scipy.spatial import Delaunay

    start = time.process_time()
    ours = triangulate(xy)
    middle = time.process_time()
    theirs = Delaunay(xy).simplices
    end = time.process_time()
    n = len(xy)
    other = np.setxor1d(keys(ours, n), keys(theirs, n)).size if n < 2**21 else -1
    print(
        f"{shape:<9} ours {middle - start:6.2f} s   Qhull {end - middle:6.2f} s   "
        f"{(end - middle) / (middle - start):5.1f} x   other {other:,} of {len(ours):,}"
    )


class Points:
    """A section of points in memory; counts the rows read."""

    def __init__(self, xy: NDArray[np.float64], codes: NDArray[np.uint64]) -> None:
        from tisseract.atlas.quadtree import TileTable, split, tight_boxes

        leaves = split(codes, TILE_CELLS)
        self.tiles = TileTable(leaves.ptr, tight_boxes(xy, leaves.ptr))
        self.name, self.n_obs, self.rows_read = "points", len(xy), 0
        self._xy = xy

    def positions(self, runs: Any = None) -> NDArray[np.float64]:
        """Rows of some runs."""
        self.rows_read += sum(stop - start for start, stop in runs)
        return np.concatenate([self._xy[start:stop] for start, stop in runs])


def by_blocks(shape: str, section: Points) -> None:
    block: Any = importlib.import_module("tisseract.atlas.graph.triangulation.block")
    from tisseract.atlas.graph.triangulation.source import DelaunayEdges

    inserted: list[int] = []
    insert = block.insert

    def counted(order: Any, mesh: Any) -> int:
        inserted.append(len(order))
        return int(insert(order, mesh))

    block.insert = counted
    try:
        tiles = section.tiles.ptr
        first = np.searchsorted(tiles, np.arange(0, section.n_obs, BLOCK_ROWS))
        cuts = [*dict.fromkeys(tiles[first].tolist()), section.n_obs]
        source = DelaunayEdges(section)
        start = time.process_time()
        for rows in pairwise(dict.fromkeys(cuts)):
            source.edges([rows])
        seconds = time.process_time() - start
    finally:
        block.insert = insert
    n, blocks = section.n_obs, len(cuts) - 1
    print(
        f"{shape:<9} by blocks {seconds:6.2f} s   inserted {sum(inserted) / n:4.2f}   read "
        f"{section.rows_read / n:4.2f}   rounds a block {len(inserted) / blocks:4.1f}"
    )


def main() -> None:
    from tisseract.atlas import morton

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000)
    options = parser.parse_args()
    triangulate(make_points("uniform", 50))  # compiles, the first time on a machine
    by_blocks("warm up", section_of(make_points("uniform", 20_000), morton))
    for shape in ("uniform", "clusters", "lattice", "rotated"):
        section = section_of(make_points(shape, options.cells), morton)
        compare(shape, section.positions([(0, section.n_obs)]))
        section.rows_read = 0
        by_blocks(shape, section)


def section_of(xy: NDArray[np.float64], morton: Any) -> Points:
    """Section of points, put in space-filling order."""
    codes = morton.encode(xy, morton.Frame.around(xy))
    order = np.argsort(codes, kind="stable")
    return Points(xy[order], codes[order])


if __name__ == "__main__":
    main()
