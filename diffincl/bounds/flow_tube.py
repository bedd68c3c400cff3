"""R7 along the exact flow: the ball around a trajectory that holds all that start near it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import norms
from ..fields import Weights
from ..functions import Box, Orthant, Whole
from ..inclusion import Inclusion
from ..rates.known import known_product, tube_multiplier, tube_rate
from ..steps import Fixed, Plan, plan
from .middle import Path, Segment, follow
from .pieces import DISTANCE, Bound, Pieces, pieces_of, require_hypothesis
from .tube import radius_of, require_one_network

__all__ = ["flow_tube"]

FINENESS = 8  # pieces for every unit of the integral of the Lipschitz constant, if nobody says how many
FEWEST = 8  # between two stops


def flow_tube(flow: Inclusion, t: Tensor | list[float], x0: Tensor, radius: float | Tensor, *,
              steps: Fixed | None = None) -> Bound:
    """‖x(t) − y(t)‖ from above for the exact flow started at ``x0`` and at any y0 within ``radius`` of it (R7).

    Parameters
    ----------
    flow : Inclusion
        With a ResNet field without ensemble, on the orthant, a box or the whole space.
    t : Tensor (T,)
    x0 : Tensor (*batch, d)
        Starts of the trajectories in the middle of the tubes.
    radius : float or Tensor (*batch,), nonnegative
    steps : Fixed, optional
        Pieces of the time axis on which the pattern of the hidden units is looked at: finer ones give a smaller bound.
        By default 8 for every unit of ∫‖A1‖‖A2‖, at least 8 between two save times or knots.

    Returns
    -------
    Bound
        ``curve`` (T, *batch) of kind "distance": ``compare`` takes it with both solutions. Certified; the tube of a
        small radius is far below ``sensitivity`` times the radius, and never above it (but for rounding).

    Raises
    ------
    ValueError, TypeError
        For a plain callable, an ensemble, another set, a start outside C or of another dimension, a negative radius.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> A, zero = 2 * torch.eye(1), torch.zeros(1)
    >>> flow = di.Inclusion(di.ResNetSField(A, zero, zero), di.Orthant())
    >>> flow_tube(flow, [0.0, 0.5, 1.0], torch.ones(1), 0.05).curve.round(decimals=3)  # e^{−4t}·0.05
    tensor([0.0500, 0.0070, 0.0010], dtype=torch.float64)
    >>> di.bounds.sensitivity(flow, [0.0, 1.0]).curve[-1]
    tensor(1., dtype=torch.float64)

    Notes
    -----
    r' <= ν r with the least of the rate of R7 and those of ``sensitivity``, piece by piece. On a piece all trajectories
    stay within R of a path X, a Taylor polynomial whose distance e from x is bounded by the defect that it leaves
    (e' <= νe + ‖δ‖), and R = max r + max e by a rate that is known beforehand. So A1X + b1 tells which units are on or
    off throughout; the others have slopes in [0, 1]. Every coordinate has an interval that holds x_i and all y_i;
    F_i over the tube pushes its ends. Coordinates whose interval is one boundary point, and which are pushed outward
    on the whole piece wherever in the tube, are those held in all trajectories; they drop. The rounding of X counts as
    defect. Theory §5, R7.
    """
    require_hypothesis(flow)
    require_one_network(flow)
    if not isinstance(flow.g, Orthant | Box | Whole):
        raise ValueError(f"the tube of the flow needs the orthant, a box or the whole space; got {flow.g}. Use "
                         f"sensitivity times the radius, or bounds.tube for the layers.")
    layout = _plan(flow, t, steps)
    flow.validate(x0, layout.stops[0])
    batch = x0.shape[:-1]
    x = x0.detach().to("cpu", torch.float64)
    lower, upper = (side.expand_as(x).reshape(-1, x.shape[-1]) for side in flow.g.bounds(x))
    x, r = x.reshape(lower.shape), radius_of(radius, batch)
    moving = flow.field.time_dependent_within_a_step
    pieces = pieces_of(flow, layout, "scaled" if moving else "best", 2)
    around = r.unsqueeze(-1) * (1 + 4 * norms.UNIT) + 2 * norms.UNIT * x.abs()
    tube = _Tube(x, torch.zeros_like(r), r, (x - around).clamp(lower, upper), (x + around).clamp(lower, upper), None)
    rows = [r]
    for k in range(len(pieces.h)):
        step = _Step(_segment(pieces, k), lower, upper, pieces.rate[k])
        tube = step(tube if _same_weights(pieces, k) else replace(tube, known=None))
        rows.append(tube.r)
    return pieces.bound(torch.stack(rows).reshape(-1, *batch), "C3 with rate R7 (tube)", DISTANCE, 2)


def _plan(flow: Inclusion, t: Tensor | list[float], steps: Fixed | None) -> Plan:
    """The pieces: as asked for, or as many as the Lipschitz constant of each interval wants."""
    if steps is not None:
        return plan(flow.field, t, steps)
    coarse = plan(flow.field, t)
    amount = pieces_of(flow, coarse, "global", 2)
    wanted = amount.weighted(amount.lipschitz.amax(-1)).tolist()
    return replace(coarse, counts=tuple(max(FEWEST, ceil(FINENESS * share)) for share in wanted))


def _same_weights(pieces: Pieces, k: int) -> bool:
    """Whether piece k has the weights of the one before."""
    return k > 0 and pieces.interval is not None and bool(pieces.interval[k - 1] == pieces.interval[k])


def _segment(pieces: Pieces, k: int) -> Segment:
    assert pieces.left is not None
    assert pieces.right is not None
    start = Weights(*(w[k] for w in pieces.left))
    end = None if pieces.right is pieces.left else Weights(*(w[k] for w in pieces.right))
    return Segment(float(pieces.h[k]), start, end)


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known of the units and coordinates on a piece, and the rate (n,) and multipliers (n, m) for that."""

    on: Tensor
    unknown: Tensor
    kept: Tensor
    rate: Tensor
    multiplier: Tensor

    def same(self, on: Tensor, unknown: Tensor, kept: Tensor) -> Tensor:
        """Which samples have this pattern still, (n,)."""
        return ((self.on == on) & (self.unknown == unknown)).all(-1) & (self.kept == kept).all(-1)


@dataclass(frozen=True, eq=False)
class _Tube:
    """At one time: ‖x − X‖ <= e and ‖y − x‖ <= r for all y, and low <= x, y <= high; X, low and high (n, d)."""

    X: Tensor
    e: Tensor
    r: Tensor
    low: Tensor
    high: Tensor
    known: _Known | None


@dataclass(frozen=True, eq=False)
class _Step:
    """From one end of a piece to the other. ``rate``: control points of a rate that holds everywhere."""

    segment: Segment
    lower: Tensor
    upper: Tensor
    rate: Tensor

    def __call__(self, tube: _Tube) -> _Tube:
        """The tube at the end of the piece."""
        h = self.segment.h
        path = follow(self.segment, tube.X.clamp(tube.low, tube.high), self.lower, self.upper)
        most = _exp(h * self.rate.amax().relu())
        R = most * (tube.r + tube.e + h * _norm(path.defect)) * (1 + 16 * norms.UNIT)
        slowest, fastest = self._speeds(path, R)
        down, up = (tube.high <= self.lower) & (fastest <= 0), (tube.low >= self.upper) & (slowest >= 0)
        clipped = (down | up | (self.lower == self.upper)) & path.held
        known = self._known(tube.known, path, R, ~clipped)
        factor = _exp(h * torch.minimum(known.rate, self.rate.mean()))
        e = (factor * tube.e + most * h * _norm(path.defect * ~clipped) + path.end_error) * (1 + 16 * norms.UNIT)
        r = factor * tube.r
        near = ((e + r) * (1 + 8 * norms.UNIT)).unsqueeze(-1) + 2 * norms.UNIT * path.end.abs()
        high = torch.minimum(_up(tube.high, h * fastest), path.end + near).clamp(self.lower, self.upper)
        low = torch.maximum(-_up(-tube.low, -h * slowest), path.end - near).clamp(self.lower, self.upper)
        low, high = torch.where(clipped, tube.low, low), torch.where(clipped, tube.high, high)
        return _Tube(path.end, e, torch.minimum(r, _norm(high - low)), low, high, known)

    def _speeds(self, path: Path, R: Tensor) -> tuple[Tensor, Tensor]:
        """Least and largest −F(t, y), (n, d), over all y within R of the path."""
        on, unknown = self._pattern(path, self.segment.rows() * R.unsqueeze(-1))
        size, middle = self.segment.size, self.segment.middle
        product, error = known_product(middle.A1, middle.A2, on)
        gain = vector_norm(product, dim=-1) + vector_norm(error, dim=-1) + self._moved().unsqueeze(-1)
        gain = gain + (unknown * self.segment.rows()) @ size.A2.T
        away = gain * R.unsqueeze(-1) * (1 + norms.gamma(4 * sum(middle.A1.shape)))
        low, high = path.force
        return -_up(high, away), _up(-low, away)

    def _pattern(self, path: Path, reach: Tensor) -> tuple[Tensor, Tensor]:
        """Units (n, m) known to be on, and unknown ones, where A1y + b1 is within ``reach`` of the path's."""
        low, high = path.hidden
        reach = reach * (1 + 16 * norms.UNIT)
        on, off = low >= reach, high <= -reach
        return on, ~on & ~off

    def _known(self, before: _Known | None, path: Path, R: Tensor, kept: Tensor) -> _Known:
        """The rate of R7 on the piece; patterns that are still those of the piece before are not looked at again."""
        rows = torch.stack([vector_norm(w.A1 * kept.unsqueeze(-2), dim=-1) for w in self.segment.ends]).amax(0)
        on, unknown = self._pattern(path, rows * (1 + 2 * norms.gamma(rows.shape[-1] + 8)) * R.unsqueeze(-1))
        A1, _, A2, _ = self.segment.middle
        if before is None:
            multiplier = tube_multiplier(A1, A2, on, unknown, kept)
            rate = tube_rate(A1, A2, on, unknown, kept, multiplier=multiplier)
        else:
            rate, multiplier = before.rate.clone(), before.multiplier.clone()
            new = (~before.same(on, unknown, kept)).nonzero()[:, 0]
            if len(new):
                masks = on[new], unknown[new], kept[new]
                multiplier[new] = tube_multiplier(A1, A2, *masks)
                rate[new] = tube_rate(A1, A2, *masks, multiplier=multiplier[new])
        if self.segment.end is not None:
            rate = torch.where(kept.any(-1), _up(rate, self._moved()), rate)
        return _Known(on, unknown, kept, rate, multiplier)

    def _moved(self) -> Tensor:
        """A bound of ‖A2DA1 − (A2DA1 in the middle)‖ over the piece, ()."""
        if self.segment.end is None:
            return torch.zeros((), dtype=torch.float64)
        middle, rise = self.segment.middle, self.segment.rise
        assert rise is not None
        A1, A2, d1, d2 = (norms.dense(w).value for w in (middle.A1, middle.A2, 0.5 * rise.A1, 0.5 * rise.A2))
        size = torch.linalg.matrix_norm(self.segment.size.A1) * torch.linalg.matrix_norm(self.segment.size.A2)
        return (d2 * (A1 + d1) + A2 * d1 + 16 * norms.UNIT * size) * (1 + 8 * norms.UNIT)


def _exp(z: Tensor) -> Tensor:
    """e^z from above; z off by four rounding units."""
    inside = z.clamp_min(-700.0)
    value = inside.exp() * (1 + 8 * norms.UNIT * (1 + inside.abs()))
    return torch.where(z == 0, 1.0, torch.where(z == -torch.inf, 0.0, value))


def _up(a: Tensor, b: Tensor) -> Tensor:
    """a + b from above, a and b off by two rounding units each."""
    return a + b + 4 * norms.UNIT * (a.abs() + b.abs())


def _norm(x: Tensor) -> Tensor:
    return vector_norm(x, dim=-1) * (1 + 2 * norms.gamma(x.shape[-1] + 8))
