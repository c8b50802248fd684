"""Features of cells by node, whatever section they lie in: genes, embeddings, scores.

All of them read pages of rows and keep some; what is asked for comes as a dense float32 table.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...atlas.derived_read import read_embedding
from ...atlas.errors import InvalidArgument
from ..genes.plan import TREATMENTS, FeaturePlan, SectionColumns, locate_genes, normalized
from ..genes.plan import plan_features as _plan_features
from ..rows.file import RowFile
from ..rows.page_grid import PageGrid
from ..rows.page_kernels import densify_rows
from ..rows.pages import PAGE_ROWS, DensePages, NextUse, RaggedPages, RaggedRows, Runs, held_bytes
from ..rows.sparse import Csr, as_csr, selector
from .node_space import NodeSpace

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

__all__ = [
    "EmbeddingFeatures",
    "GeneFeatures",
    "NodeFeatures",
    "ScoreFeatures",
    "open_features",
    "plan_genes",
]

CACHE_BYTES = 2**28
_FETCH_PAGES = 4  # pages do not follow the chunks of a matrix: the more, the fewer read twice
_AHEAD_PAGES = 32  # read together where everything will be held
EMBEDDING = "embedding/"
ALL_GENES = 2**31


class NodeFeatures(Protocol):
    """Rows of float32 by node."""

    @property
    def width(self) -> int:
        """Columns."""
        ...

    def take(self, nodes: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the rows of some nodes, in their order, (m, width) float32."""
        ...


class GeneFeatures:
    """Expression of the genes of a plan.

    Parameters
    ----------
    space : NodeSpace
    sections : sequence of Section
        In the order of the space.
    plan : FeaturePlan
        Genes; the same for every section. A gene that a section lacks reads as zeros.
    raw : bool
        Values as they are stored, without normalization.
    cache_bytes : int
        Rows to keep in memory, sparse: 3 bytes an entry of small counts, 6 of others.
    future : NextUse, optional
        Knows which rows will be wanted.

    Raises
    ------
    InvalidArgument
        A section has too few of the genes.
    """

    def __init__(
        self,
        space: NodeSpace,
        sections: Sequence["Section"],
        plan: FeaturePlan,
        *,
        raw: bool = False,
        cache_bytes: int = CACHE_BYTES,
        future: NextUse | None = None,
    ) -> None:
        self.space, self.sections, self.plan = space, tuple(sections), plan
        self.raw, self.cache_bytes, self.future = raw, cache_bytes, future
        self._readers = [_GeneReader(section, plan, raw=raw) for section in sections]
        self._types = entry_types(sections, plan.n_genes, raw=raw)
        columns, values = self._types
        self._pages = RaggedPages(
            PageGrid.of(space, PAGE_ROWS),
            self._read,
            cache_bytes,
            columns=columns,
            values=values,
            fetch_pages=_pages_together(cache_bytes, self.full_bytes, future),
            future=future,
        )
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.space, self.sections, self.plan, self.raw, self.cache_bytes, self.future)
        return _remake_genes, arguments

    @property
    def full_bytes(self) -> int:
        """What `cache_bytes` would have to be to hold everything, at most."""
        n_entries = sum(section.entry.nnz for section in self.sections)
        entry_bytes = sum(kind.itemsize for kind in self._types)
        return held_bytes(self.space.n_nodes, n_entries, entry_bytes)

    @property
    def width(self) -> int:
        """Genes."""
        return self.plan.n_genes

    @property
    def rows_read(self) -> int:
        """Rows read so far, those read again included."""
        return self._pages.rows_read

    def take(self, nodes: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return expression of some nodes, (m, genes) float32."""
        pages = self._pages
        wanted = np.asarray(nodes, dtype=np.int64)
        out = np.zeros((len(wanted), self.width), dtype=np.float32)
        with self._lock:
            for which, place in pages.resident(pages.grid.place(wanted)):
                part = out if which is None else np.zeros((len(which), self.width), np.float32)
                densify_rows(place.page, place.row, pages.held, part)
                if which is not None:
                    out[which] = part
        return out

    def _read(self, section: int, runs: Runs) -> RaggedRows:
        rows = self._readers[section].rows(runs)
        columns, values = self._types
        return RaggedRows(
            rows.indptr,
            rows.indices.astype(columns, copy=False),
            rows.data.astype(values, copy=False),
        )


def _remake_genes(
    space: NodeSpace,
    sections: Sequence["Section"],
    plan: FeaturePlan,
    raw: bool,
    cache_bytes: int,
    future: NextUse | None,
) -> GeneFeatures:
    return GeneFeatures(space, sections, plan, raw=raw, cache_bytes=cache_bytes, future=future)


def entry_types(
    sections: Sequence["Section"], n_genes: int, *, raw: bool
) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """Return the smallest number types that hold columns and values of what is read."""
    columns = np.dtype(np.uint16 if n_genes <= 2**16 else np.int32)
    values = np.dtype(np.float32)
    if raw:
        stored: Any = [section.group["tables/table/X/data"] for section in sections]
        found = np.result_type(*(array.dtype for array in stored))
        if found in (np.uint8, np.uint16):
            values = found
    return columns, values


def _pages_together(limit: int, everything: int, future: NextUse | None) -> int:
    """Return how many pages to read together."""
    if everything <= limit:
        return _AHEAD_PAGES
    return 1 if future is None else _FETCH_PAGES


class _GeneReader:
    """Reads the chosen genes of one section."""

    def __init__(self, section: "Section", plan: FeaturePlan, *, raw: bool) -> None:
        where = locate_genes(section, plan)
        if raw:
            where = SectionColumns(where.column, TREATMENTS["log1p"])
        self._section, self._where, self._depth = section, where, plan.target_depth
        present = np.flatnonzero(where.present)
        asked = where.column[present]
        ascending = np.argsort(asked, kind="stable")
        self._asked: NDArray[np.int64] | None = asked[ascending]
        back = np.full(len(plan.gene_id), -1, dtype=np.int64)
        back[present[ascending]] = np.arange(len(present))
        take = back[plan.chosen]
        have = np.flatnonzero(take >= 0)
        self._pick: Csr | None = selector(take[have], have, (len(present), plan.n_genes))
        # the plan of a single panel takes the matrix as it is
        if np.array_equal(asked[ascending], np.arange(section.n_vars)):
            self._asked = None
        if np.array_equal(take, np.arange(len(present))):
            self._pick = None

    def rows(self, runs: Runs) -> Csr:
        counts = self._section.counts(runs, genes=self._asked)
        ready = normalized(counts, self._where.treatment, self._depth)
        return ready if self._pick is None else as_csr(ready @ self._pick)


class EmbeddingFeatures:
    """A committed embedding of all sections, under one key.

    Parameters
    ----------
    store : AtlasStore
    space : NodeSpace
    key : str
    cache_bytes : int
        Rows to keep in memory.

    Raises
    ------
    DerivedNotFound, StaleDerived
        A section has none.
    InvalidArgument
        Sections of different widths.
    """

    def __init__(
        self,
        store: "AtlasStore",
        space: NodeSpace,
        key: str,
        *,
        cache_bytes: int = CACHE_BYTES,
        future: NextUse | None = None,
    ) -> None:
        self.store, self.space, self.key, self.cache_bytes = store, space, key, cache_bytes
        self.future = future
        widths = {
            name: read_embedding(store, key, name, [(0, 0)]).shape[1] for name in space.sections
        }
        if len(set(widths.values())) != 1:
            raise InvalidArgument(f"embeddings of one width are wanted, but got {widths}")
        self._width = int(next(iter(widths.values())))
        self._pages = DensePages(
            PageGrid.of(space, PAGE_ROWS),
            self._read,
            self._width,
            cache_bytes,
            fetch_pages=_pages_together(cache_bytes, self.full_bytes, future),
            future=future,
        )
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.store, self.space, self.key, self.cache_bytes, self.future)
        return _remake_embedding, arguments

    @property
    def full_bytes(self) -> int:
        """What `cache_bytes` would have to be to hold everything."""
        return 4 * self._width * (self.space.n_nodes + PAGE_ROWS * len(self.space.sections))

    @property
    def rows_read(self) -> int:
        """Rows read so far, those read again included."""
        return self._pages.rows_read

    @property
    def width(self) -> int:
        """Dimensions."""
        return self._width

    def take(self, nodes: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the embedding of some nodes, (m, width) float32."""
        pages = self._pages
        wanted = np.asarray(nodes, dtype=np.int64)
        out = np.empty((len(wanted), self._width), dtype=np.float32)
        with self._lock:
            for which, place in pages.resident(pages.grid.place(wanted)):
                rows = pages.values[pages.slot[place.page], place.row]
                out[slice(None) if which is None else which] = rows
        return out

    def _read(self, section: int, runs: Runs) -> NDArray[np.float32]:
        return read_embedding(self.store, self.key, self.space.sections[section], runs)


def _remake_embedding(
    store: "AtlasStore", space: NodeSpace, key: str, cache_bytes: int, future: NextUse | None
) -> EmbeddingFeatures:
    return EmbeddingFeatures(store, space, key, cache_bytes=cache_bytes, future=future)


class ScoreFeatures:
    """Scores in scratch files, as models make them on the way; not for spawned workers.

    Parameters
    ----------
    space : NodeSpace
    tables : sequence of RowFile
        One per section, of one width.
    """

    def __init__(self, space: NodeSpace, tables: Sequence[RowFile]) -> None:
        sizes, widths = tuple(t.n_rows for t in tables), {t.width for t in tables}
        if sizes != space.sizes or len(widths) != 1:
            raise InvalidArgument(
                f"tables of {space.sizes} rows and one width are wanted, but got {sizes} rows "
                f"and widths {sorted(widths)}"
            )
        self.space, self.tables, self._width = space, tuple(tables), widths.pop()

    @property
    def width(self) -> int:
        """Scores per cell."""
        return self._width

    def take(self, nodes: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the scores of some nodes, (m, width) float32."""
        section, row = self.space.locate(nodes)
        out = np.empty((len(row), self._width), dtype=np.float32)
        for number in np.unique(section).tolist():
            inside = np.flatnonzero(section == number)
            out[inside] = self.tables[number].take(row[inside])
        return out


def plan_genes(
    sections: Sequence["Section"],
    genes: Sequence[str] | None = None,
    *,
    n_top_genes: int = 2000,
) -> FeaturePlan:
    """Choose genes by name, or the most variable ones.

    Parameters
    ----------
    sections : sequence of Section
    genes : sequence of str, optional
        Ids or symbols, in the order of the columns.
    n_top_genes : int
        Genes kept, where none are named and more are shared.

    Returns
    -------
    FeaturePlan

    Raises
    ------
    InvalidArgument
        A gene that not every section measured, or that is named twice.
    """
    if genes is None:
        return _plan_features(sections, n_top_genes=n_top_genes)
    plan = _plan_features(sections, n_top_genes=ALL_GENES)
    number = {name: i for i, name in reversed(list(enumerate(plan.symbol))) if name}
    number.update({name: i for i, name in enumerate(plan.gene_id)})
    unknown = [name for name in genes if name not in number]
    chosen = [number[name] for name in genes if name in number]
    if unknown or not chosen or len(set(chosen)) != len(chosen):
        raise InvalidArgument(
            "genes that every section measured, each once, are wanted, but got "
            f"{', '.join(unknown[:10]) or list(genes)[:10]}; leave sections out with `sections=`"
        )
    return replace(plan, chosen=np.asarray(chosen, dtype=np.int64))


def open_features(
    store: "AtlasStore",
    space: NodeSpace,
    features: str = "normalized",
    *,
    genes: Sequence[str] | None = None,
    n_top_genes: int = 2000,
    cache_bytes: int = CACHE_BYTES,
) -> NodeFeatures:
    """Open features of an atlas by name.

    Parameters
    ----------
    store : AtlasStore
    space : NodeSpace
    features : str
        "normalized" or "raw" expression, or "embedding/<key>".
    genes, n_top_genes
        See `plan_genes`.
    cache_bytes : int
        Rows to keep in memory.

    Returns
    -------
    NodeFeatures

    Raises
    ------
    InvalidArgument
        An unknown name, or as `plan_genes` says.
    DerivedNotFound, StaleDerived
        A section has no such embedding.
    """
    if features.startswith(EMBEDDING):
        key = features.removeprefix(EMBEDDING)
        return EmbeddingFeatures(store, space, key, cache_bytes=cache_bytes)
    if features not in ("normalized", "raw"):
        raise InvalidArgument(
            f"features 'normalized', 'raw' or 'embedding/<key>' are wanted, but got {features!r}"
        )
    sections = [store.section(name) for name in space.sections]
    plan = plan_genes(sections, genes, n_top_genes=n_top_genes)
    return GeneFeatures(space, sections, plan, raw=features == "raw", cache_bytes=cache_bytes)
