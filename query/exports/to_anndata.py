"""A selection as one AnnData."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import InvalidArgument
from ...atlas.memory import parse_bytes, refuse_above
from ..cells.fetch import read_counts, read_positions
from ..cells.rows import RunArray, count
from ..expression.choice import GeneChoice, Join, Missing, settle
from ..expression.mixture import LOG_RULES, check_log, told_apart, unit_of, warn_mixed
from ..expression.normalize import TARGET_SUM, depth_of, log_normalize
from ..tables.obs import obs_table, stale_note

if TYPE_CHECKING:
    import scipy.sparse as sp
    from anndata import AnnData

    from ...atlas.section import Section
    from ..cells.selection import Selection

WAYS_OUT = (
    "narrow the query (section=, genes=, region=) or summarize it with .aggregate(), "
    "or give a larger memory_limit"
)


def to_anndata(
    selection: "Selection",
    *,
    normalize: str | None = None,
    obs_columns: Sequence[str] | None = None,
    join: Join = "outer",
    missing: Missing | None = None,
    graph: str | None = None,
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
    memory_limit
        Refuse above this estimate; default half of free memory, at most 2 GiB.

    Returns
    -------
    AnnData
        `X` (n, g) float32 CSR; obs index `{section}:{cell id}`; `obsm["spatial"]` (n, 2)
        float64, micrometers (source units in sections of unknown unit, named in `uns`);
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
    if normalize not in (None, "log1p"):
        raise InvalidArgument(f"normalize=None or 'log1p' is wanted, but got {normalize!r}")
    limit = parse_bytes(memory_limit)
    what = f"an AnnData of up to {selection.n_obs_bound:,} cells x {selection.n_vars:,} genes"
    peak = selection.plan.peak_bytes * (2 if normalize else 1)
    if graph is not None:
        # The engine of graphs costs a tenth of a second to load: only who asks for one pays.
        from .graphs import graph_bytes

        peak += graph_bytes(selection, graph)
    refuse_above(limit, peak, what, WAYS_OUT)
    asked = selection.question.genes is not None
    choice, kept = settle(
        selection.genes.restricted(list(selection.runs), np.ones(len(selection.genes), bool)),
        list(selection.runs),
        asked=asked,
        join=join,
        missing=missing,
    )
    entries = [selection.store.snapshot.sections[name] for name in kept]
    if normalize:
        check_log(entries)
    warn_mixed(entries, normalize)
    if missing == "nan":
        refuse_above(limit, peak + _filled_bytes(selection, choice), what, WAYS_OUT)
    adata = _assemble(
        selection, choice, kept, normalize=normalize, obs_columns=obs_columns, missing=missing
    )
    if graph is not None:
        from .graphs import selected_graph

        selected_graph(_narrowed(selection, kept), graph).add_to(adata, graph)
    return adata


def _narrowed(selection: "Selection", kept: Sequence[str]) -> "Selection":
    return selection if list(kept) == list(selection.runs) else selection.only(kept)


def _filled_bytes(selection: "Selection", choice: GeneChoice) -> int:
    return sum(
        count(runs) * int((~choice.measured[name]).sum()) * 16
        for name, runs in selection.runs.items()
    )


def _assemble(
    selection: "Selection",
    choice: GeneChoice,
    kept: Sequence[str],
    *,
    normalize: str | None,
    obs_columns: Sequence[str] | None,
    missing: Missing | None,
) -> "AnnData":
    import anndata as ad

    selection = _narrowed(selection, kept)
    parts = selection.parts()
    entries = [section.entry for section, _ in parts]
    obs = told_apart(obs_table(selection, obs_columns), entries)
    positions = [read_positions(section, runs) for section, runs in parts]
    stored, logged = [], []
    for section, runs in parts:
        matrix = aligned(section, runs, choice, fill=missing == "nan")
        if normalize:
            logged.append(log_normalize(matrix, section.values, depth_of(section, runs)))
        stored.append(matrix)
    obsm: dict[str, Any] = {"spatial": np.concatenate([*positions, np.zeros((0, 2))])}
    varm: dict[str, Any] = {"measured": choice.presence()}
    adata = ad.AnnData(
        X=stack(logged if normalize else stored, len(choice)),
        obs=obs,
        var=choice.var(),
        obsm=obsm,
        varm=varm,
        uns={"tisseract": describe(selection, normalize) | stale_note(obs)},
    )
    if normalize:
        plain = all(entry.values == "counts" for entry in entries)
        adata.layers["counts" if plain else "stored"] = stack(stored, len(choice))
    return adata


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
    return {
        "version": version("tisseract"),
        "atlas": atlas_id(store),
        "snapshot": store.snapshot.number,
        "query": str(selection.question),
        "spatial_unit": units,
        "values": values,
        "normalize": normalize or "none",
        **(_normalized(values) if normalize else {}),
    }


def _normalized(values: dict[str, str]) -> dict[str, Any]:
    done = {section: LOG_RULES[kind] for section, kind in values.items()}
    return {"target_sum": TARGET_SUM, "normalized": done}


def atlas_id(store: Any) -> str:
    """Identity of the atlas as its `atlas.json` gives it, empty where it gives none."""
    import json

    return str(json.loads(store.storage.get("atlas.json")).get("atlas", ""))
