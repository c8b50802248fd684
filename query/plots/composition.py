"""Composition: how cells divide among labels, over time, with each section to be seen."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import InvalidArgument
from .canvas import new_figure, style, with_source
from .coloring import coloring_of
from .layout import legend, short
from .palette import palette_of
from .source import selection_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...atlas.store import AtlasStore
    from ..cells.selection import Selection

__all__ = ["composition", "composition_table"]

_MAX_BARS = 40


def composition_table(
    source: "Selection | AtlasStore", groupby: str, *, by: str = "timepoint"
) -> "pd.DataFrame":
    """Compute the share of each label among the cells of each section.

    Parameters
    ----------
    source
        An answer, or an atlas.
    groupby
        A column of labels.
    by
        Metadata of sections, in order of time where it has one.

    Returns
    -------
    DataFrame
        A row for each section and label: `by`, `section`, `label`, `n_cells`, `fraction` of the
        section's labeled cells (zero where it has none of a label).
    """
    import pandas as pd

    chosen = selection_of(source)
    names = list(dict.fromkeys([by, "section", groupby]))
    if groupby in (by, "section"):
        raise InvalidArgument(f"labels of cells are wanted for groupby=, but got {groupby!r}")
    counts = chosen.aggregate(names, "count").reset_index()
    counts = counts.dropna(subset=[groupby]).rename(columns={"n_obs": "n_cells"})
    if counts.empty:
        raise InvalidArgument(f"cells with a value of {groupby!r} are wanted, but got none")
    counts["label"] = counts[groupby].map(str)
    counts["group"] = counts[by].astype(object).where(counts[by].notna(), "none").map(str)
    order = list(dict.fromkeys(counts["group"]))
    wide = counts.pivot_table(
        index=["group", "section"], columns="label", values="n_cells", aggfunc="sum", fill_value=0
    )
    share = wide.div(wide.sum(axis=1), axis=0)
    long = pd.DataFrame({"n_cells": wide.stack(), "fraction": share.stack()}).reset_index()
    long["place"] = long["group"].map({name: i for i, name in enumerate(order)})
    long = long.sort_values(["place", "section"], kind="stable").drop(columns="place")
    long = long.reset_index(drop=True)
    if by == "section":
        return long.drop(columns="group")
    return long.rename(columns={"group": by})


def composition(
    source: "Selection | AtlasStore",
    groupby: str,
    *,
    by: str = "timepoint",
    palette: Mapping[str, str] | None = None,
) -> "Figure":
    """Draw stacked bars of mean shares, and beside them every section as a dot.

    A bar is the mean over sections, each counting the same however many cells it has; the dots
    show how far sections differ.

    Parameters
    ----------
    source, groupby, by
        See `composition_table`.
    palette
        Colors by label.

    Returns
    -------
    Figure
        `.source` is `composition_table`.

    Raises
    ------
    ColumnNotFound, InvalidArgument
        Names no column, no cell has a label, or more than 40 values of `by`.
    """
    chosen = selection_of(source)
    table = composition_table(chosen, groupby, by=by)
    groups = list(dict.fromkeys(table[by]))
    if len(groups) > _MAX_BARS:
        raise InvalidArgument(
            f"at most {_MAX_BARS} values of {by!r} are drawn, but got {len(groups)}; "
            "narrow the query, or group by fewer"
        )
    known = coloring_of(chosen, groupby).labels
    here = list(dict.fromkeys(table["label"]))
    labels = [name for name in known if name in set(here)]
    labels += [name for name in here if name not in set(labels)]
    sums = table.groupby("label")["n_cells"].sum()
    every = [*known, *(name for name in labels if name not in set(known))]
    colors = palette_of(every, [int(sums.get(name, 0)) for name in every], palette)
    mean = table.pivot_table(index=by, columns="label", values="fraction", aggfunc="mean")
    mean = mean.loc[groups, labels]
    with style():
        wide = max(1.6, 0.34 * len(groups) + 0.4)
        dots_wide = max(2.2, 0.62 * len(groups) + 0.4)
        below = 0.2 + 0.062 * max(len(short(str(name), 18)) for name in groups)
        figure = new_figure(0.65 + wide + 0.65 + dots_wide + 1.9, 2.6 + below + 0.75)
        width, height = figure.get_size_inches()

        def place(left: float, size: float) -> "Axes":
            bottom = (0.35 + below) / height
            return figure.add_axes((left / width, bottom, size / width, 2.6 / height))

        bars, dots = place(0.65, wide), place(0.65 + wide + 0.65, dots_wide)
        _bars(bars, mean, groups, colors)
        _dots(dots, table, by, groups, labels=labels, colors=colors)
        side = place(0.65 + wide + 0.65 + dots_wide + 0.1, 1.7)
        side.set_axis_off()
        legend(side, groupby, {name: colors[name] for name in labels}, missing=False)
        bars.set_title("mean of sections", fontsize=8)
        dots.set_title("each section", fontsize=8)
        n = table["section"].nunique()
        caption = f"{int(table['n_cells'].sum()):,} labeled cells of {n} sections, by {by}."
        figure.text(0.1 / width, 0.06 / height, caption, fontsize=6.5, color="#555555")
    return with_source(figure, table, caption)


def _ticks(axes: "Axes", groups: Sequence[str]) -> None:
    names = [short(str(name), 18) for name in groups]
    turn = 0 if max(map(len, names)) <= 5 else 90
    axes.set_xticks(range(len(groups)), names, rotation=turn, fontsize=7)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.tick_params(length=2, labelsize=7)


def _bars(
    axes: "Axes", mean: "pd.DataFrame", groups: Sequence[str], colors: Mapping[str, str]
) -> None:
    bottom = np.zeros(len(groups))
    for name in mean.columns:
        share = mean[name].fillna(0).to_numpy()
        axes.bar(
            range(len(groups)), share, bottom=bottom, color=colors[name], width=0.78,
            edgecolor="white", linewidth=0.4,
        )  # fmt: skip
        bottom = bottom + share
    axes.set_ylim(0, 1)
    axes.set_ylabel("fraction of labeled cells", fontsize=7)
    _ticks(axes, groups)


def _dots(
    axes: "Axes",
    table: "pd.DataFrame",
    by: str,
    groups: Sequence[str],
    *,
    labels: Sequence[str],
    colors: Mapping[str, str],
) -> None:
    at: dict[Any, int] = {name: i for i, name in enumerate(groups)}
    # Labels side by side within a group, so that sections of one stand above each other.
    step = 0.7 / max(len(labels) - 1, 1)
    for place, name in enumerate(labels):
        own = table[table["label"] == name]
        x = own[by].map(at).to_numpy(dtype=np.float64) - 0.35 + place * step
        axes.plot(
            x, own["fraction"], "o", markersize=3.2, color=colors[name], markeredgecolor="#333333",
            markeredgewidth=0.25,
        )  # fmt: skip
    for edge in range(1, len(groups)):
        axes.axvline(edge - 0.5, color="#DDDDDD", linewidth=0.5, zorder=0)
    axes.set_ylim(bottom=0)
    _ticks(axes, groups)
