"""Spatial domains: embed every section, fit one mixture over all of them, commit the labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

from ...atlas.errors import InvalidArgument
from ...atlas.rebase import refuse_mixed
from ...atlas.snapshot import Change, DerivedEntry, RunEntry
from ..baseline import DomainBaseline, ExpressionBaseline
from ..components.projection import Progress
from ..lifecycle import AtlasModel
from ..runs import load_run, save_once
from ..sampling.graph_source import GraphSource
from .cells import Masks, chosen_cells
from .labeling import Labels, Readout, Tables, read_out, sizes_of
from .mixture import Covariance
from .planned import plan_domains
from .record import mixture_run, parameters_at, write_labels

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.store import AtlasStore

__all__ = ["METHODS", "find_domains", "refuse_taken"]

METHODS = ("plain", "gnn", "expression")
COVARIANCES: tuple[Covariance, ...] = ("tied", "full")
_FREE = frozenset({"compile", "device", "num_workers", "precision"})  # all else a run has fixed
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
    refine: bool = True,
    resolutions: Sequence[int] = (),
    run: str | None = None,
    mask: Masks | None = None,
    where: str | None = None,
    chosen_by: Mapping[str, Mapping[str, str]] | None = None,
    overwrite: bool = False,
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
        Replace each label by the most frequent one within two hops, about 19 cells; ties keep the
        cell's own. The confidence stays that of the label before.
    resolutions : sequence of int
        Smaller numbers of domains wanted as well, each under the key `<key_added>_<number>`: joins
        of the `n_domains`, so that a finer domain lies inside one of every coarser resolution.
    run : str, optional
        A saved model to embed with, also sections that it was not fitted on; one is fitted
        without. It brings its own graph unless `graph_key` names another.
    mask : mapping of str to ndarray, optional
        Cells that take part, `(n_obs,)` bool by section; sections it does not name are taken
        whole, so `{}` takes every cell. Without: the cells whose boolean obs column `qc_pass` is
        true, in the sections that have one; the other sections whole. Cells left out are nobody's
        neighbors, count in no mean, component or mixture, and get no label (code -1, confidence
        0). Two things still look at all cells: the choice of genes, and the mean depth that counts
        are brought to.
    where : str, optional
        The expression that the masks were made from, kept in provenance.
    chosen_by : mapping of str to mapping, optional
        Derived data the expression read, name -> attempt by section: the labels hang on it.
    overwrite : bool
        Replace labels, and the embedding, of this key. An embedding of another run in sections
        that are not among these stays in the way.
    memory_limit : str or int, optional
        Everything stays below it; what would not is refused before anything is computed.
    progress : callable, optional
        Called with (stage, done, total).
    **options
        Further options of the model (`n_comps`, `n_hops`, `device`, ...); with a saved one only
        those that are no part of it (`device`).

    Returns
    -------
    DataFrame
        Cells of each domain (rows "0" to "K-1", largest first) in each section (columns); cells
        left out are not counted.

    Raises
    ------
    InvalidArgument
        Unknown method or covariance, more domains than cells, resolutions not below `n_domains`,
        sections without common genes, a mask that does not fit or leaves a section no cell, or a
        key that is taken.
    ReadOnly
        The atlas was opened for reading.
    CommitConflict
        Other sections have labels or an embedding of this key, which a new run would not fit; or
        others committed some for these sections meanwhile.
    RunNotFound, DerivedNotFound, StaleDerived, SectionNotFound, BudgetExceeded

    Notes
    -----
    Memory: the limit.
    Disk: 4 bytes x dimensions x cells of scratch.
    """
    _check(method, n_domains, resolutions, covariance)
    store.storage.forbid_writing(f"labels under {key_added!r}")
    names = list(dict.fromkeys(sections if sections is not None else store.section_names))
    keys = [key_added, *(f"{key_added}_{level}" for level in resolutions)]
    seen = store.snapshot
    refuse_taken(store, keys, names, run=run, overwrite=overwrite)
    masks, told = chosen_cells(store, names, mask, where)
    model = _model(
        store,
        method,
        run=run,
        sections=sections,
        graph=GraphSource(graph_key, n_neighs, masks, told),
        seed=seed,
        memory_limit=memory_limit,
        options=options,
    )
    wanted = None if n_domains == "auto" else n_domains
    plan_domains(model, names, wanted, tied=covariance == "tied", vote=refine).refuse()
    if run is None:
        model.fit(progress=progress)
    with model.embedded(names, progress=progress) as tables:
        readout = read_out(
            tables,
            masks,
            n_domains,
            covariance=covariance,
            refine=(lambda name: model.graph.open(store, name).graph) if refine else None,
            seed=seed,
            progress=progress,
        )
        new, entries = _written(
            _Writing(store, model, key_added, run, told, seed, chosen_by or {}),
            tables,
            readout,
            covariance=covariance,
            refine=refine,
            resolutions=resolutions,
        )
    store.commit(
        Change(
            add_derived=entries, add_runs=new, expect={} if overwrite else seen.attempts_at(entries)
        ),
        f"Find {readout.n_domains} domains in {len(names)} sections as {key_added} ({method})",
    )
    return _table(readout.labels, readout.n_domains)


def refuse_taken(
    store: "AtlasStore",
    keys: Sequence[str],
    names: Sequence[str],
    *,
    run: str | None = None,
    overwrite: bool = False,
) -> None:
    """Refuse keys that are taken, before anything is computed.

    Parameters
    ----------
    store : AtlasStore
    keys : sequence of str
        Names of the labels; the first also names the embedding.
    names : sequence of str
        Sections.
    run : str, optional
        Saved model that embeds; a new one without.
    overwrite : bool
        Whether what these sections have may be replaced.

    Raises
    ------
    CommitConflict
        Other sections have labels of such a key, or an embedding of another run.
    InvalidArgument
        These sections have them, and shall keep them.
    """
    kept = {("domains", key): store.snapshot.runs_of("domains", key) for key in keys}
    kept["embedding", keys[0]] = store.snapshot.runs_of("embedding", keys[0])
    for (kind, key), runs in kept.items():
        mine = run if kind == "embedding" else None
        others = [name for name, one in runs.items() if name not in names and one != mine]
        refuse_mixed(kind, key, ", ".join(names[:3]), others)
    for kind, key in kept:
        there = store.derived_keys(kind).get(key, ())  # also what came from no run
        taken = [name for name in names if name in there]
        if taken and not overwrite:
            what = "labels" if kind == "domains" else "an embedding"
            raise InvalidArgument(
                f"a new name is wanted, but got {key!r}, which names {what} of "
                f"{', '.join(map(repr, taken[:3]))}; give another key_added, or overwrite=True to "
                "replace what is there"
            )


def _whole(number: Any, most: int) -> bool:
    """Tell whether something is a whole number of 1 to `most`."""
    # a bool is an int to Python
    whole = isinstance(number, Integral) and not isinstance(number, bool)
    return whole and 1 <= int(number) <= most


def _check(
    method: str, n_domains: int | Literal["auto"], resolutions: Sequence[int], covariance: str
) -> None:
    if method not in METHODS:
        raise InvalidArgument(f"a method of {', '.join(METHODS)} is wanted, but got {method!r}")
    if covariance not in COVARIANCES:
        raise InvalidArgument(
            f"a covariance of {', '.join(COVARIANCES)} is wanted, but got {covariance!r}"
        )
    auto = n_domains == "auto"
    if not auto and not _whole(n_domains, MOST_DOMAINS):
        raise InvalidArgument(
            f'wanted a whole number of 1 to {MOST_DOMAINS} domains or "auto", but got '
            f"n_domains={n_domains!r}"
        )
    if resolutions and auto:
        raise InvalidArgument(
            'wanted a number of domains that resolutions can lie below, but got n_domains="auto"; '
            "find the number first, then name it"
        )
    if not all(_whole(level, int(n_domains) - 1) for level in resolutions):
        raise InvalidArgument(
            f"wanted whole resolutions of 1 to {int(n_domains) - 1}, below n_domains={n_domains}, "
            f"but got {list(resolutions)}"
        )


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
) -> AtlasModel:
    """Load the model of a run, or make one that is to be fitted."""
    if run is not None:
        fixed = sorted(set(options) - _FREE)
        if fixed:
            raise InvalidArgument(
                f"options that are no part of a saved model ({', '.join(sorted(_FREE))}) are "
                f"wanted with run {run!r}, but got {', '.join(fixed)}; drop them, or train a new "
                "one"
            )
        saved = load_run(store, run, model=method)
        model = _kind(method).from_run(store, saved, memory_limit=memory_limit, **options)
        chosen = model.graph if graph.key is None else graph
        model.graph = replace(chosen, masks=graph.masks, where=graph.where)
        return model
    return _kind(method)(
        store, sections=sections, graph=graph, seed=seed, memory_limit=memory_limit, **options
    )


def _kind(method: str) -> type[AtlasModel]:
    if method == "plain":
        return DomainBaseline
    if method == "expression":
        return ExpressionBaseline
    from ..network.gnn import DomainGNN  # brings torch

    return DomainGNN


@dataclass(frozen=True, slots=True)
class _Writing:
    """Where labels go, and what is told of them."""

    store: "AtlasStore"
    model: AtlasModel
    key: str
    run: str | None
    where: str | None
    seed: int
    chosen_by: Mapping[str, Mapping[str, str]]

    def encoder(self) -> tuple[RunEntry, bool]:
        """Return the run of the model, and whether it has still to be committed."""
        if self.run is not None:
            return self.store.snapshot.runs[self.run], False
        return save_once(self.store, self.key, self.model.to_run())

    def parameters(self, readout: Readout, **told: Any) -> dict[str, Any]:
        """Return what provenance keeps."""
        choice = {} if readout.choice is None else {"n_domains_choice": readout.choice.facts()}
        return {
            **self.model.parameters(),
            "n_domains": readout.n_domains,
            **told,
            "where": self.where,
            "mixture_seed": self.seed,
            **choice,
        }


def _written(
    writing: _Writing,
    tables: Tables,
    found: Readout,
    *,
    covariance: Covariance,
    refine: bool,
    resolutions: Sequence[int],
) -> tuple[list[RunEntry], list[DerivedEntry]]:
    """Write runs, embeddings and labels; return what is to be committed."""
    store, model, key = writing.store, writing.model, writing.key
    encoder, new_encoder = writing.encoder()
    parameters = writing.parameters(found, covariance=covariance, refine=refine)
    inputs = model.training_inputs(encoder)
    for name, (_, sources) in tables.items():
        inputs |= {**sources, **writing.chosen_by.get(name, {})}
    run = mixture_run(found.mixture, found.shifts, encoder, inputs, parameters)
    readout, new_readout = save_once(store, key, run)
    groups = found.coarser(resolutions)
    entries: list[DerivedEntry] = []
    for name, (table, sources) in tables.items():
        hangs_on = {**sources, **writing.chosen_by.get(name, {})}
        embedding = model.write_embedding(key, name, table, hangs_on, encoder)
        entries.append(embedding)
        for level, labels in found.levels(name, table, groups):
            entries.append(
                write_labels(
                    store,
                    key if level == found.n_domains else f"{key}_{level}",
                    name,
                    labels,
                    embedding=embedding,
                    readout=readout,
                    parameters=parameters_at(parameters, level),
                )
            )
    new = ((encoder, new_encoder), (readout, new_readout))
    return [entry for entry, is_new in new if is_new], entries


def _table(labels: Mapping[str, Labels], n_domains: int) -> "pd.DataFrame":
    import pandas as pd

    index = pd.Index([str(code) for code in range(n_domains)], name="domain")
    counts = {name: sizes_of({name: found}, n_domains) for name, found in labels.items()}
    return pd.DataFrame(counts, index=index)
