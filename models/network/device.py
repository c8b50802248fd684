"""Where a network computes and how exactly: one code path for the CPU and for CUDA."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...atlas.errors import InvalidArgument
from ..sampling.pyg import Data  # pyright: ignore[reportAttributeAccessIssue]  # untyped library
from .errors import DeviceMemoryError

__all__ = ["PRECISIONS", "Later", "Placement", "deterministic", "pick_device", "pick_precision"]

PRECISIONS = ("auto", "float32", "bf16")


def pick_device(name: str) -> torch.device:
    """Return the device for a name; "auto" takes CUDA where there is one.

    Under `torchrun` each process of a machine takes the device of its local rank.

    Raises
    ------
    InvalidArgument
        CUDA is asked for and there is none, or none of this number; or the name means nothing.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidArgument(
            f"a device 'auto', 'cpu' or 'cuda' is wanted, but got {name!r}"
        ) from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise InvalidArgument(f"no CUDA device is there, but got device={name!r}; use 'auto'")
        there = torch.cuda.device_count()
        numbered = ":" in name  # torch's types do not know of "cuda" without a number
        if numbered and device.index >= there:
            raise InvalidArgument(
                f"one of the {there} CUDA devices (from cuda:0 on) is wanted, but got "
                f"device={name!r}; use 'cuda'"
            )
        if not numbered and "LOCAL_RANK" in os.environ:
            local = int(os.environ["LOCAL_RANK"]) % there
            device = torch.device("cuda", local)
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise InvalidArgument(f"no Apple GPU is there, but got device={name!r}; use 'auto'")
    elif device.type not in ("cpu", "mps"):
        raise InvalidArgument(f"a device 'auto', 'cpu' or 'cuda' is wanted, but got {name!r}")
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """Return "float32" or "bf16"; "auto" takes bf16 on a CUDA device that computes with it.

    Raises
    ------
    InvalidArgument
        The name means nothing.
    """
    if name not in PRECISIONS:
        raise InvalidArgument(f"a precision of {', '.join(PRECISIONS)} is wanted, but got {name!r}")
    if name != "auto":
        return name
    halves = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return "bf16" if halves else "float32"


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Ask torch for repeatable kernels on the CPU; the process's own setting comes back afterwards.

    CUDA wants an environment variable set before the process starts, so nothing is promised there.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(mode=device.type == "cpu", warn_only=False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


@dataclass(frozen=True, slots=True)
class Placement:
    """Device and precision of a training.

    Attributes
    ----------
    device : torch.device
    precision : {"float32", "bf16"}
        bf16 is autocast: weights, sums and the optimizer stay float32.
    compile : bool
        Whether the encoder goes through `torch.compile`.
    """

    device: torch.device
    precision: str = "float32"
    compile: bool = False

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context that a forward pass of training runs in."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def pinned(self, data: Data) -> Data:
        """Put a batch where a copy to the device need not wait; off CUDA it stays where it is."""
        return data.pin_memory() if self.device.type == "cuda" else data

    def move(self, data: Data) -> Data:
        """Copy a batch to the device; the copy of a pinned one goes on while work is queued."""
        return data.to(self.device, non_blocking=True)

    @contextmanager
    def compiled(self, encoder: nn.Module) -> Iterator[None]:
        """Compile the forward pass of an encoder within the `with` statement, where asked for."""
        if self.compile:
            # every batch has other shapes; static ones would be compiled again and again
            encoder.compile(dynamic=True)
        try:
            yield
        finally:
            encoder._compiled_call_impl = None

    @contextmanager
    def memory_explained(self, what: str, advice: str) -> Iterator[None]:
        """Turn "out of memory" of the device into an error that names the knob."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError(
                f"room on {self.device} for {what} is wanted, but got no more memory ({error}); "
                f"{advice}"
            ) from error


class Later:
    """Numbers on their way from the device, read once they are needed.

    Reading at once would leave the device idle until the next batch has been queued.
    """

    __slots__ = ("_event", "_values")

    def __init__(self, values: Sequence[Tensor]) -> None:
        stacked = torch.stack([value.detach().float() for value in values])
        self._event: torch.cuda.Event | None = None
        if stacked.device.type == "cuda":
            host = torch.empty(stacked.shape, dtype=stacked.dtype, pin_memory=True)
            self._values = host.copy_(stacked, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(stacked.device))
        else:
            self._values = stacked

    def read(self) -> list[float]:
        """Wait for the numbers and return them."""
        if self._event is not None:
            self._event.synchronize()
        return [float(value) for value in self._values.tolist()]
