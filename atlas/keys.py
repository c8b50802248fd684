"""Names inside an atlas: which are allowed, and where each thing lies."""

from __future__ import annotations

import re

from .errors import InvalidArgument

__all__ = [
    "ATLAS_KEY",
    "CATALOG",
    "PROBE",
    "SCRATCH",
    "attempt_prefix",
    "catalog_key",
    "check_key",
    "check_name",
    "is_attempt",
    "is_digest",
    "manifest_key",
    "number_of",
    "panel_key",
]

ATLAS_KEY = "atlas.json"
CATALOG = "catalog"
# Objects that ask the storage whether its conditional writes hold.
PROBE = "probe"
# Half-written objects of a local folder; never listed, emptied by gc.
SCRATCH = ".scratch"

_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,128}")
_ATTEMPT = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CATALOG_KEY = re.compile(r"catalog/(\d{12})\.json")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")
# S3 allows 1,024 bytes; the root's own prefix must fit in front.
_LONGEST_KEY = 900
# Snapshot numbers count down from here, so that the newest is the first of a sorted listing.
_CATALOG_TOP = 10**12


def check_name(name: str, what: str = "section") -> str:
    """Return `name` when it may name a section, key or run.

    Raises
    ------
    InvalidArgument
        Other than 1 to 128 of `A-Z a-z 0-9 . _ -`, or a leading dot.

    Examples
    --------
    >>> check_name("E12.5_s03")
    'E12.5_s03'
    """
    if _NAME.fullmatch(str(name)):
        return name
    raise InvalidArgument(
        f"a {what} name is 1 to 128 letters, digits, '.', '_' or '-' and starts with no '.', "
        f"but got {str(name)[:200]!r}"
    )


def check_key(key: str) -> str:
    """Return `key` when it is a relative, `/`-separated key that stays under the root.

    Raises
    ------
    InvalidArgument
        Empty, absolute, too long, or holding `..`, `.`, an empty part, a backslash, a control
        character or the scratch folder.
    """
    parts = key.split("/")
    if (
        not key
        or len(key.encode(errors="replace")) > _LONGEST_KEY
        or _FORBIDDEN.search(key)
        or any(part in ("", ".", "..") for part in parts)
        or parts[0] == SCRATCH
    ):
        raise InvalidArgument(
            "a key is relative and '/'-separated, with no '..', '.', empty part, backslash or "
            f"control character, but got {key[:200]!r}"
        )
    return key


def is_attempt(text: object) -> bool:
    """Tell whether this is an attempt id: a uuid4 as 32 hexadecimal digits."""
    return isinstance(text, str) and _ATTEMPT.fullmatch(text) is not None


def is_digest(text: object) -> bool:
    """Tell whether this is a digest: `sha256:` and 64 hexadecimal digits."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def catalog_key(number: int) -> str:
    """Key of snapshot `number`.

    Raises
    ------
    InvalidArgument
        Below 1 (10^12 - 0 has 13 digits and would sort as the newest) or above 10^12 - 1.

    Examples
    --------
    >>> catalog_key(1)
    'catalog/999999999999.json'
    """
    if not 1 <= number < _CATALOG_TOP:
        raise InvalidArgument(f"a snapshot number starts at 1, but got {number}")
    return f"{CATALOG}/{_CATALOG_TOP - number:012d}.json"


def number_of(key: str) -> int | None:
    """Snapshot number of a catalog key; None when the key is not one.

    Examples
    --------
    >>> number_of("catalog/999999999958.json")
    42
    """
    found = _CATALOG_KEY.fullmatch(key)
    return _CATALOG_TOP - int(found[1]) if found and int(found[1]) else None


def attempt_prefix(parent: str, attempt: str) -> str:
    """Prefix of an attempt of a section, of derived data or of a run.

    Examples
    --------
    >>> attempt_prefix("sections/E12", "0" * 32)
    'sections/E12/00000000000000000000000000000000.zarr'
    """
    suffix = ".zarr" if parent.startswith("sections/") else ""
    return f"{parent}/{attempt}{suffix}"


def manifest_key(parent: str, attempt: str) -> str:
    """Key of an attempt's manifest, beside the attempt."""
    return f"{parent}/{attempt}.manifest.json"


def panel_key(digest: str) -> str:
    """Key of the gene panel with a digest (64 hexadecimal digits); equal panels share it."""
    return f"panels/{check_name(digest, 'panel')}.parquet"
