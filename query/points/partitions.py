"""Transcripts as a lazy dask data frame: a partition a row group."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dask.dataframe as dd
    import pandas as pd
    import pyarrow as pa

    from .groups import GroupReader


def lazy_frame(readers: "Sequence[GroupReader]", schema: "pa.Schema") -> "dd.DataFrame":
    """Make the frame; each partition reads its row group when it is computed."""
    import dask.dataframe as dd
    from dask.dataframe.utils import clear_known_categories

    tasks = [(reader.at(i), schema) for reader in readers for i in range(len(reader.plan.groups))]
    empty = schema.empty_table().to_pandas()
    if not tasks:
        return dd.from_pandas(empty, npartitions=1)
    # Each row group brings the categories it has: dask must not take them for known.
    meta = clear_known_categories(empty)
    frame: dd.DataFrame = dd.from_map(_partition, tasks, meta=meta, enforce_metadata=False)
    return frame


def _partition(task: "tuple[GroupReader, pa.Schema]") -> "pd.DataFrame":
    import pyarrow as pa

    reader, schema = task
    batches: list[Any] = [reader.widened(batch, schema) for batch in reader.batches()]
    frame: pd.DataFrame = pa.Table.from_batches(batches, schema=schema).to_pandas()
    return frame
