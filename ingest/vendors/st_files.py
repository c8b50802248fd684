"""Files of Spatial Transcriptomics arrays: a table of counts, a list of spots, an image."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ...atlas.errors import Fault, InputError, near
from ..packed import open_bytes
from .folder import Folder

__all__ = ["SPOT_NAME", "Bundle", "is_count_table", "locate"]

SPOT_NAME = re.compile(r'"?(-?\d+(?:\.\d+)?)x(-?\d+(?:\.\d+)?)"?')
"""Names of rows: place on the array, `10x13`, or as corrected for the print, `9.98x13.04`."""

_ENDINGS = re.compile(r"\.(tsv|csv|txt)(\.gz)?$")
_SPOTS = re.compile(r".*(selection|spot|coordinates|alignment).*\.(tsv|csv|txt)(\.gz)?")
_IMAGE = re.compile(r".*\.(jpe?g|png|tiff?)")
_LINE = 2**24
_MOST_LOOKED_AT = 100


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files of one array."""

    sample: str
    """Name of the array."""
    counts: Path
    """Spots by genes."""
    spots: Path | None
    """Where the spots lie in the image."""
    image: Path | None
    """Image of the tissue."""
    faults: tuple[Fault, ...] = ()
    """Links out of the folder."""


def is_count_table(path: Path) -> bool:
    """Whether rows of a text file are named like spots of an array; never raises."""
    try:
        with open_bytes(path) as file:
            if not file.readline(_LINE):
                return False
            row = file.readline(_LINE)
    except (OSError, EOFError, ValueError, zlib.error):
        return False
    words = re.split(rb"[\t,;]", row[:200])
    return len(words) > 1 and SPOT_NAME.fullmatch(words[0].decode("latin-1").strip()) is not None


def _tables(folder: Folder, *, by_names: bool) -> list[str]:
    """Names of count tables; of all tables that are no lists of spots, where none can be told."""
    texts = [
        name
        for name in folder.names
        if _ENDINGS.search(name.casefold()) and not _SPOTS.fullmatch(_base(name).casefold())
    ]
    found = [name for name in texts[:_MOST_LOOKED_AT] if is_count_table(folder.root / name)]
    return found or (texts if by_names else [])


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _stem(name: str) -> str:
    return _ENDINGS.sub("", _base(name))


def locate(path: Path, sample: object = None, *, by_names: bool = False) -> Bundle:
    """Find the files of an array, in a folder of one array or of many.

    Parameters
    ----------
    path : Path
        Folder, or the count table itself with the other files beside it.
    sample : object
        Name of the array, where a folder has several.
    by_names : bool
        Whether names will do where no table can be told by its first lines.

    Raises
    ------
    InputError
        No count table, several and none named, or several lists of spots that fit.
    """
    if path.is_dir():
        folder = Folder.of(path, 3)
        tables = _by_array(_tables(folder, by_names=by_names))
    else:
        folder, tables = Folder.of(path.parent, 0), {_stem(path.name): path.name}
    _require_one(path, tables, sample)
    name = str(sample) if sample is not None else next(iter(tables))
    alone = len(tables) == 1 and path.is_dir()
    spots = _fitting(folder, _SPOTS, name, alone=alone, what="lists of spots")
    image = _fitting(folder, _IMAGE, name, alone=alone, what=None)
    return Bundle(name, folder.root / tables[name], spots, image, folder.faults)


def _by_array(names: list[str]) -> dict[str, str]:
    """Tables by array: called like the table, or like its folder where tables have one name."""
    times = Counter(map(_stem, names))
    found: dict[str, str] = {}
    for name in names:
        stem = _stem(name)
        array = stem if times[stem] == 1 else name.rpartition("/")[0] or stem
        found[name if array in found else array] = name
    return found


def _require_one(path: Path, tables: dict[str, str], sample: object) -> None:
    """Refuse a folder without an array, or with several and none of them named."""
    if sample is not None and str(sample) not in tables:
        raise InputError(
            Fault(
                f"{path}:reader_kwargs sample",
                f"expected one of {', '.join(sorted(tables)) or 'no tables'}, but got {sample!r}."
                f"{near(str(sample), tables)}",
            )
        )
    if not tables:
        raise InputError(
            Fault(
                str(path),
                "expected a table of counts whose rows are spots such as 10x13, but got none",
            )
        )
    if len(tables) > 1 and sample is None:
        raise InputError(
            Fault(
                str(path),
                f"expected one array, but got {len(tables)} ({', '.join(sorted(tables)[:20])}); "
                "write a row for each into the sheet, with reader_kwargs sample",
            )
        )


def _fitting(
    folder: Folder, pattern: re.Pattern[str], array: str, *, alone: bool, what: str | None
) -> Path | None:
    """Return the file of an array: named after it, in a folder named after it, or the only one."""
    found = [name for name in folder.names if pattern.fullmatch(_base(name).casefold())]
    own = re.compile(rf"(?:^|[^A-Za-z0-9]){re.escape(array)}(?:[^A-Za-z0-9]|$)", re.IGNORECASE)
    named = [name for name in found if own.search(_base(name))]
    fits = named or [name for name in found if own.search(name)]
    if not fits and alone and len(found) == 1:
        fits = found
    if len(fits) > 1 and what is not None:
        raise InputError(
            Fault(
                str(folder.root),
                f"expected one of the {what} for {array!r}, but got {', '.join(fits[:4])}; put the "
                "others elsewhere",
            )
        )
    return folder.root / fits[0] if len(fits) == 1 else None
