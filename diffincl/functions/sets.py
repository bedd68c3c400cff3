"""Sets whose projection mixes the coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check
from .base import ConvexSet, Time, like, parameter

__all__ = ["Ball", "HalfSpace", "Simplex"]


@dataclass(frozen=True, eq=False, repr=False)
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
        _check.finite("center", parameter("center", self.center))

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """center + (x − center)·min(1, radius/‖x − center‖)."""
        center = like(self.center, x)
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
        offset = x - like(self.center, x)
        norm = vector_norm(offset, dim=-1, keepdim=True)
        normal = offset / norm.clamp_min(torch.finfo(x.dtype).tiny)
        slack = max(1e-9, 64 * torch.finfo(x.dtype).eps)
        outward = torch.relu((v * normal).sum(-1, keepdim=True)) * normal
        return vector_norm(torch.where(norm >= self.radius * (1 - slack), v - outward, v), dim=-1)


@dataclass(frozen=True, eq=False, repr=False)
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
    polyhedral = True

    def __post_init__(self) -> None:
        _check.finite("normal", _check.tensor("normal", self.normal))
        if self.normal.ndim != 1 or not bool(self.normal.any()):
            raise ValueError(f"normal must be a nonzero vector of shape (d,); got {_check.describe(self.normal)}.")
        object.__setattr__(self, "offset", _check.number("offset", self.offset))

    def _unit(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The unit normal and the plane's distance from 0, computed in float64, in the dtype of ``x``."""
        if x.shape[-1] != len(self.normal):
            raise ValueError(f"x must have last dimension {len(self.normal)}, that of the normal; got "
                             f"{_check.describe(x)}.")
        normal = self.normal.double()
        largest = normal.detach().abs().max()
        size = vector_norm(normal / largest) * largest
        return (normal / size).to(x), (self.offset / size).to(x)

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


@dataclass(frozen=True, eq=False, repr=False)
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
    polyhedral = True

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
