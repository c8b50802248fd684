"""Whether the first numbers of a matrix are what `values` says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError
from .matrix import sample_entries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from .reader import ReadOptions

__all__ = ["check_meaning", "check_values"]

_ROWS = 200
_ENTRIES = 1 << 20
_CLOSE = 0.01  # relative: composition is often stored with three or four digits


def check_meaning(node: Any, options: ReadOptions, where: str) -> list[str]:
    """Compare the first rows of a matrix with `values`.

    Parameters
    ----------
    node : HDF5 group or dataset
        CSR, CSC or dense matrix.
    options : ReadOptions
        What the user says.
    where : str
        Place to name.

    Returns
    -------
    list of str
        Notes of what may be a mistake.

    Raises
    ------
    InputError
        If rows of a composition do not sum to one, or rows that do are called counts.
        Cost: at most 2**20 entries and 200 rows read.
    """
    sums = _row_sums(node)
    sums = sums[np.isfinite(sums) & (sums != 0)]
    ones = sums.size > 0 and bool((np.abs(sums - 1) <= _CLOSE).all())
    numbers: NDArray[Any] = sample_entries(node)
    whole = numbers.size > 0 and bool((numbers == np.floor(numbers)).all())
    if options.matrix_values == "composition" and sums.size and not ones:
        wrong = float(sums[np.abs(sums - 1).argmax()])
        looks = "; these look like counts" if whole else ""
        raise InputError(
            Fault(
                where,
                "expected rows that sum to 1, as `values` composition says, but got one that sums "
                f"to {wrong:,.6g}{looks}; correct `values`, or divide each row by its sum",
            )
        )
    if options.matrix_values == "counts" and ones and not whole:
        raise InputError(
            Fault(where, "expected counts, but got rows that sum to 1; set `values` to composition")
        )
    if whole and options.values in ("log1p", "normalized", "expected"):
        size = f"{numbers.size:,}"
        message = f"values: {options.values!r} is said, but the first {size} entries are whole "
        return [message + "numbers; these look like counts"]
    return []


def _row_sums(node: Any) -> NDArray[np.float64]:
    """Add up the first rows; empty for CSC, whose rows are spread over the whole file."""
    if hasattr(node, "shape"):
        if len(node.shape) != 2:
            return np.zeros(0)
        rows = max(1, min(_ROWS, _ENTRIES // max(1, int(node.shape[1]))))
        return np.asarray(node[:rows], dtype=np.float64).sum(axis=1)
    encoding = node.attrs.get("encoding-type", node.attrs.get("h5sparse_format", ""))
    encoding = encoding.decode() if isinstance(encoding, bytes) else str(encoding)
    if not encoding.startswith("csr"):
        return np.zeros(0)
    indptr = np.asarray(node["indptr"][: _ROWS + 1]).astype(np.int64)
    indptr = indptr[indptr <= indptr[:1].sum() + _ENTRIES]
    data = np.asarray(node["data"][: indptr[-1]] if indptr.size else [], dtype=np.float64)
    if indptr.size < 2 or indptr[0] != 0 or (np.diff(indptr) < 0).any() or data.size < indptr[-1]:
        return np.zeros(0)  # a broken matrix is for its own check to tell
    ends = np.concatenate(([0.0], np.cumsum(data)))[indptr]
    return np.diff(ends)


def check_values(
    node: Any,
    options: ReadOptions,
    choices: Mapping[str, Any],
    where: str,
    hint: str = "set `layer` to where the counts are",
) -> None:
    """Refuse numbers that cannot be counts where counts are expected, judged by the first ones.

    Parameters
    ----------
    node : Any
        The matrix, as `sample_entries` takes it.
    options : ReadOptions
        Says what the numbers should be.
    choices : mapping
        Other matrices of the file, by the name of their layer.
    where : str
        For messages.
    hint : str
        What to do about numbers below 0.

    Raises
    ------
    InputError
        With what the numbers look like, and which other layers hold counts.
    """
    numbers: NDArray[Any] = sample_entries(node)
    if numbers.size == 0:
        return
    if not np.isfinite(numbers).all():
        raise InputError(Fault(where, "expected finite numbers, but got NaN or infinity"))
    low, high = float(numbers.min()), float(numbers.max())
    if low < 0:
        raise InputError(
            Fault(
                where,
                f"expected numbers from 0 on, but got {low:g}; scaled values are not stored: "
                f"{hint}",
            )
        )
    if options.matrix_values != "counts" or _whole(numbers):
        return
    first = numbers[numbers != np.floor(numbers)][0]
    other = [name for name, layer in choices.items() if _whole(sample_entries(layer))]
    looks = "log1p" if high < 20 else "normalized"
    raise InputError(
        Fault(
            where,
            f"expected counts, but got {float(first):g}; set `values` (these look like {looks!r} "
            "or 'expected')"
            + (f", or `layer` to {' or '.join(map(repr, other))}" if other else ""),
        )
    )


def _whole(numbers: NDArray[Any]) -> bool:
    return numbers.dtype.kind in "iub" or bool((numbers == np.floor(numbers)).all())
