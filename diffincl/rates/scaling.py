"""The diagonal scaling Q of the hidden units that makes the scaled rate R3 small."""

from __future__ import annotations

import torch
from torch import Tensor

from ..fields import Weights
from .interior import Inequality, multipliers

__all__ = ["alive_units", "optimise_scaling", "scaled_difference"]


def alive_units(left: Weights, right: Weights) -> Tensor:
    """Units whose row and column are both nonzero somewhere on the piece; the others contribute nothing.

    A unit that dies at one end only must stay: in between its row and column are both nonzero.
    """
    row = (left.A1 != 0).any(-1) | (right.A1 != 0).any(-1)
    column = (left.A2 != 0).any(-2) | (right.A2 != 0).any(-2)
    return row & column


def scaled_difference(weights: Weights, q: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    """A2Q and A1ᵀQ⁻¹ without dead units."""
    return (weights.A2 * (q * alive).unsqueeze(-2), weights.A1.mT * (alive / q).unsqueeze(-2))


def optimise_scaling(left: Weights, right: Weights, accuracy: float = 1e-6) -> Tensor:
    """A diagonal Q, shape (*batch, m), that makes ‖A2Q − A1ᵀQ⁻¹‖₂ small at both ends (one Q for the whole piece).

    Notes
    -----
    Q = Λ^{−1/2} with the Λ that makes the sum of both squares least, a convex problem; q_k² = ‖v_k‖/‖u_k‖ where that is
    better. Whatever comes out is a valid scaling.
    """
    ends, alive = (left,) if right is left else (left, right), alive_units(left, right)
    A, B = torch.stack([w.A1 for w in ends]), torch.stack([w.A2.mT for w in ends])
    a, b = (_largest(A), _largest(B))
    A, B = A / a * alive.unsqueeze(-1), B / b * alive.unsqueeze(-1)
    rows, columns = A.norm(dim=-1).mean(0), B.norm(dim=-1).mean(0)
    start = torch.where((rows > 0) & (columns > 0), columns / rows, 1.0).clamp(1e-24, 1e24)
    m, d = A.shape[-2:]
    problem = Inequality(A, B, A.new_zeros(*A.shape[:-2], d, d), A.new_zeros(*A.shape[:-2], m, m), alive)
    found = multipliers(problem, start, accuracy=accuracy)
    better = _size(A, B, found) < _size(A, B, start)
    return torch.where(better.unsqueeze(-1), found, start).rsqrt() * (a / b)[0, ..., 0].sqrt()


def _largest(A: Tensor) -> Tensor:
    """Largest entry over both ends, with the dimensions of A; 1 for A = 0."""
    largest = A.abs().amax((0, -2, -1), keepdim=True)
    return torch.where(largest > 0, largest, 1.0)


def _size(A: Tensor, B: Tensor, lam: Tensor) -> Tensor:
    """Σ ‖Λ^{1/2}A − Λ^{−1/2}B‖² over the ends."""
    root = lam.sqrt().unsqueeze(-1)
    return torch.linalg.matrix_norm(root * A - B / root, 2).square().sum(0)
