"""Statistics of committed graphs of an atlas, under squidpy's names; see `gr`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from .atlas.graph import StoredGraph
    from .atlas.spatial_statistics import CoOccurrence, NeighborhoodEnrichment
    from .handle import Atlas

__all__ = ["co_occurrence", "graph_stats", "nhood_enrichment", "spatial_autocorr"]


def graph_stats(
    atlas: Atlas,
    *,
    key: str = "spatial",
    sections: str | Sequence[str] | None = None,
    threads: int | None = None,
) -> pd.DataFrame:
    """Summarize committed graphs: degrees, lengths of edges, connected components.

    Parameters
    ----------
    atlas : Atlas
        The atlas.
    key : str
        Name of the graphs.
    sections : str or sequence of str, optional
        Names; all that have such a graph by default.
    threads : int, optional
        One a core by default; makes no difference to the result.

    Returns
    -------
    DataFrame
        One row a section: section, kind, n_obs, n_edges (each direction on its own),
        degree_min, degree_mean, degree_max, n_isolated, length_min, length_mean, length_max,
        unit, n_components, largest_component. Of a graph that was built with `where` or a
        mask, all numbers are of the cells that take part.

    Raises
    ------
    DerivedNotFound, StaleDerived
        No such graph, or one of a section that was replaced since.
    """
    import numpy as np
    import pandas as pd

    from .atlas.spatial_statistics import (
        connected_components,
        degree_histogram,
        edge_length_histogram,
    )

    rows = []
    for name in _sections(atlas, key, sections):
        graph = atlas.graph(name, key)
        degrees = degree_histogram(graph, threads=threads).counts
        n_obs = _count_kept(atlas, graph)
        degrees[0] -= graph.n_obs - n_obs
        used = np.flatnonzero(degrees)
        lengths = edge_length_histogram(graph, 1, threads=threads)
        sizes = connected_components(graph, threads=threads).sizes
        rows.append(
            {
                "section": name,
                "kind": graph.kind,
                "n_obs": n_obs,
                "n_edges": graph.nnz,
                "degree_min": int(used[0]) if used.size else 0,
                "degree_mean": graph.nnz / n_obs if n_obs else 0.0,
                "degree_max": int(used[-1]) if used.size else 0,
                "n_isolated": int(degrees[0]),
                "length_min": lengths.min,
                "length_mean": lengths.mean,
                "length_max": lengths.max,
                "unit": graph.distance_unit,
                "n_components": sizes.size - (graph.n_obs - n_obs),
                "largest_component": int(sizes.max(initial=0)) if n_obs else 0,
            }
        )
    return pd.DataFrame(rows)


def spatial_autocorr(
    atlas: Atlas,
    genes: str | Sequence[str] | None = None,
    *,
    mode: Literal["moran", "geary"] = "moran",
    key: str = "spatial",
    sections: str | Sequence[str] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Compute Moran's I or Geary's C of genes over committed graphs, section by section.

    Parameters
    ----------
    atlas : Atlas
        The atlas.
    genes : str or sequence of str, optional
        Identifiers, symbols or aliases; all genes of a section by default.
    mode : {'moran', 'geary'}
        Which statistic.
    key, sections
        See `graph_stats`. Of sections that are not named, those that cannot be asked are left
        out with a warning, such as those that measured none of the genes.
    **options
        `normalize`, `transformation`, `two_tailed`, `threads`, `memory_limit`; see
        `tisseract.atlas.spatial_statistics.spatial_autocorrelation`.

    Returns
    -------
    DataFrame
        section, gene, I (or C), pval_norm, var_norm, pval_norm_fdr_bh; the strongest
        autocorrelation of a section first.

    Raises
    ------
    DerivedNotFound, StaleDerived, GeneNotFound, InvalidArgument, BudgetExceeded
    """
    import pandas as pd

    from .atlas.spatial_statistics import spatial_autocorrelation
    from .query.exports.graph_cells import tell_skipped

    if options.pop("n_perms", None) is not None:
        from .atlas.errors import InvalidArgument

        raise InvalidArgument(
            "p-values under normality (pval_norm) are computed and no permutations, but got "
            "n_perms; leave it out"
        )
    wanted = [genes] if isinstance(genes, str) else None if genes is None else list(genes)
    measured: set[str] = set()
    absent: dict[str, str] = {}

    def compute(name: str, graph: StoredGraph, cells: NDArray[Any] | None) -> pd.DataFrame:
        section = atlas.section(name)
        known = wanted
        if wanted and sections is None:
            known = [gene for gene in wanted if section.panel.candidates(gene)] or wanted
            if len(known) < len(wanted):
                absent[name] = f"no {', '.join(gene for gene in wanted if gene not in known)}"
        found = spatial_autocorrelation(graph, section, known, mode=mode, cells=cells, **options)
        measured.update(known or ())
        table = found.to_frame().rename_axis("gene").reset_index()
        table.insert(0, "section", name)
        return table

    parts = _each(atlas, key, sections, compute, "autocorrelation")
    if parts and (unknown := [gene for gene in wanted or () if gene not in measured]):
        for name in parts:
            atlas.section(name).panel.find(unknown[0])  # raises, with near names
    tell_skipped(absent, "as for these genes alone")
    return pd.concat(parts.values(), ignore_index=True) if parts else pd.DataFrame()


def nhood_enrichment(
    atlas: Atlas,
    cluster_key: str,
    *,
    key: str = "spatial",
    sections: str | Sequence[str] | None = None,
    n_perms: int | None = 1000,
    seed: int = 0,
    **options: Any,
) -> NeighborhoodEnrichment:
    """Tell which labels are neighbors more often than chance has it, over all sections together.

    Parameters
    ----------
    atlas : Atlas
        The atlas.
    cluster_key : str
        Column of labels: of the table of cells, or a domain key.
    key, sections
        See `graph_stats`. Of sections that are not named, those without the column are left out
        with a warning.
    n_perms : int, optional
        Shuffles of the labels, within each section; None for exact mean and variance of all.
    seed : int
        Of the shuffles.
    **options
        `threads`, `memory_limit`.

    Returns
    -------
    NeighborhoodEnrichment
        `.counts`, `.zscore`, `.categories`, `.to_frame()`.

    Raises
    ------
    DerivedNotFound, StaleDerived, ColumnNotFound, InvalidArgument, BudgetExceeded
    """
    from .atlas.errors import ColumnNotFound, near
    from .atlas.spatial_statistics import neighborhood_enrichment
    from .query.labels.labelled import labelled_sections

    def compute(name: str, graph: StoredGraph, cells: NDArray[Any] | None) -> tuple[Any, ...]:
        (section,) = labelled_sections(atlas, [name], cluster_key)
        if cluster_key not in section.obs_columns:
            raise ColumnNotFound(
                f"a column of labels is wanted, but section {name!r} has no {cluster_key!r}."
                f"{near(cluster_key, section.obs_columns)}"
            )
        return graph, section, cells

    found = _each(atlas, key, sections, compute, "enrichment").values()
    return neighborhood_enrichment(
        [graph for graph, _, _ in found],
        [section for _, section, _ in found],
        cluster_key,
        n_perms=n_perms,
        seed=seed,
        cells=[cells for _, _, cells in found],
        **options,
    )


def co_occurrence(
    atlas: Atlas,
    cluster_key: str,
    *,
    section: str,
    interval: int | Sequence[float] = 50,
    max_distance: float | None = None,
    where: str | None = None,
    **options: Any,
) -> CoOccurrence:
    """Count pairs of cells by label and distance, up to a distance; no graph is needed.

    Parameters
    ----------
    atlas : Atlas
        The atlas.
    cluster_key : str
        Column of labels: of the table of cells, or a domain key.
    section : str
        Name of the section.
    interval : int or sequence of float
        Ascending distances, or how many evenly up to `max_distance`.
    max_distance : float, optional
        Largest distance, where `interval` is a number; see
        `tisseract.atlas.spatial_statistics.co_occurrence` for the default.
    where : str, optional
        Filter string: only these cells.
    **options
        `threads`, `memory_limit`.

    Returns
    -------
    CoOccurrence

    Raises
    ------
    SectionNotFound, ColumnNotFound, InvalidArgument, BudgetExceeded
    """
    from .atlas.spatial_statistics import co_occurrence as count
    from .query.labels.labelled import labelled_sections

    cells = None
    if where is not None:
        from .query.exports.graph_cells import graph_masks

        cells = graph_masks(atlas, where, [section], named=True)[section]
    (labelled,) = labelled_sections(atlas, [section], cluster_key)
    return count(
        labelled,
        cluster_key,
        interval,
        max_distance=max_distance,
        cells=cells,
        **options,
    )


def _count_kept(atlas: Atlas, graph: StoredGraph) -> int:
    """Count the cells that take part in a graph; which ones they are need not be known."""
    if "mask" not in graph.parameters:
        return graph.n_obs
    counted = graph.entry.info.get("facts", {}).get("n_kept")
    if counted is not None:
        return int(counted)
    import numpy as np

    from .query.exports.graph_cells import kept_cells

    found: Any = kept_cells(atlas, graph)  # built by an earlier version
    return int(np.count_nonzero(found))


def _sections(atlas: Atlas, key: str, sections: str | Sequence[str] | None) -> list[str]:
    """Names asked for, or those of all sections that have the graph."""
    if sections is not None:
        return [sections] if isinstance(sections, str) else list(dict.fromkeys(sections))
    found = list(atlas.derived_keys("graph").get(key, ()))
    if not found:
        atlas.derived("graph", key, next(iter(atlas.section_names), ""))  # raises, with near names
    return found


def _each[Found](
    atlas: Atlas,
    key: str,
    sections: str | Sequence[str] | None,
    compute: Callable[[str, StoredGraph, NDArray[Any] | None], Found],
    what: str,
) -> dict[str, Found]:
    """Compute something for the graph of every section; it must be possible for those named.

    Of others, sections where it is not are left out with a warning, unless it is for none.
    """
    from .atlas.errors import GeneAmbiguous, InvalidArgument, NotInAtlas
    from .query.exports.graph_cells import kept_cells, tell_skipped

    done: dict[str, Found] = {}
    skipped: dict[str, InvalidArgument | NotInAtlas] = {}
    for name in _sections(atlas, key, sections):
        graph = atlas.graph(name, key)
        cells = kept_cells(atlas, graph)
        try:
            if cells is not None and not cells.any():
                raise InvalidArgument(
                    f"the filter of graph {key!r} leaves no cell of section {name!r}; build it "
                    "with another"
                )
            done[name] = compute(name, graph, cells)
        except GeneAmbiguous:
            raise
        except (InvalidArgument, NotInAtlas) as error:
            if repr(name) not in str(error):
                error = type(error)(f"section {name!r}: {error}; or choose others with section=")
            if sections is not None:
                raise error from None
            skipped[name] = error
    if skipped and not done:
        raise next(iter(skipped.values()))
    tell_skipped({name: _reason(error) for name, error in skipped.items()}, f"no {what}")
    return done


def _reason(error: Exception) -> str:
    """Say in few words why a section is left out."""
    from .atlas.errors import ColumnNotFound, GeneNotFound

    if isinstance(error, GeneNotFound):
        return "it measured no such gene"
    if isinstance(error, ColumnNotFound):
        return "it has no such column"
    return str(error)
