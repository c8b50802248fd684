"""A column of several kinds: every verb divides the cells alike, and says so."""

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tisseract as ts
from tisseract.query import CellsAsReplicatesWarning, MixedValuesWarning

from ..sections import make_raw, make_store

SIZES = {"yes": 60, "whole": 50, "float": 40, "words": 30}


def kinds_of() -> dict[str, Any]:
    return {
        "yes": np.arange(60) % 2 == 0,
        "whole": np.arange(50) % 2,
        "float": np.where(np.arange(40) < 2, 0.5, np.arange(40) % 2).astype(np.float64),
        "words": ["1", ""] * 15,
    }


def atlas_of(folder: Path, columns: dict[str, Any]) -> ts.Atlas:
    raws = {
        name: make_raw(n_obs=len(values), seed=k, obs={"x": values}, metadata={"donor": name})
        for k, (name, values) in enumerate(columns.items())
    }
    return ts.open(make_store(folder, raws).url)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> ts.Atlas:
    return atlas_of(tmp_path_factory.mktemp("kinds"), kinds_of())


def wanted() -> dict[str, int]:
    """Cells of each group by the rule, counted without the library."""
    counts: Counter[str] = Counter()
    texts = {"1", ""}
    for values in kinds_of().values():
        for value in values:
            kind = "boolean" if isinstance(value, np.bool_) else "number"
            text = str(value) if isinstance(value, str | np.bool_) else f"{float(value):g}"
            taken = not isinstance(value, str) and text in texts
            counts[f"{text} ({kind})" if taken else text] += 1
    return dict(counts)


def plain(counts: "pd.Series[Any]") -> dict[str, int]:
    return {str(name): int(n) for name, n in counts.items() if n}


def test_the_rule() -> None:
    assert wanted().keys() == {"True", "False", "0", "1 (number)", "0.5", "1", ""}
    assert sum(wanted().values()) == sum(SIZES.values())


def test_every_verb_groups_alike_and_warns(atlas: ts.Atlas) -> None:
    told = r"'x' holds .*boolean \(yes\), number \(float, whole\), text \(words\)"
    with pytest.warns(MixedValuesWarning, match=told):
        assert plain(atlas.query().aggregate("x", "count")["n_obs"]) == wanted()
    with pytest.warns(MixedValuesWarning, match=told):
        assert plain(atlas.values("x")) == wanted()
    with pytest.warns(MixedValuesWarning, match=told):
        obs = atlas.query().to_obs(["x"])
    assert plain(obs["x"].value_counts()) == wanted()
    with pytest.warns(MixedValuesWarning, match=told):
        adata: Any = atlas.query().to_anndata(obs_columns=["x"])
    assert plain(adata.obs["x"].value_counts()) == wanted()
    with pytest.warns(MixedValuesWarning, match=told):
        table = atlas.query().aggregate(["section", "x"], "count")["n_obs"]
    assert table.loc[("yes", "True")] == 30
    assert plain(table.groupby(level=1).sum()) == wanted()


def test_differences_have_the_same_groups(atlas: ts.Atlas) -> None:
    for group, n in wanted().items():
        with pytest.warns(CellsAsReplicatesWarning), pytest.warns(MixedValuesWarning):
            table = ts.tl.diff(atlas, "x", group, method="wilcoxon", all_cells=True)
        assert set(table["group"]) == {group}
        assert (table["n_group"] == n).all(), group
        assert (table["n_reference"] == sum(SIZES.values()) - n).all()
    for asked, label in ((True, "True"), (1.0, "1 (number)"), ("1", "1")):
        groups: Any = [asked]
        with pytest.warns(CellsAsReplicatesWarning), pytest.warns(MixedValuesWarning):
            table = ts.tl.diff(atlas, "x", groups, [""], method="wilcoxon", all_cells=True)
        assert set(table["group"]) == {label}
        assert (table["n_reference"] == wanted()[""]).all()


def test_booleans_beside_numbers_stay_usable(tmp_path: Path) -> None:
    """As `in_tissue` is in real atlases: a flag here, 0 and 1 there, missing elsewhere."""
    columns = {"a": np.arange(30) % 3 > 0, "b": np.arange(30) % 2, "c": np.full(30, np.nan)}
    atlas = atlas_of(tmp_path, columns)
    with pytest.warns(MixedValuesWarning, match=r"boolean \(a\), number \(b\);"):
        table = atlas.query().aggregate("x", "mean")
    assert table["n_obs"].tolist() == [10, 20, 15, 15, 30]
    assert table.index[:4].tolist() == ["False", "True", "0", "1"]
    assert table.loc["True", "n_obs"] == 20


def test_one_kind_with_sections_of_missing_values_is_not_mixed(tmp_path: Path) -> None:
    missing = np.full(30, np.nan)
    for k, values in enumerate((["u", "v"] * 15, np.arange(30) % 2 == 0, np.arange(30))):
        atlas = atlas_of(tmp_path / str(k), {"a": values, "b": missing})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            counts = atlas.query("x is not null").aggregate("x", "count")["n_obs"]
            obs = atlas.query().to_obs(["x"])["x"]
        assert len(counts) == len(set(values))
        assert obs.value_counts().to_dict() == counts.to_dict() == Counter(values)


def test_whole_numbers_of_int_and_float_are_one_group(tmp_path: Path) -> None:
    atlas = atlas_of(tmp_path, {"a": np.arange(30) % 2, "b": np.arange(30) / 2 % 1.5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counts = atlas.values("x")
        obs = atlas.query().to_obs(["x"])["x"]
    assert counts.to_dict() == {0.0: 25, 0.5: 10, 1.0: 25} == obs.value_counts().to_dict()


def test_metadata_of_several_kinds(tmp_path: Path) -> None:
    batches = {"a": 1, "b": True, "c": "1", "d": 1.0, "e": ""}
    raws = {
        name: make_raw(n_obs=20, seed=k, metadata={"batch": value})
        for k, (name, value) in enumerate(batches.items())
    }
    atlas = ts.open(make_store(tmp_path, raws).url)
    told = {"True": 20, "1 (number)": 40, "1": 20, "": 20}
    with pytest.warns(MixedValuesWarning):
        assert plain(atlas.values("batch")) == told
    with pytest.warns(MixedValuesWarning):
        assert plain(atlas.query().aggregate("batch", "count")["n_obs"]) == told
    with pytest.warns(MixedValuesWarning):
        assert plain(atlas.query().to_obs(["batch"])["batch"].value_counts()) == told


def test_the_empty_text_is_a_value(tmp_path: Path) -> None:
    sizes = ["", "v1", "v1", "v2", "v2", "v2", None]
    atlas = atlas_of(tmp_path, {"a": sizes * 10, "b": sizes * 10})
    with pytest.warns(CellsAsReplicatesWarning):
        table = ts.tl.diff(atlas, "x", method="wilcoxon", all_cells=True)
    found = table.groupby("group")["n_group"].first().to_dict()
    assert found == {"": 20, "v1": 40, "v2": 60}
    assert (table["n_group"] + table["n_reference"] == 120).all()
    with pytest.warns(CellsAsReplicatesWarning):
        one = ts.tl.diff(atlas, "x", "v1", "", method="wilcoxon", all_cells=True)
    assert set(one["reference"]) == {""}
    assert set(one["n_reference"]) == {20}
