"""The problems: x' = v(t, x) reflected at x >= 0, with their exact solutions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import diffincl as di

F64 = torch.float64
Velocity = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Problem:
    """−x' ∈ N(x) + F on the orthant with F = A2 σ(A1 x + b1) − b2, or F = A2 x − b2 without A1.

    ``exact`` maps times to states (T, d).
    """

    weights: dict[str, Tensor]
    x0: Tensor
    horizon: float
    exact: Callable[[list[float]], Tensor]

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """v = −F."""
        w = self.weights
        hidden = torch.relu(x @ w["A1"].T + w["b1"]) if "A1" in w else x
        return w["b2"] - hidden @ w["A2"].T

    def flow(self) -> di.Inclusion:
        """As an inclusion; the ReLU field as the library's own, so that schemes may see its kinks."""
        w = self.weights
        field = di.ResNetField(w["A1"], w["b1"], w["A2"], w["b2"]) if "A1" in w else lambda t, x: -self.velocity(t, x)
        return di.Inclusion(field, di.Orthant())


def spiral() -> Problem:
    """Affine field in the plane: hits x1, leaves, hits x2, leaves; matrix exponentials between the switches."""
    A, x0 = torch.tensor([[0.3, 2.0], [-2.0, 0.3]], dtype=F64), torch.tensor([2.0, 1.0], dtype=F64)
    b = A @ torch.tensor([0.8, 0.5], dtype=F64)
    pieces = _spiral_pieces(A, b, x0)

    def exact(times: list[float]) -> Tensor:
        states = []
        for t in times:
            start, x, rests = next(piece for piece in reversed(pieces) if piece[0] <= t)
            states.append(_advance(A, b, x, t - start, rests))
        return torch.stack(states)

    return Problem({"A2": A, "b2": b}, x0, 4.0, exact)


def _advance(A: Tensor, b: Tensor, x: Tensor, length: float, rests: int | None) -> Tensor:
    """x' = b − Ax for a time, with coordinate ``rests`` held at zero."""
    keep = torch.ones_like(b)
    if rests is not None:
        keep[rests] = 0.0
    M = torch.zeros(3, 3, dtype=F64)
    M[:2, :2], M[:2, 2] = -A * keep[:, None], b * keep
    return (torch.linalg.matrix_exp(M * length) @ torch.cat([x * keep, torch.ones(1, dtype=F64)]))[:2]


def _spiral_pieces(A: Tensor, b: Tensor, x: Tensor) -> list[tuple[float, Tensor, int | None]]:
    """Start, state and resting coordinate of each piece; the switches are bisected to rounding, from brackets."""
    pieces: list[tuple[float, Tensor, int | None]] = [(0.0, x, None)]
    for end, rests, watched in ((1.2, None, 0), (1.5, 0, 0), (2.0, None, 1), (2.5, 1, 1)):
        start, x, _ = pieces[-1]
        low, high = 0.0, end - start
        for _ in range(60):  # the watched coordinate, or where it rests its velocity, changes sign once
            middle = (low + high) / 2
            y = _advance(A, b, x, middle, rests)
            before = y[watched] > 0 if rests is None else (b - A @ y)[watched] < 0
            low, high = (middle, high) if before else (low, middle)
        pieces.append((start + high, _advance(A, b, x, high, rests), watched if rests is None else None))
    return pieces


def relu_field(d: int, seed: int, steps: int) -> Problem:
    """A random ReLU field; the reference is prox-Heun with ``steps`` steps, linear in between."""
    generator = torch.Generator().manual_seed(seed + d)
    m = 2 * d

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(shape, generator=generator, dtype=F64)

    weights = {"A1": normal(m, d, scale=1.5 / d**0.5), "b1": normal(m), "A2": normal(d, m, scale=1.5 / m**0.5),
               "b2": normal(d)}
    x0 = torch.rand(d, generator=generator, dtype=F64)

    problem = Problem(weights, x0, 1.0, lambda times: reference(torch.tensor(times, dtype=F64)))
    with torch.no_grad():
        reference = di.solve(problem.flow(), x0, torch.linspace(0, 1, steps + 1, dtype=F64), scheme=di.ProxHeun())
    return problem


@dataclass(frozen=True)
class Reflected:
    """x' = cos(t + phase) − drift, x >= 0, one scalar problem a row: ``phase`` and ``x0`` of shape (n, 1).

    Without drift each is in contact once, as long as its phase and start make it; with it, once a period.
    """

    phase: Tensor
    x0: Tensor
    horizon: float
    drift: float

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """cos(t + phase) − drift."""
        return torch.cos(t + self.phase) - self.drift

    def free(self, t: float | Tensor) -> Tensor:
        """The path without reflection."""
        return self.x0 + (self.phase + t).sin() - self.phase.sin() - self.drift * t

    def exact(self, t: float) -> Tensor:
        """The Skorokhod map: the free path minus its running minimum below zero. That is taken at t, or at the last
        local minimum before (where phase + s = −arccos drift, up to periods), which is the lowest of them."""
        turn = 2 * math.pi
        bottom = -math.acos(self.drift)
        last = bottom + turn * torch.floor((self.phase + t - bottom) / turn) - self.phase
        lowest = torch.minimum(self.free(t), torch.where(last >= 0, self.free(last), torch.inf))
        return self.free(t) + torch.relu(-lowest)


def reflected(n: int, seed: int, horizon: float, drift: float = 0.0) -> Reflected:
    """Random phases in [0, 2π) and starts in [0, 2): contacts of all lengths, from 0 to half a period."""
    generator = torch.Generator().manual_seed(seed)
    return Reflected(2 * math.pi * torch.rand(n, 1, generator=generator, dtype=F64),
                     2 * torch.rand(n, 1, generator=generator, dtype=F64), horizon, drift)
