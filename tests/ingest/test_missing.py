"""Values that are missing are never made up: positions, cell ids, instance keys, codes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import sparse

from tisseract.atlas.errors import InputError
from tisseract.ingest.frame import read_strings
from tisseract.ingest.h5ad import H5adReader
from tisseract.ingest.matrix import StreamedMatrix, matrix_facts
from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.sdata_elements import Outlines
from tisseract.ingest.sdata_place import _shape_of

from . import h5ad_files as h5

UNIT = ReadOptions(um_per_unit=1.0)
READER = H5adReader()
N = h5.N_CELLS


def write_nullable(frame: Any, name: str, values: Any, missing: list[int]) -> None:
    group = frame.create_group(name)
    group.attrs["encoding-type"] = "nullable-integer"
    group["values"] = values
    group["mask"] = np.isin(np.arange(len(values)), missing)
    order = [n.decode() if isinstance(n, bytes) else n for n in frame.attrs["column-order"]]
    frame.attrs.create("column-order", [*order, name], dtype=h5.TEXT)


def faults(path: Path, options: ReadOptions = UNIT) -> str:
    return "\n".join(map(str, READER.inspect(path, options).faults))


def frame_obsm(path: Path, columns: dict[str, Any]) -> Path:
    h5.write_h5ad(path)
    with h5py.File(path, "a") as file:
        del file["obsm/spatial"]
        h5.write_frame(file["obsm"], "spatial", h5.cell_ids(), columns)
    return path


def test_masked_positions_in_obs(tmp_path: Path) -> None:
    path = h5.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(path, "a") as file:
        write_nullable(file["obs"], "px", np.arange(N), [3, 8])
        write_nullable(file["obs"], "py", np.arange(N) ** 2 % 37, [])
    options = replace(UNIT, reader_kwargs={"position_columns": ["px", "py"]})
    assert "obs/px: expected a position in every row, but got none in 2 rows (3, 8)" in faults(
        path, options
    )


def test_masked_positions_in_a_frame_of_obsm(tmp_path: Path) -> None:
    path = frame_obsm(tmp_path / "a.h5ad", {})
    with h5py.File(path, "a") as file:
        for name in "xy":
            write_nullable(file["obsm/spatial"], name, np.arange(N), [5])
    assert "in 1 row (5)" in faults(path)


def test_columns_of_an_obsm_frame_go_by_name(tmp_path: Path) -> None:
    xy = h5.positions()
    named = {"z": np.zeros(N), "Y": xy[:, 1], "X": xy[:, 0]}
    raw = READER.open(frame_obsm(tmp_path / "a.h5ad", named), UNIT)
    np.testing.assert_array_equal(raw.positions, xy)
    two = {"px": xy[:, 0], "py": xy[:, 1]}
    raw = READER.open(frame_obsm(tmp_path / "b.h5ad", two), UNIT)
    np.testing.assert_array_equal(raw.positions, xy)
    for wrong in ({**two, "pz": xy[:, 0]}, {"y": xy[:, 1], "z": xy[:, 0]}):
        assert "expected numeric columns x and y, or two" in faults(
            frame_obsm(tmp_path / f"{len(wrong)}.h5ad", wrong)
        )


@pytest.mark.parametrize("kind", ["masked", "nan"])
def test_missing_cell_ids(tmp_path: Path, kind: str) -> None:
    ids = np.arange(1.0, N + 1)
    ids[4] = np.nan
    path = h5.write_h5ad(tmp_path / "a.h5ad", obs={"nan": ids})
    with h5py.File(path, "a") as file:
        write_nullable(file["obs"], "masked", np.arange(1, N + 1), [4])
    options = replace(UNIT, reader_kwargs={"cell_id_column": kind})
    assert "expected a cell id in every row, but got none in 1 row (4)" in faults(path, options)


def test_missing_words_are_empty(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        frame = h5.write_frame(file, "var", ["a", "b"], {"number": np.array([1.5, np.nan])})
        write_nullable(frame, "masked", np.array([7, 0]), [1])
        assert read_strings(frame, "masked") == ["7", ""]
        assert read_strings(frame, "number") == ["1.5", ""]


def test_missing_instance_keys(tmp_path: Path) -> None:
    outlines = Outlines(pd.Index([0, 1, 2]), np.zeros((3, 2)), None, None, ())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        obs = h5.write_frame(file, "obs", ["a", "b", "c"], {})
        write_nullable(obs, "key", np.array([2, 0, 0]), [2])
        rows = np.arange(2)
        assert _shape_of(obs, "key", outlines, rows, "s").tolist() == [2, 0]
        with pytest.raises(InputError, match=r"key in every row, but got none in 1 row \(2\)"):
            _shape_of(obs, "key", outlines, np.arange(3), "s")


@pytest.mark.parametrize("code", [256, 2, -2])
def test_codes_beyond_the_categories(tmp_path: Path, code: int) -> None:
    path = h5.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(path, "a") as file:
        h5.write_categorical(file["obs"], "layer", np.zeros(N), ["a", "b"])
        del file["obs/layer/codes"]
        file["obs/layer/codes"] = np.r_[code, np.zeros(N - 1, np.int64)]
    with pytest.raises(InputError, match=rf"'layer'.*codes in -1\.\.1.*{code}"):
        READER.open(path, UNIT).obs["layer"].read()


@pytest.mark.parametrize("layout", ["csr", "csc"])
@pytest.mark.parametrize("wrong", [2**32, -(2**32), 999])
def test_wide_indices_of_zarr_do_not_wrap(layout: str, wrong: int) -> None:
    matrix = sparse.random_array((20, 20), density=0.3, rng=np.random.default_rng(0))
    packed = matrix.tocsr() if layout == "csr" else matrix.tocsc()
    group: Any = zarr.create_group({})
    group.attrs.update({"encoding-type": f"{layout}_matrix", "shape": [20, 20]})
    indices = packed.indices.astype(np.int64)
    indices[3] = indices[3] + wrong
    for name, values in (("data", packed.data), ("indices", indices), ("indptr", packed.indptr)):
        group.create_array(name, data=values)
    source = StreamedMatrix(lambda: _Open(group), matrix_facts(group))
    if layout == "csc":
        with pytest.raises(InputError, match=r"a row lies outside 0\.\.19"):
            list(source.blocks(2**20))
    else:  # the writer names the cell
        found = np.concatenate([block.indices for block in source.blocks(2**20)])
        assert not 0 <= found[3] < 20


class _Open:
    def __init__(self, node: Any) -> None:
        self.node = node

    def __enter__(self) -> Any:
        return self.node

    def __exit__(self, *_: object) -> None:
        return None
