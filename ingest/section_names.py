"""Names of sections: what they may be, and how they are made of values and of files."""

from __future__ import annotations

import re
from pathlib import Path

from .near_inputs import is_there

__all__ = ["is_name", "plain_name", "sample_name", "section_name"]

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_ENDINGS = frozenset(
    {".h5ad", ".zip", ".csv", ".tsv", ".txt", ".mtx", ".gem", ".gef", ".tissue", ".cellbin", ".raw"}
)


def is_name(text: str) -> bool:
    """Whether a section may have this name.

    Examples
    --------
    >>> is_name("E12_s1"), is_name("a b")
    (True, False)
    """
    return _NAME.fullmatch(text) is not None


def plain_name(text: str) -> str:
    """Make a name of any text.

    Examples
    --------
    >>> plain_name(" a b "), plain_name("!")
    ('a-b', 'empty')
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", text.strip()).strip("-_") or "empty"


def section_name(sample: str, value: object) -> str:
    """Name of the section that a split makes of one value.

    Examples
    --------
    >>> section_name("heart", 4), section_name("mouse", "ob5 / slice 2")
    ('heart_4', 'mouse_ob5-slice-2')
    """
    return f"{sample}_{plain_name(str(value))}"[:128]


def sample_name(path: Path) -> str:
    """Name of the section of a single input: that of the folder, or of the file without endings.

    Examples
    --------
    >>> sample_name(Path("runs/B1.tissue.gem.gz")), sample_name(Path("my brain.h5ad"))
    ('B1', 'my-brain')
    """
    name = path.name or path.resolve().name
    if not (is_there(path) and path.is_dir()):
        name = Path(name).stem
        while (ending := Path(name).suffix.casefold()) in _ENDINGS and Path(name).stem:
            name = name[: -len(ending)]
    return plain_name(name.removesuffix(".zarr"))[:128]
