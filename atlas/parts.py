"""Parts of an attempt: folders that are there whole or not at all, and what they hold."""

from __future__ import annotations

import errno
import json
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .attempt import walk
from .errors import AtlasError
from .keys import check_key
from .manifest import ManifestKey, digest_file, parse_json

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PartReceipt", "part_digests", "place_part"]

_TAKEN = {errno.EEXIST, errno.ENOTEMPTY}


@dataclass(frozen=True, slots=True)
class PartReceipt:
    """What a task says about the part it made; small enough to send to the driver."""

    part: str
    """Folder relative to the attempt, two names: `blocks/12`."""
    files: tuple[ManifestKey, ...]
    """Every file of it, keys relative to the attempt, sorted."""
    facts: Mapping[str, int]
    """What else the driver has to know."""

    def to_bytes(self) -> bytes:
        """Serialize as JSON."""
        files = [[key.key, key.size, key.sha256] for key in self.files]
        return json.dumps({"part": self.part, "files": files, "facts": dict(self.facts)}).encode()

    @classmethod
    def from_bytes(cls, data: bytes, what: str) -> PartReceipt | None:
        """Read one back; None when it is torn or not one."""
        try:
            match parse_json(data, what):
                case {"part": str(part), "files": [*rows], "facts": dict(facts)}:
                    pass
                case _:
                    return None
            files = tuple(ManifestKey(check_key(key), size, sha256) for key, size, sha256 in rows)
            check_key(part)
        except (AtlasError, TypeError, ValueError):
            return None
        whole = all(type(fact) is int for fact in facts.values())
        return cls(part, files, facts) if whole and part.count("/") == 1 else None


def place_part(
    attempt: Path, scratch: Path, part: str, write: Callable[[Path], Mapping[str, int]]
) -> PartReceipt:
    """Make one part: write it aside, then rename it into place.

    Safe to run twice at once, on any machine that sees the disk: the second finds the place taken
    and reports what is there. Only the rename ever touches the attempt, so a task that outlives
    its driver cannot leave half a part in it.

    Parameters
    ----------
    attempt, scratch : Path
        `path` and `parts` of the attempt.
    part : str
        Folder relative to the attempt.
    write : callable
        Called with an empty place; makes the part there, under the same relative name, and
        returns small facts for the receipt.

    Returns
    -------
    PartReceipt
        Of the files in place.
    """
    own = scratch / uuid.uuid4().hex
    try:
        facts = write(own)
        try:
            (own / part).rename(attempt / part)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        return PartReceipt(part, part_digests(attempt, part), facts)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def part_digests(attempt: Path, part: str) -> tuple[ManifestKey, ...]:
    """Size and digest of every file of a part that is in place."""
    names = [f"{part}/{name}" for name in walk(attempt / part)[0]]
    return tuple(ManifestKey(name, *digest_file(attempt / name)) for name in names)
