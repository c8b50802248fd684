"""A section without an organism does not hide a gene of the sections that have one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tisseract as ts
from tisseract.atlas.panel import Panel

from ..sections import make_raw, make_store

TTR = "ENSMUSG00000061808"


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> ts.Atlas:
    folder: Path = tmp_path_factory.mktemp("bare")
    panels = {
        "cos": Panel.of(["Ttr", "Gad1"]),
        "vis": Panel.of(["ENSMUSG00000070880", TTR], symbols=["Gad1", "Ttr"]),
    }
    raw = {
        name: replace(make_raw(n_obs=60, n_vars=2, seed=seed), panel=panel)
        for seed, (name, panel) in enumerate(panels.items())
    }
    make_store(folder, raw)
    return ts.open(folder / "atlas")


def _ttr(atlas: ts.Atlas, section: str) -> np.ndarray:
    return atlas.section(section).counts().toarray()[:, {"cos": 0, "vis": 1}[section]]


def test_filters_find_it_in_every_section(atlas: ts.Atlas) -> None:
    for section in ("cos", "vis"):
        found = atlas.query("counts:Ttr > 0", section=section)
        assert found.n_obs == np.count_nonzero(_ttr(atlas, section)) > 0
    mouse = atlas.query("counts:mouse:Ttr > 0")
    assert mouse.sections == ["vis"]


def test_answers_hold_it_in_every_section(atlas: ts.Atlas) -> None:
    table = atlas.query(genes=["Ttr", TTR]).to_anndata()
    assert table.var_names.tolist() == ["Ttr"]
    assert table.var["gene_id"].tolist() == [TTR]
    wanted = np.concatenate([_ttr(atlas, section) for section in ("cos", "vis")])
    matrix: Any = table.X
    np.testing.assert_array_equal(matrix.toarray()[:, 0], wanted)
    own = atlas.query(genes=["Ttr"], section="cos").to_anndata()
    assert own.var["gene_id"].tolist() == ["Ttr"]


def test_a_gene_is_seen_in_every_section(atlas: ts.Atlas) -> None:
    wanted = [np.count_nonzero(_ttr(atlas, section)) for section in ("cos", "vis")]
    view = atlas.gene("Ttr")
    assert view.measured_in == ["cos", "vis"]
    assert view.where("section")["n_nonzero"].tolist() == wanted
    assert atlas.gene("mouse:Ttr").measured_in == ["vis"]


def test_a_summary_says_the_same(atlas: ts.Atlas) -> None:
    computed = atlas.gene("Ttr").where("section")
    ts.open(atlas.url, read_only=False).summarize()
    found = ts.open(atlas.url).gene("Ttr").where("section")
    assert found.attrs["summary"]
    np.testing.assert_allclose(found["mean_counts"], computed["mean_counts"])


def test_a_gene_is_not_among_those_that_lie_where_it_lies(atlas: ts.Atlas) -> None:
    found = atlas.gene("Ttr").colocalized(radius=200.0, normalize=None, all_cells=True)
    assert found["gene"].tolist() == ["Gad1", "Gad1"]  # of either section
    assert found["n_sections"].tolist() == [1, 1]
