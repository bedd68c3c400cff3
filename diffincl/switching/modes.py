"""Which smooth piece of a piecewise smooth flow a sample is in, and where along a step it leaves it.

A coordinate rests at its lower (−1) or upper (+1) bound or is free (0); a hidden unit of the field is on or off.
Between two switches the flow is smooth. A switch is the first zero of an *event polynomial* along the step: a free
coordinate reaches a bound, the multiplier of a resting one changes sign, a preactivation changes sign.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..fields import Pieces
from ..functions import Box, Orthant, ProxFunction, Whole
from .polynomials import evaluate, first_negative

__all__ = ["Bounds", "Mode", "Segment", "after_switching", "bounds_of", "first_switches", "mode_at",
           "snapped"]

# Rounding in an event polynomial, in units of eps times the size of the terms it is summed from.
ROUNDING = 64

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
    ``due`` (*batch, d + m) bool: coordinates and units that switch at the end of the coming step.
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

    A free coordinate may dip below its bound by ``slack``; what is due to switch at the end is left out.
    """
    X, V, eps = along.X.mT, along.V.mT, torch.finfo(along.X.dtype).eps
    V = torch.nn.functional.pad(V, (0, X.shape[-1] - V.shape[-1]))
    x_size, v_size = X.abs().sum(-1), V.abs().sum(-1).amax(-1, keepdim=True)
    if pieces is not None:
        v_size = torch.maximum(v_size, pieces.magnitudes(along.X[..., 0, :])[1])
    lower, upper = bounds.lower.expand_as(x_size), bounds.upper.expand_as(x_size)
    side, movable = mode.side, (lower < upper) & ~mode.due[..., :x_size.shape[-1]]
    above, below = _add(X, -lower), _add(-X, upper)
    theta = torch.full_like(x_size, torch.inf, dtype=torch.float64)
    for where, q, size in ((movable & (side == 0) & lower.isfinite(), above, x_size + lower.abs()),
                           (movable & (side == 0) & upper.isfinite(), below, x_size + upper.abs()),
                           (movable & (side < 0), -V, v_size.expand_as(x_size)),
                           (movable & (side > 0), V, v_size.expand_as(x_size))):
        room = torch.maximum(ROUNDING * eps * size, torch.where(side == 0, slack, 0.0))[where]
        theta[where] = torch.minimum(theta[where], first_negative(q[where].double(), room.double()))
    if pieces is None:
        return theta
    a = pieces.preactivation_along(t, along.span, along.X).mT
    a = torch.where(mode.units.unsqueeze(-1), a, -a)
    size = torch.maximum(a.abs().sum(-1), pieces.magnitudes(along.X[..., 0, :])[0])
    kinks = torch.full_like(size, torch.inf, dtype=torch.float64)
    where = ~mode.due[..., x_size.shape[-1]:]
    kinks[where] = first_negative(a[where].double(), ROUNDING * eps * size[where].double())
    return torch.cat([theta, kinks], -1)


def after_switching(mode: Mode, switching: Tensor, x: Tensor, v: Tensor, bounds: Bounds) -> Mode:
    """The mode after the marked coordinates and units switched at ``x``, where the unmasked velocity is ``v``."""
    d = x.shape[-1]
    now = switching[..., :d]
    hit = torch.where(now & mode.free, _resting(x, v, bounds), 0)
    side = torch.where(now, hit, mode.side).to(torch.int8)
    return Mode(side, mode.units ^ switching[..., d:], v, torch.zeros_like(switching))


def snapped(mode: Mode, switching: Tensor, x: Tensor, bounds: Bounds) -> Tensor:
    """The state with resting coordinates, and free ones that arrive now, exactly at their bound."""
    arrives = switching[..., :x.shape[-1]] & mode.free
    nearer_low = (x - bounds.lower).abs() <= (x - bounds.upper).abs()
    at_low = (mode.side < 0) | (arrives & nearer_low)
    at_high = (mode.side > 0) | (arrives & ~nearer_low)
    return torch.where(at_low, bounds.lower, torch.where(at_high, bounds.upper, bounds.clamp(x)))


def _add(q: Tensor, constant: Tensor) -> Tensor:
    return torch.cat([q[..., :1] + constant.unsqueeze(-1), q[..., 1:]], -1)
