"""What a scheme is, and what its stability factor is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from ..fields import FieldFunction
from ..functions import ProxFunction

__all__ = ["Scheme", "StepConstants"]


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
