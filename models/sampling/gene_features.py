"""Expression of chosen genes by node: sparse in memory, dense as it is handed out."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..genes.plan import TREATMENTS, FeaturePlan, GeneReader, SectionColumns, locate_genes
from ..genes.plan import plan_features as _plan_features
from ..rows.page_grid import PageGrid
from ..rows.page_kernels import densify_rows
from ..rows.pages import (
    CACHE_BYTES,
    PAGE_ROWS,
    NextUse,
    RaggedPages,
    RaggedRows,
    Runs,
    held_bytes,
    pages_together,
)
from .node_space import NodeSpace

if TYPE_CHECKING:
    from ...atlas.section import Section

__all__ = ["GeneFeatures", "plan_genes"]

ALL_GENES = 2**31


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
        self.raw = raw
        self._readers = [
            GeneReader(section, plan, _located(section, plan, raw=raw)) for section in sections
        ]
        self._types = _entry_types(sections, plan.n_genes, raw=raw)
        self._lock = threading.Lock()
        self.hold(cache_bytes, future)

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.space, self.sections, self.plan, self.raw, self.cache_bytes, self.future)
        return _remake_genes, arguments

    def hold(self, cache_bytes: int, future: NextUse | None) -> None:
        """Forget what is in memory, and use so much of it from now on."""
        self.cache_bytes, self.future = cache_bytes, future
        columns, values = self._types
        self._pages = RaggedPages(
            PageGrid.of(self.space, PAGE_ROWS),
            self._read,
            cache_bytes,
            columns=columns,
            values=values,
            fetch_pages=pages_together(cache_bytes, self.full_bytes, future),
            future=future,
            what="counts",
        )

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


def _remake_genes(  # noqa: PLR0917 - as pickled
    space: NodeSpace,
    sections: Sequence["Section"],
    plan: FeaturePlan,
    raw: bool,
    cache_bytes: int,
    future: NextUse | None,
) -> GeneFeatures:
    return GeneFeatures(space, sections, plan, raw=raw, cache_bytes=cache_bytes, future=future)


def _entry_types(
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


def _located(section: "Section", plan: FeaturePlan, *, raw: bool) -> SectionColumns:
    """Find the genes in a section; raw values are treated as if nothing were left to do."""
    where = locate_genes(section, plan)
    return SectionColumns(where.column, TREATMENTS["log1p"]) if raw else where


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
