"""Softmax: the prox of the entropy on the simplex less half the square."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _check
from ..functions import ProxFunction, Simplex
from .root import EPS, Quadruple, differentiated, solve, step_length, valueless, with_value
from .series import s_minus_expm1

__all__ = ["Softmax"]

ITERATIONS = 40  # 16 suffice for d = 1000; the number grows like ln d
MULTIPLIER = Simplex()


def _parts(s: Tensor) -> Quadruple:
    """Of e^s − 1, s <= 0."""
    return torch.expm1(s), s_minus_expm1(s), torch.exp(s), -torch.expm1(s)


@dataclass(frozen=True, eq=False)
class Softmax(ProxFunction):
    """g(y) = Σ (y_i ln y_i − y_i²/2) on the simplex {y_i >= 0, Σ y_i = 1}; its prox at h = 1 is softmax.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([0.0, 1.0, 2.0])
    >>> Softmax().prox(x, 1.0), Softmax().prox(x, 0.0)
    (tensor([0.0900, 0.2447, 0.6652]), tensor([0., 0., 1.]))

    Notes
    -----
    prox_h(x) = e^s with expm1(s_i) + h(s_i − expm1(s_i)) = x_i − max x + b and the b <= 0 that makes Σ e^{s_i} = 1. The
    left side increases in s <= 0 for every h, and the sum is convex in b: Newton from b = 0 falls to the root.

    References
    ----------
    Combettes, Pesquet, "Deep neural network structures solving variational inequalities", 2020, §2; theory §8.
    """

    def prox(self, x: Tensor, h: float | Tensor, t: float | Tensor = 0.0) -> Tensor:
        """softmax(x) at h = 1, the projection onto the simplex at h = 0."""
        if not isinstance(h, Tensor) and h == 1.0:
            return torch.softmax(x, -1)
        step = step_length(h, x)
        y = self._root(x.double(), step)
        y = torch.where(step == 0, MULTIPLIER.project(x.double()), y).to(x.dtype)
        return with_value(y, torch.where(step == 1, torch.softmax(x, -1), y)) if isinstance(h, Tensor) else y

    def _root(self, x: Tensor, h: Tensor) -> Tensor:
        h = torch.where(h == 0, 1.0, h)
        x = x - x.detach().amax(-1, keepdim=True)
        s, b = _levels(x.detach(), h.detach())
        if differentiated(x, h):
            for _ in range(2):  # each Newton step from the root doubles the number of correct derivatives
                s, b = _attach(s, b, x, h)
        return torch.exp(s)

    def value(self, x: Tensor, t: float | Tensor = 0.0) -> Tensor:
        """Σ (x_i ln x_i − x_i²/2), infinite off the simplex (64 rounding units count as on it)."""
        y = x.clamp_min(0)
        return torch.where(MULTIPLIER.contains(x), (torch.xlogy(y, y) - y * y / 2).sum(-1), torch.inf).to(x.dtype)

    def normal_distance(self, x: Tensor, v: Tensor, t: float | Tensor = 0.0) -> Tensor:
        """Exact: ∂g(x) holds ln x_i − x_i + c, c any number. An x_i that is stored as 0 stands for any number below the
        smallest of the dtype."""
        smallest = torch.finfo(x.dtype).smallest_normal * torch.finfo(x.dtype).eps
        n = x.double().clamp_min(smallest).log() - x.double()
        return MULTIPLIER.normal_distance(x.double(), v.double() - n).to(x.dtype)


def _levels(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """s and b of the Notes for x <= 0, without derivatives."""
    b = torch.zeros_like(x[..., :1])
    s, done = solve(_parts, x + b, h), b > 0
    for _ in range(ITERATIONS):
        _, _, y, rest = _parts(s)
        slope = y + h * rest
        excess = y.sum(-1, keepdim=True) - 1
        step = excess / (y / slope).sum(-1, keepdim=True)
        done = done | ~(excess > EPS * x.shape[-1]) | ~(step > EPS * b.abs())
        if _check.concrete(x) and bool(done.all()):
            break
        b = torch.where(done, b, b - step)
        s = torch.where(done, s, solve(_parts, x + b, h, start=s - step / slope))
    return s, b


def _attach(s: Tensor, b: Tensor, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """One Newton step for s and b together; values, rounding only, are left out."""
    rho, gap, y, rest = _parts(s)
    slope = y + h * rest
    miss = valueless(rho + h * gap - x - b)
    change = (valueless(y).sum(-1, keepdim=True) - (y / slope * miss).sum(-1, keepdim=True)) / (
        y / slope).sum(-1, keepdim=True)
    return s - (miss + change) / slope, b - change
