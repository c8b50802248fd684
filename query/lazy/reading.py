"""What a block's task does: read its counts, positions or names; small to send to a worker."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..cells.fetch import read_ids, read_positions
from ..expression.normalize import depth_of, log_normalize
from .blocks import Block

if TYPE_CHECKING:
    import scipy.sparse as sp

    from ...atlas.store import AtlasStore
    from ..expression.choice import GeneChoice

__all__ = ["Recipe", "of_section", "read_names", "read_places", "read_sections", "read_values"]


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """How the values of a block are handed out."""

    store: "AtlasStore"
    """The atlas, at one snapshot; a worker opens it anew."""
    normalize: str | None
    """None or log1p."""
    missing: str | None
    """Whether genes that were not measured become NaN."""
    dense: bool
    """NumPy arrays instead of CSR matrices."""


def of_section(choice: "GeneChoice", section: str) -> "GeneChoice":
    """Keep of a choice of genes what one section needs, without copying the rest."""
    mine: Mapping[str, Any] = {section: choice.columns[section]}
    return replace(choice, columns=mine, measured={section: choice.measured[section]})


def read_values(
    recipe: Recipe, block: Block, choice: "GeneChoice"
) -> "sp.csr_matrix | NDArray[np.float32]":
    """Values of a block, (m, g) float32, as `to_anndata` has them in `X`."""
    import scipy.sparse as sp

    from ..exports.to_anndata import aligned

    section = recipe.store.section(block.section)
    matrix = aligned(section, block.runs, choice, fill=recipe.missing == "nan")
    if recipe.normalize:
        matrix = log_normalize(matrix, section.values, depth_of(section, block.runs))
    if recipe.dense:
        return np.asarray(matrix.toarray(), dtype=np.float32)
    return sp.csr_matrix(matrix)


def read_places(store: "AtlasStore", block: Block) -> NDArray[np.float64]:
    """Positions of a block, (m, 2) float64."""
    return read_positions(store.section(block.section), block.runs)


def read_names(store: "AtlasStore", block: Block) -> NDArray[np.object_]:
    """Names `{section}:{cell id}` of a block, (m,) object."""
    ids = read_ids(store.section(block.section), block.runs).astype(str)
    return np.asarray(np.char.add(f"{block.section}:", ids), dtype=object)


def read_sections(block: Block, dtype: str) -> NDArray[np.str_]:
    """Name of the section of each cell of a block, (m,); reads nothing."""
    return np.full(block.n_obs, block.section, dtype=dtype)
