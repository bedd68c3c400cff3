"""The processes that train one network together: those of a torch.distributed group, or this one alone.

Each takes every size-th sample of a batch; sums of gradients are exchanged, so that all take the step of one process
with the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["agree", "mine", "rank", "size", "total"]


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is."""
    return dist.get_rank() if size() > 1 else 0


def mine(rows: Tensor) -> Tensor:
    """The share of this process of a batch."""
    return rows[rank()::size()]


@torch.no_grad()
def total(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over the processes, in one exchange."""
    if size() == 1 or not (tensors := list(tensors)):
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


@torch.no_grad()
def agree(tensors: Iterable[Tensor]) -> None:
    """Give every process the tensors of the first."""
    if size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)
