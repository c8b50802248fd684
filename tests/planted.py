"""A planted tissue: layers that differ in the mix of cell types, cells that differ in type."""

import numpy as np
from numpy.typing import NDArray

from tisseract.atlas.store import AtlasStore
from tisseract.ingest.source import RawSection

from .sections import make_raw

N_LAYERS = 3
# share of each type (columns) in each layer (rows): every type lives in every layer
MIX = np.array([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]])


def planted(
    n_obs: int = 500,
    *,
    seed: int = 0,
    n_genes: int = 36,
    first_gene: int = 0,
    depth: float = 1.0,
    batch: float = 0.2,
    **more: object,
) -> RawSection:
    """One section of three layers with counts, a batch effect of its own and the truth in obs."""
    programs = np.random.default_rng(99)
    log_type = programs.normal(0.0, 1.2, (N_LAYERS, 200))
    log_layer = programs.normal(0.0, 0.3, (N_LAYERS, 200))
    rng = np.random.default_rng([seed, 7])
    positions = rng.random((n_obs, 2)) * [300.0, 200.0]
    layer = np.minimum((positions[:, 0] / 100.0).astype(int), N_LAYERS - 1)
    kind = (rng.random(n_obs)[:, None] > MIX.cumsum(axis=1)[layer, :-1]).sum(axis=1)
    genes = np.arange(first_gene, first_gene + n_genes)
    shift = rng.normal(0.0, batch, n_genes)
    rate = np.exp(log_type[kind][:, genes] + log_layer[layer][:, genes] + shift)
    counts = rng.poisson(depth * rate).astype(np.float32)
    return make_raw(
        positions=positions,
        counts=counts,
        obs={"layer": layer.astype(np.float64), "kind": kind.astype(np.float64)},
        genes=[f"Gene{k}" for k in genes],
        **more,  # type: ignore[arg-type]
    )


def truth(store: AtlasStore, section: str, column: str = "layer") -> NDArray[np.int64]:
    """Planted labels in the section's row order."""
    table = store.section(section).obs(columns=[column], index=False)
    return table[column].to_numpy().astype(np.int64)
