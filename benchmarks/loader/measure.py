"""Clocks and counters of one process."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

LATER_EPOCHS = 4  # measured together, after the first
TOUCHED = 2**30


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def read_bytes() -> int:
    """Bytes that this process has read by system calls."""
    line = Path("/proc/self/io").read_text(encoding="ascii").splitlines()[0]
    return int(line.split()[1])


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def touch_memory() -> None:
    """Have a process of its own touch memory and leave, so that free memory is ready to be used.

    A virtual machine may give free memory back to its host after seconds, and pay for it again when
    it is next touched: two to four seconds a GiB on the one these figures come from, a tenth of a
    second after this. Without, the first epoch measures the host, in proportion to what is held.
    """
    subprocess.run([sys.executable, "-c", f"import numpy; numpy.ones({TOUCHED}, 'u1')"], check=True)


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
