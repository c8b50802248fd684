"""Lazy answers: the same numbers as read answers, nothing read before it is asked for."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.atlas.errors import BudgetExceeded, GeneNotFound, InvalidArgument
from tisseract.query import select
from tisseract.query.cells.rows import as_runs, rows_of
from tisseract.query.lazy.blocks import cut, groups

from .conftest import Atlas

QUERIES = ("true", "layer == 'L1' and section != 'c_e10'", "counts:Gene1 > 3", "false")


def matrix_of(adata: Any) -> Any:
    """The counts of an answer, whose type its own library leaves open."""
    return adata.X


@pytest.mark.filterwarnings("ignore::tisseract.query.UnmeasuredWarning")
@pytest.mark.filterwarnings("ignore::tisseract.query.MixedValuesWarning")
@pytest.mark.parametrize("text", QUERIES)
@pytest.mark.parametrize("dense", [False, True])
def test_dask_blocks_are_the_answer(atlas: Atlas, text: str, dense: bool) -> None:
    selection = select(atlas.store, text)
    array = selection.to_dask(dense=dense, block_bytes=2_000)
    wanted = matrix_of(selection.to_anndata())
    assert array.shape == wanted.shape
    assert array.dtype == np.float32
    if text == "true":
        assert array.numblocks[0] > 20
    got = array.compute(scheduler="synchronous")
    got = got if isinstance(got, np.ndarray) else got.toarray()
    np.testing.assert_array_equal(got, wanted.toarray())


@pytest.mark.filterwarnings("ignore::tisseract.query.MixedValuesWarning")
def test_dask_knows_units_and_missing_genes(atlas: Atlas) -> None:
    selection = select(atlas.store, genes=["Sox2", "Gene1"])
    with pytest.raises(GeneNotFound):
        selection.to_dask()
    array = selection.to_dask(missing="nan", normalize="log1p", dense=True, block_bytes=3_000)
    adata = selection.to_anndata(missing="nan", normalize="log1p")
    wanted = matrix_of(adata).toarray()
    np.testing.assert_array_equal(array.compute(scheduler="synchronous"), wanted)
    assert np.isnan(wanted).any()


def test_blocks_read_no_counts_before_compute(
    atlas: Atlas, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tisseract.atlas.section import Section

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("read before it was asked for")

    selection = select(atlas.store, section="a_e9", region=None)
    with monkeypatch.context() as patched:
        for verb in ("counts", "gene_columns", "cell_ids", "positions", "obs"):
            patched.setattr(Section, verb, refuse)
        array = selection.to_dask(block_bytes=4_000)
        dataset = selection.to_xarray(block_bytes=4_000)
        assert np.prod(array.shape)
        assert dataset.sizes == {"cell": 300, "gene": 9}
    total = array.map_blocks(lambda part: part.toarray(), meta=np.empty((0, 0), np.float32)).sum()
    assert total.compute(scheduler="synchronous") == matrix_of(selection.to_anndata()).sum()
    back = pickle.loads(pickle.dumps(array))
    assert back.name == selection.to_dask(block_bytes=4_000).name


@pytest.mark.filterwarnings("ignore::tisseract.query.UnmeasuredWarning")
@pytest.mark.filterwarnings("ignore::tisseract.query.MixedValuesWarning")
def test_xarray_holds_places_and_names(atlas: Atlas) -> None:
    selection = select(atlas.store, "layer == 'L2'")
    dataset = selection.to_xarray(block_bytes=5_000)
    adata = selection.to_anndata()
    assert dataset["X"].chunks is not None
    assert dataset["gene"].to_numpy().tolist() == adata.var_names.tolist()
    np.testing.assert_array_equal(dataset["X"].to_numpy(), matrix_of(adata).toarray())
    np.testing.assert_array_equal(dataset["x"].to_numpy(), adata.obsm["spatial"][:, 0])
    np.testing.assert_array_equal(dataset["y"].to_numpy(), adata.obsm["spatial"][:, 1])
    assert dataset["cell_id"].to_numpy().tolist() == adata.obs_names.tolist()
    assert dataset["section"].to_numpy().tolist() == adata.obs["section"].tolist()
    assert dataset.attrs["query"] == "layer == 'L2'"


@pytest.mark.filterwarnings("ignore::tisseract.query.UnmeasuredWarning")
@pytest.mark.filterwarnings("ignore::tisseract.query.MixedValuesWarning")
def test_batches_are_the_answer(atlas: Atlas) -> None:
    selection = select(atlas.store, "volume > 2", section=["a_e9", "b_e10", "d_p7"])
    whole = selection.to_anndata()
    parts: list[Any] = list(selection.batches(100))
    assert [part.n_obs for part in parts[:-1]] == [100] * (len(parts) - 1)
    assert [name for part in parts for name in part.obs_names] == whole.obs_names.tolist()
    stacked = np.concatenate([part.X.toarray() for part in parts])
    np.testing.assert_array_equal(stacked, matrix_of(whole).toarray())
    matrix, obs = next(iter(selection.batches(form="csr")))
    assert matrix.shape == (len(obs), whole.n_vars) == whole.shape


def test_batches_keep_to_the_memory(atlas: Atlas) -> None:
    selection = select(atlas.store, section="a_e9")
    with pytest.raises(BudgetExceeded, match="leave size out"):
        next(iter(selection.batches(10**7, memory_limit="100 MiB")))
    with pytest.raises(InvalidArgument, match="size=0"):
        next(iter(selection.batches(0)))
    with pytest.raises(InvalidArgument, match="form="):
        next(iter(selection.batches(form="pandas")))
    with pytest.raises(InvalidArgument, match="at least one cell"):
        selection.to_dask(block_bytes=1)


def test_a_batch_is_weighed_by_itself(atlas: Atlas) -> None:
    """An answer beyond the limit still comes in batches."""
    selection = select(atlas.store, section="a_e9")
    whole = selection.plan.peak_bytes
    part = selection.holding({"a_e9": as_runs([(0, 10)])})
    assert part.plan.n_obs_bound == 10
    assert part.plan.peak_bytes < whole


def test_sections_one_by_one(atlas: Atlas) -> None:
    selection = select(atlas.store, "layer == 'L1'")
    sizes = selection.map_sections(lambda part: part.n_obs)
    assert sizes == atlas.cells[atlas.cells["layer"] == "L1"].groupby("section").size().to_dict()
    assert selection.n_obs == sum(sizes.values())
    assert selection.map_sections(lambda part: part.n_obs) == sizes


@given(data=st.data())
def test_cuts_hold_every_row_once(data: st.DataObject) -> None:
    edges = sorted(data.draw(st.sets(st.integers(1, 99), max_size=8)))
    ptr = np.array([0, *edges, 100])
    cuts = sorted(data.draw(st.sets(st.integers(0, 100), max_size=12)))
    runs = as_runs(list(zip(cuts[::2], cuts[1::2], strict=False)))
    size = data.draw(st.integers(1, 60))
    parts = list(cut(runs, ptr, size))
    rows = np.concatenate([np.zeros(0, np.int64), *map(rows_of, parts)])
    assert rows.tolist() == rows_of(runs).tolist()
    assert all(0 < len(rows_of(part)) <= size for part in parts)


def test_groups_hold_every_cell_once(atlas: Atlas) -> None:
    selection = select(atlas.store, "layer == 'L1'")
    for size in (1, 7, 500, 10_000):
        found = [
            (n, r)
            for g in groups(selection, size)
            for n, runs in g.items()
            for r in rows_of(runs).tolist()
        ]
        wanted = [(n, r) for n, runs in selection.runs.items() for r in rows_of(runs).tolist()]
        assert found == wanted
