"""Statements on energy and rest: C7 and D6 (gradient flows), C12 and D9 (leaks)."""

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
from .draws import DENSE, HORIZON, NETWORK
from .fields import LeakySField, PlusLinearField
from .hypotheses import above, all_of, changes_in_time, no_set, not_convex, not_symmetric, set_moves, steps_of
from .paths import network
from .quantities import distances, expansion, increments, norm, of_layers, of_pairs, rates_of

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
        x, error = run(case.flow, x0, case.t)
        h = case.t.diff().reshape(-1, *[1] * (x.ndim - 2))
        sides = _speeds(x, error, h, case, y0)
        if isinstance(case.flow.field, ResNetSField):
            phi, noise = potential(weights, x), _noise_of_potential(weights, x, error)
            lost = (norm(x.diff(dim=0)) ** 2 / h).cumsum(0)
            unsure = 2 * (error[1:] * norm(x.diff(dim=0)) / h).cumsum(0)
            sides |= {"balance": Sides(lost, phi[0] - phi[1:], noise + unsure),
                      "gap": _gap(case, phi, potential(weights, y0.unsqueeze(0)), norm(x0 - y0) ** 2, noise)}
        sides["time average"] = _average(case, x, error, y0)
        return sides

    return look


def _gap(case: Case, phi: Tensor, phi_u: Tensor, square: Tensor, noise: Tensor) -> Sides:
    """2t(φ(x(t)) − φ(u))₊ <= ‖x0 − u‖²."""
    t = 2 * (case.t[1:] - case.t[0]).reshape(-1, *[1] * (phi.ndim - 1))
    return Sides((t * (phi[1:] - phi_u)).clamp_min(0), square.expand_as(noise), t * noise)


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


def _average(case: Case, x: Tensor, error: Tensor, u: Tensor) -> Sides:
    """2(F(u)·∫(x − u))₊ <= ‖x0 − u‖²."""
    F = case.flow.field.on(float(case.t[0]), float(case.t[1]))(case.t[0], u)
    whole, unsure = (v.cumsum(0) for v in increments((x[:-1] - u, x[1:] - u), case.t))
    t = (case.t[1:] - case.t[0]).reshape(-1, *[1] * (x.ndim - 2))
    noise = 2 * norm(F) * (norm(unsure) + t * error[1:])
    return Sides((2 * (F * whole).sum(-1)).clamp_min(0), (norm(x[0] - u) ** 2).expand_as(noise), noise)


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
            sides["gap"] = _gap(case, phi, potential(weights, y0.unsqueeze(0)), norm(x0 - y0) ** 2, noise)
        return sides

    return look


# ----------------------------------------------------------------------------------------------------------- C12 and D9


def leaking(case: Case) -> Look:
    """Rate ν − k, or −aσ_min(A)²; towards a point of rest where y0 is one."""
    rows = leaking_rows(case)

    def claim(x: Tensor, y: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        now, start = distances(x, y)
        sides = {f"sensitivity, {name}": (now, lead(row, now) * start) for name, row in rows.items()}
        if "rest" in case.given:
            to_rest = norm(x[1:] - y[0])
            sides |= {f"to rest, {name}": (to_rest, lead(row, now) * start) for name, row in rows.items()}
        return sides

    return of_pairs(lambda _: claim)(case)


def leaking_rows(case: Case) -> dict[str, Tensor]:
    """E of every rate at t[1:]."""
    field, t = case.flow.field, (case.t[1:] - case.t[0])
    if isinstance(field, LeakySField):
        least = torch.linalg.svdvals(field.A.values)[..., -1] ** 2
        return {"inner slopes": torch.exp(-t.reshape(-1, *[1] * least.ndim) * field.slope.values * least)}
    assert isinstance(field, PlusLinearField)
    base = replace(case, flow=Inclusion(field.without(), case.flow.g))
    k = field.M.values[..., 0, 0]
    leak = torch.exp(-t.reshape(-1, *[1] * k.ndim) * k)
    return {f"{rate} rate": expansion(base, rate) * leak for rate in rates_of(base)}


def no_leak(case: Case) -> str:
    field = case.flow.field
    if isinstance(field, LeakySField):
        a = field.slope.values
        return "" if bool(((a >= 0) & (a <= 1)).all()) else f"the inner slope {float(a.min()):.4g} is not in [0, 1]"
    if not isinstance(field, PlusLinearField):
        return "F has no leak kx"
    M = field.M.values.detach()
    one = torch.eye(M.shape[-1], dtype=M.dtype)
    off = float((M - M[..., :1, :1] * one).abs().max())
    return f"the linear part is {off:.4g} off kI" if off else "" if not bool((M[..., 0, 0] < 0).any()) else "k < 0"


def rest_needs_constant_weights(case: Case) -> str:
    return changes_in_time(case) if "rest" in case.given else ""


def leaking_layers(case: Case):
    field = case.flow.field
    assert isinstance(field, PlusLinearField)
    factor = 1 - float(case.t.diff().max()) * field.M.values[..., 0, 0]
    powers = torch.stack([factor**k for k in range(1, len(case.t))])

    def claim(x: Tensor, y: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        now, start = distances(x, y)
        return {"contracting": (now, lead(powers, now) * start)}

    return claim


def above_leak_limit(case: Case) -> str:
    """h(2k + ‖A‖²) <= 2 and A2 = A1ᵀ."""
    field = case.flow.field
    assert isinstance(field, PlusLinearField)
    base = replace(case, flow=Inclusion(field.without(), case.flow.g))
    h, k = float(case.t.diff().max()), field.M.values[..., 0, 0]
    for number, (_, w) in enumerate(steps_of(base)):
        if not torch.equal(w.A1.mT, w.A2):
            return f"A₂ is not A₁ᵀ in layer {number}"
        worst = float((h * (2 * k + torch.linalg.matrix_norm(w.A1, 2) ** 2)).max())
        if worst > 2 * (1 + 1e-12):
            return f"h(2k + ‖A‖²) = {worst:.4g} > 2 in layer {number}"
    return ""


# --------------------------------------------------------------------------------------------------------------- draws


def constant_symmetric(generator: Generator, networks: int, horizon: float) -> ResNetSField:
    """ResNet-S with weights that do not change in time."""
    w = draws.symmetric(generator, networks, horizon, square=(0.2, 6.0), layers=1)
    return ResNetSField(w.A.values[0], w.b1.values[0], w.b2.values[0])


def rotating(generator: Generator, networks: int, horizon: float) -> PlusLinearField:
    """Monotone, and no gradient: ResNet-S and a rotation."""
    S = constant_symmetric(generator, networks, horizon)
    J = draws.normal(generator, networks, draws.WIDTH, draws.WIDTH)
    return PlusLinearField(S.A.values, S.b1.values, S.A.values.mT, S.b2.values, J - J.mT)


def leaky(generator: Generator, networks: int, horizon: float) -> PlusLinearField:
    """F + kx with weights that do not change in time."""
    w = draws.matrices(generator, networks, 1)
    return PlusLinearField(w.A1[0], w.b1[0], w.A2[0], w.b2[0], _leak(generator, networks, 4.0))


def leaky_layers(generator: Generator, networks: int, horizon: float) -> PlusLinearField:
    """F + kx with one F a layer."""
    curves = draws.layers_of(horizon, **draws.matrices(generator, networks)._asdict())
    return PlusLinearField(**curves, M=_leak(generator, networks, 4.0))


def leaky_inside(generator: Generator, networks: int, horizon: float) -> LeakySField:
    """ResNet-S with leaky inner activations and an A of full rank."""
    A = draws.normal(generator, networks, draws.WIDTH, draws.WIDTH)
    b1, b2 = (draws.normal(generator, networks, draws.WIDTH) for _ in range(2))
    return LeakySField(A, b1, b2, draws.uniform(generator, 0.0, 1.0, networks))


def leaky_under_limit(generator: Generator, networks: int, horizon: float) -> PlusLinearField:
    """ResNet-S + kx with h = 1 and 2k + ‖A‖² <= 2, half of the layers at the limit."""
    w = draws.matrices(generator, networks)
    M = _leak(generator, networks, 0.9)
    square = (2 - 2 * M[..., 0, 0]) * draws.uniform(generator, 0.1, 1.9, draws.LAYERS, networks).clamp_max(1 - 1e-9)
    A = w.A1 * draws.norm_to(w.A1, square)
    return PlusLinearField(**draws.layers_of(horizon, A1=A, b1=w.b1, A2=A.mT, b2=w.b2), M=M)


def _leak(generator: Generator, networks: int, largest: float) -> Tensor:
    one = torch.eye(draws.WIDTH, dtype=torch.float64)
    return draws.uniform(generator, 0.0, largest, networks, 1, 1) * one


def at_rest(generator: Generator, case: Case) -> Case:
    """b2 such that a random point of the boundary of the orthant is a point of rest, which y0 becomes."""
    n, pairs, d = case.x0.shape
    free = torch.rand(n, 1, d, generator=generator) > 0.4
    rest = torch.where(free, draws.uniform(generator, 0, 2, n, 1, d), 0.0)
    held = torch.where(free, 0.0, -draws.uniform(generator, 0, 1, n, 1, d))  # an element of the normal cone
    case = replace(case, origin=case.origin + ", at rest", y0=rest.expand(n, pairs, d).clone(), fixed=True,
                   given={"rest": rest, "held": held})
    return case.with_weights(keep_rest(case, case.weights))


def keep_rest(case: Case, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """b2 = F₀(x*) + n with n in the normal cone at x*, F₀ = F + b2."""
    if "rest" not in case.given:
        return weights
    without = case.with_weights(weights | {"b2": torch.zeros_like(weights["b2"])})
    F = without.flow.field.on(0.0, HORIZON)(torch.tensor(0.0), case.number("rest"))
    return weights | {"b2": (F + case.number("held")).squeeze(-2)}


def keep_symmetric(case: Case, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A2 = A1ᵀ, and a linear part that turns only."""
    kept = keeps.modest(case, weights)
    if "M" in kept:
        A = 0.5 * (kept["A1"] + kept["A2"].mT)
        kept |= {"A1": A, "A2": A.mT, "M": 0.5 * (kept["M"] - kept["M"].mT)}
    return keep_rest(case, kept)


def keep_leak(case: Case, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """M = kI with 0 <= k, inner slopes in [0, 1]."""
    kept = keeps.modest(case, weights)
    if "M" in kept:
        one = torch.eye(kept["M"].shape[-1], dtype=torch.float64)
        kept["M"] = kept["M"].diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(0)[..., None, None] * one
    if "slope" in kept:
        kept["slope"] = kept["slope"].clamp(0, 1)
    return keep_rest(case, kept)


def limited(limit: float, generator: Generator, case: Case) -> Case:
    """Layers of a length h such that h‖A‖² <= limit for every network, with equality for the largest."""
    largest = float(torch.linalg.matrix_norm(case.weights["A"], 2).max()) ** 2
    t = draws.times(case.t.numel() * limit * (1 - 1e-9) / largest, layers=case.t.numel())
    return replace(case, origin=f"{case.origin}, h‖A‖² ≤ {limit:g}", t=t, given={"limit": torch.tensor(limit).double()})


class Together:
    """Several draws as one."""

    def __init__(self, *parts: draws.RandomNetworks):
        self.parts = [(part, kind) for part in parts for kind in range(part.kinds)]
        self.kinds, self.pairs = len(self.parts), parts[0].pairs

    def __call__(self, generator: Generator, kind: int, networks: int) -> Case:
        part, of_part = self.parts[kind]
        return part(generator, of_part, networks)


def _orthant(*fields, finish) -> draws.RandomNetworks:
    return draws.RandomNetworks(fields, draws.orthant, a_layer=DENSE, finish=finish)


def _layers(limit: float) -> draws.RandomNetworks:
    return draws.RandomNetworks((constant_symmetric,), draws.boxes, NETWORK, a_layer=3, finish=partial(limited, limit))


STATEMENTS = (
    Statement(
        "C7", "energy of the ResNet-S flow", "A₂ = A₁ᵀ (or F monotone, for the time average), weights and C constant",
        "∫‖x'‖² ≤ φ(x₀) − φ(x(t)); ‖x'‖ does not grow; φ(x(t)) − φ(u) ≤ ‖x₀ − u‖²/(2t) for every u ∈ C; ‖x'(t)‖ ≤ "
        "‖x₀ − x*‖/t; F(u)·(x̄ − u) ≤ ‖x₀ − u‖²/(2t)", "theory C7",
        all_of(no_set, set_moves, not_monotone, changes_in_time), energy,
        Together(_orthant(constant_symmetric, finish=at_rest),
                 draws.RandomNetworks((constant_symmetric, rotating), draws.convex_sets, a_layer=DENSE)),
        controls.changing_weights, keep_symmetric),
    Statement(
        "C12", "a leak", "F + kx with k ≥ 0, or ResNet-S with inner slopes in [a, 1]; g convex; for rest: F constant",
        "‖x(t) − y(t)‖ ≤ e^{(ν − k)t}‖x₀ − y₀‖, e^{−aσ_min(A)²t}‖x₀ − y₀‖; ‖x(t) − x̄‖ ≤ e^{(ν − k)t}‖x₀ − x̄‖",
        "theory C12",
        all_of(not_convex, no_leak, rest_needs_constant_weights), leaking,
        Together(_orthant(leaky, leaky_inside, finish=at_rest),
                 draws.RandomNetworks((leaky_layers, leaky_inside), draws.boxes)),
        controls.rest_of_one_layer, keep_leak),
    Statement(
        "D6", "energy of the ResNet-S layers", "A₂ = A₁ᵀ, constant weights, h‖A‖² ≤ 2; for the rate 1/N h‖A‖² ≤ 1",
        "φ(x_k) and ‖x_{k+1} − x_k‖ do not grow; φ(x_N) − φ(u) ≤ ‖x₀ − u‖²/(2hN) for every u ∈ C", "theory D6",
        all_of(no_set, not_symmetric, changes_in_time, above()), energy_of_layers, Together(_layers(2.0), _layers(1.0)),
        controls.near_two, keeps.under()),
    Statement(
        "D9", "layers with a leak", "F + kx, A₂ = A₁ᵀ, h(2k + ‖A‖²) ≤ 2, g convex",
        "‖x_N − y_N‖ ≤ (1 − hk)^N‖x₀ − y₀‖", "theory D9",
        all_of(not_convex, no_leak, above_leak_limit), of_layers(leaking_layers),
        draws.RandomNetworks((leaky_under_limit,), draws.convex, NETWORK), controls.leak_above_limit),
)
