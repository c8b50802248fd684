"""Long lists of cells, values and genes are joined: right answers, in linear time."""

import time

import numpy as np
import pandas as pd
import pytest

from tisseract.atlas.errors import InvalidArgument, SectionNotFound
from tisseract.query import UnknownCellsWarning, parse, select
from tisseract.query.filters.leaf import bound_by_range
from tisseract.query.filters.predicate import In

from .conftest import Atlas


def test_finds_the_cells_named(atlas: Atlas) -> None:
    names = atlas.cells.index.to_series().sample(500, random_state=1)
    found = select(atlas.store, cells=[*names, *names[:3]])
    wanted = atlas.cells.index[atlas.cells.index.isin(names)]
    assert found.obs.index.tolist() == wanted.tolist()
    assert "and 497 more]" in str(found.question)


def test_only_sections_named_are_opened(atlas: Atlas) -> None:
    found = select(atlas.store, cells=[f"d_p7:cell-{k}" for k in range(20)])
    assert found.sections == ["d_p7"]
    assert found.n_obs == 20


def test_combines_with_filters(atlas: Atlas) -> None:
    first = atlas.cells[:200]
    text = "volume > 4 and not cell:id == 'a_e9:cell-1'"
    found = select(atlas.store, text, cells=first.index)
    kept = first[pd.to_numeric(first["volume"]) > 4].index
    assert found.obs.index.tolist() == [name for name in kept if name != "a_e9:cell-1"]


def test_tells_of_cells_that_are_not_there(atlas: Atlas) -> None:
    with pytest.warns(UnknownCellsWarning, match="2 cells are asked for by name, but 1 are"):
        assert select(atlas.store, cells=["a_e9:cell-0", "a_e9:nobody"]).n_obs == 1
    with pytest.raises(InvalidArgument, match="'<section>:<cell id>'"):
        select(atlas.store, cells=["cell-0"])
    with pytest.raises(SectionNotFound, match="a_e9"):
        select(atlas.store, cells=["a_e8:cell-0"])
    with pytest.raises(InvalidArgument, match="a list of cells"):
        select(atlas.store, cells="a_e9:cell-0")


def test_ten_thousand_values_of_a_filter(atlas: Atlas) -> None:
    values = list(range(10_000))
    text = f"volume in {values}"
    start = time.process_time()
    by_text = select(atlas.store, text)
    by_value = select(atlas.store, volume=values)
    assert by_text.n_obs == by_value.n_obs == by_text.only(by_text.sections).n_obs
    assert time.process_time() - start < 3
    kept = pd.to_numeric(atlas.cells["volume"]).isin(values)
    assert by_text.obs.index.tolist() == atlas.cells.index[kept].tolist()


def test_time_grows_with_the_list_not_with_its_square(atlas: Atlas) -> None:
    seconds = []
    for n in (20_000, 80_000):
        names = [f"a_e9:nobody-{k}" for k in range(n)] + ["a_e9:cell-1"]
        start = time.process_time()
        with pytest.warns(UnknownCellsWarning):
            assert select(atlas.store, cells=names).n_obs == 1
        seconds.append(time.process_time() - start)
    assert seconds[1] < 12 * max(seconds[0], 0.01)


def test_a_long_list_in_a_string_is_read_without_recursion() -> None:
    read = parse("x in [" + ", ".join(map(str, range(100_000))) + "]")
    assert isinstance(read, In)
    assert len(read.values) == 100_000


def test_bounds_of_long_lists_take_no_square_of_memory() -> None:
    rng = np.random.default_rng(0)
    low = rng.integers(0, 1_000_000, 5_000).astype(float)
    high = np.asarray(low + rng.integers(0, 50, 5_000), np.float64)
    values = tuple(rng.integers(0, 1_000_000, 20_000).tolist())
    n = np.full(5_000, 4_096)
    bounds = bound_by_range(In("x", values), low, high, np.zeros_like(n), n)
    sorted_values = np.unique(values)
    inside = np.searchsorted(sorted_values, high, "right") > np.searchsorted(sorted_values, low)
    assert (bounds.can_yes >= inside).all()
    assert bounds.can_yes.mean() < 1


def test_thousands_of_genes(atlas: Atlas) -> None:
    genes = [f"Gene{k % 8}" for k in range(5_000)]
    start = time.process_time()
    assert select(atlas.store, genes=genes, section="a_e9").to_anndata().n_vars == 8
    assert time.process_time() - start < 3
