"""The reader of MERSCOPE outputs (Vizgen): region folders, and what vpt made of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, override

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.image_sources import file_image, open_pixels
from ..reader import ReadOptions
from ..units import find_unit
from .dense import DenseCounts
from .merscope_boundaries import Boundaries, parquet_boundaries
from .merscope_cells import Cells, read_cells
from .merscope_files import Bundle, locate, looks_like
from .merscope_hdf5 import hdf5_boundaries
from .merscope_images import (
    image_share,
    mosaic_images,
    place,
    planes_wanted,
    read_json,
)
from .merscope_points import molecule_points
from .panel_option import completeness
from .rings import ring_outlines
from .vendor import Survey, VendorReader, features_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..source import StringValues

__all__ = ["MerscopeReader"]

_BLANK = re.compile(r"blank[-_ .]?\d*", re.IGNORECASE)
_FACTS = 40  # of experiment.json that are kept
_LONG = 200
_HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair: no text that can be written
_LEAST_SHARE = 0.5  # of the cells on an image
_KINDS = ("parquet", "hdf5", "none")


class MerscopeReader(VendorReader):
    """MERSCOPE, with outlines in Parquet or in HDF5 files of single fields of view."""

    format = "merscope"
    technology = "MERSCOPE"
    takes_image = True
    known_options: ClassVar[frozenset[str]] = frozenset(
        {
            "boundaries",
            "panel",
            "region",
            "segmentation",
            "transcripts",
            "z_layer",
            "z_layers",
            "z_outlines",
        }
    )

    @override
    def recognizes(self, path: Path) -> bool:
        """Whether a folder holds cell_by_gene, or two other parts of an output."""
        return looks_like(path)

    @override
    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Files that are read: of images, outlines and transcripts those that are written."""
        bundle = _locate(path, options)
        kind = _boundary_kind(bundle, options)
        unread: set[Path] = set() if kind == "hdf5" else set(bundle.hdf5)
        if kind != "parquet" and bundle.parquet is not None:
            unread.add(bundle.parquet)
        planes = planes_wanted(options.reader_kwargs.get("z_layers"), bundle.mosaics)
        unread |= {one.path for one in bundle.mosaics if one.z not in planes}
        if not _with_transcripts(options) and bundle.transcripts is not None:
            unread.add(bundle.transcripts)
        chosen = [one for one in bundle.files if one not in unread]
        return (*chosen, *(one for one in (options.gene_map, options.image) if one is not None))

    @override
    def survey(self, path: Path, options: ReadOptions) -> Survey:
        """Find every part: the cells first, since all other parts speak of them."""
        survey = Survey(path)
        bundle = _locate(path, options)
        survey.faults.faults.extend(bundle.faults)
        if bundle.faults:
            return survey  # nothing outside the folder is opened
        survey.notes.extend(bundle.notes)
        found: list[Cells] = []
        with survey.faults.part():
            found.append(read_cells(bundle, path, survey.notes))
        if not found:
            return survey
        cells = found[0]
        survey.ids, survey.positions, survey.obs = cells.ids, cells.positions, cells.obs
        parts: tuple[Callable[[Survey, Bundle, Cells, ReadOptions], None], ...] = (
            _fill_unit,
            _fill_features,
            _fill_boundaries,
            _fill_images,
            _fill_points,
            _fill_facts,
        )
        for fill in parts:
            with survey.faults.part():
                fill(survey, bundle, cells, options)
        return survey


def _locate(path: Path, options: ReadOptions) -> Bundle:
    region, segmentation = (
        None if (value := options.reader_kwargs.get(name)) is None else str(value)
        for name in ("region", "segmentation")
    )
    return locate(path, region, segmentation)


def _fill_unit(survey: Survey, bundle: Bundle, cells: Cells, options: ReadOptions) -> None:
    survey.unit = find_unit(
        cells.positions,
        options.um_per_unit,
        technology=options.technology,
        from_file=(1.0, "center_x and center_y of cell_metadata are micrometers"),
        stated=True,
        where=f"{survey.path}:um_per_unit",
    )


def _fill_features(survey: Survey, bundle: Bundle, cells: Cells, options: ReadOptions) -> None:
    """Genes and blanks: barcodes of the codebook that belong to no gene."""
    names = cells.features
    blank = [_BLANK.fullmatch(name) is not None for name in names]
    found = features_of(
        names,
        ["controls" if one else "" for one in blank],
        options=options,
        where=str(bundle.counts),
        feature_types=["Blank Codeword" if one else "Gene Expression" for one in blank],
        completeness=completeness(options, str(survey.path), "complete"),
    )
    survey.panel, survey.apart = found.panel, found.apart
    survey.counts = DenseCounts(cells.table, names, cells.rows)


def _boundary_kind(bundle: Bundle, options: ReadOptions) -> str:
    """`parquet`, `hdf5` or `none`; of both Parquet is the complete one."""
    given = options.reader_kwargs.get("boundaries")
    if given is not None and given not in _KINDS:
        raise InputError(
            Fault(
                "reader_kwargs boundaries",
                f"expected one of {', '.join(_KINDS)}, but got {given!r}",
            )
        )
    there = {"parquet": bundle.parquet is not None, "hdf5": bool(bundle.hdf5), "none": True}
    if given is None:
        return next(kind for kind in _KINDS if there[kind])
    if not there[str(given)]:
        raise InputError(
            Fault(str(bundle.root), f"expected {given} boundaries as asked for, but got none")
        )
    return str(given)


def _fill_boundaries(survey: Survey, bundle: Bundle, cells: Cells, options: ReadOptions) -> None:
    kind = _boundary_kind(bundle, options)
    survey.radius = cells.radius
    if kind == "none":
        if bundle.parquet is None and not bundle.hdf5:
            survey.missing.append(
                "no boundaries in the folder (cell_boundaries.parquet, *_micron_space.parquet or "
                "cell_boundaries/feature_data_*.hdf5): cells are written as circles"
            )
        return
    found = _opened(kind, bundle, cells.ids, options)
    scale, flip = _stored(survey, options)
    survey.shapes = found.rings
    survey.radius = None
    survey.outlines = {
        f"cells_z{z}": ring_outlines(rings, cells.ids, scale=scale, flip=flip)
        for z, rings in found.others.items()
    }
    survey.notes.extend(found.notes)
    if kind == "parquet" and bundle.hdf5:
        survey.notes.append(
            f"{len(bundle.hdf5)} HDF5 files of boundaries not read beside {_name(bundle.parquet)}; "
            "reader_kwargs boundaries hdf5 takes them instead"
        )
    survey.versions["boundaries"] = {
        "kind": kind,
        "file": _name(bundle.parquet) if kind == "parquet" else f"{len(bundle.hdf5)} files",
        "plane": found.plane,
        "planes": list(found.planes),
        "plane_um": {str(z): um for z, um in found.heights.items()},
    }


def _opened(kind: str, bundle: Bundle, ids: StringValues, options: ReadOptions) -> Boundaries:
    z_layer = options.reader_kwargs.get("z_layer")
    others = bool(options.reader_kwargs.get("z_outlines", False))
    if kind == "parquet":
        assert bundle.parquet is not None
        return parquet_boundaries(bundle.parquet, ids, z_layer, others=others)
    return hdf5_boundaries(bundle.hdf5, ids, z_layer, others=others)


def _name(path: Path | None) -> str:
    return "" if path is None else path.name


def _stored(survey: Survey, options: ReadOptions) -> tuple[float, bool]:
    """Return stored units a micrometer of the source, and whether y is negated."""
    return survey.unit.um_per_unit or 1.0, options.y_axis == "up"


def _fill_images(survey: Survey, bundle: Bundle, cells: Cells, options: ReadOptions) -> None:
    planes = planes_wanted(options.reader_kwargs.get("z_layers"), bundle.mosaics)
    if not bundle.mosaics:
        survey.missing.append(
            "no mosaics in the folder (images/mosaic_<stain>_z<plane>.tif): no image is written"
        )
    if not planes and options.image is None:
        return
    placement = place(bundle)
    if placement is None:
        survey.missing.append(
            "no micron_to_mosaic_pixel_transform.csv and no manifest.json with bbox_microns beside "
            "the images: where they lie is unknown, none is written"
        )
        return
    scale, flip = _stored(survey, options)
    survey.notes.extend(placement.notes)
    put = partial(placement.affine, unit=scale, flip=flip)
    images = mosaic_images(bundle, placement, planes, unit=scale, flip=flip, notes=survey.notes)
    if options.image is not None:
        with open_pixels(options.image) as pixels:
            size = (pixels.shape[2], pixels.shape[1])
        images["image"] = file_image(options.image, put(size))
    survey.images.update(images)
    _tell_images(survey, bundle, planes)
    name, image = next(iter(images.items()))
    share = image_share(image, cells.positions, scale, flip=flip)
    if share < _LEAST_SHARE:
        survey.notes.append(
            f"only {share:.0%} of the cells lie on {name}: its transform may be of another region"
        )
    survey.versions["mosaics"] = {
        "placed_by": placement.how,
        "stains": {
            str(z): [one.stain for one in bundle.mosaics if one.z == z]
            for z in sorted({one.z for one in bundle.mosaics})
        },
    }


def _tell_images(survey: Survey, bundle: Bundle, planes: tuple[int, ...]) -> None:
    """Note planes that are not written."""
    rest = sorted({one.z for one in bundle.mosaics} - set(planes))
    if rest:
        written = f"images of plane {', '.join(map(str, planes))}; " if planes else "images: "
        survey.notes.append(
            f"{written}planes {', '.join(map(str, rest))} not written (reader_kwargs z_layers all, "
            "or a list of planes, writes them)"
        )


def _with_transcripts(options: ReadOptions) -> bool:
    return options.reader_kwargs.get("transcripts", True) is not False


def _fill_points(survey: Survey, bundle: Bundle, cells: Cells, options: ReadOptions) -> None:
    if not _with_transcripts(options):
        return
    if bundle.transcripts is None:
        survey.missing.append(
            "no detected_transcripts in the folder (detected_transcripts.csv): no transcripts are "
            "written"
        )
        return
    scale, flip = _stored(survey, options)
    points = molecule_points(bundle.transcripts, scale=scale, flip=flip, notes=survey.notes)
    if points is not None:
        survey.points["transcripts"] = points


def _fill_facts(survey: Survey, bundle: Bundle, cells: Cells, options: ReadOptions) -> None:
    """Keep what the run says of itself; nothing depends on it."""
    survey.versions["folder"] = bundle.home
    survey.versions["layout"] = "region" if bundle.home == "." else "folder below"
    if bundle.experiment is not None:
        survey.versions["experiment"] = _plain(read_json(bundle.experiment))


def _plain(facts: Mapping[str, Any]) -> dict[str, object]:
    """Short scalars of a JSON object, as far as JSON can hold them."""
    kept = {
        name: value
        for name, value in facts.items()
        if _is_text(name)
        and (
            isinstance(value, (bool, int))
            or (isinstance(value, float) and np.isfinite(value))
            or _is_text(value)
        )
    }
    return dict(list(kept.items())[:_FACTS])


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONG and not _HALF.search(value)
