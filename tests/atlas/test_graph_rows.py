"""Rows asked for as people do: slices, runs, numbers in any order, masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.graph import GraphSpec, knn, open_graph, squidpy_builder
from tisseract.atlas.graph.interchange.points import points_graph
from tisseract.atlas.graph.row_choice import choose_rows

from .graph_fakes import FakeStore
from .graph_kinds import put_points


@given(st.lists(st.integers(0, 30), max_size=40))
def test_numbers_become_runs_that_hold_them(numbers: list[int]) -> None:
    runs, places = choose_rows(numbers, 31)
    inside = np.array([row for start, stop in runs for row in range(start, stop)], int)
    assert (np.diff(inside) > 0).all()
    assert set(inside.tolist()) == set(numbers)
    if places is not None:
        assert inside[places].tolist() == numbers


def test_rows_come_in_the_order_asked(tmp_path: Path) -> None:
    store = FakeStore.create(tmp_path / "atlas")
    put_points(store, "a", np.random.default_rng(8).random((200, 2)) * 1000)
    lazy = knn(store, n_neighs=4)
    lazy.write()
    whole, stored = lazy.compute().toarray(), open_graph(store, "spatial", "a")
    mask = np.arange(200) % 3 == 0
    numbers = [9, 0, 150, 9]
    for graph in (lazy, lazy["a"], stored):
        for asked, wanted in (
            (numbers, whole[numbers]),
            (np.array(numbers), whole[numbers]),
            (mask, whole[mask]),
            (slice(3, 7), whole[3:7]),
            ([(0, 2), (5, 7)], whole[[0, 1, 5, 6]]),
            ([], whole[:0]),
        ):
            found = graph.rows(asked).toarray()
            np.testing.assert_allclose(found, wanted, rtol=1e-6)
        wrongs: list[Any] = [
            [200],
            [-1],
            5,
            [0.5],
            mask[:9],
            [[1, 2, 3]],
            [(5, 7), (0, 2)],
            [1, [2]],
        ]
        for wrong in wrongs:
            with pytest.raises(InvalidArgument, match="row"):
                graph.rows(wrong)
    np.testing.assert_array_equal(lazy.rows("a", numbers).toarray(), whole[numbers])


def test_a_builder_wants_a_spec() -> None:
    wrong: Any = "knn"
    with pytest.raises(InvalidArgument, match=r"GraphSpec is wanted, but got 'knn'; .*within"):
        squidpy_builder(wrong)
    assert str(GraphSpec.within(30)) == "radius graph: radius=30.0"


def test_points_without_a_lattice_are_called_points() -> None:
    xy = np.random.default_rng(0).random((500, 2))
    with pytest.raises(InvalidArgument, match="but got points, whose cells lie on none") as caught:
        points_graph(xy, GraphSpec.grid())
    assert "--" not in str(caught.value)
    assert "section" not in str(caught.value)


@pytest.mark.slow
def test_a_local_cluster_is_started_where_asked(tmp_path: Path) -> None:
    from tisseract.testing import small_atlas

    atlas = small_atlas(str(tmp_path), n_cells=400)
    entries = knn(atlas).write("there", client="local")
    assert [entry.section for entry in entries] == atlas.section_names
