"""Questions put to a snapshot whose data garbage collection has taken away."""

from pathlib import Path

import pytest

from tisseract.atlas.errors import Corrupt, SnapshotNotFound
from tisseract.atlas.garbage import gc
from tisseract.atlas.store import create_store, open_store
from tisseract.query import select

from ..sections import add_section, make_raw


@pytest.mark.parametrize("warm", [False, True])
def test_tells_that_the_snapshot_was_given_up(tmp_path: Path, warm: bool) -> None:
    store = create_store(tmp_path / "atlas")
    add_section(store, "a", make_raw(n_obs=200, seed=1))
    reader = open_store(store.url)
    selection = select(reader, "layer == 'L1'")
    if warm:
        assert selection.n_obs
    add_section(store, "a", make_raw(n_obs=150, seed=2), replace=True)
    gc(store, dry_run=False, grace=0, keep=1)
    with pytest.raises(SnapshotNotFound, match=r"gc gave up since .* refresh\(\)"):
        selection.to_anndata()
    assert select(reader.refresh(), "layer == 'L1'").to_anndata().n_obs > 0


def test_damage_stays_damage(tmp_path: Path) -> None:
    store = create_store(tmp_path / "atlas")
    add_section(store, "a", make_raw(n_obs=200, seed=1))
    for file in (tmp_path / "atlas").glob("sections/a/*.zarr/tables/table/X/data/c/*"):
        file.unlink()
    with pytest.raises(Corrupt, match="is missing"):
        select(open_store(store.url)).to_anndata()
