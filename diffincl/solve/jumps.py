"""Jumps of a moving set, told from fast motion by bisection."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check
from ..functions import ConvexSet

__all__ = ["jump_within"]

# What keeps this share of the whole change in every halving, down to 2**-HALVINGS of the step, jumps.
SHARE, HALVINGS = 0.6, 40


def jump_within(C: ConvexSet, x: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    """How far the point of C(s) nearest to ``x`` jumps at some s in [t, t_next], (*batch,); 0 where it only moves."""
    a, b = (s.to(x).expand(*x.shape[:-1], 1) for s in (t, t_next))
    with torch.no_grad():
        left, right = C.project(x, a), C.project(x, b)
        whole = vector_norm(right - left, dim=-1, keepdim=True)
        suspect = whole > 1e-9 * (1 + vector_norm(x, dim=-1, keepdim=True))
        for _ in range(HALVINGS):
            if _check.nowhere(suspect):
                break
            middle = (a + b) / 2
            between = C.project(x, middle)
            before, after = (vector_norm(u - v, dim=-1, keepdim=True) for u, v in ((between, left), (right, between)))
            early = before >= after
            a, left = torch.where(early, a, middle), torch.where(early, left, between)
            b, right = torch.where(early, middle, b), torch.where(early, between, right)
            suspect = suspect & (torch.maximum(before, after) >= SHARE * whole)
        return torch.where(suspect, whole, 0.0).squeeze(-1)
