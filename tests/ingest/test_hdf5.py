from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy import sparse

from tisseract.atlas.errors import InputError
from tisseract.ingest.hdf5 import Hdf5Matrix
from tisseract.ingest.matrix import matrix_facts

from ..sections import random_counts

STORAGE = [
    {},
    {"chunks": (64,)},
    {"chunks": (64,), "compression": "gzip"},
    {"chunks": (64,), "compression": "gzip", "shuffle": True},
    {"chunks": (64,), "compression": "lzf"},
    {"chunks": (64,), "compression": "gzip", "fletcher32": True},
]


def opener(path: Path) -> Callable[[], Any]:
    @contextmanager
    def open_node() -> Iterator[Any]:
        with h5py.File(path, "r") as file:
            yield file["X"]

    return open_node


def written(path: Path, matrix: Any, kind: str, index: str = "i4", **storage: Any) -> Hdf5Matrix:
    with h5py.File(path, "w") as file:
        if kind == "dense":
            chunks = (7, 5) if storage.pop("chunks", None) else None
            file.create_dataset("X", data=matrix.toarray(), chunks=chunks, **storage)
        else:
            converted = matrix.tocsr() if kind == "csr" else matrix.tocsc()
            group = file.create_group("X")
            group.attrs.update({"encoding-type": f"{kind}_matrix", "shape": matrix.shape})
            group.create_dataset("data", data=converted.data, **storage)
            group.create_dataset("indices", data=converted.indices.astype(index), **storage)
            group.create_dataset("indptr", data=converted.indptr.astype(index))
    with opener(path)() as node:
        facts = matrix_facts(node)
    return Hdf5Matrix(opener(path), facts)


def assemble(source: Hdf5Matrix, budget: int) -> Any:
    parts: list[Any] = []
    expected = 0
    for block in source.blocks(budget):
        assert block.start_row == expected
        assert block.indices.dtype == np.int32
        assert block.indptr.dtype == np.int64
        expected += block.n_rows
        parts.append(
            sparse.csr_matrix(
                (np.asarray(block.data, float), block.indices, block.indptr),
                shape=(block.n_rows, source.n_vars),
            )
        )
    return sparse.vstack(parts, format="csr")


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
@pytest.mark.parametrize("storage", STORAGE, ids=str)
@pytest.mark.parametrize("budget", [500, 10**7])
def test_blocks_put_together_are_the_matrix(
    tmp_path: Path, kind: str, storage: dict[str, Any], budget: int
) -> None:
    matrix = random_counts(150, 13, 0)
    matrix.eliminate_zeros()
    source = written(tmp_path / "x.h5", matrix, kind, **storage)
    assert (assemble(source, budget) != matrix).nnz == 0
    assert [p.name for p in tmp_path.iterdir()] == ["x.h5"]


@pytest.mark.parametrize("kind", ["csr", "csc"])
@pytest.mark.parametrize("index", ["i8", "u4", "i2"])
def test_indices_of_any_width_are_read(tmp_path: Path, kind: str, index: str) -> None:
    matrix = random_counts(60, 9, 1)
    source = written(tmp_path / "x.h5", matrix, kind, index, chunks=(50,), compression="gzip")
    assert (assemble(source, 2000) != matrix).nnz == 0


def test_an_index_beyond_32_bits_does_not_wrap(tmp_path: Path) -> None:
    source = written(tmp_path / "x.h5", random_counts(20, 5, 0), "csr", "i8")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["X/indices"][3] = 2**32 + 1
    indices = np.concatenate([block.indices for block in source.blocks(10**6)])
    assert indices[3] == -1


def test_a_damaged_chunk_is_refused(tmp_path: Path) -> None:
    matrix = random_counts(500, 13, 0)
    source = written(tmp_path / "x.h5", matrix, "csr", chunks=(256,), compression="gzip")
    with h5py.File(tmp_path / "x.h5") as file:
        offset = file["X/data"].id.get_chunk_info(1).byte_offset
    blob = bytearray((tmp_path / "x.h5").read_bytes())
    blob[offset + 4 : offset + 40] = bytes(36)
    (tmp_path / "x.h5").write_bytes(blob)
    with pytest.raises(InputError, match="cannot be inflated; the file is damaged"):
        assemble(source, 10**6)


@pytest.mark.parametrize(("at", "value"), [(3, 10**6), (0, 5), (4, -1)])
@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_pointers_that_do_not_ascend_are_refused(
    tmp_path: Path, kind: str, at: int, value: int
) -> None:
    source = written(tmp_path / "x.h5", random_counts(50, 9, 0), kind)
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["X/indptr"][at] = value
    with pytest.raises(InputError, match="pointers do not ascend; the file is damaged"):
        assemble(source, 10**6)


def test_rows_longer_than_the_panel_are_refused_before_they_are_read(tmp_path: Path) -> None:
    source = written(tmp_path / "x.h5", random_counts(50, 9, 0), "csr")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["X/indptr"][3:-1] = file["X/indptr"][-1]
    with pytest.raises(
        InputError, match=r"at most 9 entries a row, one a gene, but got \d+ in row 2"
    ):
        assemble(source, 10**6)


def test_an_empty_matrix_has_empty_rows(tmp_path: Path) -> None:
    empty = sparse.csr_matrix((4, 3), dtype=np.float32)
    for kind in ("csr", "csc", "dense"):
        source = written(tmp_path / f"{kind}.h5", empty, kind)
        assert assemble(source, 1000).shape == (4, 3)


def test_rows_of_uneven_length_stay_within_the_budget(tmp_path: Path) -> None:
    """Two hundred full rows lie before those that hold next to nothing."""
    rng = np.random.default_rng(0)
    full = sparse.csr_matrix(rng.integers(1, 9, (200, 1500)).astype(np.float32))
    rest = sparse.random(9_800, 1500, 0.001, "csr", np.float32, rng)
    source = written(tmp_path / "x.h5", sparse.vstack([full, rest]), "csc", chunks=(4096,))
    sizes = [one.data.nbytes + one.indices.nbytes for one in source.blocks(2**20)]
    assert sum(sizes) == 8 * (full.nnz + rest.nnz)
    assert max(sizes) <= 2**20
    assert source.scratch_bytes == 16 * (full.nnz + rest.nnz)
