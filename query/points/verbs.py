"""Verbs of a selection on what lies in its place beside cells: transcripts, shapes, pixels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import geopandas as gpd
    import xarray as xr

    from ..cells.selection import Selection
    from .transcripts import Transcripts

__all__ = ["PlaceVerbs"]


class PlaceVerbs:
    """What lies where the cells of a `Selection` lie; each verb loads its module on first use."""

    @property
    def _asked(self) -> "Selection":
        return cast("Selection", self)

    def transcripts(
        self,
        genes: str | Sequence[str] | None = None,
        columns: str | Sequence[str] | None = None,
        *,
        name: str | None = None,
    ) -> "Transcripts":
        """Ask for the transcripts of the place, lazily.

        Parameters
        ----------
        genes
            As the transcripts name them, or identifier, symbol or alias; None is all.
        columns
            Columns to hand out, beside `section`; None is all.
        name
            Points element, where a section has several; default `transcripts` or the only one.

        Returns
        -------
        Transcripts
            `.explain()`, `.count()`, `.to_pandas()`, `.to_arrow()`, `.to_dask()`, `.batches()`.
            Where the question filters cells (not only sections), transcripts that lie in the
            place and belong to a selected cell.
        """
        from .transcripts import Transcripts

        return Transcripts(self._asked, genes, columns, name)

    def shapes(
        self, name: str = "cells", *, memory_limit: str | int | None = None
    ) -> "gpd.GeoDataFrame":
        """Read the shapes of the selected cells, or those of another element in the place.

        Parameters
        ----------
        name
            `cells`: circles or boundaries of the selected cells, indexed `{section}:{cell id}`.
            Another element (nuclei, annotations): its shapes that meet the place.
        memory_limit
            Refuse above this estimate.

        Returns
        -------
        GeoDataFrame
            Columns `section`, `geometry` and `radius` of circles; of another element all of its.
        """
        from .shapes import cell_shapes, other_shapes

        if name == "cells":
            return cell_shapes(self._asked, memory_limit)
        return other_shapes(self._asked, name, memory_limit)

    def images(
        self,
        name: str | None = None,
        *,
        level: int | None = None,
        um_per_px: float | None = None,
    ) -> "dict[str, xr.DataArray]":
        """Crop images to the box of the place, lazily.

        Parameters
        ----------
        name
            Image; None is all.
        level
            Level of the pyramid, 0 the finest (default).
        um_per_px
            Instead: the coarsest level whose pixels are no larger than this.

        Returns
        -------
        dict of str to DataArray
            (c, y, x) dask arrays by `name`, or `{section}_{name}` where several sections answer.
            `attrs["affine"]` takes pixel corners (column, row) of the crop to coordinates of the
            section; where it is a scale, coordinates `x` and `y` are the centers of pixels.
        """
        from .rasters import crops

        return crops(self._asked, "images", name, level=level, um_per_px=um_per_px)

    def labels(
        self,
        name: str | None = None,
        *,
        level: int | None = None,
        um_per_px: float | None = None,
    ) -> "dict[str, xr.DataArray]":
        """Crop label images to the box of the place, lazily, (y, x); see `images`."""
        from .rasters import crops

        return crops(self._asked, "labels", name, level=level, um_per_px=um_per_px)
