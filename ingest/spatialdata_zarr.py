"""Reader of SpatialData stores (containers 0.1 and 0.2): one table and the region it annotates."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError, near
from ..atlas.genes import Panel
from ..atlas.obs_names import stored_names
from ..atlas.outlines import OutlinesSource
from ..atlas.points import PointsSource
from ..atlas.points_write import LEAST_POINTS_BYTES
from .anndata_parts import (
    check_ids,
    check_one_section,
    locate_matrix,
    obs_kinds,
    split_codes,
)
from .frame import (
    LazyColumn,
    MaskedColumn,
    OpenedNode,
    TextColumn,
    index_name,
)
from .matrix import MatrixFacts, StreamedMatrix
from .meaning import check_values
from .read_memory import ReadMemory
from .reader import FaultList, Inspection, ReadOptions, check_reader_kwargs
from .ring_spill import RING_BYTES
from .sdata_elements import (
    ZarrNode,
    check_chunks,
    open_store,
    read_images,
)
from .sdata_place import Annotation, Placed, place_cells, take_polygons
from .sdata_points import Target, read_labels, read_outlines, read_points
from .source import ColumnKind, CountsSource, ImageSource, ObsColumn, RawSection
from .split import MaskedCounts
from .units import FoundUnit, find_unit
from .var_columns import read_panel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SpatialDataReader"]

_ELEMENTS = frozenset({"images", "labels", "points", "shapes"})
_OPTIONS = frozenset(
    {
        "coordinate_system",
        "drop_columns",
        "feature_type_column",
        "gene_id_column",
        "images",
        "labels",
        "panel",
        "points",
        "positions",
        "shapes",
        "symbol_column",
        "table",
        "zero_padded",
    }
)


_PARTS = (
    *("tables", "table", "shapes", "images", "points", "labels"),
    *("zarr.json", ".zgroup", ".zattrs"),
)


@dataclass(slots=True)
class _Survey:
    """What a store holds, as far as it could be read."""

    table: Annotation = field(default_factory=lambda: Annotation("", (), "", ""))
    key: str = ""
    facts: MatrixFacts | None = None
    panel: Panel | None = None
    columns: dict[str, ColumnKind] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    index: str = ""
    codes: NDArray[np.int64] | None = None
    labels: tuple[str, ...] = ()
    placed: Placed | None = None
    images: dict[str, ImageSource] = field(default_factory=dict)
    points: dict[str, PointsSource] = field(default_factory=dict)
    rasters: dict[str, ImageSource] = field(default_factory=dict)
    outlines: dict[str, OutlinesSource] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    faults: FaultList = field(default_factory=FaultList)


class SpatialDataReader:
    """A SpatialData store on disk: cells of one table, placed by the shapes it annotates.

    Positions are the centroids of the region's shapes in the coordinate system `microns` if there
    is one, else `global`; without shapes, `obsm["spatial"]`. Points, label images and further
    shapes come with them where they lie in the same system and the store is one section.

    reader_kwargs: `table` (when there are several), `coordinate_system`, `positions` (`obsm` takes
    them from the table although there are shapes), `images`, `points`, `labels` and `shapes`
    (false leaves them out; `shapes` are those beside the cells),
    `drop_columns`, `gene_id_column`, `symbol_column`, `feature_type_column`, `panel`,
    `zero_padded`.
    """

    format: str = "spatialdata"

    def recognizes(self, path: Path) -> bool:
        """Whether the folder is a Zarr group with SpatialData's collections; never raises."""
        try:
            zarr = (path / "zarr.json").is_file() or (path / ".zgroup").is_file()
            return zarr and any((path / n).is_dir() for n in ("tables", "table", "shapes"))
        except OSError:
            return False

    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Return every file of table, shapes and images, and the gene map."""
        found = [
            one
            for part in _PARTS
            for one in ([path / part] if (path / part).is_file() else (path / part).rglob("*"))
            if one.is_file() and not one.is_symlink()
        ]
        return (*sorted(found), *((options.gene_map,) if options.gene_map else ()))

    def inspect(self, path: Path, options: ReadOptions) -> Inspection:
        """Tell what the store holds and everything wrong with it."""
        survey, unit = self._survey(path, options)
        splits: dict[str, int] = {}
        if survey.codes is not None:
            sizes = np.bincount(survey.codes, minlength=len(survey.labels)).tolist()
            splits = dict(zip(survey.labels, sizes, strict=True))
        return Inspection(
            self.format,
            path,
            n_obs=survey.facts.n_obs if survey.facts else 0,
            n_vars=survey.facts.n_vars if survey.facts else 0,
            nnz=survey.facts.nnz if survey.facts else None,
            technology=options.technology,
            organism=options.organism or (survey.panel.organism if survey.panel else None) or None,
            um_per_unit=unit.um_per_unit,
            unit_source=unit.how,
            columns=survey.columns,
            splits=splits,
            images=tuple(survey.images),
            reading=_reading(survey),
            notes=tuple(survey.notes),
            faults=tuple(survey.faults.faults),
        )

    def open(self, path: Path, options: ReadOptions) -> RawSection:
        """Open one section; shapes and positions are read, obs and counts are not."""
        survey, unit = self._survey(path, options)
        value = options.split_value
        if survey.codes is not None and value not in survey.labels:
            survey.faults.add(
                str(path),
                f"expected split_value out of {', '.join(survey.labels)}, but got {value!r}",
            )
        survey.faults.raise_all(path)
        placed = survey.placed
        assert placed is not None
        assert survey.panel is not None
        assert survey.facts is not None
        rows = None
        if survey.codes is not None and value is not None:
            rows = np.flatnonzero(survey.codes == survey.labels.index(value))
        keep = slice(None) if rows is None else rows

        def masked(column: ObsColumn) -> ObsColumn:
            return column if rows is None else MaskedColumn(column, rows)

        table = f"{survey.table.key}/obs"
        node = ZarrNode(path, table)
        counts: CountsSource = StreamedMatrix(ZarrNode(path, survey.key), survey.facts)
        return RawSection(
            positions=np.ascontiguousarray(placed.positions[keep]),
            instance_ids=masked(TextColumn(LazyColumn(node, survey.index, "string"))),
            obs={
                name: masked(LazyColumn(node, name, kind)) for name, kind in survey.columns.items()
            },
            panel=survey.panel,
            counts=counts if rows is None else MaskedCounts(counts, rows),
            values=options.matrix_values,
            um_per_unit=unit.um_per_unit,
            y_axis=options.y_axis or "down",
            radius=None if placed.radius is None else placed.radius[keep],
            images=survey.images,
            shapes=take_polygons(placed.polygons, rows),
            points=survey.points,
            labels=survey.rasters,
            outlines=survey.outlines,
            reading=_reading(survey),
            metadata=dict(options.metadata),
            provenance=_provenance(path, options, survey, unit),
        )

    def _survey(self, path: Path, options: ReadOptions) -> tuple[_Survey, FoundUnit]:
        """Read every part; a part with a fault leaves the others to be read."""
        survey, unit = _Survey(), FoundUnit(None, "unknown")
        part, where = survey.faults.part, str(path)
        with part():
            check_reader_kwargs(options, _OPTIONS, where)
        with part(), open_store(path) as root:
            survey.table = _annotation(root, _find_table(root, options, where))
            table = root[survey.table.key]
            self._read_table(table, options, survey, where)
            with part():
                survey.placed = place_cells(root, path, options, survey.table)
                survey.notes.extend(survey.placed.notes)
            if survey.placed is not None:
                if options.split_by is None:
                    with part():
                        check_one_section(table["obs"], survey.placed.positions, where)
                with part():
                    said = (
                        (1.0, "coordinate system 'microns'")
                        if survey.placed.system == "microns"
                        else None
                    )
                    chosen = survey.placed.positions
                    if survey.codes is not None and options.split_value in survey.labels:
                        wanted = survey.labels.index(options.split_value)
                        chosen = chosen[survey.codes == wanted]
                    unit = find_unit(
                        chosen,
                        options.um_per_unit,
                        technology=options.technology,
                        from_file=said,
                        where=f"{where}:um_per_unit",
                    )
                with part():
                    _find_images(root, path, options, survey, unit)
        return survey, unit

    def _read_table(self, table: Any, options: ReadOptions, survey: _Survey, where: str) -> None:
        obs, part = table["obs"], survey.faults.part
        at = f"{where}/{survey.table.key}"
        survey.index = index_name(obs)
        with part():
            key, var, survey.facts = locate_matrix(table, options.layer, at)
            survey.key = f"{survey.table.key}/{key}"
            check_chunks(table[key], at)
            layers = table["layers"] if "layers" in table else {}  # noqa: SIM401 - no `get` in zarr
            choices = {name: layers[name] for name in layers if f"layers/{name}" != key}
            with part():
                check_values(table[key], options, choices, f"{at}/{key}")
            with part():
                survey.panel = read_panel(table[var], options, at)
        with part():
            kinds = obs_kinds(obs, options, at)
            # The region is the element's name, and ours is written anew.
            own = {survey.table.region_key} | (
                {survey.table.instance_key}
                if survey.table.instance_key.startswith("spatialdata_")
                else set()
            )
            survey.columns = {name: kind for name, kind in kinds.items() if name not in own}
            survey.renamed = stored_names(survey.columns, f"{at}/obs")
        with part():
            names = TextColumn(LazyColumn(OpenedNode(obs), survey.index, "string"))
            check_ids(names.read(), f"{at}/obs/{survey.index}")
        if options.split_by not in (None, "none"):
            with part():
                survey.codes, survey.labels = split_codes(obs, str(options.split_by), at)
        elif len(survey.table.regions) > 1 and options.split_by is None:
            survey.faults.add(
                at,
                f"expected a table of one region, but got {', '.join(survey.table.regions)}; set "
                f"`split_by` to {survey.table.region_key!r} for one section per region, "
                "or to 'none'",
            )


def _find_table(root: Any, options: ReadOptions, where: str) -> str:
    """Key of the table: the one asked for, or the only one."""
    found = {
        name: f"{group}/{name}"
        for group in ("tables", "table")
        if group in root
        for name in root[group]
    }
    asked = options.reader_kwargs.get("table")
    if asked is None and len(found) == 1:
        return next(iter(found.values()))
    if asked is not None and str(asked) in found:
        return found[str(asked)]
    raise InputError(
        Fault(
            where,
            f"expected {'the table ' + repr(asked) if asked else 'one table'}, but got "
            f"{', '.join(found) or 'none'}; set reader_kwargs table"
            f"{near(asked, found) if asked else ''}",
        )
    )


def _annotation(root: Any, key: str) -> Annotation:
    """Read which elements a table annotates, and by which columns."""
    attrs = root[key].attrs.asdict()
    region = attrs.get("region") or ()
    regions = (region,) if isinstance(region, str) else tuple(map(str, region))
    keys = (str(attrs.get(name) or "") for name in ("region_key", "instance_key"))
    return Annotation(key, regions, *keys)


def _find_images(
    root: Any, path: Path, options: ReadOptions, survey: _Survey, unit: FoundUnit
) -> None:
    if options.image is not None:
        raise InputError(
            Fault(str(path), "expected no `image` for a SpatialData store: it brings its own")
        )
    assert survey.placed is not None
    system, factor = survey.placed.system, unit.um_per_unit or 1.0
    sign = -1.0 if options.y_axis == "up" else 1.0
    place = np.diag([factor, sign * factor, 1.0])
    wanted = {k for k in _ELEMENTS if options.reader_kwargs.get(k, True) is not False}
    if "images" in wanted:
        survey.images.update(read_images(root, path, system, place, survey.notes))
    for kind in sorted(_ELEMENTS - wanted - {"images"}):
        if kind in root and list(root[kind]):
            survey.notes.append(f"{kind} are left out, as asked")
    wanted -= {"images"}
    if survey.codes is not None:
        # Nothing in a point or a pixel says to which of the sections it belongs.
        several = [kind for kind in sorted(wanted) if kind in root and list(root[kind])]
        if several:
            survey.notes.append(f"{' and '.join(several)} left out: the table is split")
        return
    target = Target(system, place, factor)
    taken = survey.table.regions
    if "points" in wanted:
        key = survey.renamed.get(survey.table.instance_key, "")
        survey.points.update(read_points(root, path, target, key, survey.notes))
    if "labels" in wanted:
        survey.rasters.update(read_labels(root, path, target, survey.notes))
    if "shapes" in wanted:
        survey.outlines.update(read_outlines(root, path, target, taken, survey.notes))


def _reading(survey: _Survey) -> ReadMemory:
    polygons = survey.placed is not None and survey.placed.polygons is not None
    return ReadMemory(
        points=LEAST_POINTS_BYTES if survey.points or survey.outlines else 0,
        rings=RING_BYTES if polygons else 0,
    )


def _provenance(
    path: Path, options: ReadOptions, survey: _Survey, unit: FoundUnit
) -> dict[str, object]:
    return {
        "reader": "spatialdata",
        "file": path.name,
        "table": survey.table.key,
        "regions": list(survey.table.regions),
        "coordinate_system": survey.placed.system if survey.placed else "",
        "matrix": survey.key,
        "values": options.matrix_values,
        "positions": survey.placed.source if survey.placed else "",
        "unit": unit.how,
        "um_per_unit": unit.um_per_unit,
        "y_axis": options.y_axis or "down",
        "y_flipped": options.y_axis == "up",
        "split_by": options.split_by,
        "split_value": options.split_value,
        "renamed_columns": {a: b for a, b in survey.renamed.items() if a != b},
        "notes": list(survey.notes),
    }
