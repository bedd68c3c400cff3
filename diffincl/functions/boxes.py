"""Sets whose projection acts on each coordinate alone: nonexpansive in every ℓp."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check
from .base import ConvexSet, Time, like, parameter

__all__ = ["Box", "Orthant", "Whole"]


@dataclass(frozen=True, eq=False, repr=False)
class Whole(ConvexSet):
    """The whole space: no constraint, so the inclusion is the ODE x' = −F."""

    coordinatewise = True
    polyhedral = True

    def bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bound in the dtype of ``x``."""
        return x.new_tensor(-torch.inf), x.new_tensor(torch.inf)

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """``x`` itself."""
        return x

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """‖v‖: the normal cone is {0}."""
        return vector_norm(v, dim=-1)


@dataclass(frozen=True, eq=False, repr=False)
class Orthant(ConvexSet):
    """The nonnegative orthant {x : x_i >= 0}; its projection is ReLU.

    Examples
    --------
    >>> import torch
    >>> Orthant().project(torch.tensor([1.0, -2.0]))
    tensor([1., 0.])
    """

    coordinatewise = True
    polyhedral = True

    def bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bound in the dtype of ``x``."""
        return x.new_tensor(0.0), x.new_tensor(torch.inf)

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """max(x, 0)."""
        return torch.relu(x)

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """max(x, 0)."""
        return torch.relu(x)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: v_i must be 0 where x_i > 0 and at most 0 where x_i = 0."""
        return vector_norm(torch.where(x > 0, v, torch.relu(v)), dim=-1)


@dataclass(frozen=True, eq=False, repr=False)
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
    polyhedral = True

    def __post_init__(self) -> None:
        for name, bound, side in (("lower", self.lower, torch.inf), ("upper", self.upper, -torch.inf)):
            bound = parameter(name, bound)
            if bool((bad := bound.isnan() | (bound == side)).any()):
                raise ValueError(f"{name} must not be NaN or {side:+g}; entry {_check.first(bad)} is. Use "
                                 f"{-side:+g} for no bound.")
        try:
            lower, upper = torch.broadcast_tensors(parameter("lower", self.lower), parameter("upper", self.upper))
        except RuntimeError as error:
            raise ValueError(f"lower and upper must broadcast; {error}. Give both the shape (d,).") from error
        if bool((lower > upper).any()):
            i = _check.first(lower > upper)
            raise ValueError(f"lower must not exceed upper; at index {i} lower is {float(lower[i]):g} and upper is "
                             f"{float(upper[i]):g}.")

    def bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bound in the dtype of ``x``."""
        return torch.as_tensor(self.lower).to(x), torch.as_tensor(self.upper).to(x)

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """min(max(x, lower), upper)."""
        lower, upper = like(self.lower, x), like(self.upper, x)
        if isinstance(lower, Tensor) or isinstance(upper, Tensor):
            lower, upper = (torch.as_tensor(bound, dtype=x.dtype, device=x.device) for bound in (lower, upper))
        return torch.clamp(x, lower, upper)  # type: ignore[arg-type]

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: v_i <= 0 is allowed at the lower bound, v_i >= 0 at the upper one."""
        free_down = torch.where(x > like(self.lower, x), torch.relu(-v), 0.0)
        free_up = torch.where(x < like(self.upper, x), torch.relu(v), 0.0)
        return vector_norm(free_down + free_up, dim=-1)
