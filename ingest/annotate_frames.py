"""Transforms into a common frame: affines as written, or fitted to landmarks by least squares."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError, InvalidArgument, near
from ..atlas.frames import Matrix, affine
from ..atlas.morton import LARGEST_COORDINATE
from .reader import faults_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .annotate_regions import Ground

__all__ = ["FittedFrame", "fit_landmarks", "read_transform"]

_LANDMARKS = ("x_from", "y_from", "x_to", "y_to")
_MODELS = {"similarity": 2, "affine": 3}  # landmarks that fix each
_LARGEST = 2**24
_FLAT = 1e-6  # least spread across the line of landmarks, of that along it


@dataclass(frozen=True, slots=True)
class FittedFrame:
    """An affine from stored coordinates into a frame, and how it came about."""

    frame: str
    """Name of the frame."""
    matrix: Matrix
    """From coordinates of the section."""
    facts: Mapping[str, Any]
    """JSON-ready: source, model, residuals."""


def read_transform(
    path: Path | None, options: Mapping[str, object], ground: Ground, where: str
) -> FittedFrame:
    """Read or fit the affine of a section.

    Parameters
    ----------
    path : Path, optional
        JSON (a 2 x 3 or 3 x 3 matrix, or an object with `matrix`), a CSV of such numbers, or a CSV
        of landmarks with the columns x_from, y_from, x_to, y_to.
    options : mapping
        `frame` (name, `common`), `matrix` (instead of a file), `model` (similarity | affine) of
        landmarks, `units` of what is transformed: `um` (stored coordinates, y down; the default)
        or `source` (units and y axis of the source).
    ground : Ground
        Of the section.
    where : str
        For messages.

    Raises
    ------
    InputError
        It cannot be read, squeezes the plane, or landmarks do not fix the model.
    """
    try:
        units = str(options.get("units") or "um")
        if units not in {"um", "source"}:
            raise InvalidArgument(f"units um or source are wanted, but got {units!r}")
        facts: dict[str, Any] = {"source": path.name if path else "sheet", "units": units}
        given = options.get("matrix")
        if path is not None:
            given, landmarks = _read(path)
            if landmarks is not None:
                given, fitted = fit_landmarks(landmarks, str(options.get("model") or "similarity"))
                facts |= fitted
        if "model" in options and "residual_rms" not in facts:
            raise InvalidArgument("landmarks are wanted with `model`, but got a matrix")
        matrix = affine(given)
    except InvalidArgument as error:
        raise InputError(Fault(where, str(error))) from error
    if units == "source":
        matrix = _from_stored(matrix, ground)
    return FittedFrame(str(options.get("frame") or "common"), matrix, facts)


def _from_stored(matrix: Matrix, ground: Ground) -> Matrix:
    """Put the way back from stored to source coordinates in front of an affine."""
    scale = ground.um_per_unit or 1.0
    back = np.diag([1 / scale, (-1 if ground.up else 1) / scale, 1.0])
    return affine((np.asarray([*matrix, (0.0, 0.0, 1.0)]) @ back)[:2])


def _read(path: Path) -> tuple[object, NDArray[np.float64] | None]:
    """Matrix of a file, or its landmarks (n, 4)."""
    with faults_of(path, "a transform", parsing=True):
        if path.stat().st_size > _LARGEST:
            raise InputError(Fault(str(path), "expected a small file, but got over 16 MiB"))
        text = path.read_text(encoding="utf-8-sig")
        if text.lstrip()[:1] in {"{", "["}:
            tree = json.loads(text)
            return (tree.get("matrix") if isinstance(tree, dict) else tree), None
        rows = [
            [cell.strip() for cell in row]
            for row in csv.reader(text.splitlines(), delimiter=_delimiter(text))
            if any(cell.strip() for cell in row)
        ]
    header = [cell.casefold() for cell in rows[0]] if rows else []
    if not any(name in header for name in _LANDMARKS):
        return [[_number(path, cell) for cell in row] for row in rows], None
    return None, _landmarks(path, header, rows[1:])


def _landmarks(path: Path, header: list[str], rows: list[list[str]]) -> NDArray[np.float64]:
    """(n, 4) landmarks of a table."""
    lacking = [name for name in _LANDMARKS if name not in header]
    if lacking:
        raise InputError(
            Fault(
                str(path),
                f"expected the columns {', '.join(_LANDMARKS)}, but got {', '.join(header)}."
                f"{near(lacking[0], header)}",
            )
        )
    at = [header.index(name) for name in _LANDMARKS]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(
                Fault(f"{path} row {number}", f"expected {len(header)} cells, but got {len(row)}")
            )
    numbers = np.array([[_number(path, row[k]) for k in at] for row in rows], np.float64)
    if (np.abs(numbers) > LARGEST_COORDINATE).any():
        raise InputError(
            Fault(
                str(path),
                f"expected coordinates below {LARGEST_COORDINATE:g}, but got "
                f"{np.abs(numbers).max():g}",
            )
        )
    return numbers.reshape(-1, 4)


def _delimiter(text: str) -> str:
    first = text.lstrip().partition("\n")[0]
    return max(",", "\t", ";", " ", key=first.count)


def _number(path: Path, cell: str) -> float:
    try:
        found = float(cell)
    except ValueError:
        found = float("nan")
    if not np.isfinite(found):
        raise InputError(Fault(str(path), f"expected a finite number, but got {cell[:40]!r}"))
    return found


def fit_landmarks(
    landmarks: NDArray[np.float64], model: str
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Fit an affine to pairs of points by least squares.

    Parameters
    ----------
    landmarks : ndarray (n, 4)
        x_from, y_from, x_to, y_to.
    model : {"similarity", "affine"}
        Rotation, one scale and shift (mirrored where that fits better), or any affine.

    Returns
    -------
    matrix : ndarray (2, 3)
    facts : dict
        Model, number of landmarks, root mean square, largest and each residual in units of the
        frame; whether it mirrors.

    Raises
    ------
    InvalidArgument
        Fewer landmarks than fix the model, or all on one line (one place) where it needs a plane.

    Examples
    --------
    >>> points = np.array([[0, 0, 5, 5], [1, 0, 7, 5], [0, 1, 5, 7.0]])
    >>> matrix, facts = fit_landmarks(points, "similarity")
    >>> (matrix.round(6) + 0.0).tolist(), round(facts["residual_max"], 6)
    ([[2.0, 0.0, 5.0], [0.0, 2.0, 5.0]], 0.0)
    """
    if model not in _MODELS:
        raise InvalidArgument(
            f"model similarity or affine is wanted, but got {model!r}.{near(model, _MODELS)}"
        )
    source, target = landmarks[:, :2], landmarks[:, 2:]
    if len(landmarks) < _MODELS[model]:
        raise InvalidArgument(
            f"{_MODELS[model]} landmarks or more are wanted for {model}, but got {len(landmarks)}"
        )
    for what, points in (("from", source), ("to", target)):
        _refuse_flat(points, what, model)
    matrix = _similarity(source, target) if model == "similarity" else _affine(source, target)
    residuals = np.linalg.norm(source @ matrix[:, :2].T + matrix[:, 2] - target, axis=1)
    facts = {
        "model": model,
        "landmarks": len(landmarks),
        "residual_rms": float(np.sqrt((residuals**2).mean())),
        "residual_max": float(residuals.max()),
        "residuals": residuals[:1000].round(6).tolist(),
        "mirrored": bool(np.linalg.det(matrix[:, :2]) < 0),
    }
    return matrix, facts


def _refuse_flat(points: NDArray[np.float64], what: str, model: str) -> None:
    """Refuse landmarks of one place or, where a plane is needed, of one line."""
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    if spread[0] == 0:
        raise InvalidArgument(f"landmarks at several places are wanted, but got one ({what})")
    if model == "affine" and spread[1] <= _FLAT * spread[0]:
        raise InvalidArgument(
            f"landmarks that span a plane are wanted for affine, but got {len(points)} on one "
            f"line ({what}); add one beside it, or take model similarity"
        )


def _affine(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    center = source.mean(axis=0)
    size = float(np.abs(source - center).max())
    ones = np.ones((len(source), 1))
    found, *_ = np.linalg.lstsq(np.hstack([(source - center) / size, ones]), target, rcond=None)
    linear = found[:2].T / size
    return np.column_stack([linear, found[2] - linear @ center])


def _similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation or mirrored rotation, one scale, shift (Umeyama 1991)."""
    middle, aim = source.mean(axis=0), target.mean(axis=0)
    left, sizes, right = np.linalg.svd((target - aim).T @ (source - middle))
    spread = float(((source - middle) ** 2).sum())
    rotation = left @ right
    mirrored = np.linalg.det(rotation) < 0
    # Of points on one line both fit alike: then no mirror.
    if mirrored and sizes[1] <= 1e-9 * sizes[0]:
        rotation, sizes = left @ np.diag([1.0, -1.0]) @ right, sizes * [1.0, 0.0]
    linear = rotation * float(sizes.sum()) / spread
    return np.column_stack([linear, aim - linear @ middle])
