"""A query, not yet run: what it will cost is known before anything is read."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.memory import format_bytes
from ..filters.columns import Column, Columns
from ..filters.predicate import Bounds, Leaf
from ..geometry.by_section import Nowhere, place_of
from . import pruning
from .answers import Answers
from .empty import warn_nothing_found, warn_unknown_cells
from .fetch import Asked, by_gene, find_rows
from .plan import QueryPlan, SectionPlan, known_rows, whole_section
from .question import Question
from .rows import RunArray, count
from .statistics import bytes_per_row, tile_bounds

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ...atlas.store import AtlasStore
    from ..expression.choice import GeneChoice

# What an exported cell costs beside its counts: id and position, and each column twice while the
# tables of sections are joined.
_OBS_BYTES = 200
_VALUE_BYTES = 24
# Bytes of one non-zero in memory (float32 value, int32 column), twice while blocks are joined.
_NNZ_BYTES = 16
# What the first answer brings in whatever its size: buffers, codecs, decoded chunks.
_FIXED_BYTES = 64 * 2**20
# Sections that are opened to reckon what an answer costs.
_OPENED = 64
_OUTSIDE = "lies outside the place"


class Selection(Answers):
    """Cells of an atlas that satisfy a question; lazy, immutable, picklable.

    Cells come in catalog order of sections (by name), then in the row order of the section.
    """

    def __init__(self, store: "AtlasStore", question: Question) -> None:
        # What was found must go on belonging to what is read, also after the handle commits.
        self._store = store.frozen()
        self.question = question
        self._runs: dict[str, RunArray] | None = None
        self._only: frozenset[str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        own = {"_store": self._store, "question": self.question, "_runs": self._runs}
        return own | {"_only": self._only}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def store(self) -> "AtlasStore":
        """The atlas, at the snapshot it showed when the question was asked."""
        return self._store

    @cached_property
    def columns(self) -> Columns:
        """Every column of the atlas, by name."""
        return Columns(self._store, self.question.domain_key)

    @cached_property
    def _tested(self) -> dict[str, Column]:
        return self.columns.check(self.question.predicate)

    @property
    def tested(self) -> list[Column]:
        """Columns that the filter names."""
        return list(self._tested.values())

    @cached_property
    def _kept(self) -> tuple[dict[str, Bounds], tuple[tuple[str, str], ...]]:
        """Sections left by the catalog alone, and those left out with the reason."""
        snapshot = self._store.snapshot
        kept: dict[str, Bounds] = {}
        pruned: list[tuple[str, str]] = []
        for name in self._store.section_names:
            entry = snapshot.sections[name]
            derived = {
                key: snapshot.derived[f"domains/{key}/{name}"]
                for key in self.columns.domain_keys
                if f"domains/{key}/{name}" in snapshot.derived
            } | {
                f"annotations:{key}": snapshot.derived[f"annotation/{key}/{name}"]
                for key in self.columns.annotation_keys
                if f"annotation/{key}/{name}" in snapshot.derived
            }
            bounds = pruning.bound_section(self.question.predicate, self._tested, entry, derived)
            where = place_of(self.question, name)
            if not bounds.can_yes[0]:
                why = pruning.why_missing_genes(self._tested, entry)
                pruned.append((name, why or "no cell can satisfy the filter"))
            elif isinstance(where, Nowhere):
                pruned.append((name, where.why))
            elif where is not None and not where.cover(np.array([entry.bounds]))[0][0]:
                pruned.append((name, _OUTSIDE))
            else:
                kept[name] = bounds
        return kept, tuple(pruned)

    @property
    def sections(self) -> list[str]:
        """Sections that may hold answers, known from the catalog alone."""
        return list(self._kept[0])

    @property
    def possible(self) -> list[str]:
        """Sections that the filter leaves, wherever the place lies: for what is not cells."""
        kept = {*self.sections, *(name for name, why in self._kept[1] if why == _OUTSIDE)}
        return sorted(kept if self._only is None else kept & self._only)

    @property
    def candidates(self) -> list[str]:
        """Sections that the filter leaves, wherever the place lies; all where it leaves none."""
        outside = [name for name, why in self._kept[1] if why == _OUTSIDE]
        return sorted([*self.sections, *outside]) or list(self._store.section_names)

    @cached_property
    def _planned(self) -> tuple[tuple[SectionPlan, ...], tuple[tuple[str, str], ...]]:
        """Plan of each section that may hold answers, and those left out with the reason.

        Needs no gene of the answer: finding cells must not wait for the panels of all sections.
        """
        kept, pruned = self._kept
        plans = []
        more: list[tuple[str, str]] = []
        for name, bounds in kept.items():
            plan = self._plan_section(name, bounds)
            if len(plan.start):
                plans.append(plan)
            else:
                more.append((name, "no tile can hold an answer"))
        return tuple(plans), tuple(sorted((*pruned, *more)))

    @cached_property
    def plan(self) -> QueryPlan:
        """What will be read; made from the catalog, tile tables and statistics."""
        plans, pruned = self._planned
        nnz = sum(self._nnz(plan) for plan in plans)
        rows = sum(plan.n_rows for plan in plans)
        return QueryPlan(
            query=str(self.question),
            sections=plans,
            pruned=pruned,
            n_vars=self._n_vars(),
            tested_columns=tuple(sorted(self._tested)),
            peak_bytes=round(nnz * _NNZ_BYTES + rows * self._row_bytes() + _FIXED_BYTES),
        )

    def _plan_section(self, name: str, bounds: Bounds) -> SectionPlan:
        section = self._store.section(name)
        entry, place = section.entry, place_of(self.question, name)
        if place is None and bounds.all_yes[0]:
            # All of a section: its tiles need not be known, nor the section be opened.
            plan = whole_section(entry)
        else:
            known: dict[Leaf, Bounds] = {}

            def leaf_bounds(leaf: Leaf) -> Bounds:
                column = self._tested[leaf.column]
                known[leaf] = tile_bounds(self._store, section, leaf, column)
                return known[leaf]

            asked = self.question.predicate
            by_tile = pruning.bound_tiles(asked, leaf_bounds, bounds, entry.n_tiles)
            plan = pruning.plan_section(name, section.tiles, place, by_tile)
            genes = pruning.ruled_out_by_genes(asked, known, self._tested, entry.n_tiles)
            plan = replace(plan, n_ruled_out_by_genes=genes)
        return replace(
            plan,
            bytes_per_row=bytes_per_row(section),
            nnz_per_row=entry.nnz / max(entry.n_obs, 1),
        )

    def _row_bytes(self) -> int:
        columns = self.columns
        n_columns = len(columns.metadata) + len(columns.obs_of(self.sections))
        return _OBS_BYTES + _VALUE_BYTES * (
            n_columns + len(columns.domain_keys) + len(columns.annotation_keys)
        )

    def _n_vars(self) -> int:
        asked = self.question.genes
        if asked is not None:
            return len(set(asked))
        from ..expression.choice import gene_union

        # Which sections measured them is not asked here: that reads totals of padded panels.
        return len(gene_union(self._store, self.sections or self.candidates))

    def _nnz(self, plan: SectionPlan) -> float:
        """Non-zero values that reading some rows brings into memory, at most."""
        if self.question.genes is None:
            return plan.n_rows * plan.nnz_per_row
        section = self._store.section(plan.section)
        columns = self.genes.columns[plan.section]
        columns = columns[columns >= 0]
        # Genes asked for by name are often dense ones: their own number counts, not the average.
        own = float(section.totals.nnz[columns].sum())
        if by_gene(section, plan.n_rows, columns):
            return own
        return min(own, float(plan.n_rows * len(columns)))

    @property
    def found(self) -> bool:
        """Whether the cells have been found already, so that `runs` reads nothing."""
        return self._runs is not None

    @property
    def runs(self) -> dict[str, RunArray]:
        """Row runs of the cells in each section that has any; finds the cells on first use."""
        if self._runs is None:
            found = {}
            for plan in self._planned[0]:
                section = self._store.section(plan.section)
                where = place_of(self.question, plan.section)
                asked = Asked(self.question.predicate, self._tested, where)
                runs = find_rows(self._store, section, plan, asked)
                if len(runs):
                    found[plan.section] = runs
            self._runs = found
            n_found = sum(map(count, found.values()))
            warn_unknown_cells(self.question, n_found)
            warn_nothing_found(self, n_found)
        return self._runs

    def only(self, sections: Sequence[str]) -> "Selection":
        """Keep the cells of some sections alone; what was found already is kept."""
        smaller = Selection(self._store, self.question)
        smaller._runs = {name: self.runs[name] for name in self.runs if name in set(sections)}
        smaller._only = frozenset(sections)
        return smaller

    def holding(self, runs: "Mapping[str, RunArray]") -> "Selection":
        """Make a selection of these rows, whatever the question says, with its genes."""
        other = Selection(self._store, self.question)
        other._runs = dict(runs)
        other.__dict__["plan"] = self._plan_of(other._runs)
        return other

    def _plan_of(self, runs: "Mapping[str, RunArray]") -> QueryPlan:
        """Plan for rows that are known: their own number decides the memory, not the question's."""
        entries = self._store.snapshot.sections
        plans = tuple(
            replace(
                known_rows(entries[name], rows),
                bytes_per_row=bytes_per_row(self._store.section(name)),
            )
            for name, rows in runs.items()
        )
        nnz = sum(self._nnz(plan) for plan in plans)
        rows = sum(plan.n_rows for plan in plans)
        peak = round(nnz * _NNZ_BYTES + rows * self._row_bytes() + _FIXED_BYTES)
        return QueryPlan(str(self.question), plans, (), self._n_vars(), peak_bytes=peak)

    def measured(self) -> "Selection":
        """Keep the cells of sections that measured every gene of the answer.

        The same cells as under `missing="drop_sections"`.
        """
        choice = self.genes
        return self.only([name for name in self.runs if bool(choice.measured[name].all())])

    def parts(self) -> list[tuple["Section", RunArray]]:
        """Each section that has cells in the answer, with their row runs."""
        return [(self._store.section(name), runs) for name, runs in self.runs.items()]

    @property
    def n_obs(self) -> int:
        """Number of cells, exactly.

        Reads positions of tiles on the edge of the place and columns of the filter, where tile
        statistics leave them open; never counts.
        """
        return sum(count(runs) for runs in self.runs.values())

    @property
    def n_obs_bound(self) -> int:
        """Number of cells at most, from tile tables and statistics alone."""
        return self.plan.n_obs_bound

    @property
    def n_vars(self) -> int:
        """Number of genes handed out."""
        return self.plan.n_vars

    @property
    def nbytes(self) -> int:
        """Estimate of compressed bytes that reading the answer takes, before any cell is read."""
        return self.plan.read_bytes

    @cached_property
    def genes(self) -> "GeneChoice":
        """The genes of the answer, over the sections that may hold cells of it.

        Where no section may, the genes of those that were asked: an empty answer has columns.
        """
        from ..expression.choice import choose_genes

        return choose_genes(self._store, self.sections or self.candidates, self.question.genes)

    def explain(self) -> QueryPlan:
        """Tell what was pruned, what will be read, and the memory it takes; reads no cell.

        Opens the sections left (of many, the first 64, and reckons for the rest); the plan has
        the requests (at most) and bytes (about) of `to_anndata` as `cost`.
        """
        from ..tables.obs import default_columns
        from .costs import Cost, Read, cost_of, cost_of_panels, cost_of_pruning

        handed_out = default_columns(self.columns, [plan.section for plan in self.plan.sections])
        total, parts = Cost(), self.plan.sections[:_OPENED]
        for plan in parts:
            section = self._store.section(plan.section)
            place = place_of(self.question, plan.section)
            genes = None
            if self.question.genes is not None:
                genes = self.genes.columns[plan.section]
                genes = genes[genes >= 0]
            total += cost_of(Read(section, plan, place, genes, handed_out, self.tested))
        scale = len(self.plan.sections) / max(len(parts), 1)
        entries = self._store.snapshot.sections
        looked_up = entries if self.question.genes is not None else self.sections or self.candidates
        panels = {entries[name].panel: entries[name].n_vars for name in looked_up}
        cost = Cost(ceil(total.requests * scale), total.nbytes * scale)
        n_more = len(self.sections) - len(self.plan.sections)
        cost += cost_of_pruning(n_more, len(self.tested))
        return replace(self.plan, cost=cost + cost_of_panels(list(panels.values())))

    def __repr__(self) -> str:
        bound = "" if self.plan.exact else "at most "
        return (
            f"Selection of {bound}{self.n_obs_bound:,} cells x {self.n_vars:,} genes in "
            f"{len(self.plan.sections)} sections, about {format_bytes(self.nbytes)} to read\n"
            f"  {self.question}"
        )
