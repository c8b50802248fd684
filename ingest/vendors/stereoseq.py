"""Reader of Stereo-seq output (STOmics): square bins of any size, or cells.

Coordinates count spots of the chip, 500 nm apart on most chips; GEF files say the distance, GEM
files the chip. Bins of `size` spots are those of the vendor: a spot belongs to the bin
`x // size, y // size`, whose position is its corner plus `size // 2`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, override

from ...atlas.errors import Fault, InputError
from ...atlas.image_sources import file_image, open_pixels
from ..guard import is_hdf5
from ..reader import faults_of
from ..units import find_unit
from .listed_genes import fill_genes
from .masks import add_mask
from .stereoseq_cells import open_cells
from .stereoseq_clusters import cluster_columns
from .stereoseq_files import Bundle, locate, looks_like
from .stereoseq_gef import Gef, open_gef, open_square
from .stereoseq_gem import Gem, chip_pitch_nm, open_gem
from .stereoseq_molecules import Gathered, gather_bins, gather_cells
from .stereoseq_points import Caught, molecule_points
from .vendor import Survey, VendorReader

if TYPE_CHECKING:
    from ...atlas.images import Affine
    from ..reader import ReadOptions
    from ..source import RawSection

__all__ = ["StereoSeqReader"]

_DEFAULT_BIN = 50
_LARGEST_BIN = 10_000
_BIN_BYTES = 60  # of what is found, a bin or cell
_KEPT_BYTES = 64 * 2**20  # of what is kept between looking at an input and opening it
_OPTIONS = frozenset({"bin_size", "file", "images", "molecules", "panel"})


class StereoSeqReader(VendorReader):
    """GEM text or GEF files of one chip: a file, or a folder of SAW 6, 7 or 8.

    reader_kwargs: `bin_size` (spots along the edge of a bin, 50 by default; `cell` reads cells),
    `file` (which file of a folder with several), `images` (false writes none), `molecules` (true
    keeps what each spot caught as points), `panel` (`complete` when genes that are not listed were
    not measured; by default it is unknown, since files list only genes that were seen).
    """

    format: str = "stereoseq"
    technology: str = "Stereo-seq"
    known_options: ClassVar[frozenset[str]] = _OPTIONS

    @override
    def recognizes(self, path: Path) -> bool:
        """Whether a path is a GEM or GEF file, or a folder with some; never raises."""
        return looks_like(path)

    @override
    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Return the matrix, the registered images and masks, the gene map."""
        bundle = _located(path, options)
        size, file = _wanted(bundle, options)
        images = (*bundle.images, *bundle.labels) if _with_images(options) else ()
        clusters = None if size else bundle.clusters
        extra = tuple(one for one in (clusters, options.gene_map) if one is not None)
        return (file, *images, *extra)

    @override
    def survey(self, path: Path, options: ReadOptions) -> Survey:
        """Find the bins or cells, then their unit and the images."""
        survey = Survey(path)
        bundle = _located(path, options)
        survey.faults.faults.extend(bundle.faults)
        if bundle.faults:
            return survey  # nothing outside the folder is opened
        size, file = _wanted(bundle, options)
        survey.versions |= {"file": file.name, "bin_size": size or "cell"}
        caught = None
        with survey.faults.part():
            if is_hdf5(file) or file.suffix.casefold() == ".gef":
                caught = _fill_gef(survey, open_gef(file), size, options)
            else:
                caught = _fill_gem(survey, file, size, options)
        if survey.positions is None:
            return survey
        with survey.faults.part():
            _fill_unit(survey, options)
        if caught is not None:
            unit = survey.unit.um_per_unit or 1.0
            survey.points["molecules"] = molecule_points(caught, unit, _sign(options))
        with survey.faults.part():
            _fill_images(survey, bundle, options)
        with survey.faults.part():
            if not size and bundle.clusters is not None:
                _fill_clusters(survey, bundle.clusters)
        _tell_others(survey, bundle, size)
        return survey

    @override
    def open(self, path: Path, options: ReadOptions) -> RawSection:
        """Open the section, which alone holds from then on what a pass over GEM text found."""
        try:
            return super().open(path, options)
        finally:
            _last_gem.clear()


def _located(path: Path, options: ReadOptions) -> Bundle:
    file = options.reader_kwargs.get("file")
    return locate(path, None if file is None else str(file))


def _with_images(options: ReadOptions) -> bool:
    return options.reader_kwargs.get("images", True) is not False


def _sign(options: ReadOptions) -> float:
    return -1.0 if options.y_axis == "up" else 1.0


def _wanted(bundle: Bundle, options: ReadOptions) -> tuple[int, Path]:
    """Size of the bins (0 for cells) and the file to read."""
    given = options.reader_kwargs.get("bin_size")
    where = f"{bundle.root}:reader_kwargs bin_size"
    if given is None:
        file = bundle.square or bundle.cells
        assert file is not None
        return (_DEFAULT_BIN if bundle.square else 0), file
    if str(given).casefold() in {"cell", "cells", "cellbin"}:
        cells = bundle.cells or bundle.square
        assert cells is not None
        return 0, cells
    text = str(given).casefold().removeprefix("bin")
    if isinstance(given, bool) or not text.isdecimal() or not 0 < int(text) <= _LARGEST_BIN:
        raise InputError(
            Fault(
                where,
                f"expected spots along the edge of a bin (1 to {_LARGEST_BIN}) or 'cell', but got "
                f"{given!r}",
            )
        )
    square = bundle.square or bundle.cells
    assert square is not None
    return int(text), square


def _fill_gef(survey: Survey, gef: Gef, size: int, options: ReadOptions) -> Caught | None:
    """Fill bins or cells; what single spots caught is returned, where it is asked for."""
    wanted = _with_molecules(options, str(survey.path))
    survey.versions |= gef.facts
    survey.notes.extend(gef.notes)
    if size == 0:
        _fill_cells(survey, gef, options)
        if wanted:
            survey.missing.append(f"no molecules in {gef.path.name}, which has sums by cell alone")
        return None
    if not gef.bins:
        raise InputError(
            Fault(
                str(gef.path),
                "expected square bins, but got cells alone; set reader_kwargs bin_size to cell",
            )
        )
    square = open_square(gef, size)
    survey.versions |= square.facts | {"bins_in_file": list(gef.bins), "bins_read": square.size}
    exons = square.has_exons
    found = gather_bins(gef.path, square.batches, square.n_genes, size, exons=exons)
    _fill_gathered(survey, found, size / 2)
    ids, names = square.ids, square.names
    fill_genes(survey, names or ids, ids if names else None, options, f"{gef.path}:geneExp")
    if not wanted:
        return None
    finest = open_square(gef, gef.bins[0])
    if finest.size > 1:
        survey.notes.append(f"molecules lie at corners of bins of {finest.size}: no finer ones")
    return Caught(finest.batches, finest.ids)


def _fill_cells(survey: Survey, gef: Gef, options: ReadOptions) -> None:
    if not gef.has_cells:
        raise InputError(
            Fault(
                str(gef.path),
                f"expected cells, but got square bins of {', '.join(map(str, gef.bins))} alone; "
                "name the .cellbin.gef file, or leave bin_size out",
            )
        )
    cells = open_cells(gef)
    if twice := cells.ids.repeated():
        got = f"expected every cell once, but got {twice[0]!r} again"
        raise InputError(Fault(f"{gef.path}:cellBin/cell", got))
    survey.ids, survey.positions, survey.obs = cells.ids, cells.positions, cells.obs
    survey.counts, survey.shapes = cells.counts, cells.shapes
    if cells.shapes is None:
        survey.missing.append(f"no cellBorder in {gef.path.name}: cells become circles")
    ids, names = cells.genes
    fill_genes(survey, names or ids, ids if names else None, options, f"{gef.path}:cellBin/gene")


def _fill_gem(survey: Survey, file: Path, size: int, options: ReadOptions) -> Caught | None:
    """Fill bins or cells; what single spots caught is returned, where it is asked for."""
    gem = open_gem(file)
    survey.versions |= gem.facts
    if size == 0 and not gem.has_cells:
        raise InputError(
            Fault(
                str(file),
                "expected a column CellID, but got molecules without cells; name the .cellbin.gem "
                "file, or leave bin_size out",
            )
        )
    if size:
        own = gem.facts.get("BinSize", "1")
        if own.isdecimal() and int(own) > 1 and size % int(own):
            raise InputError(
                Fault(
                    f"{file} BinSize",
                    f"expected a bin_size that is a multiple of the file's {own}, but got {size}",
                )
            )
    gem, found = _gathered(gem, size)
    _fill_gathered(survey, found, size / 2 if size else None)
    if size == 0:
        rows, molecules = found.outside
        survey.versions["outside_cells"] = {"rows": rows, "molecules": molecules}
        if rows:
            survey.notes.append(f"{molecules:,} molecules in {rows:,} rows lie outside cells")
        survey.missing.append("no borders in GEM text: cells become circles")
    genes = tuple(gem.genes)
    fill_genes(survey, gem.names or genes, genes if gem.names else None, options, str(file))
    if not _with_molecules(options, str(survey.path)):
        return None
    return Caught(gem.batches, genes, named=size == 0)


# What the last pass over a GEM file found, by file, its time and size, and bins; at most one.
_last_gem: dict[tuple[Path, int, int, int], tuple[Gem, Gathered]] = {}


def _gathered(gem: Gem, size: int) -> tuple[Gem, Gathered]:
    """Pass over a GEM file once for its bins or cells.

    A pass over a billion rows takes minutes, and what is found is asked for when an input is
    checked and when it is opened: between them the last is kept, if it takes below 64 MiB.
    """
    with faults_of(gem.path, "a GEM file"):
        status = gem.path.stat()
    key = (gem.path, status.st_mtime_ns, status.st_size, size)
    if (kept := _last_gem.get(key)) is not None:
        return kept
    if size == 0:
        found = gather_cells(gem.path, gem.batches, gem.n_genes)
    else:
        found = gather_bins(gem.path, gem.batches, gem.n_genes, size, exons="exon" in gem.columns)
    _last_gem.clear()
    if _BIN_BYTES * len(found.ids) <= _KEPT_BYTES:
        _last_gem[key] = gem, found
    return gem, found


def _fill_gathered(survey: Survey, found: Gathered, radius: float | None) -> None:
    survey.ids, survey.positions, survey.obs = found.ids, found.positions, dict(found.obs)
    survey.counts, survey.radius = found.counts, radius


def _with_molecules(options: ReadOptions, where: str) -> bool:
    given = options.reader_kwargs.get("molecules", False)
    if isinstance(given, bool):
        return given
    raise InputError(
        Fault(where, f"expected reader_kwargs molecules true or false, but got {given!r}")
    )


def _fill_unit(survey: Survey, options: ReadOptions) -> None:
    assert survey.positions is not None
    said = survey.versions.get("resolution")
    names = ("Stereo-seqChip", "StereoChip", "sn")
    chip = next((str(survey.versions[one]) for one in names if one in survey.versions), "")
    if isinstance(said, int) and said > 0:
        pitch, how = said, f"resolution {said} nm of the GEF file"
    else:
        pitch = chip_pitch_nm(chip)
        how = f"spots of chip {chip} are {pitch} nm apart" if chip else "spots are 500 nm apart"
    survey.unit = find_unit(
        survey.positions,
        options.um_per_unit,
        from_file=(pitch / 1000, how),
        stated=isinstance(said, int) and said > 0,
        where=f"{survey.path}:um_per_unit",
    )


def _fill_images(survey: Survey, bundle: Bundle, options: ReadOptions) -> None:
    """Place registered images and masks: a pixel is a spot."""
    if not _with_images(options):
        return
    unit = survey.unit.um_per_unit or 1.0
    affine: Affine = ((unit, 0.0, 0.0), (0.0, _sign(options) * unit, 0.0))
    for path in bundle.images:
        with open_pixels(path):
            survey.images[_element(path)] = file_image(path, affine)
    for path in bundle.labels:
        add_mask(survey, _element(path), path, affine)
    if bundle.root.is_dir() and not bundle.images:
        survey.missing.append("no registered image in the folder (*_regist.tif): none is written")


def _fill_clusters(survey: Survey, path: Path) -> None:
    assert survey.ids is not None
    assert survey.positions is not None
    columns, note = cluster_columns(path, survey.ids, survey.positions)
    survey.obs |= {name: one for name, one in columns.items() if name not in survey.obs}
    survey.notes.extend([note] if note else [])


def _element(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem).lstrip("_.-") or "image"


def _tell_others(survey: Survey, bundle: Bundle, size: int) -> None:
    """Say what else could have been read."""
    if size and bundle.cells is not None and bundle.square is not None:
        survey.notes.append(
            f"{bundle.cells.name} holds cells: reader_kwargs bin_size=cell reads them"
        )
    elif not size and bundle.square is not None and bundle.cells is not None:
        survey.notes.append(f"{bundle.square.name} holds square bins: not read")
    if bundle.others:
        listed = ", ".join(bundle.others[:4])
        survey.notes.append(f"not read, since others are more complete or cut to tissue: {listed}")
