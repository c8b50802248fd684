"""The front of comparisons: which cells, which genes, which test, one table."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...atlas.errors import InvalidArgument
from ...atlas.memory import parse_bytes
from ..cells.selection import Selection
from ..cells.verbs import select
from ..labels.taking_part import narrowed
from ..telling import tell
from .bulks import sum_bulks
from .choice import Tested, cells_compared, genes_tested
from .deseq import Design, choose_design, empty_values, run_bulks
from .groups import Comparison, compared
from .ranks import rank_cells

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ...atlas.store import AtlasStore
    from ..expression.choice import GeneChoice

__all__ = ["CellsAsReplicatesWarning", "UnmatchedReplicatesWarning", "diff"]

METHODS = ("pseudobulk", "wilcoxon")
CAVEAT = (
    "every cell counts as a replicate: p-values speak of these very cells, not of further donors, "
    "and grow ever smaller with more cells; take method='pseudobulk' where there are replicates"
)
CIRCULAR = (
    "domains were found from the same counts: genes that made them differ by construction, and "
    "p-values are too small"
)


class CellsAsReplicatesWarning(UserWarning):
    """A test took cells for replicates; its p-values say nothing of further donors."""


class UnmatchedReplicatesWarning(UserWarning):
    """Replicates were left out of a comparison, in which they would have counted twice."""


def diff(
    data: "AtlasStore | Selection",
    groupby: str,
    groups: str | Sequence[str] | None = None,
    reference: str | Sequence[str] | None = None,
    *,
    replicate: str = "donor",
    method: Literal["pseudobulk", "wilcoxon"] = "pseudobulk",
    genes: str | Sequence[str] | None = None,
    where: str | None = None,
    all_cells: bool = False,
    missing: Literal["drop", "error"] | None = None,
    min_cells: int = 10,
    memory_limit: str | int | None = None,
) -> "pd.DataFrame":
    """Compare the genes of groups of cells.

    Parameters
    ----------
    data
        The atlas, or a selection of it: `atlas.query(domain="CA1")`. Its sections without a cell
        of a group or reference do not count.
    groupby
        Column that divides the cells: a domain key, a label, metadata of sections.
    groups
        Its values, each compared with the reference; None is all that are not the reference.
    reference
        Values to compare with, taken together; None is all other cells that have a value.
    replicate
        Metadata of sections that tells replicates apart: `donor`, `section`, ...
    method
        `pseudobulk`: counts are added up by replicate and group, and DESeq2 compares the sums.
        `wilcoxon`: ranks of cells, with a warning.
    genes
        Genes of the table; None is those of the selection. `pseudobulk` normalizes and adjusts
        over all genes whatever is named; `wilcoxon` tests the named genes alone, and `p_adj` is
        over them.
    where
        Filter string of the cells that take part; None is those that pass quality control
        (`qc_pass`, in sections that have it).
    all_cells
        Every cell instead.
    missing
        What to do about genes that a section with cells of a side has not measured: `drop` leaves
        them out (the default, with a warning), `error` refuses (the default where genes were
        named).
    min_cells
        A pseudobulk of fewer cells is left out.
    memory_limit
        Refuse above it; cells are read in blocks that stay below.

    Returns
    -------
    DataFrame
        One row a group and gene, largest `stat` in size first: `group`, `reference`, `gene`
        (symbol where known), `gene_id`, `log2_fold`, `base_mean`, `stat`, `p`, `p_adj`, `n_group`,
        `n_reference` (replicates, or cells for `wilcoxon`). `attrs` tells `method`, `design`,
        `replicate`, `smallest_p`, `caveats`, `n_genes_dropped`, `query`, `snapshot`, and under
        `groups` for each of them `n_tested`, `n_no_counts` (genes without any count in the cells
        compared: `base_mean` 0, NaN otherwise), `n_filtered` (`p_adj` NaN by independent
        filtering), `n_outliers` (`p` NaN by Cook's distance) and `empty`, the same in words.

    Raises
    ------
    InvalidArgument
        Fewer than two replicates on a side, values that are no raw counts (for DESeq2), or a value
        that no cell has.
    ColumnNotFound, QuerySyntax, BudgetExceeded
    ImportError
        Without PyDESeq2: `pip install 'tisseract[de]'`.

    Notes
    -----
    Where every replicate has cells of both sides the design is `~ replicate + side`, each being
    its own control; where none has, `~ side`. Where some have, the complete pairs are compared if
    there are two or more, else the replicates of one side alone, and what is left out is told by
    `UnmatchedReplicatesWarning` and `attrs["caveats"]`. `smallest_p` is what an
    exact permutation of replicates could reach at best; DESeq2 goes below it by what it assumes
    of counts. Reads all counts of the cells once. Groups are those of `aggregate`: "" is a value,
    and where sections hold a column in several kinds, so are `True` and `1`, with its warning.
    """
    _check(method, missing, min_cells)
    asked = data if isinstance(data, Selection) else select(data)
    if genes is not None:
        named = (genes,) if isinstance(genes, str) else tuple(genes)
        asked = Selection(asked.store, replace(asked.question, genes=named))
    selection = narrowed(asked, where, all_cells=all_cells)
    comparison = compared(selection, groupby, groups, reference)
    selection = cells_compared(selection, comparison)
    tested = genes_tested(selection, missing, all_genes=method == "pseudobulk")
    limit = parse_bytes(memory_limit)
    if method == "wilcoxon":
        table, facts = _by_ranks(selection, comparison, tested.choice, limit)
    else:
        table, facts = _by_bulks(
            selection,
            comparison,
            tested,
            replicate=replicate,
            min_cells=min_cells,
            limit=limit,
        )
    if comparison.column.source == "domains":
        facts["caveats"] = [*facts["caveats"], CIRCULAR]
    told: dict[Any, Any] = {
        "method": method,
        "groupby": groupby,
        "reference": comparison.against,
        "n_genes_dropped": tested.dropped,
        "query": str(selection.question),
        "snapshot": selection.store.snapshot.number,
        **facts,
    }
    table.attrs = told
    return table


def _check(method: str, missing: str | None, min_cells: int) -> None:
    if method not in METHODS:
        raise InvalidArgument(f"method= one of {', '.join(METHODS)} is wanted, but got {method!r}")
    if missing not in (None, "drop", "error"):
        raise InvalidArgument(f"missing='drop' or 'error' is wanted, but got {missing!r}")
    if min_cells < 0:
        raise InvalidArgument(f"min_cells= of at least 0 is wanted, but got {min_cells}")


def _by_bulks(
    selection: Selection,
    comparison: Comparison,
    tested: Tested,
    *,
    replicate: str,
    min_cells: int,
    limit: int,
) -> "tuple[pd.DataFrame, dict[str, Any]]":
    bulks = sum_bulks(selection, comparison, tested.choice, replicate, limit=limit)
    # Every design first: what cannot be compared is told before minutes of fitting.
    designs = {
        name: choose_design(bulks, comparison, name, replicate=replicate, min_cells=min_cells)
        for name in comparison.groups
    }
    tables: list[pd.DataFrame] = []
    facts: dict[str, dict[str, Any]] = {}
    notes = _left_out(designs, comparison, replicate)
    for name, design in designs.items():
        table, told = run_bulks(bulks, comparison, name, design)
        n = (len(design.group), len(design.reference))
        empty = empty_values(table, name)
        tables.append(_named(table, tested.choice, comparison, name, n, shown=tested.shown))
        notes += told
        own = comparison.sides(name)[0]
        facts[name] = {
            "design": design.formula,
            "smallest_p": design.smallest_p,
            "cells": {bulks.replicates[r]: int(bulks.cells[r, own].sum()) for r in design.group},
            "left_out": [*design.few, *design.unmatched],
            **empty,
        }
    first = next(iter(facts.values()))
    return _joined(tables), {
        "replicate": replicate,
        "design": first["design"],
        "smallest_p": min(one["smallest_p"] for one in facts.values()),
        "groups": facts,
        "caveats": list(dict.fromkeys(notes)),
    }


def _left_out(designs: dict[str, Design], comparison: Comparison, replicate: str) -> list[str]:
    """Tell which replicates do not take part, as one is no two independent ones."""
    notes = [
        f"{name} against {comparison.against}: some replicates of {replicate!r} have both sides, "
        f"others one; compared are {'complete pairs' if design.paired else 'those of one side'}, "
        f"without {', '.join(design.unmatched)}"
        for name, design in designs.items()
        if design.unmatched
    ]
    if notes:
        tell("; ".join(notes), UnmatchedReplicatesWarning)
    return notes


def _by_ranks(
    selection: Selection, comparison: Comparison, choice: "GeneChoice", limit: int
) -> "tuple[pd.DataFrame, dict[str, Any]]":
    tell(CAVEAT, CellsAsReplicatesWarning)
    ranked = rank_cells(selection, comparison, choice, limit=limit)
    tables = [_named(table, choice, comparison, name, n) for name, (table, n) in ranked.items()]
    return _joined(tables), {"caveats": [CAVEAT], "replicate": "cell"}


def _named(
    table: "pd.DataFrame",
    choice: "GeneChoice",
    comparison: Comparison,
    group: str,
    n: tuple[int, int],
    *,
    shown: "NDArray[np.int64] | None" = None,
) -> "pd.DataFrame":
    symbol = np.where(choice.symbol == "", choice.name, choice.symbol)
    table.insert(0, "group", group)
    table.insert(1, "reference", comparison.against)
    table.insert(2, "gene", symbol)
    table.insert(3, "gene_id", choice.gene_id)
    table["n_group"], table["n_reference"] = n
    if shown is not None:
        table = table.iloc[np.sort(shown)]
    order = np.argsort(-np.abs(table["stat"].fillna(0.0).to_numpy()), kind="stable")
    return table.iloc[order]


def _joined(tables: "list[pd.DataFrame]") -> "pd.DataFrame":
    import pandas as pd

    return pd.concat(tables, ignore_index=True)
