"""What an answer leaves out is told, once, where the user asked."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tisseract as ts
from tisseract.atlas.store import AtlasStore
from tisseract.query import (
    EmptyAnswerWarning,
    MixedValuesWarning,
    UnmeasuredWarning,
    region,
    select,
)
from tisseract.query.filters.masks import select_masks

from ..sections import make_raw, make_store

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")
N = 40


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    """One section names its genes, one lists identifiers alone, one lists other genes."""
    ids = ["ENSMUSG00000041607", "ENSMUSG00000020932"]
    raws = {
        "named": make_raw(n_obs=N, genes=["MBP", "GFAP"], n_vars=2),
        "ids": make_raw(n_obs=N, genes=ids, n_vars=2),
        "other": make_raw(n_obs=N, genes=["SOX2", "PAX6"], n_vars=2),
    }
    return make_store(tmp_path_factory.mktemp("told"), raws)


def test_a_filter_on_a_symbol_tells_of_sections_without_symbols(store: AtlasStore) -> None:
    told = "counts:MBP is missing where it may be measured: ids list identifiers without symbols"
    with pytest.warns(UnmeasuredWarning, match=told) as caught:
        found = select(store, "counts:MBP >= 0")
    assert [one.filename for one in caught] == [__file__]
    assert list(found.runs) == ["named"]
    pruned = dict(found.explain().pruned)
    assert pruned["ids"] == "counts:MBP may be measured under an identifier, which has no symbol"
    assert pruned["other"] == "counts:MBP is not measured"
    with pytest.warns(UnmeasuredWarning, match="log1p:MBP"):
        select_masks(store, "log1p:MBP > 0", ["ids"])


@pytest.mark.parametrize(
    "asked",
    [
        "counts:ENSMUSG00000041607 > 1",
        "section == 'named' and counts:MBP > 1",
        "section != 'ids' and (counts:MBP > 1 or counts:GFAP > 1)",
    ],
)
def test_a_filter_that_no_such_section_can_satisfy_is_silent(store: AtlasStore, asked: str) -> None:
    assert select(store, asked).n_obs >= 0  # warnings are errors here


def test_a_place_without_cells_is_told_once_with_the_extent(store: AtlasStore) -> None:
    nothing = region(store, "named", bbox=(5e4, 5e4, 6e4, 6e4))
    with pytest.warns(EmptyAnswerWarning, match=r"section 'named' spans x .* \(um\)") as caught:
        assert nothing.n_obs == 0
    assert [one.filename for one in caught] == [__file__]
    assert nothing.to_anndata().shape[0] == 0  # told already
    with pytest.warns(EmptyAnswerWarning):
        region(store, "named", bbox=(5e4, 5e4, 6e4, 6e4)).to_pandas()


def test_a_gene_points_to_the_line_of_the_caller(store: AtlasStore) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        atlas = ts.open(str(store.url))
        for _ in range(3):
            atlas.gene("MBP")
    assert [one.filename for one in caught] == [__file__]


def test_kinds_point_to_the_line_of_the_caller(tmp_path: Path) -> None:
    """However deep: every verb that meets a column of several kinds."""
    raws = {
        "numbers": make_raw(n_obs=N, obs={"batch": np.arange(N) % 2}),
        "text": make_raw(n_obs=N, obs={"batch": ["a", "b"] * (N // 2)}),
    }
    atlas = ts.open(make_store(tmp_path, raws).url)
    verbs: list[Callable[[], object]] = [
        lambda: atlas.query().to_pandas(["batch"]),
        lambda: atlas.query().to_anndata(obs_columns=["batch"]),
        lambda: atlas.query().aggregate(["batch"], "count"),
        lambda: atlas.values("batch"),
        lambda: atlas.gene("Gene0").where("batch"),
    ]
    for verb in verbs:
        with pytest.warns(MixedValuesWarning, match="several kinds") as caught:
            verb()
        assert {one.filename for one in caught} == {__file__}


def test_warnings_of_queries_are_names_of_the_package() -> None:
    names = ("EmptyAnswerWarning", "UnmeasuredWarning", "MixedValuesWarning", "StaleLabelsWarning")
    for name in names:
        assert getattr(ts, name) is getattr(ts.query, name)
        assert name in dir(ts)
        assert name in ts.__all__
