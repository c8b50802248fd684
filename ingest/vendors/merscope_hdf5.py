"""Boundaries of old MERSCOPE outputs: an HDF5 file a field of view, with a group for each cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ..guard import open_hdf5, step_into
from ..ring_checks import largest_part
from ..source import RingPiece, RingsSource, StringValues
from .merscope_boundaries import Boundaries, choose_plane, left_out
from .rings import IdRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["hdf5_boundaries"]

_WHAT = "boundaries of cells (MERSCOPE HDF5)"
# Cells looked at to learn the planes: in all, and at least in each file.
_SAMPLE = 256
_FEWEST = 8
_MOST_VERTICES = 1_000_000  # of one part of one cell


def hdf5_boundaries(
    paths: Sequence[Path], ids: StringValues, z_layer: object = None, *, others: bool = False
) -> Boundaries:
    """Open the outlines of old outputs, one file a field of view.

    The first cells of every file tell the planes: a field may lack some of them.

    Parameters
    ----------
    paths : sequence of Path
        `feature_data_<fov>.hdf5`, with `featuredata/<cell>/zIndex_<k>/p_<i>/coordinates`.
    ids, z_layer, others
        As for Parquet.

    Raises
    ------
    InputError
        A file is no HDF5, reaches outside itself, or there is no such plane.
    """
    cells: dict[int, int] = {}
    n_cells = max(_FEWEST, _SAMPLE // len(paths))
    for path in paths:
        for z, n in _planes_in(path, n_cells).items():
            cells[z] = cells.get(z, 0) + n
    if not cells:
        raise InputError(
            Fault(str(paths[0]), "expected outlines in some plane, but got none in any file")
        )
    plane = choose_plane(cells, z_layer, str(paths[0]))
    rest = [z for z in sorted(cells) if z != plane]
    files = tuple(paths)
    return Boundaries(
        RingsSource(partial(_hdf5_pieces, files, ids, plane, nearest=True)),
        plane,
        tuple(sorted(cells)),
        {
            z: RingsSource(partial(_hdf5_pieces, files, ids, z, nearest=False))
            for z in rest
            if others
        },
        notes=left_out(plane, rest, None, others),
    )


def _features(file: Any, path: Path) -> Any:
    """Group of all cells; a field without cells may have an empty file."""
    if len(file) == 0:
        return {}
    if "featuredata" not in file:
        raise InputError(
            Fault(
                str(path),
                f"expected a group 'featuredata', but got {', '.join(list(file)[:5]) or 'none'}",
            )
        )
    return _group(file, "featuredata", path)


def _group(parent: Any, name: str, path: Path) -> Any:
    import h5py

    found = step_into(parent, name, path)
    if not isinstance(found, h5py.Group):
        raise InputError(Fault(f"{path}:{found.name}", "expected a group, but got a dataset"))
    return found


def _planes_in(path: Path, n_cells: int) -> dict[int, int]:
    """Outlines in each plane among the first cells of a file."""
    cells: dict[int, int] = {}
    with open_hdf5(path, _WHAT, checked=True) as file:
        features = _features(file, path)
        for k, name in enumerate(features):
            if k == n_cells:
                break
            for z in _filled(_group(features, name, path), path):
                cells[z] = cells.get(z, 0) + 1
    return cells


def _filled(cell: Any, path: Path) -> dict[int, Any]:
    """Planes of a cell that have parts."""
    found = {}
    for name in cell:
        head, _, number = name.rpartition("_")
        if head == "zIndex" and number.isdecimal() and len(number) < 4:
            plane = _group(cell, name, path)
            if any(part.startswith("p_") for part in plane):
                found[int(number)] = plane
    return found


def _hdf5_pieces(
    paths: Sequence[Path], ids: StringValues, plane: int, *, nearest: bool
) -> Iterator[RingPiece]:
    """Rings of one file after another; each cell is a group, so cells are opened one by one."""
    import pyarrow as pa

    rows = IdRows(ids)
    for path in paths:
        rings: list[NDArray[np.float64]] = []
        owner: list[int] = []
        n_further = 0
        with open_hdf5(path, _WHAT, checked=True) as file:
            features = _features(file, path)
            names = list(features)
            for name, row in zip(names, rows.of(pa.array(names, pa.string())), strict=True):
                parts = []
                if row >= 0:
                    parts = _parts(_group(features, name, path), plane, path, nearest=nearest)
                if parts:
                    rings.append(largest_part(parts))
                    owner.append(int(row))
                    n_further += len(parts) - 1
        if rings:
            counts = np.array([len(ring) for ring in rings], np.int64)
            yield RingPiece(np.array(owner, np.int64), counts, np.concatenate(rings), n_further)


def _parts(cell: Any, plane: int, path: Path, *, nearest: bool) -> list[NDArray[np.float64]]:
    """Outlines of the parts of a cell in a plane, or in the nearest one that has any."""
    key = f"zIndex_{plane}"
    chosen = _group(cell, key, path) if key in cell else {}
    if nearest and not any(part.startswith("p_") for part in chosen):
        filled = _filled(cell, path)
        if filled:
            chosen = filled[min(filled, key=lambda z: (abs(z - plane), z))]
    return [_coordinates(chosen, part, path) for part in chosen if part.startswith("p_")]


def _coordinates(plane: Any, part: str, path: Path) -> NDArray[np.float64]:
    """(v, 2) vertices of one part."""
    data = step_into(_group(plane, part, path), "coordinates", path)
    shape: tuple[int, ...] = tuple(getattr(data, "shape", ()) or ())
    # One ring a part, with or without an axis for it.
    flat = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    kind = getattr(getattr(data, "dtype", None), "kind", "")
    if (
        len(flat) != 2
        or flat[1] not in {2, 3}
        or flat[0] > _MOST_VERTICES
        or kind not in {"f", "i", "u"}
    ):
        raise InputError(
            Fault(
                f"{path}:{data.name}",
                f"expected numbers of shape (1, vertices, 2), but got {shape} of kind {kind!r}",
            )
        )
    found: NDArray[np.float64] = np.asarray(data[()], np.float64).reshape(flat)[:, :2]
    return found
