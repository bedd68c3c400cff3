"""What the loop with a step length per sample asks of a scheme.

A *stepper* is a scheme bound to a flow on an interval [a, b] without knots. All its tensors have batch dimensions in
front; times and step lengths have shape (*batch, 1) in float64, and h = 0 marks a sample that waits.

1. ``start(t, x)`` is the mode (a NamedTuple of tensors (*batch, n), or ()) in which every sample begins;
2. ``attempt(t, h, x, mode, tolerance)`` tries a step of every sample, without gradients, and returns an ``Attempt``;
3. ``forget(mode)`` is the mode for a step other than the one asked for to end at a switch;
4. ``advance(t, length, x, mode)`` repeats an accepted attempt differentiably: state and segment.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor

from .modes import Segment

__all__ = ["Attempt", "Stepper", "Tolerance"]


class Tolerance(NamedTuple):
    """How large a local error may be: atol + rtol·max(|x|, |x_next|), entry by entry."""

    rtol: float
    atol: float

    def scale(self, x: Tensor, x_next: Tensor) -> Tensor:
        """The error allowed in a step from ``x`` to ``x_next``."""
        return self.atol + self.rtol * x.abs().maximum(x_next.abs())


class Attempt(NamedTuple):
    """One tried step of every sample.

    ``x`` the state at t + ``length``; ``ratio`` (*batch, 1) the error in units of the tolerance, accepted up to 1;
    ``taken`` the mode of the step, for ``advance``, and ``mode`` the one after it; ``again`` (*batch, 1) the step to
    try instead, with ``again_mode``, because a switch was located at its end (NaN where not); ``segment`` the way.
    """

    x: Tensor
    length: Tensor
    ratio: Tensor
    taken: Any
    mode: Any
    again: Tensor
    again_mode: Any
    segment: Segment


class Stepper(Protocol):
    """A scheme bound to a flow on an interval without knots; see the module."""

    error_order: int

    def start(self, t: Tensor, x: Tensor) -> Any: ...

    def attempt(self, t: Tensor, h: Tensor, x: Tensor, mode: Any, tolerance: Tolerance | None) -> Attempt: ...

    def forget(self, mode: Any) -> Any: ...

    def advance(self, t: Tensor, length: Tensor, x: Tensor, mode: Any) -> tuple[Tensor, Segment]: ...
