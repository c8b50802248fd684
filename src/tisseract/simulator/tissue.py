r"""Where cells are and which domain they belong to: geometry as a function of time.

::

      v = -1   .-------.        marginal
             .'---------'.      plate          (appears after the first timepoint, then thickens)
            /-------------\     intermediate   (appears in the middle of the course)
           |    .---.  niche<-- enters from the right edge, grows, moves inward
           |   ( (o) )     |    ventricular;  shell and core: two nested ellipses
            \   '---'     /     basal
      v = +1  '---------'

Every lattice row is one interval of x, so the site with number *k* is found by bisection and cells
can be made in any order, block by block, without a table of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .plan import SectionPlan, SimulationPlan

__all__ = ["DOMAINS", "Tissue", "permute"]

DOMAINS = (
    "marginal",
    "plate",
    "intermediate",
    "ventricular",
    "basal",
    "core",
    "shell",
    "niche",
)
_MARGINAL, _PLATE, _INTERMEDIATE, _VENTRICULAR, _BASAL, _CORE, _SHELL, _NICHE = range(8)

_ASPECT = 1.25  # height over width of the outline
_SPARE_SITES = 1.03  # 3 % of the lattice sites stay empty, as in real tissue
_JITTER = 0.3  # of the spacing

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tissue:
    """Geometry of one section; holds one row table of O(sqrt(n_cells)) numbers, never the cells.

    Attributes
    ----------
    section : SectionPlan
        What this is the geometry of.
    spacing_um, half_width_um, half_height_um : float
        Lattice constant and half axes, in micrometers.
    bend : ndarray, shape (6,)
        Amplitudes and phases of this embryo's deformation.
    row_y, row_left : ndarray, shape (n_rows,)
        Height and leftmost site of each lattice row, in micrometers.
    row_start : ndarray, shape (n_rows + 1,)
        Number of the first site of each row.
    empty : ndarray, shape (n_sites - n_cells,)
        Sites without a cell, ascending, each less its own rank: 3 % of the cells.
    """

    section: SectionPlan
    spacing_um: float
    half_width_um: float
    half_height_um: float
    bend: Floats
    row_y: Floats
    row_left: Floats
    row_start: Ints
    empty: Ints

    @classmethod
    def of(cls, plan: SimulationPlan, section: SectionPlan) -> Tissue:
        """Lay out `section` with at least ``section.n_cells`` lattice sites inside the outline."""
        rng = np.random.default_rng([plan.seed, 1, section.embryo])
        bend = np.concatenate([rng.uniform(0.02, 0.06, 3), rng.uniform(0, 2 * np.pi, 3)])
        spacing = plan.spacing_um
        scale = _SPARE_SITES
        while True:
            area = scale * section.n_cells * spacing**2 * np.sqrt(3) / 2
            width = float(np.sqrt(area / (np.pi * _ASPECT)))
            tissue = cls._with_size(section, spacing, width, bend)
            spare = int(tissue.row_start[-1]) - section.n_cells
            if spare >= 0:
                edges = np.linspace(0, tissue.row_start[-1], spare + 1)
                holes = np.floor(edges[:-1] + rng.random(spare) * np.diff(edges))
                return replace(tissue, empty=holes.astype(np.int64) - np.arange(spare))
            scale *= 1.02

    @classmethod
    def _with_size(cls, section: SectionPlan, spacing: float, width: float, bend: Floats) -> Tissue:
        height = width * _ASPECT
        y = np.arange(-height, height, spacing * np.sqrt(3) / 2) + spacing * 0.4
        v = np.clip(y / height, -1.0, 1.0)
        center, half = _outline(v, bend)
        offset = (np.arange(len(y)) % 2) * spacing / 2
        first = np.ceil(((center - half) * width - offset) / spacing)
        last = np.floor(((center + half) * width - offset) / spacing)
        per_row = np.maximum(0, last - first + 1).astype(np.int64)
        start = np.concatenate([[0], np.cumsum(per_row)]).astype(np.int64)
        return cls(
            section, spacing, width, height, bend, y, first * spacing + offset, start, start[:0]
        )

    def positions(self, cells: Ints, rng: np.random.Generator) -> Floats:
        """Place cells: float64 (len(cells), 2), micrometers, y down, all coordinates positive."""
        site = cells + np.searchsorted(self.empty, cells, side="right")
        row = np.searchsorted(self.row_start, site, side="right") - 1
        x = self.row_left[row] + (site - self.row_start[row]) * self.spacing_um
        xy = np.column_stack([x, self.row_y[row]])
        xy += rng.normal(0.0, _JITTER * self.spacing_um / 1.5, xy.shape)
        xy += [1.5 * self.half_width_um, 1.1 * self.half_height_um]
        return np.asarray(np.round(xy, 3), dtype=np.float64)

    def _normalized(self, xy: Floats) -> tuple[Floats, Floats]:
        u = xy[:, 0] / self.half_width_um - 1.5
        v = xy[:, 1] / self.half_height_um - 1.1
        center, _ = _outline(np.clip(v, -1, 1), self.bend)
        return np.asarray(u - center), np.asarray(v)

    def domains(self, xy: Floats) -> Ints:
        """Domain of each position: int64 (n,), codes into `DOMAINS`."""
        u, v = self._normalized(xy)
        t = self.section.progress
        s = v + 0.14 * u**2 + self.bend[0] * np.sin(2.5 * u + self.bend[3])
        marginal = -0.56
        plate = marginal + 0.42 * _ramp(t, 0.05, 0.75)
        intermediate = plate + 0.40 * _ramp(t, 0.4, 1.0)
        ventricular = max(intermediate, -0.05) + 0.34
        edges = [marginal, plate, intermediate, ventricular]
        codes: Ints = np.searchsorted(edges, s, side="right").astype(np.int64)
        shell = 0.30 + 0.14 * t
        nucleus = np.hypot((u + 0.28), _ASPECT * (v - 0.42))
        if t > 0:
            codes[nucleus < shell] = _SHELL
        codes[nucleus < 0.58 * shell if t > 0 else nucleus < 0.24] = _CORE
        if t > 0:
            x0, y0, radius = self.niche_normalized
            codes[np.hypot(u - x0, _ASPECT * (v - y0)) < radius] = _NICHE
        return codes

    @property
    def niche_normalized(self) -> tuple[float, float, float]:
        """Center and radius of the niche in units of the half width (y: of the half height)."""
        t = self.section.progress
        return 0.92 - 0.55 * t, 0.02 + 0.1 * t, 0.20 + 0.16 * t

    def gradient(self, xy: Floats, domains: Ints) -> Floats:
        """Position along the smooth program of the basal and ventricular domains: (n,), 0 to 1.

        It runs left to right and is 0 outside these two, where the program is off.
        """
        u, _ = self._normalized(xy)
        on = np.isin(domains, (_BASAL, _VENTRICULAR))
        return np.asarray(np.where(on, np.clip((u + 1) / 2, 0, 1), 0.0), dtype=np.float64)


def permute(index: Ints, n: int, key: int) -> Ints:
    """Pseudo-random permutation of ``0..n-1`` evaluated at `index`, without a table.

    Four Feistel rounds over the smallest even number of bits that holds `n`; values outside are
    walked on until they fall inside, which takes four walks in the mean at most.

    Examples
    --------
    >>> sorted(permute(np.arange(10), 10, key=3).tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    half_bits = np.uint64(max(1, (max(n - 1, 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half_bits)) - 1)
    value = index.astype(np.uint64)
    todo = np.ones(len(value), dtype=bool)
    while todo.any():
        left, right = value[todo] >> half_bits, value[todo] & mask
        for round_key in range(4):
            left, right = right, left ^ (_scramble(right, key * 4 + round_key) & mask)
        value[todo] = (left << half_bits) | right
        todo[todo] = value[todo] >= n
    return value.astype(np.int64)


def _scramble(value: npt.NDArray[np.uint64], key: int) -> npt.NDArray[np.uint64]:
    """Mix 64 bits (the finalizer of splitmix64)."""
    mixed = value + np.uint64((key * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)


def _outline(v: Floats, bend: Floats) -> tuple[Floats, Floats]:
    """Center and half width of the outline at height `v`, in units of the half width."""
    center = bend[1] * np.sin(2.0 * v + bend[4])
    ripple = 1 + bend[2] * np.sin(7 * v + bend[5]) + 0.02 * np.sin(19 * v + bend[3])
    return np.asarray(center), np.asarray(np.sqrt(np.clip(1 - v**2, 0, None)) * ripple)


def _ramp(t: float, start: float, stop: float) -> float:
    return min(1.0, max(0.0, (t - start) / (stop - start)))
