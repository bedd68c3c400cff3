"""The CIFAR family of residual networks: stages of convolutional layers with pooling between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .. import _check, norms
from ..bounds import fold_batch_norm
from ..norms import OperatorNorm
from .between import AveragePool, Between, GlobalMean, PadChannels
from .blocks import Blocks
from .inside import as_norm, product
from .maps import convolutions
from .network import Network, start
from .stage import VARIANTS, Stage

__all__ = ["ImageResNet"]


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

    def around(self, status: str, factors: Sequence[OperatorNorm]) -> OperatorNorm:
        """The product of the factors of the stem, of all parts and of what follows them."""
        stem, _ = fold_batch_norm(self.stem.weight.detach(), None, self.open)
        close, _ = fold_batch_norm(torch.eye(self.close.num_features).to(stem), None, self.close)
        found = iter(factors)
        parts = [as_norm(part.certificate()) if isinstance(part, Between) else next(found) for part in self.sequence]
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
