"""Which cells take part, and walking over them a block at a time."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..cells.rows import RunArray, as_runs, batches, count, pairs_of, runs_of
from ..expression.normalize import depth_of, log_normalize

if TYPE_CHECKING:
    import scipy.sparse as sp

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

BLOCK_CELLS = 8192
# Cells of which the nearest neighbor is looked up for the spacing of a section.
_SPACING_TILES = 16


def taking_part(
    store: "AtlasStore", section: "Section", where: str | None, *, all_cells: bool = False
) -> RunArray:
    """Rows of a section that take part.

    Without a filter: those that pass quality control; see `runs_taking_part`.
    """
    from ..labels.taking_part import runs_taking_part

    runs = runs_taking_part(store, [section.name], where, all_cells=all_cells)
    whole = as_runs([(0, section.n_obs)])
    return whole if runs is None else runs.get(section.name, as_runs([]))


def blocks(runs: RunArray) -> Iterator[RunArray]:
    """Cut rows into blocks of at most 8,192."""
    return batches(runs, BLOCK_CELLS) if count(runs) else iter(())


def evenly(runs: RunArray, n: int) -> RunArray:
    """At most n of the rows, in stretches of 64 neighbors spread evenly over them.

    >>> evenly(as_runs([(0, 300)]), 128).tolist()
    [[0, 64], [150, 214]]
    """
    total = count(runs)
    stretch = 64
    if total <= n:
        return runs
    starts = np.arange(max(1, n // stretch)) * total // max(1, n // stretch)
    # counted over the rows themselves: an example may be all single rows
    ordinal = (starts[:, None] + np.arange(min(stretch, n))).ravel()
    lengths = runs[:, 1] - runs[:, 0]
    ends = np.cumsum(lengths)
    run = np.searchsorted(ends, ordinal, side="right")
    return runs_of(runs[run, 0] + ordinal - (ends[run] - lengths[run]))


def log_values(
    section: "Section", runs: RunArray, genes: NDArray[np.int64] | None
) -> "sp.csr_array":
    """Log-normalized values of some rows and genes, (m, g) float32; compositions as they are."""
    import scipy.sparse as sp

    matrix = sp.csr_array(section.counts(pairs_of(runs), genes=genes))
    if section.values == "composition":
        return matrix
    return log_normalize(matrix, section.values, depth_of(section, runs))


def spacing(section: "Section") -> float:
    """Median distance of a cell to the nearest other one, in the unit of the positions.

    Taken over at most 16 tiles spread over the section; each tile by itself, so that cells at its
    rim count a little too far.
    """
    from scipy.spatial import cKDTree

    ptr = np.asarray(section.tiles.ptr)
    tiles = np.unique(np.linspace(0, len(ptr) - 2, _SPACING_TILES).astype(int))
    found = []
    for tile in tiles.tolist():
        points = np.unique(section.positions([(int(ptr[tile]), int(ptr[tile + 1]))]), axis=0)
        if len(points) > 1:
            found.append(cKDTree(points).query(points, 2)[0][:, 1])
    if not found:
        raise InvalidArgument(
            f"cells at two places are wanted in section {section.name!r}, but got all at one; "
            "leave it out with sections=, or give window_um="
        )
    return float(np.median(np.concatenate(found)))
