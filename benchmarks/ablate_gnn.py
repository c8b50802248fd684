"""What each term of the graph network is worth: one change at a time, on real and simulated tissue.

Every variant is `DomainGNN` with one thing changed. Those that were tried and are not in the
package (contrast, prototypes, cosine, a shift per section, hop stacks for layers) are written
out here, so that their figures can be had again. Labels are used for scoring alone.

    python benchmarks/ablate_gnn.py --only dlpfc,dlpfc_151510,osmfish,starmap --seeds 5
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import torch
from bench_domains import TISSUES, build, score
from torch import Tensor, nn
from torch.nn import functional

from tisseract.atlas.store import AtlasStore
from tisseract.models import find_domains
from tisseract.models.network import gnn
from tisseract.models.network.encoder import Encoder
from tisseract.models.network.gnn import DomainGNN
from tisseract.models.network.objective import LossWeights, masked_loss
from tisseract.models.network.scale import Scale, measure_scale


def one_scale(batches: Any, variance: Any, **told: Any) -> Scale:
    """All components divided by one number: the same as a loss on the genes themselves."""
    return measure_scale(batches, np.full_like(variance, variance.mean()), **told)


def hide(encoder: Encoder, data: Any, share: float, generator: torch.Generator) -> Tensor:
    """Embed the seeds with a share of all cells hidden."""
    hidden = (torch.rand(len(data.x), generator=generator) < share).to(data.x.device)
    x = torch.where(hidden[:, None], encoder.mask_token, data.x)
    return encoder(x, data.edge_index, data.num_sampled_nodes, data.num_sampled_edges)


class Extra(nn.Module):
    """The default loss and one term on top of it."""

    def __init__(self, width: int, weights: LossWeights, share: float) -> None:
        super().__init__()
        self.weights, self.share = weights, share
        self.build(width)

    def build(self, width: int) -> None:
        """Make the parameters."""

    def forward(self, encoder: Encoder, data: Any, generator: torch.Generator) -> dict[str, Tensor]:
        terms = masked_loss(encoder, data, self.weights, generator)
        return {**terms, "extra": self.share * self.term(encoder, data, generator)}

    def term(self, encoder: Encoder, data: Any, generator: torch.Generator) -> Tensor:
        raise NotImplementedError


class Contrast(Extra):
    """Tell a cell's own profile from another's, given its embedding (as GraphST, DGI)."""

    def build(self, width: int) -> None:
        self.match = nn.Linear(width, width, bias=False)

    def term(self, encoder: Encoder, data: Any, generator: torch.Generator) -> Tensor:
        z = hide(encoder, data, self.weights.mask_rate, generator)
        own = self.match(data.x[: data.batch_size])
        other = own[torch.randperm(len(own), generator=generator)]
        right, wrong = (own * z).sum(1), (other * z).sum(1)
        return functional.softplus(-right).mean() + functional.softplus(wrong).mean()


class Cosine(Extra):
    """The angle between guess and cell."""

    def term(self, encoder: Encoder, data: Any, generator: torch.Generator) -> Tensor:
        guess = encoder.decoder(hide(encoder, data, self.weights.mask_rate, generator))
        return (1.0 - functional.cosine_similarity(guess, data.x[: data.batch_size])).mean()


class Prototypes(Extra):
    """SwAV: two views of a place go to the same of 128 prototypes, all of them used alike.

    The second view is a random neighbor's neighbor. A queue of earlier cells, of whichever
    sections, takes part in the sharing out, so that no batch decides alone what is common.
    """

    n_prototypes, n_compared, queued, temperature = 128, 16, 4096, 0.1

    def build(self, width: int) -> None:
        self.project = nn.Linear(width, self.n_compared)
        self.prototypes = nn.Parameter(torch.randn(self.n_prototypes, self.n_compared))
        self.register_buffer("queue", torch.randn(self.queued, self.n_compared))

    def walked(self, data: Any, generator: torch.Generator) -> Tensor:
        """Return a seed two edges away from each seed, itself where there is none."""
        source, target = data.edge_index
        inside = (source < data.batch_size) & (target < data.batch_size)
        source, target = source[inside], target[inside]
        place = torch.arange(data.batch_size)
        order = torch.randperm(len(source), generator=generator)
        place[target[order]] = source[order]
        return place[place]

    def shared(self, scores: Tensor) -> Tensor:
        """Sinkhorn-Knopp: every prototype gets the same number of cells."""
        q = torch.exp((scores - scores.max()) / 0.05).T
        for _ in range(3):
            q = q / q.sum(dim=1, keepdim=True).clamp(min=1e-12)
            q = q / q.sum(dim=0, keepdim=True).clamp(min=1e-12)
        return q.T

    def term(self, encoder: Encoder, data: Any, generator: torch.Generator) -> Tensor:
        centers = functional.normalize(self.prototypes, dim=1)
        views = [
            functional.normalize(
                self.project(hide(encoder, data, self.weights.mask_rate, generator))
            )
            for _ in range(2)
        ]
        queue = functional.normalize(self.get_buffer("queue"), dim=1)
        scores = [view @ centers.T for view in views]
        with torch.no_grad():
            past = queue @ centers.T
            wanted = [self.shared(torch.cat([s, past]))[: len(s)] for s in scores]
            self.get_buffer("queue").copy_(torch.cat([views[0], queue])[: self.queued])
        away = self.walked(data, generator)
        there = functional.log_softmax(scores[1][away] / self.temperature, dim=1)
        here = functional.log_softmax(scores[0] / self.temperature, dim=1)
        return -((wanted[0] * there).sum(1) + (wanted[1][away] * here).sum(1)).mean() / 2


class SectionShift(Extra):
    """A shift per section before the network, left out for 30 % of the batches."""

    def build(self, width: int) -> None:
        self.shift = nn.Embedding(64, width)
        nn.init.zeros_(self.shift.weight)

    def forward(self, encoder: Encoder, data: Any, generator: torch.Generator) -> dict[str, Tensor]:
        if float(torch.rand((), generator=generator)) > 0.3:
            data.x = data.x - self.shift(data.section)
        return masked_loss(encoder, data, self.weights, generator)


class HopStacks(Encoder):
    """SIGN: means over 1, 2, ... walks, then two dense layers."""

    def __init__(self, n_features: int, n_hidden: int, n_out: int, **options: Any) -> None:
        super().__init__(n_features, n_hidden, n_out, **options)
        self.hops = options["n_layers"]
        self.layers = nn.ModuleList(
            [nn.Linear(n_features * self.hops, n_hidden), nn.Linear(n_hidden, n_out)]
        )

    def forward(
        self, x: Tensor, edge_index: Tensor, num_sampled_nodes: Any, num_sampled_edges: Any
    ) -> Tensor:
        source, target = edge_index
        met = torch.zeros(len(x)).index_add_(0, target, torch.ones(len(target)))
        stack, cells = [], num_sampled_nodes[0]
        for _ in range(self.hops):
            x = torch.zeros_like(x).index_add_(0, target, x[source]) / met.clamp(min=1)[:, None]
            stack.append(x[:cells])
        return self.layers[1](functional.elu(self.layers[0](torch.cat(stack, dim=1))))


class Ablated(DomainGNN):
    """`DomainGNN` with another objective, or another choice of directions."""

    extra: ClassVar[tuple[type[Extra], float] | None] = None
    of_embedding: ClassVar[bool] = False

    def _objective(self) -> Any:
        if self.extra is None:
            return super()._objective()
        torch.manual_seed(self.seed)
        kind, share = self.extra
        return kind(self.n_comps, self.loss, share)

    def _main_directions(self, *given: Any, **named: Any) -> Any:
        assert self.encoder is not None
        weight = self.encoder.decoder.weight
        learned = weight.data
        if self.of_embedding:  # as if the guess were the embedding itself
            weight.data = torch.eye(len(learned))
        try:
            return super()._main_directions(*given, **named)
        finally:
            weight.data = learned


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "one scale for all components (= loss on genes)": {"scale": one_scale},
    "directions of the embedding": {"attrs": {"of_embedding": True}},
    **{f"n_dims={n}": {"n_dims": n} for n in (12, 30)},
    **{f"prior={n}": {"prior": n} for n in (0.0, 0.1, 1.0)},
    "prior alone": {"reconstruction": 0.0},
    **{f"mask_rate={n}": {"mask_rate": n} for n in (0.1, 0.3)},
    **{f"n_layers={n}": {"n_layers": n, "prior_hops": min(n, 3)} for n in (2, 3, 5)},
    **{f"n_hidden={n}": {"n_hidden": n} for n in (32, 128)},
    **{f"steps={n}": {"steps": n} for n in (75, 300)},
    "gat": {"conv": "gat"},
    "sign": {"encoder": HopStacks},
    "cosine": {"attrs": {"extra": (Cosine, 1.0)}, "reconstruction": 0.0},
    "contrast": {"attrs": {"extra": (Contrast, 0.3)}},
    "prototypes": {"attrs": {"extra": (Prototypes, 0.3)}},
    "section shift": {"attrs": {"extra": (SectionShift, 1.0)}},
}


def measure(store: AtlasStore, column: str, k: int, variant: dict, seed: int, key: str) -> dict:
    """Fit one variant and score its refined labels."""
    options = dict(variant)
    model = type("Ablated", (Ablated,), options.pop("attrs", {}))
    scale, encoder = options.pop("scale", measure_scale), options.pop("encoder", Encoder)
    start = time.process_time()
    with (
        mock.patch.object(gnn, "DomainGNN", model),
        mock.patch.object(gnn, "measure_scale", scale),
        mock.patch.object(gnn, "Encoder", encoder),
    ):
        find_domains(store, "gnn", n_domains=k, key_added=key, seed=seed, refine=True, **options)
    found = np.array(list(score(store, key, column).values()))
    seconds = time.process_time() - start
    return {"ari": round(float(found[:, 0].mean()), 4), "cpu_seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", default=",".join(TISSUES))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    for tissue in args.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            store, column, k = build(tissue, args.data, Path(folder))
            for number, name in enumerate(args.variants.split(",")):
                for seed in range(args.seeds):
                    found = measure(store, column, k, VARIANTS[name], seed, f"v{number}_{seed}")
                    print(json.dumps({"tissue": tissue, "variant": name, "seed": seed, **found}))


if __name__ == "__main__":
    main()
