"""Random instances inside the hypotheses: networks, sets, pairs of points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.linalg import matrix_norm

from ..curves import PiecewiseConstant, PiecewiseLinear
from ..fields import ResNetDField, ResNetField, ResNetSField
from ..functions import L1, Ball, Box, HalfSpace, Orthant, ProxFunction, Simplex
from ..inclusion import Inclusion
from .case import Case

__all__: list[str] = []

LAYERS, WIDTH, PAIRS = 4, 6, 8
HORIZON = 1.0  # of continuous statements
NETWORK = float(LAYERS)  # of a network with layers of length 1
DENSE = 8  # save times a layer where a statement integrates along trajectories

Sets = Callable[[], list[tuple[str, ProxFunction]]]
Networks = Callable[[Generator, int, float], ResNetField]
Finish = Callable[[Generator, Case], Case]


class Matrices(NamedTuple):
    """Weights (LAYERS, networks, ...) of random networks."""

    A1: Tensor
    b1: Tensor
    A2: Tensor
    b2: Tensor


def normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def uniform(generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def matrices(generator: Generator, networks: int, layers: int = LAYERS,
             scale: tuple[float, float] = (0.3, 1.8)) -> Matrices:
    """Networks of every width from 1 to WIDTH (narrow ones padded with zeros) and of many sizes of weights."""
    m = d = WIDTH
    used = torch.arange(WIDTH) < torch.randint(1, WIDTH + 1, (2, networks, 1), generator=generator)
    hidden, state = used[0].double(), used[1].double()
    low, high = scale
    size = [low * (high / low) ** uniform(generator, 0, 1, 1, networks, 1, 1) for _ in range(2)]
    mask = hidden.unsqueeze(-1) * state.unsqueeze(-2)
    A1 = size[0] * mask * normal(generator, layers, networks, m, d) / hidden.sum(-1).sqrt()[:, None, None]
    A2 = size[1] * mask.mT * normal(generator, layers, networks, d, m) / hidden.sum(-1).sqrt()[:, None, None]
    b1, b2 = hidden * normal(generator, layers, networks, m), state * normal(generator, layers, networks, d)
    return Matrices(A1, b1, A2, b2)


def layers_of(horizon: float, **weights: Tensor) -> dict[str, PiecewiseConstant]:
    """One value a layer."""
    return {name: PiecewiseConstant(w, 0.0, horizon) for name, w in weights.items()}


def free(generator: Generator, networks: int, horizon: float) -> ResNetField:
    """ResNet with any weights, one value a layer."""
    return ResNetField(**layers_of(horizon, **matrices(generator, networks)._asdict()))


def small(generator: Generator, networks: int, horizon: float) -> ResNetField:
    """ResNet with weights of small norm."""
    return ResNetField(**layers_of(horizon, **matrices(generator, networks, scale=(0.1, 0.5))._asdict()))


def moving(generator: Generator, networks: int, horizon: float) -> ResNetField:
    """ResNet with weights linear in time between knots; at some knots some units are dead."""
    weights = matrices(generator, networks)
    row, column = (uniform(generator, 0, 1, LAYERS, networks, WIDTH) > 0.2 for _ in range(2))
    weights = weights._replace(A1=weights.A1 * row.unsqueeze(-1), A2=weights.A2 * column.unsqueeze(-2))
    return ResNetField(**{name: PiecewiseLinear(w, 0.0, horizon) for name, w in weights._asdict().items()})


def decay(generator: Generator, networks: int, horizon: float) -> ResNetDField:
    """ResNet-D: A2 >= 0."""
    weights = matrices(generator, networks)
    return ResNetDField(**layers_of(horizon, **weights._replace(A2=weights.A2.abs())._asdict()))


def symmetric(generator: Generator, networks: int, horizon: float, square: tuple[float, float] = (0.2, 4.0),
              layers: int = LAYERS) -> ResNetSField:
    """ResNet-S with h‖A‖² uniform in ``square`` for h = 1."""
    weights = matrices(generator, networks, layers)
    A = weights.A1 * norm_to(weights.A1, uniform(generator, *square, layers, networks))
    return ResNetSField(**layers_of(horizon, A=A, b1=weights.b1, b2=weights.b2))


def pulled_then_pushed(generator: Generator, networks: int, horizon: float) -> ResNetSField:
    """ResNet-S that is pulled by b1 with A near −I, then pushed by b2 alone: the two growths add up in this order, as
    they do not in the other."""
    half = torch.arange(LAYERS).reshape(-1, 1, 1) < LAYERS // 2
    size, pull, push = (uniform(generator, *span, networks, 1) for span in ((0.5, 1.5), (1.0, 4.0), (1.0, 4.0)))
    A = -size.unsqueeze(-1) * torch.eye(WIDTH, dtype=torch.float64)
    A = A + 0.02 * normal(generator, LAYERS, networks, WIDTH, WIDTH)
    b1 = torch.where(half, pull, -4.0) + 0.02 * normal(generator, LAYERS, networks, WIDTH)
    b2 = torch.where(half, 0.0, push) + 0.02 * normal(generator, LAYERS, networks, WIDTH)
    return ResNetSField(**layers_of(horizon, A=A, b1=b1, b2=b2))


def symmetric_under_limit(generator: Generator, networks: int, horizon: float) -> ResNetSField:
    """ResNet-S with ‖A‖² <= 2, half of the layers at the limit."""
    weights = matrices(generator, networks)
    square = uniform(generator, 0.2, 3.8, LAYERS, networks).clamp_max(2.0 * (1 - 1e-9))
    return ResNetSField(**layers_of(horizon, A=weights.A1 * norm_to(weights.A1, square), b1=weights.b1, b2=weights.b2))


def norm_to(A: Tensor, square: Tensor) -> Tensor:
    """Factor that gives ‖A‖² the value ``square``."""
    return (square.sqrt() / matrix_norm(A, 2).clamp_min(1e-6))[..., None, None]


# ----------------------------------------------------------------------------------------------------------------- sets


def from_zero() -> list[tuple[str, ProxFunction]]:
    """The sets of the ResNet-D statements."""
    return [("orthant", Orthant()), ("box [0, 1.5]", Box(0.0, 1.5))]


def boxes() -> list[tuple[str, ProxFunction]]:
    return [("orthant", Orthant()), ("box [−1, 1.5]", Box(-1.0, 1.5))]


def orthant() -> list[tuple[str, ProxFunction]]:
    return [("orthant", Orthant())]


def oblique() -> tuple[str, ProxFunction]:
    normal = torch.tensor([1.0, -0.5, 0.25, 0.0, 1.0, -1.0], dtype=torch.float64)
    return "half space", HalfSpace(normal, 0.5)


def around_zero() -> list[tuple[str, ProxFunction]]:
    """Convex functions g that are least at 0: sets that hold 0, and a norm."""
    return [*boxes(), ("ball", Ball(1.5)), oblique(), ("ℓ1 norm", L1(0.5))]


def convex_sets() -> list[tuple[str, ProxFunction]]:
    return [*boxes(), ("ball", Ball(1.5)), oblique(), ("ball off 0", Ball(1.0, 2.0)), ("simplex", Simplex(2.0))]


def convex() -> list[tuple[str, ProxFunction]]:
    """Convex functions g, not all of which are least at 0."""
    return [*around_zero(), ("ball off 0", Ball(1.0, 2.0)), ("simplex", Simplex(2.0))]


def points(generator: Generator, g: ProxFunction, networks: int, d: int = WIDTH,
           pairs: int = PAIRS) -> tuple[Tensor, Tensor]:
    """Pairs of points of the set, (networks, pairs, d): half of them near each other."""
    x0 = g.prox(2 * normal(generator, networks, pairs, d), 1.0)
    distance = torch.tensor([1e-2, 1.0], dtype=torch.float64).repeat(pairs)[:pairs].unsqueeze(-1)
    return x0, g.prox(x0 + distance * normal(generator, networks, pairs, d), 1.0)


def times(horizon: float, a_layer: int = 1, layers: int = LAYERS) -> Tensor:
    """The ends of the layers, with ``a_layer`` save times in each."""
    return torch.linspace(0, horizon, layers * a_layer + 1, dtype=torch.float64)


@dataclass(frozen=True)
class RandomNetworks:
    """Random networks on sets of one kind: a draw. The kinds of networks take turns over the sets, and the first set
    sees them all; ``finish`` adds to each case what the statement needs besides."""

    networks: tuple[Networks, ...]
    sets: Sets
    horizon: float = HORIZON
    a_layer: int = 1
    pairs: int = PAIRS
    finish: Finish = lambda generator, case: case

    def _choices(self) -> list[tuple[Networks, tuple[str, ProxFunction]]]:
        first, *others = self.sets()
        n = len(self.networks)
        return [(network, first) for network in self.networks] + \
            [(self.networks[k % n], other) for k, other in enumerate(others)]

    @property
    def kinds(self) -> int:
        """Number of combinations of a kind of network and a set."""
        return len(self._choices())

    def __call__(self, generator: Generator, kind: int, networks: int) -> Case:
        """A case with ``networks`` networks of one kind on one set."""
        network, (name, g) = self._choices()[kind]
        flow = Inclusion(network(generator, networks, self.horizon), g)
        t = times(self.horizon, self.a_layer)
        start = points(generator, g, networks, pairs=self.pairs)
        return self.finish(generator, Case(f"random, {name}", flow, t, *start))
