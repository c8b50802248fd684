"""Small h5ad files, written with h5py in the encodings that anndata has used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

N_CELLS, N_GENES = 60, 12
TEXT = h5py.string_dtype()


def counts(seed: int = 0, n: int = N_CELLS) -> NDArray[Any]:
    return np.random.default_rng(seed).poisson(0.7, (n, N_GENES)).astype(np.float32)


def positions(seed: int = 1, n: int = N_CELLS) -> NDArray[Any]:
    return np.random.default_rng(seed).random((n, 2)) * 100


def cell_ids(n: int = N_CELLS) -> list[str]:
    return [f"cell{i}" for i in range(n)]


def gene_names() -> list[str]:
    return [f"Gene{i}" for i in range(N_GENES)]


def write_sparse(parent: Any, name: str, matrix: Any, layout: str = "csr") -> None:
    packed = sparse.csr_matrix(matrix) if layout == "csr" else sparse.csc_matrix(matrix)
    group = parent.create_group(name)
    group.attrs.update({"encoding-type": f"{layout}_matrix", "encoding-version": "0.1.0"})
    group.attrs["shape"] = packed.shape
    for key in ("data", "indices", "indptr"):
        group.create_dataset(key, data=getattr(packed, key), compression="gzip")


def write_frame(parent: Any, name: str, index: list[str], columns: dict[str, Any]) -> Any:
    group = parent.create_group(name)
    group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0"})
    group.attrs["_index"] = "_index"
    group.attrs.create("column-order", list(columns), dtype=TEXT)
    group.create_dataset("_index", data=index, dtype=TEXT)
    for key, values in columns.items():
        array = np.asarray(values)
        array = array.astype(object) if array.dtype.kind == "U" else array
        group.create_dataset(key, data=array, dtype=TEXT if array.dtype.kind == "O" else None)
    return group


def write_categorical(frame: Any, name: str, codes: Any, categories: list[str]) -> None:
    group = frame.create_group(name)
    group.attrs.update({"encoding-type": "categorical", "ordered": False})
    group.create_dataset("codes", data=np.asarray(codes, dtype=np.int8))
    group.create_dataset("categories", data=categories, dtype=TEXT)
    order = [n.decode() if isinstance(n, bytes) else n for n in frame.attrs["column-order"]]
    frame.attrs.create("column-order", [*order, name], dtype=TEXT)


def write_h5ad(
    path: Path,
    matrix: Any = None,
    *,
    layout: str = "csr",
    xy: Any = None,
    ids: list[str] | None = None,
    genes: list[str] | None = None,
    obs: dict[str, Any] | None = None,
    var: dict[str, Any] | None = None,
) -> Path:
    """Write a plain h5ad file."""
    matrix = counts() if matrix is None else matrix
    n = matrix.shape[0]
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        if layout == "dense":
            file.create_dataset("X", data=matrix, chunks=(min(7, n), 5), compression="gzip")
        else:
            write_sparse(file, "X", matrix, layout)
        write_frame(file, "obs", ids or cell_ids(n), obs or {})
        write_frame(file, "var", genes or gene_names(), var or {})
        obsm = file.create_group("obsm")
        obsm.create_dataset("spatial", data=positions(n=n) if xy is None else xy)
    return path
