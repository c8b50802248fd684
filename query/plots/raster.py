"""One raster as a figure: color bar with its unit, scale bar, title, and its pixels as a table."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .canvas import new_figure, style, with_source
from .layout import Grid, color_bar, scale_bar, short

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["draw_raster"]

_LONGER = 4.0
"""Of the panel's longer side, in inches."""
_PERCENTILE = 99


def draw_raster(image: "xr.DataArray", *, cmap: str = "viridis") -> "Figure":
    """Draw what `GeneView.raster` hands out.

    Parameters
    ----------
    image
        (y, x), with coordinate `n_cells` and the attributes that `GeneView.raster` gives; pixels
        without cells stay white.
    cmap
        Colors; they end at the 99th percentile of pixels that hold cells, as the caption says.

    Returns
    -------
    Figure
        `.source` has a row a pixel that holds cells: y, x, n_cells, value. Memory: the pixels,
        and their table.

    Raises
    ------
    InvalidArgument
        matplotlib is not installed.
    """
    facts: Any = image.attrs
    table = image.rename("value").to_dataframe().reset_index()
    table = table[table["n_cells"] > 0].reset_index(drop=True)
    edge, unit = float(facts["pixel_size"]), facts["pixel_unit"].replace("um", "µm")
    x, y = (image[name].to_numpy() for name in ("x", "y"))
    box = (x[0] - edge / 2, y[0] - edge / 2, x[-1] + edge / 2, y[-1] + edge / 2)
    size = np.array([box[2] - box[0], box[3] - box[1]])
    # Below the pixels: room for the scale bar.
    view = (box[0], box[1], box[2], box[3] + 0.12 * size[1])
    panel = _panel(float(size[0]), view[3] - view[1])
    low, high = _scale(table["value"].to_numpy())
    capped = bool((table["value"] > high).any())
    with style():
        grid = Grid([1], 1, panel)
        figure = new_figure(*grid.size)
        axes = grid.axes(figure, 0, 0, 0)
        axes.set_xlim(view[0], view[2])
        axes.set_ylim(view[3], view[1])
        axes.set_aspect("equal", adjustable="box")
        axes.set_axis_off()
        axes.set_title(f"{facts['gene']}, {short(facts['section'], 30)}", fontsize=8, pad=2)
        held = image["n_cells"].to_numpy() > 0
        pixels = np.ma.masked_array(image.to_numpy(), ~held)
        shown = axes.imshow(
            pixels,
            cmap=cmap,
            vmin=low,
            vmax=high,
            extent=(box[0], box[2], box[3], box[1]),
            origin="upper",
            interpolation="nearest",
        )
        axes.set_xlim(view[0], view[2])
        axes.set_ylim(view[3], view[1])
        scale_bar(axes, view, unit)
        height = grid.block_height(1)
        bar = grid.legend_axes(figure, 0)
        color_bar(bar, facts["gene"], facts["units"], shown, capped=capped, height=height)
        caption = f"{int(table['n_cells'].sum()):,} cells, pixels of {edge:g} {unit}."
        if capped:
            caption += f" Colors end at the {_PERCENTILE}th percentile of pixels, {high:.3g}."
        grid.write_caption(figure, caption)
    return with_source(figure, table, caption)


def _panel(width: float, height: float) -> tuple[float, float]:
    """Size in inches, of the shape of what is shown within reason."""
    longer = max(width, height)
    return max(1.2, _LONGER * width / longer), max(1.2, _LONGER * height / longer)


def _scale(value: Any) -> tuple[float, float]:
    if not len(value):
        return 0.0, 1.0
    low = min(float(value.min()), 0.0)
    high = float(np.percentile(value, _PERCENTILE))
    # A gene of few cells has a percentile of zero: then its largest value.
    high = high if high > low else float(value.max())
    return low, high if high > low else low + 1.0
