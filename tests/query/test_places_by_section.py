"""A place that differs by section: each section is pruned and tested by its own."""

import pickle

import numpy as np

from tisseract.query import Box, Circle, Nowhere, Place, PlacesBySection, place_of, select

from .conftest import Atlas


def test_each_section_is_asked_for_its_own_place(atlas: Atlas) -> None:
    places: dict[str, Place] = {"a_e9": Box(10, 10, 40, 60), "d_p7": Circle(50, 50, 20)}
    chosen = select(
        atlas.store, region=PlacesBySection.of(places, "region 'x'", "has no region 'x'")
    )
    cells = atlas.cells
    points = cells[["x", "y"]].to_numpy(float)
    wanted = np.zeros(len(cells), bool)
    for name, place in places.items():
        wanted |= (cells["section"] == name).to_numpy() & place.contains(points)
    assert 0 < wanted.sum() < len(cells)
    assert list(chosen.to_obs().index) == list(cells.index[wanted])
    assert chosen.sections == ["a_e9", "d_p7"]
    told = dict(chosen.plan.pruned)
    assert told == {"b_e10": "has no region 'x'", "c_e10": "has no region 'x'"}
    kept, total = chosen.plan.n_tiles
    assert kept < total
    assert "in region 'x' (2 sections)" in str(chosen.question)
    assert pickle.loads(pickle.dumps(chosen.question)) == chosen.question


def test_sections_without_the_place_have_no_point_of_it(atlas: Atlas) -> None:
    chosen = select(atlas.store, region=PlacesBySection.of({"a_e9": Box(0, 0, 9, 9)}, "r", "no r"))
    assert place_of(chosen.question, "b_e10") == Nowhere("no r")
    assert place_of(chosen.question, "a_e9") == Box(0, 0, 9, 9)
    nowhere = Nowhere("no r")
    assert not nowhere.contains(np.zeros((3, 2))).any()
    assert not Box(*(-1e300, -1e300, 1e300, 1e300)).cover(np.array([nowhere.bounds]))[0].any()
