"""Pictures of hits, through matplotlib."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument

if TYPE_CHECKING:
    from .hits import Hits


def draw(
    hits: "Hits",
    rasters: NDArray[np.int32],
    values: tuple[str, ...],
    *,
    column: str | None,
    ncols: int,
) -> Any:
    """Draw small rasters in rows, one color scale for all, the score above each.

    Raises
    ------
    InvalidArgument
        Nothing was found, or matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidArgument(
            "plots want matplotlib, which is not installed: pip install tisseract[viz]"
        ) from error
    if not len(hits):
        raise InvalidArgument("hits are wanted for a plot, but got none; widen the search")
    ncols = min(max(ncols, 1), len(hits))
    nrows = -(-len(hits) // ncols)
    figure = Figure(figsize=(1.8 * ncols, 2.2 * nrows + 0.4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(nrows, ncols, squeeze=False)).ravel()
    top = max(int(rasters.max()), 1) if column is None else max(len(values) - 1, 1)
    image: Any = None
    for axis, (rank, row), raster in zip(axes, hits.table.iterrows(), rasters, strict=False):
        shown = np.ma.masked_less(raster, 0 if column is not None else 1)
        colors = "tab20" if column is not None else "viridis"
        image = axis.imshow(shown, vmin=0, vmax=top, cmap=colors, interpolation="nearest")
        axis.set_title(f"{rank}. {row['section']}\n{row['score']:.3f}", fontsize=8)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    for axis in axes[len(hits) :]:
        axis.set_axis_off()
    bar = figure.colorbar(image, ax=axes.tolist(), shrink=0.6)
    if column is None:
        bar.set_label("cells a pixel")
    else:
        bar.set_ticks(range(len(values)), labels=list(values), fontsize=7)
    figure.suptitle(hits.words, fontsize=8)
    return figure
