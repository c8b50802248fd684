"""The configuration of a training: read from a file, checked as a whole, overridden by options."""

from __future__ import annotations

import inspect
import json
import math
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .errors import UsageError, as_typed

__all__ = ["SHARED_SETTINGS", "known_settings", "merged", "read_config"]

_LARGEST = 2**20
SHARED_SETTINGS: Mapping[str, Any] = {
    "key_added": "gnn",
    "sections": [],
    "where": None,
    "graph": None,
    "n_neighs": 6,
    "seed": 0,
    "epochs": None,
    "memory_limit": None,
}
_OPTIONAL: Mapping[str, tuple[type, ...]] = {
    "where": (str,),
    "graph": (str,),
    "epochs": (int, float),
    "memory_limit": (str, int),
    "max_rows": (int,),
}
_LEAST: Mapping[str, int] = {"seed": 0, "n_neighs": 1, "steps": 1, "batch_cells": 1, "max_rows": 1}
# arguments of the network that are no settings of a training: where it runs from, and is kept
_PLACES = ("self", "store", "graph", "sections", "checkpoint", "resume", "memory_limit", "seed")


def known_settings() -> dict[str, Any]:
    """Return every key a configuration may have, with its default; loads torch."""
    from ..models import DomainGNN

    parameters = inspect.signature(DomainGNN).parameters
    own = {name: p.default for name, p in parameters.items() if name not in _PLACES}
    return {**SHARED_SETTINGS, **own}


def read_config(where: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Read a configuration: YAML, TOML or JSON by the ending of its name.

    Parameters
    ----------
    where : str
        File with one level of keys.
    known : mapping
        Keys that may stand there, with their defaults.

    Returns
    -------
    dict
        The settings of the file, of the types of the defaults.

    Raises
    ------
    UsageError
        It is no such file.
    InputError
        All that is wrong with its keys and values.
    """
    from ..atlas.errors import Fault, InputError, near_or_all

    found = _parsed(Path(where))
    if not isinstance(found, dict):
        raise UsageError(f"--config wants keys and values, but got {_kind(found)} in {where!r}")
    faults = []
    settings: dict[str, Any] = {}
    for key, value in ((str(key), value) for key, value in found.items()):
        if key not in known:
            hint = near_or_all(key, known)
            faults.append(Fault(f"key {key}", f"a setting is wanted, but got {key!r}.{hint}"))
            continue
        try:
            settings[key] = _above(key, _fitting(key, value, known[key]))
        except ValueError as error:
            faults.append(Fault(f"key {key}", str(error)))
    if settings.get("steps") is not None and settings.get("epochs") is not None:
        faults.append(Fault("key epochs", "steps or epochs are wanted, but got both; drop one"))
    if faults:
        raise as_typed(InputError(faults, where))  # keys of the file are no options
    return settings


def _parsed(path: Path) -> Any:
    """Parse a file.

    Raises
    ------
    UsageError
        It is not there, too large, of another kind, or broken.
    """
    parsers: dict[str, Callable[[str], Any]] = {
        ".yaml": _yaml,
        ".yml": _yaml,
        ".toml": tomllib.loads,
        ".json": lambda text: json.loads(text, object_pairs_hook=_once),
    }
    parse = parsers.get(path.suffix.lower())
    if parse is None:
        raise UsageError(f"--config wants .yaml, .toml or .json, but got {str(path)!r}")
    if not path.is_file():
        raise UsageError(f"--config wants a file, but got {str(path)!r}, which is not there")
    if path.stat().st_size > _LARGEST:
        raise UsageError(f"--config wants a file below 1 MiB, but got {str(path)!r}")
    try:
        return parse(path.read_text(encoding="utf-8"))
    except ValueError as error:  # all of the parsers' errors, and text that is no UTF-8
        raise UsageError(
            f"--config wants {path.suffix[1:]}, but got {str(path)!r}: {error}"
        ) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a mapping of pairs; a key that stands twice is refused, as one of them would be lost."""
    keys = [key for key, _ in pairs]
    twice = sorted({str(key) for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f"each key once is wanted, but got {', '.join(twice)} twice")
    return dict(pairs)


def _yaml(text: str) -> Any:
    """Parse YAML of one level without tags that make objects."""
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return {}
        if isinstance(node, yaml.MappingNode):
            if not all(isinstance(key, yaml.ScalarNode) for key, _ in node.value):
                raise ValueError("names are wanted as keys, but got a list or keys below one")
            _once([(key.value, None) for key, _ in node.value])
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _fitting(key: str, value: Any, default: Any) -> Any:
    """Return a value in the type of its default.

    Raises
    ------
    ValueError
        It has another type.
    """
    if key == "sections":
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise ValueError(f"a list of names is wanted, but got {value!r}")
        if not listed:
            raise ValueError("names of sections are wanted, but got none; drop the key for all")
        return listed
    if isinstance(value, dict | list) or (value is None and default is not None):
        raise ValueError(f"{_kind(default)} is wanted, but got {_kind(value)}")
    if default is None:
        kinds = _OPTIONAL.get(key, (object,))
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            wanted = " or ".join(_KINDS.get(kind, "a value") for kind in kinds)
            raise ValueError(f"{wanted} is wanted, but got {value!r}")
        return value
    if isinstance(default, float):
        number = _number(value)
        if number is not None:
            return number
    elif type(value) is type(default):
        return value
    raise ValueError(f"{_kind(default)} is wanted, but got {value!r}")


def _above(key: str, value: Any) -> Any:
    """Return a value that is not below the least that makes sense.

    Raises
    ------
    ValueError
    """
    if key in _LEAST and value is not None and value < _LEAST[key]:
        raise ValueError(f"{_LEAST[key]} or more is wanted, but got {value!r}")
    if key == "epochs" and value is not None and not 0 < value < math.inf:
        raise ValueError(f"a finite number above 0 is wanted, but got {value!r}")
    return value


def _number(value: Any) -> float | None:
    """Read a finite number, also as text: YAML reads 5e-3 as such and wants 5.0e-3."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


_KINDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "keys below it",
    list: "a list",
    type(None): "nothing",
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), repr(value))


def merged(
    file: Mapping[str, Any], options: Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    """Lay options over the settings of a file: those that are given win.

    Examples
    --------
    >>> merged({"steps": 5, "seed": 1}, {"epochs": 2.0, "seed": None}, {"seed": 0, "steps": 300})
    {'seed': 1, 'epochs': 2.0}
    """
    given = {name: value for name, value in options.items() if value is not None}
    rest = dict(file)
    for name, rival in (("steps", "epochs"), ("epochs", "steps")):
        if name in given:
            rest.pop(rival, None)
    shared = {name: known[name] for name in SHARED_SETTINGS if known.get(name) not in (None, [])}
    return {**shared, **rest, **given}
