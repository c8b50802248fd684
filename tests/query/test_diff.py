"""Differences: DESeq2 on pseudobulks made by pandas, scanpy's rank sums on loaded data."""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tisseract as ts
from tisseract.atlas.errors import BudgetExceeded, InvalidArgument
from tisseract.cli.app import main
from tisseract.query import CellsAsReplicatesWarning, UnmeasuredWarning

from ..sections import make_raw, make_store

GENES = [f"Gene{k}" for k in range(30)]
CA = ("CA1", "CA3")


def raw_of(seed: int, *, donor: str, timepoint: str, n: int = 160, **more: Any) -> Any:
    """Cells of two fields; Gene0 is up in CA1, Gene1 late in time, each donor has its own depth."""
    rng = np.random.default_rng(seed)
    field = rng.integers(0, 2, n)
    rate = np.exp(np.random.default_rng(5).normal(0.5, 0.8, len(GENES)))
    mean = rate * rng.gamma(8.0, 1 / 8.0, len(GENES)) * rng.uniform(0.6, 1.5)
    mean = np.tile(mean, (n, 1))
    mean[field == 0, 0] *= 4
    mean[:, 1] *= 3.0 if timepoint == "P7" else 1.0
    return make_raw(
        counts=rng.poisson(mean).astype(np.float32),
        positions=rng.random((n, 2)) * 100,
        obs={
            "field": np.array(CA)[field].tolist(),
            "qc_pass": rng.random(n) < 0.9,
        },
        genes=more.pop("genes", GENES),
        metadata={"section": f"s{seed}", "donor": donor, "timepoint": timepoint, "time_value": 1.0},
        **more,
    )


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> ts.Atlas:
    raws = {
        f"s{seed}": raw_of(seed, donor=f"d{seed // 2}", timepoint="P7" if seed >= 6 else "E9")
        for seed in range(12)
    }
    return ts.open(make_store(tmp_path_factory.mktemp("diff"), raws).url)


def bulks(atlas: ts.Atlas, by: str, where: str = "qc_pass") -> pd.DataFrame:
    """Sums of counts by donor and group, by pandas on everything loaded."""
    loaded: Any = atlas.query(where).to_anndata()
    frame = pd.DataFrame(loaded.X.toarray(), loaded.obs_names, loaded.var_names)
    keys = [loaded.obs["donor"].astype(str), loaded.obs[by].astype(str)]
    return frame.groupby(keys).sum().astype(int)


def deseq(counts: pd.DataFrame, side: list[str], design: str, donors: list[str]) -> pd.DataFrame:
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.ds import DeseqStats

    metadata = pd.DataFrame(
        {"side": side, "donor": donors}, index=[f"b{k}" for k in range(len(side))]
    )
    counts = pd.DataFrame(np.ascontiguousarray(counts), metadata.index, counts.columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = DeseqDataSet(counts=counts, metadata=metadata, design=design, quiet=True, n_cpus=1)
        data.deseq2()
        stats = DeseqStats(data, contrast=["side", "one", "two"], quiet=True, n_cpus=1)
        stats.summary()
    found: pd.DataFrame = stats.results_df
    return found


def assert_equal(table: pd.DataFrame, wanted: pd.DataFrame) -> None:
    found = table.set_index("gene_id").loc[wanted.index]
    for ours, theirs in (
        ("log2_fold", "log2FoldChange"),
        ("base_mean", "baseMean"),
        ("stat", "stat"),
        ("p", "pvalue"),
        ("p_adj", "padj"),
    ):
        np.testing.assert_allclose(found[ours], wanted[theirs], rtol=1e-5, atol=1e-9, err_msg=ours)


def test_paired_groups_equal_pydeseq2(atlas: ts.Atlas, capsys: pytest.CaptureFixture[str]) -> None:
    table = ts.tl.diff(atlas, "field", "CA1", "CA3")
    sums = bulks(atlas, "field")
    one, two = (sums.xs(name, level=1) for name in CA)
    donors = [*one.index, *two.index]
    side = ["one"] * len(one) + ["two"] * len(two)
    wanted = deseq(pd.concat([one, two]), side, "~ donor + side", donors)
    capsys.readouterr()
    assert_equal(table, wanted)
    assert table["gene"].iloc[0] == "Gene0"
    assert table["log2_fold"].iloc[0] == pytest.approx(2.0, abs=0.3)
    assert table.attrs["design"] == "~ replicate + side"
    assert table.attrs["smallest_p"] == 2 / 2**6
    assert (table["n_group"] == 6).all()


@pytest.mark.slow  # two fits
def test_timepoints_of_a_selection_equal_pydeseq2(
    atlas: ts.Atlas, capsys: pytest.CaptureFixture[str]
) -> None:
    table = ts.tl.diff(atlas.query(field="CA1"), "timepoint", "P7", "E9")
    told = capsys.readouterr()
    assert told.out == told.err == ""
    sums = bulks(atlas, "timepoint", "qc_pass and field == 'CA1'").reset_index(level=1)
    late, early = (sums[sums["timepoint"] == t].drop(columns="timepoint") for t in ("P7", "E9"))
    side = ["one"] * len(late) + ["two"] * len(early)
    wanted = deseq(pd.concat([late, early]), side, "~ side", [*late.index, *early.index])
    assert_equal(table, wanted)
    assert table.attrs["design"] == "~ side"
    assert table.attrs["smallest_p"] == pytest.approx(0.1)
    assert table.attrs["groups"]["P7"]["cells"].keys() == {"d3", "d4", "d5"}


def test_where_and_all_cells_choose_cells(atlas: ts.Atlas) -> None:
    def n_cells(**options: Any) -> int:
        with pytest.warns(CellsAsReplicatesWarning):
            table = ts.tl.diff(atlas, "field", "CA1", method="wilcoxon", **options)
        return int(table["n_group"].iloc[0])

    assert n_cells() == atlas.query("qc_pass and field == 'CA1'").n_obs
    assert n_cells(all_cells=True) == atlas.query("field == 'CA1'").n_obs
    with pytest.raises(InvalidArgument, match="both"):
        ts.tl.diff(atlas, "field", where="qc_pass", all_cells=True)


@pytest.mark.slow  # scanpy takes seconds to import
@pytest.mark.parametrize("reference", [None, "CA3"])
def test_rank_sums_equal_scanpy(atlas: ts.Atlas, reference: str | None) -> None:
    import scanpy as sc

    with pytest.warns(CellsAsReplicatesWarning, match="every cell counts"):
        table = ts.tl.diff(atlas, "field", "CA1", reference, method="wilcoxon")
    loaded: Any = atlas.query("qc_pass").to_anndata(normalize="log1p")
    loaded.uns["log1p"] = {"base": None}
    loaded.obs["field"] = loaded.obs["field"].astype("category")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.tl.rank_genes_groups(
            loaded, "field", groups=["CA1"], reference=reference or "rest", method="wilcoxon"
        )
        wanted = sc.get.rank_genes_groups_df(loaded, "CA1").set_index("names")
    found = table.set_index("gene_id").loc[wanted.index]
    np.testing.assert_allclose(found["stat"], wanted["scores"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["p"], wanted["pvals"], rtol=1e-4, atol=1e-300)
    np.testing.assert_allclose(found["p_adj"], wanted["pvals_adj"], rtol=1e-4, atol=1e-300)
    np.testing.assert_allclose(found["log2_fold"], wanted["logfoldchanges"], rtol=1e-4, atol=1e-5)
    assert table.attrs["caveats"]


def test_rank_sums_do_not_depend_on_the_budget(atlas: ts.Atlas) -> None:
    whole = atlas.query("qc_pass")
    with pytest.warns(CellsAsReplicatesWarning):
        once = ts.tl.diff(whole, "field", method="wilcoxon")
    held = 32 * whole.n_obs + 4 * 12 * 160
    with pytest.warns(CellsAsReplicatesWarning):
        often = ts.tl.diff(whole, "field", method="wilcoxon", memory_limit=held + 160_000)
    pd.testing.assert_frame_equal(once, often)
    with pytest.warns(CellsAsReplicatesWarning), pytest.raises(BudgetExceeded):
        ts.tl.diff(whole, "field", method="wilcoxon", memory_limit=held + 1_000)
    with pytest.raises(BudgetExceeded):
        ts.tl.diff(whole, "field", memory_limit=10_000)


@pytest.mark.parametrize(
    ("asked", "options", "words"),
    [
        ("field", {"groups": "CA9"}, "CA1"),
        ("field", {"groups": "CA1", "reference": "CA1"}, "as both"),
        ("field", {"method": "t-test"}, "pseudobulk, wilcoxon"),
        ("field", {"replicate": "mother"}, "donor"),
        ("section", {"where": "section == 's1'"}, "two or more values"),
        ("donor", {"groups": "d1", "reference": "d2"}, "at least 2 replicates of 'donor' a side"),
        ("field", {"min_cells": 10_000}, "fewer than 10000 cells: d0 of CA1"),
    ],
)
def test_what_cannot_be_compared(
    atlas: ts.Atlas, asked: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        ts.tl.diff(atlas, asked, **options)


def test_values_that_are_no_counts_and_other_panels(tmp_path: Path) -> None:
    raws = {
        "s0": raw_of(0, donor="a", timepoint="E9"),
        "s1": raw_of(1, donor="b", timepoint="E9", genes=[*GENES[:-1], "Other"]),
        "s2": raw_of(2, donor="c", timepoint="E9", values="log1p"),
    }
    atlas = ts.open(make_store(tmp_path, raws).url)
    with pytest.raises(InvalidArgument, match=r"raw counts.*'s2' \(log1p\)"):
        ts.tl.diff(atlas, "field", missing="drop")
    counts = atlas.query(section=["s0", "s1"])
    with pytest.warns(UnmeasuredWarning, match="2 of 31 genes"):
        table = ts.tl.diff(counts, "field", "CA1")
    assert table.attrs["n_genes_dropped"] == 2
    assert set(table["gene_id"]) == set(GENES[:-1])
    with pytest.raises(InvalidArgument, match="Other"):
        ts.tl.diff(counts, "field", "CA1", missing="error")
    with pytest.raises(InvalidArgument, match="one kind"), pytest.warns(CellsAsReplicatesWarning):
        ts.tl.diff(atlas, "field", method="wilcoxon", missing="drop")


def test_without_pydeseq2(atlas: ts.Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydeseq2.dds", None)
    with pytest.raises(ImportError, match=r"tisseract\[de\]"):
        ts.tl.diff(atlas, "field", "CA1", "CA3")


@pytest.mark.slow  # a fit
def test_cli(atlas: ts.Atlas, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "de.csv"
    asked = ["--groupby", "field", "--groups", "CA1", "--reference", "CA3", "-o", str(out)]
    assert main(["diff", atlas.url, *asked, "--within", "timepoint == 'P7'"]) == 0
    told = capsys.readouterr()
    assert "smallest attainable p" in told.err
    table = pd.read_csv(out)
    assert table["gene"].iloc[0] == "Gene0"
    assert main(["diff", atlas.url, "--groupby", "donor", "--groups", "d1", "--quiet"]) == 1
    assert "2 replicates" in capsys.readouterr().err


def conditions(tmp_path: Path, **sides: str) -> ts.Atlas:
    """One section for each condition of each donor: `d0="ab"` has both."""
    places = [(donor, side) for donor, both in sides.items() for side in both]
    raws = {f"s{k}": raw_of(k, donor=d, timepoint=t) for k, (d, t) in enumerate(places)}
    return ts.open(make_store(tmp_path, raws).url)


def test_a_donor_is_never_two_replicates(tmp_path: Path) -> None:
    atlas = conditions(tmp_path, d0="ab", d1="a", d2="b")
    with pytest.raises(InvalidArgument, match=r"a: 2 \(d0 .*On both sides.*: d0\. Name another"):
        ts.tl.diff(atlas, "timepoint", "a", "b")


def test_complete_pairs_are_compared_and_the_others_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    atlas = conditions(tmp_path, d0="ab", d1="ab", d2="b")
    with pytest.warns(ts.query.UnmatchedReplicatesWarning, match=r"complete pairs, without d2 of"):
        table = ts.tl.diff(atlas, "timepoint", "a", "b")
    assert table.attrs["design"] == "~ replicate + side"
    assert table.attrs["smallest_p"] == 0.5
    assert (table[["n_group", "n_reference"]] == 2).all(axis=None)
    assert table.attrs["groups"]["a"]["left_out"] == ["d2 of b"]
    assert "without d2 of b" in table.attrs["caveats"][0]
    pairs = ts.tl.diff(atlas.query("donor != 'd2'"), "timepoint", "a", "b")
    pd.testing.assert_frame_equal(table, pairs, check_like=True)
    capsys.readouterr()


def test_one_donor_of_both_sides_is_left_out(tmp_path: Path) -> None:
    atlas = conditions(tmp_path, d0="ab", d1="a", d2="a", d3="b", d4="b")
    with pytest.warns(ts.query.UnmatchedReplicatesWarning, match=r"d0 of a, d0 of b"):
        table = ts.tl.diff(atlas, "timepoint", "a", "b")
    assert table.attrs["design"] == "~ side"
    assert table.attrs["groups"]["a"]["cells"].keys() == {"d1", "d2"}
