"""Dormand–Prince 5(4) that locates every contact, release and kink."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..fields import FieldFunction, Pieces, ResNetField
from ..inclusion import Inclusion
from .attempt import Attempt, Tolerance, leading
from .modes import SLACK, Bounds, Mode, Segment, after_switching, bounds_of, first_switch, mode_at, pinned, snapped

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

# What a step needs of its seven stages, a row each: the continuous extension (θ¹ … θ⁴), the error of the end, and the
# continuous extension and its derivative in the middle (θ = 1/2).
NEEDED = (*zip(*P, strict=True), E, tuple(sum(p / 2 ** (k + 1) for k, p in enumerate(row)) for row in P),
          tuple(sum((k + 1) * p / 2**k for k, p in enumerate(row)) for row in P))

# A free coordinate may dip below its bound by this share of the tolerance without a hit.
DIP_SHARE = 0.01

# The part of (step)·(defect of the dense output in the middle) that counts as error of the dense output.
DEFECT_SHARE = 0.2


@dataclass(frozen=True)
class SwitchingDP5:
    """Dormand–Prince 5(4) between located switches: order 5 through contact with orthant and box, step by sample.

    Every sample has its own time, step and active set. In a step the resting coordinates are held; the dense output of
    the *unmasked* −F gives their multiplier without further evaluations. Where along the step a free coordinate leaves
    the box, a multiplier changes sign or a hidden unit changes state, the step ends, the coordinate is put exactly on
    its bound, and the sample goes on in its new piece. Errors are those of the unmasked field, at the end of the step
    and of the dense output: one more evaluation in the middle checks its derivative, without which a switch that the
    dense output misplaces would go unnoticed.

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
    Grazing hits and hits at a knot of the weights are not differentiable. Samples that have arrived are no longer
    evaluated where F is a library field; other callables see the whole batch until the sample with most steps is
    done. With very many coordinates that switch at different times ``ProxHeun`` can be cheaper.

    References
    ----------
    Dormand, Prince, "A family of embedded Runge–Kutta formulae", 1980; Shampine, "Some practical Runge–Kutta formulas",
    1986 (continuous extension); theory §6.
    """

    kinks: bool = True
    name = "SwitchingDP5"

    def on(self, flow: Inclusion, a: float, b: float, F: FieldFunction, x: Tensor) -> _DP5:
        """The stepper on an interval [a, b] between two knots; ``F`` is called for every value of the field."""
        pieces = flow.field.pieces_on(a, b) if self.kinks and isinstance(flow.field, ResNetField) else None
        bounds = bounds_of(flow.g, x, self.name)
        return _DP5(F, bounds, pieces, leading(flow.field, pieces, bounds, x))


class _DP5:
    """SwitchingDP5 on an interval without knots."""

    error_order = 5

    def __init__(self, F: FieldFunction, bounds: Bounds, pieces: Pieces | None, lead: int):
        self.F, self.bounds, self.pieces, self.lead = F, bounds, pieces, lead

    def of(self, who: Tensor) -> _DP5:
        """The same for some of the samples."""
        return _DP5(self.F, self.bounds, None if self.pieces is None else self.pieces.of(who), 1)

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

    def _step(self, t: Tensor, h: Tensor, x: Tensor, mode: Mode) -> tuple[Segment, Tensor, tuple[Tensor, ...]]:
        """The dense output of a step with the resting coordinates held, −F at its end, and what checks it: the error of
        the end, and of the dense output in the middle its state and the velocity it has there."""
        h_, V = h.to(x), [mode.v]
        step, times = h_ * mode.free, t + h * h.new_tensor((*C[1:], 1))
        for s, row in zip(times.split(1, -1), (*A[1:], B), strict=True):
            V.append(self._velocity(s, torch.addcmul(x, step, _combine(row, V)), mode.units))
        needed = _products(torch.tensor(NEEDED, dtype=x.dtype, device=x.device), torch.stack(V))
        slopes, (error, middle, v_middle) = needed[:4], needed[4:]
        X = torch.cat([x.unsqueeze(0), step * slopes])
        degrees = torch.arange(1.0, 5.0, dtype=x.dtype, device=x.device).reshape(-1, *[1] * x.ndim)
        segment = Segment(h, X.movedim(0, -2), (slopes * degrees).movedim(0, -2), ~mode.free)
        return segment, V[-1], (h_ * error, torch.addcmul(x, step, middle), v_middle)

    def attempt(self, t: Tensor, h: Tensor, x: Tensor, mode: Mode, tolerance: Tolerance | None) -> Attempt:
        """A step in the present mode, up to the first switch in it."""
        segment, v, (error, x_middle, v_middle) = self._step(t, h, x, mode)
        scale = torch.ones_like(x) if tolerance is None else tolerance.scale(x, segment.X.sum(-2))
        defect = self._velocity(t + 0.5 * h, x_middle, mode.units) - v_middle
        error = torch.maximum(error.abs(), DEFECT_SHARE * h.to(x) * defect.abs())
        ratio = (error / scale).amax(-1, keepdim=True)
        if tolerance is None:
            ratio = torch.where(ratio.isfinite(), 0.0, ratio)
        dip = DIP_SHARE * scale if tolerance else SLACK * torch.finfo(x.dtype).eps * (1 + x.abs())
        x_next, theta, taken = first_switch(t, mode, segment, self.bounds, self.pieces, dip)
        if not bool(taken.due.any()):
            return Attempt(x_next, theta, ratio, taken, taken._replace(v=v), segment)
        v_switch = self._velocity(t + theta * h, x_next, mode.units)
        v = torch.where(taken.due.any(-1, keepdim=True), v_switch, v)
        after = after_switching(taken, x_next, v, self.bounds, segment, dip)
        return Attempt(x_next, theta, ratio, taken, after, segment)

    def advance(self, t: Tensor, span: Tensor, theta: Tensor, x: Tensor, mode: Mode) -> tuple[Tensor, Segment]:
        """An accepted step again, for its derivatives."""
        x = pinned(mode, x, self.bounds)
        segment, _, _ = self._step(t, span, x, mode._replace(v=self._velocity(t, x, mode.units)))
        return snapped(mode, segment.state(theta), self.bounds), segment


def _combine(weights: tuple[float, ...], V: list[Tensor]) -> Tensor:
    """Σ_j weights_j V_j, without the zero terms."""
    (first, v), *terms = [(w, v) for w, v in zip(weights, V, strict=True) if w != 0]
    total = first * v
    for w, v in terms:
        total = torch.add(total, v, alpha=w)
    return total


def _products(rows: Tensor, V: Tensor) -> Tensor:
    """Σ_j rows_kj V_j for every k, in the precision of V whatever autocast says."""
    with torch.autocast(V.device.type, enabled=False):
        return (rows @ V.flatten(1)).unflatten(1, V.shape[1:])
