"""Training: seeded, resumable to the same bytes, and stopped by a loss that is no number."""

from pathlib import Path
from typing import Any

import pytest

from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.store import AtlasStore

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from tisseract.models import DomainGNN  # noqa: E402
from tisseract.models.network import gnn  # noqa: E402
from tisseract.models.network.device import pick_device  # noqa: E402
from tisseract.models.network.errors import TrainingDivergedError  # noqa: E402
from tisseract.models.network.weights import pack_weights  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def network(store: AtlasStore, **options: Any) -> DomainGNN:
    settings: dict[str, Any] = {
        "steps": 12,
        "n_hidden": 8,
        "n_layers": 2,
        "prior_hops": 2,
        "batch_cells": 200,
    }
    return DomainGNN(store, device="cpu", **{**settings, **options})


def weights_of(model: DomainGNN) -> bytes:
    return pack_weights(model.to_run().weights)


def test_same_seed_gives_the_same_bytes(planted_store: AtlasStore) -> None:
    first = weights_of(network(planted_store).fit())
    assert weights_of(network(planted_store).fit()) == first
    assert weights_of(network(planted_store, seed=1).fit()) != first


def test_the_global_generator_is_left_alone(planted_store: AtlasStore) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    network(planted_store).fit()
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_loss_falls(planted_store: AtlasStore) -> None:
    # what is hidden stays a guess, so only the prior term can fall far
    model = network(planted_store, steps=60, reconstruction=0.3, prior=1.0).fit()
    assert len(model.losses) == 60
    assert sum(model.losses[-10:]) < 0.9 * sum(model.losses[:10])


class Stop(Exception):
    """Raised in the middle of training, as a kill would end it."""


def test_resume_gives_the_same_bytes(planted_store: AtlasStore, tmp_path: Path) -> None:
    undisturbed = network(planted_store).fit()
    whole = weights_of(undisturbed)
    place = tmp_path / "checkpoint"

    def kill(stage: str, done: int, total: int) -> None:
        if stage == "train" and done == 8:
            raise Stop

    with pytest.raises(Stop):
        network(planted_store, checkpoint=place, every=5).fit(progress=kill)
    resumed = network(planted_store, checkpoint=place).fit()
    assert resumed.losses == undisturbed.losses
    assert weights_of(resumed) == whole


def test_a_finished_checkpoint_needs_no_step(planted_store: AtlasStore, tmp_path: Path) -> None:
    place = tmp_path / "checkpoint"
    first = network(planted_store, checkpoint=place).fit()
    again = network(planted_store, checkpoint=place).fit()
    assert again.history.seconds == first.history.seconds  # not one was made again
    assert weights_of(again) == weights_of(first)


def test_a_checkpoint_of_another_training_is_refused(
    planted_store: AtlasStore, tmp_path: Path
) -> None:
    place = tmp_path / "checkpoint"
    network(planted_store, checkpoint=place).fit()
    with pytest.raises(InvalidArgument, match=r"differs in parameters.seed \(1 here, 0 there\)"):
        network(planted_store, checkpoint=place, seed=1).fit()


def test_a_loss_that_is_no_number_names_the_tiles(
    planted_store: AtlasStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(encoder: Any, *rest: object) -> Any:
        return next(encoder.parameters()).sum() * float("nan")

    monkeypatch.setattr(gnn, "masked_loss", lost)
    with pytest.raises(
        TrainingDivergedError, match=r"got nan .* at step 0 of 12, in \d tiles: \w+ rows \d+:"
    ):
        network(planted_store).fit()


def test_devices_are_checked() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(InvalidArgument, match="'abacus'"):
        pick_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidArgument, match="no CUDA device"):
            pick_device("cuda")


def test_options_are_checked(planted_store: AtlasStore) -> None:
    with pytest.raises(InvalidArgument, match="prior_hops=3, n_layers=2"):
        network(planted_store, prior_hops=3)


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(planted_store: AtlasStore) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cpu = network(planted_store).fit()
    cuda = network(planted_store).fit()
    cuda.device = torch.device("cuda")
    with cpu.embedded(["a"]) as one, cuda.embedded(["a"]) as two:
        first, second = (tables["a"][0].read(0, 600) for tables in (one, two))
    assert abs(first - second).max() < 1e-3
