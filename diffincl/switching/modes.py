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
    """The box [lower, upper] that the states stay in; tensors that broadcast against x, ±inf where open."""

    lower: Tensor
    upper: Tensor

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
    return Bounds(*g.bounds(x))


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
    X, V, eps, free = along.X.mT, along.V.mT, torch.finfo(along.X.dtype).eps, mode.free
    V = pad(V, (0, X.shape[-1] - V.shape[-1]))
    x_size, v_size = X.abs().sum(-1), V.abs().sum(-1).amax(-1, keepdim=True).expand_as(X[..., 0])
    if pieces is not None:
        v_size = torch.maximum(v_size, pieces.magnitudes(along.X[..., 0, :])[1])
    lower, upper = (bound.expand_as(x_size) for bound in bounds)
    rounding = ROUNDING * eps * torch.where(free, x_size + torch.where(lower.isfinite(), lower.abs(), 0.0), v_size)
    q = torch.where(free.unsqueeze(-1), _add(X, -lower), V * mode.side.unsqueeze(-1))
    room = torch.where(free, torch.maximum(rounding, torch.as_tensor(slack)), rounding)
    events = [(q, room, (lower < upper) & (~free | lower.isfinite())), (_add(-X, upper), room, free & upper.isfinite())]
    if pieces is not None:
        a = pieces.preactivation_along(t, along.span, along.X).mT
        size = torch.maximum(a.abs().sum(-1), pieces.magnitudes(along.X[..., 0, :])[0])
        a = torch.where(mode.units.unsqueeze(-1), a, -a)
        events.append((a, ROUNDING * eps * size, torch.ones_like(mode.units)))
    low, high, *kinks = _first_events(events)
    return torch.cat([torch.minimum(low, high), *kinks], -1)


def _first_events(events: list[tuple[Tensor, Tensor, Tensor]]) -> list[Tensor]:
    """θ of the first negative value of polynomials q (*batch, n, K) beyond their slack (*batch, n), where a mask
    (*batch, n) says that it counts; inf elsewhere. All are searched together."""
    longest = max(q.shape[-1] for q, _, _ in events)
    rows = torch.cat([pad(q[counts], (0, longest - q.shape[-1])) for q, _, counts in events]).double()
    slack = torch.cat([room[counts] for _, room, counts in events]).double()
    found = first_negative(rows, slack).split([int(counts.sum()) for _, _, counts in events])
    return [torch.full(counts.shape, torch.inf, dtype=torch.float64, device=counts.device).masked_scatter(counts, theta)
            for (_, _, counts), theta in zip(events, found, strict=True)]


def first_switch(t: Tensor, mode: Mode, along: Segment, bounds: Bounds, pieces: Pieces | None,
                 slack: Tensor | float = 0.0) -> tuple[Tensor, Tensor, Mode]:
    """The state at the first switch of every sample along a segment, its θ, and the mode with what is due there; the
    end of the segment where nothing switches."""
    switches = first_switches(t, mode, along, bounds, pieces, slack)
    first = switches.amin(-1, keepdim=True)
    taken = mode._replace(due=switches.isfinite() & (switches <= first + TOGETHER))
    theta = first.clamp(max=1.0)
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
    arrives = mode.due[..., :x.shape[-1]] & mode.free
    nearer_low = (x - bounds.lower).abs() <= (x - bounds.upper).abs()
    at_low = (mode.side < 0) | (arrives & nearer_low)
    at_high = (mode.side > 0) | (arrives & ~nearer_low)
    return torch.where(at_low, bounds.lower, torch.where(at_high, bounds.upper, bounds.clamp(x)))


def pinned(mode: Mode, x: Tensor, bounds: Bounds) -> Tensor:
    """The state with resting coordinates given by their bound: one moved off it would be back at once, so no derivative
    with respect to where it was goes on."""
    return torch.where(mode.side < 0, bounds.lower, torch.where(mode.side > 0, bounds.upper, x))


def _add(q: Tensor, constant: Tensor) -> Tensor:
    return torch.cat([q[..., :1] + constant.unsqueeze(-1), q[..., 1:]], -1)
