"""Reader of seqFISH output (Spatial Genomics): one region of interest of a folder.

Newer releases write positions of cells and transcripts in micrometers, older ones in pixels of the
DAPI image; borders, image and mask are in its pixels always. Which of them it is shows when the
positions are laid over the image, whose OME header has the size of a pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, override

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.image_sources import file_image, open_pixels
from ..missing import name_rows
from ..source import RingPiece, RingsSource
from ..units import FoundUnit, find_unit, spacing
from .column_values import numbers_of
from .dense import DenseCounts
from .folder import Folder
from .masks import add_mask
from .ome_pixels import pixel_um
from .panel_option import completeness
from .placed import placed_rows
from .seqfish_files import Roi, choose, rois_of
from .seqfish_rings import geojson_rings
from .table import Table, filled_table, open_table
from .transcripts import transcripts
from .vendor import Survey, VendorReader, features_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.images import Affine
    from ..reader import ReadOptions

__all__ = ["SeqFishReader"]

_OPTIONS = frozenset({"images", "panel", "pixel_um", "roi", "transcripts"})
_FAR = 1e9
_BESIDE = 0.02  # cells at the border of an image may lie a little outside
_APART_UM = (3.0, 60.0)
_CONTROLS = ("blank", "negprobe", "negctrl", "unassigned")


class SeqFishReader(VendorReader):
    """Tables, transcripts, borders, image and mask of one region of interest.

    reader_kwargs: `roi` (the region, where a folder has several), `pixel_um` (micrometers per pixel
    where the image does not say it), `images` and `transcripts` (false leaves them out), `panel`
    (`partial` when genes that are not listed may have been measured).
    """

    format: str = "seqfish"
    technology: str = "seqFISH"
    known_options: ClassVar[frozenset[str]] = _OPTIONS

    @override
    def recognizes(self, path: Path) -> bool:
        """Whether a folder has counts and positions of a region; never raises."""
        try:
            found = rois_of(Folder.of(path, 2)).values()
        except InputError:
            return False
        return any({"counts", "cells"} <= set(roi.files) for roi in found)

    @override
    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Return the files of the region, and the gene map."""
        roi = choose(path, rois_of(Folder.of(path, 2)), options.reader_kwargs.get("roi"))
        left = set()
        if not _wanted(options, "images"):
            left |= {"image", "labels"}
        if not _wanted(options, "transcripts"):
            left |= {"transcripts"}
        own = [file for kind, file in roi.files.items() if kind not in left]
        return (*own, *((options.gene_map,) if options.gene_map else ()))

    @override
    def survey(self, path: Path, options: ReadOptions) -> Survey:
        """Read the cells, then all that is laid over them."""
        survey = Survey(path)
        folder = Folder.of(path, 2)
        survey.faults.faults.extend(folder.faults)
        if folder.faults:
            return survey  # nothing outside the folder is opened
        roi = choose(path, rois_of(folder), options.reader_kwargs.get("roi"))
        survey.versions["roi"] = roi.name
        listed = np.empty(0, np.int64)
        with survey.faults.part():
            listed = _fill_cells(survey, roi, options)
        if survey.positions is None:
            return survey
        pixel = None
        with survey.faults.part():
            pixel = _pixel(roi, options)
            survey.versions["pixel_um"] = pixel
            survey.unit = _unit(survey, roi, pixel, options)
        with survey.faults.part():
            _fill_shapes(survey, roi, pixel, listed)
        for fill in (_fill_images, _fill_points):
            with survey.faults.part():
                fill(survey, roi, pixel, options)
        return survey


def _wanted(options: ReadOptions, name: str) -> bool:
    return options.reader_kwargs.get(name, True) is not False


def _fill_cells(survey: Survey, roi: Roi, options: ReadOptions) -> NDArray[np.int64]:
    """Read ids, positions, columns and genes; the matrix has the order of its own file.

    Returns
    -------
    ndarray, int64
        Row of the section for each cell of the list of cells, -1 for those left out.
    """
    _require_both(survey, roi)
    counts, cells = open_table(roi.files["counts"]), open_table(roi.files["cells"])
    label = "label" if "label" in cells.names else cells.names[0]
    ids, labels = counts.strings(counts.names[0]), cells.strings(label)
    if twice := labels.repeated():
        raise InputError(
            Fault(str(cells.path), f"expected every cell once, but got {twice[0]!r} again")
        )
    kept, rows = placed_rows(ids, labels, survey.notes, str(counts.path), "cells")
    positions = numbers_of(cells, "center_x", "center_y")[rows]
    wrong = np.flatnonzero(~(np.abs(positions) < _FAR).all(axis=1))
    if wrong.size:
        got = f"expected positions of all cells, but got none in {name_rows(rows[wrong])}"
        raise InputError(Fault(str(cells.path), got))
    _fill_features(survey, counts, None if kept.size == len(ids) else kept, options)
    survey.ids, survey.positions = ids.take(kept), positions
    others = [name for name in cells.names if name not in {label, "center_x", "center_y"}]
    survey.obs = cells.columns(others, rows)
    listed = np.full(len(labels), -1, np.int64)
    listed[rows] = np.arange(rows.size)
    return listed


def _require_both(survey: Survey, roi: Roi) -> None:
    names = {"counts": "*CellxGene*.csv", "cells": "*CellCoordinates*.csv"}
    faults = [
        Fault(str(survey.path), f"expected {names[kind]}, but got none; copy it there")
        for kind in names
        if kind not in roi.files
    ]
    if faults:
        raise InputError(faults)


def _fill_features(
    survey: Survey, table: Table, kept: NDArray[np.int64] | None, options: ReadOptions
) -> None:
    """Tell genes from controls."""
    # A tab at the end of each line makes a column without a name.
    genes = tuple(name for name in table.names[1:] if not name.startswith("column_"))
    found = features_of(
        genes,
        ["controls" if name.casefold().startswith(_CONTROLS) else "" for name in genes],
        options=options,
        where=str(table.path),
        completeness=completeness(options, str(survey.path), "complete"),
    )
    survey.panel, survey.apart = found.panel, found.apart
    survey.counts = DenseCounts(table, genes, kept)


def _pixel(roi: Roi, options: ReadOptions) -> float | None:
    given = options.reader_kwargs.get("pixel_um")
    if given is not None:
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 < given < np.inf:
            raise InputError(
                Fault("reader_kwargs pixel_um", f"expected micrometers, but got {given!r}")
            )
        return float(given)
    sizes = (pixel_um(roi.files[kind]) for kind in ("image", "labels") if kind in roi.files)
    return next((size for size in sizes if size is not None), None)


def _unit(survey: Survey, roi: Roi, pixel: float | None, options: ReadOptions) -> FoundUnit:
    """Find the unit of the cells: micrometers or pixels, by where they lie on the image."""
    where = f"{survey.path}:um_per_unit"
    assert survey.positions is not None
    if options.um_per_unit is not None:
        return find_unit(survey.positions, options.um_per_unit, where=where)
    image = roi.files.get("image", roi.files.get("labels"))
    if image is not None and pixel is not None:
        with open_pixels(image) as pixels:
            size = np.array(pixels.shape[:0:-1], np.float64)
        if _within(survey.positions, size * pixel):
            return FoundUnit(1.0, f"micrometers: the cells lie within {image.name}")
        if _within(survey.positions, size):
            how = f"pixels of {image.name}: as micrometers the cells would lie outside of it"
            return FoundUnit(pixel, f"{pixel:g} um per unit, {how}")
        raise InputError(
            Fault(
                where,
                f"expected cells within {image.name} ({size[0]:.0f} x {size[1]:.0f} pixels of "
                f"{pixel:g} um), but got {_span(survey.positions)}; they are of different regions, "
                "or set um_per_unit",
            )
        )
    apart = spacing(survey.positions)
    if apart is None or not _APART_UM[0] <= apart <= _APART_UM[1]:
        raise InputError(
            Fault(
                where,
                "expected an image that says the size of its pixels, but got none, and cells "
                f"{apart or 0:.3g} units apart, which are no micrometers; set um_per_unit",
            )
        )
    note = "um_per_unit: no image says the size of a pixel; positions are taken as micrometers"
    return FoundUnit(1.0, "micrometers, as newer releases write them", (note,))


def _within(positions: NDArray[np.float64], size: NDArray[np.float64]) -> bool:
    """Whether positions lie in an image of some width and height, or just beside it."""
    beside = _BESIDE * size
    return bool(((positions >= -beside) & (positions <= size + beside)).all())


def _span(positions: NDArray[np.float64]) -> str:
    low, high = positions.min(axis=0), positions.max(axis=0)
    return f"x from {low[0]:g} to {high[0]:g}, y from {low[1]:g} to {high[1]:g}"


def _affine(survey: Survey, pixel: float | None, options: ReadOptions) -> Affine:
    """Pixels to stored coordinates: micrometers, or source units where those are unknown."""
    scale = (pixel or 1.0) if survey.unit.um_per_unit else 1.0
    return ((scale, 0.0, 0.0), (0.0, -scale if options.y_axis == "up" else scale, 0.0))


def _fill_shapes(survey: Survey, roi: Roi, pixel: float | None, listed: NDArray[np.int64]) -> None:
    file = roi.files.get("boundaries")
    if file is None:
        survey.missing.append("no *Boundaries*.geojson in the folder: cells become circles")
        return
    unit = survey.unit.um_per_unit
    if unit is not None and pixel is None:
        survey.missing.append(
            f"no size of a pixel (PhysicalSizeX of the DAPI image): {file.name} is left out; set "
            "reader_kwargs pixel_um"
        )
        return
    assert survey.ids is not None
    scale = 1.0 if unit is None or pixel is None else pixel / unit
    rings = geojson_rings(file, survey.ids, listed)
    survey.shapes = RingsSource(
        partial(_scaled, rings.pieces, scale), rings.n_vertices, rings.notes
    )


def _scaled(pieces: Callable[[], Iterator[RingPiece]], scale: float) -> Iterator[RingPiece]:
    for piece in pieces():
        yield RingPiece(piece.rows, piece.counts, piece.vertices * scale)


def _fill_images(survey: Survey, roi: Roi, pixel: float | None, options: ReadOptions) -> None:
    if not _wanted(options, "images"):
        return
    there = [kind for kind in ("image", "labels") if kind in roi.files]
    if there and pixel is None and survey.unit.um_per_unit:
        listed = ", ".join(roi.files[kind].name for kind in there)
        survey.missing.append(
            f"no size of a pixel in {listed}: left out; set reader_kwargs pixel_um"
        )
        return
    affine = _affine(survey, pixel, options)
    if "image" in roi.files:
        with open_pixels(roi.files["image"]):
            survey.images["DAPI"] = file_image(roi.files["image"], affine)
    else:
        survey.missing.append("no *DAPI*.tiff in the folder: no image is written")
    if "labels" in roi.files:
        add_mask(survey, "Segmentation", roi.files["labels"], affine)
    else:
        survey.missing.append("no *Segmentation*.tiff in the folder: no mask is written")


def _fill_points(survey: Survey, roi: Roi, pixel: float | None, options: ReadOptions) -> None:
    if not _wanted(options, "transcripts"):
        return
    file = roi.files.get("transcripts")
    if file is None:
        survey.missing.append("no *TranscriptList*.csv in the folder: no transcripts are written")
        return
    table = filled_table(file, survey.notes)
    if table is None:
        return
    survey.points["transcripts"] = transcripts(
        table,
        x="x",
        y="y",
        z="z" if "z" in table.names else None,
        gene="name" if "name" in table.names else "gene",
        cell="cell" if "cell" in table.names else None,
        no_cell=("0", "", "-1", "0.0"),
        scale=survey.unit.um_per_unit or 1.0,
        flip=options.y_axis == "up",
    )
