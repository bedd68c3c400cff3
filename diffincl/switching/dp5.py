"""Dormand–Prince 5(4) that locates every contact, release and kink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..fields import FieldFunction, Pieces, ResNetField
from ..inclusion import Inclusion
from .attempt import Attempt, Tolerance
from .modes import TOGETHER, Bounds, Mode, Segment, after_switching, bounds_of, first_switches, mode_at, snapped
from .polynomials import evaluate

__all__ = ["SwitchingDP5"]

# Stage times, stages, weights, error weights and the continuous extension of order 4 (row: stage, column: θ¹ … θ⁴).
C = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1)
A = ((), (1 / 5,), (3 / 40, 9 / 40), (44 / 45, -56 / 15, 32 / 9),
     (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
     (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656))
B = (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
E = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
P = ((1, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432),
     (0, 0, 0, 0),
     (0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799),
     (0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072),
     (0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632),
     (0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844),
     (0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423))

# A located hit may be off by this share of the tolerance, and a free coordinate may dip below its bound by that share.
HIT_SHARE, DIP_SHARE = 0.1, 0.01

# The part of (step)·(defect of the dense output in the middle) that counts as error of the dense output.
DEFECT_SHARE = 0.2

# The tolerance, in units of eps, to which hits are located when the steps are fixed.
FIXED = 1e4


@dataclass(frozen=True)
class SwitchingDP5:
    """Dormand–Prince 5(4) between located switches: order 5 through contact with orthant and box, step by sample.

    Every sample has its own time, step and active set. In a step the resting coordinates are held; the dense output of
    the *unmasked* −F gives their multiplier without further evaluations. When along the step a free coordinate leaves
    the box, a multiplier changes sign or a hidden unit changes state, the step is repeated up to there, the coordinate
    is put exactly on its bound, and the sample goes on in its new piece. The error estimate is that of the unmasked
    field.

    Parameters
    ----------
    kinks : bool
        Locate the ReLU kinks of library fields, too; without it they cap the accuracy. Those of other fields are not
        known.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> flow = di.Inclusion(lambda t, x: torch.cos(t).expand_as(x), di.Orthant())  # hit at π/6, leave at π/2
    >>> sol = di.solve(flow, torch.tensor([0.5], dtype=torch.float64), [0.0, 3.0], scheme=SwitchingDP5())
    >>> sol.switches.t, [switch.kind for switch in sol.switches.of()]
    (tensor([0.5236, 1.5708], dtype=torch.float64), ['hit lower', 'leave lower'])

    Notes
    -----
    Gradients: switch times are found without gradients and coordinates that arrive are set to their bound, which is
    exact for transversal hits, leaves and kinks (the saltation matrix is I − e_i e_iᵀ at a hit and I otherwise).
    Grazing hits and hits at a knot of the weights are not differentiable. The cost of a batch is that of the sample
    with most steps; with very many coordinates that switch at different times ``ProxHeun`` can be cheaper.

    References
    ----------
    Dormand, Prince, "A family of embedded Runge–Kutta formulae", 1980; Shampine, "Some practical Runge–Kutta formulas",
    1986 (continuous extension); theory §6.
    """

    kinks: bool = True
    order: ClassVar[int] = 5
    name: ClassVar[str] = "SwitchingDP5"
    adaptive: ClassVar[bool] = True

    def on(self, flow: Inclusion, a: float, b: float, F: FieldFunction, x: Tensor) -> _DP5:
        """The stepper on an interval [a, b] between two knots; ``F`` is called for every value of the field."""
        pieces = flow.field.pieces_on(a, b) if self.kinks and isinstance(flow.field, ResNetField) else None
        return _DP5(F, bounds_of(flow.g, x, self.name), pieces)


class _Step(NamedTuple):
    """A step before its end is put on the bounds: the stages, the end, the way."""

    V: list[Tensor]
    end: Tensor
    h: Tensor


class _DP5:
    """SwitchingDP5 on an interval without knots."""

    error_order, failure = 5, "F was not finite"

    def __init__(self, F: FieldFunction, bounds: Bounds, pieces: Pieces | None):
        self.F, self.bounds, self.pieces = F, bounds, pieces

    def _velocity(self, t: Tensor, x: Tensor, units: Tensor) -> Tensor:
        if self.pieces is None:
            return -self.F(t.to(x), x)
        return -self.F.frozen(self.pieces, t, x, units)

    def start(self, t: Tensor, x: Tensor) -> Mode:
        """Resting coordinates and units that are on, from the state alone."""
        units = x.new_zeros((*x.shape[:-1], 0), dtype=torch.bool)
        if self.pieces is not None:
            units = self.pieces.preactivation(t, x) > 0
        return mode_at(x, self._velocity(t, x, units), self.bounds, units)

    def _step(self, t: Tensor, h: Tensor, x: Tensor, mode: Mode) -> _Step:
        """The stages of a step with the resting coordinates held, and where it ends."""
        h_, free = h.to(x), mode.free.to(x)
        V = [mode.v]
        for c, row in zip(C[1:], A[1:], strict=True):
            V.append(self._velocity(t + c * h, x + h_ * free * _combine(row, V), mode.units))
        return _Step(V, x + h_ * free * _combine(B, V), h_)

    def _land(self, t: Tensor, x: Tensor, step: _Step, mode: Mode) -> tuple[Tensor, Tensor, Segment]:
        """The end put on the bounds, the velocity there, and the way."""
        x_next = snapped(mode, mode.due, step.end, self.bounds)
        V = [*step.V, self._velocity(t, x_next, mode.units)]
        slopes = torch.stack([_combine([row[k] for row in P], V) for k in range(4)], -2)
        ways = torch.cat([x.unsqueeze(-2), (step.h * mode.free).unsqueeze(-2) * slopes], -2)
        rates = slopes * torch.arange(1.0, 5.0, dtype=x.dtype, device=x.device).unsqueeze(-1)
        return x_next, V[-1], Segment(step.h.double(), ways, rates, ~mode.free)

    def attempt(self, t: Tensor, h: Tensor, x: Tensor, mode: Mode, tolerance: Tolerance | None) -> Attempt:
        """A step with the present mode; a switch inside it asks for a shorter one."""
        step = self._step(t, h, x, mode)
        tiny = FIXED * torch.finfo(x.dtype).eps
        scale = (tolerance or Tolerance(tiny, tiny)).scale(x, step.end)
        mode = mode._replace(due=mode.due & ~self._astray(step.end, mode, scale))
        x_next, v, segment = self._land(t + h, x, step, mode)
        error = torch.maximum(_combine(E, [*step.V, v]).abs(), DEFECT_SHARE * self._defect(t, h, segment, mode).abs())
        ratio = (step.h * error / scale).amax(-1, keepdim=True)
        if tolerance is None:
            ratio = torch.where(ratio.isfinite(), 0.0, ratio)
        theta = first_switches(t, mode, segment, self.bounds, self.pieces, DIP_SHARE * scale)
        first = theta.amin(-1, keepdim=True)
        again = torch.where((ratio <= 1) & (first <= 1), first * h, torch.nan)
        due = (theta <= first + TOGETHER) | (mode.due & (first >= 1 - TOGETHER))
        after = after_switching(mode, mode.due, x_next, v, self.bounds)
        return Attempt(x_next, h, ratio, mode, after, again, mode._replace(due=due), segment)

    def _defect(self, t: Tensor, h: Tensor, segment: Segment, mode: Mode) -> Tensor:
        """How far the derivative of the dense output is from −F at the middle of the step."""
        half = torch.full_like(h, 0.5)
        v = self._velocity(t + 0.5 * h, segment.state(half), mode.units)
        return v - evaluate(segment.V, half.to(v), dim=-2)

    def _astray(self, end: Tensor, mode: Mode, scale: Tensor) -> Tensor:
        """Coordinates that are due to arrive but are not at a bound: they go on as if they were not due."""
        gap = torch.minimum((end - self.bounds.lower).abs(), (end - self.bounds.upper).abs())
        astray = mode.free & (gap > HIT_SHARE * scale)
        return torch.nn.functional.pad(astray, (0, mode.units.shape[-1]))

    def forget(self, mode: Mode) -> Mode:
        """The mode without what is due, for a step that ends elsewhere."""
        return mode._replace(due=torch.zeros_like(mode.due))

    def advance(self, t: Tensor, length: Tensor, x: Tensor, mode: Mode) -> tuple[Tensor, Segment]:
        """An accepted step again, for its derivatives."""
        mode = mode._replace(v=self._velocity(t, x, mode.units))
        x_next, _, segment = self._land(t + length, x, self._step(t, length, x, mode), mode)
        return x_next, segment


def _combine(weights: tuple[float, ...] | list[float], V: list[Tensor]) -> Tensor:
    """Σ_j weights_j V_j, without the zero terms."""
    terms = [w * v for w, v in zip(weights, V, strict=False) if w != 0]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
