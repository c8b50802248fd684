"""Figures of a tour: sections by domain, one domain followed over time, one gene over time."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .labels import SectionLabels, read_labels
from .tour import Tour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..handle import Atlas

__all__ = ["draw_all"]

# Okabe and Ito's colors for color-blind readers; their yellow, faint on white, and their black are
# replaced by a wine red of Tol's and a middle gray
_PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#882255", "#7F7F7F")
_FAINT = "#DDDDDD"
_INCHES = 2.3  # height of one section panel
_MOST_PANELS = 16


def draw_all(
    atlas: Atlas, tour: Tour, *, niche: str, gene: str, note: str, truth: str | None = None
) -> tuple[str, ...]:
    """Draw the three figures into ``figures/``; says so and draws nothing without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        tour.tell("\n(figures are left out: they need matplotlib; pip install 'tisseract[viz]')")
        return ()
    folder = tour.folder / "figures"
    folder.mkdir(exist_ok=True)
    sections, names = read_labels(atlas, tour.best_key)
    sections = sections[:_MOST_PANELS]
    figures = {
        "domains.png": draw_domains(sections, names, title=f"Domains ({tour.best_key}), {note}"),
        "niche.png": draw_domain_over_time(
            sections, names, niche, title=f"Domain {niche}, found once, wherever it is, {note}"
        ),
        "gene.png": draw_gene(atlas, gene, title=f"{gene} by section, {note}"),
    }
    if truth is not None:
        known, categories = _truth(atlas, sections, truth)
        figures["truth.png"] = draw_domains(known, categories, title=f"True domains, {note}")
    paths = []
    for name, figure in figures.items():
        path = folder / name
        figure.savefig(path, dpi=150)
        paths.append(str(path))
    return tuple(paths)


def _truth(
    atlas: Atlas, sections: Sequence[SectionLabels], column: str
) -> tuple[list[SectionLabels], list[str]]:
    from dataclasses import replace

    values = [
        atlas.section(item.section).obs(columns=[column])[column].astype(str).to_numpy()
        for item in sections
    ]
    names = sorted(set().union(*(np.unique(value).tolist() for value in values)))
    known = [
        replace(item, codes=np.searchsorted(names, value).astype(np.int16))
        for item, value in zip(sections, values, strict=True)
    ]
    return known, names


def _colors(count: int) -> list[str]:
    """Colors of domains: a short safe list, then the same hues lighter and darker."""
    from matplotlib.colors import to_hex, to_rgb

    found: list[str] = list(_PALETTE)
    while len(found) < count:
        base = np.array(to_rgb(found[len(found) - len(_PALETTE)]))
        found.append(to_hex(tuple(base * 0.6 if len(found) < 2 * len(_PALETTE) else base**0.5)))
    return found[:count]


def _panels(
    sections: Sequence[SectionLabels], *, extra_rows: int = 0, title: str
) -> tuple[Figure, list[Axes], Any]:
    """One panel a section, all at one scale, columns by time."""
    from matplotlib.figure import Figure

    times = list(dict.fromkeys(item.timepoint for item in sections))
    columns = len(times) if 1 < len(times) <= 8 else min(4, len(sections))
    rows = -(-len(sections) // columns)
    counts = {time: sum(item.timepoint == time for item in sections) for time in times}
    regular = 1 < len(times) <= 8 and len(set(counts.values())) == 1
    rows = max(counts.values()) if regular else rows
    height = _INCHES * (rows + extra_rows) + 1.0
    figure = Figure(figsize=(max(6.0, 2.2 * columns + 1.4), height), layout="constrained")
    figure.suptitle(title, fontsize=11)
    grid = figure.add_gridspec(rows + extra_rows, columns)
    axes, seen = [], dict.fromkeys(times, 0)
    for index, item in enumerate(sections):
        if regular:
            row, column = seen[item.timepoint], times.index(item.timepoint)
            seen[item.timepoint] += 1
        else:
            row, column = divmod(index, columns)
        axes.append(figure.add_subplot(grid[row, column]))
    spans = np.array([np.ptp(item.xy, axis=0) for item in sections])
    # one scale for all panels, unless a unit is unknown and scales mean nothing
    span = spans.max(axis=0) * 1.06 if all(item.in_um for item in sections) else None
    for axis, item in zip(axes, sections, strict=True):
        _frame(axis, item, span)
    _scale_bar(axes[0], sections[0])
    return figure, axes, grid


def _frame(axis: Axes, item: SectionLabels, span: Any) -> None:
    low, high = item.xy.min(axis=0), item.xy.max(axis=0)
    center = (low + high) / 2
    half = (high - low) * 0.53 if span is None else span / 2
    half = np.maximum(half, 1e-9)
    axis.set_xlim(center[0] - half[0], center[0] + half[0])
    axis.set_ylim(center[1] + half[1], center[1] - half[1])  # y points down
    axis.set_aspect("equal")
    axis.set_axis_off()
    named = item.section if not item.timepoint or item.timepoint in item.section else None
    axis.set_title(named or f"{item.section} ({item.timepoint})", fontsize=8)


def _scale_bar(axis: Axes, item: SectionLabels) -> None:
    low, high = axis.get_xlim()
    bottom, top = axis.get_ylim()
    length = _nice((high - low) / 4)
    x, y = low + 0.02 * (high - low), bottom + 0.0 * (top - bottom)
    axis.plot([x, x + length], [y, y], color="black", linewidth=2, solid_capstyle="butt")
    unit = "µm" if item.in_um else "source units"
    axis.annotate(
        f"{length:g} {unit}", (x, y), (0, -3), textcoords="offset points", fontsize=7, va="top"
    )


def _nice(length: float) -> float:
    """Round down to 1, 2 or 5 times a power of ten."""
    power = 10 ** np.floor(np.log10(max(length, 1e-9)))
    return float(max(step for step in (1, 2, 5) if step * power <= length) * power)


def _dot_size(sections: Sequence[SectionLabels]) -> float:
    """Area of a dot in square points: together the dots about cover the largest section."""
    return float(np.clip(12_000 / max(len(item.xy) for item in sections), 0.3, 12))


def _dots(axis: Axes, item: SectionLabels, mask: Any, *, color: Any, size: float) -> None:
    xy = item.xy[mask]
    axis.scatter(xy[:, 0], xy[:, 1], s=size, c=color, linewidths=0, rasterized=True)


def draw_domains(sections: Sequence[SectionLabels], names: Sequence[str], *, title: str) -> Figure:
    """Draw every section by domain, with one legend, one scale and one scale bar."""
    from matplotlib.lines import Line2D

    colors = np.array([*_colors(len(names)), _FAINT])
    figure, axes, _ = _panels(sections, title=title)
    size = _dot_size(sections)
    for axis, item in zip(axes, sections, strict=True):
        _dots(axis, item, slice(None), color=colors[item.codes], size=size)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=color, label=name)
        for name, color in zip(names, colors, strict=False)
    ]
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
    return figure


def draw_domain_over_time(
    sections: Sequence[SectionLabels], names: Sequence[str], domain: str, *, title: str
) -> Figure:
    """Draw one domain in every section, and below its share of the cells."""
    code = list(names).index(domain)
    several = len(sections) > 1
    figure, axes, grid = _panels(sections, extra_rows=int(several), title=title)
    size = _dot_size(sections)
    for axis, item in zip(axes, sections, strict=True):
        chosen = item.codes == code
        _dots(axis, item, ~chosen, color=_FAINT, size=size)
        _dots(axis, item, chosen, color=_PALETTE[5], size=size)
    if not several:
        return figure
    below = figure.add_subplot(grid[-1, :])
    shares = [float((item.codes == code).mean() * 100) for item in sections]
    _over_time(below, [(i.timepoint, i.time_value, i.section) for i in sections], shares)
    below.set_ylabel("% of the cells")
    below.set_ylim(bottom=0)
    return figure


def draw_gene(atlas: Atlas, gene: str, *, title: str) -> Figure:
    """Draw a gene over time, raw beside depth-corrected; one dot a section, a line of means."""
    from matplotlib.figure import Figure

    table = atlas.gene(gene).per_section()
    table = table[table["fraction"].notna()]
    metadata = [atlas.section(name).metadata for name in table["section"]]
    where = [
        (str(m.get("timepoint") or ""), float(m.get("time_value") or "nan"), name)
        for m, name in zip(metadata, table["section"], strict=True)
    ]
    raw = next(name for name in table.columns if name.startswith("mean_") and "log1p" not in name)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    figure.suptitle(title, fontsize=11)
    left, right = figure.subplots(1, 2)
    _over_time(left, where, table[raw].tolist())
    left.set_title("as counted (follows the depth of each run)", fontsize=9)
    left.set_ylabel(f"{raw.replace('_', ' ')} per cell")
    _over_time(right, where, table["mean_log1p"].tolist())
    right.set_title("corrected for depth", fontsize=9)
    right.set_ylabel("mean log1p of counts per 10,000")
    for axis in (left, right):
        axis.set_ylim(bottom=0)
    return figure


def _over_time(axis: Axes, where: Sequence[tuple[str, float, str]], values: list[float]) -> None:
    """Dots of sections over timepoints (over sections where no time is known)."""
    timed = all(label for label, _, _ in where)
    order = sorted(range(len(where)), key=lambda i: (np.nan_to_num(where[i][1], nan=np.inf), i))
    labels = [where[i][0] if timed else where[i][2] for i in order]
    ticks = list(dict.fromkeys(labels))
    x = [ticks.index(label) for label in labels]
    y = np.array([values[i] for i in order], dtype=np.float64)
    means = [float(y[np.array(x) == tick].mean()) for tick in range(len(ticks))]
    if timed and len(ticks) > 1:
        axis.plot(range(len(ticks)), means, color="#999999", zorder=1)
    axis.scatter(x, y, s=28, color=_PALETTE[0], zorder=2)
    axis.set_xticks(range(len(ticks)), ticks, rotation=0 if timed else 30, fontsize=8)
    axis.margins(x=0.1)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
