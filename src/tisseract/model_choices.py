"""What a verb on models works with: which graph, which run, which names; all faults at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .atlas.errors import (
    Fault,
    InputError,
    InvalidArgument,
    RunNotFound,
    SectionNotFound,
    TisseractError,
    near,
)

if TYPE_CHECKING:
    from .atlas.store import AtlasStore
    from .models.genes.plan import FeaturePlan
    from .models.lifecycle import AtlasModel
    from .models.runs import Run
    from .models.sampling.graph_source import GraphSource

__all__ = [
    "DEFAULT_GRAPH",
    "check_device",
    "check_embedding",
    "check_others",
    "default_graph",
    "filter_of",
    "free_run_name",
    "model_class",
    "steps_of",
    "to_embed",
    "trained_run",
]

DEFAULT_GRAPH = "spatial"
_DEVICES = ("auto", "cpu", "cuda", "mps")
_EPOCHS_COUNTED = 64
_NAMED = 3


def default_graph(atlas: AtlasStore, key: str | None, sections: Sequence[str]) -> str | None:
    """Choose a stored graph: the one named, else `spatial` if every section has it.

    Returns
    -------
    str or None
        None: neighbors are found on the way, tile by tile.
    """
    if key is not None:
        return key
    having = atlas.derived_keys("graph").get(DEFAULT_GRAPH, ())
    return DEFAULT_GRAPH if set(sections) <= set(having) else None


def trained_run(atlas: AtlasStore, name: str | None = None) -> str | None:
    """Choose a trained network: the one named, else the only one; None if there is none.

    Of several, those whose embeddings were all replaced since do not count.

    Raises
    ------
    RunNotFound
        There is no run of this name.
    InvalidArgument
        Several could be meant.
    """
    runs = atlas.snapshot.runs
    if name is not None:
        if name not in runs:
            raise RunNotFound(f"a run of this atlas is wanted, but got {name!r}.{near(name, runs)}")
        return name
    trained = sorted(key for key, run in runs.items() if run.model == "gnn")
    if len(trained) > 1:
        derived = atlas.snapshot.derived.values()
        used = {entry.run for entry in derived if entry.kind == "embedding"}
        trained = [key for key in trained if key in used] or trained
    if len(trained) > 1:
        raise InvalidArgument(
            f"one trained run is wanted, but got {len(trained)}: {', '.join(trained)}; name one "
            "of them with run="
        )
    return trained[0] if trained else None


def filter_of(run: Run) -> str | None:
    """Return the filter string that a run was trained with; None for a mask, or none at all."""
    from .models.domains.cells import QC_FILTER

    told = run.config["parameters"].get("where")
    return None if told in (None, "mask", QC_FILTER) else str(told)


def free_run_name(atlas: AtlasStore, name: str) -> str:
    """Return the name, or it with the first number that makes it new: runs are never replaced."""
    number, free = 2, name
    while free in atlas.snapshot.runs:
        free, number = f"{name}-{number}", number + 1
    return free


def steps_of(
    atlas: AtlasStore,
    graph: GraphSource,
    sections: Sequence[str],
    epochs: float,
    options: Mapping[str, Any],
) -> int:
    """Return the steps in which every cell is learned from `epochs` times on average.

    A step of several processes learns from one batch of each; a batch is closed by whole tiles, so
    it holds more than `batch_cells`.

    Raises
    ------
    InvalidArgument
        `epochs` is not a finite number above zero, or `steps` is given too.
    """
    if not 0 < epochs < math.inf:
        raise InvalidArgument(f"a finite number of epochs above 0 is wanted, but got {epochs}")
    if options.get("steps") is not None:
        raise InvalidArgument(
            f"epochs or steps are wanted, but got epochs={epochs} and steps={options['steps']}; "
            "give one of the two"
        )
    import inspect

    from .models import DomainGNN
    from .models.network.ranks import this_rank
    from .models.sampling.batch_plan import Partition, plan_batches

    usual = {name: p.default for name, p in inspect.signature(DomainGNN).parameters.items()}
    chosen = {name: options.get(name, usual[name]) for name in ("batch_cells", "max_rows")}
    names = list(dict.fromkeys(sections))
    plan = plan_batches(
        [atlas.section(name).tiles.ptr for name in names],
        masks=[graph.mask_of(name) for name in names],
        seed=int(options.get("seed", 0)),
        partition=Partition(*this_rank()),
        **chosen,
    )
    # every epoch shuffles anew and may close a batch more or fewer
    looked = min(math.ceil(epochs), _EPOCHS_COUNTED)
    per_epoch = sum(len(plan.epoch(number)) for number in range(looked)) / looked
    return max(1, math.ceil(epochs * per_epoch - 1e-9))


def model_class(kind: str) -> type[AtlasModel]:
    """Return the class of a run's model.

    Raises
    ------
    InvalidArgument
        The run holds no model that embeds cells.
    """
    from . import models

    names = {"plain": "DomainBaseline", "expression": "ExpressionBaseline", "gnn": "DomainGNN"}
    if kind not in names:
        raise InvalidArgument(
            f"a run of a model that embeds cells ({', '.join(names)}) is wanted, but got {kind!r}"
        )
    found: type[AtlasModel] = getattr(models, names[kind])
    return found


def to_embed(
    atlas: AtlasStore, run: str, key: str, sections: Sequence[str] | None, *, overwrite: bool
) -> list[str]:
    """Name the sections to embed: those asked for, else all that this run has not embedded yet."""
    if sections is not None:
        return list(dict.fromkeys(sections))
    if overwrite:
        return list(atlas.section_names)
    there = atlas.snapshot.runs_of("embedding", key)
    return [name for name in atlas.section_names if there.get(name) != run]


def check_embedding(
    atlas: AtlasStore,
    run: str,
    key: str,
    sections: Sequence[str],
    *,
    graph_key: str | None,
    overwrite: bool,
) -> Run:
    """Load a run and check that it can embed all of the sections.

    Raises
    ------
    RunNotFound, InvalidArgument
        There is no such run, or it does not hold a model that embeds cells.
    InputError
        Whatever stands against it, of all sections at once: no such section, too few of the
        run's genes, no such graph, an embedding of another run under this key.
    """
    from .models.genes.plan import FeaturePlan
    from .models.runs import load_run

    faults = [
        Fault(f"section {name}", message)
        for name in sections
        for message in _section_faults(atlas, name)
    ]
    try:
        trained_run(atlas, run)
    except RunNotFound as error:
        if not faults:
            raise
        raise InputError([Fault("run", str(error)), *faults], f"embed with run {run!r}") from error
    saved = load_run(atlas, run)
    model_class(saved.model)
    plan = FeaturePlan.from_dict(saved.config["features"])
    graph = graph_key if graph_key is not None else saved.config["parameters"]["graph_key"]
    used = None if saved.model == "expression" else graph
    faults += [
        Fault(f"section {name}", message)
        for name in sections
        if atlas.has_section(name)
        for message in _misfits(atlas, name, plan, used)
    ]
    faults += _taken(atlas, run, key, sections, overwrite=overwrite)
    if faults:
        raise InputError(faults, f"embed with run {run!r}")
    return saved


def _section_faults(atlas: AtlasStore, name: str) -> list[str]:
    if atlas.has_section(name):
        return []
    known = near(name, atlas.section_names)
    return [str(SectionNotFound(f"a section of this atlas is wanted, but got {name!r}.{known}"))]


def _misfits(atlas: AtlasStore, name: str, plan: FeaturePlan, graph: str | None) -> list[str]:
    """Tell what one section lacks; expected failures alone, each as its message."""
    from .models.genes.plan import locate_genes

    found: list[str] = []
    try:
        locate_genes(atlas.section(name), plan)
    except TisseractError as error:
        found.append(str(error))
    if graph is not None:
        try:
            atlas.derived("graph", graph, name)
        except TisseractError as error:
            found.append(f"{error} (graph_key= names another graph)")
    return found


def _taken(
    atlas: AtlasStore, run: str, key: str, sections: Sequence[str], *, overwrite: bool
) -> list[Fault]:
    """Tell which embeddings of this key stand in the way."""
    there = atlas.snapshot.runs_of("embedding", key)
    faults = []
    mine = [name for name in sections if name in there]
    if mine and not overwrite:
        faults.append(
            Fault(
                f"key {key}",
                f"a new name is wanted, but got {key!r}, which {_listed(mine)} already have; give "
                "overwrite=True, another key_added or other sections",
            )
        )
    others = [name for name, other in there.items() if other != run and name not in sections]
    if others:
        faults.append(
            Fault(
                f"key {key}",
                f"an embedding of one run is wanted, but got {key!r}, which holds run "
                f"{there[others[0]]!r} in {_listed(others)}; give another key_added",
            )
        )
    return faults


def check_others(atlas: AtlasStore, key: str, sections: Sequence[str]) -> None:
    """Refuse a key under which other sections have an embedding of another run.

    Raises
    ------
    InvalidArgument
    """
    others = [n for n in atlas.derived_keys("embedding").get(key, ()) if n not in sections]
    if others:
        raise InvalidArgument(
            f"an embedding of one run in all sections is wanted, but got {key!r}, which "
            f"{_listed(others)} would keep from another; give another key_added, or train on all "
            "of these sections"
        )


def check_device(name: str) -> None:
    """Refuse what names no device, also for a model that needs none.

    Raises
    ------
    InvalidArgument

    Examples
    --------
    >>> check_device("cuda:1")
    """
    kind, colon, number = name.partition(":")
    if kind not in _DEVICES or (colon and not (number.isdecimal() and kind != "auto")):
        raise InvalidArgument(f"a device of {', '.join(_DEVICES)} is wanted, but got {name!r}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} others" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
