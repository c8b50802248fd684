"""What `index.json` of a segment must be; looked at once, before anything of it is used."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...atlas.errors import Corrupt, InvalidArgument
from .parameters import PLAIN, IndexParameters

__all__ = ["check_facts", "is_whole"]

_MOST_WIDTH = 2**18
_MOST_ROWS = 2**40
_COUNTS = ("n_genes", "n_dims", "min_cells")


class _UnsoundError(ValueError):
    """What is out of shape, in words."""


def check_facts(facts: Mapping[str, Any], key: str) -> None:
    """Refuse facts of a segment that are out of shape, or do not fit each other.

    Parameters
    ----------
    facts
        A JSON object: parameters, width, genes, values, sections, arrays.
    key
        Where it was read, for the message.

    Raises
    ------
    Corrupt
    """
    try:
        parameters = _parameters(facts.get("parameters"))
        _need(is_whole(facts.get("width"), 1, _MOST_WIDTH), "width")
        _need(_is_texts(facts.get("genes")), "genes")
        _need((parameters.space == PLAIN) == bool(facts["genes"]), "genes of this space")
        _values(facts.get("values"), parameters.columns)
        sections = _sections(facts.get("sections"), len(parameters.sizes))
        _arrays(facts, parameters, sections)
    except _UnsoundError as error:
        raise Corrupt(
            f"sound {error} in {key} is wanted, but got another or none; run `tisseract verify`, "
            "then `tisseract index --overwrite`"
        ) from error


def is_whole(value: object, least: int = 0, most: int = _MOST_ROWS) -> bool:
    """Tell whether a value of JSON is a whole number within bounds; true and 1.0 are not."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _need(sound: bool, what: str) -> None:
    if not sound:
        raise _UnsoundError(what)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e300 and math.isfinite(value)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _parameters(found: object) -> IndexParameters:
    _need(isinstance(found, dict) and set(found) == set(IndexParameters.__slots__), "parameters")
    assert isinstance(found, dict)
    _need(isinstance(found["space"], str) and isinstance(found["all_cells"], bool), "parameters")
    _need(found["unit"] in ("um", "spacing"), "unit")
    sizes = found["sizes"]
    _need(isinstance(sizes, list) and all(_is_number(one) for one in sizes), "sizes")
    _need(sizes == sorted(sizes), "sizes")
    _need(_is_texts(found["columns"]), "columns")
    _need(found["where"] is None or isinstance(found["where"], str), "where")
    _need(all(is_whole(found[name], 1) for name in _COUNTS), "parameters")
    try:
        return IndexParameters.from_dict(found)
    except InvalidArgument as error:
        raise _UnsoundError("parameters") from error


def _values(found: object, columns: Sequence[str]) -> None:
    _need(isinstance(found, dict) and set(found) == set(columns), "values")
    assert isinstance(found, dict)
    for listed in found.values():
        _need(_is_texts(listed) and 0 < len(listed) == len(set(listed)), "values")


def _sections(found: object, n_sizes: int) -> list[Mapping[str, Any]]:
    _need(isinstance(found, list) and bool(found), "sections")
    assert isinstance(found, list)
    for one in found:
        _need(isinstance(one, dict) and isinstance(one.get("section"), str), "sections")
        inputs, windows = one.get("inputs"), one.get("windows")
        _need(isinstance(inputs, dict), "inputs")
        _need(isinstance(windows, list) and len(windows) == n_sizes, "windows")
        assert isinstance(inputs, dict)
        assert isinstance(windows, list)
        _need(_is_texts(list(inputs.values())), "inputs")
        _need(f"section:{one['section']}" in inputs, "inputs")
        _need(_is_texts(one.get("without", [])), "without")
        _need(all(_is_number(one.get(name)) for name in ("scale", "x", "y")), "grids")
        _need(one["scale"] > 0 and is_whole(one.get("n_cells")), "sections")
        _need(all(is_whole(number) for number in windows), "windows")
    names = [one["section"] for one in found]
    _need(len(set(names)) == len(names), "sections")
    return found


def _arrays(
    facts: Mapping[str, Any], parameters: IndexParameters, sections: Sequence[Mapping[str, Any]]
) -> None:
    """See that every array is there, and has the rows that sections and windows add up to."""
    found, width, n = facts.get("arrays"), facts["width"], len(sections)
    _need(isinstance(found, dict), "arrays")
    assert isinstance(found, dict)
    wanted = {"center": ("<f8", width, n)}
    if parameters.space == PLAIN:
        wanted["projection"] = ("<f4", width, len(facts["genes"]))
    for size in range(len(parameters.sizes)):
        rows = sum(one["windows"][size] for one in sections)
        shapes = {"grid": ("<i4", 2), "n_cells": ("<i4", 1)}
        shapes |= {"mean": ("<f2", width), "spread": ("<f2", width)}
        for number, column in enumerate(parameters.columns):
            shapes[f"share{number}"] = ("<f2", len(facts["values"][column]))
        wanted |= {f"w{size}.{name}": (*shape, rows) for name, shape in shapes.items()}
        wanted[f"w{size}.moments"] = ("<f8", 4 * width, n)
    _need(set(found) == set(wanted), "arrays")
    for name, shape in wanted.items():
        one = found[name]
        _need(isinstance(one, dict), f"array {name}")
        _need((one.get("dtype"), one.get("width"), one.get("rows")) == shape, f"array {name}")
