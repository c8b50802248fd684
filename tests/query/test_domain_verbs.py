"""Domains renamed, joined, divided, outlined, and compared, against pandas, shapely and squidpy."""

import shutil
import warnings
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from scipy.spatial import cKDTree

import tisseract as ts
from tisseract.atlas.derived import Provenance, tile_histogram, write_derived
from tisseract.atlas.errors import InvalidArgument, ReadOnly
from tisseract.atlas.snapshot import Change
from tisseract.atlas.store import AtlasStore
from tisseract.cli.app import main

from ..sections import make_raw, make_store

NAMES = ("0", "1", "2")
DONORS = ("a", "b", "c", "d", "e", "f")


def label(store: AtlasStore, section: str, codes: Any) -> None:
    opened = store.section(section)
    values = np.asarray(codes, np.int16)
    confidence = np.where(values >= 0, 0.5 + 0.1 * values, 0).astype(np.float32)
    entry = write_derived(
        store,
        "domains",
        "dom",
        section,
        arrays={
            "codes": values,
            "confidence": confidence,
            "tile_hist": tile_histogram(values, opened.tiles.ptr, len(NAMES)),
        },
        attrs={"categories": list(NAMES)},
        provenance=Provenance({f"section:{section}": opened.attempt}, {}),
        info={"categories": list(NAMES), "method": "plain", "n_domains": 3},
    )
    store.commit(Change(add_derived=[entry]), "label")


def make(folder: Path, n: int = 300) -> ts.Atlas:
    raws = {}
    for seed, donor in enumerate(DONORS):
        rng = np.random.default_rng(seed)
        raws[f"s{seed}"] = make_raw(
            positions=rng.random((n, 2)) * [400.0, 300.0],
            counts=rng.poisson(1.0, (n, 6)).astype(np.float32),
            obs={
                "kind": rng.choice(["x", "y", "z"], n).tolist(),
                "qc_pass": rng.random(n) < 0.9,
            },
            metadata={
                "section": f"s{seed}",
                "donor": donor,
                "timepoint": "late" if seed >= 3 else "early",
                "time_value": float(seed >= 3),
            },
        )
    store = make_store(folder, raws, tile_cells=64)
    for seed in range(len(DONORS)):
        x = store.section(f"s{seed}").positions()[:, 0]
        edge = 150 if seed < 3 else 260
        codes = np.where(x < edge, 0, np.where(x < 330, 1, 2))
        codes[np.random.default_rng(seed).random(n) < 0.05] = -1
        label(store, f"s{seed}", codes)
    return ts.open(store.url, read_only=False)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> ts.Atlas:
    """Not to be written to."""
    return make(tmp_path_factory.mktemp("still"))


@pytest.fixture
def atlas(still: ts.Atlas, tmp_path: Path) -> ts.Atlas:
    """A copy of its own."""
    return ts.open(shutil.copytree(still.url, tmp_path / "atlas"), read_only=False)


def labels(atlas: ts.Atlas, name: str) -> pd.Series:
    found: pd.Series = atlas.query().to_obs([name])[name].astype(object)
    return found.where(found.notna(), None)


def test_rename_keeps_cells_and_old_snapshots(atlas: ts.Atlas) -> None:
    before, old = ts.open(atlas.url, version=atlas.version), labels(atlas, "dom")
    view = atlas.domains("dom").rename({"0": "white matter"}, note="as in the book")
    assert view.names == ["white matter", "1", "2"]
    assert labels(atlas, "dom").equals(old.replace({"0": "white matter"}))
    assert labels(before, "dom").equals(old)
    told = view.provenance["parameters"]
    assert told["edit"] == "rename"
    assert told["note"] == "as in the book"
    assert told["from"]["key"] == "dom"
    assert atlas.query(domain="white matter").n_obs == (old == "0").sum()


def test_merge_under_a_new_key(atlas: ts.Atlas) -> None:
    old = labels(atlas, "dom")
    view = atlas.domains("dom").merge({"gray": ["0", "2"]}, key_added="tissue")
    assert view.names == ["gray", "1"]
    assert labels(atlas, "tissue").equals(old.replace({"0": "gray", "2": "gray"}))
    assert labels(atlas, "dom").equals(old)
    entry = atlas.derived("domains", "tissue", "s0")
    assert "domains/dom/s0" in entry.inputs
    assert entry.info["counts"]["gray"] == old[:300].isin(["0", "2"]).sum()
    kept = atlas.query().to_obs(["`confidence:tissue`".strip("`"), "confidence:dom"])
    pd.testing.assert_series_equal(
        kept["confidence:tissue"], kept["confidence:dom"], check_names=False
    )
    with pytest.raises(InvalidArgument, match="overwrite=True"):
        atlas.domains("dom").rename({}, key_added="tissue")


def test_split_by_labels_of_the_user(atlas: ts.Atlas) -> None:
    frame = atlas.query().to_obs(["kind", "dom"])
    mine = frame[["kind"]].rename(columns={"kind": "mine"})
    mine.loc[frame.index[::7], "mine"] = None
    atlas.annotate(mine)
    view = atlas.domains("dom").split("1", by="mine", key_added="finer")
    assert view.names == ["0", "1", "1: x", "1: y", "1: z", "2"]
    wanted = frame["dom"].astype(object)
    inside = (wanted == "1") & mine["mine"].notna()
    wanted[inside] = "1: " + mine["mine"].astype(str)[inside]
    assert labels(atlas, "finer").equals(wanted.where(wanted.notna(), None))
    assert "annotation/mine/s0" in atlas.derived("domains", "finer", "s0").inputs


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda v: v.rename({"9": "a"}), "got '9'"),
        (lambda v: v.rename({"0": "1"}), "would name several"),
        (lambda v: v.rename({"0": " "}), "text is wanted"),
        (lambda v: v.merge({"a": ["0", "1"], "b": ["1"]}), "is in two"),
        (lambda v: v.merge({"2": ["0", "1"]}), "names another domain"),
        (lambda v: v.split("0", by="timepoint"), None),
        (lambda v: v.split("0", by="section", key_added="../x"), "letters"),
        (lambda v: v.within(["s0"]).rename({"0": "a"}), "key_added="),
    ],
)
def test_edits_that_cannot_be(atlas: ts.Atlas, edit: Any, words: str | None) -> None:
    if words is None:
        assert len(edit(atlas.domains("dom")).names) == 4
        return
    with pytest.raises(InvalidArgument, match=words):
        edit(atlas.domains("dom"))


def test_edits_need_a_writable_atlas(still: ts.Atlas) -> None:
    with pytest.raises(ReadOnly):
        ts.open(still.url).domains("dom").rename({"0": "a"}, key_added="b")


def test_outlines_hold_their_cells_and_nothing_else(still: ts.Atlas) -> None:
    frame = still.domains("dom").boundary("s0", all_cells=True)
    points, names = still.section("s0").positions(), labels(still, "dom")[:300].to_numpy()
    assert frame["n_cells"].tolist() == [(names == name).sum() for name in frame.index]
    for name, outline in frame.geometry.items():
        assert outline.is_valid
        inside = shapely.contains_xy(outline, points)
        np.testing.assert_array_equal(inside, names == name)
    one, two = frame.geometry.iloc[:2]
    assert one.intersection(two).area < 1e-6 * one.area
    # any point of the tissue belongs to its nearest cell's domain
    rng = np.random.default_rng(0)
    anywhere = rng.random((2000, 2)) * [400, 300]
    nearest = names[cKDTree(points).query(anywhere)[1]]
    for name, outline in frame.geometry.items():
        inside = shapely.contains_xy(outline, anywhere)
        assert (nearest[inside] == name).all()
    assert "Polygon" in frame.to_json()


def test_outlines_do_not_depend_on_windows(
    still: ts.Atlas, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tisseract.query.labels import boundary

    whole = still.domains("dom").boundary("s1")
    monkeypatch.setattr(boundary, "_WINDOW_CELLS", 64)
    pieces = still.domains("dom").boundary("s1")
    for left, right in zip(whole.geometry, pieces.geometry, strict=True):
        assert left.symmetric_difference(right).area < 1e-5 * left.area
    assert len(labels(still, "dom")) == 1800
    assert whole["n_cells"].sum() == still.query("qc_pass and dom is not null", section="s1").n_obs


def test_a_ring_has_a_hole(tmp_path: Path) -> None:
    x, y = (part.ravel() * 10.0 for part in np.meshgrid(np.arange(20.0), np.arange(20.0)))
    store = make_store(tmp_path, {"s0": make_raw(positions=np.column_stack([x, y]))})
    at = store.section("s0").positions() - 95
    label(store, "s0", np.where(np.hypot(*at.T) < 50, 1, 0))
    frame = ts.open(store.url).domains("dom").boundary("s0")
    ring = shapely.get_parts(frame.geometry["0"])
    assert len(ring) == 1
    assert len(ring[0].interiors) == 1
    assert shapely.Polygon(ring[0].interiors[0]).area == pytest.approx(
        frame.loc["1", "area"], rel=1e-6
    )
    assert list(frame.index) == ["0", "1"]


@pytest.mark.slow  # squidpy takes seconds to import
def test_adjacency_equals_squidpy(atlas: ts.Atlas) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import squidpy as sq
    atlas.build_graphs("knn", n_neighs=4)
    table = atlas.domains("dom").adjacency(all_cells=True)
    total = np.zeros((3, 3))
    for name in atlas.section_names:
        loaded: Any = atlas.query(section=name).to_anndata(graph="spatial")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = loaded[loaded.obs["dom"].notna()].copy()
        loaded.obs["dom"] = pd.Categorical(loaded.obs["dom"], NAMES)
        key = next(key for key in loaded.obsp if "conn" in key)
        loaded.obsp["x_connectivities"] = (loaded.obsp[key] > 0).astype(float)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            total += sq.gr.interaction_matrix(
                loaded, "dom", connectivity_key="x_connectivities", copy=True
            )
    wide = table.pivot_table("observed", "domain", "neighbor").loc[list(NAMES), list(NAMES)]
    np.testing.assert_array_equal(wide.to_numpy(), total)
    ratio = table.set_index(["domain", "neighbor"])["ratio"]
    assert ratio["0", "0"] > 1 > ratio["0", "2"]


def test_adjacency_of_cells_that_pass(atlas: ts.Atlas) -> None:
    atlas.build_graphs("knn", n_neighs=4, where="qc_pass")
    own = atlas.domains("dom").adjacency()
    assert own.attrs["n_obs"] == atlas.query("qc_pass and dom is not null").n_obs
    pd.testing.assert_frame_equal(own, atlas.domains("dom").adjacency(all_cells=True))
    less = atlas.domains("dom").adjacency(where="kind == 'x'")
    assert 0 < less["observed"].sum() < own["observed"].sum()


def test_change_equals_an_exact_permutation(still: ts.Atlas) -> None:
    found = still.domains("dom").change("timepoint")
    cells = still.query("qc_pass").to_obs(["donor", "timepoint", "dom"])
    counts = cells.groupby(["donor", "dom"], observed=True).size().unstack(fill_value=0)
    values: Any = found.values.pivot_table("n", "donor", "domain", observed=True)
    np.testing.assert_array_equal(values.loc[list(DONORS), list(NAMES)], counts[list(NAMES)])
    log = np.log(counts[list(NAMES)].to_numpy() + 0.5)
    clr = log - log.mean(axis=1, keepdims=True)
    late = np.arange(6) >= 3
    wanted = clr[late].mean(axis=0) - clr[~late].mean(axis=0)
    np.testing.assert_allclose(found.tests["difference"], wanted)
    drawn = np.array(
        [
            clr[late[list(p)]].mean(axis=0) - clr[~late[list(p)]].mean(axis=0)
            for p in permutations(range(6))
        ]
    )
    p = (np.abs(drawn) >= np.abs(wanted) - 1e-12).mean(axis=0)
    np.testing.assert_allclose(found.tests["p"], p)
    assert found.smallest_p == pytest.approx(0.1)
    assert not found.paired
    assert found.tests["from"].unique().tolist() == ["early"]


def test_change_within_replicates_and_what_cannot_be(still: ts.Atlas) -> None:
    with pytest.raises(InvalidArgument, match="two or more values"):
        still.domains("dom").within(["s0", "s1"]).change("timepoint")
    with pytest.raises(InvalidArgument, match="another column"):
        still.domains("dom").change("donor")
    single = still.domains("dom").within(["s0", "s4"]).change("timepoint")
    assert single.tests["p"].isna().all()


def test_markers_and_composition_take_where(still: ts.Atlas) -> None:
    view = still.domains("dom")
    table = view.composition("section", where="kind == 'x'")
    wanted = still.query("kind == 'x' and dom is not null").n_obs
    assert table["n"].sum() == wanted
    assert view.composition()["n"].sum() == still.query("qc_pass and dom is not null").n_obs
    assert (
        view.table(markers=0, all_cells=True)["n_cells"].sum() == labels(still, "dom").notna().sum()
    )
    few = view.markers(2, where="kind == 'x'")
    assert not few.equals(view.markers(2, all_cells=True))
    one = view.markers(2, groups=["1"], where="kind == 'x'")
    pd.testing.assert_frame_equal(one, few[few["domain"] == "1"].reset_index(drop=True))
    with pytest.raises(InvalidArgument, match="got '9'"):
        view.markers(groups="9")


def test_cli(atlas: ts.Atlas, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*words: str) -> int:
        return main(["domains-edit", atlas.url, "--key", "dom", *words, "--run-json", "-"])

    assert call("--rename", "0=white matter", "--key-added", "named") == 0
    assert call("--merge", "gray=1,2", "--key-added", "two") == 0
    assert call("--split", "2", "--by", "kind", "--key-added", "three") == 0
    atlas.refresh()
    assert atlas.domains("named").names == ["white matter", "1", "2"]
    assert atlas.domains("two").names == ["0", "gray"]
    assert atlas.domains("three").names == ["0", "1", "2: x", "2: y", "2: z"]
    capsys.readouterr()
    assert call("--rename", "0=a", "--split", "2") == 2
    assert "one of" in capsys.readouterr().err
