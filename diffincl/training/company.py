"""The processes that train one network together: those of a torch.distributed group, or this one alone.

Each takes every size-th sample of a batch; sums of gradients are exchanged, so that all take the step of one process
with the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import batch_norm

__all__ = ["agree", "alone", "mine", "rank", "share_norms", "size", "total"]


_alone = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Within it this process trains by itself, though it belongs to a group: each of the group may train another
    network."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _alone.get() else 1


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


def share_norms(net: nn.Module) -> None:
    """Let batch normalisation take the mean and variance of the whole batch, on CPUs as on GPUs."""
    for module in net.modules():
        if size() > 1 and isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.__dict__["forward"] = partial(_normalised, module)


def _normalised(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    """What batch normalisation makes of the share ``x`` of a batch; the gradient, too, is that of the whole batch."""
    mean, var, seen, momentum = norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum
    assert mean is not None
    assert var is not None
    assert seen is not None
    assert momentum is not None
    if not norm.training:
        return batch_norm(x, mean, var, norm.weight, norm.bias, eps=norm.eps)
    axes, shape = [0, *range(2, x.ndim)], (-1, *[1] * (x.ndim - 2))
    x = x.to(mean.dtype)
    count = _sum(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
    centre = _sum(x.sum(axes)) / count
    centred = x - centre.view(shape)
    spread = _sum(centred.square().sum(axes)) / count
    with torch.no_grad():
        mean.lerp_(centre, momentum)
        var.lerp_(spread * count / (count - 1), momentum)
        seen.add_(1)
    scale = norm.weight * (spread + norm.eps).rsqrt()
    return centred * scale.view(shape) + norm.bias.view(shape)


def _sum(value: Tensor) -> Tensor:
    """The sum over the processes, with its gradient."""
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(value)
