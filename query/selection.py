"""A query, not yet run: what it will cost is known before anything is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import InvalidArgument, SectionNotFound, UnitUnknown, near
from ..atlas.memory import format_bytes
from . import pruning
from .columns import Column, Columns
from .fetch import Asked, find_rows
from .parser import parse
from .places import Place, place
from .plan import QueryPlan, SectionPlan
from .predicate import And, Bounds, Compare, In, Not, Null, Or, Predicate, StringTest, conjunction
from .rows import RunArray, count
from .statistics import bytes_per_row, tile_bounds
from .sugar import lower

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from spatialdata import SpatialData

    from ..atlas.section import Section
    from ..atlas.store import AtlasStore
    from .aggregate import Function
    from .genes import GeneChoice, Join, Missing

# What an exported cell costs beside its counts: index, position, a few columns.
_OBS_BYTES = 400
# Bytes of one non-zero in memory (float32 value, int32 column), twice while blocks are joined.
_NNZ_BYTES = 16


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, as a value: equal questions give equal answers on one snapshot."""

    predicate: Predicate
    """What each cell must satisfy."""
    place: Place | None = None
    """Where it must lie, in the coordinates of its section."""
    genes: tuple[str, ...] | None = None
    """Genes handed out; None is all."""
    domain_key: str | None = None
    """What `domain` stands for."""

    def __str__(self) -> str:
        words = [str(self.predicate)] if self.predicate != And(()) else []
        words += [f"in {self.place}"] if self.place is not None else []
        if self.genes is not None:
            words.append(
                f"genes {', '.join(self.genes[:5])}{' ...' if len(self.genes) > 5 else ''}"
            )
        return "; ".join(words) or "everything"


def select(
    store: "AtlasStore",
    obs: str | Predicate | None = None,
    genes: str | Sequence[str] | None = None,
    *,
    section: object = None,
    timepoint: object = None,
    domain: object = None,
    region: Place | None = None,
    domain_key: str | None = None,
    **sugar: object,
) -> "Selection":
    """Ask for cells; nothing is read until an answer is wanted.

    Parameters
    ----------
    store
        The atlas.
    obs
        A filter string, such as `"cell_type in ['Neuron'] and n_counts > 200"`, or a predicate.
        Names are section metadata, obs columns or domain keys. A missing value satisfies no
        comparison, neither `==` nor `!=` (as in SQL); ask for it by `is null`.
    genes
        Identifiers, symbols or aliases to hand out; None is all.
    section, timepoint, domain
        A value, a list (None in it means missing), or `slice(first, last)` with both ends, for
        timepoints in order of time.
    region
        A `Box`, `Circle` or `polygon`, in the micrometers of one section; name the section.
    domain_key
        Which labels `domain` means; needed where there are several.
    **sugar
        Any further column by its name, as for `section`.

    Returns
    -------
    Selection
        Cells in catalog order of sections, then in row order.

    Raises
    ------
    QuerySyntax, ColumnNotFound, SectionNotFound, InvalidArgument
        The question does not parse, or names what this snapshot does not have; near matches
        are offered.
    """
    columns = Columns(store, domain_key)
    parts: list[Predicate] = []
    if isinstance(obs, str):
        parts.append(parse(obs))
    elif isinstance(obs, And | Or | Not | Compare | In | Null | StringTest):
        parts.append(obs)
    elif obs is not None:
        raise InvalidArgument(f"a filter string is wanted for obs=, but got {type(obs).__name__}")
    _check_sections(store, section)
    named = {"section": section, "timepoint": timepoint, "domain": domain}
    wanted = {name: value for name, value in named.items() if value is not None} | sugar
    parts += [lower(name, value, columns) for name, value in wanted.items()]
    predicate = conjunction(parts)
    columns.check(predicate)
    if region is not None and section is None and len(store.section_names) > 1:
        raise InvalidArgument(
            "a section is wanted with a region, whose coordinates are those of one section, "
            f"but got none; name section= as one of {len(store.section_names)}"
        )
    names = (genes,) if isinstance(genes, str) else genes
    question = Question(predicate, region, None if names is None else tuple(names), domain_key)
    selection = Selection(store, question)
    if names is not None:
        # Panels are small and shared: an unknown gene is told now, not when the answer is read.
        _ = selection.genes
    return selection


def region(
    store: "AtlasStore",
    section: str | Sequence[str] | None = None,
    *,
    bbox: Sequence[float] | None = None,
    polygon: object = None,
    circle: Sequence[float] | None = None,
    predicate: str = "centroid",
    units: str = "um",
    **query: Any,
) -> "Selection":
    """Ask for the cells of a place.

    Parameters
    ----------
    store
        The atlas.
    section
        The section whose coordinates the place is in.
    bbox
        (xmin, ymin, xmax, ymax).
    polygon
        A shapely (Multi)Polygon, GeoJSON, WKT, a file of either, or vertices (n, 2).
    circle
        (x, y, radius).
    predicate
        `centroid`: cells whose recorded position lies in the place. The place includes its
        edge, as in spatialdata's box query of circles and polygon query of points.
    units
        `um`, or `source` for a section whose unit is unknown.
    **query
        As for `select`.

    Raises
    ------
    UnitUnknown
        The section's unit is unknown and `units` is `um`.
    InvalidArgument
        No or several places, an invalid place, a unit or predicate that is not known.
    """
    if predicate != "centroid":
        raise InvalidArgument(
            f"predicate='centroid' is wanted, but got {predicate!r}; cells are tested by position"
        )
    if units not in ("um", "source"):
        raise InvalidArgument(f"units='um' or 'source' is wanted, but got {units!r}")
    where = place(bbox=bbox, polygon_like=polygon, circle=circle)
    selection = select(store, section=section, region=where, **query)
    for plan in selection.sections:
        _check_unit(store.section(plan).entry.um_per_unit, plan, units)
    return selection


def _check_unit(um_per_unit: float | None, section: str, units: str) -> None:
    if um_per_unit is None and units == "um":
        raise UnitUnknown(
            f"micrometers are wanted, but got section {section!r} of unknown unit; give the "
            "region in the units of its source with units='source', or ingest it with um_per_unit"
        )
    if um_per_unit is not None and units == "source":
        raise InvalidArgument(
            f"units='um' is wanted for section {section!r}, whose unit is known, but got 'source'"
        )


def _check_sections(store: "AtlasStore", section: object) -> None:
    names = [section] if isinstance(section, str) else section
    if isinstance(names, list | tuple | set | frozenset):
        for name in names:
            if isinstance(name, str) and not store.has_section(name):
                raise SectionNotFound(
                    f"a section of this snapshot is wanted, but got {name!r}."
                    f"{near(name, store.section_names)}"
                )


class Selection:
    """Cells of an atlas that satisfy a question; lazy, immutable, picklable.

    Cells come in catalog order of sections (by name), then in the row order of the section.
    """

    def __init__(self, store: "AtlasStore", question: Question) -> None:
        self._store = store
        self.question = question
        self._runs: dict[str, RunArray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_store": self._store, "question": self.question, "_runs": self._runs}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def store(self) -> "AtlasStore":
        """The atlas, at the snapshot it was opened at."""
        return self._store

    @cached_property
    def columns(self) -> Columns:
        """Every column of the atlas, by name."""
        return Columns(self._store, self.question.domain_key)

    @cached_property
    def _tested(self) -> dict[str, Column]:
        return self.columns.check(self.question.predicate)

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
            }
            bounds = pruning.bound_section(self.question.predicate, self._tested, entry, derived)
            where = self.question.place
            if not bounds.can_yes[0]:
                pruned.append((name, "no cell can satisfy the filter"))
            elif where is not None and not where.cover(np.array([entry.bounds]))[0][0]:
                pruned.append((name, "lies outside the place"))
            else:
                kept[name] = bounds
        return kept, tuple(pruned)

    @property
    def sections(self) -> list[str]:
        """Sections that may hold answers, known from the catalog alone."""
        return list(self._kept[0])

    @cached_property
    def plan(self) -> QueryPlan:
        """What will be read; made from the catalog, tile tables and statistics."""
        kept, pruned = self._kept
        plans = []
        more: list[tuple[str, str]] = []
        for name, bounds in kept.items():
            plan = self._plan_section(name, bounds)
            if len(plan.start):
                plans.append(plan)
            else:
                more.append((name, "no tile can hold an answer"))
        n_vars, share = self._n_vars_and_share()
        nnz = sum(plan.n_rows * plan.nnz_per_row for plan in plans) * share
        rows = sum(plan.n_rows for plan in plans)
        return QueryPlan(
            query=str(self.question),
            sections=tuple(plans),
            pruned=tuple(sorted((*pruned, *more))),
            n_vars=n_vars,
            tested_columns=tuple(sorted(self._tested)),
            peak_bytes=round(nnz * _NNZ_BYTES + rows * _OBS_BYTES),
        )

    def _plan_section(self, name: str, bounds: Bounds) -> SectionPlan:
        section = self._store.section(name)
        tiles = section.tiles
        ptr = np.asarray(tiles.ptr, np.int64)
        by_tile = pruning.bound_tiles(
            self.question.predicate,
            lambda leaf: tile_bounds(self._store, section, leaf, self._tested[leaf.column]),
            bounds,
            len(ptr) - 1,
        )
        plan = pruning.plan_section(
            name, ptr, np.asarray(tiles.bounds, np.float64), self.question.place, by_tile
        )
        entry = section.entry
        return replace(
            plan,
            bytes_per_row=bytes_per_row(section),
            nnz_per_row=entry.nnz / max(entry.n_obs, 1),
        )

    def _n_vars_and_share(self) -> tuple[int, float]:
        if self.question.genes is not None:
            widest = max((self._entry(s).n_vars for s in self.sections), default=1)
            asked = len(set(self.question.genes))
            return asked, min(1.0, asked / max(widest, 1))
        return len(self.genes), 1.0

    def _entry(self, section: str) -> Any:
        return self._store.snapshot.sections[section]

    @property
    def runs(self) -> dict[str, RunArray]:
        """Row runs of the cells in each section that has any; finds the cells on first use."""
        if self._runs is None:
            found = {}
            for plan in self.plan.sections:
                section = self._store.section(plan.section)
                asked = Asked(self.question.predicate, self._tested, self.question.place)
                runs = find_rows(self._store, section, plan, asked)
                if len(runs):
                    found[plan.section] = runs
            self._runs = found
        return self._runs

    def only(self, sections: Sequence[str]) -> "Selection":
        """Keep the cells of some sections alone; what was found already is kept."""
        smaller = Selection(self._store, self.question)
        smaller._runs = {name: self.runs[name] for name in self.runs if name in set(sections)}
        return smaller

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
        """The genes of the answer, over the sections that may hold cells of it."""
        from .genes import choose_genes

        return choose_genes(self._store, self.sections, self.question.genes)

    def explain(self) -> QueryPlan:
        """Tell what was pruned, what will be read, and the memory it takes; reads no cell."""
        return self.plan

    def __repr__(self) -> str:
        bound = "" if self.plan.exact else "at most "
        return (
            f"Selection of {bound}{self.n_obs_bound:,} cells x {self.n_vars:,} genes in "
            f"{len(self.plan.sections)} sections, about {format_bytes(self.nbytes)} to read\n"
            f"  {self.question}"
        )

    @property
    def obs(self) -> "pd.DataFrame":
        """All columns of the cells, indexed by `{section}:{cell id}`; see `to_pandas`."""
        return self.to_obs()

    def to_obs(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Named columns of the cells, `section` always first; None is all."""
        from .obs import obs_table

        return obs_table(self, columns)

    def to_pandas(
        self,
        columns: Sequence[str] | None = None,
        *,
        missing: "Missing | None" = None,
        memory_limit: str | int | None = None,
    ) -> "pd.DataFrame":
        """Tabulate the cells; genes asked for by name become columns (`counts`).

        Parameters
        ----------
        columns
            Names as in a filter; default section, all its metadata, all obs columns and labels.
        missing
            For genes some section has not measured: default `error`.
        memory_limit
            Refuse above this; default half of free memory, at most 2 GiB.
        """
        from .obs import to_pandas

        return to_pandas(self, columns, missing=missing, memory_limit=memory_limit)

    def to_anndata(
        self,
        *,
        normalize: str | None = None,
        obs_columns: Sequence[str] | None = None,
        join: "Join" = "outer",
        missing: "Missing | None" = None,
        memory_limit: str | int | None = None,
    ) -> "AnnData":
        """Read the answer as one AnnData; see `query.to_anndata.to_anndata`."""
        from .to_anndata import to_anndata

        return to_anndata(
            self,
            normalize=normalize,
            obs_columns=obs_columns,
            join=join,
            missing=missing,
            memory_limit=memory_limit,
        )

    def to_spatialdata(self, *, memory_limit: str | int | None = None) -> "SpatialData":
        """Read the answer as one SpatialData; see `query.to_spatialdata.to_spatialdata`."""
        from .to_spatialdata import to_spatialdata

        return to_spatialdata(self, memory_limit=memory_limit)

    def aggregate(
        self,
        by: str | Sequence[str],
        func: "Function" = "mean",
        *,
        normalize: str | None = None,
        memory_limit: str | int | None = None,
    ) -> "pd.DataFrame":
        """Summaries of genes by groups of cells; see `query.aggregate.aggregate`."""
        from .aggregate import aggregate

        return aggregate(self, by, func, normalize=normalize, memory_limit=memory_limit)
