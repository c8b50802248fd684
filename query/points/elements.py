"""What lies beside the cells of a selection, as elements of a SpatialData object."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..telling import tell
from .cells import needs_cells
from .rasters import crops
from .shapes import other_shapes
from .transcripts import Transcripts

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ..cells.selection import Selection


class PointsLeftOutWarning(UserWarning):
    """Points do not say which cell they belong to, and cells were filtered."""


def points_of(selection: "Selection", section: "Section", system: str) -> dict[str, Any]:
    """Points elements of one section in the place, lazy: a partition a row group."""
    from spatialdata.models import PointsModel
    from spatialdata.transformations import Identity

    found: dict[str, Any] = {}
    own = selection.only([section.name])
    for name, points in section.points.items():
        info = points.info
        if needs_cells(own) and not info.instance_key:
            tell(
                f"points {name!r} of section {section.name!r} are left out: they do not name "
                "their cell, and the question filters cells",
                PointsLeftOutWarning,
            )
            continue
        columns = [c for c in info.columns if not c.startswith("__")]
        lazy = Transcripts(own, None, columns, name).to_dask().drop(columns="section")
        keys = {"feature_key": info.feature_key, "instance_key": info.instance_key}
        found[name] = PointsModel.parse(
            lazy,
            coordinates={axis: axis for axis in ("x", "y", "z") if axis in columns},
            transformations={system: Identity()},
            sort=True,
            **{key: value for key, value in keys.items() if value},
        )
    return found


def outlines_of(
    selection: "Selection", section: "Section", system: str, memory_limit: str | int | None
) -> dict[str, Any]:
    """Shapes of one section beside those of its cells that meet the place."""
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity

    found: dict[str, Any] = {}
    own = selection.only([section.name])
    for name in section.elements.get("shapes", ()):
        frame = other_shapes(own, name, memory_limit).drop(columns="section")
        if len(frame):
            found[name] = ShapesModel.parse(frame, transformations={system: Identity()})
    return found


def rasters_of(
    selection: "Selection", section: "Section", kind: str, system: str
) -> dict[str, Any]:
    """Images or labels of one section, cropped, at full resolution: from any storage."""
    from spatialdata.models import Image2DModel, Labels2DModel
    from spatialdata.transformations import Affine

    found: dict[str, Any] = {}
    own = selection.only([section.name])
    for name, crop in crops(own, kind, None, level=None, um_per_px=None).items():
        matrix = np.asarray(crop.attrs["affine"])
        place = Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))
        model = Image2DModel if kind == "images" else Labels2DModel
        found[name] = model.parse(crop.data, dims=crop.dims, transformations={system: place})
    return found
