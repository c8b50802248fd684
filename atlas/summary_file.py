"""One segment of gene summaries on disk: gene-major, so that a gene is one ranged read.

`index.json` says which columns there are (a section and a group of its cells each) and which
genes; `values.bin` holds one chunk a gene, its statistics of every column. Where the chunks lie is
in the index: a reader needs two requests, and none of them touches a section.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import codecs
from .errors import Corrupt, InvalidArgument, MissingKey
from .manifest import parse_json

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from .snapshot import SegmentEntry
    from .storage import Storage

__all__ = ["STATISTICS", "SegmentGenes", "SummaryColumns", "SummarySegment", "SummaryWriter"]

STATISTICS = ("n_nonzero", "sum", "log1p_sum")
"""What is kept of each gene and column; all NaN where the section did not measure the gene."""

_FORMAT = "tisseract-summary/1"
_INDEX, _VALUES = "index.json", "values.bin"
_LARGEST_INDEX = 512 * 2**20
_LARGEST_ROW = 2**30
_READ_BYTES = 8 * 2**20

type Label = str | int | float | bool | None


@dataclass(frozen=True, slots=True, eq=False)
class SegmentGenes:
    """Genes of a segment; what is needed to find one by any of its names."""

    organism: tuple[str, ...]
    gene_id: tuple[str, ...]
    symbol: tuple[str, ...]
    aliases: tuple[tuple[str, ...], ...]
    feature_type: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.gene_id)


@dataclass(frozen=True, slots=True, eq=False)
class SummaryColumns:
    """Columns of a segment: a section and a group of its cells each."""

    sections: tuple[str, ...]
    """(s,) names."""
    section: NDArray[np.int64]
    """(c,) number of the section."""
    n: NDArray[np.int64]
    """(c,) cells."""
    labels: tuple[tuple[Label, ...], ...]
    """For each column that was grouped by, the (c,) labels; None where cells have none."""

    def __len__(self) -> int:
        return self.n.size

    def of_sections(self, wanted: Collection[str]) -> NDArray[np.int64]:
        """Columns (m,) of some sections; those of sections that are not here are no fault."""
        chosen = np.array([name in wanted for name in self.sections], dtype=bool)
        return np.flatnonzero(chosen[self.section]) if len(self) else np.zeros(0, np.int64)

    def arranged(self, order: Sequence[int]) -> SummaryColumns:
        """Put the columns that were grouped by into another order, or leave some out."""
        return replace(self, labels=tuple(self.labels[k] for k in order))

    def take(self, columns: NDArray[np.int64]) -> SummaryColumns:
        """Keep some of the columns, and the sections they belong to."""
        kept, section = np.unique(self.section[columns], return_inverse=True)
        return SummaryColumns(
            tuple(self.sections[k] for k in kept),
            section.astype(np.int64).ravel(),
            self.n[columns],
            tuple(tuple(one[c] for c in columns.tolist()) for one in self.labels),
        )

    @classmethod
    def joined(cls, parts: Sequence[SummaryColumns]) -> SummaryColumns:
        """Put the columns of several segments side by side, each section in one of them."""
        before = np.cumsum([0, *(len(part.sections) for part in parts)])
        return cls(
            tuple(chain.from_iterable(part.sections for part in parts)),
            np.concatenate([p.section + b for p, b in zip(parts, before[:-1], strict=True)]),
            np.concatenate([part.n for part in parts]),
            tuple(
                tuple(chain.from_iterable(part.labels[k] for part in parts))
                for k in range(len(parts[0].labels))
            ),
        )


class SummaryWriter:
    """Writes one segment into the folder of an attempt, gene after gene.

    Parameters
    ----------
    path : Path
        An empty folder.
    by : sequence of mapping
        What was grouped by: `source` and `key` of each column.
    columns : SummaryColumns
    genes : SegmentGenes

    Notes
    -----
    Memory: 24 bytes a column, and the index.
    """

    def __init__(
        self,
        path: Path,
        by: Sequence[Mapping[str, str]],
        columns: SummaryColumns,
        genes: SegmentGenes,
    ) -> None:
        self._path, self._by, self._columns, self._genes = path, by, columns, genes
        self._offsets = [0]
        self._file = (path / _VALUES).open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        if error is None:
            self._write_index()

    def append(self, values: NDArray[np.float64]) -> None:
        """Append the next gene: (3, c) `STATISTICS` by columns."""
        wanted = (len(STATISTICS), len(self._columns))
        if values.shape != wanted:
            raise InvalidArgument(f"values of shape {wanted} are wanted, but got {values.shape}")
        blob = codecs.encode(values.astype("<f8", copy=False))
        self._file.write(blob)
        self._offsets.append(self._offsets[-1] + len(blob))

    def _write_index(self) -> None:
        if len(self._offsets) != len(self._genes) + 1:
            raise InvalidArgument(
                f"{len(self._genes)} genes are wanted, but got {len(self._offsets) - 1}"
            )
        columns, genes = self._columns, self._genes
        coded = [_coded(one) for one in columns.labels]
        body = {
            "format": _FORMAT,
            "statistics": list(STATISTICS),
            "by": [dict(one) for one in self._by],
            "sections": list(columns.sections),
            "columns": {"section": columns.section.tolist(), "n": columns.n.tolist()},
            "levels": [levels for levels, _ in coded],
            "codes": [codes for _, codes in coded],
            "genes": {name: list(getattr(genes, name)) for name in SegmentGenes.__slots__},
            "offsets": self._offsets,
        }
        try:
            text = json.dumps(body, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        except ValueError as error:
            raise InvalidArgument(
                "finite numbers and text are wanted as groups of a summary, but got an infinite "
                "one; group by another column"
            ) from error
        (self._path / _INDEX).write_text(text, encoding="utf-8")


def _coded(labels: tuple[Label, ...]) -> tuple[list[Label], list[int]]:
    """Levels in the order of their appearance and the code of each label, -1 for none."""
    seen: dict[tuple[type, Label], int] = {}
    codes = [-1 if one is None else seen.setdefault((type(one), one), len(seen)) for one in labels]
    return [label for _, label in seen], codes


@dataclass(frozen=True, slots=True, eq=False)
class SummarySegment:
    """A committed segment: its index in memory, its numbers on disk.

    Build it with `open`, which is one request; `rows` is another.
    """

    storage: Storage
    prefix: str
    by: tuple[tuple[str, str], ...]
    """Source and key of each column that was grouped by."""
    columns: SummaryColumns
    genes: SegmentGenes
    offsets: NDArray[np.int64]
    """(g + 1,) where the chunk of each gene begins."""

    @classmethod
    def open(cls, storage: Storage, entry: SegmentEntry) -> SummarySegment:
        """Read the index of a segment.

        Raises
        ------
        Corrupt
            It is missing, or out of shape.
        """
        key = f"{entry.prefix}/{_INDEX}"
        try:
            body = parse_json(storage.get(key, max_bytes=_LARGEST_INDEX), key)
            return cls._of(storage, entry, body)
        except MissingKey as error:
            raise _corrupt(key, "it is missing") from error
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            if isinstance(error, Corrupt):
                raise
            raise _corrupt(key, f"it is out of shape ({str(error)[:120]})") from error

    @classmethod
    def _of(cls, storage: Storage, entry: SegmentEntry, body: Mapping[str, Any]) -> SummarySegment:
        if body["format"] != _FORMAT or body["statistics"] != list(STATISTICS):
            raise ValueError(f"format {str(body['format'])[:40]!r}")
        if any(isinstance(level, list | dict) for levels in body["levels"] for level in levels):
            raise ValueError("labels that are no plain values")
        section = np.asarray(body["columns"]["section"], np.int64)
        labels = tuple(
            tuple(None if code < 0 else levels[code] for code in codes)
            for levels, codes in zip(body["levels"], body["codes"], strict=True)
        )
        columns = SummaryColumns(
            tuple(map(str, body["sections"])),
            section,
            np.asarray(body["columns"]["n"], np.int64),
            labels,
        )
        listed: Mapping[str, list[Any]] = body["genes"]
        genes = SegmentGenes(
            organism=tuple(map(str, listed["organism"])),
            gene_id=tuple(map(str, listed["gene_id"])),
            symbol=tuple(map(str, listed["symbol"])),
            aliases=tuple(tuple(map(str, one)) for one in listed["aliases"]),
            feature_type=tuple(map(str, listed["feature_type"])),
        )
        by = tuple((str(one["source"]), str(one["key"])) for one in body["by"])
        segment = cls(
            storage, entry.prefix, by, columns, genes, np.asarray(body["offsets"], np.int64)
        )
        segment._check()
        return segment

    def _check(self) -> None:
        """Raise ValueError where the parts of the index do not fit together."""
        columns, genes = self.columns, self.genes
        width = columns.n.size
        if {columns.section.size, *map(len, columns.labels)} != {width}:
            raise ValueError("columns of different lengths")
        if len(columns.labels) != len(self.by):
            raise ValueError("labels for other columns than were grouped by")
        if width and not 0 <= columns.section.min() <= columns.section.max() < len(
            columns.sections
        ):
            raise ValueError("columns of sections it does not list")
        if any(len(getattr(genes, name)) != len(genes) for name in SegmentGenes.__slots__):
            raise ValueError("genes of different lengths")
        if self.offsets.shape != (len(genes) + 1,) or (np.diff(self.offsets) < 0).any():
            raise ValueError("offsets that do not ascend")
        if self.offsets[0] != 0 or self.row_bytes > _LARGEST_ROW:
            raise ValueError("offsets or a width beyond what can be read")

    @property
    def row_bytes(self) -> int:
        """Bytes of a gene in memory."""
        return len(STATISTICS) * 8 * len(self.columns)

    def rows(self, first: int, stop: int) -> NDArray[np.float64]:
        """Read consecutive genes: (m, 3, c) `STATISTICS` by columns, in one request.

        Raises
        ------
        Corrupt
            A chunk is missing or damaged.
        """
        key = f"{self.prefix}/{_VALUES}"
        start, end = int(self.offsets[first]), int(self.offsets[stop])
        out = np.empty((stop - first, len(STATISTICS), len(self.columns)))
        if not out.size:
            return out
        try:
            body = self.storage.get_range(key, start, end - start)
        except MissingKey as error:
            raise _corrupt(key, "it is missing") from error
        for gene in range(first, stop):
            low, high = (int(at) - start for at in self.offsets[gene : gene + 2])
            if not codecs.decode_into(body[low:high], out[gene - first]):
                raise _corrupt(key, f"the chunk of gene {gene} is damaged")
        return out

    def spans(self, most_bytes: int = _READ_BYTES) -> list[tuple[int, int]]:
        """Ranges of consecutive genes that fit in some memory, each at least one gene."""
        step = max(1, most_bytes // max(1, self.row_bytes))
        return [(at, min(at + step, len(self.genes))) for at in range(0, len(self.genes), step)]


def _corrupt(key: str, why: str) -> Corrupt:
    return Corrupt(
        f"a sound gene summary is wanted, but got {key}: {why}; run `tisseract verify`, then "
        "`tisseract summarize --overwrite`"
    )
