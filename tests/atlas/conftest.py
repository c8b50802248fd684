"""Fixtures of the store's tests: a root of each kind."""

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tisseract.atlas.storage import Storage, open_storage


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.server)])
def make_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Storage]:
    """Open the same fresh root of one kind, as often as asked."""
    if request.param == "s3":
        url, options = request.getfixturevalue("s3_place")
    else:
        options = {}
        memory = f"memory://{uuid.uuid4().hex}"
        url = memory if request.param == "memory" else str(tmp_path / "atlas")

    def make(*, read_only: bool = False) -> Storage:
        return open_storage(url, options, read_only=read_only)

    return make


@pytest.fixture
def storage(make_storage: Callable[..., Storage]) -> Storage:
    """Open a fresh root of one kind for writing."""
    return make_storage()


@pytest.fixture
def local(tmp_path: Path) -> Storage:
    """Open a fresh root on the disk for writing."""
    return open_storage(tmp_path / "atlas", read_only=False)
