"""The path in the middle of a tube of the flow: pieces of Taylor polynomials whose defect is enclosed.

On a piece of the time axis the weights are linear in θ = (t − a)/h. With the pattern D of the hidden units held, the
field is affine in x, and the Taylor coefficients of the flow follow one from the other. What the polynomial p misses
(its remainder, units that change sign, coordinates that meet the boundary) is its defect, bounded entry by entry.
Polynomials have shape (n, K, ·), coefficients of θ in the middle; their range over [0, 1] lies in that of their
Bernstein coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import norms
from ..fields import Weights

__all__ = ["Path", "Segment", "follow"]

DEGREE = 8


@dataclass(frozen=True, eq=False)
class Segment:
    """A piece of length h, its weights from ``start`` to ``end`` (None: they stand still), float64, no batch."""

    h: float
    start: Weights
    end: Weights | None

    @property
    def ends(self) -> list[Weights]:
        """The weights at both ends."""
        return [self.start] if self.end is None else [self.start, self.end]

    @property
    def size(self) -> Weights:
        """The largest absolute values of the weights over the piece, entry by entry."""
        return Weights(*(torch.stack(w).abs().amax(0) for w in zip(*self.ends, strict=True)))

    @property
    def rise(self) -> Weights | None:
        """By how much the weights change."""
        if self.end is None:
            return None
        return Weights(*(b - a for a, b in zip(self.start, self.end, strict=True)))

    @property
    def middle(self) -> Weights:
        """The weights in the middle of the piece."""
        if self.end is None:
            return self.start
        return Weights(*(0.5 * (a + b) for a, b in zip(self.start, self.end, strict=True)))

    def rows(self) -> Tensor:
        """‖·‖₂ of the rows of A1 from above, (m,)."""
        rows = torch.stack([vector_norm(w.A1, dim=-1) for w in self.ends]).amax(0)
        return rows * (1 + 2 * norms.gamma(self.start.A1.shape[-1] + 8))

    def hidden(self, x: Tensor) -> Tensor:
        """A1(θ)p(θ) + b1(θ) of a polynomial p."""
        return self._affine("A1", "b1", x, 1.0)

    def force(self, hidden: Tensor) -> Tensor:
        """A2(θ)w(θ) − b2(θ) of a polynomial w."""
        return self._affine("A2", "b2", hidden, -1.0)

    def _affine(self, matrix: str, bias: str, x: Tensor, sign: float) -> Tensor:
        value = x @ getattr(self.start, matrix).T
        b = sign * getattr(self.start, bias)
        rise = self.rise
        if rise is None:
            return torch.cat([value[:, :1] + b, value[:, 1:]], 1)
        zero = torch.zeros_like(value[:, :1])
        value = torch.cat([value, zero], 1) + torch.cat([zero, x @ getattr(rise, matrix).T], 1)
        return torch.cat([value[:, :1] + b, value[:, 1:2] + sign * getattr(rise, bias), value[:, 2:]], 1)


@dataclass(frozen=True, eq=False)
class Path:
    """A path X in C over a segment, with −X' ∈ N_C(X) + F(t, X) + δ(t), all enclosures with their rounding.

    ``hidden`` and ``force``: least and largest values (n, m) of A1X + b1 and (n, d) of F(t, X); ``defect``: bounds
    (n, d) of |δ|; ``held``: coordinates (n, d) that X holds at the boundary; ``end``: X at the end (n, d), off by at
    most ``end_error`` (n,).
    """

    hidden: tuple[Tensor, Tensor]
    force: tuple[Tensor, Tensor]
    defect: Tensor
    held: Tensor
    end: Tensor
    end_error: Tensor


def follow(segment: Segment, x: Tensor, lower: Tensor, upper: Tensor) -> Path:
    """The path from x (n, d) in the box [lower, upper] (n, d).

    X = P_C(p) coordinate by coordinate. Where X_i = p_i, δ_i = −p_i' − F_i(X) will do; where X_i stays at the lower
    boundary, 0 = −X_i' ∈ F_i + δ_i + (−∞, 0] with |δ_i| = (−F_i)₊, at the upper one with (F_i)₊.
    """
    units, held = _choices(segment, x, lower, upper)
    p = _taylor(segment, x, units, held)
    terms, room = p.abs().sum(1), _room(segment)
    below, above = _overshoot(p, lower, upper, room * terms)
    below, above = below * ~held, above * ~held
    hidden, force, rest = _enclosed(segment, p, units, below + above)
    f_low, f_high = force
    defect = torch.where(held, 0.0, rest)
    defect = torch.maximum(defect, torch.where((held & (x <= lower)) | (below > 0), (-f_low).relu(), 0.0))
    defect = torch.maximum(defect, torch.where((held & (x >= upper)) | (above > 0), f_high.relu(), 0.0))
    return Path(hidden, force, torch.where(lower == upper, 0.0, defect), held, p.sum(1).clamp(lower, upper),
                (1 + room) * vector_norm(room * terms, dim=-1))


def _room(segment: Segment) -> float:
    """Relative room for the rounding of everything along a segment."""
    return 4 * norms.gamma(2 * sum(segment.start.A1.shape) + 6 * DEGREE + 64)


def _choices(segment: Segment, x: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """The pattern of the hidden units half a piece ahead, and the coordinates held at the boundary: only proposals."""
    start, middle = segment.start, segment.middle

    def held_by(f: Tensor) -> Tensor:
        return ((x <= lower) & (f >= 0)) | ((x >= upper) & (f <= 0)) | (lower == upper)

    a = x @ start.A1.T + start.b1
    f = torch.relu(a) @ start.A2.T - start.b2
    ahead = (x - 0.5 * segment.h * f * ~held_by(f)).clamp(lower, upper)
    units = ahead @ middle.A1.T + middle.b1 > 0
    return units, held_by((a * units) @ start.A2.T - start.b2)


def _taylor(segment: Segment, x: Tensor, units: Tensor, held: Tensor) -> Tensor:
    """Taylor coefficients in θ, (n, DEGREE + 1, d), of x' = −F with pattern and held coordinates fixed."""
    p = x.unsqueeze(1)
    for j in range(DEGREE):
        f = segment.force(segment.hidden(p) * units.unsqueeze(1))[:, j]
        p = torch.cat([p, (-segment.h / (j + 1) * f * ~held).unsqueeze(1)], 1)
    return p


def _enclosed(segment: Segment, p: Tensor, units: Tensor, over: Tensor) -> tuple[
        tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor]:
    """Ranges of A1X + b1 and of F(t, X) for X within ``over`` of p, and a bound of |p' + F(t, X)|."""
    room, size, terms = _room(segment), segment.size, p.abs().sum(1)
    hidden_terms = terms @ size.A1.T + size.b1
    a = segment.hidden(p)
    f = segment.force(a * units.unsqueeze(1))
    a_low, a_high = _hull(a, room * hidden_terms)
    wrong = torch.where(units, (-a_low).relu(), a_high.relu())  # |σ(a) − Da| along p
    beyond = over @ size.A1.T
    more = (1 + room) * ((wrong + beyond) @ size.A2.T) + room * (hidden_terms @ size.A2.T + size.b2)
    slope = torch.arange(1, p.shape[1], dtype=p.dtype).unsqueeze(-1) * p[:, 1:] / segment.h
    rest = torch.cat([f[:, :p.shape[1] - 1] + slope, f[:, p.shape[1] - 1:]], 1)
    low, high = _hull(rest, more + room * slope.abs().sum(1))
    beyond = (1 + room) * beyond
    return (a_low - beyond, a_high + beyond), _hull(f, more), torch.maximum(-low, high)


def _overshoot(p: Tensor, lower: Tensor, upper: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """By how much p may be below ``lower`` and above ``upper``, (n, d); its start, the first Bernstein coefficient, is
    inside exactly."""
    points = _bernstein(p.shape[1]) @ p
    below, above = lower - points[:, 1:].amin(1) + error, points[:, 1:].amax(1) + error - upper
    return below.relu(), above.relu()


def _hull(p: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest values over [0, 1] of polynomials known up to ``error``."""
    points = _bernstein(p.shape[1]) @ p
    return points.amin(1) - error, points.amax(1) + error


def _bernstein(count: int) -> Tensor:
    """Bernstein coefficients from coefficients, (count, count)."""
    n = count - 1
    return torch.tensor([[comb(i, j) / comb(n, j) for j in range(count)] for i in range(count)], dtype=torch.float64)
