"""Training: seeded, resumable to the same bytes, and stopped by a loss that is no number."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisseract.atlas.errors import DerivedNotFound, InvalidArgument, StaleDerived
from tisseract.atlas.graph import knn
from tisseract.atlas.snapshot import Change
from tisseract.atlas.store import AtlasStore

from ..planted import planted
from ..sections import make_store

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from tisseract.models import DomainGNN, GraphSource  # noqa: E402
from tisseract.models.network import gnn  # noqa: E402
from tisseract.models.network.device import pick_device  # noqa: E402
from tisseract.models.network.errors import DeviceMemoryError, TrainingDivergedError  # noqa: E402
from tisseract.models.network.history import StepReport  # noqa: E402
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
        "device": "cpu",
    }
    return DomainGNN(store, **{**settings, **options})


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
    model = network(planted_store, steps=60, lr=0.02, reconstruction=0.3, prior=1.0).fit()
    assert len(model.losses) == 60
    away = model.history.terms["prior"]
    assert sum(away[-10:]) < 0.9 * sum(away[:10])


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
    resumed = network(planted_store, checkpoint=place, resume=True).fit()
    assert resumed.losses == undisturbed.losses
    assert weights_of(resumed) == whole


def test_a_finished_checkpoint_needs_no_step(planted_store: AtlasStore, tmp_path: Path) -> None:
    place = tmp_path / "checkpoint"
    first = network(planted_store, checkpoint=place).fit()
    again = network(planted_store, checkpoint=place, resume=True).fit()
    assert again.history.seconds == first.history.seconds  # not one was made again
    assert weights_of(again) == weights_of(first)


def test_a_checkpoint_of_another_training_is_refused(
    planted_store: AtlasStore, tmp_path: Path
) -> None:
    place = tmp_path / "checkpoint"
    network(planted_store, checkpoint=place).fit()
    with pytest.raises(InvalidArgument, match=r"differs in parameters.seed \(1 here, 0 there\)"):
        network(planted_store, checkpoint=place, seed=1, resume=True).fit()


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
    with pytest.raises(InvalidArgument, match="'meta'"):  # torch knows it, nothing computes there
        pick_device("meta")
    if not torch.backends.mps.is_available():
        with pytest.raises(InvalidArgument, match="no Apple GPU"):
            pick_device("mps")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidArgument, match="no CUDA device"):
            pick_device("cuda")


def test_a_cuda_device_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1").index == 1
    with pytest.raises(InvalidArgument, match=r"one of the 2 CUDA devices .* device='cuda:2'"):
        pick_device("cuda:2")


def test_options_are_checked(planted_store: AtlasStore) -> None:
    with pytest.raises(InvalidArgument, match="prior_hops=3, n_layers=2"):
        network(planted_store, prior_hops=3)


def test_history_is_kept_by_the_run(fresh_store: AtlasStore) -> None:
    model = network(fresh_store, steps=3).fit()
    model.save("kept")
    loaded = DomainGNN.load(fresh_store, "kept", device="cpu")
    assert loaded.history.loss == pytest.approx(model.history.loss, rel=1e-5)
    assert loaded.history.cells == model.history.cells
    assert loaded.history.seconds == ()
    assert len(model.history.seconds) == 3
    assert loaded.precision == model.precision == "float32"


def test_a_graph_that_is_not_there_is_said_before_anything_is_read(
    fresh_store: AtlasStore,
) -> None:
    told: list[str] = []
    model = network(fresh_store, graph=GraphSource("none"))
    with pytest.raises(DerivedNotFound, match="'none'"):
        model.fit(progress=lambda stage, done, total: told.append(stage))
    assert told == []


def test_a_graph_of_a_section_that_was_replaced_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path, {"a": planted(200, seed=1)})
    knn(store, "a", n_neighs=4).write("spatial")
    network(store, graph=GraphSource("spatial"), steps=1).fit()
    newer = replace(store.snapshot.sections["a"], attempt="0" * 32, fingerprint="two")
    store.commit(Change(add_sections=[newer], replace=True), "replace")
    told: list[str] = []
    model = network(store, graph=GraphSource("spatial"))
    with pytest.raises(StaleDerived):
        model.fit(progress=lambda stage, done, total: told.append(stage))
    assert told == []


@pytest.mark.parametrize("conv", ["sage", "gat"])
def test_sections_of_one_cell_train_and_embed(tmp_path: Path, conv: str) -> None:
    raws = {"a": planted(150, seed=1), "one": planted(1, seed=2), "two": planted(2, seed=3)}
    store = make_store(tmp_path, raws)
    model = network(store, conv=conv, steps=4).fit()
    assert np.isfinite(model.history.loss).all()
    with model.embedded() as tables:
        for name, cells in (("a", 150), ("one", 1), ("two", 2)):
            found = tables[name][0].read(0, cells)
            assert np.isfinite(found).all()
        # centered on its own mean, a cell alone is the mean
        assert np.array_equal(tables["one"][0].read(0, 1), np.zeros((1, tables["one"][0].width)))


def test_a_diverged_training_leaves_no_model(
    planted_store: AtlasStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "checkpoint"
    model = network(planted_store, checkpoint=place, every=2)
    calls: list[int] = []
    good = gnn.DomainGNN._objective

    def spoiled(self: Any) -> Any:
        objective = good(self)

        def later(*given: Any) -> Any:
            calls.append(1)
            loss = objective(*given)
            return loss if len(calls) <= 5 else torch.full((), float("inf"), requires_grad=True)

        return later

    monkeypatch.setattr(gnn.DomainGNN, "_objective", spoiled)
    with pytest.raises(
        TrainingDivergedError, match=f"step 5 of 12.*checkpoint before it is {place}"
    ):
        model.fit()
    with pytest.raises(InvalidArgument, match="before fit"):
        model.save("nothing")
    monkeypatch.undo()
    # the checkpoint is from before it, and good
    again = network(planted_store, checkpoint=place, every=2, resume=True).fit()
    assert weights_of(again) == weights_of(network(planted_store).fit())


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@cuda
@pytest.mark.gpu
@pytest.mark.parametrize("conv", ["sage", "gat"])
def test_cuda_embeds_as_the_cpu(planted_store: AtlasStore, conv: str) -> None:
    model = network(planted_store, conv=conv).fit()
    with model.embedded(["a"]) as tables:
        first = tables["a"][0].read(0, 600)
    model.device = torch.device("cuda")
    with model.embedded(["a"]) as tables:
        second = tables["a"][0].read(0, 600)
    np.testing.assert_allclose(second, first, rtol=1e-3, atol=1e-4 * abs(first).max())


@cuda
@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_cuda_trains(planted_store: AtlasStore, precision: str) -> None:
    settings = {"steps": 40, "lr": 0.02, "reconstruction": 0.3, "prior": 1.0}
    cpu = network(planted_store, **settings).fit()
    model = network(planted_store, device="cuda", precision=precision, **settings).fit()
    assert model.history.loss == pytest.approx(cpu.history.loss, rel=0.1)
    away = model.history.terms["prior"]
    assert sum(away[-10:]) < 0.95 * sum(away[:10])


@cuda
@pytest.mark.gpu
def test_cuda_goes_on_from_a_checkpoint(planted_store: AtlasStore, tmp_path: Path) -> None:
    place = tmp_path / "checkpoint"
    options: dict[str, Any] = {"device": "cuda", "checkpoint": place, "every": 4}

    def kill(stage: str, done: int, total: int) -> None:
        if stage == "train" and done == 6:
            raise Stop

    with pytest.raises(Stop):
        network(planted_store, **options).fit(progress=kill)
    reports: list[StepReport] = []
    resumed = network(planted_store, resume=True, **options).fit(on_step=reports.append)
    assert reports[0].done == 5
    whole = network(planted_store, device="cuda").fit()
    assert resumed.history.loss == pytest.approx(whole.history.loss, rel=1e-2)


@cuda
@pytest.mark.gpu
def test_cuda_without_memory_says_what_to_lower(
    planted_store: AtlasStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hungry(self: Any) -> Any:
        return lambda *given: torch.zeros(2**45, device="cuda").sum()

    monkeypatch.setattr(gnn.DomainGNN, "_objective", hungry)
    with pytest.raises(DeviceMemoryError, match="`batch_cells`"):
        network(planted_store, device="cuda").fit()


def test_all_wrong_numbers_are_told_at_once(planted_store: AtlasStore) -> None:
    wrong: dict[str, Any] = {
        "n_comps": 0,
        "n_top_genes": 0,
        "seed": -1,
        "n_layers": 2,
        "n_hidden": 0,
        "steps": 2.5,
        "batch_cells": 0,
        "mask_rate": 1.0,
        "reconstruction": 0,
        "prior": 0,
        "prior_hops": 3,
        "n_dims": True,
    }
    with pytest.raises(InvalidArgument) as told:
        DomainGNN(planted_store, **wrong)
    fine = {"n_layers", "reconstruction", "prior", "prior_hops"}
    for name in wrong.keys() - fine:
        assert f"but got {name}={wrong[name]!r}" in str(told.value)
    assert "prior_hops=3, n_layers=2" in str(told.value)
    assert "reconstruction=0 and prior=0" in str(told.value)
    for name, value in (("mask_rate", 0.0), ("prior", -0.1), ("lr", float("nan"))):
        one: dict[str, Any] = {name: value}
        with pytest.raises(InvalidArgument, match=f"but got {name}="):
            DomainGNN(planted_store, **one)


def test_a_checkpoint_of_other_cells_is_refused(planted_store: AtlasStore, tmp_path: Path) -> None:
    place = tmp_path / "checkpoint"
    masks = [np.arange(600) % 5 != left for left in (0, 1)]
    for mask in masks:
        graph = GraphSource(None, 6, {"a": mask}, "mask")
        options: dict[str, Any] = {"graph": graph, "checkpoint": place, "resume": True}
        if mask is masks[0]:
            network(planted_store, **options).fit()
            continue
        with pytest.raises(InvalidArgument, match=r"differs in cells\.a \("):
            network(planted_store, **options).fit()


def test_a_folder_is_no_checkpoint(planted_store: AtlasStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="but got the folder"):
        network(planted_store, checkpoint=tmp_path)


def test_progress_tells_of_every_stage(planted_store: AtlasStore) -> None:
    told: dict[str, list[tuple[int, int]]] = {}

    def progress(stage: str, done: int, total: int) -> None:
        told.setdefault(stage, []).append((done, total))

    model = network(planted_store).fit(progress=progress)
    with model.embedded(progress=progress):
        pass
    assert {"components", "scores", "scale", "train", "directions", "embed"} <= told.keys()
    for stage in ("scores", "directions", "embed"):
        assert told[stage][-1] == (1220, 1220), stage
        assert len(told[stage]) >= 3
