"""Transcripts as a lazy dask data frame: a partition a row group."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dask.dataframe as dd
    import pandas as pd
    import pyarrow as pa

    from .groups import GroupReader

type Genes = dict[str, list[str]]
"""Categories that are known beforehand, by column."""


def lazy_frame(readers: "Sequence[GroupReader]", schema: "pa.Schema") -> "dd.DataFrame":
    """Make the frame; each partition reads its row group when it is computed.

    The index ascends and repeats no number, but leaves some out. Genes are known categories.
    """
    import dask.dataframe as dd
    import pandas as pd
    from dask.dataframe.utils import clear_known_categories

    genes = _genes(readers, schema)
    tasks, starts = [], [0]
    for reader in readers:
        for i, group in enumerate(reader.plan.groups.tolist()):
            tasks.append((reader.at(i), schema, genes, starts[-1]))
            starts.append(starts[-1] + int(reader.plan.points.rows[group]))
    empty = schema.empty_table().to_pandas()
    categories = [name for name in empty if isinstance(empty[name].dtype, pd.CategoricalDtype)]
    # Each row group brings the categories it has: dask must not take them for known.
    meta = clear_known_categories(empty, cols=[name for name in categories if name not in genes])
    for name, values in genes.items():
        meta[name] = pd.Categorical([], values)
    if not tasks:
        return dd.from_pandas(meta, npartitions=1)
    divisions = (*starts[:-1], starts[-1] - 1)
    frame: dd.DataFrame = dd.from_map(
        _partition, tasks, meta=meta, divisions=divisions, enforce_metadata=False
    )
    return frame


def _genes(readers: "Sequence[GroupReader]", schema: "pa.Schema") -> Genes:
    found: dict[str, dict[str, None]] = {}
    for reader in readers:
        points = reader.plan.points
        if points.info.feature_key in schema.names:
            found.setdefault(points.info.feature_key, {}).update(dict.fromkeys(points.features))
    return {name: list(values) for name, values in found.items()}


def _partition(task: "tuple[GroupReader, pa.Schema, Genes, int]") -> "pd.DataFrame":
    import pandas as pd
    import pyarrow as pa

    reader, schema, genes, start = task
    batches: list[Any] = [reader.widened(batch, schema) for batch in reader.batches()]
    frame: pd.DataFrame = pa.Table.from_batches(batches, schema=schema).to_pandas()
    for name, values in genes.items():
        frame[name] = frame[name].astype("category").cat.set_categories(values)
    frame.index = pd.RangeIndex(start, start + len(frame))
    return frame
