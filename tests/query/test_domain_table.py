"""The table of domains and their markers, against pandas on loaded data."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import tisseract.handle
from tisseract.atlas.derived import Provenance, tile_histogram, write_derived
from tisseract.atlas.derived_read import read_domains
from tisseract.atlas.errors import BudgetExceeded, ColumnNotFound, InvalidArgument, SectionNotFound
from tisseract.atlas.snapshot import Change
from tisseract.atlas.store import AtlasStore
from tisseract.handle import Atlas
from tisseract.query.labels.area import BYTES_PER_CELL, domain_areas, square_side

from ..sections import make_raw, make_store

SECTIONS = ("a1", "a2", "b", "unknown")
K = 4


def label(store: AtlasStore, name: str, codes: NDArray[np.int16], key: str = "dom") -> None:
    section = store.section(name)
    confidence = np.random.default_rng(9).random(section.n_obs).astype(np.float32)
    entry = write_derived(
        store,
        "domains",
        key,
        name,
        arrays={
            "codes": codes,
            "confidence": confidence,
            "tile_hist": tile_histogram(codes, section.tiles.ptr, K),
        },
        attrs={"categories": [str(k) for k in range(K)]},
        provenance=Provenance({f"section:{name}": section.attempt}, {}),
        info={"categories": [str(k) for k in range(K)]},
    )
    store.commit(Change(add_derived=[entry]), f"label {name}")


def labeled(folder: Path) -> Atlas:
    """Four sections, two of one donor, one of unknown unit; the last domain is in it alone."""
    raws = {
        name: make_raw(
            n_obs=200 + 30 * i,
            n_vars=14,
            seed=i,
            genes=[f"Gene{k}" for k in range(2 * i, 2 * i + 14)],
            um_per_unit=None if name == "unknown" else 1.0,
            metadata={"donor": name[0], "timepoint": f"E{10 - i}"},
        )
        for i, name in enumerate(SECTIONS)
    }
    store = make_store(folder, raws)
    for i, name in enumerate(SECTIONS):
        section = store.section(name)
        codes = (section.positions()[:, 0] // 334).astype(np.int16)
        codes[np.random.default_rng(i).random(section.n_obs) < 0.1] = -1
        if name == "unknown":
            codes[:40] = 3
        label(store, name, codes)
    return tisseract.handle.open(store.url)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    return labeled(tmp_path_factory.mktemp("table"))


@pytest.fixture(scope="module")
def cells(atlas: Atlas) -> pd.DataFrame:
    parts = []
    for name in SECTIONS:
        found = read_domains(atlas, "dom", name)
        obs = atlas.section(name).obs(columns=["layer"], index=False)
        parts.append(
            pd.DataFrame(
                {
                    "section": name,
                    "code": found.codes,
                    "confidence": found.confidence,
                    "layer": obs["layer"].astype(object),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_cells_sections_and_confidence_equal_pandas(atlas: Atlas, cells: pd.DataFrame) -> None:
    table = atlas.domains("dom").table(markers=0)
    known = cells[cells["code"] >= 0]
    groups = known.groupby("code")
    assert table.index.tolist() == ["0", "1", "2", "3"]
    assert table["n_cells"].tolist() == groups.size().tolist()
    np.testing.assert_allclose(table["fraction"], groups.size() / len(known))
    np.testing.assert_allclose(table["mean_confidence"], groups["confidence"].mean(), rtol=1e-5)
    assert table["n_sections"].tolist() == groups["section"].nunique().tolist()
    assert table.loc["3", "sections"] == "unknown"
    assert table.loc["0", "sections"] == "a1, a2, b, unknown"
    assert "markers" not in table


def test_composition_equals_pandas(atlas: Atlas, cells: pd.DataFrame) -> None:
    table = atlas.domains("dom").table(by="layer", markers=0)
    known = cells[cells["code"] >= 0]
    expected = pd.crosstab(known["code"], known["layer"].fillna("(none)"), normalize="index")
    for value in expected.columns:
        np.testing.assert_allclose(table[f"layer: {value}"], expected[value], err_msg=value)
    shares = table.filter(like="layer: ")
    assert shares.columns[-1] == "layer: (none)"
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)


def test_composition_by_metadata_keeps_its_order(atlas: Atlas) -> None:
    table = atlas.domains("dom").table(by="donor", markers=0)
    shares = table.filter(like="donor: ")
    assert shares.columns.tolist() == ["donor: a", "donor: b", "donor: u"]
    assert table.loc["3", "donor: u"] == 1.0


def test_areas_add_up_and_are_unknown_with_the_unit(atlas: Atlas) -> None:
    table = atlas.domains("dom").table(markers=0)
    assert table["area_um2"].isna().all()  # every domain is in the section of unknown unit, too
    section = atlas.section("a1")
    codes = read_domains(atlas, "dom", "a1").codes
    parts = domain_areas(section, codes, K)
    everything = domain_areas(section, np.zeros_like(codes), 1)[0]
    nothing = domain_areas(section, np.where(codes < 0, 0, -1).astype(np.int16), 1)[0]
    np.testing.assert_allclose(parts.sum() + nothing, everything)
    assert parts[3] == 0.0


def test_areas_of_known_tissue(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    # a rectangle of 400 x 200 um, crowded on its left half, and an island far away
    left, right = rng.random((3000, 2)) * 200, rng.random((3000, 2)) * 200 + [200, 0]
    island = rng.random((1000, 2)) * 50 + [2000, 2000]
    positions = np.vstack([left, right, island])
    store = make_store(tmp_path, {"s": make_raw(positions=positions, n_vars=3, um_per_unit=1.0)})
    section = store.section("s")
    xy = section.positions()
    codes = ((xy[:, 0] >= 200).astype(np.int16) + (xy[:, 0] > 1000)).astype(np.int16)
    found = domain_areas(section, codes, 3)
    np.testing.assert_allclose(found[:2], 200 * 200, rtol=0.1)
    np.testing.assert_allclose(found[2], 50 * 50, rtol=0.35)
    assert np.isnan(square_side(positions[:3]))
    assert np.isnan(square_side(np.ones((9, 2))))
    side = square_side(positions)
    coarse, fine = (
        len(np.unique(np.floor((positions - positions.min(axis=0)) / s), axis=0))
        for s in (side, side / np.sqrt(2))
    )
    assert len(positions) / fine < 4 <= len(positions) / coarse


def test_cells_that_share_a_position_do_not_shrink_areas(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plane = rng.random((2000, 2)) * 400
    centers = np.stack(np.meshgrid(np.arange(10.0), np.arange(10.0)), -1).reshape(-1, 2) * 40
    raws = {
        "one": make_raw(positions=plane, n_vars=3, um_per_unit=1.0),
        "planes": make_raw(positions=np.tile(plane, (12, 1)), n_vars=3, um_per_unit=1.0),
        "fields": make_raw(positions=np.repeat(centers, 50, axis=0), n_vars=3, um_per_unit=1.0),
    }
    store = make_store(tmp_path, raws)
    found = {}
    for name in raws:
        codes = np.zeros(store.section(name).n_obs, dtype=np.int16)
        (found[name],) = domain_areas(store.section(name), codes, 1)
    np.testing.assert_allclose(found["planes"], found["one"], rtol=1e-9)
    np.testing.assert_allclose([found["one"], found["fields"]], 400 * 400, rtol=0.2)


@pytest.mark.parametrize("shape", ["random", "lattice", "stacked"])
def test_areas_take_the_memory_that_is_planned(tmp_path: Path, shape: str) -> None:
    n = 60_000
    positions = np.random.default_rng(0).random((n, 2)) * 4000
    if shape == "lattice":
        positions = np.floor(positions / 20) * 20
    elif shape == "stacked":
        positions[n // 2 :] = positions[: n // 2]
    raw = make_raw(positions=positions, n_vars=3, um_per_unit=1.0)
    section = make_store(tmp_path, {"s": raw}).section("s")
    codes = np.zeros(n, dtype=np.int16)
    domain_areas(section, codes, 1)
    tracemalloc.start()
    try:
        domain_areas(section, codes, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < BYTES_PER_CELL * n + 2**20, peak / n


def expected_folds(atlas: Atlas, name: str) -> pd.DataFrame:
    """Log2 folds of one section from dense counts, domains x genes."""
    section = atlas.section(name)
    codes = read_domains(atlas, "dom", name).codes
    counts = pd.DataFrame(section.counts().toarray().astype(float), columns=section.panel.gene_id)
    counts = counts[codes >= 0]
    codes = codes[codes >= 0]
    rows: dict[str, Any] = {}
    for code in range(K):
        inside, outside = counts[codes == code], counts[codes != code]
        if min(len(inside), len(outside)) >= 10:
            a = inside.sum() / inside.to_numpy().sum() * 1e4
            b = outside.sum() / outside.to_numpy().sum() * 1e4
            rows[str(code)] = np.log2((a + 1) / (b + 1))
    return pd.DataFrame(rows).T


@pytest.mark.parametrize("replicate", [None, "section"])
def test_markers_equal_folds_of_pseudobulks(atlas: Atlas, replicate: str | None) -> None:
    folds = {name: expected_folds(atlas, name) for name in SECTIONS}
    if replicate is None:  # the two sections of donor a count once
        both = pd.concat([folds.pop("a1"), folds.pop("a2")])
        folds["a"] = both.groupby(level=0).mean()
    found = atlas.domains("dom").markers(100, replicate=replicate)
    assert set(found["domain"]) == {"0", "1", "2", "3"}
    for row in found.to_dict("records"):
        domain, gene = str(row["domain"]), str(row["gene"])
        told = [f.loc[domain, gene] for f in folds.values() if domain in f.index and gene in f]
        values = np.array(told, dtype=float)
        values = values[~np.isnan(values)]
        assert row["n_units"] == len(values)
        assert row["n_up"] == (values > 0).sum() > len(values) / 2
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        np.testing.assert_allclose([row["log2_fold"], row["se"]], [values.mean(), error])
    for _, group in found.groupby("domain"):
        assert group["log2_fold"].is_monotonic_decreasing
    best = found.groupby("domain", sort=False)["gene"].agg(lambda genes: ", ".join(genes[:2]))
    table = atlas.domains("dom").table(markers=2, replicate=replicate)
    assert table["markers"].tolist() == best.tolist()


def test_blocks_of_rows_do_not_change_markers(
    atlas: Atlas, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = atlas.domains("dom").markers(4)
    monkeypatch.setattr("tisseract.query.labels.markers._MOST_ROWS", 37)
    monkeypatch.setattr("tisseract.query.labels.markers._FEWEST_ROWS", 7)
    pd.testing.assert_frame_equal(atlas.domains("dom").markers(4), whole)


@pytest.mark.parametrize("values", ["log1p", "normalized", "composition"])
def test_folds_of_values_that_are_no_counts(tmp_path: Path, values: str) -> None:
    rng = np.random.default_rng(3)
    dense = rng.random((120, 5)).astype(np.float32)
    dense[:60, 2] += 2.0
    dense /= dense.sum(axis=1, keepdims=True) if values == "composition" else 1.0
    x = np.where(np.arange(120) < 60, 10.0, 90.0)
    positions = np.column_stack([x + rng.random(120), rng.random(120) * 50])
    raw = make_raw(positions=positions, counts=dense, values=values, obs={})
    store = make_store(tmp_path, {"s": raw})
    section = store.section("s")
    label(store, "s", (section.positions()[:, 0] > 50).astype(np.int16))
    found = tisseract.handle.open(store.url).domains().markers(1)
    a, b = (dense[:60, 2].astype(float).mean(), dense[60:, 2].astype(float).mean())
    prior = 0.01 if values == "composition" else 1.0
    fold = (a - b) / np.log(2) if values == "log1p" else np.log2((a + prior) / (b + prior))
    first = found.iloc[0]
    assert (first["domain"], first["gene"], first["n_units"]) == ("0", "Gene2", 1)
    np.testing.assert_allclose(first["log2_fold"], fold, rtol=1e-5)


def test_what_cannot_be_asked_is_told(atlas: Atlas) -> None:
    view = atlas.domains("dom")
    with pytest.raises(InvalidArgument, match=r"area.*which holds numbers"):
        view.table(by="area")
    with pytest.raises(ColumnNotFound, match="layer"):
        view.table(by="layr")
    with pytest.raises(InvalidArgument, match="replicate='section' always works"):
        view.markers(replicate="patient")
    with pytest.raises(InvalidArgument, match="n=0"):
        view.markers(0)
    with pytest.raises(BudgetExceeded, match="areas of the domains"):
        view.table(memory_limit="10kB")
    with pytest.raises(BudgetExceeded, match="markers=0"):
        view.markers(memory_limit="10kB")


def test_whole_numbers_may_be_labels(tmp_path: Path) -> None:
    obs = {
        "leiden": np.arange(200) % 5,
        "row": np.arange(200),
        "depth": np.arange(200) * 100,
        "part": np.arange(200) / 2,
    }
    store = make_store(tmp_path, {"s": make_raw(n_obs=200, n_vars=3, obs=obs)})
    label(store, "s", (np.arange(200) % 2).astype(np.int16))
    view = tisseract.handle.open(store.url).domains("dom")
    shares = view.table(by="leiden", markers=0).filter(like="leiden: ")
    assert shares.columns.tolist() == [f"leiden: {k}" for k in range(5)]
    np.testing.assert_allclose(shares.loc[["0", "1"]].sum(axis=1), 1.0)
    for name in ("row", "depth", "part"):
        with pytest.raises(InvalidArgument, match=f"at most 64 whole numbers.*{name!r}"):
            view.table(by=name, markers=0)


def test_a_table_of_some_sections_is_that_of_an_atlas_of_them(atlas: Atlas) -> None:
    view = atlas.domains("dom")
    table = view.table(by="layer", markers=2, sections=["b", "a1"])
    assert table.loc["3", "n_cells"] == 0
    assert table.loc["0", "sections"] == "b, a1"
    np.testing.assert_allclose(table["fraction"].sum(), 1.0)
    both = [read_domains(atlas, "dom", name).codes for name in ("a1", "b")]
    assert table["n_cells"].sum() == sum(int((codes >= 0).sum()) for codes in both)
    with pytest.raises(SectionNotFound, match="labels 'dom' is wanted, but got 'a3'"):
        view.within(["a3"])
    with pytest.raises(InvalidArgument, match="got none"):
        view.table(sections=[])


def test_markers_of_one_unit_are_told_and_starred(
    atlas: Atlas, capsys: pytest.CaptureFixture[str]
) -> None:
    from tisseract.cli import main

    view = atlas.domains("dom")
    markers, single = view.markers(3), view.table(markers=3).attrs["markers_of_one_unit"]
    alone = markers[markers["n_units"] == 1]
    assert 0 < len(alone) < len(markers)
    assert sum(map(len, single.values())) == len(alone)
    assert main(["domain-table", atlas.url, "--key", "dom", "--markers", "3"]) == 0
    said = capsys.readouterr()
    assert said.out.count("*") == len(alone)
    assert f"{alone['gene'].iloc[0]}*" in said.out
    assert "* a marker in one section or donor alone" in said.err
    assert main(["domain-table", atlas.url, "--markers", "0", "--section", "a1"]) == 0
    said = capsys.readouterr()
    assert "*" not in said.out + said.err
    assert "unknown" not in said.out


def test_areas_are_those_of_the_outlines_whichever_cells_take_part(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 4000
    raw = make_raw(
        positions=rng.random((n, 2)) * 400,
        n_vars=3,
        obs={"qc_pass": rng.random(n) < 0.6},
        um_per_unit=1.0,
    )
    store = make_store(tmp_path, {"s": raw})
    section = store.section("s")
    label(store, "s", (section.positions()[:, 0] > 200).astype(np.int16))
    view = tisseract.handle.open(store.url).domains("dom")
    for all_cells in (False, True):
        table = view.table(markers=0, all_cells=all_cells)
        outlines = view.boundary("s", all_cells=all_cells)
        assert table.loc["0", "n_cells"] == outlines.loc["0", "n_cells"]
        areas = table.loc[["0", "1"], "area_um2"]
        np.testing.assert_allclose(areas, outlines["area"], rtol=0.08)
        np.testing.assert_allclose(areas, 200 * 400, rtol=0.1)
