"""A loopback S3 server for tests, ended by its process id."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

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
