"""Which sections and tiles may hold answers: pure, from the catalog, tight boxes and statistics."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..filters.cell_ids import bound_by_name
from ..filters.columns import Column, section_value
from ..filters.gene_columns import bound_by_entry, why_missing
from ..filters.leaf import (
    answer_scalar,
    bound_by_histogram,
    bound_by_range,
    missing_everywhere,
)
from ..filters.predicate import Bounds, Leaf, Null, Predicate, bound
from ..geometry.places import Place
from .plan import SectionPlan

if TYPE_CHECKING:
    from ...atlas.quadtree import TileTable
    from ...atlas.snapshot import DerivedEntry, SectionEntry


def bound_section(
    predicate: Predicate,
    columns: Mapping[str, Column],
    entry: "SectionEntry",
    domains: Mapping[str, "DerivedEntry"],
) -> Bounds:
    """Bounds, as arrays of length 1, on a predicate over a whole section.

    Parameters
    ----------
    predicate
        What is asked.
    columns
        Its columns by the names it uses.
    entry
        The section's catalog entry.
    domains
        Catalog entry of each domain key the section has labels of, and of each annotation under
        `annotations:<key>`.
    """

    def leaf_bounds(leaf: Leaf) -> Bounds:
        return bound_leaf_by_catalog(leaf, columns[leaf.column], entry, domains)

    return bound(predicate, leaf_bounds, 1)


def bound_leaf_by_catalog(
    leaf: Leaf, column: Column, entry: "SectionEntry", domains: Mapping[str, "DerivedEntry"]
) -> Bounds:
    """Bounds, as arrays of length 1, on one test over a whole section."""
    if column.source == "meta":
        value = section_value(entry.section, entry.metadata, column.key)
        return Bounds.exactly(answer_scalar(leaf, value, column.order))
    if column.source == "cell":
        return bound_by_name(leaf, entry.section)
    if column.source == "gene":
        return bound_by_entry(leaf, column, entry)
    if column.source == "domains":
        if column.key not in domains:
            return Bounds.exactly(missing_everywhere(leaf, 1))
        return _bound_by_values(leaf, domains[column.key].info.get("categories"))
    if column.source == "confidence":
        if column.key in domains:
            return Bounds.unknown(1)
        return Bounds.exactly(missing_everywhere(leaf, 1))
    if column.source == "annotations":
        added = domains.get(f"annotations:{column.key}")
        info = None if added is None else added.info
    else:
        info = entry.columns.get(column.key)
    if info is None:
        return Bounds.exactly(missing_everywhere(leaf, 1))
    low, high = info.get("min"), info.get("max")
    if info["kind"] == "numeric" and low is not None and high is not None:
        if isinstance(leaf, Null):
            return Bounds.unknown(1)
        # How many are missing is not in the catalog: one of two stands for "some, not all".
        return bound_by_range(
            leaf, np.array([low], float), np.array([high], float), np.array([1]), np.array([2])
        )
    return _bound_by_values(leaf, info.get("categories"), column.order)


def _bound_by_values(leaf: Leaf, values: object, order: tuple[str, ...] | None = None) -> Bounds:
    if not isinstance(values, list | tuple) or isinstance(leaf, Null):
        return Bounds.unknown(1)
    counts = np.ones((1, len(values)), np.int64)
    return bound_by_histogram(leaf, tuple(values), counts, np.array([len(values) + 1]), order)


def plan_section(
    section: str,
    tiles: "TileTable",
    place: Place | None,
    bounds: Bounds,
) -> SectionPlan:
    """Choose the tiles that may hold answers.

    Parameters
    ----------
    section
        Name of the section.
    tiles
        Row pointer (T + 1,) and tight box (T, 4) of its tiles.
    place
        Where the cells must lie; None is everywhere.
    bounds
        On the predicate, for each tile (T,).

    Returns
    -------
    SectionPlan
        A tile is left out only if its box misses the place or no cell of it can satisfy the
        predicate; it is taken untested only if its box lies in the place, and likewise for the
        predicate.
    """
    ptr, n_tiles = tiles.ptr, len(tiles)
    touched, inside = np.ones(n_tiles, bool), np.ones(n_tiles, bool)
    if place is not None:
        touched, inside = place.cover(tiles.bounds)
    kept = np.flatnonzero(touched & bounds.can_yes & (ptr[1:] > ptr[:-1]))
    return SectionPlan(
        section=section,
        n_tiles=n_tiles,
        start=ptr[:-1][kept],
        stop=ptr[1:][kept],
        test_place=~inside[kept],
        test_obs=~bounds.all_yes[kept],
    )


def bound_tiles(
    predicate: Predicate, leaf_bounds: Callable[[Leaf], Bounds], section: Bounds, n_tiles: int
) -> Bounds:
    """Bounds on a predicate for each tile of a section.

    Statistics of tiles are asked for only where the section's own bounds leave it open.
    """
    if section.all_yes[0] or not section.can_yes[0]:
        return Bounds(*(np.repeat(part, n_tiles) for part in _parts(section)))
    return bound(predicate, leaf_bounds, n_tiles)


def why_missing_genes(columns: Mapping[str, Column], entry: "SectionEntry") -> str | None:
    """Tell which gene of a filter a section has no values of, and why; None where it has all."""
    genes = (column for column in columns.values() if column.source == "gene")
    return next(filter(None, (why_missing(column, entry) for column in genes)), None)


def ruled_out_by_genes(
    predicate: Predicate,
    known: Mapping[Leaf, Bounds],
    columns: Mapping[str, Column],
    n_tiles: int,
) -> int:
    """Count the tiles that tests on genes alone rule out, whatever else is asked."""

    def genes_only(leaf: Leaf) -> Bounds:
        bounds = known.get(leaf) if columns[leaf.column].source == "gene" else None
        return Bounds.unknown(n_tiles) if bounds is None else bounds

    if not any(columns[leaf.column].source == "gene" for leaf in known):
        return 0
    return int((~bound(predicate, genes_only, n_tiles).can_yes).sum())


def _parts(bounds: Bounds) -> tuple[NDArray[np.bool_], ...]:
    return bounds.can_yes, bounds.can_no, bounds.all_yes, bounds.all_no
