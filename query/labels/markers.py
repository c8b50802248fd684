"""Genes that mark domains: folds of pseudobulk means inside sections, over sections or donors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument, near
from ...atlas.memory import parse_bytes, refuse_above
from ..cells.rows import as_runs, batches, pairs_of
from ..exports.to_anndata import aligned
from ..expression.choice import choose_genes
from ..expression.normalize import TARGET_SUM, depth_of
from ..filters.columns import section_value
from .masks import read_part

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore
    from ..expression.choice import GeneChoice

__all__ = ["FEWEST_CELLS", "marker_table", "replicates"]

FEWEST_CELLS = 10  # inside a domain and outside it, for a section to have a say
# Added to both means before the logarithm, in the unit of the means: folds of next to nothing
# are not handed out as markers.
_PRIORS = {"counts": 1.0, "expected": 1.0, "normalized": 1.0, "composition": 0.01}
_MOST_ROWS, _FEWEST_ROWS = 32_768, 256
_NNZ_BYTES, _TABLES = 48, 9


@dataclass(slots=True)
class _Folds:
    """Sums over replicates of the mean fold in each, (K, G) each."""

    shape: tuple[int, int]
    total: NDArray[np.float64] = field(init=False)
    square: NDArray[np.float64] = field(init=False)
    n_units: NDArray[np.int64] = field(init=False)
    n_up: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.total, self.square = np.zeros(self.shape), np.zeros(self.shape)
        self.n_units = np.zeros(self.shape, np.int64)
        self.n_up = np.zeros(self.shape, np.int64)

    def add(self, fold: NDArray[np.float64]) -> None:
        """Add one replicate; NaN where it has nothing to say."""
        known = ~np.isnan(fold)
        value = np.where(known, fold, 0.0)
        self.total += value
        self.square += value**2
        self.n_units += known
        self.n_up += value > 0


def replicates(store: "AtlasStore", sections: Sequence[str], name: str | None) -> dict[str, str]:
    """Tell which biological replicate each section belongs to.

    Parameters
    ----------
    store
        The atlas.
    sections
        Names.
    name
        "section", or a column of the sections' metadata; None is `donor` where all sections have
        one, else `section`.

    Raises
    ------
    InvalidArgument
        A section has no value of it.
    """
    entries = {section: store.snapshot.sections[section] for section in sections}
    if name is None:
        named = all(section_value(s, e.metadata, "donor") is not None for s, e in entries.items())
        name = "donor" if named and entries else "section"
    found = {s: section_value(s, entry.metadata, name) for s, entry in entries.items()}
    lacking = [section for section, value in found.items() if value is None]
    if lacking:
        known = {key for entry in entries.values() for key in entry.metadata}
        raise InvalidArgument(
            f"metadata that every section has is wanted for replicate=, but got {name!r}, which "
            f"{', '.join(lacking[:3])} lacks{near(name, known)}; replicate='section' always works"
        )
    return {section: str(value) for section, value in found.items()}


def marker_table(
    store: "AtlasStore",
    key: str,
    sections: Sequence[str],
    domains: Sequence[str],
    *,
    n: int,
    replicate: str | None,
    masks: "dict[str, NDArray[np.bool_]] | None" = None,
    memory_limit: str | int | None,
) -> "pd.DataFrame":
    """Rank genes of each domain; see `DomainView.markers`."""
    import pandas as pd

    unit_of = replicates(store, sections, replicate)
    choice = choose_genes(store, sections, None)
    limit = parse_bytes(memory_limit)
    shape = (len(domains), len(choice))
    sums_bytes = _TABLES * 8 * shape[0] * shape[1]
    folds = _Folds(shape)
    ordered = sorted(sections, key=lambda section: unit_of[section])
    for _, members in groupby(ordered, key=lambda section: unit_of[section]):
        mean = np.zeros(shape)
        said = np.zeros(shape, np.int64)
        for name in members:
            section = store.section(name)
            rows = _rows_at_once(section, limit, sums_bytes)
            codes = read_part(store, key, name, masks).codes
            fold = _fold(section, codes, choice, shape[0], rows)
            known = ~np.isnan(fold)
            mean[known] += fold[known]
            said += known
        folds.add(np.divide(mean, said, out=np.full(shape, np.nan), where=said > 0))
    rows_of = [row for code, domain in enumerate(domains) for row in _best(folds, code, domain, n)]
    table = pd.DataFrame(
        rows_of, columns=["domain", "column", "log2_fold", "se", "n_units", "n_up"]
    )
    column = table.pop("column").to_numpy(dtype=np.int64)
    symbol = choice.symbol[column]
    table.insert(1, "gene", np.where(symbol == "", choice.name[column], symbol))
    table.insert(2, "gene_id", choice.gene_id[column])
    return table


def _rows_at_once(section: "Section", limit: int, held: int) -> int:
    """Return how many cells' values fit beside the sums."""
    each = _NNZ_BYTES * (section.entry.nnz / max(section.n_obs, 1)) + 64
    refuse_above(
        limit,
        int(held + _FEWEST_ROWS * each + 2 * section.n_obs),
        f"means of all genes in the domains of section {section.name!r}",
        "leave markers out with markers=0, or give a larger memory_limit",
    )
    return int(np.clip((limit - held) / each, _FEWEST_ROWS, _MOST_ROWS))


def _fold(
    section: "Section",
    codes: NDArray[np.int16],
    choice: "GeneChoice",
    n_domains: int,
    rows_at_once: int,
) -> NDArray[np.float64]:
    """Log2 fold of each domain over the other labeled cells of the section, (K, G)."""
    import scipy.sparse as sp

    sums = np.zeros((n_domains, len(choice)))
    weights = np.zeros(n_domains)
    for runs in batches(as_runs([(0, section.n_obs)]), rows_at_once):
        own = np.concatenate([codes[start:stop] for start, stop in pairs_of(runs)])
        kept = np.flatnonzero(own >= 0)
        ones = np.ones(len(kept))
        pick: Any = sp.csr_matrix((ones, (own[kept], kept)), shape=(n_domains, len(own)))
        sums += (pick @ aligned(section, runs, choice).astype(np.float64)).toarray()
        depth = depth_of(section, runs)
        weights += pick @ (np.ones(len(own)) if depth is None else depth / TARGET_SUM)
    cells = np.bincount(codes[codes >= 0], minlength=n_domains)
    enough = (cells >= FEWEST_CELLS) & (cells.sum() - cells >= FEWEST_CELLS)
    inside = _ratio(sums, weights)
    outside = _ratio(sums.sum(axis=0) - sums, weights.sum() - weights)
    fold = _log_fold(inside, outside, section.values)
    fold[~enough] = np.nan
    fold[:, ~choice.measured[section.name]] = np.nan
    return fold


def _ratio(sums: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(
        np.divide(
            sums, weights[:, None], out=np.full_like(sums, np.nan), where=weights[:, None] > 0
        )
    )


def _log_fold(
    inside: NDArray[np.float64], outside: NDArray[np.float64], values: str
) -> NDArray[np.float64]:
    if values == "log1p":  # means of logarithms are compared as they are
        return np.asarray((inside - outside) / np.log(2.0))
    prior = _PRIORS[values]
    # a difference of sums may be a little below zero
    return np.asarray(np.log2((inside + prior) / (np.maximum(outside, 0.0) + prior)))


def _best(folds: _Folds, code: int, domain: str, n: int) -> Iterator[tuple[Any, ...]]:
    """Genes of one domain that are up in more than half of the replicates, largest fold first."""
    units, up = folds.n_units[code], folds.n_up[code]
    mean = np.divide(folds.total[code], units, out=np.full(len(units), np.nan), where=units > 0)
    able = np.flatnonzero((2 * up > units) & (mean > 0))
    for column in able[np.argsort(-mean[able], kind="stable")][:n].tolist():
        k = int(units[column])
        spread = max(folds.square[code, column] - k * mean[column] ** 2, 0.0)
        error = float(np.sqrt(spread / (k - 1) / k)) if k > 1 else float("nan")
        yield domain, column, float(mean[column]), error, k, int(up[column])
