"""Inputs in buckets: recognized by names, staged and removed, skipped when unchanged."""

from __future__ import annotations

import os
import tempfile
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tisseract.atlas.errors import InputError, ReadOnly
from tisseract.atlas.storage import open_storage
from tisseract.atlas.store import open_store
from tisseract.ingest import staging
from tisseract.ingest.check import check_samples
from tisseract.ingest.pipeline import ingest
from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.staging import staged, survey_remote

from ..servers import S3Place, s3_endpoint, s3_place
from . import h5ad_files as small
from .vendors.anndata_store import template, write_zip
from .vendors.st_bundle import write_st
from .vendors.tables_bundle import small as small_tissue
from .vendors.tables_bundle import write_tables
from .vendors.tissue import SimTissue

__all__ = ["s3_endpoint", "s3_place"]


def put(url: str, folder: Path, **options: Any) -> str:
    """Copy a folder or file into a bucket."""
    storage = open_storage(url, options or None, read_only=False)
    files = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    for file in files:
        if file.is_file():
            key = file.name if folder.is_file() else file.relative_to(folder).as_posix()
            storage.put(key, file.read_bytes())
    return f"{url}/{folder.name}" if folder.is_file() else url


@pytest.fixture
def bucket() -> str:
    return f"memory://inputs-{uuid.uuid4().hex[:8]}/run1"


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not [
        one
        for one in folder.iterdir()
        if one.name.startswith(("tisseract-stage", "tisseract-look"))
    ]


def test_a_folder_is_read_as_from_disk(tmp_path: Path, bucket: str, scratch: Path) -> None:
    folder = write_tables(tmp_path / "tables", small_tissue(), "long")
    (folder / "huge.tif").write_bytes(b"not needed")
    url = put(bucket, folder)
    report = check_samples([{"sample": "a", "data_path": url}])
    assert report.ok, str(report)
    row = report.rows[0].to_json()
    assert (row["format"], row["n_obs"]) == ("table", 0)
    assert "huge.tif" not in str(row["reads"])
    ingest([{"sample": "a", "data_path": url}], tmp_path / "remote.atlas")
    ingest([{"sample": "a", "data_path": folder}], tmp_path / "local.atlas")
    here, there = (
        open_store(tmp_path / name).section("a") for name in ("local.atlas", "remote.atlas")
    )
    assert abs(here.counts() - there.counts()).sum() == 0
    assert (here.positions() == there.positions()).all()


def test_a_file_is_read_and_skipped_until_it_changes(
    tmp_path: Path, bucket: str, scratch: Path
) -> None:
    url = put(bucket, small.write_h5ad(tmp_path / "brain.h5ad"))
    row = {"sample": "a", "data_path": url, "um_per_unit": 1.0}
    atlas = tmp_path / "a.atlas"
    assert ingest([row], atlas).outcomes[0].outcome == "written"
    assert ingest([row], atlas).outcomes[0].outcome == "skipped"
    put(bucket, small.write_h5ad(tmp_path / "brain.h5ad", small.counts(7)))
    with pytest.raises(InputError, match="another input"):
        ingest([row], atlas)


@pytest.mark.slow
def test_a_zarr_store_of_many_objects(tmp_path: Path, bucket: str, scratch: Path) -> None:
    url = put(f"{bucket}/brain.zarr", template(2, "csr"))
    ingest([{"sample": "z", "data_path": url, "um_per_unit": 1.0}], tmp_path / "a.atlas")
    assert open_store(tmp_path / "a.atlas").section("z").n_obs == small.N_CELLS


def test_big_files_are_not_fetched_to_recognize(
    tmp_path: Path, bucket: str, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = tmp_path / "brain.h5ad"
    small.write_h5ad(big)
    big.write_bytes(big.read_bytes() + bytes(5 * 2**20))
    url = put(bucket, big)
    read: list[int] = []
    from tisseract.atlas.storage_object import ObjectStorage

    inner = ObjectStorage.get_range

    def watched(self: Any, key: str, start: int, length: int) -> bytes:
        read.append(length)
        return inner(self, key, start, length)

    monkeypatch.setattr(ObjectStorage, "get_range", watched)
    assert survey_remote(url, ReadOptions()).format == "h5ad"
    assert sum(read) <= 2**12


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("form", [None, "st"])
def test_wide_tables_are_recognized(
    tmp_path: Path, bucket: str, scratch: Path, gz: bool, form: str | None
) -> None:
    tissue = SimTissue(n_cells=40, n_genes=8000, mean_counts=2000, seed=1)
    folder = write_st(tmp_path / "array", tissue, gz=gz, image=False)
    assert max(one.stat().st_size for one in folder.iterdir()) > staging._SMALL
    found = survey_remote(put(bucket, folder), ReadOptions(), form)
    assert (found.format, len(found.files)) == ("st", 2)


def test_zips_are_recognized(tmp_path: Path, bucket: str, scratch: Path) -> None:
    path = write_zip(tmp_path / "brain.zarr.zip", inner="brain.zarr/")
    with zipfile.ZipFile(path, "a") as file:
        for k in range(3000):
            file.writestr(f"brain.zarr/obsm/spatial/c/{k}/more", b"0" * 90)
    remote = survey_remote(put(bucket, path), ReadOptions())
    assert remote.format == "anndata_zarr"


def test_a_disk_too_small_is_refused(
    tmp_path: Path, bucket: str, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = put(bucket, small.write_h5ad(tmp_path / "brain.h5ad"))
    monkeypatch.setattr(staging, "_SPARE", 2**60)
    told = check_samples([{"sample": "a", "data_path": url}])
    assert "of scratch disk" in str(told.faults[0])


def test_no_more_are_staged_at_once_than_the_disk_holds(
    tmp_path: Path, bucket: str, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = put(bucket, small.write_h5ad(tmp_path / "brain.h5ad"))
    remote = survey_remote(url, ReadOptions())
    assert staging.most_at_once([]) is None
    usage = SimpleNamespace(free=staging._SPARE + int(2.5 * remote.nbytes))
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert staging.most_at_once([remote]) == 2


def test_what_changed_meanwhile_is_refused(tmp_path: Path, bucket: str, scratch: Path) -> None:
    url = put(bucket, small.write_h5ad(tmp_path / "brain.h5ad"))
    remote = survey_remote(url, ReadOptions())
    open_storage(bucket, read_only=False).put("brain.h5ad", b"shorter")
    with pytest.raises(InputError, match="changed meanwhile"), staged(remote):
        pass


def test_what_fails_later_is_no_fault_of_the_bucket(
    tmp_path: Path, bucket: str, scratch: Path
) -> None:
    remote = survey_remote(put(bucket, small.write_h5ad(tmp_path / "brain.h5ad")), ReadOptions())
    with pytest.raises(ReadOnly, match="the atlas"), staged(remote):
        raise ReadOnly("the atlas")


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("memory://nothing-there/x.h5ad", "nothing there"),
        ("ftp://host/x.h5ad", "ftp"),
        ("s3://key:secret@bucket/x", "credentials"),
    ],
)
def test_urls_that_lead_nowhere(url: str, wanted: str) -> None:
    told = str(check_samples([{"sample": "a", "data_path": url}]).faults[0])
    assert wanted in told
    assert "secret" not in told


def test_splits_are_refused(bucket: str) -> None:
    told = check_samples([{"sample": "a", "data_path": bucket, "split_by": "day"}])
    assert "split_by" in str(told.faults[0])


@pytest.mark.slow
def test_from_s3(
    tmp_path: Path, s3_place: S3Place, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, options = s3_place
    url = url.replace("brain.atlas", "run1")
    put(url, write_tables(tmp_path / "tables", small_tissue(), "long"), **options)
    for name, value in {
        "AWS_ENDPOINT_URL": options["endpoint_url"],
        "AWS_ACCESS_KEY_ID": options["key"],
        "AWS_SECRET_ACCESS_KEY": options["secret"],
        "AWS_REGION": options["region"],
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setitem(os.environ, name, value)
    row = {"sample": "a", "data_path": url}
    report = check_samples([row])
    assert report.ok, report
    ingest([row], tmp_path / "a.atlas")
    assert ingest([row], tmp_path / "a.atlas").outcomes[0].outcome == "skipped"
    section = open_store(tmp_path / "a.atlas").section("a")
    assert section.counts().sum() == small_tissue().whole().counts[:, :40].sum()
