"""Counts as triples (cell, gene, count), one a line and in any order: long tables and mtx files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...atlas.errors import Fault, InputError, near
from ..mtx_text import mtx_pieces
from ..packed import open_bytes
from ..reader import faults_of
from ..source import CsrBlock, StringValues
from ..triples import Entries, sorted_blocks, sorting_bytes
from .column_values import as_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .table import Table

__all__ = ["LongCounts", "MtxTriples", "distinct"]

_SHOWN = 5
_MOST_GENES = 5_000_000
_LEAST_LINE = 6  # bytes of a triple in text


@dataclass(frozen=True, slots=True)
class LongCounts:
    """A table of triples as a matrix, sorted by cell through temporary files.

    Disk while it is read: 20 bytes an entry. Memory: a block of the table, and the budget.
    """

    table: Table
    """The triples."""
    columns: tuple[str, str, str]
    """Of cells, genes and counts."""
    ids: StringValues
    """(n,) cells of the rows."""
    genes: StringValues
    """(g,) genes of the columns."""
    match: Literal["id", "position0", "position1"] = "id"
    """Whether cells and genes are names or row numbers."""
    outside: tuple[str, ...] = ()
    """Values of the cell column that are no cell."""
    drop_unknown: bool = False
    """Leave out entries of other cells."""
    sum_duplicates: bool = False
    """Add up entries of one cell and gene."""
    nnz: int | None = None
    """Entries, where known."""

    @property
    def n_obs(self) -> int:
        """Cells."""
        return len(self.ids)

    @property
    def n_vars(self) -> int:
        """Genes."""
        return len(self.genes)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the entries."""
        return np.dtype(np.float64)

    @property
    def scratch_bytes(self) -> int:
        """Disk that sorting the entries takes."""
        return sorting_bytes(self._n_entries, np.dtype(np.float64))

    @property
    def _n_entries(self) -> int:
        """Entries, estimated from the size of the file where they were not counted."""
        if self.nnz is not None:
            return self.nnz
        with faults_of(self.table.path, "counts"):
            return self.table.path.stat().st_size // _LEAST_LINE

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield all rows once, in order."""
        yield from sorted_blocks(
            self._pieces(),
            self.n_obs,
            np.dtype(np.float64),
            nnz=self._n_entries,
            budget_bytes=budget_bytes // 2,
            sum_duplicates=self.sum_duplicates,
        )

    def _pieces(self) -> Iterator[Entries]:
        import pyarrow as pa

        cell, gene, count = self.columns
        finders = _Finder(self.ids), _Finder(self.genes)
        key = pa.string() if self.match == "id" else pa.int64()
        start = 0
        for batch in self.table.batches(self.columns, {cell: key, gene: key, count: pa.float64()}):
            cells, genes = batch.column(0), batch.column(1)
            numbers = np.asarray(batch.column(2).to_numpy(zero_copy_only=False), np.float64)
            rows = self._found(cells, finders[0], "cell", start)
            columns = self._found(genes, finders[1], "gene", start)
            start += batch.num_rows
            kept = rows >= 0
            if not kept.all():
                rows, columns, numbers = rows[kept], columns[kept], numbers[kept]
            yield Entries(rows, columns.astype(np.int32), numbers)

    def _found(self, values: Any, finder: _Finder, what: str, start: int) -> NDArray[np.int64]:
        """Row or column of each value; -1 for what belongs to no cell, as the mapping says."""
        import pyarrow as pa
        import pyarrow.compute as pc

        names = finder.names
        if self.match == "id":
            coded = as_text(values).dictionary_encode()
            words = StringValues.from_strings(coded.dictionary)
            found = np.append(finder.find(words), -1)
            at = found[np.asarray(coded.indices.fill_null(len(words)))]
        else:
            shift = int(self.match[-1])
            at = np.asarray(pc.fill_null(values, -1)).astype(np.int64) - shift
            at[(at < 0) | (at >= len(names))] = -1
        bad = at < 0
        if what == "cell" and self.outside and bad.any():
            bad &= ~np.asarray(
                pc.is_in(values.cast(pa.string()), value_set=pa.array(self.outside, pa.string()))
            )
        if bad.any() and not (what == "cell" and self.drop_unknown):
            self._refuse(values, np.flatnonzero(bad), names, what, start)
        return at

    def _refuse(
        self, values: Any, bad: NDArray[np.int64], names: StringValues, what: str, start: int
    ) -> None:
        got = list(dict.fromkeys(str(values[int(row)].as_py()) for row in bad[:1000]))[:_SHOWN]
        known = [str(name) for name in names.take(np.arange(min(len(names), 5000))).to_list()]
        wanted = (
            f"a {what} of the list"
            if self.match == "id"
            else f"a {what} number from {self.match[-1]} to {len(names) - 1 + int(self.match[-1])}"
        )
        hint = (
            "; name values of no cell in `outside`, or set `unmatched: drop`"
            if what == "cell"
            else ""
        )
        raise InputError(
            Fault(
                f"{self.table.path} data row {start + int(bad[0]) + 1}",
                f"expected {wanted} in every row, but got {', '.join(map(repr, got))}"
                f"{hint}.{near(got[0], known)}",
            )
        )


class _Finder:
    """Finds names among unique ones, hashed once: 16 bytes a name."""

    def __init__(self, names: StringValues) -> None:
        self.names = names
        hashes = names.hashes()
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]

    def find(self, words: StringValues) -> NDArray[np.int64]:
        """(k,) place of each word, -1 for unknown ones."""
        import pyarrow.compute as pc

        if len(self.names) == 0 or len(words) == 0:
            return np.full(len(words), -1, np.int64)
        place = np.searchsorted(self._sorted, words.hashes())
        found = self._order[np.minimum(place, len(self.names) - 1)].astype(np.int64)
        same = np.asarray(pc.equal(words.to_arrow(), self.names.take(found).to_arrow()))
        return np.where(same, found, -1)


def distinct(table: Table, column: str) -> tuple[list[str], int]:
    """Words of a column, sorted, and its rows; reads it once.

    Raises
    ------
    InputError
        More than 5,000,000 words, or empty cells.
    """
    import pyarrow as pa

    seen: dict[str, None] = {}
    n_rows = 0
    for batch in table.batches([column], {column: pa.string()}):
        n_rows += batch.num_rows
        words = as_text(batch.column(0)).unique().to_pylist()
        if None in words:
            raise InputError(
                Fault(f"{table.path}:{column}", "expected a gene in every row, but got empty cells")
            )
        seen.update(dict.fromkeys(words))
        if len(seen) > _MOST_GENES:
            raise InputError(
                Fault(f"{table.path}:{column}", f"expected genes, but got over {_MOST_GENES} names")
            )
    return sorted(seen), n_rows


@dataclass(frozen=True, slots=True)
class MtxTriples:
    """A Matrix Market file of either orientation and any order, sorted through temporary files."""

    path: Path
    """.mtx, gzipped or not."""
    n_obs: int
    """Cells."""
    n_vars: int
    """Genes."""
    nnz: int | None
    """Entries, by the header."""
    head_rows: int
    """Lines before the entries."""
    by_cell: bool
    """Whether rows of the file are cells; else they are genes."""

    @classmethod
    def of(cls, path: Path, n_obs: int, n_vars: int) -> MtxTriples:
        """Open a file; reads its header.

        Raises
        ------
        InputError
            It is no coordinate file of numbers, or of another size than cells and genes.
        """
        size, head = _sizes(path)
        if (size[0], size[1]) not in {(n_vars, n_obs), (n_obs, n_vars)}:
            raise InputError(
                Fault(
                    str(path),
                    f"expected {n_vars} genes x {n_obs} cells, or the reverse, but got "
                    f"{size[0]} x {size[1]}; name the lists of cells (`barcodes`) and of `genes` "
                    "that belong to the matrix",
                )
            )
        return cls(path, n_obs, n_vars, size[2], head, (size[0], size[1]) != (n_vars, n_obs))

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the entries."""
        return np.dtype(np.float64)

    @property
    def scratch_bytes(self) -> int:
        """Disk that sorting the entries takes."""
        return sorting_bytes(self.nnz, np.dtype(np.float64))

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield all rows once, in order.

        Raises
        ------
        InputError
            Entries outside the matrix, or fewer than the header says.
        """
        yield from sorted_blocks(
            self._pieces(),
            self.n_obs,
            np.dtype(np.float64),
            nnz=self.nnz,
            budget_bytes=budget_bytes // 2,
        )

    def _pieces(self) -> Iterator[Entries]:
        total = 0
        with (
            faults_of(self.path, "a Matrix Market file", parsing=True),
            open_bytes(self.path) as file,
        ):
            for _ in range(self.head_rows):
                file.readline(65_536)
            for one, two, numbers in mtx_pieces(file, np.dtype(np.float64)):
                rows, columns = (one, two) if self.by_cell else (two, one)
                rows, columns = self._inside(rows, self.n_obs), self._inside(columns, self.n_vars)
                total += rows.size
                yield Entries(rows, columns.astype(np.int32), numbers)
        if total != self.nnz:
            raise InputError(
                Fault(
                    str(self.path),
                    f"expected {self.nnz} entries as the header says, but got {total}; "
                    "the file is truncated: copy it again",
                )
            )

    def _inside(self, numbers: NDArray[Any], n: int) -> NDArray[np.int64]:
        bad = ~((numbers >= 1) & (numbers <= n))
        if bad.any():
            raise InputError(
                Fault(
                    str(self.path),
                    f"expected numbers from 1 to {n}, but got {numbers[bad][0]}; the file is "
                    "damaged",
                )
            )
        return numbers.astype(np.int64) - 1


def _sizes(path: Path) -> tuple[Sequence[int], int]:
    """Rows, columns and entries of a coordinate file, and its lines before the entries."""
    with (
        faults_of(path, "a Matrix Market file", parsing=True),
        open_bytes(path) as file,
    ):
        first = file.readline(1024).decode("ascii", "replace").casefold().split()
        if first[:3] != ["%%matrixmarket", "matrix", "coordinate"] or first[4:] != ["general"]:
            raise InputError(
                Fault(str(path), f"expected a coordinate file, but got {' '.join(first)[:80]!r}")
            )
        head, line = 2, file.readline(65_536)
        while line.startswith(b"%"):
            head, line = head + 1, file.readline(65_536)
        size = [int(word) for word in line.split()]
        if (
            len(size) != 3
            or min(size[:2]) < 1
            or size[2] < 0
            or first[3] not in {"integer", "real"}
        ):
            raise InputError(
                Fault(str(path), f"expected three sizes and numbers, but got {line[:80]!r}")
            )
    return size, head
