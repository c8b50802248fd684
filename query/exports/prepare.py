"""What an AnnData of an answer will hold, settled and checked before any count is read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ...atlas.memory import parse_bytes, refuse_above
from ..cells.rows import RunArray, batches, count
from ..expression.choice import GeneChoice, Join, Missing, settle
from ..expression.mixture import check_log, warn_mixed
from ..tables.positions import frame_of
from .embeddings import Embeddings, choose_embeddings
from .graphs import graph_bytes
from .halo import Halo, widened

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ...atlas.snapshot import SectionEntry
    from ..cells.selection import Selection

__all__ = ["WAYS_OUT", "Options", "Prepared", "prepare"]

WAYS_OUT = (
    "narrow the query (section=, genes=, region=) or summarize it with .aggregate(), write it "
    "to an .h5ad file, or give a larger memory_limit"
)
# Of a batch in a stream: its values read, aligned, and logged.
_BATCH_BYTES = 64 * 2**20
_VALUE_BYTES = 40
_FIXED_BYTES = 128 * 2**20
# A cell in a stream: one column of obs at a time, and where its values begin.
_CELL_BYTES = 96
_POSITION_BYTES = 16


@dataclass(frozen=True, slots=True)
class Options:
    """What `to_anndata` is asked for; see there."""

    normalize: str | None = None
    obs_columns: Sequence[str] | None = None
    join: Join = "outer"
    missing: Missing | None = None
    graph: str | None = None
    embeddings: bool | str | Sequence[str] = False
    confidence: bool = False
    halo: str | None = None
    halo_um: float | None = None
    n_hops: int = 1
    memory_limit: str | int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Cells, genes and further parts of one AnnData."""

    selection: "Selection"
    """Cells handed out, those of a halo among them."""
    choice: GeneChoice
    options: Options
    embeddings: Embeddings
    inside: Mapping[str, NDArray[np.bool_]] | None
    """With a halo: which cells of each section are of the answer itself."""

    @property
    def entries(self) -> "list[SectionEntry]":
        """Catalog entries of the sections, in order."""
        return [section.entry for section, _ in self.selection.parts()]

    @property
    def n_obs(self) -> int:
        """Cells handed out."""
        return sum(count(runs) for runs in self.selection.runs.values())

    @property
    def layer(self) -> str | None:
        """Layer that keeps what is stored, where `X` is normalized."""
        if not self.options.normalize:
            return None
        return "counts" if all(e.values == "counts" for e in self.entries) else "stored"

    def batches(self, section: "Section", runs: RunArray) -> Iterator[RunArray]:
        """Cut the rows of a section so that the counts of a batch take a bounded memory."""
        filled = self.options.missing == "nan"
        absent = int((~self.choice.measured[section.name]).sum()) if filled else 0
        per_row = section.entry.nnz / max(section.n_obs, 1) + absent
        yield from batches(runs, max(64, int(_BATCH_BYTES / (_VALUE_BYTES * max(per_row, 1)))))

    def in_region(self) -> NDArray[np.bool_]:
        """Tell for each cell whether it is of the answer itself, (n,) bool."""
        inside = self.inside or {}
        return np.concatenate([*(inside[name] for name in self.selection.runs), np.zeros(0, bool)])


def prepare(selection: "Selection", options: Options, *, stream: bool = False) -> Prepared:
    """Settle what is handed out, and refuse what cannot be.

    Parameters
    ----------
    selection
        The answer.
    options
        What is asked for.
    stream
        Whether counts are written as they are read, so that memory is one batch of them.

    Raises
    ------
    BudgetExceeded, GeneNotFound, InvalidArgument, DerivedNotFound, StaleDerived, UnitUnknown
        See `to_anndata`.
    """
    if options.normalize not in (None, "log1p"):
        raise InvalidArgument(f"normalize=None or 'log1p' is wanted, but got {options.normalize!r}")
    halo = Halo.of(options.halo, options.halo_um, options.n_hops, options.graph)
    limit = parse_bytes(options.memory_limit)
    what = f"an AnnData of up to {selection.n_obs_bound:,} cells x {selection.n_vars:,} genes"
    peak = _peak(selection, options, stream=stream)
    refuse_above(limit, peak, what, WAYS_OUT)
    choice, kept = settle(
        selection.genes,
        list(selection.runs),
        asked=selection.question.genes is not None,
        join=options.join,
        missing=options.missing,
    )
    entries = [selection.store.snapshot.sections[name] for name in kept]
    if options.normalize:
        check_log(entries)
    warn_mixed(entries, options.normalize)
    narrowed = selection if list(kept) == list(selection.runs) else selection.only(kept)
    wide, inside = narrowed, None
    if halo is not None:
        n_own = max(narrowed.n_obs, 1)
        wide, inside = widened(narrowed, halo)
        peak = int(peak * max(1.0, sum(map(len, inside.values())) / n_own))
    found = choose_embeddings(wide, kept, options.embeddings)
    n = sum(count(runs) for runs in wide.runs.values())
    framed = 0 if frame_of(selection.question) is None else _POSITION_BYTES
    more = 0 if stream else 2 * n * (found.row_bytes + framed)
    if options.missing == "nan" and not stream:
        more += _filled_bytes(wide, choice)
    refuse_above(limit, peak + more, what, WAYS_OUT)
    return Prepared(wide, choice, options, found, inside)


def _peak(selection: "Selection", options: Options, *, stream: bool) -> int:
    """Memory of the answer itself, before what depends on its genes."""
    edges = 0 if options.graph is None else graph_bytes(selection, options.graph)
    if stream:
        return _FIXED_BYTES + _BATCH_BYTES + _CELL_BYTES * selection.n_obs_bound + edges
    return selection.plan.peak_bytes * (2 if options.normalize else 1) + edges


def _filled_bytes(selection: "Selection", choice: GeneChoice) -> int:
    return sum(
        count(runs) * int((~choice.measured[name]).sum()) * 16
        for name, runs in selection.runs.items()
    )


def described(prepared: Prepared) -> dict[str, Any]:
    """Tell the options that change which cells an export holds, for its notes."""
    options = prepared.options
    if prepared.inside is None:
        return {}
    if options.halo_um is not None:
        return {"halo": f"cells up to {options.halo_um:g} um from the answer"}
    return {"halo": f"cells within {options.n_hops} edges of graph {options.graph}"}
