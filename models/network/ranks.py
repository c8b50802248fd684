"""Several processes that train one network: `torchrun` starts them, gradients are averaged.

Every rank takes its own share of the batches of an epoch and holds the same weights after every
step. A step of `world_size` ranks equals a step of one process that averages the gradients of that
many successive batches.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ...atlas.errors import InvalidArgument
from ..sampling.batch_plan import Partition

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["Ranks", "this_rank"]

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# one rank may read, or write a checkpoint, for long while the others wait
PATIENCE = timedelta(days=1)


def this_rank() -> tuple[int, int]:
    """Return rank and number of the processes that `torchrun` started; (0, 1) elsewhere.

    Raises
    ------
    InvalidArgument
        The environment holds something else than numbers.
    """
    if not all(name in os.environ for name in _VARIABLES):
        return 0, 1
    rank, world = os.environ["RANK"], os.environ["WORLD_SIZE"]
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise InvalidArgument(
            f"wanted a rank below the world size, but got RANK={rank!r}, WORLD_SIZE={world!r}; "
            "start the processes with torchrun, or unset both"
        )
    return int(rank), int(world)


@dataclass(frozen=True, slots=True)
class Ranks:
    """The place of a process among those that train together.

    Attributes
    ----------
    rank, world_size : int
    """

    rank: int = 0
    world_size: int = 1

    @property
    def partition(self) -> Partition:
        """Share of the batches."""
        return Partition(self.rank, self.world_size)

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    @classmethod
    def joined(cls, device: "torch.device") -> "Ranks":
        """Meet the other processes, once per process.

        Raises
        ------
        InvalidArgument
            As `this_rank`.
        """
        import torch
        import torch.distributed as dist

        ranks = cls(*this_rank())
        if ranks.world_size > 1 and not dist.is_initialized():
            import atexit

            backend = "nccl" if device.type == "cuda" else "gloo"
            if device.type == "cuda":
                torch.cuda.set_device(device)  # where NCCL puts what it sends
            dist.init_process_group(backend, timeout=PATIENCE)
            # the group serves every later training of this process
            atexit.register(dist.destroy_process_group)
        return ranks

    def average_gradients(self, parameters: "Iterable[nn.Parameter]") -> None:
        """Replace gradients by their means over all ranks, in place; equal bits on every rank.

        A parameter that a rank did not use counts there as one of gradient zero.
        """
        if self.world_size == 1:
            return
        import torch
        import torch.distributed as dist

        known = list(parameters)
        joint = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in known]
        )
        dist.all_reduce(joint)
        joint /= self.world_size
        for p, mean in zip(known, torch.split(joint, [p.numel() for p in known]), strict=True):
            p.grad = mean.view_as(p)

    def mean(self, values: "Tensor") -> "Tensor":
        """Return the mean of a tensor over all ranks."""
        if self.world_size == 1:
            return values
        import torch.distributed as dist

        dist.all_reduce(values)
        return values / self.world_size

    def share(self, tensors: "Iterable[Tensor]") -> None:
        """Overwrite tensors by those of rank 0."""
        if self.world_size == 1:
            return
        import torch.distributed as dist

        for tensor in tensors:
            dist.broadcast(tensor, 0)

    def share_bytes(self, data: bytes | None) -> bytes | None:
        """Return what rank 0 has."""
        if self.world_size == 1:
            return data
        import torch.distributed as dist

        held: list[bytes | None] = [data]
        dist.broadcast_object_list(held, 0)
        return held[0]
