"""Explicit in F, implicit in the prox of g."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.linalg import vector_norm

from ..fields import FieldFunction
from ..functions import ProxFunction
from .base import Embedded, StepConstants

__all__ = ["ARS222", "ForwardEuler", "ProxHeun"]

JERK = 0.1  # a motion that ends further from where its beginning led than this share of its beginning is a jerk
FAR = 1e3  # from where to look at g


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

    order = 1
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

    order = 2
    error_order: ClassVar[int] = 2
    prox_fraction: ClassVar[float] = 0.5
    failure: ClassVar[str] = "the prox of g returned a value that is not finite; check g.prox"

    def step(self, F: FieldFunction, g: ProxFunction, t: Tensor, t_next: Tensor, h: float | Tensor,
             x: Tensor) -> tuple[Tensor, Tensor]:
        """One step; see the package for the contract. ``h`` may be a tensor (*batch, 1)."""
        _, _, z, x_next, _ = self._proxes(F, g, t, t_next, h, x)
        return x_next, z

    def embedded(self, F: FieldFunction, g: ProxFunction, t: Tensor, t_next: Tensor, h: Tensor, x: Tensor) -> Embedded:
        """One step with tensors t, t_next, h (*batch, 1); the error is x⁺ − y, Heun less forward–backward Euler, or
        ½h(F(t + h, y) − F(t, x)), the same without the proxes, whichever is larger.

        In contact the first is 0 whatever F does: alone it would let the step grow over a release and the next contact.
        It is of second order where the step is of third, and blind on curved sets, where both are off by the same. Rows
        with h = 0 rest.
        """
        w, y, z, x_next, change = self._proxes(F, g, t, t_next, h, x)
        error, free = _larger(x_next - y, change), (0.5 * (w - x) + 0.25 * change, w - x + change)
        return _embedded(x, h, x_next, z, error, [(w, y), (z, x_next)], self.prox_fraction * h, free)

    def _proxes(self, F: FieldFunction, g: ProxFunction, t: Tensor, t_next: Tensor, h: float | Tensor,
                x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Argument and value of both proxes, and ½h(F(t, x) − F(t + h, y))."""
        hF0 = h * F(t, x)
        w = x - hF0
        y = g.prox(w, h, t_next)
        hF1 = h * F(t_next, y)
        z = 0.5 * x + 0.5 * (y - hF1)
        z = torch.add(z, w, alpha=0.0)  # a prox can hide an infinite stage; 0·∞ keeps it in sight
        return w, y, z, g.prox(z, 0.5 * h, t_next), 0.5 * (hF0 - hF1)

    def bound(self, size: Tensor, c: StepConstants) -> Tensor:
        """½‖x‖ + ½(ρ₂‖y‖ + h‖F(t + h, 0)‖) with ‖y‖ <= ρ₁‖x‖ + h‖F(t, 0)‖ (D7)."""
        stage = c.euler * size + c.h * c.drift
        return 0.5 * size + 0.5 * (c.euler_next * stage + c.h * c.drift_next)


@dataclass(frozen=True)
class ARS222:
    """IMEX Runge–Kutta scheme with resolvents: F explicit, g implicit at both stages; order 2 on curved sets too.

    u = prox_{γh}(w), w = x − γhF(t, x), ξ = (w − u)/(γh) ∈ ∂g(t + γh, u),
    x⁺ = prox_{γh}(x − h(δF(t, x) + (1 − δ)F(t + γh, u)) − h(1 − γ)ξ), γ = 1 − 1/√2, δ = 1 − 1/(2γ).

    The first prox is that of t + γh, the second that of t + h.

    Notes
    -----
    Factor. 1 − δ = 1/(2γ), γ − δ = 1 and c = (1 − γ)/γ = 1 + √2. Δ is the difference of two trajectories, v = w − u, ρ₀
    and ρ₁ are the factors of E₀ = x − hF(t, x) and E₁ = u − hF(t + γh, u). ‖Δw‖ <= ρ_γ‖Δx‖ with ρ_γ = 1 − γ + γρ₀, and
    by firm nonexpansiveness (Δu·Δv >= 0) ‖aΔu + bΔv‖ <= max(|a|, |b|)‖Δw‖ for all a, b. The last argument is

        z = x − hδF₀ − h(1 − δ)F₁ − cv = u − √2 v + hF₀ − hF₁/(2γ)                                                (a)
          = (λ − 1/√2)u + (λ − √2)v + (1 − λ/√2)x − (1 + γλ)E₀ + E₁/(2γ),  λ = 3/√8,                             (b)

    (b) being (a) plus λ(u + v − (1 − γ)x − γE₀) = 0. So ‖Δx⁺‖ <= ‖Δz‖ is at most the smaller of

        √2ρ_γ + hL + hLρ_γ/(2γ)   and   ρ_γ/√8 + ¼ + (1 + γλ)ρ₀ + ρ₁ρ_γ/(2γ)   times ‖Δx‖.

    No factor of the scheme tends to 1 with h: on the half line with F(t) = 1 and F(t + γh) <= 0 the points 0 and
    ε <= γh arrive √2 ε apart. Over many steps the bound is far above what trajectories do; where a stability factor
    matters, take ProxHeun.

    Moving g. A set that jumps, or starts and stops, would throw the state ahead of it, a jump by √2 times its length,
    and there it would stay. So where the motion of g over the step is not within a tenth of going on as it begins over
    the first γh, the step is that of forward–backward Euler, whose factor ρ₀ is smaller than both forms; the order is 2
    again once h resolves the motion.

    Examples
    --------
    >>> import math, torch, diffincl as di
    >>> flow = di.Inclusion(lambda t, x: x, di.L1())  # (x0 + 1)e^{−t} − 1 until it sticks at 0
    >>> t, one = torch.linspace(0, 0.5, 51), torch.ones(1, dtype=torch.float64)
    >>> di.solve(flow, one, t, scheme=ARS222()).x[-1] - (2 * math.exp(-0.5) - 1)
    tensor([1.0185e-05], dtype=torch.float64)

    References
    ----------
    Ascher, Ruuth, Spiteri, "Implicit-explicit Runge-Kutta methods for time-dependent partial differential equations",
    1997, (2,2,2); theory §6.
    """

    order = 2
    error_order: ClassVar[int] = 3
    prox_fraction: ClassVar[float] = 1 - math.sqrt(0.5)
    failure: ClassVar[str] = "the prox of g returned a value that is not finite; check g.prox"

    def step(self, F: FieldFunction, g: ProxFunction, t: Tensor, t_next: Tensor, h: float | Tensor,
             x: Tensor) -> tuple[Tensor, Tensor]:
        """One step; see the package for the contract. ``h`` may be a tensor (*batch, 1)."""
        _, _, z, x_next, _ = self._proxes(F, g, t, t_next, h, x)
        return x_next, z

    def embedded(self, F: FieldFunction, g: ProxFunction, t: Tensor, t_next: Tensor, h: Tensor, x: Tensor) -> Embedded:
        """Two steps of h/2 with tensors t, t_next, h (*batch, 1); the error is e = (two half steps − one of h)/3, or
        the same difference of the integrals of −F alone, whichever is larger: in contact e is 0 whatever F does.

        The state is extrapolated: e is added to the argument of the last prox, which is taken again. So the error of a
        step that is smooth is of the fourth order, that of many steps stays at the tolerance. Rows with h = 0 rest.
        """
        half, t_half = 0.5 * h, torch.lerp(t, t_next, 0.5)
        whole = self._proxes(F, g, t, t_next, h, x)
        first = self._proxes(F, g, t, t_half, half, x)
        second = self._proxes(F, g, t_half, t_next, half, first[3])
        e = (second[3] - whole[3]) / 3
        error = _larger(e, (first[4] + second[4] - whole[4]) / 3)
        z = second[2] + e
        x_next = g.prox(z, self.prox_fraction * half, t_next)
        pairs = [pair for stage in (whole, first, second) for pair in (stage[:2], stage[2:4])]
        free = first[4], first[4] + second[4]
        return _embedded(x, h, x_next, z, error, [*pairs, (z, x_next)], self.prox_fraction * half, free)

    def _proxes(self, F: FieldFunction, g: ProxFunction, t: Tensor, t_next: Tensor, h: float | Tensor,
                x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Argument and value of both proxes, and the integral of −F; hξ = (w − u)/γ needs no division by h."""
        gamma, t_stage = self.prox_fraction, torch.lerp(t, t_next, self.prox_fraction)
        delta = 1 - 1 / (2 * gamma)
        F0 = F(t, x)
        w = x - gamma * h * F0
        u = g.prox(w, gamma * h, t_stage)
        integral = h * (delta * F0 + (1 - delta) * F(t_stage, u))
        z = x - integral - (1 - gamma) / gamma * (w - u)
        if g.moving:
            free = x - h * F0
            y = g.prox(free, h, t_next)
            z = torch.where(self._jerks(g, t, t_stage, t_next, x), y + gamma * (free - y), z)  # the prox below makes y
        return w, u, z, g.prox(z, gamma * h, t_next), -integral

    def _jerks(self, g: ProxFunction, t: Tensor, t_stage: Tensor, t_next: Tensor, x: Tensor) -> Tensor:
        """Where g moves in a jerk, (*batch, 1). It must not depend on x, so the motion is told from fixed points, in
        the middle and on both sides."""
        zero = torch.zeros_like(x, dtype=torch.float64)
        points = torch.stack([zero, zero + FAR, zero - FAR])
        first, whole = g.carried(points, t, t_stage) - points, g.carried(points, t, t_next) - points
        rounding = 64 * torch.finfo(x.dtype).eps * (1 + vector_norm(whole, dim=-1, keepdim=True))
        astray = vector_norm(first / self.prox_fraction - whole, dim=-1, keepdim=True)
        return (astray > JERK * vector_norm(first, dim=-1, keepdim=True) + rounding).any(0)

    def bound(self, size: Tensor, c: StepConstants) -> Tensor:
        """The smaller of the two forms in the notes; a drift d adds hd wherever it adds to ‖ΔF‖."""
        gamma, lam, h = self.prox_fraction, 3 / math.sqrt(8), c.h
        euler, hL = c.euler * size + h * c.drift, h * c.lipschitz
        w = (1 - gamma) * size + gamma * euler  # >= ‖w‖ >= ‖u‖
        by_L = math.sqrt(2) * w + hL * size + h * c.drift + (hL * w + h * c.drift_inside) / (2 * gamma)
        by_euler = w / math.sqrt(8) + size / 4 + (1 + gamma * lam) * euler \
            + (c.euler_inside * w + h * c.drift_inside) / (2 * gamma)
        return torch.minimum(by_L, by_euler) * (1 + 2.0**-50)


def _larger(a: Tensor, b: Tensor) -> Tensor:
    """Entry by entry the one of larger size."""
    return torch.where(a.abs() >= b.abs(), a, b)


def _embedded(x: Tensor, h: Tensor, x_next: Tensor, z: Tensor, error: Tensor, proxes: list[tuple[Tensor, ...]],
              prox_step: Tensor, free: tuple[Tensor, Tensor]) -> Embedded:
    """The result, with the rows of h = 0 at rest; ``proxes`` are the arguments and values met."""
    moves = h > 0
    displacement = torch.stack([(value - argument).detach().abs() for argument, value in proxes]).amax(0)
    return Embedded(torch.where(moves, x_next, x), torch.where(moves, z, x), torch.where(moves, error, 0.0),
                    torch.where(moves, displacement, 0.0), prox_step.expand_as(h), torch.stack(free).detach())
