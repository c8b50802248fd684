"""Where the parts of a Xenium output lie, and what its run says of itself."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...atlas.errors import Fault, InputError
from ..reader import faults_of
from .folder import Folder

__all__ = ["PIXEL_UM", "Run", "XeniumFiles", "locate", "looks_like", "read_run"]

PIXEL_UM = 0.2125
"""Micrometers per pixel of every Xenium instrument so far, 10x Genomics."""

_MATRIX = "cell_feature_matrix"
_MTX = ("matrix.mtx", "barcodes.tsv", "features.tsv")
_TABLES = ("parquet", "csv.gz", "csv")
_CELLS = re.compile(r"(?:^|[_.])cells\.(?:parquet|csv|csv\.gz|zarr\.zip)$")
_OWN = {  # names that no other platform writes; two parts tell an output that lacks others
    "matrix": re.compile(_MATRIX),
    "nuclei": re.compile(r"nucleus_boundaries\.(?:parquet|csv|csv\.gz)$"),
    "panel": re.compile(r"gene_panel\.json$"),
    "morphology": re.compile(r"morphology(?:_focus|_mip)?(?:\.ome\.tif)?$"),
    "zips": re.compile(r"(?:transcripts|analysis)\.zarr\.zip$"),
}
_ENOUGH = 2
_MOST_JSON = 2**26
_FACTS = (
    "analysis_sw_version",
    "instrument_sw_version",
    "instrument_sn",
    "run_name",
    "run_start_time",
    "region_name",
    "cassette_name",
    "slide_id",
    "preservation_method",
    "panel_name",
    "panel_design_id",
    "panel_organism",
    "panel_tissue_type",
    "panel_predesigned_id",
    "panel_num_targets_predesigned",
    "panel_num_targets_custom",
    "chemistry_version",
    "segmentation_stain",
    "pixel_size",
    "z_step_size",
    "num_cells",
    "major_version",
    "minor_version",
    "patch_version",
)


@dataclass(frozen=True, slots=True)
class XeniumFiles:
    """Files of one output; None or empty where there is none."""

    folder: Folder
    """All names."""
    matrix: tuple[Path, ...]
    """One .h5 or .zarr.zip, or matrix, barcodes and features of an .mtx folder."""
    cells: Path | None
    """Table of cells."""
    cells_zarr: Path | None
    """cells.zarr.zip: masks, polygons and ids."""
    transcripts: Path | None
    """Table of transcripts."""
    cell_boundaries: Path | None
    """Vertices of cells."""
    nucleus_boundaries: Path | None
    """Vertices of nuclei."""
    experiment: Path | None
    """experiment.xenium."""
    panel: Path | None
    """gene_panel.json."""
    metrics: Path | None
    """metrics_summary.csv."""

    @property
    def small(self) -> tuple[Path, ...]:
        """What is read whatever the options."""
        found = (self.cells, self.cells_zarr, self.experiment, self.panel, self.metrics)
        return (*self.matrix, *(one for one in found if one is not None))


def root_of(path: Path) -> Path:
    """Folder of an output; `experiment.xenium` may be named in its place."""
    return path.parent if path.suffix == ".xenium" and path.is_file() else path


def looks_like(path: Path) -> bool:
    """Whether a path looks like a Xenium output, by names; never raises."""
    try:
        root = root_of(path)
        if not root.is_dir() or (root / "zarr.json").exists() or (root / ".zgroup").exists():
            return False
        return any(_has_parts(folder) for folder in (root, root / "outs") if folder.is_dir())
    except OSError:
        return False


def _has_parts(folder: Path) -> bool:
    names = [one.name.casefold() for one in folder.iterdir()]
    if any(name.endswith(".xenium") for name in names):
        return True
    own = {mark for mark, fits in _OWN.items() if any(map(fits.search, names))}
    return bool(own) and (len(own) + any(map(_CELLS.search, names)) >= _ENOUGH)


def patterns(*names: str) -> tuple[str, ...]:
    """Patterns of a file: as the instrument names it, in `outs`, or after the sample's name."""
    return tuple(
        pattern for name in names for pattern in (name, f"outs/{name}", f"*_{name}", f"*.{name}")
    )


def _table(folder: Folder, stem: str) -> Path | None:
    return folder.find(*patterns(*(f"{stem}.{kind}" for kind in _TABLES)))


def locate(path: Path) -> XeniumFiles:
    """Find the parts of an output by their names; opens nothing.

    Raises
    ------
    InputError
        No folder, or several samples in one.
    """
    folder = Folder.of(root_of(path))
    return XeniumFiles(
        folder,
        _matrix(folder),
        _table(folder, "cells"),
        folder.find(*patterns("cells.zarr.zip")),
        _table(folder, "transcripts"),
        _table(folder, "cell_boundaries"),
        _table(folder, "nucleus_boundaries"),
        folder.find(*patterns("experiment.xenium"), "*.xenium", "outs/*.xenium"),
        folder.find(*patterns("gene_panel.json")),
        folder.find(*patterns("metrics_summary.csv")),
    )


def _matrix(folder: Folder) -> tuple[Path, ...]:
    found = folder.find(*patterns(f"{_MATRIX}.h5"))
    if found is not None:
        return (found,)
    for inside in (_MATRIX, f"outs/{_MATRIX}", f"*_{_MATRIX}"):
        triple = [folder.find(f"{inside}/{name}.gz", f"{inside}/{name}") for name in _MTX]
        if all(triple):
            return tuple(one for one in triple if one is not None)
    zipped = folder.find(*patterns(f"{_MATRIX}.zarr.zip"))
    return () if zipped is None else (zipped,)


@dataclass(frozen=True, slots=True)
class Run:
    """What an output says of its run."""

    facts: dict[str, object]
    """JSON-ready: software, instrument, region, panel, metrics."""
    pixel_um: float | None
    """Micrometers per pixel, None when not said."""
    organism: str
    """As the panel says, "" when it does not."""
    version: tuple[int, ...]
    """Numbers of the version of the analysis, () when not said or not numbers."""
    notes: tuple[str, ...]
    """What could not be read."""


def read_run(files: XeniumFiles) -> Run:
    """Read `experiment.xenium`, the panel and the metrics, whichever there are.

    Raises
    ------
    InputError
        `experiment.xenium` is no JSON object, or its pixel size no length.
    """
    facts: dict[str, object] = {}
    pixel, organism = None, ""
    version: tuple[int, ...] = ()
    if files.experiment is not None:
        said = _json(files.experiment)
        facts |= {name: said[name] for name in _FACTS if _plain(said.get(name))}
        ranger = said.get("xenium_ranger")
        if isinstance(ranger, Mapping) and _plain(ranger.get("version")):
            facts["xenium_ranger"] = str(ranger["version"])
        pixel = _pixel(said, files.experiment)
        organism = str(said.get("panel_organism") or "")
        version = version_numbers(
            str(facts.get("xenium_ranger") or facts.get("analysis_sw_version") or "")
        )
    notes: list[str] = []
    # The section is the same without them: broken ones are told of, not refused.
    for file, key, read in ((files.panel, "panel", _panel), (files.metrics, "metrics", _metrics)):
        if file is not None:
            try:
                facts[key] = read(file)
            except InputError as error:
                notes.append(f"left out of the provenance: {error}")
    return Run(facts, pixel, organism, version, tuple(notes))


def version_numbers(text: str) -> tuple[int, ...]:
    """Numbers of a version such as `xenium-3.1.0.4`; () of text such as `R&D`.

    >>> version_numbers("xenium-2.0.0.6-35-ga7e17149a"), version_numbers("R&D")
    ((2, 0, 0, 6), ())
    """
    head = text.casefold().removeprefix("xenium-").partition("-")[0]
    words = head.split(".")
    return tuple(map(int, words)) if all(w.isascii() and w.isdigit() for w in words) else ()


def _plain(value: object) -> bool:
    """Whether a value is a word or a finite number, and short."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, (bool, int)) or (isinstance(value, str) and 0 < len(value) <= 1000)


def _json(path: Path) -> dict[str, Any]:
    with faults_of(path, "a JSON object", parsing=True):
        if path.stat().st_size > _MOST_JSON:
            raise InputError(Fault(str(path), "expected a JSON file below 64 MiB"))
        found = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(found, dict):
            got = type(found).__name__
            raise InputError(Fault(str(path), f"expected a JSON object, but got a {got}"))
        return found


def _pixel(said: Mapping[str, Any], path: Path) -> float | None:
    value = said.get("pixel_size")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 100:
        raise InputError(
            Fault(
                f"{path} pixel_size",
                f"expected micrometers above zero, but got {value!r}; correct it or take the file "
                "away (0.2125 is then used)",
            )
        )
    return float(value)


def _panel(path: Path) -> dict[str, object]:
    """Who the panel is, and how many targets of each kind it has."""
    payload = _json(path).get("payload")
    if not isinstance(payload, Mapping):
        raise InputError(Fault(str(path), "expected an object `payload`, but got none"))
    found: dict[str, object] = {}
    panel = payload.get("panel")
    if isinstance(panel, Mapping):
        identity = panel.get("identity")
        parts = {**panel, **(identity if isinstance(identity, Mapping) else {})}
        found |= {str(key): value for key, value in parts.items() if _plain(value)}
    targets = payload.get("targets")
    kinds = Counter(
        str(one.get("type", {}).get("descriptor", "unknown"))
        for one in (targets if isinstance(targets, list) else [])
        if isinstance(one, Mapping) and isinstance(one.get("type", {}), Mapping)
    )
    if kinds:
        found["targets"] = dict(sorted(kinds.items()))
    return found


def _metrics(path: Path) -> dict[str, object]:
    """Names and values of the only row."""
    with faults_of(path, "a table of one row", parsing=True):
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            names, values = next(rows, []), next(rows, [])
        if not names or len(names) != len(values):
            raise InputError(
                Fault(
                    str(path),
                    f"expected a value a name, but got {len(names)} names, {len(values)} values",
                )
            )
    return {name: _number(value) for name, value in zip(names, values, strict=True)}


def _number(text: str) -> object:
    try:
        value = float(text)
    except ValueError:
        return text[:1000]
    if not math.isfinite(value):
        return text[:1000]
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
