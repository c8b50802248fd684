"""What all readers of vendors' output share: options that mean nothing are told, not ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from tisseract.ingest.reader import ReadOptions, _readers
from tisseract.ingest.vendors.vendor import VendorReader

READERS = [reader for reader in _readers().values() if isinstance(reader, VendorReader)]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.format)
def test_options_that_mean_nothing_are_refused(tmp_path: Path, reader: VendorReader) -> None:
    options = ReadOptions(layer="raw", spatial_key="xy", image=tmp_path / "he.tif")
    told = "\n".join(map(str, reader.inspect(tmp_path, options).faults))
    for name in ("layer", "spatial_key", *(() if reader.takes_image else ("image",))):
        assert f"expected no `{name}` for {reader.technology} output" in told
    assert ("`image`" in told) != reader.takes_image
