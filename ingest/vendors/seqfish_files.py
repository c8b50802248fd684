"""Files of seqFISH output by region of interest: releases differ in what stands around the kind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...atlas.errors import Fault, InputError, near
from .folder import Folder

__all__ = ["Roi", "choose", "rois_of"]

_KINDS = {
    "counts": ("cellxgene", ("csv", "csv.gz", "tsv")),
    "cells": ("cellcoordinates", ("csv", "csv.gz", "tsv")),
    "transcripts": ("transcriptlist", ("csv", "csv.gz", "tsv", "parquet")),
    "boundaries": ("boundaries", ("geojson", "geojson.gz")),
    "image": ("dapi", ("tiff", "tif", "ome.tif", "ome.tiff")),
    "labels": ("segmentation", ("tiff", "tif", "ome.tif", "ome.tiff")),
}
_PATTERNS = {
    kind: re.compile(
        rf"(?P<before>.*?)[_-]?{word}(?P<after>.*?)\.(?:{'|'.join(map(re.escape, ends))})"
    )
    for kind, (word, ends) in _KINDS.items()
}


@dataclass(frozen=True, slots=True)
class Roi:
    """Files of one region."""

    name: str
    """What stands around the kind of file in their names, "" for nothing."""
    files: dict[str, Path]
    """By kind: counts, cells, transcripts, boundaries, image, labels."""


def rois_of(folder: Folder) -> dict[str, Roi]:
    """Regions of a folder by name.

    `Roi1_CellxGene.csv` and `run_CellxGene_Roi1.csv` are both counts: the region is what is left of
    the name.

    Raises
    ------
    InputError
        Two files of one kind for one region.
    """
    found: dict[str, Roi] = {}
    for name in folder.names:
        base = name.rpartition("/")[2]
        for kind, pattern in _PATTERNS.items():
            fits = pattern.fullmatch(base.casefold())
            if fits is None:
                continue
            before, after = (
                base[: fits.end("before")],
                base[fits.start("after") : fits.end("after")],
            )
            roi = "_".join(part for part in (before.strip("_-"), after.strip("_-")) if part)
            own = found.setdefault(roi, Roi(roi, {}))
            if kind in own.files:
                raise InputError(
                    Fault(
                        str(folder.root),
                        f"expected one file of {kind} for region {roi!r}, but got "
                        f"{own.files[kind].name} and {base}; put one of them elsewhere",
                    )
                )
            own.files[kind] = folder.root / name
            break
    return found


def choose(path: Path, rois: dict[str, Roi], wanted: object) -> Roi:
    """Return the region to read.

    Raises
    ------
    InputError
        None has counts or positions, there are several and none is named, or no such one.
    """
    usable = {name: roi for name, roi in rois.items() if {"counts", "cells"} & set(roi.files)}
    # Beside regions with names, files without one are of no region that could be meant.
    named = {name: roi for name, roi in usable.items() if name} or usable
    if wanted is not None:
        if str(wanted) not in usable:
            raise InputError(
                Fault(
                    f"{path}:reader_kwargs roi",
                    f"expected one of {', '.join(sorted(usable)) or 'no regions'}, but got "
                    f"{wanted!r}.{near(str(wanted), usable)}",
                )
            )
        return usable[str(wanted)]
    if len(named) == 1:
        return next(iter(named.values()))
    if not named:
        raise InputError(
            Fault(
                str(path),
                "expected *CellxGene*.csv and *CellCoordinates*.csv, but got neither; copy the "
                "whole output folder",
            )
        )
    raise InputError(
        Fault(
            str(path),
            f"expected one region, but got {len(named)} ({', '.join(sorted(named)[:20])}); write a "
            "row for each into the sheet, with reader_kwargs roi",
        )
    )
