"""Pruned, symmetric and restricted graphs of real tissue, block by block, against the whole."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tisseract.atlas.graph.edges import Edges
from tisseract.atlas.graph.lattices.source import LatticeEdges
from tisseract.atlas.graph.order_statistic import run_serially
from tisseract.atlas.graph.search.knn_source import KnnEdges
from tisseract.atlas.graph.wrapped.masked import Mask, MaskedEdges, MaskedSection
from tisseract.atlas.graph.wrapped.pruned import PrunedEdges
from tisseract.atlas.graph.wrapped.symmetric import SymmetricEdges

from .graph_fakes import FakeSection, cut_section, quadtree_section
from .test_graph_real import HEX, all_sections, read_sections

pytestmark = [pytest.mark.real, pytest.mark.slow]


def by_blocks(source: Any, section: FakeSection) -> Edges:
    """Prepare and compute in blocks of about a sixth of the section."""
    ptr = section.tiles.ptr.tolist()
    borders = sorted({*ptr[:: len(ptr) // 6 + 1], ptr[-1]})
    blocks = [[rows] for rows in pairwise(borders)]
    ready = source.prepare(blocks, run_serially)
    return Edges.concatenate([ready.edges(block) for block in blocks])


def structure(graph: csr_array) -> csr_array:
    """Ones wherever something is stored, zeros included."""
    return csr_array((np.ones(graph.nnz), graph.indices, graph.indptr), shape=graph.shape)


def check_percentile(section: FakeSection, whole: Edges) -> None:
    ours = by_blocks(PrunedEdges(KnnEdges(section, 6), percentile=98.5), section)
    kept = whole.distances <= np.percentile(whole.distances, 98.5)
    np.testing.assert_array_equal(ours.indices, whole.indices[kept])
    np.testing.assert_array_equal(ours.distances, whole.distances[kept])


def check_symmetric(source: Any, section: FakeSection, whole: Edges) -> None:
    ours = by_blocks(SymmetricEdges(source, section), section)
    one_way = structure(whole.to_csr(section.n_obs))
    both = csr_array(one_way + one_way.T)
    both.sort_indices()
    np.testing.assert_array_equal(ours.indptr, both.indptr)
    np.testing.assert_array_equal(ours.indices, both.indices)


def check_masked(section: FakeSection, keep: NDArray[np.bool_]) -> None:
    mask = Mask.of(keep)
    cells = MaskedSection(section, mask)
    ours = by_blocks(MaskedEdges(SymmetricEdges(KnnEdges(cells, 6), cells), mask), section)
    alone = cut_section(section.xy[keep], [])
    rows = [(0, alone.n_obs)]
    wanted = SymmetricEdges(KnnEdges(alone, 6), alone).prepare([rows], run_serially).edges(rows)
    names = np.flatnonzero(keep)
    np.testing.assert_array_equal(np.diff(ours.indptr)[keep], np.diff(wanted.indptr))
    assert not np.diff(ours.indptr)[~keep].any()
    np.testing.assert_array_equal(ours.indices, names[wanted.indices])
    np.testing.assert_array_equal(ours.distances, wanted.distances)


def test_every_section(real_data: Path) -> None:
    for xy in all_sections(real_data).values():
        section = quadtree_section(xy, 256)
        n = section.n_obs
        source = KnnEdges(section, 6)
        whole = source.edges([(0, n)])
        check_percentile(section, whole)
        check_symmetric(source, section, whole)
        # Seven tenths of the cells of one half: many tiles have no cell left.
        half = xy[:, 0] <= np.median(xy[:, 0])
        check_masked(section, half & (np.random.default_rng(n).random(n) < 0.7))


@pytest.mark.parametrize("n_rings", [1, 2])
def test_rings(real_data: Path, n_rings: int) -> None:
    (xy,) = read_sections(real_data / f"{HEX[1]}.h5ad", None).values()
    section = quadtree_section(xy, 128)
    source = LatticeEdges(section, "hex", n_rings)
    rows = [(0, section.n_obs)]
    whole = source.prepare([rows], run_serially).edges(rows)
    check_symmetric(source, section, whole)
