"""Verbs of a selection that hand it to other tools."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import polars  # noqa: ICN001 - pl is a property here
    import pyarrow as pa
    from anndata import AnnData
    from spatialdata import SpatialData

    from ..cells.selection import Selection
    from ..expression.choice import Join, Missing
    from ..plots.verbs import SelectionPlots

__all__ = ["ExportVerbs"]


class ExportVerbs:
    """What a `Selection` becomes elsewhere; each verb loads what does the work on first use."""

    @property
    def _exported(self) -> "Selection":
        return cast("Selection", self)

    @property
    def pl(self) -> "SelectionPlots":
        """Figures of the cells: `.pl.spatial(color=...)`, `.pl.dotplot`; see `tisseract.pl`."""
        from ..plots.verbs import SelectionPlots

        return SelectionPlots(self._exported)

    def to_anndata(
        self,
        *,
        normalize: str | None = None,
        obs_columns: Sequence[str] | None = None,
        join: "Join" = "outer",
        missing: "Missing | None" = None,
        graph: str | None = None,
        embeddings: bool | str | Sequence[str] = False,
        confidence: bool = False,
        halo: str | None = None,
        halo_um: float | None = None,
        n_hops: int = 1,
        memory_limit: str | int | None = None,
    ) -> "AnnData":
        """Read the answer as one AnnData; see `query.exports.to_anndata`."""
        from .to_anndata import to_anndata

        return to_anndata(
            self._exported,
            normalize=normalize,
            obs_columns=obs_columns,
            join=join,
            missing=missing,
            graph=graph,
            embeddings=embeddings,
            confidence=confidence,
            halo=halo,
            halo_um=halo_um,
            n_hops=n_hops,
            memory_limit=memory_limit,
        )

    def to_spatialdata(
        self,
        *,
        graph: str | None = None,
        embeddings: bool | str | Sequence[str] = False,
        confidence: bool = False,
        memory_limit: str | int | None = None,
    ) -> "SpatialData":
        """Read the answer as one SpatialData; see `query.exports.to_spatialdata`."""
        from .to_spatialdata import to_spatialdata

        return to_spatialdata(
            self._exported,
            graph=graph,
            embeddings=embeddings,
            confidence=confidence,
            memory_limit=memory_limit,
        )

    def to_arrow(self, columns: Sequence[str] | None = None, **options: Any) -> "pa.Table":
        """Tabulate the cells as Arrow: the columns of `to_pandas`, the ids as `cell` first.

        Parameters
        ----------
        columns
            Names as in a filter; default all.
        **options
            `missing`, `memory_limit`; see `to_pandas`.
        """
        from .columnar import to_arrow

        return to_arrow(self._exported, columns, **options)

    def to_polars(self, columns: Sequence[str] | None = None, **options: Any) -> "polars.DataFrame":
        """Tabulate the cells with polars, which must be installed; see `to_arrow`."""
        from .columnar import to_polars

        return to_polars(self._exported, columns, **options)

    def write(
        self, path: str | Path, *, to: str | None = None, overwrite: bool = False, **options: Any
    ) -> Path:
        """Write the answer; the ending of the name tells the form, see `query.export`."""
        from .files import export

        return export(self._exported, path, to=to, overwrite=overwrite, **options)
