"""Molecules of a Stereo-seq chip, put together into square bins or into the cells they belong to.

Both files a pipeline writes (GEM text, GEF on HDF5) list gene by gene how many molecules each spot
of the chip caught. A bin is the square of spots with the same `x // size, y // size`, as the
vendor's own tools cut them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ..source import ArrayColumn, NumericValues, StringValues
from .entries import EntryCounts, EntryPiece
from .key_sums import KeySums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..source import ObsColumn

__all__ = ["Gathered", "Molecules", "Units", "decimal", "gather_bins", "gather_cells"]

_SHIFT = 32
_FAR = 2**30  # spots of the largest chip: some 2**19 along an edge
_LARGEST = 2**32 - 1
_NAMED = 1 << 17  # bins named at a time


@dataclass(frozen=True, slots=True)
class Molecules:
    """Some rows of a file: what one spot caught of one gene."""

    x: NDArray[np.int64]
    """(k,) column of the spot on the chip."""
    y: NDArray[np.int64]
    """(k,)"""
    gene: NDArray[np.int64]
    """(k,) number of the gene."""
    count: NDArray[np.int64]
    """(k,) molecules."""
    exon: NDArray[np.int64] | None = None
    """(k,) of them from exons, where the file says it."""
    cell: NDArray[np.int64] | None = None
    """(k,) cell, -1 outside cells, where the file says it."""

    def check(self, where: str, first: int) -> Molecules:
        """Refuse numbers that are none of a chip; `first` is the row of the first one.

        Raises
        ------
        InputError
            Naming the row.
        """
        wrong = (np.abs(self.x) >= _FAR) | (np.abs(self.y) >= _FAR)
        wrong |= (self.count < 0) | (self.count > _LARGEST)
        if self.exon is not None:
            wrong |= (self.exon < 0) | (self.exon > _LARGEST)
        if wrong.any():
            k = int(np.argmax(wrong))
            got = f"x {self.x[k]}, y {self.y[k]}, count {self.count[k]}"
            if self.exon is not None:
                got += f", exon count {self.exon[k]}"
            raise InputError(
                Fault(
                    f"{where} row {first + k + 1}",
                    f"expected coordinates within {_FAR:,} spots and counts that are not negative, "
                    f"but got {got}; the file is damaged: export it again",
                )
            )
        return self


Units = Callable[[Molecules], "NDArray[np.int64]"]
"""Key of the bin or cell of each molecule; negative ones belong to none."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Bins or cells with their places, and the matrix that will be added up from the molecules."""

    ids: StringValues
    """(n,)"""
    positions: NDArray[np.float64]
    """(n, 2) in spots."""
    obs: dict[str, ObsColumn]
    """Columns."""
    counts: EntryCounts
    """Bins or cells by genes."""
    outside: tuple[int, int] = (0, 0)
    """Rows and molecules that lie in no cell."""


def gather_bins(
    path: Path,
    batches: Callable[[], Iterator[Molecules]],
    n_genes: Callable[[], int],
    size: int,
    *,
    exons: bool = False,
) -> Gathered:
    """Find the bins that caught anything.

    Parameters
    ----------
    path : Path
        The file, for messages.
    batches : callable
        Streams the molecules; called once here and once for each reading of the matrix.
    n_genes : callable
        Number of genes, asked after one pass.
    size : int
        Spots along the edge of a bin.
    exons : bool
        Whether the file counts molecules from exons apart.

    Returns
    -------
    Gathered
        Positions are `corner + size // 2`, the vendor's center. Memory: some 52 bytes a bin, 100
        while keys are merged.

    Raises
    ------
    InputError
        No molecule at all, or one off the chip.
    """
    sums = KeySums(int(exons))
    n_entries = 0
    for batch in batches():
        exon = (np.zeros(batch.x.size, np.int64) if batch.exon is None else batch.exon,)
        sums.add(_bin_keys(size, batch), *(exon if exons else ()))
        n_entries += batch.x.size
    keys, found = sums.result()
    _require(path, keys, "a molecule")
    x, y = _bins(keys)
    positions = np.empty((keys.size, 2))
    for k, numbers in enumerate((x, y)):
        np.multiply(numbers, size, out=positions[:, k])
    positions += size // 2
    obs: dict[str, ObsColumn] = {
        "array_row": ArrayColumn("numeric", NumericValues(y)),
        "array_col": ArrayColumn("numeric", NumericValues(x)),
    }
    if exons:
        obs["exon_counts"] = ArrayColumn("numeric", NumericValues(found[0]))
    units = partial(_bin_keys, size)
    counts = EntryCounts(partial(_pieces, batches, units, keys), keys.size, n_genes(), n_entries)
    return Gathered(_corner_names(keys, size), positions, obs, counts)


def gather_cells(
    path: Path, batches: Callable[[], Iterator[Molecules]], n_genes: Callable[[], int]
) -> Gathered:
    """Find the cells that molecules are assigned to; their places are means over the file's rows.

    Raises
    ------
    InputError
        No molecule lies in a cell, or one lies off the chip.
    """
    sums = KeySums(4)
    n_entries, lost, lost_counts, exons = 0, 0, 0, False
    for batch in batches():
        assert batch.cell is not None
        inside = np.flatnonzero(batch.cell >= 0)
        exons = exons or batch.exon is not None
        exon = np.zeros(inside.size, np.int64) if batch.exon is None else batch.exon[inside]
        one = np.ones(inside.size, np.int64)
        sums.add(batch.cell[inside], batch.x[inside], batch.y[inside], one, exon)
        n_entries += inside.size
        lost += batch.cell.size - inside.size
        lost_counts += int(batch.count.sum() - batch.count[inside].sum())
    keys, (x, y, n, exon) = sums.result()
    _require(path, keys, "a molecule inside a cell")
    obs: dict[str, ObsColumn] = {}
    if exons:
        obs["exon_counts"] = ArrayColumn("numeric", NumericValues(exon))
    counts = EntryCounts(
        partial(_pieces, batches, _cell_keys, keys), keys.size, n_genes(), n_entries
    )
    positions = np.stack([x, y], axis=1) / np.maximum(n, 1)[:, None]
    return Gathered(decimal(keys), positions, obs, counts, (lost, lost_counts))


def _require(path: Path, keys: NDArray[np.int64], what: str) -> None:
    if keys.size == 0:
        raise InputError(Fault(str(path), f"expected {what}, but got none; the file is empty"))


def _bin_keys(size: int, batch: Molecules) -> NDArray[np.int64]:
    return ((batch.x // size + _FAR) << _SHIFT) | (batch.y // size + _FAR)


def _cell_keys(batch: Molecules) -> NDArray[np.int64]:
    assert batch.cell is not None
    return batch.cell


def _pieces(
    batches: Callable[[], Iterator[Molecules]], units: Units, keys: NDArray[np.int64]
) -> Iterator[EntryPiece]:
    """Molecules with the number of their bin or cell instead of a place."""
    for batch in batches():
        wanted = units(batch)
        rows = np.searchsorted(keys, wanted)
        rows[rows == keys.size] = 0
        rows[keys[rows] != wanted] = -1
        yield EntryPiece(rows, batch.gene, batch.count)


def decimal(numbers: NDArray[np.int64]) -> StringValues:
    """Write numbers as text."""
    import pyarrow as pa

    return StringValues.from_strings(pa.array(numbers).cast(pa.string()))


def _bins(keys: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Column and row of bins from their keys."""
    x, y = (keys >> _SHIFT) - _FAR, (keys & (2**_SHIFT - 1)) - _FAR
    return x.astype(np.int32), y.astype(np.int32)


def _corner_names(keys: NDArray[np.int64], size: int) -> StringValues:
    """Name bins by their corner, as `1200_350`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def names(start: int) -> StringValues:
        corners = (part.astype(np.int64) * size for part in _bins(keys[start : start + _NAMED]))
        x, y = (pa.array(one).cast(pa.string()) for one in corners)
        return StringValues.from_strings(pc.binary_join_element_wise(x, y, "_"))

    return StringValues.join(names(start) for start in range(0, keys.size, _NAMED))
