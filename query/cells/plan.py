"""What a query will read, as values that print themselves."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.memory import format_bytes

if TYPE_CHECKING:
    from ...atlas.snapshot import SectionEntry
    from .costs import Cost

_SHOWN = 12


@dataclass(frozen=True, slots=True, eq=False)
class SectionPlan:
    """The tiles of one section that may hold answers; never leaves out a tile that does."""

    section: str
    n_tiles: int
    """Tiles the section has."""
    start: NDArray[np.int64]
    """(k,) first row of each kept tile, ascending."""
    stop: NDArray[np.int64]
    """(k,) one past its last row."""
    test_place: NDArray[np.bool_]
    """(k,) whether its cells must be tested against the place."""
    test_obs: NDArray[np.bool_]
    """(k,) whether its cells must be tested against the predicate."""
    bytes_per_row: float = 0.0
    """Estimate of compressed bytes read for one row of the answer."""
    nnz_per_row: float = 0.0
    """Mean non-zeros of a row."""
    n_ruled_out_by_genes: int = 0
    """Tiles that tests on genes rule out by themselves."""
    whole: bool = False
    """Whether all of the section answers, known without its tiles: one run stands for them."""

    @property
    def n_rows(self) -> int:
        """Rows in kept tiles: the answer has at most so many."""
        return int((self.stop - self.start).sum())

    @property
    def n_kept(self) -> int:
        """Tiles that may hold answers."""
        return self.n_tiles if self.whole else len(self.start)

    @property
    def n_runs(self) -> int:
        """Row runs the kept tiles form; each is one request an array, or few."""
        return int(len(self.start) and 1 + np.count_nonzero(self.start[1:] != self.stop[:-1]))

    @property
    def exact(self) -> bool:
        """Whether every row of the kept tiles answers, so that no cell is tested."""
        return not (self.test_place.any() or self.test_obs.any())


def whole_section(entry: "SectionEntry") -> SectionPlan:
    """Plan for a section whose cells all answer, known from the catalog alone."""
    none, start, stop = np.zeros(1, bool), np.zeros(1, np.int64), np.array([entry.n_obs])
    if not entry.n_obs:
        none, start, stop = none[:0], start[:0], stop[:0]
    return SectionPlan(entry.section, entry.n_tiles, start, stop, none, none, whole=True)


def known_rows(entry: "SectionEntry", runs: NDArray[np.int64]) -> SectionPlan:
    """Plan for rows that were found already: each run (k, 2) stands for a tile."""
    none = np.zeros(len(runs), bool)
    per_row = entry.nnz / max(entry.n_obs, 1)
    plan = SectionPlan(entry.section, entry.n_tiles, runs[:, 0], runs[:, 1], none, none)
    return replace(plan, nnz_per_row=per_row)


@dataclass(frozen=True, slots=True, eq=False)
class QueryPlan:
    """What a query reads, what it leaves alone and why; printing it is `Selection.explain()`."""

    query: str
    """The question in words."""
    sections: tuple[SectionPlan, ...]
    """Sections that may hold answers, in catalog order."""
    pruned: tuple[tuple[str, str], ...]
    """Sections left alone, each with the reason."""
    n_vars: int
    """Genes handed out."""
    tested_columns: tuple[str, ...] = ()
    """Columns read for cells in tiles that statistics could not decide."""
    peak_bytes: int = 0
    """Estimate of the memory `to_anndata` takes at most."""
    cost: "Cost | None" = None
    """Requests and bytes of `to_anndata`, where they were asked for (`explain`)."""

    @property
    def n_obs_bound(self) -> int:
        """The answer has at most so many cells; known without reading any."""
        return sum(plan.n_rows for plan in self.sections)

    @property
    def exact(self) -> bool:
        """Whether `n_obs_bound` is the number of cells itself."""
        return all(plan.exact for plan in self.sections)

    @property
    def read_bytes(self) -> int:
        """Estimate of compressed bytes that reading the answer takes."""
        return round(sum(plan.n_rows * plan.bytes_per_row for plan in self.sections))

    @property
    def n_tiles(self) -> tuple[int, int]:
        """Tiles kept, and tiles of the kept sections."""
        return (
            sum(plan.n_kept for plan in self.sections),
            sum(plan.n_tiles for plan in self.sections),
        )

    def __str__(self) -> str:
        kept, total = self.n_tiles
        place = sum(int(plan.test_place.sum()) for plan in self.sections)
        obs = sum(int(plan.test_obs.sum()) for plan in self.sections)
        genes = sum(plan.n_ruled_out_by_genes for plan in self.sections)
        n_runs = sum(plan.n_runs for plan in self.sections)
        bound = "" if self.exact else "at most "
        tested = f" on {', '.join(self.tested_columns)}" if obs else ""
        lines = [
            f"query     {self.query}",
            f"sections  {len(self.sections)} of {len(self.sections) + len(self.pruned)} kept",
            *_listed([f"  - {name}: {why}" for name, why in self.pruned]),
            f"tiles     {kept:,} of {total:,} kept in {n_runs:,} row runs",
            *([f"  genes rule out {genes:,} tiles by their statistics"] if genes else []),
            f"  tested cell by cell: {place:,} for the place, {obs:,} for the filter{tested}",
            f"cells     {bound}{self.n_obs_bound:,} x {self.n_vars:,} genes",
            self._read_line(),
            f"memory    at most about {format_bytes(self.peak_bytes)} for to_anndata()",
        ]
        return "\n".join(lines)

    def _read_line(self) -> str:
        if self.cost is None:
            return f"read      about {format_bytes(self.read_bytes)} (compressed)"
        return (
            f"read      at most {self.cost.requests:,} requests, about "
            f"{format_bytes(round(self.cost.nbytes))} (compressed) for to_anndata()"
        )

    def __repr__(self) -> str:
        return str(self)


def _listed(lines: list[str]) -> list[str]:
    if len(lines) <= _SHOWN:
        return lines
    return [*lines[:_SHOWN], f"  - and {len(lines) - _SHOWN:,} more"]
