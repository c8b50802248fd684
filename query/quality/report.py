"""Write the page about the quality of an atlas to one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...atlas.errors import AlreadyExists, Corrupt, InvalidArgument
from ...atlas.quality.section import read_preview
from ...atlas.section import Section
from ..appearing import appearing
from ..exports.files import check_place
from . import page
from .figures import collect
from .flags import damaged
from .thumbnails import data_uri, density_png, image_jpeg, pixels_within

if TYPE_CHECKING:
    from ...atlas.snapshot import Snapshot
    from ...atlas.store import AtlasStore
    from .figures import Progress, SectionFigures
    from .flags import Limits

__all__ = ["ReportFacts", "Thumbnails", "write_report"]

Thumbnails = Literal["density", "image", "none"]
"""What is shown of each section: its cells, its first image (where it has one), or nothing."""

_KINDS = ("density", "image", "none")
_READERS = 8


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """What was written."""

    path: Path
    """The page."""
    n_sections: int
    """Sections on it."""
    nbytes: int
    """Its size."""
    flagged: dict[str, int]
    """Sections of each flag, the most frequent first."""
    n_warned: int
    """Sections with a warning."""


def write_report(
    store: AtlasStore,
    path: str | Path,
    sections: Sequence[str] | None = None,
    *,
    thumbnails: Thumbnails = "density",
    overwrite: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> ReportFacts:
    """Write one HTML page about the sections of an atlas, which opens without a network.

    Parameters
    ----------
    store : AtlasStore
        The atlas.
    path : str or Path
        File to write; it appears under its name only when it is complete.
    sections : sequence of str, optional
        Names; all sections without.
    thumbnails : {"density", "image", "none"}
        What is shown of each section.
    overwrite : bool
        Whether a file of this name may be replaced.
    limits : Limits, optional
        Thresholds of the flags.
    progress : callable, optional
        Told a stage (`count`, `draw`), how much is done, and how much there is.

    Returns
    -------
    ReportFacts
        Costs one request a section for its picture, 8 at a time; the figures are in the catalog.
        Of sections that were written before quality was counted, depth, pointers and positions
        are read. Memory: the catalog, and some megabytes.

    Raises
    ------
    AlreadyExists
        The file exists, or is a folder.
    InvalidArgument
        Another kind of thumbnails, or a place in an atlas.
    SectionNotFound
    """
    target = Path(path)
    if thumbnails not in _KINDS:
        raise InvalidArgument(
            f"thumbnails must be one of {', '.join(_KINDS)}, but got {thumbnails!r}"
        )
    if target.exists() and not overwrite:
        raise AlreadyExists(
            f"a new file is wanted for the report, but got {str(target)!r}, which exists; pass "
            "overwrite=True, or another name"
        )
    check_place(target, store.storage.local_path(), folder=False)
    figures = collect(store, sections, read=True, limits=limits, progress=progress)
    drawn = _drawn(store, figures, thumbnails, progress)
    counted = Counter(flag.code for one, _ in drawn for flag in one.flags)
    flagged, n_warned = dict(counted.most_common()), sum(one.warned for one, _ in drawn)
    with (
        appearing(target) as part,
        part.open("x", encoding="utf-8", newline="\n") as file,
    ):
        for piece in _pieces(store, drawn, flagged, n_warned):
            file.write(piece)
    return ReportFacts(target, len(drawn), target.stat().st_size, flagged, n_warned)


def _drawn(
    store: AtlasStore,
    figures: Sequence[SectionFigures],
    thumbnails: Thumbnails,
    progress: Progress | None,
) -> list[tuple[SectionFigures, str | None]]:
    """Draw every section: what the page says of all counts what cannot be drawn, too."""
    side = 0 if thumbnails == "none" else pixels_within(len(figures))
    if not side:
        return [(one, None) for one in figures]

    def draw(one: SectionFigures) -> tuple[SectionFigures, str | None]:
        try:
            return one, _picture(store, one, side, thumbnails)
        except Corrupt as error:  # the figures are in the catalog and stay
            known = any(flag.code == "damaged" for flag in one.flags)
            return (one if known else replace(one, flags=(damaged(error), *one.flags))), None

    drawn = []
    with ThreadPoolExecutor(_READERS, "tisseract-report") as pool:
        for found in pool.map(draw, figures):
            drawn.append(found)
            if progress is not None:
                progress("draw", len(drawn), len(figures))
    return drawn


def _pieces(
    store: AtlasStore,
    drawn: Sequence[tuple[SectionFigures, str | None]],
    flagged: dict[str, int],
    n_warned: int,
) -> Iterator[str]:
    figures = [one for one, _ in drawn]
    plan = page.plan_page(figures)
    facts = _facts(store, figures) | {"sections with warnings": n_warned}
    yield from page.head(page.Heading(_title(store.url), facts, flagged), plan)
    derived = _derived(store.snapshot)
    for one, picture in drawn:
        yield page.row(one, plan, picture, derived.get(one.name, ()))
    yield from page.foot()


def _picture(
    store: AtlasStore, one: SectionFigures, side: int, thumbnails: Thumbnails
) -> str | None:
    """Thumbnail of a section as a `data:` URI; None where there is nothing to show."""
    if thumbnails == "image":
        # Not `store.section`: what it opens is kept, and here there may be a thousand.
        image = image_jpeg(Section(store.storage, one.entry), side)
        if image is not None:
            return data_uri(image, "image/jpeg")
    preview = one.preview if one.preview is not None else read_preview(store.storage, one.entry)
    return None if preview is None else data_uri(density_png(preview, side), "image/png")


def _title(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2] or url


def _facts(store: AtlasStore, figures: Sequence[SectionFigures]) -> dict[str, object]:
    from importlib.metadata import PackageNotFoundError, version

    snapshot = store.snapshot
    technologies = Counter(one.technology or "unknown" for one in figures)
    named = ", ".join(f"{name} ({n:,})" for name, n in technologies.most_common(12))
    try:
        software = version("tisseract")
    except PackageNotFoundError:
        software = "unknown"
    return {
        "atlas": store.url,
        "snapshot": f"{snapshot.number} of {snapshot.created}",
        "format": snapshot.format_version,
        "report by": f"tisseract {software}",
        "sections": len(figures),
        "cells": sum(one.entry.n_obs for one in figures),
        "technologies": named,
    }


def _derived(snapshot: Snapshot) -> dict[str, list[str]]:
    """Kind and key of what was derived of each section; what is stale says so."""
    found: dict[str, list[str]] = {}
    for _, entry in sorted(snapshot.derived.items()):
        stale = " (stale)" if snapshot.stale_inputs(entry) else ""
        found.setdefault(entry.section, []).append(f"{entry.kind}/{entry.key}{stale}")
    return found
