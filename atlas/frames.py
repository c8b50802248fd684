"""Common frames: affines from sections' coordinates into a named system, the kind `frame`."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .derived import Provenance, write_provenance
from .errors import InvalidArgument
from .polygons import LARGEST
from .snapshot import DerivedEntry

if TYPE_CHECKING:
    from .derived import Home

__all__ = ["FRAME", "Matrix", "affine", "write_frame"]

type Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Rows (a, b, c), (d, e, f): x' = a x + b y + c, y' = d x + e y + f."""

FRAME = "frame"
"""Kind of the derived data."""
# Below this the affine squeezes the plane to a line for all that float64 can tell.
_SINGULAR = 1e-12


def affine(value: object) -> Matrix:
    """Read an affine as rows (a, b, c), (d, e, f): x' = a x + b y + c, y' = d x + e y + f.

    Parameters
    ----------
    value
        2 x 3; 3 x 2, its transpose, as for row vectors (x, y, 1); or 3 x 3 with last row 0, 0, 1.

    Raises
    ------
    InvalidArgument
        Another shape, not finite, beyond 1e15, or an affine that cannot be undone.

    Examples
    --------
    >>> affine([[1, 0], [0, 1], [100, 200]])
    ((1.0, 0.0, 100.0), (0.0, 1.0, 200.0))
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.shape == (3, 3) and array[2].tolist() == [0.0, 0.0, 1.0]:
        array = array[:2]
    elif array.shape == (3, 2):
        array = array.T
    if array.shape != (2, 3):
        raise InvalidArgument(
            "an affine of 2 x 3 or 3 x 2 numbers, or 3 x 3 with last row 0, 0, 1, is wanted, "
            f"but got {str(value)[:80]}"
        )
    if not np.isfinite(array).all() or float(np.abs(array).max()) > LARGEST:
        raise InvalidArgument(f"an affine of finite numbers is wanted, but got {array.tolist()}")
    if abs(np.linalg.det(array[:, :2])) <= _SINGULAR * float((array[:, :2] ** 2).sum()):
        raise InvalidArgument(
            f"an affine that can be undone is wanted, but got {array.tolist()}, which squeezes "
            "the plane to a line"
        )
    a, b, c, d, e, f = (float(number) for number in array.ravel())
    return (a, b, c), (d, e, f)


def write_frame(
    home: "Home",
    frame: str,
    section: str,
    matrix: Matrix,
    facts: Mapping[str, Any] | None = None,
) -> DerivedEntry:
    """Write and seal the affine of one section into a frame; not committed.

    Parameters
    ----------
    home
        The atlas, opened for writing.
    frame, section
        Names.
    matrix
        From the coordinates of the section into those of the frame.
    facts
        Small JSON facts kept with it, such as how it was fitted.
    """
    info = {"matrix": [list(row) for row in matrix], **(facts or {})}
    inputs = {f"section:{section}": home.section(section).attempt}
    with home.new_attempt(f"derived/{FRAME}/{frame}/{section}") as attempt:
        text = json.dumps(info) + "\n"
        (attempt.path / "frame.json").write_text(text, encoding="utf-8")
        write_provenance(home, Provenance(inputs, info), attempt.path)
        receipt = attempt.seal()
    return DerivedEntry(
        FRAME,
        frame,
        section,
        receipt.attempt,
        receipt.digest,
        receipt.nbytes,
        inputs=inputs,
        info=info,
    )
