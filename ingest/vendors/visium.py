"""Reader of Space Ranger outputs of Visium: spots, of any version since 1.0, CytAssist as well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ..source import ArrayColumn, BooleanValues, NumericValues
from ..units import find_unit
from ..var_columns import genome_organism
from .folder import Folder
from .panel_option import completeness
from .spaceranger_parts import (
    MatrixFiles,
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
from .spot_positions import RowIndex, Spots, array_pitch, place_spots
from .spot_rows import spot_rows, take_rows
from .spot_tables import find_spot_tables, spot_columns
from .vendor import Survey, VendorReader, features_of
from .visium_hd_files import is_visium_hd
from .visium_probes import open_probes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..reader import ReadOptions
    from ..source import StringValues
    from ..tenx import FeatureMatrix

__all__ = ["VisiumReader", "add_features", "add_rows"]

_SPOT_UM, _PITCH_UM = 55.0, 100.0  # diameter of a spot and distance of centers, 10x Genomics
_ARRAY_SPOTS = 65_536  # more than any array has: 4,992 or 14,336
_BASES = ("", "outs/")
_SPATIAL = ("spatial/", "outs/spatial/", "", "outs/")
_IMAGES = ("hires", "lowres")
_STEMS = {
    "filtered": "filtered_feature_bc_matrix",
    "raw": "raw_feature_bc_matrix",
    "probe": "raw_probe_bc_matrix",
}
_POSITIONS = (
    "tissue_positions.csv",
    "tissue_positions_list.csv",
    "tissue_positions_list.txt",
    "tissue_positions.parquet",
    "tissue_positions.csv.gz",
    "tissue_positions_list.csv.gz",
)
_PACKED = ("*spatial.tar.gz", "*spatial.tgz", "*spatial.zip", "*spatial.tar")


class VisiumReader(VendorReader):
    """A Space Ranger output folder: a feature-barcode matrix and `spatial`.

    The filtered matrix is taken, else the raw one, else the probe-level one; of the latter two only
    the spots in the tissue. The unit comes from the spot lattice (100 um), never from
    `spot_diameter_fullres`.

    reader_kwargs: `matrix` (`filtered`, `raw`, `probe`), `probes` (`genes` sums them, `features`
    keeps each), `in_tissue_only` (true or false), `unplaced` (`refuse`, or `drop` barcodes without
    a position), `images` (false, or a list of `hires` and `lowres`), `image_scale` (pixels of
    `image` per full-resolution pixel), `panel` (`partial` when the matrix was cut down).
    """

    format = "visium"
    technology = "Visium"
    takes_image = True
    known_options = frozenset(
        {"image_scale", "images", "in_tissue_only", "matrix", "panel", "probes", "unplaced"}
    )

    def recognizes(self, path: Path) -> bool:
        """Whether the folder looks like an output; never raises."""
        try:
            if not path.is_dir() or (path / "zarr.json").exists() or is_visium_hd(path):
                return False
            return any(_looks_like(path / base) for base in _BASES)
        except OSError:
            return False

    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Return the files of the first matrix, positions, scale factors, images, tables."""
        folder = Folder.of(path, 3)
        matrix = find_matrix(folder, _BASES, _STEMS, options.reader_kwargs.get("matrix")).paths
        positions = folder.find(*within(_SPATIAL, *_POSITIONS))
        scale, factors, _ = find_scalefactors(folder, _SPATIAL)
        wanted = images_wanted(options, _IMAGES)
        images = [one for one, _ in scaled_images(folder, _SPATIAL, factors, wanted)[0].values()]
        tables = find_spot_tables(folder, _BASES).values()
        run = run_files(folder, _BASES).values()
        extra = (positions, scale, *images, *tables, *run, options.gene_map)
        return (*matrix, *(one for one in extra if one is not None), *image_files(options))

    def survey(self, path: Path, options: ReadOptions) -> Survey:
        """Read every part; a part with a fault leaves the others to be read."""
        survey = Survey(path)
        folder = Folder.of(path, 3)
        survey.faults.faults.extend(folder.faults)
        if is_visium_hd(path):
            survey.faults.add(
                str(path), "expected spots of Visium, but got bins; set `format` to visium_hd"
            )
            return survey
        factors: dict[str, float] = {}
        matrix: FeatureMatrix | None = None
        opened: list[tuple[MatrixFiles, FeatureMatrix]] = []
        with survey.faults.part():
            _, factors, missing = find_scalefactors(folder, _SPATIAL)
            survey.missing += missing
        with survey.faults.part():
            found = find_matrix(folder, _BASES, _STEMS, options.reader_kwargs.get("matrix"))
            matrix = _open(found, survey, options)
            opened.append((found, matrix))
            add_features(survey, matrix, options, str(found.paths[0]))
        with survey.faults.part():
            positions = _positions(folder)
            for found, matrix in opened:
                _add_spots(survey, folder, positions, found, matrix, options)
        with survey.faults.part():
            wanted = images_wanted(options, _IMAGES)
            images, missing = scaled_images(folder, _SPATIAL, factors, wanted)
            survey.missing += missing
            survey_images(survey, options, images)
        _note_cytassist(folder, survey)
        with survey.faults.part():
            survey.versions |= run_facts(run_files(folder, _BASES), matrix, factors)
        return survey


def _looks_like(root: Path) -> bool:
    """Whether a matrix of Space Ranger or a table of spots lies here; looks at names."""
    if not root.is_dir():
        return False
    names = [one.name for one in root.iterdir()]
    spatial = root / "spatial"
    if spatial.is_dir():
        names += [one.name for one in spatial.iterdir()]
    return any(
        name.startswith(("tissue_positions", "scalefactors_json"))
        or "_tissue_positions" in name
        or any(name.endswith((stem, f"{stem}.h5")) for stem in _STEMS.values())
        for name in names
    )


def _positions(folder: Folder) -> Path:
    found = folder.find(*within(_SPATIAL, *_POSITIONS))
    if found is not None:
        return found
    packed = folder.all(*_PACKED, *(f"outs/{one}" for one in _PACKED))
    step = f"unpack {packed[0].name}" if packed else "copy the whole `spatial` folder of the output"
    raise InputError(
        Fault(
            f"{folder.root}/spatial",
            f"expected spot positions ({', '.join(_POSITIONS[:2])}), but got none: without them no "
            f"spot has a place; {step}",
        )
    )


def _open(found: MatrixFiles, survey: Survey, options: ReadOptions) -> FeatureMatrix:
    survey.missing += read_instead(found, _STEMS, options.reader_kwargs.get("matrix"))
    if found.kind != "probe":
        return found.open()
    matrix, notes = open_probes(found.paths[0], options.reader_kwargs.get("probes", "genes"))
    survey.notes += notes
    return matrix


def add_features(survey: Survey, matrix: FeatureMatrix, options: ReadOptions, where: str) -> None:
    """Tell the features of a matrix; those of antibodies stay, as features of their type.

    The panel is complete: matrices list the whole reference, also genes without a single count.

    Raises
    ------
    InputError
        Features that repeat or an option of no meaning.
    """
    features = features_of(
        matrix.names,
        [""] * len(matrix.names),
        options=options,
        where=where,
        gene_ids=matrix.gene_ids,
        feature_types=matrix.feature_types,
        organism=genome_organism(matrix.genomes),
        completeness=completeness(options, where, "complete"),
    )
    survey.panel, survey.apart = features.panel, features.apart


def _add_spots(  # noqa: PLR0917 - private, one caller
    survey: Survey,
    folder: Folder,
    positions: Path,
    found: MatrixFiles,
    matrix: FeatureMatrix,
    options: ReadOptions,
) -> None:
    """Spots of the matrix that have a place, their columns, and the unit of the array."""
    index = RowIndex.of(matrix.barcodes, str(found.paths[0]))
    spots = place_spots(positions, index, keep=_ARRAY_SPOTS)
    # Matrices that are not filtered hold the spots on glass, too.
    rows, notes = spot_rows(
        spots,
        matrix.barcodes,
        options,
        positions,
        what="spots",
        tissue_only=found.kind != "filtered",
    )
    survey.notes += notes
    ids = add_rows(survey, matrix, spots, rows)
    survey.obs |= spot_columns(find_spot_tables(folder, _BASES), ids, survey.obs)
    _add_unit(survey, spots, options)


def add_rows(
    survey: Survey, matrix: FeatureMatrix, spots: Spots, rows: NDArray[np.int64]
) -> StringValues:
    """Fill in ids, positions, counts and the columns of the array for the rows kept; the ids."""
    survey.positions = spots.positions[rows]
    survey.obs = {
        "in_tissue": ArrayColumn("boolean", BooleanValues(spots.in_tissue[rows])),
        "array_row": ArrayColumn("numeric", NumericValues(spots.array_row[rows])),
        "array_col": ArrayColumn("numeric", NumericValues(spots.array_col[rows])),
    }
    return take_rows(survey, matrix, rows)


def _add_unit(survey: Survey, spots: Spots, options: ReadOptions) -> None:
    """Find the unit by the lattice of the whole array, also where spots lie beside the tissue."""
    pitch = array_pitch(spots)
    known: tuple[float | str, str] = (f"lattice:{_PITCH_UM:g}", "Visium spots")
    if pitch is not None:
        known = (
            _PITCH_UM / pitch,
            (
                f"hexagonal lattice of pitch {pitch:.6g} pixels taken as {_PITCH_UM:g} um, fitted "
                f"to the rows and columns of {spots.array.shape[0]} spots"
            ),
        )
    survey.unit = find_unit(
        spots.array[:, :2],
        options.um_per_unit,
        technology="Visium",
        from_file=known,
        where=f"{survey.path}:um_per_unit",
    )
    scale = survey.unit.um_per_unit
    if scale is not None:
        survey.radius = _SPOT_UM / 2 / scale
    elif pitch is not None:
        survey.radius = pitch * (_SPOT_UM / 2 / _PITCH_UM)


def _note_cytassist(folder: Folder, survey: Survey) -> None:
    if folder.all(*within(_SPATIAL, "cytassist_image.tiff", "cytassist_image.tif")):
        survey.notes.append(
            "cytassist_image.tiff is not written: the output does not say how it lies on the spots"
        )
