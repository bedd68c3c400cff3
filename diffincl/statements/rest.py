"""Instances with a known point of rest, and draws put together."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from . import draws
from .case import Case
from .draws import DENSE, HORIZON

__all__: list[str] = []


def at_rest(generator: Generator, case: Case) -> Case:
    """b2 such that a random point of the boundary of the orthant is a point of rest, which y0 becomes."""
    n, pairs, d = case.x0.shape
    free = torch.rand(n, 1, d, generator=generator) > 0.4
    rest = torch.where(free, draws.uniform(generator, 0, 2, n, 1, d), 0.0)
    held = torch.where(free, 0.0, -draws.uniform(generator, 0, 1, n, 1, d))  # an element of the normal cone
    case = replace(case, origin=case.origin + ", at rest", y0=rest.expand(n, pairs, d).clone(), fixed=True,
                   given={"rest": rest, "held": held})
    return case.with_weights(keep_rest(case, case.weights))


def keep_rest(case: Case, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """b2 = F₀(x*) + n with n in the normal cone at x*, F₀ = F + b2."""
    if "rest" not in case.given:
        return weights
    without = case.with_weights(weights | {"b2": torch.zeros_like(weights["b2"])})
    F = without.flow.field.on(0.0, HORIZON)(torch.tensor(0.0), case.number("rest"))
    return weights | {"b2": (F + case.number("held")).squeeze(-2)}


class Together:
    """Several draws as one."""

    def __init__(self, *parts: draws.RandomNetworks):
        self.parts = [(part, kind) for part in parts for kind in range(part.kinds)]
        self.kinds, self.pairs = len(self.parts), parts[0].pairs

    def __call__(self, generator: Generator, kind: int, networks: int) -> Case:
        part, of_part = self.parts[kind]
        return part(generator, of_part, networks)


def on_orthant(*fields: draws.Networks, finish: draws.Finish) -> draws.RandomNetworks:
    """Dense save times on the orthant."""
    return draws.RandomNetworks(fields, draws.orthant, a_layer=DENSE, finish=finish)


