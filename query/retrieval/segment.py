"""One segment of an index on disk: windows of many sections, section after section.

`index.json` says what there is; every array is one file of rows, little-endian and as they are,
cut into blocks of rows with a checksum each: vectors of half precision do not get smaller by
compression, and reading them is one ranged request.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import Corrupt, MissingKey
from ...atlas.manifest import parse_json
from .checked import check_facts, is_whole

if TYPE_CHECKING:
    from io import BufferedRandom

    from ...atlas.snapshot import SegmentEntry
    from ...atlas.storage import Storage

FORMAT = "tisseract-index/1"
_INDEX = "index.json"
_LARGEST_INDEX = 256 * 2**20
_BLOCK_BYTES = 2**20
# Blocks that a request skips rather than being cut in two.
_GAP_BLOCKS = 1
_DTYPES = ("<f2", "<f4", "<f8", "<i4", "<i8")


@dataclass(frozen=True, slots=True)
class ArrayFacts:
    """Where the rows of an array lie in its file."""

    dtype: str
    width: int
    """Numbers a row."""
    rows: int
    block: int
    """Rows of a block."""
    sums: tuple[int, ...]
    """CRC-32 of each block."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.width * np.dtype(self.dtype).itemsize

    @classmethod
    def of(cls, described: Mapping[str, Any], label: str) -> "ArrayFacts":
        """Read what `index.json` says of an array; refuse what cannot be."""
        numbers = [described.get(name) for name in ("width", "rows", "block")]
        sums = described.get("sums")
        listed = isinstance(sums, list) and all(is_whole(one, 0, 2**32 - 1) for one in sums)
        if not listed or not all(is_whole(one) for one in numbers):
            raise Corrupt(
                f"a description of {label} is wanted, but got {described!r:.80}; "
                "run `tisseract verify`, then `tisseract index --overwrite`"
            )
        width, rows, block = cast("list[int]", numbers)
        facts = cls(str(described.get("dtype")), width, rows, block, tuple(cast("list[int]", sums)))
        blocks = -(-facts.rows // facts.block) if facts.block > 0 else -1
        sound = facts.dtype in _DTYPES and 0 < facts.width < 2**20 and 0 <= facts.rows < 2**40
        if not sound or blocks != len(facts.sums) or facts.block * facts.row_bytes > 2**30:
            raise Corrupt(
                f"a sound description of {label} is wanted, but got {described!r:.80}; "
                "run `tisseract verify`, then `tisseract index --overwrite`"
            )
        return facts


class SegmentWriter:
    """Appends rows to the arrays of a segment; memory one block.

    Parameters
    ----------
    folder
        Empty folder of the attempt.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, BufferedRandom] = {}
        self._facts: dict[str, tuple[str, int, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.close()

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Add rows (m, width) or (m,) to an array, which the first call makes."""
        # no -1: a section may have no window at all
        values = rows.reshape(len(rows), prod(rows.shape[1:]))
        dtype = values.dtype.newbyteorder("<").str
        if name not in self._files:
            self._files[name] = (self._folder / f"{name}.bin").open("w+b")
            self._facts[name] = (dtype, values.shape[1], 0)
        known, width, count = self._facts[name]
        if (dtype, values.shape[1]) != (known, width):
            raise ValueError(f"rows of {name} changed from {known} x {width} to {dtype}")
        self._files[name].write(np.ascontiguousarray(values, dtype=dtype).tobytes())
        self._facts[name] = (known, width, count + len(values))

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write `index.json`: what was appended, and the given facts."""
        arrays = {name: self._describe(name) for name in sorted(self._files)}
        text = json.dumps({"format": FORMAT, **facts, "arrays": arrays}, separators=(",", ":"))
        (self._folder / _INDEX).write_text(text, encoding="utf-8")

    def _describe(self, name: str) -> dict[str, Any]:
        dtype, width, rows = self._facts[name]
        row_bytes = width * np.dtype(dtype).itemsize
        block = max(1, _BLOCK_BYTES // row_bytes)
        file = self._files[name]
        file.flush()
        file.seek(0)
        sums = [zlib.crc32(file.read(block * row_bytes)) for _ in range(-(-rows // block))]
        return {"dtype": dtype, "width": width, "rows": rows, "block": block, "sums": sums}


class Segment:
    """A committed segment: its facts are read once, its rows when they are asked for."""

    def __init__(self, storage: "Storage", entry: "SegmentEntry") -> None:
        self.entry = entry
        self.storage = storage
        key = f"{entry.prefix}/{_INDEX}"
        try:
            self.facts = parse_json(storage.get(key, max_bytes=_LARGEST_INDEX), key)
        except MissingKey as error:
            raise Corrupt(
                f"{key} is wanted, but is missing; run `tisseract verify`, then "
                "`tisseract index --overwrite`"
            ) from error
        if self.facts.get("format") != FORMAT:
            raise Corrupt(f"{key} of format {FORMAT} is wanted, but got another")
        check_facts(self.facts, key)
        arrays = cast("Mapping[str, Mapping[str, Any]]", self.facts["arrays"])
        self._arrays = {
            name: ArrayFacts.of(one, f"array {name} of {entry.name}")
            for name, one in arrays.items()
        }

    def rows(self, name: str) -> int:
        """Rows of an array."""
        return self._array(name).rows

    def has(self, name: str) -> bool:
        """Whether there is an array of this name."""
        return name in self._arrays

    def _array(self, name: str) -> ArrayFacts:
        return self._arrays[name]

    def read(self, name: str, runs: Sequence[tuple[int, int]] | None = None) -> NDArray[Any]:
        """Read rows of some runs, sorted and disjoint, (m, width); every block is checked.

        Raises
        ------
        Corrupt
            A block is missing or damaged.
        """
        facts = self._array(name)
        wanted = [(0, facts.rows)] if runs is None else list(runs)
        parts = [
            rows[max(low, first) - first : min(high, first + len(rows)) - first]
            for start, stop in _requests(wanted, facts.block)
            for first, rows in [(start, self._blocks(name, facts, start, min(stop, facts.rows)))]
            for low, high in wanted
            if low < first + len(rows) and high > first
        ]
        empty = np.empty((0, facts.width), facts.dtype)
        return np.concatenate(parts) if len(parts) > 1 else parts[0] if parts else empty

    def _blocks(self, name: str, facts: ArrayFacts, start: int, stop: int) -> NDArray[Any]:
        """Rows of whole blocks, from `start`, a multiple of the block, to `stop`."""
        key = f"{self.entry.prefix}/{name}.bin"
        length = (stop - start) * facts.row_bytes
        try:
            data = self.storage.get_range(key, start * facts.row_bytes, length)
        except MissingKey as error:
            raise Corrupt(f"{key} is wanted, but is missing; run `tisseract verify`") from error
        step = facts.block * facts.row_bytes
        first = start // facts.block
        view = memoryview(data)
        for at in range(0, length, step):
            block = first + at // step
            if len(data) != length or zlib.crc32(view[at : at + step]) != facts.sums[block]:
                raise Corrupt(
                    f"block {block} of {key} is damaged; run `tisseract verify`, then "
                    "`tisseract index --overwrite`"
                )
        return np.frombuffer(data, facts.dtype).reshape(-1, facts.width)


def _requests(runs: Sequence[tuple[int, int]], block: int) -> Iterator[tuple[int, int]]:
    """Whole blocks that hold the runs; neighboring ones are one request."""
    start = stop = -1
    for low, high in runs:
        if low >= high:
            continue
        first, last = low // block, -(-high // block)
        if start >= 0 and first <= stop + _GAP_BLOCKS:
            stop = max(stop, last)
            continue
        if start >= 0:
            yield start * block, stop * block
        start, stop = first, last
    if start >= 0:
        yield start * block, stop * block
