"""Gradient ascent on observed/bound, over the points of the pairs and, inside the hypothesis, over the weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch.linalg import vector_norm

from ..functions import ConvexSet, ProxFunction
from ..solve import KinkWarning
from .case import Case, Look, Sides, Statement
from .paths import coarse

__all__ = ["attack", "attack_points", "attack_weights"]

RATE, RATE_OF_WEIGHTS = 0.1, 0.03
MEAN, SQUARE = 0.9, 0.999  # what Adam keeps of its means in a step
APART = 1e-3  # least distance of a pair, so that rounding does not pass for expansion
Aims = tuple[str, ...]  # the form of the claim that each network (without an ensemble: each pair) is attacked in
TINY = 1e-9  # added to both sides, so that no ratio of roundings is climbed


def attack(statement: Statement, case: Case, ascent: int, aims: Aims = ()) -> Case:
    """The case after ascent over its points, then over its points and weights where the statement keeps them inside."""
    case = attack_points(case, statement.claim(case), ascent, aims)
    if statement.keep is None or case.x0.ndim < 3:  # one network alone, a trained one say, keeps its weights
        return case
    return attack_weights(statement, case, ascent, aims)


@contextmanager
def _searching() -> Iterator[None]:
    """Gradients show where to look: where a kink is crossed they may show elsewhere, and no more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KinkWarning)
        yield


@_searching()
def attack_points(case: Case, look: Look, ascent: int, aims: Aims = ()) -> Case:
    """Points that make observed/bound large: projected ascent (Adam) on the logarithm of the ratio aimed at.

    The best pair of every instance along the way is kept. Pairs stay in the set and ``APART``.
    """
    z = torch.stack([case.x0, case.y0]).clone().requires_grad_()
    climb = Ascent([z], [RATE])
    best, best_value = z.detach().clone(), torch.full(case.x0.shape[:-1], -torch.inf, dtype=z.dtype)
    for _ in range(ascent + 1):
        value = log_ratio(look(z[0], z[1], coarse), aims)
        better = value.detach() > best_value
        best_value = torch.where(better, value.detach(), best_value)
        best = torch.where(better.unsqueeze(-1), z.detach(), best)
        climb.step(value.sum())
        with torch.no_grad():
            z.copy_(_admissible(case, z))
    return replace(case, x0=best[0], y0=best[1])


@_searching()
def attack_weights(statement: Statement, case: Case, ascent: int, aims: Aims = ()) -> Case:
    """Points and weights together; the best step of every network is kept, judged by its worst pair."""
    keep = statement.keep
    assert keep is not None
    z = torch.stack([case.x0, case.y0]).clone().requires_grad_()
    weights = {name: value.clone().requires_grad_() for name, value in case.weights.items()}
    climb = Ascent([z, *weights.values()], [RATE] + [RATE_OF_WEIGHTS] * len(weights))
    found = _Best(case)
    for _ in range(ascent + 1):
        value = log_ratio(statement.claim(case.with_weights(weights))(z[0], z[1], coarse), aims)
        found.see(value.detach(), z.detach(), {name: w.detach() for name, w in weights.items()})
        top = value.amax(-1)
        climb.step(top.sum() + 0.1 * value.mean(-1).sum())
        with torch.no_grad():
            for name, kept in keep(case, {name: w.detach() for name, w in weights.items()}).items():
                weights[name].copy_(kept)
            z.copy_(_admissible(case, z))
    return replace(case.with_weights(found.weights), x0=found.z[0], y0=found.z[1])


class _Best:
    """The best step of every network so far."""

    def __init__(self, case: Case):
        self.z, self.weights = torch.stack([case.x0, case.y0]), dict(case.weights)
        self.by_layer = {name: bool(getattr(curve, "knots", ())) for name, curve in case.flow.field.named_children()}
        self.value = torch.full(case.x0.shape[:-2], -torch.inf, dtype=self.z.dtype)

    def see(self, value: Tensor, z: Tensor, weights: dict[str, Tensor]) -> None:
        top = value.amax(-1)
        better = top > self.value
        self.value = torch.where(better, top, self.value)
        self.z = torch.where(better[..., None, None], z, self.z)
        for name, new in weights.items():
            old = self.weights[name]
            mask = better.reshape(*better.shape, *[1] * (new.ndim - better.ndim - self.by_layer[name]))
            self.weights[name] = torch.where(mask, new, old)


def log_ratio(sides: dict[str, Sides], aims: Aims = ()) -> Tensor:
    """Logarithm of observed/bound at its worst time, one number an instance: of the form that each network is aimed at,
    of the worst form where that is not looked at in a search, or where nothing is aimed."""
    by_form = torch.stack(torch.broadcast_tensors(*(
        (torch.log(s.observed.clamp_min(0) + TINY) - torch.log(s.bound.clamp_min(0) + TINY)).amax(0)
        for s in sides.values())))
    worst = by_form.amax(0)
    number = {form: k for k, form in enumerate(sides)}
    return torch.stack([by_form[number[aim], i] if aim in number else worst[i] for i, aim in enumerate(aims)]) \
        if aims else worst


class Ascent:
    """Adam, upwards (torch's own starts by importing its compiler: seconds, and 100 MB).

    References
    ----------
    Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015.
    """

    def __init__(self, parameters: list[Tensor], rates: list[float]):
        self.parameters, self.rates, self.steps = parameters, rates, 0
        self.mean, self.square = ([torch.zeros_like(p) for p in parameters] for _ in range(2))

    def step(self, value: Tensor) -> None:
        """One step; where a gradient is not a number (a bound is infinite, say) the parameter rests."""
        gradients = torch.autograd.grad(value, self.parameters, allow_unused=True)
        self.steps += 1
        first, second = 1 - MEAN**self.steps, 1 - SQUARE**self.steps
        with torch.no_grad():
            for p, rate, m, v, gradient in zip(self.parameters, self.rates, self.mean, self.square, gradients,
                                               strict=True):
                if gradient is None:
                    continue
                g = gradient.nan_to_num(0.0, 0.0, 0.0)
                m.lerp_(g, 1 - MEAN)
                v.lerp_(g * g, 1 - SQUARE)
                p.add_(rate * (m / first) / ((v / second).sqrt() + 1e-8))


def _admissible(case: Case, z: Tensor) -> Tensor:
    """Back into the sets, and at least ``APART`` apart."""
    g, g_other = case.flow.g, case.flow.g if case.other is None else case.other.g
    x = _inside(g, z[0])
    if case.fixed:
        return torch.stack([x, case.y0])
    y = _inside(g_other, z[1])
    gap = y - x
    size = vector_norm(gap, dim=-1, keepdim=True)
    direction = torch.where(size > 0, gap / size.clamp_min(1e-300), torch.ones_like(gap))
    return torch.stack([x, torch.where(size < APART, _inside(g_other, x + APART * direction), y)])


def _inside(g: ProxFunction, x: Tensor) -> Tensor:
    """The nearest point of the domain of g, for the sets (convex or not) that the draws use."""
    return g.prox(x, 1.0) if isinstance(g, ConvexSet) or not g.convex else x

