"""Named regions as programs export them: GeoJSON, QuPath, Xenium Explorer, lists of cells."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError, InvalidArgument
from ..atlas.geojson import all_checked, named_parts
from ..atlas.polygons import in_pixels
from ..atlas.regions import NamedPolygons
from .reader import faults_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Ground", "cell_regions", "names_cells", "read_region_file", "regions_bytes"]

_WHOLE = 4 * 2**20  # bytes of GeoJSON that are parsed at once; single geometries are smaller
# Memory by size of the file: of text parsed whole, of outlines and their copy that is written, of
# vertices held as numbers of Python.
_WHOLE_TIMES, _GEOJSON_TIMES, _SELECTION_TIMES = 10, 6, 12
_LINE = 2**20  # characters of a header
_IDS = ("barcode", "barcodes", "cell_id", "cell")
_SELECTION = "selection name"
_REACH = 0.6  # of the distance to the nearest cell: discs of a hexagonal lattice then join
_MOST_CELLS = 200_000


@dataclass(frozen=True, slots=True)
class Ground:
    """How source coordinates of a section become stored ones."""

    um_per_unit: float | None
    """Micrometers per source unit; None when unknown, and then nothing is scaled."""
    up: bool = False
    """Whether the source's y axis points up."""

    def mover(
        self, um_per_unit: object, y_axis: object
    ) -> Callable[[NDArray[np.float64]], NDArray[np.float64]] | None:
        """Vertices of a file to stored ones; None where they are the same.

        Parameters
        ----------
        um_per_unit : object
            None: micrometers; `source`: units of the section's source, its y axis included; a
            number: micrometers per unit of the file.
        y_axis : object
            None or `down`; `up` where the file's y grows upwards.

        Raises
        ------
        InvalidArgument
            Neither.
        """
        # A tuple: what a sheet says may have no hash.
        if y_axis not in (None, "down", "up"):
            raise InvalidArgument(f"y_axis down or up is wanted, but got {y_axis!r}")
        up = y_axis == "up"
        if um_per_unit == "source":
            scale, up = self.um_per_unit or 1.0, up or self.up
        elif um_per_unit is None:
            scale = 1.0
        else:
            try:
                scale = float(str(um_per_unit))
            except ValueError:
                scale = float("nan")
            if not 0 < scale < np.inf:
                raise InvalidArgument(
                    f"um_per_unit above 0, or 'source', is wanted, but got {um_per_unit!r}"
                )
            if self.um_per_unit is None:
                raise InvalidArgument(
                    "a section of known unit is wanted with um_per_unit, but its unit is unknown; "
                    "write um_per_unit: source where the polygons are in its source units"
                )
        if scale == 1.0 and not up:
            return None
        factors = np.array([scale, -scale if up else scale])
        return lambda xy: np.asarray(xy * factors)


def names_cells(path: Path) -> bool:
    """Whether a file is a CSV of cells and their labels (Loupe), not of outlines."""
    if path.suffix.casefold() not in {".csv", ".tsv"}:
        return False
    header = _header(path)
    return any(name in header for name in _IDS) and not {"x", "y"} <= set(header)


def regions_bytes(path: Path) -> int:
    """Memory that outlines take while they are read and written, by the size of their file.

    Raises
    ------
    InputError
        The file cannot be looked at.
    """
    with faults_of(path, "a file of regions"):
        size = path.stat().st_size
    if path.suffix.casefold() in {".csv", ".tsv"}:
        return _SELECTION_TIMES * size
    return _GEOJSON_TIMES * size + (_WHOLE_TIMES * min(size, _WHOLE))


def _header(path: Path) -> list[str]:
    with (
        faults_of(path, "a table of regions", parsing=True),
        path.open(encoding="utf-8-sig", newline="") as file,
    ):
        while line := file.readline(_LINE):
            if line.strip() and not line.startswith("#"):
                found = next(csv.reader([line], delimiter=_separator(path)), [])
                return [cell.strip().casefold() for cell in found]
    return []


def _separator(path: Path) -> str:
    return "\t" if path.suffix.casefold() == ".tsv" else ","


def read_region_file(path: Path, options: Mapping[str, object], ground: Ground) -> NamedPolygons:
    """Read outlines of regions, in stored coordinates.

    Parameters
    ----------
    path : Path
        GeoJSON, or a CSV of selections of Xenium Explorer (micrometers).
    options : mapping
        `name` (property of the names), `um_per_unit`, `y_axis`; see `Ground.mover`.
    ground : Ground
        Of the section.

    Raises
    ------
    InputError
        Every fault of the file. GeoJSON with the marks of QuPath or Xenium Explorer is in pixels,
        and refused without `um_per_unit`.
    """
    column = str(options.get("name") or "name")
    try:
        move = ground.mover(options.get("um_per_unit"), options.get("y_axis"))
        if path.suffix.casefold() in {".csv", ".tsv"}:
            return all_checked(_selections(path), "Selection name", move)
        parts = _features(path)
        if options.get("um_per_unit") is None:
            parts = _unmarked(parts, ground)
        return all_checked(named_parts(parts, column), column, move)
    except InvalidArgument as error:
        raise InputError(Fault(str(path), str(error))) from error
    except InputError as error:
        raise InputError(
            [
                fault if path.name in fault.location
                else Fault(f"{path} {fault.location}".rstrip(), fault.message)
                for fault in error.faults
            ]
        ) from error  # fmt: skip


def _pixels_hint(ground: Ground) -> str:
    own = "" if ground.um_per_unit is None else f", here {ground.um_per_unit:.6g} um each"
    return (
        "polygons of QuPath and Xenium Explorer are in pixels, but got no um_per_unit; write "
        '{"path": ..., "um_per_unit": 0.2125} with the size of a pixel of that image, or "source" '
        f"where it is the section's own source unit{own}"
    )


def _unmarked(parts: Iterator[Any], ground: Ground) -> Iterator[Any]:
    for part in parts:
        if in_pixels(part):
            raise InvalidArgument(_pixels_hint(ground))
        yield part


def _features(path: Path) -> Iterator[Any]:
    """Yield features; a large file is parsed a feature at a time."""
    with faults_of(path, "GeoJSON of regions"):
        large = path.stat().st_size > _WHOLE
    if not large:
        tree = _tree(path)
        parts = tree.get("features") if tree["type"] == "FeatureCollection" else [tree]
        if not isinstance(parts, list):
            raise InvalidArgument("GeoJSON with a list of features is wanted, but got none")
        yield from parts
        return
    from .vendors.geojson_features import feature_texts

    for lines in feature_texts(path):
        for line in lines.split(b"\n"):
            with faults_of(path, "GeoJSON of regions", parsing=True):
                part = json.loads(line)
            yield part


def _tree(path: Path) -> Mapping[str, Any]:
    with faults_of(path, "GeoJSON of regions", parsing=True):
        text = path.read_text(encoding="utf-8-sig")
        try:
            tree = json.loads(text)
        except RecursionError as error:
            raise InvalidArgument("GeoJSON of regions is wanted, but got one too deep") from error
    # QuPath writes bare lists of features.
    if isinstance(tree, list):
        tree = {"type": "FeatureCollection", "features": tree}
    if not isinstance(tree, Mapping) or not isinstance(tree.get("type"), str):
        raise InvalidArgument(f"GeoJSON of regions is wanted, but got {str(tree)[:60]!r}")
    return tree


def _selections(path: Path) -> Iterator[tuple[str, Any, Any]]:
    """Yield selections of Xenium Explorer: their names stand above X and Y, or in a column."""
    import shapely

    name, rings = "", dict[tuple[int, str], list[tuple[float, float]]]()
    at: dict[str, int] = {}
    block = 0  # selections of one name stand in blocks of their own
    with (
        faults_of(path, "a table of selections", parsing=True),
        path.open(encoding="utf-8-sig", newline="") as file,
    ):
        for number, cells in enumerate(csv.reader(file, delimiter=_separator(path)), start=1):
            line = ",".join(cells).strip()
            said = line.lstrip("# ").casefold()
            if line.startswith("#") and said.startswith(_SELECTION):
                name = line.partition(":")[2].strip().strip(",").strip('"')
                at, block = {}, block + 1
            elif not line or line.startswith("#"):
                continue
            elif not at:
                at = _places(path, number, cells)
            else:
                called = cells[at["name"]].strip() if "name" in at else name
                rings.setdefault((block, called), []).append(_vertex(path, number, cells, at))
    for (_, called), vertices in rings.items():
        if len(vertices) < 3:
            raise InvalidArgument(f"three vertices or more are wanted of {called!r}, but got fewer")
        yield f"selection {called!r}", called or path.stem, shapely.Polygon(vertices)


def _places(path: Path, number: int, cells: Sequence[str]) -> dict[str, int]:
    header = [cell.strip().casefold() for cell in cells]
    if not {"x", "y"} <= set(header):
        raise InputError(
            Fault(
                f"{path} line {number}",
                f"expected columns X and Y, but got {', '.join(cells)[:120]}",
            )
        )
    at = {axis: header.index(axis) for axis in "xy"}
    named = [k for k, word in enumerate(header) if word in {"selection", "selection name", "name"}]
    return at | ({"name": named[0]} if named else {})


def _vertex(
    path: Path, number: int, cells: Sequence[str], at: Mapping[str, int]
) -> tuple[float, float]:
    try:
        found = float(cells[at["x"]]), float(cells[at["y"]])
        if not np.isfinite(found).all():
            raise ValueError("not finite")
        return found
    except (ValueError, IndexError) as error:
        raise InputError(
            Fault(
                f"{path} line {number}",
                f"expected two finite numbers, but got {', '.join(cells)[:80]}",
            )
        ) from error


def cell_regions(
    positions: NDArray[np.float64], codes: NDArray[np.int64], names: Sequence[str], where: str
) -> NamedPolygons:
    """Draw regions around cells that were named: a disc a cell, joined, that reaches no other.

    Parameters
    ----------
    positions : ndarray (n, 2)
        Of all cells, stored.
    codes : ndarray (n,)
        Label of each, -1 for none.
    names : sequence of str
        Labels.
    where : str
        For messages.

    Raises
    ------
    InputError
        More than 200,000 cells, or cells that all lie in one place.
    """
    import shapely
    from scipy.spatial import cKDTree

    labeled = np.flatnonzero(codes >= 0)
    if labeled.size > _MOST_CELLS:
        raise InputError(
            Fault(
                where,
                f"expected regions of at most {_MOST_CELLS:,} cells, but got {labeled.size:,}; "
                "attach the file in the column `labels` instead",
            )
        )
    distances, _ = cKDTree(positions).query(positions[labeled], k=2)
    apart = distances[:, 1]
    usual = float(np.median(apart[np.isfinite(apart)])) if np.isfinite(apart).any() else 0.0
    if usual <= 0:
        raise InputError(Fault(where, "expected cells at places of their own, but got one place"))
    # Where others are nearer, the disc is smaller: no cell without the label lies in it.
    radius = _REACH * np.minimum(np.where(apart > 0, apart / _REACH * 0.99, usual), usual)
    discs = shapely.buffer(shapely.points(positions[labeled]), radius, quad_segs=8)
    order = np.argsort(codes[labeled], kind="stable")
    ends = np.searchsorted(codes[labeled[order]], np.arange(1, len(names)))
    parts = [shapely.union_all(own) for own in np.split(discs[order], ends)]
    return all_checked(
        ((f"label {name!r}", name, part) for name, part in zip(names, parts, strict=True)), "label"
    )
