"""How long an ingest may take: a rough guess by the size and kind of its files."""

from __future__ import annotations

from pathlib import Path

__all__ = ["element_bytes", "estimated_seconds", "spoken_seconds"]

# Guesses, not measurements: bytes of input read and written as a section in a second on one core.
# Compressed matrices unpack to several times their size, text must be parsed.
_RATES = {
    ".h5": 8e6,
    ".h5ad": 25e6,
    ".gef": 8e6,
    ".gz": 6e6,
    ".csv": 30e6,
    ".tsv": 30e6,
    ".txt": 30e6,
    ".mtx": 20e6,
    ".parquet": 12e6,
    ".tif": 40e6,
    ".tiff": 40e6,
    ".png": 10e6,
    ".jpg": 4e6,
    ".jpeg": 4e6,
    ".zip": 10e6,
}
_OTHERS = 20e6
_IMAGES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".btf"})
_ELEMENTS = ("transcript", "tx_file", "boundar", "polygon", "spots", "edges", "points")
_LEAST = 0.3
_NETWORK = 40e6  # staging from a bucket, before it is read


def estimated_seconds(sizes: list[tuple[str, int]], *, remote: bool = False) -> float:
    """Estimate the time to take files in, one section at a time.

    Parameters
    ----------
    sizes : list of (str, int)
        Name and bytes of each file that is read.
    remote : bool
        Whether they are staged from a bucket first.

    Returns
    -------
    float
        Seconds: a guess that tells minutes from hours; disks and cores differ.

    Examples
    --------
    >>> estimated_seconds([("counts.csv", 60_000_000)])
    2.3
    """
    read = sum(size / _RATES.get(Path(name).suffix.casefold(), _OTHERS) for name, size in sizes)
    fetched = sum(size for _, size in sizes) / _NETWORK if remote else 0.0
    return _LEAST + read + fetched


def element_bytes(sizes: list[tuple[str, int]]) -> int:
    """Estimate what images, transcripts and boundaries take in the atlas: what they take now.

    Parameters
    ----------
    sizes : list of (str, int)
        Name and bytes of each file that is read.

    Examples
    --------
    >>> element_bytes([("transcripts.parquet", 30), ("he.tif", 4), ("matrix.h5", 9)])
    34
    """
    return sum(
        size
        for name, size in sizes
        if Path(name).suffix.casefold() in _IMAGES
        or any(word in name.casefold() for word in _ELEMENTS)
    )


def spoken_seconds(seconds: float) -> str:
    """Round a time to what it is worth.

    Examples
    --------
    >>> spoken_seconds(2.2), spoken_seconds(95), spoken_seconds(9000)
    ('2 s', '2 min', '2.5 h')
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
