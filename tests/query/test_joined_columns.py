"""Columns of sections joined: numbers stay exact, orders are kept, what is left out is said."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tisseract.atlas.derived import Provenance, write_derived
from tisseract.atlas.errors import BudgetExceeded, InvalidArgument
from tisseract.atlas.snapshot import Change
from tisseract.atlas.store import AtlasStore
from tisseract.ingest.partition import write_section
from tisseract.ingest.source import ArrayColumn, CategoricalValues, NumericValues
from tisseract.query import (
    CategoryOrderWarning,
    StaleLabelsWarning,
    domains,
    gene,
    select,
)

from ..sections import LIMIT, entry_of, make_raw, make_store, random_counts

N = 60
BIG = 2**53 + 1


def stored(tmp_path: Path, **columns: Any) -> AtlasStore:
    """Sections s1, s2, ... with one value of each column, or none for None."""
    width = max(map(len, columns.values()))
    raws = {
        f"s{k + 1}": make_raw(
            n_obs=N,
            seed=k,
            obs={name: parts[k] for name, parts in columns.items() if parts[k] is not None},
        )
        for k in range(width)
    }
    return make_store(tmp_path, raws)


def replace_section(store: AtlasStore, name: str, raw: Any) -> None:
    with store.new_attempt(f"sections/{name}", suffix=".zarr") as attempt:
        summary = write_section(raw, attempt.path, tile_cells=64, memory_limit=LIMIT)
        receipt = attempt.seal()
    entry = entry_of(summary, name, receipt)
    store.commit(Change(add_sections=[entry], replace=True), f"replace {name}")


def test_identifiers_beyond_float64_survive_a_section_without_them(tmp_path: Path) -> None:
    import anndata as ad

    ids = np.arange(BIG, BIG + N)
    top = np.arange(N, dtype=np.uint64) + np.uint64(2**63)
    holes = NumericValues(ids.copy(), np.arange(N) % 7 == 0)
    store = stored(tmp_path, id=[ids, None], top=[top, None], hole=[holes, ids])
    obs = select(store).to_obs(["id", "top", "hole"])
    assert [str(obs[name].dtype) for name in ("id", "top", "hole")] == ["Int64", "UInt64", "Int64"]
    assert sorted(obs["id"].dropna().tolist()) == ids.tolist()
    assert sorted(obs["top"].dropna().tolist()) == top.tolist()
    assert obs.loc[obs["section"] == "s2", "id"].isna().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="The 'future.infer_string' option")
        select(store).to_anndata().write_h5ad(tmp_path / "all.h5ad")
        back: Any = ad.read_h5ad(tmp_path / "all.h5ad").obs
    assert sorted(back["id"].dropna().tolist()) == ids.tolist()
    assert select(store, f"top == {2**63 + 3}").n_obs == 1
    assert select(store, f"top in [{2**63 + 3}, 5]").n_obs == 1
    assert select(store, f"id in [{BIG}]").n_obs == 1


def test_integers_of_several_dtypes_are_joined_without_rounding(tmp_path: Path) -> None:
    signed = np.arange(BIG, BIG + N)
    unsigned = signed.astype(np.uint64)
    top = unsigned + np.uint64(2**63)
    halves = np.arange(N) / 2
    store = stored(
        tmp_path,
        fits=[signed, unsigned],
        none=[-signed, top],
        small=[np.arange(N), halves],
        mixed=[signed, halves],
    )
    obs = select(store).obs
    assert obs["fits"].dtype == np.int64
    assert set(obs["fits"]) == set(signed.tolist())
    assert obs["small"].dtype == np.float64
    # No dtype of numbers holds these: text does.
    assert str(BIG) in set(obs["mixed"])
    assert str(2**63 + BIG) in set(obs["none"])


def test_a_column_of_text_and_numbers_can_be_asked(tmp_path: Path) -> None:
    store = stored(tmp_path, mix=[np.arange(N), ["a"] * N])
    assert select(store, "mix > 3").n_obs == N - 4
    assert select(store, "mix == 'a'").n_obs == N
    assert select(store, "mix != 'a'").n_obs == N
    assert select(store, "mix in ['a', 2]").n_obs == N + 1


def test_ordered_categories_keep_an_order_that_all_share(tmp_path: Path) -> None:
    def grades(*names: str) -> ArrayColumn:
        codes = (np.arange(N) % len(names)).astype(np.int8)
        return ArrayColumn.of(CategoricalValues(codes, names, ordered=True))

    one, other = ("low", "mid", "high"), ("high", "low")
    store = stored(tmp_path, same=[grades(*one), grades(*one)], odd=[grades(*one), grades(*other)])
    with pytest.warns(CategoryOrderWarning, match="'odd'"):
        obs = select(store).obs
    assert obs["same"].cat.ordered
    assert obs["same"].cat.categories.tolist() == list(one)
    assert not obs["odd"].cat.ordered
    assert select(store, "same >= 'mid'").n_obs == (obs["same"] >= "mid").sum()
    assert select(store, same=slice("low", "mid")).n_obs == (obs["same"] <= "mid").sum()
    assert select(store).aggregate("same", "count").index.tolist() == list(one)
    with pytest.raises(InvalidArgument, match="no order that its sections share"):
        select(store, "odd < 'low'")


def test_an_empty_answer_keeps_its_columns(tmp_path: Path) -> None:
    store = stored(tmp_path, area=[np.arange(N) / 2], kind=[["a", "b"] * (N // 2)])
    empty = select(store, "area > 1000").obs
    assert list(empty.columns) == list(select(store).obs.columns)
    assert len(empty) == 0
    assert empty["area"].dtype == np.float64


def label(store: AtlasStore, section: str) -> None:
    handle = store.section(section)
    entry = write_derived(
        store,
        "domains",
        "dom",
        section,
        arrays={
            "codes": np.zeros(handle.n_obs, np.int16),
            "confidence": np.ones(handle.n_obs, np.float32),
        },
        attrs={"categories": ["one"]},
        provenance=Provenance({f"section:{section}": handle.attempt}, {}),
        info={"categories": ["one"]},
    )
    store.commit(Change(add_derived=[entry]), "label")


def test_stale_labels_are_left_out_aloud(tmp_path: Path) -> None:
    store = stored(tmp_path, area=[np.arange(N), np.arange(N)])
    for name in store.section_names:
        label(store, name)
    replace_section(store, "s1", make_raw(n_obs=N + 1, seed=9, obs={}))
    with pytest.warns(StaleLabelsWarning, match="'dom' of s1 were computed") as caught:
        adata: Any = select(store).to_anndata()
    assert len([w for w in caught if w.category is StaleLabelsWarning]) == 1
    assert adata.uns["tisseract"]["stale_labels"] == {"dom": ["s1"]}
    assert adata.obs.groupby("section", observed=True)["dom"].count().tolist() == [0, N]


def test_answers_stay_those_of_the_snapshot_that_was_asked(tmp_path: Path) -> None:
    store = stored(tmp_path, area=[np.arange(N), np.arange(N)])
    label(store, "s1")
    chosen, fresh = select(store, "area < 20"), select(store, section="s1")
    seen, labels = gene(store, "Gene1"), domains(store, "dom")
    before: Any = chosen.to_anndata()
    values, composition = seen.values("s1"), labels.composition()
    replace_section(store, "s1", make_raw(n_obs=N * 2, seed=5, obs={"area": np.zeros(N * 2)}))
    after: Any = chosen.to_anndata()
    pd.testing.assert_frame_equal(after.obs, before.obs)
    assert (after.X != before.X).nnz == 0
    assert fresh.n_obs == N
    np.testing.assert_array_equal(seen.values("s1"), values)
    pd.testing.assert_frame_equal(labels.composition(), composition)
    assert select(store, section="s1").n_obs == N * 2


def test_one_name_may_stand_for_a_list(tmp_path: Path) -> None:
    store = stored(tmp_path, side=[["l", "r"] * (N // 2)])
    assert gene(store, "Gene1", sections="s1").sections == ("s1",)
    assert list(select(store).to_pandas("side").columns) == ["section", "side"]


def test_summaries_refuse_their_own_names_and_name_what_they_average(tmp_path: Path) -> None:
    raws = {
        "counted": make_raw(n_obs=N, obs={"n": np.arange(N) % 2}),
        "scaled": make_raw(n_obs=N, obs={}, values="normalized"),
    }
    store = make_store(tmp_path, raws)
    view = gene(store, "Gene1")
    table = view.per_section().set_index("section")
    assert bool(table["mean_counts"].isna()["scaled"])
    assert table.loc["scaled", "mean_normalized"] == pytest.approx(view.values("scaled").mean())
    assert table.loc["counted", "mean_counts"] == pytest.approx(view.values("counted").mean())
    for name in ("n", "fraction", "mean_log1p"):
        with pytest.raises(InvalidArgument, match=f"obs:{name}"):
            view.per_section(by=name)
    assert view.per_section(by="obs:n")["obs:n"].dropna().nunique() == 2


def test_dense_genes_are_planned_by_their_own_number(tmp_path: Path) -> None:
    counts = random_counts(2_000, 200, 0, density=0.001).tolil()
    counts[:, 0] = 1.0
    store = make_store(tmp_path, {"s1": make_raw(counts=counts.tocsr(), obs={})})
    dense, sparse = (select(store, genes=[name]).plan.peak_bytes for name in ("Gene0", "Gene1"))
    assert dense - sparse > 1_900 * 16


def test_too_many_groups_are_refused_before_their_sums_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stored(tmp_path, id=[np.arange(N)])

    def unexpected(*_: Any, **__: Any) -> Any:
        raise AssertionError("counts were read")

    monkeypatch.setattr("tisseract.query.tables.aggregate.aligned", unexpected)
    with pytest.raises(BudgetExceeded, match="60 groups"):
        select(store).aggregate("id", memory_limit=1000)
