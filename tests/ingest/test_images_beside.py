"""Images written while points are sorted: the same section, within the plan, and errors told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.partition import write_section
from tisseract.ingest.read_memory import ReadMemory
from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.sort_plan import plan_partition

from .vendors.xenium_checks import READER
from .vendors.xenium_small import write

MIB = 2**20
READING = ReadMemory(image=50 * MIB, points=64 * MIB)


def test_both_are_written_at_once_only_where_both_fit() -> None:
    roomy = plan_partition(1000, 50, 10**5, memory_limit=800 * MIB, reading=READING)
    tight = plan_partition(1000, 50, 10**5, memory_limit=600 * MIB, reading=READING)
    assert roomy.images_beside
    assert not tight.images_beside
    assert 456 * MIB < roomy.peak_bytes - roomy.resident_bytes <= 800 * MIB
    assert roomy.image_bytes + 256 * MIB < 800 * MIB
    alone = plan_partition(
        1000, 50, 10**5, memory_limit=800 * MIB, reading=replace(READING, points=0)
    )
    assert not alone.images_beside


def test_sections_do_not_depend_on_it(tmp_path: Path) -> None:
    source = write(tmp_path / "bundle", images=True, image_px=300)
    found = {}
    for limit in (2048, 340):
        path = tmp_path / str(limit)
        summary = write_section(
            READER.open(source, ReadOptions()), path, memory_limit=limit * MIB, tile_cells=64
        )
        found[limit] = _files(path)
        assert summary.plan.images_beside == (limit == 2048)
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
