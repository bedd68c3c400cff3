"""R6: bounds of the matrix measure of −A2DA1 in ℓ1 and ℓ∞ that cost as much as reading the weights."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import norms
from ..fields import Weights

__all__ = ["measure_along"]


def measure_along(left: Weights, right: Weights, p: float) -> Tensor:
    """Control points (*batch, 3) of R6 for p = 1 or inf.

    Notes
    -----
    ℓ∞: max_i Σ_k |A2_ik|(−sgn(A2_ik)A1_ki + Σ_{j≠i}|A1_kj|)₊, ℓ1 the same for A1ᵀ and A2ᵀ. Where both weights move, the
    terms of a piece are bilinear in its ends and the positive part is convex, so control points bound control points.
    """
    if p not in (1, torch.inf):
        raise ValueError(f"rate='measure' (R6) bounds ℓ1 and ℓ∞; got p = {p}. Use rate='scaled' for p = 2.")
    ends = [(w.A2, w.A1) if p == torch.inf else (w.A1.mT, w.A2.mT) for w in (left, right)]
    start = _largest_row(_terms(*ends[0]))
    if right is left:
        return start.unsqueeze(-1).expand(*start.shape, 3)
    (U0, V0), (U1, V1) = ends
    middle = _largest_row(0.5 * (_terms(U0, V1) + _terms(U1, V0)))
    return torch.stack([start, middle, _largest_row(_terms(U1, V1))], -1)


def _terms(U: Tensor, V: Tensor) -> Tensor:
    """−U_ik V_ki + |U_ik| Σ_{j≠i}|V_kj| from above, (*batch, d, m)."""
    size = V.abs()
    others = (size.sum(-1, keepdim=True) - size).clamp_min(0)
    room = norms.gamma(V.shape[-1] + 8) * size.sum(-1, keepdim=True)
    return -U * V.mT + U.abs() * (others + room).mT + norms.UNDERFLOW


def _largest_row(terms: Tensor) -> Tensor:
    return norms.row_sum(terms.relu())
