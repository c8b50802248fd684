"""Which cells take part: those that pass quality control, unless the caller says which."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

__all__ = ["QC_COLUMN", "QC_FILTER", "Masks", "chosen_cells"]

QC_COLUMN = "qc_pass"
QC_FILTER = f"{QC_COLUMN} where it exists"

type Masks = Mapping[str, NDArray[np.bool_]]
"""Cells that take part, `(n_obs,)` by section; all cells of a section that is not named."""


def chosen_cells(
    store: "AtlasStore",
    sections: Sequence[str],
    mask: Masks | None = None,
    where: str | None = None,
) -> tuple[dict[str, NDArray[np.bool_]], str | None]:
    """Return masks of the cells that take part, and the words that provenance keeps of them.

    Parameters
    ----------
    store : AtlasStore
    sections : sequence of str
        Those worked on.
    mask : mapping of str to ndarray, optional
        `(n_obs,)` bool by section; sections it does not name are taken whole, so `{}` takes every
        cell. Without: the cells whose boolean obs column `qc_pass` is true, in the sections that
        have one; the rest whole.
    where : str, optional
        The expression that the masks were made from.

    Returns
    -------
    masks : dict of str to ndarray (n_obs,) bool
        Of the sections that are not taken whole.
    where : str or None
        None where every cell takes part, and no expression said so.

    Raises
    ------
    InvalidArgument
        An expression without masks, a mask that does not fit its section, or one without a cell.

    Notes
    -----
    Memory: one byte a cell of the sections with masks.
    """
    if where is not None and mask is None:
        raise InvalidArgument(
            f"wanted mask= beside where={where!r}, which is only its name here; ask the atlas: "
            "`Atlas.find_domains(where=...)` reads expressions"
        )
    found = {name: _mask(store.section(name), mask) for name in sections}
    masks = {name: cells for name, cells in found.items() if cells is not None and not cells.all()}
    empty = [name for name, cells in masks.items() if not cells.any()]
    told = where or (QC_FILTER if mask is None else "mask")
    if empty:
        raise InvalidArgument(
            f"wanted cells in every section, but got none in {', '.join(empty[:3])} ({told}); "
            "leave these sections out, or take every cell with mask={}"
        )
    # a filter is kept also where it leaves nobody out here: what is embedded later goes by it
    return masks, told if masks or where else None


def _mask(section: "Section", mask: Masks | None) -> NDArray[np.bool_] | None:
    """Return the mask of one section, None where it is taken whole."""
    if mask is None:
        if section.obs_columns.get(QC_COLUMN, {}).get("kind") != "boolean":
            return None
        flags = section.obs(columns=[QC_COLUMN], index=False)[QC_COLUMN]
        # a flag that is missing is no pass
        return flags.astype("boolean").fillna(False).to_numpy(dtype=np.bool_)
    if section.name not in mask:
        return None
    cells = np.asarray(mask[section.name])
    if cells.dtype != np.bool_ or cells.shape != (section.n_obs,):
        raise InvalidArgument(
            f"wanted a mask of {section.n_obs} True or False for section {section.name!r}, but "
            f"got shape {cells.shape} of {cells.dtype}"
        )
    return cells
