"""What is looked at after an epoch: bounds, and what has died."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from ..nn import Network, Stage
from ..solve import solve

__all__ = ["control_exponent", "dead", "quick_factors", "share_correct", "starts"]

PART = 1024  # samples evaluated at once


@torch.no_grad()
def share_correct(net: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of samples classified correctly by the network as it is, a part of the samples at a time."""
    if not len(x):
        raise ValueError("x holds no samples; pass at least one.")
    right = sum(int((net(a).argmax(-1) == b).sum()) for a, b in zip(x.split(PART), y.split(PART), strict=True))
    return right / len(x)


def quick_factors(net: Network) -> tuple[float, float]:
    """Lipschitz factors from the input to the argument of the head and of all layers together, from above, at the rate
    that takes no time; the norms of the layers are computed once for both."""
    parts = [part.factor(rate="global") for part in net.parts]
    return float(net.around("float", parts).value), math.prod(float(part.value) for part in parts)


@torch.no_grad()
def control_exponent(net: Network, loss: float, control: float, smoothness: float) -> float:
    """J/λ of theory C8, times the taps √(k1 k2) of kernels: the layers have a factor of at most e to it."""
    J = loss + 0.5 * control * float(net.cost()) + smoothness * float(net.roughness())
    return max(_taps(stage) for stage in net.stages) * J / control


def _taps(stage: Stage) -> float:
    """√(k1 k2) of the sizes of the kernels A1 and A2, since ‖A‖ <= √k ‖K‖ in the Frobenius norm; 1 for matrices."""
    weights = stage.field.weights_now()
    return math.sqrt(math.prod(weights.A1.shape[2:]) * math.prod(weights.A2.shape[2:]))


@torch.no_grad()
def starts(net: Network, x: Tensor) -> list[tuple[Stage, Tensor]]:
    """The stages with the states that they start from."""
    found: list[tuple[Stage, Tensor]] = []

    def note(stage: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(stage, Stage)
        found.append((stage, inputs[0]))

    hooks = [stage.register_forward_pre_hook(note) for stage in net.stages]
    try:
        net(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found


@torch.no_grad()
def dead(net: Network, x: Tensor) -> tuple[float, float] | tuple[None, None]:
    """Shares of the hidden units that fire for no sample, and of the features that are 0 at the end for all; None for
    relatives of the ResNet family."""
    if not net.stages:
        return None, None
    fires, alive = [], torch.empty(0)
    for stage, x0 in starts(net, x):
        for before, hidden, state in _layers(stage, x0):
            fires.append(_ever(hidden > 0))
            alive = _ever(state > 0) if before is not None else alive
    return 1 - float(torch.cat(fires).double().mean()), 1 - float(alive.double().mean())


def _layers(stage: Stage, x0: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of every layer: the state before, A1 x + b1, the state after."""
    states = solve(stage.flow, x0, stage.times, scheme=stage.scheme).x
    for (a, b), x, x_next in zip(pairwise(stage.times), states[:-1], states[1:], strict=True):
        weights = stage.field.weights_on(a, b)(a)
        yield x, stage.field.affine(x, weights.A1, weights.b1), x_next


def _ever(on: Tensor) -> Tensor:
    """Per feature or channel, whether it is on for a sample and a pixel."""
    return on.transpose(0, 1).flatten(1).any(1)
