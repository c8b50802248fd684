"""What is written of domains: the mixture as a run, and labels with their provenance."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.derived import Provenance, tile_histogram, write_derived
from ...atlas.snapshot import DerivedEntry, RunEntry
from ..runs import Run
from .labeling import Labels
from .mixture import Mixture
from .shifts import Shifts

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["mixture_run", "parameters_at", "write_labels"]


def parameters_at(parameters: Mapping[str, Any], level: int) -> dict[str, Any]:
    """Return parameters as they hold for labels of this many domains."""
    finest = parameters["n_domains"]
    joins = {} if level == finest else {"n_domains": level, "joined_from": finest}
    return {**parameters, **joins}


def mixture_run(
    mixture: Mixture,
    shifts: Shifts,
    encoder: RunEntry,
    inputs: Mapping[str, str],
    parameters: Mapping[str, Any],
) -> Run:
    """Return the mixture as a run, so that other sections can be labeled alike."""
    moved = {"shifts": np.stack(list(shifts.values()))} if shifts else {}
    return Run(
        "mixture",
        {
            "parameters": dict(parameters),
            "encoder": encoder.run,
            "log_likelihood": mixture.log_likelihood,
            "n_iter": mixture.n_iter,
            "converged": mixture.converged,
            "shifted": list(shifts),
        },
        {
            "weights": mixture.weights,
            "means": mixture.means,
            "factors": mixture.factors,
            **moved,
        },
        inputs,
        parameters["mixture_seed"],
    )


def write_labels(
    store: "AtlasStore",
    key: str,
    section: str,
    found: Labels,
    *,
    embedding: DerivedEntry,
    readout: RunEntry,
    parameters: Mapping[str, Any],
) -> DerivedEntry:
    """Write the labels of one section, uncommitted."""
    n_domains = int(parameters["n_domains"])
    categories = [str(code) for code in range(n_domains)]
    opened = store.section(section)
    tiles = tile_histogram(found.codes, opened.tiles.ptr, n_domains)
    counts = tiles.sum(axis=0)
    inputs = {
        f"section:{section}": opened.attempt,
        embedding.name: embedding.attempt,
        f"run:{readout.run}": readout.attempt,
    }
    return write_derived(
        store,
        "domains",
        key,
        section,
        arrays={"codes": found.codes, "confidence": found.confidence, "tile_hist": tiles},
        attrs={"categories": categories},
        provenance=Provenance(inputs, dict(parameters), parameters["mixture_seed"], readout.run),
        info={
            "method": parameters["model"],
            "n_domains": n_domains,
            "categories": categories,
            "counts": {name: int(n) for name, n in zip(categories, counts, strict=True)},
            "n_without": int(np.count_nonzero(found.codes < 0)),
            "mean_confidence": round(float(found.confidence[found.codes >= 0].mean()), 6),
            "refine": parameters["refine"],
            "where": parameters["where"],
            "seed": parameters["mixture_seed"],
        },
    )
