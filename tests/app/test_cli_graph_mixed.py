"""`graph` and `graph-stats` over an atlas whose sections differ: columns, genes, units."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tisseract as ts
from tisseract.atlas.errors import DerivedNotFound, InvalidArgument, SectionNotFound, UnitUnknown
from tisseract.atlas.graph import build_graphs
from tisseract.atlas.snapshot import Change
from tisseract.cli import main
from tisseract.query.exports.graph_cells import SkippedSectionsWarning
from tisseract.query.filters.masks import select_masks

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Run a command with --json and hand out what it printed."""
    assert main([*arguments, "--json", "-q"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sections of one panel that differ: one lacks a column of cells, one has no unit."""
    import anndata

    folder: Path = tmp_path_factory.mktemp("mixed")
    rng = np.random.default_rng(3)
    lines = ["section,data_path,um_per_unit,organism,z_um"]
    made = (("full", "1", "human", ["A", "B"]), ("bare", "1", "mouse", ["A", "C"]))
    for name, unit, organism, genes in (*made, ("spots", "unknown", "human", ["A", "B"])):
        counts = rng.poisson(2.0, (60, len(genes))).astype(np.float32)
        data: Any = anndata.AnnData(counts)
        data.var_names = genes
        data.obs["cell_id"] = [f"c{i}" for i in range(60)]
        if name != "bare":
            data.obs["kind"] = np.array(["x", "y"])[np.arange(60) % 2]
            data.obs["n"] = np.arange(60)
        data.obsm["spatial"] = rng.random((60, 2)) * 100
        data.write_h5ad(folder / f"{name}.h5ad")
        lines.append(f"{name},{folder / name}.h5ad,{unit},{organism},{len(lines) * 10}")
    (folder / "samples.csv").write_text("\n".join(lines) + "\n")
    place = str(folder / "mixed.atlas")
    assert main(["ingest", str(folder / "samples.csv"), place, "-q"]) == 0
    return place


@pytest.mark.filterwarnings("default::tisseract.query.exports.graph_cells.SkippedSectionsWarning")
def test_a_filter_that_leaves_no_cell_is_refused_or_the_section_left_out(
    mixed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--where", "n > 5", "--key-added", "few"]
    for more in ([], ["--dry-run"]):
        assert main(["graph", mixed, *where, "--section", "bare", *more]) == 1
        assert "none in 'bare' (it has no column 'n')" in capsys.readouterr().err
        assert main(["graph", mixed, "--where", "n > 5000", *more]) == 1
        assert "'n > 5000' are wanted, but got none" in capsys.readouterr().err
        assert main(["graph", mixed, *where, *more]) == 0
        said = capsys.readouterr()
        assert "1 section left out" in said.err
        assert "'bare' (it has no column 'n')" in said.err
        assert "bare" not in said.out
    atlas = ts.open(mixed, read_only=False)
    assert atlas.derived_keys("graph")["few"] == ["full", "spots"]
    with pytest.warns(SkippedSectionsWarning, match="no column 'n'"):
        assert atlas.knn(where="n > 5").sections == ("full", "spots")
    with pytest.raises(InvalidArgument, match="got none in 'bare'"):
        ts.gr.spatial_neighbors_knn(atlas, sections=["bare"], where="n > 5")


def test_micrometers_are_refused_where_the_unit_is_unknown(
    mixed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    atlas = ts.open(mixed, read_only=False)
    for kind in (["--radius", "30"], ["--knn", "3", "--radius", "30"]):
        assert main(["graph", mixed, *kind]) == 1
        assert "1 section of unknown unit: 'spots'" in capsys.readouterr().err
    with pytest.raises(UnitUnknown, match="units='source'"):
        atlas.build_graphs("radius", radius=30)
    with pytest.raises(InvalidArgument, match="2 sections in micrometers: 'bare', 'full'"):
        atlas.radius(radius=30, units="source")
    with pytest.raises(InvalidArgument, match="'um' or 'source'"):
        atlas.radius(radius=30, units="mm")
    assert main(["graph", mixed, "--knn", "3", "--units", "source"]) == 2
    capsys.readouterr()
    source = ["--radius", "30", "--section", "spots", "--units", "source"]
    assert main(["graph", mixed, *source, "--dry-run"]) == 0
    assert "lengths in source units" in capsys.readouterr().out
    (row,) = ask(capsys, "graph", mixed, *source, "--key-added", "s")
    assert row["edges"] > 0
    assert "lengths in micrometers" in str(atlas.delaunay("full").plan)
    assert main(["graph", mixed, "--radius", "1e-6", "--section", "full", "--key-added", "i"]) == 0
    assert "no cell has a neighbor in full" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["a b", "", ".a", "a/b"])
def test_a_bad_name_is_refused_before_the_work(
    mixed: str, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    two = ["--section", "full", "--section", "bare"]
    for more in (["--dry-run"], [], ["--z", "--dry-run"], ["--z"]):
        assert main(["graph", mixed, "--knn", "2", "--key-added", key, *two, *more]) == 1
        assert "a graph name is 1 to 128 letters" in capsys.readouterr().err
    atlas = ts.open(mixed, read_only=False)
    for write in (atlas.knn().write, atlas.knn("full")["full"].write):
        with pytest.raises(InvalidArgument, match="a graph name is"):
            write(key)
    with pytest.raises(InvalidArgument, match="a graph name is"):
        atlas.build_graphs(key_added=key)


def test_what_is_kept_is_told_from_what_is_built(
    mixed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ["--key-added", "twice", "--section", "full"]
    assert [row["state"] for row in ask(capsys, "graph", mixed, *one)] == ["built"]
    two = [*one, "--section", "bare"]
    assert [row["state"] for row in ask(capsys, "graph", mixed, *two)] == ["kept", "built"]


@pytest.fixture(scope="module")
def near(mixed: str) -> str:
    assert main(["graph", mixed, "--knn", "4", "--key-added", "near", "-q"]) == 0
    return mixed


@pytest.mark.filterwarnings("default::tisseract.query.exports.graph_cells.SkippedSectionsWarning")
def test_statistics_leave_out_sections_that_cannot_be_asked(
    near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--key", "near", "--genes", "B", "--label", "kind", "--n-perms", "0"]
    assert main(["graph-stats", near, *options, "--co-occurrence", "kind"]) == 0
    said = capsys.readouterr()
    for words in (
        "no autocorrelation): 'bare' (it measured no such gene)",
        "no enrichment): 'bare' (it has no such column)",
        "no co-occurrence): 'bare'",
        "values of 3 sections are counts",
    ):
        assert words in said.err
    tables = said.out.split("\n\n")
    assert [table.split("\t")[1] for table in tables] == ["kind", "gene", "neighbor", "label"]
    assert main(["graph-stats", near, "--key", "near", "--genes", "A,C"]) == 0
    assert "'full' (no C)" in capsys.readouterr().err
    # Of sections that were named, and where no section can be asked, it is an error.
    assert main(["graph-stats", near, "--key", "near", "--genes", "B", "--section", "bare"]) == 1
    said = capsys.readouterr()
    assert "section 'bare': expected a gene" in said.err
    assert "--section" in said.err
    assert said.out.startswith("section\t")
    for wrong in (["--genes", "D"], ["--genes", "A,D"], ["--label", "kin"]):
        assert main(["graph-stats", near, "--key", "near", *wrong, "-q"]) == 1
        assert wrong[1][-1] in capsys.readouterr().err
    with pytest.raises(InvalidArgument, match="under normality"):
        ts.gr.spatial_autocorr(ts.open(near), "A", key="near", n_perms=100)


def test_values_that_are_log1p_already_are_told(
    near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["graph-stats", near, "--key", "near", "--genes", "A", "--section", "full"]
    assert main([*asked, "--normalize", "log1p"]) == 0
    assert "note: values" not in capsys.readouterr().err
    assert main(asked) == 0
    assert "values of full are counts, taken as stored" in capsys.readouterr().err


@pytest.mark.filterwarnings("default::tisseract.query.exports.graph_cells.SkippedSectionsWarning")
def test_a_graph_of_no_cell_is_named(near: str, capsys: pytest.CaptureFixture[str]) -> None:
    atlas = ts.open(near, read_only=False)
    masks = select_masks(atlas, "n > 5", ["bare", "full"])
    build_graphs(atlas, sections=list(masks), mask=masks, where="n > 5", key_added="hollow")
    options = ["--key", "hollow", "--genes", "A"]
    assert main(["graph-stats", near, *options]) == 0
    assert "leaves no cell of section 'bare'" in capsys.readouterr().err
    rows = ask(capsys, "graph-stats", near, *options[:2])["graphs"]
    assert (rows[0]["section"], rows[0]["n_obs"], rows[0]["n_edges"]) == ("bare", 0, 0)
    assert main(["graph-stats", near, *options, "--section", "bare"]) == 1
    assert "graph 'hollow' leaves no cell of section 'bare'" in capsys.readouterr().err


def test_tables_are_written(
    near: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    options = ["--key", "near", "--section", "full", "--label", "kind", "--n-perms", "0"]
    target = str(tmp_path / "stats.csv")
    assert main(["graph-stats", near, *options, "-o", target]) == 0
    assert capsys.readouterr().out == ""
    assert pd.read_csv(tmp_path / "stats.labels.csv")["count"].sum() == 240
    assert pd.read_csv(tmp_path / "stats.graphs.csv")["section"].tolist() == ["full"]
    assert main(["graph-stats", near, *options, "-o", target]) == 2
    assert main(["graph-stats", near, *options, "-o", target, "--overwrite", "-q"]) == 0
    assert main(["graph-stats", near, *options, "-o", "x.h5ad"]) == 2
    assert main(["graph-stats", near, "--key", "near", "--max-distance", "9"]) == 2
    capsys.readouterr()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["graph-stats", near, *options, "-q"]) == 0
    assert "z-score" in capsys.readouterr().out


def test_co_occurrence_on_the_command_line(near: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--section", "full", "--co-occurrence", "kind", "--max-distance", "30"]
    rows = ask(capsys, "graph-stats", near, "--key", "near", *options)["co_occurrence"]
    met = ts.gr.co_occurrence(
        ts.open(near), "kind", section="full", interval=11, max_distance=30
    ).to_frame()
    assert [row["n_pairs"] for row in rows] == met["n_pairs"].tolist()
    assert {row["section"] for row in rows} == {"full"}


def test_graphs_between_sections_are_told_from_graphs(
    near: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = ["--section", "full", "--section", "bare"]
    assert main(["graph", near, "--knn", "2", "--z", *two]) == 1
    assert "serial sections of one organism" in capsys.readouterr().err
    atlas = ts.open(near, read_only=False)
    entry = atlas.snapshot.sections["bare"]
    change = replace(entry, metadata={**entry.metadata, "organism": "human"})
    atlas.commit(Change(add_sections=[change], replace=True), "mend the organism")
    assert main(["graph", near, "--knn", "2", "--z"]) == 1
    capsys.readouterr()
    assert main(["graph", near, "--knn", "2", "--z", "--key-added", "zz", *two]) == 0
    assert "full, bare: no donor" in capsys.readouterr().err
    target = str(tmp_path / "x.h5ad")
    for asked in (
        ["graph-stats", near, "--key", "zz"],
        ["export", near, "--section", "full", "--graph-key", "zz", "-o", target],
    ):
        assert main(asked) == 1
        assert "'zz' is a graph between sections" in capsys.readouterr().err


def test_stale_graphs_are_marked_and_built_again_as_told(
    near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--where", "n > 5", "--key-added", "old"]
    both = ["--section", "full", "--section", "spots"]
    assert main(["graph", near, "--knn", "3", "--symmetrize", *where, *both, "-q"]) == 0
    (fact,) = [f for f in ask(capsys, "info", near)["graphs"] if f["key"] == "old"]
    assert (fact["sections"], fact["stale"]) == (2, [])
    sheet = str(Path(near).parent / "samples.csv")
    lines = Path(sheet).read_text().splitlines()
    one = Path(near).parent / "one.csv"
    one.write_text("\n".join([lines[0], *(line for line in lines if line.startswith("full,"))]))
    assert main(["ingest", str(one), near, "--overwrite", "-q"]) == 0
    assert main(["info", near]) == 0
    assert "old: knn n_neighs=3, symmetrize=True, where=n > 5 (2 sections); stale: full" in (
        capsys.readouterr().out
    )
    assert main(["info", near, "--section", "full"]) == 0
    assert "stale: full" in capsys.readouterr().out
    assert main(["graph-stats", near, "--key", "old"]) == 1
    said = capsys.readouterr().err
    assert "graph 'old' of section 'full' is wanted as of now, but got a stale one" in said
    command = shlex.split(said.partition("build it again: tisseract ")[2].strip())
    # One name for two kinds of graph is refused while another section holds the first.
    other = ["graph", near, "--delaunay", "--key-added", "old", "--section", "full"]
    assert main([*other, "--dry-run"]) == 1
    assert "'spots' keep theirs" in capsys.readouterr().err
    assert main([*command, "-q"]) == 0
    assert main(["graph-stats", near, "--key", "old", "-q"]) == 0
    capsys.readouterr()
    kinds = {f["key"]: f for f in ask(capsys, "info", near)["graphs"]}
    assert kinds["old"]["stale"] == []


def test_unknown_names_list_what_there_is(near: str) -> None:
    atlas = ts.open(near)
    with pytest.raises(SectionNotFound, match="'bare', 'full', 'spots'"):
        atlas.section("zzzzzz")
    with pytest.raises(DerivedNotFound, match="'near'"):
        atlas.graph("full", "qqqqqq")
