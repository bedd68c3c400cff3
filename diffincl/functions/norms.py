"""Norms as functions g: their prox shrinks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check
from .base import ProxFunction, Time, like, require_nonnegative

__all__ = ["L1", "L2"]


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
        require_nonnegative("weight", self.weight)

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """sign(x)·(|x| − h·weight)₊."""
        return x.sign() * torch.relu(x.abs() - h * like(self.weight, x))

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """weight·Σ|x_i|."""
        return (like(self.weight, x) * x.abs()).sum(-1)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: ∂g is weight·sign(x_i), the interval [−weight, weight] at 0."""
        weight = like(self.weight, x)
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
