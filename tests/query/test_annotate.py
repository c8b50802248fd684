"""Labels of users: joined by id as pandas joins them, and asked by like any other column."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tisseract as ts
from tisseract.atlas.errors import InputError, InvalidArgument, ReadOnly, StaleDerived
from tisseract.cli.app import main

from ..sections import add_section, make_raw, make_store


def open_small(folder: Path, *, n_obs: int = 300, tile_cells: int = 32) -> ts.Atlas:
    raws = {
        name: make_raw(n_obs=n_obs, seed=seed, metadata={"section": name, "donor": f"d{seed}"})
        for seed, name in enumerate(("s1", "s2"))
    }
    return ts.open(make_store(folder, raws, tile_cells=tile_cells).url, read_only=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ts.Atlas:
    """Made once; every test has a copy."""
    return open_small(tmp_path_factory.mktemp("made"))


@pytest.fixture
def atlas(made: ts.Atlas, tmp_path: Path) -> ts.Atlas:
    return ts.open(shutil.copytree(made.url, tmp_path / "atlas"), read_only=False)


def labels(atlas: ts.Atlas, seed: int = 0) -> pd.DataFrame:
    """One column of each kind, with missing values, in an order of its own."""
    index = atlas.query().to_obs(["section"]).index
    rng = np.random.default_rng(seed)
    n = len(index)
    lost = rng.random(n) < 0.1
    frame = pd.DataFrame(
        {
            "kind": pd.Series(rng.choice(["Neuron", "Glia"], n)).where(~lost, None),
            "score": np.where(lost, np.nan, rng.random(n)),
            "count": pd.array(rng.integers(0, 2**40, n), dtype="Int64"),
            "certain": pd.array(rng.random(n) < 0.5, dtype="boolean"),
            "text": [f"note {k}" for k in range(n)],
            "stage": pd.Categorical(
                rng.choice(["early", "late"], n), ["early", "mid", "late"], ordered=True
            ),
        }
    )
    frame.loc[lost, ["count", "certain"]] = pd.NA
    frame.index = index
    return frame.iloc[rng.permutation(n)]


def same_values(left: pd.Series, right: pd.Series) -> bool:
    def plain(values: pd.Series) -> list[Any]:
        return [None if pd.isna(v) else v for v in values.astype(object)]

    return plain(left) == plain(right)


def test_columns_are_those_of_a_pandas_join(atlas: ts.Atlas) -> None:
    given_labels = labels(atlas)
    atlas.annotate(given_labels)
    found = ts.open(atlas.url).query().to_obs(list(given_labels.columns))
    wanted = given_labels.loc[found.index]
    for name in given_labels.columns:
        assert same_values(found[name], wanted[name]), name
    assert found["stage"].cat.ordered
    assert found["count"].dtype == "Int64"
    assert found["certain"].dtype == "boolean"


def test_filters_equal_pandas_and_prune(atlas: ts.Atlas) -> None:
    frame = atlas.query().to_obs(["section"])
    x = np.concatenate([atlas.section(name).positions()[:, 0] for name in ("s1", "s2")])
    frame["place"] = np.where(x < 300, "west", "east")
    frame["x"] = x
    atlas.annotate(frame, columns=["place", "x"])
    for text, wanted in (
        ("place == 'west'", frame["place"] == "west"),
        ("x >= 500 and place != 'west'", frame["x"] >= 500),
        ("`annotations:x` < 100 or section == 's2'", (frame["x"] < 100) | (frame.section == "s2")),
    ):
        chosen = atlas.query(text)
        assert chosen.to_obs(["section"]).index.tolist() == frame.index[wanted].tolist()
    plan = atlas.query("place == 'west'", section="s1").explain()
    kept, total = plan.n_tiles
    assert kept < total
    assert not plan.sections[0].test_obs.all()
    assert atlas.query("x > 2000").explain().sections == ()


def test_everywhere_that_obs_columns_are(atlas: ts.Atlas) -> None:
    given_labels = labels(atlas)[["kind"]]
    atlas.annotate(given_labels, key="mine")
    table: Any = atlas.query().to_anndata().obs
    assert same_values(table["mine"], given_labels.loc[table.index, "kind"])
    counted = atlas.query().aggregate("mine", "count")["n_obs"]
    assert counted.loc["Glia"] == (given_labels["kind"] == "Glia").sum()
    assert atlas.values("mine").loc["Neuron"] == (given_labels["kind"] == "Neuron").sum()
    assert list(atlas.obs_columns.loc["mine"]) == ["annotations", "categorical", 2]
    atlas.build_graphs("knn", n_neighs=3)
    assert "Glia" in ts.gr.nhood_enrichment(atlas, "mine", n_perms=None).categories


def test_section_and_cell_columns_and_files(atlas: ts.Atlas, tmp_path: Path) -> None:
    given_labels = labels(atlas)[["kind"]]
    split = given_labels.copy()
    split[["section", "cell_id"]] = [name.split(":", 1) for name in split.index]
    split = split.reset_index(drop=True)
    atlas.annotate(split, "a")
    for number, name in enumerate(("t.csv", "t.tsv", "t.parquet")):
        path = tmp_path / name
        if name == "t.parquet":
            given_labels.to_parquet(path)
        else:
            given_labels.to_csv(path, sep="," if name == "t.csv" else "\t")
        (entry, _) = atlas.annotate(path, f"b{number}", note="by eye")
        text = atlas.storage.get(f"{entry.prefix}/provenance.json").decode()
        assert "sha256:" in text
        assert "by eye" in text
    found = atlas.query().to_obs(["a", "b0", "b1", "b2"])
    for name in ("b0", "b1", "b2"):
        assert same_values(found[name], found["a"])


def test_all_faults_at_once(atlas: ts.Atlas) -> None:
    given_labels = labels(atlas)[["kind"]]
    first = given_labels.index[0]
    wrong = pd.concat(
        [
            given_labels.iloc[:-7],
            given_labels.iloc[:1],
            given_labels.iloc[:2].rename(lambda v: v + "x"),
        ]
    )
    with pytest.raises(InputError) as caught:
        atlas.annotate(wrong, "k")
    told = str(caught.value)
    assert f"1 ids occur more than once: '{first}'" in told
    assert "7 cells are not in the table" in told
    assert "2 ids are not in the atlas" in told
    assert len(caught.value.faults) == 3
    with pytest.raises(InputError, match="2 ids are not in the atlas"):
        atlas.annotate(wrong[~wrong.index.duplicated()], "k", missing="ok")
    atlas.annotate(wrong[~wrong.index.duplicated()], "k", missing="ok", unknown="drop")
    assert atlas.query("k is null").n_obs == 7 + given_labels["kind"].iloc[:-7].isna().sum()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.rename(lambda v: v.replace(":", "-")), "without a colon"),
        (lambda t: t.rename(lambda v: v.replace("s1:", "s9:")), "no section 's9'"),
        (lambda t: t.reset_index(drop=True), "600 of 600 without a colon"),
        (lambda t: t.assign(kind=[{1}] * len(t)), "text, numbers or booleans"),
        (lambda t: t[[]], "column of labels"),
    ],
)
def test_bad_tables(atlas: ts.Atlas, change: Any, words: str) -> None:
    with pytest.raises((InputError, InvalidArgument), match=words):
        atlas.annotate(change(labels(atlas)[["kind"]]), "k")
    assert not atlas.derived_keys("annotation")


@pytest.mark.parametrize("name", ["layer", "donor", "section", "domain", "a b", "../x"])
def test_names_that_are_taken(atlas: ts.Atlas, name: str) -> None:
    with pytest.raises(InvalidArgument):
        atlas.annotate(labels(atlas)[["kind"]], name)


def test_replaced_only_when_asked(atlas: ts.Atlas) -> None:
    given_labels = labels(atlas)[["kind"]]
    atlas.annotate(given_labels, "k")
    before = ts.open(atlas.url)
    with pytest.raises(InvalidArgument, match="overwrite=True"):
        atlas.annotate(given_labels, "k")
    atlas.annotate(given_labels.assign(kind="all"), "k", overwrite=True)
    assert set(atlas.values("k").index) == {"all"}
    assert "Glia" in before.values("k").index
    with pytest.raises(ReadOnly):
        before.annotate(given_labels, "j")


def test_of_a_replaced_section_is_stale(atlas: ts.Atlas) -> None:
    atlas.annotate(labels(atlas)[["kind"]], "k")
    add_section(atlas, "s1", make_raw(n_obs=50, seed=9, metadata={"section": "s1"}), replace=True)
    with pytest.raises(StaleDerived):
        _ = atlas.query("k == 'Glia'").n_obs


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.integers(0, 299), unique=True, min_size=1, max_size=80),
    values=st.lists(st.sampled_from(["a", "b", "µ", None, ""]), min_size=300, max_size=300),
)
def test_any_part_of_a_section(atlas: ts.Atlas, rows: list[int], values: list[str | None]) -> None:
    frame = pd.DataFrame(
        {"v": pd.Series([values[row] for row in rows], dtype=object).to_numpy()},
        index=[f"s1:cell-{row}" for row in rows],
    )
    atlas.annotate(frame, missing="ok", overwrite=True)
    found = atlas.query(section="s1").to_obs(["v"])["v"]
    assert same_values(found, frame["v"].reindex(found.index))


def test_cli(atlas: ts.Atlas, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given_labels = labels(atlas)[["kind"]]
    given_labels.to_csv(tmp_path / "l.csv")
    given_labels.iloc[:-1].to_csv(tmp_path / "short.csv")
    options = ["--run-json", "-", "--quiet"]
    assert main(["annotate", atlas.url, str(tmp_path / "l.csv"), "--key", "mine", *options]) == 0
    assert "Glia" in atlas.refresh().values("mine").index
    assert main(["annotate", atlas.url, str(tmp_path / "short.csv"), "--key", "n", *options]) == 1
    assert "1 cells are not in the table" in capsys.readouterr().err


def test_labels_called_nan_are_text_and_only_empty_cells_are_missing(
    atlas: ts.Atlas, tmp_path: Path
) -> None:
    index = atlas.query(section="s1").to_obs(["section"]).index
    names = ["nan", "null", "NA", "None", "NaN", None]
    frame = pd.DataFrame({"v": [names[k % 6] for k in range(len(index))]}, index=index)
    for suffix, separator in ((".csv", ","), (".tsv", "\t")):
        path = tmp_path / f"labels{suffix}"
        frame.to_csv(path, sep=separator)
        atlas.annotate(path, "v", overwrite=True)
        found = atlas.query(section="s1").to_obs(["v"])["v"]
        assert same_values(found, frame["v"])


def test_what_comes_back_is_a_table(atlas: ts.Atlas) -> None:
    given = labels(atlas)[["kind"]]
    given.iloc[:3] = None
    added = atlas.annotate(given, "k")
    assert added.table.columns.tolist() == ["column", "section", "kind", "n_cells", "n_missing"]
    n_missing = int(given["kind"].isna().sum())
    assert added.table["n_missing"].sum() == n_missing
    assert added.table["n_cells"].sum() == len(given) - n_missing
    assert [entry.key for entry in added.entries] == ["k"] * len(added)
    assert "digest" not in repr(added)
    assert "n_missing" in repr(added)
