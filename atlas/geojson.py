"""GeoJSON of named regions: features with their names, checked as polygons, all faults at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .errors import Fault, InputError, InvalidArgument, near
from .polygons import checked, features
from .regions import NamedPolygons

__all__ = ["Named", "all_checked", "named_features", "named_parts", "region_name"]

type Named = Iterator[tuple[str, Any, Any]]
"""Where a region stands in the input, its name as found, its geometry."""

_LONGEST_NAME = 200
_FAULTS = 20


def all_checked(
    named: Named,
    column: str,
    move: Callable[[Any], Any] | None = None,
    known: set[str] | None = None,
) -> NamedPolygons:
    """Check every region; one fault or many refuse all.

    Parameters
    ----------
    named
        Where each stands, its name, its geometry.
    column
        What holds the names, for messages.
    move
        Vertices (m, 2) to those that are kept; None keeps them.
    known
        Names that there may be; None is any.

    Raises
    ------
    InputError
    """
    import shapely

    names: list[str] = []
    polygons: list[Any] = []
    faults: list[Fault] = []
    for where, name, geometry in named:
        try:
            text = region_name(name, column)
            shape = checked(geometry, "")
            if known is not None and text not in known:
                raise InvalidArgument(
                    f"a name of the ontology is wanted, but got {text!r}.{near(text, known)}"
                )
        except InvalidArgument as error:
            faults.append(Fault(where, str(error)))
            continue
        names.append(text)
        polygons.append(shape if move is None else checked(shapely.transform(shape, move), ""))
    if len(faults) > _FAULTS:
        faults = [*faults[:_FAULTS], Fault("", f"and {len(faults) - _FAULTS} more")]
    if not faults and not names:
        faults.append(Fault("", "named polygons are wanted, but got none"))
    if faults:
        raise InputError(faults, "regions")
    return NamedPolygons(tuple(names), tuple(polygons))


def region_name(value: object, column: str) -> str:
    """Read the name of a region; whole numbers are names, too.

    Raises
    ------
    InvalidArgument
        Nothing, or no printable text of 1 to 200 characters.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | np.integer):
        raise InvalidArgument(
            f"a name is wanted in {column!r}, but got {'none' if value is None else repr(value)}; "
            "name the property that holds it with name="
        )
    text = str(value).strip()
    if not text or len(text) > _LONGEST_NAME or not text.isprintable():
        raise InvalidArgument(
            f"a name of 1 to {_LONGEST_NAME} printable characters is wanted in {column!r}, but "
            f"got {text[:80]!r}"
        )
    return text


def named_features(value: Mapping[str, Any], column: str) -> Named:
    """Yield every feature of GeoJSON with its name.

    Parameters
    ----------
    value
        A FeatureCollection, or one Feature or geometry.
    column
        Property that holds the name; a dot leads into nested ones. Where `name` is empty,
        `classification.name` is taken, as QuPath writes it.

    Raises
    ------
    InvalidArgument, InputError
        It is no GeoJSON.
    """
    if value["type"] != "FeatureCollection":
        value = {"type": "FeatureCollection", "features": [value]}
    parts = value.get("features")
    if not isinstance(parts, list):
        raise InvalidArgument("GeoJSON with a list of features is wanted, but got none")
    yield from named_parts(parts, column)


def named_parts(parts: Iterable[Any], column: str) -> Named:
    """Yield Features or geometries, of which one after the other is held, with their names.

    Parameters
    ----------
    parts
        Of GeoJSON.
    column
        As in `named_features`.

    Raises
    ------
    InputError
        One is none.
    """
    from shapely.errors import ShapelyError

    for i, feature in enumerate(parts):
        where = f"feature {i + 1}"
        try:
            (found,) = features(feature)
        except (
            ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError,
            RecursionError, OverflowError,
        ) as error:  # fmt: skip
            raise InputError(
                Fault(where, f"a GeoJSON Feature is wanted, but got {str(error)[:200]}"), "regions"
            ) from error
        geometry, properties = found
        called = _property(properties, column)
        if called is None and column == "name":  # of QuPath, where only the class may have one
            called = _property(properties, "classification.name")
        yield where, called, geometry


def _property(properties: Mapping[str, Any], column: str) -> Any:
    if column in properties:
        return properties[column]
    value: Any = properties
    for part in column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
