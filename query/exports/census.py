"""The calls of `cellxgene_census`, on an atlas: a notebook of Census users needs one line changed.

Names that Census gives to columns stand for those of an atlas, where it has none of that name:
`feature_id` is `gene_id`, `feature_name` and `gene_name` are `symbol`; `dataset_id` is `section`,
`donor_id` is `donor`, `assay` is `technology`, `development_stage` is `timepoint`, `disease` is
`condition`, `tissue_general` is `tissue`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import ColumnNotFound, InvalidArgument, near
from ...atlas.gene_names import organism_of
from ..cells.verbs import select
from ..expression.choice import Missing, UnmeasuredWarning, choose_genes
from ..filters.columns import Columns
from ..filters.leaf import answer_values
from ..filters.parser import parse
from ..filters.predicate import And, Leaf, Not, Or, Predicate, conjunction, evaluate, leaves
from ..filters.predicate import In as Among
from ..tables.listing import gene_table
from ..telling import tell

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp
    from anndata import AnnData

    from ...atlas.store import AtlasStore
    from ..cells.selection import Selection

__all__ = ["get_anndata", "get_obs", "get_presence_matrix", "get_var"]

OBS_ALIASES: Mapping[str, str] = {
    "dataset_id": "section",
    "donor_id": "donor",
    "assay": "technology",
    "development_stage": "timepoint",
    "disease": "condition",
    "tissue_general": "tissue",
}
VAR_ALIASES: Mapping[str, str] = {
    "feature_id": "gene_id",
    "feature_name": "symbol",
    "gene_name": "symbol",
}
_FEATURES = {"gene_id": "feature_id", "symbol": "feature_name"}
_LAYERS = {"raw": None, "counts": None, "log1p": "log1p"}


def get_anndata(
    census: "AtlasStore | str | Path",
    organism: str | None = None,
    *,
    X_name: str = "raw",
    obs_value_filter: str | None = None,
    var_value_filter: str | None = None,
    obs_column_names: Sequence[str] | None = None,
    obs_embeddings: Sequence[str] = (),
    missing: Missing = "zero",
    graph: str | None = None,
    version: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    memory_limit: str | int | None = None,
) -> "AnnData":
    """Read cells and genes into one AnnData, with the keywords of `cellxgene_census.get_anndata`.

    Parameters
    ----------
    census
        An atlas, or where one lies.
    organism
        Sections and genes of this one alone, in English or Latin; None is all.
    X_name
        `raw` (or `counts`): what is stored; `log1p`: see `to_anndata`.
    obs_value_filter, var_value_filter
        Filters of cells and of genes, such as `"feature_name in ['Sox2', 'Pax6']"`.
    obs_column_names
        Columns of obs, under the names and in the order asked for; default all.
    obs_embeddings
        Names of embeddings, for `obsm["X_<name>"]`.
    missing
        As of `to_anndata`; zeros by default as in Census, told by an `UnmeasuredWarning`.
    graph
        As of `to_anndata`.
    version, storage_options
        Of the atlas, where `census` is a place.
    memory_limit
        Refuse above this estimate.

    Returns
    -------
    AnnData
        As of `to_anndata`; `varm["measured"]` tells true zeros; `var` has `feature_id` and
        `feature_name`, as `get_var`.

    Raises
    ------
    InvalidArgument
        No section or no gene of that organism, or an `X_name` that is none of these.
    BudgetExceeded, QuerySyntax, ColumnNotFound, DerivedNotFound
        As of `query` and `to_anndata`.
    """
    if X_name not in _LAYERS:
        raise InvalidArgument(
            f"X_name='raw' or 'log1p' is wanted, but got {X_name!r}; depth-corrected values "
            "without a logarithm are not stored"
        )
    store = _opened(census, version, storage_options)
    genes = None
    if var_value_filter is not None:
        genes = _names(get_var(store, organism, value_filter=var_value_filter))
    chosen = _cells(store, organism, obs_value_filter, genes)
    filled = genes is not None and missing == "zero"
    if filled and not chosen.genes.restricted(list(chosen.runs)).complete:
        tell(
            "some sections have not measured all genes, whose zeros there mean nothing; "
            "varm['measured'] and get_presence_matrix() tell which",
            UnmeasuredWarning,
        )
    adata = chosen.to_anndata(
        normalize=_LAYERS[X_name],
        obs_columns=_spelled(store, obs_column_names),
        embeddings=list(obs_embeddings),
        missing=missing if genes is not None or missing != "zero" else None,
        graph=graph,
        memory_limit=memory_limit,
    )
    obs: Any = adata.obs
    var: Any = adata.var
    adata.obs = _as_asked(store, obs, obs_column_names)
    adata.var = var.rename(columns=_FEATURES)
    return adata


def get_obs(
    census: "AtlasStore | str | Path",
    organism: str | None = None,
    *,
    value_filter: str | None = None,
    column_names: Sequence[str] | None = None,
    version: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    memory_limit: str | int | None = None,
) -> "pd.DataFrame":
    """Tabulate cells, with the keywords of `cellxgene_census.get_obs`; see `get_anndata`."""
    store = _opened(census, version, storage_options)
    chosen = _cells(store, organism, value_filter, None)
    table = chosen.to_pandas(_spelled(store, column_names), memory_limit=memory_limit)
    return _as_asked(store, table, column_names)


def get_var(
    census: "AtlasStore | str | Path",
    organism: str | None = None,
    *,
    value_filter: str | None = None,
    column_names: Sequence[str] | None = None,
    version: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> "pd.DataFrame":
    """Tabulate genes, with the keywords of `cellxgene_census.get_var`.

    Returns
    -------
    DataFrame
        Index 0, 1, ... in the order of `atlas.genes` (rows keep their numbers under a filter, as
        `soma_joinid` does); columns `feature_id`, `feature_name`, `organism`, `feature_type`,
        `n_sections`.

    Raises
    ------
    ColumnNotFound, QuerySyntax
        The filter names what genes do not have, or does not parse.
    """
    store = _opened(census, version, storage_options)
    table = gene_table(store).reset_index()
    if organism is not None:
        table = table[[organism_of(name) == organism_of(organism) for name in table["organism"]]]
        if table.empty:
            raise InvalidArgument(_no_organism(store, organism))
    if value_filter is not None:
        predicate = _renamed(parse(value_filter), VAR_ALIASES, set(table.columns))
        for leaf in leaves(predicate):
            if leaf.column not in table.columns:
                known = (*VAR_ALIASES, *table.columns)
                raise ColumnNotFound(
                    f"a column of genes is wanted, but got {leaf.column!r}."
                    f"{near(leaf.column, known)} Genes have {', '.join(table.columns)}."
                )

        def answer(leaf: Leaf) -> Any:
            return answer_values(leaf, table[leaf.column].reset_index(drop=True))

        table = table[evaluate(predicate, answer, len(table)).yes]
    table = table.rename(columns=_FEATURES)
    return table if column_names is None else table[list(column_names)]


def get_presence_matrix(
    census: "AtlasStore | str | Path",
    organism: str | None = None,
    *,
    version: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> "sp.csr_matrix":
    """Tell which sections measured which genes, as `cellxgene_census.get_presence_matrix`.

    Returns
    -------
    csr_matrix
        (sections, genes) bool, rows as in `atlas.sections`, columns as in `atlas.genes`; under
        `organism` others are empty. Reads the gene panels, no counts.
    """
    import scipy.sparse as sp

    store = _opened(census, version, storage_options)
    names = list(store.section_names)
    choice = choose_genes(store, names, None)
    wanted = set(names if organism is None else _sections_of(store, organism))
    rows = [choice.measured[name] & (name in wanted) for name in names]
    return sp.csr_matrix(np.array(rows, dtype=bool).reshape(len(names), len(choice)))


def _opened(
    census: "AtlasStore | str | Path",
    version: int | None,
    storage_options: Mapping[str, Any] | None,
) -> "AtlasStore":
    from ...atlas.store import open_store

    if isinstance(census, str | Path):
        return open_store(census, version=version, storage_options=storage_options)
    return census


def _cells(
    store: "AtlasStore", organism: str | None, value_filter: str | None, genes: list[str] | None
) -> "Selection":
    known = _known(store)
    parts: list[Predicate] = []
    if value_filter is not None:
        parts.append(_renamed(parse(value_filter), OBS_ALIASES, known))
    if organism is not None:
        parts.append(Among("section", tuple(_sections_of(store, organism))))
    return select(store, conjunction(parts) if parts else None, genes)


def _sections_of(store: "AtlasStore", organism: str) -> list[str]:
    wanted = organism_of(organism)
    found = [
        name
        for name, entry in store.snapshot.sections.items()
        if organism_of(str(entry.metadata.get("organism") or "")) == wanted
        or organism_of(store.section(name).panel.organism) == wanted
    ]
    if not found:
        raise InvalidArgument(_no_organism(store, organism))
    return found


def _no_organism(store: "AtlasStore", organism: str) -> str:
    known = sorted({str(name) for name in gene_table(store)["organism"] if name})
    return (
        f"an organism of this atlas is wanted, but got {organism!r}.{near(organism, known)} "
        f"It has {', '.join(known) or 'none that is named'}."
    )


def _renamed(predicate: Predicate, aliases: Mapping[str, str], known: set[str]) -> Predicate:
    """Put the atlas's own names for those of Census."""
    if isinstance(predicate, And | Or):
        return type(predicate)(tuple(_renamed(part, aliases, known) for part in predicate.parts))
    if isinstance(predicate, Not):
        return Not(_renamed(predicate.part, aliases, known))
    column = predicate.column
    return predicate if column in known else replace(predicate, column=aliases.get(column, column))


def _known(store: "AtlasStore") -> set[str]:
    columns = Columns(store)
    keys = (*columns.domain_keys, *columns.annotation_keys)
    return {*columns.metadata, *columns.obs, *keys}


def _spelled(store: "AtlasStore", names: Sequence[str] | None) -> list[str] | None:
    if names is None:
        return None
    known = _known(store)
    return [name if name in known else OBS_ALIASES.get(name, name) for name in names]


def _as_asked(
    store: "AtlasStore", table: "pd.DataFrame", names: Sequence[str] | None
) -> "pd.DataFrame":
    """Columns under the names and in the order asked for, then what tells sections apart."""
    if names is None:
        return table
    import pandas as pd

    spelled = dict(zip(names, _spelled(store, names) or (), strict=True))
    more = [name for name in table.columns if name not in {"section", *spelled.values()}]
    found = {name: table[own] for name, own in spelled.items()}
    asked = pd.DataFrame(found | {name: table[name] for name in more}, index=table.index)
    asked.attrs = table.attrs
    return asked


def _names(genes: "pd.DataFrame") -> list[str]:
    """Names that find these genes and no others."""
    if genes.empty:
        raise InvalidArgument(
            "a filter that some gene satisfies is wanted for var_value_filter=, but none does; "
            "get_var() lists all"
        )
    several = genes["feature_id"].duplicated(keep=False)
    pairs = zip(genes["feature_id"], genes["organism"], several, strict=True)
    return [f"{organism}:{name}" if twice and organism else name for name, organism, twice in pairs]
