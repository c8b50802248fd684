"""Stereo-seq GEM: text with a row for what one spot of the chip caught of one gene."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ..packed import open_bytes
from ..reader import faults_of
from .stereoseq_molecules import Molecules
from .text_table import TextTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Gem", "chip_pitch_nm", "looks_like_gem", "open_gem"]

_LINE = 1 << 16
_MOST_COMMENTS = 1000
_NAMES = {
    "gene": ("geneid", "gene", "genename"),
    "name": ("genename",),
    "x": ("x",),
    "y": ("y",),
    "count": ("midcount", "midcounts", "umicount", "umicounts", "umi_count", "count", "counts"),
    "exon": ("exoncount", "exoncounts"),
    "cell": ("cellid", "cell_id", "cell", "label"),
}
_NEEDED = {"gene", "x", "y", "count"}
# Spots of most chips are 500 nm apart; these early ones differ, by the start of their serial
# number (the vendor's table, as its analysis package Stereopy has it).
_PITCH_NM = {
    "CL1": 900, "N1": 900, "V3": 715, "K2": 715, "S2": 715, "S1": 900, "F3": 715, "F1": 800,
    "V1": 800, "DP84": 715, "DP8": 850, "FP1": 600, "E1": 700, "DP40": 700, "G1": 700, "U": 715,
    "V": 715, "W": 715, "X": 715,
}  # fmt: skip


def chip_pitch_nm(chip: str) -> int:
    """Distance between spots of a chip in nanometers, by its serial number.

    Examples
    --------
    >>> chip_pitch_nm("SS200000135TL_D1"), chip_pitch_nm("FP100001"), chip_pitch_nm("")
    (500, 600, 500)
    """
    fits = [start for start in _PITCH_NM if chip.startswith(start)]
    return _PITCH_NM[max(fits, key=len)] if fits else 500


@dataclass(frozen=True)
class Gem:
    """A GEM file; genes are numbered in the order in which they first occur.

    Memory: a block of 4 MiB of text and its columns, and the names of the genes.
    """

    table: TextTable
    """The text below the comments."""
    columns: dict[str, str]
    """Column of the file for each of gene, name, x, y, count, exon, cell."""
    facts: dict[str, str]
    """What the comments say, such as OffsetX."""
    genes: dict[str, int] = field(default_factory=dict)
    """Number of each gene, complete after one pass."""
    names: list[str] = field(default_factory=list)
    """Name of each gene, where the file has identifiers and names."""

    @property
    def path(self) -> Path:
        """The file."""
        return self.table.path

    @property
    def has_cells(self) -> bool:
        """Whether molecules are assigned to cells."""
        return "cell" in self.columns

    def n_genes(self) -> int:
        """Genes met so far."""
        return len(self.genes)

    def batches(self) -> Iterator[Molecules]:
        """Stream the rows.

        Raises
        ------
        InputError
            A row that is none; names the file and the row.
        """
        import pyarrow as pa

        words = pa.dictionary(pa.int32(), pa.string())
        kinds = {"gene": words, "name": words, "cell": pa.float64()}
        order = list(self.columns)
        wanted = {self.columns[what]: kinds.get(what, pa.int64()) for what in order}
        first = 0
        for batch in self.table.batches([self.columns[what] for what in order], wanted):
            parts = dict(zip(order, batch.columns, strict=True))
            for what in ("x", "y", "count", "exon"):
                if what in parts and parts[what].null_count:
                    self._missing(parts[what], self.columns[what], first)
            cell = parts.get("cell")
            yield Molecules(
                _numbers(parts["x"]),
                _numbers(parts["y"]),
                self._numbered(parts["gene"], parts.get("name")),
                _numbers(parts["count"]),
                _numbers(parts["exon"]) if "exon" in parts else None,
                None if cell is None else self._cells(cell, first),
            ).check(str(self.path), first)
            first += batch.num_rows

    def _missing(self, column: Any, name: str, first: int) -> None:
        k = int(np.argmax(np.asarray(column.is_null())))
        raise InputError(
            Fault(f"{self.path} row {first + k + 1}", f"expected a number {name!r}, but got none")
        )

    def _numbered(self, column: Any, names: Any) -> NDArray[np.int64]:
        """Find the number of the gene of each row; new ones are added with their names."""
        words = column.dictionary.to_pylist()
        codes = np.asarray(column.indices, np.int64)
        fresh = [k for k, word in enumerate(words) if word not in self.genes]
        if fresh and names is not None:
            at = np.full(len(words), 0, np.int64)
            at[codes[::-1]] = np.arange(codes.size)[::-1]
            said = names.take(at[fresh].tolist()).to_pylist()
            self.names.extend(str(word) for word in said)
        for k in fresh:
            self.genes[words[k]] = len(self.genes)
        numbers = np.array([self.genes[word] for word in words], np.int64)
        return numbers[codes] if numbers.size else codes

    def _cells(self, column: Any, first: int) -> NDArray[np.int64]:
        """Cell of each row; 0 and empty are outside cells."""
        given = np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
        cells = np.where(np.isnan(given) | (given == 0), -1.0, given)
        wrong = (np.abs(cells) >= 2**53) | (cells != np.floor(cells))
        if wrong.any():
            k = int(np.argmax(wrong))
            name = self.columns["cell"]
            raise InputError(
                Fault(
                    f"{self.path} row {first + k + 1}",
                    f"expected a whole number {name!r}, but got {given[k]}",
                )
            )
        return cells.astype(np.int64)


def _numbers(column: Any) -> NDArray[np.int64]:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)


def open_gem(path: Path) -> Gem:
    """Open a GEM file; reads its comments and the header.

    Raises
    ------
    InputError
        It has no such header.
    """
    with faults_of(path, "a GEM file", parsing=True), open_bytes(path) as file:
        facts, skipped, _ = _head(file)
    table = TextTable.of(path, skip_rows=skipped)
    folded = {name.casefold(): name for name in reversed(table.names)}
    columns: dict[str, str] = {}
    for what, known in _NAMES.items():
        found = next((folded[name] for name in known if name in folded), None)
        if found is not None and found not in columns.values():
            columns[what] = found
    lacking = [known[0] for what, known in _NAMES.items() if what in _NEEDED - set(columns)]
    if lacking:
        raise InputError(
            Fault(
                f"{path} line {skipped + 1}",
                f"expected the columns geneID, x, y and MIDCount, but got "
                f"{', '.join(table.names[:8])} without {', '.join(lacking)}",
            )
        )
    return Gem(table, columns, facts)


def _head(file: IO[bytes]) -> tuple[dict[str, str], int, bytes]:
    """Read what the lines that begin with # say, how many there are, and the line below."""
    facts: dict[str, str] = {}
    for skipped in range(_MOST_COMMENTS):
        line = file.readline(_LINE)
        if not line.startswith(b"#"):
            return facts, skipped, line
        name, _, value = line.decode("utf-8", "replace").strip("#\r\n ").partition("=")
        facts[name.strip()] = value.strip()
    return facts, _MOST_COMMENTS, b""


def looks_like_gem(path: Path) -> bool:
    """Whether a text file begins like a GEM file; never raises."""
    try:
        with open_bytes(path) as file:
            line = _head(file)[2]
    except (OSError, EOFError, ValueError, zlib.error):
        return False
    words = {word.strip().casefold() for word in line.decode("latin-1").split("\t")}
    return {"x", "y"} <= words and all(words & set(_NAMES[what]) for what in ("gene", "count"))
