"""Write points as a SpatialData element: sorted in space, small row groups, a box for each.

The element is plain Parquet that any reader opens. What a query needs on top lies in the
section's own index: the tight box, first row and size of every row group, and the genes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import Fault, InputError
from .morton import LARGEST_COORDINATE, Frame, encode
from .points import GROUPS_PER_PART, PointsInfo, PointsSource, check_name, part_path
from .points_index import write_element, write_index
from .points_sort import CODE, plan_sort, sorted_tables
from .quality.points import PointTally

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from .quadtree import Leaves

__all__ = ["LEAST_POINTS_BYTES", "POINTS_BYTES", "WrittenPoints", "write_points"]

POINTS_BYTES = 256 * 2**20
"""Memory that sorting points uses where it is there: more buys no speed."""
LEAST_POINTS_BYTES = 64 * 2**20
"""Least memory that sorting points is planned with."""

_LEAST_GROUP, _MOST_GROUP = 1 << 15, 1 << 16  # browsers refuse row groups above 100,000
_FULL_DICTIONARY = 4096  # genes; larger dictionaries are cut to what a row group uses
_AXES = ("x", "y", "z")


@dataclass(frozen=True, slots=True)
class WrittenPoints:
    """A points element on disk."""

    info: PointsInfo
    """What the section's index says of it."""
    layouts: dict[str, dict[str, object]]
    """Arrays of its index, for the section's list."""
    notes: tuple[str, ...]
    """What was left out or changed."""
    tally: PointTally | None = None
    """Points of each tile, where tiles were given."""


def write_points(
    section: Path,
    name: str,
    source: PointsSource,
    *,
    frame: Frame,
    coordinate_system: str,
    memory_limit: int = POINTS_BYTES,
    scratch: Path,
    leaves: Leaves | None = None,
    check: Callable[[], None] | None = None,
) -> WrittenPoints:
    """Write `points/<name>` of the SpatialData container at `section`, and its index.

    Parameters
    ----------
    section : Path
        Root folder of the container.
    name : str
        Element name.
    source : PointsSource
        The points, in the coordinates of `coordinate_system`.
    frame : Frame
        Square of the cells; sorts the points where the source knows no bounds.
    coordinate_system : str
        `microns` or `source_units`.
    memory_limit : int
        Bytes this may hold; does not grow with the number of points.
    scratch : Path
        Folder for temporary files, as large as the points.
    leaves : Leaves, optional
        Tiles of the cells; their points are counted on the way.
    check : callable, optional
        Called with every batch read and every table written; what it raises stops the work.

    Raises
    ------
    InvalidArgument
        A name that SpatialData refuses.
    InputError
        No x or y, or columns of types that are not stored.
    """
    check_name(name)
    box, cells = source.bounds, frame
    if box is not None:
        frame = Frame.around(np.array([box[:2], box[2:]], np.float64))
    coded = _Coded(source, frame)
    tally = None if leaves is None else PointTally(cells, leaves, source, frame)
    nbytes = None if source.n_rows is None else source.n_rows * _ROW_BYTES
    plan = plan_sort(nbytes, memory_limit)
    (section / "points" / name / "points.parquet").mkdir(parents=True)
    tables = sorted_tables(_checked(coded.batches(), check), plan, scratch)
    # Left to the collector, its buckets would be removed later and with a warning.
    with closing(_Parts(section, name, coded, tally)) as writer, closing(tables):
        for table in _checked(tables, check):
            writer.append(table)
        writer.finish()
    columns = {one.name: str(one.type) for one in writer.stored_schema()}
    axes = [axis for axis in _AXES if axis in columns]
    write_element(section / "points" / name, source, axes, coordinate_system)
    layouts = write_index(
        section,
        name,
        dict(zip(coded.genes, coded.counts, strict=True)),
        bounds=writer.bounds,
        rows=writer.rows,
        nbytes=writer.nbytes,
    )
    return WrittenPoints(writer.info(columns), layouts, coded.notes(), tally)


def _checked[T](items: Iterator[T], check: Callable[[], None] | None) -> Iterator[T]:
    for item in items:
        if check is not None:
            check()
        yield item


_ROW_BYTES = 64  # of a transcript in memory: position, gene, cell, quality, code


@dataclass(slots=True)
class _Coded:
    """Batches of a source with codes appended, genes as numbers, rows without a place dropped."""

    source: PointsSource
    frame: Frame
    genes: dict[str, int] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)
    dropped: int = 0
    schema: pa.Schema | None = None  # of the source

    def batches(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for batch in self.source.batches():
            if self.schema is None:
                self._check(batch.schema)
                self.schema = batch.schema
            whole = self._placed(batch)
            arrays = [self._plain(name, whole.column(name)) for name in whole.schema.names]
            xy = np.stack([whole.column(axis).to_numpy() for axis in "xy"], axis=1)
            arrays.append(pa.array(encode(np.asarray(xy, np.float64), self.frame)))
            yield pa.RecordBatch.from_arrays(arrays, [*whole.schema.names, CODE])
        if self.schema is None:
            raise InputError(Fault("points", "expected batches of points, but got none"))

    def _check(self, schema: pa.Schema) -> None:
        import pyarrow.types as kinds

        for axis in "xy":
            if axis not in schema.names or not kinds.is_floating(schema.field(axis).type):
                raise InputError(
                    Fault("points", f"expected a column {axis!r} of floats, but got {schema.names}")
                )

    def _placed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Leave out points without a finite position."""
        import pyarrow as pa

        keep = np.ones(batch.num_rows, bool)
        for axis in "xy":
            values = batch.column(axis).to_numpy(zero_copy_only=False)
            keep &= np.abs(values) <= LARGEST_COORDINATE
        if keep.all():
            return batch
        self.dropped += int((~keep).sum())
        return batch.filter(pa.array(keep))

    def _plain(self, name: str, values: Any) -> Any:
        """Genes as numbers of the section's own list; other categories as what they stand for."""
        import pyarrow as pa
        import pyarrow.types as kinds

        if name == self.source.feature_key:
            return self._numbered(values)
        return values.cast(pa.string()) if kinds.is_dictionary(values.type) else values

    def _numbered(self, values: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.types as kinds

        coded = values if kinds.is_dictionary(values.type) else pc.dictionary_encode(values)
        words = coded.dictionary.cast(pa.string()).to_pylist()
        numbers = np.empty(len(words) + 1, np.int32)
        numbers[-1] = -1  # a missing gene
        for i, word in enumerate(words):
            if word not in self.genes:
                self.genes[word] = len(self.counts)
                self.counts.append(0)
            numbers[i] = self.genes[word]
        found = numbers[pc.fill_null(coded.indices.cast(pa.int64()), len(words)).to_numpy()]
        for gene, n in enumerate(np.bincount(found[found >= 0]).tolist()):
            self.counts[gene] += n
        return pa.array(found, mask=found < 0)

    def notes(self) -> tuple[str, ...]:
        lost = (f"{self.dropped:,} points without a finite position left out",)
        return (*self.source.notes, *(lost if self.dropped else ()))


class _Parts:
    """Files of row groups, each group cut where the sorted points jump farthest."""

    def __init__(self, section: Path, name: str, coded: _Coded, tally: PointTally | None) -> None:
        self.section, self.name, self.coded, self.tally = section, name, coded, tally
        self.bounds: list[NDArray[np.float64]] = []
        self.rows: list[int] = []
        self.nbytes: list[int] = []
        self.part_bytes: list[int] = []
        self._writer: Any = None
        self._sink: Any = None
        self._pending: list[Any] = []

    def append(self, table: pa.Table) -> None:
        import pyarrow as pa

        self._pending.append(table)
        if sum(one.num_rows for one in self._pending) <= _MOST_GROUP:
            return  # joined once: small tables by the thousand would be copied with every next one
        table = pa.concat_tables(self._pending)
        while table.num_rows > _MOST_GROUP:
            cut = _cut_at(table.column(CODE).slice(0, _MOST_GROUP + 1).to_numpy())
            self._write(table.slice(0, cut))
            table = table.slice(cut)
        # A copy: a slice would keep the bucket it was cut from.
        self._pending = [table.take(np.arange(table.num_rows))] if table.num_rows else []

    def finish(self) -> None:
        """Write what is left; an element without points has one empty file."""
        import pyarrow as pa

        if self._pending or not self.rows:
            self._write(pa.concat_tables(self._pending or [self._empty()]))
            self._pending = []
        self._close_part()

    def close(self) -> None:
        for one in (self._writer, self._sink):
            if one is not None:
                one.close()

    def stored_schema(self) -> pa.Schema:
        import pyarrow as pa
        import pyarrow.types as kinds

        assert self.coded.schema is not None
        fields = []
        for one in self.coded.schema:
            kind = one.type
            if one.name == self.coded.source.feature_key or kinds.is_dictionary(kind):
                kind = pa.dictionary(pa.int32(), pa.string())
            fields.append(pa.field(one.name, kind))
        return pa.schema(fields)

    def _empty(self) -> pa.Table:
        import pyarrow as pa

        schema = self.stored_schema().append(pa.field(CODE, pa.uint64()))
        gene = schema.get_field_index(self.coded.source.feature_key)
        if gene >= 0:
            schema = schema.set(gene, pa.field(schema.names[gene], pa.int32()))
        return schema.empty_table()

    def _write(self, rows: pa.Table) -> None:
        writer = self._writer or self._open_part()
        if self.tally is not None:
            self.tally.add(rows, rows.column(CODE).to_numpy())
        before = self._sink.tell()
        # The parser of footers needs whole groups: one call, one group.
        writer.write_table(self._stored(rows), row_group_size=max(1, rows.num_rows))
        self.nbytes.append(self._sink.tell() - before)
        self.rows.append(rows.num_rows)
        xy = [rows.column(axis).to_numpy().astype(np.float64) for axis in "xy"]
        low_high = [f(v) for f in (np.min, np.max) for v in xy] if rows.num_rows else [np.nan] * 4
        self.bounds.append(np.array(low_high))
        if len(self.rows) % GROUPS_PER_PART == 0:
            self._close_part()

    def _stored(self, rows: pa.Table) -> pa.Table:
        """Put names in place of the genes' numbers, categories in place of their words."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.types as kinds

        schema = self.stored_schema()
        arrays = []
        for one in schema:
            values = rows.column(one.name)
            if one.name == self.coded.source.feature_key:
                values = _named(values, list(self.coded.genes))
            elif kinds.is_dictionary(one.type) and not kinds.is_dictionary(values.type):
                values = pc.dictionary_encode(values.cast(pa.string()))
            arrays.append(values)
        return pa.Table.from_arrays(arrays, schema=schema)

    def _open_part(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq
        import pyarrow.types as kinds

        schema = self.stored_schema()
        floats = [one.name for one in schema if kinds.is_floating(one.type)]
        # Ids of transcripts never repeat: a dictionary of them doubles the time of the group.
        wide = [
            one.name for one in schema if kinds.is_integer(one.type) and one.type.bit_width > 32
        ]
        text = [one.name for one in schema if one.name not in {*floats, *wide}]
        path = self.section / part_path(self.name, len(self.part_bytes))
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=text,
            column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
            write_statistics=[axis for axis in _AXES if axis in floats],
            write_page_checksum=True,
        )
        return self._writer

    def _close_part(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self.part_bytes.append(self._sink.tell())
        self._sink.close()
        self._writer = self._sink = None

    def info(self, columns: dict[str, str]) -> PointsInfo:
        source = self.coded.source
        return PointsInfo(
            self.name,
            sum(self.rows),
            len(self.rows),
            GROUPS_PER_PART,
            tuple(self.part_bytes),
            source.feature_key,
            source.instance_key,
            source.cell_column,
            columns,
        )


def _cut_at(codes: NDArray[np.uint64]) -> int:
    """Row to cut before: where the highest bit changes, that is, at a large square's edge."""
    jump = codes[_LEAST_GROUP:] ^ codes[_LEAST_GROUP - 1 : -1]
    return _LEAST_GROUP + int(np.argmax(jump))


def _named(numbers: Any, genes: list[str]) -> Any:
    import pyarrow as pa

    numbers = numbers.combine_chunks() if hasattr(numbers, "combine_chunks") else numbers
    missing = numbers.is_null().to_numpy(zero_copy_only=False)
    codes = numbers.fill_null(0).to_numpy().astype(np.int32)
    if len(genes) > _FULL_DICTIONARY:
        used, codes = np.unique(codes, return_inverse=True)
        genes = [genes[i] for i in used.tolist()] if genes else []
    indices = pa.array(codes.astype(np.int32), mask=missing)
    return pa.DictionaryArray.from_arrays(indices, pa.array(genes, pa.string()))
