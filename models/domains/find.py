"""Spatial domains: embed every section, fit one mixture over all of them, commit the labels."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...atlas.derived import Provenance, tile_histogram, write_derived
from ...atlas.errors import InvalidArgument
from ...atlas.rebase import refuse_mixed
from ...atlas.snapshot import Change, DerivedEntry, RunEntry
from ..baseline import DomainBaseline, ExpressionBaseline
from ..components.projection import Progress
from ..lifecycle import AtlasModel
from ..runs import Run, load_run, save_once
from ..sampling.graph_source import GraphSource
from .labeling import Labels, choose, cluster, coarser, joined, refined, sizes_of
from .mixture import Covariance, Mixture

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.store import AtlasStore

__all__ = ["METHODS", "find_domains"]

METHODS = ("plain", "gnn", "expression")
MOST_DOMAINS = 4096  # codes are int16, and no tissue has so many


def find_domains(
    store: "AtlasStore",
    method: str = "plain",
    *,
    n_domains: int | Literal["auto"],
    key_added: str = "domain",
    sections: Sequence[str] | None = None,
    seed: int = 0,
    graph_key: str | None = None,
    n_neighs: int = 6,
    covariance: Covariance = "tied",
    refine: bool = False,
    resolutions: Sequence[int] = (),
    run: str | None = None,
    where: None = None,
    memory_limit: str | int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> "pd.DataFrame":
    """Find the spatial domains of an atlas and commit one label and confidence per cell.

    Parameters
    ----------
    store : AtlasStore
        Opened for writing.
    method : {"plain", "gnn", "expression"}
        Neighbor-smoothed components, the graph network, or the components of each cell alone
        (clustering without neighbors, for comparison).
    n_domains : int or "auto"
        Domains wanted; "auto" takes the number of 2 to 20 whose labels are stable
        (`stability.choose_number`), and provenance keeps the curve.
    key_added : str
        Key of the labels, and of the embedding they come from.
    sections : sequence of str, optional
        All without. Labels mean the same in all of them.
    seed : int
        Same seed and same snapshot give the same labels.
    graph_key : str, optional
        A stored graph; without, the `n_neighs` nearest neighbors are found on the way.
    n_neighs : int
        Neighbors per cell of that graph.
    covariance : {"tied", "full"}
        Shape of the mixture: one covariance for all domains, or one each.
    refine : bool
        Replace each label by the most frequent one within two hops.
    resolutions : sequence of int
        Smaller numbers of domains wanted as well, each under the key `<key_added>_<number>`: joins
        of the `n_domains`, so that a finer domain lies inside one of every coarser resolution.
    run : str, optional
        A saved model to embed with, also sections that it was not fitted on; one is fitted
        without. It brings its own graph unless `graph_key` names another.
    where : None
        Reserved for a cell predicate.
    memory_limit : str or int, optional
        Passes over counts stay below it.
    progress : callable, optional
        Called with (stage, done, total).
    **options
        Further options of the model (`n_comps`, `n_hops`, `device`, ...).

    Returns
    -------
    DataFrame
        Cells of each domain (rows "0" to "K-1", largest first) in each section (columns).

    Raises
    ------
    InvalidArgument
        Unknown method, more domains than cells, resolutions not below `n_domains`, or sections
        without common genes.
    ReadOnly
        The atlas was opened for reading.
    CommitConflict
        Other sections have labels of this key, which a new run would not fit.
    RunNotFound, DerivedNotFound, StaleDerived, SectionNotFound, BudgetExceeded

    Notes
    -----
    Memory: the limit, and 6 bytes a cell for labels, twice that in the section being written.
    Disk: 4 bytes x dimensions x cells of scratch.
    """
    _check(method, n_domains, resolutions, where)
    store.storage.forbid_writing(f"labels under {key_added!r}")
    names = list(dict.fromkeys(sections if sections is not None else store.section_names))
    # The commit would refuse it too, but only once everything is computed.
    for key in (key_added, *(f"{key_added}_{level}" for level in resolutions)):
        others = [name for name in store.snapshot.runs_of("domains", key) if name not in names]
        refuse_mixed("domains", key, ", ".join(names[:3]), others)
    graph = GraphSource(graph_key, n_neighs)
    model = _model(
        store,
        method,
        run=run,
        sections=sections,
        graph=graph,
        seed=seed,
        memory_limit=memory_limit,
        options=options,
        progress=progress,
    )
    encoder, new_encoder = (
        (store.snapshot.runs[run], False)
        if run is not None
        else save_once(store, key_added, model.to_run())
    )
    with model.embedded(names, progress=progress) as tables:
        choice = choose(tables, covariance, seed, progress) if n_domains == "auto" else None
        wanted = int(n_domains) if choice is None else choice.n_domains
        mixture, labels = cluster(tables, wanted, covariance, seed)
        if refine:
            labels = refined(store, model.graph, labels, wanted)
        sizes = sizes_of(labels, wanted)
        order = np.argsort(-sizes, kind="stable")  # most cells first; ties by component number
        mixture = mixture.reordered(order)
        parameters = {
            **model.parameters(),
            "n_domains": wanted,
            "covariance": covariance,
            "refine": refine,
            "mixture_seed": seed,
        }
        if choice is not None:
            parameters["n_domains_choice"] = choice.facts()
        inputs = model.training_inputs(encoder)
        for _, sources in tables.values():
            inputs |= sources
        readout_run = _readout(mixture, encoder, inputs, parameters, seed)
        readout, new_readout = save_once(store, key_added, readout_run)
        entries: list[DerivedEntry] = []
        counts: dict[str, NDArray[np.int64]] = {}
        renamed = np.argsort(order).astype(np.int16)
        levels = coarser(mixture, sizes[order], resolutions)
        for name, (table, sources) in tables.items():
            embedding = model.write_embedding(key_added, name, table, sources, encoder)
            found = Labels(renamed[labels[name].codes], labels[name].confidence)
            counts[name] = np.bincount(found.codes, minlength=wanted)
            entries.append(embedding)
            for level, groups in levels.items():
                joint = found if level == wanted else joined(found, groups, mixture, table)
                entries.append(
                    _write_labels(
                        store,
                        key_added if level == wanted else f"{key_added}_{level}",
                        name,
                        joint,
                        embedding=embedding,
                        readout=readout,
                        parameters=_told(parameters, level),
                    )
                )
    new = ((encoder, new_encoder), (readout, new_readout))
    store.commit(
        Change(add_derived=entries, add_runs=[entry for entry, is_new in new if is_new]),
        f"Find {wanted} domains in {len(counts)} sections as {key_added} ({method})",
    )
    return _table(counts, wanted)


def _check(
    method: str, n_domains: int | Literal["auto"], resolutions: Sequence[int], where: object
) -> None:
    if method not in METHODS:
        raise InvalidArgument(f"a method of {', '.join(METHODS)} is wanted, but got {method!r}")
    auto = n_domains == "auto"
    if not auto and (isinstance(n_domains, bool | str) or not 1 <= n_domains <= MOST_DOMAINS):
        raise InvalidArgument(
            f'wanted 1 to {MOST_DOMAINS} domains or "auto", but got n_domains={n_domains!r}'
        )
    if resolutions and auto:
        raise InvalidArgument(
            'wanted a number of domains that resolutions can lie below, but got n_domains="auto"; '
            "find the number first, then name it"
        )
    if any(isinstance(level, bool) or not 1 <= level < int(n_domains) for level in resolutions):
        raise InvalidArgument(
            f"wanted resolutions of 1 to {int(n_domains) - 1}, below n_domains={n_domains}, but "
            f"got {list(resolutions)}"
        )
    if where is not None:
        raise InvalidArgument(f"`where` is reserved for a later version, but got {where!r}")


def _model(
    store: "AtlasStore",
    method: str,
    *,
    run: str | None,
    sections: Sequence[str] | None,
    graph: GraphSource,
    seed: int,
    memory_limit: str | int | None,
    options: Mapping[str, Any],
    progress: Progress | None,
) -> AtlasModel:
    """Load the model of a run, or fit one."""
    if run is not None:
        saved = load_run(store, run, model=method)
        model = _kind(method).from_run(store, saved, memory_limit=memory_limit, **options)
        if graph.key is not None:
            model.graph = graph
        return model
    fresh = _kind(method)(
        store, sections=sections, graph=graph, seed=seed, memory_limit=memory_limit, **options
    )
    return fresh.fit(progress=progress)


def _kind(method: str) -> type[AtlasModel]:
    if method == "plain":
        return DomainBaseline
    if method == "expression":
        return ExpressionBaseline
    from ..network.gnn import DomainGNN  # brings torch

    return DomainGNN


def _told(parameters: Mapping[str, Any], level: int) -> dict[str, Any]:
    """Parameters as they hold for labels of this many domains."""
    finest = parameters["n_domains"]
    joins = {} if level == finest else {"n_domains": level, "joined_from": finest}
    return {**parameters, **joins}


def _readout(
    mixture: Mixture,
    encoder: RunEntry,
    inputs: Mapping[str, str],
    parameters: Mapping[str, Any],
    seed: int,
) -> Run:
    """Return the mixture as a run, so that other sections can be labeled alike."""
    return Run(
        "mixture",
        {
            "parameters": dict(parameters),
            "encoder": encoder.run,
            "log_likelihood": mixture.log_likelihood,
            "n_iter": mixture.n_iter,
            "converged": mixture.converged,
        },
        {
            "weights": mixture.weights,
            "means": mixture.means,
            "factors": mixture.factors,
        },
        inputs,
        seed,
    )


def _write_labels(
    store: "AtlasStore",
    key: str,
    section: str,
    found: Labels,
    *,
    embedding: DerivedEntry,
    readout: RunEntry,
    parameters: Mapping[str, Any],
) -> DerivedEntry:
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
            "mean_confidence": round(float(found.confidence.mean()), 6),
            "refine": parameters["refine"],
            "seed": parameters["mixture_seed"],
        },
    )


def _table(counts: Mapping[str, NDArray[np.int64]], n_domains: int) -> "pd.DataFrame":
    import pandas as pd

    index = pd.Index([str(code) for code in range(n_domains)], name="domain")
    return pd.DataFrame(dict(counts), index=index)
