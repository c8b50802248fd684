"""Where the files of a Stereo-seq output lie: single files, SAW 6 and 7 steps, SAW 8 `outs`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...atlas.errors import Fault, InputError, near
from ..guard import is_hdf5
from .folder import Folder
from .stereoseq_gem import looks_like_gem

__all__ = ["Bundle", "Kind", "locate", "looks_like"]

Kind = Literal["square", "cells"]

_ENDINGS = (".gef", ".gem", ".gem.gz")
# The first that fits says how good a file is: tissue before the whole chip, GEF before text.
_RANKS: tuple[tuple[Kind, str, int], ...] = (
    ("cells", r".*adjusted\.cellbin\.(gef|gem(\.gz)?)", 0),
    ("cells", r".*(cellbin|cell|cellcut)\.gef", 1),
    ("cells", r".*(cellbin|cell|cellcut)\.gem(\.gz)?", 2),
    ("square", r".*(tissue|tissuecut)\.gef", 0),
    ("square", r".*(tissue|tissuecut)\.gem(\.gz)?", 1),
    ("square", r".*raw\.gef", 4),
    ("square", r".*raw\.gem(\.gz)?", 5),
    ("square", r".*\.gef", 2),
    ("square", r".*\.gem(\.gz)?", 3),
)
_IMAGE = re.compile(r".*_regist\.tiff?")
_LABEL = re.compile(r".*(_mask|_tissue_cut)\.tiff?")
_CLUSTERS = re.compile(r".*cell\.cluster\.h5ad")


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files of one chip."""

    root: Path
    """Folder or file the user named."""
    square: Path | None
    """Square bins, or molecules that bins are made of."""
    cells: Path | None
    """Cells."""
    images: tuple[Path, ...]
    """Registered images."""
    labels: tuple[Path, ...]
    """Masks of cells and tissue."""
    clusters: Path | None
    """Clusters of the cells."""
    others: tuple[str, ...]
    """Files of the same kind that were passed over."""
    faults: tuple[Fault, ...] = ()
    """Links out of the folder."""


def looks_like(path: Path) -> bool:
    """Whether a path is a GEM or GEF file, or a folder with some; never raises."""
    try:
        if path.is_dir():
            names = Folder.of(path, 3).names
            return any(name.casefold().endswith(_ENDINGS) for name in names)
        folded = path.name.casefold()
        if not path.is_file():
            return False
        if folded.endswith(".gef"):
            return is_hdf5(path)
        return folded.endswith((".gem", ".gem.gz", ".txt", ".txt.gz", ".tsv", ".tsv.gz")) and (
            looks_like_gem(path)
        )
    except (OSError, InputError):
        return False


def locate(path: Path, file: str | None = None) -> Bundle:
    """Find the files of a chip.

    Parameters
    ----------
    path : Path
        A folder, or a GEM or GEF file.
    file : str, optional
        Path of the file to read inside the folder, where there are several.

    Raises
    ------
    InputError
        There is none, or there are several equally good ones.
    """
    if not path.is_dir():
        return _alone(path)
    folder = Folder.of(path)
    found = [name for name in folder.names if name.casefold().endswith(_ENDINGS)]
    chosen = _chosen(path, found, file)
    images = tuple(_fits(folder, _IMAGE))
    clusters = _fits(folder, _CLUSTERS)
    square, cells = chosen["square"], chosen["cells"]
    return Bundle(
        path,
        path / square if square else None,
        path / cells if cells else None,
        images,
        tuple(one for one in _fits(folder, _LABEL) if one not in images),
        clusters[0] if len(clusters) == 1 else None,
        tuple(name for name in found if name not in chosen.values()),
        folder.faults,
    )


def _alone(path: Path) -> Bundle:
    if not path.exists():
        raise InputError(Fault(str(path), "expected a GEM or GEF file, but got nothing there"))
    cells = path if _rank(path.name)[0] == "cells" else None
    return Bundle(path, None if cells else path, cells, (), (), None, ())


def _chosen(path: Path, found: list[str], file: str | None) -> dict[Kind, str | None]:
    """Names of the files with square bins and with cells: the one asked for, or the best."""
    if file is None:
        chosen: dict[Kind, str | None] = {
            "square": _best(path, found, "square"),
            "cells": _best(path, found, "cells"),
        }
        if not any(chosen.values()):
            raise InputError(
                Fault(
                    str(path),
                    "expected a .gef, .gem or .gem.gz file, but got none; copy the whole output "
                    "folder",
                )
            )
        return chosen
    if file not in found:
        raise InputError(
            Fault(
                f"{path}:reader_kwargs file",
                f"expected one of {', '.join(found) or 'no files'}, but got {file!r}."
                f"{near(file, found)}",
            )
        )
    cells = _rank(file)[0] == "cells"
    return {"square": None if cells else file, "cells": file if cells else None}


def _fits(folder: Folder, pattern: re.Pattern[str]) -> list[Path]:
    return [folder.root / one for one in folder.names if pattern.fullmatch(one.casefold())]


def _rank(name: str) -> tuple[Kind, int]:
    folded = name.rpartition("/")[2].casefold()
    for kind, pattern, rank in _RANKS:
        if re.fullmatch(pattern, folded):
            return kind, rank
    return "square", len(_RANKS)


def _best(path: Path, found: list[str], kind: Kind) -> str | None:
    """Name of the best file of a kind, None if there is none."""
    ranked = sorted((rank, name) for name in found for own, rank in [_rank(name)] if own == kind)
    best = [name for rank, name in ranked if rank == ranked[0][0]]
    # A file copied to another step of the pipeline keeps its name.
    if len({name.rpartition("/")[2] for name in best}) > 1:
        raise InputError(
            Fault(
                str(path),
                f"expected one chip, but got {len(best)} files of the same kind "
                f"({', '.join(best[:4])}); put each chip into a folder of its own, or name one by "
                "reader_kwargs file",
            )
        )
    return best[0] if best else None
