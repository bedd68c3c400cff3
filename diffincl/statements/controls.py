"""Instances outside the hypotheses: each must be caught violating the claim."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from ..fields import ResNetField, ResNetSField
from ..functions import L1, Box, HalfSpace, Moving, Orthant, OutsideBall, ProxFunction, Whole
from ..inclusion import Inclusion
from . import draws
from .case import Case
from .draws import DENSE, HORIZON, LAYERS, NETWORK, PAIRS
from .fields import PlusLinearField

__all__ = ["Line"]


@dataclass(frozen=True, eq=False)
class Line:
    """t ↦ t·velocity, the shift of a set that moves."""

    velocity: Tensor

    def __call__(self, t: Tensor) -> Tensor:
        return torch.as_tensor(t, dtype=torch.float64).unsqueeze(-1) * self.velocity if torch.as_tensor(t).ndim == 0 \
            else t * self.velocity


def speed_of(g: ProxFunction) -> float:
    """|v'| of a set that moves along a line, 0 for one at rest."""
    if not g.moving:
        return 0.0
    assert isinstance(g, Moving)
    assert isinstance(g.shift, Line)
    return float(g.shift.velocity.norm())


def case_of(origin: str, generator: Generator, field: ResNetField, g: ProxFunction, t: Tensor) -> Case:
    """Random pairs for the networks of a field."""
    start = draws.points(generator, g, field.ensemble[0], d=field.features)
    return Case(origin, Inclusion(field, g), t, *start)


def around_an_obstacle(generator: Generator, networks: int, a_layer: int = 1) -> Case:
    """Not convex: a constant stream carries pairs past both sides of an obstacle and parts them."""
    n = networks
    zero = torch.zeros(n, 2, 2, dtype=torch.float64)
    stream = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(n, 2).contiguous()
    field = ResNetField(zero, zero[..., 0], zero, stream)
    height = draws.uniform(generator, 0.05, 0.3, n, PAIRS)
    x0 = torch.stack([torch.full_like(height, -1.5), height], -1)
    y0 = torch.stack([torch.full_like(height, -1.5), -height], -1)
    t = torch.linspace(0, 3, 30 * a_layer + 1, dtype=torch.float64)
    return Case("obstacle, not convex", Inclusion(field, OutsideBall()), t, x0, y0)


def away_from_zero(generator: Generator, networks: int) -> Case:
    """0 not in C: the edge x_1 = 1 turns a gradient flow with F(t, 0) = 0 into growth."""
    angle = draws.uniform(generator, 0.3, 0.9, networks)
    A = torch.stack([angle.cos(), -angle.sin()], -1).unsqueeze(-2)
    zero = torch.zeros(networks, 2, dtype=torch.float64)
    g = HalfSpace(torch.tensor([-1.0, 0.0], dtype=torch.float64), -1.0)
    return case_of("half space x₁ ≥ 1", generator, ResNetSField(A, zero[:, :1], zero), g, draws.times(2.0))


def negative_A2(generator: Generator, networks: int, horizon: float) -> Case:
    """A2 <= 0 where the hypothesis asks for A2 >= 0."""
    weights = draws.matrices(generator, networks)
    field = ResNetField(**draws.layers_of(horizon, **weights._replace(A2=-weights.A2.abs())._asdict()))
    return case_of("A₂ ≤ 0", generator, field, Orthant(), draws.times(horizon))


def wrong_sign(generator: Generator, networks: int) -> Case:
    """A2 = −A1ᵀ where the hypothesis asks for A2 = A1ᵀ."""
    weights = draws.matrices(generator, networks)
    field = ResNetField(**draws.layers_of(HORIZON, **weights._replace(A2=-weights.A1.mT)._asdict()))
    return case_of("A₂ = −A₁ᵀ", generator, field, Orthant(), draws.times(HORIZON))


def above_the_limit(generator: Generator, networks: int) -> Case:
    """h‖A‖² in [2.5, 4] where the hypothesis asks for at most 2."""
    field = draws.symmetric(generator, networks, NETWORK, square=(2.5, 4.0))
    return case_of("h‖A‖² in [2.5, 4]", generator, field, Orthant(), draws.times(NETWORK))


def no_indicator(generator: Generator, networks: int) -> Case:
    """g an ℓ1 norm: its multiplier is as long as its weights, whatever F."""
    field = draws.small(generator, networks, HORIZON)
    return case_of("ℓ1 norm", generator, field, L1(2.0), draws.times(HORIZON, DENSE))


def another_set(generator: Generator, networks: int) -> Case:
    """The same field in two sets."""
    case = case_of("orthant and box", generator, draws.small(generator, networks, HORIZON), Orthant(),
                   draws.times(HORIZON, DENSE))
    box = Box(0.5, 1.0)
    return replace(case, other=Inclusion(case.flow.field, box), y0=box.prox(case.y0, 1.0))


def with_reach(case: Case, factor: float) -> Case:
    """A reach claimed that the set does not have."""
    return replace(case, origin=f"r {factor:g} times too large", given={"reach": factor * case.number("reach")})


def with_eta(case: Case, factor: float) -> Case:
    """Sets said to be nearer than they are; the pairs start at one point of both."""
    assert case.other is not None
    x0 = case.other.g.prox(case.flow.g.prox(case.x0, 1.0), 1.0)
    return replace(case, origin=f"η = {factor:g} of the distance", x0=x0, y0=x0,
                   given={"eta": factor * case.number("eta")})


def changing_weights(generator: Generator, networks: int) -> Case:
    """An energy of weights that change."""
    field = draws.symmetric(generator, networks, HORIZON)
    return case_of("weights that change", generator, field, Orthant(), draws.times(HORIZON, DENSE))


def rest_of_one_layer(generator: Generator, networks: int) -> Case:
    """The point of rest of the first layer, where F pulls elsewhere in the next."""
    zero = torch.zeros(LAYERS, networks, 2, 2, dtype=torch.float64)
    b2 = torch.zeros(LAYERS, networks, 2, dtype=torch.float64)
    b2[1:] = draws.uniform(generator, 1, 2, LAYERS - 1, networks, 2)
    leak = torch.eye(2, dtype=torch.float64).expand(networks, 2, 2).clone()
    field = PlusLinearField(**draws.layers_of(HORIZON, A1=zero, b1=b2 * 0, A2=zero, b2=b2), M=leak)
    case = case_of("rest of the first layer", generator, field, Orthant(), draws.times(HORIZON))
    rest = torch.zeros(networks, 1, 2, dtype=torch.float64)
    return replace(case, x0=0.1 * case.x0, y0=torch.zeros_like(case.y0), fixed=True, given={"rest": rest})


def near_two(generator: Generator, networks: int) -> Case:
    """h‖A‖² = 1.99 where the rate 1/N asks for at most 1: x leaps over the minimum and back."""
    one = torch.ones(networks, 1, dtype=torch.float64)
    field = ResNetSField(one.unsqueeze(-1), 8 * one, 8 * one)  # φ = ½σ(x + 8)² − 8x, least at 0
    t = draws.times(1.99 * LAYERS)
    x0, y0 = draws.points(generator, Box(-1.0, 1.0), networks, 1)
    given = {"limit": torch.tensor(1.0, dtype=torch.float64)}
    return Case("h‖A‖² = 1.99", Inclusion(field, Whole()), t, x0, 0.1 * y0, given=given)


def leak_above_limit(generator: Generator, networks: int) -> Case:
    """h(2k + ‖A‖²) up to 5."""
    A = draws.symmetric(generator, networks, NETWORK, square=(2.5, 3.5))
    one = 0.5 * torch.eye(draws.WIDTH, dtype=torch.float64).expand(networks, -1, -1).clone()
    weights = draws.layers_of(NETWORK, A1=A.A.values, b1=A.b1.values, A2=A.A.values.mT.contiguous(), b2=A.b2.values)
    return case_of("h(2k + ‖A‖²) ≥ 3.5", generator, PlusLinearField(**weights, M=one), Orthant(), draws.times(NETWORK))


def oblique_edge(generator: Generator, networks: int) -> Case:
    """A half space with an oblique edge: trajectories slide along it, and apart in ℓ1 and ℓ∞."""
    zero = torch.zeros(networks, 2, 2, dtype=torch.float64)
    b2 = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(networks, 2).clone()
    g = HalfSpace(torch.tensor([1.0, -0.5], dtype=torch.float64), 0.0)
    field = ResNetField(zero, zero[..., 0], zero, b2)
    return case_of("oblique edge", generator, field, g, draws.times(2.0))


def competitive(generator: Generator, networks: int) -> Case:
    """A2A1 >= 0 between different coordinates."""
    weights = draws.matrices(generator, networks)
    weights = weights._replace(A1=weights.A1.abs(), A2=weights.A2.abs())
    field = ResNetField(**draws.layers_of(HORIZON, **weights._asdict()))
    return case_of("A₂A₁ ≥ 0", generator, field, Orthant(), draws.times(HORIZON))


def long_steps(generator: Generator, networks: int) -> Case:
    """Every coordinate pulled back by 1.5 of itself in one step."""
    one = torch.eye(2, dtype=torch.float64).expand(networks, 2, 2).clone()
    zero = torch.zeros(networks, 2, dtype=torch.float64)
    field = ResNetField(one, zero, 1.5 * one, zero)
    return case_of("hΣ(A₂ᵢₖA₁ₖᵢ)₊ = 1.5", generator, field, Box(-2.0, 2.0), draws.times(NETWORK))


def one_past_an_obstacle(generator: Generator, networks: int) -> Case:
    """Not convex: gradients grow along an obstacle, though F is constant."""
    zero = torch.zeros(networks, 2, 2, dtype=torch.float64)
    b2 = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(networks, 2).clone()
    weights = draws.layers_of(3.0, A1=zero.expand(LAYERS, -1, -1, -1), b1=0 * b2.expand(LAYERS, -1, -1),
                              A2=zero.expand(LAYERS, -1, -1, -1), b2=b2.expand(LAYERS, -1, -1))
    height = draws.uniform(generator, 0.05, 0.3, networks, 1)
    x0 = torch.stack([torch.full_like(height, -1.5), height], -1)
    return Case("obstacle, not convex", Inclusion(ResNetField(**weights), OutsideBall()), draws.times(3.0), x0, 0 * x0)
