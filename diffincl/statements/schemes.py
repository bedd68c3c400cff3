"""Statements on steps of other schemes and on perturbed layers: D4, D7, D8."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Generator, Tensor
from torch.linalg import matrix_norm

from ..bounds.discrete import product_of_factors
from ..bounds.pieces import lead
from ..fields import ResNetSField
from ..schemes import ARS222, ForwardEuler, ImplicitEuler, ProxHeun, Scheme, Trapezoid
from . import controls, draws, keeps
from .case import Case, Look, Run, Sides, Statement
from .draws import NETWORK
from .hypotheses import all_of, no_orthant, not_convex, not_its_own, not_symmetric, steps_of
from .paths import network, pair
from .quantities import at_saves, exponents, norm, pieces, rates_of

__all__ = ["STATEMENTS"]

# SemiImplicitEuler has no factor.
SCHEMES: dict[str, Scheme] = {type(s).__name__: s for s in (
    ForwardEuler(), ProxHeun(), ARS222(), ImplicitEuler(), Trapezoid())}


def factors_of(names: tuple[str, ...], case: Case) -> Look:
    """The product of a scheme's factors bounds the steps of the scheme; a control puts one to the steps of another."""
    run_by = case.given.get("steps", "")
    by_rate = {rate: pieces(case, rate) for rate in rates_of(case)}
    looked_at = names if not run_by else (str(case.given["factor"]),)
    curves = {(name, rate): _curve(name, rate, p) for name in looked_at for rate, p in by_rate.items()}

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        sides = {}
        for name in looked_at:
            scheme = controls.TEXTBOOK if run_by == controls.TEXTBOOK_NAME else SCHEMES[str(run_by or name)]
            x, y, error = pair(partial(network, scheme=scheme, throw=False), case.flow, x0, y0, case.t)
            sides |= {f"{name}, {rate} rate": _sides(x, y, error, curves[name, rate]) for rate in by_rate}
        return sides

    return look


def _sides(x: Tensor, y: Tensor, error: Tensor, factor: Tensor) -> Sides:
    """‖x − y‖ <= factor·(its start). Where the factor is infinite nothing is claimed, and x and y may be NaN: an
    implicit step with hν >= 1 need not have a root."""
    factor = lead(factor, error[1:])
    nothing = torch.isinf(factor)
    x, y = (torch.cat([z[:1], torch.where(nothing.unsqueeze(-1), 0.0, z[1:])]) for z in (x, y))
    now = norm(x - y)
    bound = torch.where(now[0] > 0, factor * now[0], 0.0)  # 0, not inf·0
    return Sides(now[1:], bound, torch.where(nothing, 0.0, error[1:]))


def _curve(name: str, rate: str, p) -> Tensor:
    """Factor from the start to t[1:], that of the exact flow for the name "the flow"."""
    return at_saves(p, exponents(p).exp() if name == controls.FLOW else product_of_factors(p, SCHEMES[name], rate))


# ------------------------------------------------------------------------------------------------------------------ D8

C = 0.2784645427610738  # W(1/e): the least c with max(1, s − 1) <= e^{cs}


def closed_forms(case: Case) -> Look:
    steps = steps_of(case)
    h = lead(torch.tensor([h for h, _ in steps], dtype=torch.float64), steps[0][1].b1[..., 0].unsqueeze(0))
    square = h * torch.stack([matrix_norm(w.A1, 2) for _, w in steps]) ** 2
    pulled, pushed = (torch.stack([norm(torch.relu(b)) for b in rows])
                      for rows in ([w.b1 for _, w in steps], [w.b2 for _, w in steps]))
    room = torch.where(square < 2, h * pulled**2 / (2 - square).clamp_min(1e-300), torch.inf)
    inner, outer, total = room.cumsum(0), (h * pushed).cumsum(0), (C * square).cumsum(0)
    p = pieces(case, "scaled")
    curve = at_saves(p, product_of_factors(p, ForwardEuler(), "scaled"))

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        x, y, error = pair(network, case.flow, x0, y0, case.t)
        start, now = norm(x0), norm(x - y)
        growth = (start**2 + lead(inner, x[1:, ..., 0])).clamp_min(1e-300).sqrt() + lead(outer, x[1:, ..., 0])
        sides = {"growth": Sides(norm(x[1:]), growth * (1 + 1e-12), error[1:]),
                 "exponential": Sides(now[1:], lead(total, now[1:]).exp() * now[0] * (1 + 1e-12), error[1:])}
        return sides | {"layer errors": _layer_errors(case, x, error, curve)}

    return look


def _layer_errors(case: Case, x: Tensor, error: Tensor, curve: Tensor) -> Sides:
    """‖x_N − x̃_N‖ <= Σ_k(∏_{j > k}ρ_j)‖e_k‖, x̃⁺ = layer(x̃) + e_k."""
    e, z, bound, rows = case.number("errors"), x[0], torch.zeros_like(x[0, ..., 0]), []
    ratios = torch.cat([curve[:1], curve[1:] / curve[:-1].clamp_min(1e-300)])
    for k in range(len(case.t) - 1):
        a, b = float(case.t[k]), float(case.t[k + 1])
        F = case.flow.field.on(a, b)
        z = case.flow.g.prox(z - (b - a) * F(case.t[k], z), b - a, b) + e[..., k, :]
        bound = lead(ratios[k], bound) * bound + norm(e[..., k, :])
        rows.append((norm(x[k + 1] - z), bound * (1 + 1e-12)))
    return Sides(torch.stack([o for o, _ in rows]), torch.stack([b for _, b in rows]), 4 * error[1:])


def with_errors(generator: Generator, case: Case) -> Case:
    """Errors of the layers, from 1e-3 to 1."""
    n, _, d = case.x0.shape
    e = 10 ** draws.uniform(generator, -3, 0, n, 1, 1, 1) * draws.normal(generator, n, 1, len(case.t) - 1, d)
    return replace(case, given={"errors": e})


def stiff(generator: Generator, networks: int, horizon: float) -> ResNetSField:
    """ResNet-S with h‖A‖² up to 3.5: no rate is needed for the flow, yet forward Euler expands."""
    return draws.symmetric(generator, networks, horizon, square=(4.0, 14.0))


STATEMENTS = (
    Statement(
        "D4", "each scheme has its own factor", "g convex; the steps are those of the scheme",
        "‖x_N − y_N‖ ≤ ∏ρ_k‖x₀ − y₀‖, ρ that of the scheme: explicit √(1 + 2hν + h²L²), implicit 1/(1 − hν), …",
        "theory D4",
        all_of(not_convex, not_its_own), partial(factors_of, tuple(SCHEMES)),
        draws.RandomNetworks((draws.small, draws.free, stiff), draws.boxes, draws.HORIZON), controls.rotation),
    Statement(
        "D7", "prox-Heun in SSP form", "g convex; the steps are those of the SSP form",
        "‖x⁺ − y⁺‖ ≤ ½(1 + ρ₁ρ₂)‖x − y‖; nonexpansive for ResNet-S with h‖A‖² ≤ 2", "theory D7",
        all_of(not_convex, not_its_own), partial(factors_of, ("ProxHeun",)),
        draws.RandomNetworks((draws.symmetric_under_limit, draws.free, draws.moving), draws.convex, NETWORK),
        controls.textbook_heun, keeps.modest),
    Statement(
        "D8", "closed forms for the ResNet-S layers", "A₂ = A₁ᵀ, C the orthant; for growth h‖A‖² < 2",
        "‖x_N‖ ≤ √(‖x₀‖² + Σh‖(b₁)₊‖²/(2 − h‖A‖²)) + hΣ‖(b₂)₊‖; ‖x_N − y_N‖ ≤ exp(cΣh‖A_k‖²)‖x₀ − y₀‖, c = W(1/e); "
        "with errors e_k of the layers ‖x_N − x̃_N‖ ≤ Σ(∏ρ_j)‖e_k‖", "theory D8",
        all_of(not_symmetric, no_orthant), closed_forms,
        draws.RandomNetworks((draws.symmetric_under_limit, draws.symmetric), draws.orthant, NETWORK,
                             finish=with_errors),
        lambda generator, networks: with_errors(generator, controls.no_boundary(generator, networks)), keeps.modest),
)
