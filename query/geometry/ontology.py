"""Ontologies of regions: what is part of what."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...atlas.errors import Fault, InputError, InvalidArgument, near

_FAULTS = 20


def read_ontology_table(table: object) -> list[tuple[str, str, str]]:
    """Read a table of regions and their parents.

    Parameters
    ----------
    table
        A DataFrame or the path of a CSV file with columns `name` and/or `id`, and `parent`; or a
        mapping of names to parents (None at the top). Where there is an `id` column, `parent`
        holds ids, else names; empty at the top.

    Returns
    -------
    list of (name, id, parent)
        Parent by name; "" where there is no id or parent.

    Raises
    ------
    InputError
        Names or ids that repeat or are empty, unknown parents, circles; all at once.
    InvalidArgument
        No such file or columns.

    Examples
    --------
    >>> read_ontology_table({"cortex": None, "layer 5": "cortex"})
    [('cortex', '', ''), ('layer 5', '', 'cortex')]
    """
    rows, by_id = _rows(table)
    faults: list[Fault] = []
    for column, what in ((0, "name"), (1, "id")):
        seen: set[str] = set()
        for i, row in enumerate(rows):
            value = row[column]
            if value in seen or (column == 0 and not value):
                got = f"{value!r} again" if value else "an empty one"
                faults.append(
                    Fault(f"row {i + 1}", f"a {what} of its own is wanted, but got {got}")
                )
            if value:
                seen.add(value)
    name_of = {(row[1] if by_id else row[0]): row[0] for row in rows}
    found: list[tuple[str, str, str]] = []
    for i, (name, identity, parent) in enumerate(rows):
        if parent and parent not in name_of:
            faults.append(
                Fault(
                    f"row {i + 1}",
                    f"a parent in the table is wanted, but got {parent!r}.{near(parent, name_of)}",
                )
            )
        found.append((name, identity, name_of.get(parent, "")))
    if not faults:
        faults = [Fault(f"region {name!r}", "is part of itself") for name in _circular(found)]
    if faults:
        raise InputError(faults[:_FAULTS], "ontology")
    return found


def _circular(rows: list[tuple[str, str, str]]) -> list[str]:
    """Names from which no way leads to the top."""
    parent = {name: above for name, _, above in rows}
    fine = {""}
    for name in parent:
        way: list[str] = []
        at = name
        while at not in fine and at not in way[-1:] and len(way) <= len(parent):
            way.append(at)
            at = parent[at]
        if at in fine:
            fine.update(way)
    return [name for name in parent if name not in fine]


def _rows(table: object) -> tuple[list[tuple[str, str, str]], bool]:
    """Rows of name, id and parent as given, and whether parents are ids."""
    import pandas as pd

    if isinstance(table, Mapping):
        return [(_text(name), "", _text(parent)) for name, parent in table.items()], False
    if isinstance(table, str | Path):
        try:
            table = pd.read_csv(table, dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"a CSV file of regions is wanted, but got {error}") from error
    if not isinstance(table, pd.DataFrame):
        raise InvalidArgument(
            f"a table or mapping is wanted for ontology=, but got {type(table).__name__}"
        )
    columns = set(map(str, table.columns))
    if "parent" not in columns or not columns & {"name", "id"}:
        raise InvalidArgument(
            "columns name or id, and parent, are wanted in an ontology, but got "
            f"{', '.join(sorted(columns)[:20])}"
        )
    parts = {
        name: [_text(v) for v in table[name]]
        for name in ("name", "id", "parent")
        if name in columns
    }
    names = parts.get("name", parts.get("id", []))
    codes = parts.get("id", [""] * len(names))
    return list(zip(names, codes, parts["parent"], strict=True)), "id" in columns


def _text(value: Any) -> str:
    """Text of a name or id; "" where missing. Ids that pandas made floats are whole numbers."""
    if value is None or value != value:  # noqa: PLR0124 - NaN is missing
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
