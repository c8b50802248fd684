"""Reads what a plan asks for: the cells that answer, their columns, positions and counts."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..filters.cell_ids import read_names
from ..filters.columns import Column, section_value
from ..filters.gene_columns import read_gene
from ..filters.leaf import answer_scalar, answer_values, missing_everywhere
from ..filters.predicate import Leaf, Predicate, Truth, evaluate
from ..geometry.places import Place
from ..geometry.touching import rows_in, settle
from .plan import SectionPlan
from .rows import RunArray, as_runs, coalesce, count, pairs_of, rows_of, runs_of, within

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

# Tiles tested at a time: some 260,000 cells, a few tens of MB of positions and columns.
_TILES_AT_ONCE = 64
# Rows apart at which two runs share chunks anyway: fewer pieces, nothing more to read.
GAP_ROWS = 16
# A place of at most so many cells has the positions of all of them read at once, and kept for
# the answer: 1 MB each.
SMALL_ROWS = 65_536
_RECENT_PLACES = 8
_LABEL_GAP_ROWS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What cells are tested for."""

    predicate: Predicate
    """What each must satisfy."""
    columns: Mapping[str, Column]
    """Columns of the predicate by the names it uses."""
    place: Place | None
    """Where it must lie."""


def find_rows(store: "AtlasStore", section: "Section", plan: SectionPlan, asked: Asked) -> RunArray:
    """Find the rows of a section that answer, as runs.

    Positions are read only of tiles on the edge of the place, columns of the predicate only of
    tiles that statistics left open. Memory: one batch of tiles, and 16 bytes a run.
    """
    if plan.exact:
        return coalesce(np.stack([plan.start, plan.stop], axis=1))
    place = asked.place
    states, small = None, False
    if place is not None and plan.test_place.any():
        settle(place)
        states = place.cover(section.blocks.bounds)
        small = int(states[0].sum()) * section.block_rows <= SMALL_ROWS
    found: list[RunArray] = []
    points: list[NDArray[np.float64]] = []
    for low in range(0, len(plan.start), _TILES_AT_ONCE):
        part = slice(low, low + _TILES_AT_ONCE)
        runs = np.stack([plan.start[part], plan.stop[part]], axis=1)
        lengths = runs[:, 1] - runs[:, 0]
        keep = np.ones(int(lengths.sum()), bool)
        if place is not None and states is not None and plan.test_place[part].any():
            if small:
                keep, near = _test_small_place(section, rows_of(runs), place, states)
                points.append(near)
            else:
                edge = np.repeat(plan.test_place[part], lengths)
                keep[edge] = _test_place(section, rows_of(runs)[edge], place, states)
        if plan.test_obs[part].any():
            # Tiles of which the place has kept nothing need not be read.
            alive = np.add.reduceat(keep, np.cumsum(lengths) - lengths) > 0
            keep &= _test_obs(
                store, section, runs, test_obs=plan.test_obs[part], alive=alive, asked=asked
            )
        # As runs at once: rows of a large answer are 8 bytes each.
        found.append(runs_of(rows_of(runs)[keep]))
        if len(points) == len(found):
            points[-1] = points[-1][keep]
    answer = coalesce(np.concatenate(found)) if found else as_runs([])
    if found and len(points) == len(found):
        _RECENT.put(section, answer, np.concatenate(points))
    return answer


def _test_place(
    section: "Section",
    rows: NDArray[np.int64],
    place: Place,
    states: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> NDArray[np.bool_]:
    """Whether each row lies in the place; positions are read only of blocks on its edge."""
    touched, inside = states
    block = section.blocks.owner(rows)
    keep = inside[block]
    edge = touched[block] & ~keep
    if edge.any():
        keep[edge] = rows_in(section, pairs_of(runs_of(rows[edge])), place)
    return keep


def _test_small_place(
    section: "Section",
    rows: NDArray[np.int64],
    place: Place,
    states: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether each row lies in the place, and the positions of those that may: read once."""
    touched, inside = (part[section.blocks.owner(rows)] for part in states)
    points = np.full((len(rows), 2), np.nan)
    if touched.any():
        points[touched] = section.positions(pairs_of(runs_of(rows[touched])))
    keep, edge = inside.copy(), touched & ~inside
    if edge.any():
        keep[edge] = rows_in(section, pairs_of(runs_of(rows[edge])), place, points[edge])
    return keep, points


def _test_obs(
    store: "AtlasStore",
    section: "Section",
    runs: RunArray,
    *,
    test_obs: NDArray[np.bool_],
    alive: NDArray[np.bool_],
    asked: Asked,
) -> NDArray[np.bool_]:
    lengths = runs[:, 1] - runs[:, 0]
    tiles = test_obs & alive
    answer = np.repeat(~test_obs, lengths)
    if tiles.any():
        truth = ask(store, section, coalesce(runs[tiles]), asked)
        answer[np.repeat(tiles, lengths)] = truth.yes
    return answer


def ask(store: "AtlasStore", section: "Section", runs: RunArray, asked: Asked) -> Truth:
    """Answer a predicate for every cell of some rows, reading only the columns it names."""
    n = count(runs)
    read: dict[str, pd.Series] = {}

    def answer(leaf: Leaf) -> Truth:
        column = asked.columns[leaf.column]
        if column.source == "meta":
            value = section_value(section.name, section.metadata, column.key)
            one = answer_scalar(leaf, value, column.order)
            return Truth(np.repeat(one.yes, n), np.repeat(one.no, n))
        if column.name not in read:
            values = read_column(store, section, runs, column)
            if values is None:
                return missing_everywhere(leaf, n)
            read[column.name] = values
        return answer_values(leaf, read[column.name], column.order)

    return evaluate(asked.predicate, answer, n)


def read_column(
    store: "AtlasStore", section: "Section", runs: RunArray, column: Column
) -> "pd.Series | None":
    """One column of some rows, None where the section lacks it.

    Section metadata comes as a constant, domain labels as categories.
    """
    import pandas as pd

    n = count(runs)
    if column.source == "meta":
        value = section_value(section.name, section.metadata, column.key)
        if value is None:
            return None
        if isinstance(value, str):
            return pd.Series(pd.Categorical.from_codes(np.zeros(n, np.int8), pd.Index([value])))
        return pd.Series(np.repeat(np.asarray(value), n))
    if column.source == "cell":
        return read_names(section, runs)
    if column.source == "gene":
        return read_gene(section, runs, column)
    if column.source == "domains":
        if section.name not in store.derived_keys("domains").get(column.key, ()):
            return None
        return read_labels(store, section.name, column.key, runs)
    if column.source == "confidence":
        if section.name not in store.derived_keys("domains").get(column.key, ()):
            return None
        return read_confidence(store, section.name, column.key, runs)
    if column.source == "annotations":
        if section.name not in store.derived_keys("annotation").get(column.key, ()):
            return None
        return read_annotation(store, section.name, column.key, runs)
    if column.key not in section.entry.columns:
        return None
    return section.obs(pairs_of(runs), columns=[column.key], index=False)[column.key]


def read_labels(store: "AtlasStore", section: str, key: str, runs: RunArray) -> "pd.Series":
    """Domain labels of some rows as categories; memory two bytes a row."""
    import pandas as pd

    from ...atlas.derived_read import read_domains

    # A label costs two bytes: whole chunks are read rather than many short runs.
    wide = coalesce(runs, _LABEL_GAP_ROWS)
    read = read_domains(store, key, section, pairs_of(wide))
    codes = read.codes if len(wide) == len(runs) else read.codes[within(rows_of(runs), wide)]
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(list(read.categories))))


def read_annotation(store: "AtlasStore", section: str, key: str, runs: RunArray) -> "pd.Series":
    """Values that a user added to some rows, in their own kind."""
    import pandas as pd

    from ...atlas.annotations import open_annotation

    return pd.Series(open_annotation(store, key, section).read(pairs_of(runs)))


def read_confidence(store: "AtlasStore", section: str, key: str, runs: RunArray) -> "pd.Series":
    """How sure the domain labels of some rows are, float32; NaN where there is no label."""
    import pandas as pd

    from ...atlas.derived_read import read_domains

    found = read_domains(store, key, section, pairs_of(runs))
    return pd.Series(np.where(found.codes < 0, np.float32(np.nan), found.confidence))


def read_counts(
    section: "Section", runs: RunArray, genes: NDArray[np.int64] | None
) -> "sp.csr_array":
    """Read counts of some rows, (m, g) float32, by the cheaper of the two access orders.

    Parameters
    ----------
    section
        The section.
    runs
        Its rows.
    genes
        Columns of its matrix, in the order wanted; None is all.

    Notes
    -----
    Few genes of many cells are read gene by gene, else the rows are read; a gene costs its
    whole vector, so the non-zero values of the genes are weighed against those of the cells.
    """
    import scipy.sparse as sp

    n = count(runs)
    if genes is not None and n and by_gene(section, n, genes):
        matrix = sp.csr_array(section.gene_columns(genes))
        return matrix if n == section.n_obs else sp.csr_array(matrix[rows_of(runs)])
    wide = coalesce(runs, GAP_ROWS)
    matrix = sp.csr_array(section.counts(pairs_of(wide), genes=genes))
    return matrix if len(wide) == len(runs) else sp.csr_array(matrix[within(rows_of(runs), wide)])


def by_gene(section: "Section", n: int, genes: NDArray[np.int64]) -> bool:
    """Whether counts of some genes of `n` cells are read gene by gene, as that is less."""
    whole = section.entry.nnz * n / section.n_obs
    return len(genes) < section.n_vars and float(section.totals.nnz[genes].sum()) < whole


@dataclass(frozen=True, slots=True)
class _Recent:
    """Positions of the last few small places: who asks for cells asks for them next."""

    kept: "OrderedDict[tuple[str, bytes], NDArray[np.float64]]"

    def put(self, section: "Section", runs: RunArray, points: NDArray[np.float64]) -> None:
        self.kept[section.attempt, runs.tobytes()] = points
        while len(self.kept) > _RECENT_PLACES:
            # Another thread may have taken the oldest in between.
            self.kept.pop(next(iter(self.kept)), None)

    def get(self, section: "Section", runs: RunArray) -> NDArray[np.float64] | None:
        found = self.kept.get((section.attempt, runs.tobytes()))
        return None if found is None else found.copy()


_RECENT = _Recent(OrderedDict())


def read_positions(section: "Section", runs: RunArray) -> NDArray[np.float64]:
    """Positions of some rows, (m, 2) float64."""
    if (known := _RECENT.get(section, runs)) is not None:
        return known
    wide = coalesce(runs, GAP_ROWS)
    points = section.positions(pairs_of(wide))
    return points if len(wide) == len(runs) else points[within(rows_of(runs), wide)]


def read_ids(section: "Section", runs: RunArray) -> NDArray[np.object_]:
    """Cell ids of some rows, (m,) str."""
    return np.asarray(section.cell_ids(pairs_of(runs)), dtype=object)
