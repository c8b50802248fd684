"""Labels of cells from one mixture over all sections: their number, refinement and joins."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..components.projection import CellsDone, Progress, cells_counted
from ..rows.file import RowFile, kept_blocks
from ..sampling.neighborhood import GraphRows
from .cells import Masks
from .mixture import Covariance, Mixture, fit_mixture
from .mixture_start import Blocks
from .resolution import component_tree
from .smoothing import majority
from .stability import NUMBERS, DomainNumber, choose_number

__all__ = [
    "GraphOf",
    "Labels",
    "Readout",
    "Tables",
    "choose",
    "cluster",
    "coarser",
    "joined",
    "read_out",
    "refined",
    "renamed",
    "sizes_of",
]

BLOCK_ROWS = 16_384
# Embeddings hold many directions of little variance, which a tied mixture would weigh like the
# others; most of its local optima come from them (docs/decisions/003-domain-baseline.md).
RIDGE = 0.05
STARTS = 20

type Tables = Mapping[str, tuple[RowFile, Mapping[str, str]]]
"""The embedding of each section, and what it was computed from."""
type GraphOf = Callable[[str], GraphRows]
"""The neighbors of a section's cells, by its name."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of one section, before they are written.

    Attributes
    ----------
    codes : ndarray (n_obs,) int16
        -1 where a cell takes no part.
    confidence : ndarray (n_obs,) float32
        Posterior probability of the component behind the label, before any refinement; 0 where
        there is no label.
    """

    codes: NDArray[np.int16]
    confidence: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Readout:
    """Domains of all sections, before they are written.

    Attributes
    ----------
    mixture : Mixture
        Component i is domain i: most cells first.
    labels : mapping of str to Labels
        By section, refined where that was wanted.
    choice : DomainNumber or None
        What speaks for the number, where it was chosen.
    """

    mixture: Mixture
    labels: Mapping[str, Labels]
    choice: DomainNumber | None

    @property
    def n_domains(self) -> int:
        """Number of domains."""
        return self.mixture.n_components

    def levels(
        self, section: str, table: RowFile, resolutions: Sequence[int]
    ) -> Iterator[tuple[int, Labels]]:
        """Yield the labels of a section at every number of domains, the finest first."""
        found = self.labels[section]
        sizes = sizes_of(self.labels, self.n_domains)
        for level, groups in coarser(self.mixture, sizes, resolutions).items():
            finest = level == self.n_domains
            yield level, found if finest else joined(found, groups, self.mixture, table)


def _blocks(tables: Tables, masks: Masks, read: Callable[[], None] | None = None) -> Blocks:
    def blocks() -> Iterator[NDArray[np.float32]]:
        for name, (table, _) in tables.items():
            for block in kept_blocks(table, masks.get(name), BLOCK_ROWS):
                yield block
                if read is not None:
                    read()

    return blocks


def _n_rows(tables: Tables, masks: Masks) -> int:
    return sum(
        int(masks[name].sum()) if name in masks else table.n_rows
        for name, (table, _) in tables.items()
    )


def _spread[T: np.generic](kept: NDArray[T], mask: NDArray[np.bool_] | None, rest: T) -> NDArray[T]:
    """Return values of kept cells as values of all cells."""
    if mask is None:
        return kept
    out = np.full(len(mask), rest, dtype=kept.dtype)
    out[mask] = kept
    return out


def choose(
    tables: Tables,
    masks: Masks,
    covariance: Covariance,
    seed: int,
    progress: Progress | None,
) -> DomainNumber:
    """Choose the number of domains by stability over rows of all sections."""
    return choose_number(
        _blocks(tables, masks),
        n_rows=_n_rows(tables, masks),
        numbers=NUMBERS,
        covariance=covariance,
        ridge=RIDGE,
        seed=seed,
        progress=progress,
    )


def cluster(
    tables: Tables,
    masks: Masks,
    n_domains: int,
    covariance: Covariance,
    seed: int,
    *,
    progress: Progress | None = None,
) -> tuple[Mixture, dict[str, Labels]]:
    """Fit one mixture over all sections and label every cell that takes part."""
    at = (0, 1)

    def turned(done: int, total: int) -> None:
        nonlocal at
        at = done, total
        again()

    def again() -> None:
        # a pass over many cells takes long: every block says that work goes on
        if progress is not None:
            progress("cluster", *at)

    mixture = fit_mixture(
        _blocks(tables, masks, again),
        n_domains,
        n_rows=_n_rows(tables, masks),
        covariance=covariance,
        ridge=RIDGE,
        n_init=STARTS,
        seed=seed,
        turned=turned,
    )
    done = cells_counted(progress, "label", sum(table.n_rows for table, _ in tables.values()))
    return mixture, {
        name: _labels(mixture, table, masks.get(name), done) for name, (table, _) in tables.items()
    }


def _labels(
    mixture: Mixture, table: RowFile, mask: NDArray[np.bool_] | None, done: CellsDone
) -> Labels:
    """Label the cells of one section that take part."""
    parts = []
    for block in kept_blocks(table, mask, BLOCK_ROWS):
        parts.append(mixture.assign(block))
        done(min(BLOCK_ROWS, table.n_rows - BLOCK_ROWS * (len(parts) - 1)))
    codes, confidence = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Labels(_spread(codes, mask, np.int16(-1)), _spread(confidence, mask, np.float32(0.0)))


def read_out(
    tables: Tables,
    masks: Masks,
    n_domains: int | Literal["auto"],
    *,
    covariance: Covariance,
    refine: GraphOf | None,
    seed: int,
    progress: Progress | None,
) -> Readout:
    """Turn embeddings into domains, most cells first.

    Parameters
    ----------
    tables : mapping
        Embeddings.
    masks : mapping
        Cells that take part.
    n_domains : int or "auto"
    covariance : {"tied", "full"}
    refine : callable, optional
        Gives the neighbors that vote on a label; no vote without.
    seed : int
    progress : callable, optional

    Returns
    -------
    Readout
    """
    choice = choose(tables, masks, covariance, seed, progress) if n_domains == "auto" else None
    wanted = int(n_domains) if choice is None else choice.n_domains
    mixture, labels = cluster(tables, masks, wanted, covariance, seed, progress=progress)
    if refine is not None:
        labels = refined(refine, labels, wanted, progress)
    order = np.argsort(-sizes_of(labels, wanted), kind="stable")  # ties by component number
    names = np.argsort(order).astype(np.int16)
    named = {name: renamed(found, names) for name, found in labels.items()}
    return Readout(mixture.reordered(order), named, choice)


def refined(
    graph_of: GraphOf,
    labels: Mapping[str, Labels],
    n_domains: int,
    progress: Progress | None = None,
) -> dict[str, Labels]:
    """Vote among neighbors; the confidence stays that of the cell's own posterior."""
    done = cells_counted(progress, "refine", sum(len(found.codes) for found in labels.values()))
    return {
        name: Labels(majority(graph_of(name), found.codes, n_domains, done=done), found.confidence)
        for name, found in labels.items()
    }


def sizes_of(labels: Mapping[str, Labels], n_domains: int) -> NDArray[np.int64]:
    """Count the cells of each component over all sections."""
    total = np.zeros(n_domains, dtype=np.int64)
    for found in labels.values():
        total += np.bincount(found.codes[found.codes >= 0], minlength=n_domains)
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


def renamed(found: Labels, names: NDArray[np.int16]) -> Labels:
    """Give each label another number; cells without one stay so."""
    return Labels(np.append(names, np.int16(-1))[found.codes], found.confidence)


def joined(found: Labels, groups: NDArray[np.int16], mixture: Mixture, table: RowFile) -> Labels:
    """Labels of joined components; the confidence is the probability of the whole group."""
    n_groups = int(groups.max()) + 1
    member = np.eye(n_groups)[groups]
    parts = []
    for block in table.blocks(BLOCK_ROWS):
        probability, _ = mixture.posterior(block)
        own = groups[probability.argmax(axis=1)]
        parts.append((probability @ member)[np.arange(len(own)), own].astype(np.float32))
    sure = np.minimum(np.concatenate(parts), np.float32(1.0))
    sure[found.codes < 0] = 0.0
    return renamed(Labels(found.codes, sure), groups)
