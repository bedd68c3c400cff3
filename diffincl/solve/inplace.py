"""Explicit steps of library fields without derivatives, in memory that is used again; the same bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from ..fields import ResNetField
from ..functions import Box, Orthant, ProxFunction, Whole
from ..inclusion import Inclusion
from ..schemes import ForwardEuler, ProxHeun, Scheme
from ..steps import Plan
from .library import misfit

__all__ = ["InPlace", "goes_in_place"]


def goes_in_place(flow: Inclusion, scheme: Scheme, x0: Tensor) -> bool:
    """Whether ``InPlace`` takes the steps of such a solve."""
    return (type(scheme) in (ForwardEuler, ProxHeun) and x0.ndim > 1 and not misfit(flow, x0) and x0.is_contiguous()
            and not cast(ResNetField, flow.field).time_dependent_within_a_step)


class InPlace:
    """Steps of ``ForwardEuler`` or ``ProxHeun`` along a plan.

    States are written into new memory only if all of them are ``kept``. Otherwise those of a block are overwritten by
    the block after the next. Every state has memory of its own: the bits of a matrix product may depend on where its
    factors begin.
    """

    def __init__(self, flow: Inclusion, scheme: Scheme, plan: Plan, x0: Tensor, kept: bool):
        field = cast(ResNetField, flow.field)
        self.ends, self.kept, self.project = plan.boundaries(), kept, _projection(flow.g, x0)
        transposed = cache(lambda A: A.mT)  # of weights that stand still, once
        self.layers = [(b1, transposed(A1), minus_b2, transposed(A2))
                       for A1, b1, A2, minus_b2 in zip(*field.layers(self.ends), strict=True)]
        d, m = self.layers[0][1].shape[-2:]
        self.shape, self.rows = x0.shape, (*field.ensemble, -1, d)
        self.product = _product if field.ensemble else torch.addmm
        with torch.no_grad():
            x = x0.detach().reshape(self.rows)
            self.hidden, self.F = x.new_empty(*x.shape[:-1], m), torch.empty_like(x)
            self.w, self.y = (torch.empty_like(x) for _ in range(2))  # of the first of Heun's stages
        self.calls, self.step = (2, self._heun) if isinstance(scheme, ProxHeun) else (1, self._euler)
        self.points: list[Tensor] = []
        self.states: tuple[list[Tensor], list[Tensor]] = [], []

    def along(self, block: range, x: Tensor, states: list[Tensor], points: list[Tensor]) -> None:
        """Append the states after the steps of a block and the points whose prox they are."""
        with torch.no_grad():
            x = x.detach().reshape(self.rows)
            room, flat = self._room(len(block)), len(self.shape) == x.ndim == 2
            ends = pairwise(self.ends[block.start:block.stop + 1])
            for (a, b), layer, (z, x_next) in zip(ends, self.layers[block.start:block.stop], room, strict=True):
                self.step(layer, b - a, x, z)
                x = self.project(z, x_next)
                states.append(x if flat else x.view(self.shape))
                points.append(z if flat else z.view(self.shape))

    def _evaluate(self, layer: tuple[Tensor, ...], x: Tensor) -> Tensor:
        """F(x)."""
        b1, A1, minus_b2, A2 = layer  # matrices transposed
        self.product(b1, x, A1, out=self.hidden).relu_()
        return self.product(minus_b2, self.hidden, A2, out=self.F)

    def _euler(self, layer: tuple[Tensor, ...], h: float, x: Tensor, z: Tensor) -> None:
        """z = x − hF(x)."""
        torch.sub(x, self._evaluate(layer, x), alpha=h, out=z)

    def _heun(self, layer: tuple[Tensor, ...], h: float, x: Tensor, z: Tensor) -> None:
        """z = ½x + ½(y − hF(y)), y = P(w), w = x − hF(x); 0·w keeps an infinite w in sight."""
        torch.sub(x, self._evaluate(layer, x).mul_(h), out=self.w)
        y = self.project(self.w, self.y)
        hF = self._evaluate(layer, y).mul_(h)
        torch.mul(x, 0.5, out=z).add_(torch.sub(y, hF, out=hF).mul_(0.5)).add_(self.w, alpha=0.0)

    def _room(self, n: int) -> list[tuple[Tensor, Tensor]]:
        """Memory for n points and states; on the whole space a point is the state."""
        if self.kept:
            self.states[0].clear()
        one, other = self.states
        for memory in (one, self.points):
            memory += [torch.empty_like(self.F) for _ in range(n - len(memory))]
        self.states = (one, other) if self.kept else (other, one)
        return list(zip(one[:n] if self.project is _itself else self.points[:n], one[:n], strict=True))


def _product(b: Tensor, x: Tensor, A: Tensor, out: Tensor) -> Tensor:
    """x A + b of an ensemble."""
    return torch.matmul(x, A, out=out).add_(b.unsqueeze(-2))


def _itself(z: Tensor, out: Tensor) -> Tensor:
    return z


def _projection(g: ProxFunction, x: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The projection of a point, written into a second tensor."""
    if isinstance(g, Whole):
        return _itself
    if isinstance(g, Orthant):
        return lambda z, out: torch.clamp_min(z, 0.0, out=out)
    lower, upper = (bound.reshape(-1) for bound in cast(Box, g).bounds(x.detach()))
    return lambda z, out: torch.clamp(z, lower, upper, out=out)
