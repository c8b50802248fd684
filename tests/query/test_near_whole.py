"""Near other cells that the catalog alone decides, or that were picked by hand."""

from typing import Any

import numpy as np
import pytest

from tisseract.atlas.store import AtlasStore
from tisseract.query import EmptyAnswerWarning, place_of, region, select
from tisseract.query.filters.expression import Test, col
from tisseract.query.geometry.near import NearCells

from ..sections import make_raw, make_store

META = {"one": {"donor": "m1", "timepoint": "E9.5"}, "two": {"donor": "m2", "timepoint": "E9.5"}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    raws = {
        name: make_raw(
            n_obs=600, seed=k, metadata={"section": name, "time_unit": "day", "stage": 1, **facts}
        )
        for k, (name, facts) in enumerate(META.items())
    }
    return make_store(tmp_path_factory.mktemp("near"), raws, tile_cells=16)


@pytest.mark.parametrize(
    ("others", "sections"),
    [
        ("section == 'one'", ["one"]),
        ("donor == 'm2'", ["two"]),
        ("timepoint == 'E9.5' and stage > 0", ["one", "two"]),
        ("donor in ['m1', 'm2'] and not section == 'two'", ["one"]),
        (col("donor") == "m1", ["one"]),
    ],
)
@pytest.mark.parametrize("form", ["filter", "selection", "found"])
def test_all_cells_of_a_section_are_near_themselves(
    store: AtlasStore, others: str | Test, sections: list[str], form: str
) -> None:
    near: Any = others if form == "filter" else select(store, others)
    if form == "found":
        assert near.n_obs
    chosen = region(store, near=near, within_um=1)
    assert store.section("one").n_tiles > 8
    assert {name: chosen.only([name]).n_obs for name in chosen.sections} == {
        name: store.section(name).n_obs for name in sections
    }
    with pytest.warns(EmptyAnswerWarning):
        assert region(store, "one", near=near, within_um=1, obs="donor == 'm2'").n_obs == 0


def test_cells_picked_by_hand_have_near_ones_in_every_tile_they_lie_in(store: AtlasStore) -> None:
    everyone = select(store, section="one")
    runs = np.array([[5, 30], [100, 101], [333, 420], [590, 600]], np.int64)
    picked = everyone.holding({"one": runs})
    points = store.section("one").positions()
    others = np.concatenate([points[a:b] for a, b in runs])
    apart = points[:, None] - others[None]
    wanted = np.flatnonzero(((apart**2).sum(axis=2) <= 30.0**2).any(axis=1))
    for near in (picked, picked.only(["one"])):
        chosen = region(store, near=near, within_um=30)
        found = np.concatenate([np.arange(a, b) for a, b in chosen.runs["one"]])
        assert found.tolist() == wanted.tolist()
        place = place_of(chosen.question, "one")
        assert isinstance(place, NearCells)
        low, high = others.min(axis=0) - 30, others.max(axis=0) + 30
        assert (np.array(place.bounds[:2]) <= low).all()
        assert (np.array(place.bounds[2:]) >= high).all()
