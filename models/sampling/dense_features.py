"""Features of one width by node: embeddings of the atlas, scores in scratch files."""

import threading
import weakref
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.derived_read import read_embedding
from ...atlas.errors import InvalidArgument
from ..rows.file import RowFile
from ..rows.page_grid import PageGrid
from ..rows.pages import CACHE_BYTES, PAGE_ROWS, DensePages, NextUse, Runs, pages_together
from .node_space import NodeSpace

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["DenseFeatures", "EmbeddingFeatures", "ScoreFeatures"]


class DenseFeatures:
    """Rows of one width, by pages; those who inherit read them.

    Parameters
    ----------
    space : NodeSpace
    width : int
        Columns.
    cache_bytes : int
        Rows to keep in memory.
    future : NextUse, optional
        Knows which rows will be wanted.
    """

    def __init__(
        self, space: NodeSpace, width: int, cache_bytes: int, future: NextUse | None
    ) -> None:
        self.space, self._width = space, width
        self._lock = threading.Lock()
        self.hold(cache_bytes, future)

    def hold(self, cache_bytes: int, future: NextUse | None) -> None:
        """Forget what is in memory, and use so much of it from now on."""
        self.cache_bytes, self.future = cache_bytes, future
        self._pages = DensePages(
            PageGrid.of(self.space, PAGE_ROWS),
            self._read,
            self._width,
            cache_bytes,
            fetch_pages=pages_together(cache_bytes, self.full_bytes, future),
            future=future,
        )

    @property
    def width(self) -> int:
        """Columns."""
        return self._width

    @property
    def full_bytes(self) -> int:
        """What `cache_bytes` would have to be to hold everything."""
        pages = sum(-(-size // PAGE_ROWS) for size in self.space.sizes)
        return 4 * self._width * PAGE_ROWS * pages

    @property
    def rows_read(self) -> int:
        """Rows read so far, those read again included."""
        return self._pages.rows_read

    def take(self, nodes: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the rows of some nodes, (m, width) float32."""
        pages = self._pages
        wanted = np.asarray(nodes, dtype=np.int64)
        out = np.empty((len(wanted), self._width), dtype=np.float32)
        with self._lock:
            for which, place in pages.resident(pages.grid.place(wanted)):
                rows = pages.values[pages.slot[place.page], place.row]
                out[slice(None) if which is None else which] = rows
        return out

    def _read(self, section: int, runs: Runs) -> NDArray[np.float32]:
        """Read rows of a section."""
        raise NotImplementedError


class EmbeddingFeatures(DenseFeatures):
    """A committed embedding of all sections, under one key.

    Parameters
    ----------
    store : AtlasStore
    space : NodeSpace
    key : str
    cache_bytes, future
        As for `DenseFeatures`.

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
        self.store, self.key = store, key
        widths = {
            name: read_embedding(store, key, name, [(0, 0)]).shape[1] for name in space.sections
        }
        if len(set(widths.values())) != 1:
            raise InvalidArgument(f"embeddings of one width are wanted, but got {widths}")
        super().__init__(space, int(next(iter(widths.values()))), cache_bytes, future)

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.store, self.space, self.key, self.cache_bytes, self.future)
        return _remake_embedding, arguments

    def _read(self, section: int, runs: Runs) -> NDArray[np.float32]:
        return read_embedding(self.store, self.key, self.space.sections[section], runs)


def _remake_embedding(
    store: "AtlasStore", space: NodeSpace, key: str, cache_bytes: int, future: NextUse | None
) -> EmbeddingFeatures:
    return EmbeddingFeatures(store, space, key, cache_bytes=cache_bytes, future=future)


class ScoreFeatures(DenseFeatures):
    """Scores in scratch files, as models make them on the way; not for spawned workers.

    Parameters
    ----------
    space : NodeSpace
    tables : sequence of RowFile
        One per section, of one width.
    cache_bytes, future
        As for `DenseFeatures`.
    scratch : TemporaryDirectory, optional
        Folder of the tables, to be removed with this.
    """

    def __init__(
        self,
        space: NodeSpace,
        tables: Sequence[RowFile],
        *,
        cache_bytes: int = CACHE_BYTES,
        future: NextUse | None = None,
        scratch: "TemporaryDirectory[str] | None" = None,
    ) -> None:
        sizes, widths = tuple(t.n_rows for t in tables), {t.width for t in tables}
        if sizes != space.sizes or len(widths) != 1:
            raise InvalidArgument(
                f"tables of {space.sizes} rows and one width are wanted, but got {sizes} rows "
                f"and widths {sorted(widths)}"
            )
        self.tables = tuple(tables)
        super().__init__(space, widths.pop(), cache_bytes, future)
        if scratch is not None:
            weakref.finalize(self, _remove, self.tables, scratch)

    def __reduce__(self) -> tuple[Any, ...]:
        raise InvalidArgument(
            "features that travel to spawned workers are wanted, but got scores in scratch files; "
            "use num_workers=0 with threads, or commit the scores and read 'embedding/<key>'"
        )

    def _read(self, section: int, runs: Runs) -> NDArray[np.float32]:
        return np.concatenate([self.tables[section].read(start, stop) for start, stop in runs])


def _remove(tables: Sequence[RowFile], scratch: "TemporaryDirectory[str]") -> None:
    for table in tables:
        table.close()
    scratch.cleanup()
