"""Reader of CosMx exports: flat files of AtoMx and of the public data sets before it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...atlas.errors import Fault, InputError
from ..source import ArrayColumn, NumericValues
from .cosmx_cells import Cells, Metadata, frame_of, match, read_metadata, read_places
from .cosmx_elements import Target, read_polygons, read_transcripts
from .cosmx_files import Bundle, locate, looks_like
from .cosmx_frame import FovFrame, Positions, fit_frame, from_positions, with_positions
from .cosmx_keys import CellKeys, scan_counts
from .cosmx_mosaic import fov_sizes, image_files, mosaics, without
from .cosmx_outlined import cells_by_polygons
from .cosmx_table import key_columns
from .cosmx_unit import USUAL_UM, find_pixel_size, size_by_area, size_by_places, step_of
from .dense import DenseCounts
from .panel_option import completeness
from .table import Table, open_table
from .vendor import Survey, VendorReader, features_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..reader import ReadOptions

__all__ = ["CosmxReader", "control_kind"]

_CONTROLS = (
    (
        re.compile(r"neg(?:ative|prb|probe)(?:[-_. ]?(?:control|probe))*[-_. ]?\d*"),
        "Negative Probe",
    ),
    (re.compile(r"system[-_. ]?control[-_. ]?\d*"), "System Control"),
    (re.compile(r"false[-_. ]?code[-_. ]?\d*"), "False Code"),
    (re.compile(r"custom[-_. ]?\d*"), "Custom"),
)
_NO_FEATURES = frozenset(
    {
        "fov",
        "cell",
        "cell_id",
        "cellid",
        "slide_id",
        "slide_id_numeric",
        "column_0",
        "__index_level_0__",
    }
)


def control_kind(name: str) -> str:
    """Tell what kind of control a feature is by its name; "" for genes.

    Negative probes match nothing in the transcriptome (`Negative1`, `NegPrb23`), system controls
    and false codes are codes without a probe, `Custom1` are slots of the panel left empty.

    Examples
    --------
    >>> control_kind("NegPrb3"), control_kind("SystemControl197"), control_kind("Aph1b/c")
    ('Negative Probe', 'System Control', '')
    """
    folded = name.casefold()
    return next((kind for rule, kind in _CONTROLS if rule.fullmatch(folded)), "")


class CosmxReader(VendorReader):
    """A folder with the flat files of one CosMx slide.

    Cells are the rows of `exprMat_file` that `metadata_file` describes; positions are global
    pixels. FOVs are put into one frame (see `cosmx_frame`), the pixel size is found as
    `cosmx_unit` tells.

    reader_kwargs: `sample` (of several in one folder), `images` (false, or names out of
    CellComposite, Morphology2D, CellOverlay, CellLabels, CompartmentLabels), `transcripts` (false
    leaves them out), `panel` (`partial` when the matrix was cut down to some genes).
    """

    format = "cosmx"
    technology = "CosMx"
    known_options: ClassVar[frozenset[str]] = frozenset(
        {"images", "panel", "sample", "transcripts"}
    )

    def recognizes(self, path: Path) -> bool:
        """Whether a folder holds counts under a name of CosMx; never raises."""
        return looks_like(path)

    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Flat files, images that are read, gene map."""
        bundle = _bundle(path, options)
        images = image_files(bundle.images, options.reader_kwargs.get("images"), str(path))
        extra = () if options.gene_map is None else (options.gene_map,)
        return (*bundle.tables, *images, *extra)

    def survey(self, path: Path, options: ReadOptions) -> Survey:
        """Find every part; faults are collected."""
        survey = Survey(path)
        bundle = _bundle(path, options)
        survey.notes += bundle.notes
        survey.faults.faults += bundle.faults
        survey.missing += _missing(bundle, options)
        tables = _Tables()
        with survey.faults.part():
            tables.counts = self._counts(survey, bundle, options)
        with survey.faults.part():
            tables.meta = _described(bundle)
            survey.versions |= {"sample": bundle.sample, **tables.meta.run}
            if tables.meta.run.get("assay_type") == "Protein" and options.values is None:
                survey.notes.append(
                    "assay_type is Protein: set `values` to expected for intensities"
                )
        with survey.faults.part():
            if bundle.positions is not None:
                tables.places = read_places(open_table(bundle.positions), survey.notes)
        with survey.faults.part():
            _compose(survey, bundle, tables, options)
        return survey

    def _counts(
        self, survey: Survey, bundle: Bundle, options: ReadOptions
    ) -> tuple[DenseCounts, CellKeys]:
        """Matrix of all rows, and their keys; sets the features of the survey."""
        table = _opened(bundle.counts, bundle.root, "exprMat_file")
        features = tuple(name for name in table.names if name.casefold() not in _NO_FEATURES)
        self._features(survey, features, options, str(table.path))
        names = key_columns(table)
        keys = scan_counts(table, names["fov"], names["cell"], features)
        return DenseCounts(table, features), keys

    def _features(
        self, survey: Survey, features: Sequence[str], options: ReadOptions, where: str
    ) -> None:
        kinds = [control_kind(name) for name in features]
        found = features_of(
            features,
            ["controls" if kind else "" for kind in kinds],
            options=options,
            where=where,
            feature_types=[kind or "Gene Expression" for kind in kinds],
            completeness=completeness(options, where, "complete"),
        )
        survey.panel, survey.apart = found.panel, found.apart


@dataclass(slots=True)
class _Tables:
    """What was read of the flat files; None for what has a fault."""

    counts: tuple[DenseCounts, CellKeys] | None = None
    meta: Metadata | None = None
    places: Positions | None = None


def _compose(survey: Survey, bundle: Bundle, tables: _Tables, options: ReadOptions) -> None:
    """Bring counts and cells together, place them, and add what goes with them."""
    meta = tables.meta
    if tables.counts is None or meta is None:
        return
    dense, keys = tables.counts
    described = str(bundle.described)
    cells = match(keys, meta, str(bundle.counts), described)
    survey.notes += cells.notes
    survey.versions["counts_outside_cells"] = keys.outside_counts
    survey.ids = cells.ids
    survey.counts = replace(dense, rows=cells.rows)
    frame = _frame(survey, bundle, meta, tables.places, options.um_per_unit)
    survey.positions = _positions(meta, cells, frame, described)
    flip = (options.y_axis or survey.y_axis) == "up"
    scale = survey.unit.um_per_unit or 1.0
    target = Target(meta, cells, frame, scale, flip, survey.notes)
    _elements(survey, bundle, target, options.reader_kwargs)


def _frame(
    survey: Survey,
    bundle: Bundle,
    meta: Metadata,
    places: Positions | None,
    given: float | str | None,
) -> FovFrame | None:
    """Frame of the FOVs and pixel size; sets the unit of the survey."""
    fitted = _fit(bundle, meta, every=places is None)
    survey.unit = find_pixel_size(
        given,
        None if places is None else size_by_places(places, fitted),
        size_by_area(meta.area_px, meta.area_um2),
        max(_reach(meta), step_of(places), *map(max, fov_sizes(bundle.images).values())),
        f"{survey.path}:um_per_unit",
    )
    frame = fitted
    if places is not None:
        size = survey.unit.um_per_unit or USUAL_UM
        frame = (
            from_positions(places, size) if fitted is None else with_positions(fitted, places, size)
        )
    if frame is not None:
        survey.notes += frame.notes
        survey.versions["frame"] = frame.how
        survey.versions["fovs"] = int(frame.fov.size)
    return frame


def _reach(meta: Metadata) -> float:
    """Largest local pixel."""
    known = np.empty(0) if meta.local is None else meta.local[np.isfinite(meta.local)]
    return float(known.max()) if known.size else 0.0


def _elements(survey: Survey, bundle: Bundle, target: Target, kwargs: Mapping[str, object]) -> None:
    """Columns of the cells, transcripts, boundaries and images."""
    if bundle.metadata is not None:
        survey.obs = open_table(bundle.metadata).columns(rows=target.cells.of)
    else:
        keys = {"fov": target.meta.fov, "cell_ID": target.meta.cell}
        survey.obs = {
            name: ArrayColumn("numeric", NumericValues(values[target.cells.of]))
            for name, values in keys.items()
        }
    part = survey.faults.part
    with part():
        if bundle.transcripts is not None:
            points = read_transcripts(bundle.transcripts, target)
            survey.points |= {} if points is None else {"transcripts": points}
    with part():
        if bundle.polygons is not None:
            survey.shapes = read_polygons(bundle.polygons, target)
    with part():
        chosen = kwargs.get("images")
        images = without(bundle.images, chosen, str(survey.path))
        pictures, masks = mosaics(images, bundle.images, target)
        survey.images.update(pictures)
        survey.labels.update(masks)
        if any(name.startswith("CellLabels") for name in masks):
            rows = np.arange(1, target.cells.rows.size + 1, dtype=np.uint32)
            survey.obs["cell_label"] = ArrayColumn("numeric", NumericValues(rows))
        if "CellOverlay" in bundle.images and chosen in (None, True):
            survey.notes.append("CellOverlay not read: CellComposite with outlines drawn on it")


def _bundle(path: Path, options: ReadOptions) -> Bundle:
    sample = options.reader_kwargs.get("sample")
    found = locate(path, None if sample is None else str(sample))
    return found if _with_transcripts(options) else replace(found, transcripts=None)


def _with_transcripts(options: ReadOptions) -> bool:
    return options.reader_kwargs.get("transcripts", True) is not False


def _opened(path: Path | None, root: Path, what: str) -> Table:
    if path is None:
        raise InputError(
            Fault(str(root), f"expected *{what}.csv, but got no such file; copy all flat files")
        )
    return open_table(path)


def _described(bundle: Bundle) -> Metadata:
    """Cells of the metadata, or of the boundaries where there is none."""
    if bundle.metadata is None and bundle.polygons is not None:
        return cells_by_polygons(open_table(bundle.polygons))
    return read_metadata(_opened(bundle.metadata, bundle.root, "metadata_file"))


def _fit(bundle: Bundle, meta: Metadata, *, every: bool) -> FovFrame | None:
    """Frame by the cells; else by vertices or transcripts that have both kinds of pixels."""
    if meta.local is not None and meta.whole is not None:
        own = slice(None) if (meta.cell > 0).all() else meta.cell > 0
        found = fit_frame(
            meta.fov[own], meta.local[own], meta.whole[own], "cells", str(bundle.described)
        )
        if found is not None:
            return found
    for path, what in ((bundle.polygons, "vertices"), (bundle.transcripts, "transcripts")):
        found = None if path is None else frame_of(open_table(path), what, every=every)
        if found is not None:
            return found
    return None


def _positions(
    meta: Metadata, cells: Cells, frame: FovFrame | None, where: str
) -> NDArray[np.float64]:
    """Global pixels of the cells; computed from local ones where the file has none."""
    if meta.whole is not None:
        found = meta.whole[cells.of]
    elif meta.local is not None and frame is not None:
        found = frame.to_global(meta.fov[cells.of], meta.local[cells.of])
    else:
        raise InputError(
            Fault(
                where,
                "expected CenterX_global_px and CenterY_global_px, or local pixels and a "
                "fov_positions_file, but got neither; export the metadata with coordinates",
            )
        )
    lost = ~np.isfinite(found).all(axis=1)
    if lost.any():
        row = int(cells.of[np.flatnonzero(lost)[0]])
        raise InputError(
            Fault(
                where,
                f"expected a place for every cell, but got none for {int(lost.sum())}, first in "
                f"row {row + 1} (fov {meta.fov[row]}); copy fov_positions_file, or export it again",
            )
        )
    return np.ascontiguousarray(found)


def _missing(bundle: Bundle, options: ReadOptions) -> list[str]:
    missing = []
    if bundle.metadata is None:
        missing.append(
            "no *metadata_file: cells lie in the middle of the box around their boundary, as the "
            "vendor's centers do, and have no columns of their own"
        )
    if bundle.positions is None:
        missing.append("no *fov_positions_file: FOVs without cells have no place")
    if bundle.transcripts is None and _with_transcripts(options):
        missing.append("no *tx_file: no transcripts are written")
    if bundle.polygons is None:
        missing.append("no *polygons file: cells become circles")
    if not bundle.images:
        missing.append("no images (CellComposite, Morphology2D, CellLabels): none are written")
    return missing
