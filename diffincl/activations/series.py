"""Differences and dilogarithms without cancellation, by series where the plain formula loses digits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__: list[str] = []


def horner(coefficients: Sequence[float], z: Tensor) -> Tensor:
    """Σ coefficients[k]·z^k."""
    total = torch.full_like(z, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * z + c
    return total


# s·cosh s − sinh s = s³ Σ s^{2k} (2k + 2)/(2k + 3)!: no term is negative.
_TANH = [(2 * k + 2) / math.factorial(2 * k + 3) for k in range(11)]
# e^s − 1 − s = s² Σ s^k/(k + 2)!.
_EXP = [1 / math.factorial(k + 2) for k in range(18)]
# artanh z = z + z³ Σ z^{2k}/(2k + 3).
_ARTANH = [1 / (2 * k + 3) for k in range(17)]
# Li₂(1 − e^{−u}) = u − u²/4 + u³ Σ B_{2k+2} u^{2k}/(2k + 3)! with the Bernoulli numbers.
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
_LI2 = [b / math.factorial(2 * k + 3) for k, b in enumerate(_BERNOULLI)]


def s_minus_tanh(s: Tensor) -> Tensor:
    """s − tanh s."""
    near = s.clamp(-1, 1)
    series = near**3 * horner(_TANH, near * near) / ((near.exp() + (-near).exp()) / 2)
    return torch.where(s.abs() < 1, series, s - s.tanh())


def s_minus_expm1(s: Tensor) -> Tensor:
    """s − (e^s − 1) for s <= 0."""
    near = s.clamp(-1, 0)
    return torch.where(s > -1, -(near * near) * horner(_EXP, near), s - torch.expm1(s))


def s_minus_log1p(s: Tensor) -> Tensor:
    """s − ln(1 + s) for s >= 0: ln(1 + s) = 2 artanh z and s = 2z/(1 − z) with z = s/(2 + s)."""
    near = s.clamp(0, 1)
    z = near / (2 + near)
    series = 2 * z * z * (1 / (1 - z) - z * horner(_ARTANH, z * z))
    return torch.where(s < 1, series, s - torch.log1p(s))


def softplus(s: Tensor) -> Tensor:
    """ln(1 + e^s), in full accuracy (torch's softplus drops e^{−s} for s > 20).

    Two sides instead of |s|, here and below: the derivative at 0 is right.
    """
    return torch.where(s > 0, s + torch.log1p(torch.exp(-s.clamp_min(0))), torch.log1p(torch.exp(s.clamp_max(0))))


def sigmoid(s: Tensor) -> Tensor:
    """1/(1 + e^{−s}); unlike torch's, its last digit does not depend on the shape of ``s``."""
    e = torch.exp(s.clamp_max(0))
    return torch.where(s > 0, 1 / (1 + torch.exp(-s.clamp_min(0))), e / (1 + e))


def dilogarithm(w: Tensor) -> Tensor:
    """Li₂(z), z = e^{−w}, w >= 0: the Debye series, for z > ½ after Li₂(z) = π²/6 − ln z ln(1 − z) − Li₂(1 − z).

    References
    ----------
    Lewin, "Polylogarithms and Associated Functions", 1981, §1.
    """
    small = torch.where(w < math.log(2), w, 1.0)  # z = e^{−w} > ½: u = w
    large = torch.where(w < math.log(2), 1.0, w)
    reflected = math.pi**2 / 6 + torch.xlogy(small, -torch.expm1(-small)) - _debye(small)
    return torch.where(w < math.log(2), reflected, _debye(-torch.log1p(-torch.exp(-large))))


def _debye(u: Tensor) -> Tensor:
    """Li₂(1 − e^{−u}) for 0 <= u <= 1."""
    return u - u * u / 4 + u**3 * horner(_LI2, u * u)
