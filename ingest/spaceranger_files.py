"""Small files of Space Ranger that other readers meet as well: scale factors, lists."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from ..atlas.errors import Fault, InputError
from .packed import open_bytes
from .reader import faults_of
from .source import StringValues

__all__ = ["image_scale", "read_lines", "read_names", "read_scalefactors"]

_MOST_JSON, _MOST_TEXT = 2**20, 2**29
_IMAGE = re.compile(r"(.*)tissue_(hires|lowres)_image\.(png|jpe?g|tiff?)", re.IGNORECASE)


def read_scalefactors(path: Path) -> dict[str, float]:
    """Read the scale factors.

    Raises
    ------
    InputError
        If the file is no JSON object.
    """
    with faults_of(path, "scale factors", parsing=True):
        if (size := path.stat().st_size) > _MOST_JSON:
            raise InputError(Fault(str(path), f"expected scale factors, but got {size} bytes"))
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict):
            got = type(facts).__name__
            raise InputError(Fault(str(path), f"expected a JSON object, but got a {got}"))
        return {
            str(name): float(value)
            for name, value in facts.items()
            if isinstance(value, (int, float)) and math.isfinite(value) and value > 0
        }


def image_scale(image: Path) -> tuple[Path, float] | None:
    """Find the scale of a Space Ranger image: pixels per full-resolution pixel, and its file.

    None unless the image is named like Space Ranger's, also after the name of a sample, and scale
    factors lie beside it.
    """
    found = _IMAGE.fullmatch(image.name)
    if found is None:
        return None
    names = (f"{found[1]}scalefactors_json.json", "scalefactors_json.json")
    factors = next((one for n in names if (one := image.with_name(n)).is_file()), None)
    if factors is None:
        return None
    scale = read_scalefactors(factors).get(f"tissue_{found[2].casefold()}_scalef")
    return (factors, scale) if scale else None


def read_lines(path: Path) -> list[str]:
    """Read the lines of a small text file, gzipped or not."""
    with faults_of(path, "a table of UTF-8 text", parsing=True):
        return _text(path).decode("utf-8").splitlines()


def read_names(path: Path) -> StringValues:
    """Read what each line of a text file has before its first tab, gzipped or not.

    Memory: twice the text and 8 bytes a line; of millions of barcodes none is a Python object.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    text = _text(path)
    with faults_of(path, "a table of UTF-8 text", parsing=True):
        whole = pa.array([text.removesuffix(b"\n")], pa.large_binary()).cast(pa.large_string())
        words = pc.split_pattern(whole, "\n").values
        if b"\t" in text or b"\r" in text:
            words = pc.replace_substring_regex(words, r"[\t\r].*", "")
        return StringValues.from_strings(words)


def _text(path: Path) -> bytes:
    with faults_of(path, "a table", parsing=True), open_bytes(path) as file:
        # A few megabytes of gzip can unpack into the whole memory.
        text = file.read(_MOST_TEXT + 1)
    if len(text) > _MOST_TEXT:
        raise InputError(Fault(str(path), f"expected at most {_MOST_TEXT} bytes, but got more"))
    return text
