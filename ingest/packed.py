"""Files that may be gzipped, opened for their bytes."""

from __future__ import annotations

import gzip
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["open_bytes"]


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for its bytes, unpacked where its name ends in .gz, in letters of either case.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as name:
    ...     path = Path(name, "x.GZ")
    ...     _ = path.write_bytes(gzip.compress(b"a,b"))
    ...     with open_bytes(path) as file:
    ...         file.read()
    b'a,b'
    """
    packed = path.suffix.casefold() == ".gz"
    return cast("IO[bytes]", gzip.open(path, "rb") if packed else path.open("rb"))
