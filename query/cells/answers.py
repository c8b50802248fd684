"""What a selection hands out: tables, AnnData, SpatialData, summaries."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from ..exports.verbs import ExportVerbs
from ..lazy.verbs import LazyVerbs
from ..points.verbs import PlaceVerbs

if TYPE_CHECKING:
    import pandas as pd

    from ..expression.choice import Missing
    from ..tables.aggregate import Function
    from .selection import Selection


class Answers(ExportVerbs, LazyVerbs, PlaceVerbs):
    """The verbs of a `Selection` that read; each loads what does the work on first use."""

    @property
    def _selection(self) -> "Selection":
        return cast("Selection", self)

    @property
    def obs(self) -> "pd.DataFrame":
        """All columns of the cells, indexed by `{section}:{cell id}`; see `to_pandas`."""
        return self.to_obs()

    def to_obs(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Named columns of the cells, `section` always first; None is all."""
        from ..tables.obs import obs_table

        return obs_table(self._selection, columns)

    def to_pandas(
        self,
        columns: Sequence[str] | None = None,
        *,
        missing: "Missing | None" = None,
        memory_limit: str | int | None = None,
    ) -> "pd.DataFrame":
        """Tabulate the cells; genes asked for by name become columns (`counts`).

        Parameters
        ----------
        columns
            Names as in a filter; default section, all its metadata, all obs columns and labels.
        missing
            For genes some section has not measured: default `error`.
        memory_limit
            Refuse above this; default half of free memory, at most 2 GiB.
        """
        from ..tables.obs import to_pandas

        return to_pandas(self._selection, columns, missing=missing, memory_limit=memory_limit)

    def aggregate(
        self,
        by: str | Sequence[str],
        func: "Function" = "mean",
        *,
        normalize: str | None = None,
        memory_limit: str | int | None = None,
    ) -> "pd.DataFrame":
        """Summaries of genes by groups of cells; see `query.tables.aggregate`."""
        from ..tables.aggregate import aggregate

        return aggregate(self._selection, by, func, normalize=normalize, memory_limit=memory_limit)
