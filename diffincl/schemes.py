"""One step of each discretization; a scheme reads as its formula.

The contract of a scheme (contract tests run on every one of them):

1. ``step(F, g, t, t_next, h, x)`` is a pure function of a field F(t, x), a ProxFunction, the ends of the step as 0-dim
   tensors, its length ``h`` as a float and the state; it evaluates F only inside [t, t_next];
2. it returns ``(x_next, z)`` with x_next = prox of g at ``z`` with step ``prox_fraction``·h, so that the multiplier
   (z − x_next)/(prox_fraction·h) is an element of ∂g(t_next, x_next);
3. a sample whose inner iteration fails gets x_next = NaN with a finite z; ``failure`` says why and what to do;
4. ``order`` is its order in the interior and through contact with boxes and the orthant;
5. ``bound(size, c)`` is its factor (theory D1, D4, D7): ‖x_next‖ <= bound(‖x‖) for 0 ∈ argmin g, and, with
   c.drift = c.drift_next = 0, ‖x_next − y_next‖ <= bound(‖x − y‖).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.linalg import vector_norm

from . import _check
from .fields import FieldFunction
from .functions import ProxFunction

__all__ = ["ForwardEuler", "ImplicitEuler", "ProxHeun", "Scheme", "StepConstants"]


@dataclass(frozen=True)
class StepConstants:
    """Constants of F on one step [t, t + h], float64 tensors that broadcast against the sizes they bound.

    ``euler``, ``euler_next``: Lipschitz factors of x − hF(t, x) and x − hF(t + h, x); ``one_sided_next``: μ at t + h;
    ``drift``, ``drift_next``: ‖F(t, 0)‖ and ‖F(t + h, 0)‖.
    """

    h: float
    euler: Tensor
    euler_next: Tensor
    one_sided_next: Tensor
    drift: Tensor
    drift_next: Tensor

    def meet(self, size: Tensor) -> StepConstants:
        """The constants, one a network, with dimensions added behind so that they meet a batch of sizes."""
        def behind(c: Tensor) -> Tensor:
            return c.reshape((*c.shape, *[1] * (size.ndim - c.ndim)))

        return StepConstants(self.h, behind(self.euler), behind(self.euler_next), behind(self.one_sided_next),
                             behind(self.drift), behind(self.drift_next))


class Scheme(Protocol):
    """What ``solve`` and the discrete bounds ask of a scheme."""

    order: ClassVar[int]
    prox_fraction: ClassVar[float]
    failure: ClassVar[str]

    def step(self, F: FieldFunction, g: ProxFunction, t: Tensor, t_next: Tensor, h: float,
             x: Tensor) -> tuple[Tensor, Tensor]: ...

    def bound(self, size: Tensor, c: StepConstants) -> Tensor: ...


@dataclass(frozen=True)
class ForwardEuler:
    """Forward–backward Euler, the catching-up scheme: on the orthant with h = 1 it **is** the ResNet layer.

    x⁺ = prox_h(x − hF(t, x)), the prox at t + h.

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
        """One step; see the module for the contract."""
        z = x - h * F(t, x)
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
        """One step; see the module for the contract."""
        y = g.prox(x - h * F(t, x), h, t_next)
        z = 0.5 * x + 0.5 * (y - h * F(t_next, y))
        return g.prox(z, 0.5 * h, t_next), z

    def bound(self, size: Tensor, c: StepConstants) -> Tensor:
        """½‖x‖ + ½(ρ₂‖y‖ + h‖F(t + h, 0)‖) with ‖y‖ <= ρ₁‖x‖ + h‖F(t, 0)‖ (D7)."""
        stage = c.euler * size + c.h * c.drift
        return 0.5 * size + 0.5 * (c.euler_next * stage + c.h * c.drift_next)


@dataclass(frozen=True)
class ImplicitEuler:
    """Backward Euler: x⁺ = prox_h(x − hF(t + h, x⁺)), no step limit for monotone F.

    Parameters
    ----------
    tol : float
        A sample has converged when the residual |u − prox_h(x − hF(t + h, u))| or the last Newton step is at most
        tol·(1 + |u|) entry by entry (of a stiff F the first cannot be small: rounding of u is multiplied by hL); None
        takes 256 rounding units of the dtype.
    max_iter : int
        Newton iterations before a sample counts as failed.

    Notes
    -----
    Semismooth Newton on the residual with a backtracking line search per sample; where the Newton direction does not
    reduce the residual the iteration falls back to the damped fixed point of the residual. A sample that has not
    converged after ``max_iter`` iterations fails; its value is never kept. The result is differentiated implicitly
    (one linear solve), not through the iterations. F must act on each sample of the batch alone.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> flow = di.Inclusion(lambda t, x: 1000 * (x - 1), di.Orthant())
    >>> di.solve(flow, torch.zeros(1), [0.0, 1.0], scheme=ImplicitEuler()).x[-1]
    tensor([0.9990])

    References
    ----------
    Qi, Sun, "A nonsmooth version of Newton's method", 1993; theory §6.
    """

    tol: float | None = None
    max_iter: int = 50
    order: ClassVar[int] = 1
    prox_fraction: ClassVar[float] = 1.0
    failure: ClassVar[str] = ("the inner Newton iteration of ImplicitEuler did not converge; take smaller "
                              "steps, raise max_iter, or use float64")

    def __post_init__(self) -> None:
        if self.tol is not None:
            _check.number("tol", self.tol, above=0.0)
        _check.count("max_iter", self.max_iter)

    def step(self, F: FieldFunction, g: ProxFunction, t: Tensor, t_next: Tensor, h: float,
             x: Tensor) -> tuple[Tensor, Tensor]:
        """One step; see the module for the contract."""

        def source(u: Tensor, x: Tensor) -> Tensor:
            return x - h * F(t_next, u)

        def residual(u: Tensor, x: Tensor) -> Tensor:
            return u - g.prox(source(u, x), h, t_next)

        start, tol = x.detach(), self._tolerance(x)
        with torch.no_grad():
            u, converged = _newton(lambda u: residual(u, start), start, tol, self.max_iter)
            z = source(torch.where(converged, u, start), start)
            p = g.prox(z, h, t_next)
            # u and p agree up to rounding, which hL multiplies in p: p lies in C; u where that matters.
            x_next = torch.where(converged, torch.where((u - p).abs() <= tol * (1 + u.abs()), p, u), torch.nan)
        if not torch.is_grad_enabled() or not (x.requires_grad or residual(u, x).requires_grad):
            return x_next, z
        # One Newton step with a frozen Jacobian has the derivative of the implicit function; that alone is taken.
        J = _jacobian(lambda u: residual(u, start), u)
        step = _solve(J, residual(u, x))
        x_next = x_next - torch.where(converged, step - step.detach(), 0.0)
        return x_next, source(x_next, x)

    def bound(self, size: Tensor, c: StepConstants) -> Tensor:
        """(‖x‖ + h‖F(t + h, 0)‖)/(1 − hμ), infinite where hμ >= 1 (D4)."""
        room = 1 - c.h * c.one_sided_next
        return torch.where(room > 0, (size + c.h * c.drift_next) / room, torch.inf)

    def _tolerance(self, x: Tensor) -> float:
        return 256 * torch.finfo(x.dtype).eps if self.tol is None else self.tol


def _newton(G: Callable[[Tensor], Tensor], u: Tensor, tol: float, max_iter: int) -> tuple[Tensor, Tensor]:
    """Root of G by semismooth Newton, each sample on its own; returns the root and which samples converged."""

    def small(v: Tensor, u: Tensor) -> Tensor:
        return (v.abs() <= tol * (1 + u.abs())).all(-1, keepdim=True)

    r = G(u)
    converged = small(r, u)
    for _ in range(max_iter):
        hopeless = ~torch.isfinite(r).all(-1, keepdim=True)
        if bool((converged | hopeless).all()):
            break
        direction = _solve(_jacobian(G, u), r)
        usable = torch.isfinite(direction).all(-1, keepdim=True)
        u_next, r_next = _search(G, u, r, torch.where(usable, direction, r))
        u_next = torch.where(usable & small(direction, u), u - direction, u_next)
        u, r = torch.where(converged, u, u_next), torch.where(converged, r, r_next)
        converged = converged | small(r, u) | (usable & small(direction, u))
    return u, converged


def _search(G: Callable[[Tensor], Tensor], u: Tensor, r: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Backtrack from a full step along −direction until the residual falls; else half a step of the fixed point."""
    size, step = vector_norm(r, dim=-1, keepdim=True), torch.ones_like(r[..., :1])
    best, best_r = u - direction, G(u - direction)
    for _ in range(8):
        worse = ~(vector_norm(best_r, dim=-1, keepdim=True) < (1 - 1e-4 * step) * size)
        if not bool(worse.any()):
            return best, best_r
        step = torch.where(worse, step / 2, step)
        best = torch.where(worse, u - step * direction, best)
        best_r = torch.where(worse, G(best), best_r)
    worse = ~(vector_norm(best_r, dim=-1, keepdim=True) < size)
    best = torch.where(worse, u - 0.5 * r, best)
    return best, torch.where(worse, G(best), best_r)


def _jacobian(G: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """∂G_i/∂u_j of every sample, shape (*batch, d, d); G acts on each sample alone."""
    rows = torch.func.jacrev(lambda v: G(v).flatten(end_dim=-2).sum(0) if v.ndim > 1 else G(v))(u.detach())
    return torch.movedim(rows, 0, -2).detach()


def _solve(J: Tensor, r: Tensor) -> Tensor:
    """J⁻¹ r, not finite where J is singular."""
    return torch.linalg.solve_ex(J, r.unsqueeze(-1))[0].squeeze(-1)
