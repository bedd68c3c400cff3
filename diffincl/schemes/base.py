"""What a scheme is, and what its stability factor is made of."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor

from ..fields import FieldFunction
from ..functions import ProxFunction

__all__ = ["Embedded", "Scheme", "StepConstants"]


@dataclass(frozen=True)
class StepConstants:
    """Constants of F on one step [t, t + h], float64 tensors that broadcast against the sizes they bound.

    ``euler``, ``euler_next``, ``euler_inside``: Lipschitz factors of x − hF(s, x) at s = t, at t + h and at every s in
    the step; ``lipschitz``: Lipschitz constant of F in x throughout the step; ``one_sided_next``: μ at t + h;
    ``drift``, ``drift_next``, ``drift_inside``: ‖F(s, 0)‖ likewise.
    """

    h: float
    euler: Tensor
    euler_next: Tensor
    euler_inside: Tensor
    lipschitz: Tensor
    one_sided_next: Tensor
    drift: Tensor
    drift_next: Tensor
    drift_inside: Tensor

    def meet(self, size: Tensor) -> StepConstants:
        """The constants, one a network, with dimensions added behind so that they meet a batch of sizes."""
        constants = (getattr(self, field.name) for field in fields(self)[1:])
        return StepConstants(self.h, *(c.reshape((*c.shape, *[1] * (size.ndim - c.ndim))) for c in constants))


class Embedded(NamedTuple):
    """One step with an estimate of its error; ``h`` may differ from sample to sample.

    Attributes
    ----------
    x : Tensor (*batch, d)
        The state after the step.
    z : Tensor (*batch, d)
        The argument of its last prox, x = prox(z) with step ``prox_step``.
    error : Tensor (*batch, d)
        Estimate of the local error.
    displacement : Tensor (*batch, d)
        The largest |prox argument − prox value| met in the step; no gradient.
    prox_step : Tensor (*batch, 1)
        Step of the last prox, so that (z − x)/prox_step is the multiplier where h > 0.
    free : Tensor (2, *batch, d)
        The integrals of −F over the first half of the step and over all of it: where x would go without g; no gradient.
    """

    x: Tensor
    z: Tensor
    error: Tensor
    displacement: Tensor
    prox_step: Tensor
    free: Tensor


class Scheme(Protocol):
    """What ``solve`` and the discrete bounds ask of a scheme."""

    prox_fraction: ClassVar[float]
    failure: ClassVar[str]

    @property
    def order(self) -> int: ...

    def step(self, F: FieldFunction, g: ProxFunction, t: Tensor, t_next: Tensor, h: float,
             x: Tensor) -> tuple[Tensor, Tensor]: ...

    def bound(self, size: Tensor, c: StepConstants) -> Tensor: ...
