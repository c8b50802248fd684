"""What readers of vendor folders share: a survey filled part by part, told or opened from there."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.genes import Panel
from ...atlas.panel import GENE_EXPRESSION
from ...atlas.points_write import LEAST_POINTS_BYTES
from ..gene_map import read_gene_map
from ..read_memory import ReadMemory, image_bytes
from ..reader import FaultList, Inspection, ReadOptions, check_reader_kwargs, faults_of
from ..ring_spill import RING_BYTES
from ..source import ApartFeatures, ArrayColumn, RawSection
from ..units import FoundUnit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.outlines import OutlinesSource
    from ...atlas.points import PointsSource
    from ..source import (
        CountsSource,
        ImageSource,
        ObsColumn,
        Polygons,
        RingsSource,
        StringValues,
    )

__all__ = ["Features", "Survey", "VendorReader", "features_of"]


@dataclass(slots=True)
class Survey:
    """What a vendor's folder holds, as far as it could be read; a part with faults is absent.

    The matrix, the ids, the positions and the columns of obs have one order of rows: that of the
    matrix.
    """

    path: Path
    """Folder or file the user named."""
    ids: StringValues | None = None
    """(n,) unique names of the cells."""
    positions: NDArray[np.float64] | None = None
    """(n, 2) x, y in source units."""
    obs: dict[str, ObsColumn] = field(default_factory=dict)
    """Columns of the cells, lazily."""
    panel: Panel | None = None
    """Genes."""
    counts: CountsSource | None = None
    """All features, also those set apart."""
    apart: dict[str, ApartFeatures] = field(default_factory=dict)
    """Features that are no genes, by table."""
    unit: FoundUnit = field(default_factory=lambda: FoundUnit(None, "unknown"))
    """Micrometers per source unit."""
    y_axis: Literal["down", "up"] = "down"
    """Direction of the source's y axis, unless the user says otherwise."""
    radius: float | NDArray[np.float64] | None = None
    """Radius of the circles that stand for cells without boundaries, source units."""
    shapes: Polygons | RingsSource | None = None
    """Boundaries of the cells."""
    images: dict[str, ImageSource] = field(default_factory=dict)
    """Images by element name."""
    labels: dict[str, ImageSource] = field(default_factory=dict)
    """Masks by element name."""
    outlines: dict[str, OutlinesSource] = field(default_factory=dict)
    """Boundaries of nuclei and the like, stored units."""
    points: dict[str, PointsSource] = field(default_factory=dict)
    """Transcripts, stored units."""
    technology: str = ""
    """Assay as the folder shows it; "" takes that of the reader."""
    placing_bytes: int = 0
    """Held while an image was placed by what it shows."""
    versions: dict[str, object] = field(default_factory=dict)
    """What the vendor says of the run: software, panel, region; JSON-ready."""
    notes: list[str] = field(default_factory=list)
    """Things worth knowing that are no faults."""
    missing: list[str] = field(default_factory=list)
    """What a complete output would have, and what is therefore not written."""
    faults: FaultList = field(default_factory=FaultList)
    """Everything that must be corrected."""

    def require(self) -> None:
        """Note a fault for each part without which there is no section, unless one is noted."""
        wanted = {
            "counts": self.counts,
            "genes": self.panel,
            "cell ids": self.ids,
            "positions": self.positions,
        }
        lacking = [name for name, part in wanted.items() if part is None]
        if lacking and not self.faults.faults:
            self.faults.add(str(self.path), f"expected {', '.join(lacking)}, but got none")


class VendorReader(ABC):
    """One technology: subclasses find the parts, this class tells of them and opens them."""

    format: str
    """Name in the sheet's `format` column."""
    technology: str
    """Assay in the vendor's words."""
    known_options: ClassVar[frozenset[str]] = frozenset()
    """Names allowed in reader_kwargs."""
    takes_image: ClassVar[bool] = False
    """Whether the sheet's `image` is read."""

    @abstractmethod
    def recognizes(self, path: Path) -> bool:
        """Whether a path looks like this technology, by names and first bytes; never raises."""

    @abstractmethod
    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Files that `open` would read."""

    @abstractmethod
    def survey(self, path: Path, options: ReadOptions) -> Survey:
        """Find every part; faults are collected in the survey, none is raised."""

    def inspect(self, path: Path, options: ReadOptions) -> Inspection:
        """Tell what an output holds and everything wrong with it."""
        survey = self._surveyed(path, options)
        images, reading = tuple(survey.images), ReadMemory()
        with survey.faults.part():
            reading = _reading(survey)
        panel, counts = survey.panel, survey.counts
        return Inspection(
            self.format,
            path,
            n_obs=0 if survey.ids is None else len(survey.ids),
            n_vars=0 if panel is None else len(panel.gene_id),
            nnz=None if counts is None else counts.nnz,
            technology=options.technology or survey.technology or self.technology,
            organism=options.organism or (panel.organism if panel else None) or None,
            um_per_unit=survey.unit.um_per_unit,
            unit_source=survey.unit.how,
            columns={name: column.kind for name, column in survey.obs.items()},
            images=images,
            reading=reading,
            notes=self._notes(survey, options),
            faults=tuple(survey.faults.faults),
        )

    def open(self, path: Path, options: ReadOptions) -> RawSection:
        """Open the section; positions, ids and genes are read, the rest is not.

        Raises
        ------
        InputError
            With every fault that `inspect` lists.
        """
        survey = self._surveyed(path, options)
        reading = ReadMemory()
        with survey.faults.part():
            reading = _reading(survey)
        survey.faults.raise_all(path)
        assert survey.positions is not None
        assert survey.ids is not None
        assert survey.panel is not None
        assert survey.counts is not None
        return RawSection(
            positions=survey.positions,
            instance_ids=ArrayColumn.of(survey.ids),
            obs=survey.obs,
            panel=survey.panel,
            counts=survey.counts,
            values=options.matrix_values,
            um_per_unit=survey.unit.um_per_unit,
            y_axis=options.y_axis or survey.y_axis,
            radius=survey.radius,
            images=survey.images,
            shapes=survey.shapes,
            apart=survey.apart,
            points=survey.points,
            labels=survey.labels,
            outlines=survey.outlines,
            metadata=dict(options.metadata),
            reading=reading,
            provenance=self._provenance(path, options, survey),
        )

    def _surveyed(self, path: Path, options: ReadOptions) -> Survey:
        faults = FaultList()
        with faults.part():
            check_reader_kwargs(options, self.known_options, str(path))
        with faults.part():
            self._refuse_meaningless(path, options)
        survey = Survey(path)
        with survey.faults.part():
            survey = self.survey(path, options)
        survey.require()
        survey.faults.faults[:0] = faults.faults
        return survey

    def _refuse_meaningless(self, path: Path, options: ReadOptions) -> None:
        """Refuse options that mean nothing here, rather than ignore them."""
        given = {"layer": options.layer, "spatial_key": options.spatial_key}
        if options.split_by != "none":
            given["split_by"] = options.split_by
        if not self.takes_image and options.image is not None:
            given["image"] = str(options.image)
        faults = [
            Fault(
                str(path), f"expected no `{name}` for {self.technology} output, but got {value!r}"
            )
            for name, value in given.items()
            if value is not None
        ]
        if faults:
            raise InputError(faults)

    def _provenance(self, path: Path, options: ReadOptions, survey: Survey) -> dict[str, object]:
        sizes = {}
        for one in self.files(path, options):
            with faults_of(one, "an input file"):
                inside = one.is_relative_to(path)
                sizes[str(one.relative_to(path)) if inside else one.name] = one.stat().st_size
        y_axis = options.y_axis or survey.y_axis
        return {
            "reader": self.format,
            "file": path.name,
            # Thousands of images of single fields of view would be most of the provenance.
            "files": dict(list(sizes.items())[:_MOST_LISTED]),
            "n_files": len(sizes),
            "vendor": dict(survey.versions),
            "values": options.matrix_values,
            "unit": survey.unit.how,
            "um_per_unit": survey.unit.um_per_unit,
            "y_axis": y_axis,
            "y_flipped": y_axis == "up",
            "notes": list(self._notes(survey, options)),
        }

    def _notes(self, survey: Survey, options: ReadOptions) -> tuple[str, ...]:
        said = options.technology or ""
        own, given = _platform(self.technology), _platform(said)
        other = (f"technology: the files are of {self.technology}, the sheet says {said!r}",)
        differ = own is not None and given is not None and own != given
        notes = (*survey.notes, *survey.missing, *survey.unit.notes)
        return (*other, *notes) if differ else notes


_MOST_LISTED = 100


# Words of one line are of one platform; other words in a sheet are taken as they are.
_PLATFORMS = tuple(
    re.compile(words, re.IGNORECASE)
    for words in (
        "visium.*hd",
        "visium|cytassist",
        "xenium",
        "merscope|merfish|vizgen",
        "cosmx",
        "stereo.?seq|stomics",
        "slide.?seq|curio|seeker",
        "seqfish",
    )
)


def _platform(technology: str) -> int | None:
    return next((k for k, words in enumerate(_PLATFORMS) if words.search(technology)), None)


def _reading(survey: Survey) -> ReadMemory:
    """Memory that reading holds: texts, images; points and outlines are streamed."""
    text = 0 if survey.ids is None else int(survey.ids.text.size)
    streamed = survey.points or survey.outlines
    return ReadMemory(
        text=text,
        image=max(image_bytes(survey.images), image_bytes(survey.labels), survey.placing_bytes),
        points=LEAST_POINTS_BYTES if streamed else 0,
        rings=0 if survey.shapes is None else RING_BYTES,
    )


@dataclass(frozen=True, slots=True)
class Features:
    """Columns of a matrix, told apart."""

    panel: Panel
    """Genes, in the order of their columns."""
    apart: dict[str, ApartFeatures]
    """Others, by the name of their table."""


def features_of(
    names: Sequence[str],
    tables: Sequence[str],
    *,
    options: ReadOptions,
    where: str,
    gene_ids: Sequence[str] | None = None,
    feature_types: Sequence[str] | None = None,
    organism: str = "",
    completeness: Literal["partial", "complete"] = "complete",
) -> Features:
    """Tell genes from features that are none.

    Parameters
    ----------
    names : sequence of str, (n,)
        Names of all columns: symbols, or whatever the vendor gives.
    tables : sequence of str, (n,)
        "" for a gene, else the table that the column belongs to, such as `controls`.
    options : ReadOptions
        Organism and gene map of the sheet; they win.
    where : str
        File and place, for messages.
    gene_ids, feature_types : sequence of str, (n,), optional
        Identifiers and kinds beside the names.
    organism : str
        What the file says.
    completeness : {"complete", "partial"}
        `complete` when what is not listed was not measured.

    Returns
    -------
    Features

    Raises
    ------
    InputError
        No gene at all, or genes that repeat.

    Examples
    --------
    >>> found = features_of(["Sox2", "Blank-1"], ["", "controls"], options=ReadOptions(), where="")
    >>> found.panel.name.tolist(), found.apart["controls"].names
    (['Sox2'], ('Blank-1',))
    """
    belongs = np.array([str(table) for table in tables], dtype=object)
    kinds = list(feature_types or [GENE_EXPRESSION] * len(names))
    genes = np.flatnonzero(belongs == "")
    if genes.size == 0:
        raise InputError(
            Fault(where, f"expected genes, but got {len(names)} features, none of one")
        )

    def take(column: Sequence[str]) -> list[str]:
        return [column[k] for k in genes.tolist()]

    panel = Panel.of(
        take(gene_ids if gene_ids is not None else names),
        organism=options.organism or organism,
        symbols=take(names) if gene_ids is not None else None,
        feature_types=take(kinds),
        gene_map=read_gene_map(options.gene_map) if options.gene_map else None,
        completeness=completeness,
        where=where,
    )
    return Features(panel, _set_apart(belongs, names, kinds))


def _set_apart(
    belongs: NDArray[np.object_], names: Sequence[str], kinds: Sequence[str]
) -> dict[str, ApartFeatures]:
    apart = {}
    for table in sorted(set(belongs.tolist()) - {""}):
        columns = np.flatnonzero(belongs == table)
        apart[table] = ApartFeatures(
            tuple(names[k] for k in columns.tolist()),
            tuple(kinds[k] for k in columns.tolist()),
            columns.astype(np.int64),
        )
    return apart
