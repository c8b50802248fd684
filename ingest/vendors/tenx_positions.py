"""Reader of a 10x feature matrix (HDF5 or mtx) placed by any file of coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, override

import numpy as np

from ...atlas.errors import Fault, InputError, near
from ..anndata_parts import check_ids, check_positions
from ..guard import is_hdf5
from ..reader import ReadOptions
from ..units import find_unit
from ..var_columns import genome_organism
from .column_values import listed, numbers_of
from .folder import Folder
from .generic_counts import join_cells
from .panel_option import completeness
from .spaceranger_parts import MatrixFiles, image_files, lists_beside, survey_images
from .spot_rows import take_rows
from .table import Table, open_table
from .table_mapping import inside
from .table_sections import asked_where, chosen_rows, refuse_several
from .vendor import Survey, VendorReader, features_of
from .xenium_features import tables_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..source import StringValues
    from ..tenx import FeatureMatrix

__all__ = ["TenxReader"]

_MATRIX = ("*filtered*matrix*.h5", "*feature_bc_matrix*.h5", "*gene_bc_matri*.h5", "*matrix*.h5")
_MTX = tuple(
    f"{place}matrix.mtx{packed}"
    for place in ("", "*_", "*bc_matri*/", "*bc_matri*/*/")  # Cell Ranger 2 names the genome, too
    for packed in (".gz", "")
)
_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".parquet")
_STEMS = ("*position*", "*coord*", "*centroid*", "*location*", "*spatial*", "cells", "*metadata*")
_PLACES = tuple(f"{stem}{ending}" for stem in _STEMS for ending in _ENDINGS)
# Outputs that have readers of their own, which know more than two columns.
_OTHERS = (
    *("cell_feature_matrix.*", "experiment.xenium", "transcripts.parquet", "*tissue_positions*"),
    *("*bead_locations*", "*beadlocations*", "*matchedbeadlocation*"),
)
_CHOICES = "choose a section with reader_kwargs where, or name another with columns"
_NAMES = {
    "barcode": ("barcode", "barcodes", "cell_id", "cell", "cellid", "id", "bead", "column_0"),
    "x": (
        *("x", "x_um", "x_centroid", "center_x", "centroid_x", "xcoord", "x_coord", "coord_x"),
        *("pxl_col_in_fullres", "imagecol", "spatial_x", "spatial1", "spatial_1", "xcoords"),
    ),
    "y": (
        *("y", "y_um", "y_centroid", "center_y", "centroid_y", "ycoord", "y_coord", "coord_y"),
        *("pxl_row_in_fullres", "imagerow", "spatial_y", "spatial2", "spatial_2", "ycoords"),
    ),
}


class TenxReader(VendorReader):
    """A feature matrix of Cell Ranger's form, and a table of barcode, x, y.

    The path is the matrix (.h5), or a folder with it (or with matrix.mtx, barcodes.tsv and
    features.tsv) and the table. Every other column of the table is kept.

    reader_kwargs: `positions` (path of the table, from the folder), `columns` ([barcode, x, y]),
    `unmatched` (`drop` leaves out cells without a position), `where` (of several sections in the
    table, the values of its columns that choose one), `image_scale` (pixels of `image` per
    coordinate unit), `panel`.
    """

    format: str = "10x"
    technology: str = "10x matrix"
    takes_image = True
    known_options: ClassVar[frozenset[str]] = frozenset(
        {"columns", "image_scale", "panel", "positions", "unmatched", "where"}
    )
    # A matrix alone looks like an output of Space Ranger that lacks its spots.
    goes_over: ClassVar[frozenset[str]] = frozenset({"visium"})

    @override
    def recognizes(self, path: Path) -> bool:
        """Whether a folder has a matrix and a table of positions at its top; never raises."""
        try:
            if not path.is_dir() or (path / "spatial").is_dir() or (path / "outs").is_dir():
                return False
            folder = Folder.of(path, 2)
            matrix = [one for one in folder.all(*_MATRIX) if is_hdf5(one)] or folder.all(*_MTX)
            return bool(matrix and folder.all(*_PLACES)) and not folder.all(*_OTHERS)
        except (InputError, OSError):
            return False

    @override
    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Return matrix, lists beside it, positions, gene map and image."""
        folder = _folder(path)
        matrix = _matrix(path, folder).paths
        gene_map = () if options.gene_map is None else (options.gene_map,)
        return (*matrix, _positions(folder, matrix, options), *gene_map, *image_files(options))

    @override
    def survey(self, path: Path, options: ReadOptions) -> Survey:
        """Read names and positions; counts are not read."""
        survey, folder = Survey(path), _folder(path)
        part = survey.faults.part
        opened: list[FeatureMatrix] = []
        tables: list[Table] = []
        files: tuple[Path, ...] = ()
        if path.is_dir():
            survey.faults.faults.extend(folder.faults)
        with part():
            found = _matrix(path, folder)
            files, matrix = found.paths, found.open()
            check_ids(matrix.barcodes, f"{files[0]}:barcodes")
            survey.versions = {"software": matrix.software, **matrix.facts}
            opened.append(matrix)
        with part():
            tables.append(open_table(_positions(folder, files, options)))
        for matrix in opened:
            with part():
                _add_features(survey, matrix, options, str(files[0]))
            for table in tables:
                with part():
                    _place(survey, matrix, table, options)
        if survey.positions is not None:
            with part():
                survey.unit = find_unit(
                    survey.positions,
                    options.um_per_unit,
                    technology=options.technology,
                    where=f"{path}:um_per_unit",
                )
        with part():
            survey_images(survey, options, {})
        return survey


def _folder(path: Path) -> Folder:
    return Folder.of(path, 2) if path.is_dir() else Folder.of(path.parent, 0)


def _matrix(path: Path, folder: Folder) -> MatrixFiles:
    """One HDF5 file, or matrix, barcodes and features."""
    found: Path | None = path
    if path.is_dir():
        hdf5 = [one for one in folder.all(*_MATRIX) if is_hdf5(one)]
        # Of several, the filtered one; `find` refuses two of a kind.
        found = hdf5[0] if len(hdf5) == 1 else folder.find(*(_MATRIX if hdf5 else _MTX))
    if found is None:
        raise InputError(
            Fault(
                str(path),
                "expected a feature matrix (*feature_bc_matrix.h5, or matrix.mtx), but got none",
            )
        )
    if found.name.casefold().endswith((".mtx", ".mtx.gz")):
        return MatrixFiles("mtx", (found, *lists_beside(found)))
    return MatrixFiles("h5", (found,))


def _positions(folder: Folder, matrix: Sequence[Path], options: ReadOptions) -> Path:
    root, given = folder.root, options.reader_kwargs.get("positions")
    if given is not None:
        return inside(root, str(given), "reader_kwargs positions")
    for pattern in _PLACES:
        found = [one for one in folder.all(pattern) if one not in matrix]
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(one.name for one in found[:3])
            raise InputError(
                Fault(
                    str(root),
                    f"expected one table of positions, but got {listed}; name it with "
                    "reader_kwargs positions",
                )
            )
    raise InputError(
        Fault(
            str(root),
            "expected a table of barcode, x, y beside the matrix (such as positions.csv), but got "
            f"{', '.join(folder.names[:12]) or 'nothing'}; name it with reader_kwargs positions",
        )
    )


def _add_features(survey: Survey, matrix: FeatureMatrix, options: ReadOptions, where: str) -> None:
    names = [name or one for name, one in zip(matrix.names, matrix.gene_ids, strict=True)]
    found = features_of(
        names,
        tables_of(names, matrix.feature_types),
        options=options,
        where=where,
        gene_ids=matrix.gene_ids,
        feature_types=matrix.feature_types,
        organism=genome_organism(matrix.genomes),
        completeness=completeness(options, where, "complete"),
    )
    survey.panel, survey.apart = found.panel, found.apart


def _place(survey: Survey, matrix: FeatureMatrix, table: Table, options: ReadOptions) -> None:
    barcode, x, y = _columns(table, options)
    rows, at, notes = _joined(matrix.barcodes, table, barcode, options)
    positions = numbers_of(table, x, y)[at]
    check_positions(positions, f"{table.path} ({x}, {y})", at + 1)
    take_rows(survey, matrix, rows)
    survey.positions = positions
    kept = [name for name in table.names if name not in {barcode, x, y}]
    survey.obs = table.columns(kept, at)
    if options.split_by is None:
        refuse_several(table, positions, kept, at)
    survey.notes += notes
    survey.versions |= {"positions": table.path.name, "columns": [barcode, x, y]}


def _joined(
    cells: StringValues, table: Table, barcode: str, options: ReadOptions
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Rows of the matrix that are cells of the section, and the row of each in the table."""
    unmatched = options.reader_kwargs.get("unmatched", "subset")
    if unmatched not in ("subset", "drop"):
        raise InputError(Fault("reader_kwargs", f"expected unmatched drop, but got {unmatched!r}"))
    own, chosen = table.strings(barcode), _chosen(table, options)
    theirs, ours = np.arange(len(cells)), np.arange(len(own))
    if chosen is not None:
        ours = np.flatnonzero(chosen)
        others, own = own.take(np.flatnonzero(~chosen)), own.take(ours)
        # Cells that stand with other sections alone; those that stand nowhere are told.
        theirs = np.flatnonzero((cells.find_in(others) < 0) | (cells.find_in(own) >= 0))
        cells = cells.take(theirs)
    check_ids(own, f"{table.path}:{barcode}", _CHOICES)
    found, at, notes = join_cells(cells, own, str(unmatched), str(table.path))
    return theirs if found is None else theirs[found], ours if at is None else ours[at], notes


def _chosen(table: Table, options: ReadOptions) -> NDArray[np.bool_] | None:
    """(rows of the table,) whether each is of the section asked for; None where none is."""
    asked = asked_where(options)
    return chosen_rows(table, asked) if asked else None


def _columns(table: Table, options: ReadOptions) -> tuple[str, str, str]:
    """Columns of barcode, x and y: those given, else those of usual names."""
    given = options.reader_kwargs.get("columns")
    there = listed(table.names)
    if given is not None:
        words = [str(one) for one in given] if isinstance(given, list | tuple) else []
        lacking = [word for word in words if word not in table.names]
        if len(words) != 3 or lacking:
            hint = near(lacking[0], table.names) if lacking else ""
            raise InputError(
                Fault(
                    str(table.path),
                    "expected reader_kwargs columns to name three columns (barcode, x, y) of "
                    f"{there}, but got {given!r}.{hint}",
                )
            )
        return words[0], words[1], words[2]
    folded = {name.casefold().strip(): name for name in table.names}
    found = [next((folded[n] for n in names if n in folded), None) for names in _NAMES.values()]
    lacking = [role for role, name in zip(_NAMES, found, strict=True) if name is None]
    if lacking:
        raise InputError(
            Fault(
                str(table.path),
                f"expected columns of barcode, x and y, but got {there}, without "
                f"{' and '.join(lacking)}; name them with reader_kwargs columns",
            )
        )
    return str(found[0]), str(found[1]), str(found[2])
