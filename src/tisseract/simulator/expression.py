"""Gene programs and counts: what a cell of a type in a domain expresses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .plan import SimulationPlan
from .tissue import DOMAINS

__all__ = ["CELL_TYPES", "COMPOSITION", "Programs", "draw_counts", "draw_types"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CELL_TYPES = ("progenitor", "neuron_a", "neuron_b", "glia", "vascular", "stromal", "invader")

# Share of each cell type (columns) in each domain (rows): types live in several domains and domains
# hold several types, so a cell's own expression cannot tell where it is, but its neighbors' can.
COMPOSITION: Floats = np.array(
    [
        # prog  neuA  neuB  glia  vasc  strom  inva
        [0.02, 0.08, 0.06, 0.22, 0.20, 0.42, 0.00],  # marginal
        [0.05, 0.52, 0.12, 0.16, 0.08, 0.07, 0.00],  # plate
        [0.20, 0.22, 0.08, 0.42, 0.06, 0.02, 0.00],  # intermediate
        [0.56, 0.10, 0.06, 0.16, 0.08, 0.04, 0.00],  # ventricular
        [0.10, 0.06, 0.48, 0.18, 0.10, 0.08, 0.00],  # basal
        [0.06, 0.40, 0.36, 0.08, 0.06, 0.04, 0.00],  # core
        [0.16, 0.08, 0.14, 0.10, 0.40, 0.12, 0.00],  # shell
        [0.10, 0.06, 0.04, 0.06, 0.12, 0.26, 0.36],  # niche
    ]
)

_TYPE_SHARE, _DOMAIN_SHARE = 0.42, 0.22  # of all genes; a twentieth each for gradient and clock
_TYPE_LOG_FOLD, _DOMAIN_LOG_FOLD = (1.2, 2.2), (0.4, 0.9)
_GRADIENT_LOG_FOLD, _CLOCK_LOG_FOLD = 1.8, 1.1


@dataclass(frozen=True, slots=True)
class Programs:
    """Expected expression of every gene, as logarithms that add up.

    Attributes
    ----------
    symbols : tuple of str
        One name per gene of the universe; it says what the gene does (``Niche01``, ``Clock02``).
    log_mean : ndarray, shape (n_types, n_domains, n_all_genes)
        Log relative expression of a type in a domain.
    gradient, clock : ndarray, shape (n_all_genes,)
        Log fold over the whole gradient, and over the whole time course; 0 for most genes.
    """

    symbols: tuple[str, ...]
    log_mean: Floats
    gradient: Floats
    clock: Floats

    @classmethod
    def of(cls, plan: SimulationPlan) -> Programs:
        """Draw the programs of a plan: the same for all its sections."""
        n_all = plan.shared + plan.n_embryos * (plan.n_genes - plan.shared)
        rng = np.random.default_rng([plan.seed, 4])
        symbols, kind, member = _roles(n_all)
        base = rng.normal(0, 0.8, n_all)
        log_mean = np.broadcast_to(base, (len(CELL_TYPES), len(DOMAINS), n_all)).copy()
        types = rng.uniform(*_TYPE_LOG_FOLD, n_all)
        domains = rng.uniform(*_DOMAIN_LOG_FOLD, n_all)
        for code in range(len(CELL_TYPES)):
            genes = np.flatnonzero((kind == 0) & (member == code))
            log_mean[code, :, genes] += types[genes, None]
        for code in range(len(DOMAINS)):
            genes = np.flatnonzero((kind == 1) & (member == code))
            log_mean[:, code, genes] += domains[genes]
        order = _spread(rng.permutation(n_all), symbols, plan.shared)
        return cls(
            symbols=tuple(symbols[i] for i in order),
            log_mean=log_mean[:, :, order],
            gradient=np.where(kind == 2, _GRADIENT_LOG_FOLD, 0.0)[order],
            clock=np.where(kind == 3, _CLOCK_LOG_FOLD, 0.0)[order],
        )


def _spread(order: Ints, symbols: list[str], shared: int) -> Ints:
    """Move the first gene of every kind (``...01``) into the part that all runs measure."""
    first = np.array([symbols[gene].endswith("01") for gene in order])
    keep = np.argsort(~first, kind="stable")[: min(int(first.sum()), shared)]
    rest = np.setdiff1d(np.arange(len(order)), keep)
    return np.concatenate([order[keep], order[rest]])


def _roles(n_all: int) -> tuple[list[str], Ints, Ints]:
    """Name genes; give each a kind (0 type, 1 domain, 2 gradient, 3 clock, 4 none), a member."""
    counts = [round(_TYPE_SHARE * n_all), round(_DOMAIN_SHARE * n_all)]
    counts += [max(2, n_all // 20), max(2, n_all // 20)]
    kind = np.repeat(np.arange(5), [*counts, n_all - sum(counts)])
    within = np.arange(n_all) - np.concatenate([[0], np.cumsum(counts)])[kind]
    sizes = np.array([len(CELL_TYPES), len(DOMAINS), 1, 1, 1])[kind]
    member, rank = within % sizes, within // sizes + 1
    stems = ("", "", "Grad", "Clock", "House")
    names = []
    for k, m, r in zip(kind.tolist(), member.tolist(), rank.tolist(), strict=True):
        stem = CELL_TYPES[m] if k == 0 else DOMAINS[m] if k == 1 else stems[k]
        names.append(f"{stem.replace('_', '').capitalize()}{r:02d}")
    return names, kind, member


def draw_types(domains: Ints, rng: np.random.Generator) -> Ints:
    """Draw a cell type per cell from the composition of its domain: int64 (n,)."""
    cumulative = np.cumsum(COMPOSITION, axis=1)
    cumulative /= cumulative[:, -1:]
    return np.asarray(
        (rng.random(len(domains))[:, None] > cumulative[domains, :-1]).sum(axis=1), dtype=np.int64
    )


def draw_counts(
    mean: npt.NDArray[np.float32], dispersion: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw negative-binomial counts with the given means (Gamma then Poisson): same shape."""
    shape = np.float32(1 / dispersion)
    rate = rng.standard_gamma(shape, mean.shape, dtype=np.float32)
    rate *= mean
    rate *= np.float32(dispersion)
    return rng.poisson(rate)
