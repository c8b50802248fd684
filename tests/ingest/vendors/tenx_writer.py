"""Feature-barcode matrices as Cell Ranger and Space Ranger write them, block by block."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy import sparse

_CHUNK = 80_000  # what Cell Ranger takes
_SMALL_CHUNK = 4_096  # of small files, which tests open by the hundred


@dataclass(frozen=True)
class FeatureList:
    """Rows of the matrix."""

    ids: Sequence[str]
    names: Sequence[str]
    types: Sequence[str]
    genome: str = "mm10"
    extra: dict[str, Any] = field(default_factory=dict)
    """Further datasets of `matrix/features`."""


class H5Matrix:
    """Writes the HDF5 form; `append` takes cells x features."""

    def __init__(
        self,
        path: Path,
        features: FeatureList,
        attrs: dict[str, str],
        level: int = 4,
        *,
        small: bool = False,
    ) -> None:
        self.chunk = _SMALL_CHUNK if small else _CHUNK
        self.file = h5py.File(path, "w")
        for name, value in attrs.items():
            self.file.attrs[name] = value
        self.file.attrs["filetype"] = np.array([b"matrix"])
        self.file.attrs["version"] = np.array([2], np.int32)
        self.group = self.file.create_group("matrix")
        self.features, self.n, self.nnz = features, 0, 0
        options: Any = {"compression": "gzip", "compression_opts": level, "shuffle": True}
        for name, kind in (("data", np.int32), ("indices", np.int64), ("indptr", np.int64)):
            self.group.create_dataset(
                name,
                (int(name == "indptr"),),
                kind,
                maxshape=(None,),
                chunks=(self.chunk,),
                **options,
            )
        self.options = options

    def append(self, barcodes: Any, counts: sparse.csr_matrix) -> None:
        names = np.asarray(barcodes, dtype="S")
        if "barcodes" not in self.group:
            self.group.create_dataset(
                "barcodes",
                (0,),
                names.dtype,
                maxshape=(None,),
                chunks=(self.chunk,),
                **self.options,
            )
        matrix = sparse.csr_matrix(counts)
        matrix.sort_indices()
        self._extend("barcodes", names)
        self._extend("data", matrix.data.astype(np.int32))
        self._extend("indices", matrix.indices.astype(np.int64))
        self._extend("indptr", matrix.indptr[1:].astype(np.int64) + self.nnz)
        self.n += matrix.shape[0]
        self.nnz += matrix.nnz

    def _extend(self, name: str, values: Any) -> None:
        node = self.group[name]
        start = node.shape[0]
        node.resize((start + len(values),))
        node[start:] = values

    def close(self) -> None:
        one = self.features
        self.group["shape"] = np.array([len(one.ids), self.n], np.int32)
        group = self.group.create_group("features")
        group["_all_tag_keys"] = np.array([b"genome"])
        columns = {"id": one.ids, "name": one.names, "feature_type": one.types}
        for name, words in (columns | {"genome": [one.genome] * len(one.ids)}).items():
            group[name] = np.asarray(words, dtype="S")
        for name, values in one.extra.items():
            group[name] = values
        self.file.close()


def write_mtx(
    folder: Path,
    features: FeatureList,
    blocks: Iterable[tuple[Any, sparse.csr_matrix]],
    *,
    software: str,
    prefix: str = "",
) -> Path:
    """Write the three text files; entries are held, so small matrices only."""
    folder.mkdir(parents=True, exist_ok=True)
    barcodes: list[str] = []
    parts = []
    for names, counts in blocks:
        barcodes += list(names)
        parts.append(sparse.csr_matrix(counts))
    matrix = sparse.vstack(parts).tocsr()
    matrix.sort_indices()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    entries = zip(matrix.indices.tolist(), rows.tolist(), matrix.data.tolist(), strict=True)
    head = "%%MatrixMarket matrix coordinate integer general\n"
    head += f'%metadata_json: {{"software_version": "{software}", "format_version": 2}}\n'
    head += f"{matrix.shape[1]} {matrix.shape[0]} {matrix.nnz}\n"
    text = head + "".join(f"{g + 1} {c + 1} {v}\n" for g, c, v in entries)
    _gzipped(folder / f"{prefix}matrix.mtx.gz", text)
    _gzipped(folder / f"{prefix}barcodes.tsv.gz", "".join(f"{one}\n" for one in barcodes))
    lines = zip(features.ids, features.names, features.types, strict=True)
    _gzipped(folder / f"{prefix}features.tsv.gz", "".join("\t".join(row) + "\n" for row in lines))
    return folder


def _gzipped(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode(), 6, mtime=0))
