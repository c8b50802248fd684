"""The list of everything an attempt holds, with sizes and digests: the proof that it is whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import Corrupt, InvalidArgument
from .keys import check_key, is_attempt
from .storage import Storage

__all__ = ["Manifest", "ManifestKey", "digest_bytes", "digest_file", "parse_json", "read_manifest"]

FORMAT = "tisseract-manifest"
# 4 million keys of 100 bytes; more than any section written with shards.
_LARGEST = 512 * 2**20
_READ = 2**20


def digest_bytes(data: bytes) -> str:
    """Digest of bytes, as `sha256:<64 hexadecimal digits>`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_file(path: Path, *, flush: bool = False) -> tuple[int, str]:
    """Size and SHA-256 (hexadecimal) of a file; `flush` puts it on the disk for good."""
    total, state = 0, hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_READ):
            state.update(block)
            total += len(block)
        if flush:
            os.fsync(file.fileno())
    return total, state.hexdigest()


def parse_json(data: bytes, what: str) -> Mapping[str, Any]:
    """Read a JSON object written by someone else.

    Raises
    ------
    Corrupt
        Not UTF-8, not JSON, NaN or infinity, nested too deep, or not an object.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        found = json.loads(data.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Corrupt(
            f"a JSON object is wanted in {what}, but got something else ({str(error)[:120]}); "
            "run `tisseract verify`"
        ) from None
    if not isinstance(found, dict):
        raise Corrupt(f"a JSON object is wanted in {what}, but got a {type(found).__name__}")
    return found


@dataclass(frozen=True, slots=True)
class ManifestKey:
    """One object of an attempt.

    Attributes
    ----------
    key : str
        Relative to the attempt.
    size : int
        Bytes.
    sha256 : str
        64 hexadecimal digits.
    """

    key: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Every object of one attempt, sorted by key.

    Attributes
    ----------
    attempt : str
        Id of the attempt.
    prefix : str
        Where it lies, relative to the root.
    keys : tuple of ManifestKey
        All objects under the prefix.
    """

    attempt: str
    prefix: str
    keys: tuple[ManifestKey, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all objects together."""
        return sum(key.size for key in self.keys)

    def to_bytes(self) -> bytes:
        """Serialize; equal manifests give equal bytes."""
        body = {
            "format": FORMAT,
            "format_version": 1,
            "attempt": self.attempt,
            "prefix": self.prefix,
            "keys": [[key.key, key.size, key.sha256] for key in self.keys],
        }
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes, what: str) -> Manifest:
        """Read one back; `Corrupt` when anything is out of shape."""
        body = parse_json(data, what)
        rows = body.get("keys")
        if body.get("format") != FORMAT or not isinstance(rows, list):
            raise Corrupt(f"a manifest is wanted in {what}, but got other JSON")
        if not is_attempt(body.get("attempt")) or not isinstance(body.get("prefix"), str):
            raise Corrupt(f"an attempt id and prefix are wanted in {what}, but got none")
        return cls(body["attempt"], body["prefix"], tuple(_row(row, what) for row in rows))


def _row(row: object, what: str) -> ManifestKey:
    match row:
        case [str(key), int(size), str(sha256)] if size >= 0 and len(sha256) == 64:
            try:
                return ManifestKey(check_key(key), size, sha256)
            except InvalidArgument as error:
                raise Corrupt(f"{what}: {error}") from None
    raise Corrupt(f"[key, size, sha256] is wanted in {what}, but got {str(row)[:100]!r}")


def read_manifest(storage: Storage, key: str, digest: str | None = None) -> Manifest:
    """Read a manifest, and check it against the digest that the snapshot recorded.

    Raises
    ------
    MissingKey
        There is none.
    Corrupt
        Damaged, or not the one that was committed.
    """
    data = storage.get(key, max_bytes=_LARGEST)
    if digest is not None and digest_bytes(data) != digest:
        raise Corrupt(
            f"the manifest {key!r} with digest {digest} is wanted, but got {digest_bytes(data)}; "
            "ingest the section again"
        )
    return Manifest.from_bytes(data, f"manifest {key!r}")
