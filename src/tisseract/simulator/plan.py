"""What will be simulated, as a value: decided and printed before a byte is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from ..atlas.errors import InvalidArgument

__all__ = ["SectionPlan", "SimulationPlan"]

_TIMEPOINT = re.compile(r"^E(\d+(?:\.\d+)?)$")
_SMALLEST_SECTION = 50
_SMALLEST_PANEL = 40


@dataclass(frozen=True, slots=True)
class SectionPlan:
    """One section of a simulation.

    Attributes
    ----------
    name : str
        Name of the section and stem of its file.
    timepoint : str
        Label, for example ``"E11.5"``.
    time_days : float
        The same as a number of days.
    progress : float
        0 at the first timepoint, 1 at the last: what the geometry depends on.
    embryo : int
        Number of the embryo, from 1; embryos share geometry up to deformation.
    run : int
        Index of the instrument run, from 0; a run has one panel and one shared batch effect.
    n_cells : int
        Exact number of cells.
    index : int
        Position in the plan; seeds the random streams.
    """

    name: str
    timepoint: str
    time_days: float
    progress: float
    embryo: int
    run: int
    n_cells: int
    index: int


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """Everything that decides a simulation; equal plans write equal counts.

    Attributes
    ----------
    seed : int
        Seeds every random stream.
    n_cells : int
        Cells in all sections together.
    n_genes : int
        Genes in each run's panel.
    n_shared : int or None
        Genes common to all panels; None means nine tenths.
    timepoints : tuple of str
        Labels ``E<days>``, ascending.
    n_embryos : int
        Embryos per timepoint; embryo *i* is measured in run *i*.
    spacing_um : float
        Mean distance between neighboring cells, in micrometers.
    counts_per_cell : float
        Median total count before depth differences; 160 gives about 75 genes of 200 detected.
    dispersion : float
        Negative-binomial dispersion (variance = mean + dispersion * mean^2).
    batch_sd : float
        Standard deviation of the log gene effects of a run; a section adds half of it.
    depth_sd : float
        Standard deviation of the log depth of sections; the trend below comes on top.
    depth_trend : float
        Ratio of the last timepoint's depth to the first one's; below 1, so that raw counts fall
        where expression rises.
    order : {"random", "scan"}
        Order of the rows in the file.
    compression : {"gzip", "none"}
        HDF5 filter of the matrix.
    block_cells : int
        Cells generated at once; peak memory is about ``40 * block_cells * n_genes`` bytes.
    """

    seed: int = 0
    n_cells: int = 36_000
    n_genes: int = 200
    n_shared: int | None = None
    timepoints: tuple[str, ...] = ("E10.5", "E11.5", "E12.5", "E13.5")
    n_embryos: int = 2
    spacing_um: float = 10.0
    counts_per_cell: float = 160.0
    dispersion: float = 0.35
    batch_sd: float = 0.2
    depth_sd: float = 0.2
    depth_trend: float = 0.35
    order: Literal["random", "scan"] = "random"
    compression: Literal["gzip", "none"] = "gzip"
    block_cells: int = 8_192

    def __post_init__(self) -> None:
        faults = [*self._size_faults(), *self._time_faults()]
        if faults:
            raise InvalidArgument("a simulation cannot be planned: " + "; ".join(faults))

    def _size_faults(self) -> list[str]:
        faults = []
        sections = max(1, len(self.timepoints) * self.n_embryos)
        if self.n_embryos < 1:
            faults.append(f"n_embryos must be at least 1, but got {self.n_embryos}")
        if self.n_cells < _SMALLEST_SECTION * sections:
            faults.append(
                f"n_cells must be at least {_SMALLEST_SECTION} per section "
                f"({_SMALLEST_SECTION * sections} for {sections} sections), but got {self.n_cells}"
            )
        if self.n_genes < _SMALLEST_PANEL:
            faults.append(f"n_genes must be at least {_SMALLEST_PANEL}, but got {self.n_genes}")
        if not 0 <= self.shared <= self.n_genes:
            faults.append(f"n_shared must lie in 0..n_genes, but got {self.n_shared}")
        positive = ("spacing_um", "counts_per_cell", "dispersion", "depth_trend", "block_cells")
        faults += [
            f"{name} must be positive, but got {getattr(self, name)}"
            for name in positive
            if not getattr(self, name) > 0
        ]
        return faults

    def _time_faults(self) -> list[str]:
        if not self.timepoints:
            return ["timepoints must name at least one, but got none"]
        wrong = [label for label in self.timepoints if not _TIMEPOINT.match(label)]
        if wrong:
            return [f"timepoints must look like 'E11.5', but got {wrong}"]
        days = [_days(label) for label in self.timepoints]
        if any(later <= earlier for earlier, later in pairwise(days)):
            return [f"timepoints must ascend, but got {list(self.timepoints)}"]
        return []

    @property
    def shared(self) -> int:
        """Genes common to all panels."""
        return round(0.9 * self.n_genes) if self.n_shared is None else self.n_shared

    @property
    def sections(self) -> tuple[SectionPlan, ...]:
        """The sections in order of time, then embryo; their cells add up to `n_cells`.

        Examples
        --------
        >>> plan = SimulationPlan(n_cells=8_000)
        >>> [(s.name, s.n_cells) for s in plan.sections][:3]
        [('E10.5_e1', 600), ('E10.5_e2', 600), ('E11.5_e1', 867)]
        >>> sum(s.n_cells for s in plan.sections)
        8000
        """
        days = [_days(label) for label in self.timepoints]
        span = days[-1] - days[0] or 1.0
        progress = [(day - days[0]) / span if len(days) > 1 else 1.0 for day in days]
        # tissue area grows 2.3-fold over the whole course
        weights = [0.6 + 0.8 * p for p in progress for _ in range(self.n_embryos)]
        cells = _apportion(self.n_cells, weights)
        return tuple(
            SectionPlan(
                name=f"{self.timepoints[t]}_e{embryo + 1}",
                timepoint=self.timepoints[t],
                time_days=days[t],
                progress=progress[t],
                embryo=embryo + 1,
                run=embryo,
                n_cells=cells[t * self.n_embryos + embryo],
                index=t * self.n_embryos + embryo,
            )
            for t in range(len(days))
            for embryo in range(self.n_embryos)
        )

    @classmethod
    def benchmark(cls, n_cells: int, *, n_genes: int = 300, seed: int = 0) -> SimulationPlan:
        """One large section with about 60 non-zeros a row at 300 genes, rows in random order.

        Examples
        --------
        >>> len(SimulationPlan.benchmark(1_000_000).sections)
        1
        """
        return cls(
            seed=seed,
            n_cells=n_cells,
            n_genes=n_genes,
            n_shared=n_genes,
            timepoints=("E13.5",),
            n_embryos=1,
            counts_per_cell=83.0 * n_genes / 300,
            depth_sd=0.0,
            depth_trend=1.0,
        )

    def __str__(self) -> str:
        times = ", ".join(self.timepoints)
        return (
            f"SIMULATED tissue (no real measurement), seed {self.seed}\n"
            f"  {len(self.sections)} sections: {times} x {self.n_embryos} embryos\n"
            f"  {self.n_cells:,} cells about {self.spacing_um:g} um apart\n"
            f"  {self.n_genes:,} genes a run, {self.shared:,} shared by all runs"
        )


def _days(label: str) -> float:
    match = _TIMEPOINT.match(label)
    return float(match.group(1)) if match else float("nan")


def _apportion(total: int, weights: list[float]) -> list[int]:
    """Split `total` in proportion to `weights`, largest remainders first."""
    scale = total / sum(weights)
    exact = [weight * scale for weight in weights]
    parts = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: parts[i] - exact[i])
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts
