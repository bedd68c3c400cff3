"""A classifier of blocks with weights of their own: the relatives of the ResNet family in the same frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _check, norms
from ..norms import OperatorNorm
from .base import Block
from .inside import ROOM, evaluating, product
from .network import Network, start
from .relatives import ConvexPotentialBlock, PreActivationBlock, SLLBlock
from .rotations import AntisymmetricBlock, HamiltonianBlock

__all__ = ["RELATIVES", "BlockNet"]

RELATIVES = {"preactivation": PreActivationBlock, "cpl": ConvexPotentialBlock, "sll": SLLBlock,
             "antisymmetric": AntisymmetricBlock, "hamiltonian": HamiltonianBlock}
WITHOUT_TIME = ("cpl", "sll")  # their step follows from the norm


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
        depth = _check.count("depth", depth)
        h = {} if variant in WITHOUT_TIME else {"h": _check.number("horizon", horizon, above=0.0) / depth}
        self.lift = nn.Linear(_check.count("features", features), _check.count("width", width))
        self.blocks = nn.ModuleList(RELATIVES[variant](width, **h, generator=generator) for _ in range(depth))
        self.head = nn.Linear(width, _check.count("classes", classes))
        start(self.lift, generator)
        start(self.head, generator)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def states(self, x: Tensor) -> list[Tensor]:
        """The state before the first and after each block, one stage (depth + 1, n, width); no gradients."""
        with evaluating(self):
            rows = [self.lift(x)]
            for block in self.blocks:
                rows.append(block(rows[-1]))
        return [torch.stack(rows)]

    def factors(self, status: str = "float", rate: str = "best") -> list[Tensor]:
        """Lipschitz factors in ℓ2 of the first 0, 1, … blocks, one stage (depth + 1,); the same at every rate."""
        values = [1.0]
        for block in self.each():
            values.append(values[-1] * block.certificate(status=status).value * ROOM)
        return [torch.tensor(values, dtype=torch.float64)]

    def argument(self, x: Tensor) -> Tensor:
        """The argument of the head, (*batch, width)."""
        x = self.lift(x)
        for block in self.blocks:
            x = block(x)
        return x

    def constrain_(self) -> None:
        """Each block's."""
        for block in self.each():
            block.constrain_()

    def certify_(self, status: str = "float") -> float:
        """As ``constrain_``: relatives keep their factor by construction or have none to keep; no h‖A‖² to tell of."""
        self.constrain_()
        return 0.0

    def sensitivity(self, status: str = "float", rate: str = "best") -> OperatorNorm:
        """‖lift‖ times the factors of the blocks; they have one each, whatever the rate."""
        factors = (block.certificate(status=status) for block in self.each())
        parts = [OperatorNorm(torch.tensor(f.value, dtype=torch.float64), f.status) for f in factors]
        return product(status, norms.dense(self.lift.weight.detach(), status=status), *parts)

    def each(self) -> list[Block]:
        """The blocks."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def _with(self, change: object) -> BlockNet:
        raise TypeError(f"a {type(self).__name__} has no curves in time; take DenseResNet or ImageResNet to refine it "
                        f"or to evaluate it at another depth.")
