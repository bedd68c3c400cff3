"""The statements: hypothesis as code, bound as code, instances to draw and a control outside the hypothesis."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.linalg import vector_norm

from ..bounds.continuous import growth_by_rate, growth_of_decay, growth_of_gradient
from ..bounds.discrete import growth_by_factor, product_of_factors, waiting
from ..bounds.pieces import Pieces, lead, pieces_of, starts_at_zero
from ..fields import ResNetDField, ResNetSField
from ..functions import Orthant
from ..norms import dense
from ..rates import RATES
from ..schemes import ForwardEuler
from ..steps import plan
from . import draws
from .case import Case, Claim, Statement

__all__ = ["STATEMENTS"]

Sides = dict[str, tuple[Tensor, Tensor]]
PAPER = 'Zhang, Schaeffer, "Forward Stability of ResNet and Its Variants", 2020'

# ----------------------------------------------------------------------------------------------------------- hypotheses


def _not_convex(case: Case) -> str:
    return "" if case.flow.g.convex else "g is not convex"


def _zero_not_minimal(case: Case) -> str:
    zero = torch.zeros_like(case.x0[..., :1, :])
    moved = any(bool(case.flow.g.prox(zero, 1.0, t).any()) for t in case.t.tolist())
    return _not_convex(case) or ("0 does not minimise g (0 is not in C)" if moved else "")


def _not_decay(case: Case) -> str:
    if not isinstance(case.flow.field, ResNetDField):
        return "A2 is not constrained to be nonnegative"
    case.flow.field.check_structure()
    return "" if starts_at_zero(case.flow) else "C is neither the orthant nor a box [0, u]"


def _not_symmetric(case: Case) -> str:
    return _not_convex(case) or ("" if isinstance(case.flow.field, ResNetSField) else "A2 is not A1ᵀ")


def _above_limit(case: Case) -> str:
    reason = _not_symmetric(case)
    if reason:
        return reason
    assert isinstance(case.flow.field, ResNetSField)
    layout = plan(case.flow.field, case.t)
    for k, (a, b) in enumerate(zip(layout.t, layout.t[1:], strict=False)):
        A = case.flow.field.weights_on(a, b)(a).A1
        worst = (b - a) * float(dense(A).value.max()) ** 2
        if worst > 2 * (1 + 1e-12):
            return f"h‖A‖² is {worst:.4g} > 2 in layer {k}"
    return ""


# --------------------------------------------------------------------------------------------------------------- claims


def _norm(x: Tensor, p: float = 2) -> Tensor:
    return vector_norm(x, ord=p, dim=-1)


def _distances(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Distance at t[1:] and at t[0]."""
    distance = _norm(x - y)
    return distance[1:], distance[0]


def _worst_entry(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The entry in which x/z is largest, for x, z >= 0."""
    ratio = torch.where(x > 0, x / z.clamp_min(1e-300), 0.0)
    i = ratio.argmax(-1, keepdim=True)
    return x.gather(-1, i).squeeze(-1), z.gather(-1, i).squeeze(-1)


def _at_saves(pieces: Pieces, curve: Tensor) -> Tensor:
    """A curve at the save times after the first, with room for rounding."""
    return curve[list(pieces.plan.saves)[1:]] * pieces.slack


def _growth_rate(case: Case) -> Claim:
    layout = plan(case.flow.field, case.t)
    pieces = {rate: pieces_of(case.flow, layout, rate, 2) for rate in RATES}

    def claim(x: Tensor, y: Tensor) -> Sides:
        return {f"growth, {rate} rate": (_norm(x[1:]), _at_saves(p, growth_by_rate(p, _norm(x[0]))))
                for rate, p in pieces.items()}

    return claim


def _sensitivity_rate(case: Case) -> Claim:
    layout = plan(case.flow.field, case.t)
    pieces = {rate: pieces_of(case.flow, layout, rate, 2) for rate in RATES}
    curves = {rate: torch.exp(p.weighted(p.rate.mean(-1)).cumsum(0)) for rate, p in pieces.items()}
    rows = {rate: curves[rate][[k - 1 for k in layout.saves[1:]]] * p.slack for rate, p in pieces.items()}

    def claim(x: Tensor, y: Tensor) -> Sides:
        now, start = _distances(x, y)
        return {f"sensitivity, {rate} rate": (now, lead(row, now) * start) for rate, row in rows.items()}

    return claim


def _growth_decay(case: Case) -> Claim:
    pieces = pieces_of(case.flow, plan(case.flow.field, case.t), "global", 2)

    def claim(x: Tensor, y: Tensor) -> Sides:
        return {f"growth in ℓ{name}": (_norm(x[1:], p), _at_saves(pieces, growth_of_decay(pieces, _norm(x[0], p), p)))
                for name, p in (("1", 1.0), ("2", 2.0), ("∞", torch.inf))}

    return claim


def _gradient_flow(case: Case) -> Claim:
    pieces = pieces_of(case.flow, plan(case.flow.field, case.t), "global", 2)

    def claim(x: Tensor, y: Tensor) -> Sides:
        now, start = _distances(x, y)
        sides = {"nonexpansive": (now, start.expand_as(now))}
        if isinstance(case.flow.g, Orthant):
            sides["growth"] = (_norm(x[1:]), _at_saves(pieces, growth_of_gradient(pieces, _norm(x[0]))))
        return sides

    return claim


def _layer_product(case: Case) -> Claim:
    layout, scheme = plan(case.flow.field, case.t), ForwardEuler()
    pieces = {rate: pieces_of(case.flow, layout, rate, 2) for rate in RATES}
    factors = {rate: _at_saves(p, product_of_factors(p, scheme, rate)) for rate, p in pieces.items()}
    grows = not _zero_not_minimal(case)

    def claim(x: Tensor, y: Tensor) -> Sides:
        now, start = _distances(x, y)
        sides = {f"sensitivity, {rate} rate": (now, lead(factor, now) * start) for rate, factor in factors.items()}
        if grows:
            curves = {rate: growth_by_factor(p, scheme, rate, _norm(x[0])) for rate, p in pieces.items()}
            sides |= {f"growth, {rate} rate": (_norm(x[1:]), _at_saves(pieces[rate], curve))
                      for rate, curve in curves.items()}
        return sides

    return claim


def _waiting(case: Case) -> Claim:
    pieces = pieces_of(case.flow, plan(case.flow.field, case.t), "global", 2)

    def claim(x: Tensor, y: Tensor) -> Sides:
        z = _at_saves(pieces, waiting(pieces, x[0]))
        by_norm = {f"growth in ℓ{name}": (_norm(x[1:], p), _norm(z, p))
                   for name, p in (("1", 1.0), ("2", 2.0), ("∞", torch.inf))}
        return {"entry by entry": _worst_entry(x[1:], z), **by_norm}

    return claim


def _nonexpansive(case: Case) -> Claim:
    def claim(x: Tensor, y: Tensor) -> Sides:
        now, start = _distances(x, y)
        return {"nonexpansive": (now, start.expand_as(now))}

    return claim


# ------------------------------------------------------------------------------------------------------------ catalogue

_NETWORK = float(draws.LAYERS)

STATEMENTS: dict[str, Statement] = {s.label: s for s in (
    Statement(
        "C2", "growth of the ResNet flow", "g convex and least at 0 (0 ∈ C)",
        "‖x(t)‖ ≤ E_ν(0,t)‖x₀‖ + ∫E_ν(s,t)‖F(s,0)‖ds, ν = ‖A₁‖‖A₂‖ or a sharper rate",
        f"{PAPER}; sharper rates: R2, R3",
        True, _zero_not_minimal, _growth_rate,
        draws.Draw((draws.free, draws.moving), draws.around_zero), draws.away_from_zero),
    Statement(
        "C3", "sensitivity of the ResNet flow", "g convex",
        "‖x(t) − y(t)‖ ≤ E_ν(0,t)‖x₀ − y₀‖, ν = ‖A₁‖‖A₂‖ or a sharper rate", f"{PAPER}; sharper rates: R2, R3",
        True, _not_convex, _sensitivity_rate,
        draws.Draw((draws.free, draws.moving), draws.convex), draws.around_an_obstacle),
    Statement(
        "C5", "growth of the ResNet-D flow", "A₂ ≥ 0, C the orthant or a box [0, u]",
        "‖x(t)‖_p ≤ ‖x₀‖_p + ∫‖(b₂)₊‖_p for every p", PAPER,
        True, _not_decay, _growth_decay, draws.Draw((draws.decay,), draws.from_zero),
        partial(draws.negative_A2, horizon=draws.HORIZON)),
    Statement(
        "C6", "the ResNet-S flow", "A₂ = A₁ᵀ, g convex; for growth the orthant",
        "‖x(t) − y(t)‖ ≤ ‖x₀ − y₀‖; ‖x(t)‖ ≤ ∫‖(b₂)₊‖ + √(‖x₀‖² + ½∫‖(b₁)₊‖²)", f"{PAPER}; growth: theory C6",
        True, _not_symmetric, _gradient_flow, draws.Draw((draws.symmetric,), draws.convex), draws.wrong_sign),
    Statement(
        "D1", "the ResNet layers", "g convex; for growth least at 0 (0 ∈ C)",
        "‖x_N − y_N‖ ≤ ∏ρ_k‖x₀ − y₀‖; ‖x_{k+1}‖ ≤ ρ_k‖x_k‖ + h‖F_k(0)‖, ρ_k = 1 + hL_k or a sharper factor",
        f"{PAPER}; sharper factors: D3, D4",
        False, _not_convex, _layer_product,
        draws.Draw((draws.free, draws.moving), draws.convex, _NETWORK), draws.around_an_obstacle),
    Statement(
        "D2", "growth of the ResNet-D layers", "A₂ ≥ 0, C the orthant or a box [0, u]",
        "x_N ≤ z_N entry by entry, z⁺ = (z + h b₂)₊, z₀ = x₀", f"{PAPER}; the recursion: Lindley, 1952",
        False, _not_decay, _waiting, draws.Draw((draws.decay,), draws.from_zero, _NETWORK),
        partial(draws.negative_A2, horizon=_NETWORK)),
    Statement(
        "D3", "the ResNet-S layers", "A₂ = A₁ᵀ, h‖A‖² ≤ 2, g convex",
        "‖x_N − y_N‖ ≤ ‖x₀ − y₀‖", PAPER,
        False, _above_limit, _nonexpansive, draws.Draw((draws.symmetric_under_limit,), draws.convex, _NETWORK),
        draws.above_the_limit),
)}

