"""The tour of a simulated, developing tissue, whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..ingest.report import peak_rss_bytes
from ..simulator import SimulationPlan, simulate
from .labels import agreement, read_labels
from .report import TourReport
from .tour import Command, Say, Tour, new_folder

if TYPE_CHECKING:
    from ..handle import Atlas

__all__ = ["simulated_tour"]

_TRUTH = "true_domain"
_MARKER, _RISING = "Niche01", "Clock01"
_KNN = 10
_MEMORY = "1GiB"


def simulated_tour(
    folder: str | Path,
    *,
    seed: int,
    n_cells: int,
    n_domains: int,
    figures: bool,
    say: Say,
    command: Command,
) -> TourReport:
    """Simulate, build, learn, ask; compare with the truth.

    Parameters
    ----------
    folder : str or Path
        Where to write; must not hold an earlier tour.
    seed : int
        Of the simulation and of the models.
    n_cells : int
        In all eight sections together.
    n_domains : int
        Domains to find.
    figures : bool
        Draw figures, if matplotlib is there.
    say : Say
        How to speak.
    command : callable
        The command line, `tisseract.cli.main`.

    Returns
    -------
    TourReport
        Agreement, figures, time and memory.

    Raises
    ------
    InvalidArgument
        If the folder holds an earlier tour.
    StepFailed
        If a command fails.
    """
    place = new_folder(folder, ("data", "demo.atlas", "figures"))
    tour = Tour(place, seed, say, command)
    plan = SimulationPlan(seed=seed, n_cells=n_cells)
    tour.tell(f"This demo uses SIMULATED data: no real tissue, no real gene.\n{plan}")
    result = simulate(plan, place / "data")
    tour.tell(f"wrote {len(result.files)} h5ad files and {result.sheet}")
    tour.run("check-samples", str(result.sheet))
    tour.build(result.sheet, knn=_KNN, memory_limit=_MEMORY)
    tour.learn(n_domains, expression=True)
    niche = _ask(tour)
    atlas = tour.open()
    scores = agreement(atlas, tour.keys, _TRUTH)
    drawn: tuple[str, ...] = ()
    if figures:
        from .figures import draw_all

        drawn = draw_all(
            atlas, tour, niche=niche, gene=_RISING, note="simulated data", truth=_TRUTH
        )
    report = TourReport(
        folder=str(place),
        atlas=tour.atlas,
        simulated=True,
        seed=seed,
        n_sections=len(atlas.section_names),
        n_obs=n_cells,
        agreement=scores,
        figures=drawn,
        seconds=tour.seconds,
        peak_rss_bytes=peak_rss_bytes(),
    )
    tour.tell(f"\n{report}")
    return report


def _ask(tour: Tour) -> str:
    """Five queries; the second one finds the niche, the next ones follow it. Its label."""
    key = tour.best_key
    tour.tell("\nFive questions.  1: which domains are there, and how large are they?")
    tour.run("values", tour.atlas, key)
    tour.tell(f"\n2: in which domain is the marker {_MARKER} highest?")
    tour.run("gene", tour.atlas, _MARKER, "--by", key)
    atlas = tour.open()
    niche = highest_domain(atlas, _MARKER, key)
    tour.tell(f"\n3: that is domain {niche}, found once; where and when else is it?")
    tour.run("query", tour.atlas, "--obs", f"{key} == '{niche}'")
    section, circle = around(atlas, key, niche)
    tour.tell(f"\n4: its surroundings in {section}, as a file for scanpy and squidpy")
    target = str(tour.folder / "niche.h5ad")
    tour.run("region", tour.atlas, "--section", section, "--circle", circle, "-o", target)
    tour.tell(
        f"\n5: does {_RISING} rise? mean_counts follows the depth of each run, mean_log1p does not"
    )
    tour.run("gene", tour.atlas, _RISING)
    return niche


def highest_domain(atlas: Atlas, gene: str, key: str) -> str:
    """Domain with the highest mean of a gene, over the sections that measured it."""
    table = atlas.gene(gene).per_section(by=key)
    table = table[table[key].notna() & (table["n"] > 0)]
    weighted = table["mean_log1p"] * table["n"]
    sums = weighted.groupby(table[key], observed=True).sum()
    cells = table["n"].groupby(table[key], observed=True).sum()
    return str((sums / cells).idxmax())


def around(atlas: Atlas, key: str, domain: str) -> tuple[str, str]:
    """Section where a domain is largest, and a circle "x,y,r" around most of it."""
    sections, categories = read_labels(atlas, key)
    code = categories.index(domain)
    largest = max(sections, key=lambda item: int((item.codes == code).sum()))
    xy = largest.xy[largest.codes == code]
    center = np.median(xy, axis=0)
    radius = float(np.quantile(np.hypot(*(xy - center).T), 0.9))
    return largest.section, f"{center[0]:.0f},{center[1]:.0f},{max(radius, 1.0):.0f}"
