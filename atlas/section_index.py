"""The index of a section, checked once: what opening needs, in sound form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import Corrupt
from .morton import Frame
from .points import PointsInfo
from .section_apart import ApartInfo
from .section_arrays import ArrayLayout

if TYPE_CHECKING:
    from .snapshot import SectionEntry

__all__ = ["SectionIndex"]

_KINDS = frozenset({"numeric", "categorical", "boolean", "string"})
_OBS = "tables/table/obs/"
_ELEMENTS = ("images", "labels", "shapes")


@dataclass(frozen=True, slots=True)
class SectionIndex:
    """Frame, obs columns and array layouts of a section."""

    frame: Frame
    """Square that the tiles divide."""
    columns: Mapping[str, Mapping[str, Any]]
    """Obs columns by name."""
    layouts: Mapping[str, ArrayLayout]
    """Arrays by path."""
    points: Mapping[str, PointsInfo] = field(default_factory=dict)
    """Points elements by name."""
    elements: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names under `images`, `labels` and `shapes`, the cells' own shapes left out."""
    apart: Mapping[str, ApartInfo] = field(default_factory=dict)
    """Tables of features that are no genes, by name."""
    qc: tuple[str, ...] = ()
    """Names of the numbers of each tile; none in sections that were written without."""

    @classmethod
    def of(cls, attributes: Mapping[str, Any], entry: SectionEntry) -> SectionIndex:
        """Check the attributes of a section's index.

        Raises
        ------
        Corrupt
            Names the first part that is missing or out of shape.
        """
        for name in ("n_obs", "n_vars", "nnz", "n_tiles"):
            if attributes.get(name) != getattr(entry, name):
                raise Corrupt(
                    f"its index disagrees with the catalog on {name}: {attributes.get(name)!r:.40} "
                    f"and {getattr(entry, name)}"
                )
        arrays = _mapping(attributes.get("arrays"), "arrays")
        layouts = {path: ArrayLayout.of(_mapping(one, path)) for path, one in arrays.items()}
        _check_shapes(layouts, entry)
        columns = _mapping(attributes.get("obs"), "obs")
        for name, info in columns.items():
            _check_column(name, _mapping(info, f"obs {name!r}"), layouts, entry.n_obs)
        given = _mapping(attributes.get("points", {}), "points")
        points = {name: PointsInfo.of(name, one) for name, one in given.items()}
        elements = {kind: _names(attributes.get(kind, []), kind) for kind in _ELEMENTS}
        frame = _frame(attributes.get("frame"))
        quality = _names(attributes.get("qc", []), "qc")
        beside = _mapping(attributes.get("apart", {}), "apart")
        _names(list(beside), "apart")
        apart = {
            name: ApartInfo.of(name, _mapping(one, f"apart {name!r}"), layouts, entry.n_obs)
            for name, one in beside.items()
        }
        return cls(frame, columns, layouts, points, elements, apart, quality)


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Corrupt(f"its index must hold an object as {what}, but got {value!r:.60}")
    return value


def _names(value: object, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(
        isinstance(one, str) and "/" not in one and not one.startswith(".") for one in value
    ):
        raise Corrupt(f"its index must list names as {what}, but got {value!r:.60}")
    return tuple(value)


def _frame(value: object) -> Frame:
    found = _mapping(value, "frame")
    numbers = [found.get(name) for name in ("x", "y", "side")]
    sound = [
        float(v)
        for v in numbers
        if isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e300
    ]
    if len(sound) != 3 or not all(map(math.isfinite, sound)) or sound[2] <= 0:
        raise Corrupt(f"its frame must be x, y and a side above 0, but got {numbers!r:.80}")
    return Frame(*sound)


def _check_shapes(layouts: Mapping[str, ArrayLayout], entry: SectionEntry) -> None:
    n, genes, tiles, nnz = entry.n_obs, entry.n_vars, entry.n_tiles, entry.nnz
    wanted: dict[str, tuple[tuple[int, ...], str]] = {
        "tables/table/obsm/spatial": ((n, 2), "float64"),
        "tables/table/obs/_index": ((n,), "string"),
        "tables/table/X/indptr": ((n + 1,), "int64"),
        "tables/table/X/indices": ((nnz,), "int32"),
        "tisseract/by_gene/indptr": ((genes + 1,), "int64"),
        "tisseract/tiles/ptr": ((tiles + 1,), "int64"),
        "tisseract/tiles/bounds": ((tiles, 4), "float64"),
        "tisseract/tiles/code": ((tiles,), "uint64"),
        "tisseract/tiles/level": ((tiles,), "uint8"),
        "tisseract/source_row": ((n,), "int64"),
        "tisseract/depth": ((n,), "float64"),
    }
    for name in ("sum", "nnz", "max", "log_sum"):
        number = "int64" if name == "nnz" else "float64"
        wanted[f"tisseract/totals/gene_{name}"] = ((genes,), number)
    for path, (shape, dtype) in wanted.items():
        found = layouts.get(path)
        if found is not None and (found.shape, found.dtype) != (shape, dtype):
            raise Corrupt(
                f"its index must list {path} as {shape} {dtype}, but got {found.shape} "
                f"{found.dtype}"
            )


def _check_column(
    name: str, info: Mapping[str, Any], layouts: Mapping[str, ArrayLayout], n_obs: int
) -> None:
    kind, path = info.get("kind"), info.get("path")
    if kind not in _KINDS or not isinstance(path, str) or not path.startswith(_OBS):
        raise Corrupt(
            f"obs {name!r} must have a kind and a path, but got {kind!r:.40} {path!r:.60}"
        )
    parts = ["codes"] if kind == "categorical" else ["values", "mask"]
    paths = [path] if path in layouts else [f"{path}/{part}" for part in parts]
    for one in paths:
        found = layouts.get(one)
        if found is None or found.shape != (n_obs,):
            raise Corrupt(
                f"obs {name!r} must have ({n_obs},) values at {one}, but got "
                f"{found and found.shape}"
            )
    _check_categories(name, info, layouts.get(f"{path}/categories"))


def _check_categories(name: str, info: Mapping[str, Any], stored: ArrayLayout | None) -> None:
    if info["kind"] != "categorical":
        return
    named, n = info.get("categories"), info.get("n_categories")
    if named is None:
        sound = stored is not None and stored.shape == (n,) and stored.dtype == "string"
    else:
        sound = (
            isinstance(named, list)
            and all(isinstance(one, str) for one in named)
            and len(named) == len(set(named)) == n
        )
    if not sound:
        raise Corrupt(f"obs {name!r} must have {n!r:.20} categories, but got {named!r:.60}")
