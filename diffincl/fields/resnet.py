"""The fields of the ResNet family, with weights in time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import linear

from .. import _check
from ..curves import KNOT_TOLERANCE, Constant, Curve, PiecewiseLinear
from .base import Field, FieldFunction
from .pieces import Pieces, Weights, evaluate

__all__ = ["ResNetDField", "ResNetField", "ResNetSField"]

Weight = Tensor | Curve


class ResNetField(Field):
    """F(t, x) = A2 σ(A1 x + b1) − b2 with σ = ReLU: the field of the post-activation ResNet.

    Parameters
    ----------
    A1 : Tensor (*weights, m, d), or a curve of such tensors
    b1 : Tensor (*weights, m), or a curve
    A2 : Tensor (*weights, d, m), or a curve
    b2 : Tensor (*weights, d), or a curve
        Leading dimensions ``weights`` make an ensemble: they line up with the first dimensions of the batch of x.

    Raises
    ------
    TypeError, ValueError
        If a weight is no floating-point tensor or curve, is not finite, or does not fit the others.

    Examples
    --------
    >>> import torch
    >>> F = ResNetField(torch.eye(2), torch.zeros(2), torch.eye(2), torch.ones(2))
    >>> F(0.0, torch.tensor([3.0, -1.0]))
    tensor([ 2., -1.])

    References
    ----------
    Zhang, Schaeffer, "Forward Stability of ResNet and Its Variants", 2020; theory §1.
    """

    A1: Curve | Constant
    b1: Curve | Constant
    A2: Curve | Constant
    b2: Curve | Constant

    def __init__(self, A1: Weight, b1: Weight, A2: Weight, b2: Weight):
        super().__init__()
        self._set(A1=A1, b1=b1, A2=A2, b2=b2)

    def _set(self, **weights: Weight) -> None:
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
        start = self.domain[0] if curves else 0.0
        _check_fit(self.weights_on(start, start)(start))

    def weights_on(self, a: float, b: float, dtype: torch.dtype | None = None) -> Callable[[float | Tensor], Weights]:
        """The weights restricted to a step [a, b] between two knots, as a function of t; ``dtype`` None: their own."""
        A1, b1, A2, b2 = (curve.on(a, b, dtype) for curve in (self.A1, self.b1, self.A2, self.b2))
        return lambda t: Weights(A1(t), b1(t), A2(t), b2(t))

    def on(self, a: float, b: float) -> FieldFunction:
        """F restricted to the step [a, b]; weights that stand still within it are read once."""
        at = self.weights_on(a, b)
        if self.time_dependent_within_a_step:
            pieces = self.pieces_on(a, b)
            return lambda t, x: pieces(t, x) if isinstance(t, Tensor) and t.ndim > 0 else evaluate(at(t), x)
        A1, b1, A2, b2 = at(a)
        if A1.ndim > 2:
            return lambda t, x: evaluate(Weights(A1, b1, A2, b2), x)
        minus_b2 = -b2
        return lambda t, x: linear(torch.relu(linear(x, A1, b1)), A2, minus_b2)

    def pieces_on(self, a: float, b: float) -> Pieces:
        """F on [a, b] as a function of the activation pattern, each sample at its own time."""
        at = self.weights_on(a, b)
        return Pieces(a, b, at(a), at(b) if self.time_dependent_within_a_step else None)

    def forward(self, t: float | Tensor, x: Tensor) -> Tensor:
        """F(t, x); at a knot, the weights from the right."""
        first, last = self.domain
        if not first - (room := KNOT_TOLERANCE * self.knot_length) <= float(t) <= last + room:
            raise ValueError(f"t must stay where the weights are defined, [{first:g}, {last:g}]; got {float(t):g}. "
                             f"Build the curves with t0 and t1 that cover it.")
        later = [knot for knot in self.knots if float(t) + room < knot <= last]
        return self.on(float(t), later[0] if later else float(t))(cast(Tensor, t), x)

    @property
    def features(self) -> int:
        """Dimension d of the state."""
        return self.weights_now().A1.shape[-1]

    @property
    def ensemble(self) -> tuple[int, ...]:
        """Batch dimensions of the weights."""
        return tuple(self.weights_now().A1.shape[:-2])

    def weights_now(self) -> Weights:
        """The weights at the first time at which they are defined."""
        start = self.domain[0] if self.knots else 0.0
        return self.weights_on(start, start)(start)

    def validate(self, x0: Tensor) -> None:
        """x0 must have the field's dimension, dtype and device, and lead with the batch dimensions of the weights."""
        A1 = self.weights_now().A1
        if x0.shape[-1] != A1.shape[-1]:
            raise ValueError(f"x0 must have last dimension {A1.shape[-1]}, the columns of A1; got "
                             f"{_check.describe(x0)}.")
        if x0.dtype != A1.dtype or x0.device != A1.device:
            raise ValueError(f"x0 and the weights must share dtype and device; x0 is {x0.dtype} on {x0.device}, the "
                             f"weights are {A1.dtype} on {A1.device}. Convert one: x0.to(weight) or field.to(x0).")
        ensemble = tuple(A1.shape[:-2])
        if tuple(x0.shape[:len(ensemble)]) != ensemble:
            raise ValueError(f"x0 must lead with the batch dimensions {ensemble} of the weights; got "
                             f"{_check.describe(x0)}. Expand it: x0.expand({', '.join(map(str, ensemble))}, ...).")


class ResNetDField(ResNetField):
    """ResNet-D: the field of ResNet with A2 >= 0 entry by entry.

    Raises
    ------
    ValueError
        Besides those of ``ResNetField``: if an entry of A2 is negative, now or (checked by the bounds) later.

    Examples
    --------
    >>> import torch
    >>> F = ResNetDField(-torch.eye(2), torch.ones(2), torch.eye(2), torch.zeros(2))
    >>> F(0.0, torch.tensor([0.5, 2.0]))
    tensor([0.5000, 0.0000])
    """

    def __init__(self, A1: Weight, b1: Weight, A2: Weight, b2: Weight):
        super().__init__(A1, b1, A2, b2)
        self.check_structure()

    def check_structure(self) -> None:
        """Raise if an entry of A2 is negative (training can make it so)."""
        negative = self.A2.values.detach() < 0
        if bool(negative.any()):
            i = _check.first(negative)
            raise ValueError(f"A2 must be nonnegative entry by entry in ResNet-D; entry {i} is "
                             f"{float(self.A2.values.detach()[i]):g}. Pass A2.clamp(min=0), or use ResNetField.")


class ResNetSField(ResNetField):
    """ResNet-S: F(t, x) = Aᵀ σ(A x + b1) − b2, the gradient of the convex φ = ½‖σ(Ax + b1)‖² − b2·x.

    Parameters
    ----------
    A : Tensor (*weights, m, d), or a curve
    b1 : Tensor (*weights, m), or a curve
    b2 : Tensor (*weights, d), or a curve

    Examples
    --------
    >>> import torch
    >>> F = ResNetSField(2 * torch.eye(2), torch.zeros(2), torch.zeros(2))
    >>> F(0.0, torch.tensor([1.0, -1.0]))
    tensor([4., 0.])
    """

    A: Curve | Constant

    def __init__(self, A: Weight, b1: Weight, b2: Weight):
        Field.__init__(self)
        self._set(A=A, b1=b1, b2=b2)

    def weights_on(self, a: float, b: float, dtype: torch.dtype | None = None) -> Callable[[float | Tensor], Weights]:
        """The weights restricted to a step [a, b], with A1 = A and A2 = Aᵀ."""
        A, b1, b2 = (curve.on(a, b, dtype) for curve in (self.A, self.b1, self.b2))

        def at(t: float | Tensor) -> Weights:
            A_t = A(t)
            return Weights(A_t, b1(t), A_t.mT, b2(t))

        return at


def _merge(knots: list[float], tolerance: float) -> tuple[float, ...]:
    """Sorted knots of several curves, those that differ by rounding only taken as one."""
    return tuple(knot for k, knot in enumerate(knots) if k == 0 or knot - knots[k - 1] > tolerance)


def _as_curve(name: str, weight: Weight) -> Curve | Constant:
    if isinstance(weight, Curve):
        return weight
    return Constant(_check.finite(name, _check.tensor(name, weight)))


def _check_fit(weights: Weights) -> None:
    A1, b1, A2, b2 = weights
    if A1.ndim < 2:
        raise ValueError(f"A1 (or A) must have shape (*batch, m, d); got {_check.describe(A1)}.")
    ensemble, (m, d) = tuple(A1.shape[:-2]), A1.shape[-2:]
    for name, weight, shape in (("b1", b1, (m,)), ("A2", A2, (d, m)), ("b2", b2, (d,))):
        if tuple(weight.shape) != (*ensemble, *shape):
            raise ValueError(f"{name} must have shape {(*ensemble, *shape)} to fit A1 (or A) of shape "
                             f"{tuple(A1.shape)} = (*batch, m, d); got {_check.describe(weight)}.")
        if weight.dtype != A1.dtype or weight.device != A1.device:
            raise ValueError(f"{name} must share dtype and device with A1 (or A), {A1.dtype} on {A1.device}; got "
                             f"{weight.dtype} on {weight.device}. Convert it: {name}.to(A1).")
