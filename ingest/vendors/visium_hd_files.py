"""Where the parts of a Visium HD output lie: a whole one, one of its folders, or moved folders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ...atlas.errors import Fault, InputError
from ..spaceranger_files import read_scalefactors
from .spaceranger_parts import within

if TYPE_CHECKING:
    from .folder import Folder

__all__ = [
    "DEFAULT_BIN_UM",
    "BinFolder",
    "bin_folders",
    "cell_folders",
    "choose_bin",
    "choose_cells",
    "is_visium_hd",
]

DEFAULT_BIN_UM = 8
_SQUARE = re.compile(r"(?:^|.*[_/])square_(\d{3})um$", re.IGNORECASE)
_FOLDERS = ("binned_outputs", "segmented_outputs")
_CELL_FILES = ("filtered_feature_cell_matrix.h5", "cell_segmentations.geojson")
_PACKED = tuple(f"{one}.tar.gz" for one in _FOLDERS)
_MOST_JSON = 65_536


def is_visium_hd(path: Path) -> bool:
    """Whether a folder is an output of Visium HD or a part of one, by names; never raises."""
    try:
        if not path.is_dir() or (path / "zarr.json").exists():
            return False
        for root in (path, path / "outs"):
            if root.is_dir() and _is_root(root):
                return True
        return _says_bins(path)
    except OSError:
        return False


def _is_root(root: Path) -> bool:
    for one in root.iterdir():
        name = one.name.casefold()
        if one.is_dir():
            if name in _FOLDERS or name.endswith(tuple(f"_{f}" for f in _FOLDERS)):
                return True
            if _SQUARE.match(name) and (_has_matrix(one) or (one / "spatial").is_dir()):
                return True
        elif name.endswith((*_CELL_FILES, "feature_slice.h5", *_PACKED)):
            return True
    named = _SQUARE.match(root.resolve().name) is not None
    return named and (_has_matrix(root) or (root / "spatial").is_dir())


def _has_matrix(folder: Path) -> bool:
    return any("feature_bc_matrix" in one.name for one in folder.iterdir())


def _says_bins(root: Path) -> bool:
    """Whether scale factors at the usual places tell the size of a bin."""
    for one in (root / "spatial" / "scalefactors_json.json", root / "scalefactors_json.json"):
        if one.is_file():
            with one.open("rb") as file:
                return b'"bin_size_um"' in file.read(_MOST_JSON)
    return False


@dataclass(frozen=True, slots=True)
class BinFolder:
    """Bins of one size."""

    base: str
    """Folder from the root, "" or ending in a slash."""
    um: float | None
    """Edge of a bin; None when only its scale factors tell."""


def bin_folders(folder: Folder) -> tuple[BinFolder, ...]:
    """Find the folders of bins, smallest bins first.

    Raises
    ------
    InputError
        Two folders of one size.
    """
    found: dict[str, float] = {}
    for name in folder.names:
        parts = name.split("/")
        for depth in range(1, len(parts)):
            base = "/".join(parts[:depth])
            if match := _SQUARE.match(base):
                found[f"{base}/"] = float(match[1])
    if found:
        sizes = sorted(found.items(), key=lambda item: (item[1], item[0]))
        for (first, um), (second, other) in pairwise(sizes):
            if um == other:
                raise InputError(
                    Fault(
                        str(folder.root),
                        f"expected one folder of {um:g} um bins, but got {first} and {second}; "
                        "name one of them",
                    )
                )
        return tuple(BinFolder(base, um) for base, um in sizes)
    own = _SQUARE.match(folder.root.resolve().name)
    if own or folder.find(*within(("spatial/", ""), "tissue_positions.parquet")):
        return (BinFolder("", float(own[1]) if own else _said(folder)),)
    return ()


def _said(folder: Folder) -> float | None:
    path = folder.find(*within(("spatial/", ""), "scalefactors_json.json"))
    return None if path is None else read_scalefactors(path).get("bin_size_um")


def choose_bin(folder: Folder, bin_size: object) -> BinFolder:
    """Choose the bins of a size; without one those of 8 um, else the smallest larger ones.

    Raises
    ------
    InputError
        No such bins; those that are there are named.
    """
    found = bin_folders(folder)
    sizes = ", ".join(f"{one.um:g}" if one.um else "?" for one in found) or "none"
    if bin_size is not None:
        wanted = _number(bin_size)
        for one in found:
            if one.um == wanted:
                return one
        raise InputError(
            Fault(
                str(folder.root),
                f"expected bins of {wanted:g} um (`bin_size`), but got bins of {sizes} um; name "
                "one of these",
            )
        )
    if len(found) == 1:
        return found[0]
    larger = [one for one in found if (one.um or 0) >= DEFAULT_BIN_UM]
    if not found:
        packed = [name for name in folder.names if name.casefold().endswith(_PACKED)]
        step = f"unpack {packed[0]}" if packed else "copy them"
        raise InputError(
            Fault(
                str(folder.root),
                "expected binned_outputs with folders square_008um and the like, but got none; "
                f'{step}, or give {{"segmented": true}} where segmented_outputs is there',
            )
        )
    return larger[0] if larger else found[-1]


def _number(bin_size: object) -> float:
    text = str(bin_size).strip().casefold().removesuffix("um").removeprefix("square_").strip()
    try:
        return float(text)
    except ValueError as error:
        raise InputError(
            Fault("bin_size", f"expected a number of micrometers, but got {bin_size!r}")
        ) from error


def cell_folders(folder: Folder) -> tuple[str, ...]:
    """Find the folders of segmented cells from the root, "" or ending in a slash."""
    bases = (name.rpartition("/") for name in folder.names)
    found = {
        f"{base}/" if base else ""
        for base, _, file in bases
        if file.casefold().endswith(_CELL_FILES) and base.count("/") + bool(base) <= 2
    }
    return tuple(sorted(found))


def choose_cells(folder: Folder) -> str:
    """Choose the folder of segmented cells.

    Raises
    ------
    InputError
        None is there, or several are.
    """
    found = cell_folders(folder)
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            Fault(
                str(folder.root),
                f"expected segmented_outputs ({' and '.join(_CELL_FILES)}), but got none; leave "
                "`segmented` out to read bins",
            )
        )
    listed = " and ".join(one or "its top" for one in found)
    raise InputError(
        Fault(str(folder.root), f"expected one folder of cells, but got {listed}; name one of them")
    )
