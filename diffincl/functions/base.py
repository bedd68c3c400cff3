"""What a function and a set are, and checks of their parameters."""

from __future__ import annotations

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
    3. ``coordinatewise = True`` only if prox acts on each coordinate alone: then it is nonexpansive in every ℓp.

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
