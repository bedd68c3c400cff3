"""R7: the rate where most hidden units are known to be on or off."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import norms
from .interior import Inequality, multipliers

__all__ = ["known_product", "tube_multiplier", "tube_rate"]


def tube_rate(A1: Tensor, A2: Tensor, on: Tensor, unknown: Tensor, kept: Tensor, *,
              multiplier: Tensor | None = None, status: str = norms.CERTIFIED) -> Tensor:
    """R7: the rate (*batch,) where units ``on`` are active, ``unknown`` ones may be either, the others inactive.

    Parameters
    ----------
    A1 : Tensor (*batch, m, d)
    A2 : Tensor (*batch, d, m)
    on, unknown : bool Tensors (*batch, m)
    kept : bool Tensor (*batch, d)
        Coordinates that may differ: all, less those clipped in both trajectories.
    multiplier : Tensor (*batch, m), positive, optional
        Λ = Q⁻² of the unknown units; optimised if it is not given.

    Notes
    -----
    λmax(−sym(A2_K A1_K) + ¼(A2_U Q − A1_Uᵀ Q⁻¹)(·)ᵀ), which may be negative; K the units on, U the unknown ones, rows
    of A2 and columns of A1 dropped where ``kept`` is false. Theory §5, R7.
    """
    if multiplier is None:
        multiplier = tube_multiplier(A1, A2, on, unknown, kept)
    A1, A2, AU, BU, _ = _parts(A1, A2, unknown, kept)
    known, error = known_product(A1, A2, on)
    q = multiplier.rsqrt().unsqueeze(-2)
    plus, minus = BU.mT * q, AU.mT / q
    G, G_error = plus - minus, 4 * norms.UNIT * (plus.abs() + minus.abs())
    gram_error = norms.gamma(G.shape[-1] + 4) * (G.abs() @ G.abs().mT) + 1.01 * (
        G.abs() @ G_error.mT + G_error @ G.abs().mT + G_error @ G_error.mT)
    S = 0.25 * (G @ G.mT) - 0.5 * (known + known.mT)
    total = 0.25 * gram_error + 0.5 * (error + error.mT) + 4 * norms.UNIT * (
        0.25 * G.abs() @ G.abs().mT + known.abs() + known.abs().mT) + norms.UNDERFLOW
    return _on_kept(0.5 * (S + S.mT), total, kept, status)


def known_product(A1: Tensor, A2: Tensor, on: Tensor) -> tuple[Tensor, Tensor]:
    """A2_K A1_K and a bound of its rounding, entry by entry."""
    A2 = A2 * on.unsqueeze(-2)
    return A2 @ A1, norms.gamma(A1.shape[-2] + 4) * (A2.abs() @ A1.abs())


def _on_kept(S: Tensor, error: Tensor, kept: Tensor, status: str) -> Tensor:
    """λmax on the coordinates that are kept: the others get an eigenvalue below those; −inf if none is kept."""
    low = -2 * norms.row_sum(S.abs()) - 1
    S = S + torch.diag_embed((~kept) * low.unsqueeze(-1))
    value = norms.largest_eigenvalue(S, error, status=status)
    return torch.where(kept.any(-1), value, -torch.inf)


def tube_multiplier(A1: Tensor, A2: Tensor, on: Tensor, unknown: Tensor, kept: Tensor) -> Tensor:
    """The Λ (*batch, m) that makes the rate least."""
    A1, A2, AU, BU, alive = _parts(A1, A2, unknown, kept)
    known = known_product(A1, A2, on)[0]
    start = torch.where(alive, BU.norm(dim=-1) / AU.norm(dim=-1), 1.0).clamp(1e-24, 1e24)
    H = AU.new_zeros(*AU.shape[:-1], AU.shape[-2])
    problem = Inequality(AU.unsqueeze(0), BU.unsqueeze(0), (known + known.mT).unsqueeze(0), H.unsqueeze(0), alive)
    return torch.where(alive, multipliers(problem, start), start)


def _parts(A1: Tensor, A2: Tensor, unknown: Tensor, kept: Tensor) -> tuple[Tensor, ...]:
    """A1 and A2 on the coordinates that are kept, their unknown units, and which of those count."""
    A1, A2 = A1 * kept.unsqueeze(-2), A2 * kept.unsqueeze(-1)
    alive = unknown & (A1 != 0).any(-1) & (A2 != 0).any(-2)  # the others contribute nothing
    return A1, A2, A1 * alive.unsqueeze(-1), (A2 * alive.unsqueeze(-2)).mT, alive
