"""Checkpoints: whole or refused, and only for the training that they are of."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from tisseract.atlas.errors import Corrupt, InvalidArgument, StorageFull  # noqa: E402
from tisseract.atlas.store import AtlasStore  # noqa: E402
from tisseract.models.network.checkpoint import discard_checkpoint, restore, to_bytes  # noqa: E402
from tisseract.models.network.checkpoint_place import default_checkpoint  # noqa: E402
from tisseract.models.network.encoder import Encoder  # noqa: E402
from tisseract.models.network.history import TrainingHistory  # noqa: E402
from tisseract.models.network.schedule import Saving  # noqa: E402
from tisseract.models.network.training import Trainer  # noqa: E402

from .network_parts import D, Memory, assert_same, ring_batches, state_of, trainer  # noqa: E402


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    made = trainer(ring_batches(tmp_path_factory.mktemp("ring")), Memory(), steps=4)
    return to_bytes(made.learning, made.run())


def test_all_state_comes_back(saved: bytes, tmp_path: Path) -> None:
    batches = ring_batches(tmp_path)
    first = trainer(batches, Memory(), steps=4)
    history = first.run()
    second = trainer(batches, Memory(), steps=4)
    again = restore(saved, "here", second.learning)
    assert (again.loss, again.terms, again.cells) == (history.loss, history.terms, history.cells)
    assert_same(state_of(second), state_of(first))
    assert state_of(second)["objective.seen"].dtype == torch.bool
    one, two = first.learning, second.learning
    for name, parameter in one.parameters().items():
        for part, value in one.optimizer.state[parameter].items():
            assert torch.equal(value, two.optimizer.state[two.parameters()[name]][part]), part
    assert to_bytes(two, again) == saved


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    return trainer(ring_batches(tmp_path_factory.mktemp("ring")), Memory(), steps=4)


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_checkpoint_is_refused(saved: bytes, fresh: Trainer, share: float) -> None:
    with pytest.raises(Corrupt, match=r"checkpoint.*but got.*remove here"):
        restore(saved[: int(share * len(saved))], "here", fresh.learning)


def test_another_training_is_refused_with_what_differs(saved: bytes, tmp_path: Path) -> None:
    batches = ring_batches(tmp_path)
    other = trainer(
        batches, Memory(), steps=5, identity={"atlas": "ring", "inputs": {"section:a": "2"}}
    )
    with pytest.raises(InvalidArgument) as caught:
        restore(saved, "here", other.learning)
    assert 'inputs.section:a ("2" here, "1" there)' in str(caught.value)
    assert "steps (5 here, 4 there)" in str(caught.value)
    assert "atlas" not in str(caught.value)
    many = trainer(batches, Memory(), steps=4, identity={str(n): n for n in range(9)})
    with pytest.raises(InvalidArgument, match="and 6 more"):
        restore(saved, "here", many.learning)


def test_another_network_is_refused(saved: bytes, tmp_path: Path) -> None:
    batches = ring_batches(tmp_path)
    wider = trainer(batches, Memory(), steps=4, encoder=Encoder(D, 7, D, n_layers=2))
    with pytest.raises(Corrupt, match="size mismatch"):
        restore(saved, "here", wider.learning)
    made = trainer(batches, Memory(), steps=4)
    with pytest.raises(Corrupt, match="remove here"):
        restore(b"{}", "here", made.learning)


def test_what_a_kill_left_while_saving_does_no_harm(tmp_path: Path) -> None:
    place, batches = tmp_path / "checkpoint", ring_batches(tmp_path)
    made = trainer(batches, Memory(), saving=Saving(place))
    made.run()
    part = tmp_path / "checkpoint.part"
    part.write_bytes(place.read_bytes()[:100])
    again = trainer(batches, Memory(), saving=Saving(place, resume=True))
    assert again.run().n_steps == 9
    assert_same(state_of(again), state_of(made))
    discard_checkpoint(place)
    assert not place.exists()
    assert not part.exists()
    discard_checkpoint(place)  # twice does no harm


def test_a_full_disk_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, batches = tmp_path / "checkpoint", ring_batches(tmp_path)
    trainer(batches, Memory(), steps=4, saving=Saving(place)).run()
    kept = place.read_bytes()

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull, match="make room and resume"):
        trainer(batches, Memory(), saving=Saving(place, resume=False)).run()
    assert place.read_bytes() == kept
    assert not (tmp_path / "checkpoint.part").exists()


def test_before_the_first_step_there_is_nothing_of_the_optimizer(tmp_path: Path) -> None:
    batches = ring_batches(tmp_path)
    fresh = trainer(batches, Memory())
    data = to_bytes(fresh.learning, TrainingHistory())
    again = trainer(batches, Memory())
    assert restore(data, "here", again.learning).n_steps == 0
    assert again.run().loss == fresh.run().loss


def test_the_place_is_one_of_the_users_own(
    fresh_store: AtlasStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = default_checkpoint(fresh_store, "gnn")
    assert place.parent == tmp_path / "cache" / "tisseract" / "checkpoints"
    assert place.parent.is_dir()
    assert place.name.endswith("-gnn.safetensors")
    assert default_checkpoint(fresh_store, "other") != place
    with pytest.raises(InvalidArgument):
        default_checkpoint(fresh_store, "../gnn")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_checkpoint(fresh_store, "gnn").parent.parent.parent == tmp_path / ".cache"


def test_no_place_for_checkpoints_is_told(
    fresh_store: AtlasStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InvalidArgument, match=r"Not a directory.*checkpoint=, or set XDG_CACHE"):
        default_checkpoint(fresh_store, "gnn")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(InvalidArgument, match=r"home directory.*checkpoint=, or set XDG_CACHE"):
        default_checkpoint(fresh_store, "gnn")
