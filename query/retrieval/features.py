"""What a cell is described by: a stored embedding, or directions of variable genes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..cells.rows import RunArray, coalesce, pairs_of, rows_of, within
from ..expression.choice import choose_genes
from .cells import blocks, evenly, log_values, taking_part

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ...atlas.store import AtlasStore
    from .parameters import IndexParameters

# Cells on which genes and directions are chosen, over all sections together.
_SAMPLE = 20_000
# Genes that sections must share; with fewer the directions say little.
_FEWEST_GENES = 10
# Added to the deviation of a gene by which it is divided: genes seen in few cells stay small.
_FLOOR = 0.1
# Rows apart at which two runs of an embedding are read as one.
_GAP = 256


class Features(Protocol):
    """Numbers that describe a cell."""

    @property
    def width(self) -> int:
        """Numbers a cell."""
        ...

    def read(self, section: "Section", runs: RunArray) -> NDArray[np.float32]:
        """Describe some rows, (m, width); not centered."""
        ...

    def inputs(self, section: str) -> dict[str, str]:
        """Tell what descriptions come from beside the section itself: name -> attempt."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Rows of a stored embedding."""

    store: "AtlasStore"
    key: str
    width: int

    @classmethod
    def of(cls, store: "AtlasStore", key: str, sections: Sequence[str]) -> "Embedded":
        """Find an embedding of sections.

        Raises
        ------
        DerivedNotFound, StaleDerived
            A section has none, or it was computed from what was replaced since.
        InvalidArgument
            Sections whose embeddings come from different runs.
        """
        entries = [store.derived("embedding", key, name) for name in sections]
        runs = {entry.run for entry in entries}
        widths = {int(entry.info["n_dims"]) for entry in entries if "n_dims" in entry.info}
        if len(runs) > 1 or len(widths) > 1:
            raise InvalidArgument(
                f"an embedding {key!r} of one run in all sections is wanted, but got runs "
                f"{', '.join(sorted(map(str, runs)))}; embed all sections with one of them"
            )
        if widths:
            return cls(store, key, widths.pop())
        from ...atlas.derived_read import read_embedding

        return cls(store, key, read_embedding(store, key, sections[0], [(0, 1)]).shape[1])

    def read(self, section: "Section", runs: RunArray) -> NDArray[np.float32]:
        """Read the embedding of some rows, (m, width)."""
        from ...atlas.derived_read import read_embedding

        wide = coalesce(runs, _GAP)
        values = read_embedding(self.store, self.key, section.name, pairs_of(wide))
        return values if len(wide) == len(runs) else values[within(rows_of(runs), wide)]

    def inputs(self, section: str) -> dict[str, str]:
        """Name the embedding and its attempt."""
        entry = self.store.derived("embedding", self.key, section)
        return {entry.name: entry.attempt}


@dataclass(frozen=True, slots=True, eq=False)
class Projected:
    """Directions of log-normalized genes; one linear map for all sections."""

    genes: tuple[str, ...]
    """Identifiers, `organism:id` where an organism is known."""
    columns: Mapping[str, NDArray[np.int64]]
    """Matrix column of each gene in each section, (g,)."""
    weights: NDArray[np.float32]
    """(g, width)"""

    @property
    def width(self) -> int:
        """Numbers a cell."""
        return int(self.weights.shape[1])

    def read(self, section: "Section", runs: RunArray) -> NDArray[np.float32]:
        """Project some rows, (m, width); reads their counts."""
        values = log_values(section, runs, self.columns[section.name])
        return np.asarray(values @ self.weights, np.float32)

    def inputs(self, section: str) -> dict[str, str]:
        """Tell that it is nothing but the section itself."""
        del section
        return {}

    def over(self, store: "AtlasStore", sections: Sequence[str]) -> "Projected":
        """Find the genes in other sections; all must have measured them."""
        choice = choose_genes(store, sections, self.genes)
        for name in sections:
            lacking = int((~choice.measured[name]).sum())
            if lacking:
                raise InvalidArgument(
                    f"the {len(self.genes)} genes of the index are wanted in section {name!r}, "
                    f"but it lacks {lacking}; build an index of its own with key=, or all anew "
                    "with overwrite=True over the genes that all share"
                )
        return Projected(self.genes, choice.columns, self.weights)


def fit_projection(
    store: "AtlasStore", sections: Sequence[str], parameters: "IndexParameters"
) -> Projected:
    """Choose variable genes that all sections measured, and their main directions.

    Genes are ranked by the variance of their log-normalized values within sections, divided by
    their deviation plus 0.1, and projected on the main directions of what is left: principal
    components of cells centered on their section's mean, on a sample of at most 20,000 cells.

    Raises
    ------
    InvalidArgument
        Sections that share too few genes.

    Notes
    -----
    Memory: the sample's non-zeros, and three dense matrices genes x genes (2,000: 96 MB).
    """
    choice = choose_genes(store, sections, None)
    shared = np.logical_and.reduce([choice.measured[name] for name in sections])
    if int(shared.sum()) < _FEWEST_GENES:
        raise InvalidArgument(
            f"sections that share genes are wanted for space='plain', but {len(sections)} sections "
            f"share {int(shared.sum())}; name those of one panel with sections=, or an embedding "
            "with space="
        )
    kept = choice.restricted(sections, shared)
    moments = _sampled(store, sections, kept.columns, parameters)
    chosen, scale = _most_variable(moments, parameters.n_genes)
    covariance = moments.covariance(chosen) * np.outer(scale, scale)
    values, vectors = np.linalg.eigh(covariance)
    order = np.argsort(-values, kind="stable")[: parameters.n_dims]
    directions = vectors[:, order]
    # The sign of a direction is arbitrary: the largest weight is made positive.
    largest = np.abs(directions).argmax(axis=0)
    directions *= np.sign(directions[largest, np.arange(directions.shape[1])])
    weights = (directions * scale[:, None]).astype(np.float32)
    names = tuple(
        f"{organism}:{gene}" if organism else str(gene)
        for organism, gene in zip(kept.organism[chosen], kept.gene_id[chosen], strict=True)
    )
    columns = {name: kept.columns[name][chosen] for name in sections}
    return Projected(names, columns, weights)


@dataclass(slots=True)
class _Sample:
    """Log-normalized values of sampled cells, section by section."""

    parts: list[Any]
    """(m, g) csr, one a section."""

    def variance(self) -> NDArray[np.float64]:
        """Within sections, averaged over them, (g,)."""
        each = []
        for part in self.parts:
            mean = np.asarray(part.mean(axis=0)).ravel()
            each.append(np.asarray(part.multiply(part).mean(axis=0)).ravel() - mean**2)
        return np.maximum(np.mean(each, axis=0), 0.0)

    def covariance(self, genes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of some genes within sections, averaged over all cells, (g, g)."""
        total = np.zeros((len(genes), len(genes)))
        n = 0
        for part in self.parts:
            some = part[:, genes].astype(np.float64)
            mean = np.asarray(some.mean(axis=0)).ravel()
            total += (some.T @ some).toarray() - some.shape[0] * np.outer(mean, mean)
            n += some.shape[0]
        return total / max(n, 1)


def _sampled(
    store: "AtlasStore",
    sections: Sequence[str],
    columns: Mapping[str, NDArray[np.int64]],
    parameters: "IndexParameters",
) -> _Sample:
    import scipy.sparse as sp

    # Of a thousand sections a few tell as much as all: the same genes vary.
    spread = np.unique(np.linspace(0, len(sections) - 1, 64).astype(int))
    some = [sections[int(i)] for i in spread]
    share = max(_SAMPLE // len(some), 64)
    parts = []
    for name in some:
        section = store.section(name)
        runs = taking_part(store, section, parameters.where, all_cells=parameters.all_cells)
        read = [log_values(section, part, columns[name]) for part in blocks(evenly(runs, share))]
        if read:
            parts.append(sp.csr_array(sp.vstack(read)))
    if not parts:
        raise InvalidArgument(
            f"cells are wanted for an index, but where={parameters.where!r} leaves none; "
            "widen the filter"
        )
    return _Sample(parts)


def _most_variable(sample: _Sample, n_genes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    variance = sample.variance()
    chosen = np.sort(np.argsort(-variance, kind="stable")[:n_genes])
    chosen = chosen[variance[chosen] > 0]
    if len(chosen) == 0:
        raise InvalidArgument("genes that vary are wanted, but got none; see atlas.genes")
    return chosen, 1.0 / (np.sqrt(variance[chosen]) + _FLOOR)
