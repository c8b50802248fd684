"""Reading one section: metadata once, then only the chunks that the asked rows or genes need."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .collected import refuse_collected
from .errors import ColumnNotFound, Corrupt, FormatUnsupported, InvalidArgument, MissingKey, near
from .quadtree import Runs, TileTable, merge_runs
from .section_apart import ApartCounts, read_apart
from .section_arrays import ArrayLayout, RowArray
from .section_facts import SectionFacts
from .section_frames import column_frame, column_statistics
from .section_genes import first_entries, read_peaks, read_statistics, read_tiles
from .section_index import SectionIndex
from .section_matrix import SparseArrays
from .section_write import SECTION_FORMAT
from .statistics import GenePeaks, GeneStatistics, GeneTotals, ObsStatistics

if TYPE_CHECKING:
    import pandas as pd
    import zarr
    from numpy.typing import NDArray
    from scipy import sparse

    from .panel import Panel
    from .points_read import StoredPoints
    from .quality.section import SectionQuality
    from .snapshot import SectionEntry
    from .storage import Storage

__all__ = ["Section"]

_X = "tables/table/X"
_POSITIONS = "tables/table/obsm/spatial"
_INDEX_BYTES = 16 * 2**20  # the index of a section with thousands of obs columns is below this


class Section(SectionFacts):
    """One committed section: lazy, safe to read from several threads, small to pickle.

    Rows are in Morton order; tile t is rows `tiles.ptr[t]:tiles.ptr[t + 1]`. Metadata, the tile
    table and shard indexes are read on first use and kept; numbers are never kept.

    Parameters
    ----------
    storage : Storage
        Root of the atlas.
    entry : SectionEntry
        The section's line in the snapshot.
    """

    def __init__(self, storage: Storage, entry: SectionEntry) -> None:
        super().__init__(entry)
        self._storage = storage
        self._arrays: dict[str, RowArray] = {}

    def __reduce__(self) -> tuple[type[Section], tuple[Storage, SectionEntry]]:
        return type(self), (self._storage, self._entry)

    def __repr__(self) -> str:
        return f"Section({self.name!r}, {self.n_obs:,} cells x {self.n_vars:,} genes)"

    @cached_property
    def panel(self) -> Panel:
        """The section's genes, in the order of the matrix columns."""
        from .panel_file import read_panel

        return read_panel(self._storage, self._entry.panel, self.n_vars)

    # -- what the section's own index knows --------------------------------------------------

    def _attributes(self) -> Mapping[str, Any]:
        key = f"{self._entry.prefix}/tisseract/zarr.json"
        try:
            node = json.loads(self._storage.get(key, max_bytes=_INDEX_BYTES))
            attributes: dict[str, Any] = dict(node["attributes"])
            form = attributes["format"]
        except MissingKey as error:
            refuse_collected(self._storage, key)
            raise self._corrupt(f"its index {key} is missing") from error
        except (ValueError, KeyError, TypeError) as error:
            raise self._corrupt(f"its index {key} is not readable") from error
        if form != SECTION_FORMAT:
            raise FormatUnsupported(
                f"section {self.name!r} must have layout {SECTION_FORMAT}, but got {form!r}; "
                "read it with a newer tisseract"
            )
        return attributes

    @cached_property
    def _index(self) -> SectionIndex:
        attributes = self._attributes()
        try:
            return SectionIndex.of(attributes, self._entry)
        except Corrupt as error:
            raise self._corrupt(str(error)) from error

    @cached_property
    def group(self) -> zarr.Group:
        """Root Zarr group, read-only; a missing chunk raises instead of reading as zeros."""
        from .strict import open_strict

        return open_strict(self._storage, self._entry.prefix)

    @cached_property
    def tiles(self) -> TileTable:
        """Tiles: rows and tight boxes; their quadtree squares are `tile_squares`."""
        ptr = self._array("tisseract/tiles/ptr").read()
        if ptr[0] != 0 or ptr[-1] != self.n_obs or (np.diff(ptr) <= 0).any():
            raise self._corrupt("its tiles do not divide its rows")
        return TileTable(ptr, self._array("tisseract/tiles/bounds").read())

    def tile_squares(self) -> NDArray[np.float64]:
        """(T, 4) squares of the quadtree leaves, in the units of the positions."""
        code, level = (self._array(f"tisseract/tiles/{part}").read() for part in ("code", "level"))
        return replace(self.tiles, code=code, level=level, frame=self._index.frame).squares()

    @cached_property
    def blocks(self) -> TileTable:
        """Blocks of 256 rows with their tight boxes (rounded outwards to float32).

        Finer than tiles: what a region should read is `blocks.runs(blocks.intersecting(…))`.
        """
        step = self._array(_POSITIONS).layout.chunk
        ptr = np.append(np.arange(0, self.n_obs, step, dtype=np.int64), self.n_obs)
        return TileTable(ptr, self._array("tisseract/blocks/bounds").read().astype(np.float64))

    @property
    def block_rows(self) -> int:
        """Rows of each of the `blocks` but the last."""
        return self._array(_POSITIONS).layout.chunk

    def block_bounds(self, runs: Runs) -> NDArray[np.float64]:
        """Read the boxes of some of the `blocks`, (m, 4), given as runs of block numbers.

        Nothing is kept: for work that goes through a section piece by piece.
        """
        return self._array("tisseract/blocks/bounds").read(runs).astype(np.float64)

    @property
    def obs_columns(self) -> Mapping[str, Mapping[str, Any]]:
        """Obs columns by name: kind, dtype, extremes or categories, missing values."""
        return self._index.columns

    @cached_property
    def points(self) -> Mapping[str, StoredPoints]:
        """Points elements by name: the transcripts, where the source had them."""
        from .points_read import StoredPoints

        place = self._storage, self._entry.prefix, f"of section {self.name!r}"
        return {n: StoredPoints(*place, i, self._array) for n, i in self._index.points.items()}

    @property
    def elements(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the elements under `images`, `labels` and `shapes` (beside the cells)."""
        return self._index.elements

    # -- rows --------------------------------------------------------------------------------

    def positions(self, runs: Runs | None = None) -> NDArray[np.float64]:
        """(m, 2) x, y of some rows in micrometers (source units where the scale is unknown)."""
        return self._array(_POSITIONS).read(runs)

    def source_rows(self, runs: Runs | None = None) -> NDArray[np.int64]:
        """(m,) row numbers in the source file."""
        return self._array("tisseract/source_row").read(runs)

    def depth(self, runs: Runs | None = None) -> NDArray[np.float64]:
        """(m,) sum of stored values of each cell over all genes."""
        return self._array("tisseract/depth").read(runs)

    def counts(
        self, runs: Runs | None = None, genes: NDArray[np.integer] | None = None
    ) -> sparse.csr_matrix:
        """Read stored values of some rows, and some genes, as float32.

        Parameters
        ----------
        runs : row runs, optional
            All rows without.
        genes : (g,) int, optional
            Columns of the result, in that order; all genes without.

        Returns
        -------
        (m, g) csr_matrix of float32
            Memory: 8 bytes an entry read, and as much again while genes are picked.

        Raises
        ------
        Corrupt
            A chunk is missing or damaged, or pointers do not ascend.
        """
        rows = [(0, self.n_obs)] if runs is None else merge_runs(runs)
        arrays = self._sparse(_X, (self.n_obs, self.n_vars))
        matrix = arrays.rows(rows)
        return matrix if genes is None else matrix[:, np.asarray(genes)]

    def count_arrays(self) -> tuple[RowArray, RowArray, RowArray]:
        """Values, columns and row pointers as they are stored, for readers that keep chunks."""
        data, indices, indptr = (self._array(f"{_X}/{n}") for n in ("data", "indices", "indptr"))
        return data, indices, indptr

    def counts_bytes(self) -> int:
        """Bytes that reading all rows of the matrix fetches, as the indexes of its shards say."""
        parts = ("data", "indices", "indptr")
        return sum(self._array(f"{_X}/{part}").compressed_bytes() for part in parts)

    @property
    def apart_names(self) -> tuple[str, ...]:
        """Tables of features that are no genes (control probes, proteins), by name."""
        return tuple(self._index.apart)

    def apart(self, name: str, runs: Runs | None = None) -> ApartCounts:
        """Read (some) rows of one of `apart_names`: (m, k) float32 counts, names, feature types.

        Memory: 8 bytes an entry.

        Raises
        ------
        ColumnNotFound
            No such table; names those there are.
        Corrupt
            A chunk is missing or damaged, or pointers do not ascend.
        """
        rows = [(0, self.n_obs)] if runs is None else merge_runs(runs)
        tables = self._index.apart
        return read_apart(tables, name, rows, self.name, self._array, self._corrupt)

    def _sparse(self, path: str, shape: tuple[int, int]) -> SparseArrays:
        return SparseArrays(self._array, path, shape, self._entry.nnz, self._corrupt)

    def cell_ids(self, runs: Runs | None = None) -> NDArray[np.object_]:
        """(m,) cell ids as the source gave them."""
        return self._array("tables/table/obs/_index").read(runs)

    def obs(
        self,
        runs: Runs | None = None,
        columns: Sequence[str] | None = None,
        *,
        index: bool = True,
        qualified: bool = False,
    ) -> pd.DataFrame:
        """Obs columns of some rows.

        Parameters
        ----------
        runs : row runs, optional
            All rows without.
        columns : sequence of str, optional
            All columns without.
        index : bool
            Whether to read cell ids as the index; otherwise rows are numbered from 0.
        qualified : bool
            Whether ids are written `{section}:{id}`, unique over an atlas.

        Raises
        ------
        ColumnNotFound
            No such column; names near ones.
        """
        import pandas as pd

        names = list(self.obs_columns) if columns is None else list(columns)
        series = {name: self._column(name, runs) for name in names}
        labels: Any = None
        if index:
            labels = self.cell_ids(runs)
            if qualified:
                labels = np.char.add(f"{self.name}:", labels.astype(str)).astype(object)
        else:
            rows = [(0, self.n_obs)] if runs is None else runs
            labels = range(sum(stop - start for start, stop in rows))
        return pd.DataFrame(series, index=pd.Index(labels, name=None), columns=names)

    def _column(self, name: str, runs: Runs | None) -> Any:
        info = self._column_info(name)
        return column_frame(info, self._array, self.layouts, runs)

    def _column_info(self, name: str) -> Mapping[str, Any]:
        try:
            return self.obs_columns[name]
        except KeyError:
            raise ColumnNotFound(
                f"section {self.name!r} must have an obs column {name!r}, but has none."
                f"{near(name, self.obs_columns)}"
            ) from None

    # -- genes -------------------------------------------------------------------------------

    def gene_columns(self, genes: NDArray[np.integer] | Sequence[int]) -> sparse.csc_matrix:
        """Read stored values of some genes over all cells, as float32, from the by-gene order.

        Returns
        -------
        (n_obs, g) csc_matrix of float32
            Memory: 8 bytes an entry of these genes.
        """
        wanted = np.asarray(genes, np.int64)
        self._check_genes(wanted)
        unique, back = np.unique(wanted, return_inverse=True)
        matrix = self._sparse("tisseract/by_gene", (self.n_vars, self.n_obs)).columns(unique)
        return matrix if np.array_equal(unique, wanted) else matrix[:, back]

    def _check_genes(self, genes: NDArray[np.int64]) -> None:
        if genes.size and not 0 <= int(genes.min()) <= int(genes.max()) < self.n_vars:
            raise InvalidArgument(
                f"gene numbers must lie in 0..{self.n_vars - 1}, "
                f"but got {int(genes.min())}..{int(genes.max())}"
            )

    # -- statistics --------------------------------------------------------------------------

    def gene_statistics(self, genes: NDArray[np.integer] | Sequence[int]) -> GeneStatistics:
        """Per tile sums, non-zero counts and maxima of some genes."""
        wanted = np.asarray(genes, np.int64)
        self._check_genes(wanted)
        return read_statistics(self._array, wanted)

    def gene_peaks(self, gene: int) -> GenePeaks:
        """Per tile non-zero counts and maxima of one gene: what a test on it is pruned by."""
        self._check_genes(np.array([gene]))
        return read_peaks(self._array, gene)

    def gene_values(self, gene: int, tiles: Runs, peaks: GenePeaks) -> NDArray[np.float32]:
        """Read one gene over the cells of some tiles, (m,) stored values, zeros included.

        Reads only the stretch of the gene's entries that lies in these tiles (runs of their
        numbers), from the by-gene order: `peaks` tell where it begins.
        """
        ends = first_entries(self._array, gene, peaks, self._corrupt)
        return read_tiles(self._array, tiles, self.tiles.ptr, ends, self._corrupt)

    def obs_statistics(self, column: str) -> ObsStatistics:
        """Per tile extremes, histogram and missing values of an obs column."""
        info, named = self._column_info(column), self.categories(column)
        return column_statistics(info, self._array, self.layouts, self.n_tiles, named)

    def categories(self, column: str) -> tuple[str, ...] | None:
        """Categories of a categorical column, `False` and `True` of a boolean one, else None."""
        info = self._column_info(column)
        if info["kind"] == "boolean":
            return ("False", "True")
        if info["kind"] != "categorical":
            return None
        if "categories" in info:
            return tuple(info["categories"])
        return tuple(self._array(f"{info['path']}/categories").read().tolist())

    @cached_property
    def qc(self) -> SectionQuality:
        """Quality of the section (`.section`) and of its tiles (`.tiles`); see `docs/qc.md`."""
        from .quality.section import section_quality

        return section_quality(self, self._array, self._index.qc)

    @cached_property
    def totals(self) -> GeneTotals:
        """Per gene: sum, cells above zero, maximum, sum of log-normalized values."""
        parts = ("gene_sum", "gene_nnz", "gene_max", "gene_log_sum")
        return GeneTotals(*(self._array(f"tisseract/totals/{part}").read() for part in parts))

    # -- arrays ------------------------------------------------------------------------------

    @property
    def layouts(self) -> Mapping[str, ArrayLayout]:
        """Shape, type and grid of every array, by path."""
        return self._index.layouts

    def _array(self, path: str) -> RowArray:
        known = self._arrays.get(path)
        if known is not None:
            return known
        try:
            layout = self.layouts[path]
        except KeyError:
            raise self._corrupt(f"its index does not list {path}") from None
        where = f"section {self.name!r}, array {path}"
        array = RowArray(self._storage, f"{self._entry.prefix}/{path}", layout, where)
        # Two threads may make the same view at once; either will do, and one is kept.
        return self._arrays.setdefault(path, array)

    def _corrupt(self, why: str) -> Corrupt:
        return Corrupt(
            f"section {self.name!r} cannot be read, {why}; run `tisseract verify` and ingest it "
            "again"
        )
