"""AnnData written to disk as it is read: the memory of an answer is one batch of its counts.

The file is what `to_anndata().write_h5ad()` would leave, in AnnData's own on-disk format; only
edges of a graph are held whole.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cells.rows import RunArray
from ..expression.normalize import depth_of, log_normalize
from ..tables.obs import cell_ids
from ..tables.positions import position_readers
from .embeddings import read_rows
from .graphs import selected_graph
from .prepare import Options, Prepared, prepare
from .streamed_obs import obs_columns_of, stale_of
from .to_anndata import aligned, notes_of

if TYPE_CHECKING:
    import h5py

    from ...atlas.section import Section
    from ..cells.selection import Selection

__all__ = ["write_h5ad"]

type Read = Callable[["Section", RunArray], Any]

# Values in an HDF5 chunk: 256 KiB of float32, what one call compresses.
_CHUNK = 65_536
_ROW_CHUNK = 8_192
# gzip is what every HDF5 build reads; its first level packs counts nearly as small as the ninth.
_PACKED = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def write_h5ad(selection: "Selection", path: Path, options: Options) -> None:
    """Write an answer as AnnData, counts batch by batch.

    Parameters
    ----------
    selection
        The answer.
    path
        A new file.
    options
        As of `to_anndata`.

    Raises
    ------
    BudgetExceeded
        Not even a batch fits the limit: 192 MiB, 96 bytes a cell, and the edges of a graph.
    GeneNotFound, InvalidArgument, DerivedNotFound, StaleDerived
        As of `to_anndata`; nothing is written then.
    """
    import h5py

    prepared = prepare(selection, options, stream=True)
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        _small_parts(file, prepared)
        _matrices(file, prepared)
        _row_arrays(file, prepared)
        if options.graph is not None:
            _graph(file, prepared, options.graph)


def _small_parts(file: "h5py.File", prepared: Prepared) -> None:
    """Write everything but numbers of cells: obs, var, notes."""
    from anndata.io import write_elem

    obs = _group(file, "obs", "dataframe", "0.2.0")
    names: list[str] = []
    for name, values in obs_columns_of(prepared):
        write_elem(obs, name, _storable(values), dataset_kwargs=_PACKED)
        names.append(name)
    obs.attrs["_index"] = "_index"
    obs.attrs["column-order"] = np.array(names, dtype=object) if names else np.zeros(0)
    _ids(obs, prepared)
    write_elem(file, "var", prepared.choice.var(), dataset_kwargs=_PACKED)
    varm: dict[str, Any] = {"measured": prepared.choice.presence()}
    write_elem(file, "varm", varm, dataset_kwargs=_PACKED)
    for name in ("varp", "obsp", "layers"):
        write_elem(file, name, {})
    write_elem(file, "uns", {"tisseract": notes_of(prepared, stale_of(prepared))})


def _group(parent: "h5py.Group", name: str, kind: str, version: str) -> "h5py.Group":
    group = parent.create_group(name)
    group.attrs.update({"encoding-type": kind, "encoding-version": version})
    return group


def _dataset(group: "h5py.Group", name: str, shape: tuple[int, ...], dtype: Any) -> "h5py.Dataset":
    """Make an array of rows; one without any value can be neither chunked nor packed."""
    chunks = (min(_ROW_CHUNK, shape[0]), *shape[1:])
    how = {} if 0 in shape else {"chunks": chunks, **_PACKED}
    return group.create_dataset(name, shape, dtype=dtype, **how)


def _storable(values: Any) -> Any:
    """Text of few values as categories, as AnnData stores it."""
    import pandas as pd

    if pd.api.types.infer_dtype(values, skipna=True) != "string":
        return values._values
    found = pd.Categorical(values)
    if len(found.categories) < len(found) or values.isna().any():
        return found
    return values._values


def _ids(obs: "h5py.Group", prepared: Prepared) -> None:
    """Write cell ids section by section."""
    import h5py

    n = prepared.n_obs
    ids = _dataset(obs, "_index", (n,), h5py.string_dtype())
    ids.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
    start = 0
    for section, runs in prepared.selection.parts():
        names = cell_ids(section, runs).to_numpy(dtype=object)
        ids[start : start + len(names)] = names
        start += len(names)


class _Matrix:
    """A CSR matrix that grows by rows."""

    def __init__(self, parent: "h5py.Group", name: str, shape: tuple[int, int]) -> None:
        self._group = _group(parent, name, "csr_matrix", "0.1.0")
        self._group.attrs["shape"] = np.array(shape, np.int64)
        self._lengths: list[Any] = [np.zeros(1, np.int64)]
        wide: Any = np.int32 if shape[1] < np.iinfo(np.int32).max else np.int64
        for part, dtype in (("data", np.float32), ("indices", wide)):
            self._group.create_dataset(
                part, (0,), dtype=dtype, maxshape=(None,), chunks=(_CHUNK,), **_PACKED
            )
        self._nnz = 0

    def append(self, rows: Any) -> None:
        """Add rows, CSR."""
        stop = self._nnz + rows.nnz
        for part, values in (("data", rows.data), ("indices", rows.indices)):
            dataset = self._group[part]
            dataset.resize((stop,))
            dataset[self._nnz : stop] = values
        self._lengths.append(np.diff(rows.indptr).astype(np.int64))
        self._nnz = stop

    def close(self) -> None:
        """Write where rows begin."""
        dtype = np.int32 if self._nnz < np.iinfo(np.int32).max else np.int64
        starts = np.cumsum(np.concatenate(self._lengths))
        self._group.create_dataset("indptr", data=starts.astype(dtype), chunks=True, **_PACKED)


def _matrices(file: "h5py.File", prepared: Prepared) -> None:
    shape = (prepared.n_obs, len(prepared.choice))
    x = _Matrix(file, "X", shape)
    layer = None if prepared.layer is None else _Matrix(file["layers"], prepared.layer, shape)
    for section, runs in prepared.selection.parts():
        for part in prepared.batches(section, runs):
            stored = aligned(section, part, prepared.choice, fill=prepared.options.missing == "nan")
            if layer is not None:
                layer.append(stored)
                stored = log_normalize(stored, section.values, depth_of(section, part))
            x.append(stored)
    x.close()
    if layer is not None:
        layer.close()


def _row_arrays(file: "h5py.File", prepared: Prepared) -> None:
    """Write positions and embeddings, batch by batch."""
    obsm = _group(file, "obsm", "dict", "0.1.0")
    store = prepared.selection.store

    def embedding(key: str) -> "Read":
        return lambda section, runs: read_rows(store, key, section.name, runs)

    arrays: dict[str, tuple[int, Any, Read]] = {
        name: (2, np.float64, read)
        for name, read in position_readers(prepared.selection.question).items()
    }
    for key, dim in prepared.embeddings.dims.items():
        arrays[f"X_{key}"] = (dim, np.float32, embedding(key))
    n = prepared.n_obs
    for name, (width, dtype, read) in arrays.items():
        array = _dataset(obsm, name, (n, width), dtype)
        array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        start = 0
        for section, runs in prepared.selection.parts():
            for part in prepared.batches(section, runs):
                values = read(section, part)
                array[start : start + len(values)] = values
                start += len(values)


def _graph(file: "h5py.File", prepared: Prepared, key: str) -> None:
    from anndata.io import write_elem

    graph = selected_graph(prepared.selection, key)
    names = {part: f"{key}_{part}" for part in ("connectivities", "distances")}
    for part, name in names.items():
        write_elem(file["obsp"], name, getattr(graph, part), dataset_kwargs=_PACKED)
    uns = dict(graph.uns) | {f"{part}_key": name for part, name in names.items()}
    write_elem(file["uns"], f"{key}_neighbors", uns)
