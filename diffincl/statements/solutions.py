"""Statements on solutions of one or two inclusions: C1, C4, C10, C15."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from ..bounds.pieces import Pieces, lead
from ..fields import ResNetField
from ..functions import Ball, Box, Moving, OutsideBall, ProxFunction
from ..inclusion import Inclusion
from . import controls, draws, keeps
from .case import Case, Look, Run, Sides, Statement
from .draws import DENSE
from .fields import identity
from .hypotheses import STANDING, all_of, no_set, not_convex, not_resnet, other_set, set_moves, weights_move
from .integrals import Reach, accumulate, carried, pushes, reach, size
from .quantities import carry, norm, pieces, rates_of

__all__ = ["STATEMENTS"]

# ------------------------------------------------------------------------------------------------------------------ C1


def slow_solution(case: Case) -> Look:
    """The variational form of −x' − F ∈ N_C(x), for a set that rests; lengths of x' and of the multiplier."""
    field, t, p = case.flow.field, case.t, pieces(case)
    speed = controls.speed_of(case.flow.g)
    assert isinstance(field, ResNetField)

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        (x, error), (push, position) = accumulate(run, case.flow, x0, t, (field, identity(x0.shape[-1])))
        around, step = reach(case, p, x, speed), x.diff(dim=0)
        allowed = (size(push, around.change, around.h) + speed * around.h).cumsum(0)
        noise = 4 * len(t) * error[1:]
        sides = {"‖x'‖": Sides(norm(step).cumsum(0), allowed, noise),
                 "multiplier": Sides(norm(step + push).cumsum(0), allowed, noise)}
        if not case.flow.g.moving:
            sides["variational"] = _variational(x, y0, push, position, around, noise)
        return sides

    return look


def _variational(x: Tensor, u: Tensor, push: Tensor, position: Tensor, around: Reach, noise: Tensor) -> Sides:
    """½‖x(t) − u‖² <= ½‖x0 − u‖² + ∫F·(u − x) for u in C, ½‖x0 − u‖² added to both sides. With x̄ the mean of x over an
    interval ∫F·(u − x) = (u − x̄)·∫F less the covariance of F and x, at most MSh³/12."""
    h = around.h.unsqueeze(-1)
    work = (push * (u - position / h)).sum(-1) + around.change * around.speed * around.h**3 / 12
    half = 0.5 * norm(x - u) ** 2
    largest = 1 + norm(x - u).cummax(0).values[1:] + around.speed.cummax(0).values
    return Sides(half[1:] + half[0], 2 * half[0] + work.cumsum(0), noise * largest)


def boxes_and_moving_box() -> list[tuple[str, ProxFunction]]:
    shift = controls.Line(torch.tensor([0.5, -0.3, 0.2, 0.0, -0.5, 0.4], dtype=torch.float64))
    return [*draws.boxes(), ("moving box", Moving(Box(0.0, 1.5), shift=shift))]


# ------------------------------------------------------------------------------------------------------------------ C4


def two_fields(case: Case) -> Look:
    by_rate = {rate: pieces(case, rate) for rate in rates_of(case)}
    other = case.flow if case.other is None else case.other
    own, of_other = by_rate["global"], pieces(replace(case, flow=other))
    F, G = case.flow.field, other.field
    assert isinstance(F, ResNetField)
    assert isinstance(G, ResNetField)

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        x, (y, (of_F, of_G)) = run(case.flow, x0, case.t), accumulate(run, other, y0, case.t, (F, G))
        around, now = reach(case, of_other, y.x, flow=other), norm(x.x - y.x)
        change = around.change + lead(own.lipschitz.amax(-1), now[1:]) * around.speed
        added = size(of_F - of_G, change, around.h)
        return {f"two fields, {rate} rate": Sides(
            now[1:], carried(now[0], _exponents(p), added, change, around.h)[1:], (x.error + y.error)[1:])
            for rate, p in by_rate.items()}

    return look


def _exponents(p: Pieces) -> Tensor:
    """νh of every interval."""
    return p.weighted(p.rate.amax(-1))


def perturbed(generator: Generator, case: Case) -> Case:
    """A second field on the same set: other weights, by 1e-2 to 1 of their size."""
    share = 10 ** draws.uniform(generator, -2, 0, case.x0.shape[0])
    values = {name: w + lead(share, w[0]) * w.abs().amax() * draws.normal(generator, *w.shape) / 3
              for name, w in case.weights.items()}
    return replace(case, other=case.with_weights(values).flow)


# ----------------------------------------------------------------------------------------------------------------- C10


def prox_regular(case: Case) -> Look:
    """C3 whose exponent gains ∫(‖n‖ + ‖m‖)/(2r)."""
    by_rate = {rate: pieces(case, rate) for rate in rates_of(case)}
    twice = 2 * case.number("reach")

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        path = run(case.flow, torch.cat([x0, y0], -2), case.t)
        pushed = pushes(case.flow, case.t, path.x, reach(case, by_rate["global"], path.x)).cumsum(0)
        (x, y), (e, f), gain = path.x.chunk(2, -2), path.error.chunk(2, -1), sum(pushed.chunk(2, -1))
        assert isinstance(gain, Tensor)
        now = norm(x - y)
        sides = {}
        for rate, p in by_rate.items():
            exponent = lead(_exponents(p).cumsum(0), now) + gain / lead(twice, gain[0])
            sides[f"sensitivity, {rate} rate"] = Sides(now[1:], exponent.exp() * now[0], (e + f)[1:])
        return sides

    return look


def beyond_reach(case: Case) -> str:
    r = float(case.number("reach").max())
    return f"r = {r:.4g} > {case.flow.g.reach:.4g}, the reach of C" if r > case.flow.g.reach else ""


# ----------------------------------------------------------------------------------------------------------------- C15


def two_sets(case: Case) -> Look:
    """e² <= E_μ²e0² + 2η∫E_μ²(‖n‖ + ‖m‖), x and y with the same field in sets at Hausdorff distance η."""
    by_rate = {rate: pieces(case, rate) for rate in rates_of(case)}
    assert case.other is not None
    other, eta = Inclusion(case.flow.field, case.other.g), case.number("eta")

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        x, y = run(case.flow, x0, case.t), run(other, y0, case.t)
        ways = [(flow, z.x, reach(case, by_rate["global"], z.x)) for flow, z in ((case.flow, x), (other, y))]
        now, sides = norm(x.x - y.x), {}
        for rate, p in by_rate.items():
            z = 2 * _exponents(p)
            both = sum(pushes(flow, case.t, states, around, z) for flow, states, around in ways)
            assert isinstance(both, Tensor)
            allowed = carry(now[0] ** 2, z, 2 * lead(eta, both[0]) * both)[1:].clamp_min(1e-300).sqrt()
            sides[f"two sets, {rate} rate"] = Sides(now[1:], allowed, (x.error + y.error)[1:])
        return sides

    return look


def too_far_apart(case: Case) -> str:
    """Hausdorff distance of two boxes or two balls, against the η given."""
    if case.other is None:
        return "there is no second set"
    eta, distance = float(case.number("eta").min()), hausdorff(case.flow.g, case.other.g, case.x0.shape[-1])
    return f"the sets are {distance:.4g} > η = {eta:.4g} apart" if distance > eta * (1 + 1e-12) else ""


def hausdorff(C: ProxFunction, other: ProxFunction, d: int) -> float:
    """Hausdorff distance of boxes, or of balls with one radius or one centre."""
    if isinstance(C, Ball) and isinstance(other, Ball):
        apart = torch.as_tensor(C.center) - torch.as_tensor(other.center)
        return float(norm(apart.expand(d).double())) + abs(float(C.radius) - float(other.radius))
    zero = torch.zeros(d, dtype=torch.float64)
    assert isinstance(C, Box)
    assert isinstance(other, Box)
    (l0, u0), (l1, u1) = C.bounds(zero), other.bounds(zero)
    upper = torch.where(u0 == u1, 0.0, (u0 - u1).abs())
    return float(norm(torch.maximum((l0 - l1).abs(), upper).expand(d)))


def shifted(generator: Generator, case: Case) -> Case:
    """A second set near the first: corners of the box moved, the ball moved."""
    move = 0.2 * torch.rand(case.x0.shape[-1], generator=generator, dtype=torch.float64)
    C = case.flow.g
    if isinstance(C, Ball):
        g: ProxFunction = Ball(C.radius, move)
    else:
        assert isinstance(C, Box)
        g = Box(C.lower + move, C.upper + 0.5 * move)
    eta = torch.full((case.x0.shape[0],), hausdorff(C, g, case.x0.shape[-1]), dtype=torch.float64)
    return replace(case, other=Inclusion(case.flow.field, g), y0=g.prox(case.y0, 1.0), given={"eta": eta})


def boxes_and_ball() -> list[tuple[str, ProxFunction]]:
    return [("box [0, ∞)", Box(0.0, torch.inf)), ("box [−1, 1.5]", Box(-1.0, 1.5)), ("ball", Ball(1.5))]


def streams(generator: Generator, networks: int, horizon: float) -> ResNetField:
    """A stream along x₁ with a small ResNet on it."""
    weights = draws.matrices(generator, networks, scale=(0.05, 0.3))
    b2 = 0.3 * weights.b2
    b2[..., 0] += 2.0
    return ResNetField(**draws.layers_of(horizon, **weights._replace(b2=b2)._asdict()))


def upstream(generator: Generator, case: Case) -> Case:
    """Pairs that run into the obstacle."""
    shape = case.x0.shape
    ahead = torch.zeros(shape, dtype=torch.float64)
    ahead[..., 0] = -1.3
    x0 = case.flow.g.prox(ahead + 0.3 * draws.normal(generator, *shape), 1.0)
    gap = torch.tensor([1e-2, 0.3], dtype=torch.float64).repeat(shape[-2])[:shape[-2]].unsqueeze(-1)
    y0 = case.flow.g.prox(x0 + gap * draws.normal(generator, *shape), 1.0)
    reach = torch.full((shape[0],), case.flow.g.reach, dtype=torch.float64)
    return replace(case, x0=x0, y0=y0, given={"reach": reach})


def obstacles() -> list[tuple[str, ProxFunction]]:
    return [("outside the unit ball", OutsideBall()), ("outside a ball of radius ½", OutsideBall(0.5))]


PROX_REGULAR = draws.RandomNetworks((streams,), obstacles, a_layer=DENSE, finish=upstream)
TWO_SETS = draws.RandomNetworks((draws.free,), boxes_and_ball, a_layer=DENSE, finish=shifted)

STATEMENTS = (
    Statement(
        "C1", "the solution, and that it is slow",
        f"g the indicator of a convex C, which may move with speed |v'|, {STANDING}",
        "½‖x(t) − u‖² ≤ ½‖x₀ − u‖² + ∫F·(u − x) for every u ∈ C (what −x' − F ∈ N_C(x) says of a C at rest); ∫‖x'‖ and "
        "∫‖x' + F‖ ≤ ∫(‖F‖ + |v'|)",
        "Edmond, Thibault, 2005; theory C1",
        all_of(no_set, not_resnet, weights_move), slow_solution,
        draws.RandomNetworks((draws.free,), boxes_and_moving_box, a_layer=DENSE), controls.no_indicator, keeps.modest),
    Statement(
        "C4", "two fields on one set", f"g convex, the same for both, {STANDING}",
        "‖x(t) − y(t)‖ ≤ E_ν(0,t)‖x₀ − y₀‖ + ∫E_ν(s,t)‖F(s, y(s)) − F̃(s, y(s))‖ds", "theory C4",
        all_of(not_convex, not_resnet, weights_move, other_set), two_fields,
        draws.RandomNetworks((draws.free, draws.free, draws.small), draws.boxes, a_layer=DENSE, finish=perturbed),
        controls.another_set, keeps.modest),
    Statement(
        "C10", "sensitivity on prox-regular sets", f"C fixed and uniformly prox-regular with radius r, {STANDING}",
        "‖x(t) − y(t)‖ ≤ exp(∫ν + (‖n‖ + ‖m‖)/(2r))‖x₀ − y₀‖", "theory C10",
        all_of(set_moves, not_resnet, weights_move, beyond_reach), prox_regular, PROX_REGULAR,
        lambda generator, networks: controls.with_reach(PROX_REGULAR(generator, 1, networks), 4.0)),
    Statement(
        "C15", "two sets", f"C and C̃ convex, at Hausdorff distance at most η; the same F, {STANDING}",
        "‖x(t) − y(t)‖² ≤ E_ν(0,t)²‖x₀ − y₀‖² + 2η∫E_ν(s,t)²(‖n‖ + ‖m‖)ds", "theory C15",
        all_of(not_convex, not_resnet, weights_move, too_far_apart), two_sets, TWO_SETS,
        lambda generator, networks: controls.with_eta(TWO_SETS(generator, 1, networks), 0.01), keeps.modest),
)
