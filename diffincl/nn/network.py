"""Classifiers around an inclusion: lift, stages of layers, head."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from .. import _check, norms
from ..bounds import fold_batch_norm
from ..norms import OperatorNorm
from .between import AveragePool, Between, GlobalMean, PadChannels, UnitRows
from .blocks import Blocks
from .inside import as_norm, evaluating, factors_of, product, states_of
from .maps import convolutions
from .stage import VARIANTS, Stage

__all__ = ["VARIANTS", "DenseResNet", "ImageResNet", "Network"]


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
        """Lipschitz factor in ℓ2 from the input to the argument of the head, from above; see ``Stage.factor``."""
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

    def sensitivity(self, status: str = "float", rate: str = "best") -> OperatorNorm:
        """‖lift‖ times the factor of the layers."""
        return product(status, norms.dense(self.lift.weight.detach(), status=status), self.layers.factor(status, rate))


class ImageResNet(Network):
    """The CIFAR family: 3×3 opening, stages of residual layers on the orthant, pooling between them, mean, linear head.

    Parameters
    ----------
    variant : "resnet", "d" or "s"
    depth : int
        Layers of each stage.
    widths : sequence of int
        Channels of the stages.
    classes, channels : int
        Of the output and of the images.
    image : sequence of int
        (H, W), or (L,) for signals.
    kernel, horizon, curves, limit, padding_mode, generator
        See ``Stage``.

    Notes
    -----
    Batch normalisation stands before the first ReLU and before the head, where it is affine at evaluation; the layers
    are free of it. Between stages the image is halved (2×2 means) and channels of zeros are added.

    References
    ----------
    He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2016, §4.2; theory §3.

    Examples
    --------
    >>> import torch
    >>> net = ImageResNet("s", depth=2, widths=(4, 8), channels=1, image=(8, 8)).eval()
    >>> net(torch.zeros(5, 1, 8, 8)).shape, net.at_depth(4)(torch.zeros(5, 1, 8, 8)).shape
    (torch.Size([5, 10]), torch.Size([5, 10]))
    """

    def __init__(self, variant: str = "resnet", depth: int = 3, *, widths: Sequence[int] = (16, 32, 64),
                 classes: int = 10, channels: int = 3, image: Sequence[int] = (32, 32), kernel: int = 3,
                 horizon: float = 1.0, curves: str = "constant", limit: float = 1.0,
                 padding_mode: Literal["zeros", "circular"] = "zeros",
                 generator: torch.Generator | None = None):
        def stage(width: int, size: Sequence[int]) -> Stage:
            return Stage(variant, width, depth, image=size, kernel=kernel, horizon=horizon, curves=curves,
                         limit=limit, padding_mode=padding_mode, generator=generator)

        super().__init__()
        self.variant = _check.choice("variant", variant, VARIANTS)
        self.build(stage, widths, classes, channels, image, kernel, padding_mode, generator)

    def build(self, stage: Callable[[int, Sequence[int]], Stage | Blocks], widths: Sequence[int], classes: int,
              channels: int, image: Sequence[int], kernel: int, padding_mode: Literal["zeros", "circular"],
              generator: torch.Generator | None) -> None:
        """The frame around the stages, each made by ``stage`` from its channels and its image."""
        widths, size = _sizes(widths, image)
        self.channels, self.image = _check.count("channels", channels), tuple(size)
        conv, norm = (nn.Conv1d, nn.BatchNorm1d) if len(size) == 1 else (nn.Conv2d, nn.BatchNorm2d)
        self.maps = convolutions(len(size), kernel, padding_mode)
        self.stem = conv(self.channels, widths[0], kernel, padding=kernel // 2, padding_mode=padding_mode, bias=False)
        self.open = norm(widths[0])
        body: list[nn.Module] = []
        for k, width in enumerate(widths):
            if k:
                body += [AveragePool(2, len(size), scale=1.0), PadChannels(widths[k - 1], width, len(size))]
                size = [n // 2 for n in size]
            body.append(stage(width, size))
        self.body, self.pixels, self.mean = nn.ModuleList(body), tuple(size), GlobalMean(len(size))
        self.close, self.head = nn.BatchNorm1d(widths[-1]), nn.Linear(widths[-1], _check.count("classes", classes))
        start(self.stem, generator)
        start(self.head, generator)

    @property
    def sequence(self) -> Sequence[Stage | Blocks | Between]:
        """Stages and what stands between them."""
        return [part for part in self.body if isinstance(part, Stage | Blocks | Between)]

    def opened(self, x: Tensor) -> Tensor:
        """The stem, normalised, (n, widths[0], *image)."""
        if tuple(x.shape[1:]) != (self.channels, *self.image):
            raise ValueError(f"images must have shape (n, {', '.join(map(str, (self.channels, *self.image)))}), that "
                             f"of this network; got {_check.describe(x)}.")
        return self.open(self.stem(x))

    def features(self, x: Tensor) -> Tensor:
        """The initial state, (n, widths[0], *image)."""
        return torch.relu(self.opened(x))

    def argument(self, x: Tensor) -> Tensor:
        """Means over the pixels of the last state, normalised, (n, widths[-1])."""
        x = self.features(x)
        for part in self.body:
            x = part(x)
        return self.close(self.mean(x))

    def sensitivity(self, status: str = "float", rate: str = "best") -> OperatorNorm:
        """The product of the factors of all parts, of the network in evaluation mode."""
        stem, _ = fold_batch_norm(self.stem.weight.detach(), None, self.open)
        close, _ = fold_batch_norm(torch.eye(self.close.num_features).to(stem), None, self.close)
        parts = [as_norm(part.certificate()) if isinstance(part, Between) else part.factor(status, rate)
                 for part in self.sequence]
        return product(status, self.maps.norm(stem, self.image, status), *parts,
                       as_norm(self.mean.certificate(self.pixels)), norms.dense(close, status=status))


def _sizes(widths: Sequence[int], image: Sequence[int]) -> tuple[list[int], list[int]]:
    """Channels of the stages and sides of the image, checked."""
    widths = [_check.count(f"widths[{k}]", width) for k, width in enumerate(widths)]
    size = [_check.count(f"image[{k}]", n) for k, n in enumerate(image)]
    if len(size) not in (1, 2) or not widths or min(size) < 2 ** (len(widths) - 1):
        raise ValueError(f"image must be (L,) or (H, W) with at least {2 ** max(len(widths) - 1, 0)} pixels a side "
                         f"for {len(widths)} stages; got {tuple(size)} and widths {tuple(widths)}.")
    return widths, size


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
