"""A selection as an Arrow table or a polars frame."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...atlas.errors import InvalidArgument

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from ..cells.selection import Selection

__all__ = ["to_arrow", "to_polars"]


def to_arrow(
    selection: "Selection", columns: Sequence[str] | None = None, **options: Any
) -> "pa.Table":
    """Tabulate the cells of an answer as Arrow.

    Parameters
    ----------
    selection
        The answer.
    columns
        As of `to_pandas`.
    **options
        `missing` and `memory_limit`, as of `to_pandas`.

    Returns
    -------
    pyarrow.Table
        Column `cell` (`{section}:{cell id}`), then those of `to_pandas`; categories as
        dictionaries, missing values as nulls. Memory: that of the pandas table, twice.

    Raises
    ------
    BudgetExceeded
        Estimated above the limit, before any cell is read.
    """
    import pyarrow as pa

    frame = selection.to_pandas(columns, **options)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    # What pandas wants to know of its index and dtypes means nothing elsewhere.
    table = table.replace_schema_metadata(None)
    return table.add_column(0, "cell", pa.array(frame.index.to_numpy(dtype=object), pa.string()))


def to_polars(
    selection: "Selection", columns: Sequence[str] | None = None, **options: Any
) -> "pl.DataFrame":
    """Tabulate the cells of an answer with polars; see `to_arrow`.

    Raises
    ------
    InvalidArgument
        polars is not installed.
    """
    try:
        import polars as pl
    except ModuleNotFoundError as error:
        raise InvalidArgument(
            "polars is wanted for to_polars(), but it is not installed; run pip install polars, "
            "or take to_arrow()"
        ) from error
    frame = pl.from_arrow(to_arrow(selection, columns, **options))
    assert isinstance(frame, pl.DataFrame)
    return frame
