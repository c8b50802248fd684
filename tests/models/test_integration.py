"""What the plain model corrects: smoothed components, of the cells that take part."""

from typing import Any

import numpy as np
import pytest

from tisseract.atlas.store import AtlasStore
from tisseract.models import DomainBaseline, GraphSource, baseline, batch_asw, lisi
from tisseract.models.components.harmony import Harmony, fit_harmony

from ..planted import planted, truth
from ..sections import make_store

OPTIONS: dict[str, Any] = {"n_comps": 8, "n_hops": 2}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    """Two runs with a strong effect, and a third one that no model is fitted on."""
    raws = {name: planted(300, seed=k, batch=1.0) for k, name in enumerate(("a", "b", "new"))}
    return make_store(tmp_path_factory.mktemp("runs"), raws)


def rows(model: DomainBaseline, *names: str) -> dict[str, np.ndarray]:
    with model.embedded(names) as tables:
        return {name: table.read(0, table.n_rows) for name, (table, _) in tables.items()}


def mixing(store: AtlasStore, x: dict[str, np.ndarray]) -> tuple[float, float]:
    """How runs mix, over all cells and within layers."""
    whole = np.concatenate(list(x.values()))
    run = np.repeat(list(x), [len(table) for table in x.values()])
    layer = np.concatenate([truth(store, name) for name in x])
    found = lisi(whole, run, n_neighs=30, perplexity=10)
    return found.mean - 1.0, batch_asw(whole, run, layer).asw


def test_runs_mix_in_the_embedding_itself(store: AtlasStore) -> None:
    """Also those of a run that took no part in the fit."""
    plain = DomainBaseline(store, sections=["a", "b"], **OPTIONS).fit()
    model = DomainBaseline(store, sections=["a", "b"], integrate="harmony", **OPTIONS).fit()
    for names in (("a", "b"), ("a", "new")):
        before, after = mixing(store, rows(plain, *names)), mixing(store, rows(model, *names))
        assert after[0] > before[0] + 0.25
        assert after[1] > before[1]


def test_cells_left_out_do_not_count(store: AtlasStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the fit nor where a new batch is mapped, though their rows are corrected too."""
    seen: dict[str, int] = {}

    def spy(tables: Any, *args: Any, **more: Any) -> Harmony:
        seen.update({name: table.n_rows for name, table in tables.items()})
        return fit_harmony(tables, *args, **more)

    def spy_batch(self: Harmony, name: str, blocks: Any) -> Harmony:
        seen[name] = sum(map(len, blocks()))
        return with_batch(self, name, blocks)

    with_batch = Harmony.with_batch
    monkeypatch.setattr(baseline, "fit_harmony", spy)
    monkeypatch.setattr(Harmony, "with_batch", spy_batch)
    masks = {name: np.arange(300) >= left for name, left in (("a", 70), ("new", 20))}
    graph = GraphSource(None, 6, masks)
    model = DomainBaseline(store, sections=["a", "b"], graph=graph, integrate="harmony", **OPTIONS)
    assert len(rows(model.fit(), "new")["new"]) == 300
    assert seen == {"a": 230, "b": 300, "new": 280}
