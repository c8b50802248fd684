"""Checkpoints: everything that a training needs to go on as if nothing had happened.

A safetensors file of the modules' parameters and buffers, the state of the optimizer, the history,
and, as JSON, of which training it is. It is written beside its place and then renamed, so that a
kill leaves the old one or the new one. Reading executes nothing.
"""

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...atlas.errors import Corrupt, InvalidArgument, StorageFull
from .history import TrainingHistory
from .weights import pack_weights, unpack_weights

__all__ = [
    "Learning",
    "differences",
    "discard_checkpoint",
    "restore",
    "save_checkpoint",
    "to_bytes",
]

CHECKPOINT_FORMAT = "tisseract-checkpoint/1"
_SHOWN = 5  # differing fields that a message names
_WIDTH = 60


@dataclass(frozen=True, slots=True)
class Learning:
    """What changes while a network learns.

    Attributes
    ----------
    modules : mapping of str to Module
        By the name that their weights are kept under.
    optimizer : Optimizer
    identity : mapping
        JSON facts that make this training this one.
    """

    modules: Mapping[str, nn.Module]
    optimizer: torch.optim.Optimizer
    identity: Mapping[str, Any]

    def parameters(self) -> dict[str, nn.Parameter]:
        """Every parameter by its full name."""
        return {
            f"{owner}.{name}": parameter
            for owner, module in self.modules.items()
            for name, parameter in module.named_parameters()
        }

    def buffers(self) -> list[torch.Tensor]:
        """Every buffer, such as running means and queues."""
        return [buffer for module in self.modules.values() for buffer in module.buffers()]


def to_bytes(learning: Learning, history: TrainingHistory) -> bytes:
    """Serialize a training after the last step of its history."""
    arrays: dict[str, NDArray[Any]] = {}
    for owner, module in learning.modules.items():
        for name, value in module.state_dict().items():
            arrays[f"weight.{owner}.{name}"] = value.detach().cpu().numpy()
    for name, parameter in learning.parameters().items():
        for part, value in learning.optimizer.state[parameter].items():
            arrays[f"optimizer.{part}.{name}"] = torch.as_tensor(value).cpu().numpy()
    arrays["history.loss"] = np.asarray(history.loss, dtype=np.float64)
    arrays["history.seconds"] = np.asarray(history.seconds, dtype=np.float64)
    arrays["history.cells"] = np.asarray(history.cells, dtype=np.int64)
    for name, values in history.terms.items():
        arrays[f"history.terms.{name}"] = np.asarray(values, dtype=np.float64)
    facts = {"format": CHECKPOINT_FORMAT, "identity": learning.identity}
    arrays["facts"] = np.frombuffer(json.dumps(facts, sort_keys=True).encode(), dtype=np.uint8)
    return pack_weights(arrays)


def save_checkpoint(path: Path, learning: Learning, history: TrainingHistory) -> None:
    """Write a checkpoint; a kill at any moment leaves a whole one.

    Raises
    ------
    StorageFull
        There is no room for it; the one before it is kept.
    """
    fresh = _beside(path)
    try:
        with fresh.open("wb") as file:
            file.write(to_bytes(learning, history))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"room for a checkpoint is wanted, but got {error} at {path}; make room and "
                "resume, or name another file"
            ) from error
        raise


def discard_checkpoint(path: Path) -> None:
    """Remove a checkpoint and what a kill may have left beside it."""
    for place in (path, _beside(path)):
        place.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def restore(data: bytes, where: str, learning: Learning) -> TrainingHistory:
    """Bring modules and optimizer to where a checkpoint was saved.

    Parameters
    ----------
    data : bytes
        The whole file.
    where : str
        Named in messages.
    learning : Learning
        Overwritten in place.

    Returns
    -------
    TrainingHistory
        The steps that were made; as many as `n_steps`.

    Raises
    ------
    InvalidArgument
        A checkpoint of another training; the message names what differs.
    Corrupt
        No checkpoint, or a damaged one.
    """
    advice = f"remove {where}, or train without resuming"
    try:
        arrays = unpack_weights(data, where)
        facts = json.loads(arrays["facts"].tobytes())
        if facts["format"] != CHECKPOINT_FORMAT:
            raise ValueError(f"format {facts['format']!r:.60}")
        identity = dict(facts["identity"])
    except (Corrupt, ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"a checkpoint is wanted, but got {error}; {advice}") from error
    differing = differences(learning.identity, identity)
    if differing:
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise InvalidArgument(
            f"a checkpoint of this training is wanted, but got one that differs in "
            f"{'; '.join(differing[:_SHOWN])}{more}; name another file, or {advice}"
        )
    try:
        _take(arrays, learning)
        return _history(arrays)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Corrupt(f"a whole checkpoint is wanted, but got {error}; {advice}") from error


def _take(arrays: Mapping[str, NDArray[Any]], learning: Learning) -> None:
    for owner, module in learning.modules.items():
        lead = f"weight.{owner}."
        module.load_state_dict(
            {
                name.removeprefix(lead): torch.from_numpy(value)
                for name, value in arrays.items()
                if name.startswith(lead)
            }
        )
    known = learning.parameters()
    for name, value in arrays.items():
        if name.startswith("optimizer."):
            _, part, owner = name.split(".", 2)
            parameter = known[owner]
            tensor = torch.from_numpy(value)
            # the count of steps stays on the CPU, as the optimizer itself keeps it
            if part != "step":
                tensor = tensor.to(parameter.device).reshape(parameter.shape)
            learning.optimizer.state[parameter][part] = tensor


def _history(arrays: Mapping[str, NDArray[Any]]) -> TrainingHistory:
    lead = "history.terms."
    return TrainingHistory(
        tuple(arrays["history.loss"].tolist()),
        {
            name.removeprefix(lead): tuple(values.tolist())
            for name, values in arrays.items()
            if name.startswith(lead)
        },
        tuple(arrays["history.cells"].tolist()),
        tuple(arrays["history.seconds"].tolist()),
    )


def differences(here: Mapping[str, Any], there: Mapping[str, Any], lead: str = "") -> list[str]:
    """Name the fields in which two nested mappings differ, with both values.

    Examples
    --------
    >>> differences({"seed": 1, "inputs": {"a": "x"}}, {"seed": 0, "inputs": {"a": "x"}})
    ['seed (1 here, 0 there)']
    """
    found: list[str] = []
    for name in sorted({*here, *there}):
        mine, other = here.get(name), there.get(name)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            found += differences(mine, other, f"{lead}{name}.")
        elif mine != other:
            found.append(f"{lead}{name} ({_short(mine)} here, {_short(other)} there)")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _WIDTH else text[:_WIDTH] + "..."
