"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from . import _check
from .data import ImageData
from .nn import DenseResNet
from .solution import SolveError

__all__ = ["accuracy", "fit"]


def fit(net: DenseResNet, data: ImageData, *, epochs: int = 40, lr: float = 3e-3, weight_decay: float = 1e-4,
        batch: int = 64, seed: int = 0, each_epoch: Callable[[int, float], None] | None = None) -> None:
    """Train a classifier in place: cross entropy, Adam, cosine schedule, projection onto the structure.

    Parameters
    ----------
    net : DenseResNet
    data : ImageData
    epochs, batch : int
    lr, weight_decay : float
    seed : int
        Of the order of the samples.
    each_epoch : callable, optional
        Called with the epoch and its mean loss.

    Raises
    ------
    ArithmeticError
        If the loss is not finite: with the epoch and a remedy.
    """
    for name, value in (("epochs", epochs), ("batch", batch)):
        _check.count(name, value)
    optimiser = torch.optim.Adam(net.parameters(), lr=_check.number("lr", lr, above=0.0),
                                 weight_decay=_check.number("weight_decay", weight_decay, at_least=0.0))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    generator = Generator().manual_seed(seed)
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(data.train_x), generator=generator).split(batch):
            loss = _loss(net, data.train_x[rows], data.train_y[rows])
            value = float(loss.detach())
            if not math.isfinite(value):
                raise ArithmeticError(f"the loss is {value} in epoch {epoch}; lower lr (now {lr:g}) or raise "
                                      f"weight_decay (now {weight_decay:g})")
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            net.constrain_()
            total += value * len(rows)
        schedule.step()
        if each_epoch:
            each_epoch(epoch, total / len(data.train_x))


def _loss(net: DenseResNet, x: Tensor, y: Tensor) -> Tensor:
    """Cross entropy; NaN where the states have left the range of the dtype."""
    try:
        return cross_entropy(net(x), y)
    except SolveError:
        return torch.tensor(torch.nan)


@torch.no_grad()
def accuracy(net: DenseResNet, x: Tensor, y: Tensor) -> float:
    """Share of samples classified correctly."""
    return float((net(x).argmax(-1) == y).double().mean())
