"""Clocks and counters of one process."""

from __future__ import annotations

import resource
import time
from pathlib import Path

LATER_EPOCHS = 4  # measured together, after the first


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def read_bytes() -> int:
    """Bytes that this process has read by system calls."""
    line = Path("/proc/self/io").read_text(encoding="ascii").splitlines()[0]
    return int(line.split()[1])


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Meter:
    """Seconds, CPU seconds, bytes read and growth of the peak since it was made."""

    def __init__(self) -> None:
        self._peak, self._read = peak_bytes(), read_bytes()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Return what has been used so far."""
        return {
            "seconds": time.perf_counter() - self._wall,
            "cpu": time.process_time() - self._cpu,
            "peak": peak_bytes() - self._peak,
            "read": read_bytes() - self._read,
        }
