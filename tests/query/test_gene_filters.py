"""Tests on genes: the same cells as on fully loaded counts, read from few places."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import ColumnNotFound, GeneNotFound, InvalidArgument, UnitUnknown
from tisseract.atlas.store import create_store
from tisseract.query import MixedValuesWarning, select
from tisseract.query.cells.rows import as_runs, rows_of
from tisseract.query.filters.gene_columns import bound_by_tiles, read_gene
from tisseract.query.filters.predicate import Compare

from ..sections import add_section, make_raw
from .conftest import Atlas


def _values(atlas: Atlas, name: str) -> pd.Series:
    """Values of `counts:gene` or `log1p:gene`, NaN where not measured, by a loaded table."""
    unit, gene = name.split(":")
    counts: pd.Series = atlas.counts[gene]
    if unit == "counts":
        return counts
    scaled: pd.Series = (1e4 * counts / atlas.counts.sum(axis=1)).fillna(0)
    return pd.Series(np.log1p(scaled), index=counts.index).where(counts.notna())


GENES = ("Gene0", "Gene5", "Sox2", "OnlyD")
TESTS = st.tuples(
    st.sampled_from([f"{unit}:{gene}" for unit in ("counts", "log1p") for gene in GENES]),
    st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
    st.sampled_from([0, 1, 2, 3.5, 6, -1, 9]),
)


@settings(max_examples=60, deadline=None)
@given(tests=st.lists(TESTS, min_size=1, max_size=3), word=st.sampled_from(["and", "or"]))
def test_answers_as_the_loaded_counts_do(atlas: Atlas, tests: list[Any], word: str) -> None:
    text = f" {word} ".join(f"not {n} {op} {value}" for n, op, value in tests)
    answers = []
    for name, op, value in tests:
        known = _values(atlas, name)
        # The opposite of what is asked: missing values satisfy neither.
        answers.append(known.notna() & ~_compare(known, op, value))
    wanted = np.logical_and.reduce(answers) if word == "and" else np.logical_or.reduce(answers)
    found = select(atlas.store, text).obs
    assert found.index.tolist() == atlas.cells.index[wanted].tolist()


def _compare(values: pd.Series, op: str, value: float) -> pd.Series:
    operations = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
    found: pd.Series = getattr(values.astype(np.float32), operations[op])(np.float32(value))
    return found


def test_combines_with_every_other_test(atlas: Atlas) -> None:
    found = select(
        atlas.store, "counts:Gene1 > 1 and cell_type == 'Neuron'", timepoint=["E9.5", "P7"]
    ).obs
    cells = atlas.cells
    wanted = (
        (atlas.counts["Gene1"] > 1)
        & (cells["cell_type"] == "Neuron")
        & cells["timepoint"].isin(["E9.5", "P7"])
    )
    assert found.index.tolist() == cells.index[wanted].tolist()


def test_genes_are_columns_of_a_table(atlas: Atlas) -> None:
    table = select(atlas.store).to_pandas(["counts:Sox2", "log1p:Gene3"])
    for name in ("counts:Sox2", "log1p:Gene3"):
        wanted = _values(atlas, name).to_numpy()
        np.testing.assert_allclose(table[name].to_numpy(dtype=float), wanted, rtol=1e-6)


def test_unmeasured_is_missing(atlas: Atlas) -> None:
    selection = select(atlas.store, "counts:OnlyD is null")
    assert selection.sections == ["a_e9", "b_e10", "c_e10"]
    asked = select(atlas.store, "counts:OnlyD > 0")
    assert asked.sections == ["d_p7"]
    assert dict(asked.explain().pruned)["a_e9"] == "counts:OnlyD is not measured"


def test_plan_says_what_genes_rule_out(atlas: Atlas) -> None:
    best = atlas.counts.loc[atlas.cells["section"] == "a_e9", "Gene0"].max()
    plan = select(atlas.store, f"counts:Gene0 >= {best}", section="a_e9").explain()
    n_ruled_out = plan.sections[0].n_ruled_out_by_genes
    assert 0 < n_ruled_out < plan.sections[0].n_tiles
    assert f"genes rule out {n_ruled_out} " in str(plan)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("Sox2 > 3", UnitUnknown, "write counts:Sox2"),
        ("counts:Sox3 > 3", GeneNotFound, "Sox2"),
        ("counts:Sox2 > 'much'", InvalidArgument, "a number is wanted"),
        ("counts:Sox2.startswith('a')", InvalidArgument, "text is wanted"),
        ("timepont > 3", ColumnNotFound, "timepoint"),
    ],
)
def test_errors_teach(atlas: Atlas, text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        select(atlas.store, text)


def test_units_fit_what_is_stored(tmp_path: Any) -> None:
    store = create_store(tmp_path / "atlas")
    for values in ("counts", "log1p", "normalized"):
        add_section(store, f"s_{values}", replace(make_raw(n_obs=80, seed=2), values=values))
    gene = str(store.section("s_counts").panel.symbol[0] or store.section("s_counts").panel.name[0])
    with pytest.warns(MixedValuesWarning, match=r"s_log1p \(log1p\)"):
        asked = select(store, f"counts:{gene} >= 0")
    assert asked.sections == ["s_counts"]
    assert "holds log1p values" in dict(asked.explain().pruned)["s_log1p"]
    logged = select(store, f"log1p:{gene} >= 0").to_pandas([f"log1p:{gene}", "section"])
    answer: Any = select(store, genes=[gene], section="s_log1p").to_anndata()
    stored = answer.X.toarray()[:, 0]
    answer = select(store, genes=[gene], section="s_normalized").to_anndata()
    raw = answer.X.toarray()[:, 0]
    by = logged.groupby("section", observed=True)[f"log1p:{gene}"]
    assert by.get_group("s_log1p").tolist() == stored.tolist()
    np.testing.assert_allclose(by.get_group("s_normalized"), np.log1p(raw), rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_rows_and_sound_bounds(atlas: Atlas, data: st.DataObject) -> None:
    section = atlas.store.section("a_e9")
    name = data.draw(st.sampled_from(["counts:Gene2", "log1p:Gene2"]))
    column = select(atlas.store, f"{name} > 0").columns.resolve(name)
    cuts = sorted(data.draw(st.sets(st.integers(0, section.n_obs), min_size=2, max_size=8)))
    runs = as_runs(list(zip(cuts[::2], cuts[1::2], strict=False)))
    read = read_gene(section, runs, column)
    assert read is not None
    whole = _values(atlas, name)[atlas.cells["section"] == "a_e9"].to_numpy()
    np.testing.assert_allclose(read.to_numpy(), whole[rows_of(runs)], rtol=1e-6)
    leaf = Compare(name, data.draw(st.sampled_from(["<", ">=", "==", "!="])), 2)
    bounds = bound_by_tiles(leaf, column, section)
    hit = _compare(pd.Series(whole), leaf.op, 2).to_numpy()
    for tile, (low, high) in enumerate(zip(section.tiles.ptr, section.tiles.ptr[1:], strict=False)):
        part = hit[low:high]
        assert bounds.can_yes[tile] >= part.any()
        assert bounds.all_yes[tile] <= part.all()
