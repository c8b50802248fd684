"""Columns that users add to cells, stored as a section stores its obs columns.

One attempt holds one column of one section: `derived/annotation/<key>/<section>/<attempt>/`, with
the column under `obs/`, its statistics by tile under `stats/`, and what opening needs in the
attributes of the root group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .derived import Home, Provenance, write_provenance
from .errors import Corrupt, MissingKey
from .manifest import parse_json
from .section_arrays import ArrayLayout, RowArray
from .section_frames import column_frame
from .section_obs import write_column
from .section_write import group
from .snapshot import DerivedEntry
from .statistics import ObsStatistics

if TYPE_CHECKING:
    from .section_columns import ColumnValues
    from .storage import Storage
    from .store import AtlasStore

__all__ = ["ANNOTATION", "Annotation", "open_annotation", "write_annotation"]

ANNOTATION = "annotation"
"""Kind of the derived data."""
_OBS, _STATS = "obs", "stats"
_NODE_BYTES = 16 * 2**20
_KINDS = ("numeric", "boolean", "categorical", "string")

type Runs = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Annotation:
    """One added column of one section, at one committed attempt."""

    storage: Storage
    entry: DerivedEntry
    info: Mapping[str, Any]
    """Kind, dtype, extremes or categories, missing values, path: as of an obs column."""
    layouts: Mapping[str, ArrayLayout]
    """Its arrays by path."""
    n_tiles: int

    def read(self, runs: Runs | None = None) -> Any:
        """Values of some rows as a pandas or NumPy array of the kind that was given."""
        return column_frame(self.info, self._array, self.layouts, runs)

    @property
    def categories(self) -> tuple[str, ...] | None:
        """Categories of a categorical column, `False` and `True` of a boolean one, else None."""
        if self.info["kind"] == "boolean":
            return ("False", "True")
        if self.info["kind"] != "categorical":
            return None
        if "categories" in self.info:
            return tuple(self.info["categories"])
        return tuple(self._array(f"{self.info['path']}/categories").read().tolist())

    def statistics(self) -> ObsStatistics:
        """Per tile extremes, histogram and missing values."""
        nulls = self._statistic("null")
        if nulls is None:
            nulls = np.zeros(self.n_tiles, np.uint32)
        low, high, counts = (self._statistic(name) for name in ("min", "max", "hist"))
        return ObsStatistics(str(self.info["kind"]), nulls, low, high, counts, self.categories)

    def _statistic(self, name: str) -> Any:
        path = f"{_STATS}/{self.entry.key}/{name}"
        return self._array(path).read() if path in self.layouts else None

    def _array(self, path: str) -> RowArray:
        layout = self.layouts.get(path)
        if layout is None:
            raise _corrupt(self.entry, f"an array {path}")
        label = f"array {path} of {self.entry.name}"
        return RowArray(self.storage, f"{self.entry.prefix}/{path}", layout, label)


def write_annotation(
    store: Home, key: str, section: str, values: ColumnValues, provenance: Provenance
) -> DerivedEntry:
    """Write and seal one column of one section; visible once the returned entry is committed.

    Parameters
    ----------
    store : Home
        The atlas, opened for writing.
    key : str
        Name of the column.
    section : str
        Its section.
    values : ColumnValues
        One value a cell, (n_obs,), in row order; missing ones as their kind has them.
    provenance : Provenance

    Returns
    -------
    DerivedEntry
        Its `info` says of the column what a section's catalog entry says of an obs column.

    Raises
    ------
    ReadOnly
        The store was opened for reading.

    Notes
    -----
    Memory: 16 bytes a cell beside the values.
    """
    opened = store.section(section)
    rows = np.arange(opened.n_obs, dtype=np.int64)
    ptr = np.asarray(opened.tiles.ptr, np.int64)
    with store.new_attempt(f"derived/{ANNOTATION}/{key}/{section}") as attempt:
        for folder in (_OBS, _STATS):
            group(attempt.path / folder)
        written = write_column(attempt.path, key, values, rows, ptr, table=_OBS, stats=_STATS)
        facts = {"kind": ANNOTATION, "n_obs": opened.n_obs, "column": written.info}
        group(attempt.path, **facts, arrays=written.arrays)
        write_provenance(store, provenance, attempt.path)
        receipt = attempt.seal()
    return DerivedEntry(
        kind=ANNOTATION,
        key=key,
        section=section,
        attempt=receipt.attempt,
        digest=receipt.digest,
        nbytes=receipt.nbytes,
        inputs=dict(provenance.inputs),
        info={name: fact for name, fact in written.info.items() if name != "path"},
    )


def open_annotation(store: AtlasStore, key: str, section: str) -> Annotation:
    """Open an added column of a section; one small object is read.

    Raises
    ------
    DerivedNotFound, StaleDerived
        There is none, or its section was replaced since.
    Corrupt
        It is not a column, or not one of this section.
    """
    entry = store.derived(ANNOTATION, key, section)
    node = f"{entry.prefix}/zarr.json"
    try:
        found = parse_json(store.storage.get(node, max_bytes=_NODE_BYTES), node)
    except MissingKey as error:
        raise _corrupt(entry, node) from error
    attributes = found.get("attributes")
    column, arrays = (
        attributes.get(part) if isinstance(attributes, Mapping) else None
        for part in ("column", "arrays")
    )
    if not isinstance(column, Mapping) or not isinstance(arrays, Mapping):
        raise _corrupt(entry, "a column and its arrays")
    layouts = {
        path: ArrayLayout.of(one) for path, one in arrays.items() if isinstance(one, Mapping)
    }
    known = store.snapshot.sections[section]
    _check(entry, column, layouts, known.n_obs, known.n_tiles)
    return Annotation(store.storage, entry, column, layouts, known.n_tiles)


def _check(
    entry: DerivedEntry,
    column: Mapping[str, Any],
    layouts: Mapping[str, ArrayLayout],
    n_obs: int,
    n_tiles: int,
) -> None:
    path = f"{_OBS}/{entry.key}"
    if column.get("kind") not in _KINDS or column.get("path") != path:
        raise _corrupt(entry, f"a kind and the path {path}")
    for name, layout in layouts.items():
        wanted = n_tiles if name.startswith(f"{_STATS}/") else n_obs
        if not name.endswith("/categories") and layout.shape[0] != wanted:
            raise _corrupt(entry, f"{wanted} rows in {name}")


def _corrupt(entry: DerivedEntry, what: str) -> Corrupt:
    return Corrupt(
        f"{what} is wanted in {entry.name!r}, but got something else or nothing; run "
        "`tisseract verify`, then annotate again"
    )
