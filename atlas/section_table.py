"""The catalog as a table: one row a section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .snapshot import SectionEntry, Snapshot

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["section_row", "section_table"]

# Columns come in this order, the sample sheet's own after the known ones.
_FIRST = (
    "timepoint",
    "time_value",
    "time_unit",
    "donor",
    "condition",
    "tissue",
    "organism",
    "technology",
    "format",
    "batch",
    "z_um",
)
_FACTS = ("n_obs", "n_vars", "nnz", "n_tiles", "values", "um_per_unit", "area_um2", "nbytes")


def section_row(entry: SectionEntry) -> dict[str, Any]:
    """Facts and metadata of one section as plain values; what the catalog counts wins."""
    xmin, ymin, xmax, ymax = entry.bounds
    area = None if entry.um_per_unit is None else (xmax - xmin) * (ymax - ymin)
    return {
        **entry.metadata,
        "section": entry.section,
        "n_obs": entry.n_obs,
        "n_vars": entry.n_vars,
        "nnz": entry.nnz,
        "n_tiles": entry.n_tiles,
        "values": entry.values,
        "um_per_unit": entry.um_per_unit,
        "area_um2": area,
        "nbytes": entry.nbytes,
    }


def section_table(snapshot: Snapshot) -> pd.DataFrame:
    """One row a section, sorted by name; a column that some section lacks is missing there."""
    import pandas as pd

    rows = [section_row(snapshot.sections[name]) for name in sorted(snapshot.sections)]
    extra: dict[str, None] = {}
    for row in rows:
        extra.update(dict.fromkeys(row))
    known = {"section", *_FACTS}
    first = [name for name in _FIRST if name in extra]
    rest = [name for name in extra if name not in known and name not in _FIRST]
    table = pd.DataFrame(rows, columns=["section", *first, *rest, *_FACTS])
    return table.set_index("section")
