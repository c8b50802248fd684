"""What an atlas can be asked about: its genes and its columns, as tables."""

from typing import TYPE_CHECKING

import numpy as np

from ..expression.choice import gene_union, measured_in
from ..filters.columns import Columns

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.store import AtlasStore


def gene_table(store: "AtlasStore") -> "pd.DataFrame":
    """List every gene of an atlas.

    Parameters
    ----------
    store
        The atlas.

    Returns
    -------
    DataFrame
        Index `gene_id`; columns `symbol`, `organism`, `feature_type`, `n_sections` (sections that
        measured it).

    Notes
    -----
    Reads the gene panels, one small object for each distinct one, and no counts.
    """
    import pandas as pd

    union = gene_union(store, store.section_names)
    n_sections = np.zeros(len(union), np.int64)
    for name in store.section_names:
        n_sections += measured_in(union, store.section(name))
    return pd.DataFrame(
        {
            "symbol": union.symbol,
            "organism": union.organism,
            "feature_type": union.feature_type,
            "n_sections": n_sections,
        },
        index=pd.Index(union.gene_id, name="gene_id"),
    )


def column_table(store: "AtlasStore") -> "pd.DataFrame":
    """List every column that cells can be filtered and grouped by.

    Parameters
    ----------
    store
        The atlas.

    Returns
    -------
    DataFrame
        Index `column`; columns `source` (`section`: from the sample sheet, `obs`: of the cells,
        `domains`: found labels, `annotations`: added by users), `kind`, `n_sections` (sections
        that have it). A name that occurs in two sources stands twice; in a query, sections come
        before cells before domains before annotations.

    Notes
    -----
    Answered by the catalog alone.
    """
    import pandas as pd

    columns = Columns(store)
    entries = store.snapshot.sections.values()
    domains = store.derived_keys("domains")
    rows = [
        (
            name,
            "section",
            "/".join(sorted(columns.resolve(f"meta:{name}").kinds)),
            sum(entry.metadata.get(name) is not None for entry in entries),
        )
        for name in columns.metadata
    ]
    rows += [
        (
            name,
            "obs",
            "/".join(sorted(columns.resolve(f"obs:{name}").kinds)),
            sum(name in entry.columns for entry in entries),
        )
        for name in columns.obs
    ]
    rows += [(key, "domains", "categorical", len(domains[key])) for key in sorted(domains)]
    rows += [
        (key, "annotations", "/".join(sorted(columns.resolve(f"annotations:{key}").kinds)), len(n))
        for key, n in store.derived_keys("annotation").items()
    ]
    table = pd.DataFrame(rows, columns=["column", "source", "kind", "n_sections"])
    return table.set_index("column")
