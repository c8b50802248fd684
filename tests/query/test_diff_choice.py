"""Differences: which genes are tested and which sections count, beside those that are shown."""

import inspect
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tisseract as ts
from tisseract.atlas.errors import InvalidArgument
from tisseract.cli.app import main
from tisseract.query import CellsAsReplicatesWarning

from ..sections import make_raw, make_store

GENES = [f"Gene{k}" for k in range(24)]
SILENT = [f"Silent{k}" for k in range(40)]


def raw_of(seed: int, donor: str, genes: list[str], layer: bool = True) -> Any:
    """Cells of two layers; Gene0 is up in WM; silent genes have no count."""
    rng = np.random.default_rng(seed)
    n, field = 120, rng.integers(0, 2, 120)
    rate = np.exp(np.random.default_rng(5).normal(0.0, 1.5, len(genes)))
    rate[[name.startswith("Silent") for name in genes]] = 0
    mean = np.tile(rate * rng.gamma(8.0, 1 / 8.0, len(genes)), (n, 1))
    mean[field == 0, 0] *= 4
    obs = {"layer": np.array(["WM", "L6"])[field].tolist()} if layer else {"type": ["a"] * n}
    return make_raw(
        counts=rng.poisson(mean).astype(np.float32),
        positions=rng.random((n, 2)) * 100,
        obs=obs,
        genes=genes,
        metadata={"section": f"s{seed}", "donor": donor, "timepoint": "E9", "time_value": 1.0},
    )


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> ts.Atlas:
    """Three sections with layers, and two of another panel without."""
    raws = {f"s{k}": raw_of(k, f"d{k}", [*GENES, *SILENT]) for k in range(3)}
    others = [f"Other{k}" for k in range(5)]
    raws |= {f"s{k}": raw_of(k, f"d{k}", others, layer=False) for k in (3, 4)}
    return ts.open(make_store(tmp_path_factory.mktemp("mixed"), raws).url)


@pytest.fixture(scope="module")
def table(mixed: ts.Atlas) -> pd.DataFrame:
    return ts.tl.diff(mixed, "layer", "WM", "L6")


def test_sections_without_a_cell_of_either_side_do_not_count(
    mixed: ts.Atlas, table: pd.DataFrame
) -> None:
    assert set(table["gene_id"]) == {*GENES, *SILENT}
    assert table.attrs["n_genes_dropped"] == 0
    with pytest.warns(CellsAsReplicatesWarning):
        ranks = ts.tl.diff(mixed, "layer", "WM", "L6", method="wilcoxon")
    assert ranks["n_group"].iloc[0] == mixed.query("layer == 'WM'").n_obs


@pytest.mark.slow  # a fit
def test_naming_genes_only_picks_rows(mixed: ts.Atlas, table: pd.DataFrame) -> None:
    names = ["Gene3", "Gene0", "Silent1"]
    wanted = table[table["gene_id"].isin(names)].reset_index(drop=True)
    for found in (
        ts.tl.diff(mixed, "layer", "WM", "L6", genes=names),
        ts.tl.diff(mixed.query(genes=names), "layer", "WM", "L6"),
    ):
        pd.testing.assert_frame_equal(found, wanted)
        assert found.attrs["groups"]["WM"] == table.attrs["groups"]["WM"]


@pytest.mark.slow  # a fit
def test_genes_without_counts_change_nothing(tmp_path: Path, table: pd.DataFrame) -> None:
    raws = {f"s{k}": raw_of(k, f"d{k}", [*GENES, *SILENT]) for k in range(3)}
    alone = ts.open(make_store(tmp_path, raws).url)
    silent = table[table["gene_id"].isin(SILENT)]
    assert (silent["base_mean"] == 0).all()
    assert silent[["log2_fold", "stat", "p", "p_adj"]].isna().all(axis=None)
    from tisseract.query.differences.bulks import sum_bulks
    from tisseract.query.differences.deseq import choose_design, run_bulks
    from tisseract.query.differences.groups import compared

    asked = alone.query(genes=GENES)
    comparison = compared(asked, "layer", "WM", "L6")
    sums = sum_bulks(asked, comparison, asked.genes, "donor", limit=10**9)
    design = choose_design(sums, comparison, "WM", replicate="donor", min_cells=10)
    wanted, _ = run_bulks(sums, comparison, "WM", design)
    found = table.set_index("gene_id").loc[GENES].reset_index(drop=True)
    pd.testing.assert_frame_equal(found[wanted.columns.tolist()], wanted)


def test_empty_values_are_told(table: pd.DataFrame) -> None:
    facts = table.attrs["groups"]["WM"]
    assert facts["n_no_counts"] == (table["base_mean"] == 0).sum() >= len(SILENT)
    assert facts["n_tested"] == table["p"].notna().sum()
    assert facts["n_filtered"] == (table["p"].notna() & table["p_adj"].isna()).sum()
    assert facts["n_outliers"] == (table["p"].isna() & (table["base_mean"] > 0)).sum()
    assert f"{facts['n_no_counts']} without any count" in facts["empty"]


@pytest.mark.slow  # a fit
def test_command_tells_and_takes_sections(
    mixed: ts.Atlas, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["diff", mixed.url, "--groupby", "layer", "--groups", "WM", "--genes", "Gene0,Gene1"]
    assert main([*asked, "--section", "s0,s1"]) == 0
    told = capsys.readouterr()
    assert "without any count" in told.err
    assert "2 and 2 replicates" in told.err
    assert "Gene1" in told.out
    assert "Gene2" not in told.out


def test_panels_that_share_no_gene(mixed: ts.Atlas) -> None:
    with pytest.raises(InvalidArgument, match=r"all 5 sections .*section=.*where=.*--within"):
        ts.tl.diff(mixed, "section", "s0", replicate="section")


def test_signatures_name_their_arguments() -> None:
    from tisseract.query.differences import diff

    for front, behind in (
        (ts.tl.diff, diff),
        (ts.Atlas.annotate, ts.query.annotate),
        (ts.Atlas.annotate_regions, ts.query.annotate_regions),
        (ts.Atlas.register, ts.query.register),
    ):
        ours, theirs = (inspect.signature(one).parameters for one in (front, behind))
        assert list(ours)[1:] == list(theirs)[1:], front
        for name in list(ours)[1:]:
            assert ours[name].default == theirs[name].default, (front, name)
            assert name in (front.__doc__ or ""), (front, name)


def test_warnings_are_no_surprise(mixed: ts.Atlas) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.warns(CellsAsReplicatesWarning):
            ts.tl.diff(mixed, "layer", "WM", genes="Gene0", method="wilcoxon")
