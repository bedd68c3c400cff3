"""Bounds of F(t, 0) on the pieces of the time axis."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import norms
from ..fields import Weights

__all__ = ["drift", "push"]


def drift(left: Weights, right: Weights, p: float) -> Tensor:
    """Control points (*batch, 3) of a bound of ‖F(t, 0)‖_p = ‖A2 σ(b1) − b2‖_p on each piece."""
    return _along(left, right, p, one_sided=False)


def push(left: Weights, right: Weights, p: float) -> Tensor:
    """Control points of a bound of ‖(−F(t, 0))₊‖_p, the part that can move a state of the orthant away from 0."""
    return _along(left, right, p, one_sided=True)


def _along(left: Weights, right: Weights, p: float, *, one_sided: bool) -> Tensor:
    """Where b1 changes sign inside a piece, σ(b1) lies below its chord by at most −b⁻b⁺/(b⁺ − b⁻); ‖|A2|·that‖ is
    added."""
    w0, w1 = torch.relu(left.b1), torch.relu(right.b1)
    start = _offset(left.A2, w0, left.b2, p, one_sided)
    if right is left:
        return start.unsqueeze(-1).expand(*start.shape, 3)
    A2, w = torch.cat([left.A2, right.A2], -1), torch.cat([w1, w0], -1)
    middle = _offset(0.5 * A2, w, 0.5 * (left.b2 + right.b2), p, one_sided)
    low, high = torch.minimum(left.b1, right.b1), torch.maximum(left.b1, right.b1)
    dip = torch.where((low < 0) & (high > 0), -low * high / (high - low), 0.0)
    nothing = torch.zeros_like(left.b2)
    reach = torch.maximum(*(_offset(A2.abs(), dip, nothing, p, False) for A2 in (left.A2, right.A2)))
    return torch.stack([start, middle, _offset(right.A2, w1, right.b2, p, one_sided)], -1) + reach.unsqueeze(-1)


def _offset(A2: Tensor, w: Tensor, b2: Tensor, p: float, one_sided: bool) -> Tensor:
    """‖A2 w − b2‖_p from above, for w >= 0; one-sided ‖(b2 − A2 w)₊‖_p."""
    value = (A2 @ w.unsqueeze(-1)).squeeze(-1) - b2
    size = vector_norm((A2.abs() @ w.unsqueeze(-1)).squeeze(-1) + b2.abs(), ord=p, dim=-1)
    norm = vector_norm(torch.relu(-value) if one_sided else value, ord=p, dim=-1)
    return norm + norms.gamma(2 * sum(A2.shape[-2:]) + 8) * size
