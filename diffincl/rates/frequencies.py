"""The scaling, or the multipliers, of the hidden channels of a convolutional branch, optimised over the frequencies."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .interior import Inequality, multipliers
from .kernels import Branch

__all__ = ["optimised_multipliers", "scaling_of"]

FEW, JOINING, ROUNDS = 8, 6, 6  # frequencies that the optimisation starts from, that join a round, and rounds
MOST = 2**22  # entries of the symbols it looks at


def scaling_of(both: Branch) -> Tensor:
    """Q, (*batch, hidden)."""
    return optimised_multipliers(both.without_dead(), torch.zeros(both.batch, dtype=torch.float64)).rsqrt()


def optimised_multipliers(both: Branch, h: Tensor) -> Tensor:
    """Λ, (*batch, hidden)."""
    found = [_multipliers_of(*one) for one in zip(both.members(), h.flatten(), strict=True)]
    return torch.stack(found).reshape(both.alive.shape)


def _multipliers_of(one: Branch, h: Tensor) -> Tensor:
    """The Λ that makes the largest value over the frequencies least; h = 0 gives Q⁻² of the scaled rate.

    First on a few frequencies; those where the result is worst join them, those that do not matter leave; and again.
    """
    A, B = _many_symbols(one)
    rows, columns = (torch.linalg.vector_norm(Z, dim=(0, -1)) for Z in (A, B))
    alive = one.alive
    start = torch.where(alive, columns / torch.where(alive, rows, 1.0), 1.0).clamp(1e-250, 1e250)
    chosen = torch.arange(0, len(A), -(-len(A) // FEW), device=A.device)
    best, least = start, _values(A, B, start, h).amax()
    for _ in range(ROUNDS):
        a, b = A[chosen], B[chosen]
        S = A.new_zeros(len(a), A.shape[-1], A.shape[-1])
        lam = multipliers(Inequality(a, b, S, h * (b @ b.mH), alive, worst=True), best, accuracy=1e-5, iterations=200)
        values = _values(A, B, lam, h)
        if bool(values.amax() < least):
            best, least = lam, values.amax()
        if bool(values.amax() <= 1.001 * values[chosen].amax()):
            break
        matter = chosen[values[chosen] > 0.5 * values[chosen].amax()]
        chosen = torch.cat([matter, values.topk(min(JOINING, len(values))).indices]).unique()
    return best


def _many_symbols(one: Branch) -> tuple[Tensor, Tensor]:
    """Â1 and Â2ᴴ, (F, hidden, channels), at all frequencies; of a large image at those of a coarser grid."""
    channels, hidden = one.kernel2.shape[:2]
    side = int(max(4.0, (2 * MOST / (channels * hidden)) ** (1 / one.dims)))
    axes = [replace(axis, points=min(axis.points, side)) for axis in one.axes()]
    parts = list(one.symbols(axes))
    A, B = (torch.cat([part[k] for part in parts]).mH for k in range(2))
    return A, B


def _values(A: Tensor, B: Tensor, lam: Tensor, h: Tensor) -> Tensor:
    """λmax(Rᴴ(2Λ − hBBᴴ)⁻¹R) at every frequency, (F,), in plain float64; infinite where it is not definite."""
    factor, info = torch.linalg.cholesky_ex(torch.diag_embed(2 * lam) - h * (B @ B.mH))
    W = torch.linalg.solve_triangular(factor, lam.unsqueeze(-1) * A - B, upper=False)
    fine = (info == 0) & torch.isfinite(W).all(-1).all(-1)
    W = torch.where(fine[:, None, None], W, 0.0)
    return torch.where(fine, torch.linalg.eigvalsh(W.mH @ W)[..., -1], torch.inf)
