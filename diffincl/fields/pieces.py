"""F = A2 σ(A1 x + b1) − b2 between two knots, and its smooth pieces: F with the activation pattern held.

States have shape (*batch, d); ``units`` (*batch, m) says which hidden units are on. Batch dimensions of the weights
line up with the first dimensions of the batch.
"""

from __future__ import annotations

from copy import copy
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

__all__ = ["Pieces", "Weights", "affine", "evaluate"]


class Weights(NamedTuple):
    """The weights of F = A2 σ(A1 x + b1) − b2 at one time."""

    A1: Tensor
    b1: Tensor
    A2: Tensor
    b2: Tensor


def evaluate(weights: Weights, x: Tensor) -> Tensor:
    """A2 σ(A1 x + b1) − b2."""
    A1, b1, A2, b2 = weights
    return affine(torch.relu(affine(x, A1, b1)), A2, -b2)


def affine(x: Tensor, A: Tensor, b: Tensor | None) -> Tensor:
    """A x + b."""
    if A.ndim == 2:
        return linear(x, A, b)
    ensemble = A.shape[:-2]
    rows = x.reshape(*ensemble, -1, x.shape[-1])
    value = rows @ A.mT if b is None else rows @ A.mT + b.unsqueeze(-2)
    return value.reshape(*x.shape[:-1], A.shape[-2])


class Pieces:
    """F on an interval [a, b] between two knots, for the schemes that follow its activation pattern.

    ``start`` are the weights at a, ``end`` those at b where they are linear in between (None: they stand still). Each
    sample may have its own time: ``t`` is a 0-dim tensor or has shape (*batch, 1).
    """

    def __init__(self, a: float, b: float, start: Weights, end: Weights | None):
        self.a, self.length, self.start = a, b - a, start
        self.rise = None if end is None else Weights(*(w1 - w0 for w0, w1 in zip(start, end, strict=True)))
        self.zero = torch.zeros_like(start.b1), torch.zeros_like(start.b2)

    def of(self, who: Tensor) -> Pieces:
        """Of an ensemble some networks, counted through; one network is that of every sample."""
        if self.start.A1.ndim == 2:
            return self
        some, last = copy(self), (2, 1, 2, 1)
        some.start = Weights(*(w.flatten(0, -k - 1)[who] for w, k in zip(self.start, last, strict=True)))
        if self.rise is not None:
            some.rise = Weights(*(w.flatten(0, -k - 1)[who] for w, k in zip(self.rise, last, strict=True)))
        some.zero = torch.zeros_like(some.start.b1), torch.zeros_like(some.start.b2)
        return some

    def preactivation(self, t: Tensor, x: Tensor) -> Tensor:
        """A1(t) x + b1(t), shape (*batch, m)."""
        a = affine(x, self.start.A1, self.start.b1)
        return a if self.rise is None else a + self._share(t, x) * affine(x, self.rise.A1, self.rise.b1)

    def frozen(self, t: Tensor, x: Tensor, units: Tensor) -> Tensor:
        """A2(t) D (A1(t) x + b1(t)) − b2(t) with the pattern D = diag(units): affine in x."""
        return self._output(t, torch.where(units, self.preactivation(t, x), 0.0))

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """F(t, x)."""
        return self._output(t, torch.relu(self.preactivation(t, x)))

    def linear(self, y: Tensor, units: Tensor) -> Tensor:
        """A2 D A1 y for weights that stand still."""
        hidden = torch.where(units, affine(y, self.start.A1, self.zero[0]), 0.0)
        return affine(hidden, self.start.A2, self.zero[1])

    def preactivation_along(self, t: Tensor, h: Tensor, X: Tensor) -> Tensor:
        """Coefficients (*batch, K, m) of θ ↦ A1(s) x(θ) + b1(s), s = t + θh, for x(θ) with coefficients X
        (*batch, K, d); one coefficient more where the weights move."""
        a = _add_first(affine(X, self.start.A1, self.zero[0]), self.start.b1)
        if self.rise is None:
            return a
        r = _add_first(affine(X, self.rise.A1, self.zero[0]), self.rise.b1)
        now, speed = self._share(t, X[..., 0, :]).unsqueeze(-1), (h / self.length).to(X).unsqueeze(-1)
        pad = torch.zeros_like(a[..., :1, :])
        return torch.cat([a + now * r, pad], -2) + torch.cat([pad, speed * r], -2)

    def magnitudes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Sizes of the terms that A1 x + b1 and F(x) are summed from, (*batch, m) and (*batch, d): their rounding is
        relative to these (at the start of the interval)."""
        A1, b1, A2, b2 = (w.abs() for w in self.start)
        hidden = affine(x.abs(), A1, b1)
        return hidden, affine(hidden, A2, b2)

    def _output(self, t: Tensor, hidden: Tensor) -> Tensor:
        value = affine(hidden, self.start.A2, -self.start.b2)
        if self.rise is None:
            return value
        return value + self._share(t, hidden) * affine(hidden, self.rise.A2, -self.rise.b2)

    def _share(self, t: Tensor, x: Tensor) -> Tensor:
        """(t − a)/(b − a) in the dtype of the state."""
        return ((t - self.a) / self.length).to(x)


def _add_first(coefficients: Tensor, b: Tensor) -> Tensor:
    """A polynomial (*batch, K, m) plus a constant; batch dimensions of b line up with the first of the batch."""
    constant = b.reshape(*b.shape[:-1], *[1] * (coefficients.ndim - 1 - b.ndim), b.shape[-1])
    first = coefficients[..., 0, :] + constant
    return torch.cat([first.unsqueeze(-2), coefficients[..., 1:, :]], -2)
