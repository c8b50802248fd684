"""Where the parts of a MERSCOPE output lie: a region folder, one above it, or one of vpt below."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath

from ...atlas.errors import Fault, InputError, near
from .folder import Folder

__all__ = ["Bundle", "Mosaic", "locate", "looks_like"]

_TEXT = ("csv", "csv.gz", "parquet")
_COUNTS = "cell_by_gene"
_BOUNDARIES = (
    re.compile(r".*cell_boundaries.*\.parquet"),
    re.compile(r".*cellpose.*micron_space.*\.parquet"),
    re.compile(r".*watershed.*micron_space.*\.parquet"),
    re.compile(r".*micron_space.*\.parquet"),
)
_HDF5 = re.compile(r".*feature_data.*\.(hdf5|h5)")
_MOSAIC = re.compile(r"(?:.*_)?mosaic_(?P<stain>.+)_z(?P<z>\d{1,3})(?:\.ome)?\.tiff?", re.I)
_ENOUGH = 2  # parts that tell an output which lacks its counts
_UNREAD = {
    ".vzg": "a file of the vendor's viewer, its content is read from the files beside it",
    ".vzg2": "a file of the vendor's viewer, its content is read from the files beside it",
}


@dataclass(frozen=True, slots=True)
class Mosaic:
    """One stain at one height."""

    stain: str
    """Such as DAPI or PolyT."""
    z: int
    """Plane."""
    path: Path
    """Image file."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files of one region with one segmentation; all lie inside the folder."""

    root: Path
    """Folder the user named."""
    home: str
    """Path from the root of the folder that holds the counts, "." for the root."""
    counts: Path | None
    """cell_by_gene."""
    metadata: Path | None
    """cell_metadata."""
    transcripts: Path | None
    """detected_transcripts."""
    signals: Path | None
    """sum_signals of vpt: stains summed over each cell."""
    parquet: Path | None
    """Boundaries of this segmentation."""
    hdf5: tuple[Path, ...]
    """Old boundaries, one file a field of view."""
    mosaics: tuple[Mosaic, ...]
    """Images."""
    transform: Path | None
    """micron_to_mosaic_pixel_transform.csv."""
    manifest: Path | None
    """manifest.json of the mosaics."""
    experiment: Path | None
    """experiment.json."""
    notes: tuple[str, ...] = ()
    """What lies there and is not read."""
    faults: tuple[Fault, ...] = ()
    """Links that lead out of the folder."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that may be read."""
        single = (
            self.counts,
            self.metadata,
            self.transcripts,
            self.signals,
            self.parquet,
            self.transform,
            self.manifest,
            self.experiment,
        )
        found = [one for one in single if one is not None]
        return (*found, *self.hdf5, *(mosaic.path for mosaic in self.mosaics))


def _is_table(name: str, what: str) -> bool:
    folded = name.casefold()
    return what in folded and folded.endswith(tuple(f".{ending}" for ending in _TEXT))


def looks_like(path: Path) -> bool:
    """Whether a folder holds counts as MERSCOPE names them, two levels down at most."""
    try:
        if not path.is_dir() or (path / "zarr.json").exists():
            return False
        names = Folder.of(path, 2).names
    except (InputError, OSError):
        return False
    base = [PurePosixPath(name).name for name in names]
    marks = [
        any(_is_table(name, "detected_transcripts") for name in base),
        any(_is_table(name, "cell_metadata") for name in base),
        any(_MOSAIC.fullmatch(name) for name in base),
        "micron_to_mosaic_pixel_transform.csv" in base,
    ]
    return any(_is_table(name, _COUNTS) for name in base) or sum(marks) >= _ENOUGH


@dataclass(frozen=True, slots=True)
class _Places:
    """Files by the folder they lie in."""

    folder: Folder
    by_parent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Folder) -> _Places:
        found: dict[str, list[str]] = {}
        for name in folder.names:
            found.setdefault(str(PurePosixPath(name).parent), []).append(name)
        return cls(folder, {parent: tuple(names) for parent, names in found.items()})

    def table(self, home: str, what: str, *, above: bool) -> Path | None:
        """Return the table `what` of a folder, or of the nearest one above it."""
        for parent in _upwards(home) if above else (home,):
            fits = [
                name
                for name in self.by_parent.get(parent, ())
                if _is_table(PurePosixPath(name).name, what)
            ]
            if len(fits) > 1:
                # X.csv beside X_other.csv: the plain name wins.
                plain = [n for n in fits if PurePosixPath(n).name.partition(".")[0] == what]
                fits = plain if len(plain) == 1 else fits
            if len(fits) > 1:
                raise InputError(
                    Fault(
                        str(self.folder.root),
                        f"expected one {what} file, but got {len(fits)} "
                        f"({', '.join(fits[:3])}); put each sample into a folder of its own",
                    )
                )
            if fits:
                return self.folder.root / fits[0]
        return None


def _upwards(home: str) -> tuple[str, ...]:
    """Return a folder and those above it, up to the root."""
    path = PurePosixPath(home)
    return tuple(dict.fromkeys([str(path), *map(str, path.parents), "."]))


def locate(path: Path, region: str | None = None, segmentation: str | None = None) -> Bundle:
    """Find the parts of an output; opens nothing.

    The counts say which folder is meant: the one highest up. Metadata and boundaries must lie
    beside them; transcripts and images may lie above, as vpt leaves them there.

    Parameters
    ----------
    path : Path
        A region folder, or one that holds a single region.
    region, segmentation : str, optional
        Name of a folder to take the counts from, where there are several.

    Raises
    ------
    InputError
        Several regions or segmentations and none chosen, or no folder of that name.
    """
    folder = Folder.of(path)
    places = _Places.of(folder)
    home, others = _home(places, region, segmentation)
    parquet, beside = _boundaries(places, home)
    mosaics, images = _mosaics(places, home)
    notes = [f"another segmentation in {other}, not read" for other in others]
    notes += [f"{name}: other boundaries, not read" for name in beside]
    notes += _unread(folder)
    near_images = (images, *_upwards(home))
    return Bundle(
        root=path,
        home=home,
        counts=places.table(home, _COUNTS, above=False),
        metadata=places.table(home, "cell_metadata", above=False),
        transcripts=places.table(home, "detected_transcripts", above=True),
        signals=places.table(home, "sum_signals", above=False),
        parquet=None if parquet is None else path / parquet,
        hdf5=_old_boundaries(places, home),
        mosaics=mosaics,
        transform=_named(places, near_images, "micron_to_mosaic_pixel_transform.csv"),
        manifest=_named(places, near_images, "manifest.json"),
        experiment=_named(places, _upwards(home), "experiment.json"),
        notes=tuple(notes),
        faults=folder.faults,
    )


def _home(
    places: _Places, region: str | None, segmentation: str | None
) -> tuple[str, tuple[str, ...]]:
    """Folder of the counts, and other folders with counts that are not read."""
    holders = [
        parent
        for parent, names in places.by_parent.items()
        if any(_is_table(PurePosixPath(name).name, _COUNTS) for name in names)
    ]
    chosen = holders
    for option, value in (("region", region), ("segmentation", segmentation)):
        if value is None:
            continue
        chosen = [one for one in chosen if str(value) in (*PurePosixPath(one).parts, one)]
        if not chosen:
            offered = sorted({part for one in holders for part in PurePosixPath(one).parts})
            raise InputError(
                Fault(
                    str(places.folder.root),
                    f"expected {option} to name a folder with {_COUNTS}, but got {value!r}."
                    f"{near(str(value), offered)}",
                )
            )
    if not chosen:
        return ".", ()
    depth = min(len(PurePosixPath(one).parts) for one in chosen)
    top = sorted(one for one in chosen if len(PurePosixPath(one).parts) == depth)
    if len(top) > 1:
        raise InputError(
            Fault(
                str(places.folder.root),
                f"expected one region with one segmentation, but got {len(top)} "
                f"({', '.join(top[:4])}); name one of them in `data_path`, or set reader_kwargs "
                "region or segmentation",
            )
        )
    return top[0], tuple(sorted(one for one in holders if one != top[0]))


def _boundaries(places: _Places, home: str) -> tuple[str | None, tuple[str, ...]]:
    """Parquet boundaries beside the counts, the best first; and those left over.

    Where there are none, those of a folder below that has no counts of its own: `Cellpose/`.
    """
    names = places.by_parent.get(home, ())
    if not any(_is_boundary(name) for name in names):
        names = tuple(
            name
            for parent, inside in sorted(places.by_parent.items())
            if parent != home and str(PurePosixPath(parent).parent) == home
            if not any(_is_table(PurePosixPath(one).name, _COUNTS) for one in inside)
            for name in inside
        )
    found: list[str] = []
    for pattern in _BOUNDARIES:
        fits = [name for name in names if pattern.fullmatch(PurePosixPath(name).name.casefold())]
        found += [name for name in sorted(fits) if name not in found]
    return (found[0] if found else None), tuple(found[1:])


def _is_boundary(name: str) -> bool:
    folded = PurePosixPath(name).name.casefold()
    return any(pattern.fullmatch(folded) for pattern in _BOUNDARIES)


def _old_boundaries(places: _Places, home: str) -> tuple[Path, ...]:
    """HDF5 boundaries beside the counts, or in a folder beside them."""
    inside = [
        name
        for parent, names in places.by_parent.items()
        if home in (parent, str(PurePosixPath(parent).parent))
        for name in names
        if _HDF5.fullmatch(PurePosixPath(name).name.casefold())
    ]
    return tuple(places.folder.root / name for name in sorted(inside))


def _mosaics(places: _Places, home: str) -> tuple[tuple[Mosaic, ...], str]:
    """Images of the nearest folder that has some: `images` beside the counts, or above."""
    for parent in _upwards(home):
        folders = [
            one
            for one in places.by_parent
            if one == parent or str(PurePosixPath(one).parent) == parent
        ]
        for inside in sorted(folders, key=lambda one: not one.casefold().endswith("images")):
            found = [
                Mosaic(match["stain"], int(match["z"]), places.folder.root / name)
                for name in places.by_parent[inside]
                if (match := _MOSAIC.fullmatch(PurePosixPath(name).name))
            ]
            if found:
                return _once(sorted(found, key=lambda one: (one.z, one.stain))), inside
    return (), f"{home}/images".removeprefix("./")


def _once(mosaics: list[Mosaic]) -> tuple[Mosaic, ...]:
    """Refuse two files of one stain and plane."""
    for one, following in pairwise(mosaics):
        if (one.stain, one.z) == (following.stain, following.z):
            raise InputError(
                Fault(
                    str(following.path),
                    f"expected one image of {one.stain} in plane {one.z}, but got "
                    f"{one.path.name} as well; keep one of them",
                )
            )
    return tuple(mosaics)


def _named(places: _Places, parents: tuple[str, ...], ending: str) -> Path | None:
    """Return the file of that name, or one whose name ends so after a sample's name."""
    for parent in parents:
        names = places.by_parent.get(parent, ())
        fits = [name for name in names if PurePosixPath(name).name.casefold() == ending]
        fits = fits or [name for name in names if name.casefold().endswith(f"_{ending}")]
        if len(fits) == 1:
            return places.folder.root / fits[0]
    return None


def _unread(folder: Folder) -> list[str]:
    notes = []
    for name in folder.names:
        reason = _UNREAD.get(PurePosixPath(name).suffix.casefold())
        if reason is None and name.casefold().endswith("mosaic_space.parquet"):
            reason = "boundaries in pixels; those in micrometers are read"
        if reason:
            notes.append(f"{name} not read: {reason}")
    return notes
