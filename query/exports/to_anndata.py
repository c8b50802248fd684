"""A selection as one AnnData."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cells.fetch import read_counts
from ..cells.rows import RunArray
from ..expression.choice import GeneChoice, Join, Missing
from ..expression.mixture import LOG_RULES, told_apart, unit_of
from ..expression.normalize import TARGET_SUM, depth_of, log_normalize
from ..tables.obs import obs_table
from ..tables.positions import frame_of, positions_of
from .embeddings import confidence_columns, read_rows
from .graphs import selected_graph
from .prepare import WAYS_OUT, Options, Prepared, described, prepare

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp
    from anndata import AnnData

    from ...atlas.section import Section
    from ..cells.selection import Selection

__all__ = [
    "WAYS_OUT",
    "aligned",
    "assemble",
    "atlas_id",
    "describe",
    "notes_of",
    "obs_of",
    "stack",
    "to_anndata",
]


def to_anndata(
    selection: "Selection",
    *,
    normalize: str | None = None,
    obs_columns: Sequence[str] | None = None,
    join: Join = "outer",
    missing: Missing | None = None,
    graph: str | None = None,
    embeddings: bool | str | Sequence[str] = False,
    confidence: bool = False,
    halo: str | None = None,
    halo_um: float | None = None,
    n_hops: int = 1,
    memory_limit: str | int | None = None,
) -> "AnnData":
    """Read a selection into one AnnData.

    Parameters
    ----------
    selection
        What to read.
    normalize
        None hands out `X` as stored; `"log1p"` scales each cell of counts to 10,000 and takes
        log1p, takes log1p of normalized values and leaves log1p values alone;
        `uns["tisseract"]["normalized"]` says what was done to each section. What is stored is
        in `layers["counts"]`, or `layers["stored"]` where some section holds no counts.
    obs_columns
        Columns to join, `section` always first; default all metadata, obs columns and labels.
        Where sections differ in the kind of their values or in their unit, a
        `MixedValuesWarning` says so, and `values` or `unit` is joined, too.
    join
        Genes, where none were named and panels differ: `outer` all, `inner` those that every
        section measured.
    missing
        Genes that some section has not measured: `error` (default where genes were named),
        `nan` (explicit NaN in `X`), `drop_sections`, `zero` (default where none were named, with
        an `UnmeasuredWarning`). `varm["measured"]` always tells, genes by sections.
    graph
        Name of committed graphs: the edges between the cells of the answer go to
        `obsp["<graph>_connectivities"]`, `obsp["<graph>_distances"]` and
        `uns["<graph>_neighbors"]`, as squidpy has them.
    embeddings
        Embeddings to join in as `obsm["X_<key>"]`: names, or True for every one that all
        sections have; a `PartialEmbeddingWarning` tells of others.
    confidence
        Join a column `<key>_confidence` for each domain key: how sure the label is.
    halo
        `"graph"` hands out, too, the cells that edges of `graph` lead to, `n_hops` deep, whether
        or not they satisfy the question; `obs["in_region"]` tells the cells of the answer from
        them. No edge that leaves a cell of the answer is lost then.
    halo_um
        Likewise the cells up to this far, in micrometers, from some cell of the answer.
    n_hops
        Of `halo="graph"`: as many as layers of a graph network to be computed exactly.
    memory_limit
        Refuse above this estimate; default half of free memory, at most 2 GiB.

    Returns
    -------
    AnnData
        `X` (n, g) float32 CSR; obs index `{section}:{cell id}`; `obsm["spatial"]` (n, 2)
        float64, micrometers (source units in sections of unknown unit, named in `uns`), and of
        an answer asked in a common frame `obsm["spatial_<frame>"]`, in the frame;
        `uns["tisseract"]` names the atlas, its snapshot, the query and the units.

    Raises
    ------
    BudgetExceeded
        Estimated above the limit; no cell has been read then.
    GeneNotFound
        Under `missing="error"`.
    InvalidArgument
        Normalization that the stored values do not allow (compositions).
    DerivedNotFound, StaleDerived
        Some section has no such graph, or was replaced since.
    """
    options = Options(
        normalize=normalize,
        obs_columns=obs_columns,
        join=join,
        missing=missing,
        graph=graph,
        embeddings=embeddings,
        confidence=confidence,
        halo=halo,
        halo_um=halo_um,
        n_hops=n_hops,
        memory_limit=memory_limit,
    )
    return assemble(prepare(selection, options))


def assemble(prepared: Prepared) -> "AnnData":
    """Read all of what was settled on."""
    import anndata as ad

    selection, choice, options = prepared.selection, prepared.choice, prepared.options
    parts = selection.parts()
    obs = obs_of(prepared)
    obsm: dict[str, Any] = {**positions_of(selection)}
    for key, dim in prepared.embeddings.dims.items():
        rows = [read_rows(selection.store, key, section.name, runs) for section, runs in parts]
        obsm[f"X_{key}"] = np.concatenate([*rows, np.zeros((0, dim), np.float32)])
    stored, logged = [], []
    for section, runs in parts:
        matrix = aligned(section, runs, choice, fill=options.missing == "nan")
        if options.normalize:
            logged.append(log_normalize(matrix, section.values, depth_of(section, runs)))
        stored.append(matrix)
    varm: dict[str, Any] = {"measured": choice.presence()}
    adata = ad.AnnData(
        X=stack(logged if options.normalize else stored, len(choice)),
        obs=obs,
        var=choice.var(),
        obsm=obsm,
        varm=varm,
        uns={"tisseract": notes_of(prepared, obs.attrs.get("stale_labels"))},
    )
    if prepared.layer is not None:
        adata.layers[prepared.layer] = stack(stored, len(choice))
    if options.graph is not None:
        selected_graph(selection, options.graph).add_to(adata, options.graph)
    return adata


def obs_of(prepared: Prepared) -> "pd.DataFrame":
    """Tabulate the cells: the columns asked for, what tells sections apart, `in_region`."""
    selection, options = prepared.selection, prepared.options
    obs = told_apart(obs_table(selection, options.obs_columns), prepared.entries)
    if options.confidence:
        for name, values in confidence_columns(selection).items():
            obs[name] = values.to_numpy()
    if prepared.inside is not None:
        obs["in_region"] = prepared.in_region()
    return obs


def notes_of(prepared: Prepared, stale: Mapping[str, Any] | None) -> dict[str, Any]:
    """Tell where the answer comes from, for `uns["tisseract"]`."""
    notes = describe(prepared.selection, prepared.options.normalize) | described(prepared)
    return notes | ({"stale_labels": dict(stale)} if stale else {})


def aligned(
    section: "Section", runs: RunArray, choice: GeneChoice, *, fill: bool = False
) -> "sp.csr_array":
    """Read stored values of some rows over the genes of an answer, (m, g) float32 CSR.

    Genes outside the panel are empty, or explicit NaN under `fill`.
    """
    import scipy.sparse as sp

    columns = choice.columns[section.name]
    listed = np.flatnonzero(columns >= 0)
    every = len(listed) == section.n_vars
    wanted = None if every else columns[listed]
    own = read_counts(section, runs, wanted)
    # Where each column of what was read goes in the answer.
    target = np.empty(len(listed), np.int32)
    if every:
        target[columns[listed]] = listed
    else:
        target[:] = listed
    shape = (own.shape[0], len(choice))
    matrix = sp.csr_array((own.data, target[own.indices], own.indptr), shape=shape)
    matrix.sort_indices()
    if fill:
        absent = np.flatnonzero(~choice.measured[section.name])
        matrix = _with_nan(matrix, absent)
    return matrix


def _with_nan(matrix: "sp.csr_array", absent: Any) -> "sp.csr_array":
    import scipy.sparse as sp

    if not len(absent):
        return matrix
    n = matrix.shape[0]
    data = np.full(n * len(absent), np.nan, np.float32)
    indptr = np.arange(n + 1) * len(absent)
    filled = sp.csr_array((data, np.tile(absent, n), indptr), shape=matrix.shape)
    return sp.csr_array(matrix + filled)


def stack(blocks: "list[sp.csr_array]", n_vars: int) -> "sp.csr_matrix":
    """Blocks one below the other; each is let go once copied, so that few lie in memory twice."""
    import scipy.sparse as sp

    nnz = sum(block.nnz for block in blocks)
    lengths = [np.diff(block.indptr) for block in blocks]
    index: Any = np.int32 if max(nnz, n_vars) < np.iinfo(np.int32).max else np.int64
    data, indices = np.empty(nnz, np.float32), np.empty(nnz, index)
    at = 0
    blocks.reverse()
    while blocks:
        block = blocks.pop()
        data[at : at + block.nnz] = block.data
        indices[at : at + block.nnz] = block.indices
        at += block.nnz
    indptr: Any = np.concatenate([[0], np.cumsum(np.concatenate([*lengths, []]))]).astype(index)
    return sp.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, n_vars))


def describe(selection: "Selection", normalize: str | None = None) -> dict[str, Any]:
    """Where an answer comes from and what its numbers mean; plain values that h5ad can hold."""
    store = selection.store
    entries = [store.snapshot.sections[name] for name in selection.runs]
    units = {e.section: unit_of(e) for e in entries}
    values = {e.section: e.values for e in entries}
    frame = frame_of(selection.question)
    return {
        "version": version("tisseract"),
        "atlas": atlas_id(store),
        "snapshot": store.snapshot.number,
        "query": str(selection.question),
        "spatial_unit": units,
        "values": values,
        "normalize": normalize or "none",
        **({} if frame is None else {"frame": frame.name}),
        **(_normalized(values) if normalize else {}),
    }


def _normalized(values: dict[str, str]) -> dict[str, Any]:
    done = {section: LOG_RULES[kind] for section, kind in values.items()}
    return {"target_sum": TARGET_SUM, "normalized": done}


def atlas_id(store: Any) -> str:
    """Identity of the atlas as its `atlas.json` gives it, empty where it gives none."""
    import json

    return str(json.loads(store.storage.get("atlas.json")).get("atlas", ""))
