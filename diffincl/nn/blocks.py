"""Blocks of one kind in a row, with weights of their own: what ``Stage`` is for relatives of the ResNet family."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import _check, norms, rates
from .base import Block
from .factors import ROOM
from .relatives import (
    ConvexPotentialBlock,
    ConvexPotentialBlock1d,
    ConvexPotentialBlock2d,
    PreActivationBlock,
    PreActivationBlock1d,
    PreActivationBlock2d,
    SLLBlock,
    SLLBlock1d,
    SLLBlock2d,
)
from .rotations import (
    AntisymmetricBlock,
    AntisymmetricBlock1d,
    AntisymmetricBlock2d,
    HamiltonianBlock,
    HamiltonianBlock1d,
    HamiltonianBlock2d,
)

__all__ = ["RELATIVES", "Blocks"]

RELATIVES: dict[str, tuple[type[Block], type[Block], type[Block]]] = {  # for rows, signals and images
    "preactivation": (PreActivationBlock, PreActivationBlock1d, PreActivationBlock2d),
    "cpl": (ConvexPotentialBlock, ConvexPotentialBlock1d, ConvexPotentialBlock2d),
    "sll": (SLLBlock, SLLBlock1d, SLLBlock2d),
    "antisymmetric": (AntisymmetricBlock, AntisymmetricBlock1d, AntisymmetricBlock2d),
    "hamiltonian": (HamiltonianBlock, HamiltonianBlock1d, HamiltonianBlock2d)}
WITHOUT_TIME = ("cpl", "sll")  # their step follows from the norm


class Blocks(nn.Sequential):
    """``depth`` blocks of one relative; those with a step h have h = horizon/depth.

    Parameters
    ----------
    variant : "preactivation", "cpl", "sll", "antisymmetric" or "hamiltonian"
    width : int
        Features of the state, or channels; even for "hamiltonian".
    depth : int
    image, kernel, horizon, padding_mode, generator
        As for ``Stage``.

    Examples
    --------
    >>> import torch
    >>> blocks = Blocks("cpl", 3, depth=2, image=(8,))
    >>> blocks(torch.ones(5, 3, 8)).shape, round(float(blocks.factor().value), 6)
    (torch.Size([5, 3, 8]), 1.0)
    """

    def __init__(self, variant: str, width: int, depth: int, *, image: Sequence[int] = (), kernel: int = 3,
                 horizon: float = 1.0, padding_mode: str = "zeros", generator: torch.Generator | None = None):
        _check.choice("variant", variant, tuple(RELATIVES))
        depth, horizon = _check.count("depth", depth), _check.number("horizon", horizon, above=0.0)
        more = {} if variant in WITHOUT_TIME else {"h": horizon / depth}
        if image:
            more |= {"kernel_size": kernel, "padding_mode": padding_mode}
        kind = RELATIVES[variant][len(image)]
        super().__init__(*(kind(width, **more, generator=generator) for _ in range(depth)))  # type: ignore[call-arg]
        self.variant, self.image = variant, tuple(image)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self)

    def each(self) -> list[Block]:
        """The blocks."""
        return [block for block in self if isinstance(block, Block)]

    def constrain_(self) -> None:
        """Each block's."""
        for block in self.each():
            block.constrain_()

    def certify_(self, status: str = "float") -> float:
        """As ``constrain_``: relatives keep their factor by construction or have none to keep; no h‖A‖² to tell of."""
        self.constrain_()
        return 0.0

    def states(self, x: Tensor) -> Tensor:
        """The state before the first and after each block, (depth + 1, *batch, *state)."""
        rows = [x]
        for block in self:
            rows.append(block(rows[-1]))
        return torch.stack(rows)

    @torch.no_grad()
    def factor(self, status: str = "float", rate: str = "best") -> norms.OperatorNorm:
        """Lipschitz factor in ℓ2, from above: the last of ``factors``; of "preactivation" and "antisymmetric" with
        "best" at most R8 along the blocks."""
        last, residual = self.factors(status, rate).value[-1], self._residual()
        if residual and rate == "best":
            A1, A2 = (torch.stack(A) for A in zip(*((w.A1, w.A2) for w in (b.weights() for b in residual)),
                                                  strict=True))
            together = rates.chain(A1, A2, residual[0].h, image=self.image, clipped=False,
                                   padding_mode=residual[0].maps.padding_mode)
            last = torch.minimum(last, together)
        return norms.OperatorNorm(last, status)

    @torch.no_grad()
    def factors(self, status: str = "float", rate: str = "best") -> norms.OperatorNorm:
        """Lipschitz factors of the first 0, 1, … blocks in ℓ2, (depth + 1,), from above: products of the certificates;
        of "preactivation" and "antisymmetric" with "global" of 1 + h‖A1‖‖A2‖ (an instant)."""
        residual = self._residual()
        if residual and rate == "global":
            values = [1 + block.h * self._norms(block, status) for block in residual]
        else:
            values = [block.certificate(self.image or None, status=status).value for block in self.each()]
        return norms.OperatorNorm(torch.tensor([1.0, *(v * ROOM for v in values)], dtype=torch.float64).cumprod(0),
                                  status)

    def _residual(self) -> list[PreActivationBlock | AntisymmetricBlock]:
        """The blocks x − hA2σ(A1x + b1)."""
        return [block for block in self if isinstance(block, PreActivationBlock | AntisymmetricBlock)]

    def _norms(self, block: PreActivationBlock | AntisymmetricBlock, status: str) -> float:
        """‖A1‖‖A2‖."""
        weights, image = block.weights(), self.image or None
        return math.prod(float(block.maps.norm(A.detach(), image, status).value) for A in (weights.A1, weights.A2))
