"""How sections lie beside each other once what they are made of is taken into account.

A section is centered on its own mean, which takes away what its instrument added, and with it what
its composition adds: where half of a section is one domain, all of its cells move away from that
domain. With domains at hand the two can be told apart: what is left of a section's mean once each
cell's domain is subtracted is no composition.

    mean of the section = mean of its domains, as many cells as each has + shift
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .mixture import Mixture
from .mixture_fit import refit_mixture
from .mixture_start import Matrix

__all__ = ["Shifts", "fit_shifts", "section_shifts"]

type Shifts = Mapping[str, Matrix]
"""What is taken off every row of a section, `(d,)` float64, by its name; nothing without."""
type Pieces = Callable[[], Iterable[tuple[str, NDArray[np.floating]]]]
"""Yields (section, block of its rows), the same ones at every call."""

# Cells whose neighborhoods overlap tell the same: four hops over 6 neighbors reach about 60 cells.
# A section of a few hundred cells is trusted less than its number says.
PRIOR_CELLS = 60
ROUNDS = 5  # each moves sections a fifth to a third as far as the one before
SETTLED = 0.02  # standard deviations within a domain


@dataclass(slots=True)
class _Section:
    """Sums over the rows of one section."""

    n_rows: int
    total: Matrix
    cells: Matrix

    def shift(self, means: Matrix) -> Matrix:
        """Return what the section's mean has beyond its domains, drawn towards nothing."""
        beyond = (self.total - self.cells @ means) / self.n_rows
        return np.asarray(beyond * (self.n_rows / (self.n_rows + PRIOR_CELLS)))


def fit_shifts(
    mixture: Mixture, pieces: Pieces, *, ridge: float, rounds: int = ROUNDS
) -> tuple[Mixture, dict[str, Matrix]]:
    """Tell sections' own shifts from their composition, and fit the mixture without them.

    Parameters
    ----------
    mixture : Mixture
        Fitted to the rows as they are.
    pieces : callable
        Yields (section, rows `(m, d)`), the same ones at every call.
    ridge : float
        See `fit_mixture`.
    rounds : int
        Estimates of all shifts, at most.

    Returns
    -------
    mixture : Mixture
        Of the rows less the shift of their section.
    shifts : dict of str to ndarray (d,) float64
        Empty where no section moved by more than 0.02 standard deviations.

    Notes
    -----
    The model is `x = mean of the domain + shift of the section + noise` with a shift drawn from
    nothing with the weight of 60 cells, fitted by conditional maximization (Meng and Rubin,
    Biometrika 80, 1993) in turn with the mixture; as Harmony's correction (Korsunsky et al., Nature
    Methods 16, 2019) with one shift for all domains. A single section has no shift.
    Memory: 8 (d + K) bytes a section beside a block. Passes: one a round for shifts, one for second
    moments, and the mixture's own.

    Examples
    --------
    >>> import numpy as np
    >>> from tisseract.models.domains.mixture_fit import fit_mixture
    >>> rng = np.random.default_rng(0)
    >>> a = np.repeat([0.0, 9.0], [300, 700])[:, None] + rng.normal(size=(1000, 1))
    >>> b = np.repeat([0.0, 9.0], [700, 300])[:, None] + rng.normal(size=(1000, 1))
    >>> rows = {"a": a - a.mean(), "b": b - b.mean()}
    >>> before = fit_mixture(lambda: rows.values(), 2, n_rows=2000, covariance="tied")
    >>> after, shifts = fit_shifts(before, rows.items, ridge=1e-6)
    >>> float((shifts["b"] - shifts["a"]).round(1)[0])  # 3.6 was lost by centering
    3.3
    """
    shifts: dict[str, Matrix] = {}
    for _ in range(rounds):
        found = section_shifts(mixture, pieces, shifts)
        if _moved(mixture, shifts, found) < SETTLED:
            break
        shifts = found

        def blocks(taken: Shifts = shifts) -> Iterable[Matrix]:
            return (rows - taken[name] for name, rows in pieces())

        mixture = refit_mixture(blocks, mixture, ridge=ridge)
    return mixture, shifts


def section_shifts(mixture: Mixture, pieces: Pieces, shifts: Shifts) -> dict[str, Matrix]:
    """Estimate the shift of every section anew, by the domains its cells have now.

    Parameters
    ----------
    mixture : Mixture
        Also of other sections.
    pieces : callable
        Yields (section, rows `(m, d)`).
    shifts : mapping of str to ndarray (d,)
        The estimate before; none where a section is absent.

    Returns
    -------
    dict of str to ndarray (d,) float64
        Of the sections that have rows. Memory: 8 (d + K) bytes a section beside a block.
    """
    sums: dict[str, _Section] = {}
    k, d = mixture.means.shape
    for name, rows in pieces():
        own = sums.setdefault(name, _Section(0, np.zeros(d), np.zeros(k)))
        probability, _ = mixture.posterior(rows - shifts[name] if name in shifts else rows)
        own.n_rows += len(rows)
        own.total += rows.sum(axis=0, dtype=np.float64)
        own.cells += probability.sum(axis=0)
    return {name: own.shift(mixture.means) for name, own in sums.items() if own.n_rows}


def _moved(mixture: Mixture, before: Shifts, after: Shifts) -> float:
    """Return how far the section that moved most did, in standard deviations within a domain."""
    steps = np.array([shift - before.get(name, 0.0) for name, shift in after.items()])
    return max(float(np.linalg.norm(steps @ factor, axis=1).max()) for factor in mixture.factors)
