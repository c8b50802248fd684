"""What a gene is asked about places: its picture, how spatial it is, which genes lie with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from .view import GeneView

__all__ = ["SpatialVerbs"]


class SpatialVerbs:
    """Verbs of a `GeneView` about places."""

    @property
    def _view(self) -> GeneView:
        return cast("GeneView", self)

    def raster(
        self,
        section: str,
        um_per_px: float = 10.0,
        *,
        how: Literal["mean", "sum", "fraction"] = "mean",
        normalize: Literal["log1p"] | None = None,
        scale_factors: Sequence[int] | None = None,
        units: Literal["um", "source"] = "um",
        where: str | None = None,
        all_cells: bool = False,
        memory_limit: str | int | None = None,
    ) -> xr.DataArray | xr.DataTree:
        """Bin the cells of a section into pixels.

        Parameters
        ----------
        section
            Name of the section.
        um_per_px
            Edge of a pixel in micrometers (in units of the source, with `units="source"`).
        how
            Mean over the cells of a pixel, their sum, or the share of cells above zero.
        normalize
            Values as stored, or `log1p` of cells scaled to 10,000.
        scale_factors
            Coarser levels, each so many times the one before: a multiscale `DataTree` of `scale0`,
            `scale1`, ... as spatialdata has them, made from sums, not from means of means.
        units
            `source` where the unit of the section is unknown.
        where
            Filter string: only these cells. Default: cells that pass
            quality control (`qc_pass`, in sections that have it).
        all_cells
            Every cell.
        memory_limit
            Refuse above it.

        Returns
        -------
        DataArray (y, x)
            `x` and `y` are centers of pixels, `n_cells` the cells of each; without any, the mean
            and the fraction are NaN and the sum is zero. Memory: 40 bytes a pixel, 16 a value.

        Raises
        ------
        GeneNotFound, SectionNotFound, UnitUnknown, InvalidArgument, BudgetExceeded
        """
        from ..cells.verbs import check_unit
        from .raster import Picture, gene_raster
        from .taking_part import cells_of

        view = self._view
        column = view.column(section)
        handle = view.store.section(section)
        check_unit(handle.um_per_unit, section, units)
        return gene_raster(
            handle,
            column,
            Picture(view.symbol or view.gene_id, um_per_px, how, normalize),
            cells=cells_of(view.store, section, where, all_cells=all_cells),
            scale_factors=scale_factors,
            memory_limit=memory_limit,
        )

    def variability(
        self,
        sections: str | Sequence[str] | None = None,
        *,
        key: str = "spatial",
        radius: float | None = None,
        normalize: Literal["log1p"] | None = None,
        where: str | None = None,
        all_cells: bool = False,
        memory_limit: str | int | None = None,
    ) -> pd.DataFrame:
        """Tell how spatial the gene is in each section.

        Parameters
        ----------
        sections
            Names; all that measured it without.
        key, radius
            Stored graph for Moran's I, or one of all cells up to a distance in micrometers.
        normalize
            Values as stored, or `log1p`.
        where
            Filter string: only these cells, and the edges between them. Default: cells that pass
            quality control (`qc_pass`, in sections that have it).
        all_cells
            Every cell.
        memory_limit
            Of one section.

        Returns
        -------
        DataFrame
            `section`, `n` (cells that take part), `I` and `pval_norm` (Moran; NaN where there is no
            such graph), `pval_sparkx`; NaN where fewer than three cells take part.
        """
        from .variability import gene_variability

        return gene_variability(
            self._view,
            sections,
            key=key,
            radius=radius,
            normalize=normalize,
            where=where,
            all_cells=all_cells,
            memory_limit=memory_limit,
        )

    def colocalized(
        self,
        n: int | None = 20,
        sections: str | Sequence[str] | None = None,
        *,
        key: str = "spatial",
        radius: float | None = None,
        normalize: Literal["log1p"] | None = "log1p",
        rank: Literal["lee", "moran", "pearson"] = "lee",
        where: str | None = None,
        all_cells: bool = False,
        memory_limit: str | int | None = None,
    ) -> pd.DataFrame:
        """Rank all other genes by how much they lie where this one lies.

        Parameters
        ----------
        n
            How many; None is all.
        sections
            Names; all that measured it and have the graph without.
        key, radius
            Stored graph, or one of all cells up to a distance in micrometers.
        normalize
            `log1p`, or None for values as stored (depth then makes all genes alike).
        rank
            By Lee's L, bivariate Moran's I, or the correlation within cells.
        where
            Filter string: only these cells, and the edges between them. Default: cells that pass
            quality control (`qc_pass`, in sections that have it).
        all_cells
            Every cell.
        memory_limit
            Of one section.

        Returns
        -------
        DataFrame
            `gene`, `gene_id`, `L`, `I`, `r`, `n_sections`; over several sections their mean,
            weighted by cells. Formulas: `tisseract.atlas.spatial_statistics.colocalization`.

        Notes
        -----
        Reads the graph and the counts of each section once, whatever the number of genes.
        """
        from .colocalized import colocalized_genes

        return colocalized_genes(
            self._view,
            n,
            sections,
            key=key,
            radius=radius,
            normalize=normalize,
            rank=rank,
            where=where,
            all_cells=all_cells,
            memory_limit=memory_limit,
        )
