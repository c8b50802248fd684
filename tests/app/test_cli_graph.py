"""`graph`, `graph-stats` and their Python siblings over a small simulated atlas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

import tisseract as ts
from tisseract.atlas.errors import InvalidArgument
from tisseract.cli import main
from tisseract.simulator import SimulationPlan, simulate

PLAN = SimulationPlan(n_cells=800, n_genes=40, timepoints=("E11.5", "E12.5"), seed=4)
WHERE = "true_cell_type != 'progenitor'"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("graphs")
    sheet = simulate(PLAN, folder / "data").sheet
    place = str(folder / "small.atlas")
    assert main(["ingest", str(sheet), place, "-q"]) == 0
    return place


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """Run a command with --json and hand out what it printed."""
    assert main([*arguments, "--json", "-q"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "kind", "parameters"),
    [
        (["--knn", "4"], "knn", {"n_neighs": 4}),
        ([], "knn", {"n_neighs": 6}),
        (["--radius", "30"], "radius", {"radius": 30.0}),
        (["--radius", "30", "10"], "radius", {"radius": [10.0, 30.0]}),
        (["--radius=10:30"], "radius", {"radius": [10.0, 30.0]}),
        (["--delaunay", "--radius", "40"], "delaunay", {"radius": [0.0, 40.0]}),
        (["--delaunay", "--percentile", "95"], "delaunay", {"percentile": 95.0}),
        (["--knn", "9", "--radius", "25"], "knn", {"n_neighs": 9, "radius": 25.0}),
        (
            ["--knn", "3", "--symmetrize", "--set-diag", "--transform", "cosine"],
            "knn",
            {"n_neighs": 3, "symmetrize": True, "transform": "cosine", "set_diag": True},
        ),
    ],
)
def test_options_become_a_graph(
    url: str,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    kind: str,
    parameters: dict[str, Any],
) -> None:
    section = ["--section", "E11.5_e1", "--key-added", "k", "--overwrite"]
    (row,) = ask(capsys, "graph", url, *options, *section)
    assert (row["kind"], row["parameters"]) == (kind, parameters)
    assert ts.open(url).graph("E11.5_e1", "k").nnz == row["edges"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--knn", "3", "--delaunay"], "--knn and --delaunay are different kinds"),
        (["--delaunay", "--grid"], "--delaunay and --grid are different kinds"),
        (["--n-rings", "2"], "--n-rings belongs to --grid"),
        (["--grid", "hex", "--radius", "3"], "--radius is about lengths"),
        (["--grid", "--percentile", "9"], "--percentile is about lengths"),
        (["--radius", "-3"], "--radius wants a finite length above 0"),
        (["--radius", "x"], "--radius wants a length"),
        (["--radius", "5:5"], "two that differ"),
        (["--radius", "nan"], "--radius wants"),
        (["--percentile", "101"], "--percentile"),
        (["--knn", "0"], "--knn"),
        (["--grid", "octagon"], "'octagon'"),
    ],
)
def test_contradictions_are_wrong_usage(
    url: str, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main(["graph", url, *options, "-q"]) == 2
    assert words in capsys.readouterr().err


def test_a_grid_needs_a_lattice_also_in_a_dry_run(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--dry-run"]):
        assert main(["graph", url, "--grid", "-q", *more]) == 1
        said = capsys.readouterr().err
        assert "lie on none" in said
        assert "--knn 6" in said


def test_sections_are_listed_or_repeated(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for which in (
        ["--sections", "E11.5_e1, E12.5_e1"],
        ["--section=E11.5_e1", "--section=E12.5_e1"],
    ):
        options = ["--radius=10", "30", "--key-added", "two", *which]
        rows = ask(capsys, "graph", url, *options)
        assert [row["section"] for row in rows] == ["E11.5_e1", "E12.5_e1"]
        found = ask(capsys, "graph-stats", url, "--key", "two", *which)["graphs"]
        assert [row["section"] for row in found] == ["E11.5_e1", "E12.5_e1"]


def test_a_number_is_no_section(url: str) -> None:
    atlas = ts.open(url)
    for describe in (atlas.radius, atlas.knn):
        with pytest.raises(InvalidArgument, match="names of sections are wanted, but got 30"):
            describe(30)  # type: ignore[arg-type]


def test_a_dry_run_prints_the_plan(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = ts.open(url).version
    asked = ["graph", url, "--delaunay", "--where", WHERE, "--dry-run"]
    assert main([*asked, "-q"]) == 0
    text = capsys.readouterr().out
    for part in ("delaunay graph of 4 sections: where=", "memory of a task"):
        assert part in text
    assert "block 0" not in text
    assert main([*asked, "-q", "-v"]) == 0
    assert "block 0" in capsys.readouterr().out
    rows = ask(capsys, "graph", url, "--radius", "30", "--dry-run")
    assert len(rows) == 4
    assert rows[0]["edges_are_at_most"] is False
    assert rows[0]["tasks"] == 1
    assert ts.open(url).version == before


def test_a_name_taken_is_told_in_words_of_the_command_line(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["graph", url, "--knn", "4", "--key-added", "taken", "-q"]) == 0
    assert main(["graph", url, "--knn", "5", "--key-added", "taken", "-q"]) == 1
    said = capsys.readouterr().err
    assert main(["graph", url, "--knn", "5", "--key-added", "taken", "-q", "--dry-run"]) == 1
    assert capsys.readouterr().err == said
    assert main(["graph", url, "--knn", "4", "--key-added", "taken", "--dry-run"]) == 0
    assert "4 of 4 are there already" in capsys.readouterr().err
    assert "give another --key-added" in said
    assert "key_added" not in said


def test_a_filter_restricts_the_cells(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", url, "--delaunay", "--where", WHERE, "--key-added", "w", "-q"]) == 0
    atlas = ts.open(url)
    labels = atlas.query(section="E12.5_e1").obs["true_cell_type"].astype(str).to_numpy()
    keep = labels != "progenitor"
    degrees = np.diff(atlas.graph("E12.5_e1", "w").to_csr().indptr)
    assert (degrees[keep] > 0).all()
    assert not degrees[~keep].any()
    lazy = atlas.delaunay("E12.5_e1", mask=keep).compute()
    np.testing.assert_array_equal(np.diff(lazy.indptr), degrees)
    (row,) = ask(capsys, "graph-stats", url, "--key", "w", "--section", "E12.5_e1")["graphs"]
    assert row["n_obs"] == keep.sum()
    assert row["n_isolated"] == 0
    assert row["n_components"] == 1
    assert main(["graph", url, "--where", "no_such == 3", "-q"]) == 1
    assert main(["graph", url, "--where", "a = 3", "-q"]) == 1
    with pytest.raises(InvalidArgument, match="where= and mask="):
        atlas.knn("E12.5_e1", where=WHERE, mask=keep)


def test_statistics_of_a_graph(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", url, "--knn", "5", "--key-added", "near", "-q"]) == 0
    options = ["--genes", "Clock01,Niche01", "--label", "true_cell_type", "--n-perms", "0"]
    found = ask(capsys, "graph-stats", url, "--key", "near", *options)
    assert [row["section"] for row in found["graphs"]] == ts.open(url).section_names
    for row in found["graphs"]:
        assert row["n_edges"] == 5 * row["n_obs"]
        assert (row["degree_min"], row["degree_mean"], row["degree_max"]) == (5, 5.0, 5)
        assert row["length_min"] <= row["length_mean"] <= row["length_max"]
    assert len(found["genes"]) == 8
    assert sum(row["count"] for row in found["labels"]) == sum(
        row["n_edges"] for row in found["graphs"]
    )
    assert main(["graph-stats", url, "--key", "near", *options, "-q"]) == 0
    tables = capsys.readouterr().out.split("\n\n")
    assert [table.split("\t")[0] for table in tables] == ["section", "section", "label"]
    assert main(["graph-stats", url, "--key", "nears", "-q"]) == 1
    assert "Did you mean 'near'" in capsys.readouterr().err
    assert main(["graph-stats", url, "--mode", "geary", "-q"]) == 2


def test_python_has_squidpys_names(url: str) -> None:
    assert dir(ts.gr) == sorted(ts.gr.__all__)
    atlas = ts.open(url, read_only=False)
    built = {
        "knn": ts.gr.spatial_neighbors_knn(atlas, n_neighs=4, key_added="p1"),
        "radius": ts.gr.spatial_neighbors_radius(atlas, radius=30, key_added="p2"),
        "delaunay": ts.gr.spatial_neighbors_delaunay(atlas, key_added="p3"),
    }
    for kind, entries in built.items():
        assert [entry.section for entry in entries] == atlas.section_names
        assert {entry.info["kind"] for entry in entries} == {kind}
    with pytest.raises(InvalidArgument, match="lie on none"):
        ts.gr.spatial_neighbors_grid(atlas)
    section = "E11.5_e2"
    table = ts.gr.spatial_autocorr(atlas, ["Clock01"], key="p3", sections=section, mode="geary")
    assert list(table.columns)[:3] == ["section", "gene", "C"]
    pairs = ts.gr.nhood_enrichment(atlas, "true_cell_type", key="p3", n_perms=20)
    assert pairs.counts.sum() == sum(atlas.graph(name, "p3").nnz for name in atlas.section_names)
    near = ts.gr.co_occurrence(
        atlas, "true_cell_type", section=section, interval=3, max_distance=50, where=WHERE
    )
    assert near.interval[-1] == 50
    assert near.counts.sum() > 0


def test_domains_are_labels_too(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", url, "--knn", "6", "--key-added", "six", "-q"]) == 0
    assert main(["domains", url, "--n-domains", "3", "--key-added", "dom", "-q"]) == 0
    found = ask(capsys, "graph-stats", url, "--key", "six", "--label", "dom", "--n-perms", "0")
    counts = {(row["label"], row["neighbor"]): row["count"] for row in found["labels"]}
    wanted = dict.fromkeys(counts, 0)
    atlas = ts.open(url)
    for name in atlas.section_names:
        labels = atlas.query(section=name).obs["dom"].astype(str).to_numpy()
        edges = atlas.graph(name, "six").to_csr().tocoo()
        for pair in zip(labels[edges.row], labels[edges.col], strict=True):
            wanted[pair] += 1
    assert counts == wanted
    near = ts.gr.co_occurrence(atlas, "dom", section="E11.5_e1", interval=[0, 20, 40])
    assert len(near.categories) == 3
    assert main(["graph-stats", url, "--key", "six", "--label", "dm", "-q"]) == 1
    assert "'dom'" in capsys.readouterr().err


def test_a_mask_without_a_filter_cannot_be_found_again(url: str) -> None:
    atlas = ts.open(url, read_only=False)
    n_obs = atlas.section("E11.5_e1").n_obs
    atlas.knn("E11.5_e1", mask=np.arange(n_obs) % 2 == 0).write("masked")
    with pytest.raises(InvalidArgument, match="a mask without a filter"):
        ts.gr.spatial_autocorr(atlas, ["Clock01"], key="masked", sections="E11.5_e1")
    # How many they are is enough for these.
    (row,) = ts.gr.graph_stats(atlas, key="masked").to_dict("records")
    assert row["n_obs"] == (n_obs + 1) // 2
    assert (row["degree_min"], row["degree_max"], row["n_isolated"]) == (6, 6, 0)
    labels = connected_components(atlas.graph("E11.5_e1", "masked").to_csr())[1]
    assert row["n_components"] == np.unique(labels[::2]).size


@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")
def test_exports_carry_a_graph(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import anndata

    options = ["--set-diag", "--transform", "spectral", "--key-added", "out"]
    assert main(["graph", url, "--knn", "5", *options, "-q"]) == 0
    target = str(tmp_path / "all.h5ad")
    chosen = ["--missing", "zero", "--graph-key", "out"]
    assert main(["query", url, *chosen, "-o", target, "-q"]) == 0
    adata: Any = anndata.read_h5ad(target)
    atlas = ts.open(url)
    blocks = [atlas.graph(name, "out").to_squidpy() for name in atlas.section_names]
    for key, field in (("connectivities", "connectivities"), ("distances", "distances")):
        matrix = adata.obsp[f"out_{key}"].tocsr()
        first = 0
        for block in blocks:
            own: Any = getattr(block, field)
            last = first + own.shape[0]
            assert abs(matrix[first:last, first:last] - own).max() < 1e-6
            first = last
        assert matrix.nnz == sum(getattr(block, field).nnz for block in blocks)
    assert adata.uns["out_neighbors"]["params"]["n_neighbors"] == 5
    assert adata.uns["out_neighbors"]["connectivities_key"] == "out_connectivities"
    part = atlas.query(WHERE, section="E12.5_e1").to_anndata(graph="out", missing="zero")
    keep = np.flatnonzero((adata.obs["section"] == "E12.5_e1").to_numpy())
    keep = keep[adata.obs["true_cell_type"].to_numpy()[keep] != "progenitor"]
    wanted = adata.obsp["out_distances"].tocsr()[keep][:, keep]
    assert abs(part.obsp["out_distances"] - wanted).max() == 0
    other = ["export", url, "--section", "E11.5_e1", "-o", str(tmp_path / "b.h5ad"), "-q"]
    assert main([*other, "--graph-key", "none"]) == 1
    assert main([*other, "--graph-key", "out"]) == 0
    assert "out_distances" in anndata.read_h5ad(tmp_path / "b.h5ad").obsp
    table = str(tmp_path / "c.csv")
    assert main(["query", url, "--graph-key", "out", "-o", table, "-q"]) == 2
    assert main(["query", url, "--graph-key", "out", "-q"]) == 2
    assert "--graph goes with" in capsys.readouterr().err


def test_neighbors_between_serial_sections(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = Path(url).parent / "data" / "samples.csv"
    lines = [line.split(",") for line in sheet.read_text().splitlines()]
    donor, path = lines[0].index("donor"), lines[0].index("data_path")
    for number, line in enumerate(lines[1:]):
        line[donor], line[path] = "one", str(sheet.parent / line[path])
        line.append(str(10 * number))
    lines[0].append("z_um")
    serial = tmp_path / "serial.csv"
    serial.write_text("\n".join(",".join(line) for line in lines) + "\n")
    stack = str(tmp_path / "stack.atlas")
    assert main(["ingest", str(serial), stack, "-q"]) == 0
    assert len(ask(capsys, "graph", stack, "--knn", "3", "--z", "--dry-run")) == 6
    two = ["--section", "E11.5_e1", "--section", "E11.5_e2"]
    rows = ask(capsys, "graph", stack, "--knn", "3", "--z", *two)
    assert len(rows) == 2
    atlas = ts.open(stack)
    found = atlas.z_graph("E11.5_e1", "E11.5_e2")
    lazy = atlas.z_neighbors(3)["E11.5_e1", "E11.5_e2"]
    assert found.nnz == 3 * found.n_obs == rows[0]["edges"]
    np.testing.assert_array_equal(found.to_csr().indices, lazy.compute().indices)
    assert lazy.compute().data.min() >= 10
    assert main(["graph", stack, "--delaunay", "--z", "-q"]) == 2
    assert main(["graph", stack, "--max-gap", "9", "-q"]) == 2
    assert main(["graph", stack, "--knn", "3", "--z", "--max-gap", "9", "-q"]) == 1
