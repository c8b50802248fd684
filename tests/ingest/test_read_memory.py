"""What an input holds while it is read is estimated from its headers, and the plan counts it."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from tisseract.atlas.errors import BudgetExceeded, InputError
from tisseract.atlas.image_sources import file_image
from tisseract.ingest.hdf5 import Hdf5Matrix
from tisseract.ingest.matrix import matrix_facts
from tisseract.ingest.read_memory import ReadMemory, chunk_bytes, image_bytes, text_bytes
from tisseract.ingest.sort_plan import least_memory, plan_partition

MIB = 2**20


def one_chunk(file: Any, rows: int, per_row: int, **options: Any) -> Any:
    nnz = rows * per_row
    group = file.create_group("X")
    group.attrs.update({"encoding-type": "csr_matrix", "shape": (rows, per_row)})
    rng = np.random.default_rng(0)
    group.create_dataset(
        "data", data=rng.integers(1, 9, nnz).astype("f4"), chunks=(nnz,), **options
    )
    indices = np.tile(np.arange(per_row, dtype=np.int32), rows)
    group.create_dataset("indices", data=indices, chunks=(nnz,), **options)
    group["indptr"] = np.arange(rows + 1, dtype=np.int64) * per_row
    return group


def test_text_is_estimated_by_sampling(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        words = [f"{'x' * (k % 300)}{k}" for k in range(20_000)]
        file["long"] = np.array(words, dtype=object)
        file["fixed"] = np.array(["abc"] * 20_000, dtype="S40")
        true = sum(map(len, words))
        assert true <= text_bytes(file, ["long", "fixed"]) <= 1.5 * true
        assert text_bytes(file, ["fixed"]) == 800_000


@pytest.mark.parametrize(("options", "most"), [({"compression": "gzip"}, 0.8), ({}, 4.0)])
def test_a_large_gzip_chunk_is_inflated_in_pieces(
    tmp_path: Path, options: dict[str, Any], most: float
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = one_chunk(file, 100_000, 50, **options)
        assert 0 < chunk_bytes(group) <= most * 40 * MIB
        matrix = Hdf5Matrix(lambda: nullcontext(group), matrix_facts(group))
        data = np.concatenate([block.data for block in matrix.blocks(MIB)])
        np.testing.assert_array_equal(data, group["data"][:])


def test_a_large_chunk_that_breaks_off_is_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = one_chunk(file, 100_000, 50, compression="gzip")
        _, body = group["data"].id.read_direct_chunk((0,))
        group["data"].id.write_direct_chunk((0,), body[: len(body) // 2])
        matrix = Hdf5Matrix(lambda: nullcontext(group), matrix_facts(group))
        with pytest.raises(InputError, match="cannot be inflated"):
            list(matrix.blocks(MIB))


def test_small_chunks_cost_nothing_extra(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        assert chunk_bytes(one_chunk(file, 100, 5, compression="gzip")) == 0


@pytest.mark.parametrize("stage", ["text", "chunk", "image"])
def test_the_plan_counts_what_reading_holds(stage: str) -> None:
    reading = ReadMemory(**{stage: 300 * MIB})
    need = least_memory(1000, 50, reading)
    assert need >= 500 * MIB > least_memory(1000, 50)
    plan = plan_partition(1000, 50, 10**8, memory_limit=need, reading=reading)
    assert 300 * MIB < plan.peak_bytes <= need
    assert plan.image_bytes < need
    with pytest.raises(BudgetExceeded, match=r"300\.0 MiB"):
        plan_partition(1000, 50, 10**8, memory_limit=need - 1, reading=reading)


def test_a_decoded_image_is_counted_whole(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 2000)).save(tmp_path / "a.png")
    assert image_bytes({"a": file_image(tmp_path / "a.png")}) >= 3 * 3000 * 2000
