"""Classifiers of blocks with weights of their own: the relatives of the ResNet family in the same frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .. import _check, norms
from ..norms import OperatorNorm
from .between import Between
from .blocks import RELATIVES, Blocks
from .images import ImageResNet
from .inside import product
from .network import Network, start
from .stage import Stage

__all__ = ["BlockNet", "ImageBlockNet"]


class BlockNet(Network):
    """lift, ``depth`` blocks of one kind, a linear head; as ``DenseResNet``, for comparison.

    Parameters
    ----------
    features, classes : int
    variant : "preactivation", "cpl", "sll", "antisymmetric" or "hamiltonian"
    width, depth : int
        Of the state, even for "hamiltonian"; number of blocks.
    horizon : float
        Blocks with a step h have h = horizon/depth.
    generator : torch.Generator, optional
        Of the initial weights.

    Notes
    -----
    Every block has weights of its own, so there are no curves to refine or to step through more finely.

    Examples
    --------
    >>> import torch
    >>> net = BlockNet(64, 10, variant="cpl", width=8, depth=3, generator=torch.Generator().manual_seed(0))
    >>> net(torch.zeros(5, 64)).shape
    torch.Size([5, 10])
    """

    def __init__(self, features: int, classes: int, *, variant: str, width: int = 32, depth: int = 10,
                 horizon: float = 1.0, generator: torch.Generator | None = None):
        super().__init__()
        self.variant = _check.choice("variant", variant, tuple(RELATIVES))
        self.lift = nn.Linear(_check.count("features", features), _check.count("width", width))
        self.blocks = Blocks(variant, width, depth, horizon=horizon, generator=generator)
        self.head = nn.Linear(width, _check.count("classes", classes))
        start(self.lift, generator)
        start(self.head, generator)

    @property
    def sequence(self) -> Sequence[Stage | Blocks | Between]:
        """The blocks."""
        return [self.blocks]

    def features(self, x: Tensor) -> Tensor:
        """The initial state lift(x), (*batch, width)."""
        return self.lift(x)

    def argument(self, x: Tensor) -> Tensor:
        """The argument of the head, (*batch, width)."""
        return self.blocks(self.features(x))

    def around(self, status: str, factors: Sequence[OperatorNorm]) -> OperatorNorm:
        """‖lift‖ times the factor of the blocks."""
        return product(status, norms.dense(self.lift.weight.detach(), status=status), *factors)


class ImageBlockNet(ImageResNet):
    """``ImageResNet`` with blocks of a relative in place of its layers, and no ReLU after the stem, for comparison.

    Parameters
    ----------
    variant : "preactivation", "cpl", "sll", "antisymmetric" or "hamiltonian"
    depth : int
        Blocks of each stage.
    widths : sequence of int
        Channels of the stages, even for "hamiltonian".
    classes, channels, image, kernel, horizon, padding_mode, generator
        As for ``ImageResNet``.

    Examples
    --------
    >>> import torch
    >>> net = ImageBlockNet("sll", depth=2, widths=(4, 8), channels=1, image=(9,)).eval()
    >>> net(torch.zeros(5, 1, 9)).shape
    torch.Size([5, 10])
    """

    def __init__(self, variant: str, depth: int = 3, *, widths: Sequence[int] = (16, 32, 64), classes: int = 10,
                 channels: int = 3, image: Sequence[int] = (32, 32), kernel: int = 3, horizon: float = 1.0,
                 padding_mode: Literal["zeros", "circular"] = "zeros",
                 generator: torch.Generator | None = None):
        def stage(width: int, size: Sequence[int]) -> Blocks:
            return Blocks(variant, width, depth, image=size, kernel=kernel, horizon=horizon,
                          padding_mode=padding_mode, generator=generator)

        Network.__init__(self)
        self.variant = _check.choice("variant", variant, tuple(RELATIVES))
        self.build(stage, widths, classes, channels, image, kernel, padding_mode, generator)

    def features(self, x: Tensor) -> Tensor:
        """The initial state, (n, widths[0], *image)."""
        return self.opened(x)
