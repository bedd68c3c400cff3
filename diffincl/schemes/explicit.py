"""Explicit in F, implicit in the prox of g."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..fields import FieldFunction
from ..functions import ProxFunction
from .base import StepConstants

__all__ = ["ForwardEuler", "ProxHeun"]


@dataclass(frozen=True)
class ForwardEuler:
    """Forward–backward Euler, the catching-up scheme: on the orthant with h = 1 it **is** the ResNet layer.

    x⁺ = prox_h(x − hF(t, x)), the prox at t + h. The difference is taken in one pass, torch.sub(x, F, alpha=h): with
    h = 1 equal to x − F bit for bit, with another h at times one rounding nearer than x − h * F.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> flow = di.Inclusion(lambda t, x: torch.ones_like(x), di.Orthant())
    >>> di.solve(flow, torch.tensor([1.5]), [0.0, 1.0, 2.0], scheme=ForwardEuler()).x[:, 0]
    tensor([1.5000, 0.5000, 0.0000])

    References
    ----------
    Moreau, "Evolution problem associated with a moving convex set in a Hilbert space", 1977; theory D1, §6.
    """

    order: ClassVar[int] = 1
    prox_fraction: ClassVar[float] = 1.0
    failure: ClassVar[str] = "the prox of g returned a value that is not finite; check g.prox"

    def step(self, F: FieldFunction, g: ProxFunction, t: Tensor, t_next: Tensor, h: float,
             x: Tensor) -> tuple[Tensor, Tensor]:
        """One step; see the package for the contract."""
        z = torch.sub(x, F(t, x), alpha=h)  # x − hF in one pass
        return g.prox(z, h, t_next), z

    def bound(self, size: Tensor, c: StepConstants) -> Tensor:
        """ρ‖x‖ + h‖F(t, 0)‖ (D1)."""
        return c.euler * size + c.h * c.drift


@dataclass(frozen=True)
class ProxHeun:
    """Second order, through contact too, in the form that keeps a stability factor (SSP form, theory D7).

    y = prox_h(x − hF(t, x)),   x⁺ = prox_{h/2}(½x + ½(y − hF(t + h, y))).

    Examples
    --------
    >>> import torch, diffincl as di
    >>> flow = di.Inclusion(lambda t, x: x, di.Whole())
    >>> t = torch.linspace(0, 1, 101)
    >>> di.solve(flow, torch.ones(1, dtype=torch.float64), t, scheme=ProxHeun()).x[-1] - torch.tensor(-1.0).exp()
    tensor([6.1684e-06], dtype=torch.float64)

    References
    ----------
    Shu, Osher, "Efficient implementation of essentially non-oscillatory shock-capturing schemes", 1988 (the form
    without prox); theory D7, §6.
    """

    order: ClassVar[int] = 2
    prox_fraction: ClassVar[float] = 0.5
    failure: ClassVar[str] = "the prox of g returned a value that is not finite; check g.prox"

    def step(self, F: FieldFunction, g: ProxFunction, t: Tensor, t_next: Tensor, h: float,
             x: Tensor) -> tuple[Tensor, Tensor]:
        """One step; see the package for the contract."""
        w = x - h * F(t, x)
        y = g.prox(w, h, t_next)
        z = 0.5 * x + 0.5 * (y - h * F(t_next, y))
        z = torch.add(z, w, alpha=0.0)  # a prox can hide an infinite stage; 0·∞ keeps it in sight
        return g.prox(z, 0.5 * h, t_next), z

    def bound(self, size: Tensor, c: StepConstants) -> Tensor:
        """½‖x‖ + ½(ρ₂‖y‖ + h‖F(t + h, 0)‖) with ‖y‖ <= ρ₁‖x‖ + h‖F(t, 0)‖ (D7)."""
        stage = c.euler * size + c.h * c.drift
        return 0.5 * size + 0.5 * (c.euler_next * stage + c.h * c.drift_next)
