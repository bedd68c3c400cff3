"""Total variation along the last dimension."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import pad

from .. import _check
from .base import ProxFunction, Time

__all__ = ["TotalVariation"]


@dataclass(frozen=True, eq=False, repr=False)
class TotalVariation(ProxFunction):
    """The total variation weight·Σ|x_{i+1} − x_i|; its prox merges neighbours and pulls plateaus together.

    Parameters
    ----------
    weight : float, nonnegative

    Examples
    --------
    >>> import torch
    >>> TotalVariation().prox(torch.tensor([0.0, 2.0, 6.0, 8.0]), h=2.0)
    tensor([2., 2., 6., 6.])

    Notes
    -----
    The derivative of the least cost of x_1, …, x_i as a function of x_i is piecewise linear; clipped to ±h·weight it is
    passed on to x_{i+1}. Where it meets the clip bounds the minimiser of x_i given x_{i+1}: a second pass, backward,
    finds where the minimiser jumps and in which direction. Between jumps it is the mean of x plus
    h·weight·(sign of the jump behind − sign of the jump before)/length, which is what is differentiated. All of it is
    exact; the cost is that of d vector operations of size (*batch, 2d).

    References
    ----------
    Johnson, "A dynamic programming algorithm for the fused lasso and L0-segmentation", 2013.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", _check.number("weight", self.weight, at_least=0.0))

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """Mean over each plateau of x, moved by the jumps at its ends."""
        bound = torch.as_tensor(h * self.weight, dtype=x.dtype, device=x.device).expand(*x.shape[:-1], x.shape[-1] - 1)
        return _denoise(x, bound)

    def kink_sides(self, x: Tensor, t: Time = 0.0) -> Tensor | None:
        """Signs of the jumps."""
        return x.diff(dim=-1).sign() if self.weight > 0 else None

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """weight·Σ|x_{i+1} − x_i|."""
        return self.weight * x.diff(dim=-1).abs().sum(-1)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: ∂g(x) holds Dᵀq, (Dx)_i = x_{i+1} − x_i, with q_i = weight·sign at jumps and |q_i| <= weight on
        plateaus (jumps of 1e-9 or 64 rounding units are none); the best q is that of a prox on each plateau."""
        jump = x.diff(dim=-1)
        flat = jump.abs() <= max(1e-9, 64 * torch.finfo(x.dtype).eps) * (1 + vector_norm(x, dim=-1, keepdim=True))
        fixed = torch.where(flat, 0.0, self.weight * jump.sign())
        bound = self.weight * flat.to(x)
        return vector_norm(_denoise(_less_pull(v, fixed), bound), dim=-1)


def _less_pull(x: Tensor, q: Tensor) -> Tensor:
    """x − Dᵀq."""
    return x + pad(q, (0, 1)) - pad(q, (1, 0))


def _denoise(x: Tensor, bound: Tensor) -> Tensor:
    """argmin over u of Σ bound_i|u_{i+1} − u_i| + ‖u − x‖²/2; bound (*batch, d − 1)."""
    signs = _jumps(x.detach(), bound.detach())
    plateau = pad((signs != 0).long().cumsum(-1), (1, 0))
    moved = _less_pull(x, signs * bound)
    total = torch.zeros_like(moved).scatter_add(-1, plateau, moved)
    length = torch.zeros_like(moved).scatter_add(-1, plateau, torch.ones_like(moved))
    return (total / length.clamp_min(1)).gather(-1, plateau)


def _jumps(x: Tensor, bound: Tensor) -> Tensor:
    """Signs of the jumps of the minimiser, (*batch, d − 1): 0 on a plateau."""
    # Knots (p, v) of the derivative of the cost so far; outside of them it has slope 1.
    p, v = x[..., :1], torch.zeros_like(x[..., :1])
    low, high = [], []
    for i in range(x.shape[-1] - 1):
        c = bound[..., i:i + 1]
        low.append(_where(p, v, -c))
        high.append(_where(p, v, c))
        p = torch.cat([low[-1], torch.clamp(p, low[-1], high[-1]), high[-1]], -1)
        v = torch.cat([-c, torch.clamp(v, -c, c), c], -1) + p - x[..., i + 1:i + 2]
    u, signs = _where(p, v, torch.zeros_like(x[..., :1])), []
    for a, b in zip(reversed(low), reversed(high), strict=True):
        signs.append((u > b).to(x) - (u < a).to(x))
        u = torch.clamp(u, a, b)
    return torch.cat(signs[::-1], -1) if signs else x[..., :0]


def _where(p: Tensor, v: Tensor, level: Tensor) -> Tensor:
    """Where the piecewise linear function with knots (p, v) and slope 1 outside of them takes the value ``level``."""
    last = p.shape[-1] - 1
    right = (v < level).sum(-1, keepdim=True)
    a, b = (right - 1).clamp_min(0), right.clamp_max(last)
    rise = v.gather(-1, b) - v.gather(-1, a)
    run = torch.where(a == b, 1.0, (p.gather(-1, b) - p.gather(-1, a)) / torch.where(rise > 0, rise, 1.0))
    return p.gather(-1, a) + run * (level - v.gather(-1, a))
