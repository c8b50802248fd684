"""Files and folders that appear under their name only when they are complete."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["appearing", "put", "removed"]


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Hand out a name beside a file to write to; takes the file's place unless something fails.

    What is written may be a folder: see `put`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with appearing(Path(folder) / "a.txt") as part:
    ...         _ = part.write_text("whole")
    ...     [file.name for file in Path(folder).iterdir()]
    ['a.txt']
    """
    # Of a name of its own: two that write one file must not write one part.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield part
        put(part, path)
    finally:
        removed(part)


def put(part: Path, path: Path) -> None:
    """Put what is complete under its name: a file in one step, a folder that is there in two.

    A kill between the two renames of a folder leaves nothing under the name; the old folder then
    lies beside it as `.<name>.<id>.old`, and the new one as `part`.
    """
    if not path.is_dir() or path.is_symlink():
        part.replace(path)
        return
    # A folder cannot be replaced in one step: the old one steps aside first.
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.old")
    path.rename(aside)
    part.rename(path)
    shutil.rmtree(aside)


def removed(part: Path) -> None:
    """Remove a file or folder, if it is there."""
    if part.is_dir():
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)
