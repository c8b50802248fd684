"""Pruned answers equal brute force, and nothing is read before it is needed."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import (
    ColumnNotFound,
    InvalidArgument,
    QuerySyntax,
    SectionNotFound,
    UnitUnknown,
)
from tisseract.query import (
    And,
    Compare,
    EmptyAnswerWarning,
    In,
    Not,
    Null,
    Or,
    Predicate,
    StringTest,
    region,
    select,
)
from tisseract.query.geometry.given import polygon
from tisseract.query.geometry.places import Box, Circle, Place

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option"),
    pytest.mark.filterwarnings("ignore::tisseract.query.EmptyAnswerWarning"),
]
ORDER = ["E9.5", "E10.5", "P7"]
NUMBER = st.sampled_from([0, 2, 5, 40.0, 99.5])
OPERATORS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])


def leaves() -> st.SearchStrategy[Predicate]:
    text = {
        "layer": ["L1", "L2", "WM"],
        "cell_type": ["Neuron", "Glia"],
        "dom": ["cortex", "fiber tract", "ventricle"],
        "donor": ["m1", "m2", "m3"],
        "section": ["a_e9", "d_p7"],
        "timepoint": ORDER,
    }
    named = st.sampled_from(sorted(text)).flatmap(
        lambda c: st.one_of(
            st.builds(Compare, st.just(c), st.sampled_from(["==", "!="]), st.sampled_from(text[c])),
            st.builds(In, st.just(c), st.lists(st.sampled_from(text[c]), max_size=2).map(tuple)),
            st.builds(
                StringTest, st.just(c), st.just("contains"), st.sampled_from(["e", "L", "1"])
            ),
        )
    )
    numeric = st.builds(
        Compare, st.sampled_from(["area", "volume", "batch", "time_value"]), OPERATORS, NUMBER
    )
    truth = st.builds(
        Compare, st.sampled_from(["good", "sure"]), st.sampled_from(["==", "!="]), st.booleans()
    )
    null = st.builds(
        Null, st.sampled_from(["area", "volume", "sure", "layer", "cell_type", "dom", "donor"])
    )
    time = st.builds(Compare, st.just("timepoint"), OPERATORS, st.sampled_from(ORDER))
    return st.one_of(named, numeric, truth, null, time)


PREDICATES = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=5,
)
GRID = st.integers(-4, 204).map(lambda v: v / 2.0)


@st.composite
def places(draw: st.DrawFn) -> Place | None:
    kind = draw(st.sampled_from(["none", "box", "circle", "polygon"]))
    if kind == "none":
        return None
    if kind == "box":
        x, y = sorted([draw(GRID), draw(GRID)]), sorted([draw(GRID), draw(GRID)])
        return Box(x[0], y[0], x[1], y[1])
    if kind == "circle":
        return Circle(draw(GRID), draw(GRID), draw(st.integers(0, 60)))
    return polygon([(0, 0), (draw(GRID) + 5, 3), (60, draw(GRID) + 10)])


def truth(predicate: Predicate, row: Any) -> bool | None:
    """One cell, in plain Python: True, False, or None for unknown."""
    if isinstance(predicate, And | Or):
        answers = [truth(part, row) for part in predicate.parts]
        decisive = isinstance(predicate, Or)
        if decisive in answers:
            return decisive
        return None if None in answers else not decisive
    if isinstance(predicate, Not):
        inner = truth(predicate.part, row)
        return None if inner is None else not inner
    value: Any = row[predicate.column]
    absent = value is None or (isinstance(value, float) and value != value)
    if isinstance(predicate, Null):
        return absent
    if absent:
        return None
    if isinstance(predicate, In):
        return value in predicate.values
    if isinstance(predicate, StringTest):
        return predicate.text in str(value)
    other: Any = predicate.value
    if predicate.column == "timepoint" and predicate.op not in ("==", "!="):
        value, other = ORDER.index(str(value)), ORDER.index(str(other))
    return bool(
        {
            "==": lambda: value == other,
            "!=": lambda: value != other,
            "<": lambda: value < other,
            "<=": lambda: value <= other,
            ">": lambda: value > other,
            ">=": lambda: value >= other,
        }[predicate.op]()
    )


def brute(atlas: Any, predicate: Predicate, where: Place | None) -> list[str]:
    keep = np.array([truth(predicate, row) is True for row in atlas.cells.to_dict("records")])
    if where is not None:
        keep &= where.contains(atlas.cells[["x", "y"]].to_numpy(float))
        # Its unit is unknown: a place in micrometers is refused.
        keep &= (atlas.cells["section"] != "c_e10").to_numpy()
    return list(atlas.cells.index[keep])


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(predicate=PREDICATES, where=places())
def test_pruned_answers_equal_brute_force(
    atlas: Any, predicate: Predicate, where: Place | None
) -> None:
    names = [name for name in atlas.store.section_names if where is None or name != "c_e10"]
    selection = select(atlas.store, predicate, region=where, section=names)
    wanted = brute(atlas, predicate, where)
    assert selection.n_obs == len(wanted) <= selection.n_obs_bound
    assert selection.to_obs(["section"]).index.tolist() == wanted
    again = select(atlas.store, str(predicate), region=where, section=names)
    assert again.n_obs == len(wanted)


def test_plan_prunes_sections_by_the_catalog_and_tiles_by_boxes(atlas: Any) -> None:
    plan = select(atlas.store, "timepoint >= 'E10.5' and donor == 'm2'").explain()
    assert [part.section for part in plan.sections] == ["b_e10"]
    assert plan.exact
    assert plan.n_obs_bound == (atlas.cells["donor"] == "m2").sum()
    near = region(atlas.store, "a_e9", bbox=(10, 10, 30, 30)).explain()
    kept, total = near.n_tiles
    assert 0 < kept < total
    assert "sections  1 of 4 kept" in str(near)
    assert "b_e10: no cell can satisfy the filter" in str(near)


def test_labels_prune_tiles_by_their_histograms(atlas: Any) -> None:
    selection = select(atlas.store, domain="ventricle", section="a_e9")
    kept, total = selection.explain().n_tiles
    assert kept < total
    wanted = (atlas.cells["section"] == "a_e9") & (atlas.cells["dom"] == "ventricle")
    assert selection.n_obs == wanted.sum()


class Counting:
    """Notes every key read below the atlas."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Any) -> None:
        self.keys: list[str] = []
        kind = type(store.storage)
        for name in ("get", "get_range"):
            monkeypatch.setattr(kind, name, self._noting(getattr(kind, name)))

    def _noting(self, method: Any) -> Any:
        def call(storage: Any, key: str, *args: Any, **kwargs: Any) -> Any:
            self.keys.append(key)
            return method(storage, key, *args, **kwargs)

        return call

    def touched(self, part: str) -> list[str]:
        return [key for key in self.keys if part in key]


def test_no_cell_is_read_before_n_obs_and_no_count_before_an_export(
    atlas: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Counting(monkeypatch, atlas.store)
    selection = select(
        atlas.store, "area > 50 and layer == 'L1'", section="a_e9", region=Box(0, 0, 60, 60)
    )
    _ = repr(selection), selection.explain(), selection.nbytes, selection.n_obs_bound
    assert not seen.touched("tables/table")
    n = selection.n_obs
    assert seen.touched("obsm/spatial")
    assert seen.touched("obs/area")
    assert not seen.touched("table/X")
    assert not seen.touched("obs/volume")
    assert selection.to_anndata(obs_columns=[]).n_obs == n
    assert seen.touched("table/X")
    assert not seen.touched("by_gene")


def test_a_tile_wholly_inside_takes_no_test_per_cell(
    atlas: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Counting(monkeypatch, atlas.store)
    assert region(atlas.store, "a_e9", bbox=(-1, -1, 101, 101)).n_obs == 300
    assert not seen.touched("tables/table")


def test_sugar_says_the_same_as_strings(atlas: Any) -> None:
    pairs: list[tuple[dict[str, Any], str]] = [
        ({"timepoint": slice("E9.5", "E10.5")}, "timepoint <= 'E10.5'"),
        ({"timepoint": slice("E10.5", None)}, "timepoint >= 'E10.5'"),
        ({"donor": ["m1", "m3"]}, "donor in ['m1', 'm3']"),
        ({"donor": ["m1", None]}, "donor == 'm1' or donor is null"),
        ({"donor": [None]}, "donor is null"),
        ({"domain": [None]}, "dom is null"),
        ({"donor": None, "domain": None, "section": None}, "true"),
        ({"timepoint": None, "area": None}, "true"),
        ({"domain": "cortex"}, "dom == 'cortex'"),
        ({"cell_type": "Glia"}, "cell_type == 'Glia'"),
        ({"area": slice(10, 20)}, "10 <= area <= 20"),
        ({"good": np.bool_(True)}, "good"),
    ]
    for sugar, text in pairs:
        left, right = select(atlas.store, **sugar), select(atlas.store, text)
        assert left.to_obs(["section"]).index.equals(right.to_obs(["section"]).index), text
        assert left.n_obs > 0, text


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"obs": "aera > 3"}, ColumnNotFound, "Did you mean 'area'"),
        ({"obs": "layer == 'L3'"}, InvalidArgument, "There are: .L1., .L2., .WM."),
        ({"obs": "layer == 3"}, InvalidArgument, "write it in quotes"),
        ({"obs": "area == 'x'"}, InvalidArgument, "a number is wanted for column 'area'"),
        ({"obs": "layer > 'L1'"}, InvalidArgument, "text has no order"),
        ({"obs": "area.contains('x')"}, InvalidArgument, "text is wanted for .contains"),
        ({"obs": "area >"}, QuerySyntax, "column"),
        ({"obs": 3}, InvalidArgument, "a filter string or an expression"),
        ({"section": "a_e8"}, SectionNotFound, "Did you mean 'a_e9'"),
        ({"timepoint": "E9"}, InvalidArgument, "Did you mean 'E9.5'"),
        ({"timepoint": slice("P7", "E9.5")}, InvalidArgument, "forward in time"),
        ({"timepoint": slice(None, None)}, InvalidArgument, "slice"),
        ({"domain": "cortx"}, InvalidArgument, "Did you mean 'cortex'"),
        ({"domain_key": "domm"}, ColumnNotFound, "Did you mean 'dom'"),
        ({"region": Box(0, 0, 1, 1)}, InvalidArgument, "a section is wanted with a region"),
        ({"donro": None}, ColumnNotFound, "Did you mean 'donor'"),
        ({"area": [1.0, np.nan]}, InvalidArgument, r"area=\[None\], or by `area is null`"),
        ({"area": np.float32("nan")}, InvalidArgument, "NaN, which equals nothing"),
        ({"donor": object()}, InvalidArgument, "text, a number or a boolean"),
    ],
)
def test_wrong_questions_name_the_value_and_the_way_out(
    atlas: Any, call: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        select(atlas.store, **call)


def test_unknown_units_need_saying(atlas: Any) -> None:
    with pytest.raises(UnitUnknown, match="units='source'"):
        region(atlas.store, "c_e10", bbox=(0, 0, 50, 50))
    assert region(atlas.store, "c_e10", bbox=(0, 0, 50, 50), units="source").n_obs > 0
    with pytest.raises(InvalidArgument, match="whose unit is known"):
        region(atlas.store, "a_e9", bbox=(0, 0, 50, 50), units="source")
    with pytest.raises(InvalidArgument, match="centroid"):
        region(atlas.store, "a_e9", bbox=(0, 0, 50, 50), predicate="overlaps")


def test_a_place_outside_the_section_is_an_empty_answer_that_says_so(atlas: Any) -> None:
    selection = region(atlas.store, "a_e9", bbox=(5000, 5000, 5001, 5001))
    with pytest.warns(EmptyAnswerWarning, match="'a_e9' spans x"):
        assert selection.n_obs == 0
    assert ("a_e9", "lies outside the place") in selection.explain().pruned
    adata = selection.to_anndata()
    assert adata.shape[0] == 0


def test_selections_pickle(atlas: Any) -> None:
    selection = region(atlas.store, "a_e9", circle=(50, 50, 20))
    again = pickle.loads(pickle.dumps(selection))
    assert again.n_obs == selection.n_obs
    pd.testing.assert_frame_equal(again.obs, selection.obs)


def test_large_bounds_of_columns_of_floats(atlas: Any) -> None:
    known = atlas.cells["area"].notna().sum()
    assert select(atlas.store, "area < 1e20").n_obs == known
    assert select(atlas.store, "area > 1e300").n_obs == 0
    assert select(atlas.store, area=[1e20, 10**30]).n_obs == 0
    labeled = select(atlas.store, "confidence:dom < 2").n_obs
    assert select(atlas.store, "confidence:dom < 1e300").n_obs == labeled > 0  # of float32
