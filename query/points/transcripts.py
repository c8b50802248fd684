"""Transcripts of a selection: planned from boxes of row groups, read group by group."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ...atlas.errors import ColumnNotFound, InvalidArgument, near
from ...atlas.memory import parse_bytes, refuse_above
from ..geometry.by_section import Nowhere, place_of
from .cells import cells_of, needs_cells
from .genes import features_of, told_of_genes
from .groups import GroupReader
from .plan import PointsPlan, SectionPoints, plan_section, row_bytes

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd
    import pyarrow as pa

    from ...atlas.section import Section
    from ..cells.selection import Selection

WAYS_OUT = "ask for a smaller place, fewer genes or columns, or go through .batches() or .to_dask()"
_USUAL = "transcripts"


class Transcripts:
    """Transcripts in the place of a selection; lazy, nothing is read until an answer is wanted.

    Where the selection filters cells, only transcripts that belong to a selected cell; section
    metadata (`timepoint`, `donor`) is no filter on cells. Points come in order of sections, then
    in the order they are stored in, which is that of space.
    """

    def __init__(
        self,
        selection: "Selection",
        genes: str | Sequence[str] | None = None,
        columns: str | Sequence[str] | None = None,
        name: str | None = None,
    ) -> None:
        self.selection = selection
        self.genes = [genes] if isinstance(genes, str) else None if genes is None else list(genes)
        self.columns = [columns] if isinstance(columns, str) else columns and list(columns)
        self.name = name

    @cached_property
    def plan(self) -> PointsPlan:
        """What will be read; made from the catalog and the boxes of row groups."""
        found: list[SectionPoints] = []
        pruned: list[tuple[str, str]] = []
        store, question = self.selection.store, self.selection.question
        lacking: list[str] = []
        for section_name in self.selection.possible:
            place = place_of(question, section_name)
            if isinstance(place, Nowhere):
                pruned.append((section_name, place.why))
                continue
            section = store.section(section_name)
            element = self._element(section)
            if element is None:
                lacking.append(section_name)
                pruned.append((section_name, "has no transcripts"))
                continue
            points = section.points[element]
            features = None if self.genes is None else features_of(section, points, self.genes)
            plan = plan_section(section_name, points, place, features)
            if len(plan.groups):
                found.append(plan)
            else:
                why = (
                    "has none of the genes" if features == frozenset() else "lies outside the place"
                )
                pruned.append((section_name, why))
        self._told(found, pruned, lacking)
        return PointsPlan(str(question), tuple(found), tuple(pruned), self._row_bytes(found))

    def _told(
        self, found: list[SectionPoints], pruned: list[tuple[str, str]], lacking: list[str]
    ) -> None:
        """Refuse what no section can answer."""
        if lacking and len(lacking) == len(pruned) and not found:
            raise InvalidArgument(
                f"sections with transcripts are wanted, but got {', '.join(lacking[:5])} without; "
                "ingest them from a source that has them"
            )
        if self.genes is not None:
            names = [n for n in self.selection.possible if n not in lacking]
            sections = [self.selection.store.section(name) for name in names]
            pairs = [(s, e) for s in sections if (e := self._element(s)) is not None]
            told_of_genes(self.genes, [(s, s.points[e]) for s, e in pairs])

    def _element(self, section: "Section") -> str | None:
        """Points element that is meant: the one named, the only one, or `transcripts`."""
        known = section.points
        if self.name is not None:
            if self.name in known or not known:
                return self.name if known else None
            raise InvalidArgument(
                f"a points element of section {section.name!r} is wanted, but got {self.name!r}."
                f"{near(self.name, known)} There are: {', '.join(known)}"
            )
        if len(known) > 1 and _USUAL not in known:
            raise InvalidArgument(
                f"section {section.name!r} has several points elements: {', '.join(known)}; "
                "say which with name="
            )
        return None if not known else _USUAL if _USUAL in known else next(iter(known))

    def _row_bytes(self, found: list[SectionPoints]) -> int:
        chosen = [self._chosen(one) for one in found]
        return max(
            (row_bytes(o.points.info, c) for o, c in zip(found, chosen, strict=True)), default=0
        )

    def _chosen(self, one: SectionPoints) -> list[str]:
        """Columns of one section that are handed out."""
        stored = [c for c in one.points.info.columns if not c.startswith("__")]
        if self.columns is None:
            return stored
        return [c for c in self.columns if c in stored]

    @cached_property
    def _readers(self) -> list[GroupReader]:
        """One reader a section, with the cells that were selected, where cells are filtered."""
        self._check_columns()
        filtered = needs_cells(self.selection)
        readers = []
        for one in self.plan.sections:
            place = place_of(self.selection.question, one.section)
            cells = cells_of(self.selection, one) if filtered else None
            readers.append(GroupReader(one, place, tuple(self._chosen(one)), cells))
        return readers

    def _check_columns(self) -> None:
        known = {c: None for one in self.plan.sections for c in one.points.info.columns}
        for column in self.columns or ():
            if column not in known and column != "section" and known:
                raise ColumnNotFound(
                    f"a column of the transcripts is wanted, but got {column!r}."
                    f"{near(column, known)} There are: {', '.join(known)}"
                )

    def explain(self) -> PointsPlan:
        """Tell which row groups will be read and what they weigh; reads no point."""
        return self.plan

    @property
    def n_bound(self) -> int:
        """Number of transcripts at most, known without reading any."""
        return self.plan.n_bound

    def count(self) -> int:
        """Count the transcripts exactly; reads only what row groups on an edge leave open."""
        if self.genes is None and not needs_cells(self.selection):
            inside = sum(one.n_inside for one in self.plan.sections)
            edges = [reader.only_edges() for reader in self._readers]
            return inside + sum(len(b) for reader in edges for b in reader.batches(("x",)))
        return sum(len(batch) for batch in self.batches())

    @cached_property
    def schema(self) -> "pa.Schema":
        """Columns of the answer: `section`, then those asked for."""
        import pyarrow as pa

        fields = {"section": pa.field("section", pa.dictionary(pa.int32(), pa.string()))}
        for reader in self._readers:
            for one in reader.schema:
                fields.setdefault(one.name, one)
        if self.columns is not None:
            order = ["section", *(c for c in self.columns if c != "section")]
            fields = {name: fields[name] for name in order if name in fields}
        return pa.schema(list(fields.values()))

    def batches(self) -> "Iterator[pa.RecordBatch]":
        """Yield the transcripts row group by row group; memory is one of them.

        Yields
        ------
        pyarrow.RecordBatch
            Of `schema`; none is empty.
        """
        for reader in self._readers:
            for batch in reader.batches():
                yield reader.widened(batch, self.schema)

    def to_arrow(self, *, memory_limit: str | int | None = None) -> "pa.Table":
        """Read the transcripts into one Arrow table.

        Raises
        ------
        BudgetExceeded
            Estimated above the limit.
        """
        import pyarrow as pa

        self._refuse(memory_limit)
        table = pa.Table.from_batches(self.batches(), schema=self.schema)
        return table.unify_dictionaries().combine_chunks()

    def to_pandas(self, *, memory_limit: str | int | None = None) -> "pd.DataFrame":
        """Read the transcripts into one data frame, genes as categories; see `to_arrow`."""
        frame: pd.DataFrame = self.to_arrow(memory_limit=memory_limit).to_pandas()
        return frame

    def to_dask(self) -> "dd.DataFrame":
        """Make a lazy data frame of a partition a row group; never refuses."""
        from .partitions import lazy_frame

        return lazy_frame(self._readers, self.schema)

    def _refuse(self, memory_limit: str | int | None) -> None:
        plan = self.plan
        what = f"a table of up to {plan.n_bound:,} transcripts"
        refuse_above(parse_bytes(memory_limit), plan.peak_bytes, what, WAYS_OUT)

    def __repr__(self) -> str:
        return f"Transcripts, at most {self.n_bound:,}\n  {self.selection.question}"
