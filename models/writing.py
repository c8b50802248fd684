"""Embeddings of sections as derived arrays."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.derived import Provenance, RowBlocks, write_derived
from .genes.plan import TREATMENTS, FeaturePlan, locate_genes
from .rows.file import RowFile

if TYPE_CHECKING:
    from ..atlas.section import Section
    from ..atlas.snapshot import DerivedEntry
    from ..atlas.store import AtlasStore

__all__ = ["describe_embedding", "write_embedding"]

BLOCK_ROWS = 4096


def describe_embedding(
    kind: str, section: "Section", features: FeaturePlan, width: int
) -> dict[str, Any]:
    """Small facts about the embedding of a section, as JSON."""
    missing = int((~locate_genes(section, features).present[features.chosen]).sum())
    return {
        "model": kind,
        "n_dims": width,
        "values": section.values,
        "treatment": TREATMENTS[section.values],
        "n_genes": features.n_genes,
        "n_genes_missing": missing,
    }


def write_embedding(
    store: "AtlasStore",
    key: str,
    section: str,
    table: RowFile,
    *,
    info: Mapping[str, Any],
    provenance: Provenance,
) -> "DerivedEntry":
    """Write the rows of a scratch file as an embedding, uncommitted."""
    shape, dtype = (table.n_rows, table.width), np.dtype(np.float32)
    blocks = RowBlocks(shape, dtype, lambda: table.blocks(BLOCK_ROWS))
    return write_derived(
        store,
        "embedding",
        key,
        section,
        arrays={"values": blocks},
        attrs=info,
        provenance=provenance,
        info=info,
    )
