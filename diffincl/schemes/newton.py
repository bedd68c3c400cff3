"""The root inside an implicit step: semismooth Newton, and a way through shorter steps where it cycles."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import _check
from ..functions import ProxFunction

__all__ = ["Source", "differentiated", "implicit_step", "jacobian", "require_precision", "residual", "times"]

Source = Callable[[Tensor, Tensor], Tensor]
Prox = Callable[[Tensor, Tensor], Tensor]

# A length whose root is not found within PATIENCE iterations is shortened, one that is solved is lengthened; a sample
# that would need less than SHORTEST of the step is given up.
PATIENCE, SHORTEN, LENGTHEN, SHORTEST = 8, 1 / 8, 3.0, 2.0**-40


def require_precision(scheme: str, x: Tensor) -> None:
    """Refuse dtypes in which an iteration cannot converge."""
    if torch.finfo(x.dtype).eps > torch.finfo(torch.float32).eps:
        raise ValueError(f"{scheme} needs float32 or float64; got x0 of dtype {x.dtype}. Convert it.")


def implicit_step(source: Source, g: ProxFunction, t_next: Tensor, h: float | Tensor, x: Tensor, tol: float | None,
                  max_iter: int) -> tuple[Tensor, Tensor]:
    """The root u = prox_h(source(u, x)) and the prox argument; NaN with a finite argument where none was found.

    ``source(u, x) − x`` is proportional to the step. Iterated without gradients and differentiated implicitly.
    """
    start, tol = x.detach(), _tolerance(tol, x)
    with torch.no_grad():
        u, converged = _root(lambda u: source(u, start), lambda v, s: g.prox(v, s * h, t_next), start, tol, max_iter)
        u = torch.where(converged, u, start)
        p = g.prox(source(u, start), h, t_next)
        # u and p agree up to rounding, which hL multiplies in p: p lies in C; u where that matters.
        x_next = torch.where(converged, torch.where((u - p).abs() <= tol * (1 + u.abs()), p, u), torch.nan)
    u, x_next = u.detach(), x_next.detach()  # no_grad lets the tangents of forward differentiation pass
    r = u - g.prox(source(u, x), h, t_next)
    if differentiated(r):
        # One Newton step with a frozen Jacobian has the derivative of the implicit function; that alone is taken.
        # By the inverse: the forward derivative of linalg.solve is wrong under vmap (torch 2).
        inverse = torch.linalg.inv_ex(jacobian(lambda u: u - g.prox(source(u, start), h, t_next), u))[0]
        step = times(inverse, r)
        step = torch.where(converged & torch.isfinite(step).all(-1, keepdim=True), step, 0.0)
        x_next = x_next - (step - step.detach())
    return x_next, source(torch.where(converged, x_next, start), x)


def residual(source: Source, g: ProxFunction, t_next: Tensor, h: float | Tensor, x: Tensor, tol: float | None,
             max_iter: int) -> Tensor:
    """How far ``implicit_step`` stays from a root: the largest |u − prox_h(source(u, x))|/(1 + |u|), (*batch,)."""
    with torch.no_grad():
        u, _ = _root(lambda u: source(u, x), lambda v, s: g.prox(v, s * h, t_next), x, _tolerance(tol, x), max_iter)
        return ((u - g.prox(source(u, x), h, t_next)).abs() / (1 + u.abs())).amax(-1)


def _tolerance(tol: float | None, x: Tensor) -> float:
    return 256 * torch.finfo(x.dtype).eps if tol is None else tol


def _root(source: Callable[[Tensor], Tensor], prox: Prox, x: Tensor, tol: float,
          max_iter: int) -> tuple[Tensor, Tensor]:
    """The root of u = prox_h(source(u)) and which samples have one; ``prox(v, s)`` is prox_{sh}(v).

    Newton starts at the full step. A sample in which it does not arrive goes by shorter steps sh, each started from the
    root of the one before: for monotone F the root moves continuously with s, and near a root Newton arrives. Every
    sample has its own s; one that has arrived or is given up rests.
    """
    u = reached = x
    done, age = torch.zeros_like(x[..., :1]), torch.zeros_like(x[..., :1])  # the share s solved; iterations since
    s = torch.ones_like(done)
    for _ in range(max_iter):
        running = (done < 1) & (s - done > SHORTEST)
        if _check.nowhere(running):
            break
        u_next, arrived = _newton(lambda u, s=s: u - x - s * (source(u) - x),
                                  lambda v, gamma, s=s: prox(v, gamma * s), u, tol)
        arrived, age, gap = running & arrived, age + 1, s - done
        lost = running & ~arrived & ((age >= PATIENCE) | ~torch.isfinite(u_next).all(-1, keepdim=True))
        reached = torch.where(arrived, u_next, reached)
        u = torch.where(arrived | lost, reached, torch.where(running, u_next, u))
        done = torch.where(arrived, s, done)
        s = torch.where(arrived, (s + LENGTHEN * gap).clamp_max(1), torch.where(lost, done + SHORTEN * gap, s))
        age = torch.where(arrived | lost, 0.0, age)
    return reached, done >= 1


def _newton(Gamma: Callable[[Tensor], Tensor], prox: Prox, u: Tensor, tol: float) -> tuple[Tensor, Tensor]:
    """One Newton step towards u = prox_{γh}(u − γΓ(u)), and whether that is where u or the step arrives.

    Arrived: the residual with γ = 1 is within the tolerance, or the residual with γ = 1/‖Γ'‖ (which does not saturate
    where hL is large) is no larger than its own rounding. A small step proves nothing: on a steep piece every one is.
    """
    value, M = Gamma(u), jacobian(Gamma, u)
    gamma = 1 / M.abs().sum(-1).amax(-1, keepdim=True).clamp_min(1)
    v = u - gamma * value
    r, P = u - prox(v, gamma), jacobian(lambda v: prox(v, gamma), v)
    identity = torch.eye(u.shape[-1], dtype=u.dtype, device=u.device)
    step = _solve(identity - P @ (identity - gamma.unsqueeze(-1) * M), r)
    constant = value - times(M, u)
    rounding = u.abs() + gamma * times(P.abs(), times(M.abs(), u.abs()) + constant.abs())
    rounded = (r.abs() <= 32 * torch.finfo(u.dtype).eps * rounding) & torch.isfinite(step)
    solved = (u - prox(u - value, torch.ones_like(gamma))).abs() <= tol * (1 + u.abs())
    solved, rounded = solved.all(-1, keepdim=True), rounded.all(-1, keepdim=True)
    return torch.where(solved, u, u - step), solved | rounded


def times(A: Tensor, v: Tensor) -> Tensor:
    """A v for every sample."""
    return (A @ v.unsqueeze(-1)).squeeze(-1)


def differentiated(r: Tensor) -> bool:
    """Whether somebody takes derivatives of ``r``: backward, forward or by a torch.func transform."""
    return r.requires_grad or _check.transforming() or forward_ad.unpack_dual(r).tangent is not None


def jacobian(G: Callable[[Tensor], Tensor], u: Tensor, *, differentiable: bool = False) -> Tensor:
    """∂G_i/∂u_j of every sample, shape (*batch, d, d), a constant unless ``differentiable``; G acts on each sample
    alone."""

    def summed(v: Tensor) -> Tensor:
        return G(v).flatten(end_dim=-2).sum(0) if v.ndim > 1 else G(v)

    if _check.transforming() or (differentiable and forward_ad.unpack_dual(u).tangent is not None):
        J = torch.movedim(torch.func.jacrev(summed)(u if differentiable else u.detach()), 0, -2)
        return J if differentiable else J.detach()
    # Plain autograd, with hooks of its own: inside a checkpointed segment torch.func is refused.
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(lambda v: v, lambda v: v):
        v = u if differentiable and u.requires_grad else u.detach().requires_grad_()
        value = summed(v)
        if not value.requires_grad:
            return torch.zeros((*u.shape, u.shape[-1]), dtype=u.dtype, device=u.device)
        rows = torch.autograd.grad(value, v, torch.eye(len(value), dtype=u.dtype, device=u.device),
                                   is_grads_batched=True, materialize_grads=True, create_graph=differentiable)[0]
    return torch.movedim(rows, 0, -2)


def _solve(J: Tensor, r: Tensor) -> Tensor:
    """J⁻¹ r, not finite where J is singular."""
    return torch.linalg.solve_ex(J, r.unsqueeze(-1))[0].squeeze(-1)
