"""Labels of cells from one mixture over all sections: their number, refinement and joins."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..components.projection import CellsDone, Progress, cells_counted
from ..rows.file import RowFile, kept_blocks
from ..sampling.neighborhood import GraphRows
from .cells import Masks
from .mixture import Covariance, Mixture
from .mixture_fit import fit_mixture
from .resolution import component_tree
from .shifts import Shifts, fit_shifts
from .smoothing import majority
from .stability import NUMBERS, DomainNumber, choose_number

__all__ = [
    "GraphOf",
    "Labels",
    "Readout",
    "Tables",
    "choose",
    "cluster",
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
    shifts : mapping of str to ndarray (d,)
        What is taken off the rows of each section before the mixture sees them.
    choice : DomainNumber or None
        What speaks for the number, where it was chosen.
    """

    mixture: Mixture
    labels: Mapping[str, Labels]
    shifts: Shifts
    choice: DomainNumber | None

    @property
    def n_domains(self) -> int:
        """Number of domains."""
        return self.mixture.n_components

    def coarser(self, resolutions: Sequence[int]) -> dict[int, NDArray[np.int16]]:
        """Group of each component at each number of domains, most cells first; the finest too."""
        groups = {self.n_domains: np.arange(self.n_domains, dtype=np.int16)}
        if resolutions:
            tree, sizes = component_tree(self.mixture), sizes_of(self.labels, self.n_domains)
            for level in resolutions:
                cut = tree.cut(level)
                cells = np.bincount(cut, weights=sizes, minlength=level)
                groups[level] = np.argsort(np.argsort(-cells, kind="stable")).astype(np.int16)[cut]
        return groups

    def levels(
        self, section: str, table: RowFile, groups: Mapping[int, NDArray[np.int16]]
    ) -> Iterator[tuple[int, Labels]]:
        """Yield the labels of a section at every number of domains; `groups` as of `coarser`."""
        for level, joins in groups.items():
            finest = level == self.n_domains
            yield level, self.labels[section] if finest else self._joined(section, table, joins)

    def _joined(self, section: str, table: RowFile, groups: NDArray[np.int16]) -> Labels:
        """Labels of joined components; the confidence is the probability of the whole group."""
        found, member = self.labels[section], np.eye(int(groups.max()) + 1)[groups]
        parts = []
        for block in _shifted(table.blocks(BLOCK_ROWS), self.shifts.get(section)):
            probability, _ = self.mixture.posterior(block)
            own = groups[probability.argmax(axis=1)]
            parts.append((probability @ member)[np.arange(len(own)), own].astype(np.float32))
        sure = np.minimum(np.concatenate(parts), np.float32(1.0))
        sure[found.codes < 0] = 0.0
        return renamed(Labels(found.codes, sure), groups)


def _shifted(
    blocks: Iterable[NDArray[np.float32]], shift: NDArray[np.float64] | None
) -> Iterator[NDArray[np.floating]]:
    """Yield rows less the shift of their section."""
    for block in blocks:
        yield block if shift is None else block - shift


def _pieces(
    tables: Tables, masks: Masks, read: Callable[[], None] | None = None
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the rows that take part, with the name of their section."""
    for name, (table, _) in tables.items():
        for block in kept_blocks(table, masks.get(name), BLOCK_ROWS):
            yield name, block
            if read is not None:
                read()


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
        lambda: (block for _, block in _pieces(tables, masks)),
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
) -> tuple[Mixture, dict[str, Labels], Shifts]:
    """Fit one mixture over all sections, place them beside each other, label their cells."""
    at = (0, 1)

    def turned(done: int, total: int) -> None:
        nonlocal at
        at = done, total
        again()

    def again() -> None:
        # a pass over many cells takes long: every block says that work goes on
        if progress is not None:
            progress("cluster", *at)

    def pieces() -> Iterator[tuple[str, NDArray[np.float32]]]:
        return _pieces(tables, masks, again)

    shifts: Shifts = {}
    mixture = fit_mixture(
        lambda: (block for _, block in pieces()),
        n_domains,
        n_rows=_n_rows(tables, masks),
        covariance=covariance,
        ridge=RIDGE,
        n_init=STARTS,
        seed=seed,
        turned=turned,
    )
    if len(tables) > 1:
        mixture, shifts = fit_shifts(mixture, pieces, ridge=RIDGE)
    done = cells_counted(progress, "label", sum(table.n_rows for table, _ in tables.values()))
    labels = {
        name: _labels(mixture, table, masks.get(name), shifts.get(name), done)
        for name, (table, _) in tables.items()
    }
    return mixture, labels, shifts


def _labels(
    mixture: Mixture,
    table: RowFile,
    mask: NDArray[np.bool_] | None,
    shift: NDArray[np.float64] | None,
    done: CellsDone,
) -> Labels:
    """Label the cells of one section that take part."""
    parts = []
    for block in _shifted(kept_blocks(table, mask, BLOCK_ROWS), shift):
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
    mixture, labels, shifts = cluster(tables, masks, wanted, covariance, seed, progress=progress)
    if refine is not None:
        labels = refined(refine, labels, wanted, progress)
    order = np.argsort(-sizes_of(labels, wanted), kind="stable")  # ties by component number
    names = np.argsort(order).astype(np.int16)
    named = {name: renamed(found, names) for name, found in labels.items()}
    return Readout(mixture.reordered(order), named, shifts, choice)


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


def renamed(found: Labels, names: NDArray[np.int16]) -> Labels:
    """Give each label another number; cells without one stay so."""
    return Labels(np.append(names, np.int16(-1))[found.codes], found.confidence)
