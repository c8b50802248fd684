"""What the network sees: every component at unit variance, the prior too."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from tisseract.atlas.errors import Corrupt  # noqa: E402
from tisseract.atlas.store import AtlasStore  # noqa: E402
from tisseract.models import DomainGNN  # noqa: E402
from tisseract.models.network.scale import Scale, measure_scale  # noqa: E402

from .network_parts import D, ring_batches  # noqa: E402


def test_every_component_counts_alike(tmp_path: Path) -> None:
    batches = ring_batches(tmp_path)
    units = np.array([1.0, 10.0, 0.01, 3.0])
    for source in batches.sources:
        rows = source.table.read(0, source.table.n_rows)
        source.table.write(0, (rows * units).astype(np.float32))
    variance = np.square(units)
    scale = measure_scale(batches, variance)
    data = [scale.apply(batches.load(batch)) for batch in batches.plan.epoch(0)]
    x = torch.cat([one.x[: one.batch_size] for one in data])
    prior = torch.cat([one.prior for one in data])
    assert x.std(0).numpy() == pytest.approx(np.ones(D), abs=0.25)
    assert float(prior.square().mean()) == pytest.approx(1.0, rel=1e-5)
    assert prior.std(0).numpy() == pytest.approx(np.ones(D), abs=0.35)


def test_rounding_is_not_blown_up(tmp_path: Path) -> None:
    scale = measure_scale(ring_batches(tmp_path), np.array([4.0, 1.0, 0.0, 1e-12]))
    assert scale.features[:2].tolist() == [2.0, 1.0]
    assert scale.features[2:].tolist() == pytest.approx([2e-3, 2e-3])


def test_nothing_varies(tmp_path: Path) -> None:
    batches = ring_batches(tmp_path)
    for source in batches.sources:
        source.table.write(0, np.zeros((source.table.n_rows, D), dtype=np.float32))
    scale = measure_scale(batches, np.zeros(D))
    assert scale.prior == 1.0
    assert (scale.features > 0).all()


def test_weights_bring_it_back() -> None:
    scale = Scale(np.array([0.5, 2.0], dtype=np.float32), 0.25)
    again = Scale.from_weights(scale.to_weights())
    assert again.features.tolist() == [0.5, 2.0]
    assert again.prior == 0.25


def test_a_run_without_its_scale_is_refused(planted_store: AtlasStore) -> None:
    model = DomainGNN(planted_store, steps=2, n_hidden=8, n_layers=2, prior_hops=2).fit()
    run = model.to_run()
    kept = {name: v for name, v in run.weights.items() if name != "scale.features"}
    with pytest.raises(Corrupt, match="of this network"):
        DomainGNN.from_run(planted_store, replace(run, weights=kept), memory_limit=None)
    DomainGNN.from_run(planted_store, run, memory_limit=None)


def test_directions_are_those_of_the_guess(planted_store: AtlasStore) -> None:
    model = DomainGNN(planted_store, steps=5, n_hidden=8, n_layers=2, prior_hops=2, n_dims=4).fit()
    assert model.encoder is not None
    with model.embedded() as tables:
        kept = np.concatenate([table.read(0, table.n_rows) for table, _ in tables.values()])
    model.rotation = model.encoder.decoder.weight.detach().double().numpy().T
    with model.embedded() as tables:
        guess = np.concatenate([table.read(0, table.n_rows) for table, _ in tables.values()])
    largest = np.linalg.eigvalsh(np.cov(guess.T, bias=True))[::-1][:4]
    assert kept.var(axis=0) == pytest.approx(largest, rel=1e-3)
