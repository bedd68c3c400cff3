"""What happens between the layers of a network: states, and the factor up to each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .. import norms
from ..norms import OperatorNorm
from .base import Certificate
from .between import Between
from .blocks import Blocks
from .factors import ROOM
from .stage import Stage

__all__ = ["as_norm", "evaluating", "factors_of", "product", "states_of"]

Part = Stage | Blocks | Between


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode, without gradients; afterwards every module is in its mode again."""
    modes = {module: module.training for module in net.modules()}
    try:
        with torch.no_grad():
            net.eval()
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def states_of(parts: Sequence[Part], x: Tensor) -> list[Tensor]:
    """States of each stage, (N + 1, n, *state)."""
    found = []
    for part in parts:
        if isinstance(part, Between):
            x = part(x)
        else:
            found.append(part.states(x))
            x = found[-1][-1]
    return found


def factors_of(parts: Sequence[Part], status: str, rate: str) -> list[Tensor]:
    """Lipschitz factors from the start of the first stage to each state, (N + 1,) a stage, from above."""
    found, so_far = [], torch.ones((), dtype=torch.float64)
    for part in parts:
        if isinstance(part, Between):
            so_far = so_far * part.certificate().value * ROOM
        else:
            found.append(part.factors(status, rate).value.double() * so_far * ROOM)
            so_far = found[-1][-1]
    return found


def as_norm(certificate: Certificate) -> OperatorNorm:
    """A certificate as a norm."""
    return OperatorNorm(torch.tensor(certificate.value, dtype=torch.float64), certificate.status)


def product(status: str, *parts: OperatorNorm) -> OperatorNorm:
    """The product of norms, rounded up."""
    value = torch.stack([part.value.double().reshape(()) for part in parts]).prod()
    return OperatorNorm(value * (1 + 4 * len(parts) * norms.UNIT), status)
