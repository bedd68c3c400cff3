"""What the loop with a step length per sample asks of a scheme.

A *stepper* is a scheme bound to a flow on an interval [a, b] without knots. All its tensors have batch dimensions in
front; times and step lengths have shape (*batch, 1) in float64, and h = 0 marks a sample that waits.

1. ``start(t, x)`` is the mode (a NamedTuple of tensors (*batch, n)) in which every sample begins;
2. ``attempt(t, h, x, mode, tolerance)`` tries a step of every sample, without gradients, and returns an ``Attempt``,
   which may end before t + h, at a switch;
3. ``advance(t, attempt.segment.span, attempt.theta, x, attempt.taken)`` takes an accepted step again, differentiably;
4. ``of(who)`` is the same for some entries of the first ``lead`` dimensions of the batch, counted through, which become
   one: the others may leave. ``lead`` is 0 where F needs the whole batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor

from ..fields import Field, Pieces, ResNetField
from .modes import Bounds, Segment

__all__ = ["Attempt", "Stepper", "Tolerance", "leading"]


class Tolerance(NamedTuple):
    """How large a local error may be: atol + rtol·max(|x|, |x_next|), entry by entry."""

    rtol: float
    atol: float

    def scale(self, x: Tensor, x_next: Tensor) -> Tensor:
        """The error allowed in a step from ``x`` to ``x_next``."""
        return self.atol + self.rtol * x.abs().maximum(x_next.abs())


class Attempt(NamedTuple):
    """One tried step of every sample.

    ``x`` the state at the end, which is at ``theta`` (*batch, 1) of the ``segment``; ``ratio`` (*batch, 1) the error in
    units of the tolerance, accepted up to 1; ``taken`` the mode of the step, ``mode`` the one after it.
    """

    x: Tensor
    theta: Tensor
    ratio: Tensor
    taken: Any
    mode: Any
    segment: Segment


class Stepper(Protocol):
    """A scheme bound to a flow on an interval without knots; see the module."""

    error_order: int
    lead: int

    def start(self, t: Tensor, x: Tensor) -> Any: ...

    def attempt(self, t: Tensor, h: Tensor, x: Tensor, mode: Any, tolerance: Tolerance | None) -> Attempt: ...

    def advance(self, t: Tensor, span: Tensor, theta: Tensor, x: Tensor, mode: Any) -> tuple[Tensor, Segment]: ...

    def of(self, who: Tensor) -> Stepper: ...


def leading(field: Field, pieces: Pieces | None, bounds: Bounds, x: Tensor) -> int:
    """Along how many of the first dimensions of the batch samples may leave: all, those of an ensemble, or none."""
    if not isinstance(field, ResNetField) or max(bounds.lower.ndim, bounds.upper.ndim) > 1:
        return 0
    return x.ndim - 1 if not field.ensemble else 0 if pieces is None else len(field.ensemble)
