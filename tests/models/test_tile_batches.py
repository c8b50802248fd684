"""Batches in PyG's convention, and that tiles with halos equal one pass over the whole graph."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisseract.atlas.graph import knn
from tisseract.atlas.store import AtlasStore

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from tisseract.models.domains.smoothing import neighborhood_mean  # noqa: E402
from tisseract.models.network.encoder import Encoder  # noqa: E402
from tisseract.models.network.inference import embed_section  # noqa: E402
from tisseract.models.network.scale import Scale  # noqa: E402
from tisseract.models.rows.file import RowFile  # noqa: E402
from tisseract.models.sampling.batch_plan import plan_batches  # noqa: E402
from tisseract.models.sampling.prefetch import prefetched  # noqa: E402
from tisseract.models.sampling.tile_batches import (  # noqa: E402
    HaloCache,
    SectionSource,
    TileBatches,
)

D = 5
CPU = torch.device("cpu")


@pytest.fixture
def sources(planted_store: AtlasStore, tmp_path: Path) -> Iterator[list[SectionSource]]:
    found = []
    for name in ("a", "tiny"):
        section = planted_store.section(name)
        table = RowFile(tmp_path / name, section.n_obs, D)
        rng = np.random.default_rng(section.n_obs)
        table.write(0, rng.normal(size=(section.n_obs, D)).astype(np.float32))
        found.append(SectionSource(section, knn(planted_store, name, n_neighs=6), table))
    yield found
    for source in found:
        source.table.close()


def loader(sources: list[SectionSource], hops: int = 3, cache: int = 2**24) -> TileBatches:
    ptrs = [source.section.tiles.ptr for source in sources]
    plan = plan_batches(ptrs, batch_cells=200, seed=3)
    return TileBatches(plan, sources, hops=hops, prior_hops=2, cache_bytes=cache)


def whole_pass(encoder: Encoder, source: SectionSource) -> Any:
    """The same layers over the whole graph of a section, nothing trimmed."""
    matrix = source.graph.rows([(0, source.section.n_obs)]).tocoo()
    edges = torch.from_numpy(np.stack([matrix.col, matrix.row]).astype(np.int64))
    x = torch.from_numpy(source.table.read(0, source.section.n_obs))
    with torch.inference_mode():
        for i, layer in enumerate(encoder.layers):
            x = layer(x, edges)
            x = torch.nn.functional.elu(x) if i < len(encoder.layers) - 1 else x
    return x


def test_convention_of_neighbor_loader(sources: list[SectionSource]) -> None:
    batches = loader(sources)
    for batch, data in zip(batches.plan.epoch(0), batches, strict=True):
        tiles = [batches.plan.tiles[number] for number in batch]
        seeds = np.concatenate([np.arange(t.start, t.stop) for t in tiles])
        assert data.batch_size == len(seeds)
        assert data.input_id.tolist() == data.n_id[: data.batch_size].tolist() == seeds.tolist()
        assert len(data.x) == len(data.n_id) == sum(data.num_sampled_nodes)
        assert data.edge_index.shape[1] == sum(data.num_sampled_edges)
        for number in range(len(data.n_id)):
            source = sources[int(data.section[number])]
            row = int(data.n_id[number])
            assert np.array_equal(data.x[number], source.table.read(row, row + 1)[0])
        ends = data.section[data.edge_index]
        assert torch.equal(ends[0], ends[1])  # no edge leaves its section
        assert data.prior.shape == (data.batch_size, D)
        assert "pos" not in data  # no network looks at positions: they would only be carried


def test_every_seed_has_all_its_neighbors(sources: list[SectionSource]) -> None:
    batches = loader(sources)
    data = batches.load(batches.plan.epoch(0)[0])
    for seed in range(0, data.batch_size, 37):
        source = sources[int(data.section[seed])]
        row = int(data.n_id[seed])
        wanted = source.graph.rows([(row, row + 1)]).indices
        found = data.n_id[data.edge_index[0, data.edge_index[1] == seed]]
        assert sorted(found.tolist()) == sorted(wanted.tolist())


@pytest.mark.parametrize("conv", ["sage", "gat"])
def test_tiles_equal_the_whole_graph(sources: list[SectionSource], conv: str) -> None:
    torch.manual_seed(0)
    encoder = Encoder(D, 8, 4, n_layers=3, conv=conv).eval()
    batches = loader(sources)
    whole = [whole_pass(encoder, source) for source in sources]
    for data in batches:
        with torch.inference_mode():
            z = encoder(data.x, data.edge_index, data.num_sampled_nodes, data.num_sampled_edges)
        for number, row in enumerate(data.input_id.tolist()):
            wanted = whole[int(data.section[number])][row]
            torch.testing.assert_close(z[number], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [50, 10_000])
def test_inference_does_not_depend_on_blocks(
    sources: list[SectionSource], tmp_path: Path, block: int
) -> None:
    torch.manual_seed(0)
    encoder = Encoder(D, 8, D, n_layers=3).eval()
    source = sources[0]
    wanted = whole_pass(encoder, source).numpy()
    with embed_section(
        encoder,
        source.graph,
        source.table,
        hops=3,
        scale=Scale(np.ones(1, dtype=np.float32), 1.0),
        device=CPU,
        path=tmp_path / "out",
        block_rows=block,
    ) as out:
        found = out.read(0, out.n_rows)
    np.testing.assert_allclose(found, wanted - wanted.mean(axis=0), rtol=1e-4, atol=1e-5)


def test_prior_is_the_mean_of_the_neighborhood(sources: list[SectionSource]) -> None:
    from tisseract.models.sampling.neighborhood import expand

    batches = loader(sources)
    data = batches.load([0])
    tile = batches.plan.tiles[0]
    halo = expand(sources[0].graph, tile.start, tile.stop, 2)
    wanted = neighborhood_mean(halo, sources[0].table.take(halo.n_id), 2)
    np.testing.assert_allclose(data.prior, wanted, atol=1e-6)


def test_a_cache_changes_nothing(sources: list[SectionSource]) -> None:
    kept, none = loader(sources), loader(sources, cache=0)
    batch = kept.plan.epoch(0)[0]
    kept.load(batch)
    first, again = kept.load(batch), none.load(batch)
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.edge_index, again.edge_index)
    assert torch.equal(first.prior, again.prior)


def test_a_cache_counts_a_tile_once(sources: list[SectionSource]) -> None:
    batches = loader(sources)
    batches.load([0, 1])
    held = batches._cache.nbytes
    seeds = batches.plan.tiles[0]
    tile = batches._cache.get(seeds)
    assert tile is not None
    batches._cache.put(seeds, tile)  # as a second thread would
    assert batches._cache.nbytes == held > tile.nbytes
    small = HaloCache(tile.nbytes)
    small.put(seeds, tile)
    small.put(batches.plan.tiles[1], tile)
    assert small.get(seeds) is None
    assert small.nbytes == tile.nbytes


def test_threads_read_what_one_reads(sources: list[SectionSource]) -> None:
    batches, alone = loader(sources), loader(sources, cache=0)
    steps = batches.plan.steps(0, 12)
    stream = prefetched(batches.load, steps, threads=2, depth=2)
    for found, batch in zip(stream, steps, strict=True):
        wanted = alone.load(batch)
        for key in ("x", "edge_index", "n_id", "prior", "section", "halo"):
            assert torch.equal(found[key], wanted[key]), key


def test_a_cell_alone_does_not_decide_its_embedding(sources: list[SectionSource]) -> None:
    """The last layer has no weight for the cell itself: without edges nothing of it is left."""
    torch.manual_seed(0)
    encoder = Encoder(D, 8, D, n_layers=2).eval()
    none = torch.zeros((2, 0), dtype=torch.int64)
    with torch.inference_mode():
        z = encoder(torch.randn(3, D), none, [3, 0, 0], [0, 0])
    assert torch.equal(z[0], z[1])
