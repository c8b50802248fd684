"""Blocks of cells with their exact surroundings, compared with the whole graph and matrix."""

# PyG is untyped.
# pyright: reportAttributeAccessIssue=false

import copy
import pickle
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tisseract.atlas.errors import BudgetExceeded, Corrupt, DerivedNotFound, InvalidArgument
from tisseract.atlas.graph import build_graphs, open_graph
from tisseract.atlas.store import AtlasStore

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from tisseract.models import tile_loader  # noqa: E402
from tisseract.models.genes.plan import TREATMENTS, normalized  # noqa: E402
from tisseract.models.sampling.batch_plan import Partition  # noqa: E402
from tisseract.models.sampling.count_rows import CountRows  # noqa: E402
from tisseract.models.sampling.densify import densify  # noqa: E402
from tisseract.models.sampling.node_space import NodeSpace  # noqa: E402
from tisseract.models.sampling.pyg import Data, SAGEConv, trim_to_layer  # noqa: E402
from tisseract.models.sampling.tile_loader import TileLoader  # noqa: E402

KEY = "tiles"
NAMES = ["a", "tiny"]


@pytest.fixture(scope="module")
def store(planted_store: AtlasStore) -> AtlasStore:
    build_graphs(planted_store, key_added=KEY, n_neighs=5)
    return planted_store


def loader(store: AtlasStore, sections: Sequence[str] | None = NAMES, **options: Any) -> TileLoader:
    options = {"graph": KEY, "block_rows": 16, "lanes": 6, "stretch_blocks": 4, **options}
    return tile_loader(store, sections, **options)


def whole(store: AtlasStore, names: Sequence[str]) -> tuple[Any, list[dict[int, float]]]:
    """Counts of all cells, and the neighbors of each by node."""
    from scipy import sparse

    counts = sparse.vstack([store.section(name).counts() for name in names]).toarray()
    near: list[dict[int, float]] = []
    offset = 0
    for name in names:
        graph = open_graph(store, KEY, name).to_csr()
        for row in range(graph.shape[0]):
            span = slice(graph.indptr[row], graph.indptr[row + 1])
            nodes = (graph.indices[span] + offset).tolist()
            near.append(dict(zip(nodes, graph.data[span].tolist(), strict=True)))
        offset += graph.shape[0]
    return counts, near


def check(data: Data, seeds: NDArray[np.int64], counts: Any, near: Any, hops: int) -> None:
    """What holds for every batch, cell after cell."""
    n_id = data.n_id.numpy()
    assert data.batch_size == len(seeds)
    np.testing.assert_array_equal(n_id[: len(seeds)], seeds)
    assert len(np.unique(n_id)) == len(n_id)
    np.testing.assert_array_equal(data.x.to_dense().numpy(), counts[n_id])
    np.testing.assert_allclose(data.depth.numpy(), counts[n_id].sum(axis=1))
    source, target = data.edge_index.numpy()
    assert (np.diff(target) >= 0).all()
    starts = np.cumsum([0, *data.num_sampled_nodes])
    assert starts[-1] == len(n_id)
    inner = starts[hops] if hops else len(seeds)
    for cell in range(len(n_id)):
        at = target == cell
        found = dict(zip(n_id[source[at]].tolist(), data.edge_attr[at, 0].tolist(), strict=True))
        wanted = near[n_id[cell]]
        if hops == 0:
            kept = set(seeds.tolist())
            wanted = {node: length for node, length in wanted.items() if node in kept}
        assert found == (wanted if cell < inner else {})
    if hops:
        edges = np.searchsorted(target, starts[:-1])
        assert np.diff(edges).tolist() == data.num_sampled_edges
        for hop in range(1, hops + 1):  # a cell of a hop is a neighbor of one of the hop before
            layer = source[edges[hop - 1] : edges[hop]]
            assert set(range(starts[hop], starts[hop + 1])) <= set(layer.tolist())
    else:
        assert data.num_sampled_edges == []


@pytest.mark.parametrize("hops", [0, 1, 2])
def test_batches_are_exact_and_cover_every_cell_once(store: AtlasStore, hops: int) -> None:
    counts, near = whole(store, NAMES)
    found = loader(store, hops=hops, seed=3, threads=2)
    seen = []
    for number, data in enumerate(found):
        check(data, found.plan.batch(0, number), counts, near, hops)
        seen.append(data.input_id.numpy())
        section, _ = found.plan.space.locate(data.n_id.numpy())
        np.testing.assert_array_equal(data.section.numpy(), section)
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(720))
    assert len({len(np.unique(part // 16)) for part in seen}) <= 2


def same(a: Data, b: Data) -> bool:
    parts = ("depth", "edge_index", "edge_attr", "n_id", "section", "treatment")
    x = all(
        torch.equal(get(a.x), get(b.x))
        for get in (torch.Tensor.values, torch.Tensor.col_indices, torch.Tensor.crow_indices)
    )
    return x and all(torch.equal(a[name], b[name]) for name in parts)


def test_threads_memory_and_resuming_change_no_bit(store: AtlasStore) -> None:
    first = list(loader(store, threads=0))
    for threads, memory_limit in ((1, None), (3, None), (2, "3 MiB")):
        other = loader(store, threads=threads, memory_limit=memory_limit)
        assert all(map(same, first, other)), threads
        second = list(other)
        assert not all(map(same, first, second))
        other.seek(1, 2)
        assert len(other) == len(second) - 2
        assert all(map(same, second[2:], other))
    copied = pickle.loads(pickle.dumps(other))
    copied.seek(0)
    assert all(map(same, first, copied))
    assert same(copied.load(0, 1), first[1])


@pytest.mark.parametrize("graph", [KEY, 5])
def test_lengths_may_be_left_unread(store: AtlasStore, graph: str | int) -> None:
    for hops in (0, 1, 2):
        options: dict[str, Any] = {"graph": graph, "hops": hops}
        for plain, bare in zip(
            loader(store, **options), loader(store, lengths=False, **options), strict=True
        ):
            assert bare.edge_attr is None
            bare.edge_attr = plain.edge_attr
            assert same(plain, bare)


def test_counts_may_come_as_bytes(store: AtlasStore) -> None:
    for plain, bare in zip(loader(store), loader(store, dtype="stored"), strict=True):
        assert plain.x.dtype == torch.float32
        assert bare.x.dtype == torch.uint8
        np.testing.assert_array_equal(bare.x.to_dense().numpy(), plain.x.to_dense().numpy())
        assert torch.equal(bare.depth, plain.depth)
        raw = densify(copy.copy(bare), normalize=False).x
        assert raw.dtype == torch.float32
        assert torch.equal(raw, plain.x.to_dense())
        assert torch.equal(densify(bare).x, densify(plain).x)
    with pytest.raises(InvalidArgument, match="float16"):
        loader(store, dtype="float16")


@pytest.mark.slow
def test_threads_share_one_reader(store: AtlasStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Slow(CountRows):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            made.append(1)
            time.sleep(0.05)
            super().__init__(*arguments, **options)

    monkeypatch.setattr("tisseract.models.sampling.tile_loader.CountRows", Slow)
    assert len(list(loader(store, threads=4))) > 1
    assert len(made) == 1


def test_workers_of_torch_change_no_bit(store: AtlasStore) -> None:
    first = list(loader(store, threads=0, transform=partial(densify, normalize=False)))
    for workers in (1, 2):
        inner = loader(store, threads=1, transform=partial(densify, normalize=False))
        found = list(torch.utils.data.DataLoader(inner, batch_size=None, num_workers=workers))
        assert len(found) == len(first)
        for a, b in zip(first, found, strict=True):
            assert torch.equal(a.x, b.x)
            assert torch.equal(a.edge_index, b.edge_index)


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
def test_epochs_go_on_with_workers_too(store: AtlasStore, persistent: bool) -> None:
    plain, inner = (loader(store, threads=0) for _ in range(2))
    wanted = [[data.n_id for data in plain] for _ in range(4)]
    torch_loader = torch.utils.data.DataLoader(
        inner, batch_size=None, num_workers=2, persistent_workers=persistent
    )
    for number, epoch in enumerate(wanted[:3]):
        found = [data.n_id for data in torch_loader]
        assert all(map(torch.equal, found, epoch)), number
        assert len(found) == len(epoch)
    inner.seek(1, 2)
    assert all(map(torch.equal, [data.n_id for data in torch_loader], wanted[1][2:]))
    assert all(map(torch.equal, [data.n_id for data in torch_loader], wanted[2]))
    # another number of workers, or none: the count is the same
    other = torch.utils.data.DataLoader(inner, batch_size=None, num_workers=1)
    torch.manual_seed(0)
    assert all(map(torch.equal, [data.n_id for data in other], wanted[3]))
    inner.seek(2)
    torch.manual_seed(0)
    assert all(map(torch.equal, [data.n_id for data in other], wanted[2]))
    assert all(map(torch.equal, [data.n_id for data in inner], wanted[3]))


def test_numbers_that_mean_nothing_are_refused(store: AtlasStore) -> None:
    with pytest.raises(InvalidArgument, match="threads=-1"):
        loader(store, threads=-1)
    with pytest.raises(InvalidArgument, match="read_rows=0"):
        loader(store, read_rows=0)


def test_ranks_share_an_epoch_without_overlap(store: AtlasStore) -> None:
    parts = [loader(store, lanes=3, partition=Partition(rank, 3)) for rank in range(3)]
    assert len({len(part) for part in parts}) == 1
    seen = np.concatenate([d.input_id.numpy() for part in parts for d in part])
    assert len(np.unique(seen)) == len(seen)
    assert len(seen) > 720 - 3 * 16


def test_genes_come_in_the_order_they_are_named(store: AtlasStore) -> None:
    names = ["a", "b"]  # panels that overlap
    sections = [store.section(name) for name in names]
    shared = [g for g in sections[0].panel.gene_id if g in set(sections[1].panel.gene_id)]
    genes = [shared[5], shared[0], shared[9]]
    wanted = np.concatenate(
        [
            s.counts(genes=np.array([list(s.panel.gene_id).index(g) for g in genes])).toarray()
            for s in sections
        ]
    )
    depth = np.concatenate([s.counts().sum(axis=1).A1 for s in sections])
    for data in loader(store, names, genes=genes):
        np.testing.assert_array_equal(data.x.to_dense().numpy(), wanted[data.n_id.numpy()])
        np.testing.assert_allclose(data.depth.numpy(), depth[data.n_id.numpy()])
        for a, b in zip(data.x.crow_indices()[:-1], data.x.crow_indices()[1:], strict=True):
            assert (np.diff(data.x.col_indices()[a:b].numpy()) > 0).all()
    everything = next(iter(loader(store, names)))
    assert everything.x.shape[1] == len(shared)


def test_counts_become_dense_and_normalized(store: AtlasStore) -> None:
    counts, _ = whole(store, NAMES)
    from scipy import sparse

    wanted = normalized(sparse.csr_array(counts), TREATMENTS["counts"], 500.0).toarray()
    for data in loader(store, transform=partial(densify, target_depth=500.0)):
        np.testing.assert_allclose(data.x.numpy(), wanted[data.n_id.numpy()], rtol=1e-5, atol=1e-6)
    raw = next(iter(loader(store)))
    raw.treatment[:] = 2
    np.testing.assert_array_equal(densify(raw).x.numpy(), counts[raw.n_id.numpy()])


def test_two_layers_see_what_they_see_in_the_whole_graph(store: AtlasStore) -> None:
    counts, near = whole(store, NAMES)
    torch.manual_seed(0)
    layers = [SAGEConv(counts.shape[1], 8), SAGEConv(8, 4)]
    edges = torch.tensor([(j, i) for i, row in enumerate(near) for j in row]).T
    with torch.no_grad():
        full = torch.from_numpy(counts)
        for layer in layers:
            full = layer(full, edges).tanh()
        for data in loader(store, hops=2, transform=partial(densify, normalize=False)):
            x, edge_index = data.x, data.edge_index
            for depth, layer in enumerate(layers):
                x, edge_index, _ = trim_to_layer(
                    depth, data.num_sampled_nodes, data.num_sampled_edges, x, edge_index
                )
                x = layer(x, edge_index).tanh()
            torch.testing.assert_close(
                x[: data.batch_size], full[data.input_id], rtol=1e-4, atol=1e-5
            )


def test_a_graph_may_be_built_on_the_way(store: AtlasStore) -> None:
    for a, b in zip(loader(store), loader(store, graph=5), strict=True):
        assert same(a, b)


def test_what_means_nothing_is_refused(store: AtlasStore) -> None:
    with pytest.raises(DerivedNotFound):
        loader(store, graph="none")
    with pytest.raises(InvalidArgument, match="hops"):
        loader(store, hops=-1)
    with pytest.raises(InvalidArgument, match="genes that every section"):
        loader(store, genes=["nothing"])
    with pytest.raises(BudgetExceeded, match="memory_limit"):
        loader(store, memory_limit="100 KiB")
    with pytest.raises(InvalidArgument, match="a batch in"):
        loader(store).load(0, 99)
    with pytest.raises(InvalidArgument, match="epoch from 0"):
        loader(store).seek(-1)


def test_a_plan_says_what_it_holds(store: AtlasStore) -> None:
    text = str(loader(store))
    assert "blocks of 16 cells of 2 sections" in text
    assert "512.0 MiB" in text


def test_damage_is_told_by_whoever_meets_it(fresh_store: AtlasStore) -> None:
    build_graphs(fresh_store, key_added=KEY, n_neighs=5)
    found = loader(fresh_store, ["a"], threads=3)
    folder = fresh_store.storage.local_path(fresh_store.section("a").entry.prefix)
    assert folder is not None
    shard = folder / "tables" / "table" / "X" / "data" / "c" / "0"
    blob = bytearray(shard.read_bytes())
    blob[20] ^= 1
    shard.write_bytes(blob)
    for _ in range(2):
        with pytest.raises(Corrupt, match="checksum"):
            list(found)


def test_every_batch_mixes_as_many_blocks_as_lanes() -> None:
    from tisseract.models.sampling.block_plan import plan_blocks

    plan = plan_blocks(NodeSpace.of_sizes(["a", "b"], [9_000, 3_333]), block_rows=64, seed=5)
    for number in range(plan.n_batches):
        assert len(plan.runs(2, number)) >= 32


def test_a_shuffle_in_words_is_refused(store: AtlasStore) -> None:
    """ "none" would be true."""
    with pytest.raises(InvalidArgument, match="shuffle=True or False is wanted, but got 'none'"):
        loader(store, shuffle="none")


def test_dense_counts_are_normalized_in_one_table() -> None:
    """What is made is one table of the size of the counts, whatever cells need."""
    n, genes = 512, 256
    x = torch.rand(n, genes)
    treatment = torch.arange(n) % 3
    data = Data(x=x, depth=x.sum(dim=1), treatment=treatment)
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        densify(data)
    made = sum(max(event.self_cpu_memory_usage, 0) for event in profile.function_events)
    assert made < 1.2 * x.nbytes
    logged = torch.log1p(x * (1e4 / x.sum(dim=1))[:, None])
    assert torch.equal(data.x[treatment == 0], logged[treatment == 0])
    assert torch.equal(data.x[treatment == 1], torch.log1p(x)[treatment == 1])
    assert torch.equal(data.x[treatment == 2], x[treatment == 2])
