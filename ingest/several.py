"""Does a file hold several sections? A pure judgement over positions and obs columns.

Three signs, each with the column that shows it:

* *overlap*: a column named like samples are (sample, slice, donor, day, ...) has groups whose boxes
  cover the same place; two sections were each put at the origin.
* *apart*: such a column has groups whose boxes lie far from one another; several pieces of tissue
  side by side in one frame.
* *repeated*: many places are used by several cells, and some column of few values tells those
  cells apart; sections that share a spot array.

Columns of tiles, fields of view and planes count only when their groups lie upon one another:
tiles of one section lie beside each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Evidence", "is_sample_like", "is_tile_like", "judge", "worth_reading"]

# fmt: off
_SAMPLE_WORDS = frozenset(
    {
        "age", "animal", "animals", "array", "batch", "block", "brain", "bregma", "capture",
        "chip", "condition", "dataset", "day", "days", "donor", "donors", "embryo",
        "embryos", "fish", "genotype", "individual", "libraries", "library", "mice",
        "mouse", "organoid", "patient", "patients", "puck", "rat", "rep", "replicate",
        "replicates", "sample", "samples", "section", "sections", "slice", "slices",
        "slide", "slides", "specimen", "stage", "subject", "timepoint", "timepoints",
        "treatment",
    }
)
# fmt: on
_SAMPLE_NAMES = frozenset({"orig.ident", "library_key", "hour", "hours", "hpf", "dpf", "dpi"})
_TILE_WORDS = frozenset({"fov", "fovs", "roi", "rois", "field", "tile", "tiles", "z", "plane"})
# Words that turn a sample-like name into a measurement or an identifier of something else.
_NOT_SAMPLE = frozenset({"row", "col", "cell", "cells", "barcode", "quality", "score", "fraction"})

_MAX_GROUPS = 500
_MIN_CELLS = 10  # a group's mean size; more groups than that are no sections
_OVERLAP = 0.10  # of the smaller box; neighbors in a mosaic share a seam below this
_TILE_OVERLAP = 0.50  # of all pairs of tiles, in the median
_APART = 0.25  # gap between two boxes, of the larger one's side
_REPEATED = 0.30  # of all places are used twice; doubled cells of one section stay below this
_SEPARATED = 0.95  # of the repeats a column must tell apart
_PLAIN_GROUPS = 64
_QUANTILES = (0.005, 0.995)  # boxes without the strays


_Sign = tuple[Literal["overlap", "apart", "repeated"], float]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One column that seems to separate sections."""

    column: str
    """obs column."""
    sign: Literal["overlap", "apart", "repeated"]
    """What it shows."""
    n_groups: int
    """Values of the column."""
    share: float
    """Overlap of the boxes, gap between them, or places used twice, as a fraction."""

    def __str__(self) -> str:
        what = {
            "overlap": f"groups share {self.share:.0%} of their area",
            "apart": f"groups lie {self.share:.1f} section widths apart",
            "repeated": f"{self.share:.0%} of all places occur in several groups",
        }[self.sign]
        return f"{self.column!r} ({self.n_groups} values; {what})"


def _words(name: str) -> set[str]:
    split = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return {word for word in re.split(r"[^A-Za-z]+", split.casefold()) if word}


def is_sample_like(name: str) -> bool:
    """Whether a column is named as if it told samples apart.

    Examples
    --------
    >>> [is_sample_like(n) for n in ("samples", "sampleID", "orig.ident", "day", "array_row")]
    [True, True, True, True, False]
    """
    words = _words(name)
    if name.casefold() in _SAMPLE_NAMES:
        return True
    return bool(words & _SAMPLE_WORDS) and not words & _NOT_SAMPLE


def is_tile_like(name: str) -> bool:
    """Whether a column is named as if it told pieces of one section apart.

    Examples
    --------
    >>> is_tile_like("fov"), is_tile_like("z"), is_tile_like("layer")
    (True, True, False)
    """
    return bool(_words(name) & _TILE_WORDS)


def worth_reading(name: str, kind: str | None, n_categories: int | None = None) -> bool:
    """Whether a column could separate sections, so that `judge` should see it."""
    if kind not in {"categorical", "string", "numeric", "boolean"}:
        return False
    named = is_sample_like(name) or is_tile_like(name)
    return named or (kind == "categorical" and 2 <= (n_categories or 0) <= _PLAIN_GROUPS)


def judge(
    positions: NDArray[np.float64], columns: Mapping[str, NDArray[np.integer]]
) -> tuple[Evidence, ...]:
    """Find the columns that seem to separate sections.

    Parameters
    ----------
    positions : array, (n, 2) float64
        Positions in any unit; rows that are not finite are left out.
    columns : mapping of str to array, (n,) integer
        Codes of each column worth looking at, -1 where missing.

    Returns
    -------
    tuple of Evidence
        The surest sign of each column, the column with the most groups first among equals; empty
        when the file looks like one section.

    Notes
    -----
    Memory: about 40 bytes a cell; time: one sort of the positions.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> xy, half = rng.random((400, 2)), np.repeat([0, 1], 200)
    >>> [str(e) for e in judge(xy, {"mouse_id": half, "cluster": half})]
    ["'mouse_id' (2 values; groups share 100% of their area)"]
    >>> beside = xy + half[:, None] * [1.0, 0.0]
    >>> judge(beside, {"fov": half})
    ()
    """
    finite = np.isfinite(positions).all(axis=1)
    repeats = _Repeats.of(positions, finite)
    found = []
    for name, codes in columns.items():
        kept = finite & (codes >= 0)
        groups = np.unique(codes[kept])
        if not 2 <= groups.size <= _MAX_GROUPS or kept.sum() < _MIN_CELLS * groups.size:
            continue
        sign: _Sign | None = _of_repeats(repeats, codes, groups.size)
        if sign is None and (is_sample_like(name) or is_tile_like(name)):
            boxes = _boxes(positions[kept], np.searchsorted(groups, codes[kept]), groups.size)
            sign = _of_boxes(boxes, is_sample_like(name))
        if sign is not None:
            found.append(Evidence(name, sign[0], int(groups.size), sign[1]))
    found.sort(key=lambda e: (not is_sample_like(e.column), -e.n_groups))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Repeats:
    """Places used by more than one cell."""

    share: float
    """Of all distinct places."""
    rows: NDArray[np.int64]
    """Cells at such places, those of one place next to each other."""
    starts: NDArray[np.int64]
    """(places + 1,) where each place's cells start in `rows`."""

    @classmethod
    def of(cls, positions: NDArray[np.float64], finite: NDArray[np.bool_]) -> _Repeats:
        """Sort the positions and keep the runs of equal ones."""
        rows = np.flatnonzero(finite)
        order = rows[np.lexsort((positions[rows, 1], positions[rows, 0]))]
        if order.size < 2:
            return cls(0.0, np.empty(0, np.int64), np.zeros(1, np.int64))
        fresh = np.ones(order.size, dtype=bool)
        fresh[1:] = (positions[order[1:]] != positions[order[:-1]]).any(axis=1)
        starts = np.append(np.flatnonzero(fresh), order.size)
        sizes = np.diff(starts)
        several = np.repeat(sizes > 1, sizes)
        kept = sizes[sizes > 1]
        return cls(
            float(kept.size / sizes.size),
            order[several],
            np.concatenate([[0], np.cumsum(kept)]).astype(np.int64),
        )


def _of_repeats(repeats: _Repeats, codes: NDArray[np.integer], n_groups: int) -> _Sign | None:
    """Whether a column tells apart the cells that share a place."""
    if repeats.share < _REPEATED or n_groups > _PLAIN_GROUPS:
        return None
    here = codes[repeats.rows].astype(np.int64) + 1
    place = np.repeat(np.arange(repeats.starts.size - 1), np.diff(repeats.starts))
    pairs = np.unique(place * (int(here.max()) + 1) + here).size
    apart = pairs - (repeats.starts.size - 1)
    return (
        ("repeated", repeats.share)
        if apart >= _SEPARATED * (repeats.rows.size - repeats.starts.size + 1)
        else None
    )


def _boxes(
    positions: NDArray[np.float64], groups: NDArray[np.int64], n_groups: int
) -> NDArray[np.float64]:
    """(g, 4) xmin, ymin, xmax, ymax of each group, without its strays."""
    order = np.argsort(groups, kind="stable")
    bounds = np.searchsorted(groups[order], np.arange(n_groups + 1))
    boxes = np.empty((n_groups, 4))
    for g in range(n_groups):
        cells = positions[order[bounds[g] : bounds[g + 1]]]
        low, high = np.quantile(cells, _QUANTILES, axis=0)
        boxes[g] = (*low, *high)
    return boxes


def _of_boxes(boxes: NDArray[np.float64], sample_like: bool) -> _Sign | None:
    """Judge how the boxes of a column's groups lie to one another."""
    first, second = np.triu_indices(len(boxes), k=1)
    a, b = boxes[first], boxes[second]
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    area = np.minimum((a[:, 2:] - a[:, :2]).prod(axis=1), (b[:, 2:] - b[:, :2]).prod(axis=1))
    overlap = np.divide(shared, area, out=np.zeros_like(shared), where=area > 0)
    if not sample_like:
        middle = float(np.median(overlap))
        return ("overlap", middle) if middle >= _TILE_OVERLAP else None
    if overlap.max() > _OVERLAP:
        return "overlap", float(overlap.max())
    gap = np.clip(low - high, 0, None).max(axis=1)
    side = np.maximum(a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]).max(axis=1)
    away = np.divide(gap, side, out=np.zeros_like(gap), where=side > 0)
    # Each group needs only one near neighbor to belong to a mosaic.
    nearest = np.full(len(boxes), np.inf)
    np.minimum.at(nearest, first, away)
    np.minimum.at(nearest, second, away)
    return ("apart", float(nearest.max())) if nearest.max() > _APART else None


def several_message(evidence: Sequence[Evidence]) -> str:
    """Say what a file looks like and what to do."""
    listed = "; ".join(map(str, evidence[:4]))
    return (
        f"expected one section, but got what looks like several: {listed}; set `split_by` to "
        f"{evidence[0].column!r} for one section per value, or to 'none' if this is one section"
    )
