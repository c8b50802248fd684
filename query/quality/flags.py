"""What is odd about a section: told with its value, its threshold and a next step, never mended.

`flags` is pure: figures of a section and of its like go in, flags come out. The thresholds are
values of `Limits`, so that a project can set its own; they are guides, not verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ...atlas.errors import Corrupt
    from ...atlas.quality.summary import QcSummary

__all__ = ["MEANINGS", "Cohort", "Flag", "Limits", "damaged", "flags"]

Level = Literal["warning", "note"]

_TO_SIGMA = 1.4826  # of a normal distribution, by its median absolute deviation
_LEAST_SPREAD = 0.05  # in natural logarithms: sections that agree to 5 % are not outliers


@dataclass(frozen=True, slots=True)
class Limits:
    """Thresholds of the flags.

    Examples
    --------
    >>> Limits().empty_fraction
    0.05
    """

    empty_fraction: float = 0.05
    """Share of cells without a value above zero, above which it is flagged."""
    duplicated_fraction: float = 0.001
    """Share of cells at the position of another, above which it is flagged."""
    control_fraction: float = 0.02
    """Control counts by all counts, above which it is flagged."""
    outside_fraction: float = 0.5
    """Share of transcripts that belong to no cell, above which it is flagged."""
    robust_z: float = 3.5
    """Distance from the median of the cohort, in robust standard deviations of the logarithm,
    from which a section is flagged."""
    least_cohort: int = 5
    """Sections that a cohort needs before anything is compared with it."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One thing that is odd about a section."""

    code: str
    """Stable name: `empty`, `duplicated`, `controls`, `outside`, `low-counts`, `low-genes`,
    `density`, `damaged`, `no-unit`, `no-image`, `notes`, `not-recorded`."""
    level: Level
    """`warning`: look before using the section. `note`: good to know."""
    value: float | None
    """What was found; None where the flag has no number."""
    threshold: float | None
    """What it was compared with."""
    message: str
    """What was found and what it was compared with, in words."""
    next_step: str
    """What to look at, or to do."""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}; {self.next_step}"


def damaged(error: Corrupt) -> Flag:
    """Flag a section of which something cannot be read."""
    step = "run `tisseract verify`, and ingest the section again"
    return Flag("damaged", "warning", None, None, str(error), step)


MEANINGS: Mapping[str, str] = {
    "empty": "many cells have no counts at all",
    "duplicated": "cells lie exactly on other cells",
    "controls": "control features have a large share of the counts",
    "outside": "most transcripts belong to no cell",
    "low-counts": "median counts far below other sections of the technology",
    "low-genes": "median genes far below other sections of the technology",
    "density": "cell density far from other sections of the technology",
    "damaged": "the section cannot be read",
    "no-unit": "positions have no unit, so that nothing can be said in micrometers",
    "no-image": "no image, though others of the technology have one",
    "notes": "notes were taken while the input was read: parts may be missing",
    "not-recorded": "written before quality was counted",
}
"""What each flag means, in one line."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Figures of the sections that one is compared with: its technology and kind of values.

    Examples
    --------
    >>> Cohort.of([]).n
    0
    """

    n: int
    """Sections."""
    centers: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Measure -> median and robust standard deviation of its natural logarithm; only measures
    that enough sections know."""
    with_image: int = 0
    """Sections that have an image."""

    @classmethod
    def of(cls, summaries: Iterable[QcSummary], limits: Limits | None = None) -> Cohort:
        """Sum up some sections, the one that is looked at among them."""
        found, least = list(summaries), (limits or Limits()).least_cohort
        logs: dict[str, list[float]] = {}
        for summary in found:
            for name, value in _measures(summary).items():
                logs.setdefault(name, []).append(math.log(value))
        centers = {}
        for name, values in logs.items():
            if len(values) >= least:
                middle = median(values)
                spread = _TO_SIGMA * median(abs(value - middle) for value in values)
                centers[name] = (middle, max(spread, _LEAST_SPREAD))
        return cls(len(found), centers, sum(bool(summary.images) for summary in found))

    def z(self, name: str, value: float | None) -> float | None:
        """Robust standard deviations that a value lies above the median; None if incomparable."""
        if name not in self.centers or value is None or not value > 0:
            return None
        middle, spread = self.centers[name]
        return (math.log(value) - middle) / spread


def _measures(summary: QcSummary) -> dict[str, float]:
    """Take what sections are compared by, as far as it is above zero."""
    known = {
        "counts": summary.counts.median,
        "genes": summary.genes.median,
        "density": summary.cells_per_mm2,
    }
    return {name: value for name, value in known.items() if value is not None and value > 0}


def flags(
    summary: QcSummary,
    cohort: Cohort,
    limits: Limits | None = None,
    *,
    recorded: bool = True,
) -> tuple[Flag, ...]:
    """Tell what is odd about a section.

    Parameters
    ----------
    summary : QcSummary
        Its figures.
    cohort : Cohort
        Sections of its technology, itself among them.
    limits : Limits, optional
        Thresholds.
    recorded : bool
        Whether the figures were counted at ingest.

    Returns
    -------
    tuple of Flag
        Warnings first.
    """
    asked = limits or Limits()
    found = [
        *_shares(summary, asked),
        *_outliers(summary, cohort, asked),
        *_absent(summary, cohort),
    ]
    if not recorded:
        found.append(
            Flag(
                "not-recorded",
                "note",
                None,
                None,
                "the section was written before quality was counted: controls, areas and "
                "transcripts outside cells are not known",
                "ingest it again with --overwrite to count them",
            )
        )
    return tuple(sorted(found, key=lambda flag: flag.level != "warning"))


def _shares(summary: QcSummary, limits: Limits) -> list[Flag]:
    """Shares above their limits."""
    asked = (
        (
            "empty",
            summary.empty_fraction,
            limits.empty_fraction,
            "of the cells have no counts",
            "leave them out (where='n_genes > 0' needs such a column), or look at the segmentation",
        ),
        (
            "duplicated",
            summary.duplicated_fraction,
            limits.duplicated_fraction,
            "of the cells lie exactly where another one does",
            "see whether rows of the input repeat, or positions are placeholders",
        ),
        (
            "controls",
            summary.control_fraction,
            limits.control_fraction,
            "of all counts are of control features",
            "take weak genes of this section with care; see tables/controls",
        ),
        (
            "outside",
            summary.outside_fraction,
            limits.outside_fraction,
            "of the transcripts belong to no cell",
            "look at the segmentation beside the transcripts before comparing counts",
        ),
    )
    return [
        Flag(code, "warning", value, limit, f"{_share(value)} {words}, above {_share(limit)}", step)
        for code, value, limit, words, step in asked
        if value is not None and value > limit
    ]


def _outliers(summary: QcSummary, cohort: Cohort, limits: Limits) -> list[Flag]:
    """Medians far below the cohort, density far from it."""
    values = _measures(summary)
    asked = (
        ("low-counts", "counts", "median counts a cell", False, "compare depth and panel"),
        ("low-genes", "genes", "median genes a cell", False, "compare depth and panel"),
        (
            "density",
            "density",
            "cells per mm²",
            True,
            "check the unit, and whether bins were mixed",
        ),
    )
    found = []
    for code, name, words, both, step in asked:
        # A median of zero is below any other, but has no logarithm.
        none = name != "density" and name in cohort.centers and name not in values
        z = -math.inf if none else cohort.z(name, values.get(name))
        if z is None or abs(z) < limits.robust_z or (z > 0 and not both):
            continue
        middle = math.exp(cohort.centers[name][0])
        value = values.get(name, 0.0)
        side = "above" if z > 0 else "below"
        message = (
            f"{value:,.4g} {words}, far {side} the median of {cohort.n} sections of its "
            f"technology, {middle:,.4g} (robust z {z:.1f}, limit {limits.robust_z:g})"
        )
        found.append(Flag(code, "warning", value, middle, message, step))
    return found


def _absent(summary: QcSummary, cohort: Cohort) -> list[Flag]:
    """Tell what a section lacks."""
    found = []
    if summary.box_um2 is None:
        found.append(
            Flag(
                "no-unit", "warning", None, None, "positions are in units that are not known",
                "set um_per_unit in the sample sheet and ingest it again with --overwrite",
            )
        )  # fmt: skip
    if summary.images == 0 and cohort.with_image * 2 > cohort.n:
        message = f"it has no image, but {cohort.with_image} of {cohort.n} of its technology have"
        step = "see its notes for the files that were looked for"
        found.append(Flag("no-image", "warning", 0.0, 1.0, message, step))
    if summary.n_notes:
        several = "notes were" if summary.n_notes > 1 else "note was"
        message = f"{summary.n_notes} {several} taken while it was read"
        step = "parts of the input may be missing"
        found.append(Flag("notes", "note", float(summary.n_notes), 0.0, message, step))
    return found


def _share(value: float | None) -> str:
    return f"{100 * (value or 0.0):.3g} %"
