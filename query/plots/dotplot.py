"""Dot plot: how much, and in how many cells, groups express genes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import InvalidArgument
from .canvas import new_figure, style, with_source
from .layout import short
from .palette import natural_order
from .source import selection_of, with_genes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...atlas.store import AtlasStore
    from ..cells.selection import Selection

__all__ = ["dotplot", "dotplot_table"]

_CELL = 0.27
# Area of the largest dot in square points: it fills its cell of 0.27 inches.
_LARGEST = 200.0


def dotplot_table(
    source: "Selection | AtlasStore",
    var_names: Sequence[str] | Mapping[str, Sequence[str]],
    groupby: str,
    *,
    categories_order: Sequence[str] | None = None,
    normalize: str | None = "log1p",
    standard_scale: str | None = None,
) -> "pd.DataFrame":
    """Compute the numbers of a dot plot, streamed: memory is groups x genes.

    Parameters
    ----------
    source, var_names, groupby, categories_order, normalize, standard_scale
        See `dotplot`.

    Returns
    -------
    DataFrame
        A row a dot: `group`, `gene`, `marks` (bracket of the gene, where there are some),
        `n_cells`, `mean`, `fraction`; `scaled`, the mean as it is drawn.
    """
    import pandas as pd

    if standard_scale not in (None, "var", "group"):
        raise InvalidArgument(
            f"standard_scale=None, 'var' or 'group' is wanted, but got {standard_scale!r}"
        )
    brackets = _brackets(var_names)
    genes = list(dict.fromkeys(gene for _, gene in brackets))
    chosen = with_genes(selection_of(source), genes)
    names = list(map(str, chosen.genes.name))
    spelled = dict(zip(names, names, strict=True))
    mean = chosen.aggregate(groupby, "mean", normalize=normalize)
    share = chosen.aggregate(groupby, "fraction")
    keep = ~pd.isna(mean.index)
    mean, share = mean[keep], share[keep]
    mean.index, share.index = mean.index.map(str), share.index.map(str)
    order = _order(list(mean.index), categories_order, groupby)
    scaled = _scaled(mean.loc[order, names], standard_scale)
    rows = []
    for mark, gene in brackets:
        column = spelled.get(gene)
        if column is None:
            continue
        part = {
            "group": order,
            "gene": gene,
            "marks": mark,
            "n_cells": mean.loc[order, "n_obs"].to_numpy(),
            "mean": mean.loc[order, column].to_numpy(),
            "fraction": share.loc[order, column].to_numpy(),
            "scaled": scaled[column].to_numpy(),
        }
        rows.append(pd.DataFrame(part))
    table = pd.concat(rows, ignore_index=True)
    table.attrs = dict(mean.attrs) | {"groupby": groupby}
    return table if any(mark for mark, _ in brackets) else table.drop(columns="marks")


def _brackets(
    var_names: Sequence[str] | Mapping[str, Sequence[str]],
) -> list[tuple[str, str]]:
    if isinstance(var_names, str):
        var_names = [var_names]
    if isinstance(var_names, Mapping):
        found = [(mark, gene) for mark, genes in var_names.items() for gene in genes]
    else:
        found = [("", gene) for gene in var_names]
    if not found:
        raise InvalidArgument("genes are wanted for var_names=, but got none")
    return found


def _order(groups: list[str], wanted: Sequence[str] | None, groupby: str) -> list[str]:
    if wanted is None:
        # Timepoints come in time already; numbers in text shall count as numbers.
        return groups if groupby == "timepoint" else natural_order(groups)
    unknown = [name for name in wanted if name not in groups]
    if unknown:
        raise InvalidArgument(
            f"groups of {groupby!r} are wanted for categories_order=, but got "
            f"{', '.join(map(repr, unknown))}; it has {', '.join(groups)}"
        )
    return list(wanted)


def _scaled(mean: "pd.DataFrame", standard_scale: str | None) -> "pd.DataFrame":
    """From 0 to 1 along genes or groups, as scanpy scales."""
    if standard_scale is None:
        return mean
    if standard_scale == "group":
        return _scaled(mean.T, "var").T
    moved = mean - mean.min()
    return (moved / moved.max().replace(0, np.nan)).fillna(0)


def dotplot(
    source: "Selection | AtlasStore",
    var_names: Sequence[str] | Mapping[str, Sequence[str]],
    groupby: str,
    *,
    categories_order: Sequence[str] | None = None,
    normalize: str | None = "log1p",
    standard_scale: str | None = None,
    cmap: str = "Reds",
    dot_max: float | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    swap_axes: bool = False,
) -> "Figure":
    """Draw genes by groups of cells: color is the mean, size the share of cells with a count.

    The names of arguments, and the numbers, are those of `scanpy.pl.dotplot` of values that are
    log-normalized; cells without a group are left out, and of sections that did not measure a
    gene no cell counts.

    Parameters
    ----------
    source
        An answer, or an atlas.
    var_names
        Genes, or genes by the bracket that they stand under.
    groupby
        A column of labels.
    categories_order
        Groups in the order wanted, others left out.
    normalize
        As of `Selection.aggregate`.
    standard_scale
        `var` or `group`: colors from 0 to 1 for each.
    cmap, vmin, vmax
        Of the means.
    dot_max
        Share of cells that the largest dot stands for; default the largest share, rounded up to
        tenths.
    swap_axes
        Genes below each other instead.

    Returns
    -------
    Figure
        `.source` is `dotplot_table`.

    Raises
    ------
    GeneNotFound, ColumnNotFound, InvalidArgument
    """
    table = dotplot_table(
        source, var_names, groupby, categories_order=categories_order, normalize=normalize,
        standard_scale=standard_scale,
    )  # fmt: skip
    groups = list(dict.fromkeys(table["group"]))
    genes = list(dict.fromkeys(table["gene"]))
    across, down = (groups, genes) if swap_axes else (genes, groups)
    largest = dot_max or float(np.ceil(table["fraction"].max() * 10) / 10) or 1.0
    with style():
        left = 0.42 + 0.062 * max(len(short(str(name))) for name in down)
        below = 0.5 + 0.062 * max(len(short(str(name))) for name in across)
        above = 0.45 if "marks" in table else 0.15
        wide, tall = _CELL * len(across), max(_CELL * len(down), 1.6)
        figure = new_figure(left + wide + 1.5, below + tall + above)
        width, height = figure.get_size_inches()
        box = (left / width, below / height, wide / width, tall / height)
        axes = figure.add_axes(box)
        low = vmin if vmin is not None else min(0.0, float(table["scaled"].min()))
        high = vmax if vmax is not None else float(table["scaled"].max())
        high = high if high > low else low + 1
        x, y = ("group", "gene") if swap_axes else ("gene", "group")
        dots = axes.scatter(
            table[x].map({name: i for i, name in enumerate(across)}),
            table[y].map({name: i for i, name in enumerate(down)}),
            s=np.minimum(table["fraction"] / largest, 1) * _LARGEST,
            c=table["scaled"],
            cmap=cmap,
            vmin=low,
            vmax=high,
            edgecolors="#555555",
            linewidths=0.4,
        )
        _label(axes, across, down)
        (axes.set_xlabel if swap_axes else axes.set_ylabel)(groupby, fontsize=7)
        if "marks" in table and not swap_axes:
            _draw_brackets(axes, table, genes)
        unit = str(table.attrs.get("unit", "mean"))
        _legends(figure, axes, dots, largest, unit if standard_scale is None else "scaled mean")
    caption = f"{unit}, and fraction of cells with a count, by {groupby}."
    return with_source(figure, table, caption)


def _label(axes: "Axes", across: Sequence[str], down: Sequence[str]) -> None:
    axes.set_xticks(range(len(across)), [short(name) for name in across], rotation=90, fontsize=7)
    axes.set_yticks(range(len(down)), [short(name) for name in down], fontsize=7)
    axes.set_xlim(-0.6, len(across) - 0.4)
    axes.set_ylim(len(down) - 0.4, -0.6)
    axes.tick_params(length=2)


def _draw_brackets(axes: "Axes", table: "pd.DataFrame", genes: Sequence[str]) -> None:
    for mark, part in table.groupby("marks", sort=False):
        at = sorted(genes.index(gene) for gene in part["gene"].unique())
        line: Any = axes.get_xaxis_transform()
        first, last = at[0] - 0.35, at[-1] + 0.35
        axes.plot([first, last], [1.02, 1.02], transform=line, clip_on=False, color="black", lw=0.8)
        letters = max(4, int(len(at) * 5))
        axes.text(
            (first + last) / 2, 1.03, short(str(mark), letters), transform=line, ha="center",
            va="bottom", fontsize=7,
        )  # fmt: skip


def _legends(figure: "Figure", axes: "Axes", dots: Any, largest: float, unit: str) -> None:
    from textwrap import wrap

    from matplotlib.lines import Line2D

    width, height = figure.get_size_inches()
    edge = axes.get_position().x1 + 0.15 / width
    top = axes.get_position().y1
    bar = figure.add_axes((edge, top - 1.0 / height, 0.1 / width, 0.85 / height))
    figure.colorbar(dots, cax=bar).ax.tick_params(labelsize=6, length=2)
    bar.set_title("\n".join(wrap(unit, 22)), fontsize=6.5, loc="left", pad=3)
    steps = [largest * part for part in (0.25, 0.5, 1.0)]
    handles = [
        Line2D([], [], marker="o", linestyle="", color="#999999", label=f"{step:.0%}",
               markersize=np.sqrt(_LARGEST * step / largest))
        for step in steps
    ]  # fmt: skip
    figure.legend(
        handles=handles, title="cells above 0", loc="upper left", frameon=False, fontsize=6.5,
        title_fontsize=6.5, bbox_to_anchor=(edge - 0.08 / width, top - 1.05 / height),
        alignment="left", labelspacing=1.4, borderaxespad=0,
    )  # fmt: skip
