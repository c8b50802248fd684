"""Figures and flags of every section: from the catalog, and on request from older sections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...atlas.errors import Corrupt
from ...atlas.quality.section import summary_row
from ...atlas.quality.summary import QcSummary
from ...atlas.section import Section
from .flags import Cohort, Flag, Limits, damaged, flags

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from ...atlas.snapshot import SectionEntry
    from ...atlas.store import AtlasStore

__all__ = ["SectionFigures", "collect", "quality_table"]

Progress = Callable[[str, float, float], None]
"""Told a stage, how much of it is done, and how much there is."""

_FIRST = ("timepoint", "technology")


@dataclass(frozen=True, slots=True)
class SectionFigures:
    """What is known of the quality of one section."""

    entry: SectionEntry
    """Its line in the catalog."""
    summary: QcSummary | None
    """Its figures; None where none were recorded, and nothing was read."""
    recorded: bool
    """Whether they were counted at ingest."""
    flags: tuple[Flag, ...] = ()
    """What is odd about it."""
    preview: NDArray[np.float32] | None = None
    """Picture of a section whose figures were counted just now."""

    @property
    def name(self) -> str:
        """Name of the section."""
        return self.entry.section

    @property
    def warned(self) -> bool:
        """Whether any of its flags is a warning."""
        return any(flag.level == "warning" for flag in self.flags)

    @property
    def technology(self) -> str:
        """Assay, as the sheet or the reader has it; "" where nobody said."""
        return str(self.entry.metadata.get("technology") or "")


def collect(
    store: AtlasStore,
    sections: Sequence[str] | None = None,
    *,
    read: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> list[SectionFigures]:
    """Gather figures and flags of some sections, sorted by name.

    Parameters
    ----------
    store : AtlasStore
        The atlas.
    sections : sequence of str, optional
        Names; all sections without. Flags compare with all sections of the atlas in any case.
    read : bool
        Whether to count what was not recorded: depth, pointers and positions of each such
        section are read, some thousand rows at a time. Otherwise nothing is read.
    limits : Limits, optional
        Thresholds of the flags.
    progress : callable, optional
        Told how many of the sections that need reading are done.

    Returns
    -------
    list of SectionFigures

    Raises
    ------
    SectionNotFound
        A name that the atlas does not hold.
    """
    wanted = set(store.section_names if sections is None else sections)
    for name in sorted(wanted - set(store.section_names)):
        store.section(name)  # raises, with near names
    known: dict[str, SectionFigures] = {}
    missing = []
    for name, entry in sorted(store.snapshot.sections.items()):
        summary = QcSummary.of(entry.qc)
        known[name] = SectionFigures(entry, summary, summary is not None)
        if summary is None and name in wanted:
            missing.append(name)
    if read:
        for k, name in enumerate(missing):
            known[name] = _counted(store, known[name].entry)
            if progress is not None:
                progress("count", k + 1, len(missing))
    cohorts = _cohorts(known.values(), limits)
    return [_flagged(known[name], cohorts, limits) for name in sorted(wanted)]


def _counted(store: AtlasStore, entry: SectionEntry) -> SectionFigures:
    try:
        # Not `store.section`: what it opens is kept, and here there may be a thousand.
        quality = Section(store.storage, entry).qc
    except Corrupt as error:
        return SectionFigures(entry, None, False, (damaged(error),))
    return SectionFigures(entry, quality.summary, False, preview=quality.preview)


def _key(one: SectionFigures) -> tuple[str, str]:
    return one.technology.casefold(), one.entry.values


def _cohorts(
    figures: Iterable[SectionFigures], limits: Limits | None
) -> dict[tuple[str, str], Cohort]:
    groups: dict[tuple[str, str], list[QcSummary]] = {}
    for one in figures:
        if one.summary is not None:
            groups.setdefault(_key(one), []).append(one.summary)
    return {key: Cohort.of(group, limits) for key, group in groups.items()}


def _flagged(
    one: SectionFigures, cohorts: dict[tuple[str, str], Cohort], limits: Limits | None
) -> SectionFigures:
    if one.summary is None:
        return one
    found = flags(one.summary, cohorts[_key(one)], limits, recorded=one.recorded)
    return replace(one, flags=found)


def quality_table(
    store: AtlasStore,
    sections: Sequence[str] | None = None,
    *,
    read: bool = False,
    limits: Limits | None = None,
) -> pd.DataFrame:
    """One row a section; what is not known is missing. See `Atlas.qc`."""
    import pandas as pd

    figures = collect(store, sections, read=read, limits=limits)
    table = pd.DataFrame([_row(one) for one in figures], columns=_columns())
    return table.set_index("section")


def _columns() -> list[str]:
    from ...atlas.quality.histogram import Distribution

    none = Distribution(0, 0.0, 0, 0, (), 0, ())
    figures = list(summary_row(QcSummary(0, none, none, 0)))
    return ["section", *_FIRST, *figures, "recorded", "flags"]


def _row(one: SectionFigures) -> dict[str, Any]:
    entry = one.entry
    row: dict[str, Any] = {"section": entry.section}
    row |= {name: entry.metadata.get(name) for name in _FIRST}
    row |= {"n_obs": entry.n_obs, "mean_genes": entry.nnz / entry.n_obs if entry.n_obs else None}
    if one.summary is not None:
        row |= summary_row(one.summary)
    codes = ",".join(flag.code for flag in one.flags)
    return row | {"recorded": one.recorded, "flags": codes}
