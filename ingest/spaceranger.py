"""Reader of Space Ranger outputs: Visium spots, and bins of Visium HD one folder at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..atlas.errors import Fault, InputError
from ..atlas.genes import Panel
from ..atlas.image_sources import file_image, open_pixels
from ..atlas.images import Affine
from .frame import MaskedColumn
from .gene_map import read_gene_map
from .reader import FaultList, Inspection, ReadOptions, check_reader_kwargs
from .source import ArrayColumn, BooleanValues, ImageSource, NumericValues, ObsColumn, RawSection
from .spaceranger_files import Bundle, Spots, locate, looks_like, read_scalefactors, read_spots
from .split import MaskedCounts
from .tenx import FeatureMatrix, open_h5, open_mtx
from .units import FoundUnit, find_unit
from .var_columns import genome_organism

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SpaceRangerReader"]

_OPTIONS = frozenset({"image_scale", "images", "in_tissue_only", "panel"})
_SPOT_UM = 55.0  # diameter of a Visium spot, 10x Genomics
_SHOWN = 3


@dataclass(slots=True)
class _Survey:
    """What an output holds, as far as it could be read."""

    bundle: Bundle
    matrix: FeatureMatrix | None = None
    panel: Panel | None = None
    spots: Spots | None = None
    rows: NDArray[np.int64] | None = None
    """Rows of the matrix kept."""
    at: NDArray[np.int64] | None = None
    """Spot of each kept row."""
    factors: dict[str, float] = field(default_factory=dict)
    unit: FoundUnit = field(default_factory=lambda: FoundUnit(None, "unknown"))
    notes: list[str] = field(default_factory=list)
    faults: FaultList = field(default_factory=FaultList)

    @property
    def bin_um(self) -> float | None:
        """Edge of a bin of Visium HD, None for spots."""
        return self.factors.get("bin_size_um")


class SpaceRangerReader:
    """A Space Ranger output folder: filtered matrix (.h5 or .mtx folder) and `spatial`.

    Spots outside the tissue are left out. The unit comes from the spot lattice (100 um), not from
    `spot_diameter_fullres`; bins of Visium HD say their own.

    reader_kwargs: `in_tissue_only` (false keeps all spots of the matrix), `images` (false writes
    none), `image_scale` (pixels of `image` per full-resolution pixel), `panel` (`partial` when the
    matrix was cut down to some genes).
    """

    format: str = "visium"

    def recognizes(self, path: Path) -> bool:
        """Whether the folder looks like an output; never raises."""
        return looks_like(path)

    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Return matrix, positions, scale factors, images, gene map."""
        extra = tuple(one for one in (options.gene_map, options.image) if one is not None)
        return (*locate(path).files, *extra)

    def inspect(self, path: Path, options: ReadOptions) -> Inspection:
        """Tell what the output holds and everything wrong with it."""
        survey = self._survey(path, options)
        images: tuple[str, ...] = ()
        with survey.faults.part():
            images = tuple(self._images(options, survey))
        matrix = survey.matrix
        return Inspection(
            self.format,
            path,
            n_obs=0 if survey.rows is None else int(survey.rows.size),
            n_vars=matrix.counts.n_vars if matrix else 0,
            nnz=matrix.counts.nnz if matrix else None,
            technology=options.technology or ("Visium HD" if survey.bin_um else "Visium"),
            organism=options.organism or (survey.panel.organism if survey.panel else None) or None,
            um_per_unit=survey.unit.um_per_unit,
            unit_source=survey.unit.how,
            columns={"in_tissue": "boolean", "array_row": "numeric", "array_col": "numeric"},
            images=images,
            notes=tuple(survey.notes),
            faults=tuple(survey.faults.faults),
        )

    def open(self, path: Path, options: ReadOptions) -> RawSection:
        """Open the section; positions and names are read, counts are not."""
        survey = self._survey(path, options)
        images: dict[str, ImageSource] = {}
        with survey.faults.part():
            images = self._images(options, survey)
        survey.faults.raise_all(path)
        matrix, spots, rows, at = survey.matrix, survey.spots, survey.rows, survey.at
        assert matrix is not None
        assert spots is not None
        assert rows is not None
        assert at is not None
        assert survey.panel is not None
        every = rows.size == matrix.counts.n_obs
        ids: ObsColumn = ArrayColumn.of(matrix.barcodes)
        scale = survey.unit.um_per_unit
        diameter = survey.bin_um or _SPOT_UM
        return RawSection(
            positions=spots.positions[at],
            instance_ids=ids if every else MaskedColumn(ids, rows),
            obs={
                "in_tissue": ArrayColumn("boolean", BooleanValues(spots.in_tissue[at])),
                "array_row": ArrayColumn("numeric", NumericValues(spots.array_row[at])),
                "array_col": ArrayColumn("numeric", NumericValues(spots.array_col[at])),
            },
            panel=survey.panel,
            counts=matrix.counts if every else MaskedCounts(matrix.counts, rows),
            values=options.matrix_values,
            um_per_unit=scale,
            y_axis=options.y_axis or "down",
            radius=None if scale is None else diameter / 2 / scale,
            images=images,
            metadata=dict(options.metadata),
            provenance=_provenance(path, options, survey),
        )

    def _survey(self, path: Path, options: ReadOptions) -> _Survey:
        """Read every part; a part with a fault leaves the others to be read."""
        bundle = locate(path)
        survey = _Survey(bundle, notes=list(bundle.notes))
        part, where = survey.faults.part, str(path)
        survey.faults.faults.extend(bundle.faults)
        with part():
            check_reader_kwargs(options, _OPTIONS, where)
            _check_options(options, where)
        if bundle.faults and any("refused" in fault.message for fault in bundle.faults):
            return survey  # nothing outside the folder is opened
        if bundle.scalefactors is not None:
            with part():
                survey.factors = read_scalefactors(bundle.scalefactors)
        if bundle.positions is not None:
            with part():
                survey.spots = read_spots(bundle.positions)
        if bundle.matrix is not None:
            with part():
                mtx = bundle.mtx
                survey.matrix = open_mtx(*mtx) if mtx else open_h5(bundle.matrix)
                survey.panel = _panel(survey.matrix, options, str(bundle.matrix))
        if survey.matrix is not None and survey.spots is not None:
            with part():
                _match(survey, options)
        if survey.spots is not None:
            with part():
                scale = survey.factors.get("microns_per_pixel")
                survey.unit = find_unit(
                    survey.spots.positions,
                    options.um_per_unit,
                    from_file=(scale, "microns_per_pixel of scalefactors_json.json")
                    if scale
                    else ("lattice:100", "Visium spots"),
                    where=f"{where}:um_per_unit",
                )
        return survey

    def _images(self, options: ReadOptions, survey: _Survey) -> dict[str, ImageSource]:
        """Choose the image given, else the best of the output; headers are checked."""
        unit = survey.unit.um_per_unit or 1.0
        sign = -1.0 if options.y_axis == "up" else 1.0

        def affine(scale: float) -> Affine:
            return ((unit / scale, 0.0, 0.0), (0.0, sign * unit / scale, 0.0))

        if options.image is not None:
            scale = options.reader_kwargs.get("image_scale", 1.0)
            if not isinstance(scale, (int, float)) or not 0 < float(scale) < np.inf:
                raise InputError(
                    Fault("image_scale", f"expected a number above zero, but got {scale!r}")
                )
            with open_pixels(options.image):
                return {"image": file_image(options.image, affine(float(scale)))}
        if options.reader_kwargs.get("images", True) is False:
            return {}
        for name in ("hires", "lowres"):
            found = survey.bundle.images.get(name)
            factor = survey.factors.get(f"tissue_{name}_scalef")
            if found is not None and factor:
                with open_pixels(found):
                    return {name: file_image(found, affine(factor))}
        return {}


def _check_options(options: ReadOptions, where: str) -> None:
    """Refuse options that mean nothing here, rather than ignore them."""
    given = {
        "layer": options.layer,
        "spatial_key": options.spatial_key,
        "split_by": None if options.split_by == "none" else options.split_by,
    }
    faults = [
        Fault(where, f"expected no `{name}` for a Space Ranger output, but got {value!r}")
        for name, value in given.items()
        if value is not None
    ]
    if faults:
        raise InputError(faults)


def _panel(matrix: FeatureMatrix, options: ReadOptions, where: str) -> Panel:
    panel = options.reader_kwargs.get("panel", "complete")
    if panel not in {"partial", "complete"}:
        raise InputError(
            Fault(where, f"expected reader_kwargs panel partial or complete, but got {panel!r}")
        )
    return Panel.of(
        matrix.gene_ids,
        organism=options.organism or genome_organism(matrix.genomes),
        symbols=matrix.names,
        feature_types=matrix.feature_types,
        gene_map=read_gene_map(options.gene_map) if options.gene_map else None,
        # The matrix lists the whole reference, also genes without a single count.
        completeness="partial" if panel == "partial" else "complete",
        where=where,
    )


def _match(survey: _Survey, options: ReadOptions) -> None:
    """Find the spot of each barcode; keep those in the tissue."""
    matrix, spots = survey.matrix, survey.spots
    assert matrix is not None
    assert spots is not None
    at = matrix.barcodes.find_in(spots.barcodes)
    if matrix.barcodes.repeated():
        raise InputError(
            Fault(str(survey.bundle.matrix), "expected every barcode once, but got some twice")
        )
    lost = np.flatnonzero(at < 0)
    if lost.size:
        listed = ", ".join(map(str, matrix.barcodes.take(lost[:_SHOWN]).to_list()))
        raise InputError(
            Fault(
                str(survey.bundle.positions),
                f"expected a position for each of {at.size} barcodes of the matrix, but got none "
                f"for {lost.size} ({listed}); matrix and positions are of different samples",
            )
        )
    rows = np.arange(at.size)
    if options.reader_kwargs.get("in_tissue_only", True):
        rows = np.flatnonzero(spots.in_tissue[at])
        if rows.size < at.size:
            survey.notes.append(f"{at.size - rows.size} spots outside the tissue left out")
    if rows.size == 0:
        raise InputError(
            Fault(str(survey.bundle.positions), "expected spots in the tissue, but got none")
        )
    survey.rows, survey.at = rows, at[rows]


def _provenance(path: Path, options: ReadOptions, survey: _Survey) -> dict[str, object]:
    matrix = survey.matrix
    return {
        "reader": "visium",
        "file": path.name,
        "files": {one.name: one.stat().st_size for one in survey.bundle.files},
        "software": matrix.software if matrix else "",
        "values": options.matrix_values,
        "positions": survey.bundle.positions.name if survey.bundle.positions else "",
        "unit": survey.unit.how,
        "um_per_unit": survey.unit.um_per_unit,
        "y_axis": options.y_axis or "down",
        "y_flipped": options.y_axis == "up",
        "notes": list(survey.notes),
    }
