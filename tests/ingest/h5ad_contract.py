"""The contract of readers of AnnData, over the cells of `h5ad_files`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tisseract.ingest.reader import ReadOptions

from ..contracts import ReaderContract
from . import h5ad_files as small

UNIT = ReadOptions(um_per_unit=1.0)


class AnnDataContract(ReaderContract):
    """Inherit, and give reader and source."""

    @pytest.fixture
    def options(self) -> ReadOptions:
        return UNIT

    @pytest.fixture
    def truth(self) -> Mapping[str, Any]:
        return {
            "counts": small.counts(),
            "positions": small.positions(),
            "ids": small.cell_ids(),
            "gene_ids": small.gene_names(),
        }
