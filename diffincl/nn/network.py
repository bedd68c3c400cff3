"""Classifiers around an inclusion: lift, stages of layers, head."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from .. import _check, norms
from ..norms import OperatorNorm
from .between import Between, UnitRows
from .blocks import Blocks
from .inside import evaluating, factors_of, product, states_of
from .stage import VARIANTS, Stage

__all__ = ["VARIANTS", "DenseResNet", "Network", "start"]


class Network(nn.Module):
    """What the networks share: stages of layers whose weights are curves in time."""

    variant: str
    head: nn.Linear

    @property
    def sequence(self) -> Sequence[Stage | Blocks | Between]:
        """What leads from the initial state to the last one, in order."""
        raise NotImplementedError

    @property
    def parts(self) -> list[Stage | Blocks]:
        """All layers of one resolution, in order: stages, or of a relative blocks."""
        return [part for part in self.sequence if isinstance(part, Stage | Blocks)]

    @property
    def stages(self) -> list[Stage]:
        """The parts whose weights are curves in time; a relative of the ResNet family has none."""
        return [part for part in self.parts if isinstance(part, Stage)]

    @property
    def depth(self) -> int:
        """Layers of a stage."""
        return self.parts[0].depth

    def constrain_(self) -> None:
        """Project the weights back onto the structure, after each optimiser step: see ``Stage.constrain_``."""
        for part in self.parts:
            part.constrain_()

    def certify_(self, status: str = "float") -> float:
        """Put the norms of ResNet-S under the limit, from above, as at the end of an epoch; the largest h‖A‖² found."""
        return max(part.certify_(status) for part in self.parts)

    def at_depth(self, n: int) -> Self:
        """This network with n layers a stage, its weights shared: the same curves in time, stepped through more finely.

        Raises
        ------
        ValueError
            If n is no multiple of the number of pieces of the curves.
        """
        return self._with(lambda stage: stage.at_depth(n))

    def refine(self, factor: int = 2) -> Self:
        """A copy with ``factor`` times the layers and pieces of weights, the same curves in time: to train on."""
        return copy.deepcopy(self)._with(lambda stage: stage.refine(factor))

    def _with(self, change: Callable[[Stage], Stage]) -> Self:
        """This network with other stages, everything else shared."""
        if not self.stages:
            raise TypeError(f"a {type(self).__name__} has no curves in time; take DenseResNet or ImageResNet to refine "
                            f"it or to evaluate it at another depth.")
        other = copy.copy(self)
        other._modules = {
            name: change(part) if isinstance(part, Stage) else
            nn.ModuleList(change(p) if isinstance(p, Stage) else p for p in part)
            if isinstance(part, nn.ModuleList) else part for name, part in self._modules.items()}
        return other

    def cost(self) -> Tensor:
        """∫(‖A1‖² + ‖A2‖²)dt over all stages (theory C8)."""
        return torch.stack([stage.cost() for stage in self.stages]).sum()

    def roughness(self) -> Tensor:
        """∫‖θ'‖²dt over all stages."""
        return torch.stack([stage.roughness() for stage in self.stages]).sum()

    def features(self, x: Tensor) -> Tensor:
        """The state before the first layer."""
        raise NotImplementedError

    def states(self, x: Tensor) -> list[Tensor]:
        """States before the first and after each layer, (N + 1, n, *state) a stage; no gradients, evaluating."""
        with evaluating(self):
            return states_of(self.sequence, self.features(x))

    def factors(self, status: str = "float", rate: str = "best") -> list[Tensor]:
        """Lipschitz factors in ℓ2 from the first of ``states`` to each of them, (N + 1,) a stage, from above: products
        over the layers. ``sensitivity`` may be less, which looks at the layers of a stage together."""
        return factors_of(self.sequence, status, rate)

    def argument(self, x: Tensor) -> Tensor:
        """The argument of the head, (*batch, features)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (*batch, classes)."""
        return self.head(self.argument(x))

    def sensitivity(self, status: str = "float", rate: str = "best") -> OperatorNorm:
        """Lipschitz factor in ℓ2 from the input to the argument of the head, from above, in evaluation mode; see
        ``Stage.factor``."""
        return self.around(status, [part.factor(status, rate) for part in self.parts])

    def around(self, status: str, factors: Sequence[OperatorNorm]) -> OperatorNorm:
        """``sensitivity`` from the factors of ``parts``: those of what stands around them come with it."""
        raise NotImplementedError


class DenseResNet(Network):
    """x0 = ReLU(lift(input)); ``depth`` layers of −x' ∈ N_C + A2 σ(A1 x + b1) − b2 on the orthant; a linear head.

    Parameters
    ----------
    features, classes : int
    variant : "resnet", "d" (A2 >= 0) or "s" (A2 = A1ᵀ, h‖A‖² under ``limit``)
    width : int
        Dimension of the state and of the hidden layer.
    depth : int
        Number of layers.
    horizon : float
        T; a layer is a step of length h = T/depth.
    curves : "constant" or "linear"
    limit : float
        Of h‖A‖² in "s"; see ``Stage``.
    isometric : bool
        An orthogonal lift and rows of length 1 in the head: certified radii of use. Train at a low temperature.
    generator : torch.Generator, optional
        Of the initial weights.

    Notes
    -----
    The structure is kept by projection: ``constrain_()`` after each optimiser step, ``certify_()`` each epoch.

    Examples
    --------
    >>> import torch
    >>> net = DenseResNet(64, 10, variant="s", generator=torch.Generator().manual_seed(0))
    >>> net(torch.zeros(5, 64)).shape
    torch.Size([5, 10])
    >>> net.at_depth(40).layers.h, round(float(net.layers.factor().value), 6)
    (0.025, 1.0)
    """

    def __init__(self, features: int, classes: int, *, variant: str = "resnet", width: int = 32, depth: int = 10,
                 horizon: float = 1.0, curves: str = "constant", limit: float = 1.0, isometric: bool = False,
                 generator: torch.Generator | None = None):
        super().__init__()
        features, classes = _check.count("features", features), _check.count("classes", classes)
        self.variant, width = _check.choice("variant", variant, VARIANTS), _check.count("width", width)
        with _seeded_by(generator):  # an orthogonal matrix is completed by torch's default random numbers
            self.lift, self.head = nn.Linear(features, width), nn.Linear(width, classes)
            start(self.lift, generator)
            start(self.head, generator)
            if isometric:
                parametrizations.orthogonal(self.lift)
                parametrize.register_parametrization(self.head, "weight", UnitRows())
        self.layers = Stage(variant, width, depth, horizon=horizon, curves=curves, limit=limit, generator=generator)

    @property
    def h(self) -> float:
        """Length of a layer."""
        return self.layers.h

    @property
    def sequence(self) -> Sequence[Stage | Blocks | Between]:
        """The layers."""
        return [self.layers]

    def features(self, x: Tensor) -> Tensor:
        """The initial state x0 = ReLU(lift(x)), (*batch, width)."""
        return torch.relu(self.lift(x))

    def argument(self, x: Tensor) -> Tensor:
        """The state after the layers, (*batch, width)."""
        return self.layers(self.features(x))

    def around(self, status: str, factors: Sequence[OperatorNorm]) -> OperatorNorm:
        """‖lift‖ times the factor of the layers."""
        return product(status, norms.dense(self.lift.weight.detach(), status=status), *factors)


@contextmanager
def _seeded_by(generator: torch.Generator | None) -> Iterator[None]:
    """torch's default random numbers from the seed of a generator; afterwards they go on as before."""
    if generator is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        yield


def start(layer: nn.Linear | nn.Conv1d | nn.Conv2d, generator: torch.Generator | None) -> None:
    """Normal weights of variance 1/fan in, no bias."""
    with torch.no_grad():
        fan = layer.weight[0].numel()
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / fan**0.5)
        if layer.bias is not None:
            layer.bias.zero_()
