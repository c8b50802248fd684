"""Where answers may be written: nothing but an earlier answer is ever replaced."""

import json
from pathlib import Path

import pytest

from tisseract.atlas.errors import AlreadyExists, InvalidArgument
from tisseract.atlas.store import AtlasStore
from tisseract.query import export, select

from ..sections import make_raw, make_store

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")


@pytest.fixture
def store(tmp_path: Path) -> AtlasStore:
    return make_store(tmp_path / "my", {"s1": make_raw(n_obs=40)})


@pytest.mark.parametrize("name", ["", "all.zarr", "sections/all.h5ad", ".."])
def test_an_atlas_is_never_written_over_or_into(store: AtlasStore, name: str) -> None:
    folder = store.storage.local_path()
    assert folder is not None
    before = sorted(folder.rglob("*"))
    with pytest.raises(InvalidArgument, match="outside the atlas"):
        export(select(store), folder / name, to="spatialdata", overwrite=True)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["notes.zarr", "table.csv", "other"])
def test_folders_of_others_are_kept(store: AtlasStore, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "zarr.json").write_text(json.dumps({"attributes": {}}))
    with pytest.raises(AlreadyExists, match="another folder"):
        export(select(store), folder, to="csv" if "csv" in name else "spatialdata", overwrite=True)
    assert (folder / "zarr.json").exists()


def test_an_earlier_answer_is_replaced(store: AtlasStore, tmp_path: Path) -> None:
    folder = tmp_path / "all.zarr"
    folder.mkdir()
    (folder / "zarr.json").write_text(json.dumps({"attributes": {"spatialdata_attrs": {}}}))
    (folder / "old").touch()
    export(select(store), folder, overwrite=True)
    assert not (folder / "old").exists()
    with pytest.raises(AlreadyExists):
        export(select(store), folder, to="h5ad", overwrite=False)
