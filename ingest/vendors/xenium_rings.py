"""Boundaries of Xenium cells and nuclei: a vertex a row, told apart by label or by closing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.outlines import OutlinesSource
from ..ring_checks import MOST_VERTICES, ragged
from ..source import RingPiece, RingsSource, StringValues
from .column_values import as_text, require_columns
from .rings import IdRows

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from .table import Table
    from .xenium_zip import CellsZip

__all__ = ["cell_rings", "nucleus_outlines", "zip_outlines"]

_CELL, _X, _Y, _LABEL = "cell_id", "vertex_x", "vertex_y", "label_id"
_LEAST_RING = 3


@dataclass(frozen=True, slots=True)
class _Rings:
    """Rings as they lie in the file, with the name of the cell of each."""

    names: Any
    """(k,) Arrow text."""
    labels: NDArray[np.int64] | None
    """(k,) numbers in the mask, where the file has them."""
    counts: NDArray[np.int64]
    vertices: NDArray[np.float64]


@dataclass(slots=True)
class _Joined:
    """Runs of rows, joined where a batch ends inside one."""

    held: _Rings | None = field(default=None)

    def add(self, new: _Rings) -> _Rings | None:
        """Rings that are complete; the last may go on in the next batch."""
        import pyarrow as pa

        if self.held is not None:
            new = self._with_held(self.held, new)
        split = len(new.vertices) - int(new.counts[-1])
        # A run longer than any ring is cut: it stays too long, and takes no more memory.
        longest = min(int(new.counts[-1]), MOST_VERTICES + 1)
        labels = new.labels
        self.held = _Rings(
            pa.array(new.names.slice(len(new.names) - 1).to_pylist(), pa.large_string()),
            None if labels is None else labels[-1:].copy(),
            np.array([longest]),
            new.vertices[split : split + longest].copy(),
        )
        if len(new.counts) == 1:
            return None
        done = None if labels is None else labels[:-1]
        names = new.names.slice(0, len(new.names) - 1)
        return _Rings(names, done, new.counts[:-1], new.vertices[:split])

    @staticmethod
    def _with_held(held: _Rings, new: _Rings) -> _Rings:
        import pyarrow as pa

        labels = None
        same = held.names[0].as_py() == new.names[0].as_py()
        if held.labels is not None and new.labels is not None:
            same = same and bool(held.labels[0] == new.labels[0])
            labels = np.concatenate([held.labels, new.labels[1:] if same else new.labels])
        counts = np.concatenate([held.counts, new.counts[1:] if same else new.counts])
        if same:
            counts[0] += new.counts[0]
        first = new.names.slice(1) if same else new.names
        names = pa.concat_arrays([held.names, first])
        return _Rings(names, labels, counts, np.concatenate([held.vertices, new.vertices]))


def _streamed(table: Table) -> Iterator[_Rings]:
    """Stream runs of rows of one cell, and of one label where there are labels."""
    import pyarrow as pa

    labeled = _LABEL in table.names
    names = [_CELL, _X, _Y, *([_LABEL] if labeled else [])]
    types = {_X: pa.float64(), _Y: pa.float64()} | ({_LABEL: pa.int64()} if labeled else {})
    if table.path.suffix.casefold() != ".parquet":
        types[_CELL] = pa.string()  # where it is none, the table tells so
    joined = _Joined()
    for batch in table.batches(names, types):
        if batch.num_rows:
            done = joined.add(_runs(batch, table, labeled=labeled))
            if done is not None:
                yield done
    if joined.held is not None:
        yield joined.held


def _runs(batch: pa.RecordBatch, table: Table, *, labeled: bool) -> _Rings:
    """Rings of a batch; a name is decoded once a ring, not once a vertex."""
    cells = batch.column(0)
    starts = np.ones(batch.num_rows, bool)
    changed = _changes(cells)
    labels = None
    if labeled:
        if batch.column(3).null_count:
            raise InputError(
                Fault(f"{table.path} {_LABEL}", "expected a label in every row, but got none")
            )
        labels = np.asarray(batch.column(3), np.int64)
        changed = changed | (labels[1:] != labels[:-1])
    starts[1:] = changed
    first = np.flatnonzero(starts)
    xy = [np.asarray(batch.column(k).to_numpy(zero_copy_only=False)) for k in (1, 2)]
    return _Rings(
        as_text(cells.take(first)),
        None if labels is None else labels[first],
        np.diff(first, append=batch.num_rows),
        np.stack(xy, axis=1),
    )


def _changes(cells: Any) -> NDArray[np.bool_]:
    """Whether each row but the first names another cell than the one before."""
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    if kinds.is_dictionary(cells.type):
        codes = np.asarray(cells.indices.fill_null(-1))
        return np.asarray(codes[1:] != codes[:-1])
    found = pc.not_equal(cells.slice(1), cells.slice(0, max(0, len(cells) - 1)))
    return np.asarray(pc.fill_null(found, fill_value=True)).astype(bool)


def cell_rings(table: Table, ids: StringValues) -> RingsSource:
    """Boundaries of the cells; of several rings of a cell the writer takes the largest.

    Parameters
    ----------
    table : Table
        `cell_boundaries`.
    ids : StringValues, (n,)
        Cell ids in row order.

    Raises
    ------
    InputError
        A column is not there.
    """
    require_columns(table.path, table.names, (_CELL, _X, _Y))
    return RingsSource(partial(_cell_pieces, table, ids))


def _cell_pieces(table: Table, ids: StringValues) -> Iterator[RingPiece]:
    rows = IdRows(ids)
    for found in _streamed(table):
        rings = found if found.labels is not None else _split(found)
        yield RingPiece(rows.of(rings.names), rings.counts, rings.vertices)


def nucleus_outlines(table: Table, *, scale: float = 1.0, flip: bool = False) -> OutlinesSource:
    """Boundaries of the nuclei with the id of their cell, and their label where there is one.

    Releases without labels write the nuclei of one cell one after the other; a ring ends where it
    meets its first vertex again.

    Parameters
    ----------
    table : Table
        `nucleus_boundaries`.
    scale, flip
        Stored units a source unit; whether y points up in the source.

    Raises
    ------
    InputError
        A column is not there.
    """
    require_columns(table.path, table.names, (_CELL, _X, _Y))
    return OutlinesSource(partial(_outlines, partial(_nuclei, table), scale, flip))


def _nuclei(table: Table) -> Iterator[_Rings]:
    return (one if one.labels is not None else _split(one) for one in _streamed(table))


def _split(rings: _Rings) -> _Rings:
    """Cut runs where a ring has closed and rows follow, in one pass."""
    from .ring_kernels import closed_rings

    n = len(rings.counts) + len(rings.vertices) // _LEAST_RING
    starts, stops, runs = (np.empty(n, np.int64) for _ in range(3))
    n = closed_rings(rings.vertices, rings.counts, _LEAST_RING, MOST_VERTICES, starts, stops, runs)
    starts, counts = starts[:n], (stops - starts)[:n]
    return _Rings(rings.names.take(runs[:n]), None, counts, rings.vertices[ragged(starts, counts)])


def _outlines(
    rings: Callable[[], Iterator[_Rings]], scale: float, flip: bool
) -> Iterator[pa.Table]:
    return (_outline_table(some, scale, flip) for some in rings())


def _outline_table(rings: _Rings, scale: float, flip: bool) -> pa.Table:
    import pyarrow as pa
    import shapely

    enough = (rings.counts >= _LEAST_RING) & (rings.counts <= MOST_VERTICES)
    finite = np.isfinite(rings.vertices).all(axis=1)
    sound = enough & (np.add.reduceat(~finite, np.cumsum(rings.counts) - rings.counts) == 0)
    counts = rings.counts[sound]
    vertices = rings.vertices[np.repeat(sound, rings.counts)]
    vertices = vertices * np.array([scale, -scale if flip else scale])
    owner = np.repeat(np.arange(counts.size), counts)
    shapes = shapely.polygons(shapely.linearrings(vertices, indices=owner)) if counts.size else []
    columns = {
        "geometry": pa.array(shapely.to_wkb(shapes), pa.binary()),
        "cell_id": rings.names.filter(pa.array(sound)),
    }
    if rings.labels is not None:
        columns["label_id"] = pa.array(rings.labels[sound])
    return pa.table(columns)


def zip_outlines(zipped: CellsZip, *, scale: float = 1.0, flip: bool = False) -> OutlinesSource:
    """Nuclei of `cells.zarr.zip`, with their number in its mask as `label_id` where it is said.

    Parameters
    ----------
    zipped : CellsZip
        The file; the `cell_id` of a nucleus without a cell is missing.
    scale, flip
        Stored units a source unit; whether y points up in the source.
    """
    return OutlinesSource(partial(_outlines, partial(_zip_nuclei, zipped), scale, flip))


def _zip_nuclei(zipped: CellsZip) -> Iterator[_Rings]:
    import pyarrow as pa
    import pyarrow.compute as pc

    for piece, labels in zipped.nuclei():
        if piece.counts.size:
            names = zipped.ids.take(np.maximum(piece.rows, 0)).to_arrow()
            own = pc.if_else(pa.array(piece.rows >= 0), names, pa.scalar(None, names.type))
            yield _Rings(own, labels, piece.counts, piece.vertices)
