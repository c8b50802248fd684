"""The page about the quality of an atlas, piece by piece: plain HTML that needs nothing else.

Names come from files and sheets of strangers: everything is escaped here, and the page forbids
itself any script but its own and any request at all.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import isnan
from typing import TYPE_CHECKING, Any

from ...atlas.quality.histogram import QUANTILES
from ...atlas.quality.summary import LONGEST_NOTE
from .flags import MEANINGS
from .svg import Axis, sparkline

if TYPE_CHECKING:
    from ...atlas.quality.histogram import Distribution
    from .figures import SectionFigures

__all__ = ["Heading", "PagePlan", "foot", "head", "plan_page", "row", "text"]

# Control characters, and those that turn the direction of the text around them.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_LONGEST = 200
_MOST_FACTS = 24
_DETAILED = 2000  # sections, above which details are left out

_COLUMNS = (
    ("", ""),
    ("section", "t"),
    ("timepoint", "t"),
    ("technology", "t"),
    ("cells", "n"),
    ("counts a cell", "n"),
    ("genes a cell", "n"),
    ("empty", "n"),
    ("controls", "n"),
    ("area µm²", "n"),
    ("cells per mm²", "n"),
    ("transcripts", "n"),
    ("outside cells", "n"),
    ("images", "n"),
    ("flags", "n"),
)


def text(value: object, longest: int = _LONGEST) -> str:
    """Write any value so that it is text in HTML and in attributes, and nothing else.

    Examples
    --------
    >>> text("<script>alert('x')</script>")
    '&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;'
    >>> text(None), text(True), text(12345.678), text(12)
    ('', 'yes', '12,350', '12')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, int):
        return f"{value:,}"
    words = _UNSEEN.sub("\ufffd", str(value))
    return html.escape(words if len(words) <= longest else words[: longest - 1] + "…", quote=True)


def _number(value: float) -> str:
    if isnan(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 1e4 and value == int(value) else _short(value)


def _short(value: float) -> str:
    if abs(value) >= 1000:
        digits = len(str(int(abs(value)))) - 4
        return f"{round(value, -digits):,.0f}"
    return f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.3g} %"


@dataclass(frozen=True, slots=True)
class PagePlan:
    """What a page shows of each section, so that it stays below 20 MB."""

    n_sections: int
    """Sections."""
    details: bool
    """Whether quantiles, notes and metadata of each section are shown."""
    counts: Axis
    """Bins of the histograms of counts."""
    genes: Axis
    """Bins of the histograms of genes."""


def plan_page(figures: Sequence[SectionFigures]) -> PagePlan:
    """Choose what is shown; pure."""
    known = [one.summary for one in figures if one.summary is not None]
    return PagePlan(
        len(figures),
        len(figures) <= _DETAILED,
        Axis.around(one.counts for one in known),
        Axis.around(one.genes for one in known),
    )


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands above the table."""

    title: str
    """Name of the atlas."""
    facts: Mapping[str, object]
    """Atlas, snapshot, versions."""
    flagged: Mapping[str, int]
    """Sections of each flag."""


def head(heading: Heading, plan: PagePlan) -> Iterator[str]:
    """Yield the page up to the first row of its table."""
    script, style = _part("page.js"), _part("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<title>Quality of {text(heading.title)}</title>\n<style>{style}</style></head>\n<body>"
    yield f"<header><h1>Quality of {text(heading.title)}</h1>\n<dl>"
    for name, value in heading.facts.items():
        yield f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>"
    yield "</dl></header>\n"
    yield from _flag_list(heading.flagged)
    yield (
        '<p class="tools"><label>Find <input id="find" type="search" '
        'placeholder="section, technology, flag"></label> '
        '<label><input id="odd" type="checkbox"> with warnings only</label> '
        '<output id="shown"></output></p>\n'
    )
    yield "<table><thead><tr>"
    for k, (name, kind) in enumerate(_COLUMNS):
        if not name:
            yield '<th scope="col"><span class="hide">picture</span></th>'
            continue
        button = f'<button type="button" data-column="{k}" data-kind="{kind}">{name}</button>'
        yield f'<th scope="col" aria-sort="none">{button}</th>'
    yield "</tr></thead>\n"
    if not plan.n_sections:
        yield f'<tbody><tr><td colspan="{len(_COLUMNS)}">no sections</td></tr></tbody>'


def _flag_list(flagged: Mapping[str, int]) -> Iterator[str]:
    if not flagged:
        yield "<p>No flags.</p>\n"
        return
    yield '<ul class="flags">'
    for code, count in flagged.items():
        sections = "section" if count == 1 else "sections"
        yield f"<li><b>{text(code)}</b> {count:,} {sections}: {text(MEANINGS.get(code, ''))}</li>"
    yield "</ul>\n"


def row(one: SectionFigures, plan: PagePlan, picture: str | None, derived: Sequence[str]) -> str:
    """Write one section: a body of the table with its row and its details.

    Parameters
    ----------
    one : SectionFigures
        The section.
    plan : PagePlan
        What is shown.
    picture : str, optional
        `data:` URI of its thumbnail.
    derived : sequence of str
        Graphs, embeddings and so on of the section.
    """
    cells = "".join(_cells(one, plan, picture))
    body = f'<tbody data-odd="{int(one.warned)}"><tr>{cells}</tr>'
    if plan.details:
        inner = "".join(_details(one, derived))
        body += (
            f'<tr class="more"><td colspan="{len(_COLUMNS) - 1}">'
            f"<details><summary>details</summary>{inner}</details></td></tr>"
        )
    return body + "</tbody>\n"


def _cells(one: SectionFigures, plan: PagePlan, picture: str | None) -> Iterator[str]:
    entry, summary = one.entry, one.summary
    alt = f"cells of {text(entry.section, 60)}"
    rows = ' rowspan="2"' if plan.details else ""
    image = f'<img src="{picture}" alt="{alt}">' if picture else ""
    yield f'<td class="p"{rows}>{image}</td>'
    yield f'<th scope="row">{text(entry.section, 80)}</th>'
    time = entry.metadata.get("time_value")
    yield _cell(text(entry.metadata.get("timepoint"), 60), time)
    yield _cell(text(one.technology, 60))
    yield _cell(text(entry.n_obs), entry.n_obs)
    if summary is None:
        yield from (_cell("not recorded" if k == 0 else "") for k in range(9))
    else:
        yield _with_histogram(summary.counts, plan.counts, "counts a cell")
        yield _with_histogram(summary.genes, plan.genes, "genes a cell")
        for share in (summary.empty_fraction, summary.control_fraction):
            yield _cell(_percent(share), share)
        area = summary.area.median if summary.area else None
        for value in (area, summary.cells_per_mm2, summary.n_transcripts):
            yield _cell(text(value), value)
        yield _cell(_percent(summary.outside_fraction), summary.outside_fraction)
        yield _cell(text(summary.images), summary.images)
    names = " ".join(f'<b class="{flag.level}">{flag.code}</b>' for flag in one.flags)
    yield f'<td class="f" data-v="{len(one.flags)}">{names}</td>'


def _cell(shown: str, value: object = None) -> str:
    """One cell; `data-v` is what it is sorted by, where that is a number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or isnan(value):
        return f"<td>{shown}</td>"
    return f'<td class="n" data-v="{value:.9g}">{shown}</td>'


def _with_histogram(found: Distribution, axis: Axis, words: str) -> str:
    if found.median is None:
        return _cell("")
    label = f"{words}: median {text(found.median)}, {found.zeros:,} zeros"
    return _cell(f"{text(found.median)}{sparkline(found, axis, label)}", found.median)


def _details(one: SectionFigures, derived: Sequence[str]) -> Iterator[str]:
    for flag in one.flags:
        words = f"{text(flag.message, 400)}; {text(flag.next_step, 400)}"
        yield f'<p><b class="{flag.level}">{flag.code}</b> {words}.</p>'
    summary, entry = one.summary, one.entry
    if summary is not None:
        yield from _quantiles(
            {"counts a cell": summary.counts, "genes a cell": summary.genes}
            | ({f"area µm² ({summary.area_from})": summary.area} if summary.area else {})
        )
        for name, points in summary.transcripts.items():
            outside = "unknown" if points.outside is None else f"{points.outside:,}"
            yield (
                f"<p>points {text(name, 60)}: {points.n:,}, outside cells {outside}, "
                f"outside tiles {points.off_tiles:,}</p>"
            )
        notes = "".join(f"<li>{text(note, LONGEST_NOTE)}</li>" for note in summary.notes)
        more = summary.n_notes - len(summary.notes)
        rest = f"<li>and {more:,} more, in its provenance</li>" if more > 0 else ""
        yield f"<p>notes</p><ul>{notes}{rest}</ul>" if notes else ""
    facts = _facts(one, derived)
    yield "<dl>"
    for name, value in list(facts.items())[:_MOST_FACTS]:
        yield f"<div><dt>{text(name, 60)}</dt><dd>{text(value)}</dd></div>"
    yield f'</dl><p class="id">attempt {text(entry.attempt)}</p>'


def _facts(one: SectionFigures, derived: Sequence[str]) -> dict[str, Any]:
    entry, summary = one.entry, one.summary
    unit = "µm" if entry.um_per_unit is not None else "source units"
    facts: dict[str, Any] = {
        "genes": entry.n_vars,
        "values": entry.values,
        "stored entries": entry.nnz,
        "bytes": entry.nbytes,
        "tiles": entry.n_tiles,
        f"bounds ({unit})": ", ".join(f"{value:,.1f}" for value in entry.bounds),
        "derived": ", ".join(derived) or "nothing",
    }
    if summary is not None:
        facts["duplicated positions"] = summary.duplicated
        facts["written with"] = summary.software or None
    own = {name: value for name, value in entry.metadata.items() if value not in (None, "")}
    return {name: value for name, value in (facts | own).items() if value is not None}


def _quantiles(shown: Mapping[str, Distribution]) -> Iterator[str]:
    names = ["least", *(f"{share:.0%}" for share in QUANTILES[1:-1]), "most"]
    heads = "".join(f"<th>{name}</th>" for name in (*names, "mean", "zeros"))
    yield f'<table class="q"><tr><th></th>{heads}</tr>'
    for name, one in shown.items():
        values = [*one.quantiles, one.mean, one.zeros]
        yield f"<tr><th>{text(name, 80)}</th>{''.join(f'<td>{text(v)}</td>' for v in values)}</tr>"
    yield "</table>"


def foot() -> Iterator[str]:
    """Yield what follows the last row."""
    yield "</table>\n<footer>What each number means: docs/qc.md of tisseract.</footer>\n"
    yield f"<script>{_part('page.js')}</script></body></html>\n"


@cache
def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
