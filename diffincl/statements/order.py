"""Statements by coordinates: C11 (ℓ1 and ℓ∞ matrix measures), C13 and D10 (order)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from ..bounds.pieces import lead
from ..fields import ResNetField
from . import controls, draws, keeps
from .case import Case, Look, Run, Sides, Statement
from .draws import HORIZON, LAYERS, NETWORK, WIDTH
from .hypotheses import all_of, not_by_coordinate, not_convex, not_resnet, steps_of
from .paths import network, pair
from .quantities import norm, of_pairs

__all__ = ["STATEMENTS"]

# ----------------------------------------------------------------------------------------------------------------- C11


def measure(A1: Tensor, A2: Tensor, p: float) -> Tensor:
    """R6: the largest matrix measure of −A2DA1 over D in [0, 1] from above, for p = 1 or ∞; (*batch,)."""
    if p == 1:  # the measure of a transpose
        return measure(A2.mT, A1.mT, torch.inf)
    own = A2 * A1.mT  # A2_ik A1_ki
    others = A1.abs().sum(-1).unsqueeze(-2) * A2.abs() - own.abs()
    return torch.relu(others - own).sum(-1).amax(-1)


def by_matrix_measure(case: Case):
    steps, W = steps_of(case), case.number("W")
    forms = {"ℓ1": (1.0, False), "ℓ∞": (torch.inf, False), "weighted ℓ1": (1.0, True), "weighted ℓ∞": (torch.inf, True)}
    exponent = {}
    for name, (p, weighted) in forms.items():
        rates = [measure(w.A1 / W.unsqueeze(-2), w.A2 * W.unsqueeze(-1), p) if weighted else measure(w.A1, w.A2, p)
                 for _, w in steps]
        exponent[name] = torch.stack([h * rate for (h, _), rate in zip(steps, rates, strict=True)]).cumsum(0)
    kappa = W.amax(-1) / W.amin(-1)

    def claim(x: Tensor, y: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        z, sides = x - y, {}
        for name, (p, weighted) in forms.items():
            size = norm(z * _by_network(W, z) if weighted else z, p)
            factor = lead(exponent[name], size[1:]).exp()
            sides[name] = (size[1:], factor * size[0])
            if weighted:
                plain = norm(z, p)
                sides[f"{name}, κ in front"] = (plain[1:], lead(kappa, plain[0]) * factor * plain[0])
        return sides

    return claim


def _by_network(W: Tensor, z: Tensor) -> Tensor:
    """Weights (*weights, d) that meet states (T, *batch, d)."""
    return W.reshape(1, *W.shape[:-1], *[1] * (z.ndim - 1 - W.ndim), W.shape[-1])


def weighted(generator: Generator, case: Case) -> Case:
    """A diagonal weight for every network."""
    return replace(case, given={"W": draws.normal(generator, case.x0.shape[0], case.x0.shape[-1]).exp()})


# ---------------------------------------------------------------------------------------------------------- C13 and D10


def ordered(layers: Run | None, case: Case) -> Look:
    """Starts put in order stay in order; and max(x − y)₊ grows at most by the largest row sum of −A2DA1."""
    steps = steps_of(case)
    rates = torch.stack([_row_sums(w.A1, w.A2) for _, w in steps])
    h = torch.tensor([h for h, _ in steps], dtype=torch.float64)
    growth = lead(h, rates) * rates
    factors = (growth.cumsum(0).exp() if layers is None else (1 + growth).cumprod(0))

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        follow = layers or run
        low, high, error = pair(follow, case.flow, torch.minimum(x0, y0), torch.maximum(x0, y0), case.t)
        apart = norm(low - high, torch.inf)[1:]
        crossing = (low - high).amax(-1)[1:]
        x, y, noise = pair(follow, case.flow, x0, y0, case.t)
        above = torch.relu(x - y).amax(-1)
        return {"order": Sides((apart + crossing).clamp_min(0), apart, 2 * error[1:]),
                "positive part": Sides(above[1:], lead(factors, above[1:]) * above[0], noise[1:])}

    return look


def _row_sums(A1: Tensor, A2: Tensor) -> Tensor:
    """max over i of the sum over k of max(0, −A2_ik Σ_j A1_kj), from above, not less than 0."""
    return torch.relu(-A2 * A1.sum(-1).unsqueeze(-2)).sum(-1).amax(-1)


def not_cooperative(case: Case) -> str:
    """A2_ik A1_kj <= 0 for i ≠ j."""
    for number, (_, w) in enumerate(steps_of(case)):
        products = w.A2.unsqueeze(-1) * w.A1.unsqueeze(-3)  # (*weights, i, k, j)
        i = torch.eye(w.A2.shape[-2], dtype=torch.bool).unsqueeze(-2)
        worst = float(products.masked_fill(i, -torch.inf).max())
        if worst > 0:
            return f"A₂ᵢₖA₁ₖⱼ = {worst:.4g} > 0 for an i ≠ j in layer {number}"
    return ""


def step_too_long(case: Case) -> str:
    """1 − hΣ_k(A2_ik A1_ki)₊ >= 0."""
    for number, (h, w) in enumerate(steps_of(case)):
        worst = float((h * torch.relu(w.A2 * w.A1.mT).sum(-1)).max())
        if worst > 1 + 1e-12:
            return f"hΣ(A₂ᵢₖA₁ₖᵢ)₊ = {worst:.4g} > 1 in layer {number}"
    return ""


def cooperative(generator: Generator, networks: int, horizon: float) -> ResNetField:
    """Half of the units see all coordinates with one sign and answer with the other; half belong to one coordinate."""
    half = WIDTH // 2
    A1 = draws.normal(generator, LAYERS, networks, WIDTH, WIDTH)
    A2 = draws.normal(generator, LAYERS, networks, WIDTH, WIDTH)
    sign = draws.normal(generator, LAYERS, networks, half, 1).sign()
    A1[..., :half, :] = sign * A1[..., :half, :].abs()
    A2[..., :half] = -sign.mT * A2[..., :half].abs()
    owner = torch.randperm(WIDTH, generator=generator)[:WIDTH - half]
    own = torch.zeros(WIDTH - half, WIDTH, dtype=torch.float64)
    own[torch.arange(WIDTH - half), owner] = 1.0
    A1[..., half:, :] *= own
    A2[..., half:] *= own.mT
    size = draws.uniform(generator, 0.2, 0.8, 1, networks, 1, 1)
    if horizon == NETWORK:
        pull = torch.relu(A2 * A1.mT).sum(-1).amax((0, -1))[None, :, None, None]
        size = size / (size * pull * size * (1 + 1e-12)).clamp_min(1).sqrt()
    b1, b2 = (draws.normal(generator, LAYERS, networks, WIDTH) for _ in range(2))
    return ResNetField(**draws.layers_of(horizon, A1=size * A1, b1=b1, A2=size * A2, b2=b2))


def keep_cooperative(case: Case, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The signs as they were drawn."""
    kept, drawn = keeps.modest(case, weights), case.weights
    for name in ("A1", "A2"):
        sign = drawn[name].sign()
        kept[name] = sign * torch.relu(sign * kept[name])
    return kept


def keep_short(case: Case, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """And hΣ_k(A2_ik A1_ki)₊ <= 1."""
    kept = keep_cooperative(case, weights)
    h = float(case.t.diff().max())
    worst = (h * torch.relu(kept["A2"] * kept["A1"].mT).sum(-1)).amax(-1)
    return kept | {"A2": kept["A2"] / (worst * (1 + 1e-12)).clamp_min(1)[..., None, None]}


STATEMENTS = (
    Statement(
        "C11", "sensitivity in other norms", "C the orthant or a box, diagonal weights W constant in t",
        "‖W(x(t) − y(t))‖_p ≤ exp(∫μ_p)‖W(x₀ − y₀)‖_p, μ_p ≥ the matrix measure of −WA₂DA₁W⁻¹, p = 1, ∞; κ(W) in front "
        "without W on either side", "theory C11, R6; matrix measures: Dahlquist, 1958",
        all_of(not_convex, not_by_coordinate, not_resnet), of_pairs(by_matrix_measure),
        draws.RandomNetworks((draws.free, draws.decay), draws.boxes, finish=weighted),
        lambda generator, networks: weighted(generator, controls.oblique_edge(generator, networks)), keeps.modest),
    Statement(
        "C13", "order of the flow", "C the orthant or a box, A₂ᵢₖA₁ₖⱼ ≤ 0 for i ≠ j",
        "x₀ ≤ y₀ ⇒ x(t) ≤ y(t); max(x − y)₊ ≤ exp(∫max_i Σ_k(−A₂ᵢₖΣ_jA₁ₖⱼ)₊) max(x₀ − y₀)₊", "theory C13; Kamke, 1932",
        all_of(not_convex, not_by_coordinate, not_resnet, not_cooperative), lambda case: ordered(None, case),
        draws.RandomNetworks((cooperative,), draws.boxes, HORIZON), controls.competitive, keep_cooperative),
    Statement(
        "D10", "order of the layers", "as C13, and hΣ_k(A₂ᵢₖA₁ₖᵢ)₊ ≤ 1",
        "x₀ ≤ y₀ ⇒ x_N ≤ y_N; max(x_N − y_N)₊ ≤ ∏(1 + h max_i Σ_k(−A₂ᵢₖΣ_jA₁ₖⱼ)₊) max(x₀ − y₀)₊", "theory D10",
        all_of(not_convex, not_by_coordinate, not_resnet, not_cooperative, step_too_long),
        lambda case: ordered(network, case), draws.RandomNetworks((cooperative,), draws.boxes, NETWORK),
        controls.long_steps, keep_short),
)
