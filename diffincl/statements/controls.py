"""Instances outside the hypotheses: each must be caught violating the claim."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ..fields import ResNetField, ResNetSField
from ..functions import HalfSpace, Orthant, OutsideBall, ProxFunction
from ..inclusion import Inclusion
from . import draws
from .case import Case
from .draws import HORIZON, NETWORK, PAIRS

__all__: list[str] = []


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
