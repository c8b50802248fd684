"""Where the files of a CosMx export lie: flat files under any sample's name, images by FOV."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ...atlas.errors import Fault, InputError, near
from .folder import Folder

__all__ = ["IMAGE_KINDS", "LABEL_KINDS", "Bundle", "locate", "looks_like"]

_TABLE = r"\.(?:csv|tsv|txt|parquet)(?:\.gz)?"
_PARTS = {
    "counts": re.compile(rf"(?i)(?:(.+)[_-])?exprmat(?:_file)?{_TABLE}"),
    "metadata": re.compile(rf"(?i)(?:(.+)[_-])?metadata_file{_TABLE}"),
    "positions": re.compile(rf"(?i)(?:(.+)[_-])?fov_positions(?:_file)?{_TABLE}"),
    "transcripts": re.compile(rf"(?i)(?:(.+)[_-])?tx_file{_TABLE}"),
    "polygons": re.compile(rf"(?i)(?:(.+)[_-])?polygons(?:_file)?{_TABLE}"),
}
IMAGE_KINDS = ("CellComposite", "CellOverlay", "Morphology2D")
"""Pictures, one file a FOV."""
LABEL_KINDS = ("CellLabels", "CompartmentLabels")
"""Masks, one file a FOV."""
_FOV_IMAGE = re.compile(r"(.*?)_?f(\d{1,9})\.(?:jpe?g|tiff?|png)")
_DEPTH = 6  # <run>/<slide>/CellStatsDir/FOV00001/CellLabels_F00001.tif
_UNREAD = {
    "morphology3d": "image stacks (Morphology3D) not read: one plane is",
    "proteinimages": "ProteinImages not read: one file a protein and FOV",
    "analysisresults": "AnalysisResults not read: the flat files hold what is decoded there",
}
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Bundle:
    """Parts of one sample's export; None for what is not there."""

    root: Path
    """The folder as the user named it."""
    sample: str
    """What the names of its files begin with."""
    counts: Path | None = None
    """exprMat_file: a row a cell, a column a feature."""
    metadata: Path | None = None
    """metadata_file: a row a cell."""
    positions: Path | None = None
    """fov_positions_file: a row a FOV."""
    transcripts: Path | None = None
    """tx_file: a row a transcript."""
    polygons: Path | None = None
    """polygons: a row a vertex."""
    images: Mapping[str, Mapping[int, Path]] = field(default_factory=dict)
    """Files by kind and FOV."""
    notes: tuple[str, ...] = ()
    """What lies there and is not read."""
    faults: tuple[Fault, ...] = ()
    """Links that lead out of the folder."""

    @property
    def described(self) -> Path | None:
        """The file that lists the cells: boundaries where there is no metadata."""
        return self.metadata or self.polygons

    @property
    def tables(self) -> tuple[Path, ...]:
        """Flat files."""
        found = (self.counts, self.metadata, self.positions, self.transcripts, self.polygons)
        return tuple(one for one in found if one is not None)


def looks_like(path: Path) -> bool:
    """Whether a folder holds counts as CosMx names them; never raises."""
    try:
        if not path.is_dir() or (path / "zarr.json").exists():
            return False
        names = Folder.of(path, 3).names
    except (InputError, OSError):
        return False
    return any(_PARTS["counts"].fullmatch(_base(name)) for name in names)


def _base(name: str) -> str:
    return PurePosixPath(name).name.casefold()


def locate(path: Path, sample: str | None = None) -> Bundle:
    """Find the parts of an export; opens none of them.

    A sample is a folder and what the names of its flat files begin with. Images belong to it when
    they lie beside or below its flat files, or when it is the only sample.

    Parameters
    ----------
    path : Path
        The folder.
    sample : str, optional
        Beginning of the names, or name of the folder, where there are several samples.

    Raises
    ------
    InputError
        Several samples and none chosen, or no sample of that name.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     for part in ("exprMat_file.csv", "metadata_file.csv.gz"):
    ...         _ = Path(name, f"Lung5_Rep1_{part}").write_bytes(b"")
    ...     found = locate(Path(name))
    >>> found.sample, found.metadata.name, found.polygons
    ('Lung5_Rep1', 'Lung5_Rep1_metadata_file.csv.gz', None)
    """
    folder = Folder.of(path, _DEPTH)
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for name in folder.names:
        for part, pattern in _PARTS.items():
            match = pattern.fullmatch(PurePosixPath(name).name)
            if match:
                key = (str(PurePosixPath(name).parent), match[1] or "")
                found.setdefault(key, {}).setdefault(part, []).append(name)
    home, prefix = _choose(path, found, sample)
    notes: list[str] = []
    alone = sum("counts" in other for other in found.values()) <= 1
    parts = _parts(found, home, prefix, alone=alone)
    chosen = {part: path / _one_of(names, notes) for part, names in parts.items()}
    return Bundle(
        root=path,
        sample=prefix or (home if home != "." else path.name),
        images=_images(folder, "." if alone else home),
        notes=(*notes, *_unread(folder)),
        faults=folder.faults,
        **chosen,
    )


def _parts(
    found: Mapping[tuple[str, str], Mapping[str, list[str]]],
    home: str,
    prefix: str,
    *,
    alone: bool,
) -> dict[str, list[str]]:
    """Names of each part: under the sample's own name, else under no or another name beside it."""
    parts = dict(found.get((home, prefix), {}))
    beside = [key for key in sorted(found) if alone or key == (home, "")]
    for part in _PARTS:
        others = [found[key][part] for key in beside if part in found[key]]
        if part not in parts and len(others) == 1:
            parts[part] = others[0]
    return parts


def _choose(
    path: Path, found: Mapping[tuple[str, str], Mapping[str, object]], sample: str | None
) -> tuple[str, str]:
    """Folder and beginning of the names of the one sample meant."""
    holders = [key for key, parts in found.items() if "counts" in parts]
    if sample is not None:
        fits = [
            (home, prefix)
            for home, prefix in holders
            if sample.casefold() in {prefix.casefold(), home.casefold(), _base(home)}
        ]
        if not fits:
            offered = sorted({word for home, prefix in holders for word in (prefix, home) if word})
            raise InputError(
                Fault(
                    str(path),
                    f"expected reader_kwargs sample to name one of {', '.join(offered)}, but got "
                    f"{sample!r}.{near(sample, offered)}",
                )
            )
        holders = fits
    if len(holders) > 1:
        listed = ", ".join(f"{home}/{prefix}" for home, prefix in sorted(holders)[:_SHOWN])
        raise InputError(
            Fault(
                str(path),
                f"expected one sample, but got {len(holders)} ({listed}); give each a folder, or "
                "name one in reader_kwargs `sample`",
            )
        )
    if holders:
        return holders[0]
    return next(iter(sorted(found)), (".", ""))


def _one_of(names: list[str], notes: list[str]) -> str:
    """Of the same table in several spellings the one that is read fastest."""
    if len(names) == 1:
        return names[0]
    ranked = sorted(names, key=lambda name: (".parquet" not in name, name.endswith(".gz"), name))
    notes.append(f"{ranked[0]} read, not {', '.join(ranked[1:])}")
    return ranked[0]


def _images(folder: Folder, home: str) -> dict[str, dict[int, Path]]:
    """Files of each kind by FOV: by their own names, or by that of their folder."""
    kinds = {kind.casefold(): kind for kind in (*IMAGE_KINDS, *LABEL_KINDS)}
    found: dict[str, dict[int, Path]] = {}
    for name in folder.names:
        inside = home == "." or PurePosixPath(name).is_relative_to(home)
        match = _FOV_IMAGE.fullmatch(_base(name))
        if not match or not inside:
            continue
        parent = PurePosixPath(name).parent.name.casefold()
        kind = kinds.get(match[1]) or kinds.get(parent)
        if kind is not None:
            found.setdefault(kind, {}).setdefault(int(match[2]), folder.root / name)
    return found


def _unread(folder: Folder) -> list[str]:
    seen = {part.casefold() for name in folder.names for part in PurePosixPath(name).parts[:-1]}
    notes = [reason for name, reason in _UNREAD.items() if name in seen]
    notes += [
        f"{name} not read: an R object; the flat files hold the same cells"
        for name in folder.names
        if _base(name).endswith((".rds", ".h5seurat"))
    ]
    return notes
