"""Regions, frames and labels that are damaged, or of a section that was replaced since."""

import re
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

import tisseract
from tisseract.atlas.errors import Corrupt, InvalidArgument, StaleDerived
from tisseract.query import StaleLabelsWarning, StalePlacesWarning, UnregisteredWarning, region

from ..sections import add_section, make_raw, make_store

BOX = shapely.box(0, 0, 500, 500)
BOW_TIE = shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)])
IDENTITY = [[1, 0, 0], [0, 1, 0]]


@pytest.fixture
def atlas(tmp_path: Path) -> Any:
    store = make_store(tmp_path, {name: make_raw(seed=k) for k, name in enumerate("abc")})
    handle = tisseract.open(store.url, read_only=False)
    for name in "ab":
        handle.annotate_regions(name, {"box": BOX})
    handle.register("fr", dict.fromkeys("abc", IDENTITY))
    return handle


@pytest.mark.parametrize(
    ("names", "shapes"),
    [
        (["box"], [None]),
        (["box", "other"], [BOX, None]),
        (["box"], [shapely.LineString([(0, 0), (900, 900)])]),
        (["box"], [BOW_TIE]),
        (["box"], [shapely.Polygon()]),
        (["box"], [shapely.box(0, 0, 1e16, 1)]),
        ([None], [BOX]),
        ([7], [BOX]),
    ],
)
def test_regions_on_disk_are_checked_as_those_given(
    atlas: Any, names: list[Any], shapes: list[Any]
) -> None:
    folder = atlas.storage.local_path(atlas.derived("regions", "regions", "a").prefix)
    wkb = [None if shape is None else shapely.to_wkb(shape) for shape in shapes]
    (folder / "regions.parquet").chmod(0o644)
    pq.write_table(
        pa.table({"name": names, "geometry": pa.array(wkb, pa.binary())}),
        folder / "regions.parquet",
    )
    with pytest.raises(Corrupt, match=r"regions/regions/a.*tisseract verify.*annotate it again"):
        _ = region(atlas, "a", name="box").n_obs


@pytest.fixture
def replaced(atlas: Any) -> Any:
    """Labels, regions and affines of `a` are stale, those of `b` hold."""
    ids = [f"{name}:{cell}" for name in "ab" for cell in atlas.section(name).cell_ids()]
    atlas.annotate(pd.DataFrame({"ann": [name[0] for name in ids]}, index=ids))
    add_section(atlas, "a", make_raw(seed=7), replace=True)
    return atlas


def test_tables_list_what_is_stale_and_say_so(replaced: Any) -> None:
    regions, frames = replaced.regions, replaced.frames
    assert regions[["section", "name", "stale"]].to_numpy().tolist() == [
        ["a", "box", True],
        ["b", "box", False],
    ]
    assert dict(zip(frames["section"], frames["stale"], strict=True)) == {
        "a": True,
        "b": False,
        "c": False,
    }
    assert regions["stale"].dtype == frames["stale"].dtype == bool


def test_a_stale_section_is_left_out_unless_it_is_named(replaced: Any) -> None:
    mend = re.escape("atlas.annotate_regions('a', regions, key='regions')")
    with pytest.warns(StalePlacesWarning, match=f"since: a; .*{mend}") as caught:
        found = replaced.region(name="box")
    assert len(caught) == 1
    assert found.sections == ["b"]
    assert found.n_obs == replaced.region("b", name="box").n_obs > 0
    assert "was replaced since" in dict(found.plan.pruned)["a"]
    with pytest.raises(StaleDerived, match=mend):
        replaced.region("a", name="box")
    with pytest.raises(StaleDerived, match=mend):
        replaced.region(["a", "b"], name="box")
    mend = re.escape("atlas.register('fr', {'a': affine})")
    asked: dict[str, Any] = {"bbox": (0, 0, 500, 500), "coordinate_system": "fr"}
    with pytest.warns(StalePlacesWarning, match=f"since: a; .*{mend}") as caught:
        found = replaced.region(**asked)
    assert not [one for one in caught if one.category is UnregisteredWarning]
    assert found.sections == ["b", "c"]
    with pytest.raises(StaleDerived, match=mend):
        replaced.region("a", **asked)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert replaced.region(obs="section == 'b'", **asked).sections == ["b"]


def test_where_all_sections_are_stale_it_raises(replaced: Any) -> None:
    for k, name in enumerate("bc"):
        add_section(replaced, name, make_raw(seed=k + 8), replace=True)
    assert replaced.regions["stale"].all()
    with pytest.raises(StaleDerived):
        replaced.region(name="box")
    with pytest.raises(StaleDerived):
        replaced.region(bbox=(0, 0, 9, 9), coordinate_system="fr")


def test_values_of_stale_labels_are_missing_aloud(replaced: Any) -> None:
    with pytest.warns(StaleLabelsWarning, match="'ann' of a "):
        counted = replaced.values("ann")
    n = replaced.section("b").n_obs
    assert counted["b"] == n
    assert counted.sum() == sum(replaced.section(name).n_obs for name in "abc")
    assert counted[counted.index.isna()].tolist() == [counted.sum() - n]
    mend = re.escape("atlas.annotate(table, key='ann')")
    with pytest.raises(StaleDerived, match=mend):
        replaced.values("ann", section="a")


def test_what_is_stale_is_written_again_without_overwrite(replaced: Any) -> None:
    with pytest.raises(InvalidArgument, match="overwrite=True"):
        replaced.annotate_regions("b", {"box": BOX})
    with pytest.raises(InvalidArgument, match="got b"):
        replaced.register("fr", {"a": IDENTITY, "b": IDENTITY})
    cells = [f"b:{cell}" for cell in replaced.section("b").cell_ids()]
    with pytest.raises(InvalidArgument, match="annotation of 'b'"):
        replaced.annotate(pd.DataFrame({"ann": "b"}, index=cells))
    replaced.annotate_regions("a", {"box": BOX})
    replaced.register("fr", {"a": IDENTITY})
    cells = [f"a:{cell}" for cell in replaced.section("a").cell_ids()]
    replaced.annotate(pd.DataFrame({"ann": "a"}, index=cells))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert replaced.region(name="box").sections == ["a", "b"]
        asked: dict[str, Any] = {"bbox": (0, 0, 500, 500), "coordinate_system": "fr"}
        assert replaced.region(**asked).sections == ["a", "b", "c"]
        assert replaced.values("ann")["a"] == len(cells)
    assert not replaced.regions["stale"].any()
    assert not replaced.frames["stale"].any()
