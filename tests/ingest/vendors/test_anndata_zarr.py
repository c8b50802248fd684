"""AnnData on Zarr: both formats, folders and zips, every option of the h5ad reader."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.reader import Reader, ReadOptions
from tisseract.ingest.source import BooleanValues, CategoricalValues, StringValues
from tisseract.ingest.vendors.anndata_zarr import AnnDataZarrReader

from ...contracts import ids_of, matrix_of
from .. import h5ad_files as small
from ..h5ad_contract import UNIT, AnnDataContract
from .anndata_store import KINDS, template, write_store, write_zip
from .mutants import run_mutants, wanted

READER = AnnDataZarrReader()


class TestContract(AnnDataContract):
    @pytest.fixture(params=["2-csr", "3-csr", "3-csc", "2-dense", "3-zip"])
    def layout(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def source(self, tmp_path: Path, layout: str) -> Path:
        version, kind = layout.split("-")
        if kind == "zip":
            return write_zip(tmp_path / "brain.zarr.zip", int(version))
        return write_store(tmp_path / "brain.zarr", int(version), kind)

    @pytest.mark.slow
    def test_no_guest_error_gets_out_of_a_truncated_input(
        self, reader: Reader, source: Path, options: ReadOptions
    ) -> None:
        super().test_no_guest_error_gets_out_of_a_truncated_input(reader, source, options)


@pytest.mark.parametrize("version", [2, 3])
def test_columns_of_every_kind(tmp_path: Path, version: int) -> None:
    raw = READER.open(write_store(tmp_path / "a.zarr", version), UNIT)
    kind, word, flag = (raw.obs[name].read() for name in ("type", "word", "flag"))
    assert isinstance(kind, CategoricalValues)
    assert kind.categories == ("a", "b")
    assert isinstance(word, StringValues)
    assert word.to_list()[:2] == ["w0", "w1"]
    assert isinstance(flag, BooleanValues)
    assert flag.mask is not None
    assert flag.mask[:2].tolist() == [False, True]


def test_options_of_h5ad_hold(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.zarr")
    given = replace(
        UNIT,
        layer="log",
        split_by="type",
        split_value="b",
        reader_kwargs={"drop_columns": ["word"], "position_columns": ["depth", "depth"]},
    )
    raw = READER.open(path, given)
    kept = np.arange(small.N_CELLS) % 3 == 0
    assert (matrix_of(raw).toarray() == small.counts()[kept]).all()
    assert raw.positions[:, 0].tolist() == np.flatnonzero(kept).tolist()
    assert "word" not in raw.obs
    assert raw.provenance["matrix"] == "layers/log"


def test_zip_with_the_store_in_a_folder(tmp_path: Path) -> None:
    raw = READER.open(write_zip(tmp_path / "b.zarr.zip", 2, inner="b.zarr/"), UNIT)
    assert ids_of(raw) == small.cell_ids()


@pytest.mark.parametrize(
    ("file", "key", "value", "wanted"),
    [
        ("obs/depth/.zarray", "shape", [10**12], "expected 60 values"),
        ("X/data/.zarray", "chunks", [10**12], "expected chunks below"),
        ("obsm/spatial/.zarray", "shape", [10**9, 2], "expected 60 rows"),
        ("obs/word/values/.zarray", "filters", [{"id": "vlen-utf8"}, {"id": "pickle"}], "pickle"),
    ],
)
def test_hostile_headers_are_refused(
    tmp_path: Path, file: str, key: str, value: object, wanted: str
) -> None:
    path = write_store(tmp_path / "a.zarr", 2)
    header = json.loads((path / file).read_text())
    (path / file).write_text(json.dumps(header | {key: value}))
    (path / ".zmetadata").unlink(missing_ok=True)
    with pytest.raises(InputError, match=wanted):
        columns_of(path)


def columns_of(path: Path) -> list[Any]:
    return [column.read() for column in READER.open(path, UNIT).obs.values()]


def test_links_are_refused(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.zarr", 2)
    shutil.move(path / "X" / "data", tmp_path / "elsewhere")
    (path / "X" / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="link"):
        READER.open(path, UNIT)


def test_no_zip_and_zips_of_other_things_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "a.zarr.zip").write_bytes(b"PK\x03\x04 not really")
    assert not READER.recognizes(tmp_path / "a.zarr.zip")
    with pytest.raises(InputError, match="no zip"):
        READER.open(tmp_path / "a.zarr.zip", UNIT)
    assert READER.recognizes(template(2, "csr"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=[kind[0] for kind in KINDS])
def test_mutants(tmp_path: Path, kind: Any) -> None:
    _, write, file = kind
    report = run_mutants(write(tmp_path), file, READER, UNIT, tmp_path / "work", n=wanted(10))
    assert not report.failures, report.failures[:5]
    assert report.refused
