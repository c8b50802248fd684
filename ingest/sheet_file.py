"""A sample sheet as records of plain text: CSV, TSV or YAML in, nothing interpreted yet.

YAML scalars are kept as the text that was written, so that `donor: 007`, `condition: no` and
`day: 12:30` mean in YAML what they mean in a CSV, and both go through one typing of columns. Only
options of readers, which are JSON in a CSV, are typed as there.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atlas.errors import Fault, InputError
from .columns import canonical

__all__ = ["Record", "SheetText", "read_sheet_file", "text_loader"]

# A sheet of 100,000 sections is about 20 MB; a bigger one is another kind of file.
_MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """One row: where it stands in the sheet, and its cells by header."""

    row: int
    """Line of a CSV (the header is line 1), entry of a YAML list (from 1)."""
    cells: Mapping[str, object]
    """Cell by header; text from a file, any scalar from Python."""


@dataclass(frozen=True, slots=True)
class SheetText:
    """Records of a sheet and the order of timepoints that came with them."""

    records: tuple[Record, ...]
    """Rows in order."""
    timepoints: tuple[str, ...] | None = None
    """Explicit order of the timepoint labels (YAML key `timepoints`)."""
    faults: tuple[Fault, ...] = ()
    """Rows that could not be taken apart."""


def read_sheet_file(path: Path) -> SheetText:
    """Take a sheet apart.

    Parameters
    ----------
    path : Path
        `.csv`, `.tsv`, `.txt` (tab or comma), `.yaml` or `.yml`.

    Returns
    -------
    SheetText
        With one fault per row that has more or fewer cells than the header.

    Raises
    ------
    InputError
        If the sheet is missing, too large, not text, or has no rows.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(
                f"{path}: expected a sample sheet, but got {path.stat().st_size:,} bytes"
            )
        if path.suffix.lower() in {".xlsx", ".xls", ".ods"}:
            raise InputError(
                f"{path}: expected CSV, TSV or YAML, but got a spreadsheet; save it as CSV UTF-8"
            )
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such sample sheet") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected UTF-8 text, but got {_what_bytes(path)} (byte {error.start}); save "
            "it as CSV UTF-8"
        ) from None
    except IsADirectoryError:
        raise InputError(
            f"{path}: expected a sample sheet (CSV, TSV, YAML), but got a folder; name the file"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    if path.suffix.lower() in {".yaml", ".yml"}:
        sheet = _from_yaml(text, str(path))
    else:
        sheet = _from_delimited(text, str(path), path.suffix.lower())
    if not sheet.records and not sheet.faults:
        raise InputError(f"{path}: expected one row per section, but got none")
    return sheet


def _from_delimited(text: str, source: str, suffix: str) -> SheetText:
    separator = _separator(next((one for one in text.splitlines() if one.strip()), ""), suffix)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    records: list[Record] = []
    faults: list[Fault] = []
    header: list[str] | None = None
    width = 0
    try:
        for line in reader:
            if not any(cell.strip() for cell in line):
                continue
            if header is None:
                header, width = _without_tail([cell.strip() for cell in line], 0), len(line)
                faults += _header_faults(header)
                continue
            cells = _without_tail(line, len(header))
            if len(header) < len(cells) <= width:
                faults.append(Fault("header", f"column {len(header) + 1} has no name; give it one"))
            elif len(cells) != len(header):
                faults.append(
                    Fault(
                        f"row {reader.line_num}",
                        f"expected {len(header)} cells, as in the header, but got {len(cells)}; "
                        "quote cells that hold the separator",
                    )
                )
            else:
                records.append(Record(reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        faults.append(Fault(f"row {reader.line_num}", f"not readable as a table ({error})"))
    return SheetText(tuple(records), None, tuple(faults))


def _without_tail(cells: list[str], width: int) -> list[str]:
    """Drop empty cells behind the first `width`: spreadsheets write empty columns."""
    end = len(cells)
    while end > width and not cells[end - 1].strip():
        end -= 1
    return cells[:end]


def _separator(header: str, suffix: str) -> str:
    """Choose tab, comma or semicolon: by the ending, unless the header has no such character."""
    usual = "\t" if suffix == ".tsv" else ","
    if usual in header:
        return "\t" if suffix not in {".csv", ".tsv"} and "\t" in header else usual
    found = [one for one in ("\t", ";", ",") if one in header]
    return found[0] if len(found) == 1 else usual


def _what_bytes(path: Path) -> str:
    """Say what bytes that are no UTF-8 seem to be."""
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "UTF-16"
    if head == b"PK\x03\x04":
        return "a spreadsheet or zip"
    return "bytes of another encoding, such as Latin-1, or no text at all"


def _header_faults(header: Sequence[str]) -> list[Fault]:
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    faults = [
        Fault("header", f"column {name!r} stands there twice; remove one") for name in repeated
    ]
    if "" in header:
        faults.append(Fault("header", f"column {header.index('') + 1} has no name; give it one"))
    return faults


def _from_yaml(text: str, source: str) -> SheetText:
    import yaml

    try:
        tree = yaml.load(text, Loader=text_loader())  # noqa: S506 - builds text, lists, mappings only
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(
            f"{source}: not readable as YAML ({' '.join(str(error).split())})"
        ) from None
    entries: Any = tree
    timepoints: tuple[str, ...] | None = None
    defaults: Mapping[str, object] = {}
    if isinstance(tree, dict):
        known = ("samples", "timepoints", "defaults")
        if unknown := sorted(set(tree) - set(known)):
            raise InputError(
                f"{source}: expected the keys {', '.join(known)}, but got {', '.join(unknown)}"
            )
        entries, defaults = tree.get("samples"), tree.get("defaults") or {}
        if (order := tree.get("timepoints")) is not None:
            if not isinstance(order, list) or not all(isinstance(label, str) for label in order):
                raise InputError(
                    f"{source}: expected `timepoints` to be a list of labels, but got {order!r}"
                )
            timepoints = tuple(order)
    if not isinstance(entries, list) or not isinstance(defaults, dict):
        raise InputError(
            f"{source}: expected a list of rows, or a mapping with a list `samples:` and optional "
            f"`timepoints:` and `defaults:`, but got {type(entries).__name__}"
        )
    records, faults = [], []
    for i, entry in enumerate(entries, start=1):
        if isinstance(entry, dict):
            records.append(Record(i, _with_options({**defaults, **entry})))
        else:
            faults.append(
                Fault(f"row {i}", f"expected a mapping of columns, but got {entry!r:.80}")
            )
    return SheetText(tuple(records), timepoints, tuple(faults))


def _with_options(cells: dict[str, object]) -> dict[str, object]:
    """Give options of readers the values that JSON would have; in a CSV they are JSON."""
    for header, cell in cells.items():
        if canonical(header) == "reader_kwargs" and isinstance(cell, dict):
            cells[header] = {name: _as_json(value) for name, value in cell.items()}
    return cells


def _as_json(value: object) -> object:
    """Numbers, truth values and null of JSON; other words, and mappings, as they are written."""
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value, parse_constant=str)
    except (ValueError, RecursionError):
        return value
    return value if isinstance(found, str | list | dict) else found


def text_loader() -> Any:
    """Make a YAML loader of text only: no tags, aliases (they can multiply) or repeated keys."""
    import yaml

    class TextLoader(yaml.BaseLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
                raise yaml.constructor.ConstructorError(None, None, "aliases are not read", mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if not isinstance(key.value, str) or key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} twice or not text", key.start_mark
                    )
                seen.add(key.value)
            return super().construct_mapping(node, deep=deep)

    return TextLoader
