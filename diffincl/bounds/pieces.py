"""What a bound reads of an inclusion: rates and drifts on the pieces of the time axis, with room for rounding."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check, norms, rates
from ..fields import ConvResNetField, ResNetField, Weights
from ..inclusion import Inclusion
from ..steps import Plan
from .drift import drift, push
from .hypothesis import require_coordinatewise, require_hypothesis, require_start, starts_at_zero

__all__ = ["DISTANCE", "GROWTH", "RATES", "SENSITIVITY", "Bound", "Pieces", "lead", "pieces_of",
           "require_hypothesis", "require_start", "size_of", "starts_at_zero"]

SENSITIVITY, GROWTH, DISTANCE = "sensitivity", "growth", "distance"
RATES = (*rates.ALONG, "weighted", "step", "best")
TITLES = {"global": "R1 (global)", "centred": "R2 (centred)", "scaled": "R3 (scaled)", "exact": "R4 (exact)",
          "weighted": "R5 (weighted)", "measure": "R6 (measure)"}
# "best" enumerates patterns of at most so many hidden units.
ENUMERATED = 10


@dataclass(frozen=True, eq=False)
class Bound:
    """A bound along time.

    Attributes
    ----------
    t : Tensor (T,), float64
    curve : Tensor, float64
        Sensitivity: (T,), with an ensemble of weights (T, *weights); ‖x(t) − y(t)‖_p <= curve·‖x0 − y0‖_p.
        Growth: (T, *batch); ‖x(t)‖_p <= curve. Distance: (T, *batch); ‖x(t) − y(t)‖_p <= curve.
    statement : str
        Label in the theory and the rate used.
    status : str
        "certified", "float" or "estimate".
    kind : "sensitivity", "growth" or "distance"
    p : float
        The norm.
    """

    t: Tensor
    curve: Tensor
    statement: str
    status: str
    kind: str
    p: float


@dataclass(frozen=True, eq=False)
class Pieces:
    """Rates and drifts on the K intervals between the stops of a plan, as control points (K, *weights, 3).

    ``rate`` and ``lipschitz`` bound ‖x − y‖' and ‖F(x) − F(y)‖ per unit of ‖x − y‖, ``drift`` bounds ‖F(t, 0)‖;
    ``left`` and ``right`` are the weights at the ends of the intervals, None for a plain callable. ``push`` bounds
    ‖(−F(t, 0))₊‖; ``rung`` says which rates ``rate`` holds; ``interval`` (K,) numbers the weights that stand still
    (None where they move). With ``W`` (*weights, d) everything is in the norm ‖W·‖_p and in the coordinates Wx.
    """

    plan: Plan
    rate: Tensor
    lipschitz: Tensor
    drift: Tensor
    left: Weights | None
    right: Weights | None
    status: str
    p: float = 2
    push: Tensor | None = None
    rung: str = ""
    interval: Tensor | None = None
    W: Tensor | None = None

    @property
    def h(self) -> Tensor:
        """Lengths of the intervals, (K,)."""
        return torch.tensor(self.plan.boundaries(), dtype=torch.float64).diff()

    def weighted(self, values: Tensor) -> Tensor:
        """h·values, for values of shape (K, ...)."""
        return self.h.reshape(-1, *[1] * (values.ndim - 1)) * values

    @property
    def slack(self) -> float:
        """Relative room for the rounding of sums and products over the pieces."""
        exponent = float(self.weighted(self.rate.amax(-1)).abs().sum(0).max())
        return 1 + 64 * norms.UNIT * len(self.h) * (1 + exponent)

    def back(self, factor: Tensor) -> Tensor:
        """A factor in ‖W·‖ as one in ‖·‖: κ(W) times larger, but at the start."""
        if self.W is None:
            return factor
        return torch.cat([factor[:1], factor[1:] * rates.condition(self.W)])

    def size_of(self, x: Tensor, p: float) -> Tensor:
        """‖Wx‖_p, (*batch,); at least ‖x‖_p, since no entry of W is below 1."""
        return size_of(x if self.W is None else x.detach().to("cpu", torch.float64) * lead_vector(self.W, x), p)

    def pushed(self) -> Pieces:
        """The same with ‖(−F(t, 0))₊‖ in place of ‖F(t, 0)‖, for states that are not negative."""
        return self if self.push is None else replace(self, drift=self.push)

    def bound(self, curve: Tensor, statement: str, kind: str, p: float) -> Bound:
        """The bound at the save times, from its values at all boundaries."""
        t = torch.tensor(self.plan.times(), dtype=torch.float64)
        return Bound(t, curve[list(self.plan.saves())], statement, self.status, kind, p)


def pieces_of(flow: Inclusion, layout: Plan, rate: str, p: float) -> Pieces:
    """Rates and drifts of an inclusion along the intervals of a plan."""
    _check.choice("rate", rate, RATES)
    if p != 2:
        require_coordinatewise(flow, f"p = {p}")
    if not isinstance(flow.field, ResNetField):
        return _given_pieces(flow, layout, rate, p)
    if rate == "weighted":
        require_coordinatewise(flow, "rate='weighted'")
    smooth, which = _smooth_intervals(flow.field, layout)
    left, right = _end_weights(flow.field, smooth)
    W = None
    if rate == "weighted":
        W = rates.optimise_weights(left, right, torch.tensor([b - a for a, b in smooth], dtype=torch.float64), p)
        left, right = _in_weights(left, right, W)
    if right is left:  # the weights stand still between two knots: one look at each interval serves all its steps
        pieces = _pieces_between(layout, left, left, rate, p, None)
        weights = Weights(*(w[which] for w in left))
        assert pieces.push is not None
        return replace(pieces, rate=pieces.rate[which], lipschitz=pieces.lipschitz[which], drift=pieces.drift[which],
                       push=pieces.push[which], left=weights, right=weights, interval=which, W=W)
    # The weights move within a step: the steps of an interval share its scaling only.
    scaling = rates.optimise_scaling(left, right)[which] if p == 2 and rate not in ("global", "centred") else None
    left, right = _end_weights(flow.field, list(pairwise(layout.boundaries())))
    left, right = (left, right) if W is None else _in_weights(left, right, W)
    return replace(_pieces_between(layout, left, right, rate, p, scaling), W=W)


def _in_weights(left: Weights, right: Weights, W: Tensor) -> tuple[Weights, Weights]:
    start = rates.in_weights(left, W)
    return (start, start) if right is left else (start, rates.in_weights(right, W))


def _pieces_between(layout: Plan, left: Weights, right: Weights, rate: str, p: float, scaling: Tensor | None) -> Pieces:
    """Rates and drifts between given weights at the two ends of every interval."""
    lipschitz = rates.along(left, right, "global", p)
    names = _candidates(rate, p, left.A1.shape[-2])
    points = torch.stack([lipschitz if name == "global" else
                          rates.along(left, right, name, p, scaling=scaling if name == "scaled" else None)
                          for name in names])
    least = points.mean(-1).argmin(0)  # piece by piece; control points of different rates do not mix
    points = points.gather(0, least[None, ..., None].expand(1, *points.shape[1:])).squeeze(0)
    return Pieces(layout, points, lipschitz, drift(left, right, p), left, right, norms.CERTIFIED, p,
                  push(left, right, p), _rung(rate, names, least))


def _candidates(rate: str, p: float, units: int) -> tuple[str, ...]:
    """The rates of ``rates.along`` to take the least of."""
    if rate in ("step", "weighted"):
        if p != 2 and rate == "step":
            raise ValueError(f"rate='step' bounds the Euclidean norm; got p = {p}. Use rate='measure' or 'best'.")
        return ("scaled" if p == 2 else "measure",)
    if rate == "best":
        wide = ("scaled",) if p == 2 else ("global", "measure")
        return (*wide, "exact") if units <= ENUMERATED else wide
    return (rate,)


def _rung(rate: str, names: tuple[str, ...], least: Tensor) -> str:
    """Which rates were taken, and of how many pieces."""
    if rate == "weighted":
        return f"rate {TITLES['weighted']}"
    counts = Counter(names[k] for k in least.flatten().tolist())
    if len(counts) == 1:
        return f"rate {TITLES[next(iter(counts))]}"
    return "rates " + ", ".join(f"{TITLES[name]} on {n} of {least.numel()} pieces" for name, n in counts.most_common())


def _smooth_intervals(field: ResNetField, layout: Plan) -> tuple[list[tuple[float, float]], Tensor]:
    """The intervals between two knots that the steps lie in, and for every step which of them it is."""
    first, last = layout.stops[0], layout.stops[-1]
    stops = [first, *(knot for knot in field.knots if first < knot < last), last]
    middles = [0.5 * (a + b) for a, b in pairwise(layout.boundaries())]
    return list(pairwise(stops)), torch.tensor([bisect(stops, middle) - 1 for middle in middles])


def _end_weights(field: ResNetField, steps: list[tuple[float, float]]) -> tuple[Weights, Weights]:
    """The weights at both ends of every interval, (K, *weights, ...), float64; one object if they stand still."""
    at = [field.weights_on(a, b, torch.float64) for a, b in steps]
    left = _stack([weights(a) for weights, (a, _) in zip(at, steps, strict=True)])
    if not field.time_dependent_within_a_step:
        return left, left
    return left, _stack([weights(b) for weights, (_, b) in zip(at, steps, strict=True)])


def _stack(rows: list[Weights]) -> Weights:
    stacked = Weights(*(torch.stack(row).detach().to("cpu", torch.float64) for row in zip(*rows, strict=True)))
    for name, weight in zip(Weights._fields, stacked, strict=True):
        _check.finite(name, weight)
    return stacked


def _given_pieces(flow: Inclusion, layout: Plan, rate: str, p: float) -> Pieces:
    """Constants of a plain callable, as given to the Inclusion; F(t, 0) is not known and stays NaN."""
    constant = flow.lipschitz if rate == "global" or flow.one_sided is None else flow.one_sided
    if constant is None and isinstance(flow.field, ConvResNetField):
        raise ValueError(f"rate={rate!r} of a convolutional field needs the size of the image. Write the field out for "
                         f"it, Inclusion(field.dense(image), g), or pass a rate of rates.conv as lipschitz= or "
                         f"one_sided= to Inclusion.")
    if constant is None:
        raise ValueError(f"rate={rate!r} of a plain callable needs its constant: pass lipschitz= "
                         f"{'' if rate == 'global' else 'or one_sided= '}to Inclusion.")
    if p != 2:
        raise ValueError(f"the constants of a plain callable are Euclidean; got p = {p}. Use p = 2.")
    one = torch.ones(layout.steps, 3, dtype=torch.float64)
    lipschitz = torch.inf if flow.lipschitz is None else flow.lipschitz
    rung = "the given one-sided constant" if constant is flow.one_sided else "the given Lipschitz constant"
    return Pieces(layout, constant * one, lipschitz * one, torch.nan * one, None, None, norms.FLOAT, rung=rung)


def lead(coefficient: Tensor, like: Tensor) -> Tensor:
    """A coefficient per network, with dimensions added behind so that it meets the batch of ``like``."""
    return coefficient.reshape((*coefficient.shape, *[1] * (like.ndim - coefficient.ndim)))


def lead_vector(vector: Tensor, like: Tensor) -> Tensor:
    """A vector (*weights, d) per network that meets ``like`` (*weights, *batch, d)."""
    return lead(vector.movedim(-1, 0), like.movedim(-1, 0)).movedim(0, -1)


def size_of(x: Tensor, p: float) -> Tensor:
    """‖x‖_p in float64, (*batch,)."""
    return vector_norm(x.detach().to("cpu", torch.float64), ord=p, dim=-1)
