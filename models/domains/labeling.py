"""Labels of cells from one mixture over all sections: their number, refinement and joins."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..components.projection import Progress
from ..rows.file import RowFile
from ..sampling.graph_source import GraphSource
from .mixture import Covariance, Mixture, fit_mixture
from .mixture_start import Blocks
from .resolution import component_tree
from .smoothing import majority
from .stability import NUMBERS, DomainNumber, choose_number

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["Labels", "choose", "cluster", "coarser", "joined", "refined", "sizes_of"]

BLOCK_ROWS = 16_384

type Tables = Mapping[str, tuple[RowFile, Mapping[str, str]]]
"""The embedding of each section, and what it was computed from."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of one section, before they are written."""

    codes: NDArray[np.int16]
    confidence: NDArray[np.float32]


def _blocks(tables: Tables) -> Blocks:
    def blocks() -> Iterator[NDArray[np.float32]]:
        for table, _ in tables.values():
            yield from table.blocks(BLOCK_ROWS)

    return blocks


def _n_rows(tables: Tables) -> int:
    return sum(table.n_rows for table, _ in tables.values())


def choose(
    tables: Tables,
    covariance: Covariance,
    seed: int,
    progress: Progress | None,
) -> DomainNumber:
    """Choose the number of domains by stability over rows of all sections."""
    return choose_number(
        _blocks(tables),
        n_rows=_n_rows(tables),
        numbers=NUMBERS,
        covariance=covariance,
        seed=seed,
        progress=progress,
    )


def cluster(
    tables: Tables,
    n_domains: int,
    covariance: Covariance,
    seed: int,
) -> tuple[Mixture, dict[str, Labels]]:
    """Fit one mixture over all sections and label every cell."""
    mixture = fit_mixture(
        _blocks(tables), n_domains, n_rows=_n_rows(tables), covariance=covariance, seed=seed
    )
    labels: dict[str, Labels] = {}
    for name, (table, _) in tables.items():
        parts = [mixture.assign(block) for block in table.blocks(BLOCK_ROWS)]
        codes, confidence = zip(*parts, strict=True)
        labels[name] = Labels(np.concatenate(codes), np.concatenate(confidence))
    return mixture, labels


def refined(
    store: "AtlasStore", graph: GraphSource, labels: Mapping[str, Labels], n_domains: int
) -> dict[str, Labels]:
    """Vote among neighbors; the confidence stays that of the cell's own posterior."""
    return {
        name: Labels(
            majority(graph.open(store, name).graph, found.codes, n_domains), found.confidence
        )
        for name, found in labels.items()
    }


def sizes_of(labels: Mapping[str, Labels], n_domains: int) -> NDArray[np.int64]:
    """Count the cells of each component over all sections."""
    total = np.zeros(n_domains, dtype=np.int64)
    for found in labels.values():
        total += np.bincount(found.codes, minlength=n_domains)
    return total


def coarser(
    mixture: Mixture, sizes: NDArray[np.int64], resolutions: Sequence[int]
) -> dict[int, NDArray[np.int16]]:
    """Group of each component at each number of domains, most cells first; the finest too."""
    n_domains = mixture.n_components
    groups = {n_domains: np.arange(n_domains, dtype=np.int16)}
    tree = component_tree(mixture) if resolutions else None
    for level in resolutions:
        assert tree is not None
        cut = tree.cut(level)
        cells = np.bincount(cut, weights=sizes, minlength=level)
        groups[level] = np.argsort(np.argsort(-cells, kind="stable")).astype(np.int16)[cut]
    return groups


def joined(found: Labels, groups: NDArray[np.int16], mixture: Mixture, table: RowFile) -> Labels:
    """Labels of joined components; the confidence is the probability of the whole group."""
    n_groups = int(groups.max()) + 1
    member = np.eye(n_groups)[groups]
    parts = []
    for block in table.blocks(BLOCK_ROWS):
        probability, _ = mixture.posterior(block)
        own = groups[probability.argmax(axis=1)]
        parts.append((probability @ member)[np.arange(len(own)), own].astype(np.float32))
    return Labels(groups[found.codes], np.minimum(np.concatenate(parts), np.float32(1.0)))
