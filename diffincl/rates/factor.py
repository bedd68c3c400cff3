"""R8: the Lipschitz factor of one forward Euler step, from the multipliers of the hidden units."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _check, norms
from .definite import schur_bound
from .dense import at_one_time
from .interior import Inequality, multipliers

__all__ = ["step", "step_multipliers"]


def step(A1: Tensor, A2: Tensor, h: float | Tensor, *, multiplier: Tensor | None = None) -> Tensor:
    """R8 "step": a Lipschitz factor ρ of x ↦ x − hA2σ(A1x + b1), so of the ResNet layer in any convex set.

    Parameters
    ----------
    A1 : Tensor (*batch, m, d)
    A2 : Tensor (*batch, d, m)
    h : float or Tensor (*batch,), positive
    multiplier : Tensor (*batch, m), positive, optional
        The diagonal Λ; optimised if it is not given. Any Λ is a certificate.

    Returns
    -------
    Tensor (*batch,), float64
        Certified from above; infinite where 2Λ − hA2ᵀA2 is not certified positive definite.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not fit, h or Λ is not positive, or an entry is not finite.

    Examples
    --------
    >>> import torch
    >>> A = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    >>> round(float(step(A, A.T, 0.5)), 9), round(float(step(A, -A.T, 0.5)), 9)
    (1.0, 1.5)

    Notes
    -----
    ρ² = 1 + hλmax(Rᵀ(2Λ − hA2ᵀA2)⁻¹R), R = ΛA1 − A2ᵀ: the S-procedure on w_k(w_k − (A1z)_k) <= 0, which holds for the
    difference w of two hidden states. h → 0 gives R3 with Q² = Λ⁻¹. The value and the definiteness that it rests on
    are certified together, by one Cholesky decomposition with a margin. Theory §5, R8; special choices of Λ: Meunier
    et al. 2022, Araujo et al. 2023.
    """
    weights = at_one_time(A1, A2)
    h = positive("h", torch.as_tensor(h, dtype=torch.float64)).expand(weights.A1.shape[:-2])
    A1, A2 = without_dead_units(weights.A1, weights.A2)
    lam = step_multipliers(A1, A2, h) if multiplier is None else positive("multiplier", multiplier)
    if lam.shape != A1.shape[:-1]:
        raise ValueError(f"multiplier must have shape {tuple(A1.shape[:-1])}, one a hidden unit; got "
                         f"{_check.describe(lam)}.")
    return certified_factor(A1, A2, h, lam)


def step_multipliers(A1: Tensor, A2: Tensor, h: Tensor) -> Tensor:
    """The diagonal Λ (*batch, m) that makes R8 least, h (*batch,)."""
    A1, A2 = without_dead_units(*at_one_time(A1, A2)[::2])
    alive = (A1 != 0).any(-1) & (A2 != 0).any(-2)
    ratio = A2.norm(dim=-2) / A1.norm(dim=-1)
    start = torch.where(alive, ratio, 1.0).clamp(1e-24, 1e24)
    H = h[..., None, None] * (A2.mT @ A2)
    S = A1.new_zeros(*A1.shape[:-2], A1.shape[-1], A1.shape[-1])
    problem = Inequality(A1.unsqueeze(0), A2.mT.unsqueeze(0), S.unsqueeze(0), H.unsqueeze(0), alive)
    return multipliers(problem, start)


def certified_factor(A1: Tensor, A2: Tensor, h: Tensor, lam: Tensor, A1_error: Tensor | float = 0.0,
                     A2_error: Tensor | float = 0.0) -> Tensor:
    """√(1 + hc) with c >= λmax(RᵀM⁻¹R), all rounding enclosed; A1 and A2 may be off by the errors, entry by entry."""
    scaled, B = lam.unsqueeze(-1) * A1, A2.mT
    B_error = torch.as_tensor(A2_error, dtype=B.dtype, device=B.device).expand_as(A2).mT
    R, R_error = scaled - B, 2 * norms.UNIT * (2 * scaled.abs() + B.abs()) + norms.UNDERFLOW \
        + 1.01 * (lam.unsqueeze(-1) * A1_error + B_error)
    H, size = B @ A2, B.abs() @ A2.abs()
    size_error = 1.01 * (B.abs() @ B_error.mT + B_error @ A2.abs() + B_error @ B_error.mT)
    step = h[..., None, None]
    M = torch.diag_embed(2 * lam) - step * 0.5 * (H + H.mT)
    M_error = step * (norms.gamma(A2.shape[-2] + 4) * size + size_error + norms.UNDERFLOW) \
        + 4 * norms.UNIT * M.abs() + 4 * norms.UNIT * torch.diag_embed(lam)
    S = A1.new_zeros(*A1.shape[:-2], A1.shape[-1], A1.shape[-1])
    c = schur_bound(S, R, M, (S, R_error, M_error))
    return torch.sqrt((1 + h * c.clamp_min(0)) * (1 + 8 * norms.UNIT)) * (1 + 4 * norms.UNIT)


def without_dead_units(A1: Tensor, A2: Tensor) -> tuple[Tensor, Tensor]:
    """The weights without the units that contribute nothing."""
    alive = (A1 != 0).any(-1) & (A2 != 0).any(-2)
    return A1 * alive.unsqueeze(-1), A2 * alive.unsqueeze(-2)


def positive(name: str, value: Tensor) -> Tensor:
    value = value.detach().to(torch.float64)
    if not bool(((value > 0) & torch.isfinite(value)).all()):
        raise ValueError(f"{name} must be positive and finite; got {float(value.min()):g} as its least entry.")
    return value
