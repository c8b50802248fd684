"""The training loop alone: hooks, buffers, workers, resuming after any batch, and what stops it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from tisseract.atlas.errors import BudgetExceeded, InvalidArgument  # noqa: E402
from tisseract.models.network.device import Placement, pick_precision  # noqa: E402
from tisseract.models.network.errors import (  # noqa: E402
    DeviceMemoryError,
    TrainingDivergedError,
)
from tisseract.models.network.history import StepReport  # noqa: E402
from tisseract.models.network.ranks import Ranks  # noqa: E402
from tisseract.models.network.schedule import Saving, Schedule  # noqa: E402

from .network_parts import (  # noqa: E402
    CPU,
    Memory,
    assert_same,
    ring_batches,
    small_encoder,
    state_of,
    trainer,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Stop(Exception):
    """Raised in the middle of training, as a kill would end it."""


def stop_at(step: int) -> Any:
    def watch(report: StepReport) -> None:
        if report.done == step:
            raise Stop

    return watch


def test_an_objective_of_its_own_is_trained_too(tmp_path: Path) -> None:
    objective = Memory()
    made = trainer(ring_batches(tmp_path), objective)
    history = made.run()
    assert list(history.terms) == ["rebuilt", "near", "past"]
    for step in range(9):
        parts = sum(values[step] for values in history.terms.values())
        assert history.loss[step] == pytest.approx(parts)
    assert history.loss[-1] < history.loss[0]
    assert not torch.equal(objective.centers, torch.ones_like(objective.centers))
    assert int(objective.get_buffer("at")) == 9
    assert not objective.training
    assert not made.encoder.training


@pytest.mark.parametrize("conv", ["sage", "gat"])
@pytest.mark.parametrize("stopped", [1, 4, 8])
def test_any_batch_can_be_resumed_at(tmp_path: Path, stopped: int, conv: str) -> None:
    batches = ring_batches(tmp_path)
    whole = trainer(batches, Memory(), encoder=small_encoder(conv))
    history = whole.run()
    saving = Saving(tmp_path / "checkpoint", every=1, resume=True)
    killed = trainer(batches, Memory(), encoder=small_encoder(conv), saving=saving)
    with pytest.raises(Stop):
        killed.run(on_step=stop_at(stopped))
    resumed = trainer(batches, Memory(), encoder=small_encoder(conv), saving=saving)
    reports: list[StepReport] = []
    again = resumed.run(on_step=reports.append)
    # the step that was told when it died was not saved yet
    assert [report.done for report in reports] == list(range(stopped, 10))
    assert again.loss == history.loss
    assert again.terms == history.terms
    assert_same(state_of(resumed), state_of(whole))


def test_workers_change_no_bit(tmp_path: Path) -> None:
    batches = ring_batches(tmp_path)
    made = [trainer(batches, Memory(), num_workers=workers) for workers in (0, 1, 2)]
    losses = [one.run().loss for one in made]
    assert losses[0] == losses[1] == losses[2]
    for one in made[1:]:
        assert_same(state_of(one), state_of(made[0]))


def test_without_resume_a_checkpoint_is_overwritten(tmp_path: Path) -> None:
    batches, place = ring_batches(tmp_path), tmp_path / "checkpoint"
    trainer(batches, Memory(), saving=Saving(place)).run()
    reports: list[StepReport] = []
    trainer(batches, Memory(), saving=Saving(place, resume=False)).run(on_step=reports.append)
    assert len(reports) == 9
    assert not place.with_name("checkpoint.part").exists()


def test_the_watcher_is_told_how_fast_it_goes(tmp_path: Path) -> None:
    reports: list[StepReport] = []
    seen: list[tuple[str, int, int]] = []
    made = trainer(ring_batches(tmp_path), Memory(), num_workers=1)
    history = made.run(on_step=reports.append, progress=lambda *told: seen.append(told))
    assert seen == [("train", done, 9) for done in range(1, 10)]
    assert [r.done for r in reports] == list(range(1, 10))
    assert reports[-1].n_cells == sum(history.cells) == sum(r.cells for r in reports)
    assert reports[-1].cells_per_second > 0
    assert reports[-1].eta_seconds == 0 < reports[0].eta_seconds
    assert history.cells_per_second > 0


class Poisoned(Memory):
    """Loses its way in the sixth step."""

    def forward(self, encoder: Any, data: Any, generator: Any) -> dict[str, Any]:
        terms = super().forward(encoder, data, generator)
        lost = float("nan") if int(self.get_buffer("at")) == 6 else 1.0
        return {**terms, "near": terms["near"] * lost}


def test_a_loss_that_is_no_number_names_the_batch(tmp_path: Path) -> None:
    batches = ring_batches(tmp_path)
    with pytest.raises(TrainingDivergedError) as caught:
        trainer(batches, Poisoned()).run()
    message = str(caught.value)
    tile = batches.plan.tiles[batches.plan.steps(5, 6)[0][0]]
    assert "at step 5 of 9" in message
    assert f"{'ab'[tile.section]} rows {tile.start}:{tile.stop}" in message
    assert "'near': nan" in message
    assert "no checkpoint was saved" in message


class Exploding(Memory):
    """Grows tenfold with every step, and stays finite."""

    def forward(self, encoder: Any, data: Any, generator: Any) -> dict[str, Any]:
        terms = super().forward(encoder, data, generator)
        grown = 10.0 ** int(self.get_buffer("at"))
        return {name: term * grown for name, term in terms.items()}


def test_a_loss_that_explodes_stops_the_training_and_names_lr(tmp_path: Path) -> None:
    reports: list[StepReport] = []
    with pytest.raises(TrainingDivergedError, match=r"it grew from .*lower `lr` \(it is 0.05\)"):
        trainer(ring_batches(tmp_path), Exploding()).run(on_step=reports.append)
    assert 4 <= len(reports) < 9


@pytest.mark.parametrize("every", [1, 2])
def test_the_checkpoint_before_a_lost_step_is_good(tmp_path: Path, every: int) -> None:
    batches, saving = ring_batches(tmp_path), Saving(tmp_path / "checkpoint", every, resume=True)
    with pytest.raises(TrainingDivergedError, match=f"checkpoint before it is {saving.path}"):
        trainer(batches, Poisoned(), saving=saving).run()
    whole, again = trainer(batches, Memory()), trainer(batches, Memory(), saving=saving)
    reports: list[StepReport] = []
    history = again.run(on_step=reports.append)
    assert reports[0].done == {1: 6, 2: 5}[every]
    assert history.loss == whole.run().loss
    assert_same(state_of(again), state_of(whole))


def test_the_device_without_memory_says_what_to_lower(tmp_path: Path) -> None:
    def hungry(*of: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    made = trainer(ring_batches(tmp_path), hungry)
    with pytest.raises(DeviceMemoryError, match=r"`batch_cells` or `n_hidden`.*'bf16'") as caught:
        made.run()
    assert isinstance(caught.value, BudgetExceeded)
    assert "20.00 GiB" in str(caught.value)
    assert "and the" in str(caught.value)


def test_bf16_trains_and_keeps_weights_in_float32(tmp_path: Path) -> None:
    exact = trainer(ring_batches(tmp_path), Memory()).run()
    half = trainer(ring_batches(tmp_path), Memory(), placement=Placement(CPU, "bf16"))
    history = half.run()
    assert history.loss[-1] < history.loss[0]
    assert history.loss != exact.loss
    assert history.loss == pytest.approx(exact.loss, rel=0.05)
    assert all(p.dtype == torch.float32 for p in half.encoder.parameters())


@pytest.mark.slow
def test_a_compiled_encoder_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # traced as by any backend, with shapes that change from batch to batch, but not made into C++
    calls: list[Any] = []
    compiler = torch.nn.Module.compile

    def traced(self: Any, **options: Any) -> None:
        calls.append(options)
        compiler(self, backend="eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    plain = trainer(ring_batches(tmp_path), Memory())
    compiled = trainer(ring_batches(tmp_path), Memory(), placement=Placement(CPU, compile=True))
    assert compiled.run().loss == pytest.approx(plain.run().loss, rel=1e-4)
    assert calls == [{"dynamic": True}]
    # what was compiled for training does not stay in the way of embedding and pickling
    assert compiled.encoder._compiled_call_impl is None


def test_a_failing_batch_is_raised_as_it_is(tmp_path: Path) -> None:
    batches = ring_batches(tmp_path)
    for source in batches.sources:
        source.table.close()
    with pytest.raises(OSError, match="No such file"):
        trainer(batches, Memory(), num_workers=2).run()


def test_a_plan_of_other_ranks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="world_size=2"):
        trainer(ring_batches(tmp_path), Memory(), ranks=Ranks(0, 2))


def test_settings_are_checked(tmp_path: Path) -> None:
    assert pick_precision("auto", CPU) == "float32"
    assert pick_precision("bf16", CPU) == "bf16"
    with pytest.raises(InvalidArgument, match="'half'"):
        pick_precision("half", CPU)
    with pytest.raises(InvalidArgument, match="steps=0"):
        Schedule(0)
    with pytest.raises(InvalidArgument, match="every=0"):
        Saving(None, 0)
    with pytest.raises(InvalidArgument, match="folder"):
        Saving(tmp_path / "none" / "checkpoint")
