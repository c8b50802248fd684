"""Damage to input files, seeded: what a disk, a network, a spreadsheet or a stranger does to them.

Every mutant must be read as it is, or refused with an InputError that names the folder or file;
nothing else may come out, and nothing may hang or grow.
"""

from __future__ import annotations

import gzip
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from zarr.errors import ZarrUserWarning

from tisseract.atlas.errors import TisseractError
from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import Reader, ReadOptions

_CELLS = (b"", b"nan", b"inf", b"-1", b"1e400", b"99999999999999999999", b"abc", b"\xff\xfe", b'"')


@dataclass
class MutantReport:
    """What became of the mutants of one file."""

    n: int = 0
    read: int = 0
    """Read as they are: the damage did no harm, or made other valid data."""
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    """Mutants that raised anything else, or an error that does not name the input."""


def wanted(suite: int) -> int:
    """Mutants of each kind of file: `suite` in the suite, else what TISSERACT_MUTANTS says."""
    return int(os.environ.get("TISSERACT_MUTANTS", str(suite)))


def run_mutants(
    source: Path,
    file: str,
    reader: Reader,
    options: ReadOptions,
    scratch: Path,
    *,
    n: int,
    seed: int = 0,
    write: bool = True,
) -> MutantReport:
    """Damage one file of an input `n` times; read and write each mutant.

    Parameters
    ----------
    source : Path
        A valid input: a folder, or the file itself when `file` is "".
    file : str
        Path of the file inside the folder.
    scratch : Path
        Folder to work in.
    write : bool
        Whether sections are written too, not only opened.
    """
    whole = (source / file).read_bytes() if file else source.read_bytes()
    folder = scratch / "mutant"
    report = MutantReport()
    if source.is_dir():
        shutil.copytree(source, folder)
    else:
        folder.mkdir(parents=True)
    place = folder if source.is_dir() else folder / source.name
    target = folder / file if file else place
    rng = np.random.default_rng([seed, len(whole)])
    for k in range(n):
        name, damage = _DAMAGE[k % len(_DAMAGE)]
        target.write_bytes(_applied(whole, target.name, damage, rng))
        out = scratch / f"section-{k}"
        report.n += 1
        try:
            # Zarr tells of objects that it does not know; the reader's own error follows.
            warnings.simplefilter("ignore", ZarrUserWarning)
            raw = reader.open(place, options)
            if write:
                write_section(raw, out, memory_limit=2**30, tile_cells=64)
            report.read += 1
        except TisseractError as error:
            report.refused += 1
            if (
                place.name not in str(error)
                and target.name not in str(error)
                and not _located(error)
            ):
                report.failures.append(f"{k} {name}: names no place: {error}")
        except Exception as error:  # noqa: BLE001 - what else comes out is what is looked for
            report.failures.append(f"{k} {name}: {type(error).__name__}: {error}")
        shutil.rmtree(out, ignore_errors=True)
    target.write_bytes(whole)
    shutil.rmtree(folder)
    return report


def _located(error: TisseractError) -> bool:
    """Errors of the writer name the part: the sheet's row is added where sections are written."""
    faults = getattr(error, "faults", ())
    return bool(faults) and all(fault.location for fault in faults)


def _applied(
    whole: bytes, name: str, damage: Callable[[bytes, np.random.Generator], bytes],
    rng: np.random.Generator,
) -> bytes:  # fmt: skip
    """Damage the text inside a gzipped file two times of three, else the file itself."""
    if name.endswith(".gz") and rng.random() < 2 / 3:
        return gzip.compress(damage(gzip.decompress(whole), rng), 1)
    return damage(whole, rng)


def _truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(0, max(1, len(data))))]


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    body = np.frombuffer(data, np.uint8).copy()
    if body.size:
        at = rng.integers(0, body.size, int(rng.integers(1, 9)))
        body[at] ^= (1 << rng.integers(0, 8, at.size)).astype(np.uint8)
    return body.tobytes()


def _flip_head(data: bytes, rng: np.random.Generator) -> bytes:
    return _flip(data[:512], rng) + data[512:]


def _flip_tail(data: bytes, rng: np.random.Generator) -> bytes:
    return data[:-512] + _flip(data[-512:], rng)


def _cut_out(data: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(0, max(1, len(data))))
    return data[:start] + data[start + int(rng.integers(1, 2000)) :]


def _zeros(data: bytes, rng: np.random.Generator) -> bytes:
    start, length = int(rng.integers(0, max(1, len(data)))), int(rng.integers(1, 4096))
    return data[:start] + b"\0" * min(length, len(data) - start) + data[start + length :]


def _repeat(data: bytes, rng: np.random.Generator) -> bytes:
    start, length = int(rng.integers(0, max(1, len(data)))), int(rng.integers(1, 2000))
    return data[: start + length] + data[start:]


def _lines(data: bytes) -> tuple[list[bytes], bytes]:
    split = b"\t" if data.count(b"\t") > data.count(b",") else b","
    return data.split(b"\n"), split


def _drop_column(data: bytes, rng: np.random.Generator) -> bytes:
    lines, split = _lines(data)
    k = int(rng.integers(0, max(1, lines[0].count(split) + 1)))
    cells = [line.split(split) for line in lines]
    return b"\n".join(split.join(row[:k] + row[k + 1 :]) for row in cells)


def _double_column(data: bytes, rng: np.random.Generator) -> bytes:
    lines, split = _lines(data)
    k = int(rng.integers(0, max(1, lines[0].count(split) + 1)))
    cells = [line.split(split) for line in lines]
    return b"\n".join(split.join([*row, *row[k : k + 1]]) for row in cells)


def _other_cell(data: bytes, rng: np.random.Generator) -> bytes:
    lines, split = _lines(data)
    row = int(rng.integers(0, len(lines)))
    cells = lines[row].split(split)
    cells[int(rng.integers(0, len(cells)))] = _CELLS[int(rng.integers(0, len(_CELLS)))]
    lines[row] = split.join(cells)
    return b"\n".join(lines)


def _double_line(data: bytes, rng: np.random.Generator) -> bytes:
    lines, _ = _lines(data)
    row = int(rng.integers(0, len(lines)))
    return b"\n".join([*lines[:row], lines[row], *lines[row:]])


def _drop_line(data: bytes, rng: np.random.Generator) -> bytes:
    lines, _ = _lines(data)
    row = int(rng.integers(0, len(lines)))
    return b"\n".join(lines[:row] + lines[row + 1 :])


def _shuffle_lines(data: bytes, rng: np.random.Generator) -> bytes:
    lines, _ = _lines(data)
    order = rng.permutation(len(lines))
    return b"\n".join(lines[k] for k in order.tolist())


def _semicolons(data: bytes, rng: np.random.Generator) -> bytes:
    return data.replace(b",", b";" if rng.random() < 0.5 else b"\t")


def _utf16(data: bytes, rng: np.random.Generator) -> bytes:
    return data.decode("latin-1").encode("utf-16")


def _empty(data: bytes, rng: np.random.Generator) -> bytes:
    return b""


def _other_file(data: bytes, rng: np.random.Generator) -> bytes:
    kinds = (b"PAR1" + data, b"\x89HDF\r\n\x1a\n" + data, b"\x1f\x8b" + data, b"<html>404</html>")
    return kinds[int(rng.integers(0, len(kinds)))]


_DAMAGE: list[tuple[str, Callable[[bytes, np.random.Generator], bytes]]] = [
    ("truncated", _truncate),
    ("bits flipped", _flip),
    ("bits flipped at the head", _flip_head),
    ("bits flipped at the tail", _flip_tail),
    ("piece cut out", _cut_out),
    ("zeros", _zeros),
    ("piece twice", _repeat),
    ("column dropped", _drop_column),
    ("column twice", _double_column),
    ("other cell", _other_cell),
    ("other cell", _other_cell),
    ("line twice", _double_line),
    ("line dropped", _drop_line),
    ("lines shuffled", _shuffle_lines),
    ("semicolons", _semicolons),
    ("utf-16", _utf16),
    ("empty", _empty),
    ("other file", _other_file),
    ("bits flipped", _flip),
    ("truncated", _truncate),
]
