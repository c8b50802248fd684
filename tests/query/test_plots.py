"""Figures: the numbers they show, and that nobody's settings change."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tisseract
from tisseract import pl
from tisseract.atlas.errors import AlreadyExists, ColumnNotFound, InvalidArgument
from tisseract.atlas.image_sources import ArrayPixels
from tisseract.atlas.images import write_image
from tisseract.atlas.store import AtlasStore
from tisseract.query import Box, export, select
from tisseract.query.plots.palette import OTHER, palette_of
from tisseract.query.plots.panels import nice

from ..sections import make_raw, make_store
from .conftest import DOMAINS, Atlas

pytest.importorskip("matplotlib")
pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option"),
    pytest.mark.filterwarnings("ignore::tisseract.query.UnmeasuredWarning"),
    pytest.mark.filterwarnings("ignore::tisseract.query.MixedValuesWarning"),
]
KNOWN = ["a_e9", "b_e10", "d_p7"]


def test_the_table_of_a_figure_is_what_was_asked(atlas: Atlas) -> None:
    figure: Any = pl.spatial(select(atlas.store, section=KNOWN), ["Gene1", "dom", "area"])
    source = figure.source
    cells = atlas.cells[atlas.cells["section"].isin(KNOWN)]
    for color, rows in source.groupby("color"):
        np.testing.assert_array_equal(rows[["x", "y"]], cells[["x", "y"]].to_numpy(float))
        assert rows["section"].tolist() == cells["section"].tolist(), color
    gene = source[source["color"] == "Gene1"]["value"].to_numpy()
    depth = atlas.counts.sum(axis=1)[cells.index].to_numpy()
    counts = atlas.counts["Gene1"][cells.index].to_numpy()
    safe = np.where(depth > 0, depth, 1)
    np.testing.assert_allclose(gene, np.log1p(counts / safe * 1e4), rtol=1e-5)
    labels = source[source["color"] == "dom"]["label"]
    assert labels.where(labels.notna(), None).tolist() == cells["dom"].tolist()
    area = source[source["color"] == "area"]["value"].to_numpy()
    np.testing.assert_array_equal(area, cells["area"].astype(float))
    assert "99th percentile" in figure.caption
    assert source["timepoint"].nunique() == 3


def test_panels_have_one_scale_point_down_and_tell_section_and_time(atlas: Atlas) -> None:
    figure: Any = pl.spatial(select(atlas.store, section=KNOWN), "Gene1", by="timepoint")
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == [
        "a_e9\nE9.5", "b_e10\nE10.5", "d_p7\nP7",
    ]  # fmt: skip
    limits = [(axes.get_xlim(), axes.get_ylim()) for axes in panels]
    assert all(bottom > top for _, (bottom, top) in limits)
    assert len({round(right - left, 6) for (left, right), _ in limits}) == 1
    assert all(axes.get_aspect() == 1 for axes in panels)
    assert all(any("µm" in text.get_text() for text in axes.texts) for axes in panels)
    colors = np.concatenate([axes.collections[0].get_facecolors() for axes in panels])
    value = np.concatenate([
        np.sort(rows["value"].to_numpy(), kind="stable")
        for _, rows in figure.source.groupby("section", sort=False)
    ])  # fmt: skip
    for one in np.unique(value)[:20]:
        assert len(np.unique(colors[value == one], axis=0)) == 1


def test_unmeasured_genes_and_unknown_units_are_told(atlas: Atlas) -> None:
    figure: Any = pl.spatial(select(atlas.store, section=["c_e10", "d_p7"]), "Sox2")
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["c_e10\nE10.5"]
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert any("source units" in text for text in texts)
    assert "Sox2 was not measured in d_p7." in figure.caption
    assert set(figure.source["section"]) == {"c_e10"}
    several: Any = pl.spatial(select(atlas.store, section=["a_e9", "d_p7"]), ["Sox2", "Gene1"])
    titles = [axes.get_title() for axes in several.axes if axes.get_title()]
    assert titles == ["a_e9\nE9.5", "a_e9\nE9.5", "d_p7\nP7"]
    assert "3 panels, one scale of colors for each of 2" in several.caption


def test_no_dot_is_cut_and_small_sections_fill_their_panel(tmp_path: Path) -> None:
    grid = np.stack(np.meshgrid(np.arange(6.0), np.arange(5.0)), axis=2).reshape(-1, 2)
    raws = {name: make_raw(positions=grid * step) for name, step in (("s", 20.0), ("t", 60.0))}
    figure: Any = pl.spatial(make_store(tmp_path, raws))
    panels = [axes for axes in figure.axes if axes.get_title()]
    for axes, step in zip(panels, (20.0, 60.0), strict=True):
        (left, right), (_, top) = axes.get_xlim(), axes.get_ylim()
        assert right - left < 2 * 5 * step
        inches = figure.get_size_inches() * [axes.get_position().width, axes.get_position().height]
        per_point = (right - left) / (inches[0] * 72)
        radius = np.sqrt(axes.collections[0].get_sizes()[0]) / 2 * per_point
        assert top + radius <= 0
        assert left + radius <= 0
        assert right - radius >= 5 * step


@pytest.mark.parametrize("color", ["Gene1", "dom", None])
def test_bins_are_means_and_majorities(
    atlas: Atlas, color: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tisseract.query.plots import panels

    monkeypatch.setattr(panels, "_ROWS_AT_ONCE", 70)
    chosen = select(atlas.store, section="d_p7")
    figure: Any = pl.spatial(chosen, color, max_points=100)
    exact = pl.spatial(chosen, color).source  # type: ignore[attr-defined]
    bins = figure.source
    assert bins["n_cells"].sum() == len(exact)
    assert len(bins) < len(exact)
    edge = float(np.min(np.diff(np.unique(bins["x"].to_numpy()))))
    assert f"bins, {edge:g} µm wide" in figure.caption
    low = exact[["x", "y"]].min()
    step = np.floor((exact[["x", "y"]] - low) / edge).astype(int)
    groups = exact.groupby([step["y"], step["x"]])
    order = bins.assign(
        i=np.floor((bins["y"] - low["y"]) / edge), j=np.floor((bins["x"] - low["x"]) / edge)
    ).sort_values(["i", "j"])
    np.testing.assert_array_equal(order["n_cells"], groups.size())
    if color == "Gene1":
        np.testing.assert_allclose(order["value"], groups["value"].mean())
    if color == "dom":
        counts = groups["label"].value_counts().unstack(fill_value=0)
        for key, label in zip(groups.size().index, order["label"], strict=True):
            assert key not in counts.index or counts.loc[key, label] == counts.loc[key].max()


def test_labels_keep_their_colors_in_a_narrower_answer(atlas: Atlas) -> None:
    def colors(chosen: Any) -> dict[str, str]:
        figure = chosen.pl.spatial("dom")
        (found,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
        return {
            text.get_text(): handle.get_color()
            for text, handle in zip(found.get_texts(), found.legend_handles, strict=True)
        }

    whole = colors(select(atlas.store, section="a_e9"))
    part = colors(select(atlas.store, domain="ventricle", section="a_e9"))
    assert set(whole) == {*DOMAINS, "no value"}
    assert part == {"ventricle": whole["ventricle"]}
    many = [f"t{i}" for i in range(40)]
    some = palette_of(many, list(range(40)))
    assert sum(color == OTHER for color in some.values()) == 19
    assert some["t39"] != OTHER
    assert nice(99.0) == 50.0


def test_dots_are_scanpys_numbers(atlas: Atlas) -> None:
    scanpy = pytest.importorskip("scanpy")
    chosen = select(atlas.store, section=["a_e9", "d_p7"], genes=[f"Gene{k}" for k in range(8)])
    genes = ["Gene3", "Gene0", "Gene5"]
    adata: Any = chosen.to_anndata(normalize="log1p", obs_columns=["dom"])
    adata.obs["dom"] = adata.obs["dom"].astype("category")
    keep = adata.obs["dom"].notna().to_numpy()
    clean: Any = type(adata)(adata.X[keep], obs=adata.obs[keep].copy(), var=adata.var)
    theirs = scanpy.pl.DotPlot(clean, genes, "dom")
    scaled = scanpy.pl.DotPlot(clean, genes, "dom", standard_scale="var")
    figure: Any = chosen.pl.dotplot(genes, "dom")
    ours = figure.source.pivot_table(index="group", columns="gene", values=["mean", "fraction"])
    assert list(ours.index) == list(theirs.dot_color_df.index)
    np.testing.assert_allclose(ours["mean"][genes], theirs.dot_color_df, rtol=1e-5)
    np.testing.assert_allclose(ours["fraction"][genes], theirs.dot_size_df, rtol=1e-6)
    boxed = pl.dotplot(chosen, {"a": genes[:2], "b": genes[2:]}, "dom", standard_scale="var")
    own = boxed.source.pivot_table(index="group", columns="gene", values="scaled")  # type: ignore[attr-defined]
    np.testing.assert_allclose(own[genes], scaled.dot_color_df, rtol=1e-4, atol=1e-6)


def test_composition_is_of_sections(atlas: Atlas) -> None:
    figure: Any = pl.composition(atlas.store, "cell_type")
    cells = atlas.cells.dropna(subset=["cell_type"])
    wanted = cells.groupby("section")["cell_type"].value_counts(normalize=True)
    source = figure.source
    assert source["timepoint"].drop_duplicates().tolist() == ["E9.5", "E10.5", "P7"]
    got = source.set_index(["section", "label"])["fraction"]
    assert len(got) == len(wanted)
    for key, share in wanted.items():
        assert got[key] == pytest.approx(share)
    bars = [patch.get_height() for patch in figure.axes[0].patches]
    assert sum(bars) == pytest.approx(3.0)


def test_thumbnails_show_the_places_of_hits(atlas: Atlas) -> None:
    hits = pd.DataFrame(
        {
            "section": ["d_p7", "a_e9"], "xmin": [20.0, 0.0], "ymin": [30.0, 10.0],
            "xmax": [40.0, 20.0], "ymax": [50.0, 30.0], "score": [0.9, 0.5],
        }
    )  # fmt: skip
    figure: Any = pl.thumbnails(atlas.store, hits, "dom", margin=0.5)
    source = figure.source
    near = select(atlas.store, section="d_p7", region=Box(10, 20, 50, 60))
    assert (source["hit"] == 1).sum() == near.n_obs
    assert set(source["score"]) == {0.9, 0.5}
    frame = figure.axes[0].patches[0]
    assert (*frame.get_xy(), frame.get_width()) == (20.0, 30.0, 20.0)
    with pytest.raises(InvalidArgument, match="xmin"):
        pl.thumbnails(atlas.store, hits.drop(columns="xmin"), "dom")


def test_figures_are_written_with_their_table_and_change_no_setting(
    atlas: Atlas, tmp_path: Path
) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    chosen = select(atlas.store, "volume > 3", genes=["Gene1"], section="a_e9")
    for form, magic in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")):
        target = export(chosen, tmp_path / f"f.{form}", overwrite=True)
        assert target.read_bytes().startswith(magic)
    table = pd.read_csv(tmp_path / "f.csv")
    drawn: Any = chosen.pl.spatial("Gene1")
    np.testing.assert_allclose(table["value"], drawn.source["value"], rtol=1e-6)
    (tmp_path / "f.png").unlink()
    with pytest.raises(AlreadyExists, match=r"f\.csv"):
        export(chosen, tmp_path / "f.png", color="dom")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.csv", "f.pdf", "f.svg"]
    assert dict(mpl.rcParams) == before
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


@pytest.mark.parametrize(
    ("color", "error", "message"),
    [
        ("cell_typ", ColumnNotFound, "cell_type"),
        ("Gene99", ColumnNotFound, "a column or a gene"),
        ("Gene1", InvalidArgument, "cells to draw"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    atlas: Atlas, color: str, error: type[Exception], message: str
) -> None:
    narrow = "volume > 1000" if message == "cells to draw" else None
    with pytest.raises(error, match=message):
        pl.spatial(select(atlas.store, narrow), color)


def test_without_matplotlib_the_extra_is_named(
    atlas: Atlas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InvalidArgument, match=r"tisseract\[viz\]"):
        pl.spatial(atlas.store, "Gene1")


def test_the_command_draws_what_python_draws(atlas: Atlas, tmp_path: Path) -> None:
    from tisseract.cli import main

    where = str(atlas.store.storage.local_path())
    words = ["plot", where, "--color", "Gene1,dom", "--sections", "a_e9,d_p7", "-q"]
    assert main([*words, "--where", "volume > 3", "-o", str(tmp_path / "f.png")]) == 0
    chosen = tisseract.open(where).query("volume > 3", section=["a_e9", "d_p7"])
    pl.save(chosen.pl.spatial(["Gene1", "dom"]), tmp_path / "g.png")
    assert (tmp_path / "f.csv").read_bytes() == (tmp_path / "g.csv").read_bytes()
    assert (tmp_path / "f.png").read_bytes() == (tmp_path / "g.png").read_bytes()
    assert main([*words, "-o", str(tmp_path / "f.png")]) == 2
    dots = ["plot", where, "--genes", "Gene1", "--groupby", "dom", "--section", "a_e9", "-q"]
    assert main([*dots, "-o", str(tmp_path / "d.svg")]) == 0
    assert set(pd.read_csv(tmp_path / "d.csv")["group"]) == set(DOMAINS)
    assert main(["plot", where, "--genes", "Gene1", "-o", str(tmp_path / "e.svg"), "-q"]) == 2


def test_an_embedding_is_drawn_by_its_components(derived_store: AtlasStore) -> None:
    chosen = select(derived_store, "volume > 1", section=KNOWN)
    figure: Any = pl.embedding(chosen, "X_gnn", ["section", "Gene1"])
    found: Any = chosen.to_anndata(embeddings="gnn", obs_columns=[]).obsm["X_gnn"]
    values = np.asarray(found, np.float64)
    centered = values - values.mean(axis=0)
    _, scale, axes = np.linalg.svd(centered, full_matrices=False)
    drawn = figure.source[figure.source["color"] == "Gene1"][["x", "y"]].to_numpy()
    np.testing.assert_allclose(np.abs(drawn), np.abs(centered @ axes[:2].T), atol=1e-6)
    assert scale[0] > scale[1]
    few: Any = pl.embedding(chosen, "gnn", components=(0, 2), max_points=50)
    assert len(few.source) <= 50 + len(KNOWN)
    assert "one cell in" in few.caption
    with pytest.raises(InvalidArgument, match="two components below 3"):
        pl.embedding(chosen, "gnn", components=(0, 3))


def test_edges_of_a_graph_lie_under_the_cells(derived_store: AtlasStore) -> None:
    chosen = select(derived_store, section="a_e9")
    figure: Any = pl.spatial(chosen, "dom", graph="near")
    lines, cells = figure.axes[0].collections
    edges: Any = chosen.to_anndata(graph="near").obsp["near_connectivities"]
    assert len(lines.get_segments()) == edges.nnz
    assert len(cells.get_offsets()) == chosen.n_obs


@dataclass(frozen=True)
class _Stripes:
    """An image whose upper left quarter is red."""

    nbytes: int = 3 * 1200 * 800

    def write(self, section: Path, name: str, *, coordinate_system: str, memory_limit: int) -> None:
        pixels = np.zeros((3, 800, 1200), np.uint8)
        pixels[0, :400, :600] = 255
        write_image(
            section,
            name,
            ArrayPixels(pixels, "cyx"),
            affine=((0.5, 0.0, 10.0), (0.0, 0.5, -20.0)),
            coordinate_system=coordinate_system,
            memory_limit=memory_limit,
        )


def test_an_image_lies_where_its_section_says(tmp_path: Path) -> None:
    corners = np.array([[10.0, -20.0], [610.0, -20.0], [10.0, 380.0], [610.0, 380.0]])
    raw = make_raw(positions=corners, n_vars=3, images={"he": _Stripes()})
    store = make_store(tmp_path, {"s1": raw})
    figure: Any = pl.spatial(store, image=True)
    figure.canvas.draw()
    axes = figure.axes[0]
    pixels = np.asarray(figure.canvas.buffer_rgba())

    def seen(x: float, y: float) -> list[int]:
        column, row = axes.transData.transform((x, y))
        shown: list[int] = pixels[pixels.shape[0] - 1 - int(row), int(column), :3].tolist()
        return shown

    assert seen(290.0, 160.0) == [255, 0, 0]
    assert seen(290.0, 200.0) == [0, 0, 0]
    assert seen(330.0, 160.0) == [0, 0, 0]
    assert seen(0.0, 160.0) == [255, 255, 255]
    with pytest.raises(InvalidArgument, match="'dapi'"):
        pl.spatial(store, image="dapi")
