"""What an output of Space Ranger says of its run: versions, chemistry, slide, metrics."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..reader import faults_of
from .spaceranger_parts import within

if TYPE_CHECKING:
    from ..tenx import FeatureMatrix
    from .folder import Folder

__all__ = ["run_facts", "run_files"]

_MOST_METRICS = 200
_LETTERS = 300
_PIECE, _OVERLAP, _MOST = 2**20, 2**12, 2**25  # bytes of a web summary
# Rows of the tables in a web summary: ["Pipeline Version", "spaceranger-3.0.0"].
_ROW = re.compile(
    rb'\[\s*"(Sample ID|Chemistry|Slide Serial Number|Pipeline Version|Transcriptome|'
    rb"Probe Set Name|Capture Area|Area|Filter Probes|Slide Reference|Loupe Alignment File|"
    rb'Fiducial Registration|Custom Bin Size|Segmentation Method)"\s*,\s*"([^"\\]{0,300})"\s*\]'
)


def run_files(folder: Folder, bases: Sequence[str]) -> dict[str, Path]:
    """Find metrics and web summary, where they are there."""
    found = {}
    for name in ("metrics_summary.csv", "web_summary.html"):
        files = folder.all(*within(bases, name))
        if files:
            found[name] = files[0]
    return found


def run_facts(
    files: Mapping[str, Path], matrix: FeatureMatrix | None, factors: Mapping[str, float]
) -> dict[str, object]:
    """Collect JSON-ready facts of the run.

    Raises
    ------
    InputError
        If metrics cannot be read as text.
    """
    facts: dict[str, object] = {}
    if matrix is not None and matrix.software:
        facts["software"] = matrix.software[:_LETTERS]
    if matrix is not None:
        facts |= {name: text for name, text in matrix.facts.items() if text}
    if factors:
        facts["scalefactors"] = dict(factors)
    if "metrics_summary.csv" in files:
        facts["metrics"] = _metrics(files["metrics_summary.csv"])
    if "web_summary.html" in files:
        facts["web_summary"] = _web_summary(files["web_summary.html"])
    return facts


def _metrics(path: Path) -> dict[str, str]:
    """Read a header and one row; both of any width."""
    with faults_of(path, "metrics", parsing=True), path.open("rb") as file:
        lines = file.read(_PIECE).decode("utf-8-sig").splitlines()
        rows = list(csv.reader(lines[:2]))
    if len(rows) < 2:
        return {}
    pairs = list(zip(rows[0], rows[1], strict=False))
    return {name[:_LETTERS]: value[:_LETTERS] for name, value in pairs[:_MOST_METRICS]}


def _web_summary(path: Path) -> dict[str, str]:
    """Find versions in the tables of a page of any size."""
    found: dict[str, str] = {}
    with faults_of(path, "a web summary"), path.open("rb") as file:
        rest = b""
        for piece in _pieces(file):
            text = rest + piece
            for name, value in _ROW.findall(text):
                found.setdefault(name.decode("ascii"), value.decode("utf-8", "replace"))
            rest = text[-_OVERLAP:]
    return found


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    read = 0
    while read < _MOST and (piece := file.read(_PIECE)):
        read += len(piece)
        yield piece
