"""Sums of counts of the cells of a replicate and group: pseudobulks, streamed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ...atlas.memory import refuse_above
from ..exports.to_anndata import aligned
from ..labels.markers import replicates
from .groups import Comparison, labeled_parts

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ..cells.selection import Selection
    from ..expression.choice import GeneChoice

__all__ = ["Bulks", "sum_bulks"]

_ROWS_AT_ONCE = 32_768
_NNZ_BYTES = 48
_NAMED = 5


@dataclass(frozen=True, slots=True, eq=False)
class Bulks:
    """Counts of every replicate and label."""

    replicates: tuple[str, ...]
    """(r,) names."""
    sections: tuple[tuple[str, ...], ...]
    """(r,) the sections of each that have cells."""
    counts: NDArray[np.int64]
    """(r, labels, genes) sums over cells."""
    cells: NDArray[np.int64]
    """(r, labels) cells."""


def sum_bulks(
    selection: "Selection",
    comparison: Comparison,
    choice: "GeneChoice",
    replicate: str,
    *,
    limit: int,
) -> Bulks:
    """Add up the raw counts of each replicate and label; the counts are read once, in blocks.

    Raises
    ------
    InvalidArgument
        A section holds something other than raw counts, or has no value of `replicate`.
    BudgetExceeded
        8 bytes for each replicate, label and gene, and one block of rows, exceed the limit.
    """
    import scipy.sparse as sp

    sections = list(selection.runs)
    _check_counts(selection, sections)
    unit_of = replicates(selection.store, sections, replicate)
    units = tuple(sorted(set(unit_of.values())))
    shape = (len(units), len(comparison.labels), len(choice))
    rows = _rows_at_once(selection, shape, limit)
    counts = np.zeros(shape, np.int64)
    cells = np.zeros(shape[:2], np.int64)
    for section, runs, codes in labeled_parts(selection, comparison, rows):
        unit = units.index(unit_of[section.name])
        kept = np.flatnonzero(codes >= 0)
        ones = np.ones(len(kept))
        pick: Any = sp.csr_matrix((ones, (codes[kept], kept)), shape=(shape[1], len(codes)))
        matrix = aligned(section, runs, choice).astype(np.float64)
        counts[unit] += np.rint((pick @ matrix).toarray()).astype(np.int64)
        cells[unit] += np.bincount(codes[kept], minlength=shape[1])
    of = tuple(tuple(name for name in sections if unit_of[name] == unit) for unit in units)
    return Bulks(units, of, counts, cells)


def _check_counts(selection: "Selection", sections: list[str]) -> None:
    entries = selection.store.snapshot.sections
    other = [name for name in sections if entries[name].values != "counts"]
    if other:
        kinds = ", ".join(f"{name!r} ({entries[name].values})" for name in other[:_NAMED])
        more = f" and {len(other) - _NAMED} more" if len(other) > _NAMED else ""
        raise InvalidArgument(
            f"raw counts are wanted for DESeq2, whose model is one of counts, but got {kinds}{more}"
            "; leave these sections out, or compare cells by method='wilcoxon'"
        )


def _rows_at_once(selection: "Selection", shape: tuple[int, int, int], limit: int) -> int:
    held = 8 * int(np.prod(shape)) + 16 * shape[1] * shape[2]
    opened: list[Section] = [section for section, _ in selection.parts()]
    each = _NNZ_BYTES * max((s.entry.nnz / max(s.n_obs, 1) for s in opened), default=0.0) + 64
    refuse_above(
        limit,
        int(held + 256 * each),
        f"sums of {shape[0]} replicates x {shape[1]} labels x {shape[2]:,} genes",
        "compare fewer labels or replicates, or give a larger memory_limit",
    )
    return int(np.clip((limit - held) / each, 256, _ROWS_AT_ONCE))
