"""Pitch of spot lattices, from perfect to jittered and torn, and where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.graph.lattices.scale import measure_lattice
from tisseract.atlas.lattice import fit_lattice
from tisseract.atlas.quadtree import Runs

from .graph_fakes import brute_force, morton_order, quadtree_section


def lattice(kind: Any, n: int, pitch: float = 1.0, angle: float = 0.0) -> Any:
    row, col = np.divmod(np.arange(n * n), n)
    if kind == "hexagonal":
        xy = np.column_stack([col + 0.5 * (row % 2), row * np.sqrt(3) / 2])
    else:
        xy = np.column_stack([col, row]).astype(float)
    c, s = np.cos(angle), np.sin(angle)
    return pitch * xy @ np.asarray([[c, s], [-s, c]])


@given(
    kind=st.sampled_from(["hexagonal", "square"]),
    pitch=st.floats(1e-3, 1e4),
    angle=st.floats(0, 6.3),
    seed=st.integers(0, 99),
    missing=st.floats(0, 0.5),
    jitter=st.floats(0, 0.04),
)
@settings(max_examples=60, deadline=None)
def test_pitch_is_found_whatever_the_pose(
    kind: Any, pitch: float, angle: float, seed: int, missing: float, jitter: float
) -> None:
    rng = np.random.default_rng(seed)
    xy = lattice(kind, 20, pitch, angle)
    xy += rng.normal(0, jitter * pitch, xy.shape)
    fit = fit_lattice(xy[rng.random(len(xy)) >= missing])
    assert fit.kind == kind
    assert fit.pitch == pytest.approx(pitch, rel=1e-9 if jitter == 0 else 0.015)


def test_nearest_neighbors_alone_would_be_biased() -> None:
    rng = np.random.default_rng(0)
    xy = lattice("square", 30, 200.0) + rng.normal(0, 8, (900, 2))
    nearest = np.median(cKDTree(xy).query(xy, k=2)[0][:, 1])
    assert nearest < 0.97 * 200
    assert fit_lattice(xy).pitch == pytest.approx(200, rel=0.01)


def test_two_pieces_of_tissue_and_repeated_spots_do_no_harm() -> None:
    xy = lattice("hexagonal", 15, 137.0)
    both = np.vstack([xy, xy + np.asarray([9e3, 4e3]), xy[:50]])
    assert fit_lattice(both).pitch == pytest.approx(137.0)


def test_cells_have_no_lattice() -> None:
    for seed in range(10):
        with pytest.raises(InvalidArgument, match="number, or 'unknown'"):
            fit_lattice(np.random.default_rng(seed).random((500, 2)))


def test_too_few_spots() -> None:
    with pytest.raises(InvalidArgument, match="at least 12 spots"):
        fit_lattice(np.zeros((50, 2)))


def test_large_sections_are_cropped_not_thinned() -> None:
    assert fit_lattice(lattice("square", 60, 2.0), max_points=500).pitch == pytest.approx(2.0)


@given(
    kind=st.sampled_from(["hex", "square"]),
    n=st.integers(1, 18),
    jitter=st.sampled_from([0.0, 0.03]),
    rows=st.integers(1, 400),
    tile_cells=st.sampled_from([8, 64]),
)
@settings(max_examples=40, deadline=None)
def test_the_scale_is_squidpys_median_whatever_the_blocks(
    kind: Any, n: int, jitter: float, rows: int, tile_cells: int
) -> None:
    xy = lattice("hexagonal" if kind == "hex" else kind, n, 100.0, 0.3)
    xy += np.random.default_rng(n).normal(0, jitter * 100, xy.shape)
    section = quadtree_section(xy[morton_order(xy)], tile_cells)
    blocks: list[Runs] = [[(a, min(n * n, a + rows))] for a in range(0, n * n, rows)]
    passes = 0

    def run(function: Any, parts: Any) -> Any:
        nonlocal passes
        passes += 1
        return [function(part) for part in reversed(parts)]

    scale = measure_lattice(section, kind, blocks, run)
    k = 6 if kind == "hex" else 4
    expected = np.median(np.sqrt(brute_force(section.xy, k)[1])) if n > 1 else 0.0
    assert scale.median == expected
    assert passes == 1  # so few distances are told apart at once
    if n > 8:
        assert measure_lattice(section, "auto", blocks, run) == scale


@pytest.mark.real
@pytest.mark.parametrize("name", ["A1", "A4", "B2", "C6", "D3"])
def test_pitch_agrees_with_the_array_coordinates(real_data: Path, name: str) -> None:
    with h5py.File(real_data / "her2st" / f"{name}.h5ad") as file:
        xy = file["obsm/spatial"][:].astype(float)
        columns = [file["obs"][key][:] for key in ("new_x", "new_y")]
    design = np.column_stack([*columns, np.ones(len(xy))])
    slope = np.linalg.lstsq(design, xy, rcond=None)[0][:2]
    truth = np.sqrt(abs(np.linalg.det(slope)))
    assert fit_lattice(xy).kind == "square"
    assert fit_lattice(xy).pitch == pytest.approx(truth, rel=0.01)


@pytest.mark.real
@pytest.mark.parametrize("name", ["dlpfc/151673", "breast_xenium_visium/visium"])
def test_visium_is_hexagonal(real_data: Path, name: str) -> None:
    with h5py.File(real_data / f"{name}.h5ad") as file:
        fit = fit_lattice(file["obsm/spatial"][:])
    assert fit.kind == "hexagonal"
    assert fit.order > 0.99
