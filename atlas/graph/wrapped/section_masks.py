"""Which cells take part, section by section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import InvalidArgument, near
from .mask import Mask

__all__ = ["masks_by_section"]


def masks_by_section(mask: Any, sections: Sequence[str]) -> dict[str, Mask]:
    """Give every section its mask.

    Parameters
    ----------
    mask : mapping of str to array, array, or None
        (n_obs,) bool for each section; an array alone where there is one section.
    sections : sequence of str
        The sections of the graph.

    Returns
    -------
    dict of str to Mask
        Sections that the mapping leaves out are missing: all their cells take part.

    Raises
    ------
    InvalidArgument
        A section that is not among them, an array for several, or not of booleans.

    Examples
    --------
    >>> import numpy as np
    >>> masks_by_section(np.array([True, False, True]), ["S1"])["S1"].n_kept
    2
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
    return {name: Mask.of(rows) for name, rows in mask.items()}
