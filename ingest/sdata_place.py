"""Where the cells of a SpatialData table are: shapes and transformations to one system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError
from .anndata_parts import read_positions
from .frame import LazyColumn, OpenedNode, TextColumn, n_rows, read_column
from .missing import missing, name_rows
from .ngff import choose_system
from .reader import ReadOptions
from .sdata_elements import Outlines, element_systems, read_shapes
from .sdata_ragged import is_ragged
from .source import Polygons
from .split import encode

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Annotation", "Placed", "place_cells", "take_polygons"]

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a table says of the elements it annotates."""

    key: str
    """The table, as `tables/table`."""
    regions: tuple[str, ...]
    """Elements it annotates."""
    region_key: str
    """obs column that names the element of each row."""
    instance_key: str
    """obs column that names the instance in it."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Every row of a table in one coordinate system."""

    system: str
    """The system."""
    positions: NDArray[np.float64]
    """(n, 2) x, y in it."""
    source: str
    """Where positions came from."""
    radius: NDArray[np.float64] | None
    """(n,) of circles, in it."""
    polygons: Polygons | None
    """Boundaries, in it."""
    notes: tuple[str, ...]
    """What was simplified or left out."""


def place_cells(root: Any, path: Path, options: ReadOptions, table: Annotation) -> Placed:
    """Place every row: centroids of its region's shapes, else `obsm`, in one coordinate system.

    Raises
    ------
    InputError
        If cells have no shape, no finite position, or no system is common to all regions.
    """
    regions = _regions(root, table)
    elements = {name: _element(root, name) for name in regions}
    matrices = {name: element_systems(e) for name, (_, e) in elements.items() if e is not None}
    system = _system(matrices, options, path)
    chosen = {name: known[system] for name, known in matrices.items()}
    shaped = bool(regions) and all(
        kind == "shapes"
        and ((path / "shapes" / name / "shapes.parquet").is_file() or is_ragged(path, name))
        for name, (kind, _) in elements.items()
    )
    if shaped and options.reader_kwargs.get("positions") != "obsm":
        return _by_shapes(root, path, table, regions, system, chosen)
    positions, source, notes = read_positions(root[table.key], options, f"{path}/{table.key}")
    for name, rows in regions.items():
        if name in chosen:
            positions[rows] = _apply(chosen[name], positions[rows])
    return Placed(system, positions, source, None, None, tuple(notes))


def _regions(root: Any, table: Annotation) -> dict[str, NDArray[np.int64]]:
    """Rows of each region."""
    obs = root[table.key]["obs"]
    if len(table.regions) < 2:
        return {name: np.arange(n_rows(obs)) for name in table.regions}
    codes, labels = encode(read_column(obs, table.region_key))
    return {name: np.flatnonzero(codes == i) for i, name in enumerate(labels)}


def _element(root: Any, name: str) -> tuple[str, Any]:
    for kind in ("shapes", "labels", "points"):
        if kind in root and name in root[kind]:
            return kind, root[kind][name]
    return "", None


def _system(matrices: Mapping[str, Mapping[str, object]], options: ReadOptions, path: Path) -> str:
    """Coordinate system that all regions share."""
    common = set.intersection(*map(set, matrices.values())) if matrices else {"global"}
    asked = options.reader_kwargs.get("coordinate_system")
    system = choose_system(sorted(common), asked)
    if system is None:
        wanted = f"the coordinate system {asked!r}" if asked else "one coordinate system"
        raise InputError(
            Fault(
                str(path),
                f"expected {wanted}, but got {', '.join(sorted(common)) or 'none'}; set "
                "reader_kwargs coordinate_system",
            )
        )
    return system


def _by_shapes(  # noqa: PLR0917 - private, one caller
    root: Any,
    path: Path,
    table: Annotation,
    regions: Mapping[str, NDArray[np.int64]],
    system: str,
    matrices: Mapping[str, NDArray[np.float64]],
) -> Placed:
    obs = root[table.key]["obs"]
    positions = np.full((n_rows(obs), 2), np.nan)
    radius = np.full(len(positions), np.nan)
    polygons: Polygons | None = None
    notes: list[str] = []
    for name, rows in regions.items():
        outlines, matrix = read_shapes(path, name), matrices[name]
        notes.extend(outlines.notes)
        at = _shape_of(obs, table.instance_key, outlines, rows, f"{path}/shapes/{name}")
        positions[rows] = _apply(matrix, outlines.centers[at])
        if outlines.radius is not None:
            radius[rows] = outlines.radius[at] * np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
        if outlines.polygons is not None and len(regions) == 1:
            own = take_polygons(outlines.polygons, at)
            assert own is not None
            polygons = Polygons(_apply(matrix, own.vertices), own.offsets)
        elif outlines.polygons is not None:
            notes.append("boundaries left out: the table has several regions")
    lost = int((~np.isfinite(positions).all(axis=1)).sum())
    if lost:
        raise InputError(
            Fault(str(path), f"expected a finite position for every cell, but got {lost} without")
        )
    sizes = radius if np.isfinite(radius).all() else None
    source = f"shapes/{', '.join(regions)}"
    return Placed(system, positions, source, sizes, polygons, tuple(dict.fromkeys(notes)))


def _apply(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = points @ matrix[:2, :2].T + matrix[:2, 2]
    return moved


def _shape_of(
    obs: Any, key: str, outlines: Outlines, rows: NDArray[np.int64], where: str
) -> NDArray[np.int64]:
    """Shape of each table row, by the instance key."""
    import pandas as pd

    values = read_column(obs, key)
    absent = rows[missing(values)[rows]]
    if absent.size:
        raise InputError(
            Fault(where, f"expected {key} in every row, but got none in {name_rows(absent)}")
        )
    keys: Any = getattr(values, "values", None)
    index = pd.Index(outlines.instances)
    if keys is None or outlines.instances.dtype.kind not in "iu":
        words = TextColumn(LazyColumn(OpenedNode(obs), key, "string")).read()
        keys, index = np.asarray(words.to_list(), dtype=object), index.astype(str)
    if not index.is_unique:
        raise InputError(Fault(where, "expected every instance once, but got some twice"))
    at = index.get_indexer(pd.Index(keys[rows]))
    lost = np.flatnonzero(at < 0)
    if lost.size:
        listed = ", ".join(str(keys[rows][i]) for i in lost[:_SHOWN])
        raise InputError(
            Fault(
                where,
                f"expected a shape for each of {rows.size} cells, but got none for {lost.size} "
                f"({key}: {listed})",
            )
        )
    return np.asarray(at, dtype=np.int64)


def take_polygons(polygons: Polygons | None, rows: NDArray[np.int64] | None) -> Polygons | None:
    """Rings of the given cells, in that order; None passes through."""
    if polygons is None or rows is None:
        return polygons
    lengths = np.diff(polygons.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    source = np.arange(offsets[-1]) + np.repeat(polygons.offsets[rows] - offsets[:-1], lengths)
    return Polygons(polygons.vertices[source], offsets)
