"""Similar tissue against brute force over cells that are fully loaded."""

import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import tisseract as ts
from tisseract.atlas.derived import Provenance, write_derived
from tisseract.atlas.errors import (
    Corrupt,
    DerivedNotFound,
    GeneNotFound,
    InvalidArgument,
    ReadOnly,
    StaleDerived,
    UnitUnknown,
)
from tisseract.atlas.snapshot import Change
from tisseract.query.retrieval.cells import evenly
from tisseract.query.retrieval.opened import open_index
from tisseract.query.retrieval.windows import Layout, WindowGrid, apart, decode, encode

from ..sections import add_section, make_raw

SIDE = 200.0
NAMES = ("s1", "s2", "s3")


@dataclass(frozen=True)
class Tissue:
    """Three sections in which left, middle and right differ, each read whole."""

    folder: Path
    values: dict[str, NDArray[np.float32]]

    def open(self, *, read_only: bool = True) -> ts.Atlas:
        return ts.open(self.folder, read_only=read_only)


def raw(seed: int, *, unit: float | None = 1.0, n: int = 1500, genes: int = 40) -> Any:
    rng = np.random.default_rng(seed)
    points = rng.random((n, 2)) * 1000.0
    band = np.minimum(points[:, 0] // 334, 2).astype(int)
    rates = np.random.default_rng(5).gamma(0.7, 2.0, (3, genes)) + 0.1
    depth = rng.uniform(0.5, 2.0, (n, 1)) * (1 + seed)
    kinds = np.array(["left", "middle", "right"])[band]
    kinds[rng.random(n) < 0.1] = "left"
    return make_raw(
        positions=points,
        counts=np.minimum(rng.poisson(rates[band] * depth), 255).astype(np.float32),
        obs={"kind": kinds.tolist(), "band": [f"b{i}" for i in band], "size": rng.random(n)},
        um_per_unit=unit,
        metadata={"donor": f"d{seed}", "time_value": float(seed), "timepoint": f"E{seed}"},
    )


def make(folder: Path, sections: dict[str, Any]) -> Tissue:
    atlas = ts.create(folder)
    values = {}
    for name, part in sections.items():
        add_section(atlas, name, part, tile_cells=128)
        values[name] = embed(atlas, name)
    return Tissue(folder, values)


def embed(atlas: ts.Atlas, name: str) -> NDArray[np.float32]:
    section = atlas.section(name)
    counts = section.counts().toarray()
    table = np.log1p(counts / counts.sum(axis=1, keepdims=True))
    values = (table @ np.random.default_rng(3).normal(size=(table.shape[1], 6))) * 10
    values = np.asarray(values - values.mean(axis=0), np.float32)
    entry = write_derived(
        atlas,
        "embedding",
        "emb",
        name,
        arrays={"values": values},
        attrs={},
        provenance=Provenance({f"section:{name}": section.attempt}, {}),
        info={"n_dims": 6},
    )
    atlas.commit(Change(add_derived=[entry]), "embed")
    return values


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Tissue:
    folder = tmp_path_factory.mktemp("similar") / "atlas"
    made = make(folder, {name: raw(seed) for seed, name in enumerate(NAMES)})
    atlas = made.open(read_only=False)
    atlas.build_index("emb", space="emb", window_um=(SIDE, 100), columns=["kind"])
    atlas.build_index("plain", window_um=SIDE, n_genes=30, n_dims=5)
    return made


# -- windows ---------------------------------------------------------------------------------


@dataclass
class Window:
    section: str
    i: int
    j: int
    rows: NDArray[np.int64]


def brute_windows(atlas: ts.Atlas, name: str, side: float, least: int = 3) -> list[Window]:
    section = atlas.section(name)
    points = section.positions()
    x, y = section.bounds[:2]
    found = []
    for j, i in product(range(41), range(41)):
        low = np.array([x, y]) + np.array([i, j]) * (side / 2)
        rows = np.flatnonzero(((points >= low) & (points < low + side)).all(axis=1))
        if len(rows) >= least:
            found.append(Window(name, i, j, rows))
    return found


def shares(atlas: ts.Atlas, name: str, column: str) -> NDArray[np.float64]:
    labels = atlas.section(name).obs(columns=[column], index=False)[column]
    return pd.get_dummies(labels).reindex(columns=["left", "middle", "right"]).to_numpy(float)


def brute(
    tissue: Tissue, like: dict[str, NDArray[np.int64]], weights: dict[str, float], metric: str
) -> tuple[list[Window], NDArray[np.float64]]:
    """Score every window by the formula of the docs, in float64."""
    atlas = tissue.open()
    windows = [w for name in NAMES for w in brute_windows(atlas, name, SIDE)]
    kinds = {name: shares(atlas, name, "kind") for name in NAMES}
    own = {n: v.astype(float) - v.astype(float).mean(axis=0) for n, v in tissue.values.items()}

    def describe(rows: dict[str, NDArray[np.int64]]) -> tuple[Any, Any, Any]:
        values = np.concatenate([own[n][r] for n, r in rows.items()])
        labels = np.concatenate([kinds[n][r] for n, r in rows.items()])
        return values.mean(axis=0), values.std(axis=0), labels.mean(axis=0)

    parts = [
        np.array(p) for p in zip(*(describe({w.section: w.rows}) for w in windows), strict=True)
    ]
    asked = list(describe(like))
    scores = np.zeros(len(windows))
    for number, name in enumerate(("mean", "spread")):
        table = parts[number]
        scale = np.sqrt(table.var(axis=0) + 0.05 * table.var(axis=0).mean())
        level = table.mean(axis=0) if name == "spread" else 0.0
        a, b = (table - level) / scale, (asked[number] - level) / scale
        if metric == "cosine":
            score = a @ b / np.linalg.norm(a, axis=1) / np.linalg.norm(b)
        else:
            score = ((a - b) ** 2).mean(axis=1)
        scores += weights[name] * score
    p, q = np.sqrt(parts[2]), np.sqrt(asked[2])
    scores += weights["kind"] * (p @ q if metric == "cosine" else ((p - q) ** 2).sum(axis=1))
    scores /= sum(weights.values())
    return windows, scores if metric == "cosine" else -np.sqrt(scores)


def rows_in(atlas: ts.Atlas, name: str, box: tuple[float, ...]) -> NDArray[np.int64]:
    points = atlas.section(name).positions()
    inside = (points >= box[:2]) & (points <= box[2:])
    return np.flatnonzero(inside.all(axis=1))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("spread", [0.0, 0.7])
def test_hits_are_those_of_brute_force(tissue: Tissue, metric: Any, spread: float) -> None:
    atlas = tissue.open()
    box = (40.0, 300.0, 260.0, 610.0)
    weights = {"mean": 1.0, "spread": spread, "kind": 0.5}
    hits = atlas.similar(
        atlas.region("s1", bbox=box),
        key="emb",
        window_um=SIDE,
        k=12,
        metric=metric,
        weights={"spread": spread},
    )
    mine = rows_in(atlas, "s1", box)
    windows, scores = brute(tissue, {"s1": mine}, weights, metric)
    by_place = {(w.section, w.i, w.j): n for n, w in enumerate(windows)}
    found = []
    row: Any
    for row in hits.table.itertuples():
        x, y = atlas.section(row.section).bounds[:2]
        place = (row.section, round((row.xmin - x) / 100), round((row.ymin - y) / 100))
        found.append(by_place[place])
        assert len(windows[found[-1]].rows) == row.n_cells
    # half precision on disk
    np.testing.assert_allclose(hits.table["score"], scores[found], atol=2e-3)
    # every window that is better than a hit is one of the example's own, or overlaps a better hit
    for rank, at in enumerate(found):
        for better in np.flatnonzero(scores > scores[at] + 4e-3):
            window = windows[better]
            own = window.section == "s1" and np.isin(window.rows, mine).any()
            near = [windows[c] for c in found[:rank] if windows[c].section == window.section]
            assert own or any(max(abs(c.i - window.i), abs(c.j - window.j)) < 2 for c in near)


def test_the_same_tissue_is_found_in_other_sections(tissue: Tissue) -> None:
    atlas = tissue.open()
    like = atlas.query("band == 'b1'", section="s1")
    for key in ("emb", "plain"):
        hits = atlas.similar(like, key=key, window_um=SIDE, k=10, where="section != 's1'")
        middle = hits.table["xmin"] + SIDE / 2
        assert len(hits) == 10
        assert middle.between(300, 700).mean() >= 0.9
        assert set(hits.table["section"]) == {"s2", "s3"}


def test_windows_are_described_as_they_are(tissue: Tissue) -> None:
    atlas = tissue.open()
    index = open_index(atlas, "emb")
    assert index is not None
    for size, side in enumerate(index.parameters.sizes):
        for name in NAMES:
            at = index.rows[name]
            rows = [(at.start[size], at.stop[size])]
            read = index.segments[at.segment].read
            wanted = brute_windows(atlas, name, side)
            grid = read(f"w{size}.grid", rows)
            assert grid.tolist() == [[w.i, w.j] for w in wanted]
            assert read(f"w{size}.n_cells", rows)[:, 0].tolist() == [len(w.rows) for w in wanted]
            values = tissue.values[name].astype(float)
            mean = [values[w.rows].mean(axis=0) - values.mean(axis=0) for w in wanted]
            spread = [values[w.rows].std(axis=0) for w in wanted]
            kinds = shares(atlas, name, "kind")
            np.testing.assert_allclose(read(f"w{size}.mean", rows), mean, atol=4e-3)
            np.testing.assert_allclose(read(f"w{size}.spread", rows), spread, atol=4e-3)
            share = [kinds[w.rows].mean(axis=0) for w in wanted]
            np.testing.assert_allclose(read(f"w{size}.share0", rows), share, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30),
    st.floats(0.5, 50.0),
)
def test_each_window_is_its_bins(cells: list[tuple[int, int]], side: float) -> None:
    grid = WindowGrid(-3.0, 7.0, side)
    points = np.array(cells, float) * side / 3 + (-3.0, 7.0)
    bins = grid.bins(points)
    layout = Layout.of(np.unique(encode(bins)))
    n = np.bincount(layout.rows(bins), minlength=len(layout.code))
    pooled = np.asarray(layout.pooling @ n)
    for window, count in zip(layout.windows, pooled, strict=True):
        inside = ((bins >= window) & (bins <= window + 1)).all(axis=1)
        assert count == inside.sum() > 0
    # every cell lies in each window that could hold it
    assert pooled.sum() == sum((1 + (b > 0)).prod() for b in bins)
    assert np.array_equal(decode(encode(layout.windows)), layout.windows)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=9, unique=True),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_overlap_is_that_of_shapely(windows: list[tuple[int, int]], share: float) -> None:
    import shapely

    grid = WindowGrid(0.0, 0.0, 2.0)
    array = np.array(windows, np.int64)
    boxes = shapely.box(*grid.boxes(array).T)
    common = shapely.area(shapely.intersection(boxes[:, None], boxes[None, :1]))
    assert apart(array, array[:1], share).tolist() == (common[:, 0] / 4 <= share).tolist()


def test_hits_keep_apart_unless_asked(tissue: Tissue) -> None:
    atlas = tissue.open()
    like = atlas.region("s1", bbox=(0, 0, 300, 300))
    for share, most in ((0.0, 0.0), (0.25, 0.25), (1.0, 0.5)):
        table = atlas.similar(like, key="emb", window_um=SIDE, k=40, max_overlap=share).table
        area = 0.0
        for _, part in table.groupby("section"):
            x, y = part["xmin"].to_numpy(), part["ymin"].to_numpy()
            wide = np.clip(SIDE - np.abs(x[:, None] - x), 0, None)
            high = np.clip(SIDE - np.abs(y[:, None] - y), 0, None)
            common = wide * high / SIDE**2
            np.fill_diagonal(common, 0.0)
            area = max(area, float(common.max()))
        assert area == pytest.approx(most)
        assert table["score"].is_monotonic_decreasing


def test_filters_combine(tissue: Tissue) -> None:
    atlas = tissue.open()
    like = atlas.region("s1", bbox=(0, 0, 300, 300))
    late = atlas.similar(like, key="emb", where="time_value >= 1 and donor != 'd1'")
    assert set(late.table["section"]) == {"s3"}
    rich = atlas.similar(like, key="emb", window_um=SIDE, having={"kind": {"right": 0.6}})
    assert len(rich)
    for rank in rich.table.index:
        kinds = rich.region(rank).to_obs(["kind"])["kind"]
        assert (kinds == "right").mean() >= 0.55
    assert len(atlas.similar(like, key="emb", having={"kind": {"right": 1.1}})) == 0
    own: Any = atlas.similar(
        like, key="emb", window_um=SIDE, exclude_self=False, k=1, where="donor=='d0'"
    )
    assert own.table["xmin"].iloc[0] < 300


def test_a_search_reads_the_index_in_few_requests(
    tissue: Tissue, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas = tissue.open()
    like = atlas.region("s1", bbox=(0, 0, 300, 300))
    asked: list[str] = []
    kind = type(atlas.storage)
    for name in ("get", "get_range"):
        real: Any = getattr(kind, name)

        def spy(self: Any, key: str, *rest: Any, _real: Any = real, **more: Any) -> Any:
            asked.append(key)
            return _real(self, key, *rest, **more)

        monkeypatch.setattr(kind, name, spy)
    atlas.similar(like, key="emb", window_um=SIDE)
    of_index = [key for key in asked if key.startswith("segments/index")]
    # index, center, moments, mean, shares, grid twice, cells: however many sections there are
    assert 5 <= len(of_index) <= 9
    assert not any(key.startswith("segments/index") and "spread" in key for key in asked)


def test_the_graph_agrees_with_exact_search(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    made = make(tmp_path / "atlas", {"s1": raw(0), "s2": raw(1)})
    atlas = made.open(read_only=False)
    atlas.build_index("similar", space="emb", window_um=100, approximate=True)
    like = atlas.region("s1", bbox=(0, 0, 300, 300))
    exact = atlas.similar(like, approximate=False)
    graph = atlas.similar(like, approximate=True)
    assert (
        len(
            set(map(tuple, exact.table[["section", "xmin", "ymin"]].to_numpy()))
            & set(map(tuple, graph.table[["section", "xmin", "ymin"]].to_numpy()))
        )
        >= 19
    )
    with pytest.raises(InvalidArgument, match="leave approximate out"):
        atlas.similar(like, approximate=True, metric="euclidean")


# -- what was added, replaced, damaged ---------------------------------------------------------


def test_sections_are_added_and_replaced(tmp_path: Path) -> None:
    made = make(tmp_path / "atlas", {"s1": raw(0), "s2": raw(1)})
    atlas = made.open(read_only=False)
    atlas.build_index(window_um=SIDE, n_genes=30, n_dims=5)
    like = atlas.region("s1", bbox=(0, 0, 300, 300))
    before = atlas.similar(like, where="section == 's2'").table
    add_section(atlas, "s3", raw(2))
    with pytest.warns(ts.query.UnindexedWarning, match="s3"):
        atlas.similar(atlas.region("s1", bbox=(0, 0, 300, 300)))
    report = atlas.build_index(window_um=SIDE, n_genes=30, n_dims=5)
    assert report["section"].tolist() == ["s3"]
    like = atlas.region("s1", bbox=(0, 0, 300, 300))
    assert set(atlas.similar(like, k=60).table["section"]) == {"s1", "s2", "s3"}
    add_section(atlas, "s2", raw(7), replace=True)
    with pytest.raises(StaleDerived, match=r"tisseract index .* --key similar"):
        atlas.similar(atlas.region("s1", bbox=(0, 0, 300, 300)))
    assert atlas.build_index(window_um=SIDE, n_genes=30, n_dims=5)["section"].tolist() == ["s2"]
    assert len(atlas.build_index(window_um=SIDE, n_genes=30, n_dims=5)) == 0
    after = atlas.similar(atlas.region("s1", bbox=(0, 0, 300, 300)), where="section == 's2'").table
    assert not before.equals(after)
    assert atlas.verify().ok
    with pytest.raises(InvalidArgument, match=r"n_dims differ.*overwrite=True"):
        atlas.build_index(window_um=SIDE, n_genes=30, n_dims=4)
    atlas.build_index(window_um=SIDE, n_genes=30, n_dims=4, overwrite=True)
    assert len([s for s in atlas.snapshot.segments.values() if s.kind == "index"]) == 1


def test_an_index_of_an_embedding_goes_stale_with_it(tmp_path: Path) -> None:
    made = make(tmp_path / "atlas", {"s1": raw(0)})
    atlas = made.open(read_only=False)
    atlas.build_index(space="emb", window_um=SIDE)
    embed(atlas, "s1")
    with pytest.raises(StaleDerived, match="tisseract index"):
        atlas.similar(atlas.region("s1", bbox=(0, 0, 300, 300)))


def test_damage_is_told(tmp_path: Path) -> None:
    made = make(tmp_path / "atlas", {"s1": raw(0)})
    atlas = made.open(read_only=False)
    atlas.build_index(window_um=SIDE, n_genes=30)
    (file,) = made.folder.glob("segments/index/similar/*/w0.mean.bin")
    data = bytearray(file.read_bytes())
    data[10] ^= 1
    file.write_bytes(data)
    with pytest.raises(Corrupt, match=r"block 0 of .*w0\.mean\.bin is damaged"):
        made.open().similar(made.open().region("s1", bbox=(0, 0, 300, 300)))


def test_the_plain_space_does_not_depend_on_tiles(tmp_path: Path) -> None:
    reports = []
    for tile_cells in (64, 512):
        atlas = ts.create(tmp_path / f"t{tile_cells}")
        for seed, name in enumerate(("s1", "s2")):
            add_section(atlas, name, raw(seed), tile_cells=tile_cells)
        atlas.build_index(window_um=SIDE, n_genes=30, n_dims=5)
        reports.append(atlas.similar(atlas.region("s1", bbox=(0, 0, 300, 300))).table)
    pd.testing.assert_frame_equal(reports[0], reports[1], atol=1e-5)


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::tisseract.query.cells.empty.EmptyAnswerWarning")
def test_bad_questions(tissue: Tissue) -> None:
    atlas = tissue.open()
    like = atlas.region("s1", bbox=(0, 0, 300, 300))
    with pytest.raises(DerivedNotFound, match=r"'emb'.*tisseract index .* --key emv"):
        atlas.similar(like, key="emv")
    with pytest.raises(InvalidArgument, match="at least 3 cells are wanted"):
        atlas.similar(atlas.region("s1", bbox=(0, 0, 1, 1)), key="emb")
    with pytest.raises(InvalidArgument, match="leaves none of 3"):
        atlas.similar(like, key="emb", where="time_value > 99")
    with pytest.raises(InvalidArgument, match="columns of cells: size"):
        atlas.similar(like, key="emb", where="size > 0.5")
    with pytest.raises(InvalidArgument, match=r"window_um of the index \(100, 200\)"):
        atlas.similar(like, key="emb", window_um=150)
    with pytest.raises(InvalidArgument, match="neither"):
        atlas.similar()
    with pytest.raises(InvalidArgument, match="index 'emb' is of 'emb'"):
        atlas.similar(like, key="emb", space="gnn")
    with pytest.raises(InvalidArgument, match="a part of the index is wanted"):
        atlas.similar(like, key="emb", weights={"sprad": 1})
    with pytest.raises(InvalidArgument, match="a value of column 'kind'"):
        atlas.similar(like, key="emb", having={"kind": {"lefft": 0.5}})
    for bad in ({"k": 0}, {"metric": "l1"}, {"max_overlap": 2}):
        with pytest.raises(InvalidArgument):
            atlas.similar(like, key="emb", **bad)
    with pytest.raises(ReadOnly):
        atlas.build_index("other")


def test_bad_indexes(tissue: Tissue, tmp_path: Path) -> None:
    made = make(tmp_path / "atlas", {"s1": raw(0), "u": raw(1, unit=None)})
    atlas = made.open(read_only=False)
    with pytest.raises(UnitUnknown, match="window_spacings"):
        atlas.build_index()
    with pytest.raises(InvalidArgument, match="labels of cells"):
        atlas.build_index(sections=["s1"], columns=["size"])
    with pytest.raises(InvalidArgument, match="window sizes above zero"):
        atlas.build_index(window_um=(0,))
    with pytest.raises(MemoryError):
        atlas.build_index(sections=["s1"], memory_limit="2 MB")
    atlas.build_index(window_spacings=6, n_genes=30)
    hits = atlas.similar(atlas.region("u", bbox=(0, 0, 300, 300), units="source"))
    assert hits.unit == "source"
    assert set(hits.table["section"]) == {"s1", "u"}


# -- gene programmes ---------------------------------------------------------------------------


def test_programmes_are_those_of_brute_force(tissue: Tissue) -> None:
    atlas = tissue.open()
    weights = {"Gene3": 1.0, "Gene7": -2.0}
    hits = atlas.similar(genes=weights, k=8)
    windows = [w for name in NAMES for w in brute_windows(atlas, name, SIDE)]
    tables = {}
    for name in NAMES:
        counts = atlas.section(name).counts().toarray().astype(float)
        tables[name] = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))[:, [3, 7]]
    means = np.array([tables[w.section][w.rows].mean(axis=0) for w in windows])
    n = np.array([len(w.rows) for w in windows], dtype=float)
    means = (means - means.mean(axis=0)) * (n / (n + np.median(n) / 2))[:, None]
    z = (means - means.mean(axis=0)) / means.std(axis=0)
    scores = z @ [1.0, -2.0] / 3
    best = windows[int(scores.argmax())]
    assert hits.table.loc[1, "section"] == best.section
    assert hits.table.loc[1, "n_cells"] == len(best.rows)
    assert hits.table.loc[1, "score"] == pytest.approx(scores.max(), abs=1e-5)
    assert len(hits) == 8
    with pytest.raises(InvalidArgument, match="hits of an example"):
        hits.scores("s2")


def test_sections_that_lack_a_gene_are_told(tmp_path: Path) -> None:
    atlas = ts.create(tmp_path / "atlas")
    add_section(atlas, "s1", raw(0))
    add_section(atlas, "few", raw(1, genes=5))
    hits = atlas.similar(genes={"Gene1": 1, "Gene9": 1})
    assert set(hits.table["section"]) == {"s1"}
    assert hits.notes == ("sections that have not measured a gene are left out: few (Gene9)",)
    with pytest.raises(InvalidArgument, match="none; sections that have not measured"):
        atlas.similar(genes={"Gene9": 1}, where="section == 'few'")
    with pytest.raises(GeneNotFound):
        atlas.similar(genes={"Gone": 1})
    with pytest.raises(InvalidArgument, match="genes with weights"):
        atlas.similar(genes={"Gene1": float("nan")})


# -- ranking -----------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["genes", "emb"])
def test_ranking_is_that_of_brute_force(tissue: Tissue, space: str) -> None:
    from scipy.spatial import cKDTree

    atlas = tissue.open()
    like = atlas.query("band == 'b2'", section="s1")
    found = atlas.rank_cells(like, "s2", space=space)
    around = {}
    for name in ("s1", "s2"):
        section = atlas.section(name)
        counts = section.counts().toarray().astype(float)
        logs = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
        values = logs if space == "genes" else tissue.values[name].astype(float)
        near = cKDTree(section.positions()).query(section.positions(), 19)[1]
        around[name] = values[near].mean(axis=1)
    mine = (atlas.section("s1").obs(columns=["band"], index=False)["band"] == "b2").to_numpy()
    a, b = around["s1"][mine], around["s1"][~mine]
    sd = np.sqrt(a.var(axis=0) * mine.mean() + b.var(axis=0) * (1 - mine.mean()))
    w = (a.mean(axis=0) - b.mean(axis=0)) / (sd + np.median(sd)) ** 2
    score = around["s2"] @ w
    np.testing.assert_allclose(found["score"], (score - score.mean()) / score.std(), atol=1e-4)
    assert found.index.tolist() == atlas.query(section="s2").to_obs(["section"]).index.tolist()
    right = atlas.section("s2").positions()[:, 0] > 680
    assert found["score"][right].mean() > 1


@pytest.mark.filterwarnings("ignore::tisseract.query.cells.empty.EmptyAnswerWarning")
def test_examples_that_cannot_be_told_from_the_rest(tissue: Tissue) -> None:
    atlas = tissue.open()
    with pytest.raises(InvalidArgument, match="nothing to tell it from"):
        atlas.rank_cells(atlas.query(section="s1"), "s2")
    with pytest.raises(InvalidArgument, match="at least 3 cells"):
        atlas.rank_cells(atlas.region("s1", bbox=(0, 0, 1, 1)), "s2")
    with pytest.raises(DerivedNotFound):
        atlas.rank_cells(atlas.region("s1", bbox=(0, 0, 300, 300)), "s2", space="gnn")


# -- hits --------------------------------------------------------------------------------------


def test_hits_are_drawn_and_written(tissue: Tissue, tmp_path: Path) -> None:
    atlas = tissue.open()
    hits = atlas.similar(atlas.region("s1", bbox=(0, 0, 300, 300)), key="emb", window_um=SIDE, k=4)
    counts = hits.thumbnails(pixels=8)
    assert counts.shape == (4, 8, 8)
    assert counts.sum(axis=(1, 2)).tolist() == hits.table["n_cells"].tolist()
    kinds = hits.thumbnails("kind", pixels=4)
    assert set(np.unique(kinds)) <= {-1, 0, 1, 2}
    figure = hits.plot()
    drawn = [axes for axes in figure.axes if axes.get_title()]
    assert len(drawn) == 4
    first = figure.source[figure.source["hit"] == 1]
    assert len(first) >= hits.table["n_cells"].loc[1]
    assert len(drawn[0].patches) == 1
    for end in ("csv", "geojson", "png"):
        hits.write(tmp_path / f"hits.{end}")
        assert (tmp_path / f"hits.{end}").stat().st_size > 100
    back = pd.read_csv(tmp_path / "hits.csv", index_col="rank")
    pd.testing.assert_frame_equal(back, hits.table, check_dtype=False, check_index_type=False)
    import shapely

    shapes = [shapely.geometry.shape(f["geometry"]) for f in hits.to_geojson()["features"]]
    assert [s.area for s in shapes] == pytest.approx([SIDE**2] * 4)
    with pytest.raises(InvalidArgument, match=r"\.csv, \.geojson or \.png"):
        hits.write(tmp_path / "hits.txt")
    with pytest.raises(InvalidArgument, match="a rank from 1 to 4"):
        hits.region(5)
    assert "rank" in repr(hits)
    assert len(hits.scores("s2")) == atlas.section("s2").n_obs


def test_rows_are_spread_evenly() -> None:
    runs = np.array([[0, 100], [200, 1000]], np.int64)
    some = evenly(runs, 300)
    assert (some[:, 1] - some[:, 0]).sum() <= 300
    assert (np.diff(some.ravel()) >= 0).all()
    assert evenly(runs, 5000) is runs
    single = np.arange(0, 2000, 2)[:, None] + np.array([0, 1])
    assert len(evenly(single, 512)) == 512


def test_approximate_search_names_its_extra(
    tissue: Tissue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "usearch", None)
    atlas = ts.create(tmp_path / "atlas")
    add_section(atlas, "s1", raw(0))
    with pytest.raises(InvalidArgument, match=r"pip install tisseract\[search\]"):
        atlas.build_index(window_um=SIDE, n_genes=30, approximate=True)
