"""Which way images of CosMx FOVs lie: found by where the cells are, else by rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .cosmx_images import read_header, read_planes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .cosmx_elements import Target
    from .cosmx_frame import FovFrame

__all__ = ["GUIDES", "local_pixels", "orientation"]

GUIDES = ("CellLabels", "CellComposite", "Morphology2D")
"""Kinds of images that tell which way all lie; the first that is there does."""
_LEAST_HITS = 0.5
_LEAST_CELLS = 20
_CLEAR = 6.0  # standard errors of brightness under the cells
_EVERY = 4  # pixels of a plane that tell its mean and spread

_Way = tuple[bool, bool]


def orientation(
    images: Mapping[str, Mapping[int, Path]], target: Target, frame: FovFrame, height: float
) -> tuple[bool, bool]:
    """Whether columns and rows of the images of FOVs run against global x and y.

    By rule columns follow local x, and rows run against global y. The centers of the cells of the
    fullest FOV are looked up in its mask in all four directions, and the one that finds most cells
    wins; without masks the one with the brightest pixels under the cells, if it is clearly
    brighter than the rule's. Reads one file.

    Parameters
    ----------
    images : mapping
        Files by kind and FOV.
    target : Target
        Cells.
    frame : FovFrame
        Places of the FOVs.
    height : float
        Rows of a FOV in the pixels of the coordinates.
    """
    rule = (frame.sign[0] < 0, True)
    for kind in GUIDES:
        fov = _fullest(images.get(kind, {}), target)
        if fov is None:
            continue
        own = (target.meta.fov == fov) & (target.meta.cell > 0)
        path, mask = images[kind][fov], kind == "CellLabels"
        (_, rows, _), _ = read_header(path)  # refuses one too large to be a FOV
        local = local_pixels(target, frame, own) * (rows / height)
        planes = read_planes(path)
        scores = _scores(planes, local, target.meta.cell[own] if mask else None, frame.sign)
        best = max(scores, key=lambda way: (scores[way], way == rule))
        if mask and scores[best] < _LEAST_HITS:
            found = f"only {scores[best]:.0%} of the centers of FOV {fov} lie on their cell"
            target.notes.append(f"CellLabels: {found}")
            return rule
        if best == rule or (not mask and scores[best] < scores[rule] + _CLEAR):
            return rule
        ways = ["against" if one else "along" for one in best]
        target.notes.append(
            f"images are turned: columns run {ways[0]} global x and rows {ways[1]} global y, by "
            f"{kind} under the cells of FOV {fov}"
        )
        return best
    return rule


def _fullest(files: Mapping[int, Path], target: Target) -> int | None:
    """FOV with a file and most cells."""
    fovs, count = np.unique(target.meta.fov[target.meta.cell > 0], return_counts=True)
    return next((fov for fov in fovs[np.argsort(-count)].tolist() if fov in files), None)


def local_pixels(
    target: Target, frame: FovFrame, own: NDArray[np.bool_] | slice = slice(None)
) -> NDArray[np.float64]:
    """(n, 2) local pixels of some cells of the metadata."""
    meta = target.meta
    if meta.local is not None:
        return meta.local[own]
    assert meta.whole is not None
    at = frame.rows_of(meta.fov[own])
    return np.asarray((meta.whole[own] - frame.origin[at]) * np.array(frame.sign))


def _scores(
    planes: Iterable[NDArray[Any]],
    local: NDArray[np.float64],
    cells: NDArray[np.int64] | None,
    sign: tuple[int, int],
) -> dict[_Way, float]:
    """Share of centers on their own cell, or brightness under them, for each direction."""
    ways: list[_Way] = [(x, y) for x in (False, True) for y in (False, True)]
    scores = dict.fromkeys(ways, 0.0)
    for plane in planes:
        if plane.ndim != 2:
            return scores
        size = np.array([plane.shape[1], plane.shape[0]])
        thin = plane[::_EVERY, ::_EVERY]
        spread = float(thin.std(dtype=np.float64)) if cells is None else 0.0
        for way in ways:
            # Columns that run against global x follow local x where that runs against it, too.
            turned = (way[0] != (sign[0] < 0), way[1] != (sign[1] < 0))
            at = np.where(turned, size - local, local)
            good = np.isfinite(at).all(axis=1) & (at >= 0).all(axis=1) & (at < size).all(axis=1)
            columns, rows = np.floor(at[good]).astype(np.int64).T
            found = plane[rows, columns]
            if cells is not None:
                score = float((found == cells[good]).sum()) / max(1, local.shape[0])
            elif found.size >= _LEAST_CELLS and spread > 0:
                score = float(found.mean() - thin.mean()) / spread * found.size**0.5
            else:
                score = 0.0
            scores[way] = max(scores[way], score)
        if cells is not None:
            return scores
    return scores
