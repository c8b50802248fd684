"""Plots as attributes: `selection.pl.spatial(...)`, `gene.pl.spatial()`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..cells.selection import Selection
    from ..expression.view import GeneView

__all__ = ["GenePlots", "SelectionPlots"]


@dataclass(frozen=True, slots=True)
class SelectionPlots:
    """Figures of the cells of one answer; each loads matplotlib when it is drawn."""

    selection: "Selection"

    def spatial(self, color: str | Sequence[str] | None = None, **options: Any) -> "Figure":
        """Draw cells where they lie, a panel a section; see `tisseract.pl.spatial`."""
        from .spatial import spatial

        return spatial(self.selection, color, **options)

    def dotplot(
        self,
        var_names: Sequence[str] | Mapping[str, Sequence[str]],
        groupby: str,
        **options: Any,
    ) -> "Figure":
        """Draw genes by groups; see `tisseract.pl.dotplot`."""
        from .dotplot import dotplot

        return dotplot(self.selection, var_names, groupby, **options)

    def composition(self, groupby: str, **options: Any) -> "Figure":
        """Draw how cells divide among labels over time; see `tisseract.pl.composition`."""
        from .composition import composition

        return composition(self.selection, groupby, **options)

    def embedding(
        self, basis: str, color: str | Sequence[str] | None = None, **options: Any
    ) -> "Figure":
        """Draw cells by an embedding; see `tisseract.pl.embedding`."""
        from .embedding import embedding

        return embedding(self.selection, basis, color, **options)


@dataclass(frozen=True, slots=True)
class GenePlots:
    """Figures of one gene."""

    gene: "GeneView"

    def spatial(self, **options: Any) -> "Figure":
        """Draw the gene in every section that was asked; see `tisseract.pl.spatial`."""
        from ..cells.verbs import select
        from .spatial import spatial

        chosen = select(self.gene.store, section=list(self.gene.sections))
        return spatial(chosen, self.gene.name, **options)

    def dotplot(self, groupby: str, **options: Any) -> "Figure":
        """Draw the gene by groups of cells; see `tisseract.pl.dotplot`."""
        from ..cells.verbs import select
        from .dotplot import dotplot

        chosen = select(self.gene.store, section=self.gene.measured_in)
        return dotplot(chosen, [self.gene.name], groupby, **options)
