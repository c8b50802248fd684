"""Coordinate transformations of SpatialData elements, reduced to x and y."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["choose_system", "depth_scale", "systems", "transformation"]


def systems(entries: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.float64]]:
    """Read an element's transformations: a 3 x 3 matrix on (x, y, 1) by coordinate system.

    Parameters
    ----------
    entries : sequence of mapping
        `coordinateTransformations` of the element.

    Raises
    ------
    ValueError
        If one is of a kind that is not affine.

    Examples
    --------
    >>> axes = [{"name": "y"}, {"name": "x"}]
    >>> systems([{"type": "scale", "scale": [3.0, 2.0], "input": {"axes": axes},
    ...           "output": {"name": "global", "axes": axes}}])["global"].tolist()
    [[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 1.0]]
    """
    return {str(e.get("output", {}).get("name", "global")): transformation(e) for e in entries}


def transformation(entry: Mapping[str, Any]) -> NDArray[np.float64]:
    """Turn one transformation into a 3 x 3 matrix on (x, y, 1); channels and z are left out."""
    source, target = _axes(entry, "input"), _axes(entry, "output")
    kind = entry.get("type")
    matrix = np.eye(3)
    if kind == "identity":
        return matrix
    if kind in {"scale", "translation"}:
        for axis, value in zip(source, entry[kind], strict=False):
            if axis in "xy":
                at = "xy".index(axis)
                matrix[at, at if kind == "scale" else 2] = float(value)
        return matrix
    if kind == "affine":
        rows = np.asarray(entry["affine"], dtype=np.float64)
        for i, to in enumerate("xy"):
            row = rows[target.index(to)]
            matrix[i, :2] = [row[source.index(of)] for of in "xy"]
            matrix[i, 2] = row[-1]
        return matrix
    if kind == "sequence":
        for step in entry["transformations"]:
            # Steps of a sequence may leave their axes to the whole.
            filled = {"input": entry.get("input", {}), "output": entry.get("output", {})} | dict(
                step
            )
            matrix = transformation(filled) @ matrix
        return matrix
    raise ValueError(f"a transformation of type {kind!r} is not read")


def depth_scale(attrs: Mapping[str, Any], system: str) -> float:
    """Factor that an element's transformation to a system applies to z; 1 where it says none.

    Examples
    --------
    >>> axes = [{"name": "x"}, {"name": "y"}, {"name": "z"}]
    >>> entry = {"type": "scale", "scale": [1.0, 1.0, 3.0], "input": {"axes": axes},
    ...          "output": {"name": "global", "axes": axes}}
    >>> depth_scale({"coordinateTransformations": [entry]}, "global")
    3.0
    """
    for entry in attrs.get("coordinateTransformations", ()):
        if str(entry.get("output", {}).get("name", "global")) == system:
            return _depth(entry)
    return 1.0


def _depth(entry: Mapping[str, Any]) -> float:
    names = [str(axis["name"]) for axis in entry.get("input", {}).get("axes", ())]
    if entry.get("type") == "sequence":
        shared = {"input": entry.get("input", {})}
        return float(np.prod([_depth(shared | dict(one)) for one in entry["transformations"]]))
    if "z" not in names or entry.get("type") not in {"scale", "affine"}:
        return 1.0
    at = names.index("z")
    if entry["type"] == "scale":
        return float(entry["scale"][at])
    targets = [str(axis["name"]) for axis in entry.get("output", {}).get("axes", ())]
    return float(entry["affine"][targets.index("z")][at]) if "z" in targets else 1.0


def _axes(entry: Mapping[str, Any], side: str) -> list[str]:
    axes = [str(axis["name"]) for axis in entry.get(side, {}).get("axes", ())]
    return axes if {"x", "y"} <= set(axes) else ["x", "y"]


def choose_system(present: Sequence[str], asked: object) -> str | None:
    """Choose the coordinate system: the one asked for, else microns, global, or the only one.

    Examples
    --------
    >>> choose_system(["global", "microns"], None), choose_system(["a", "b"], None)
    ('microns', None)
    """
    if asked is not None:
        return str(asked) if str(asked) in present else None
    for usual in ("microns", "global"):
        if usual in present:
            return usual
    return present[0] if len(present) == 1 else None
