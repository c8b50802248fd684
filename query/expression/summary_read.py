"""Reading summaries: which segments answer for which sections, and one gene from them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Corrupt
from ...atlas.genes import union
from ...atlas.panel import Panel
from ...atlas.summary_file import SegmentGenes, SummaryColumns, SummarySegment
from .summary_plan import KIND, fresh_sections, grouped_by, holds_cells, segments_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.genes import GeneUnion
    from ...atlas.snapshot import SegmentEntry, Snapshot
    from ...atlas.storage import Storage
    from ...atlas.store import AtlasStore
    from .summary_plan import GroupedBy

__all__ = ["MergedSegments", "SegmentUnion", "Summary", "find_summary", "shares"]

# Indexes of segments that are kept: a second gene then costs one request a segment.
_KEPT = 8


def shares(
    snapshot: Snapshot,
    entries: Sequence[SegmentEntry],
    wanted: Collection[str] | None,
    *,
    all_cells: bool | None = None,
) -> dict[str, list[str]]:
    """Sections that each segment answers for, by its name; each section once.

    Two segments hold the same section where two processes merged at once; both are right.
    """
    taken: set[str] = set()
    found: dict[str, list[str]] = {}
    for entry in entries:
        fresh = [s for s in fresh_sections(snapshot, entry) if s not in taken]
        found[entry.name] = [
            section
            for section in fresh
            if (wanted is None or section in wanted)
            and (all_cells is None or holds_cells(snapshot, entry, section, all_cells=all_cells))
        ]
        taken.update(fresh)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """A committed summary that groups by what was asked, or finer."""

    key: str
    by: GroupedBy
    entries: tuple[SegmentEntry, ...]
    """Segments that answer for some section."""
    share: Mapping[str, tuple[str, ...]]
    """Sections that each segment answers for, by the segment's name."""

    @property
    def sections(self) -> list[str]:
        """Sections that it answers for."""
        return [section for entry in self.entries for section in self.share[entry.name]]

    @property
    def nameless(self) -> set[str]:
        """Sections that list identifiers without symbols."""
        return {str(s) for e in self.entries for s in e.info.get("nameless") or ()}

    def open(self, storage: Storage) -> SegmentUnion:
        """Read the indexes: a request a segment, unless they are known.

        Raises
        ------
        Corrupt
            An index is missing, out of shape, or groups by other columns than its entry says.
        """
        segments = [open_segment(storage, entry) for entry in self.entries]
        for entry, segment in zip(self.entries, segments, strict=True):
            if set(segment.by) != set(self.by):
                raise Corrupt(
                    f"columns {self.by} are wanted in segment {entry.name!r}, but got "
                    f"{segment.by}; run `tisseract verify`"
                )
        return SegmentUnion.over(segments)


def find_summary(
    store: AtlasStore,
    sections: Collection[str],
    by: Collection[tuple[str, str]] = (),
    *,
    all_cells: bool | None = None,
) -> Summary | None:
    """Choose the summary that answers for the most sections, then the coarsest; None without.

    Reads the catalog only. `all_cells` says which cells must have been summed: every one, or those
    that pass quality control; None does not mind.
    """
    wanted, asked = set(by), set(sections)
    best: Summary | None = None
    keys = dict.fromkeys(e.key for e in store.snapshot.segments.values() if e.kind == KIND)
    for key in keys:
        entries = segments_of(store.snapshot, key)
        grouped = grouped_by(entries[0])
        if not wanted <= set(grouped):
            continue
        share = shares(store.snapshot, entries, asked, all_cells=all_cells)
        used = tuple(entry for entry in entries if share[entry.name])
        found = Summary(key, grouped, used, {n: tuple(s) for n, s in share.items()})
        if used and (best is None or _rank(found) > _rank(best)):
            best = found
    return best


def _rank(summary: Summary) -> tuple[int, int]:
    return len(summary.sections), -len(summary.by)


class _Shelf:
    """The last few indexes and unions of them; attempts never change."""

    def __init__(self) -> None:
        self.segments: OrderedDict[tuple[str, str], SummarySegment] = OrderedDict()
        self.unions: OrderedDict[tuple[str, ...], SegmentUnion] = OrderedDict()


_SHELF = _Shelf()


def open_segment(storage: Storage, entry: SegmentEntry) -> SummarySegment:
    """Open a segment, or take the one that was opened lately."""
    name = (storage.url, entry.prefix)
    found = _SHELF.segments.get(name)
    if found is None:
        found = _SHELF.segments[name] = SummarySegment.open(storage, entry)
        while len(_SHELF.segments) > _KEPT:
            # Another thread may have taken the oldest in between.
            _SHELF.segments.pop(next(iter(_SHELF.segments)), None)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class SegmentUnion:
    """Genes of several segments as one list."""

    segments: tuple[SummarySegment, ...]
    genes: GeneUnion
    _rows: tuple[NDArray[np.int64], ...] = field(repr=False)

    @classmethod
    def over(cls, segments: Sequence[SummarySegment]) -> SegmentUnion:
        """Join the genes of segments; some 30 us a gene and segment, so the last are kept."""
        name = tuple(f"{one.storage.url}/{one.prefix}" for one in segments)
        found = _SHELF.unions.get(name)
        if found is not None:
            return found
        panels: dict[str, Panel] = {}
        rows: list[dict[str, NDArray[np.int64]]] = []
        for number, segment in enumerate(segments):
            parts = _by_organism(segment.genes)
            rows.append({f"{number}:{organism}": part for organism, part in parts.items()})
            for organism, part in parts.items():
                panels[f"{number}:{organism}"] = _panel(segment.genes, organism, part)
        genes = union(panels)
        places = []
        for part_rows in rows:
            place = np.full(len(genes), -1, np.int64)
            for key, part in part_rows.items():
                columns = np.asarray(genes.columns(key), np.int64)
                place[columns >= 0] = part[columns[columns >= 0]]
            places.append(place)
        found = _SHELF.unions[name] = cls(tuple(segments), genes, tuple(places))
        while len(_SHELF.unions) > _KEPT:
            _SHELF.unions.pop(next(iter(_SHELF.unions)), None)
        return found

    def gene_rows(self, gene: int) -> list[int]:
        """Row of a gene of the union in each segment, -1 where it has none."""
        return [int(place[gene]) for place in self._rows]


def _by_organism(genes: SegmentGenes) -> dict[str, NDArray[np.int64]]:
    organism = np.array(genes.organism, dtype=object)
    return {name: np.flatnonzero(organism == name) for name in dict.fromkeys(genes.organism)}


def _panel(genes: SegmentGenes, organism: str, rows: NDArray[np.int64]) -> Panel:
    def part(values: Sequence[str]) -> NDArray[np.object_]:
        found = np.empty(len(rows), dtype=object)
        found[:] = [values[row] for row in rows.tolist()]
        return found

    return Panel(
        organism,
        part(genes.gene_id),
        part(genes.gene_id),
        part(genes.symbol),
        tuple(genes.aliases[row] for row in rows.tolist()),
        part(genes.feature_type),
    )


@dataclass(frozen=True, slots=True, eq=False)
class MergedSegments:
    """Several segments seen as one: columns of each side by side, genes of all."""

    columns: SummaryColumns
    genes: SegmentGenes
    _union: SegmentUnion
    _chosen: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(
        cls, segments: Sequence[SummarySegment], sections: Sequence[Sequence[str]]
    ) -> MergedSegments:
        """Put segments together, each with the sections that it answers for."""
        chosen = tuple(
            segment.columns.of_sections(set(names))
            for segment, names in zip(segments, sections, strict=True)
        )
        by = segments[0].by
        kept = [
            one.columns.take(c).arranged([one.by.index(column) for column in by])
            for one, c in zip(segments, chosen, strict=True)
        ]
        joined = SegmentUnion.over(segments)
        genes = joined.genes
        listed = SegmentGenes(
            tuple(map(str, genes.organism)),
            tuple(map(str, genes.gene_id)),
            tuple(map(str, genes.symbol)),
            genes.aliases,
            tuple(map(str, genes.feature_type)),
        )
        return cls(SummaryColumns.joined(kept), listed, joined, chosen)

    def rows(self) -> Iterator[NDArray[np.float64]]:
        """Read all genes, one (3, c) after the other; 8 MiB of each segment are in memory."""
        readers = [_Reader(segment) for segment in self._union.segments]
        for gene in range(len(self.genes)):
            parts = [
                np.full((3, chosen.size), np.nan) if row < 0 else reader.row(row)[:, chosen]
                for row, reader, chosen in zip(
                    self._union.gene_rows(gene), readers, self._chosen, strict=True
                )
            ]
            yield np.concatenate(parts, axis=1)


class _Reader:
    """Rows of a segment that are mostly asked for in order: a stretch is read at once."""

    def __init__(self, segment: SummarySegment) -> None:
        self._segment = segment
        self._spans = segment.spans()
        self._starts = np.array([first for first, _ in self._spans])
        self._held = -1
        self._rows = np.empty(0)

    def row(self, row: int) -> NDArray[np.float64]:
        """One gene, (3, c)."""
        span = int(np.searchsorted(self._starts, row, side="right")) - 1
        first, stop = self._spans[span]
        if span != self._held:
            self._rows, self._held = self._segment.rows(first, stop), span
        return np.asarray(self._rows[row - first])
