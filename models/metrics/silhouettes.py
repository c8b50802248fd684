"""How compact labels lie in an embedding, and how little batches part: silhouette widths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...atlas.errors import InvalidArgument
from .row_distances import Matrix, Rows, checked_rows, drawn_rows, encoded, sums_by_group

__all__ = ["BatchWidth", "LabelWidth", "batch_asw", "label_asw"]


@dataclass(frozen=True, slots=True)
class LabelWidth:
    """Average silhouette width of labels.

    Attributes
    ----------
    asw : float
        Mean silhouette of the scored cells, -1 to 1.
    rows : ndarray (m,) int64
        The cells scored; each against all cells.
    values : ndarray (m,) float64
        Their silhouettes.
    sample, seed : int, optional
        As asked for; None where every cell is scored.
    """

    asw: float
    rows: Rows
    values: Matrix
    sample: int | None
    seed: int | None

    @property
    def scaled(self) -> float:
        """The form of scib, `(asw + 1) / 2`: 0 to 1, more is better."""
        return (self.asw + 1.0) / 2.0


@dataclass(frozen=True, slots=True)
class BatchWidth:
    """How little batches part within labels, by their silhouette widths.

    Attributes
    ----------
    asw : float
        Mean over the labels of `by_label`; 1 where batches cannot be told apart.
    by_label : mapping of str to float
        Mean of `1 - |silhouette by batch|` over the scored cells of each label.
    left_out : tuple of str
        Labels of one batch, or with a batch for every cell: they say nothing on mixing.
    sample, seed : int, optional
        Cells scored of each label, at most; None where every cell is scored.
    """

    asw: float
    by_label: Mapping[str, float]
    left_out: tuple[str, ...]
    sample: int | None
    seed: int | None


def _silhouettes(x: Matrix, codes: NDArray[np.intp], n_groups: int, rows: Rows) -> Matrix:
    """Silhouette of each of `rows` among all rows; 0 for the only row of a group."""
    sizes = np.bincount(codes, minlength=n_groups)
    sums = sums_by_group(x, codes, n_groups, rows)
    own, here = codes[rows], np.arange(len(rows))
    within = sums[here, own] / np.maximum(sizes[own] - 1, 1)
    means = sums / sizes
    means[here, own] = np.inf
    across = means.min(axis=1)
    larger = np.maximum(within, across)
    # all distances are 0 where all rows are equal: neither near nor far
    width = np.divide(across - within, larger, out=np.zeros(len(rows)), where=larger > 0)
    width[sizes[own] == 1] = 0.0
    return width


def label_asw(
    x: ArrayLike,
    labels: ArrayLike | Sequence[str],
    *,
    sample: int | None = None,
    seed: int = 0,
) -> LabelWidth:
    """Measure how compact and apart labels lie in an embedding.

    Parameters
    ----------
    x : array_like (n, d)
        Embedding; finite.
    labels : array_like (n,)
        Any sortable type.
    sample : int, optional
        Score this many cells, drawn with `seed`, each against all cells.
    seed : int

    Returns
    -------
    LabelWidth

    Raises
    ------
    InvalidArgument
        One label, a label for every cell, nan, or lengths that differ.

    Notes
    -----
    Rousseeuw, J. Comput. Appl. Math. 20 (1987): `(b - a) / max(a, b)` with a the mean distance to
    the own label's other cells and b the least mean distance to another label's; Euclidean. Scaled
    form: scib (Luecken et al. 2022). Time O(m n d) for m scored cells; memory: `sums_by_group`.

    Examples
    --------
    >>> round(label_asw([[0.0], [1.0], [9.0], [10.0]], ["a", "a", "b", "b"]).asw, 3)
    0.889
    """
    table = checked_rows(x)
    names, codes = encoded(labels, len(table))
    if not 2 <= len(names) < len(table):
        raise InvalidArgument(
            f"wanted two labels or more, and fewer than the {len(table)} cells, "
            f"but got {len(names)}"
        )
    rows = drawn_rows(len(table), sample, seed)
    values = _silhouettes(table, codes, len(names), rows)
    drawn = len(rows) < len(table)
    return LabelWidth(
        float(values.mean()), rows, values, sample if drawn else None, seed if drawn else None
    )


def batch_asw(
    x: ArrayLike,
    batches: ArrayLike | Sequence[str],
    labels: ArrayLike | Sequence[str],
    *,
    sample: int | None = None,
    seed: int = 0,
) -> BatchWidth:
    """Measure how little batches part within labels: 1 is perfect mixing, 0 none.

    Parameters
    ----------
    x : array_like (n, d)
        Embedding; finite.
    batches, labels : array_like (n,)
        Batch (or section) and label (type or domain) of each cell; any sortable types.
    sample : int, optional
        Score at most this many cells of each label, drawn with `seed`, each against all cells of
        the label.
    seed : int

    Returns
    -------
    BatchWidth

    Raises
    ------
    InvalidArgument
        One batch, no label with two batches or more, nan, or lengths that differ.

    Notes
    -----
    scib's silhouette_batch (Luecken et al., Nature Methods 19, 2022): among the cells of a label,
    the silhouette by batch; `1 - |silhouette|`, averaged over cells, then over labels. Time
    O(m n d) for m scored of n cells of a label; memory: `sums_by_group` of the largest label.

    Examples
    --------
    >>> x = [[0.0], [0.1], [1.0], [1.1], [5.0]]
    >>> found = batch_asw(x, ["s", "t", "s", "t", "s"], ["a", "a", "a", "a", "b"])
    >>> round(found.asw, 2), found.left_out
    (0.55, ('b',))
    """
    table = checked_rows(x)
    batch_names, batch_codes = encoded(batches, len(table), "batch")
    names, codes = encoded(labels, len(table))
    if len(batch_names) < 2:
        raise InvalidArgument(f"wanted two batches or more, but got {len(batch_names)}")
    by_label: dict[str, float] = {}
    left_out: list[str] = []
    drawn = False
    for code, name in enumerate(names.tolist()):
        member = np.flatnonzero(codes == code)
        present, inner = np.unique(batch_codes[member], return_inverse=True)
        if not 1 < len(present) < len(member):
            left_out.append(str(name))
            continue
        rows = drawn_rows(len(member), sample, seed)
        drawn |= len(rows) < len(member)
        width = _silhouettes(table[member], inner, len(present), rows)
        by_label[str(name)] = float((1.0 - np.abs(width)).mean())
    if not by_label:
        raise InvalidArgument(
            f"wanted a label with cells of two batches, but got none among {len(names)} labels; "
            "batches that share no label cannot be compared"
        )
    asw = float(np.mean(list(by_label.values())))
    return BatchWidth(
        asw, by_label, tuple(left_out), sample if drawn else None, seed if drawn else None
    )
