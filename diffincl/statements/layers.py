"""Statements on the layers of the ResNet family: D1, D2, D3."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from ..bounds.discrete import growth_by_factor, product_of_factors, waiting
from ..bounds.pieces import lead
from ..schemes import ForwardEuler
from . import controls, draws, keeps
from .case import Case, Statement
from .draws import NETWORK
from .flow import PAPER
from .hypotheses import above, all_of, not_convex, not_decay, not_symmetric, zero_not_minimal
from .quantities import NORMS, PairSides, at_saves, distances, norm, of_layers, pieces, rates_of, worst_entry

__all__ = ["STATEMENTS"]


def layer_product(case: Case):
    scheme, by_rate = ForwardEuler(), {rate: pieces(case, rate) for rate in rates_of(case)}
    factors = {rate: at_saves(p, product_of_factors(p, scheme, rate)) for rate, p in by_rate.items()}
    grows = not zero_not_minimal(case)

    def claim(x: Tensor, y: Tensor) -> PairSides:
        now, start = distances(x, y)
        sides = {f"sensitivity, {rate} rate": (now, lead(factor, now) * start) for rate, factor in factors.items()}
        if grows:
            sides |= {f"growth, {rate} rate": (norm(x[1:]), at_saves(p, growth_by_factor(p, scheme, rate, norm(x[0]))))
                      for rate, p in by_rate.items()}
        return sides

    return claim


def layer_waiting(case: Case):
    of_norms = pieces(case)

    def claim(x: Tensor, y: Tensor) -> PairSides:
        z = at_saves(of_norms, waiting(of_norms, x[0]))
        by_norm = {f"growth in ℓ{name}": (norm(x[1:], p), norm(z, p)) for name, p in NORMS}
        return {"entry by entry": worst_entry(x[1:], z), **by_norm}

    return claim


def nonexpansive(case: Case):
    def claim(x: Tensor, y: Tensor) -> PairSides:
        now, start = distances(x, y)
        return {"nonexpansive": (now, start.expand_as(now))}

    return claim


STATEMENTS = (
    Statement(
        "D1", "the ResNet layers", "g convex; for growth least at 0 (0 ∈ C)",
        "‖x_N − y_N‖ ≤ ∏ρ_k‖x₀ − y₀‖; ‖x_{k+1}‖ ≤ ρ_k‖x_k‖ + h‖F_k(0)‖, ρ_k = 1 + hL_k or a sharper factor",
        f"{PAPER}; sharper factors: D3, D4",
        not_convex, of_layers(layer_product),
        draws.RandomNetworks((draws.free, draws.moving, draws.symmetric), draws.convex, NETWORK),
        controls.around_an_obstacle,
        keeps.modest, trained=True),
    Statement(
        "D2", "growth of the ResNet-D layers", "A₂ ≥ 0, C the orthant or a box [0, u]",
        "x_N ≤ z_N entry by entry, z⁺ = (z + h b₂)₊, z₀ = x₀", f"{PAPER}; the recursion: Lindley, 1952",
        not_decay, of_layers(layer_waiting), draws.RandomNetworks((draws.decay,), draws.from_zero, NETWORK),
        partial(controls.negative_A2, horizon=NETWORK), keeps.modest, trained=True),
    Statement(
        "D3", "the ResNet-S layers", "A₂ = A₁ᵀ, h‖A‖² ≤ 2, g convex",
        "‖x_N − y_N‖ ≤ ‖x₀ − y₀‖", PAPER,
        all_of(not_convex, not_symmetric, above(2.0)), of_layers(nonexpansive),
        draws.RandomNetworks((draws.symmetric_under_limit,), draws.convex, NETWORK), controls.above_the_limit,
        keeps.under(2.0), trained=True),
)
