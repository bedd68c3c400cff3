"""Refinement in the middle of training: twice the layers, the same flow, the moments of the optimiser carried over."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ..curves import PiecewiseConstant, PiecewiseLinear
from ..nn import Network
from .recipe import Recipe

__all__ = ["refined"]

LEARNED = (PiecewiseConstant, PiecewiseLinear)
POWERS = {"exp_avg": 1, "momentum_buffer": 1, "exp_avg_sq": 2}  # of the gradient, in the moments


def refined(net: Network, optimiser: Optimizer, recipe: Recipe) -> tuple[Network, Optimizer]:
    """A network of twice the depth and its optimiser.

    The moments are refined like the weights. The gradient of a weight of half as long a piece is half as large, so a
    moment of order k is divided by 2^k.
    """
    fine = net.refine()
    curves = {name: curve for name, curve in net.named_modules() if isinstance(curve, LEARNED)}
    later = recipe.optimiser_for(fine.parameters())
    for (name, old), new in zip(net.named_parameters(), fine.parameters(), strict=True):
        curve = curves.get(name.removesuffix(".values"))
        state = optimiser.state.get(old, {})
        later.state[new] = {key: _finer(key, value, curve) for key, value in state.items()}
    return fine, later


def _finer(key: str, value: Any, curve: PiecewiseConstant | PiecewiseLinear | None) -> Any:
    if curve is None or key not in POWERS or not isinstance(value, Tensor):
        return value.clone() if isinstance(value, Tensor) else value
    return type(curve)(value, curve.t0, curve.t1).refine(2).values / 2**POWERS[key]
