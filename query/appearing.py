"""Files that appear under their name only when they are complete."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["appearing"]


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Hand out a name beside a file to write to; takes the file's place unless something fails.

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
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
