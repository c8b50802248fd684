"""Columns of tables beside a vendor's own: joined by id, missing where they have no row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.source import (
    ArrayColumn,
    BooleanValues,
    CategoricalValues,
    NumericValues,
    StringValues,
)
from tisseract.ingest.vendors.h5ad_obs import h5ad_obs
from tisseract.ingest.vendors.joined import JoinedColumn, join_columns

from .. import h5ad_files as small

MASK = np.array([False, True, False])
COLUMNS: dict[str, tuple[Any, list[Any]]] = {
    "numeric": (NumericValues(np.array([1.5, 2.0, 3.0]), MASK), [3.0, None, 1.5, None]),
    "boolean": (BooleanValues(np.array([True, True, False]), MASK), [False, None, True, None]),
    "string": (StringValues.from_strings(["a", None, "c"]), ["c", None, "a", None]),
    "categorical": (CategoricalValues(np.array([1, -1, 0]), ("x", "y")), ["x", None, "y", None]),
}


def listed(values: Any) -> list[Any]:
    if isinstance(values, StringValues):
        return values.to_list()
    if isinstance(values, CategoricalValues):
        return [values.categories[code] if code >= 0 else None for code in values.codes]
    pairs = zip(values.values.tolist(), values.mask.tolist(), strict=True)
    return [None if lost else value for value, lost in pairs]


@pytest.mark.parametrize("kind", COLUMNS)
def test_cells_without_a_row_are_missing_in_columns_of_any_kind(kind: Any) -> None:
    values, wanted = COLUMNS[kind]
    column = JoinedColumn(ArrayColumn(kind, values), np.array([2, -1, 0, 1]))
    assert column.kind == kind
    assert listed(column.read()) == wanted


def test_a_table_of_other_cells_is_left_out() -> None:
    notes: list[str] = []
    columns = {"a": ArrayColumn.of(np.arange(3))}
    assert join_columns(columns, np.array([-1, -1]), "t.csv", notes) == {}
    assert notes == ["t.csv names none of the cells: its columns are left out"]


def test_obs_of_an_h5ad_file(tmp_path: Path) -> None:
    path = small.write_h5ad(tmp_path / "a.h5ad", obs={"depth": np.arange(small.N_CELLS)})
    names, columns = h5ad_obs(path)
    assert names.to_list() == small.cell_ids()
    depth = columns["depth"].read()
    assert isinstance(depth, NumericValues)
    assert depth.values.tolist() == list(range(small.N_CELLS))
    with h5py.File(path, "a") as file:
        file["obs/_index"][1] = "cell0"
    with pytest.raises(InputError, match=r"a\.h5ad:obs.*'cell0' again"):
        h5ad_obs(path)
    with h5py.File(path, "a") as file:
        del file["obs"]
    with pytest.raises(InputError, match="an h5ad file with obs"):
        h5ad_obs(path)
