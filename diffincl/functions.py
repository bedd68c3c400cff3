"""Prox-friendly convex functions g: write ``prox`` (a set writes ``project``), get the rest.

All operators act on the last dimension of ``x`` of shape (*batch, d), keep dtype and device, and pass NaN on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from . import _check

__all__ = ["L1", "L2", "Ball", "Box", "ConvexSet", "HalfSpace", "Orthant", "ProxFunction", "Simplex", "Whole"]

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


@dataclass(frozen=True, eq=False)
class Whole(ConvexSet):
    """The whole space: no constraint, so the inclusion is the ODE x' = −F."""

    coordinatewise = True

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """``x`` itself."""
        return x

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """‖v‖: the normal cone is {0}."""
        return vector_norm(v, dim=-1)


@dataclass(frozen=True, eq=False)
class Orthant(ConvexSet):
    """The nonnegative orthant {x : x_i >= 0}; its projection is ReLU.

    Examples
    --------
    >>> import torch
    >>> Orthant().project(torch.tensor([1.0, -2.0]))
    tensor([1., 0.])
    """

    coordinatewise = True

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """max(x, 0)."""
        return torch.relu(x)

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """max(x, 0)."""
        return torch.relu(x)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: v_i must be 0 where x_i > 0 and at most 0 where x_i = 0."""
        return vector_norm(torch.where(x > 0, v, torch.relu(v)), dim=-1)


@dataclass(frozen=True, eq=False)
class Box(ConvexSet):
    """The box {x : lower <= x <= upper}.

    Parameters
    ----------
    lower, upper : float or Tensor broadcasting against (*batch, d); ±inf leaves a side open.

    Raises
    ------
    ValueError
        If a bound is NaN or ``lower`` exceeds ``upper`` somewhere.

    Examples
    --------
    >>> import torch
    >>> Box(0.0, 1.0).project(torch.tensor([-1.0, 0.5, 3.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """

    lower: float | Tensor
    upper: float | Tensor
    coordinatewise = True

    def __post_init__(self) -> None:
        for name, bound, side in (("lower", self.lower, torch.inf), ("upper", self.upper, -torch.inf)):
            bound = _parameter(name, bound)
            if bool((bad := bound.isnan() | (bound == side)).any()):
                raise ValueError(f"{name} must not be NaN or {side:+g}; entry {_check.first(bad)} is. Use "
                                 f"{-side:+g} for no bound.")
        try:
            lower, upper = torch.broadcast_tensors(_parameter("lower", self.lower), _parameter("upper", self.upper))
        except RuntimeError as error:
            raise ValueError(f"lower and upper must broadcast; {error}. Give both the shape (d,).") from error
        if bool((lower > upper).any()):
            i = _check.first(lower > upper)
            raise ValueError(f"lower must not exceed upper; at index {i} lower is {float(lower[i]):g} and upper is "
                             f"{float(upper[i]):g}.")

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """min(max(x, lower), upper)."""
        lower, upper = _like(self.lower, x), _like(self.upper, x)
        if isinstance(lower, Tensor) or isinstance(upper, Tensor):
            lower, upper = torch.as_tensor(lower).to(x), torch.as_tensor(upper).to(x)
        return torch.clamp(x, lower, upper)  # type: ignore[arg-type]

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: v_i <= 0 is allowed at the lower bound, v_i >= 0 at the upper one."""
        free_down = torch.where(x > _like(self.lower, x), torch.relu(-v), 0.0)
        free_up = torch.where(x < _like(self.upper, x), torch.relu(v), 0.0)
        return vector_norm(free_down + free_up, dim=-1)


@dataclass(frozen=True, eq=False)
class Ball(ConvexSet):
    """The Euclidean ball {x : ‖x − center‖ <= radius}.

    Raises
    ------
    ValueError
        If ``radius`` is negative or not finite.

    Examples
    --------
    >>> import torch
    >>> Ball(radius=2.0).project(torch.tensor([3.0, 4.0]))
    tensor([1.2000, 1.6000])
    """

    radius: float = 1.0
    center: float | Tensor = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", _check.number("radius", self.radius, at_least=0.0))
        _check.finite("center", _parameter("center", self.center))

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """center + (x − center)·min(1, radius/‖x − center‖)."""
        center = _like(self.center, x)
        offset = x - center
        norm = vector_norm(offset, dim=-1, keepdim=True)
        if self.radius == 0.0:
            return offset * 0.0 + center
        return torch.where(norm > self.radius, center + offset * (self.radius / norm.clamp_min(self.radius)), x)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: ∂g(x) is the ray through x − center on the sphere, {0} inside (1e-9 or 64 rounding units of the radius
        count as the sphere)."""
        if self.radius == 0.0:
            return torch.zeros_like(v[..., 0])
        offset = x - _like(self.center, x)
        norm = vector_norm(offset, dim=-1, keepdim=True)
        normal = offset / norm.clamp_min(torch.finfo(x.dtype).tiny)
        slack = max(1e-9, 64 * torch.finfo(x.dtype).eps)
        outward = torch.relu((v * normal).sum(-1, keepdim=True)) * normal
        return vector_norm(torch.where(norm >= self.radius * (1 - slack), v - outward, v), dim=-1)


@dataclass(frozen=True, eq=False)
class HalfSpace(ConvexSet):
    """The half space {x : normal·x <= offset}.

    Parameters
    ----------
    normal : Tensor (d,), not zero
    offset : float

    Examples
    --------
    >>> import torch
    >>> HalfSpace(torch.tensor([1.0, 0.0]), 1.0).project(torch.tensor([3.0, 2.0]))
    tensor([1., 2.])
    """

    normal: Tensor
    offset: float

    def __post_init__(self) -> None:
        _check.finite("normal", _check.tensor("normal", self.normal))
        if self.normal.ndim != 1 or not bool(self.normal.any()):
            raise ValueError(f"normal must be a nonzero vector of shape (d,); got {_check.describe(self.normal)}.")
        object.__setattr__(self, "offset", _check.number("offset", self.offset))

    def _unit(self, x: Tensor) -> tuple[Tensor, float]:
        """The unit normal and the plane's distance from 0, computed in float64, the first in the dtype of ``x``."""
        if x.shape[-1] != len(self.normal):
            raise ValueError(f"x must have last dimension {len(self.normal)}, that of the normal; got "
                             f"{_check.describe(x)}.")
        normal = self.normal.detach().double()
        largest = normal.abs().max()
        size = vector_norm(normal / largest) * largest
        return (self.normal.double() / size).to(x), self.offset / float(size)

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """x − n·(n·x − offset/‖normal‖)₊ with the unit normal n."""
        unit, distance = self._unit(x)
        return x - torch.relu((x * unit).sum(-1, keepdim=True) - distance) * unit

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: ∂g(x) is the ray of ``normal`` on the plane, {0} inside."""
        unit, distance = self._unit(x)
        gap = distance - (x * unit).sum(-1, keepdim=True)
        outward = torch.relu((v * unit).sum(-1, keepdim=True)) * unit
        slack = max(1e-9, 64 * torch.finfo(x.dtype).eps) * (1 + vector_norm(x, dim=-1, keepdim=True))
        return vector_norm(torch.where(gap <= slack, v - outward, v), dim=-1)


@dataclass(frozen=True, eq=False)
class Simplex(ConvexSet):
    """The simplex {x : x_i >= 0, Σ x_i = total}.

    Examples
    --------
    >>> import torch
    >>> Simplex().project(torch.tensor([0.5, 0.5, 2.0]))
    tensor([0., 0., 1.])

    References
    ----------
    Held, Wolfe, Crowder, "Validation of subgradient optimization", 1974: the threshold found by sorting.
    """

    total: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", _check.number("total", self.total, above=0.0))

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """(x − θ)₊ with the θ that makes the sum ``total``; the largest entry is moved to 0 first."""
        x = x - x.detach().amax(-1, keepdim=True)
        ordered = x.sort(dim=-1, descending=True).values
        excess = ordered.cumsum(-1) - self.total
        rank = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
        support = (ordered * rank > excess).sum(-1, keepdim=True).clamp_min(1)
        return torch.relu(x - excess.gather(-1, support - 1) / support)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: ∂g(x) holds the n with n_i = c where x_i > 0 and n_i <= c where x_i = 0, c any number; the best c is a
        mean over the support and the largest of the other entries."""
        support = x > 0
        others = torch.where(support, -torch.inf, v).sort(dim=-1, descending=True).values
        total = torch.where(support, v, 0.0).sum(-1, keepdim=True)
        number = support.sum(-1, keepdim=True)
        totals = torch.cat([total, total + torch.where(others == -torch.inf, 0.0, others).cumsum(-1)], -1)
        levels = totals / (number + torch.arange(x.shape[-1] + 1, device=x.device)).clamp_min(1)
        c = levels.gather(-1, (others > levels[..., :-1]).long().cumprod(-1).sum(-1, keepdim=True))
        return vector_norm(torch.where(support, v - c, torch.relu(v - c)), dim=-1)


@dataclass(frozen=True, eq=False)
class L1(ProxFunction):
    """The weighted ℓ1 norm weight·Σ|x_i|; its prox is soft thresholding.

    Parameters
    ----------
    weight : float, or Tensor broadcasting against (*batch, d); nonnegative

    Examples
    --------
    >>> import torch
    >>> L1(2.0).prox(torch.tensor([3.0, -0.5]), h=0.5)
    tensor([2., -0.])
    """

    weight: float | Tensor = 1.0
    coordinatewise = True

    def __post_init__(self) -> None:
        _nonnegative("weight", self.weight)

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """sign(x)·(|x| − h·weight)₊."""
        return x.sign() * torch.relu(x.abs() - h * _like(self.weight, x))

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """weight·Σ|x_i|."""
        return (_like(self.weight, x) * x.abs()).sum(-1)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: ∂g is weight·sign(x_i), the interval [−weight, weight] at 0."""
        weight = _like(self.weight, x)
        return vector_norm(torch.where(x == 0, torch.relu(v.abs() - weight), v - weight * x.sign()), dim=-1)


@dataclass(frozen=True, eq=False)
class L2(ProxFunction):
    """The Euclidean norm weight·‖x‖ (not squared); its prox shortens the vector.

    Examples
    --------
    >>> import torch
    >>> L2().prox(torch.tensor([3.0, 4.0]), h=1.0)
    tensor([2.4000, 3.2000])
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", _check.number("weight", self.weight, at_least=0.0))

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """x·(1 − h·weight/‖x‖)₊."""
        norm = vector_norm(x, dim=-1, keepdim=True)
        shrunk = torch.relu(norm - h * self.weight)
        return x * (shrunk / norm.clamp_min(torch.finfo(x.dtype).tiny))

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """weight·‖x‖."""
        return self.weight * vector_norm(x, dim=-1)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: ∂g is weight·x/‖x‖, the ball of radius ``weight`` at 0."""
        norm = vector_norm(x, dim=-1, keepdim=True)
        away = vector_norm(v - self.weight * x / norm.clamp_min(torch.finfo(x.dtype).tiny), dim=-1)
        return torch.where(norm[..., 0] == 0, torch.relu(vector_norm(v, dim=-1) - self.weight), away)


def _like(value: float | Tensor, x: Tensor) -> float | Tensor:
    """A parameter in the dtype and on the device of ``x``, so that it never promotes the state."""
    return value.to(x) if isinstance(value, Tensor) else value


def _parameter(name: str, value: float | Tensor) -> Tensor:
    """A number or tensor as a tensor."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number or a torch.Tensor; got {value!r} of type {type(value).__name__}. "
                        f"Wrap it: torch.as_tensor(...).")
    return torch.tensor(float(value), dtype=torch.float64)


def _nonnegative(name: str, value: float | Tensor) -> None:
    if not isinstance(value, Tensor):
        _check.number(name, value, at_least=0.0)
        return
    _check.finite(name, value)
    if bool((value < 0).any()):
        i = _check.first(value < 0)
        raise ValueError(f"{name} must be nonnegative; entry {i} is {float(value[i]):g}.")
