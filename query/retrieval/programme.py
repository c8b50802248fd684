"""Where a gene programme runs: windows whose cells express some genes and not others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument, UnitUnknown
from ..cells.rows import RunArray, pairs_of, rows_of
from ..expression.choice import choose_genes
from ..expression.normalize import depth_of, log_normalize
from .arguments import numbers
from .cells import blocks, spacing, taking_part
from .hits import Hits, table_of, unit_of
from .parameters import Unit
from .scope import sections_asked
from .windows import Layout, WindowGrid, apart, occupied

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

_DIGITS = 6
_NAMED = 5


@dataclass(frozen=True, slots=True, eq=False)
class _Means:
    """Windows of one section."""

    section: str
    grid: WindowGrid
    windows: NDArray[np.int64]
    n_cells: NDArray[np.int64]
    values: NDArray[np.float64]
    """(w, g) mean log-normalized values."""


def programme(
    store: "AtlasStore",
    genes: Mapping[str, float],
    *,
    k: int = 20,
    where: str | None = None,
    size: float = 200.0,
    unit: Unit = "um",
    cells: str | None = None,
    all_cells: bool = False,
    min_cells: int = 3,
    max_overlap: float = 0.0,
) -> Hits:
    """Find the windows in which a gene programme is strongest.

    The score of a window is `sum(w_g * z_g) / sum(|w_g|)`, z_g being the mean over its cells of the
    log-normalized gene, standardized over the windows of all sections. Before that, the mean of n
    cells is drawn towards the mean of all windows, by n / (n + half the median number of cells of
    a window): few cells say little. No index is needed: each gene is read from the gene-major copy,
    one section at a time.

    Parameters
    ----------
    store
        The atlas.
    genes
        Weight of each gene, by identifier, symbol or alias.
    k, where, max_overlap
        As for `similar`.
    size, unit
        Side of the windows, in micrometers or in median distances of neighbors.
    cells, all_cells
        Which cells take part; default those that pass QC.
    min_cells
        Cells a window must hold.

    Returns
    -------
    Hits
        `notes` tells which sections were left out, as they have not measured a gene.

    Raises
    ------
    GeneNotFound, GeneAmbiguous
        A name that no section knows, or that fits several genes.
    UnitUnknown
        Micrometers of a section whose unit is unknown.
    InvalidArgument
        No gene, a weight that is no number, or no section that measured them all.

    Notes
    -----
    Memory: the non-zeros of the genes in one section, and a number a gene of every window.
    """
    weights = _weights(genes)
    asked = sections_asked(store, where)
    choice = choose_genes(store, asked, list(weights))
    kept = [name for name in asked if bool(choice.measured[name].all())]
    notes = _notes(asked, kept, choice.name, choice.measured)
    if not kept:
        raise InvalidArgument(
            f"sections that measured {', '.join(weights)} are wanted, but got none; {notes[0]}"
        )
    _check_unit(store, kept, unit)
    found = []
    for name in kept:
        section = store.section(name)
        side = size if unit == "um" else size * spacing(section)
        runs = taking_part(store, section, cells, all_cells=all_cells)
        grid = WindowGrid(section.bounds[0], section.bounds[1], side)
        found.append(_window_means(section, runs, choice.columns[name], grid, min_cells))
    # Two spellings of one gene are one gene, with the sum of their weights.
    weight = np.array([_weight_of(store, asked, name, weights) for name in choice.name.tolist()])
    scores = _scores(found, weight)
    return _ranked(
        store, found, scores, k=k, max_overlap=max_overlap, words=_words(weights), notes=notes
    )


def _weights(genes: Mapping[str, float]) -> dict[str, float]:
    weights = numbers(genes, "genes=", "{'Sox2': 1, 'Neurod1': -1}")
    bad = [name for name, weight in weights.items() if not np.isfinite(weight)]
    if not weights or bad or not any(weights.values()):
        raise InvalidArgument(
            "genes with weights, such as {'Sox2': 1, 'Neurod1': -1}, are wanted, but got "
            f"{dict(genes)!r}"
        )
    return weights


def _weight_of(
    store: "AtlasStore", sections: Sequence[str], name: str, weights: Mapping[str, float]
) -> float:
    if len(weights) == len(choose_genes(store, sections, list(weights))):
        return weights[name]
    own = choose_genes(store, sections, [name]).gene_id[0]
    same = [n for n in weights if choose_genes(store, sections, [n]).gene_id[0] == own]
    return sum(weights[n] for n in same)


def _words(weights: Mapping[str, float]) -> str:
    return "with " + ", ".join(f"{name} {weight:+g}" for name, weight in weights.items())


def _notes(
    asked: Sequence[str],
    kept: Sequence[str],
    names: NDArray[np.object_],
    measured: Mapping[str, NDArray[np.bool_]],
) -> tuple[str, ...]:
    lacking = [name for name in asked if name not in set(kept)]
    if not lacking:
        return ()
    told = [
        f"{name} ({', '.join(map(str, names[~measured[name]].tolist()[:_NAMED]))})"
        for name in lacking[:_NAMED]
    ]
    more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
    return (f"sections that have not measured a gene are left out: {', '.join(told)}{more}",)


def _check_unit(store: "AtlasStore", names: Sequence[str], unit: Unit) -> None:
    unknown = [n for n in names if store.snapshot.sections[n].um_per_unit is None]
    if unit == "um" and unknown:
        raise UnitUnknown(
            f"micrometers are wanted for window_um, but the unit of {', '.join(unknown[:5])} is "
            "unknown; give window_spacings=3, or leave these sections out with where="
        )


def _window_means(
    section: "Section",
    runs: RunArray,
    columns: NDArray[np.int64],
    grid: WindowGrid,
    least: int,
) -> _Means:
    import scipy.sparse as sp

    matrix = sp.csr_array(section.gene_columns(columns))
    code = occupied((section.positions(pairs_of(part)) for part in blocks(runs)), grid)
    layout = Layout.of(code)
    total, n = np.zeros((len(code), len(columns))), np.zeros(len(code))
    for part in blocks(runs):
        rows = sp.csr_array(matrix[rows_of(part)])
        if section.values != "composition":
            rows = log_normalize(rows, section.values, depth_of(section, part))
        at = layout.rows(grid.bins(section.positions(pairs_of(part))))
        n += np.bincount(at, minlength=len(code))
        gather = sp.csr_array(
            (np.ones(len(at)), (at, np.arange(len(at)))), shape=(len(code), len(at))
        )
        total += (gather @ rows.astype(np.float64)).toarray()
    n_cells = np.asarray(layout.pooling @ n)
    kept = np.flatnonzero(n_cells >= least)
    values = (layout.pooling[kept] @ total) / n_cells[kept, None]
    return _Means(section.name, grid, layout.windows[kept], n_cells[kept].astype(np.int64), values)


def _scores(parts: Sequence[_Means], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.concatenate([part.values for part in parts])
    if not len(values):
        return np.zeros(0)
    n = np.concatenate([part.n_cells for part in parts]).astype(np.float64)
    mean = values.mean(axis=0)
    # The mean of three cells at the rim of a tissue is mostly chance: without this, such windows
    # come first whatever is asked for.
    values = (values - mean) * (n / (n + np.median(n) / 2))[:, None]
    deviation = values.std(axis=0)
    flat = deviation <= 1e-12
    z = (values - values.mean(axis=0)) / np.where(flat, 1.0, deviation)
    z[:, flat] = 0.0
    return np.asarray(np.round(z @ weight / np.abs(weight).sum(), _DIGITS) + 0.0)


def _ranked(
    store: "AtlasStore",
    found: Sequence[_Means],
    scores: NDArray[np.float64],
    *,
    k: int,
    max_overlap: float,
    words: str,
    notes: tuple[str, ...],
) -> Hits:
    number = np.repeat(np.arange(len(found)), [len(part.windows) for part in found])
    windows = np.concatenate([part.windows for part in found])
    n_cells = np.concatenate([part.n_cells for part in found])
    chosen: list[int] = []
    for at in np.argsort(-scores, kind="stable").tolist():
        same = [c for c in chosen if number[c] == number[at]]
        if apart(windows[at : at + 1], windows[same], max_overlap)[0]:
            chosen.append(at)
        if len(chosen) == k:
            break
    kept = np.array(chosen, np.int64)
    names = [found[i].section for i in number[kept].tolist()]
    grids = {part.section: part.grid for part in found}
    table = table_of(names, scores[kept], n_cells[kept], windows[kept], grids)
    return Hits(table, store, words, unit_of(store, names), None, notes)
