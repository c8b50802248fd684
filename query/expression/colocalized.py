"""Which genes lie where another one lies: statistics of pairs, pooled over sections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import InvalidArgument
from .taking_part import cells_of, enough, require_some, together
from .variability import Normalize, graph_of, measured, with_graph

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from .choice import GeneChoice
    from .view import GeneView

__all__ = ["colocalized_genes"]


def colocalized_genes(
    view: GeneView,
    n: int | None,
    sections: str | Sequence[str] | None,
    *,
    key: str,
    radius: float | None,
    normalize: Normalize,
    rank: str,
    where: str | None,
    all_cells: bool,
    memory_limit: str | int | None,
) -> pd.DataFrame:
    """Build the table of `GeneView.colocalized`."""
    from ...atlas.spatial_statistics import colocalization
    from .choice import choose_genes

    ranks = {"lee": "L", "moran": "I", "pearson": "r"}
    if rank not in ranks:
        raise InvalidArgument(f"rank= one of {', '.join(ranks)} is wanted, but got {rank!r}")
    names = measured(view, sections)
    if sections is None and radius is None:
        names = with_graph(view.store, names, key)
    choice = choose_genes(view.store, names, None)
    means = _Means(len(choice))
    used: list[str] = []
    itself = np.zeros(len(choice), np.bool_)
    for name in names:
        # By column: a section without an organism has a gene of its own for the same name.
        itself |= choice.columns[name] == view.column(name)
        section = view.store.section(name)
        kept = cells_of(view.store, name, where, all_cells=all_cells)
        if not enough(kept):
            continue
        used.append(name)
        graph, cells = graph_of(view.store, name, key, radius)
        found = colocalization(
            graph,
            section,
            view.column(name),
            normalize=normalize,
            cells=together(kept, cells),
            memory_limit=memory_limit,
        )
        column = np.where(choice.measured[name], choice.columns[name], -1)
        parts = np.stack([found.lee, found.moran, found.pearson])[:, column]
        means.add(parts, column >= 0, found.n_obs)
    require_some(used, names)
    table: pd.DataFrame = means.table(choice)
    table = table[~itself & (table["n_sections"] > 0)]
    table = table.sort_values(ranks[rank], ascending=False, kind="stable", ignore_index=True)
    if n is not None:
        table = table.head(n)
    table.attrs = {
        "gene": view.gene_id,
        "snapshot": view.store.snapshot.number,
        "sections": used,
        "graph": key if radius is None else f"radius {radius:g}",
        "units": {"L": "Lee's L", "I": "bivariate Moran's I, neighbors' gene", "r": "Pearson"},
    }
    return table


class _Means:
    """Means over sections of three statistics of each gene, weighted by cells."""

    def __init__(self, n_genes: int) -> None:
        self._weight, self._total = np.zeros(n_genes), np.zeros((3, n_genes))
        self._n_sections = np.zeros(n_genes, np.int64)  # in which a gene varies

    def add(self, parts: NDArray[np.float64], listed: NDArray[np.bool_], n_obs: int) -> None:
        """Add (3, g) statistics of the genes that a section lists; NaN where one does not vary."""
        if np.isnan(parts[:, listed]).all():
            return  # the gene itself does not vary here
        # A gene that was measured and does not vary shares no place with another: zero, so that
        # one seen in a single section does not lead over those seen in all.
        self._weight += listed * n_obs
        self._total += np.nan_to_num(parts, nan=0.0) * listed * n_obs
        self._n_sections += listed & ~np.isnan(parts[0])

    def table(self, choice: GeneChoice) -> pd.DataFrame:
        """Tabulate the genes of a choice with their means, NaN where no section counts."""
        import pandas as pd

        mean = np.full(self._total.shape, np.nan)
        np.divide(self._total, self._weight, out=mean, where=self._weight > 0)
        return pd.DataFrame(
            {
                "gene": np.where(choice.symbol == "", choice.name, choice.symbol).astype(str),
                "gene_id": choice.gene_id.astype(str),
                **dict(zip("LIr", mean, strict=True)),
                "n_sections": self._n_sections,
            }
        )
