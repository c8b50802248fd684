"""Quality of one section: what was counted at ingest, or, of older sections, what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import Corrupt
from .measure import Measured, StoredRows, measure
from .summary import QcSummary, TranscriptCounts

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ..section import Section
    from ..section_arrays import RowArray
    from ..snapshot import SectionEntry
    from ..storage import Storage

__all__ = [
    "PREVIEW",
    "TILES",
    "SectionQuality",
    "boxes_area",
    "read_preview",
    "section_quality",
    "summary_row",
]

TILES = "tisseract/qc/tiles"
"""Path of the numbers of tiles in a section."""
PREVIEW = "tisseract/qc/preview"
"""Path of the picture of a section."""
_UM2_PER_MM2 = 1e6


@dataclass(frozen=True)
class SectionQuality:
    """Quality of a section and of its tiles.

    Printing it shows the figures of the section; `docs/qc.md` defines each.
    """

    name: str
    """Section."""
    summary: QcSummary
    """Figures of the section with their distributions."""
    recorded: bool
    """Whether they were counted at ingest; otherwise only what stored cells tell is known."""
    columns: Mapping[str, NDArray[np.float64]]
    """(T,) numbers of each tile by name; over all tiles they add up to those of the section."""
    boxes: NDArray[np.float64]
    """(T, 4) tight boxes of the tiles."""
    um_per_unit: float | None
    """Micrometers per source unit; None when unknown."""
    preview: NDArray[np.float32]
    """(2, height, width) cells of each pixel, and the sum of their stored values."""

    @cached_property
    def section(self) -> dict[str, Any]:
        """Figures of the section by name; None where one was not recorded or is not known."""
        return {"section": self.name, "recorded": self.recorded, **summary_row(self.summary)}

    @cached_property
    def tiles(self) -> pd.DataFrame:
        """One row a tile: sums over its cells, and what follows from them (NaN where unknown)."""
        import pandas as pd

        table = pd.DataFrame(dict(self.columns))
        table.index.name = "tile"
        for name in table.columns:
            if name.startswith("n_"):
                table[name] = _whole(table[name])
        with np.errstate(divide="ignore", invalid="ignore"):
            counts = table["n_counts"].to_numpy(np.float64)
            if "n_controls" in table:
                controls = table["n_controls"].to_numpy(np.float64)
                table["control_fraction"] = controls / (counts + controls)
            box = _box_area(self.boxes) if self.um_per_unit is not None else np.nan
            table["box_um2"] = box
            density = table["n_obs"].to_numpy(np.float64) / table["box_um2"].to_numpy()
            table["cells_per_mm2"] = np.where(np.isfinite(density), density * _UM2_PER_MM2, np.nan)
        return table

    def __repr__(self) -> str:
        known = {name: value for name, value in self.section.items() if value is not None}
        return "\n".join(f"{name:<24} {_shown(value)}" for name, value in known.items())


def _shown(value: object) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def _whole(values: pd.Series) -> pd.Series:
    """Return whole numbers as int64; sums of values that are no counts stay floats."""
    numbers = values.to_numpy(np.float64)
    exact = np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all()
    return values.astype(np.int64) if exact else values


def _box_area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    area: NDArray[np.float64] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area


def boxes_area(boxes: NDArray[np.float64], um_per_unit: float | None) -> float | None:
    """Sum of the areas of tight boxes in square micrometers; None where there is no unit."""
    return None if um_per_unit is None else float(_box_area(boxes).sum())


def summary_row(summary: QcSummary) -> dict[str, Any]:
    """Figures of a section as one row of plain values; see `docs/qc.md`."""
    area = summary.area
    return {
        "n_obs": summary.n_obs,
        "total_counts": summary.counts.total,
        "median_counts": summary.counts.median,
        "mean_counts": summary.counts.mean,
        "median_genes": summary.genes.median,
        "mean_genes": summary.genes.mean,
        "n_empty": summary.empty,
        "empty_fraction": summary.empty_fraction,
        "n_duplicated": summary.duplicated,
        "control_fraction": summary.control_fraction,
        "median_area_um2": area.median if area else None,
        "area_from": summary.area_from or None,
        "cells_per_mm2": summary.cells_per_mm2,
        "n_transcripts": summary.n_transcripts,
        "outside_fraction": summary.outside_fraction,
        "n_images": summary.images,
        "n_notes": summary.n_notes,
    }


def section_quality(
    section: Section, array: Callable[[str], RowArray], names: Sequence[str]
) -> SectionQuality:
    """Open the quality of a section, given its arrays by path and the names of its tiles' numbers.

    Recorded figures cost the section's index and two small arrays. Of a section without them,
    depth, pointers and positions are read once, some thousand rows at a time: 32 bytes a cell.

    Raises
    ------
    Corrupt
        What is stored is damaged.
    """
    summary = QcSummary.of(section.entry.qc)
    layouts = section.layouts
    if summary is not None and TILES in layouts:
        columns = _columns(names, array(TILES).read())
        preview, recorded = array(PREVIEW).read(), True
    else:
        rows = StoredRows(array, section.tiles, section.bounds, section.layouts)
        measured = measure(rows)
        columns, preview, recorded = dict(measured.columns), measured.preview, summary is not None
        summary = summary or _summary(section, measured)
    return SectionQuality(
        section.name,
        summary,
        recorded,
        columns,
        section.tiles.bounds,
        section.um_per_unit,
        preview,
    )


def _columns(names: Sequence[str], matrix: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    if not {"n_obs", "n_counts", "n_genes"} <= set(names) or matrix.shape[1:] != (len(names),):
        raise Corrupt(
            f"a name for each of the numbers of a tile is wanted, but got {list(names)} for "
            f"{matrix.shape[1:]} numbers; run `tisseract verify`"
        )
    return dict(zip(names, matrix.T, strict=True))


def _summary(section: Section, measured: Measured) -> QcSummary:
    controls = measured.columns.get("n_controls")
    return QcSummary(
        section.n_obs,
        measured.counts,
        measured.genes,
        int(measured.columns["n_duplicated"].sum()),
        controls=None if controls is None else float(controls.sum()),
        box_um2=boxes_area(section.tiles.bounds, section.um_per_unit),
        transcripts={
            name: TranscriptCounts(one.info.n_points, None, 0)
            for name, one in section.points.items()
        },
        images=len(section.elements.get("images", ())),
    )


def read_preview(storage: Storage, entry: SectionEntry) -> NDArray[np.float32] | None:
    """Read the picture of a section in one request; None where none was recorded.

    Raises
    ------
    Corrupt
        It is missing or damaged.
    """
    from ..section_arrays import ArrayLayout, RowArray

    summary = QcSummary.of(entry.qc)
    if summary is None or summary.preview is None:
        return None
    layout = ArrayLayout((2, *summary.preview), "float32", 2, 2)
    where = f"section {entry.section!r}, array {PREVIEW}"
    pixels: NDArray[np.float32] = RowArray(
        storage, f"{entry.prefix}/{PREVIEW}", layout, where
    ).read()
    return pixels
