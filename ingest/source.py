"""What a reader hands to the section writer: small values in memory, big ones behind protocols.

A reader fills one `RawSection`. Positions are an array; obs columns are read one at a time, the
counts block by block in source order, images and shapes on request. Nothing here is sorted,
converted or checked beyond shapes: `ingest.partition.write_section` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ..atlas.errors import Fault, InputError
from ..atlas.section_columns import (
    BooleanValues,
    CategoricalValues,
    ColumnKind,
    ColumnValues,
    NumericValues,
    StringValues,
)
from .read_memory import ReadMemory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..atlas.outlines import OutlinesSource
    from ..atlas.panel import Panel
    from ..atlas.points import PointsSource

__all__ = [
    "ApartFeatures",
    "ArrayColumn",
    "BooleanValues",
    "CategoricalValues",
    "ColumnKind",
    "ColumnValues",
    "CountsSource",
    "CsrBlock",
    "ImageSource",
    "MatrixCounts",
    "MatrixValues",
    "NumericValues",
    "ObsColumn",
    "Polygons",
    "RawSection",
    "RingPiece",
    "RingsSource",
    "StringValues",
    "as_int32",
]

_INT32_MAX = np.iinfo(np.int32).max

MatrixValues = Literal["counts", "expected", "normalized", "log1p", "composition"]
"""What the numbers of the matrix mean; none may be negative, `counts` must be whole."""


@dataclass(frozen=True, slots=True)
class CsrBlock:
    """Consecutive rows of the matrix in source order, in compressed sparse row form."""

    start_row: int
    """Source row of the block's first row."""
    indptr: NDArray[np.int64]
    """(rows + 1,) starting at 0."""
    indices: NDArray[np.int32]
    """(nnz,) columns; any order inside a row, duplicates are summed by nobody (refused)."""
    data: NDArray[np.generic]
    """(nnz,) numbers in the source's own dtype; explicit zeros allowed (dropped on writing)."""

    @property
    def n_rows(self) -> int:
        """Rows in the block."""
        return self.indptr.size - 1


def as_int32(indices: NDArray[Any]) -> NDArray[np.int32]:
    """Return indices as int32; what does not fit becomes -1, which the writer refuses."""
    if indices.dtype == np.int32:
        return indices
    if indices.dtype.itemsize >= 4 and indices.size and indices.max() > _INT32_MAX:
        indices = np.where(indices > _INT32_MAX, -1, indices.astype(np.int64))
    if indices.dtype.kind == "i" and indices.size and indices.min() < 0:
        indices = np.maximum(indices, -1)
    return indices.astype(np.int32)


class CountsSource(Protocol):
    """A cells x genes matrix that can be streamed once, in source order."""

    @property
    def n_obs(self) -> int:
        """Rows."""
        ...

    @property
    def n_vars(self) -> int:
        """Columns."""
        ...

    @property
    def nnz(self) -> int | None:
        """Stored entries when the source knows them without reading, else None."""
        ...

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Number type of the stored entries."""
        ...

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield all rows once, in order; what is held at any time stays within `budget_bytes`."""
        ...


class ObsColumn(Protocol):
    """One obs column, read only when its turn comes."""

    @property
    def kind(self) -> ColumnKind:
        """Which of the four kinds `read` returns."""
        ...

    def read(self) -> ColumnValues:
        """All rows of the column, in source order."""
        ...


class ImageSource(Protocol):
    """An image that writes itself into a section, never whole in memory."""

    @property
    def nbytes(self) -> int:
        """Uncompressed size in bytes of the full resolution."""
        ...

    def write(self, section: Path, name: str, *, coordinate_system: str, memory_limit: int) -> None:
        """Write `images/<name>` of the SpatialData container at `section` (see `atlas.images`)."""
        ...


@dataclass(frozen=True, slots=True)
class Polygons:
    """One outer ring per cell, in source units and source row order."""

    vertices: NDArray[np.float64]
    """(sum of ring lengths, 2) x, y; a ring need not repeat its first vertex."""
    offsets: NDArray[np.int64]
    """(n_obs + 1,) where each ring starts."""


@dataclass(frozen=True, slots=True)
class RingPiece:
    """Some rings as they lie in a file."""

    rows: NDArray[np.int64]
    """(k,) source row of the cell of each ring; -1 where it belongs to no cell of the section."""
    counts: NDArray[np.int64]
    """(k,) vertices of each ring."""
    vertices: NDArray[np.float64]
    """(counts.sum(), 2) x, y in source units."""
    n_further: int = 0
    """Other polygons of these cells, already left out for the largest of each; for the notes."""


@dataclass(frozen=True, slots=True)
class RingsSource:
    """Outer rings of cells, streamed in any order; cells without one get a small octagon."""

    pieces: Callable[[], Iterator[RingPiece]]
    """Yields the rings, some thousands at a time; called once for each writing."""
    n_vertices: int | None = None
    """Vertices of all rings, where that is known; sizes the scratch space."""
    notes: tuple[str, ...] = ()
    """What was left out or changed; goes into the provenance."""


@dataclass(frozen=True, slots=True)
class ApartFeatures:
    """Columns of the matrix that are no genes: control probes, blanks, proteins by intensity.

    They become a table of their own beside the genes, so that depth, gene queries and models never
    see them.
    """

    names: tuple[str, ...]
    """Names as given."""
    feature_types: tuple[str, ...]
    """What each is, in the vendor's words."""
    columns: NDArray[np.int64]
    """(k,) columns of the matrix, ascending."""


@dataclass(frozen=True, slots=True)
class ArrayColumn:
    """An obs column that is already in memory.

    Examples
    --------
    >>> import numpy as np
    >>> ArrayColumn.of(np.array([1.5, 2.0])).kind
    'numeric'
    >>> ArrayColumn.of(np.array(["a", "b"])).kind
    'string'
    """

    kind: ColumnKind
    values: ColumnValues

    @classmethod
    def of(cls, values: object) -> ArrayColumn:
        """Wrap column values, or guess them from a NumPy array or a sequence of strings."""
        if isinstance(values, NumericValues):
            return cls("numeric", values)
        if isinstance(values, BooleanValues):
            return cls("boolean", values)
        if isinstance(values, CategoricalValues):
            return cls("categorical", values)
        if isinstance(values, StringValues):
            return cls("string", values)
        if isinstance(values, np.ndarray) and values.dtype.kind == "b":
            return cls("boolean", BooleanValues(values))
        if isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
            return cls("numeric", NumericValues(values))
        return cls("string", StringValues.from_strings(values))

    def read(self) -> ColumnValues:
        """Return the values given at construction."""
        return self.values


@dataclass(frozen=True, slots=True)
class MatrixCounts:
    """A counts source over a scipy CSR matrix, or a dense array, that is already in memory."""

    matrix: Any
    """scipy sparse (any format; converted to CSR once) or (n_obs, n_vars) array."""

    @property
    def n_obs(self) -> int:
        """Rows."""
        return int(self.matrix.shape[0])

    @property
    def n_vars(self) -> int:
        """Columns."""
        return int(self.matrix.shape[1])

    @property
    def nnz(self) -> int | None:
        """Stored entries; None for a dense array."""
        return None if isinstance(self.matrix, np.ndarray) else int(self.matrix.nnz)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Number type of the entries."""
        found: np.dtype[np.generic] = np.dtype(self.matrix.dtype)
        return found

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield slices of the matrix, each of about `budget_bytes`."""
        from scipy import sparse

        matrix = sparse.csr_matrix(self.matrix)
        row_bytes = max(1, (matrix.nnz * 12) // max(1, self.n_obs) + 8)
        step = max(1, budget_bytes // (2 * row_bytes))
        for start in range(0, self.n_obs, step):
            stop = min(start + step, self.n_obs)
            low, high = int(matrix.indptr[start]), int(matrix.indptr[stop])
            indptr = matrix.indptr[start : stop + 1].astype(np.int64) - low
            yield CsrBlock(start, indptr, as_int32(matrix.indices[low:high]), matrix.data[low:high])


@dataclass(frozen=True, slots=True)
class RawSection:
    """One section as a reader found it, in source units and source row order.

    Raises
    ------
    InputError
        If positions, counts and panel disagree on their lengths; all disagreements at once.
    """

    positions: NDArray[np.float64]
    """(n_obs, 2) float64 x, y in SOURCE units, as in the file (no flip, no scale)."""
    instance_ids: ObsColumn
    """Cell ids (kind `string`), unique; stored as `obs["instance_id"]` and as the obs index."""
    obs: Mapping[str, ObsColumn]
    """Obs columns by name."""
    panel: Panel
    """The section's genes, in the order of the matrix columns that are not set apart."""
    counts: CountsSource
    """The matrix."""
    values: MatrixValues = "counts"
    """What the numbers mean."""
    um_per_unit: float | None = None
    """Micrometres per source unit; None when unknown (kNN works, micrometre calls raise)."""
    y_axis: Literal["down", "up"] = "down"
    """Direction of the source's y axis; `up` is negated on writing (stored y points down)."""
    radius: float | NDArray[np.float64] | None = None
    """Circle radius of the cells in source units (one, or one per cell); None: half the median
    distance to the nearest neighbor, estimated."""
    images: Mapping[str, ImageSource] = field(default_factory=dict)
    """Images by element name."""
    shapes: Polygons | RingsSource | None = None
    """Cell boundaries; without them cells become circles."""
    apart: Mapping[str, ApartFeatures] = field(default_factory=dict)
    """Columns of the matrix that are no genes, by the name of their table."""
    points: Mapping[str, PointsSource] = field(default_factory=dict)
    """Transcripts and other points by element name, in STORED units (scaled and flipped)."""
    labels: Mapping[str, ImageSource] = field(default_factory=dict)
    """Label images by element name."""
    outlines: Mapping[str, OutlinesSource] = field(default_factory=dict)
    """Polygons beside those of the cells (nuclei, annotations) by element name, STORED units."""
    metadata: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    """Section metadata (section, timepoint, donor …) for the catalog."""
    reading: ReadMemory = field(default_factory=ReadMemory)
    """What reading it holds in memory; the plan counts it."""
    provenance: Mapping[str, object] = field(default_factory=dict)
    """JSON-ready facts on where this came from (files, sizes, reader, options, versions)."""

    def __post_init__(self) -> None:
        faults = []
        if self.positions.ndim != 2 or self.positions.shape[1] != 2:
            faults.append(
                Fault("positions", f"expected shape (n, 2), but got {self.positions.shape}")
            )
        elif self.positions.shape[0] != self.counts.n_obs:
            faults.append(
                Fault(
                    "positions",
                    f"{self.positions.shape[0]} positions for {self.counts.n_obs} matrix rows",
                )
            )
        set_apart = sum(one.columns.size for one in self.apart.values())
        if len(self.panel.gene_id) + set_apart != self.counts.n_vars:
            beside = f" and {set_apart} features set apart" if set_apart else ""
            faults.append(
                Fault(
                    "panel",
                    f"{len(self.panel.gene_id)} genes{beside} for {self.counts.n_vars} matrix "
                    "columns",
                )
            )
        if faults:
            raise InputError(faults, "section")

    @property
    def n_obs(self) -> int:
        """Cells."""
        return self.counts.n_obs

    @property
    def n_vars(self) -> int:
        """Genes."""
        return len(self.panel.gene_id)
