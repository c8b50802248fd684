"""The simulator: exact sizes, the same bytes for the same plan, a truth that neighbors can find."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.simulator import SimulationPlan, simulate
from tisseract.simulator.expression import COMPOSITION
from tisseract.simulator.tissue import DOMAINS, Tissue, permute


def read(path: Path) -> Any:
    """Read an h5ad file; `Any`, because anndata's X may be any of ten types."""
    return anndata.read_h5ad(path)


SMALL = SimulationPlan(n_cells=2_400, n_genes=60, block_cells=200)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return simulate(SMALL, tmp_path_factory.mktemp("simulation")).files


@given(st.integers(1, 5_000), st.integers(0, 2**31))
def test_permutation_is_one(n: int, key: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(n), n, key)), np.arange(n))


@given(
    st.integers(400, 10**9),
    st.integers(1, 4),
    st.lists(st.integers(8, 20), min_size=1, max_size=5, unique=True),
)
def test_cells_of_sections_add_up(n: int, embryos: int, days: list[int]) -> None:
    times = tuple(f"E{day}.5" for day in sorted(days))
    plan = SimulationPlan(
        n_cells=max(n, 100 * embryos * len(times)), timepoints=times, n_embryos=embryos
    )
    assert sum(section.n_cells for section in plan.sections) == plan.n_cells
    assert len({section.name for section in plan.sections}) == len(times) * embryos


def test_plan_lists_every_fault_at_once() -> None:
    with pytest.raises(ValueError, match=r"n_cells must be.*n_genes must be.*spacing_um must be"):
        SimulationPlan(n_cells=3, n_genes=2, spacing_um=0)
    with pytest.raises(ValueError, match="must ascend"):
        SimulationPlan(timepoints=("E12.5", "E11.5"))
    with pytest.raises(ValueError, match=r"must look like 'E11\.5'"):
        SimulationPlan(timepoints=("day 3",))


def test_plan_says_that_it_is_simulated() -> None:
    assert str(SMALL).startswith("SIMULATED")


def test_files_hold_what_the_plan_says(files: tuple[Path, ...]) -> None:
    for section, path in zip(SMALL.sections, files, strict=True):
        data = read(path)
        assert data.shape == (section.n_cells, SMALL.n_genes)
        assert data.obs_names.is_unique
        assert data.var_names.is_unique
        assert np.array_equal(data.X.data, np.round(data.X.data))
        assert data.X.data.min() >= 1
        assert np.isfinite(data.obsm["spatial"]).all()
        assert data.obsm["spatial"].min() > 0
        assert data.obs["simulated"].all()
        assert "SIMULATED" in data.uns["simulation"]["notice"]
        assert data.X.has_sorted_indices


def test_panels_differ_between_runs_and_share_the_rest(files: tuple[Path, ...]) -> None:
    panels = [set(read(path).var_names) for path in files]
    assert panels[0] == panels[2]
    assert len(panels[0] & panels[1]) == SMALL.shared < SMALL.n_genes
    symbols = [set(read(path).var["symbol"]) for path in files]
    for name in ("Niche01", "Clock01", "Grad01", "Plate01", "Glia01"):
        assert all(name in panel for panel in symbols), name


def test_same_plan_same_counts_and_another_seed_another(
    files: tuple[Path, ...], tmp_path: Path
) -> None:
    again = simulate(SMALL, tmp_path / "again").files
    other = simulate(replace(SMALL, seed=1), tmp_path / "other").files
    first = read(files[3])
    second, third = read(again[3]), read(other[3])
    assert (first.X != second.X).nnz == 0
    assert np.array_equal(first.obsm["spatial"], second.obsm["spatial"])
    assert not np.array_equal(first.obsm["spatial"], third.obsm["spatial"])


def test_two_orders_place_cells_on_the_same_sites() -> None:
    section = SMALL.sections[4]
    tissue = Tissue.of(SMALL, section)
    scan = np.arange(section.n_cells)
    rng = np.random.default_rng(0)
    sites = tissue.positions(scan, rng)
    nearest = np.sqrt(((sites[:, None] - sites[None]) ** 2).sum(-1) + np.eye(len(sites)) * 1e9)
    assert 5 < np.median(nearest.min(0)) < 10
    assert (nearest.min(0) > 0).all()


def test_domains_appear_over_time() -> None:
    seen = []
    for section in SMALL.sections[::2]:
        tissue = Tissue.of(SMALL, section)
        xy = tissue.positions(np.arange(section.n_cells), np.random.default_rng(0))
        seen.append({DOMAINS[code] for code in np.unique(tissue.domains(xy))})
    assert "niche" not in seen[0]
    assert all("niche" in names for names in seen[1:])
    assert seen[-1] == set(DOMAINS)
    assert len(seen[0]) < len(seen[1]) < len(seen[2])


def test_niche_grows_and_moves_inward() -> None:
    niches = [Tissue.of(SMALL, section).niche_normalized for section in SMALL.sections[2::2]]
    assert [n[0] for n in niches] == sorted((n[0] for n in niches), reverse=True)
    assert [n[2] for n in niches] == sorted(n[2] for n in niches)


def test_no_domain_is_one_cell_type() -> None:
    assert np.allclose(COMPOSITION.sum(axis=1), 1)
    assert COMPOSITION.max() < 0.6
    assert ((COMPOSITION > 0.05).sum(axis=1) >= 4).all()


def test_clock_genes_rise_only_after_depth_correction(tmp_path: Path) -> None:
    files = simulate(SimulationPlan(n_cells=4_000, depth_sd=0.0), tmp_path).files
    raw, corrected = [], []
    for path in (files[0], files[-2]):
        data = read(path)
        clock = np.asarray(data.var["symbol"].str.startswith("Clock"))
        totals = data.X.sum(axis=1)
        raw.append(data.X[:, clock].sum(axis=1).mean())
        corrected.append((data.X[:, clock].sum(axis=1) / totals).mean())
    assert corrected[1] > 1.8 * corrected[0]
    assert raw[1] < 1.2 * raw[0]


def test_sheet_has_one_row_a_section(files: tuple[Path, ...]) -> None:
    with (files[0].parent / "samples.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["sample"] for row in rows] == [section.name for section in SMALL.sections]
    assert {row["simulated"] for row in rows} == {"yes"}
    assert all((files[0].parent / row["data_path"]).is_file() for row in rows)


def test_refuses_to_overwrite(files: tuple[Path, ...]) -> None:
    with pytest.raises(ValueError, match="already holds"):
        simulate(SMALL, files[0].parent)


def test_a_failed_section_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tisseract.simulator.write._write_var", full)
    with pytest.raises(OSError, match="No space"):
        simulate(SMALL, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_benchmark_section_has_sixty_nonzeros_a_row(tmp_path: Path) -> None:
    result = simulate(SimulationPlan.benchmark(5_000), tmp_path)
    assert 55 < result.nnz / 5_000 < 65
    with h5py.File(result.files[0]) as file:
        assert file["X"].attrs["shape"].tolist() == [5_000, 300]
