"""Boundaries as vendors write them: a vertex a row, streamed, or well-known binary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.outlines import OutlinesSource
from ..ring_checks import MOST_VERTICES, largest_first
from ..source import RingPiece, RingsSource, StringValues
from .column_values import as_text, require_columns

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from .table import Table

__all__ = ["IdRows", "largest_rings", "ring_outlines", "vertex_rings"]

_VERTICES = 1 << 19  # at a time
_LEAST_RING = 3


@dataclass(slots=True)
class IdRows:
    """Finds the rows of cells by their ids; quick where a file keeps the order of the cells."""

    ids: StringValues
    """(n,) ids in row order."""
    _next: int = 0
    _words: Any = field(default=None)

    def of(self, names: Any) -> NDArray[np.int64]:
        """Rows of some ids (an Arrow array), -1 for unknown ones."""
        import pyarrow.compute as pc

        wanted = as_text(names)
        if self._words is None:
            self._words = self.ids.to_arrow()
        start, stop = self._next, self._next + len(wanted)
        following = self._words.slice(start, len(wanted))
        if stop <= len(self._words) and following.equals(wanted):
            self._next = stop
            return np.arange(start, stop)
        found = pc.fill_null(pc.index_in(wanted, value_set=self._words), -1)
        rows = np.asarray(found, np.int64)
        if rows.size and rows[-1] >= 0:
            self._next = int(rows[-1]) + 1
        return rows


def vertex_rings(table: Table, cell: str, x: str, y: str, ids: StringValues) -> RingsSource:
    """Boundaries of a table with a vertex a row; consecutive rows of one cell form its ring.

    Parameters
    ----------
    table : Table
        Vertices.
    cell, x, y : str
        Columns: cell id, coordinates in source units.
    ids : StringValues, (n,)
        Cell ids in row order.

    Returns
    -------
    RingsSource
        Streams some 500,000 vertices at a time.
    """
    require_columns(table.path, table.names, (cell, x, y))
    return RingsSource(partial(_vertex_pieces, table, (cell, x, y), ids))


def _vertex_pieces(
    table: Table, names: tuple[str, str, str], ids: StringValues
) -> Iterator[RingPiece]:
    import pyarrow as pa

    cell, x, y = names
    rows = IdRows(ids)
    types = {x: pa.float64(), y: pa.float64(), cell: pa.large_string()}
    held: list[pa.RecordBatch] = []
    n_held = 0
    for batch in table.batches(names, types):
        held.append(batch)
        n_held += batch.num_rows
        if n_held >= _VERTICES:
            piece, rest = _split_runs(pa.Table.from_batches(held), rows, last=False)
            held, n_held = rest.to_batches(), rest.num_rows
            if piece is not None:
                yield piece
    if held:
        piece, _ = _split_runs(pa.Table.from_batches(held), rows, last=True)
        if piece is not None:
            yield piece


def _split_runs(table: Any, rows: IdRows, *, last: bool) -> tuple[RingPiece | None, Any]:
    """Rings that are complete, and the rows of the one that may go on, as far as it may."""
    import pyarrow.compute as pc

    table = table.combine_chunks()
    if table.num_rows == 0:
        return None, table
    runs = pc.run_end_encode(table.column(0).combine_chunks())
    ends = np.asarray(runs.run_ends, np.int64)
    names = runs.values
    if not last:
        ends, names = ends[:-1], names.slice(0, len(names) - 1)
    stop = int(ends[-1]) if ends.size else 0
    # Slices keep what they were cut from alive: the rest is copied. A run longer than any ring is
    # cut: it stays too long, and takes no more memory.
    rest = table.slice(stop).take(np.arange(min(table.num_rows - stop, MOST_VERTICES + 1)))
    if not stop:
        return None, rest
    vertices = np.stack([table.column(k).slice(0, stop).to_numpy() for k in (1, 2)], axis=1)
    counts = np.diff(ends, prepend=0)
    return RingPiece(rows.of(names), counts, vertices), rest


def largest_rings(geometry: Any, rows: NDArray[np.int64]) -> RingPiece:
    """Outer ring of the largest polygon of each geometry."""
    import shapely

    try:
        shapes = shapely.from_wkb(geometry.to_numpy(zero_copy_only=False))
    except shapely.errors.ShapelyError as error:  # no ValueError, though it is one
        raise ValueError(f"no well-known binary: {error}") from error
    parts, owner = shapely.get_parts(shapes, return_index=True)
    with np.errstate(over="ignore", invalid="ignore"):  # the writer judges coordinates
        first = largest_first(shapely.area(parts), owner)
    rings = shapely.get_exterior_ring(parts[first])
    vertices = shapely.get_coordinates(rings)
    counts = shapely.get_num_coordinates(rings).astype(np.int64)
    return RingPiece(rows[owner[first]], counts, vertices, len(parts) - len(first))


def ring_outlines(
    rings: RingsSource, ids: StringValues, *, scale: float = 1.0, flip: bool = False
) -> OutlinesSource:
    """Boundaries other than the cells' own (nuclei, other planes) as polygons with their cell ids.

    Parameters
    ----------
    rings : RingsSource
        In source units.
    ids : StringValues, (n,)
        Cell ids in row order.
    scale : float
        Stored units a source unit.
    flip : bool
        Whether y points up in the source.
    """
    return OutlinesSource(partial(_outline_tables, rings, ids, scale, flip), rings.notes)


def _outline_tables(
    rings: RingsSource, ids: StringValues, scale: float, flip: bool
) -> Iterator[pa.Table]:
    import pyarrow as pa
    import shapely

    factor = np.array([scale, -scale if flip else scale])
    for piece in rings.pieces():
        own = (piece.rows >= 0) & (piece.counts >= _LEAST_RING) & (piece.counts <= MOST_VERTICES)
        counts = piece.counts[own]
        if not counts.size:
            continue
        vertices = piece.vertices[np.repeat(own, piece.counts)] * factor
        owner = np.repeat(np.arange(counts.size), counts)
        # A ring of three vertices closes itself only when it is told to.
        shapes = shapely.polygons(shapely.linearrings(vertices, indices=owner))
        yield pa.table(
            {
                "geometry": pa.array(shapely.to_wkb(shapes), pa.binary()),
                "cell_id": ids.take(piece.rows[own]).to_arrow(),
            }
        )
