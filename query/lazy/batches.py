"""A selection a few cells at a time, or a section at a time."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from ...atlas.errors import InvalidArgument
from ...atlas.memory import parse_bytes, refuse_above
from ..cells.selection import Selection
from ..filters.predicate import Compare, conjunction
from .blocks import groups

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp
    from anndata import AnnData

    from ..expression.choice import Missing

__all__ = ["batches", "map_sections"]

type Form = Literal["anndata", "csr"]
_FORMS = ("anndata", "csr")

# Memory of a batch whose size is left open: enough for whole chunks, little beside an answer.
_BATCH_BYTES = 256 * 2**20
_FIXED_BYTES = 64 * 2**20


def batches(
    selection: Selection,
    size: int | None = None,
    *,
    form: Form = "anndata",
    normalize: str | None = None,
    missing: "Missing | None" = None,
    memory_limit: str | int | None = None,
) -> "Iterator[AnnData | tuple[sp.csr_matrix, pd.DataFrame]]":
    """Iterate over the cells of a selection, reading a batch when it is asked for.

    Parameters
    ----------
    selection
        What to read, in its order; a batch may hold cells of several sections.
    size
        Cells of a batch; the last one may have fewer. Default: as many as fit the memory.
    form
        `anndata`, or `csr`: `X` and `obs` of it.
    normalize, missing
        As for `to_anndata`.
    memory_limit
        Refuse where a batch of `size` cells is estimated above this; default half of free memory,
        at most 2 GiB. Without `size`, a batch takes this much, at most 256 MiB.

    Raises
    ------
    BudgetExceeded
        `size` cells do not fit.
    InvalidArgument
        A size that is not positive, or a form that is not known.
    """
    if form not in _FORMS:
        raise InvalidArgument(f"form='anndata' or 'csr' is wanted, but got {form!r}")
    if size is not None and (size < 1):
        raise InvalidArgument(f"at least one cell in a batch is wanted, but got size={size!r}")
    limit = parse_bytes(memory_limit)
    row_bytes = _row_bytes(selection) * (2 if normalize else 1)
    if size is None:
        size = max(1, int((min(limit, _BATCH_BYTES) - _FIXED_BYTES / 2) / row_bytes))
    refuse_above(
        limit,
        round(size * row_bytes) + _FIXED_BYTES // 2,
        f"batches of {size:,} cells x {selection.n_vars:,} genes",
        "leave size out, or give fewer cells, or give a larger memory_limit",
    )
    kept = selection.measured() if missing == "drop_sections" else selection
    for rows in groups(kept, size):
        found: Any = kept.holding(rows).to_anndata(
            normalize=normalize, missing=missing, memory_limit=limit
        )
        yield found if form == "anndata" else (found.X, found.obs)


def _row_bytes(selection: Selection) -> float:
    """Memory that a cell takes as an answer, as the plan estimates it."""
    plan = selection.plan
    return max(64.0, (plan.peak_bytes - _FIXED_BYTES) / max(plan.n_obs_bound, 1))


def map_sections[R](selection: Selection, function: Callable[[Selection], R]) -> dict[str, R]:
    """Apply a function to the part of a selection that lies in each section, one by one.

    Parameters
    ----------
    selection
        What to go through.
    function
        Gets a `Selection` of one section, not read yet; its genes are those of that section
        unless they were named.

    Returns
    -------
    dict
        Result by section, in catalog order, for sections that have cells in the answer.
    """
    results: dict[str, R] = {}
    for name in selection.sections:
        question = selection.question
        only = conjunction([question.predicate, Compare("section", "==", name)])
        part = Selection(selection.store, replace(question, predicate=only))
        if selection.found:
            known = selection.runs
            part = part.holding({name: known[name]} if name in known else {})
        if part.n_obs:
            results[name] = function(part)
    return results
