"""Runs: weights and configuration of a trained model, committed under `models/<run>/`.

`weights.safetensors` holds arrays, `config.json` the model's kind, parameters and inputs. A run's
default name ends in a digest of both, so that one name never means two models.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..atlas.errors import Corrupt, InvalidArgument, RunNotFound, near
from ..atlas.keys import check_name
from ..atlas.snapshot import Change, RunEntry
from .network.weights import pack_weights, unpack_weights

if TYPE_CHECKING:
    from ..atlas.store import AtlasStore

__all__ = ["RUN_FORMAT", "Run", "load_run", "named_by_content", "save_once", "save_run"]

RUN_FORMAT = "tisseract-run/1"
_LARGEST_CONFIG = 64 * 2**20  # a config lists gene identifiers
_LARGEST_WEIGHTS = 2**31


@dataclass(frozen=True, slots=True)
class Run:
    """What a run consists of, before or after it is stored.

    Attributes
    ----------
    model : str
        Kind of model: plain, expression, gnn or mixture.
    config : mapping
        JSON facts that, with the weights, make the model again.
    weights : mapping of str to ndarray
    inputs : mapping of str to str
        `section:<name>`, `graph/<key>/<section>` or `run:<name>` -> attempt it was fitted on.
    seed : int, optional
    """

    model: str
    config: Mapping[str, Any]
    weights: Mapping[str, NDArray[Any]]
    inputs: Mapping[str, str]
    seed: int | None = None


def named_by_content(stem: str, run: Run) -> str:
    """Return `<stem>-<model>-<8 hex digits of the content>`."""
    facts = {"config": dict(run.config), "inputs": dict(run.inputs), "seed": run.seed}
    seal = hashlib.sha256(pack_weights(run.weights))
    seal.update(json.dumps(facts, sort_keys=True).encode())
    return f"{stem}-{run.model}-{seal.hexdigest()[:8]}"


def save_run(store: "AtlasStore", name: str, run: Run, *, commit: bool = True) -> RunEntry:
    """Write a run and, unless told otherwise, commit it.

    Parameters
    ----------
    store : AtlasStore
        Opened for writing.
    name : str
        Name of the run; a name is used once, the commit refuses it otherwise.
    run : Run
    commit : bool
        Whether to commit at once; otherwise the entry goes into the caller's own change.

    Returns
    -------
    RunEntry

    Raises
    ------
    ReadOnly, InvalidArgument
    CommitConflict
        A run of this name is committed already.
    """
    check_name(name)
    facts = {
        "format": RUN_FORMAT,
        "model": run.model,
        "config": dict(run.config),
        "inputs": dict(run.inputs),
        "seed": run.seed,
        "tool": "tisseract",
        "version": version("tisseract"),
        "snapshot": store.version,
    }
    with store.new_attempt(f"models/{name}") as attempt:
        (attempt.path / "weights.safetensors").write_bytes(pack_weights(run.weights))
        text = json.dumps(facts, indent=1, sort_keys=True, allow_nan=False)
        (attempt.path / "config.json").write_text(text + "\n", encoding="utf-8")
        receipt = attempt.seal()
    info = {"n_weights": int(sum(w.size for w in run.weights.values())), "seed": run.seed}
    entry = RunEntry(
        run=name,
        attempt=receipt.attempt,
        digest=receipt.digest,
        nbytes=receipt.nbytes,
        model=run.model,
        inputs=dict(run.inputs),
        info=info,
    )
    if commit:
        store.commit(Change(add_runs=[entry]), f"Save {run.model} run {name}")
    return entry


def save_once(store: "AtlasStore", stem: str, run: Run) -> tuple[RunEntry, bool]:
    """Write a run under a name made of its content, unless it is there already.

    Parameters
    ----------
    store : AtlasStore
        Opened for writing.
    stem : str
        Start of the name.
    run : Run

    Returns
    -------
    entry : RunEntry
    is_new : bool
        Whether the entry has still to be committed.
    """
    name = named_by_content(stem, run)
    known = store.snapshot.runs.get(name)
    return (known, False) if known is not None else (save_run(store, name, run, commit=False), True)


def load_run(store: "AtlasStore", name: str, *, model: str | None = None) -> Run:
    """Read a committed run.

    Parameters
    ----------
    store : AtlasStore
    name : str
    model : str, optional
        Kind wanted; another is refused.

    Returns
    -------
    Run

    Raises
    ------
    RunNotFound
        No run of this name; near names are offered.
    InvalidArgument
        The run holds another kind of model.
    Corrupt
        Its files are not what a run consists of.
    """
    entry = store.snapshot.runs.get(name)
    if entry is None:
        raise RunNotFound(
            f"a run of {store.url} is wanted, but got {name!r}.{near(name, store.snapshot.runs)}"
        )
    if model is not None and entry.model != model:
        raise InvalidArgument(
            f"a run of model {model!r} is wanted, but got {name!r}, which is {entry.model!r}"
        )
    text = store.storage.get(f"{entry.prefix}/config.json", max_bytes=_LARGEST_CONFIG)
    try:
        facts = json.loads(text)
        if facts["format"] != RUN_FORMAT:
            raise ValueError(f"format {facts['format']!r:.80}")
        config, inputs = dict(facts["config"]), dict(facts["inputs"])
        seed = None if facts["seed"] is None else int(facts["seed"])
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(
            f"a run's config is wanted, but got {error} in {entry.prefix}; run `tisseract verify`"
        ) from error
    where = f"{entry.prefix}/weights.safetensors"
    weights = unpack_weights(store.storage.get(where, max_bytes=_LARGEST_WEIGHTS), where)
    return Run(entry.model, config, weights, inputs, seed)
