"""Atlases of planted tissue."""

from pathlib import Path

import pytest

from tisseract.atlas.store import AtlasStore

from ..planted import planted
from ..sections import make_store


@pytest.fixture(scope="module")
def planted_store(tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    """Three sections: a full panel, a shifted panel at lower depth, and a tiny one."""
    raws = {
        "a": planted(600, seed=1),
        "b": planted(500, seed=2, first_gene=6, depth=0.6),
        "tiny": planted(120, seed=3),
    }
    return make_store(tmp_path_factory.mktemp("planted"), raws, tile_cells=128)


@pytest.fixture
def fresh_store(tmp_path: Path) -> AtlasStore:
    """One planted section in an atlas of its own."""
    return make_store(tmp_path, {"a": planted(300, seed=1)}, tile_cells=64)
