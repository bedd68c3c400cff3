"""R4: the exact rate by enumeration, the yardstick of the ladder, and a value from below by a sign iteration."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import norms
from ..fields import Weights
from .definite import eigenvalue_at_most

__all__ = ["MOST_UNITS", "exact_along", "exact_from_below"]

MOST_UNITS = 16
BLOCK = 2**22  # numbers in one block of matrices


def exact_along(left: Weights, right: Weights, p: float, status: str) -> Tensor:
    """Control points (*batch, 3) of the largest matrix measure (p = 1, 2, inf) of −A2DA1 over D in {0, 1}^m.

    The measure is convex and the matrix a quadratic in time, so the control points are the same maximum for A2A1 at
    both ends and for the mean of the two mixed products; the quadratic lies above the exact rate.
    """
    start = _over_patterns(left.A2, left.A1, 1, p, status)
    if right is left:
        return start.unsqueeze(-1).expand(*start.shape, 3)
    A2 = torch.cat([left.A2, right.A2], -1)
    A1 = torch.cat([right.A1, left.A1], -2)
    middle = _over_patterns(0.5 * A2, A1, 2, p, status)
    return torch.stack([start, middle, _over_patterns(right.A2, right.A1, 1, p, status)], -1)


def _over_patterns(A2: Tensor, A1: Tensor, copies: int, p: float, status: str) -> Tensor:
    """The maximum over D for A2 (*batch, d, copies·m), where every pattern is repeated ``copies`` times."""
    d, m = A2.shape[-2], A2.shape[-1] // copies
    if m > MOST_UNITS:
        raise ValueError(f"rate='exact' looks at all 2^m patterns of m hidden units, m <= {MOST_UNITS}; got m = {m}. "
                         f"Use rate='scaled', 'step' or 'best', or rates.exact_estimate for a value from below.")
    batch = A2.shape[:-2]
    A2, A1 = A2.reshape(-1, d, copies * m), A1.reshape(-1, copies * m, d)
    error = norms.gamma(copies * m + 4) * (A2.abs() @ A1.abs()) + norms.UNDERFLOW
    error = torch.maximum(norms.row_sum(error), norms.row_sum(error.mT))
    block = max(1, min(2**m, BLOCK // (len(A2) * d * d)))
    value = _guess(A2, A1, p)
    for first in range(0, 2**m, block):
        patterns = torch.arange(first, min(first + block, 2**m), device=A2.device)
        D = (patterns.unsqueeze(-1) >> torch.arange(m, device=A2.device) & 1).to(A2).repeat(1, copies)
        J = -(A2.unsqueeze(1) * D.unsqueeze(1)) @ A1.unsqueeze(1)
        value = _raised(value, J, error, p, status)
    return value.reshape(batch)


def _guess(A2: Tensor, A1: Tensor, p: float) -> Tensor:
    """Where to start from: a value from below for p = 2, 0 (D = 0) otherwise."""
    return exact_from_below(A1, A2) if p == 2 else A2.new_zeros(len(A2))


def _raised(value: Tensor, J: Tensor, error: Tensor, p: float, status: str) -> Tensor:
    """``value`` (n,), raised until no matrix within ``error`` (n,) of J (n, patterns, d, d) has a larger measure.

    Most patterns pass one Cholesky decomposition; eigenvalues are taken of those only that do not.
    """
    if p != 2:
        return torch.maximum(value, matrix_measure(J, p).amax(-1) + 1.01 * error)
    S = 0.5 * (J + J.mT)
    if status == norms.FLOAT:
        return torch.maximum(value, torch.linalg.eigvalsh(S)[..., -1].amax(-1) + 16 * error)
    room = 16 * error + 2.0**-46 * matrix_measure(S.abs(), torch.inf).amax(-1)
    value = value + room
    for _ in range(12):
        passed = eigenvalue_at_most(S, value.unsqueeze(-1).expand(S.shape[:-2]), error.unsqueeze(-1))
        if bool(passed.all()):
            return value
        sample, pattern = (~passed).nonzero(as_tuple=True)
        found = torch.full(passed.shape, -torch.inf, dtype=S.dtype, device=S.device)
        found[sample, pattern] = torch.linalg.eigvalsh(S[sample, pattern])[..., -1]
        value = torch.where(passed.all(-1), value, torch.maximum(value, found.amax(-1)) + room)
        room = 2 * room
    raise ArithmeticError("the largest eigenvalue over all patterns could not be enclosed; use rate='scaled'")


def matrix_measure(J: Tensor, p: float) -> Tensor:
    """The matrix measure of J (*batch, d, d) from above: max_i J_ii + Σ_{j≠i}|J_ij| in ℓ∞, by columns in ℓ1."""
    J = J if p == torch.inf else J.mT
    diagonal, sums = J.diagonal(dim1=-2, dim2=-1), J.abs().sum(-1)
    return (diagonal - diagonal.abs() + sums + norms.gamma(J.shape[-1] + 4) * sums).amax(-1)


def exact_from_below(A1: Tensor, A2: Tensor, restarts: int = 32, iterations: int = 30, seed: int = 0) -> Tensor:
    """Value (*batch,) of R4 from below: D and z maximise −z·A2DA1z in turn, from random z; 0 (D = 0) at least."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(restarts, *A1.shape[:-2], A1.shape[-1], generator=generator, dtype=A1.dtype).to(A1.device)
    best = A1.new_zeros(A1.shape[:-2])
    for _ in range(iterations):
        units = (z.unsqueeze(-2) @ A2) * (A1 @ z.unsqueeze(-1)).mT
        J = -(A2 * (units < 0).to(A2)) @ A1
        values, vectors = torch.linalg.eigh(0.5 * (J + J.mT))
        z = vectors[..., -1]
        best = torch.maximum(best, values[..., -1].amax(0))
    return best
