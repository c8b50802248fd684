"""Parts of a training that is made without an atlas: a ring of cells, random features."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from tisseract.models.network.device import Placement
from tisseract.models.network.encoder import Encoder
from tisseract.models.network.ranks import Ranks
from tisseract.models.network.scale import Scale
from tisseract.models.network.schedule import Saving, Schedule
from tisseract.models.network.training import Objective, Trainer
from tisseract.models.rows.file import RowFile
from tisseract.models.sampling.batch_plan import plan_batches
from tisseract.models.sampling.tile_batches import SectionSource, TileBatches

D = 4
CPU = torch.device("cpu")


@dataclass(frozen=True)
class FakeSection:
    """What batches read of a section beside its features."""

    name: str
    n_obs: int


@dataclass(frozen=True)
class Ring:
    """Every cell has the cells before and after it as neighbors."""

    n_obs: int

    def rows(self, runs: Sequence[tuple[int, int]], /) -> Any:
        own = np.concatenate([np.arange(a, b) for a, b in runs])
        ends = np.stack([(own - 1) % self.n_obs, (own + 1) % self.n_obs], axis=1)
        ends.sort(axis=1)
        ptr = np.arange(0, 2 * len(own) + 1, 2)
        shape = (len(own), self.n_obs)
        return sp.csr_array((np.ones(2 * len(own)), ends.ravel(), ptr), shape=shape)


def ring_batches(
    folder: Path, sizes: Sequence[int] = (90, 60), *, ranks: Ranks | None = None, cells: int = 30
) -> TileBatches:
    """Batches of one or two tiles of ten cells a section."""
    sources = []
    for number, n_obs in enumerate(sizes):
        table = RowFile(folder / f"ring{number}-{(ranks or Ranks()).rank}", n_obs, D)
        rng = np.random.default_rng(number)
        table.write(0, rng.normal(size=(n_obs, D)).astype(np.float32))
        section: Any = FakeSection("abc"[number], n_obs)
        sources.append(SectionSource(section, Ring(n_obs), table))
    plan = plan_batches(
        [np.arange(0, n + 1, 10) for n in sizes],
        batch_cells=cells,
        seed=3,
        partition=(ranks or Ranks()).partition,
    )
    return TileBatches(plan, sources, hops=2, prior_hops=1, cache_bytes=2**20)


class Memory(nn.Module):
    """An objective with a parameter of its own, a queue, a count and a mask as buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.ones(3, D))
        self.register_buffer("queue", torch.zeros(5, D))
        self.register_buffer("at", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(5, dtype=torch.bool))

    def forward(self, encoder: Encoder, data: Any, generator: torch.Generator) -> dict[str, Any]:
        noise = torch.rand(data.x.shape, generator=generator).to(data.x.device)
        x = nn.functional.dropout(data.x + 0.1 * noise, 0.2)
        z = encoder(x, data.edge_index, data.num_sampled_nodes, data.num_sampled_edges)
        queue, at, seen = self.get_buffer("queue"), self.get_buffer("at"), self.get_buffer("seen")
        past = (z.mean(dim=0) - queue.mean(dim=0)).square().mean()
        with torch.no_grad():
            queue[int(at) % 5] = z.mean(dim=0).float()
            seen[int(at) % 5] = True
            at += 1
        near = (z[:, None] - self.centers[None]).square().mean()
        rebuilt = (encoder.decoder(z) - data.x[: data.batch_size]).square().mean()
        return {"rebuilt": rebuilt, "near": near, "past": 0.1 * past}


def small_encoder(conv: str = "sage") -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Encoder(D, 6, D, n_layers=2, conv=conv)


def trainer(
    batches: TileBatches,
    objective: Objective,
    *,
    encoder: Encoder | None = None,
    steps: int = 9,
    placement: Placement | None = None,
    identity: dict[str, Any] | None = None,
    saving: Saving | None = None,
    ranks: Ranks | None = None,
    num_workers: int = 0,
) -> Trainer:
    return Trainer(
        encoder or small_encoder(),
        objective,
        batches,
        scale=Scale(np.ones(1, dtype=np.float32), 1.0),
        schedule=Schedule(steps, 0.05),
        placement=placement or Placement(CPU),
        seed=5,
        identity=identity or {"atlas": "ring", "inputs": {"section:a": "1"}},
        saving=saving,
        ranks=ranks,
        num_workers=num_workers,
    )


def state_of(made: Trainer) -> dict[str, Any]:
    """Copies of all parameters and buffers."""
    return {
        f"{owner}.{name}": value.detach().clone()
        for owner, module in made.learning.modules.items()
        for name, value in module.state_dict().items()
    }


def assert_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Every bit."""
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
