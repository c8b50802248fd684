"""The sample sheet as values: one row is one section, or one file that splits into several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..atlas.errors import Fault, InputError
from .annotate_sheet import AttachedFile
from .scalars import Scalar
from .source import MatrixValues

__all__ = ["SampleRow", "SampleSheet", "SheetReading", "Unit"]

Unit = float | str | None
"""Micrometres per unit: a number, `lattice:PITCH`, `unknown`, or None when the sheet is silent."""


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One row of a sheet, checked and typed; its files are not opened yet."""

    row: int
    """Where it stands in the sheet."""
    sample: str
    """Name of the section, or prefix of the sections it splits into."""
    data_path: str
    """Path as the sheet gives it; this is what provenance records."""
    path: Path
    """The same, resolved against the sheet's folder."""
    url: str | None = None
    """Where it lies when that is a bucket or web server; `path` is then its name alone."""
    format: str | None = None
    """Reader, or None to recognize it."""
    values: MatrixValues | None = None
    """What the matrix holds, or None to take the reader's word."""
    um_per_unit: Unit = None
    """Micrometres per coordinate unit."""
    y_axis: Literal["down", "up"] | None = None
    """Direction of the source's y axis."""
    split_by: str | None = None
    """obs column with one section per value; `none` says that it is one section."""
    gene_map: Path | None = None
    """Table of gene identifiers and symbols."""
    image: Path | None = None
    """Image file."""
    layer: str | None = None
    """Where the matrix lies."""
    spatial_key: str | None = None
    """obsm key of the coordinates."""
    reader_kwargs: Mapping[str, object] = field(default_factory=dict)
    """Further reader options."""
    annotation: tuple[AttachedFile, ...] = ()
    """Named regions."""
    transform: tuple[AttachedFile, ...] = ()
    """Affines into common frames."""
    labels: tuple[AttachedFile, ...] = ()
    """Labels of cells."""
    timepoint: str | None = None
    """Label of the timepoint."""
    time_value: float | None = None
    """Number behind the label, if given."""
    time_unit: str | None = None
    """Unit of that number, if given."""
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    """What the catalog will say of the section (donor, tissue …, and unknown columns)."""

    @property
    def location(self) -> str:
        """How messages point at the row."""
        return f"row {self.row} ({self.sample})"

    @property
    def organism(self) -> str | None:
        """Organism, if given."""
        value = self.metadata.get("organism")
        return None if value is None else str(value)

    @property
    def technology(self) -> str | None:
        """Assay, if given."""
        value = self.metadata.get("technology")
        return None if value is None else str(value)


@dataclass(frozen=True, slots=True)
class SampleSheet:
    """Rows with unique names, and the order of timepoints they came with."""

    source: str
    """The sheet, for messages."""
    rows: tuple[SampleRow, ...]
    """In the order of the sheet."""
    timepoints: tuple[str, ...] | None = None
    """Explicit order of the labels."""

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class SheetReading:
    """A sheet with all that is wrong with it; rows with faults are left out of `sheet`."""

    sheet: SampleSheet
    """The rows that are fine."""
    faults: tuple[Fault, ...] = ()
    """What must be corrected."""
    notes: tuple[Fault, ...] = ()
    """What may be meant, but looks like a mistake."""
    n_rows: int = 0
    """Rows of the sheet, those with faults included."""

    def sheet_or_raise(self) -> SampleSheet:
        """Return the sheet, or raise InputError with every fault."""
        if self.faults:
            raise InputError(self.faults, self.sheet.source)
        return self.sheet
