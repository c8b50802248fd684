"""The table of a set of domains: cells, area, sections, confidence, composition, markers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ...atlas.memory import parse_bytes, refuse_above
from .area import BYTES_PER_CELL, domain_areas
from .masks import read_part

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.store import AtlasStore
    from ..filters.columns import Columns

__all__ = [
    "check_groups",
    "check_labels",
    "check_values",
    "domain_table",
    "group_fractions",
]

MOST_GROUPS = 256
MOST_NUMBERS = 64  # whole numbers that may be labels: clusters, donors, days
_WIDEST = 4096  # from the least to the largest of them; others are counts


@dataclass(slots=True)
class _Sums:
    """What is added up over sections, one value a domain; cells one a section and domain."""

    cells: NDArray[np.int64]
    confidence: NDArray[np.float64]
    area: NDArray[np.float64]


def domain_table(
    store: "AtlasStore",
    key: str,
    sections: Sequence[str],
    domains: Sequence[str],
    *,
    masks: "dict[str, NDArray[np.bool_]] | None" = None,
    memory_limit: str | int | None,
) -> "pd.DataFrame":
    """Count and measure domains; see `DomainView.table`."""
    import pandas as pd

    sums = _sums(store, key, sections, len(domains), masks=masks, limit=parse_bytes(memory_limit))
    cells = sums.cells.sum(axis=0)
    labeled = max(int(cells.sum()), 1)
    where = [
        [name for name, n in zip(sections, column, strict=True) if n] for column in sums.cells.T
    ]
    mean = np.divide(sums.confidence, cells, out=np.full(len(domains), np.nan), where=cells > 0)
    return pd.DataFrame(
        {
            "n_cells": cells,
            "fraction": cells / labeled,
            "area_um2": sums.area,
            "n_sections": [len(names) for names in where],
            "sections": [", ".join(names) for names in where],
            "mean_confidence": mean,
        },
        index=pd.Index(list(domains), name="domain", dtype="str"),
    )


def _sums(
    store: "AtlasStore",
    key: str,
    sections: Sequence[str],
    n_domains: int,
    *,
    masks: "dict[str, NDArray[np.bool_]] | None",
    limit: int,
) -> _Sums:
    sums = _Sums(
        np.zeros((len(sections), n_domains), np.int64), np.zeros(n_domains), np.zeros(n_domains)
    )
    for row, name in enumerate(sections):
        section = store.section(name)
        refuse_above(
            limit,
            BYTES_PER_CELL * section.n_obs,
            f"areas of the domains of section {name!r}",
            "give a larger memory_limit",
        )
        found = read_part(store, key, name, masks)
        codes, known = found.codes, found.codes >= 0
        cells = np.bincount(codes[known], minlength=n_domains)
        sums.cells[row] = cells
        sums.confidence += np.bincount(
            codes[known], weights=found.confidence[known], minlength=n_domains
        )
        # a section without cells of a domain says nothing of it, also where its unit is unknown
        part = None if masks is None else masks.get(name)
        sums.area += np.where(cells > 0, domain_areas(section, codes, n_domains, part), 0.0)
    return sums


def check_labels(columns: "Columns", name: str) -> None:
    """Check that a column holds labels to divide cells by.

    Raises
    ------
    ColumnNotFound
        There is no such column.
    InvalidArgument
        It holds numbers that are no labels: fractions, or whole numbers far apart.
    """
    column = columns.resolve(name)
    if "numeric" not in column.kinds or column.source != "obs":
        return
    if not columns.holds_integers(column) or columns.span(column) >= _WIDEST:
        raise InvalidArgument(
            f"a column of labels, or of at most {MOST_NUMBERS} whole numbers, is wanted for by=, "
            f"but got {name!r}, which holds numbers; atlas.obs_columns lists the columns and "
            "their kinds"
        )


def check_values(values: "pd.Series[Any]") -> None:
    """Refuse a column of more whole numbers than would be labels.

    Raises
    ------
    InvalidArgument
    """
    if values.dtype.kind in "iuf" and values.nunique() > MOST_NUMBERS:
        raise InvalidArgument(
            f"a column of labels, or of at most {MOST_NUMBERS} whole numbers, is wanted for by=, "
            f"but got {values.name!r}, which has {values.nunique():,}"
        )


def check_groups(name: str, n_labels: int) -> None:
    """Refuse a column of more labels than a table can show.

    Raises
    ------
    InvalidArgument
    """
    if n_labels > MOST_GROUPS:
        raise InvalidArgument(
            f"a column of at most {MOST_GROUPS} labels is wanted for by=, but got {name!r}, which "
            f"has {n_labels:,}; domains(key).composition({name!r}) lists them all"
        )


def group_fractions(composition: "pd.DataFrame", by: str, domains: Sequence[str]) -> "pd.DataFrame":
    """Share of each value of a column in the cells of each domain.

    Parameters
    ----------
    composition : DataFrame
        Columns `domain`, `by` and `n`, one row for each combination with cells.
    by : str
    domains : sequence of str

    Returns
    -------
    DataFrame
        One row a domain, one column `<by>: <value>` for each value; rows add up to 1, cells
        without a value are under `<by>: (none)`.

    Raises
    ------
    InvalidArgument
        More values than a table can show.
    """
    check_values(composition[by])
    names = composition[by].astype(object).where(composition[by].notna(), "(none)").map(str)
    wide = composition.assign(**{by: names}).pivot_table(
        "n", "domain", by, aggfunc="sum", fill_value=0, observed=True
    )
    check_groups(by, wide.shape[1])
    shares = wide.div(wide.sum(axis=1), axis=0).reindex(list(domains))
    shares = shares[list(dict.fromkeys(names))]  # as they come: timepoints in order of time
    shares.columns = [f"{by}: {name}" for name in shares.columns]
    return shares
