"""PyG's own loader and stock networks over an atlas on disk."""

# PyG is untyped.
# pyright: reportAttributeAccessIssue=false

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tisseract.atlas.derived import Provenance, write_derived
from tisseract.atlas.errors import BudgetExceeded, DerivedNotFound, InvalidArgument
from tisseract.atlas.graph import build_graphs, knn, open_graph
from tisseract.atlas.snapshot import Change
from tisseract.atlas.store import AtlasStore

from ..planted import truth

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from tisseract.models.rows.file import RowFile  # noqa: E402
from tisseract.models.sampling.neighbor_sampler import NeighborSampler  # noqa: E402
from tisseract.models.sampling.node_features import (  # noqa: E402
    GeneFeatures,
    ScoreFeatures,
    open_features,
    plan_genes,
)
from tisseract.models.sampling.node_space import NodeSpace  # noqa: E402
from tisseract.models.sampling.pyg import Data, NodeLoader, NodeSamplerInput, TensorAttr  # noqa: E402
from tisseract.models.sampling.pyg_stores import (  # noqa: E402
    AtlasFeatureStore,
    AtlasGraphStore,
    AtlasSampler,
)

NAMES = ["a", "b"]
KEY = "pyg"


@pytest.fixture(scope="module")
def store(planted_store: AtlasStore) -> AtlasStore:
    build_graphs(planted_store, sections=NAMES, key_added=KEY, n_neighs=6)
    return planted_store


@pytest.fixture(scope="module")
def space(store: AtlasStore) -> NodeSpace:
    return NodeSpace.of(store, NAMES)


def parts(
    store: AtlasStore, space: NodeSpace, fanouts: Sequence[int] = (4, 3)
) -> tuple[AtlasFeatureStore, AtlasGraphStore, AtlasSampler]:
    graphs = [open_graph(store, KEY, name) for name in space.sections]
    features = AtlasFeatureStore(space, {"x": open_features(store, space)})
    sampler = AtlasSampler(NeighborSampler(space, graphs, fanouts, seed=1))
    return features, AtlasGraphStore(space, graphs), sampler


def loader(store: AtlasStore, space: NodeSpace, **options: Any) -> NodeLoader:
    features, graph, sampler = parts(store, space)
    options = {"input_nodes": torch.arange(space.n_nodes), "batch_size": 128, **options}
    return NodeLoader(
        (features, graph), node_sampler=sampler, transform=sampler.attach_lengths, **options
    )


def whole(store: AtlasStore, space: NodeSpace) -> NDArray[np.float32]:
    """Every row of the features, read with the planner's own reader."""
    from tisseract.models.genes.plan import locate_genes, section_blocks

    sections = [store.section(name) for name in space.sections]
    plan = plan_genes(sections)
    found = [
        block.toarray()
        for section in sections
        for _, block in section_blocks(section, plan, locate_genes(section, plan), 100)
    ]
    return np.concatenate(found)


def test_batches_follow_the_convention(store: AtlasStore, space: NodeSpace) -> None:
    x = whole(store, space)
    graphs = [open_graph(store, KEY, name) for name in NAMES]
    offsets = np.asarray(space.offsets)
    seen: list[int] = []
    for data in loader(store, space, shuffle=False):
        seeds = data.n_id[: data.batch_size]
        assert data.input_id.tolist() == seeds.tolist()
        seen += seeds.tolist()
        assert np.array_equal(data.x.numpy(), x[data.n_id])
        assert data.num_nodes == len(data.n_id) == sum(data.num_sampled_nodes)
        assert data.edge_index.shape[1] == sum(data.num_sampled_edges) == len(data.e_id)
        assert torch.equal(data.section[data.edge_index[0]], data.section[data.edge_index[1]])
        assert np.array_equal(
            data.section, np.searchsorted(offsets, data.n_id.numpy(), "right") - 1
        )
        source, target = data.n_id[data.edge_index]
        for edge in range(0, len(source), 97):
            number = int(data.section[data.edge_index[1, edge]])
            offset = int(offsets[number])
            row = graphs[number].rows(
                [(int(target[edge]) - offset, int(target[edge]) - offset + 1)]
            )
            length = dict(zip(row.indices.tolist(), row.data.tolist(), strict=True))
            assert data.edge_attr[edge, 0] == length[int(source[edge]) - offset]
    assert seen == list(range(space.n_nodes))


def same(first: Data, second: Data) -> bool:
    names = ("x", "edge_index", "edge_attr", "n_id", "e_id", "input_id", "section")
    return all(torch.equal(first[name], second[name]) for name in names)


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_workers_change_nothing(store: AtlasStore, space: NodeSpace, how: str) -> None:
    order = np.random.default_rng(0).permutation(space.n_nodes)[:600].reshape(4, 150).tolist()
    options: dict[str, Any] = {"batch_sampler": order, "batch_size": 1}
    plain = list(loader(store, space, **options))
    if how == "spawn":  # what a worker gets there, without the seconds that starting one takes
        copy = pickle.loads(pickle.dumps(loader(store, space, **options)))
        workers = [copy(index) for index in order]
    else:
        workers = list(loader(store, space, num_workers=2, multiprocessing_context=how, **options))
    assert len(plain) == len(workers) == 4
    assert all(same(a, b) for a, b in zip(plain, workers, strict=True))
    late = loader(store, space, filter_per_worker=False, **options)
    assert all(same(a, b) for a, b in zip(plain, late, strict=True))


def train(
    make: Callable[[int], Any], store: AtlasStore, space: NodeSpace, workers: int
) -> list[float]:
    label = torch.from_numpy(np.concatenate([truth(store, name) for name in NAMES]))
    order = np.random.default_rng(1)
    batches = [order.choice(space.n_nodes, 200, replace=False).tolist() for _ in range(12)]
    torch.manual_seed(0)
    network: Any = None
    optimizer: Any = None
    losses = []
    for data in loader(store, space, batch_sampler=batches, batch_size=1, num_workers=workers):
        if network is None:
            network = make(data.x.shape[1])
            optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
        edge = {"edge_attr": data.edge_attr} if network.supports_edge_attr else {}
        out = network(data.x, data.edge_index, **edge)[: data.batch_size]
        loss = torch.nn.functional.cross_entropy(out, label[data.n_id[: data.batch_size]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["GraphSAGE", "GAT"])
def test_stock_networks_learn(store: AtlasStore, space: NodeSpace, name: str) -> None:
    import torch_geometric.nn as pyg

    def make(width: int) -> Any:
        more = {"edge_dim": 1, "heads": 2} if name == "GAT" else {}
        return getattr(pyg, name)(width, 16, num_layers=2, out_channels=3, **more)

    plain = train(make, store, space, 0)
    assert np.mean(plain[-3:]) < 0.75 * np.mean(plain[:3])
    assert train(make, store, space, 2) == plain


def test_the_whole_edge_index(store: AtlasStore, space: NodeSpace) -> None:
    graphs = [open_graph(store, KEY, name) for name in NAMES]
    row, col, perm = AtlasGraphStore(space, graphs).coo()
    assert perm is None
    wanted = []
    for graph, offset in zip(graphs, space.offsets, strict=False):
        matrix = graph.to_csr().tocoo()
        wanted.append(np.stack([matrix.col + offset, matrix.row + offset]))
    assert np.array_equal(np.stack([row, col]), np.concatenate(wanted, axis=1))
    source, pointers, _ = AtlasGraphStore(space, graphs).csc()
    assert np.array_equal(source, row)
    assert np.array_equal(np.diff(pointers), np.bincount(col, minlength=space.n_nodes))
    out, _, _ = AtlasGraphStore(space, graphs).csr()
    assert np.array_equal(np.diff(out), np.bincount(row, minlength=space.n_nodes))
    lazy = [knn(store, NAMES, n_neighs=6)[name] for name in NAMES]
    for kind in (graphs, lazy):
        small = AtlasGraphStore(space, kind, memory_limit=100_000)
        with pytest.raises(BudgetExceeded, match="AtlasSampler"):
            small.coo()


def test_features_by_name(store: AtlasStore, space: NodeSpace) -> None:
    sections = [store.section(name) for name in NAMES]
    plan = plan_genes(sections, ["Gene20", "Gene9"])
    nodes = np.array([1099, 0, 600, 0])
    got = GeneFeatures(space, sections, plan, raw=True).take(nodes)
    for i, name in enumerate(["Gene20", "Gene9"]):
        for j, (section, row) in enumerate(zip(*space.locate(nodes), strict=True)):
            column = sections[section].panel.find(name)
            assert got[j, i] == sections[section].counts()[row, column]
    tiny = GeneFeatures(space, sections, plan, cache_bytes=30_000)
    every = np.random.default_rng(0).permutation(space.n_nodes)
    assert np.array_equal(tiny.take(every), GeneFeatures(space, sections, plan).take(every))
    with pytest.raises(InvalidArgument, match="Gene0"):  # only section a measured it
        plan_genes(sections, ["Gene0"])
    with pytest.raises(InvalidArgument, match="'nothing'"):
        open_features(store, space, "nothing")
    with pytest.raises(DerivedNotFound):
        open_features(store, space, "embedding/none")


def test_an_embedding_as_features(store: AtlasStore, space: NodeSpace) -> None:
    rng = np.random.default_rng(3)
    values = {n: rng.normal(size=(store.section(n).n_obs, 5)).astype(np.float32) for n in NAMES}
    entries = [
        write_derived(
            store, "embedding", "made", n, arrays={"values": v}, attrs={},
            provenance=Provenance(inputs={}, parameters={}),
        )
        for n, v in values.items()
    ]  # fmt: skip
    store.commit(Change(add_derived=entries), "embedding")
    every = rng.permutation(space.n_nodes)
    wanted = np.concatenate(list(values.values()))[every]
    for cache in (1, 2**20):
        found = open_features(store, space, "embedding/made", cache_bytes=cache)
        copy = pickle.loads(pickle.dumps(found))
        assert found.width == 5
        assert np.array_equal(found.take(every), wanted)
        assert np.array_equal(copy.take(every), wanted)


def test_scores_as_features(space: NodeSpace, tmp_path: Any) -> None:
    tables = [RowFile(tmp_path / str(i), size, 3) for i, size in enumerate(space.sizes)]
    values = np.random.default_rng(3).normal(size=(space.n_nodes, 3)).astype(np.float32)
    for table, start in zip(tables, space.offsets, strict=False):
        table.write(0, values[start : start + table.n_rows])
    every = np.random.default_rng(4).permutation(space.n_nodes)
    assert np.array_equal(ScoreFeatures(space, tables).take(every), values[every])
    with pytest.raises(InvalidArgument, match="tables of"):
        ScoreFeatures(space, tables[::-1])
    for table in tables:
        table.close()


def test_a_feature_store_is_one(store: AtlasStore, space: NodeSpace) -> None:
    features, graph, sampler = parts(store, space)
    x = whole(store, space)
    assert features.get_tensor_size(None, "x") == x.shape
    assert features.get_tensor_size(None, "section") == (space.n_nodes,)
    chosen: Any
    for index, chosen in (
        (None, x),
        (slice(3, 9), x[3:9]),
        (torch.tensor([7, 2]), x[[7, 2]]),
        (4, x[4:5]),
    ):
        assert np.array_equal(features[TensorAttr(None, "x", index)].numpy(), chosen)
    mask = torch.zeros(space.n_nodes, dtype=torch.bool)
    mask[[1, 8]] = True
    assert np.array_equal(features[TensorAttr(None, "x", mask)].numpy(), x[[1, 8]])
    with pytest.raises(InvalidArgument, match="only read"):
        features.put_tensor(torch.zeros(3), None, "y", None)
    with pytest.raises(InvalidArgument, match="only read"):
        graph.put_edge_index((torch.zeros(1), torch.zeros(1)), graph.get_all_edge_attrs()[0])
    with pytest.raises(InvalidArgument, match="both"):
        sampler.sample_from_edges(None)
    with pytest.raises(InvalidArgument, match="without times"):
        sampler.sample_from_nodes(NodeSamplerInput(None, torch.tensor([1]), torch.tensor([0])))
    with pytest.raises(InvalidArgument, match="'section'"):
        AtlasFeatureStore(space, {"section": open_features(store, space)})
