"""What plots take: an answer, or a whole atlas."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore
    from ..cells.selection import Selection

__all__ = ["selection_of", "with_genes"]


def selection_of(source: "Selection | AtlasStore") -> "Selection":
    """Take an answer as it is, and of an atlas every cell."""
    from ..cells.selection import Selection
    from ..cells.verbs import select

    return source if isinstance(source, Selection) else select(source)


def with_genes(selection: "Selection", genes: Sequence[str]) -> "Selection":
    """Ask for other genes of the same cells; cells that were found are kept."""
    other = type(selection)(selection.store, replace(selection.question, genes=tuple(genes)))
    return other.holding(selection.runs)
