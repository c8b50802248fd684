"""Every cell of an atlas in memory, read by anndata alone, and questions answered over them.

Nothing of the query layer is used: tables come from `anndata.io.read_zarr` of each section's
table, places are tested by numpy and shapely, filters by three-valued logic over whole columns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import anndata
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from tisseract.atlas.derived_read import read_domains
from tisseract.atlas.store import AtlasStore

type Bools = NDArray[np.bool_]
type Kleene = tuple[Bools, Bools]
"""Cells for which something is true, and those for which it is false; neither is unknown."""


@dataclass(frozen=True)
class Cells:
    """All cells of an atlas, in the documented order."""

    store: AtlasStore
    table: pd.DataFrame
    """(n,) `section`, `x`, `y`; index `{section}:{cell id}`."""
    tables: dict[str, anndata.AnnData]
    """The table of each section, whole."""

    @classmethod
    def of(cls, store: AtlasStore) -> "Cells":
        tables, frames = {}, []
        for name in store.section_names:
            root = store.storage.local_path(store.section(name).entry.prefix)
            assert root is not None
            table = anndata.io.read_zarr(root / "tables" / "table")
            assert isinstance(table, anndata.AnnData)
            spatial = np.asarray(table.obsm["spatial"])
            tables[name] = table
            frames.append(
                pd.DataFrame(
                    {"section": name, "x": spatial[:, 0], "y": spatial[:, 1]},
                    index=[f"{name}:{cell}" for cell in table.obs_names],
                )
            )
        return cls(store, pd.concat(frames), tables)

    @cached_property
    def rows(self) -> dict[str, slice]:
        """Rows of each section."""
        ends = np.cumsum([table.n_obs for table in self.tables.values()])
        starts = [0, *ends[:-1]]
        return {n: slice(a, b) for n, a, b in zip(self.tables, starts, ends, strict=True)}

    @cached_property
    def section(self) -> NDArray[np.object_]:
        """Section of each cell."""
        return self.table["section"].to_numpy(dtype=object)

    def column(self, source: str, key: str) -> NDArray[np.object_]:
        """One value a cell, None where it is missing."""
        found = np.full(len(self.table), None, dtype=object)
        for name, rows in self.rows.items():
            if source == "meta":
                found[rows] = self.store.section(name).metadata.get(key)
            elif source == "domains":
                if f"domains/{key}/{name}" in self.store.snapshot.derived:
                    read = read_domains(self.store, key, name)
                    names = np.array([*read.categories, None], dtype=object)
                    found[rows] = names[read.codes]
            elif key in self.tables[name].obs:
                series = self.tables[name].obs[key].astype(object)
                found[rows] = np.asarray(series.where(series.notna(), None), dtype=object)
        return found

    def gene(self, gene: str, unit: str) -> NDArray[np.object_]:
        """Counts or log1p of a gene of each cell, None where its section did not measure it."""
        found = np.full(len(self.table), None, dtype=object)
        for name, rows in self.rows.items():
            table = self.tables[name]
            section = self.store.section(name)
            here = np.flatnonzero(_named(table, gene))
            if not len(here) or section.values not in _UNITS[unit] or self._unseen(name, here[0]):
                continue
            matrix = cast("Any", table.X).tocsr().astype(np.float64)
            vector = matrix[:, [int(here[0])]].toarray().ravel()
            if unit == "log1p" and section.values in ("counts", "expected"):
                depth = np.asarray(matrix.sum(axis=1)).ravel()
                scale = np.divide(1e4, depth, out=np.zeros_like(depth), where=depth > 0)
                vector = np.log1p(vector * scale)
            elif unit == "log1p" and section.values == "normalized":
                vector = np.log1p(vector)
            found[rows] = vector.astype(np.float32).astype(object)
        return found

    def _unseen(self, name: str, column: int) -> bool:
        """Whether a padded panel lists the gene and no cell of the section has it."""
        if not self.store.section(name).panel.zero_padded:
            return False
        return not cast("Any", self.tables[name].X).tocsc()[:, [column]].nnz

    def inside(self, place: dict[str, Any]) -> Bools:
        """Whether each cell lies in a box, circle or polygon, edges included."""
        x, y = self.table["x"].to_numpy(), self.table["y"].to_numpy()
        if "bbox" in place:
            x0, y0, x1, y1 = place["bbox"]
            return np.asarray((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1))
        if "circle" in place:
            cx, cy, radius = place["circle"]
            return np.asarray((x - cx) * (x - cx) + (y - cy) * (y - cy) <= radius * radius)
        return np.asarray(shapely.intersects_xy(place["polygon"], x, y))


_UNITS = {"counts": ("counts",), "log1p": ("counts", "expected", "normalized", "log1p")}


def _named(table: anndata.AnnData, gene: str) -> Bools:
    """Genes whose name, identifier or symbol is the one asked for."""
    spelled = [table.var_names, table.var["gene_id"], table.var["symbol"]]
    equal = [np.asarray(names, dtype=object) == gene for names in spelled]
    return np.asarray(np.logical_or.reduce(equal), dtype=bool)


@dataclass(frozen=True)
class Values:
    """A column: each distinct value once, and which of them each cell has (-1 is missing)."""

    distinct: NDArray[np.object_]
    codes: NDArray[np.int64]

    @classmethod
    def of(cls, column: NDArray[np.object_]) -> "Values":
        codes, distinct = pd.factorize(column)
        return cls(np.asarray(distinct, dtype=object), np.asarray(codes, np.int64))

    @property
    def missing(self) -> Bools:
        """Cells without a value."""
        return self.codes < 0

    def at(self, rows: NDArray[np.intp]) -> NDArray[np.object_]:
        """Values of some cells, None where missing."""
        known: list[object] = [*self.distinct, None]
        return np.array(known, dtype=object)[self.codes[rows]]

    def ask(self, test: Callable[[NDArray[np.object_]], Any]) -> Kleene:
        """Test every value that is there."""
        holds = np.append(np.asarray(test(self.distinct), dtype=bool), False)
        yes = holds[self.codes]
        return yes, ~self.missing & ~yes


def both(parts: list[Kleene]) -> Kleene:
    """Conjunction: false where one part is, true where all are."""
    return np.logical_and.reduce([p[0] for p in parts]), np.logical_or.reduce([p[1] for p in parts])


def either(parts: list[Kleene]) -> Kleene:
    """Disjunction: true where one part is, false where all are."""
    return np.logical_or.reduce([p[0] for p in parts]), np.logical_and.reduce([p[1] for p in parts])
