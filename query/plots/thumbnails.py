"""Hits of a search as small pictures: the place that was found, and what is around it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import InvalidArgument
from ..cells.verbs import select
from ..filters.predicate import EVERYTHING
from ..geometry.places import Box
from .coloring import coloring_of
from .drawing import Panel
from .layout import short
from .paint import Look
from .panels import MAX_POINTS
from .spatial import draw_panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ...atlas.store import AtlasStore

__all__ = ["thumbnails"]

_BOX = ("xmin", "ymin", "xmax", "ymax")
_MAX_HITS = 64


def thumbnails(
    atlas: "AtlasStore",
    hits: "pd.DataFrame",
    color: str | None = None,
    *,
    ncols: int = 5,
    margin: float = 0.25,
    n_hits: int | None = None,
    image: bool | str = False,
    palette: Mapping[str, str] | None = None,
    normalize: str | None = "auto",
) -> "Figure":
    """Draw the first hits of a table, each where it lies.

    Parameters
    ----------
    atlas
        Where the hits are.
    hits
        Columns `section`, `xmin`, `ymin`, `xmax`, `ymax` (micrometers; source units where
        unknown), best first; `score`, where there, stands in the titles.
    color
        A gene or a column; default the only labels, if there is one key.
    ncols
        Pictures in a row.
    margin
        What is shown around each hit, as a share of its longer side.
    n_hits
        So many; default all, at most 64.
    image, palette, normalize
        As of `spatial`.

    Returns
    -------
    Figure
        All at one scale; a black frame is the hit, cells that have a radius are discs of it.
        `.source` has `hit`, `section`, `score` and a row a cell. Only the surroundings of the
        hits are read.

    Raises
    ------
    InvalidArgument
        No hit, or columns are missing.
    """
    lacking = [name for name in ("section", *_BOX) if name not in hits.columns]
    if lacking or not len(hits):
        raise InvalidArgument(
            f"hits with columns section, {', '.join(_BOX)} are wanted, but got "
            f"{f'none of {lacking}' if lacking else 'no row'}"
        )
    shown = hits.head(min(n_hits or _MAX_HITS, _MAX_HITS))
    panels = [
        _panel(atlas, rank, row, margin)
        for rank, row in enumerate(shown.to_dict("records"), start=1)
    ]
    whole = select(atlas, EVERYTHING, section=sorted({panel.section for panel in panels}))
    if color is None and len(whole.columns.domain_keys) == 1:
        color = whole.columns.domain_keys[0]
    coloring = coloring_of(whole, color, normalize=normalize)
    look = Look(palette=dict(palette or {}), image=image, same_scale=True)
    return draw_panels(whole, panels, [coloring], look, ncols=ncols, max_points=MAX_POINTS)


def _panel(atlas: "AtlasStore", rank: int, row: Mapping[Any, Any], margin: float) -> Panel:
    section = str(row["section"])
    low, high = np.array([row["xmin"], row["ymin"]]), np.array([row["xmax"], row["ymax"]])
    around = margin * float((high - low).max())
    box = (*(low - around).tolist(), *(high + around).tolist())
    known = atlas.snapshot.sections[section].um_per_unit is not None
    near = select(atlas, section=section, region=Box(*box), units="um" if known else "source")
    runs = near.runs.get(section, np.zeros((0, 2), np.int64))
    score = row.get("score")
    scored = "" if score is None else f"  {float(score):.3g}"
    facts = {"hit": rank, "section": section} | ({} if score is None else {"score": score})
    title = f"{rank}. {short(section, 22)}{scored}"
    outline = (*low.tolist(), *high.tolist())
    return Panel(section, runs, title, box, facts, discs=True, outline=outline)
