"""A halo holds each cell of a section once, and nothing apart is within reach."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tisseract.atlas.errors import Corrupt
from tisseract.atlas.graph.search.certificate import box_to_boxes
from tisseract.atlas.graph.search.halo import PATCH_ROWS, Halo, read_patches, surround
from tisseract.atlas.quadtree import Runs, TileTable, tight_boxes

from .graph_fakes import FakeSection, cut_section, morton_order, quadtree_section


@dataclasses.dataclass
class BlockSection(FakeSection):
    """A section that also knows boxes of short row blocks, as the stored ones do."""

    block_rows: int = 256

    @property
    def blocks(self) -> TileTable:
        ptr = np.append(np.arange(0, self.n_obs, self.block_rows, dtype=np.int64), self.n_obs)
        return TileTable(ptr, tight_boxes(self.xy, ptr))


class ReadBlockSection(FakeSection):
    """One whose boxes of row blocks are read when needed."""

    block_rows = 100

    def block_bounds(self, runs: Runs) -> NDArray[np.float64]:
        ptr = np.append(np.arange(0, self.n_obs, self.block_rows, dtype=np.int64), self.n_obs)
        boxes = tight_boxes(self.xy, ptr)
        return np.concatenate([boxes[start:stop] for start, stop in runs])


def make_points(n: int, seed: int, spread: float) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    xy = rng.random((n, 2)) ** spread * 100.0
    return xy[morton_order(xy)]


def assert_divided(section: FakeSection, halo: Halo) -> None:
    """Every cell once, with its position, inside the box that speaks for it."""
    apart = [np.arange(start, stop) for start, stop in halo.apart.runs()]
    rows = np.concatenate([halo.own.rows(), halo.band.rows(), *apart])
    np.testing.assert_array_equal(np.sort(rows), np.arange(section.n_obs))
    for patches in (halo.own, halo.band):
        np.testing.assert_array_equal(patches.xy, section.xy[patches.rows()])
        assert (np.diff(patches.ptr) > 0).all()
        assert (np.diff(patches.ptr) <= PATCH_ROWS).all()
        if len(patches):
            np.testing.assert_array_equal(patches.boxes, tight_boxes(patches.xy, patches.ptr))
    for box, start, stop in zip(halo.apart.boxes, halo.apart.start, halo.apart.stop, strict=True):
        xy = section.xy[start:stop]
        assert (xy >= box[:2]).all()
        assert (xy <= box[2:]).all()


def assert_reached(halo: Halo, reach: NDArray[np.float64]) -> None:
    """Nothing apart is within reach, and nothing of the band is out of it."""
    for box, far in zip(halo.own.boxes, reach, strict=True):
        assert (box_to_boxes(box, halo.apart.boxes) > far * far).all()
    for box in halo.band.boxes:
        assert (box_to_boxes(box, halo.own.boxes) <= reach * reach).any()


@given(
    n=st.integers(1, 2000),
    tile_cells=st.sampled_from([3, 64, 700]),
    runs=st.lists(st.tuples(st.integers(0, 1999), st.integers(0, 300)), max_size=5),
    blocks=st.sampled_from(["none", "kept", "read"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_a_halo_divides_the_section(
    n: int, tile_cells: int, runs: list[tuple[int, int]], blocks: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    section = quadtree_section(make_points(n, seed, float(rng.choice([1.0, 4.0]))), tile_cells)
    if blocks == "read":
        section = ReadBlockSection(section.xy, section.tiles)
    elif blocks == "kept":
        section = BlockSection(section.xy, section.tiles, block_rows=int(rng.choice([7, 64, 256])))
    checked: list[tuple[int, int]] = []
    end = 0
    for start, length in sorted(runs):
        if end <= start < n:
            checked.append((start, end := min(n, start + length)))
    own = read_patches(section, checked)
    reach = rng.random(len(own)) * rng.choice([0.1, 10.0, 300.0])
    halo = surround(section, own, reach)
    assert_divided(section, halo)
    assert_reached(halo, reach)
    chosen = rng.random(len(halo.apart)) < 0.3
    more = halo.load(section, chosen)
    assert_divided(section, more)
    assert len(more.apart) == np.count_nonzero(~chosen)


def test_no_rows_need_nothing() -> None:
    section = cut_section(make_points(50, 0, 1.0), [10, 30])
    halo = surround(section, read_patches(section, []), 5.0)
    assert_divided(section, halo)
    assert section.rows_read == 0


def test_a_reach_that_is_no_number_loads_nothing() -> None:
    section = quadtree_section(make_points(500, 1, 1.0), 64)
    own = read_patches(section, [(100, 200)])
    section.rows_read = 0
    halo = surround(section, own, np.nan)
    assert_divided(section, halo)
    assert len(halo.band) == section.rows_read == 0


def test_an_endless_reach_takes_in_everything() -> None:
    section = quadtree_section(make_points(3000, 1, 1.0), 256)
    halo = surround(section, read_patches(section, [(100, 200)]), np.inf)
    assert_divided(section, halo)
    assert len(halo.apart) == 0


def test_a_band_is_thin_and_little_is_read_for_it() -> None:
    xy = make_points(40_000, 3, 1.0)
    section = quadtree_section(xy, 1024)
    fine = BlockSection(section.xy, section.tiles, block_rows=128)
    rows = (int(section.tiles.ptr[16]), int(section.tiles.ptr[32]))
    halo = surround(fine, read_patches(fine, [rows]), 1.0)
    size = rows[1] - rows[0]
    assert halo.band.xy.shape[0] < 0.4 * size
    assert fine.rows_read < 1.6 * size


def test_positions_that_are_not_finite_are_refused() -> None:
    section = cut_section(make_points(50, 0, 1.0), [10, 30])
    section.xy[20] = np.inf
    with pytest.raises(Corrupt, match="finite positions"):
        surround(section, read_patches(section, [(0, 5)]), 300.0)


def test_a_far_cell_does_not_widen_its_neighbors() -> None:
    xy = make_points(4000, 5, 1.0)
    xy[1000] = 1e6  # its row stays where it was, as if the curve jumped there and back
    section = cut_section(xy, [2000])
    own = read_patches(section, [(0, 2000)])
    wide = (own.boxes[:, 2:] - own.boxes[:, :2]).max(axis=1) > 1e5
    assert np.diff(own.ptr)[wide].sum() < 16


def test_a_jump_of_the_curve_ends_a_patch() -> None:
    rng = np.random.default_rng(0)
    xy = np.concatenate([rng.random((32, 2)), rng.random((32, 2)) + 100.0])
    own = read_patches(cut_section(xy, []), [(0, 64)])
    assert (own.boxes[:, 2:] - own.boxes[:, :2]).max() < 1.0
