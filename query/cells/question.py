"""What is asked, as a value."""

from dataclasses import dataclass
from typing import cast

from ..filters.predicate import And, In, Not, Or, Predicate, quote
from ..geometry.by_section import PlacesBySection
from ..geometry.places import Place

# Values of a list that are printed one by one.
_SHOWN = 30


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, as a value: equal questions give equal answers on one snapshot."""

    predicate: Predicate
    """What each cell must satisfy."""
    place: Place | PlacesBySection | None = None
    """Where it must lie, in the coordinates of its section; ask `place_of(question, section)`."""
    genes: tuple[str, ...] | None = None
    """Genes handed out; None is all."""
    domain_key: str | None = None
    """What `domain` stands for."""

    def __str__(self) -> str:
        words = [str(_shortened(self.predicate))] if self.predicate != And(()) else []
        where = str(self.place)
        alone = where.startswith(("within ", "touching "))
        words += [where if alone else f"in {where}"] if self.place is not None else []
        if self.genes is not None:
            words.append(
                f"genes {', '.join(self.genes[:5])}{' ...' if len(self.genes) > 5 else ''}"
            )
        return "; ".join(words) or "everything"


@dataclass(frozen=True, slots=True)
class _LongList:
    """A list too long to print, in words."""

    test: In

    def __str__(self) -> str:
        first = ", ".join(map(repr, self.test.values[:3]))
        more = len(self.test.values) - 3
        return f"{quote(self.test.column)} in [{first}, and {more:,} more]"


def _shortened(predicate: Predicate) -> object:
    """Copy a predicate whose long lists print by their first values and their length."""
    if isinstance(predicate, In):
        return _LongList(predicate) if len(predicate.values) > _SHOWN else predicate
    if isinstance(predicate, Not):
        return Not(cast("Predicate", _shortened(predicate.part)))
    if isinstance(predicate, And | Or):
        parts = tuple(cast("Predicate", _shortened(part)) for part in predicate.parts)
        return And(parts) if isinstance(predicate, And) else Or(parts)
    return predicate
