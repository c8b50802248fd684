"""Points written while all else is: the same section, errors, no waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.lane import lane
from tisseract.ingest.partition import write_section
from tisseract.ingest.read_memory import ReadMemory
from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.scratch import scratch_folder, scratch_in
from tisseract.ingest.sort_plan import plan_partition

from .vendors.xenium_checks import READER
from .vendors.xenium_small import write

MIB = 2**20
READING = ReadMemory(image=50 * MIB, points=64 * MIB)


def test_both_are_written_at_once_only_where_both_fit() -> None:
    roomy = plan_partition(1000, 50, 10**5, memory_limit=800 * MIB, reading=READING)
    tight = plan_partition(1000, 50, 10**5, memory_limit=600 * MIB, reading=READING)
    assert roomy.beside
    assert not tight.beside
    assert 456 * MIB < roomy.peak_bytes - roomy.resident_bytes <= 800 * MIB
    assert roomy.points_bytes == 256 * MIB
    assert roomy.image_bytes + roomy.points_bytes < 800 * MIB - roomy.resident_bytes
    nothing = plan_partition(1000, 50, 10**5, memory_limit=800 * MIB)
    assert not nothing.beside


def test_a_lane_works_beside_or_after() -> None:
    began = threading.Event()

    def work(check: Callable[[], None]) -> str:
        began.set()
        return threading.current_thread().name

    with lane(work, beside=True) as result:
        assert began.wait(10)
        assert result().startswith("tisseract-lane")
    began.clear()
    with lane(work, beside=False) as result:
        assert not began.is_set()
        assert result() == threading.current_thread().name


def test_a_lane_puts_its_files_where_the_caller_does(tmp_path: Path) -> None:
    with scratch_in(tmp_path), lane(lambda check: scratch_folder(), beside=True) as result:
        assert result() == tmp_path


def test_a_lane_stops_when_its_caller_fails() -> None:
    stopped = threading.Event()

    def work(check: Callable[[], None]) -> None:
        try:
            while True:
                check()
                time.sleep(0.001)
        finally:
            stopped.set()

    with pytest.raises(ZeroDivisionError), lane(work, beside=True):
        raise ZeroDivisionError
    assert stopped.is_set()


def test_sections_do_not_depend_on_it(tmp_path: Path) -> None:
    source = write(tmp_path / "bundle", images=True, image_px=300)
    found = {}
    for limit in (2048, 340):
        path = tmp_path / str(limit)
        summary = write_section(
            READER.open(source, ReadOptions()), path, memory_limit=limit * MIB, tile_cells=64
        )
        found[limit] = _files(path)
        assert summary.plan.beside == (limit == 2048)
    assert any(name.startswith("images/") for name in found[340])
    assert found[2048] == found[340]


def _files(path: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(path)): each.read_bytes()
        for each in sorted(path.rglob("*"))
        if each.is_file()
    }


def test_an_image_that_fails_is_told(tmp_path: Path) -> None:
    raw = READER.open(write(tmp_path / "bundle", images=True, image_px=300), ReadOptions())

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise InputError(f"no pixels: {name}")

    images = dict.fromkeys(raw.images, Broken())
    with pytest.raises(InputError, match="no pixels"):
        write_section(replace(raw, images=images), tmp_path / "s", memory_limit=2048 * MIB)


def test_points_stop_when_the_matrix_fails(tmp_path: Path) -> None:
    raw = READER.open(write(tmp_path / "bundle"), ReadOptions())
    failed, read = threading.Event(), []
    (name, points), *_ = raw.points.items()

    def batches() -> Iterator[Any]:
        (batch,) = list(points.batches())[:1]
        assert failed.wait(10)
        for _ in range(10_000):
            read.append(1)
            time.sleep(0.001)
            yield batch

    class Broken:
        n_obs, n_vars, nnz, dtype = raw.counts.n_obs, raw.counts.n_vars, 10, np.dtype("uint8")

        def blocks(self, budget_bytes: int) -> Iterator[Any]:
            failed.set()
            raise InputError("no counts")

    slow = {name: replace(points, batches=batches)}
    broken = replace(raw, counts=Broken(), points=slow)
    with pytest.raises(InputError, match="no counts"):
        write_section(broken, tmp_path / "s", memory_limit=2048 * MIB)
    assert 0 < len(read) < 5000
