"""Whole lines of delimited text, block by block, as bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["line_blocks"]

_LONGEST = 2**28


def line_blocks(path: Path, skip: int, block_bytes: int = 2**22) -> Iterator[bytes]:
    r"""Yield consecutive lines of a file, gzipped or not; the last one ends in a newline, too.

    Parameters
    ----------
    path : Path
        The file.
    skip : int
        Lines before the data, left out.
    block_bytes : int
        Text read at a time; a longer line comes whole.

    Raises
    ------
    ValueError
        A line of more than 256 MiB.
    OSError
        It cannot be read, or its gzip stream breaks off.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     path = Path(name, "x.csv")
    ...     _ = path.write_bytes(b"a,b\n1,2\n3,4")
    ...     b"".join(line_blocks(path, 1))
    b'1,2\n3,4\n'
    """
    import pyarrow as pa

    compression = "gzip" if path.suffix.casefold() == ".gz" else None
    rest = b""
    with pa.input_stream(str(path), compression=compression) as stream:
        while True:
            piece = stream.read(block_bytes)
            text = rest + piece if rest else piece
            cut = text.rfind(b"\n") + 1
            if not piece and cut < len(text):
                text += b"\n"
                cut = len(text)
            if len(text) - cut > _LONGEST:
                raise ValueError(f"a line of more than {_LONGEST >> 20} MiB")
            whole, rest = text[:cut], text[cut:]
            start = 0
            while skip and start < len(whole):
                start = whole.index(b"\n", start) + 1
                skip -= 1
            if start < len(whole):
                yield whole[start:]
            if not piece:
                return
