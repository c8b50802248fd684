"""An index, and a summary, are stale once labels that chose or grouped their cells change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tisseract as ts
from tisseract.atlas.errors import StaleDerived

from ..sections import make_raw, make_store


def ids(atlas: ts.Atlas, name: str) -> pd.Index:
    return atlas.query(f"section == '{name}'").to_obs().index


def sides(atlas: ts.Atlas, name: str) -> pd.Series:
    """L for the cells left of the middle."""
    x = atlas.section(name).positions()[:, 0]
    return pd.Series(np.where(x < 500, "L", "R"), index=ids(atlas, name), name="half")


def swapped(labels: pd.Series) -> pd.DataFrame:
    return labels.map({"L": "R", "R": "L"}).to_frame()


@pytest.fixture
def atlas(tmp_path: Path) -> ts.Atlas:
    raws = {name: make_raw(n_obs=400, seed=seed) for seed, name in enumerate(("s1", "s2"))}
    return ts.open(make_store(tmp_path, raws).url, read_only=False)


WINDOWS = {"window_um": 300.0, "n_genes": 12, "n_dims": 3}


def test_windows_of_cells_chosen_by_labels_are_stale_with_them(atlas: ts.Atlas) -> None:
    labels = {name: sides(atlas, name) for name in ("s1", "s2")}
    atlas.annotate(pd.concat(labels.values()).to_frame())
    options = {**WINDOWS, "where": "half == 'L'"}
    first = atlas.build_index("h", **options)
    assert first["n_cells"].tolist() == [int((labels[n] == "L").sum()) for n in ("s1", "s2")]
    assert atlas.build_index("h", **options).empty
    atlas.annotate(swapped(labels["s1"]), overwrite=True)
    like = atlas.region("s1", bbox=(0, 0, 900, 900))
    with pytest.raises(StaleDerived, match="windows made from what the atlas holds now"):
        atlas.similar(like, key="h")
    again = atlas.build_index("h", **options)
    assert again[["section", "n_cells"]].to_numpy().tolist() == [
        ["s1", int((labels["s1"] == "R").sum())]
    ]
    hits = atlas.similar(like, key="h", where="section == 's1'", exclude_self=False).table
    assert len(hits)
    assert (hits["xmax"] > 500).all()


def test_labels_that_a_section_gets_later_count(atlas: ts.Atlas) -> None:
    labels = {name: sides(atlas, name) for name in ("s1", "s2")}
    atlas.annotate(labels["s1"].to_frame())
    options = {**WINDOWS, "where": "half == 'L' or section == 's2'", "columns": ["half"]}
    assert atlas.build_index("h", **options)["n_cells"].tolist()[1] == 400
    plain = {**WINDOWS, "where": "not half == 'L'"}
    assert atlas.build_index("n", **plain)["section"].tolist() == ["s1", "s2"]
    atlas.annotate(labels["s2"].to_frame())
    # what s1 holds is as it was
    assert atlas.build_index("h", **options)["section"].tolist() == ["s2"]
    assert atlas.build_index("n", **plain)["section"].tolist() == ["s2"]


def test_a_summary_follows_labels_that_group_its_cells(atlas: ts.Atlas) -> None:
    labels = {name: sides(atlas, name) for name in ("s1", "s2")}
    atlas.annotate(labels["s1"].to_frame())
    assert atlas.summarize("half").computed == ("s1", "s2")
    assert atlas.summarize("half").computed == ()
    atlas.annotate(swapped(labels["s1"]), overwrite=True)
    atlas.annotate(labels["s2"].to_frame())
    now = atlas.gene("GENE0").where(by=["section", "half"])
    assert now.attrs["computed"] == ["s1", "s2"]
    assert atlas.summarize("half").computed == ("s1", "s2")
    summed = atlas.gene("GENE0").where(by=["section", "half"])
    assert summed.attrs["computed"] == []
    pd.testing.assert_frame_equal(summed, now)
