"""What a function and a set are, and checks of their parameters."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check

__all__ = ["ConvexSet", "ProxFunction", "Time"]

Time = float | Tensor


class ProxFunction:
    """A proper, lower semicontinuous, convex function g that can be evaluated through its proximity operator.

    The contract of a subclass (contract tests run on every one of them):

    1. ``prox(x, h, t)`` returns the minimiser u of g(t, u) + ‖u − x‖²/(2h), shape and dtype of ``x``, for h >= 0, a
       float or a tensor (*batch, 1);
    2. ``value(x, t)`` returns g(t, x), shape (*batch,);
    3. ``coordinatewise = True`` only if prox acts on each coordinate alone: then it is nonexpansive in every ℓp;
    4. ``convex = False`` if g is only prox-regular, ``reach`` then the radius of the tube around its domain in which
       the prox is unique; ``polyhedral = True`` only for a set that finitely many linear inequalities describe (schemes
       reach order 2 through contact there), ``moving = True`` if g depends on t, ``carried`` then how it moves;
    5. ``kink_sides`` where g has kinks inside its domain that a path can cross: derivatives are wrong there.

    Examples
    --------
    >>> import torch
    >>> class Square(ProxFunction):  # x²/4, written by hand
    ...     coordinatewise = True
    ...     def prox(self, x, h, t=0.0): return x / (1 + h / 2)
    ...     def value(self, x, t=0.0): return (x**2 / 4).sum(-1)
    >>> Square().normal_distance(torch.tensor([2.0]), torch.tensor([1.0])).round(decimals=3)
    tensor(0.)
    """

    coordinatewise = False
    convex = True  # statements that rest on the monotone normal cone ask for it
    reach = math.inf
    polyhedral = False
    moving = False

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """argmin over u of g(t, u) + ‖u − x‖²/(2h)."""
        raise NotImplementedError(f"{type(self).__name__} must define prox(x, h, t)")

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """g(t, x), shape (*batch,)."""
        raise NotImplementedError(f"{type(self).__name__} must define value(x, t)")

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Distance of ``v`` from ∂g(t, x), shape (*batch,).

        Notes
        -----
        The minimal-norm element of ∂g(x) − v is the limit of (x − prox_ε(x + εv))/ε for ε → 0; it is taken here in
        float64 at ε = 1e-6·(1 + ‖x‖)/(1 + ‖v‖), which resolves about nine digits. Sets with a formula override it.
        """
        x64, v64 = x.double(), v.double()
        eps = 1e-6 * (1 + vector_norm(x64, dim=-1, keepdim=True)) / (1 + vector_norm(v64, dim=-1, keepdim=True))
        return (vector_norm(x64 - self.prox(x64 + eps * v64, eps, t), dim=-1) / eps[..., 0]).to(x.dtype)

    def with_memory(self) -> ProxFunction:
        """The same function for the calls of one solve, where ``prox`` may start from what the last call found: its
        values are the same up to rounding. The function itself, where that saves nothing."""
        return self

    def kink_sides(self, x: Tensor, t: Time = 0.0) -> Tensor | None:
        """Signs (*batch, n) of what is zero on a kink of g inside its domain: on a path that crosses the kink one of
        them turns over. None where g has no such kink, or is not known to."""
        return None

    def carried(self, x: Tensor, t: Time, t_next: Time) -> Tensor:
        """Where the point ``x`` at t is at ``t_next`` if it rides on g; the motion of g is told from points around.

        Unless overridden it goes as the prox of x does, which shows how g moves on the side of x."""
        return x + (self.prox(x, 1.0, t_next) - self.prox(x, 1.0, t)) if self.moving else x

    def within_reach(self, x: Tensor, t: Time, z: Tensor, t_next: Time) -> Tensor:
        """Whether the step from ``x`` in C(t) to ``z``, whose prox is taken at ``t_next``, stays in the tube of radius
        ``reach``, (*batch,) bool: ‖z − x‖ and ‖z − prox z‖ are less than it. Always, where the reach is infinite."""
        if math.isinf(self.reach):
            return torch.ones(z.shape[:-1], dtype=torch.bool, device=z.device)
        return torch.maximum(*self._lengths(x, z, t_next)) < self.reach

    def refusal(self, x: Tensor, t: Time, z: Tensor, t_next: Time, h: float) -> str:
        """Why the step of length ``h`` of one sample, from ``x`` (d,) to ``z`` (d,), was not taken, and the remedy."""
        length = max((value for value in map(float, self._lengths(x, z, t_next)) if math.isfinite(value)), default=0.0)
        if math.isinf(self.reach) or length == 0.0:
            return "the prox of g returned a value that is not finite; check g.prox"
        return (f"the step of h = {h:g} leads {length:.4g} away from {self}, whose nearest point is unique only within "
                f"its reach {self.reach:g}; try h below {h * self.reach / length:.4g}")

    def _lengths(self, x: Tensor, z: Tensor, t_next: Time) -> tuple[Tensor, Tensor]:
        """How far the step goes and how far it ends from its prox."""
        return vector_norm(z - x, dim=-1), vector_norm(z - self.prox(z, 1.0, t_next), dim=-1)

    def __repr__(self) -> str:
        """The class (of a private one its public base) and its parameters; tensors of more than 16 entries by shape."""
        name = next(c.__name__ for c in type(self).__mro__ if not c.__name__.startswith("_"))
        fields = dataclasses.fields(self) if dataclasses.is_dataclass(self) else ()
        return f"{name}({', '.join(f'{f.name}={_words(getattr(self, f.name))}' for f in fields)})"


def _words(value: object) -> str:
    """A parameter for people."""
    if isinstance(value, Tensor):
        return str(value.tolist()) if value.numel() <= 16 else f"<tensor {tuple(value.shape)}>"
    return getattr(value, "__qualname__", repr(value))


class ConvexSet(ProxFunction):
    """A closed convex set C(t); as a function it is the indicator, so prox is the projection whatever the step."""

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """The nearest point of C(t)."""
        raise NotImplementedError(f"{type(self).__name__} must define project(x, t)")

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """The projection: an indicator does not see the step ``h``."""
        return self.project(x, t)

    def distance(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Euclidean distance from C(t), shape (*batch,)."""
        return vector_norm(x - self.project(x, t), dim=-1)

    def contains(self, x: Tensor, t: Time = 0.0, atol: float | None = None) -> Tensor:
        """Whether ``x`` is within ``atol`` of C(t), shape (*batch,); default 64 rounding units of its largest entry."""
        if atol is None:
            return self.distance(x, t) <= 64 * torch.finfo(x.dtype).eps * x.detach().abs().amax(-1).clamp_min(1)
        return self.distance(x, t) <= atol

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """0 in C(t), infinity outside."""
        return torch.where(self.contains(x, t), 0.0, torch.inf).to(x.dtype)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Distance of ``v`` from the normal cone at the point of C(t) nearest to ``x`` (rounding of x is no normal)."""
        return super().normal_distance(self.project(x.double(), t), v.double(), t).to(x.dtype)


def like(value: float | Tensor, x: Tensor) -> float | Tensor:
    """A parameter in the dtype and on the device of ``x``, so that it never promotes the state."""
    return value.to(x) if isinstance(value, Tensor) else value


def parameter(name: str, value: float | Tensor) -> Tensor:
    """A number or tensor as a tensor."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number or a torch.Tensor; got {value!r} of type {type(value).__name__}. "
                        f"Wrap it: torch.as_tensor(...).")
    return torch.tensor(float(value), dtype=torch.float64)


def require_nonnegative(name: str, value: float | Tensor) -> None:
    if not isinstance(value, Tensor):
        _check.number(name, value, at_least=0.0)
        return
    _check.finite(name, value)
    if bool((value < 0).any()):
        i = _check.first(value < 0)
        raise ValueError(f"{name} must be nonnegative; entry {i} is {float(value[i]):g}.")
