"""In which unit the lengths that are asked of a graph are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..errors import InvalidArgument, UnitUnknown, near

if TYPE_CHECKING:
    from ..store import AtlasStore
    from .spec import GraphSpec

__all__ = ["LengthUnits", "check_lengths", "unit_of"]

type LengthUnits = Literal["um", "source"]

_SHOWN = 5


def check_lengths(
    store: AtlasStore, spec: GraphSpec, sections: Sequence[str], units: LengthUnits = "um"
) -> None:
    """Refuse lengths that do not mean the same in all sections, as `region` does.

    Parameters
    ----------
    store : AtlasStore
        The atlas.
    spec : GraphSpec
        The graph wanted; nothing is refused where it has no `radius`.
    sections : sequence of str
        Names.
    units : {'um', 'source'}
        Micrometers, or the unit of the source for sections whose unit is unknown.

    Raises
    ------
    UnitUnknown
        Micrometers asked of a section of unknown unit.
    InvalidArgument
        Units of the source asked of one whose unit is known, or another word.
    """
    if units not in ("um", "source"):
        raise InvalidArgument(
            f"units 'um' or 'source' are wanted, but got {units!r}.{near(units, ('um', 'source'))}"
        )
    if spec.radius is None:
        return
    unknown = [name for name in sections if store.section(name).um_per_unit is None]
    if units == "um" and unknown:
        raise UnitUnknown(
            f"a radius in micrometers is wanted, but got {_count(unknown)} of unknown unit: "
            f"{_listed(unknown)}; name the others alone with section=, give a radius in the units "
            "of the source with units='source', or ingest these again with um_per_unit"
        )
    if units == "source":
        known = [name for name in sections if name not in set(unknown)]
        if known:
            raise InvalidArgument(
                "units='source' is for sections of unknown unit, but got "
                f"{_count(known)} in micrometers: {_listed(known)}; leave them out, or units"
            )


def unit_of(um_per_unit: float | None) -> str:
    """Name the unit of the positions of a section as graphs record it.

    Examples
    --------
    >>> unit_of(0.5), unit_of(None)
    ('micrometers', 'source_units')
    """
    return "source_units" if um_per_unit is None else "micrometers"


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} section{'s' if len(names) > 1 else ''}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(map(repr, names[:_SHOWN])) + (f" and {more} others" if more > 0 else "")
