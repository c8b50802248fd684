"""Where the parts of a Space Ranger output lie: names differ by version, sample and download."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..atlas.errors import Fault, InputError
from .reader import faults_of
from .source import StringValues

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Bundle",
    "Spots",
    "image_scale",
    "locate",
    "looks_like",
    "read_lines",
    "read_scalefactors",
    "read_spots",
]

_MATRIX = "filtered_feature_bc_matrix"
_POSITIONS = (
    "tissue_positions.csv",
    "tissue_positions_list.csv",
    "tissue_positions_list.txt",
    "tissue_positions.parquet",
)
_HEADER = (
    "barcode",
    "in_tissue",
    "array_row",
    "array_col",
    "pxl_row_in_fullres",
    "pxl_col_in_fullres",
)
_IMAGES = {
    "hires": ("tissue_hires_image.png", "tissue_hires_image.jpg"),
    "lowres": ("tissue_lowres_image.png", "tissue_lowres_image.jpg"),
}
_MAX_SPOTS = 50_000_000


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files of one Space Ranger output; all lie inside its folder."""

    root: Path
    """Folder the user named."""
    matrix: Path | None
    """`*filtered_feature_bc_matrix.h5`, or the folder of matrix.mtx."""
    positions: Path | None
    """Spot positions."""
    scalefactors: Path | None
    """scalefactors_json.json."""
    images: dict[str, Path]
    """Images by resolution."""
    faults: tuple[Fault, ...]
    """What is missing or lies outside the folder."""
    notes: tuple[str, ...]
    """What is missing without harm."""

    @property
    def mtx(self) -> tuple[Path, Path, Path] | None:
        """Matrix, barcodes and features of an .mtx folder, None for h5."""
        if self.matrix is None or not self.matrix.is_dir():
            return None
        found = [_first(self.matrix, names) for names in _MTX]
        return (found[0], found[1], found[2]) if all(found) else None  # type: ignore[return-value]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are read."""
        matrix = self.mtx or ((self.matrix,) if self.matrix else ())
        rest = (self.positions, self.scalefactors, *self.images.values())
        return tuple(one for one in (*matrix, *rest) if one is not None)


_MTX = (
    ("matrix.mtx.gz", "matrix.mtx"),
    ("barcodes.tsv.gz", "barcodes.tsv"),
    ("features.tsv.gz", "features.tsv", "genes.tsv"),
)


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _spatial(root: Path) -> Path | None:
    return next((root / n for n in ("spatial", "outs/spatial") if (root / n).is_dir()), None)


def looks_like(path: Path) -> bool:
    """Whether a folder looks like a Space Ranger output; never raises."""
    try:
        return path.is_dir() and (
            (_spatial(path) is not None and not (path / "zarr.json").exists())
            or any(path.glob("*_bc_matrix.h5"))
            or (path / _MATRIX).is_dir()
        )
    except OSError:
        return False


def locate(path: Path) -> Bundle:
    """Find the parts of an output, and say what is missing; opens nothing.

    Several downloads of one portal carry the sample's name before each file, so a prefix is
    accepted when exactly one file has the ending.
    """
    root = path.resolve()
    base = root / "outs" if (root / "outs").is_dir() and not (root / "spatial").is_dir() else root
    faults: list[Fault] = []
    notes: list[str] = []
    matrix = _find_matrix(base, path, faults)
    spatial = base / "spatial"
    if not spatial.is_dir():
        spatial = base
    positions = _first(spatial, _POSITIONS) or _only(spatial, [f"*{n}" for n in _POSITIONS])
    if positions is None:
        faults.append(
            Fault(
                f"{path}/spatial",
                f"expected spot positions ({', '.join(_POSITIONS[:2])}), but got none; "
                "copy the whole `spatial` folder of the output",
            )
        )
    scalefactors = _first(spatial, ("scalefactors_json.json",)) or _only(
        spatial, ["*scalefactors_json.json"]
    )
    images = {}
    for name, usual in _IMAGES.items():
        found = _first(spatial, usual) or _only(spatial, [f"*{n}" for n in usual])
        if found is None:
            notes.append(f"no {name} image in the output; none is written")
        elif scalefactors is None:
            notes.append(f"{found.name} left out: its scale is in scalefactors_json.json, missing")
        else:
            images[name] = found
    bundle = Bundle(path, matrix, positions, scalefactors, images, (), tuple(notes))
    faults += [
        Fault(
            str(one),
            f"expected a file inside {root}, but got a link to {one.resolve()}; refused, "
            "copy it in",
        )
        for one in bundle.files
        if not one.resolve().is_relative_to(root)
    ]
    return Bundle(path, matrix, positions, scalefactors, images, tuple(faults), tuple(notes))


def _only(folder: Path, patterns: list[str]) -> Path | None:
    """Return the one file that fits the first pattern that fits any; None if several do."""
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _find_matrix(base: Path, path: Path, faults: list[Fault]) -> Path | None:
    exact = base / f"{_MATRIX}.h5"
    if exact.is_file():
        return exact
    prefixed = sorted(base.glob(f"*{_MATRIX}.h5"))
    if len(prefixed) == 1:
        return prefixed[0]
    if prefixed:
        names = ", ".join(one.name for one in prefixed)
        faults.append(
            Fault(
                str(path),
                f"expected one filtered matrix, but got {len(prefixed)}: {names}; "
                "put each sample into a folder of its own",
            )
        )
        return None
    folder = _only(base, [_MATRIX, f"*{_MATRIX}"])
    if folder is not None and folder.is_dir():
        if all(_first(folder, names) for names in _MTX):
            return folder
        missing = [names[0] for names in _MTX if _first(folder, names) is None]
        faults.append(
            Fault(str(folder), f"expected {', '.join(missing)} beside the rest, but got none")
        )
        return None
    others = sorted(one.name for one in base.glob("*_bc_matrix*"))
    faults.append(
        Fault(
            str(path),
            f"expected {_MATRIX}.h5 or the folder {_MATRIX}, but got "
            f"{', '.join(others) or 'no matrix'}"
            + ("; raw and probe matrices hold background: copy the filtered one" if others else ""),
        )
    )
    return None


@dataclass(frozen=True, slots=True)
class Spots:
    """All spots of the array, in the file's order."""

    barcodes: StringValues
    in_tissue: NDArray[np.bool_]
    array_row: NDArray[np.int32]
    array_col: NDArray[np.int32]
    positions: NDArray[np.float64]
    """(n, 2) x, y in pixels of the full-resolution image."""


def read_spots(path: Path) -> Spots:
    """Read spot positions, with header (Space Ranger 2) or without.

    Raises
    ------
    InputError
        If a row is not barcode and five numbers; naming the line.
    """
    with faults_of(path, "spot positions", parsing=True):
        barcodes, numbers = _parquet(path) if path.suffix == ".parquet" else _text(path)
    if not 0 < len(barcodes) <= _MAX_SPOTS:
        raise InputError(Fault(str(path), f"expected spots, but got {len(barcodes)}"))
    bad = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if bad.size:
        raise InputError(
            Fault(
                f"{path} spot {barcodes.take(bad[:1]).to_list()[0]}",
                f"expected finite positions, but got {numbers[bad[0], 3:].tolist()}",
            )
        )
    if twice := barcodes.repeated():
        raise InputError(
            Fault(str(path), f"expected every barcode once, but got {twice[0]!r} again")
        )
    return Spots(
        barcodes,
        numbers[:, 0] != 0,
        numbers[:, 1].astype(np.int32),
        numbers[:, 2].astype(np.int32),
        # Columns are row (y) then column (x).
        np.ascontiguousarray(numbers[:, [4, 3]]),
    )


def _parquet(path: Path) -> tuple[StringValues, NDArray[np.float64]]:
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=list(_HEADER), use_threads=False)
    numbers = [np.asarray(table[name], dtype=np.float64) for name in _HEADER[1:]]
    return StringValues.from_strings(table["barcode"]), np.column_stack(numbers)


def _text(path: Path) -> tuple[StringValues, NDArray[np.float64]]:
    """Read one line a spot; arrays have at most some 14,000, larger ones come as Parquet."""
    rows = list(_rows(path))
    barcodes, numbers = [], np.empty((len(rows), 5))
    for i, row in enumerate(rows):
        try:
            barcodes.append(row[0])
            numbers[i] = [float(cell) for cell in row[1:6]]
        except (ValueError, IndexError) as error:
            raise InputError(
                Fault(
                    f"{path} spot {i + 1}",
                    f"expected {', '.join(_HEADER)}, but got {','.join(map(str, row))[:80]!r}",
                )
            ) from error
    return StringValues.from_strings(barcodes), numbers


def _rows(path: Path) -> Iterator[list[str]]:
    """Rows without the header, in the order of `_HEADER`."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        order = list(range(6))
        for number, row in enumerate(reader):
            if number == 0 and "barcode" in row:
                order = [row.index(name) for name in _HEADER]
            elif row:
                yield [row[i] for i in order] if len(row) > max(order) else row


def read_scalefactors(path: Path) -> dict[str, float]:
    """Read the scale factors.

    Raises
    ------
    InputError
        If the file is no JSON object.
    """
    with faults_of(path, "scale factors", parsing=True):
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict):
            got = type(facts).__name__
            raise InputError(Fault(str(path), f"expected a JSON object, but got a {got}"))
    return {
        str(name): float(value)
        for name, value in facts.items()
        if isinstance(value, (int, float)) and math.isfinite(value) and value > 0
    }


def image_scale(image: Path) -> tuple[Path, float] | None:
    """Find the scale of a Space Ranger image: pixels per full-resolution pixel, and its file.

    None unless the image is named like Space Ranger's and scale factors lie beside it.
    """
    factors = image.parent / "scalefactors_json.json"
    name = next((name for name, usual in _IMAGES.items() if image.name in usual), None)
    if name is None or not factors.is_file():
        return None
    scale = read_scalefactors(factors).get(f"tissue_{name}_scalef")
    return (factors, scale) if scale else None


def read_lines(path: Path) -> list[str]:
    """Read the lines of a small text file, gzipped or not."""
    with faults_of(path, "a table", parsing=True):
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8") as file:
                return file.read().splitlines()
        return path.read_text(encoding="utf-8").splitlines()
