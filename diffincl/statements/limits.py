"""Statements on limits: depth (C8, L1, L2, L3) and stiffness (C9)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from torch import Generator, Tensor
from torch.linalg import matrix_norm

from ..bounds.discrete import product_of_factors
from ..bounds.pieces import Pieces, lead
from ..fields import ResNetField, ResNetSField
from ..functions import Box, Orthant, ProxFunction, Whole
from ..inclusion import Inclusion
from ..schemes import ForwardEuler
from . import controls, draws, keeps
from .case import Case, Look, Run, Sides, Statement
from .draws import DENSE
from .fields import PenalisedField
from .hypotheses import STANDING, all_of, no_box, no_set, not_convex, not_resnet, set_moves, steps_of, weights_move
from .integrals import accumulate, carried, reach, square
from .paths import network, pair
from .quantities import NORMS, at_ends, carry, distances, lengths, norm, pieces, rates_of

__all__ = ["STATEMENTS"]

# ------------------------------------------------------------------------------------------------------------------ C8


def by_budget(case: Case) -> Look:
    bound = case.number("budget").exp() * (1 + 1e-12)

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        sides = {}
        for name, follow in (("flow", run), ("layers", network)):
            x, y, error = pair(follow, case.flow, x0, y0, case.t)
            now, start = distances(x, y)
            sides[name] = Sides(now, lead(bound, start) * start.expand_as(now), error[1:])
        return sides

    return look


def spent(case: Case) -> Tensor:
    """½∫(‖A1‖_F² + ‖A2‖_F²) of every network."""
    return torch.stack([0.5 * h * (matrix_norm(w.A1) ** 2 + matrix_norm(w.A2) ** 2) for h, w in steps_of(case)]).sum(0)


def over_budget(case: Case) -> str:
    over = (spent(case) / case.number("budget")).max()
    return f"½∫(‖A₁‖² + ‖A₂‖²) is {float(over):.4g} J₀/λ > J₀/λ" if over > 1 + 1e-12 else ""


def with_budget(generator: Generator, case: Case) -> Case:
    """J0/λ = the penalty, E = 0."""
    return replace(case, given={"budget": spent(case)})


def keep_budget(case: Case, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    kept = keeps.modest(case, weights)
    over = (spent(case.with_weights(kept)) / case.number("budget") * (1 + 1e-12)).clamp_min(1).sqrt()[:, None, None]
    return kept | {"A1": kept["A1"] / over, "A2": kept["A2"] / over}


# ------------------------------------------------------------------------------------------------------------------ C9


def penalised(case: Case) -> Look:
    """−x_λ' = (x_λ − P x_λ)/λ + F from the same start: order ½, and on boxes order 1 with bounds of F by coordinate."""
    by_rate = {rate: pieces(case, rate) for rate in rates_of(case)}
    by_norm = {name: pieces(case, "global", p) for name, p in NORMS} if not no_box(case) else {}
    lam, other, field = case.number("lam"), penalty_of(case), case.flow.field
    assert isinstance(field, ResNetField)

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        (x, (pushed,)), z = accumulate(run, case.flow, x0, case.t, (field,)), run(other, x0, case.t)
        gap, noise = x.x - z.x, (x.error + z.error)[1:]
        around = reach(case, by_rate["global"], x.x)
        squares = square(pushed, around.change, around.h)
        sides = {}
        for rate, p in by_rate.items():
            total = carried(torch.zeros_like(squares[0]), 2 * p.weighted(p.rate.amax(-1)), squares,
                            2 * around.speed * around.change, around.h)[1:]
            sides[f"order ½, {rate} rate"] = Sides(
                norm(gap)[1:], (0.5 * lead(lam, total[0]) * total).clamp_min(1e-300).sqrt(), noise)
        return sides | {f"order 1, ℓ{name}": Sides(
            norm(gap, p)[1:], _first_order(case, other, by_norm[name], p, z.x), noise)
            for name, p in NORMS if name in by_norm}

    return look


def _first_order(case: Case, other: Inclusion, p_pieces: Pieces, p: float, z: Tensor) -> Tensor:
    """λ‖B‖_p(1 + ∫L_pE_{L_p}), B_i a bound of abs(F_i) along x_λ: the larger of both ends of each interval, and what
    F_i changes on the way to the nearer one; the speed of x_λ grows at most by e^{Lh}, as the penalty is monotone."""
    left, right = at_ends(case.flow.field, case.t, z)
    speed = norm(at_ends(other.field, case.t, z)[0])
    w, L = p_pieces.left, pieces(case).lipschitz.amax(-1)
    assert w is not None
    rows = norm(w.A2) * matrix_norm(w.A1, 2).unsqueeze(-1)
    path = 0.5 * lengths(case.t, speed) * speed * lead(p_pieces.weighted(L).exp(), speed)
    rows = rows.reshape(*rows.shape[:-1], *[1] * (z.ndim - rows.ndim), rows.shape[-1])
    B = norm((torch.maximum(left.abs(), right.abs()) + path.unsqueeze(-1) * rows).amax(0), p)
    z_L = p_pieces.weighted(p_pieces.lipschitz.amax(-1))
    grown = carry(torch.zeros_like(B), z_L, lead(z_L, B.unsqueeze(0)).expand(len(z_L), *B.shape))[1:]
    return lead(case.number("lam"), B) * B * (1 + grown)


def penalty_of(case: Case) -> Inclusion:
    """The penalised flow: on a box two more units a coordinate, else a callable."""
    field, g, lam = case.flow.field, case.flow.g, case.number("lam")
    if isinstance(g, Orthant | Box) and isinstance(field, ResNetField):
        lower, upper = (torch.as_tensor(b, dtype=torch.float64) for b in g.bounds(case.x0))
        return Inclusion(PenalisedField(field, lam, lower, upper), Whole())

    def F(t: Tensor, x: Tensor) -> Tensor:
        return field.on(*_layer_at(case, t))(t, x) + (x - g.prox(x, 1.0, t)) / lead(lam, x)

    return Inclusion(F, Whole())


def _layer_at(case: Case, t: Tensor) -> tuple[float, float]:
    """The interval between two knots that holds t."""
    knots = case.flow.field.knots or (float(case.t[0]), float(case.t[-1]))
    return next(((a, b) for a, b in pairwise(knots) if float(t) < b), (knots[-2], knots[-1]))


def with_penalty(generator: Generator, case: Case) -> Case:
    """λ from 0.03 to 0.3."""
    return replace(case, given={"lam": 10 ** draws.uniform(generator, -1.5, -0.5, case.x0.shape[0])})


# ------------------------------------------------------------------------------------------------------------ L1 and L2


def speed_in_time(field: ResNetField, t: Tensor, x: Tensor, p: float) -> Tensor:
    """K of every step along the iterates x: ‖F(s, x_k) − F(t_k, x_k)‖_p <= K(s − t_k), for weights linear in t."""
    rows = []
    for k, (a, b) in enumerate(pairwise(t.tolist())):
        if not field.time_dependent_within_a_step:
            rows.append(torch.zeros_like(x[k, ..., 0]))
            continue
        at = field.weights_on(a, b)
        w, v = at(a), at(b)
        start, end = (_rows(weights.A1, x[k]) + _vector(weights.b1, x[k]) for weights in (w, v))
        outer = torch.maximum(matrix_norm(w.A2, p), matrix_norm(v.A2, p))
        turned = norm(_rows(v.A2 - w.A2, torch.relu(start)) - _vector(v.b2 - w.b2, x[k]), p)
        rows.append((lead(outer, x[k, ..., 0]) * norm(end - start, p) + turned) / (b - a))
    return torch.stack(rows)


def _rows(A: Tensor, x: Tensor) -> Tensor:
    return x @ A.mT


def _vector(b: Tensor, x: Tensor) -> Tensor:
    return b.reshape(*b.shape[:-1], *[1] * (x.ndim - b.ndim), b.shape[-1])


def euler_defect(case: Case, of_rate: Pieces, p: float, x: Tensor, speed: Tensor) -> Tensor:
    """½h²(K + L‖speed‖_p) of every step along the iterates: ∫ of how far F(s, X(s)) is from F(t_k, x_k)."""
    field, h = case.flow.field, lengths(case.t, speed)
    assert isinstance(field, ResNetField)
    L, size = of_rate.lipschitz.amax(-1), norm(speed, p)
    return 0.5 * h[..., 0]**2 * (speed_in_time(field, case.t, x, p) + lead(L, size) * size)


def growing(of_rate: Pieces) -> Tensor:
    """hν⁺ of every step."""
    return of_rate.weighted(of_rate.rate.amax(-1)).clamp_min(0)


def half_order(case: Case) -> Look:
    """With −X' ∈ N_C(x_{k+1}) + F_k: the multiplier n of the step costs (t_{k+1} − t) n·X' <= (t_{k+1} − t)‖F_k‖²/4."""
    by_rate = {rate: pieces(case, rate) for rate in rates_of(case)}

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        exact, layers = run(case.flow, x0, case.t), network(case.flow, x0, case.t)
        now, noise, sides = norm(exact.x - layers.x)[1:], (exact.error + layers.error)[1:], {}
        (F, _), step, h = at_ends(case.flow.field, case.t, layers.x), layers.x.diff(dim=0), lengths(case.t, layers.x)
        lost = {"order ½": 0.25 * (norm(F) * h[..., 0])**2, "after the run": (-(step + h * F) * step).sum(-1)}
        for rate, p in by_rate.items():
            z, zero = growing(p), torch.zeros_like(now[0])
            drift = carry(zero, z, euler_defect(case, p, 2, layers.x, step / h))[1:]
            for name, squares in lost.items():
                rows = [zero]
                for k in range(len(squares)):
                    rows.append(lead(z[k].mul(2).exp(), zero) * (rows[-1] + squares[k].clamp_min(0)))
                root = torch.stack(rows[1:]).clamp_min(1e-300).sqrt()
                sides[f"{name}, {rate} rate"] = Sides(now, (root + drift) * (1 + 1e-12), noise)
        return sides

    return look


def first_order(case: Case) -> Look:
    """‖x(t_k) − x_k‖_p <= Σ (h²/2)(K + L_p‖F_k‖_p)E."""
    forms = {f"ℓ2, {rate} rate": (2.0, pieces(case, rate)) for rate in rates_of(case)} | \
        {f"ℓ{name}": (p, pieces(case, "global", p)) for name, p in NORMS if p != 2 and case.flow.g.coordinatewise}

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        exact, layers = run(case.flow, x0, case.t), network(case.flow, x0, case.t)
        noise, sides = (exact.error + layers.error)[1:], {}
        F, _ = at_ends(case.flow.field, case.t, layers.x)
        for form, (p, of_rate) in forms.items():
            defect = euler_defect(case, of_rate, p, layers.x, F)
            bound = carry(torch.zeros_like(defect[0]), growing(of_rate), defect)[1:]
            sides[form] = Sides(norm(exact.x - layers.x, p)[1:], bound * (1 + 1e-12), noise)
        return sides

    return look


# ------------------------------------------------------------------------------------------------------------------ L3


def twice_as_deep(case: Case) -> Look:
    """N layers against 2N: Σ(∏ρ_j)(h²/4)(K + L‖F_k‖), ρ_j the factor of two half steps."""
    other = case.flow if case.other is None else case.other
    fine = torch.stack([case.t[:-1], 0.5 * (case.t[:-1] + case.t[1:])], -1).flatten()
    fine = torch.cat([fine, case.t[-1:]])
    forms = {rate: (pieces(case, rate), product_of_factors(pieces(case, rate, 2, fine), ForwardEuler(), rate)[::2])
             for rate in rates_of(case)}

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        shallow, deep = network(case.flow, x0, case.t), network(other, x0, fine)
        now, noise, sides = norm(shallow.x - deep.x[::2])[1:], (shallow.error + deep.error[::2])[1:], {}
        F, _ = at_ends(case.flow.field, case.t, shallow.x)
        for rate, (of_rate, curve) in forms.items():
            defect, rows = 0.5 * euler_defect(case, of_rate, 2, shallow.x, F), [torch.zeros_like(now[0])]
            for k in range(len(defect)):
                rows.append(lead(curve[k + 1] / curve[k], rows[-1]) * rows[-1] + defect[k])
            sides[f"{rate} rate"] = Sides(now, torch.stack(rows[1:]) * (1 + 1e-12), noise)
        return sides

    return look


def at_knots(generator: Generator, case: Case) -> Case:
    """Steps that meet the knots of weights that move."""
    moves = case.flow.field.time_dependent_within_a_step  # type: ignore[union-attr]
    return replace(case, t=draws.times(draws.HORIZON, 2, layers=draws.LAYERS - 1)) if moves else case


def not_the_same_curves(case: Case) -> str:
    return "" if case.other is None else "the 2N layers are not those of the N, each twice"


def balls() -> list[tuple[str, ProxFunction]]:
    return [s for s in draws.convex_sets() if s[0] not in ("orthant", "box [−1, 1.5]")]


def symmetric_pull(generator: Generator, networks: int, horizon: float) -> ResNetSField:
    """ResNet-S with strong weights."""
    return draws.symmetric(generator, networks, horizon, square=(0.5, 8.0))


STATEMENTS = (
    Statement(
        "C8", "regularisation bounds at any depth", "½∫(‖A₁‖_F² + ‖A₂‖_F²) ≤ J₀/λ, g convex",
        "‖x(t) − y(t)‖ ≤ e^{J₀/λ}‖x₀ − y₀‖, for the layers too", "theory C8",
        all_of(not_convex, not_resnet, over_budget), by_budget,
        draws.RandomNetworks((draws.small, draws.free), draws.boxes, finish=with_budget), controls.kernel_budget,
        keep_budget),
    Statement(
        "C9", "penalty", f"C convex and fixed, the same start, {STANDING}",
        "‖x_λ(t) − x(t)‖² ≤ (λ/2)∫E_ν(s,t)²‖F(s, x(s))‖²ds; on boxes ‖x_λ − x‖_p ≤ λ‖B‖_p(1 + ∫L_pE), B_i ≥ |F_i| "
        "along x_λ", "theory C9",
        all_of(no_set, set_moves, not_resnet, weights_move), penalised,
        draws.RandomNetworks((draws.free, draws.small), lambda: draws.convex_sets()[:4], a_layer=DENSE,
                             finish=with_penalty), controls.set_in_motion, keeps.modest),
    Statement(
        "L1", "layers and flow, any convex set", "C convex and fixed",
        "‖x(t_k) − x_k‖ ≤ √(ΣE_ν²h²n·X') + (h/2)∫E_ν(K + L‖X'‖), X' = (x_{k+1} − x_k)/h, n = −X' − F_k; n·X' ≤ "
        "‖F_k‖²/4",
        "theory L1, with a smaller constant",
        all_of(no_set, set_moves, not_resnet), half_order,
        draws.RandomNetworks((draws.small, draws.symmetric), balls, a_layer=2), controls.disk_that_moves, keeps.modest),
    Statement(
        "L2", "layers and flow, orthant and box", "C the orthant or a box, steps that meet the knots",
        "‖x(t_k) − x_k‖_p ≤ (h/2)Σ∫E_ν(K + L_p‖F_k‖_p)", "theory L2",
        all_of(not_resnet, no_box), first_order,
        draws.RandomNetworks((draws.small, symmetric_pull, draws.moving), draws.boxes, finish=at_knots),
        controls.curved, keeps.modest),
    Statement(
        "L3", "twice as many layers", "C the orthant or a box; 2N layers from the curves of the N",
        "‖x_N − x_{2N}‖ ≤ Σ_k(∏_{j>k}ρ_j)(h²/4)(K + L‖F_k‖)", "theory L3",
        all_of(not_resnet, no_box, not_the_same_curves), twice_as_deep,
        draws.RandomNetworks((draws.small, symmetric_pull, draws.moving), draws.boxes, finish=at_knots),
        controls.independent_layers, keeps.modest),
)
