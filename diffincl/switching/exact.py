"""The exact flow of a piecewise affine inclusion: matrix exponentials between located switches."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from ..fields import FieldFunction, Pieces, ResNetField
from ..inclusion import Inclusion
from .attempt import Attempt, Tolerance, leading
from .modes import SLACK, Bounds, Mode, Segment, after_switching, bounds_of, first_switch, mode_at, pinned, snapped
from .polynomials import evaluate

__all__ = ["ExactFlow"]

# Terms of the exponential series. A step is no longer than 1/(‖A1‖‖A2‖), so the first one left out is at most 1/21!.
TERMS = 20


@dataclass(frozen=True)
class ExactFlow:
    """The flow itself for piecewise constant weights on orthant, box or the whole space: the reference for all else.

    With the pattern of the inner ReLU and the set of resting coordinates fixed the inclusion is the linear ODE
    x' = −M(Gx + c) with M the mask of free coordinates, whose solution is a matrix exponential. It is applied to the
    state as a series, truncated below rounding, up to the first switch; there the pattern or the active set changes and
    the next exponential starts. Takes no ``steps``.

    Raises
    ------
    ValueError
        By ``solve``, for a field that is not piecewise affine (a callable, or weights linear in time) or another set.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> A, zero = torch.eye(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    >>> flow = di.Inclusion(di.ResNetSField(A, zero, zero), di.Orthant())  # x' = −x
    >>> di.solve(flow, torch.ones(1, dtype=torch.float64), [0.0, 1.0], scheme=ExactFlow()).x[-1]
    tensor([0.3679], dtype=torch.float64)

    References
    ----------
    theory §6, last paragraph.
    """

    name = "ExactFlow"

    def on(self, flow: Inclusion, a: float, b: float, F: FieldFunction, x: Tensor) -> _Exact:
        """The stepper on an interval [a, b] between two knots; ``F`` is called for every value of the field."""
        field = flow.field
        if not isinstance(field, ResNetField) or field.time_dependent_within_a_step:
            got = type(field).__name__ + (" with linear ones" if isinstance(field, ResNetField) else "")
            raise ValueError(f"ExactFlow needs a ResNet field with constant or piecewise constant weights; got {got}. "
                             f"Use SwitchingDP5(), or sample the curves: curve.sample(n).")
        bounds, pieces = bounds_of(flow.g, x, self.name), field.pieces_on(a, b)
        return _Exact(F, bounds, pieces, leading(field, pieces, bounds, x))


class _Exact:
    """ExactFlow on an interval without knots."""

    error_order = 1

    def __init__(self, F: FieldFunction, bounds: Bounds, pieces: Pieces, lead: int):
        self.F, self.bounds, self.pieces, self.lead = F, bounds, pieces, lead
        A1, _, A2, _ = (w.detach() for w in pieces.start)
        self.speed = (torch.linalg.matrix_norm(A1, ord=2) * torch.linalg.matrix_norm(A2, ord=2)).double()

    def of(self, who: Tensor) -> _Exact:
        """The same for some of the samples."""
        some = copy(self)
        some.pieces, some.lead = self.pieces.of(who), 1
        some.speed = self.speed.flatten()[who] if self.speed.ndim else self.speed
        return some

    def start(self, t: Tensor, x: Tensor) -> Mode:
        """Resting coordinates and units that are on, from the state alone."""
        units = self.pieces.preactivation(t, x) > 0
        return mode_at(x, -self.F.frozen(self.pieces, t, x, units), self.bounds, units)

    def _series(self, t: Tensor, h: Tensor, x: Tensor, mode: Mode) -> Segment:
        """Taylor coefficients of x(t + θh) and of −F(x(t + θh))."""
        free, h_ = mode.free.to(x), h.to(x)
        X, V = [x], [-self.F.frozen(self.pieces, t, x, mode.units)]
        for k in range(1, TERMS + 1):
            X.append(free * h_ * V[-1] / k)
            V.append(-self.pieces.linear(X[-1], mode.units))
        return Segment(h, torch.stack(X, -2), torch.stack(V, -2), ~mode.free)

    def attempt(self, t: Tensor, h: Tensor, x: Tensor, mode: Mode, tolerance: Tolerance | None) -> Attempt:
        """Up to the first switch, or as far as the series reaches."""
        speed = self.speed.reshape(*self.speed.shape, *[1] * (h.ndim - self.speed.ndim))
        span = torch.minimum(h, 1 / speed)
        segment = self._series(t, span, x, mode)
        slack = SLACK * torch.finfo(x.dtype).eps * (1 + x.abs())
        x_next, theta, taken = first_switch(t, mode, segment, self.bounds, self.pieces, slack)
        v = evaluate(segment.V, theta.to(x), dim=-2)
        ratio = torch.where(x_next.isfinite().all(-1, keepdim=True), 0.0, torch.nan).to(x)
        after = after_switching(taken, x_next, v, self.bounds, segment, slack)
        return Attempt(x_next, theta, ratio, taken, after, segment)

    def advance(self, t: Tensor, span: Tensor, theta: Tensor, x: Tensor, mode: Mode) -> tuple[Tensor, Segment]:
        """An accepted step again, for its derivatives."""
        x = pinned(mode, x, self.bounds)
        segment = self._series(t, span, x, mode)
        return snapped(mode, segment.state(theta), self.bounds), segment
