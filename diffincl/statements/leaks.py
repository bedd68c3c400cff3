"""Statements on leaks: C12 (flow) and D9 (layers)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from ..bounds.pieces import lead
from ..inclusion import Inclusion
from . import controls, draws, keeps
from .case import Case, Look, Statement
from .draws import NETWORK
from .fields import LeakySField, PlusLinearField
from .hypotheses import all_of, changes_in_time, not_convex, steps_of
from .quantities import distances, expansion, norm, of_layers, of_pairs, rates_of
from .rest import Together, at_rest, keep_rest, on_orthant

__all__ = ["STATEMENTS"]

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


def keep_leak(case: Case, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """M = kI with 0 <= k, inner slopes in [0, 1]."""
    kept = keeps.modest(case, weights)
    if "M" in kept:
        one = torch.eye(kept["M"].shape[-1], dtype=torch.float64)
        kept["M"] = kept["M"].diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(0)[..., None, None] * one
    if "slope" in kept:
        kept["slope"] = kept["slope"].clamp(0, 1)
    return keep_rest(case, kept)


STATEMENTS = (
    Statement(
        "C12", "a leak", "F + kx with k ≥ 0, or ResNet-S with inner slopes in [a, 1]; g convex; for rest: F constant",
        "‖x(t) − y(t)‖ ≤ e^{(ν − k)t}‖x₀ − y₀‖, e^{−aσ_min(A)²t}‖x₀ − y₀‖; ‖x(t) − x̄‖ ≤ e^{(ν − k)t}‖x₀ − x̄‖",
        "theory C12",
        all_of(not_convex, no_leak, rest_needs_constant_weights), leaking,
        Together(on_orthant(leaky, leaky_inside, finish=at_rest),
                 draws.RandomNetworks((leaky_layers, leaky_inside), draws.boxes)),
        controls.rest_of_one_layer, keep_leak),
    Statement(
        "D9", "layers with a leak", "F + kx, A₂ = A₁ᵀ, h(2k + ‖A‖²) ≤ 2, g convex",
        "‖x_N − y_N‖ ≤ (1 − hk)^N‖x₀ − y₀‖", "theory D9",
        all_of(not_convex, no_leak, above_leak_limit), of_layers(leaking_layers),
        draws.RandomNetworks((leaky_under_limit,), draws.convex, NETWORK), controls.leak_above_limit),
)
