"""Reader of any tables of cells, counts and transcripts, described by a small YAML mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast, override

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.image_sources import file_image, open_pixels
from ..anndata_parts import check_ids, check_positions
from ..reader import ReadOptions
from ..source import StringValues
from ..split import MaskedCounts
from ..units import find_unit
from .column_values import numbers_of, require_columns
from .generic_counts import FoundCounts, find_counts
from .panel_option import completeness
from .rings import vertex_rings
from .table import Table, filled_table, open_table
from .table_mapping import (
    MAPPING_NAMES,
    BoundariesPart,
    TableMapping,
    TranscriptsPart,
    inside,
    read_mapping,
)
from .table_sections import asked_where, chosen_rows, refuse_several
from .transcripts import transcripts
from .vendor import Survey, VendorReader, features_of
from .xenium_features import tables_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.points import PointsSource
    from ..source import ImageSource, RingsSource

__all__ = ["TableReader"]


@dataclass(slots=True)
class _Cells:
    """The table of cells."""

    table: Table
    ids: StringValues
    positions: NDArray[np.float64]
    used: set[str] = field(default_factory=set)
    """Columns that are id or position."""


class TableReader(VendorReader):
    """Tables (CSV, TSV, Parquet) of cells, counts and transcripts, as a mapping describes them.

    The mapping is `tisseract.yaml` in the folder, or reader_kwargs `mapping`: what such a file
    would say, or its path. See docs/platforms/table.md.

    reader_kwargs: `mapping`, `panel` (`partial` when genes that are not listed may have been
    measured), `image_scale` (pixels of `image` per coordinate unit), `where` (of several
    sections in one table: the values of columns that one has, such as `{"section": "A"}`).
    """

    format: str = "table"
    technology: str = "table"
    takes_image = True
    known_options: ClassVar[frozenset[str]] = frozenset(
        {"image_scale", "mapping", "panel", "where"}
    )
    # Who writes a mapping beside the files means it.
    goes_over: ClassVar[frozenset[str]] = frozenset({"*"})

    @override
    def recognizes(self, path: Path) -> bool:
        """Whether the folder has a mapping, or the file is one; never raises."""
        try:
            if path.is_dir():
                return any((path / name).is_file() for name in MAPPING_NAMES)
            return path.is_file() and path.name in MAPPING_NAMES
        except OSError:
            return False

    @override
    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Return the mapping, the tables it names, gene map and image."""
        root, said, mapping = _mapping(path, options)
        parts = (mapping.cells, mapping.counts, mapping.genes, mapping.transcripts)
        names = [part.path for part in (*parts, mapping.boundaries) if part is not None]
        names.append(mapping.counts.barcodes)
        found = [inside(root, name, str(path)) for name in dict.fromkeys(names) if name]
        given = (said, *found, options.gene_map, options.image)
        return tuple(one for one in given if one is not None)

    @override
    def survey(self, path: Path, options: ReadOptions) -> Survey:
        """Read mapping, ids, positions and names of genes; counts are not read."""
        survey = Survey(path)
        root, said, mapping = _mapping(path, options)
        part = survey.faults.part
        with part():
            cells = _read_cells(root, mapping)
            used = frozenset(cells.used)
            found = find_counts(root, mapping, cells.table, cells.ids, options, used)
            _fill(survey, root, mapping, cells, found, options)
            _add_elements(survey, root, mapping, options)
        survey.technology = mapping.technology
        survey.y_axis = mapping.y_axis
        survey.versions = {"mapping": said.name if said else "reader_kwargs"}
        return survey


def _fill(  # noqa: PLR0917 - private, one caller
    survey: Survey,
    root: Path,
    mapping: TableMapping,
    cells: _Cells,
    found: FoundCounts,
    options: ReadOptions,
) -> None:
    part = survey.faults.part
    found = _one_section(cells, found, mapping, options)
    at = found.cells
    names = found.symbols or found.genes
    with part():
        features = features_of(
            names,
            _tables_of(names, found.feature_types, mapping.controls),
            options=options,
            where=found.where,
            gene_ids=found.genes if found.symbols else None,
            feature_types=found.feature_types,
            completeness=completeness(options, str(root), "complete"),
        )
        survey.panel, survey.apart = features.panel, features.apart
    survey.notes += found.notes
    survey.counts = found.counts
    survey.ids = cells.ids if at is None else cells.ids.take(at)
    survey.positions = cells.positions if at is None else cells.positions[at]
    with part():
        wanted = _wanted_obs(cells, found, mapping)
        require_columns(cells.table.path, cells.table.names, wanted, "cells.obs")
        survey.obs = cells.table.columns(wanted, at)
    with part():
        from_file = mapping.um_per_unit
        survey.unit = find_unit(
            survey.positions,
            options.um_per_unit,
            technology=options.technology or mapping.technology or None,
            from_file=None if from_file is None else (from_file, "the mapping"),
            where=f"{survey.path}:um_per_unit",
        )


def _add_elements(survey: Survey, root: Path, mapping: TableMapping, options: ReadOptions) -> None:
    assert survey.ids is not None
    part, scale = survey.faults.part, survey.unit.um_per_unit
    flip = (options.y_axis or mapping.y_axis) == "up"
    if mapping.transcripts is not None:
        with part():
            spots = _spots(root, mapping.transcripts, scale, flip, survey.notes)
            survey.points |= {} if spots is None else {"transcripts": spots}
    if mapping.boundaries is not None:
        with part():
            survey.shapes = _rings(root, mapping.boundaries, survey.ids)
    if options.image is not None:
        with part():
            survey.images["image"] = _image(options.image, options, scale or 1.0, flip)


def _spots(
    root: Path, part: TranscriptsPart, scale: float | None, flip: bool, notes: list[str]
) -> PointsSource | None:
    path = inside(root, part.path, "transcripts.path")
    table = filled_table(path, notes, delimiter=part.delimiter)
    if table is None:
        return None
    named = (part.x, part.y, part.gene, part.z, part.cell)
    require_columns(table.path, table.names, filter(None, named), "transcripts")
    own = None if scale is None else part.um_per_unit
    return transcripts(
        table,
        x=part.x,
        y=part.y,
        z=part.z,
        gene=part.gene,
        cell=part.cell,
        no_cell=part.outside,
        scale=own or scale or 1.0,
        flip=flip,
    )


def _rings(root: Path, part: BoundariesPart, ids: StringValues) -> RingsSource:
    table = open_table(inside(root, part.path, "boundaries.path"), delimiter=part.delimiter)
    require_columns(table.path, table.names, (part.cell, part.x, part.y), "boundaries")
    return vertex_rings(table, part.cell, part.x, part.y, ids)


def _image(path: Path, options: ReadOptions, scale: float, flip: bool) -> ImageSource:
    pixels = options.reader_kwargs.get("image_scale", 1.0)
    if not isinstance(pixels, int | float) or not 0 < float(pixels) < np.inf:
        raise InputError(Fault("image_scale", f"expected a number above zero, but got {pixels!r}"))
    with open_pixels(path):  # the header alone
        pass
    size, sign = scale / float(pixels), -1.0 if flip else 1.0
    return file_image(path, ((size, 0.0, 0.0), (0.0, sign * size, 0.0)))


def _mapping(path: Path, options: ReadOptions) -> tuple[Path, Path | None, TableMapping]:
    """Folder that paths start from, the file of the mapping if it is one, and what it says."""
    is_mapping = path.is_file() and path.name in MAPPING_NAMES
    root = path if path.is_dir() else path.parent
    own = None if path.is_dir() or is_mapping else path.name
    given = options.reader_kwargs.get("mapping")
    if isinstance(given, Mapping):
        return root, None, read_mapping(cast("object", given), "mapping", own)
    if given is not None:
        said = inside(root, str(given), "mapping")
        return root, said, read_mapping(said, said.name, own)
    if is_mapping:
        return root, path, read_mapping(path, path.name, own)
    for name in MAPPING_NAMES:
        if (root / name).is_file() and not (root / name).is_symlink():
            return root, root / name, read_mapping(root / name, name, own)
    raise InputError(
        Fault(
            str(path),
            f"expected {MAPPING_NAMES[0]} beside the tables, or reader_kwargs mapping, but got "
            "neither; it names the columns: cells: {path, id, x, y}, counts: {path, layout}",
        )
    )


def _read_cells(root: Path, mapping: TableMapping) -> _Cells:
    part = mapping.cells
    table = open_table(inside(root, part.path, "cells.path"), delimiter=part.delimiter)
    named = (part.x, part.y, part.z, part.id)
    require_columns(table.path, table.names, filter(None, named), "cells")
    positions = numbers_of(table, part.x, part.y)
    if len(positions) == 0:
        raise InputError(Fault(str(table.path), "expected cells, but got a table without rows"))
    numbers = np.arange(1, len(positions) + 1)
    check_positions(positions, f"{table.path} ({part.x}, {part.y})", numbers)
    if part.id is None:
        ids = StringValues.from_strings(numbers.astype(str).astype(object))
    else:
        ids = table.strings(part.id)
        check_ids(ids, f"{table.path}:{part.id}", "or name another with `cells.id`")
    return _Cells(table, ids, positions, {part.x, part.y, *([part.id] if part.id else [])})


def _one_section(
    cells: _Cells, found: FoundCounts, mapping: TableMapping, options: ReadOptions
) -> FoundCounts:
    """Keep the cells of one section, or see that there is only one."""
    at = np.arange(len(cells.ids)) if found.cells is None else found.cells
    asked = {**(mapping.cells.where or {}), **asked_where(options)}
    if asked:
        if mapping.transcripts is not None:
            raise InputError(
                Fault(
                    "transcripts",
                    "expected no transcripts with `where`, since nothing says of which section "
                    "they are; write a table for each section",
                )
            )
        keep = np.flatnonzero(chosen_rows(cells.table, asked)[at])
        if keep.size == 0:
            raise InputError(Fault(str(cells.table.path), f"expected cells of {asked}, got none"))
        found = replace(found, counts=MaskedCounts(found.counts, keep), cells=at[keep])
        at = at[keep]
    if options.split_by is None:
        refuse_several(cells.table, cells.positions[at], _kept(cells, found), at)
    return found


def _wanted_obs(cells: _Cells, found: FoundCounts, mapping: TableMapping) -> tuple[str, ...]:
    chosen = _kept(cells, found) if mapping.cells.obs is None else mapping.cells.obs
    height = (mapping.cells.z,) if mapping.cells.z else ()
    return tuple(dict.fromkeys((*chosen, *height)))


def _kept(cells: _Cells, found: FoundCounts) -> tuple[str, ...]:
    """Columns that are neither id nor position nor gene."""
    left = cells.used | found.used
    return tuple(name for name in cells.table.names if name not in left)


def _tables_of(
    names: Sequence[str], kinds: Sequence[str] | None, controls: Sequence[str]
) -> list[str]:
    """Tell the table of each feature by its type, where there is one, and by the mapping."""
    return [
        "controls" if any(fnmatchcase(name, pattern) for pattern in controls) else table
        for name, table in zip(
            names, tables_of(names, kinds) if kinds else [""] * len(names), strict=True
        )
    ]
