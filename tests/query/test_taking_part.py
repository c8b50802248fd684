"""One rule for all verbs: cells of the obs column `qc_pass` take part, whatever has that name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tisseract as ts
from tisseract.atlas.errors import InvalidArgument
from tisseract.query.labels.masks import cells_taking_part
from tisseract.query.labels.taking_part import narrowed, runs_taking_part
from tisseract.query.retrieval.cells import taking_part

from ..sections import make_raw, make_store

N = {"s1": 400, "s2": 250, "s3": 150}


def passes(name: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.random.default_rng(len(name) + N[name]).random(N[name]) < 0.6


def make(folder: Path, said: tuple[Any, Any, Any] | None) -> ts.Atlas:
    """Sections with a flag, without, and with words of that name; the sheet may have one too."""
    obs: dict[str, dict[str, Any]] = {
        "s1": {"qc_pass": passes("s1")},
        "s2": {},
        "s3": {"qc_pass": ["yes"] * N["s3"]},
    }
    raws = {}
    for seed, (name, n) in enumerate(N.items()):
        metadata = {} if said is None else {"qc_pass": said[seed]}
        raws[name] = make_raw(n_obs=n, seed=seed, obs=obs[name], metadata=metadata)
    return ts.open(make_store(folder, raws).url, read_only=False)


@pytest.mark.parametrize("said", [None, (True, False, True), ("passed", "failed", None)])
def test_all_verbs_take_the_cells_of_the_flag(tmp_path: Path, said: Any) -> None:
    atlas = make(tmp_path, said)
    good = int(passes("s1").sum())
    wanted = {"s1": good, "s2": N["s2"], "s3": N["s3"]}
    names = list(N)
    everything = atlas.query()
    assert narrowed(everything, None).n_obs == sum(wanted.values())
    runs = runs_taking_part(atlas, names, None)
    assert runs is not None
    assert {n: int((runs[n][:, 1] - runs[n][:, 0]).sum()) for n in names} == wanted
    masks = cells_taking_part(atlas, names, None)
    assert masks is not None
    assert {n: int(mask.sum()) for n, mask in masks.items()} == wanted
    for name in names:
        rows = taking_part(atlas, atlas.section(name), None)
        assert int((rows[:, 1] - rows[:, 0]).sum()) == wanted[name]
    built = atlas.build_index("i", window_um=300.0, n_genes=12, n_dims=3)
    assert dict(zip(built["section"], built["n_cells"], strict=True)) == wanted
    table = atlas.gene("GENE0").where("section")
    assert table.set_index("section")["n"].to_dict() == wanted
    atlas.summarize()
    summed = atlas.gene("GENE0").where("section")
    assert summed.attrs["computed"] == []
    assert summed.set_index("section")["n"].to_dict() == wanted


def test_a_test_of_the_sheet_is_no_test_of_cells(tmp_path: Path) -> None:
    atlas = make(tmp_path, (True, True, True))
    good = int(passes("s1").sum()) + N["s2"] + N["s3"]
    assert narrowed(atlas.query("qc_pass"), None).n_obs == good
    assert narrowed(atlas.query("qc_pass"), None, all_cells=True).n_obs == sum(N.values())
    failing = atlas.query("section == 's1' and not obs:qc_pass == True")
    assert narrowed(failing, None).n_obs == N["s1"] - int(passes("s1").sum())


def test_a_filter_of_ones_own_takes_the_place_of_the_rule(tmp_path: Path) -> None:
    atlas = make(tmp_path, None)
    rows = taking_part(atlas, atlas.section("s1"), "obs:qc_pass == False")
    assert int((rows[:, 1] - rows[:, 0]).sum()) == N["s1"] - int(passes("s1").sum())
    assert runs_taking_part(atlas, list(N), None, all_cells=True) is None
    assert runs_taking_part(atlas, ["s2", "s3"], None) is None
    assert runs_taking_part(atlas, [], None) is None
    with pytest.raises(InvalidArgument, match="where= or all_cells=True"):
        taking_part(atlas, atlas.section("s1"), "qc_pass", all_cells=True)
