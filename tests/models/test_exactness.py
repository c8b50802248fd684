"""Every model: embeddings by blocks equal one pass over the whole section held in memory."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tisseract.atlas.graph import knn
from tisseract.atlas.store import AtlasStore

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from tisseract.models import (  # noqa: E402
    DomainBaseline,
    DomainGNN,
    ExpressionBaseline,
    baseline,
    lifecycle,
)
from tisseract.models.genes.plan import locate_genes, section_blocks  # noqa: E402
from tisseract.models.network import gnn  # noqa: E402
from tisseract.models.network.weights import pack_weights  # noqa: E402
from tisseract.models.sampling.neighborhood import Halo, expand  # noqa: E402
from tisseract.models.sampling.tile_batches import halo_data  # noqa: E402

SMALL: dict[str, Any] = {
    "steps": 4,
    "n_hidden": 8,
    "n_layers": 2,
    "prior_hops": 2,
    "n_dims": 8,
    "batch_cells": 200,
    "device": "cpu",
}
SEEN = ["a", "b"]  # "tiny" is embedded without having been fitted on
MODELS: dict[str, Callable[[AtlasStore], Any]] = {
    "expression": lambda store: ExpressionBaseline(store, sections=SEEN),
    "plain": lambda store: DomainBaseline(store, sections=SEEN, n_hops=3),
    "sage": lambda store: DomainGNN(store, sections=SEEN, **SMALL),
    "gat": lambda store: DomainGNN(store, sections=SEEN, conv="gat", **SMALL),
}
NETWORKS = ["sage", "gat"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def fitted(planted_store: AtlasStore) -> Callable[[str], Any]:
    """Fitted models by name, each fitted once."""
    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in made:
            made[name] = MODELS[name](planted_store).fit()
        return made[name]

    return get


def embedding(model: Any, section: str) -> NDArray[np.float32]:
    with model.embedded([section]) as tables:
        table = tables[section][0]
        return np.array(table.read(0, table.n_rows))


def in_blocks(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Let every pass work on blocks of this many rows, whatever the model would choose."""

    def cut(function: Any) -> Any:
        return lambda *given, **more: function(*given, **{**more, "block_rows": rows})

    for module, name in ((baseline, "smooth_section"), (gnn, "embed_section")):
        monkeypatch.setattr(module, name, cut(getattr(module, name)))
    planned: Any = getattr(lifecycle, "plan_pass")  # noqa: B009 - not exported by this module

    def plan(*given: Any, **more: Any) -> Any:
        return replace(planned(*given, **more), block_rows=rows)

    monkeypatch.setattr(lifecycle, "plan_pass", plan)


def whole_scores(model: Any, section: str) -> NDArray[np.float64]:
    """Principal components of all cells at once."""
    opened = model.store.section(section)
    features, components = model.fitted()
    where = locate_genes(opened, features)
    blocks = section_blocks(opened, features, where, opened.n_obs)
    dense = next(blocks)[1].toarray().astype(np.float64)
    return np.asarray((dense - dense.mean(axis=0)) @ components.loadings)


def whole_shells(model: Any, section: str) -> NDArray[np.float64]:
    """Means over shells of the whole graph, by powers of its dense matrix."""
    scores = whole_scores(model, section)
    n = len(scores)
    edges = knn(model.store, section, n_neighs=model.graph.n_neighs).rows([(0, n)])
    step = edges.toarray() != 0
    met = np.eye(n, dtype=bool)
    parts = []
    for hop in range(model.n_hops):
        frontier = ((met @ step) | met) & ~met
        chosen = frontier | met if hop == 0 else frontier
        alone = ~chosen.any(axis=1)
        chosen[alone, np.flatnonzero(alone)] = True
        parts.append(chosen @ scores / chosen.sum(axis=1, keepdims=True))
        met |= frontier
    found = np.concatenate(parts, axis=1)
    return np.asarray(found - found.mean(axis=0))


def whole_pass(model: Any, section: str) -> NDArray[np.float64]:
    """The network over the whole graph: every cell is a seed, nothing is trimmed."""
    scores = whole_scores(model, section).astype(np.float32)
    n = len(scores)
    edges = knn(model.store, section, n_neighs=model.graph.n_neighs).rows([(0, n)])
    halo = Halo(np.arange(n), (0, n, *[n] * model.n_layers), edges)
    data = model.scale.apply(halo_data([halo], [scores]))
    with torch.inference_mode():
        z = model.encoder(data.x, data.edge_index, data.num_sampled_nodes, data.num_sampled_edges)
    found = z.double().numpy() @ model.rotation
    return np.asarray(found - found.mean(axis=0))


ORACLES = {
    "expression": whole_scores,
    "plain": whole_shells,
    "sage": whole_pass,
    "gat": whole_pass,
}


@pytest.mark.parametrize("rows", [37, 256, 100_000])
@pytest.mark.parametrize("name", list(MODELS))
def test_blocks_equal_the_whole_section(
    fitted: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, name: str, rows: int
) -> None:
    model = fitted(name)
    wanted = {section: ORACLES[name](model, section) for section in ("a", "tiny")}
    in_blocks(monkeypatch, rows)
    for section, whole in wanted.items():
        found = embedding(model, section)
        assert found.dtype == np.float32
        # relative to the size of the embedding: single values may be as near zero as they like
        atol = 1e-5 * float(np.abs(whole).max())
        np.testing.assert_allclose(found, whole, rtol=1e-4, atol=atol, err_msg=section)


def test_the_oracle_sees_a_halo_that_is_too_narrow(
    fitted: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Break exactness once: the cells around a block have no neighbors of their own."""
    model = fitted("sage")
    whole = whole_pass(model, "a")

    def narrow(graph: Any, start: int, stop: int, hops: int) -> Halo:
        halo = expand(graph, start, stop, hops)
        lost = halo.adjacency.copy()
        lost.indptr[halo.n_own :] = lost.indptr[halo.n_own]
        kept = int(lost.indptr[-1])
        lost.indices, lost.data = lost.indices[:kept], lost.data[:kept]
        return Halo(halo.n_id, halo.hop_start, lost)

    in_blocks(monkeypatch, 100)
    monkeypatch.setattr("tisseract.models.network.inference.expand", narrow)
    assert not np.allclose(embedding(model, "a"), whole, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_workers_change_no_bit(
    fitted: Callable[[str], Any],
    planted_store: AtlasStore,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    model = fitted(name)
    in_blocks(monkeypatch, 64)
    found = []
    for workers in (0, 1, 2):
        monkeypatch.setattr(model, "num_workers", workers)
        found.append(embedding(model, "a").tobytes())
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", list(MODELS))
def test_the_same_seed_gives_the_same_model(
    fitted: Callable[[str], Any], planted_store: AtlasStore, name: str
) -> None:
    first, again = fitted(name), MODELS[name](planted_store)
    if name in NETWORKS:
        again.num_workers = 2
    again.fit()
    assert pack_weights(again.to_run().weights) == pack_weights(first.to_run().weights)
    assert again.to_run().config == first.to_run().config
    assert embedding(again, "tiny").tobytes() == embedding(first, "tiny").tobytes()


@pytest.mark.parametrize("name", list(MODELS))
def test_a_new_section_is_embedded(fitted: Callable[[str], Any], name: str) -> None:
    found = embedding(fitted(name), "tiny")
    assert len(found) == 120
    assert np.isfinite(found).all()
    assert found.std(axis=0).min() > 0
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
