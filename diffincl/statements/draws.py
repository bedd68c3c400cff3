"""Random instances inside the hypotheses, and controls outside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.linalg import matrix_norm

from ..curves import PiecewiseConstant, PiecewiseLinear
from ..fields import ResNetDField, ResNetField, ResNetSField
from ..functions import L1, Ball, Box, HalfSpace, Orthant, OutsideBall, ProxFunction, Simplex
from ..inclusion import Inclusion
from .case import Case

__all__: list[str] = []

LAYERS, WIDTH, PAIRS = 4, 6, 8
HORIZON = 1.0  # of continuous statements; a network has layers of length 1


class _Draw(NamedTuple):
    """Weights (LAYERS, networks, ...) of random networks."""

    A1: Tensor
    b1: Tensor
    A2: Tensor
    b2: Tensor


def _normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _uniform(generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def _weights(generator: Generator, networks: int, scale: tuple[float, float] = (0.3, 1.8)) -> _Draw:
    """Networks of every width from 1 to WIDTH (narrow ones padded with zeros) and of many sizes of weights."""
    m = d = WIDTH
    used = torch.arange(WIDTH) < torch.randint(1, WIDTH + 1, (2, networks, 1), generator=generator)
    hidden, state = used[0].double(), used[1].double()
    low, high = scale
    size = [low * (high / low) ** _uniform(generator, 0, 1, 1, networks, 1, 1) for _ in range(2)]
    mask = hidden.unsqueeze(-1) * state.unsqueeze(-2)
    A1 = size[0] * mask * _normal(generator, LAYERS, networks, m, d) / hidden.sum(-1).sqrt()[:, None, None]
    A2 = size[1] * mask.mT * _normal(generator, LAYERS, networks, d, m) / hidden.sum(-1).sqrt()[:, None, None]
    b1, b2 = hidden * _normal(generator, LAYERS, networks, m), state * _normal(generator, LAYERS, networks, d)
    return _Draw(A1, b1, A2, b2)


def _curves(weights: _Draw, horizon: float) -> dict[str, PiecewiseConstant]:
    return {name: PiecewiseConstant(w, 0.0, horizon) for name, w in weights._asdict().items()}


def free(generator: Generator, networks: int, horizon: float) -> ResNetField:
    """ResNet with any weights, one value a layer."""
    return ResNetField(**_curves(_weights(generator, networks), horizon))


def moving(generator: Generator, networks: int, horizon: float) -> ResNetField:
    """ResNet with weights linear in time between knots; at some knots some units are dead."""
    weights = _weights(generator, networks)
    row, column = (_uniform(generator, 0, 1, LAYERS, networks, WIDTH) > 0.2 for _ in range(2))
    weights = weights._replace(A1=weights.A1 * row.unsqueeze(-1), A2=weights.A2 * column.unsqueeze(-2))
    return ResNetField(**{name: PiecewiseLinear(w, 0.0, horizon) for name, w in weights._asdict().items()})


def decay(generator: Generator, networks: int, horizon: float) -> ResNetDField:
    """ResNet-D: A2 >= 0."""
    weights = _weights(generator, networks)
    return ResNetDField(**_curves(weights._replace(A2=weights.A2.abs()), horizon))


def symmetric(generator: Generator, networks: int, horizon: float, square: tuple[float, float] = (0.2, 4.0),
              ) -> ResNetSField:
    """ResNet-S with ‖A‖² uniform in ``square``."""
    weights = _weights(generator, networks)
    A = weights.A1 * _norm_to(weights.A1, _uniform(generator, *square, LAYERS, networks))
    curves = _curves(weights._replace(A1=A), horizon)
    return ResNetSField(curves["A1"], curves["b1"], curves["b2"])


def symmetric_under_limit(generator: Generator, networks: int, horizon: float) -> ResNetSField:
    """ResNet-S with h‖A‖² <= 2, half of the layers at the limit."""
    weights = _weights(generator, networks)
    square = _uniform(generator, 0.2, 3.8, LAYERS, networks).clamp_max(2.0 * (1 - 1e-9))
    curves = _curves(weights._replace(A1=weights.A1 * _norm_to(weights.A1, square)), horizon)
    return ResNetSField(curves["A1"], curves["b1"], curves["b2"])


def _norm_to(A: Tensor, square: Tensor) -> Tensor:
    """Factor that gives ‖A‖² the value ``square``."""
    return (square.sqrt() / matrix_norm(A, 2).clamp_min(1e-6))[..., None, None]


def pairs(generator: Generator, g: ProxFunction, networks: int, d: int = WIDTH) -> tuple[Tensor, Tensor]:
    """Pairs of points of the set, (networks, PAIRS, d): half of them near each other."""
    x0 = g.prox(2 * _normal(generator, networks, PAIRS, d), 1.0)
    distance = torch.tensor([1e-2, 1.0], dtype=torch.float64).repeat(PAIRS // 2).unsqueeze(-1)
    return x0, g.prox(x0 + distance * _normal(generator, networks, PAIRS, d), 1.0)


def from_zero() -> list[tuple[str, ProxFunction]]:
    """The sets of the ResNet-D statements."""
    return [("orthant", Orthant()), ("box [0, 1.5]", Box(0.0, 1.5))]


def around_zero() -> list[tuple[str, ProxFunction]]:
    """Convex functions g that are least at 0: sets that hold 0, and a norm."""
    normal = torch.tensor([1.0, -0.5, 0.25, 0.0, 1.0, -1.0], dtype=torch.float64)
    return [("orthant", Orthant()), ("box [−1, 1.5]", Box(-1.0, 1.5)), ("ball", Ball(1.5)),
            ("half space", HalfSpace(normal, 0.5)), ("ℓ1 norm", L1(0.5))]


def convex() -> list[tuple[str, ProxFunction]]:
    """Convex functions g, not all of which are least at 0."""
    return [*around_zero(), ("ball off 0", Ball(1.0, 2.0)), ("simplex", Simplex(2.0))]


@dataclass(frozen=True)
class Draw:
    """Random networks on sets of one kind: the draw of a statement. The kinds of networks take turns over the sets, and
    the first set sees them all."""

    networks: tuple[Callable[[Generator, int, float], ResNetField], ...]
    sets: Callable[[], list[tuple[str, ProxFunction]]]
    horizon: float = HORIZON

    def __call__(self, generator: Generator, trials: int) -> list[Case]:
        """Cases with at least ``trials`` pairs in all, one solve for each set."""
        first, *others = self.sets()
        draws = [(network, first) for network in self.networks]
        draws += [(self.networks[k % len(self.networks)], other) for k, other in enumerate(others)]
        networks = max(1, -(-trials // (PAIRS * len(draws))))
        t = torch.linspace(0, self.horizon, LAYERS + 1, dtype=torch.float64)
        cases = []
        for network, (name, g) in draws:
            field = network(generator, networks, self.horizon)
            cases.append(Case(f"random, {name}", Inclusion(field, g), t, *pairs(generator, g, networks)))
        return cases


# ------------------------------------------------------------------------------------------------------------- controls


def around_an_obstacle(generator: Generator, trials: int) -> Case:
    """Not convex: a constant stream carries pairs past both sides of an obstacle and parts them."""
    n = max(4, trials // PAIRS)
    zero = torch.zeros(n, 2, 2, dtype=torch.float64)
    stream = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(n, 2).contiguous()
    field = ResNetField(zero, zero[..., 0], zero, stream)
    height = _uniform(generator, 0.05, 0.3, n, PAIRS)
    x0 = torch.stack([torch.full_like(height, -1.5), height], -1)
    y0 = torch.stack([torch.full_like(height, -1.5), -height], -1)
    t = torch.linspace(0, 3, 31, dtype=torch.float64)
    return Case("obstacle, not convex", Inclusion(field, OutsideBall()), t, x0, y0)


def away_from_zero(generator: Generator, trials: int) -> Case:
    """0 not in C: the edge x_1 = 1 turns a gradient flow with F(t, 0) = 0 into growth."""
    n = max(4, trials // PAIRS)
    angle = _uniform(generator, 0.3, 0.9, n)
    A = torch.stack([angle.cos(), -angle.sin()], -1).unsqueeze(-2)
    zero = torch.zeros(n, 2, dtype=torch.float64)
    g = HalfSpace(torch.tensor([-1.0, 0.0], dtype=torch.float64), -1.0)
    x0, y0 = pairs(generator, g, n, d=2)
    t = torch.linspace(0, 2, LAYERS + 1, dtype=torch.float64)
    return Case("half space x₁ ≥ 1", Inclusion(ResNetSField(A, zero[:, :1], zero), g), t, x0, y0)


def negative_A2(generator: Generator, trials: int, horizon: float) -> Case:
    """A2 <= 0 where the hypothesis asks for A2 >= 0."""
    n = max(4, trials // PAIRS)
    weights = _weights(generator, n)
    field = ResNetField(**_curves(weights._replace(A2=-weights.A2.abs()), horizon))
    t = torch.linspace(0, horizon, LAYERS + 1, dtype=torch.float64)
    return Case("A₂ ≤ 0", Inclusion(field, Orthant()), t, *pairs(generator, Orthant(), n))


def wrong_sign(generator: Generator, trials: int) -> Case:
    """A2 = −A1ᵀ where the hypothesis asks for A2 = A1ᵀ."""
    n = max(4, trials // PAIRS)
    weights = _weights(generator, n)
    field = ResNetField(**_curves(weights._replace(A2=-weights.A1.mT), HORIZON))
    t = torch.linspace(0, HORIZON, LAYERS + 1, dtype=torch.float64)
    return Case("A₂ = −A₁ᵀ", Inclusion(field, Orthant()), t, *pairs(generator, Orthant(), n))


def above_the_limit(generator: Generator, trials: int) -> Case:
    """h‖A‖² in [2.5, 4] where the hypothesis asks for at most 2."""
    n = max(4, trials // PAIRS)
    field = symmetric(generator, n, float(LAYERS), square=(2.5, 4.0))
    t = torch.linspace(0, LAYERS, LAYERS + 1, dtype=torch.float64)
    return Case("h‖A‖² in [2.5, 4]", Inclusion(field, Orthant()), t, *pairs(generator, Orthant(), n))
