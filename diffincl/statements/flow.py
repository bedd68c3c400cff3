"""Statements on the flow of the ResNet family: C2, C3, C5, C6."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from ..bounds.continuous import growth_by_rate, growth_of_decay, growth_of_gradient
from ..bounds.pieces import lead
from ..functions import Orthant
from . import controls, draws, keeps
from .case import Case, Statement
from .hypotheses import not_convex, not_decay, not_symmetric, zero_not_minimal
from .quantities import (
    NORMS,
    PairSides,
    at_saves,
    distances,
    expansion,
    norm,
    of_pairs,
    pieces,
    rates_of,
)

__all__ = ["STATEMENTS"]

PAPER = 'Zhang, Schaeffer, "Forward Stability of ResNet and Its Variants", 2020'


def growth_rate(case: Case):
    by_rate = {rate: pieces(case, rate) for rate in rates_of(case)}

    def claim(x: Tensor, y: Tensor) -> PairSides:
        return {f"growth, {rate} rate": (norm(x[1:]), at_saves(p, growth_by_rate(p, norm(x[0]))))
                for rate, p in by_rate.items()}

    return claim


def sensitivity_rate(case: Case):
    rows = {rate: expansion(case, rate) for rate in rates_of(case)}

    def claim(x: Tensor, y: Tensor) -> PairSides:
        now, start = distances(x, y)
        return {f"sensitivity, {rate} rate": (now, lead(row, now) * start) for rate, row in rows.items()}

    return claim


def growth_decay(case: Case):
    of_norms = pieces(case)

    def claim(x: Tensor, y: Tensor) -> PairSides:
        return {f"growth in ℓ{name}": (norm(x[1:], p), at_saves(of_norms, growth_of_decay(of_norms, norm(x[0], p), p)))
                for name, p in NORMS}

    return claim


def gradient_flow(case: Case):
    of_norms = pieces(case)

    def claim(x: Tensor, y: Tensor) -> PairSides:
        now, start = distances(x, y)
        sides = {"nonexpansive": (now, start.expand_as(now))}
        if isinstance(case.flow.g, Orthant):
            sides["growth"] = (norm(x[1:]), at_saves(of_norms, growth_of_gradient(of_norms, norm(x[0]))))
        return sides

    return claim


STATEMENTS = (
    Statement(
        "C2", "growth of the ResNet flow", "g convex and least at 0 (0 ∈ C)",
        "‖x(t)‖ ≤ E_ν(0,t)‖x₀‖ + ∫E_ν(s,t)‖F(s,0)‖ds, ν = ‖A₁‖‖A₂‖ or a sharper rate",
        f"{PAPER}; sharper rates: theory R2, R3",
        zero_not_minimal, of_pairs(growth_rate), draws.RandomNetworks((draws.free, draws.moving), draws.around_zero),
        controls.away_from_zero, keeps.modest, trained=True),
    Statement(
        "C3", "sensitivity of the ResNet flow", "g convex",
        "‖x(t) − y(t)‖ ≤ E_ν(0,t)‖x₀ − y₀‖, ν = ‖A₁‖‖A₂‖ or a sharper rate",
        f"{PAPER}; sharper rates: theory R2, R3",
        not_convex, of_pairs(sensitivity_rate), draws.RandomNetworks((draws.free, draws.moving), draws.convex),
        controls.around_an_obstacle, keeps.modest, trained=True),
    Statement(
        "C5", "growth of the ResNet-D flow", "A₂ ≥ 0, C the orthant or a box [0, u]",
        "‖x(t)‖_p ≤ ‖x₀‖_p + ∫‖(b₂)₊‖_p for every p", PAPER,
        not_decay, of_pairs(growth_decay), draws.RandomNetworks((draws.decay,), draws.from_zero),
        partial(controls.negative_A2, horizon=draws.HORIZON), keeps.modest, trained=True),
    Statement(
        "C6", "the ResNet-S flow", "A₂ = A₁ᵀ, g convex; for growth the orthant",
        "‖x(t) − y(t)‖ ≤ ‖x₀ − y₀‖; ‖x(t)‖ ≤ ∫‖(b₂)₊‖ + √(‖x₀‖² + ½∫‖(b₁)₊‖²)", f"{PAPER}; growth: theory C6",
        not_symmetric, of_pairs(gradient_flow),
        draws.RandomNetworks((draws.symmetric, draws.pulled_then_pushed), draws.convex),
        controls.wrong_sign, keeps.modest, trained=True),
)
