"""Polygons beside those of the cells (nuclei, annotations), streamed into a shapes element."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .images import check_name
from .section_write import group
from .shapes import element_attributes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["OutlinesSource", "write_outlines"]


@dataclass(frozen=True, slots=True)
class OutlinesSource:
    """Shapes that are streamed once: Arrow tables of one schema, in stored units."""

    tables: Callable[[], Iterator[pa.Table]]
    """Yields tables with a column `geometry` of well-known binary (and `radius` for points); all
    other columns are kept, and the pandas metadata of the schema with the index."""
    notes: tuple[str, ...] = ()
    """What was left out or changed."""


def write_outlines(section: Path, name: str, source: OutlinesSource, system: str) -> bool:
    """Write `shapes/<name>` of the container; holds one table at a time.

    Returns
    -------
    bool
        Whether there was any shape: an element without a file opens nowhere.

    Raises
    ------
    InvalidArgument
        A name that SpatialData refuses.
    """
    import pyarrow.parquet as pq
    import shapely

    check_name(name)
    folder = section / "shapes" / name
    box = np.array([np.inf, np.inf, -np.inf, -np.inf])
    kinds: set[str] = set()
    writer: Any = None
    try:
        for table in source.tables():
            if not table.num_rows:
                continue
            if writer is None:
                group(folder, **element_attributes(system))
                schema = table.schema
                writer = pq.ParquetWriter(
                    folder / "shapes.parquet", schema, compression="zstd", write_page_checksum=True
                )
            shapes = shapely.from_wkb(table.column("geometry").to_numpy(zero_copy_only=False))
            kinds |= {shape.geom_type for shape in _one_of_each(shapes)}
            own = shapely.total_bounds(shapes)
            box = np.concatenate([np.fmin(box[:2], own[:2]), np.fmax(box[2:], own[2:])])
            writer.write_table(table)
        if writer is not None:
            writer.add_key_value_metadata({"geo": json.dumps(_geo(kinds, box))})
    finally:
        if writer is not None:
            writer.close()
    return writer is not None


def _one_of_each(shapes: Any) -> Any:
    """One shape of every kind."""
    import shapely

    _, first = np.unique(shapely.get_type_id(shapes), return_index=True)
    return shapes[first]


def _geo(kinds: set[str], box: Any) -> dict[str, Any]:
    column: dict[str, Any] = {"encoding": "WKB", "crs": None, "geometry_types": sorted(kinds)}
    if np.isfinite(box).all():
        column["bbox"] = [float(v) for v in box]
    return {"primary_column": "geometry", "columns": {"geometry": column}, "version": "1.1.0"}
