"""What a column holds and how often: the answer to "what can I filter by?"."""

from typing import TYPE_CHECKING, Any

from ..cells.verbs import select
from ..filters.columns import Columns, section_value

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.store import AtlasStore


def values(
    store: "AtlasStore", column: str, *, domain_key: str | None = None, **filters: Any
) -> "pd.Series":
    """Count the cells of each value of a column: all that the filters ask for.

    No filter is added: cells that fail quality control count. `values(column, obs="qc_pass")`
    leaves them out, as verbs that compute do on their own.

    Parameters
    ----------
    store
        The atlas.
    column
        Section metadata, an obs column, or a domain key.
    domain_key
        What `domain` stands for.
    **filters
        As for `select`.

    Returns
    -------
    Series
        Cells of each value, indexed by value: in order of time for timepoints, else sorted;
        missing values under None, last. Its name is "n_obs".

    Notes
    -----
    Section metadata without filters is answered by the catalog alone. Stale labels count as
    missing, with a `StaleLabelsWarning`; where `section` names the section, they raise.
    """
    import pandas as pd

    columns = Columns(store, domain_key)
    resolved = columns.resolve(column)
    if resolved.source == "meta" and not filters:
        from .aggregate import sort_key
        from .value_kinds import kind_of, named_values, typed

        counts: dict[Any, int] = {}
        found: dict[Any, Any] = {}
        held: dict[str, set[str]] = {}
        for name, entry in store.snapshot.sections.items():
            value = section_value(name, entry.metadata, resolved.key)
            key = typed(value)
            found.setdefault(key, value)
            counts[key] = counts.get(key, 0) + entry.n_obs
            if value is not None:
                held[name] = {kind_of(value)}
        order = sorted(found, key=lambda key: sort_key((found[key],), [resolved]))
        labels = named_values(column, [found[key] for key in order], held)
        index = pd.Index(labels, name=column, dtype=object)
        return pd.Series([counts[key] for key in order], index=index, name="n_obs")
    selection = select(store, domain_key=domain_key, **filters)
    from .aggregate import aggregate

    # Asked of the whole atlas, one replaced section must not hide the others.
    table = aggregate(selection, [column], "count", leave_out_stale="section" not in filters)
    counted = table["n_obs"]
    counted.attrs = {}
    return counted
