"""Backward Euler and the semismooth Newton iteration inside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.linalg import vector_norm

from .. import _check
from ..fields import FieldFunction
from ..functions import ProxFunction
from .base import StepConstants

__all__ = ["ImplicitEuler"]


@dataclass(frozen=True)
class ImplicitEuler:
    """Backward Euler: x⁺ = prox_h(x − hF(t + h, x⁺)). The scheme has no step limit for monotone F.

    Parameters
    ----------
    tol : float
        A sample has converged when the residual |u − prox_h(x − hF(t + h, u))| or two Newton steps in a row are at most
        tol·(1 + |u|) entry by entry (of a stiff F the first cannot be small: rounding of u is multiplied by hL); None
        takes 256 rounding units of the dtype.
    max_iter : int
        Newton iterations before a sample counts as failed.

    Raises
    ------
    ValueError
        In ``step``, for a dtype coarser than float32.

    Notes
    -----
    With Γ(u) = u − x + hF(t + h, u) the step solves 0 ∈ Γ(u) + h∂g(u), that is, for every γ > 0,
    u = prox_{γh}(u − γΓ(u)). Semismooth Newton runs on this residual with γ = 1/‖Γ'(u)‖, which keeps it from saturating
    where hL is large, with a backtracking line search per sample; where the Newton direction does not reduce it, the
    iteration falls back to the forward–backward step u − residual. A sample that has not converged after ``max_iter``
    iterations fails, and its value is never kept; that can happen for very stiff F with kinks. The result is
    differentiated implicitly (one linear solve, first derivatives only), not through the iterations. F must act on each
    sample of the batch alone; g.prox must take a step of shape (*batch, 1).

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
        """One step; see the package for the contract."""
        if torch.finfo(x.dtype).eps > torch.finfo(torch.float32).eps:
            raise ValueError(f"ImplicitEuler needs float32 or float64; got x0 of dtype {x.dtype}. Convert it.")

        def source(u: Tensor, x: Tensor) -> Tensor:
            return x - h * F(t_next, u)

        start, tol = x.detach(), self._tolerance(x)
        with torch.no_grad():
            u, converged = _newton(lambda u: u - source(u, start), lambda v, s: g.prox(v, s * h, t_next), start, tol,
                                   self.max_iter)
            u = torch.where(converged, u, start)
            p = g.prox(source(u, start), h, t_next)
            # u and p agree up to rounding, which hL multiplies in p: p lies in C; u where that matters.
            x_next = torch.where(converged, torch.where((u - p).abs() <= tol * (1 + u.abs()), p, u), torch.nan)
        r = u - g.prox(source(u, x), h, t_next)
        if _differentiated(r):
            # One Newton step with a frozen Jacobian has the derivative of the implicit function; that alone is taken.
            step = _solve(_jacobian(lambda u: u - g.prox(source(u, start), h, t_next), u), r)
            step = torch.where(converged & torch.isfinite(step).all(-1, keepdim=True), step, 0.0)
            x_next = x_next - (step - step.detach())
        return x_next, source(torch.where(converged, x_next, start), x)

    def bound(self, size: Tensor, c: StepConstants) -> Tensor:
        """(‖x‖ + h‖F(t + h, 0)‖)/(1 − hμ), infinite where hμ >= 1 (D4)."""
        room = 1 - c.h * c.one_sided_next - 2.0**-50 * (1 + (c.h * c.one_sided_next).abs())  # less rounding
        return torch.where(room > 0, (size + c.h * c.drift_next) / room, torch.inf)

    def _tolerance(self, x: Tensor) -> float:
        return 256 * torch.finfo(x.dtype).eps if self.tol is None else self.tol


def _newton(Gamma: Callable[[Tensor], Tensor], prox: Callable[[Tensor, Tensor], Tensor], u: Tensor, tol: float,
            max_iter: int) -> tuple[Tensor, Tensor]:
    """Root of 0 ∈ Γ(u) + h∂g(u), each sample on its own; returns the root and which samples converged.

    ``prox(v, γ)`` is prox_{γh}(v).
    """

    def small(v: Tensor, u: Tensor) -> Tensor:
        return (v.abs() <= tol * (1 + u.abs())).all(-1, keepdim=True)

    one = torch.ones_like(u[..., :1])
    converged = small(u - prox(u - Gamma(u), one), u)
    before = torch.zeros_like(converged)  # whether the last step was a small Newton step
    for _ in range(max_iter):
        M = _jacobian(Gamma, u)
        gamma = 1 / M.abs().sum(-1).amax(-1, keepdim=True).clamp_min(1)

        def G(u: Tensor, gamma: Tensor = gamma) -> Tensor:
            return u - prox(u - gamma * Gamma(u), gamma)

        r, P = G(u), _jacobian(lambda v, gamma=gamma: prox(v, gamma), u - gamma * Gamma(u))
        if bool((converged | ~torch.isfinite(r).all(-1, keepdim=True)).all()):
            break
        identity = torch.eye(u.shape[-1], dtype=u.dtype, device=u.device)
        direction = _solve(identity - P @ (identity - gamma.unsqueeze(-1) * M), r)
        usable = torch.isfinite(direction).all(-1, keepdim=True)
        tiny = usable & small(direction, u)
        u_next = torch.where(tiny, u - direction, _search(G, u, r, torch.where(usable, direction, r)))
        u = torch.where(converged, u, u_next)
        converged = converged | (tiny & before) | small(u - prox(u - Gamma(u), one), u)
        before = tiny
    return u, converged


def _search(G: Callable[[Tensor], Tensor], u: Tensor, r: Tensor, direction: Tensor) -> Tensor:
    """Backtrack from a full step along −direction until the residual r = G(u) falls; else the step u − r."""
    size, step = vector_norm(r, dim=-1, keepdim=True), torch.ones_like(r[..., :1])
    best, best_r = u - direction, G(u - direction)
    for _ in range(8):
        worse = ~(vector_norm(best_r, dim=-1, keepdim=True) < (1 - 1e-4 * step) * size)
        if not bool(worse.any()):
            return best
        step = torch.where(worse, step / 2, step)
        best = torch.where(worse, u - step * direction, best)
        best_r = torch.where(worse, G(best), best_r)
    return torch.where(vector_norm(best_r, dim=-1, keepdim=True) < size, best, u - r)


def _differentiated(r: Tensor) -> bool:
    """Whether somebody takes derivatives of ``r``: backward, forward or by a torch.func transform."""
    return r.requires_grad or not _check.concrete(r) or forward_ad.unpack_dual(r).tangent is not None


def _jacobian(G: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """∂G_i/∂u_j of every sample, shape (*batch, d, d); G acts on each sample alone."""

    def summed(v: Tensor) -> Tensor:
        return G(v).flatten(end_dim=-2).sum(0) if v.ndim > 1 else G(v)

    if not _check.concrete(u):
        return torch.movedim(torch.func.jacrev(summed)(u.detach()), 0, -2).detach()
    # Plain autograd, with hooks of its own: inside a checkpointed segment torch.func is refused.
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(lambda v: v, lambda v: v):
        v = u.detach().requires_grad_()
        value = summed(v)
        if not value.requires_grad:
            return torch.zeros((*u.shape, u.shape[-1]), dtype=u.dtype, device=u.device)
        rows = torch.autograd.grad(value, v, torch.eye(len(value), dtype=u.dtype, device=u.device),
                                   is_grads_batched=True, materialize_grads=True)[0]
    return torch.movedim(rows, 0, -2)


def _solve(J: Tensor, r: Tensor) -> Tensor:
    """J⁻¹ r, not finite where J is singular."""
    return torch.linalg.solve_ex(J, r.unsqueeze(-1))[0].squeeze(-1)
