"""What is asked, as a value."""

from dataclasses import dataclass

from ..filters.predicate import And, Predicate
from ..geometry.by_section import PlacesBySection
from ..geometry.places import Place


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
        words = [str(self.predicate)] if self.predicate != And(()) else []
        words += [f"in {self.place}"] if self.place is not None else []
        if self.genes is not None:
            words.append(
                f"genes {', '.join(self.genes[:5])}{' ...' if len(self.genes) > 5 else ''}"
            )
        return "; ".join(words) or "everything"
