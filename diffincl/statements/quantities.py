"""What the claims are built from: norms, rates on the pieces of the time axis, integrals, multipliers."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor
from torch.linalg import eigvalsh, matrix_norm, vector_norm

from ..bounds.pieces import Pieces, lead, pieces_of
from ..fields import Field, ResNetField, Weights
from ..fields.pieces import evaluate
from ..functions import ProxFunction
from ..inclusion import Inclusion
from ..rates import RATES
from ..steps import plan
from .case import Case, Claim, Look, Run, Sides
from .paths import network, pair

__all__: list[str] = []

NORMS = (("1", 1.0), ("2", 2.0), ("∞", torch.inf))
SEARCHED = "estimate"  # status of rates that an ascent over weights differentiates

PairSides = dict[str, tuple[Tensor, Tensor]]


def of_pairs(make: Callable[[Case], Callable[[Tensor, Tensor], PairSides]]) -> Claim:
    """A claim on pairs of trajectories of the flow: x, y (T, *batch, d) to observed and bound at t[1:]."""
    return partial(_pairs, make, None)


def of_layers(make: Callable[[Case], Callable[[Tensor, Tensor], PairSides]]) -> Claim:
    """A claim on pairs of trajectories of the layers."""
    return partial(_pairs, make, network)


def _pairs(make: Callable[[Case], Callable[[Tensor, Tensor], PairSides]], layers: Run | None, case: Case) -> Look:
    claim = make(case)

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        x, y, error = pair(layers or run, case.flow, x0, y0, case.t)
        return {form: Sides(observed, bound, error[1:]) for form, (observed, bound) in claim(x, y).items()}

    return look


# ---------------------------------------------------------------------------------------------------------------- norms


def norm(x: Tensor, p: float = 2) -> Tensor:
    """‖x‖_p over the last dimension."""
    return vector_norm(x, ord=p, dim=-1)


def distances(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Distance at t[1:] and at t[0]."""
    distance = norm(x - y)
    return distance[1:], distance[0]


def worst_entry(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The entry in which x/z is largest, for x, z >= 0."""
    ratio = torch.where(x > 0, x / z.clamp_min(1e-300), 0.0)
    i = ratio.argmax(-1, keepdim=True)
    return x.gather(-1, i).squeeze(-1), z.gather(-1, i).squeeze(-1)


# ---------------------------------------------------------------------------------------------------------------- rates


def is_searched(field: Field) -> bool:
    """Whether the weights are those of an ascent."""
    return any(buffer.requires_grad for buffer in field.buffers())


def pieces(case: Case, rate: str = "global", p: float = 2, t: Tensor | None = None) -> Pieces:
    """Rates on the intervals of the save times; differentiable in weights that an ascent moves."""
    layout = plan(case.flow.field, case.t if t is None else t)
    if not is_searched(case.flow.field):
        return pieces_of(case.flow, layout, rate, p)
    assert isinstance(case.flow.field, ResNetField)
    layer, left, right = _at_both_ends(case.flow.field, list(pairwise(layout.boundaries())))
    by_name = [[_lipschitz(w, p), RATE[rate](w, p), norm(_apply(w.A2, torch.relu(w.b1)) - w.b2, p)]
               for w in ([left] if right is left else [left, right])]
    L, nu, drift = (torch.stack([a, 0.5 * (a + b), b], -1)[layer]
                    for a, b in zip(by_name[0], by_name[-1], strict=True))
    left, right = (Weights(*(values[layer] for values in w)) for w in (left, right))
    return Pieces(layout, nu, L, drift, left, right, SEARCHED)


def _at_both_ends(field: ResNetField, steps: list[tuple[float, float]]) -> tuple[Tensor, Weights, Weights]:
    """The weights at both ends of some of the steps, and for each step which of them are its own: a search pays for
    every norm, and weights that stand still between knots are the same all over a layer."""
    rest = not field.time_dependent_within_a_step
    key = [bisect(field.knots, 0.5 * (a + b)) if rest else k for k, (a, b) in enumerate(steps)]
    place = {key: k for k, key in enumerate(dict.fromkeys(key))}
    at = [(field.weights_on(a, b), a, b) for a, b in (steps[key.index(k)] for k in place)]
    left = Weights(*map(torch.stack, zip(*(w(a) for w, a, _ in at), strict=True)))
    right = left if rest else Weights(*map(torch.stack, zip(*(w(b) for w, _, b in at), strict=True)))
    return torch.tensor([place[k] for k in key]), left, right


def rates_of(case: Case) -> tuple[str, ...]:
    """The rungs of the ladder that the claims compare, all but where weights are searched."""
    return tuple(rate for rate in RATES if rate in RATE or not is_searched(case.flow.field))


def _lipschitz(w: Weights, p: float) -> Tensor:
    return matrix_norm(w.A1, p) * matrix_norm(w.A2, p)


def _centred(w: Weights, p: float) -> Tensor:
    P = w.A2 @ w.A1
    return 0.5 * (eigvalsh(-0.5 * (P + P.mT))[..., -1] + _lipschitz(w, p))


def _scaled(w: Weights, p: float) -> Tensor:
    """R3 with the scaling from which it is optimised."""
    rows, columns = w.A1.detach().norm(dim=-1), w.A2.detach().norm(dim=-2)
    alive = (rows > 0) & (columns > 0)
    q = torch.where(alive, rows / columns, 1.0).sqrt()
    M = w.A2 * (q * alive).unsqueeze(-2) - w.A1.mT * (alive / q).unsqueeze(-2)
    return 0.25 * matrix_norm(M, 2) ** 2


RATE = {"global": _lipschitz, "centred": _centred, "scaled": _scaled}


def at_saves(pieces: Pieces, curve: Tensor) -> Tensor:
    """A curve at the save times after the first, with room for rounding."""
    rows = curve[list(pieces.plan.saves())[1:]]
    return rows if pieces.status == SEARCHED else rows * pieces.slack


def exponents(pieces: Pieces) -> Tensor:
    """∫ν from the start to every boundary, (K + 1, *weights)."""
    total = pieces.weighted(pieces.rate.mean(-1)).cumsum(0)
    return torch.cat([torch.zeros_like(total[:1]), total])


def expansion(case: Case, rate: str, p: float = 2) -> Tensor:
    """E_ν at the save times after the first, (T − 1, *weights)."""
    of_rate = pieces(case, rate, p)
    return at_saves(of_rate, exponents(of_rate).exp())


def carry(start: Tensor, z: Tensor, added: Tensor) -> Tensor:
    """r⁺ = e^z r + φ(z)·added, φ(z) = (e^z − 1)/z, from r = ``start``: (K + 1, *batch).

    With z = νh and added = hβ this is E_ν(0,t)r + ∫E_ν(s,t)β ds for ν and β that stand still on each interval.
    """
    rows, safe = [start], torch.where(z == 0, 1.0, z)
    phi = torch.where(z == 0, 1.0, torch.expm1(safe) / safe)
    for k in range(len(z)):
        rows.append(lead(z[k].exp(), start) * rows[-1] + lead(phi[k], start) * added[k])
    return torch.stack(rows)


# --------------------------------------------------------------------------------------------------------- trajectories


def at_ends(field: Field, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """F at both ends of every interval of the times, its limits from inside, (T − 1, *batch, d) each."""
    steps = list(pairwise(plan(field, t).stops))
    if isinstance(field, ResNetField) and not field.time_dependent_within_a_step:
        return _at_rest(field, steps, x)
    rows = []
    for k, (a, b) in enumerate(steps):
        F = field.on(a, b)
        rows.append((F(torch.tensor(a, dtype=torch.float64), x[k]), F(torch.tensor(b, dtype=torch.float64), x[k + 1])))
    return torch.stack([left for left, _ in rows]), torch.stack([right for _, right in rows])


def _at_rest(field: ResNetField, steps: list[tuple[float, float]], x: Tensor) -> tuple[Tensor, Tensor]:
    """The same for weights that stand still between knots: one evaluation a layer."""
    layer = [bisect(field.knots, 0.5 * (a + b)) for a, b in steps]
    depth, found = len(field.ensemble), []
    for number in dict.fromkeys(layer):
        first, size = layer.index(number), layer.count(number)
        a, b = steps[first]
        states = x[first:first + size + 1].movedim(0, depth)
        F = evaluate(field.weights_on(a, b)(a), states).movedim(depth, 0)
        found.append((F[:-1], F[1:]))
    return torch.cat([left for left, _ in found]), torch.cat([right for _, right in found])


def lengths(t: Tensor, like: Tensor) -> Tensor:
    """Lengths of the intervals, with dimensions for the batch."""
    return t.diff().reshape(-1, *[1] * (like.ndim - 1))


def multiplier(g: ProxFunction, t: Tensor, x: Tensor, velocity: Tensor, eps: float = 1e-6) -> Tensor:
    """The part of ``velocity`` (T, *batch, d) that a set takes away at x, n = v − P_T(v), as (z − prox z)/ε with
    z = x + εv."""
    z = x + eps * velocity
    if g.moving:
        return torch.stack([(z[k] - g.prox(z[k], eps, t[k])) / eps for k in range(len(t))])
    return (z - g.prox(z, eps)) / eps


def multipliers(flow: Inclusion, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """‖n‖ at both ends of every interval, n = −x' − F."""
    left, right = at_ends(flow.field, t, x)
    return (norm(multiplier(flow.g, t[:-1], x[:-1], -left)), norm(multiplier(flow.g, t[1:], x[1:], -right)))


def _apply(A: Tensor, x: Tensor) -> Tensor:
    return (A @ x.unsqueeze(-1)).squeeze(-1)
