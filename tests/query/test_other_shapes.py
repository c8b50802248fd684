"""Shapes beside those of the cells, of sections that hold them in several row groups."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import shapely

import tisseract as ts
from tisseract.atlas.outlines import OutlinesSource
from tisseract.atlas.store import create_store

from ..sections import add_section, make_raw

N = 40


def _tables(section: str) -> Iterator[pa.Table]:
    for start in (0, 15, 30):
        rows = range(start, min(start + 15, N))
        frame = pd.DataFrame(
            {"geometry": shapely.to_wkb(shapely.buffer(shapely.points(rows, rows), 2.0))},
            index=pd.Index([f"{section}-n{row}" for row in rows]),
        )
        yield pa.Table.from_pandas(frame)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> ts.Atlas:
    folder: Path = tmp_path_factory.mktemp("other_shapes") / "atlas"
    store = create_store(folder)
    for section in ("a", "b"):
        nuclei = OutlinesSource(partial(_tables, section))
        add_section(store, section, replace(make_raw(n_obs=N), outlines={"nuclei": nuclei}))
    return ts.open(folder)


def test_a_whole_section_has_the_shapes_of_all_row_groups(atlas: ts.Atlas) -> None:
    names = [f"a-n{row}" for row in range(N)]
    found = atlas.query(section="a").shapes("nuclei")
    assert found.index.tolist() == names
    assert found["section"].cat.categories.tolist() == ["a"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = atlas.query(section="a").to_spatialdata()
    assert data["nuclei"].index.tolist() == names


def test_several_sections_have_theirs_one_after_another(atlas: ts.Atlas) -> None:
    found = atlas.query().shapes("nuclei")
    assert found["section"].cat.categories.tolist() == ["a", "b"]
    assert found["section"].tolist() == ["a"] * N + ["b"] * N
