"""Requests and bytes of a local atlas, counted where files are read, through the real codecs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tisseract.atlas.storage_local import LocalStorage


@dataclass
class Reads:
    """Every read, in order: key and bytes."""

    made: list[tuple[str, int]] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Number of reads."""
        return len(self.made)

    @property
    def nbytes(self) -> int:
        """Bytes of all reads."""
        return sum(n for _, n in self.made)

    def of(self, part: str) -> list[int]:
        """Bytes of each read whose key holds a text."""
        return [n for key, n in self.made if part in key]


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    """Count the reads of every local storage; asking for a size counts, too."""
    reads = Reads()
    with monkeypatch.context() as patched:
        for verb in ("get", "get_range", "get_tail", "size"):
            patched.setattr(LocalStorage, verb, _noting(getattr(LocalStorage, verb), reads))
        yield reads


def _noting(verb: Any, reads: Reads) -> Any:
    def noted(self: LocalStorage, key: str, *args: Any, **options: Any) -> Any:
        found = verb(self, key, *args, **options)
        body = found[0] if isinstance(found, tuple) else found
        reads.made.append((key, len(body) if isinstance(body, bytes) else 0))
        return found

    return noted
