"""A set that is not convex but has a unique nearest point in a tube around it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check
from .base import ProxFunction, Time, like, parameter

__all__ = ["OutsideBall"]


@dataclass(frozen=True, eq=False, repr=False)
class OutsideBall(ProxFunction):
    """The outside of a ball, {x : ‖x − center‖ >= radius}: prox-regular with reach = radius, not convex.

    Parameters
    ----------
    radius : float, positive
    center : float, or Tensor broadcasting against (*batch, d)

    Examples
    --------
    >>> import torch
    >>> OutsideBall(2.0).prox(torch.tensor([[0.0, 1.0], [3.0, 0.0]]), h=1.0)
    tensor([[0., 2.],
            [3., 0.]])

    Notes
    -----
    At the centre every point of the sphere is nearest: its projection is NaN.
    """

    radius: float = 1.0
    center: float | Tensor = 0.0
    convex = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", _check.number("radius", self.radius, above=0.0))
        _check.finite("center", parameter("center", self.center))

    @property
    def reach(self) -> float:  # type: ignore[override]
        """The radius."""
        return self.radius

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """center + (x − center)·max(1, radius/‖x − center‖)."""
        offset = x - like(self.center, x)
        norm = vector_norm(offset, dim=-1, keepdim=True)
        longer = like(self.center, x) + offset * (self.radius / torch.where(norm == 0, torch.nan, norm))
        return torch.where(norm >= self.radius, x, longer)

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """The projection: an indicator does not see the step ``h``."""
        return self.project(x, t)

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """0 outside the open ball (within 64 rounding units of the largest entry), infinity in it."""
        room = 64 * torch.finfo(x.dtype).eps * x.detach().abs().amax(-1).clamp_min(1)
        depth = self.radius - vector_norm(x - like(self.center, x), dim=-1)
        return torch.where(depth <= room, 0.0, torch.inf).to(x.dtype)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: the normal cone is the ray towards the centre on the sphere (1e-9 or 64 rounding units of the radius
        count as the sphere), {0} outside."""
        offset = x - like(self.center, x)
        norm = vector_norm(offset, dim=-1, keepdim=True)
        inward = -offset / norm
        slack = max(1e-9, 64 * torch.finfo(x.dtype).eps)
        normal = torch.relu((v * inward).sum(-1, keepdim=True)) * inward
        return vector_norm(torch.where(norm <= self.radius * (1 + slack), v - normal, v), dim=-1)
