"""Verbs of a selection that do not read it all: each loads what does the work on first use."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import dask.array as da
    import pandas as pd
    import scipy.sparse as sp
    import xarray as xr
    from anndata import AnnData

    from ..cells.selection import Selection

__all__ = ["LazyVerbs"]


class LazyVerbs:
    """What a `Selection` becomes a part at a time."""

    @property
    def _lazy(self) -> "Selection":
        return cast("Selection", self)

    def to_dask(self, **options: Any) -> "da.Array":
        """Hand out the values as one dask array, not read yet; see `query.lazy.arrays.to_dask`."""
        from .arrays import to_dask

        return to_dask(self._lazy, **options)

    def to_xarray(self, **options: Any) -> "xr.Dataset":
        """Hand out values and places as one Dataset; see `query.lazy.arrays.to_xarray`."""
        from .arrays import to_xarray

        return to_xarray(self._lazy, **options)

    def batches(
        self, size: int | None = None, **options: Any
    ) -> "Iterator[AnnData | tuple[sp.csr_matrix, pd.DataFrame]]":
        """Iterate over the cells, `size` at a time; see `query.lazy.batches.batches`."""
        from .batches import batches

        return batches(self._lazy, size, **options)

    def map_sections[R](self, function: "Callable[[Selection], R]") -> dict[str, R]:
        """Apply a function to each section's part; see `query.lazy.batches.map_sections`."""
        from .batches import map_sections

        return map_sections(self._lazy, function)
