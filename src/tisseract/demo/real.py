"""The same tour over the user's own data."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..atlas.errors import InvalidArgument
from ..ingest.report import peak_rss_bytes
from .report import TourReport
from .simulated import around
from .tour import Command, Say, StepFailed, Tour, new_folder

if TYPE_CHECKING:
    from ..handle import Atlas

__all__ = ["real_tour"]

_KNN = 6
_MEMORY = "2GiB"


def real_tour(
    folder: str | Path,
    path: str | Path,
    *,
    sheet: Mapping[str, str],
    seed: int,
    n_domains: int,
    figures: bool,
    say: Say,
    command: Command,
) -> TourReport:
    """Build, learn and ask over one file or folder of the user.

    Parameters
    ----------
    folder : str or Path
        Where to write; must not hold an earlier tour. The data itself is only read.
    path : str or Path
        An h5ad file or a Space Ranger folder.
    sheet : mapping of str to str
        Further columns of the sample sheet: `um_per_unit`, `split_by`, `values`, `organism`.
    seed : int
        Of the models.
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
        Without agreement: no truth is known.

    Raises
    ------
    InvalidArgument
        If there is nothing at `path`, or the folder holds an earlier tour.
    StepFailed
        If a command fails, for instance because the unit of the coordinates is missing.
    """
    source = Path(path)
    if not source.exists():
        raise InvalidArgument(f"an h5ad file or a folder is wanted, but got {str(path)!r}")
    place = new_folder(folder, ("samples.csv", "demo.atlas", "figures"))
    tour = Tour(place, seed, say, command)
    samples = place / "samples.csv"
    row = {"sample": _name(source), "data_path": str(source.resolve()), **sheet}
    with samples.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    tour.tell(f"A tour of {source}; wrote {samples}")
    try:
        tour.run("check-samples", str(samples))
    except StepFailed as failure:
        samples.unlink()  # nothing else was written: the same folder can be used again
        failure.add_note(
            "say what the file does not: --um-per-unit, --split-by, --values, --organism "
            "(see tisseract demo --help)"
        )
        raise
    tour.build(samples, knn=_KNN, memory_limit=_MEMORY)
    tour.learn(n_domains, expression=False)
    domain, gene = _ask(tour)
    atlas = tour.open()
    drawn: tuple[str, ...] = ()
    if figures:
        from .figures import draw_all

        drawn = draw_all(atlas, tour, niche=domain, gene=gene, note=source.name)
    report = TourReport(
        folder=str(place),
        atlas=tour.atlas,
        simulated=False,
        seed=seed,
        n_sections=len(atlas.section_names),
        n_obs=int(atlas.sections["n_obs"].sum()),
        figures=drawn,
        seconds=tour.seconds,
        peak_rss_bytes=peak_rss_bytes(),
    )
    tour.tell(f"\n{report}")
    return report


def _name(source: Path) -> str:
    """Name a section after its file; letters a section name cannot hold become '-'."""
    stem = source.stem if source.suffix in (".h5ad", ".zarr") else source.name
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in stem)
    return kept.strip(".-")[:64] or "section"


def _ask(tour: Tour) -> tuple[str, str]:
    """Five queries over data of which nothing is known; the domain and gene they were about."""
    key = tour.best_key
    atlas = tour.open()
    tour.tell("\nFive questions.  1: which domains are there, and how large are they?")
    tour.run("values", tour.atlas, key)
    domain = smallest_domain(atlas, key)
    tour.tell(f"\n2: where is the smallest sizable domain, {domain}?")
    tour.run("query", tour.atlas, "--obs", f"{key} == '{domain}'")
    gene = variable_gene(atlas)
    tour.tell(f"\n3: {gene}, the gene that varies most, in each section")
    tour.run("gene", tour.atlas, gene)
    tour.tell("\n4: and in each domain")
    tour.run("gene", tour.atlas, gene, "--by", key)
    section, circle = around(atlas, key, domain)
    unit = "um" if atlas.section(section).um_per_unit is not None else "source"
    tour.tell(f"\n5: the surroundings of domain {domain} in {section}, as a file")
    options = ["--section", section, "--circle", circle, "--units", unit]
    tour.run("region", tour.atlas, *options, "-o", str(tour.folder / "region.h5ad"))
    return domain, gene


def smallest_domain(atlas: Atlas, key: str) -> str:
    """Smallest domain with at least a fiftieth of the cells."""
    counts = atlas.values(key).dropna()
    counts = counts[counts.index.notna()]
    sizable = counts[counts >= counts.sum() / 50]
    return str((sizable if len(sizable) else counts).idxmin())


def variable_gene(atlas: Atlas) -> str:
    """Gene of the first section that is expressed in the most uneven way among common ones."""
    section = atlas.section(atlas.section_names[0])
    totals = section.totals
    share = np.asarray(totals.nnz) / max(section.n_obs, 1)
    mean = np.asarray(totals.sums, dtype=np.float64) / max(section.n_obs, 1)
    # seen in a fifth of the cells or more (else: in as many as there are), highest mean if seen
    floor = min(0.2, float(share.max()))
    score = np.where(share >= floor, mean / np.maximum(share, 1 / max(section.n_obs, 1)), -math.inf)
    panel, best = section.panel, int(score.argmax())
    return str(panel.symbol[best] or panel.gene_id[best])
