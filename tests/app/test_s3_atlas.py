"""The whole road in a bucket: the same calls as on a disk, the same answers."""

from pathlib import Path

import pytest

import tisseract as ts
from tisseract.simulator import SimulationPlan, simulate

from ..sections import same
from ..servers import S3Place

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_an_opened_atlas_keeps_its_options_when_it_ingests(
    s3_place: S3Place, tmp_path: Path
) -> None:
    """Nothing but the opened handle knows the endpoint and the key."""
    url, options = s3_place
    sheet = simulate(SimulationPlan(seed=3, n_cells=400), tmp_path / "raw").sheet
    atlas = ts.create(url, storage_options=options)
    report = atlas.ingest(sheet, n_workers=1)
    assert len(report.written) == len(atlas.section_names) == 8
    assert len(atlas.ingest(sheet, n_workers=1).skipped) == 8


def test_an_atlas_lives_in_a_bucket(s3_place: S3Place, tmp_path: Path) -> None:
    url, options = s3_place
    sheet = simulate(SimulationPlan(seed=3, n_cells=1600), tmp_path / "raw").sheet
    report = ts.ingest(sheet, url, storage_options=options, n_workers=1)
    assert len(report.written) == 8
    again = ts.ingest(sheet, url, storage_options=options, n_workers=1)
    assert len(again.skipped) == 8
    assert again.snapshot == report.snapshot
    ts.ingest(sheet, tmp_path / "disk.atlas", n_workers=1)

    places = {}
    for name, place, how in (("s3", url, options), ("disk", tmp_path / "disk.atlas", None)):
        atlas = ts.open(place, storage_options=how, read_only=False)
        atlas.build_graphs(n_neighs=6)
        atlas.find_domains(n_domains=4)
        places[name] = atlas
    remote, local = places["s3"], places["disk"]
    assert remote.verify().ok
    name = remote.section_names[0]
    assert same(remote.graph(name).to_csr(), local.graph(name).to_csr())
    question = "true_domain != 'niche' and true_gradient > 0.2"
    ours = remote.query(question, genes=["Niche01", "Clock01"]).to_pandas()
    assert ours.equals(local.query(question, genes=["Niche01", "Clock01"]).to_pandas())
    assert len(ours) > 0
    box = remote.snapshot.sections[name].bounds
    assert remote.region(name, bbox=box).n_obs == remote.snapshot.sections[name].n_obs
    assert "secret" not in repr(remote)
    before = remote.version
    assert ts.open(url, storage_options=options, version=1).version == 1 < before
