"""Processes that train and are killed, or train together: `python -m tests.models.forked_training`.

One interpreter imports torch, then forks: importing takes longer than all of the training.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tisseract.atlas.store import open_store
from tisseract.models import DomainGNN
from tisseract.models.network.history import StepReport
from tisseract.models.network.ranks import Ranks
from tisseract.models.network.weights import pack_weights

from .network_parts import Memory, ring_batches, small_encoder, state_of, trainer

KILLED_AT = 8
SMALL: dict[str, Any] = {
    "steps": 12,
    "n_hidden": 8,
    "n_layers": 2,
    "prior_hops": 2,
    "batch_cells": 200,
    "device": "cpu",
}


def simple(encoder: Any, data: Any, generator: torch.Generator) -> Any:
    """An objective that remembers nothing."""
    x = data.x + 0.1 * torch.rand(data.x.shape, generator=generator)
    z = encoder(x, data.edge_index, data.num_sampled_nodes, data.num_sampled_edges)
    return {"rebuilt": (encoder.decoder(z) - data.x[: data.batch_size]).square().mean()}


def killed(folder: Path, conv: str) -> None:
    """Train until the process is killed, without a chance to clean up."""

    def kill(report: StepReport) -> None:
        if report.done == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    store = open_store(str(folder / "atlas"))
    place = folder / f"{conv}.safetensors"
    DomainGNN(store, conv=conv, checkpoint=place, every=3, **SMALL).fit(on_step=kill)


def together(folder: Path, rank: int) -> None:
    """Train as one rank of two, on a ring of cells and on an atlas."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2")
    ranks = Ranks.joined(torch.device("cpu"))
    batches = ring_batches(folder, ranks=ranks)
    for name, objective in (("simple", simple), ("memory", Memory())):
        # other weights at the start: those of rank 0 must win
        encoder = small_encoder()
        with torch.no_grad():
            encoder.mask_token.add_(rank)
        made = trainer(batches, objective, encoder=encoder, ranks=ranks)
        history = made.run()
        weights = {key: value.numpy() for key, value in state_of(made).items()}
        (folder / f"{name}{rank}").write_bytes(pack_weights(weights))
        (folder / f"{name}{rank}.loss").write_text(repr((history.loss, history.cells)))
    store = open_store(str(folder / "atlas"), read_only=False)
    model = DomainGNN(store, checkpoint=folder / "shared", **SMALL).fit()
    entries = model.embed("together", run="together")
    (folder / f"atlas{rank}").write_bytes(pack_weights(model.to_run().weights))
    (folder / f"atlas{rank}.entries").write_text(str(len(entries)))


def fork(work: Callable[[], None]) -> int:
    """Work in a child; return its id."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        try:
            work()
        finally:
            if sys.exception() is not None:
                traceback.print_exc()
            # what the parent has registered for its own end is not the child's
            os._exit(0 if sys.exception() is None else 1)
    return child


def main(folder: Path) -> int:
    """Return how many children did not end as they should."""
    victims = [fork(partial(killed, folder, conv)) for conv in ("sage", "gat")]
    ranks = [fork(partial(together, folder, rank)) for rank in (0, 1)]
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in [*victims, *ranks]]
    wanted = [-int(signal.SIGKILL)] * len(victims) + [0] * len(ranks)
    return sum(end != want for end, want in zip(ends, wanted, strict=True))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
