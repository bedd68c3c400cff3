"""The observed order of the layers against the flow (L1, L2) and against twice as many (L3), and their bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from ..statements import STATEMENTS, Case, converged

__all__ = ["Order", "orders_of"]

DEPTHS = (4, 8, 16, 32, 64)
KINDS = {"L1": 0, "L2": 1, "L3": 1}  # of networks: small ones in a ball, ResNet-S on the orthant
INSTANCES = 8


@dataclass(frozen=True)
class Order:
    """Errors and bounds for every depth (the largest over the instances), the observed order, and the largest
    observed/bound."""

    label: str
    layers: tuple[int, ...]
    errors: tuple[float, ...]
    bounds: tuple[float, ...]
    order: float
    ratio: float


def orders_of(label: str, seed: int) -> Order:
    """The same networks, ever more layers; the sharpest form of the bound."""
    case = STATEMENTS[label].draw(torch.Generator().manual_seed(seed), KINDS[label], INSTANCES)
    errors, allowed, ratio = [], [], 0.0
    for n in DEPTHS:
        deeper = _with_layers(case, n)
        sides = STATEMENTS[label].claim(deeper)(case.x0, case.y0, converged)
        observed = next(iter(sides.values())).observed[-1]
        bound = torch.stack([side.bound[-1] for side in sides.values() if side.observed[-1].equal(observed)]).amin(0)
        worst = int((observed / bound).argmax())
        ratio = max(ratio, float((observed / bound).flatten()[worst]))
        errors.append(float(observed.max()))
        allowed.append(float(bound.flatten()[observed.argmax()]))
    slope = math.log(errors[1] / errors[-1]) / math.log(DEPTHS[-1] / DEPTHS[1])
    return Order(label, DEPTHS, tuple(errors), tuple(allowed), slope, ratio)


def _with_layers(case: Case, n: int) -> Case:
    return replace(case, t=torch.linspace(float(case.t[0]), float(case.t[-1]), n + 1, dtype=torch.float64))
