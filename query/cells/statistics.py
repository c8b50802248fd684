"""Bounds on tests on columns for each tile, from the statistics written beside a section."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..filters.columns import Column, section_value
from ..filters.gene_columns import bound_by_tiles
from ..filters.leaf import answer_scalar, bound_by_histogram, bound_by_range, missing_everywhere
from ..filters.predicate import Bounds, Leaf, Null, Scalar, Truth

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ...atlas.statistics import ObsStatistics
    from ...atlas.store import AtlasStore

# Compressed bytes of a non-zero (value and gene) and of a cell beside its counts, as measured on
# imaging and spot sections; an estimate only, so that a plan need not open the matrix.
_NNZ_BYTES = 2.2
_CELL_BYTES = 40.0


def bytes_per_row(section: "Section") -> float:
    """Estimate of the compressed bytes of one cell: its counts, position, id and columns."""
    entry = section.entry
    return _NNZ_BYTES * entry.nnz / max(entry.n_obs, 1) + _CELL_BYTES + 2 * len(entry.columns)


def tile_bounds(store: "AtlasStore", section: "Section", leaf: Leaf, column: Column) -> Bounds:
    """Bounds on one test for each tile of a section.

    Reads the statistics of one column: some bytes a tile and value, never a cell.
    """
    n_tiles = section.n_tiles
    if column.source == "meta":
        value = section_value(section.name, section.metadata, column.key)
        return _everywhere(answer_scalar(leaf, value, column.order), n_tiles)
    if column.source == "cell":
        return Bounds.unknown(n_tiles)
    if column.source == "gene":
        return bound_by_tiles(leaf, column, section)
    if column.source == "domains":
        if section.name not in store.derived_keys("domains").get(column.key, ()):
            return _everywhere(missing_everywhere(leaf, 1), n_tiles)
        return _domain_bounds(store, section, leaf, column)
    if column.source == "confidence":
        return Bounds.unknown(n_tiles)
    if column.source == "annotations":
        if section.name not in store.derived_keys("annotation").get(column.key, ()):
            return _everywhere(missing_everywhere(leaf, 1), n_tiles)
        from ...atlas.annotations import open_annotation

        added = open_annotation(store, column.key, section.name).statistics()
        return _column_bounds(added, np.diff(section.tiles.ptr), leaf, column)
    if column.key not in section.entry.columns:
        return _everywhere(missing_everywhere(leaf, 1), n_tiles)
    found = section.obs_statistics(column.key)
    return _column_bounds(found, np.diff(section.tiles.ptr), leaf, column)


def _column_bounds(
    found: "ObsStatistics", n_rows: NDArray[np.int64], leaf: Leaf, column: Column
) -> Bounds:
    n_null = np.asarray(found.nulls, np.int64)
    if isinstance(leaf, Null):
        return Bounds(n_null > 0, n_null < n_rows, n_null == n_rows, n_null == 0)
    if found.low is not None and found.high is not None:
        return bound_by_range(leaf, found.low, found.high, n_null, n_rows)
    if found.histogram is not None and found.categories is not None:
        values: tuple[Scalar, ...] = found.categories
        if found.kind == "boolean":
            values = (False, True)
        counts = np.asarray(found.histogram, np.int64)
        return bound_by_histogram(leaf, values, counts, n_rows, column.order)
    return Bounds.unknown(len(n_rows))


def _domain_bounds(store: "AtlasStore", section: "Section", leaf: Leaf, column: Column) -> Bounds:
    from ...atlas.derived_read import read_tile_histogram

    counts, categories = read_tile_histogram(store, column.key, section.name)
    return bound_by_histogram(leaf, categories, counts, np.diff(section.tiles.ptr))


def _everywhere(truth: Truth, n_tiles: int) -> Bounds:
    return Bounds.exactly(Truth(np.repeat(truth.yes, n_tiles), np.repeat(truth.no, n_tiles)))
