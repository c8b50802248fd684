"""Trainings that are killed and go on, and two processes that train one network."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tisseract.atlas.store import open_store
from tisseract.models.runs import named_by_content

from ..planted import planted
from ..sections import make_store

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from tisseract.models import DomainGNN  # noqa: E402
from tisseract.models.network.history import StepReport  # noqa: E402
from tisseract.models.network.ranks import Ranks, this_rank  # noqa: E402
from tisseract.models.network.schedule import step_seed  # noqa: E402
from tisseract.models.network.weights import unpack_weights  # noqa: E402

from .forked_training import SMALL, simple  # noqa: E402
from .network_parts import ring_batches, small_encoder, trainer  # noqa: E402


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the program of `forked_training` leaves behind."""
    folder = tmp_path_factory.mktemp("played")
    make_store(folder, {"a": planted(300, seed=1), "b": planted(200, seed=2)})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    own = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.models.forked_training", str(folder)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bits(played: Path) -> None:
    store = open_store(str(played / "atlas"))
    for conv in ("sage", "gat"):
        place = played / f"{conv}.safetensors"
        assert place.exists()
        reports: list[StepReport] = []
        resumed = DomainGNN(store, conv=conv, checkpoint=place, resume=True, **SMALL)
        resumed.fit(on_step=reports.append)
        # saved after 6, killed after 8
        assert [report.done for report in reports] == list(range(7, 13))
        whole = DomainGNN(store, conv=conv, **SMALL).fit()
        # the name is made of weights, parameters and history
        assert named_by_content("x", resumed.to_run()) == named_by_content("x", whole.to_run())
        resumed.discard_checkpoint()
        assert not place.exists()


@pytest.mark.slow
def test_two_processes_train_one_network(played: Path) -> None:
    for name in ("simple", "memory", "atlas"):
        first, second = ((played / f"{name}{rank}").read_bytes() for rank in (0, 1))
        assert first == second, name
    told = [(played / f"simple{rank}.loss").read_text() for rank in (0, 1)]
    assert told[0] == told[1]
    wanted, losses = averaged_by_one_process(played)
    found = unpack_weights((played / "simple0").read_bytes())
    for key, value in wanted.items():
        torch.testing.assert_close(torch.from_numpy(found[f"encoder.{key}"]), value)
    loss, cells = eval(told[0])
    assert loss == pytest.approx(losses)
    assert all(n >= 60 for n in cells)  # of both ranks
    assert [(played / f"atlas{rank}.entries").read_text() for rank in (0, 1)] == ["2", "0"]
    store = open_store(str(played / "atlas"))
    assert store.derived_keys("embedding") == {"together": ["a", "b"]}


def averaged_by_one_process(folder: Path) -> tuple[dict[str, Any], list[float]]:
    """The documented relation: one process that averages the gradients of successive batches."""
    shares = [ring_batches(folder, ranks=Ranks(rank, 2)) for rank in (0, 1)]
    made = trainer(shares[0], simple, ranks=Ranks(0, 2))
    encoder, optimizer = made.encoder, made.learning.optimizer
    losses = []
    for step in range(9):
        optimizer.zero_grad()
        values = []
        for rank, batches in enumerate(shares):
            batch = batches.plan.steps(step, step + 1)[0]
            generator = torch.Generator().manual_seed(step_seed(5, 2 * step + rank))
            loss = simple(encoder, batches.load(batch), generator)["rebuilt"]
            (loss / 2).backward()
            values.append(float(loss.detach()))
        for group in optimizer.param_groups:
            group["lr"] = made.schedule.rate(step)
        optimizer.step()
        losses.append(sum(values) / 2)
    return dict(encoder.state_dict()), losses


def test_ranks_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert this_rank() == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert this_rank() == (0, 1)  # a batch system's own variables mean nothing
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    assert this_rank() == (1, 2)
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ValueError, match="RANK='2'"):
        this_rank()


def test_one_process_shares_with_nobody() -> None:
    alone = Ranks()
    encoder = small_encoder()
    alone.average_gradients(encoder.parameters())
    alone.share(encoder.buffers())
    assert alone.share_bytes(b"x") == b"x"
    assert float(alone.mean(torch.tensor(2.0))) == 2.0
