"""Which smooth piece of a piecewise smooth flow a sample is in, and where along a step it leaves it.

A coordinate rests at its lower (−1) or upper (+1) bound or is free (0); a hidden unit of the field is on or off.
Between two switches the flow is smooth. A switch is the first zero of an *event polynomial* along the step: a free
coordinate reaches a bound, the multiplier of a resting one changes sign, a preactivation changes sign.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..fields import Pieces
from ..functions import Box, Orthant, ProxFunction, Whole
from .polynomials import evaluate, first_negative

__all__ = ["Bounds", "Mode", "Segment", "after_switching", "bounds_of", "first_switch", "mode_at", "pinned",
           "snapped"]

# Rounding in an event polynomial, in units of eps times the size of the terms it is summed from.
ROUNDING = 64

# How far a free coordinate may dip below its bound where no tolerance is given, in units of eps (1 + |x|).
SLACK = 1e3

# Switches this close to each other, in lengths of a step, happen at once.
TOGETHER = 1e-12


class Bounds(NamedTuple):
    """The box [lower, upper] that the states stay in; tensors that broadcast against x, ±inf where open. ``closed`` and
    ``capped`` say whether there is a finite bound, and a finite upper one."""

    lower: Tensor
    upper: Tensor
    closed: bool
    capped: bool

    def clamp(self, x: Tensor) -> Tensor:
        """The nearest point of the box."""
        return torch.maximum(torch.minimum(x, self.upper), self.lower)


class Mode(NamedTuple):
    """The piece each sample is in.

    ``side`` (*batch, d) int8: −1 rests at the lower bound, 0 is free, 1 rests at the upper bound; ``units`` (*batch, m)
    bool: hidden units that are on (m = 0: kinks are not followed); ``v`` (*batch, d): −F at the present time and state;
    ``due`` (*batch, d + m) bool: coordinates and units that switch at the end of the step.
    """

    side: Tensor
    units: Tensor
    v: Tensor
    due: Tensor

    @property
    def free(self) -> Tensor:
        """Coordinates that move."""
        return self.side == 0


class Segment(NamedTuple):
    """A step as polynomials in θ = (s − t)/span with coefficients (*batch, K, d): the state X and V, which is the
    multiplier where ``held``; elsewhere the multiplier is 0."""

    span: Tensor
    X: Tensor
    V: Tensor
    held: Tensor

    def state(self, theta: Tensor) -> Tensor:
        """State at θ (*batch, 1)."""
        return evaluate(self.X, theta.to(self.X), dim=-2)

    def multiplier(self, theta: Tensor) -> Tensor:
        """The element of ∂g at θ (*batch, 1)."""
        return torch.where(self.held, evaluate(self.V, theta.to(self.V), dim=-2), 0.0)


def bounds_of(g: ProxFunction, x: Tensor, scheme: str) -> Bounds:
    """The bounds of Whole, Orthant or Box in the dtype of ``x``; other sets raise."""
    if not isinstance(g, Whole | Orthant | Box):
        raise ValueError(f"{scheme} follows Whole, Orthant and Box only; got {g}. Use ARS222() or ProxHeun(), with "
                         f"Fixed or Adaptive steps: they take any g.")
    lower, upper = g.bounds(x)
    capped = bool(upper.isfinite().any())
    return Bounds(lower, upper, capped or bool(lower.isfinite().any()), capped)


def mode_at(x: Tensor, v: Tensor, bounds: Bounds, units: Tensor) -> Mode:
    """The piece in which a sample at ``x`` with unmasked velocity ``v`` goes on."""
    due = torch.zeros((*x.shape[:-1], x.shape[-1] + units.shape[-1]), dtype=torch.bool, device=x.device)
    return Mode(_resting(x, v, bounds), units, v, due)


def _resting(x: Tensor, v: Tensor, bounds: Bounds) -> Tensor:
    """−1 or 1 where ``x`` is at a bound and ``v`` does not lead away from it."""
    low, high = (x <= bounds.lower) & (v <= 0), (x >= bounds.upper) & (v >= 0)
    both = bounds.lower == bounds.upper  # a coordinate without room never moves
    return torch.where(low | both, -1, torch.where(high, 1, 0)).to(torch.int8)


def first_switches(t: Tensor, mode: Mode, along: Segment, bounds: Bounds, pieces: Pieces | None,
                   slack: Tensor | float = 0.0) -> Tensor:
    """θ of the first switch of every coordinate and unit along a segment, (*batch, d + m), inf where there is none.

    A free coordinate may dip below its bound by ``slack``.
    """
    X, d, events = along.X.movedim(-2, 0), along.X.shape[-1], list[Tensor]()  # polynomials (K, *batch, n)
    if bounds.closed:
        events += _bound_events(mode, X, along.V.movedim(-2, 0), bounds)
    if pieces is not None:
        a = pieces.preactivation_along(t, along.span, along.X).movedim(-2, 0)
        events = [pad(q, (0, 0) * q[0].ndim + (0, len(a) - len(q))) for q in events]
        events.append(torch.where(mode.units, a, -a))
    if not events:
        return torch.full_like(X[0], torch.inf, dtype=torch.float64)
    q = torch.cat(events, -1)
    suspect = q[0] + q[1:].clamp(max=0).sum(0) < 0  # a bound from below on [0, 1], the cheapest there is
    theta = torch.full(suspect.shape, torch.inf, dtype=torch.float64, device=X.device)
    if bool(suspect.any()):
        room = _rooms(mode, along, q, bounds, pieces, slack)[suspect]
        theta[suspect] = first_negative(q.movedim(0, -1)[suspect].double(), room.double())
    if bounds.capped:
        theta = torch.cat([torch.minimum(theta[..., :d], theta[..., d:2 * d]), theta[..., 2 * d:]], -1)
    return theta if bounds.closed else pad(theta, (d, 0), value=torch.inf)


def _bound_events(mode: Mode, X: Tensor, V: Tensor, bounds: Bounds) -> list[Tensor]:
    """Polynomials (K, *batch, d), negative where a coordinate is below its bound, or pulled off the one it rests at;
    and those of free coordinates above their bound, if there are upper ones."""
    free, V = mode.free, pad(V, (0, 0) * V[0].ndim + (0, len(X) - len(V)))
    low = torch.where(free, X, V * torch.where(bounds.lower < bounds.upper, mode.side, 0))
    low[0] -= torch.where(free, bounds.lower, 0.0)
    if not bounds.capped:
        return [low]
    high = torch.where(free, -X, 0.0)
    high[0] += torch.where(free, bounds.upper, 0.0)
    return [low, high]


def _rooms(mode: Mode, along: Segment, q: Tensor, bounds: Bounds, pieces: Pieces | None,
           slack: Tensor | float) -> Tensor:
    """How far below 0 the values of the event polynomials ``q`` (K, *batch, n) are still rounding, or slack."""
    rounding, free, rooms, x = ROUNDING * torch.finfo(q.dtype).eps, mode.free, list[Tensor](), along.X[..., 0, :]
    hidden, v_size = (q[0], 0.0) if pieces is None else pieces.magnitudes(x)
    if bounds.closed:
        x_size, v_size = along.X.abs().sum(-2), _largest(along.V.abs().sum(-2), v_size)
        for bound in (bounds.lower, bounds.upper)[:1 + bounds.capped]:
            size = x_size + torch.where(bound.isfinite(), bound.abs(), 0.0)
            room = torch.maximum(rounding * size, torch.as_tensor(slack))
            rooms.append(torch.where(free, room, rounding * v_size))
    if pieces is not None:
        rooms.append(rounding * torch.maximum(q[..., -hidden.shape[-1]:].abs().sum(0), hidden))
    return torch.cat(rooms, -1)


def _largest(size: Tensor, other: Tensor | float) -> Tensor:
    """The largest entry of each sample, and no less than ``other``."""
    return torch.maximum(size.amax(-1, keepdim=True).expand_as(size), torch.as_tensor(other))


def first_switch(t: Tensor, mode: Mode, along: Segment, bounds: Bounds, pieces: Pieces | None,
                 slack: Tensor | float = 0.0) -> tuple[Tensor, Tensor, Mode]:
    """The state at the first switch of every sample along a segment, its θ, and the mode with what is due there; the
    end of the segment where nothing switches."""
    switches = first_switches(t, mode, along, bounds, pieces, slack)
    first = switches.amin(-1, keepdim=True)
    theta = first.clamp(max=1.0)
    taken = mode._replace(due=switches <= theta + TOGETHER)
    return snapped(taken, along.state(theta), bounds), theta, taken


def after_switching(mode: Mode, x: Tensor, v: Tensor, bounds: Bounds, along: Segment, slack: Tensor | float) -> Mode:
    """The mode after what was due switched at ``x``, where the unmasked velocity is ``v``.

    A coordinate that touches its bound with a velocity that leads away again stays free. One that is due to leave stays
    at rest if ``v``, unlike its polynomial, still presses it on the bound, so that it would dip by more than ``slack``.
    """
    d = x.shape[-1]
    now = mode.due[..., :d]
    turn = (along.V[..., 1:, :].abs().sum(-2) / torch.where(along.span > 0, along.span, 1.0)).to(x)  # size of v'
    held = (mode.side * v > 0) & (v * v > 2 * turn * slack)
    after = torch.where(mode.free, _resting(x, v, bounds), torch.where(held, mode.side, 0))
    side = torch.where(now, after, mode.side).to(torch.int8)
    return Mode(side, mode.units ^ mode.due[..., d:], v, torch.zeros_like(mode.due))


def snapped(mode: Mode, x: Tensor, bounds: Bounds) -> Tensor:
    """The state with resting coordinates, and free ones that are due to arrive, exactly at their bound."""
    inside, arrives = pinned(mode, bounds.clamp(x), bounds), mode.due[..., :x.shape[-1]] & mode.free
    if not bool(arrives.any()):
        return inside
    nearer_low = (x - bounds.lower).abs() <= (x - bounds.upper).abs()
    return torch.where(arrives, torch.where(nearer_low, bounds.lower, bounds.upper), inside)


def pinned(mode: Mode, x: Tensor, bounds: Bounds) -> Tensor:
    """The state with resting coordinates given by their bound: one moved off it would be back at once, so no derivative
    with respect to where it was goes on."""
    return torch.where(mode.side < 0, bounds.lower, torch.where(mode.side > 0, bounds.upper, x))
