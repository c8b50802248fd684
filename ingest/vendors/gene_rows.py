"""Dense text tables with a gene a line and a cell a column, turned into rows of cells out of core.

Such tables have tens of thousands of columns and are nearly all zeros: a line is cut at its
separators and only what is not a lone `0` is parsed as a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ..packed import open_bytes
from ..reader import faults_of
from .entries import EntryCounts, EntryPiece

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GeneRows", "open_gene_rows"]

_BLOCK = 2**21
_LONGEST_LINE = 2**26  # some ten million cells
_LONGEST_NUMBER = 32
_TAB, _COMMA, _ZERO, _QUOTE = 9, 44, 48, 34
_MOST_COMMENTS = 100


@dataclass(frozen=True, slots=True)
class GeneRows:
    """A table of genes by cells.

    Memory: 2 MiB of text and some thirty times that while it is cut, or a line if that is longer.
    """

    path: Path
    """The file."""
    cells: tuple[str, ...]
    """Names of the columns."""
    separator: int
    """Code of the character between the cells."""
    head_rows: int
    """Lines before the first gene."""
    genes: tuple[str, ...]
    """Names of the lines."""
    nnz: int
    """Entries that are not zero."""

    def counts(self, columns: NDArray[np.int64]) -> EntryCounts:
        """Matrix of some cells, whose columns here make up its rows, in this order."""
        rows = np.full(len(self.cells), -1, np.int64)
        rows[columns] = np.arange(columns.size)
        pieces = partial(_pieces, self, rows)
        return EntryCounts(pieces, columns.size, len(self.genes), self.nnz, whole=False)


def open_gene_rows(path: Path) -> GeneRows:
    """Open a table; reads it once for the names of the genes.

    Raises
    ------
    InputError
        A line of another length than the header, or a number that is none; names the line.
    """
    with faults_of(path, "a table of genes by cells", parsing=True), open_bytes(path) as file:
        head_rows, line = 1, _line(file, path)
        while line.startswith(b"#") and head_rows < _MOST_COMMENTS:
            head_rows, line = head_rows + 1, _line(file, path)
    text = line.decode("utf-8-sig", "strict") if _is_utf8(line) else ""
    separator = _COMMA if "," in text and "\t" not in re.sub('"[^"]*"', "", text) else _TAB
    header = _cut(text.rstrip("\r\n").encode() + b"\n", separator)
    words = [_word(header.field(k)) for k in range(header.width)]
    if len(words) < 2:
        raise InputError(
            Fault(
                f"{path} line {head_rows}",
                "expected a header with a cell a column, between tabs or commas, but got "
                f"{line[:60]!r}",
            )
        )
    table = GeneRows(path, tuple(words[1:]), separator, head_rows, (), 0)
    genes: list[str] = []
    nnz, wide = 0, len(words)
    for block in _blocks(table):
        if not genes and block.width == wide + 1:
            # R writes one name less than columns where rows have names.
            table, wide = GeneRows(path, tuple(words), separator, head_rows, (), 0), wide + 1
        genes.extend(_names(block, table, wide, len(genes)))
        nnz += int((~block.zero).sum()) - block.n_lines
    if not genes:
        raise InputError(Fault(str(path), "expected genes below the header, but got none"))
    return GeneRows(path, table.cells, separator, head_rows, tuple(genes), nnz)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Block:
    """Whole lines of text, cut into fields."""

    text: NDArray[np.uint8]
    starts: NDArray[np.int64]
    """First byte of each field."""
    lengths: NDArray[np.int64]
    """Bytes of each field."""
    ends: NDArray[np.int64]
    """Number of the last field of each line."""
    zero: NDArray[np.bool_]
    """Whether a field is a lone 0."""

    @property
    def n_lines(self) -> int:
        return int(self.ends.size)

    @property
    def width(self) -> int:
        """Fields of the first line."""
        return int(self.ends[0]) + 1 if self.ends.size else 0

    def field(self, k: int) -> bytes:
        return self.text[self.starts[k] : self.starts[k] + self.lengths[k]].tobytes()


def _line(file: IO[bytes], path: Path) -> bytes:
    line = file.readline(_LONGEST_LINE)
    if len(line) >= _LONGEST_LINE:
        raise InputError(Fault(str(path), f"expected lines below {_LONGEST_LINE:,} bytes"))
    return line


def _blocks(table: GeneRows) -> Iterator[_Block]:
    """Lines below the header, some megabytes at a time."""
    with (
        faults_of(table.path, "a table of genes by cells", parsing=True),
        open_bytes(table.path) as file,
    ):
        for _ in range(table.head_rows):
            file.readline(_LONGEST_LINE)
        rest = b""
        while piece := file.read(_BLOCK):
            text, _, rest = (rest + piece).rpartition(b"\n")
            if text := text.rstrip(b"\r\n"):
                yield _cut(text + b"\n", table.separator)
            if len(rest) > _LONGEST_LINE:
                raise InputError(
                    Fault(str(table.path), f"expected lines below {_LONGEST_LINE:,} bytes")
                )
        if rest.strip():
            yield _cut(rest + b"\n", table.separator)


def _cut(text: bytes, separator: int) -> _Block:
    codes = np.frombuffer(text.replace(b"\r\n", b"\n"), np.uint8)
    ends = np.flatnonzero((codes == separator) | (codes == 10))
    if b'"' in text:
        ends = ends[~_quoted(codes, ends)]
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts
    last = np.flatnonzero(codes[ends] == 10)
    zero = (lengths == 1) & (codes[starts] == _ZERO)
    return _Block(codes, starts, lengths, last, zero)


def _quoted(codes: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell separators within quotes: an odd number of them before, an even one in the line."""
    # Sums wrap at 256, which keeps them odd or even.
    odd = (np.cumsum(codes == _QUOTE, dtype=np.uint8)[ends] & 1).astype(bool)
    lines = codes[ends] == 10
    at_ends = odd[lines]
    line = np.cumsum(lines) - lines
    at_starts = np.concatenate([[False], at_ends[:-1]])
    quoted: NDArray[np.bool_] = (odd != at_starts[line]) & (at_ends == at_starts)[line] & ~lines
    return quoted


def _word(field: bytes) -> str:
    return field.decode("utf-8").strip().strip('"')


def _names(block: _Block, table: GeneRows, wide: int, before: int) -> list[str]:
    """Names of the genes of a block; every line must have as many fields as the header."""
    widths = np.diff(block.ends, prepend=-1)
    wrong = np.flatnonzero(widths != wide)
    if wrong.size:
        line = table.head_rows + before + int(wrong[0]) + 1
        raise InputError(
            Fault(
                f"{table.path} line {line}",
                f"expected {wide} fields as in the header, but got {widths[wrong[0]]}; the file "
                "is truncated or damaged: copy it again",
            )
        )
    first = np.concatenate([[0], block.ends[:-1] + 1])
    # A gene called 0 would be counted as an entry that is none: names are no zeros.
    block.zero[first] = False
    with faults_of(table.path, "names of genes", parsing=True):
        return [_word(block.field(k)) for k in first.tolist()]


def _pieces(table: GeneRows, rows: NDArray[np.int64]) -> Iterator[EntryPiece]:
    """Entries that are not zero, with the row of their cell."""
    wide, before = len(table.cells) + 1, 0
    for block in _blocks(table):
        names = _names(block, table, wide, before)
        gene, cell = np.divmod(np.flatnonzero(~block.zero), wide)
        kept = np.flatnonzero(cell > 0)
        gene, cell = gene[kept], cell[kept] - 1
        values = _numbers(block, gene * wide + cell + 1, table, before, wide)
        yield EntryPiece(rows[cell], gene + before, values)
        before += len(names)


def _numbers(
    block: _Block, fields: NDArray[np.int64], table: GeneRows, before: int, wide: int
) -> NDArray[np.float64]:
    """Parse some fields."""
    if fields.size == 0:
        return np.empty(0)
    longest = int(block.lengths[fields].max())
    values = np.full(fields.size, np.nan)
    if longest <= _LONGEST_NUMBER:
        at = block.starts[fields][:, None] + np.arange(max(longest, 1))
        inside = np.arange(max(longest, 1)) < block.lengths[fields][:, None]
        letters = np.where(inside, block.text[np.minimum(at, block.text.size - 1)], 0)
        # NumPy takes zero bytes for the end of a word.
        letters[inside & (letters == 0)] = _QUOTE
        words = np.ascontiguousarray(letters.astype(np.uint8)).view(f"S{max(longest, 1)}").ravel()
        try:
            values = words.astype(np.float64)
        except ValueError:
            values = np.array([_number(word) for word in words.tolist()])
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        k = int(fields[wrong[0]])
        line = table.head_rows + before + k // wide + 1
        raise InputError(
            Fault(
                f"{table.path} line {line}",
                f"expected a number for cell {table.cells[k % wide - 1]!r}, but got "
                f"{block.field(k)[:40]!r}",
            )
        )
    return values


def _number(word: bytes) -> float:
    try:
        return float(word)
    except ValueError:
        return float("nan")
