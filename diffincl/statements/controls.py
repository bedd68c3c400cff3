"""Instances outside the hypotheses: each must be caught violating the claim."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..fields import FieldFunction, ResNetField, ResNetSField
from ..functions import L1, Ball, Box, HalfSpace, Moving, Orthant, OutsideBall, ProxFunction, Whole
from ..inclusion import Inclusion
from ..schemes import ProxHeun
from . import draws
from .case import Case
from .draws import DENSE, HORIZON, LAYERS, NETWORK, PAIRS
from .fields import PlusLinearField

__all__ = ["Line", "Rotation"]


@dataclass(frozen=True, eq=False)
class Line:
    """t ↦ t·velocity, the shift of a set that moves."""

    velocity: Tensor

    def __call__(self, t: Tensor) -> Tensor:
        return torch.as_tensor(t, dtype=torch.float64).unsqueeze(-1) * self.velocity if torch.as_tensor(t).ndim == 0 \
            else t * self.velocity


@dataclass(frozen=True)
class Rotation:
    """F(t, x) = Jx in the plane: the flow keeps distances, forward Euler does not."""

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.stack([-x[..., 1], x[..., 0]], -1)


@dataclass(frozen=True)
class TextbookHeun(ProxHeun):
    """x⁺ = prox_h(x − h/2 (F(t, x) + F(t + h, y))), y = prox_h(x − hF(t, x)): consistent, and not in SSP form."""

    prox_fraction: ClassVar[float] = 1.0

    def step(self, F: FieldFunction, g: ProxFunction, t: Tensor, t_next: Tensor, h: float | Tensor,
             x: Tensor) -> tuple[Tensor, Tensor]:
        """One step."""
        F0 = F(t, x)
        y = g.prox(x - h * F0, h, t_next)
        z = x - 0.5 * h * (F0 + F(t_next, y))
        return g.prox(z, h, t_next), z


TEXTBOOK, TEXTBOOK_NAME, FLOW = TextbookHeun(), "the textbook form of Heun", "the flow"


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


def rotation(generator: Generator, networks: int) -> Case:
    """The factor of the flow, 1 for a rotation, put to the steps of forward Euler, √(1 + h²)."""
    flow = Inclusion(Rotation(), Whole(), lipschitz=1.0, one_sided=0.0)
    x0, y0 = draws.points(generator, flow.g, networks, 2)
    return Case("rotation", flow, draws.times(2.0), x0.flatten(0, 1), y0.flatten(0, 1),
                given={"steps": "ForwardEuler", "factor": FLOW})


def textbook_heun(generator: Generator, networks: int) -> Case:
    """ResNet-S with h‖A‖² = 2 and the steps of the textbook form: found by ascent, which goes on from here to 2/√3."""
    near = 1 + draws.uniform(generator, -0.05, 0.05, networks, 1)
    A = torch.tensor([[-(2 / 3) ** 0.5, (4 / 3) ** 0.5]], dtype=torch.float64).expand(networks, 1, 2).clone()
    b2 = near * torch.tensor([-0.7, 1.37], dtype=torch.float64)
    field = ResNetSField(A, -0.03 * near, b2)
    x0 = near.unsqueeze(-1) * torch.tensor([0.52, 0.47], dtype=torch.float64).expand(networks, PAIRS, 2)
    y0 = near.unsqueeze(-1) * torch.tensor([0.0, 0.32], dtype=torch.float64).expand(networks, PAIRS, 2)
    return Case("textbook form, h‖A‖² = 2", Inclusion(field, Orthant()), draws.times(1.0, layers=1), x0, y0,
                given={"steps": TEXTBOOK_NAME, "factor": "ProxHeun"})


def no_boundary(generator: Generator, networks: int) -> Case:
    """The whole space, where a negative b2 pushes as far as a positive one."""
    field = draws.symmetric_under_limit(generator, networks, NETWORK)
    case = case_of("the whole space", generator, field, Whole(), draws.times(NETWORK))
    return case.with_weights(case.weights | {"b2": -2 - case.weights["b2"].abs()})


def kernel_budget(generator: Generator, networks: int) -> Case:
    """The penalty is on convolution kernels, the bound speaks of their matrices."""
    a = draws.uniform(generator, 0.4, 0.6, networks, 1, 1)
    i = torch.arange(draws.WIDTH)
    A1 = a * ((i[:, None] - i).abs() <= 1).double()
    b1, b2 = (torch.zeros(networks, draws.WIDTH, dtype=torch.float64) for _ in range(2))
    case = case_of("kernels, not matrices", generator, ResNetField(A1, b1, -A1, b2), Orthant(), draws.times(HORIZON))
    return replace(case, given={"budget": 3 * a.flatten() ** 2})


def set_in_motion(generator: Generator, networks: int) -> Case:
    """A box that moves carries x with it; F, which the bound knows, is small."""
    field = draws.small(generator, networks, HORIZON)
    velocity = torch.full((draws.WIDTH,), 2.0, dtype=torch.float64)
    g = Moving(Box(0.0, 0.5), shift=Line(velocity))
    x0 = g.prox(draws.normal(generator, networks, PAIRS, draws.WIDTH), 1.0, 0.0)
    case = Case("box that moves", Inclusion(field, g), draws.times(HORIZON, DENSE), x0, x0,
                given={"lam": torch.full((networks,), 0.1, dtype=torch.float64)})
    return case.with_weights({name: 0.01 * w for name, w in case.weights.items()})


def disk_that_moves(generator: Generator, networks: int) -> Case:
    """A ball that moves, and hardly any F."""
    case = set_in_motion(generator, networks)
    velocity = torch.linspace(-2, 2, draws.WIDTH, dtype=torch.float64)
    g = Moving(Ball(1.0, 0.5), shift=Line(velocity))
    return replace(case, origin="ball that moves", flow=Inclusion(case.flow.field, g), x0=g.prox(2 * case.x0, 1.0, 0.0),
                   t=draws.times(HORIZON, 2))


def curved(generator: Generator, networks: int) -> Case:
    """A ball instead of a box: a constant F along which Euler is not exact."""
    weights = draws.matrices(generator, networks)
    zero = {name: 0 * w for name, w in weights._asdict().items()} | {"b2": 2 * weights.b2[:1].expand(LAYERS, -1, -1)}
    field = ResNetField(**draws.layers_of(HORIZON, **zero))
    return case_of("ball, F constant", generator, field, Ball(1.0), draws.times(HORIZON))


def independent_layers(generator: Generator, networks: int) -> Case:
    """2N layers that have nothing to do with the N."""
    case = case_of("independent layers", generator, draws.small(generator, networks, HORIZON), Orthant(),
                   draws.times(HORIZON))
    return replace(case, other=Inclusion(draws.small(generator, networks, HORIZON), Orthant()))
