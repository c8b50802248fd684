"""What the JSON of an atlas must look like; whoever wrote it, it is checked before use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .errors import Corrupt, FormatUnsupported, InvalidArgument
from .keys import check_key, check_name, is_attempt, is_digest

__all__ = [
    "ATLAS_FORMAT",
    "DERIVED",
    "FORMAT_VERSION",
    "RUN",
    "SECTION",
    "SEGMENT",
    "SNAPSHOT_FORMAT",
    "TOMBSTONE_FORMAT",
    "check_format",
    "rows",
    "snapshot_facts",
    "tombstone_facts",
    "writable",
]

FORMAT_VERSION = "1.2"
ATLAS_FORMAT = "tisseract"
SNAPSHOT_FORMAT = "tisseract-snapshot"
TOMBSTONE_FORMAT = "tisseract-tombstone"
# Features that this version knows how to honor, when a file requires them.
FEATURES: frozenset[str] = frozenset({"packed"})

_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})")
_DEEPEST = 12
_LONGEST_LIST = 2_000_000

Check = Callable[[Any], Any]


def _version(text: object) -> tuple[int, int] | None:
    found = _VERSION.fullmatch(text) if isinstance(text, str) else None
    return (int(found[1]), int(found[2])) if found else None


def check_format(body: Mapping[str, Any], wanted: str, what: str) -> None:
    """Refuse what this version cannot read.

    Raises
    ------
    Corrupt
        Another kind of file.
    FormatUnsupported
        A newer major version, or an unknown required feature.
    """
    version = _version(body.get("format_version"))
    if body.get("format") != wanted or version is None:
        raise Corrupt(f"JSON of format {wanted!r} is wanted in {what}, but got something else")
    ours = _version(FORMAT_VERSION)
    assert ours is not None
    if version[0] > ours[0]:
        raise FormatUnsupported(
            f"format {ours[0]}.x is wanted in {what}, but got {body['format_version']}; "
            "upgrade tisseract"
        )
    requires = body.get("requires", [])
    if not isinstance(requires, list) or not all(isinstance(name, str) for name in requires):
        raise Corrupt(f"a list of feature names is wanted in {what}, but got {requires!r:.100}")
    unknown = sorted(set(requires) - FEATURES)
    if unknown:
        raise FormatUnsupported(
            f"known features are wanted in {what}, but got {', '.join(unknown)[:200]}; "
            "upgrade tisseract"
        )


def writable(version: str) -> bool:
    """Tell whether this version may write on top of another: never on top of a newer one."""
    theirs, ours = _version(version), _version(FORMAT_VERSION)
    return theirs is not None and ours is not None and theirs <= ours


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 10_000:
        raise ValueError("text")
    return value


def _name(value: Any) -> str:
    return check_name(_text(value))


def _attempt(value: Any) -> str:
    if not is_attempt(value):
        raise ValueError("an attempt id")
    return str(value)


def _digest(value: Any) -> str:
    if not is_digest(value):
        raise ValueError("a digest")
    return str(value)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError("a whole number from 0 on")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 1e300:
        raise ValueError("a number")
    return float(value)


def _bounds(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError("four numbers")
    return tuple(map(_number, value))


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise ValueError(f"at most {_DEEPEST} levels")
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            _plain(inner, depth + 1)
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("an object")
    return dict(_plain(value))


def _metadata(value: Any) -> dict[str, Any]:
    if any(isinstance(inner, dict | list) for inner in _mapping(value).values()):
        raise ValueError("an object of plain values")
    return dict(value)


def _columns(value: Any) -> dict[str, Any]:
    for name, inner in _mapping(value).items():
        if not isinstance(inner, dict) or inner.get("kind") not in _COLUMN_KINDS:
            raise ValueError(f"a column {name[:60]!r} with a kind of {', '.join(_COLUMN_KINDS)}")
        for fact, check in _COLUMN.items():
            if inner.get(fact) is not None:
                check(inner[fact])
    return dict(value)


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(inner, str) for inner in value):
        raise ValueError("a list of texts")
    return value


def _inputs(value: Any) -> dict[str, str]:
    return {_text(name): _attempt(attempt) for name, attempt in _mapping(value).items()}


def _keys(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("a list of keys")
    return tuple(check_key(_text(key)) for key in value)


_COLUMN_KINDS = ("numeric", "categorical", "string", "boolean")
_COLUMN: dict[str, Check] = {
    "min": _number,
    "max": _number,
    "categories": _texts,
    "n_categories": _count,
    "nulls": _count,
    "source": _text,
}
_COMMON: dict[str, Check] = {"attempt": _attempt, "digest": _digest, "nbytes": _count}
SECTION: dict[str, Check] = _COMMON | {
    "section": _name,
    "n_obs": _count,
    "n_vars": _count,
    "nnz": _count,
    "n_tiles": _count,
    "tile_cells": _count,
    "panel": _name,
    "values": _text,
    "um_per_unit": _optional(_number),
    "bounds": _bounds,
    "fingerprint": _text,
    "metadata": _metadata,
    "columns": _columns,
    "qc": _mapping,
}
DERIVED: dict[str, Check] = _COMMON | {
    "kind": _name,
    "key": _name,
    "section": _name,
    "inputs": _inputs,
    "run": _optional(_name),
    "info": _mapping,
}
SEGMENT: dict[str, Check] = _COMMON | {
    "kind": _name,
    "key": _name,
    "inputs": _inputs,
    "info": _mapping,
}
RUN: dict[str, Check] = _COMMON | {
    "run": _name,
    "model": _text,
    "inputs": _inputs,
    "info": _mapping,
}
_SNAPSHOT: dict[str, Check] = {
    "number": _count,
    "parent": _optional(_digest),
    "commit": _attempt,
    "created": _text,
    "message": _text,
    "condemned": _keys,
    "format_version": _text,
}
_TOMBSTONE: dict[str, Check] = {
    "number": _count,
    "commit": _attempt,
    "parent": _optional(_digest),
    "digest": _digest,
    "created": _text,
    "message": _text,
}


def _checked(body: Mapping[str, Any], checks: Mapping[str, Check], what: str) -> dict[str, Any]:
    """Take the known fields, each checked; fields of a newer minor version are passed over."""
    found: dict[str, Any] = {}
    for name, check in checks.items():
        if name not in body:
            raise Corrupt(f"a field {name!r} is wanted in {what}, but got none")
        try:
            found[name] = check(body[name])
        except InvalidArgument as error:
            raise Corrupt(f"{what}, field {name!r}: {error}") from None
        except ValueError as error:
            raise Corrupt(
                f"{error} is wanted in {what}, field {name!r}, but got {body[name]!r:.100}"
            ) from None
    return found


def rows(
    body: Mapping[str, Any], group: str, checks: Mapping[str, Check], what: str
) -> list[dict[str, Any]]:
    """Check every entry of a group of a snapshot."""
    found = body.get(group)
    if not isinstance(found, list) or len(found) > _LONGEST_LIST:
        raise Corrupt(f"a list {group!r} is wanted in {what}, but got none")
    for row in found:
        if not isinstance(row, dict):
            raise Corrupt(f"objects are wanted in {group!r} of {what}, but got {row!r:.100}")
    return [_checked(row, checks, f"{what}, {group} {index}") for index, row in enumerate(found)]


def snapshot_facts(body: Mapping[str, Any], number: int, what: str) -> dict[str, Any]:
    """Check the fields of a snapshot other than its groups."""
    facts = _checked(body, _SNAPSHOT, what)
    if facts["number"] != number:
        raise Corrupt(f"number {number} is wanted in {what}, but got {facts['number']}")
    return facts


def tombstone_facts(body: Mapping[str, Any], number: int, what: str) -> dict[str, Any]:
    """Check the fields of a tombstone."""
    facts = _checked(body, _TOMBSTONE, what)
    if facts["number"] != number:
        raise Corrupt(f"number {number} is wanted in {what}, but got {facts['number']}")
    return facts
