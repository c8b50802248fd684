"""The small YAML that says which columns of which tables are cells, counts and transcripts.

Every fault of it is told at once, with near names; nothing of it is code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast

from ...atlas.errors import Fault, InputError, near
from ..near_inputs import is_there, near_files
from ..sheet_file import text_loader

__all__ = [
    "MAPPING_NAMES",
    "BoundariesPart",
    "CellsPart",
    "CountsPart",
    "GenesPart",
    "TableMapping",
    "TranscriptsPart",
    "inside",
    "read_mapping",
]

MAPPING_NAMES = ("tisseract.yaml", "tisseract.yml")
"""Names of the file that are found in a folder."""

_LARGEST = 2**20
_LAYOUTS = ("dense", "long", "mtx", "h5")
_MATCHES = ("id", "position0", "position1")
_TABS = ("\\t", "tab")  # as single quotes of YAML leave it, and in words

Layout = Literal["dense", "long", "mtx", "h5"]
Match = Literal["id", "position0", "position1"]


@dataclass(frozen=True, slots=True)
class CellsPart:
    """One row a cell."""

    path: str
    x: str
    y: str
    id: str | None = None
    """None numbers the rows from 1."""
    z: str | None = None
    obs: tuple[str, ...] | None = None
    """Columns kept; None keeps all that are nothing else."""
    where: Mapping[str, str] | None = None
    """Rows that are cells: those with these values."""
    delimiter: str | None = None


@dataclass(frozen=True, slots=True)
class CountsPart:
    """The matrix."""

    layout: Layout
    path: str | None = None
    """None: columns of the table of cells."""
    id: str | None = None
    """dense: column of cell ids; None where rows are those of the cells, in their order."""
    genes: tuple[str, ...] | None = None
    """dense: columns or patterns; None takes all others of a table of its own."""
    prefix: str | None = None
    """dense: what columns of genes begin with; it is no part of their names."""
    cell: str = "cell"
    gene: str = "gene"
    count: str = "count"
    match: Match = "id"
    """long: whether cell and gene are names, or row numbers from 0 or from 1."""
    duplicates: Literal["refuse", "sum"] = "refuse"
    unmatched: Literal["refuse", "drop"] = "refuse"
    """What becomes of cells that one table has and the other has not."""
    outside: tuple[str, ...] = ()
    """long: cell values of counts that belong to no cell."""
    barcodes: str | None = None
    """mtx: list of cell ids; None takes the cells in their order."""
    delimiter: str | None = None


@dataclass(frozen=True, slots=True)
class GenesPart:
    """One row a gene, in the order of the matrix."""

    path: str
    id: str | None = None
    """Column of names; None is the first."""
    symbol: str | None = None
    header: bool = True
    delimiter: str | None = None


@dataclass(frozen=True, slots=True)
class TranscriptsPart:
    """One row a molecule."""

    path: str
    x: str
    y: str
    gene: str
    z: str | None = None
    cell: str | None = None
    outside: tuple[str, ...] = ()
    """Values of `cell` of molecules outside cells."""
    um_per_unit: float | None = None
    """Where it differs from that of the cells."""
    delimiter: str | None = None


@dataclass(frozen=True, slots=True)
class BoundariesPart:
    """One row a vertex, those of one cell together."""

    path: str
    cell: str
    x: str
    y: str
    delimiter: str | None = None


@dataclass(frozen=True, slots=True)
class TableMapping:
    """What a mapping says; paths are relative to the folder."""

    cells: CellsPart
    counts: CountsPart
    genes: GenesPart | None = None
    transcripts: TranscriptsPart | None = None
    boundaries: BoundariesPart | None = None
    technology: str = ""
    um_per_unit: float | str | None = None
    y_axis: Literal["down", "up"] = "down"
    controls: tuple[str, ...] = ()
    """Patterns of names that are no genes."""


def read_mapping(value: object, where: str, own: str | None = None) -> TableMapping:
    """Read a mapping from YAML or from a mapping of the sheet.

    Parameters
    ----------
    value : Path or mapping
        The file, or what it would say.
    where : str
        For messages.
    own : str, optional
        Table that `cells` means when it names no `path`.

    Raises
    ------
    InputError
        Every fault of it.

    Examples
    --------
    >>> said = {"cells": {"path": "c.csv", "x": "x", "y": "y"}, "counts": {"layout": "dense"}}
    >>> read_mapping(said, "mapping").cells.path
    'c.csv'
    """
    tree = _loaded(value, where) if isinstance(value, Path) else value
    if not isinstance(tree, Mapping):
        raise InputError(
            Fault(where, f"expected a mapping with `cells` and `counts`, but got {tree!r:.60}")
        )
    found = _Parser(where).mapping(cast("Mapping[str, object]", tree), own)
    assert found is not None
    return found


def inside(root: Path, name: str, where: str) -> Path:
    """Resolve a relative path of a mapping; what leaves the folder is refused.

    Raises
    ------
    InputError
        It is absolute, leaves the folder (also by a link), or is not there.
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    path = root / parts
    if "\0" in name or parts.is_absolute() or ".." in parts.parts:
        raise InputError(
            Fault(where, f"expected a path inside {root}, but got {name!r}; refused, copy it in")
        )
    if not is_there(path):
        raise InputError(
            Fault(where, f"expected the file {name!r}, but got none.{near_files(path)}")
        )
    if not path.resolve().is_relative_to(root.resolve()):
        raise InputError(
            Fault(where, f"expected a file inside {root}, but got a link out of it; copy it in")
        )
    return path


def _loaded(path: Path, where: str) -> object:
    import yaml

    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(Fault(where, "expected a mapping below 1 MiB, but got a larger file"))
        text = path.read_text(encoding="utf-8-sig")
        return yaml.load(text, Loader=text_loader())  # noqa: S506 - text, lists and mappings only
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Fault(where, f"expected a mapping, but got {error}")) from error
    except (yaml.YAMLError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(Fault(where, f"expected YAML, but got {said}")) from error


class _Parser:
    """One pass over a mapping; gathers faults."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.faults: list[Fault] = []

    def fault(self, key: str, message: str) -> None:
        self.faults.append(Fault(f"{self.where}:{key}" if key else self.where, message))

    def mapping(self, tree: Mapping[str, object], own: str | None) -> TableMapping | None:
        top = self.known("", tree, (
            "cells", "counts", "genes", "transcripts", "boundaries", "technology",
            "um_per_unit", "y_axis", "controls",
        ))  # fmt: skip
        y_axis = self.choice("", top, "y_axis", ("down", "up"), "down")
        cells = self.part(top, "cells", CellsPart, default_path=own)
        counts = self.part(top, "counts", CountsPart)
        parts = {
            "genes": self.part(top, "genes", GenesPart),
            "transcripts": self.part(top, "transcripts", TranscriptsPart),
            "boundaries": self.part(top, "boundaries", BoundariesPart),
        }
        for name, part in (("cells", cells), ("counts", counts)):
            if part is None and name not in top:
                self.fault("", f"expected `{name}:`, but got {_listed(tree)}")
        unit = top.get("um_per_unit")
        if not isinstance(unit, str | int | float | None):
            self.fault("um_per_unit", f"expected a number or word, but got {unit!r:.60}")
        controls = self.words("", top, "controls") or ()
        technology = str(top.get("technology") or "")
        if self.faults:
            raise InputError(self.faults, self.where if len(self.faults) > 1 else "")
        assert cells is not None
        assert counts is not None
        return TableMapping(
            cells,
            counts,
            **cast("Any", parts),
            technology=technology,
            um_per_unit=None if unit is None else cast("float | str", unit),
            y_axis=cast("Literal['down', 'up']", y_axis),
            controls=controls,
        )

    def part(
        self, top: Mapping[str, object], name: str, kind: Any, default_path: str | None = None
    ) -> Any:
        """Read one section of the mapping into its class, by the types of its fields."""
        if name not in top:
            return None
        value = top[name]
        if isinstance(value, str):
            value = {"path": value}
        if not isinstance(value, Mapping):
            self.fault(name, f"expected a mapping, but got {value!r:.60}")
            return None
        before = len(self.faults)
        fields = kind.__dataclass_fields__
        given = self.known(name, cast("Mapping[str, object]", value), tuple(fields))
        if default_path is not None:
            given = {"path": default_path} | given
        facts: dict[str, object] = {}
        for key, field in fields.items():
            if given.get(key) is None:
                if field.default is MISSING:
                    self.fault(name, f"expected `{key}:`, but got {_listed(given)}")
                continue
            facts[key] = self.value(name, given, key, str(field.type))
        return kind(**facts) if len(self.faults) == before else None

    def value(self, name: str, given: Mapping[str, object], key: str, kind: str) -> object:
        if kind == "Layout":
            return self.choice(name, given, key, _LAYOUTS, "dense")
        if kind == "Match":
            return self.choice(name, given, key, _MATCHES, "id")
        if kind.startswith("Literal"):
            choices = [word.strip("\"' ") for word in kind[8:-1].split(",")]
            return self.choice(name, given, key, choices, choices[0])
        if kind.startswith("tuple"):
            return self.words(name, given, key)
        if kind.startswith("Mapping"):
            return self.pairs(name, given[key], key)
        if key == "delimiter":
            return self.delimiter(name, str(given[key]))
        if kind == "bool":
            return self.choice(name, given, key, ("true", "false"), "true") == "true"
        if kind.startswith("float"):
            return self.number(name, given[key], key)
        text = given[key]
        if isinstance(text, str | int | float) and not isinstance(text, bool):
            return str(text)
        self.fault(f"{name}.{key}", f"expected one text, but got {text!r:.60}")
        return ""

    def delimiter(self, name: str, word: str) -> str:
        found = "\t" if word in _TABS else word
        if len(found) != 1 or not found.isascii() or found in '"\r\n':
            self.fault(f"{name}.delimiter", f"expected one character, or tab, but got {word!r:.60}")
        return found

    def known(
        self, name: str, tree: Mapping[str, object], keys: Sequence[str]
    ) -> dict[str, object]:
        """Refuse keys that mean nothing."""
        for key in tree:
            if key not in keys:
                hint = near(str(key), keys)
                self.fault(name, f"expected keys out of {', '.join(keys)}, but got {key!r}.{hint}")
        return {key: value for key, value in tree.items() if key in keys}

    def choice(
        self, name: str, tree: Mapping[str, object], key: str, choices: Sequence[str], usual: str
    ) -> str:
        value = tree.get(key)
        word = usual if value is None else str(value).strip().lower()
        if word not in choices:
            self.fault(
                f"{name}.{key}".lstrip("."),
                f"expected {' | '.join(choices)}, but got {value!r}.{near(word, choices)}",
            )
        return word

    def words(self, name: str, tree: Mapping[str, object], key: str) -> tuple[str, ...] | None:
        value = tree.get(key)
        if value is None:
            return None
        if isinstance(value, str | int):
            return (str(value),)
        if isinstance(value, list | tuple) and all(isinstance(one, str | int) for one in value):
            return tuple(str(one) for one in value)
        self.fault(f"{name}.{key}".lstrip("."), f"expected a list of words, but got {value!r:.60}")
        return None

    def pairs(self, name: str, value: object, key: str) -> dict[str, str]:
        plain = isinstance(value, Mapping) and all(
            isinstance(one, str | int | float) for one in value.values()
        )
        if not plain:
            self.fault(f"{name}.{key}", f"expected columns and their values, but got {value!r:.60}")
            return {}
        assert isinstance(value, Mapping)
        return {str(column): str(one) for column, one in value.items()}

    def number(self, name: str, value: object, key: str) -> float | None:
        try:
            number = float(str(value))
        except ValueError:
            number = float("nan")
        if not 0 < number < float("inf"):
            self.fault(f"{name}.{key}", f"expected a number above 0, but got {value!r:.60}")
            return None
        return number


def _listed(keys: Iterable[object]) -> str:
    return ", ".join(map(str, keys)) or "nothing"
