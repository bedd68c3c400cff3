"""Statements on energy: C7 (flow) and D6 (layers) of gradient fields."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Generator, Tensor

from ..bounds.pieces import lead
from ..fields import ResNetSField, Weights
from ..inclusion import Inclusion
from . import controls, draws, keeps
from .case import Case, Look, Run, Sides, Statement
from .draws import DENSE, NETWORK
from .fields import PlusLinearField, identity
from .hypotheses import above, all_of, changes_in_time, no_set, not_symmetric, set_moves, steps_of
from .integrals import accumulate
from .paths import network
from .quantities import lengths, norm
from .rest import Together, at_rest, keep_rest, on_orthant

__all__ = ["STATEMENTS"]


def potential(weights: Weights, x: Tensor) -> Tensor:
    """φ(x) = ½‖σ(Ax + b1)‖² − b2·x of ResNet-S, at states (T, *batch, d)."""
    A, b1, _, b2 = (lead_rows(w, x, k) for w, k in zip(weights, (2, 1, 2, 1), strict=True))
    hidden = torch.relu((A @ x.unsqueeze(-1)).squeeze(-1) + b1)
    return 0.5 * norm(hidden) ** 2 - (b2 * x).sum(-1)


def lead_rows(w: Tensor, x: Tensor, own: int) -> Tensor:
    """A weight (*weights, …) with dimensions added so that it meets states (T, *batch, d)."""
    ensemble = w.shape[:w.ndim - own]
    return w.reshape(1, *ensemble, *[1] * (x.ndim - 2 - len(ensemble)), *w.shape[w.ndim - own:])


# ------------------------------------------------------------------------------------------------------------------ C7


def energy(case: Case) -> Look:
    weights = steps_of(case)[0][1]

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        (x, error), (position,) = accumulate(run, case.flow, x0, case.t, (identity(x0.shape[-1]),))
        h = case.t.diff().reshape(-1, *[1] * (x.ndim - 2))
        sides = _speeds(x, error, h, case, y0)
        if isinstance(case.flow.field, ResNetSField):
            phi, noise = potential(weights, x), _noise_of_potential(weights, x, error)
            lost = (norm(x.diff(dim=0)) ** 2 / h).cumsum(0)
            unsure = 2 * (error[1:] * norm(x.diff(dim=0)) / h).cumsum(0)
            sides |= {"balance": Sides(lost, phi[0] - phi[1:], noise + unsure),
                      "gap": _gap(4 * (case.t[1:] - case.t[0]), phi, potential(weights, y0.unsqueeze(0)),
                                  norm(x0 - y0) ** 2, noise)}
        sides["time average"] = _average(case, x[0], position, error, y0)
        return sides

    return look


def _gap(t: Tensor, phi: Tensor, phi_u: Tensor, square: Tensor, noise: Tensor) -> Sides:
    """t(φ(x) − φ(u))₊ <= ‖x0 − u‖², for ``t`` one number a time.

    The flow has 4t: with Δ = φ(x(t)) − φ(u) and r = ‖x(t) − u‖, (tΔ)' <= −x'·(x − u) − t‖x'‖² gives tΔ <= ½‖x0 − u‖² −
    ½r² − ½t²‖x'(t)‖², as ‖x'‖ does not grow, and Δ <= ‖x'‖r. The layers have ``after_layers``.
    """
    t = t.reshape(-1, *[1] * (phi.ndim - 1))
    return Sides((t * (phi[1:] - phi_u)).clamp_min(0), square.expand_as(noise), t * noise)


def after_layers(h: float, count: int) -> Tensor:
    """h(2N − 1 + √(2N² − 2N + 1)) for N = 1, …, ``count``, from 2h to 3.41hN.

    With δ_k = h(φ(x_k) − φ(u)), g_k = x_k − x_{k+1}, r_k = ‖x_k − u‖ and h‖A‖² <= 1: 2δ_{k+1} <= r_k² − r_{k+1}² and
    δ_k − δ_{k+1} >= ½‖g_k‖², so, since ‖g_k‖ does not grow, 2Nδ_N <= r_0² − r_N² − ½N(N − 1)γ² with γ =
    ‖g_{N−1}‖. By convexity δ_N <= γr_N + ½γ². If δ_N >= ½γ², then r_N² >= (δ_N/γ − ½γ)², and the least value of
    δ_N²/γ² + (2N² − 2N + 1)γ²/4 over γ is δ_N√(2N² − 2N + 1). If not, N(N + 1)δ_N <= r_0², which is less still.
    """
    N = torch.arange(1, count + 1, dtype=torch.float64)
    return h * (2 * N - 1 + (2 * N**2 - 2 * N + 1).sqrt())


def _noise_of_potential(weights: Weights, x: Tensor, error: Tensor) -> Tensor:
    """What an error of x does to φ(x), with |F| as slope."""
    A1, b1, A2, b2 = (lead_rows(w, x, k).abs() for w, k in zip(weights, (2, 1, 2, 1), strict=True))
    hidden = (A1 @ x.abs().unsqueeze(-1)).squeeze(-1) + b1
    slope = ((A2 @ hidden.unsqueeze(-1)).squeeze(-1) + b2).amax(-1)
    return 2 * (error * slope).cummax(0).values[1:]


def _speeds(x: Tensor, error: Tensor, h: Tensor, case: Case, y0: Tensor) -> dict[str, Sides]:
    """‖x'‖ does not grow, and is at most ‖x0 − x*‖/t where y0 is a minimiser x*; x' as difference quotients."""
    step = norm(x.diff(dim=0))
    first = torch.ones_like(step[:1])
    sides = {"speed": Sides(torch.cat([0 * first, step[1:]]), torch.cat([first, step[:-1]]), 4 * error[1:])}
    if "rest" in case.given:
        t = (case.t[:-1] - case.t[0]).reshape(h.shape)
        sides["speed, from rest"] = Sides(t * step / h, norm(x[0] - y0).expand_as(step), 2 * t * error[1:] / h)
    return sides


def _average(case: Case, x0: Tensor, position: Tensor, error: Tensor, u: Tensor) -> Sides:
    """2(F(u)·∫(x − u))₊ <= ‖x0 − u‖², from ∫x over every interval."""
    F = case.flow.field.on(float(case.t[0]), float(case.t[1]))(case.t[0], u)
    whole = (position - u * lengths(case.t, position)).cumsum(0)
    noise = 2 * norm(F) * error[1:]
    return Sides((2 * (F * whole).sum(-1)).clamp_min(0), (norm(x0 - u) ** 2).expand_as(noise), noise)


def not_monotone(case: Case) -> str:
    """A2 = A1ᵀ, and a linear part whose symmetric part is not negative somewhere."""
    field = case.flow.field
    if not isinstance(field, PlusLinearField):
        return not_symmetric(case)
    base = steps_of(replace(case, flow=Inclusion(field.without(), case.flow.g)))[0][1]
    M = field.M.values.detach()
    least = float(torch.linalg.eigvalsh(0.5 * (M + M.mT)).min())
    return f"F is not monotone: λmin(sym M) = {least:.4g} < 0" if least < -1e-12 else \
        "" if torch.equal(base.A1.mT, base.A2) else "A₂ is not A₁ᵀ"


# ------------------------------------------------------------------------------------------------------------------ D6


def energy_of_layers(case: Case) -> Look:
    h, weights = steps_of(case)[0]
    slope = torch.linalg.matrix_norm(weights.A1, 2) ** 2
    rate = float(case.number("limit")) <= 1

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        x, error = network(case.flow, x0, case.t)
        phi, noise, step = potential(weights, x), _noise_of_potential(weights, x, error), norm(x.diff(dim=0))
        first = torch.ones_like(step[:1])
        lost = lead(1 / h - slope / 2, step[0]) * (step**2).cumsum(0)
        sides = {"speed": Sides(torch.cat([0 * first, step[1:]]), torch.cat([first, step[:-1]]), 4 * error[1:]),
                 "energy": Sides(lost.clamp_min(0), phi[0] - phi[1:], noise)}
        if rate:
            sides["gap"] = _gap(after_layers(h, len(case.t) - 1), phi, potential(weights, y0.unsqueeze(0)),
                                norm(x0 - y0) ** 2, noise)
        return sides

    return look


def constant_symmetric(generator: Generator, networks: int, horizon: float) -> ResNetSField:
    """ResNet-S with weights that do not change in time."""
    w = draws.symmetric(generator, networks, horizon, square=(0.2, 6.0), layers=1)
    return ResNetSField(w.A.values[0], w.b1.values[0], w.b2.values[0])


def rotating(generator: Generator, networks: int, horizon: float) -> PlusLinearField:
    """Monotone, and no gradient: ResNet-S and a rotation."""
    S = constant_symmetric(generator, networks, horizon)
    J = draws.normal(generator, networks, draws.WIDTH, draws.WIDTH)
    return PlusLinearField(S.A.values, S.b1.values, S.A.values.mT, S.b2.values, J - J.mT)


def keep_symmetric(case: Case, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A2 = A1ᵀ, and a linear part that turns only."""
    kept = keeps.modest(case, weights)
    if "M" in kept:
        A = 0.5 * (kept["A1"] + kept["A2"].mT)
        kept |= {"A1": A, "A2": A.mT, "M": 0.5 * (kept["M"] - kept["M"].mT)}
    return keep_rest(case, kept)


def limited(limit: float, generator: Generator, case: Case) -> Case:
    """Layers of a length h such that h‖A‖² <= limit for every network, with equality for the largest."""
    largest = float(torch.linalg.matrix_norm(case.weights["A"], 2).max()) ** 2
    t = draws.times(case.t.numel() * limit * (1 - 1e-9) / largest, layers=case.t.numel())
    return replace(case, origin=f"{case.origin}, h‖A‖² ≤ {limit:g}", t=t, given={"limit": torch.tensor(limit).double()})


def _layers(limit: float) -> draws.RandomNetworks:
    return draws.RandomNetworks((constant_symmetric,), draws.boxes, NETWORK, a_layer=3, finish=partial(limited, limit))


STATEMENTS = (
    Statement(
        "C7", "energy of the ResNet-S flow", "A₂ = A₁ᵀ (or F monotone, for the time average), weights and C constant",
        "∫‖x'‖² ≤ φ(x₀) − φ(x(t)); ‖x'‖ does not grow; φ(x(t)) − φ(u) ≤ ‖x₀ − u‖²/(4t) for every u ∈ C; ‖x'(t)‖ ≤ "
        "‖x₀ − x*‖/t; F(u)·(x̄ − u) ≤ ‖x₀ − u‖²/(2t)", "theory C7, with half its constant in the gap",
        all_of(no_set, set_moves, not_monotone, changes_in_time), energy,
        Together(on_orthant(constant_symmetric, finish=at_rest),
                 draws.RandomNetworks((constant_symmetric, rotating), draws.convex_sets, a_layer=DENSE)),
        controls.changing_weights, keep_symmetric),
    Statement(
        "D6", "energy of the ResNet-S layers", "A₂ = A₁ᵀ, constant weights, h‖A‖² ≤ 2; for the rate 1/N h‖A‖² ≤ 1",
        "φ(x_k) and ‖x_{k+1} − x_k‖ do not grow; φ(x_N) − φ(u) ≤ ‖x₀ − u‖²/(h(2N − 1 + √(2N² − 2N + 1))), about "
        "‖x₀ − u‖²/(3.4hN), for every u ∈ C", "theory D6, with a smaller constant in the gap",
        all_of(no_set, not_symmetric, changes_in_time, above()), energy_of_layers, Together(_layers(2.0), _layers(1.0)),
        controls.near_two, keeps.under()),
)
