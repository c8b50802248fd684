"""Reader of Space Ranger outputs of Visium HD: square bins, or segmented cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ..source import RingsSource
from ..units import find_unit
from .folder import Folder
from .rings import ring_outlines
from .spaceranger_parts import (
    find_matrix,
    find_scalefactors,
    image_files,
    images_wanted,
    read_instead,
    scaled_images,
    survey_images,
    within,
)
from .spaceranger_run import run_facts, run_files
from .spot_positions import RowIndex, Spots, grid_step, place_spots
from .spot_rows import placed_rows, spot_rows, take_rows
from .vendor import Survey, VendorReader
from .visium import add_features, add_rows
from .visium_hd_cells import CellRings, centroids
from .visium_hd_files import (
    BinFolder,
    bin_folders,
    cell_folders,
    choose_bin,
    choose_cells,
    is_visium_hd,
)
from .visium_hd_slice import cytassist_affine, find_slice, slice_facts

if TYPE_CHECKING:
    from ..reader import ReadOptions
    from ..tenx import FeatureMatrix

__all__ = ["VisiumHDReader"]

_BIN_STEMS = {"filtered": "filtered_feature_bc_matrix", "raw": "raw_feature_bc_matrix"}
_CELL_STEMS = {"filtered": "filtered_feature_cell_matrix", "raw": "raw_feature_cell_matrix"}
_POSITIONS = ("tissue_positions.parquet", "tissue_positions.csv", "tissue_positions_list.csv")
_ROOTS = ("", "outs/")
_SHARED = ("spatial/", "outs/spatial/")
_TOLERANCE = 0.05
_IMAGES = ("hires", "lowres", "cytassist")
_MAPPINGS = "barcode_mappings.parquet"
_CELLS, _NUCLEI = "cell_segmentations.geojson", "nucleus_segmentations.geojson"


class VisiumHDReader(VendorReader):
    """A Space Ranger output of Visium HD, whole, or one folder of it.

    Bins of 8 um are taken unless told otherwise. They are kept as a grid: positions, `array_row`,
    `array_col` and one radius (half a bin), never a polygon each. The unit is `microns_per_pixel`
    of the scale factors, else the pitch of the grid.

    reader_kwargs: `bin_size` (micrometers), `segmented` (true takes cells instead of bins),
    `matrix` (`filtered`, `raw`), `in_tissue_only`, `unplaced` (`refuse`, or `drop` bins without a
    position), `images` (false, or a list of `hires`, `lowres`, `cytassist`), `image_scale` (pixels
    of `image` per full-resolution pixel), `panel` (`partial` when the matrix was cut down).
    """

    format = "visium_hd"
    technology = "Visium HD"
    takes_image = True
    known_options = frozenset(
        {
            "bin_size",
            "image_scale",
            "images",
            "in_tissue_only",
            "matrix",
            "panel",
            "segmented",
            "unplaced",
        }
    )

    def recognizes(self, path: Path) -> bool:
        """Whether the folder is an output or a part of one; never raises."""
        return is_visium_hd(path)

    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Return the files of the bins or cells chosen, images and run facts."""
        folder = Folder.of(path)
        place = _Place.of(folder, options)
        matrix = find_matrix(
            folder, (place.base,), place.stems, options.reader_kwargs.get("matrix")
        )
        scale, factors, _ = find_scalefactors(folder, place.spatial)
        wanted = images_wanted(options, _IMAGES)
        scaled, _ = scaled_images(folder, place.spatial, factors, wanted)
        found = [
            folder.find(*within((place.base,), _CELLS, f"{_CELLS}.gz")) if place.cells else None,
            folder.find(*within((place.base,), _NUCLEI, f"{_NUCLEI}.gz")) if place.cells else None,
            None if place.cells else folder.find(*within(place.own, *_POSITIONS)),
            _cytassist(folder) if "cytassist" in wanted else None,
            find_slice(folder, _ROOTS),
            scale,
            options.gene_map,
        ]
        images = [one for one, _ in scaled.values()]
        more = (*images, *run_files(folder, _ROOTS).values(), *image_files(options))
        return (*matrix.paths, *(one for one in found if one is not None), *more)

    def survey(self, path: Path, options: ReadOptions) -> Survey:
        """Read every part; a part with a fault leaves the others to be read."""
        survey = Survey(path)
        folder = Folder.of(path)
        survey.faults.faults.extend(folder.faults)
        if not is_visium_hd(path):
            survey.faults.add(
                str(path),
                "expected an output of Visium HD (binned_outputs, square_008um or "
                "segmented_outputs), but got none; of Visium, set `format` to visium",
            )
            return survey
        places: list[_Place] = []
        with survey.faults.part():
            places.append(_Place.of(folder, options))
        for place in places:
            self._fill(survey, folder, place, options)
        return survey

    def _fill(self, survey: Survey, folder: Folder, place: _Place, options: ReadOptions) -> None:
        survey.notes += place.notes
        factors: dict[str, float] = {}
        matrix: FeatureMatrix | None = None
        with survey.faults.part():
            _, factors, missing = find_scalefactors(folder, place.spatial)
            survey.missing += missing
        with survey.faults.part():
            chosen = options.reader_kwargs.get("matrix")
            found = find_matrix(folder, (place.base,), place.stems, chosen)
            survey.missing += read_instead(found, place.stems, chosen)
            matrix = found.open()
            with survey.faults.part():
                add_features(survey, matrix, options, str(found.paths[0]))
            if place.cells:
                _add_cells(survey, folder, place, matrix, factors, options)
            else:
                raw = found.kind != "filtered"
                _add_bins(survey, folder, place, matrix, factors, options, tissue_only=raw)
        wanted: tuple[str, ...] = ()
        with survey.faults.part():
            wanted = images_wanted(options, _IMAGES)
        with survey.faults.part():
            images, missing = scaled_images(folder, place.spatial, factors, wanted)
            survey.missing += missing
            survey_images(survey, options, images)
        with survey.faults.part():
            survey.versions |= run_facts(run_files(folder, _ROOTS), matrix, factors)
        with survey.faults.part():
            _add_slice(survey, folder, options, placed="cytassist" in wanted)
        if folder.all(*within(_ROOTS, _MAPPINGS)):
            survey.notes.append(f"{_MAPPINGS} (which bin lies in which cell) is there and not read")


class _Place:
    """The folder that is read: bins of one size, or cells."""

    def __init__(self, base: str, um: float | None, *, cells: bool, notes: tuple[str, ...]) -> None:
        self.base, self.um, self.cells, self.notes = base, um, cells, notes
        self.own = (f"{base}spatial/", base)
        self.spatial = tuple(dict.fromkeys((*self.own, *_SHARED)))
        self.stems = _CELL_STEMS if cells else _BIN_STEMS

    @classmethod
    def of(cls, folder: Folder, options: ReadOptions) -> _Place:
        """Choose by the options; a folder with cells alone gives cells."""
        segmented = options.reader_kwargs.get("segmented")
        if segmented not in (None, True, False):
            raise InputError(Fault("segmented", f"expected true or false, but got {segmented!r}"))
        bin_size = options.reader_kwargs.get("bin_size")
        if segmented and bin_size is not None:
            raise InputError(
                Fault("bin_size", "expected no bin_size where `segmented` is true, but got one")
            )
        free = segmented is None and bin_size is None
        if segmented or (free and cell_folders(folder) and not bin_folders(folder)):
            notes = () if segmented else ("no bins in the folder: segmented cells are read",)
            return cls(choose_cells(folder), None, cells=True, notes=notes)
        chosen: BinFolder = choose_bin(folder, bin_size)
        return cls(chosen.base, chosen.um, cells=False, notes=())


def _add_bins(  # noqa: PLR0917 - private, one caller
    survey: Survey,
    folder: Folder,
    place: _Place,
    matrix: FeatureMatrix,
    factors: dict[str, float],
    options: ReadOptions,
    *,
    tissue_only: bool,
) -> None:
    path = folder.find(*within(place.own, *_POSITIONS))
    if path is None:
        raise InputError(
            Fault(
                f"{survey.path}/{place.base}spatial",
                "expected tissue_positions.parquet, but got none: without it no bin has a place; "
                "copy the whole `spatial` folder of the bins",
            )
        )
    spots = place_spots(path, RowIndex.of(matrix.barcodes, str(survey.path)))
    rows, notes = spot_rows(
        spots, matrix.barcodes, options, path, what="bins", tissue_only=tissue_only
    )
    survey.notes += notes
    add_rows(survey, matrix, spots, rows)
    _bin_unit(survey, place, spots, factors, options)


def _bin_unit(
    survey: Survey,
    place: _Place,
    spots: Spots,
    factors: dict[str, float],
    options: ReadOptions,
) -> None:
    """Take the scale factors' unit, else that of the grid; tell where the two disagree."""
    said, um = factors.get("microns_per_pixel"), factors.get("bin_size_um", place.um)
    if place.um is not None and um != place.um:
        survey.notes.append(f"{place.base or survey.path.name} holds bins of {um:g} um")
    step = grid_step(spots)
    from_file: tuple[float | str, str] | None = None
    if said is not None:
        from_file = (said, "microns_per_pixel of scalefactors_json.json")
    elif step and um:
        from_file = (um / step, f"bins of {um:g} um, {step:.6g} pixels apart")
    assert survey.positions is not None
    survey.unit = find_unit(
        survey.positions,
        options.um_per_unit,
        technology=None,
        from_file=from_file,
        stated=True,
        where=f"{survey.path}:um_per_unit",
    )
    scale = survey.unit.um_per_unit
    if scale is None:
        survey.radius = None if step is None else step / 2
        return
    if step and um and not 1 - _TOLERANCE < step * scale / um < 1 + _TOLERANCE:
        survey.notes.append(
            f"the grid of the bins has a pitch of {step * scale:.4g} um, but bins are {um:g} um"
        )
    survey.radius = None if um is None else um / 2 / scale


def _add_cells(  # noqa: PLR0917 - private, one caller
    survey: Survey,
    folder: Folder,
    place: _Place,
    matrix: FeatureMatrix,
    factors: dict[str, float],
    options: ReadOptions,
) -> None:
    """Cells with the centroids of their polygons as positions."""
    path = folder.need("polygons of the cells", *within((place.base,), _CELLS, f"{_CELLS}.gz"))
    where = str(survey.path)
    rings = CellRings.of(path, matrix.barcodes, where)
    positions, n_vertices = centroids(rings)
    placed = np.isfinite(positions[:, 0])
    rows, notes = placed_rows(placed, matrix.barcodes, options, path, "cells", "polygon")
    survey.notes += notes
    ids, survey.positions = take_rows(survey, matrix, rows), positions[rows]
    if rows.size < placed.size:
        rings = CellRings.of(path, ids, where)
    survey.shapes = RingsSource(rings, n_vertices)
    said = factors.get("microns_per_pixel")
    survey.unit = find_unit(
        survey.positions,
        options.um_per_unit,
        from_file=None if said is None else (said, "microns_per_pixel of scalefactors_json.json"),
        stated=True,
        where=f"{where}:um_per_unit",
    )
    nuclei = folder.find(*within((place.base,), _NUCLEI, f"{_NUCLEI}.gz"))
    if nuclei is None:
        survey.missing.append(f"no {_NUCLEI} in the folder: no outlines of nuclei are written")
        return
    source = RingsSource(CellRings(nuclei, rings.numbers, rings.order))
    survey.outlines["nuclei"] = ring_outlines(
        source,
        ids,
        scale=survey.unit.um_per_unit or 1.0,
        flip=(options.y_axis or survey.y_axis) == "up",
    )


def _cytassist(folder: Folder) -> Path | None:
    names = ("cytassist_image.tiff", "cytassist_image.tif")
    return folder.find(*within((*_SHARED, *_ROOTS), *names))


def _add_slice(survey: Survey, folder: Folder, options: ReadOptions, *, placed: bool) -> None:
    """Run facts and transforms of feature_slice.h5, and the image that they place."""
    path, image = find_slice(folder, _ROOTS), _cytassist(folder)
    facts: dict[str, object] = {}
    if path is not None:
        try:
            facts = slice_facts(path)
        except InputError as error:  # nothing of the section lies in it
            survey.notes.append(f"feature_slice.h5 cannot be read: {error}")
        survey.versions |= {"feature_slice": facts} if facts else {}
    if image is None or not placed:
        return
    source, note = cytassist_affine(image, facts, survey.unit.um_per_unit or 1.0, options)
    if source is not None:
        survey.images["cytassist"] = source
    survey.notes.append(note)
