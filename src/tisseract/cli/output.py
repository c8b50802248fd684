"""What a command prints: data to stdout, as text or JSON; words about it to stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from .text import clean

__all__ = ["Output", "table_rows", "to_plain"]


@dataclass(frozen=True, slots=True)
class Output:
    """How one command speaks.

    Attributes
    ----------
    as_json : bool
        One JSON document on stdout, nothing else there.
    quiet : bool
        Nothing on stderr but errors; on stdout only what was asked for.
    verbose : int
        1: more detail on stderr; 2: tracebacks of errors.
    """

    as_json: bool = False
    quiet: bool = False
    verbose: int = 0

    def note(self, message: str) -> None:
        """Say something about the work on stderr, unless quiet."""
        if not self.quiet:
            sys.stderr.write(clean(message, lines=True) + "\n")
            sys.stderr.flush()

    def detail(self, message: str) -> None:
        """Say something on stderr if asked for detail (``-v``)."""
        if self.verbose:
            self.note(message)

    def data(self, value: object, text: str | None = None) -> None:
        """Print a result: JSON of `value`, or `text` (its `str` by default)."""
        if self.as_json:
            plain = to_plain(value)
            sys.stdout.write(json.dumps(plain, indent=1, allow_nan=False) + "\n")
        else:
            sys.stdout.write(clean(str(value) if text is None else text, lines=True) + "\n")
        sys.stdout.flush()

    def summary(self, value: object, text: str | None = None) -> None:
        """Print what a command that writes has done: `data`, but nothing when quiet."""
        if self.as_json or not self.quiet:
            self.data(value, text)

    def rows(
        self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, empty: str = ""
    ) -> None:
        """Print a table: JSON keeps every key of the rows, text shows `columns`.

        On a terminal the table is aligned; in a pipe it is separated by tabs, with a header.
        """
        if self.as_json:
            self.data(list(rows))
        elif not rows:
            if empty:
                self.note(empty)
        elif sys.stdout.isatty():
            self._table(rows, columns)
        else:
            lines = ["\t".join(columns)]
            lines += ["\t".join(_cell(row.get(name)) for name in columns) for row in rows]
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()

    @staticmethod
    def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
        from rich.box import SIMPLE
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE, pad_edge=False)
        for name in columns:
            numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
            table.add_column(Text(clean(name)), justify="right" if numeric else "left")
        for row in rows:
            # Text, not markup: a section called [red] is printed as it is called
            table.add_row(*(Text(_cell(row.get(name), thousands=True)) for name in columns))
        Console().print(table)


def _cell(value: object, *, thousands: bool = False) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if thousands else str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(clean(item) for item in value)
    return clean(value)


def to_plain(value: object) -> Any:
    """Turn any result into what JSON knows: NaN becomes null, arrays lists, paths text.

    Examples
    --------
    >>> to_plain({"a": (1.0, float("nan"))})
    {'a': [1.0, None]}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return [to_plain(item) for item in sorted(value, key=str)]
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(asdict(value))
    as_list = getattr(value, "tolist", None)  # numpy scalars and arrays
    if as_list is not None:
        return to_plain(as_list())
    return str(value)


def table_rows(table: Any) -> list[dict[str, Any]]:
    """Rows of a data frame as plain mappings, its named index levels included."""
    frame = table.reset_index() if table.index.name or table.index.nlevels > 1 else table
    return [
        {str(key): value.item() if hasattr(value, "item") else value for key, value in row.items()}
        for row in frame.to_dict("records")
    ]
