"""What a bound reads of an inclusion: rates and drifts on the pieces of the time axis, with room for rounding."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check, norms, rates
from ..fields import ResNetDField, ResNetField, Weights
from ..functions import Box, Orthant
from ..inclusion import Inclusion
from ..steps import Plan

__all__ = ["GROWTH", "SENSITIVITY", "Bound", "Pieces"]

SENSITIVITY, GROWTH = "sensitivity", "growth"


@dataclass(frozen=True, eq=False)
class Bound:
    """A bound along time.

    Attributes
    ----------
    t : Tensor (T,), float64
    curve : Tensor, float64
        Sensitivity: (T,), with an ensemble of weights (T, *weights); ‖x(t) − y(t)‖_p <= curve·‖x0 − y0‖_p.
        Growth: (T, *batch); ‖x(t)‖_p <= curve.
    statement : str
        Label in the theory and the rate used.
    status : str
        "certified", "float" or "estimate".
    kind : "sensitivity" or "growth"
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
    ``left`` and ``right`` are the weights at the ends of the intervals, None for a plain callable.
    """

    plan: Plan
    rate: Tensor
    lipschitz: Tensor
    drift: Tensor
    left: Weights | None
    right: Weights | None
    status: str

    @property
    def h(self) -> Tensor:
        """Lengths of the intervals, (K,)."""
        t = torch.tensor(self.plan.t, dtype=torch.float64)
        return t[1:] - t[:-1]

    def weighted(self, values: Tensor) -> Tensor:
        """h·values, for values of shape (K, ...)."""
        return self.h.reshape(-1, *[1] * (values.ndim - 1)) * values

    @property
    def slack(self) -> float:
        """Relative room for the rounding of sums and products over the pieces."""
        exponent = float(self.weighted(self.rate.amax(-1)).abs().sum(0).max())
        return 1 + 64 * norms.UNIT * len(self.h) * (1 + exponent)

    def bound(self, curve: Tensor, statement: str, kind: str, p: float) -> Bound:
        """The bound at the save times, from its values at all boundaries."""
        saves = list(self.plan.saves)
        t = torch.tensor(self.plan.t, dtype=torch.float64)[saves]
        return Bound(t, curve[saves], statement, self.status, kind, p)


def pieces_of(flow: Inclusion, layout: Plan, rate: str, p: float) -> Pieces:
    """Rates and drifts of an inclusion along the intervals of a plan."""
    _check.choice("rate", rate, rates.RATES)
    if p != 2 and not flow.g.coordinatewise:
        raise ValueError(f"p = {p} needs a g whose prox acts coordinate by coordinate, such as Orthant or Box; got "
                         f"{flow.g}. Use p = 2.")
    if not isinstance(flow.field, ResNetField):
        return _given_pieces(flow, layout, rate, p)
    smooth, which = _smooth_intervals(flow.field, layout)
    left, right = _end_weights(flow.field, smooth)
    if right is left:  # the weights stand still between two knots: one look at each interval serves all its steps
        pieces = _pieces_between(layout, left, left, rate, p, None)
        weights = Weights(*(w[which] for w in left))
        return replace(pieces, rate=pieces.rate[which], lipschitz=pieces.lipschitz[which], drift=pieces.drift[which],
                       left=weights, right=weights)
    # The weights move within a step: the steps of an interval share its scaling only.
    scaling = rates.optimise_scaling(left, right)[which] if rate == "scaled" else None
    return _pieces_between(layout, *_end_weights(flow.field, list(pairwise(layout.t))), rate, p, scaling)


def _pieces_between(layout: Plan, left: Weights, right: Weights, rate: str, p: float, scaling: Tensor | None) -> Pieces:
    """Rates and drifts between given weights at the two ends of every interval."""
    lipschitz = rates.along(left, right, "global", p)
    points = lipschitz if rate == "global" else rates.along(left, right, rate, p, scaling=scaling)
    return Pieces(layout, points, lipschitz, _drift(left, right, p), left, right, norms.CERTIFIED)


def _smooth_intervals(field: ResNetField, layout: Plan) -> tuple[list[tuple[float, float]], Tensor]:
    """The intervals between two knots that the steps lie in, and for every step which of them it is."""
    stops = [layout.t[0], *(knot for knot in field.knots if layout.t[0] < knot < layout.t[-1]), layout.t[-1]]
    middles = [0.5 * (a + b) for a, b in pairwise(layout.t)]
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
    if constant is None:
        raise ValueError(f"rate={rate!r} of a plain callable needs its constant: pass lipschitz= "
                         f"{'' if rate == 'global' else 'or one_sided= '}to Inclusion.")
    if p != 2:
        raise ValueError(f"the constants of a plain callable are Euclidean; got p = {p}. Use p = 2.")
    one = torch.ones(len(layout.t) - 1, 3, dtype=torch.float64)
    lipschitz = torch.inf if flow.lipschitz is None else flow.lipschitz
    return Pieces(layout, constant * one, lipschitz * one, torch.nan * one, None, None, norms.FLOAT)


def _drift(left: Weights, right: Weights, p: float) -> Tensor:
    """Control points of a bound of ‖F(t, 0)‖_p = ‖A2 σ(b1) − b2‖_p on each piece.

    Where b1 changes sign inside a piece, σ(b1) lies below its chord by at most −b⁻b⁺/(b⁺ − b⁻); ‖|A2|·that‖ is added.
    """
    w0, w1 = torch.relu(left.b1), torch.relu(right.b1)
    start = _offset(left.A2, w0, left.b2, p)
    if right is left:
        return start.unsqueeze(-1).expand(*start.shape, 3)
    A2, w = torch.cat([left.A2, right.A2], -1), torch.cat([w1, w0], -1)
    middle = _offset(0.5 * A2, w, 0.5 * (left.b2 + right.b2), p)
    low, high = torch.minimum(left.b1, right.b1), torch.maximum(left.b1, right.b1)
    dip = torch.where((low < 0) & (high > 0), -low * high / (high - low), 0.0)
    nothing = torch.zeros_like(left.b2)
    reach = torch.maximum(*(_offset(A2.abs(), dip, nothing, p) for A2 in (left.A2, right.A2)))
    return torch.stack([start, middle, _offset(right.A2, w1, right.b2, p)], -1) + reach.unsqueeze(-1)


def _offset(A2: Tensor, w: Tensor, b2: Tensor, p: float) -> Tensor:
    """‖A2 w − b2‖_p from above, for w >= 0."""
    value = vector_norm((A2 @ w.unsqueeze(-1)).squeeze(-1) - b2, ord=p, dim=-1)
    size = vector_norm((A2.abs() @ w.unsqueeze(-1)).squeeze(-1) + b2.abs(), ord=p, dim=-1)
    return value + norms.gamma(2 * sum(A2.shape[-2:]) + 8) * size


def lead(coefficient: Tensor, like: Tensor) -> Tensor:
    """A coefficient per network, with dimensions added behind so that it meets the batch of ``like``."""
    return coefficient.reshape((*coefficient.shape, *[1] * (like.ndim - coefficient.ndim)))


def size_of(x: Tensor, p: float) -> Tensor:
    """‖x‖_p in float64, (*batch,)."""
    return vector_norm(x.detach().to("cpu", torch.float64), ord=p, dim=-1)


def require_hypothesis(flow: Inclusion) -> None:
    """Bounds need a convex g, whose normal cones are monotone, and the structure that the field claims."""
    if not flow.g.convex:
        raise ValueError(f"bounds need a convex g, whose normal cones are monotone; {flow.g} is not convex.")
    if isinstance(flow.field, ResNetDField):
        flow.field.check_structure()


def rate_name(rate: str) -> str:
    """Label in the theory and name of a rate."""
    return {"global": "R1 (global)", "centred": "R2 (centred)", "scaled": "R3 (scaled)"}[rate]


def starts_at_zero(flow: Inclusion) -> bool:
    """Whether the set is the orthant or a box [0, u]."""
    g = flow.g
    return isinstance(g, Orthant) or (isinstance(g, Box) and bool((torch.as_tensor(g.lower) == 0).all()))


def require_start(flow: Inclusion, x0: Tensor, layout: Plan) -> None:
    """Growth bounds need a state that fits, lies in C, and 0 ∈ argmin g at all times."""
    if not isinstance(flow.field, ResNetField):
        raise ValueError("growth bounds need F(t, 0) between the save times, which a plain callable does not tell. Use "
                         "a ResNet field.")
    require_hypothesis(flow)
    flow.validate(x0, layout.t[0])
    zero = torch.zeros_like(x0).reshape(-1, x0.shape[-1])[:1]
    for t in layout.t:
        if bool(flow.g.prox(zero, 1.0, t).any()):
            raise ValueError(f"growth bounds need 0 to minimise g (for a set: 0 in C); at t = {t:g} it does not for "
                             f"{flow.g}. Shift the state, or use a sensitivity bound against a known trajectory.")
