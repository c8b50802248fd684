"""Which cells of a section take part in a graph."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidArgument, near

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .spec import ParameterValue

__all__ = ["CellMask", "masks_by_section"]


@dataclass(frozen=True, slots=True, eq=False)
class CellMask:
    """The cells of one section that take part; all others have no edges.

    Examples
    --------
    >>> mask = CellMask(np.array([True, False, True]), "qc_pass")
    >>> mask.n_kept, mask.parameters()["where"]
    (2, 'qc_pass')
    """

    rows: NDArray[np.bool_]
    """(n_obs,) whether a cell takes part."""
    where: str | None = None
    """The expression that chose them, if one did."""

    @property
    def n_kept(self) -> int:
        """Cells that take part."""
        return int(np.count_nonzero(self.rows))

    @property
    def digest(self) -> str:
        """SHA-256 of the mask, packed eight cells a byte."""
        return "sha256:" + hashlib.sha256(np.packbits(self.rows).tobytes()).hexdigest()

    def parameters(self) -> dict[str, ParameterValue]:
        """Return what is stored with a graph and compared on resume."""
        where: dict[str, ParameterValue] = {} if self.where is None else {"where": self.where}
        return {**where, "mask": self.digest}


def masks_by_section(
    mask: Any, sections: Sequence[str], where: str | None = None
) -> dict[str, CellMask]:
    """Give every section its mask.

    Parameters
    ----------
    mask : mapping of str to array, or array
        (n_obs,) bool for each section; an array alone where there is one section.
    sections : sequence of str
        The sections of the graph.
    where : str, optional
        The expression that chose the cells.

    Returns
    -------
    dict of str to CellMask
        Sections that the mapping leaves out are missing: all their cells take part.

    Raises
    ------
    InvalidArgument
        A section that is not among them, an array for several, or not of booleans.
    """
    if mask is None:
        return {}
    if not isinstance(mask, Mapping):
        if len(sections) != 1:
            raise InvalidArgument(
                f"a mask for each of {len(sections)} sections is wanted, but got one array; give "
                "a mapping of sections to arrays"
            )
        mask = {sections[0]: mask}
    strangers = [name for name in mask if name not in sections]
    if strangers:
        raise InvalidArgument(
            f"masks of the sections of the graph are wanted, but got one of {strangers[0]!r}."
            f"{near(strangers[0], sections)}"
        )
    return {name: CellMask(_as_rows(name, rows), where) for name, rows in mask.items()}


def _as_rows(section: str, rows: Any) -> NDArray[np.bool_]:
    array = np.asarray(rows)
    if array.dtype != np.bool_ or array.ndim != 1:
        raise InvalidArgument(
            f"a mask is one True or False for each cell of section {section!r}, but got "
            f"{array.dtype} of shape {array.shape}"
        )
    return array
