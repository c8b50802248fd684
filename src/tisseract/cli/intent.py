"""What a command on models would work with: checked and told before anything is computed."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from .errors import UsageError
from .output import Output

if TYPE_CHECKING:
    from ..handle import Atlas

__all__ = [
    "N_NEIGHS",
    "fitting_genes",
    "graph_words",
    "needs_torch",
    "print_intent",
    "refuse_existing",
    "refuse_no_cells",
    "tell_unused",
]

N_NEIGHS = 6  # of a graph that is made on the way
_USUAL_GENES = 2000  # what models choose where sections share more
_TRAINING = ("torch", "torch_geometric")


def needs_torch(what: str, *, dry_run: bool = False) -> None:
    """Refuse what cannot be done here; a dry run reads no network.

    Raises
    ------
    UsageError
    """
    lacking = [name for name in _TRAINING if importlib.util.find_spec(name) is None]
    if lacking and not dry_run:
        raise UsageError(f"{what} needs {', '.join(lacking)}: pip install 'tisseract[ml]'")


def refuse_existing(what: str, key: str, existing: Collection[str]) -> None:
    """Refuse a name that is taken.

    Raises
    ------
    UsageError
    """
    if key in existing:
        raise UsageError(
            f"a new name is wanted, but got {key!r}, which names {what} of this atlas; pass "
            "--overwrite to replace it, or another --key-added"
        )


def fitting_genes(atlas: Atlas, sections: Sequence[str], graph: str | None, output: Output) -> int:
    """Count the genes that all sections share, and warn where they hardly fit together.

    Raises
    ------
    InvalidArgument
        If they share too few to work with.
    NotInAtlas, StaleDerived
        If a section or its graph is not there.
    """
    from ..models.genes.plan import common_genes

    for name in sections if graph is not None else ():
        atlas.derived("graph", str(graph), name)
    opened = [atlas.section(name) for name in sections]
    if not opened:
        raise UsageError("sections to work on are wanted, but the atlas has none; ingest some")
    shared = len(common_genes(opened)[1])
    holds: dict[str, list[str]] = {}
    for section in opened:
        holds.setdefault(section.values, []).append(section.name)
    if len(holds) > 1:
        listed = "; ".join(f"{values}: {', '.join(names[:3])}" for values, names in holds.items())
        output.note(
            f"warning: the sections hold different values ({listed}); domains may follow them "
            "instead of the tissue: choose sections of one kind with --section"
        )
    most = max(section.n_vars for section in opened)
    wanted = min(_USUAL_GENES, most)
    if 2 * shared < wanted:
        output.note(
            f"warning: the sections share only {shared} genes, of up to {most:,} in one"
            f"{f', where {wanted:,} are wanted' if wanted < most else ''}; domains rest on these "
            "alone: choose sections of one panel with --section"
        )
    return shared


def graph_words(key: str | None, n_neighs: int) -> str:
    """Name a graph in a table.

    Examples
    --------
    >>> graph_words(None, 6)
    '6 nearest, on the way'
    """
    return key or f"{n_neighs} nearest, on the way"


def refuse_no_cells(
    atlas: Atlas, where: str | None, sections: Sequence[str], *, named: bool
) -> None:
    """Refuse a filter as the work itself would: a dry run does not come that far.

    Parameters
    ----------
    atlas, where, sections
        The cells asked for.
    named : bool
        Whether the sections were: then each of them must have such cells, else one is enough.

    Raises
    ------
    QuerySyntax, ColumnNotFound, InvalidArgument
    """
    from ..query.exports.graph_cells import graph_masks

    if where is not None and sections:
        graph_masks(atlas, where, sections, named=named)


def tell_unused(output: Output, asked: int | None, graph: str | None, n_neighs: int) -> None:
    """Say that --n-neighs changes nothing where the graph is given."""
    if asked is not None and (graph is not None or asked != n_neighs):
        used = (
            f"the {n_neighs} neighbors of the run are"
            if graph is None
            else (f"the stored graph {graph!r} is")
        )
        output.note(f"note: --n-neighs {asked} is not used: {used}")


def print_intent(
    output: Output, atlas: Atlas, sections: Sequence[str], graph: str, shared: int | None
) -> None:
    """Print one line a section."""
    rows = [
        {
            "section": name,
            "n_obs": atlas.section(name).n_obs,
            "values": atlas.section(name).values,
            "shared_genes": shared,
            "graph": graph,
        }
        for name in sections
    ]
    output.rows(rows, ["section", "n_obs", "values", "shared_genes", "graph"])
