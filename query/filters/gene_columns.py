"""Genes as columns of a filter: `counts:Sox2 > 3`, `log1p:Sox2 > 1.5`.

`counts` are the stored counts of a cell. `log1p` is log1p of the counts scaled to 10,000 a cell
(over its whole panel), as `normalize="log1p"` hands it out: log1p of what is stored where a
section holds normalized values, and what is stored where it holds logarithms. Where a section has
not measured the gene, or holds values that the unit does not fit, the value is missing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import GeneAmbiguous, UnitUnknown
from ...atlas.gene_names import is_accession
from ..telling import tell
from .leaf import bound_by_range, missing_everywhere
from .predicate import Bounds, Leaf, Null, bound

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.section import Section
    from ...atlas.snapshot import SectionEntry
    from ...atlas.statistics import GenePeaks
    from ...atlas.store import AtlasStore
    from ..cells.rows import RunArray
    from ..cells.selection import Selection
    from .columns import Column

# What a section must hold for a value of the gene in a unit.
UNITS = {
    "counts": frozenset({"counts"}),
    "log1p": frozenset({"counts", "expected", "normalized", "log1p"}),
}
_SCALE = 1e4
# A cell of a single gene: the largest value of the logarithm, rounded up beyond float32.
_LARGEST_LOG = float(np.log1p(_SCALE)) * (1 + 1e-6)


def gene_places(
    store: "AtlasStore", name: str
) -> tuple[tuple[tuple[str, int, bool], ...], frozenset[str]]:
    """Where a gene stands in each panel that lists it: digest, matrix column, zero-padded.

    Reads each distinct panel once. The second are digests of panels that may list it under an
    identifier that the atlas does not know; none where the identifier is known, as then every
    panel was searched for it.

    Raises
    ------
    GeneNotFound, GeneAmbiguous
        No section has such a gene, or the name fits several.
    """
    from ..expression.apart import telling_apart
    from ..expression.choice import find_rows, gene_union, has_symbols

    sections = store.section_names
    union = gene_union(store, sections)
    with telling_apart(store, sections, name):
        rows = list(find_rows(union, name))
    identified = is_accession(str(union.gene_id[rows[0]]))
    panels = {store.snapshot.sections[section].panel: section for section in reversed(sections)}
    found, nameless = [], set()
    for digest, section in panels.items():
        column = int(union.columns(digest)[rows].max())
        if column >= 0:
            found.append((digest, column, store.section(section).panel.zero_padded))
        elif not identified and not has_symbols(store, section):
            nameless.add(digest)
    return tuple(found), frozenset(nameless)


def refuse_bare_gene(store: "AtlasStore", name: str) -> None:
    """Raise where a name that is no column is a gene, whose unit is not said.

    Raises
    ------
    UnitUnknown
        The message teaches both spellings.
    """
    from ..expression.choice import gene_union

    try:
        known = bool(gene_union(store, store.section_names).candidates(name))
    except GeneAmbiguous:
        known = True
    if known:
        raise UnitUnknown(
            f"a column of sections or cells is wanted, but got the gene {name!r} without a unit; "
            f"write counts:{name} for its counts, or log1p:{name} for log1p of counts per 10,000"
        )


def why_missing(column: "Column", entry: "SectionEntry") -> str | None:
    """Tell why no cell of a section has a value of a gene, None where cells may have one."""
    if entry.panel in column.nameless:
        return f"{column.name} may be measured under an identifier, which has no symbol"
    if not any(digest == entry.panel for digest, *_ in column.places):
        return f"{column.name} is not measured"
    if entry.values not in UNITS[column.unit]:
        return f"{column.name} is unknown, the section holds {entry.values} values"
    return None


def warn_unfit(selection: "Selection") -> None:
    """Warn of sections left out that may well have cells that express a gene of the filter.

    They hold values that do not fit its unit (`MixedValuesWarning`), or list identifiers without
    symbols where the gene is known by symbol alone (`UnmeasuredWarning`).
    """
    from ..expression.choice import UnmeasuredWarning, no_symbols
    from ..expression.mixture import MixedValuesWarning

    genes = [column for column in selection.tested if column.source == "gene"]
    if not genes:
        return
    entries = selection.store.snapshot.sections
    kept = set(selection.sections)
    asked = {n: entry for n, entry in entries.items() if _left_otherwise(selection, entry)}
    for column in genes:
        listing = {digest for digest, *_ in column.places}
        nameless = [name for name, entry in asked.items() if entry.panel in column.nameless]
        if nameless:
            tell(
                f"{column.name} is missing where it may be measured: {no_symbols(nameless)}",
                UnmeasuredWarning,
            )
        unfit = [
            f"{name} ({entry.values})"
            for name, entry in asked.items()
            if name not in kept
            and entry.panel in listing
            and entry.values not in UNITS[column.unit]
        ]
        if unfit:
            tell(
                f"{column.name} is missing in {len(unfit):,} sections that hold other values: "
                f"{', '.join(unfit[:3])}{' ...' if len(unfit) > 3 else ''}; "
                "log1p: also fits normalized and log1p values",
                MixedValuesWarning,
            )


def _left_otherwise(selection: "Selection", entry: "SectionEntry") -> bool:
    """Whether a section might answer, whatever its cells have of the genes; from the catalog."""
    from ..cells.pruning import bound_leaf_by_catalog

    columns = {column.name: column for column in selection.tested}

    def leaf_bounds(leaf: Leaf) -> Bounds:
        column = columns[leaf.column]
        if column.source in ("meta", "cell", "obs"):
            return bound_leaf_by_catalog(leaf, column, entry, {})
        return Bounds.unknown(1)

    return bool(bound(selection.question.predicate, leaf_bounds, 1).can_yes[0])


def bound_by_entry(leaf: Leaf, column: "Column", entry: "SectionEntry") -> Bounds:
    """Bounds, as arrays of length 1, on a test on a gene over a whole section."""
    if why_missing(column, entry) is not None:
        return Bounds.exactly(missing_everywhere(leaf, 1))
    padded = _place(column, entry)[1]
    if isinstance(leaf, Null) and not padded:
        none = np.zeros(1, bool)
        return Bounds(none, ~none, none, ~none)
    return Bounds.unknown(1)


def bound_by_tiles(leaf: Leaf, column: "Column", section: "Section") -> Bounds:
    """Bounds on a test on a gene for each tile: from its maxima and its non-zero counts.

    Reads one chunk of two arrays. Logarithms of counts are bounded by zero where a tile has none.
    """
    entry = section.entry
    peaks = None if why_missing(column, entry) else _peaks(section, column)
    if peaks is None:
        one = missing_everywhere(leaf, 1)
        spread = np.repeat(one.yes, section.n_tiles)
        return Bounds(spread, np.zeros_like(spread), spread, np.zeros_like(spread))
    n_rows = np.diff(section.tiles.ptr)
    whole = entry.values == "counts" and column.unit == "counts"
    low = np.where(whole & (peaks.nnz == n_rows), 1.0, 0.0)
    high = peaks.largest
    if column.unit == "log1p" and entry.values in ("counts", "expected"):
        high = np.where(peaks.largest > 0, _LARGEST_LOG, 0.0)
    elif column.unit == "log1p" and entry.values == "normalized":
        high = np.log1p(peaks.largest) * (1 + 1e-6)
    return bound_by_range(leaf, low, high, np.zeros_like(n_rows), n_rows)


def read_gene(section: "Section", runs: "RunArray", column: "Column") -> "pd.Series | None":
    """Values of a gene in some rows, float32; None where the section has none.

    Reads the stretch of the gene's own vector that lies in the tiles of these rows: never more
    than the rows of the matrix would take. Memory: 8 bytes for each row of these tiles.
    """
    import pandas as pd

    from ..cells.rows import pairs_of, rows_of, within

    peaks = None if why_missing(column, section.entry) else _peaks(section, column)
    if peaks is None:
        return None
    tiles, covered = _tiles_of(section.tiles.ptr, runs)
    values = section.gene_values(_place(column, section.entry)[0], tiles, peaks)
    values = values[within(rows_of(runs), covered)]
    if column.unit == "log1p" and section.values in ("counts", "expected"):
        depth = section.depth(pairs_of(runs))
        scale = np.divide(_SCALE, depth, out=np.zeros_like(depth), where=depth > 0)
        values = np.log1p(values * scale).astype(np.float32)
    elif column.unit == "log1p" and section.values == "normalized":
        values = np.log1p(values)
    return pd.Series(values)


def _tiles_of(
    ptr: NDArray[np.int64], runs: "RunArray"
) -> tuple[Sequence[tuple[int, int]], "RunArray"]:
    """Tiles that hold some rows, as runs of their numbers and as runs of rows."""
    from ..cells.rows import coalesce, pairs_of

    tiles = np.stack(
        [
            np.searchsorted(ptr, runs[:, 0], side="right") - 1,
            np.searchsorted(ptr, runs[:, 1], side="left"),
        ],
        axis=1,
    )
    # Two runs may begin and end in one tile.
    tiles[1:, 0] = np.maximum(tiles[1:, 0], tiles[:-1, 1])
    tiles = coalesce(tiles[tiles[:, 0] < tiles[:, 1]])
    return pairs_of(tiles), ptr[tiles]


def _place(column: "Column", entry: "SectionEntry") -> tuple[int, bool]:
    return next((place, padded) for digest, place, padded in column.places if digest == entry.panel)


def _peaks(section: "Section", column: "Column") -> "GenePeaks | None":
    """Peaks of a gene; None where an all-zero gene of a padded panel was not measured."""
    place, padded = _place(column, section.entry)
    peaks = section.gene_peaks(place)
    return None if padded and not peaks.nnz.any() else peaks
