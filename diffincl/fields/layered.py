"""What the fields of the ResNet family share: F = A2 σ(A1 x + b1) − b2 with weights in time, whatever A x is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from .. import _check
from ..curves import KNOT_TOLERANCE, Constant, Curve, PiecewiseConstant, PiecewiseLinear
from .base import Field, FieldFunction
from .pieces import Weights

__all__ = ["LayeredField", "Nonnegative", "Symmetric", "Weight"]

Weight = Tensor | Curve
At = Callable[[float | Tensor], Tensor]  # a weight on a step, as a function of time


class LayeredField(Field):
    """F(t, x) = A2 σ(A1 x + b1) − b2, σ = ReLU, each weight a tensor or a curve.

    A subclass says what A x + b is (``affine``), what the adjoint of A (``adjoint``), and which shapes fit.
    """

    A1: Curve | Constant
    b1: Curve | Constant
    A2: Curve | Constant
    b2: Curve | Constant
    layout: str  # shape of A1, for messages

    def affine(self, x: Tensor, A: Tensor, b: Tensor | None) -> Tensor:
        """A x + b."""
        raise NotImplementedError

    def adjoint(self, A: Tensor) -> Tensor:
        """The weight of the adjoint map Aᵀ."""
        raise NotImplementedError

    def each(self, x: Tensor, A: Tensor) -> Tensor:
        """A_k x_k for weights (N, ...) and states (N, *state), in one call."""
        raise NotImplementedError

    def check_fit(self, weights: Weights) -> None:
        """Raise where the shapes of the weights do not fit."""
        raise NotImplementedError

    def set_weights(self, weights: dict[str, Weight]) -> None:
        """Store the weights as curves and check that they fit."""
        for name, weight in weights.items():
            setattr(self, name, _as_curve(name, weight))
        curves = [curve for curve in self.children() if isinstance(curve, Curve)]
        self.knot_length = min((curve.length for curve in curves), default=math.inf)
        self.knots = _merge(sorted(knot for curve in curves for knot in curve.knots), KNOT_TOLERANCE * self.knot_length)
        self.domain = (max((c.t0 for c in curves), default=-math.inf), min((c.t1 for c in curves), default=math.inf))
        if self.domain[0] >= self.domain[1]:
            raise ValueError(f"the curves of the weights share no time interval; their knots are {self.knots}.")
        self.time_dependent_within_a_step = any(isinstance(curve, PiecewiseLinear) for curve in curves)
        self.check_fit(self.weights_now())

    def weights_on(self, a: float, b: float, dtype: torch.dtype | None = None) -> Callable[[float | Tensor], Weights]:
        """The weights restricted to a step [a, b] between two knots, as a function of t; ``dtype`` None: their own."""
        A1, b1, A2, b2 = (curve.on(a, b, dtype) for curve in (self.A1, self.b1, self.A2, self.b2))
        return _together(A1, b1, A2, b2)

    def weights_along(self, ends: Sequence[float]) -> list[Callable[[float | Tensor], Weights]]:
        """``weights_on`` of successive steps, every weight read once."""
        curves = (curve.along(ends) for curve in (self.A1, self.b1, self.A2, self.b2))
        return [_together(*step) for step in zip(*curves, strict=True)]

    def weights_now(self) -> Weights:
        """The weights at the first time at which they are defined."""
        start = self.domain[0] if self.knots else 0.0
        return self.weights_on(start, start)(start)

    def on(self, a: float, b: float) -> FieldFunction:
        """F restricted to the step [a, b]; weights that stand still within it are read once."""
        at = self.weights_on(a, b)
        if self.time_dependent_within_a_step:
            return self.moving_on(a, b, at)
        A1, b1, A2, b2 = at(a)
        return partial(self._standing, A1, b1, A2, -b2)

    def along(self, ends: Sequence[float]) -> list[FieldFunction]:
        """``on`` of successive steps, at one time for all samples, every weight read once."""
        if self.time_dependent_within_a_step:
            return [partial(self._at_once, at) for at in self.weights_along(ends)]
        return [partial(self._standing, *layer) for layer in zip(*self.layers(ends), strict=True)]

    def _at_once(self, at: Callable[[float | Tensor], Weights], t: float | Tensor, x: Tensor) -> Tensor:
        return self.evaluate(at(t), x)

    def layers(self, ends: Sequence[float]) -> tuple[list[Tensor], ...]:
        """A1, b1, A2 and −b2 on successive steps within which they stand still."""
        return (*(cast(PiecewiseConstant, curve).layers(ends) for curve in (self.A1, self.b1, self.A2)),
                cast(PiecewiseConstant, self.b2).layers(ends, negative=True))

    def _standing(self, A1: Tensor, b1: Tensor, A2: Tensor, minus_b2: Tensor, t: float | Tensor, x: Tensor) -> Tensor:
        """F with weights that do not depend on t."""
        return self.affine(torch.relu(self.affine(x, A1, b1)), A2, minus_b2)

    def moving_on(self, a: float, b: float, at: Callable[[float | Tensor], Weights]) -> FieldFunction:
        """F on [a, b] with weights that move within it, at one time for all samples."""
        return lambda t, x: self.evaluate(at(t), x)

    def evaluate(self, weights: Weights, x: Tensor) -> Tensor:
        """A2 σ(A1 x + b1) − b2."""
        A1, b1, A2, b2 = weights
        return self.affine(torch.relu(self.affine(x, A1, b1)), A2, -b2)

    def forward(self, t: float | Tensor, x: Tensor) -> Tensor:
        """F(t, x); at a knot, the weights from the right."""
        first, last = self.domain
        if not first - (room := KNOT_TOLERANCE * self.knot_length) <= float(t) <= last + room:
            raise ValueError(f"t must stay where the weights are defined, [{first:g}, {last:g}]; got {float(t):g}. "
                             f"Build the curves with t0 and t1 that cover it.")
        later = [knot for knot in self.knots if float(t) + room < knot <= last]
        return self.on(float(t), later[0] if later else float(t))(cast(Tensor, t), x)

    def require(self, weights: Weights, shapes: dict[str, tuple[int, ...]]) -> None:
        """b1, A2 and b2 must have these shapes, and the dtype and device of A1."""
        A1 = weights.A1
        for name, shape in shapes.items():
            weight = getattr(weights, name)
            if tuple(weight.shape) != shape:
                raise ValueError(f"{name} must have shape {shape} to fit A1 (or A) of shape {tuple(A1.shape)} = "
                                 f"{self.layout}; got {_check.describe(weight)}.")
            if weight.dtype != A1.dtype or weight.device != A1.device:
                raise ValueError(f"{name} must share dtype and device with A1 (or A), {A1.dtype} on {A1.device}; got "
                                 f"{weight.dtype} on {weight.device}. Convert it: {name}.to(A1).")


class Nonnegative:
    """The structure of ResNet-D: A2 >= 0 entry by entry."""

    A2: Curve | Constant

    def check_structure(self) -> None:
        """Raise if an entry of A2 is negative (training can make it so)."""
        negative = self.A2.values.detach() < 0
        if bool(negative.any()):
            i = _check.first(negative)
            raise ValueError(f"A2 must be nonnegative entry by entry in ResNet-D; entry {i} is "
                             f"{float(self.A2.values.detach()[i]):g}. Pass A2.clamp(min=0), or a field without that "
                             f"structure, ResNetField or ConvResNetField.")


class Symmetric:
    """The structure of ResNet-S: A1 = A, A2 its adjoint."""

    A: Curve | Constant
    b1: Curve | Constant
    b2: Curve | Constant
    adjoint: Callable[[Tensor], Tensor]

    def weights_on(self, a: float, b: float, dtype: torch.dtype | None = None) -> Callable[[float | Tensor], Weights]:
        """The weights restricted to a step [a, b], with A1 = A and A2 = Aᵀ."""
        return self._reflected(*(curve.on(a, b, dtype) for curve in (self.A, self.b1, self.b2)))

    def _reflected(self, A: At, b1: At, b2: At) -> Callable[[float | Tensor], Weights]:
        def at(t: float | Tensor) -> Weights:
            A_t = A(t)
            return Weights(A_t, b1(t), self.adjoint(A_t), b2(t))

        return at

    def weights_along(self, ends: Sequence[float]) -> list[Callable[[float | Tensor], Weights]]:
        """``weights_on`` of successive steps, every weight read once."""
        curves = (curve.along(ends) for curve in (self.A, self.b1, self.b2))
        return [self._reflected(*step) for step in zip(*curves, strict=True)]

    def layers(self, ends: Sequence[float]) -> tuple[list[Tensor], ...]:
        """A, b1, its adjoint and −b2 on successive steps within which they stand still."""
        A, b1 = (cast(PiecewiseConstant, curve).layers(ends) for curve in (self.A, self.b1))
        return A, b1, [self.adjoint(A_k) for A_k in A], cast(PiecewiseConstant, self.b2).layers(ends, negative=True)


def same_kind(name: str, x0: Tensor, A1: Tensor) -> None:
    """The state must have the dtype and device of the weights."""
    if x0.dtype != A1.dtype or x0.device != A1.device:
        raise ValueError(f"{name} and the weights must share dtype and device; {name} is {x0.dtype} on {x0.device}, "
                         f"the weights are {A1.dtype} on {A1.device}. Convert one: {name}.to(weight) or "
                         f"field.to({name}).")


def _together(A1: At, b1: At, A2: At, b2: At) -> Callable[[float | Tensor], Weights]:
    return lambda t: Weights(A1(t), b1(t), A2(t), b2(t))


def _merge(knots: list[float], tolerance: float) -> tuple[float, ...]:
    """Sorted knots of several curves, those that differ by rounding only taken as one."""
    return tuple(knot for k, knot in enumerate(knots) if k == 0 or knot - knots[k - 1] > tolerance)


def _as_curve(name: str, weight: Weight) -> Curve | Constant:
    if isinstance(weight, Curve):
        return weight
    return Constant(_check.finite(name, _check.tensor(name, weight)))
