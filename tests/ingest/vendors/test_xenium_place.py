"""Cut images are found in pixels no finer than needed, once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tisseract.ingest.vendors import xenium_place
from tisseract.ingest.vendors.xenium_place import REGISTER_BYTES, register

PIXEL = 0.2125


def image_of(centers_px: Any, side: int) -> Any:
    """Nuclei as squares of 5 um."""
    pixels = np.zeros((2, side, side), np.uint16)
    for x, y in centers_px.astype(int):
        pixels[0, max(y - 12, 0) : max(y + 12, 0), max(x - 12, 0) : max(x + 12, 0)] = 1000

    @contextmanager
    def opened() -> Iterator[Any]:
        yield SimpleNamespace(
            shape=pixels.shape, dtype=pixels.dtype, rows=lambda a, b: pixels[:, a:b]
        )

    return cast("Any", SimpleNamespace(open=opened))


def test_a_large_image_is_found_coarsely_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    cells = rng.random((400, 2)) * 640 + 3000
    image = image_of((cells - [3050, 3030]) / PIXEL, 2600)
    tracemalloc.start()
    found = register(image, PIXEL, cells)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is not None
    np.testing.assert_allclose(found.matrix[:2, 2], [3050, 3030], atol=0.5)
    assert found.matrix[0, 0] == PIXEL
    assert peak < REGISTER_BYTES / 3
    monkeypatch.setattr(xenium_place, "_match", None)
    assert register(image, PIXEL, cells) is found
