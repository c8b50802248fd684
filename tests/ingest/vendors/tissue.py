"""Simulated tissue of any size for bundles of every technology: seeded, streamed, sparse.

Geometry and expression programs are those of the demo; counts are drawn transcript by transcript,
so that the molecules of a bundle add up to its matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tisseract.simulator.expression import Programs
from tisseract.simulator.plan import SimulationPlan
from tisseract.simulator.tissue import Tissue

_CONTROL_SHARE = 0.004
_OUTSIDE_SHARE = 0.03
_ODD_NAMES = ("Aph1b/c", "NKX2-1", "H2-K1|Q10")


@dataclass(frozen=True)
class SimBlock:
    """Some consecutive cells with everything an instrument would report of them."""

    start: int
    positions_um: NDArray[np.float64]
    """(n, 2) x, y; y down."""
    domains: NDArray[np.int64]
    """(n,)"""
    cell: NDArray[np.int64]
    """(m,) cell of each molecule, counted from the first of the block; -1 outside cells."""
    feature: NDArray[np.int64]
    """(m,) gene, or n_genes + number of a control."""
    molecules_um: NDArray[np.float64]
    """(m, 3) x, y, z."""
    n_features: int

    @property
    def n(self) -> int:
        return len(self.positions_um)

    @cached_property
    def counts(self) -> sparse.csr_matrix:
        """(n, genes + controls) molecules of each cell, uint16."""
        inside = self.cell >= 0
        ones = np.ones(int(inside.sum()), np.uint16)
        where = (self.cell[inside], self.feature[inside])
        found: sparse.csr_matrix = sparse.coo_matrix(
            (ones, where), shape=(self.n, self.n_features)
        ).tocsr()
        return found


@dataclass(frozen=True)
class SimTissue:
    """A section of simulated tissue; the same numbers give the same tissue in any block size."""

    n_cells: int
    n_genes: int = 40
    mean_counts: float = 60.0
    seed: int = 0
    n_controls: int = 6
    radius_share: float = 0.4
    """Radius of a cell, of the distance between neighbors."""
    block_cells: int = field(default=20_000, repr=False)
    molecules: bool = True
    """Whether molecules get places; bins need none."""

    @cached_property
    def plan(self) -> SimulationPlan:
        return SimulationPlan(
            seed=self.seed,
            n_cells=max(self.n_cells, 100),
            n_genes=max(self.n_genes, 40),
            n_shared=max(self.n_genes, 40),
            timepoints=("E13.5",),
            n_embryos=1,
            depth_sd=0.0,
            depth_trend=1.0,
        )

    @cached_property
    def tissue(self) -> Tissue:
        return Tissue.of(self.plan, self.plan.sections[0])

    @property
    def spacing_um(self) -> float:
        return self.tissue.spacing_um

    @cached_property
    def gene_names(self) -> tuple[str, ...]:
        names = list(self._programs.symbols[: self.n_genes])
        for k, odd in enumerate(_ODD_NAMES[: max(0, len(names) - 3)]):
            names[-1 - k] = odd
        return tuple(names)

    @property
    def control_names(self) -> tuple[str, ...]:
        return tuple(f"Control{k + 1:03d}" for k in range(self.n_controls))

    @cached_property
    def _programs(self) -> Programs:
        return Programs.of(self.plan)

    @cached_property
    def _cumulative(self) -> NDArray[np.float64]:
        """(domains, genes) cumulated share of each gene."""
        profile = np.exp(self._programs.log_mean[0][:, : self.n_genes])
        found: NDArray[np.float64] = np.cumsum(profile, axis=1) / profile.sum(axis=1)[:, None]
        return found

    @cached_property
    def extent_um(self) -> tuple[float, float]:
        """Width and height that hold every cell."""
        t = self.tissue
        return 3.0 * t.half_width_um, 2.2 * t.half_height_um + 4 * t.spacing_um

    def blocks(self) -> Iterator[SimBlock]:
        """Cells block by block, in rows of the lattice."""
        for number, start in enumerate(range(0, self.n_cells, self.block_cells)):
            cells = np.arange(start, min(start + self.block_cells, self.n_cells), dtype=np.int64)
            rng = np.random.default_rng([self.seed, 9, number])
            xy = np.round(self.tissue.positions(cells, rng), 3)
            domains = self.tissue.domains(xy)
            yield self._drawn(start, xy, domains, rng)

    def whole(self) -> SimBlock:
        """All cells at once, for small tissues."""
        parts = list(self.blocks())
        shift = [part.start for part in parts]
        cell = [np.where(p.cell >= 0, p.cell + s, -1) for p, s in zip(parts, shift, strict=True)]
        return SimBlock(
            0,
            np.concatenate([p.positions_um for p in parts]),
            np.concatenate([p.domains for p in parts]),
            np.concatenate(cell),
            np.concatenate([p.feature for p in parts]),
            np.concatenate([p.molecules_um for p in parts]),
            parts[0].n_features,
        )

    def _drawn(
        self,
        start: int,
        xy: NDArray[np.float64],
        domains: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> SimBlock:
        depth = rng.poisson(self.mean_counts * rng.lognormal(-0.045, 0.3, len(xy)))
        cell = np.repeat(np.arange(len(xy)), depth)
        draw = rng.random(cell.size)
        feature = np.empty(cell.size, np.int64)
        of = domains[cell]
        for domain in np.unique(domains).tolist():
            mine = of == domain
            feature[mine] = np.searchsorted(self._cumulative[domain], draw[mine], side="right")
        feature = np.minimum(feature, self.n_genes - 1)
        if self.n_controls:
            control = np.flatnonzero(rng.random(cell.size) < _CONTROL_SHARE)
            feature[control] = self.n_genes + rng.integers(0, self.n_controls, control.size)
        molecules = np.zeros((0, 3))
        if self.molecules:
            reach = self.radius_share * self.spacing_um * 0.95
            angle, r = rng.random(cell.size) * 2 * np.pi, reach * np.sqrt(rng.random(cell.size))
            offset = np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)
            outside = rng.random(cell.size) < _OUTSIDE_SHARE
            offset[outside] *= 1.5 / 0.95
            place = xy[cell] + offset
            z = rng.random((cell.size, 1)) * 10
            molecules = np.round(np.concatenate([place, z], axis=1), 4)
            cell = np.where(outside, -1, cell)
        return SimBlock(
            start, xy, domains, cell, feature, molecules, self.n_genes + self.n_controls
        )

    def boundaries(
        self, block: SimBlock, vertices: int = 12, share: float = 1.0
    ) -> NDArray[np.float64]:
        """(n, vertices, 2) outline of each cell; `share` < 1 gives nuclei."""
        angle = np.arange(vertices) * 2 * np.pi / vertices
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        radius = share * self.radius_share * self.spacing_um
        return np.asarray(block.positions_um[:, None, :] + radius * circle)

    def stain(
        self, shape: tuple[int, int], um_per_px: float, *, block: SimBlock | None = None
    ) -> NDArray[np.uint16]:
        """Image with a bright disk on every cell (all of them, or those of a block)."""
        image = np.full(shape, 100, np.uint16)
        radius = max(1, round(0.5 * self.radius_share * self.spacing_um / um_per_px))
        steps = np.arange(-radius, radius + 1)
        dy, dx = (a.ravel() for a in np.meshgrid(steps, steps, indexing="ij"))
        near = dy**2 + dx**2 <= radius**2
        for part in [block] if block is not None else self.blocks():
            at = np.floor(part.positions_um / um_per_px).astype(np.int64)
            rows = (at[:, 1, None] + dy[near]).ravel()
            columns = (at[:, 0, None] + dx[near]).ravel()
            fits = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
            image[rows[fits], columns[fits]] = 4000
        return image
