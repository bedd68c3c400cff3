"""Weights as functions of time: one set a layer (``PiecewiseConstant``) or interpolated (``PiecewiseLinear``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from . import _check

__all__ = ["Curve", "PiecewiseConstant", "PiecewiseLinear"]

# A time this close to a knot, in lengths of a piece, is that knot.
KNOT_TOLERANCE = 1e-9


class Curve(nn.Module):
    """A tensor-valued function on [t0, t1] given by ``values`` on ``pieces`` intervals of equal length.

    ``values`` is kept as it came: a Parameter is learned, any other tensor is a buffer that moves with ``.to()``.
    """

    values: Tensor

    def __init__(self, values: Tensor, t0: float, t1: float, pieces: int):
        super().__init__()
        _check.finite("values", values)
        self.t0, self.t1 = _check.number("t0", t0), _check.number("t1", t1)
        if not self.t0 < self.t1:
            raise ValueError(f"t1 must be greater than t0; got t0 = {t0:g} and t1 = {t1:g}.")
        self.pieces = pieces
        self._steps: tuple[tuple[float, ...], list[int]] = (), []
        if isinstance(values, nn.Parameter):
            self.values = values
        else:
            self.register_buffer("values", values)

    @property
    def length(self) -> float:
        """Length of one piece."""
        return (self.t1 - self.t0) / self.pieces

    @property
    def knots(self) -> tuple[float, ...]:
        """The pieces + 1 times between which the curve is smooth."""
        return (*(self.t0 + k * self.length for k in range(self.pieces)), self.t1)

    def piece(self, t: float | Tensor) -> int:
        """Index of the piece that holds time ``t``; at a knot, the piece to its right (at t1, the last)."""
        position = (float(t) - self.t0) / self.length
        if not -KNOT_TOLERANCE <= position <= self.pieces + KNOT_TOLERANCE:
            raise ValueError(f"t = {float(t):g} is outside the curve's interval [{self.t0:g}, {self.t1:g}]. "
                             f"Build the curve with t0 and t1 that cover it.")
        return min(max(int(position + KNOT_TOLERANCE), 0), self.pieces - 1)

    def on(self, a: float, b: float, dtype: torch.dtype | None = None) -> Callable[[float | Tensor], Tensor]:
        """The curve restricted to a step [a, b] inside one piece: limits are taken from inside the step. ``dtype`` is
        that in which it is evaluated (None: that of the values)."""
        return self.in_piece(self.values, self.piece((a + b) / 2), dtype)

    def along(self, ends: Sequence[float]) -> list[Callable[[float | Tensor], Tensor]]:
        """``on`` of successive steps, the values read once: the gradient is put together once, not step by step."""
        rows = self.values.unbind()
        return [self.in_piece(rows, k) for k in self.pieces_along(tuple(ends))]

    def pieces_along(self, ends: tuple[float, ...]) -> list[int]:
        """The piece of each of successive steps; of the steps last asked for they are remembered."""
        if torch.compiler.is_compiling():  # nothing may be remembered there
            return [self.piece((a + b) / 2) for a, b in pairwise(ends)]
        if self._steps[0] != ends:
            self._steps = ends, [self.piece((a + b) / 2) for a, b in pairwise(ends)]
        return self._steps[1]

    def in_piece(self, rows: Tensor | Sequence[Tensor], k: int, dtype: torch.dtype | None = None
                 ) -> Callable[[float | Tensor], Tensor]:
        """The curve with values ``rows`` restricted to its piece k."""
        raise NotImplementedError

    def forward(self, t: float | Tensor) -> Tensor:
        """The value at time ``t`` (at a jump, from the right)."""
        knots, k = self.knots, self.piece(t)
        return self.on(knots[k], knots[k + 1])(t)

    def refine(self, factor: int = 2) -> Curve:
        """The same function with ``factor`` times as many pieces."""
        raise NotImplementedError

    def sample(self, n: int) -> PiecewiseConstant:
        """``n`` layers: the values at the left ends of ``n`` equal pieces."""
        n = _check.count("n", n)
        values = torch.stack([self(self.t0 + k * (self.t1 - self.t0) / n) for k in range(n)])
        return PiecewiseConstant(values, self.t0, self.t1)

    def integrate(self, a: float | None = None, b: float | None = None) -> Tensor:
        """∫ from ``a`` to ``b`` of the curve (default: all of it), exact for both kinds of pieces."""
        a = self.t0 if a is None else _check.number("a", a)
        b = self.t1 if b is None else _check.number("b", b)
        if not self.t0 <= a <= b <= self.t1:
            raise ValueError(f"a and b must satisfy {self.t0:g} <= a <= b <= {self.t1:g}; got a = {a:g}, b = {b:g}.")
        stops = [a, *(knot for knot in self.knots if a < knot < b), b]
        total = torch.zeros_like(self.values[0])
        for left, right in pairwise(stops):
            total = total + (right - left) * self.on(left, right)((left + right) / 2)
        return total

    def extra_repr(self) -> str:
        return f"values of shape {tuple(self.values.shape)}, t0={self.t0:g}, t1={self.t1:g}"


class PiecewiseConstant(Curve):
    """Layers: value k on [t_k, t_{k+1}), t_k = t0 + k (t1 − t0)/N.

    Parameters
    ----------
    values : Tensor (N, ...), floating point
    t0, t1 : float
        The interval; with t1 = N a step of length 1 is one layer.

    Examples
    --------
    >>> import torch
    >>> layers = PiecewiseConstant(torch.tensor([1.0, 3.0]))
    >>> layers(0.25), layers(0.5), layers.integrate()
    (tensor(1.), tensor(3.), tensor(2.))
    """

    def __init__(self, values: Tensor, t0: float = 0.0, t1: float = 1.0):
        _check.tensor("values", values)
        if values.ndim < 1:
            raise ValueError(f"values must have shape (N, ...); got {_check.describe(values)}.")
        super().__init__(values, t0, t1, pieces=len(values))

    def in_piece(self, rows: Tensor | Sequence[Tensor], k: int, dtype: torch.dtype | None = None
                 ) -> Callable[[float | Tensor], Tensor]:
        """Value k."""
        value = rows[k]
        value = value if dtype is None else value.to(dtype)
        return lambda t: value

    def layers(self, ends: Sequence[float], negative: bool = False) -> list[Tensor]:
        """The value on each of successive steps, or its negative."""
        rows = (-self.values if negative else self.values).unbind()
        return [rows[k] for k in self.pieces_along(tuple(ends))]

    def refine(self, factor: int = 2) -> PiecewiseConstant:
        """The same function with ``factor`` times as many pieces."""
        values = self.values.repeat_interleave(_check.count("factor", factor), dim=0)
        return PiecewiseConstant(values, self.t0, self.t1)


class PiecewiseLinear(Curve):
    """Linear interpolation of ``values`` at N equally spaced knots from t0 to t1 (N >= 2).

    Examples
    --------
    >>> import torch
    >>> ramp = PiecewiseLinear(torch.tensor([0.0, 1.0, 0.0]))
    >>> ramp(0.25), ramp(0.5), ramp.integrate()
    (tensor(0.5000), tensor(1.), tensor(0.5000))
    """

    def __init__(self, values: Tensor, t0: float = 0.0, t1: float = 1.0):
        _check.tensor("values", values)
        if values.ndim < 1 or len(values) < 2:
            raise ValueError(f"values must have shape (N, ...) with N >= 2 knots; got {_check.describe(values)}. "
                             f"For one constant value pass the tensor itself.")
        super().__init__(values, t0, t1, pieces=len(values) - 1)

    def in_piece(self, rows: Tensor | Sequence[Tensor], k: int, dtype: torch.dtype | None = None
                 ) -> Callable[[float | Tensor], Tensor]:
        """The line from value k to the next."""
        start, left, length = rows[k].to(dtype), self.t0 + k * self.length, self.length
        rise = rows[k + 1].to(dtype) - start

        def at(t: float | Tensor) -> Tensor:
            share = (t - left) / length
            return start + (share.to(start) if isinstance(share, Tensor) else share) * rise

        return at

    def refine(self, factor: int = 2) -> PiecewiseLinear:
        """The same function with ``factor`` times as many pieces."""
        factor = _check.count("factor", factor)
        weight = torch.arange(factor, dtype=self.values.dtype, device=self.values.device) / factor
        weight = weight.reshape(1, -1, *[1] * (self.values.ndim - 1))
        start, end = self.values[:-1, None], self.values[1:, None]
        inner = (start + weight * (end - start)).flatten(0, 1)
        return PiecewiseLinear(torch.cat([inner, self.values[-1:]]), self.t0, self.t1)


class Constant(nn.Module):
    """A weight that does not depend on time, in the form of a curve (no knots, no end)."""

    values: Tensor
    knots: tuple[float, ...] = ()

    def __init__(self, values: Tensor):
        super().__init__()
        if isinstance(values, nn.Parameter):
            self.values = values
        else:
            self.register_buffer("values", values)

    def on(self, a: float, b: float, dtype: torch.dtype | None = None) -> Callable[[float | Tensor], Tensor]:
        value = self.values.to(dtype)
        return lambda t: value

    def along(self, ends: Sequence[float]) -> list[Callable[[float | Tensor], Tensor]]:
        return [self.on(0.0, 0.0)] * (len(ends) - 1)

    def layers(self, ends: Sequence[float], negative: bool = False) -> list[Tensor]:
        return [-self.values if negative else self.values] * (len(ends) - 1)

    def forward(self, t: float | Tensor) -> Tensor:
        return self.values
