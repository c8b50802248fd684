"""The table of an answer, one column at a time: memory is that of the widest column."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..cells.rows import count
from ..expression.mixture import differing
from ..filters.columns import timepoint_order
from ..tables.joined import joined_column
from ..tables.obs import chosen_columns, section_table, stale_labels, warn_stale
from .embeddings import confidence_columns

if TYPE_CHECKING:
    import pandas as pd

    from .prepare import Prepared

__all__ = ["obs_columns_of", "stale_of"]


def stale_of(prepared: "Prepared") -> "dict[str, list[str]]":
    """Sections whose labels the table leaves out as stale, by column."""
    selection = prepared.selection
    return stale_labels(selection, chosen_columns(selection, prepared.options.obs_columns))


def obs_columns_of(prepared: "Prepared") -> "Iterator[tuple[str, pd.Series]]":
    """Read the columns that `to_anndata` has in obs, in its order, each when it is its turn."""
    import pandas as pd

    selection, options = prepared.selection, prepared.options
    columns = chosen_columns(selection, options.obs_columns)
    warn_stale(stale_labels(selection, columns))
    order = timepoint_order(selection.store.snapshot.sections.values())
    parts = selection.parts()
    for column in columns:
        tables = [section_table(selection, section, runs, [column]) for section, runs in parts]
        found = [table[column.name] for table in tables]
        yield column.name, pd.Series(joined_column(found, column, order, list(selection.runs)))
    taken = {column.name for column in columns}
    lengths = [count(runs) for _, runs in parts]
    for name, facts in differing(prepared.entries).items():
        spelled = name if name not in taken else f"section:{name}"
        names = np.array([facts[section.name] for section, _ in parts], dtype=object)
        yield spelled, pd.Series(pd.Categorical(np.repeat(names, lengths)))
    if options.confidence:
        for key, values in confidence_columns(selection).items():
            yield str(key), values
    if prepared.inside is not None:
        yield "in_region", pd.Series(prepared.in_region())
