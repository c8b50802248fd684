"""Fixtures of the store's tests: a loopback S3 server, and a root of each kind."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tisseract.atlas.storage import Storage, open_storage

S3Place = tuple[str, dict[str, Any]]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
        return True
    return False


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Address of a moto server on the loopback, ended by its process id."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not _answers(f"{url}/moto-api/"):
            assert process.poll() is None, "the S3 server ended at once"
            assert time.monotonic() < deadline, "the S3 server did not answer within 60 s"
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture
def s3_place(s3_endpoint: str) -> S3Place:
    """Give the URL of an empty prefix in a fresh bucket, and the options to reach it."""
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    request = urllib.request.Request(f"{s3_endpoint}/{bucket}", method="PUT")
    with urllib.request.urlopen(request, timeout=20):
        pass
    options = {
        "key": "testing-key",
        "secret": "testing-secret-canary",
        "endpoint_url": s3_endpoint,
        "region": "us-east-1",
    }
    return f"s3://{bucket}/deep/brain.atlas", options


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
