"""Reader of Xenium outputs: releases (XOA) 1.x to 4.x and Xenium Ranger, whole or in part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.gene_names import organism_of, species_of
from ..reader import ReadOptions
from ..tenx import FeatureMatrix, open_mtx
from ..units import find_unit
from ..var_columns import genome_organism
from .panel_option import completeness
from .table import filled_table, open_table
from .vendor import Survey, VendorReader, features_of
from .xenium_cells import (
    cluster_columns,
    cluster_files,
    match_cells,
    radii,
    summary_columns,
    zip_rows,
)
from .xenium_features import open_matrix_h5, open_matrix_zip, tables_of
from .xenium_files import locate, looks_like, read_run
from .xenium_images import alignment_of, image_files
from .xenium_parts import Parts
from .xenium_points import add_points
from .xenium_raster import add_images, add_labels, add_place
from .xenium_rings import cell_rings, nucleus_outlines, zip_outlines
from .xenium_zip import open_cells

__all__ = ["XeniumReader"]

_NEWEST = 4
_SWITCHES = ("images", "transcripts", "boundaries", "labels")


class XeniumReader(VendorReader):
    """A Xenium output folder; what is not there is noted, and only what is there is written.

    Coordinates are micrometers. Pixels of images and masks become micrometers by `pixel_size` of
    `experiment.xenium`, else of the image, else 0.2125.

    reader_kwargs: `images`, `transcripts`, `boundaries`, `labels` (false leaves them out), `min_qv`
    (leaves out transcripts of lower quality; none by default), `pixel_size` (micrometers a pixel),
    `image_affine` (matrix from pixels of the morphology image to micrometers), `image_alignment`
    (matrix, or its CSV, from pixels of the sheet's `image` to those of the morphology image),
    `panel` (`partial` when the matrix was cut down to some genes).
    """

    format: str = "xenium"
    technology: str = "Xenium"
    takes_image = True
    known_options: ClassVar[frozenset[str]] = frozenset(
        {*_SWITCHES, "min_qv", "pixel_size", "image_affine", "image_alignment", "panel"}
    )

    def recognizes(self, path: Path) -> bool:
        """Whether a path looks like an output; never raises."""
        return looks_like(path)

    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Return every file that is read with these options."""
        files = locate(path)
        kwargs = options.reader_kwargs
        found: list[Path | None] = list(files.small)
        if kwargs.get("transcripts", True) is not False:
            found.append(files.transcripts)
        if kwargs.get("boundaries", True) is not False:
            found += [files.cell_boundaries, files.nucleus_boundaries]
        if kwargs.get("images", True) is not False:
            found += image_files(files.folder)
        found += [*cluster_files(files.folder), options.gene_map, options.image]
        if options.image is not None:
            found.append(alignment_of(options.image, kwargs))
        return tuple(dict.fromkeys(one for one in found if one is not None))

    def survey(self, path: Path, options: ReadOptions) -> Survey:
        """Read every part; a part with a fault leaves the others to be read."""
        survey = Survey(path)
        parts = Parts(locate(path), options, survey)
        survey.faults.faults.extend(parts.files.folder.faults)
        read = (_switches, _run, _zip, _counts, _cells, _unit, add_place)
        for step in (*read, _shapes, _nuclei, add_labels, add_points, add_images):
            with survey.faults.part():
                step(parts)
        return survey


def _switches(parts: Parts) -> None:
    """Read the options of the reader."""
    kwargs, where = parts.options.reader_kwargs, str(parts.survey.path)
    faults = []
    for name in _SWITCHES:
        value = kwargs.get(name, True)
        if not isinstance(value, bool):
            faults.append(
                Fault(where, f"expected reader_kwargs {name} true or false, but got {value!r}")
            )
        parts.on[name] = value is not False
    quality = kwargs.get("min_qv")
    if quality is not None:
        if isinstance(quality, bool) or not isinstance(quality, (int, float)):
            faults.append(
                Fault(where, f"expected reader_kwargs min_qv as a number, but got {quality!r}")
            )
        else:
            parts.min_qv = float(quality)
    try:
        parts.panel = completeness(parts.options, where, "complete")
    except InputError as error:
        faults += error.faults
    if faults:
        raise InputError(faults)


def _run(parts: Parts) -> None:
    """Read what the run says of itself."""
    parts.run = read_run(parts.files)
    survey, version = parts.survey, parts.run.version
    survey.versions |= parts.run.facts
    survey.notes += parts.run.notes
    if parts.files.experiment is None:
        survey.missing.append(
            "no experiment.xenium in the folder: versions, run and panel are not known"
        )
    elif version and version[0] > _NEWEST:
        text = ".".join(map(str, version))
        survey.notes.append(f"version {text} is newer than those known (1 to {_NEWEST}): check it")


def _zip(parts: Parts) -> None:
    """Open `cells.zarr.zip`."""
    if parts.files.cells_zarr is not None:
        parts.zipped = open_cells(parts.files.cells_zarr)
    else:
        parts.survey.missing.append(
            "no cells.zarr.zip in the folder: masks of cells and nuclei are not written"
        )


def _open_matrix(files: tuple[Path, ...], path: Path) -> FeatureMatrix:
    """Open the matrix that `locate` found."""
    if not files:
        raise InputError(
            Fault(
                str(path),
                "expected cell_feature_matrix.h5, the folder cell_feature_matrix (matrix.mtx.gz, "
                "barcodes.tsv.gz, features.tsv.gz) or cell_feature_matrix.zarr.zip, but got none; "
                "copy it from the output",
            )
        )
    if len(files) == 3:
        return open_mtx(*files)
    return open_matrix_h5(files[0]) if files[0].suffix == ".h5" else open_matrix_zip(files[0])


def _counts(parts: Parts) -> None:
    """Open the matrix; tell genes from controls."""
    survey, files, options = parts.survey, parts.files, parts.options
    matrix = _open_matrix(files.matrix, survey.path)
    first = files.matrix[0]
    where = str(first)
    if twice := matrix.barcodes.repeated():
        raise InputError(Fault(where, f"expected every cell once, but got {twice[0]!r} twice"))
    said = parts.run.organism
    found = species_of(matrix.gene_ids)
    if said and found and organism_of(said) != found:
        survey.notes.append(f"the panel is said to be of {said!r}, its genes are of {found}")
    features = features_of(
        matrix.names,
        tables_of(matrix.names, matrix.feature_types),
        options=options,
        where=where,
        gene_ids=matrix.gene_ids,
        feature_types=matrix.feature_types,
        organism="" if found else genome_organism(matrix.genomes) or said,
        completeness=parts.panel,
    )
    survey.ids, survey.counts = matrix.barcodes, matrix.counts
    survey.panel, survey.apart = features.panel, features.apart
    if "proteins" in survey.apart and first.suffix != ".h5":
        survey.notes.append(
            f"proteins as {first.name} has them: what they are divided by is said by "
            "cell_feature_matrix.h5 alone"
        )
    if matrix.software:
        survey.versions["matrix_software"] = matrix.software


def _cells(parts: Parts) -> None:
    """Positions and columns of the cells, in the order of the matrix."""
    survey, files, zipped = parts.survey, parts.files, parts.zipped
    if survey.ids is None:
        return
    if files.cells is not None:
        found = match_cells(open_table(files.cells), survey.ids, survey.notes)
        survey.positions, survey.obs = found.positions, found.obs
    elif zipped is None or not {"cell_centroid_x", "cell_centroid_y"} <= set(zipped.summary):
        raise InputError(
            Fault(
                str(survey.path),
                "expected cells.parquet, cells.csv.gz or cells.zarr.zip, but got none; "
                "copy it from the output",
            )
        )
    else:
        survey.missing.append("no cells.parquet: positions and areas are those of cells.zarr.zip")
    if zipped is not None:
        parts.zip_rows, at = zip_rows(survey.ids, zipped.ids)
        if at is None:
            # One copy of the ids is enough.
            parts.zipped = zipped = replace(zipped, ids=survey.ids)
        extra = summary_columns(zipped, at, survey, files.cells is None)
        survey.obs |= {name: column for name, column in extra.items() if name not in survey.obs}
    survey.obs |= cluster_columns(files.folder, survey.ids, survey.obs)


def _unit(parts: Parts) -> None:
    """Micrometers, unless the sheet says otherwise."""
    survey, options = parts.survey, parts.options
    positions = np.empty((0, 2)) if survey.positions is None else survey.positions
    survey.unit = find_unit(
        positions,
        options.um_per_unit,
        technology=options.technology,
        from_file=(1.0, "Xenium output: x_centroid, y_centroid in micrometers"),
        stated=True,
        where=f"{survey.path}:um_per_unit",
    )


def _shapes(parts: Parts) -> None:
    """Boundaries of the cells, or radii of circles in their place."""
    survey, files, zipped = parts.survey, parts.files, parts.zipped
    if survey.ids is None or not parts.on["boundaries"]:
        return
    table = filled_table(files.cell_boundaries, survey.notes)
    if table is not None:
        survey.shapes = cell_rings(table, survey.ids)
    elif zipped is not None and 1 in zipped.polygons and parts.zip_rows is not None:
        survey.shapes = zipped.rings(parts.zip_rows)
        survey.missing.append("no cell_boundaries: polygons of cells.zarr.zip are taken")
    else:
        survey.missing.append("no cell_boundaries in the folder: cells are circles")
        if "cell_area" in survey.obs:
            survey.radius = radii(survey.obs["cell_area"])


def _nuclei(parts: Parts) -> None:
    """Boundaries of the nuclei."""
    survey, files, zipped = parts.survey, parts.files, parts.zipped
    if not parts.on["boundaries"]:
        return
    table = filled_table(files.nucleus_boundaries, survey.notes)
    if table is not None:
        survey.outlines["nucleus_boundaries"] = nucleus_outlines(
            table, scale=parts.scale, flip=parts.flip
        )
    elif zipped is not None and 0 in zipped.polygons:
        survey.outlines["nucleus_boundaries"] = zip_outlines(
            zipped, scale=parts.scale, flip=parts.flip
        )
        survey.missing.append("no nucleus_boundaries: polygons of cells.zarr.zip are taken")
    else:
        survey.missing.append("no nucleus_boundaries in the folder: nuclei are not written")
