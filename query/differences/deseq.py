"""DESeq2 on pseudobulks, by PyDESeq2."""

import contextlib
import io
import warnings
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from .bulks import Bulks
from .groups import Comparison

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Design", "choose_design", "empty_values", "run_bulks", "smallest_p"]

FEWEST = 2
"""Replicates a side below which nothing can be told of their spread."""


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Which pseudobulks are compared, and whether within replicates."""

    group: NDArray[np.int64]
    """Replicates with enough cells of the group."""
    reference: NDArray[np.int64]
    """Replicates with enough cells of the reference."""
    paired: bool
    """Whether all replicates have both, so that each is its own control."""
    few: tuple[str, ...]
    """Pseudobulks left out for having too few cells."""
    unmatched: tuple[str, ...] = ()
    """Pseudobulks left out as they would count a replicate twice, or have no other half."""

    @property
    def formula(self) -> str:
        """The design as DESeq2 has it."""
        return "~ replicate + side" if self.paired else "~ side"

    @property
    def smallest_p(self) -> float:
        """Smallest two-sided p of an exact test that permutes the replicates alone."""
        return smallest_p(len(self.group), len(self.reference), paired=self.paired)


def smallest_p(n_group: int, n_reference: int, *, paired: bool) -> float:
    """Two-sided p below which no permutation of replicates can go.

    2 / C(n + m, n) where labels are exchanged between replicates, 2 / 2^n where within them.

    Examples
    --------
    >>> smallest_p(3, 3, paired=False), smallest_p(4, 4, paired=True)
    (0.1, 0.125)
    """
    ways = 2**n_group if paired else comb(n_group + n_reference, n_group)
    return min(1.0, 2.0 / ways)


def choose_design(
    bulks: Bulks, comparison: Comparison, group: str, *, replicate: str, min_cells: int
) -> Design:
    """Choose the pseudobulks of a comparison, so that no replicate counts as two.

    Where all replicates have both sides they are pairs; where none has, they are independent.
    Where some have, the pairs alone are compared if there are two or more, else those of one side.

    Raises
    ------
    InvalidArgument
        Fewer than two replicates on a side; tells what there is.
    """
    sides = comparison.sides(group)
    cells = [bulks.cells[:, labels].sum(axis=1) for labels in sides]
    names = (group, comparison.against)
    kept = [np.flatnonzero(n >= max(min_cells, 1)) for n in cells]
    few = tuple(
        f"{bulks.replicates[row]} of {name} ({n[row]})"
        for name, n in zip(names, cells, strict=True)
        for row in np.flatnonzero((n > 0) & (n < min_cells)).tolist()
    )
    both = np.intersect1d(kept[0], kept[1])
    used = _independent(kept, both)
    if min(map(len, used)) < FEWEST:
        there = "; ".join(
            f"{name}: {_listed(bulks, rows, n)}"
            for name, rows, n in zip(names, kept, cells, strict=True)
        )
        left = f" Left out with fewer than {min_cells} cells: {', '.join(few)}." if few else ""
        twice = ", ".join(bulks.replicates[row] for row in both.tolist())
        left += f" On both sides, so that it would count twice: {twice}." if twice else ""
        raise InvalidArgument(
            f"at least {FEWEST} replicates of {replicate!r} a side are wanted, without which "
            f"nothing is known of their spread, but got {there}.{left} Name another replicate=, or "
            "compare cells by method='wilcoxon', whose p-values then speak of these cells alone"
        )
    unmatched = tuple(
        f"{bulks.replicates[row]} of {name}"
        for name, rows, own in zip(names, kept, used, strict=True)
        for row in np.setdiff1d(rows, own).tolist()
    )
    return Design(used[0], used[1], bool(np.array_equal(used[0], used[1])), few, unmatched)


def _independent(kept: list[NDArray[np.int64]], both: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Replicates of each side of which none is counted as two."""
    if not len(both) or len(both) >= FEWEST:
        return [both, both] if len(both) else kept
    return [np.setdiff1d(rows, both) for rows in kept]


def _listed(bulks: Bulks, rows: NDArray[np.int64], cells: NDArray[np.int64]) -> str:
    parts = [
        f"{bulks.replicates[row]} ({cells[row]:,} cells in {len(bulks.sections[row])} sections)"
        for row in rows.tolist()
    ]
    return f"{len(parts)} ({', '.join(parts)})" if parts else "none"


def run_bulks(
    bulks: Bulks, comparison: Comparison, group: str, design: Design
) -> "tuple[pd.DataFrame, list[str]]":
    """Run DESeq2 on the pseudobulks of a comparison.

    Returns
    -------
    table
        (genes,) in order: `log2_fold`, `base_mean`, `stat`, `p`, `p_adj` (Benjamini-Hochberg after
        independent filtering, as DESeq2 does it). Genes without any count in these pseudobulks
        are left out of the fit, which they would change: `base_mean` 0, NaN otherwise.
    notes
        What PyDESeq2 warned of.

    Raises
    ------
    ImportError
        PyDESeq2 is not there.
    InvalidArgument
        No gene has a count.
    """
    import pandas as pd

    own, other = comparison.sides(group)
    counts = np.concatenate(
        [
            bulks.counts[design.group][:, own].sum(axis=1),
            bulks.counts[design.reference][:, other].sum(axis=1),
        ]
    )
    rows = np.concatenate([design.group, design.reference])
    n = len(design.group)
    names = [f"bulk{k}" for k in range(len(rows))]
    metadata = pd.DataFrame(
        {
            "side": pd.Categorical(["group"] * n + ["reference"] * (len(rows) - n)),
            "replicate": pd.Categorical([f"r{row}" for row in rows.tolist()]),
        },
        index=names,
    )
    counted = counts.any(axis=0)
    if not counted.any():
        raise InvalidArgument(
            f"genes with counts are wanted, but the {len(rows)} pseudobulks of {group} and "
            f"{comparison.against} have none; choose other cells"
        )
    genes = [f"g{k}" for k in np.flatnonzero(counted).tolist()]
    # PyDESeq2's optimizers stop elsewhere for another order in memory: always the same one.
    table = pd.DataFrame(np.ascontiguousarray(counts[:, counted]), names, genes)
    found, notes = _run(table, metadata, design.formula)
    order = {
        "log2FoldChange": "log2_fold",
        "baseMean": "base_mean",
        "stat": "stat",
        "pvalue": "p",
        "padj": "p_adj",
    }
    fitted = found.loc[genes, list(order)].rename(columns=order)
    full = fitted.set_index(np.flatnonzero(counted)).reindex(range(len(counted)))
    full["base_mean"] = full["base_mean"].fillna(0.0)
    return full, notes


def empty_values(table: "pd.DataFrame", group: str) -> dict[str, Any]:
    """Count the genes of a comparison whose p-values are empty, by the reason."""
    p, adjusted = table["p"].notna(), table["p_adj"].notna()
    counted = table["base_mean"] > 0
    n = {
        "n_tested": int(p.sum()),
        "n_no_counts": int((~counted).sum()),
        "n_outliers": int((counted & ~p).sum()),
        "n_filtered": int((p & ~adjusted).sum()),
    }
    why = (
        ("n_no_counts", "without any count were not"),
        ("n_outliers", "have no p (Cook's distance: one replicate alone makes them differ)"),
        ("n_filtered", "have no p_adj (independent filtering: too few counts to tell)"),
    )
    parts = [f"{n[key]:,} {words}" for key, words in why if n[key]]
    words = f"{group}: {n['n_tested']:,} genes were tested; {'; '.join(parts)}" if parts else ""
    return n | {"empty": words}


def _run(counts: Any, metadata: Any, formula: str) -> "tuple[pd.DataFrame, list[str]]":
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pydeseq2.dds import DeseqDataSet
            from pydeseq2.default_inference import DefaultInference
            from pydeseq2.ds import DeseqStats
    except ImportError as error:
        raise ImportError(
            "PyDESeq2 is wanted for method='pseudobulk': pip install 'tisseract[de]'",
            name="pydeseq2",
        ) from error
    # It prints as it goes, and warns of what belongs beside the table.
    with warnings.catch_warnings(record=True) as told, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        inference = DefaultInference(n_cpus=1)
        data = DeseqDataSet(
            counts=counts, metadata=metadata, design=formula, inference=inference, quiet=True
        )
        data.deseq2()
        result = DeseqStats(
            data, contrast=["side", "group", "reference"], inference=inference, quiet=True
        )
        result.summary()
    own = (UserWarning, RuntimeWarning)
    notes = [str(one.message) for one in told if issubclass(one.category, own)]
    return result.results_df, list(dict.fromkeys(notes))
