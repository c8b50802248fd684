"""The matrix that a table mapping describes, joined to the table of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError, near
from ..anndata_parts import check_ids
from ..meaning import check_meaning, check_values
from ..source import StringValues
from ..split import MaskedCounts
from ..tenx import open_h5
from .column_values import listed, require_columns
from .dense import DenseCounts
from .long_counts import LongCounts, MtxTriples, distinct
from .parquet_table import ParquetTable
from .table import Table, open_table
from .table_mapping import CountsPart, TableMapping, inside
from .text_table import first_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..reader import ReadOptions
    from ..source import CountsSource

__all__ = ["FoundCounts", "find_counts", "join_cells"]

_SHOWN = 5
_COUNTED = "name a table of counts"
_ROWS, _COLUMNS = 200, 2000  # of a dense table, looked at


@dataclass(frozen=True, slots=True)
class FoundCounts:
    """A matrix and how its rows are cells."""

    counts: CountsSource
    """Rows x features."""
    genes: tuple[str, ...]
    """Names of the columns."""
    where: str
    """Where they were read."""
    symbols: tuple[str, ...] | None = None
    """Symbols beside the names."""
    cells: NDArray[np.int64] | None = None
    """Row of the table of cells behind each row of the matrix; None where they are the same."""
    used: frozenset[str] = frozenset()
    """Columns of the table of cells that are genes."""
    notes: tuple[str, ...] = ()
    """What was left out, as asked."""
    feature_types: tuple[str, ...] | None = None
    """Type of each column, where the file says it."""


def find_counts(  # noqa: PLR0917 - the parts of one table
    root: Path,
    mapping: TableMapping,
    cells: Table,
    ids: StringValues,
    options: ReadOptions,
    used: frozenset[str],
) -> FoundCounts:
    """Find the matrix, by its layout; reads names and the first numbers.

    Raises
    ------
    InputError
        Columns or files that are not there, cells of one table that the other lacks, numbers that
        cannot be what `values` says.
    """
    part = mapping.counts
    if part.layout == "dense":
        return _dense(root, part, cells, ids, options, used)
    if part.path is None:
        raise InputError(
            Fault("counts", f"expected `path:` for layout {part.layout}, but got none")
        )
    path = inside(root, part.path, "counts.path")
    if part.layout == "h5":
        matrix = open_h5(path)
        rows, at, notes = join_cells(matrix.barcodes, ids, part.unmatched, str(path))
        counts = matrix.counts if rows is None else MaskedCounts(matrix.counts, rows)
        ids_of_genes, kinds = tuple(matrix.gene_ids), tuple(matrix.feature_types)
        names = tuple(n or one for n, one in zip(matrix.names, ids_of_genes, strict=True))
        return FoundCounts(
            counts, ids_of_genes, str(path), names, at, notes=notes, feature_types=kinds
        )
    genes = _genes(root, mapping)
    if part.layout == "long":
        return _long(part, path, ids, genes, options)
    return _mtx(root, part, path, ids, genes)


def _dense(  # noqa: PLR0917 - private, one caller
    root: Path,
    part: CountsPart,
    cells: Table,
    ids: StringValues,
    options: ReadOptions,
    used: frozenset[str],
) -> FoundCounts:
    own = part.path is None
    table = cells if own else open_table(
        inside(root, str(part.path), "counts.path"), delimiter=part.delimiter
    )  # fmt: skip
    wanted, prefix = part.genes, part.prefix or ""
    if prefix and wanted is None:
        wanted = (f"{prefix}*",)
    if own and wanted is None:
        raise InputError(
            Fault(
                "counts.genes",
                f"expected the columns of {table.path.name} that are genes (counts.genes: names "
                f"or patterns such as 'gene_*', or counts.prefix), but got none; it has "
                f"{listed(table.names)}",
            )
        )
    rest = [name for name in table.names if name not in (used if own else {part.id})]
    genes = _chosen(rest, wanted, table)
    rows, at, notes = (None, None, ()) if own else _rows_of(part, table, ids)
    counts = DenseCounts(table, genes, rows)
    notes += _looked_at(table, genes, options)
    names = tuple(name.removeprefix(prefix) for name in genes)
    taken = frozenset(genes) if own else frozenset[str]()
    return FoundCounts(counts, names, str(table.path), None, at, taken, notes)


def _looked_at(table: Table, genes: tuple[str, ...], options: ReadOptions) -> tuple[str, ...]:
    """Compare the first numbers of a dense table with `values`; notes of what may be a mistake."""
    import pyarrow as pa

    seen = genes[:_COLUMNS]
    for batch in table.batches(seen, dict.fromkeys(seen, pa.float64())):
        first = batch.slice(0, _ROWS)
        numbers = np.column_stack(
            [np.asarray(c.to_numpy(zero_copy_only=False), np.float64) for c in first.columns]
        )
        # Sums of some of the columns say nothing.
        notes = check_meaning(numbers, options, str(table.path)) if len(seen) == len(genes) else []
        check_values(numbers, options, {}, str(table.path), _COUNTED)
        return tuple(notes)
    return ()


def _chosen(names: Sequence[str], wanted: Sequence[str] | None, table: Table) -> tuple[str, ...]:
    """Columns that are genes, in the order of the table."""
    if not names:
        raise InputError(Fault(str(table.path), "expected columns of genes, but got none"))
    if wanted is None:
        return tuple(names)
    chosen: set[str] = set()
    faults = []
    exact = set(names)
    for pattern in wanted:
        found = {pattern} & exact or {name for name in names if fnmatchcase(name, pattern)}
        chosen |= found
        if not found:
            faults.append(
                Fault(
                    f"{table.path} (counts.genes)",
                    f"expected columns {pattern!r}, but got {listed(names)}.{near(pattern, names)}",
                )
            )
    if faults:
        raise InputError(faults)
    return tuple(name for name in names if name in chosen)


def _rows_of(
    part: CountsPart, table: Table, ids: StringValues
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None, tuple[str, ...]]:
    """Rows of a dense table of its own that are cells, and which."""
    if part.id is not None:
        require_columns(table.path, table.names, [part.id], "counts.id")
        own = table.strings(part.id)
        check_ids(own, f"{table.path}:{part.id}", "or name another with `counts.id`")
        return join_cells(own, ids, part.unmatched, str(table.path))
    if table.n_rows != len(ids):
        raise InputError(
            Fault(
                str(table.path),
                f"expected {len(ids)} rows in the order of the cells, but got {table.n_rows}; name "
                "the column of cell ids with counts.id",
            )
        )
    return None, None, ()


def join_cells(
    matrix: StringValues, cells: StringValues, unmatched: str, where: str
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None, tuple[str, ...]]:
    """Match the rows of a matrix and of a table of cells by their ids.

    Parameters
    ----------
    matrix, cells : StringValues
        Ids, unique in each.
    unmatched : {"refuse", "drop", "subset"}
        What becomes of ids that only one of them has; `subset` leaves out cells that have no row in
        the matrix, and refuses rows without a cell.
    where : str
        For messages.

    Returns
    -------
    rows : ndarray or None
        Rows of the matrix that are kept, ascending; None for all.
    at : ndarray or None
        Row of `cells` of each; None where they are the same.
    notes : tuple of str

    Raises
    ------
    InputError
        Ids that only one has, or none in common.
    """
    at = matrix.find_in(cells)
    kept = np.flatnonzero(at >= 0)
    seen = np.zeros(len(cells), bool)
    seen[at[kept]] = True
    lost = (
        ("cells of the matrix have no position", matrix, np.flatnonzero(at < 0)),
        ("cells have no row in the matrix", cells, np.flatnonzero(~seen)),
    )
    told = tuple(
        f"{rows.size:,} {what} ({', '.join(map(str, ids.take(rows[:_SHOWN]).to_list()))})"
        for what, ids, rows in lost
        if rows.size
    )
    tolerated = unmatched == "drop" or (unmatched == "subset" and kept.size == at.size)
    if kept.size == 0 or (told and not tolerated):
        raise InputError(
            Fault(
                where,
                f"expected the same cells in both tables, but got {' and '.join(told) or 'none'}"
                + ("; set `unmatched: drop` to leave them out" if kept.size else ""),
            )
        )
    notes = tuple(f"{one}: left out" for one in told)
    same = kept.size == len(cells) and bool((at[kept] == np.arange(kept.size)).all())
    return None if kept.size == at.size else kept, None if same else at[kept], notes


@dataclass(frozen=True, slots=True)
class _GeneList:
    """The list of genes of a mapping."""

    names: tuple[str, ...]
    symbols: tuple[str, ...] | None
    where: str


def _genes(root: Path, mapping: TableMapping) -> _GeneList | None:
    """Read the list of genes; None where there is none."""
    part = mapping.genes
    if part is None:
        return None
    path = inside(root, part.path, "genes.path")
    if part.header or path.suffix.casefold() == ".parquet":
        table = open_table(path, delimiter=part.delimiter)
    else:
        width = len(first_words(path, part.delimiter))
        names = tuple(f"column_{k}" for k in range(width))
        table = open_table(path, delimiter=part.delimiter, names=names)
    column = part.id or table.names[0]
    chosen = [column, *([part.symbol] if part.symbol else [])]
    require_columns(path, table.names, chosen, "genes")
    words = [tuple(word or "" for word in table.strings(name).to_list()) for name in chosen]
    return _GeneList(words[0], words[1] if part.symbol else None, str(path))


def _long(
    part: CountsPart,
    path: Path,
    ids: StringValues,
    genes: _GeneList | None,
    options: ReadOptions,
) -> FoundCounts:
    import pyarrow as pa

    table = open_table(path, delimiter=part.delimiter)
    columns = part.cell, part.gene, part.count
    _require_three(table, columns)
    nnz = table.n_rows if isinstance(table, ParquetTable) else None
    if genes is None:
        if part.match != "id":
            raise InputError(
                Fault("genes", f"expected `genes:` with match {part.match}, but got none")
            )
        words, nnz = distinct(table, part.gene)
        genes = _GeneList(tuple(words), None, f"{path}:{part.gene}")
    for batch in table.batches([part.count], {part.count: pa.float64()}):
        numbers = np.asarray(batch.column(0).to_numpy(zero_copy_only=False), np.float64)
        check_values(numbers[:65_536, None], options, {}, f"{path}:{part.count}", _COUNTED)
        break
    counts = LongCounts(
        table,
        columns,
        ids,
        StringValues.from_strings(list(genes.names)),
        part.match,
        part.outside,
        part.unmatched == "drop",
        part.duplicates == "sum",
        None if part.duplicates == "sum" else nnz,
    )
    dropped = ("counts of other cells are left out, as asked",) * (part.unmatched == "drop")
    return FoundCounts(counts, genes.names, genes.where, genes.symbols, notes=dropped)


def _require_three(table: Table, columns: tuple[str, str, str]) -> None:
    lacking = [name for name in columns if name not in table.names]
    if lacking or len(set(columns)) < 3:
        raise InputError(
            [
                Fault(
                    f"{table.path} (counts)",
                    f"expected three columns with {name!r}, but got {listed(table.names)}."
                    f"{near(name, table.names)} Name them with counts.cell, gene and count",
                )
                for name in lacking or columns[:1]
            ]
        )


def _mtx(
    root: Path, part: CountsPart, path: Path, ids: StringValues, genes: _GeneList | None
) -> FoundCounts:
    if genes is None:
        raise InputError(Fault("genes", "expected `genes:` with layout mtx, but got none"))
    barcodes = ids
    if part.barcodes is not None:
        file = inside(root, part.barcodes, "counts.barcodes")
        table = open_table(file, names=("barcode",), delimiter="\t")
        barcodes = table.strings("barcode")
        check_ids(barcodes, str(file))
    matrix = MtxTriples.of(path, len(barcodes), len(genes.names))
    rows, at, notes = join_cells(barcodes, ids, part.unmatched, str(path))
    counts = matrix if rows is None else MaskedCounts(matrix, rows)
    return FoundCounts(counts, genes.names, genes.where, genes.symbols, at, notes=notes)
