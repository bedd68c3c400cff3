"""The list of all blocks, and what tests do to them."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from diffincl.nn import (
    AntisymmetricBlock,
    AntisymmetricBlock1d,
    AntisymmetricBlock2d,
    Block,
    ConvexPotentialBlock,
    ConvexPotentialBlock1d,
    ConvexPotentialBlock2d,
    DecayBlock,
    DecayBlock1d,
    DecayBlock2d,
    HamiltonianBlock,
    HamiltonianBlock1d,
    HamiltonianBlock2d,
    PreActivationBlock,
    PreActivationBlock1d,
    PreActivationBlock2d,
    ResNetBlock,
    ResNetBlock1d,
    ResNetBlock2d,
    SLLBlock,
    SLLBlock1d,
    SLLBlock2d,
    SymmetricBlock,
    SymmetricBlock1d,
    SymmetricBlock2d,
)

F64 = torch.float64


@dataclass(frozen=True)
class Case:
    """A block and the shape of its states, (features, *image)."""

    make: Callable[..., Block]
    shape: tuple[int, ...]

    @property
    def image(self):
        return self.shape[1:] or None

    def block(self, dtype=F64, seed=0):
        return self.make(generator=torch.Generator().manual_seed(seed), dtype=dtype)

    def states(self, n=5, dtype=F64, seed=1):
        return torch.rand(n, *self.shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def case(kind, *arguments, shape, **more):
    """A line of the list."""
    return Case(lambda **start: kind(*arguments, **more, **start), shape)


RESIDUAL = {
    "resnet": case(ResNetBlock, 4, 6, shape=(4,)),
    "resnet-no-bias": case(ResNetBlock, 4, h=0.3, bias=False, shape=(4,)),
    "resnet1d": case(ResNetBlock1d, 2, 3, shape=(2, 7), padding_mode="circular"),
    "resnet2d": case(ResNetBlock2d, 2, 3, shape=(2, 5, 4)),
    "decay": case(DecayBlock, 4, 6, shape=(4,)),
    "decay-softplus": case(DecayBlock, 4, 6, parametrisation="softplus", shape=(4,)),
    "decay-square": case(DecayBlock, 4, h=0.5, parametrisation="square", shape=(4,)),
    "decay1d": case(DecayBlock1d, 2, 3, 5, shape=(2, 7)),
    "decay2d": case(DecayBlock2d, 2, 3, shape=(2, 5, 4), parametrisation="square", padding_mode="circular"),
    "symmetric": case(SymmetricBlock, 4, 6, shape=(4,)),
    "symmetric-learned": case(SymmetricBlock, 4, h=0.7, learn_h=True, limit=1.0, shape=(4,)),
    "symmetric1d": case(SymmetricBlock1d, 2, 3, shape=(2, 7), bias=False),
    "symmetric2d": case(SymmetricBlock2d, 2, 3, shape=(2, 5, 4), limit=1.0),
    "symmetric2d-circular": case(SymmetricBlock2d, 3, kernel_size=(3, 1), shape=(3, 5, 4), padding_mode="circular",
                                 learn_h=True),
}
RELATIVES = {
    "pre-activation": case(PreActivationBlock, 4, 6, shape=(4,)),
    "pre-activation1d": case(PreActivationBlock1d, 2, 3, 5, h=0.5, shape=(2, 7)),
    "pre-activation2d": case(PreActivationBlock2d, 2, 3, h=0.5, shape=(2, 5, 4)),
    "cpl": case(ConvexPotentialBlock, 4, 6, shape=(4,)),
    "cpl1d": case(ConvexPotentialBlock1d, 2, 3, shape=(2, 7)),
    "cpl2d": case(ConvexPotentialBlock2d, 2, 3, shape=(2, 5, 4)),
    "cpl2d-circular": case(ConvexPotentialBlock2d, 2, 3, bias=False, padding_mode="circular", shape=(2, 5, 4)),
    "sll": case(SLLBlock, 4, 6, shape=(4,)),
    "sll1d": case(SLLBlock1d, 2, 3, 5, shape=(2, 7)),
    "sll2d": case(SLLBlock2d, 2, 3, shape=(2, 5, 4)),
    "sll2d-circular": case(SLLBlock2d, 2, 3, padding_mode="circular", shape=(2, 5, 4)),
    "antisymmetric": case(AntisymmetricBlock, 4, h=0.3, gamma=0.5, shape=(4,)),
    "antisymmetric1d": case(AntisymmetricBlock1d, 2, h=0.3, gamma=0.1, shape=(2, 7)),
    "antisymmetric2d": case(AntisymmetricBlock2d, 2, h=0.3, gamma=0.1, shape=(2, 5, 4)),
    "antisymmetric2d-circular": case(AntisymmetricBlock2d, 2, 5, bias=False, padding_mode="circular", shape=(2, 5, 4)),
    "hamiltonian": case(HamiltonianBlock, 4, 3, shape=(4,)),
    "hamiltonian1d": case(HamiltonianBlock1d, 4, 3, h=0.5, padding_mode="circular", shape=(4, 7)),
    "hamiltonian2d": case(HamiltonianBlock2d, 4, 3, h=0.5, shape=(4, 5, 4)),
}
CASES = RESIDUAL | RELATIVES


def each(names):
    return pytest.mark.parametrize("name", list(names))


def trained(block, shape, steps=4, lr=0.05, keep=True):
    """A few large optimiser steps that want to leave the structure."""
    optimiser = torch.optim.SGD(block.parameters(), lr=lr)
    g = torch.Generator().manual_seed(3)
    for _ in range(steps):
        x, w = (torch.randn(6, *shape, generator=g, dtype=F64) for _ in range(2))
        optimiser.zero_grad()
        (block(x.abs()) * w).sum().backward()
        nn.utils.clip_grad_norm_(block.parameters(), 10.0)
        optimiser.step()
        if keep:
            block.constrain_()
    return block


def with_large_biases(block, seed=5):
    """Biases as they are nowhere near zero: the certificate is for all of them."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in block.named_parameters():
            if name.startswith("b"):
                p.copy_(torch.randn(p.shape, generator=g, dtype=p.dtype))
    return block


def worst_ratio(block, shape, steps=80, pairs=32, seed=4):
    """The largest ‖f(x) − f(y)‖/‖x − y‖ found by gradient ascent over pairs and the biases."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(pairs, *shape, generator=g, dtype=F64).requires_grad_()
    z = torch.randn(pairs, *shape, generator=g, dtype=F64).requires_grad_()
    biases = [p for name, p in block.named_parameters() if name.startswith("b")]
    optimiser = torch.optim.Adam([x, z, *biases], lr=0.1)
    worst = 0.0
    for _ in range(steps):
        optimiser.zero_grad()
        gap = (block(x + z) - block(x)).flatten(1).norm(dim=1)
        ratio = gap / z.flatten(1).norm(dim=1)
        worst = max(worst, float(ratio.detach().max()))
        (-ratio.sum()).backward()
        optimiser.step()
    return worst
