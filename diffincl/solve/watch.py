"""F and g as a solve sees them: counted, and F checked for the shape and dtype of its values."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .. import _check
from ..fields import FieldFunction, Pieces
from ..functions import ProxFunction

__all__ = ["FieldShapeError", "WatchedField", "WatchedProx"]


class FieldShapeError(ValueError):
    """F returned something that is not like x."""


class WatchedField:
    """F with its evaluations counted and the shape and dtype of its values checked."""

    __slots__ = ("F", "dtype", "evaluations", "shape")

    def __init__(self, x: Tensor):
        self.F: FieldFunction = lambda t, x: x
        self.shape, self.dtype = x.shape, x.dtype
        self.evaluations = 0

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        self.evaluations += 1
        value = self.F(t, x)
        try:
            if value.shape == self.shape and value.dtype is self.dtype:
                return value
            got = _check.describe(value)
        except AttributeError:
            got = repr(value)
        time = f"t = {float(t):g}" if t.ndim == 0 else f"t of shape {tuple(t.shape)}"
        raise FieldShapeError(f"the field must return a tensor of shape {tuple(self.shape)} and dtype "
                              f"{str(self.dtype).removeprefix('torch.')}, like x0; at {time} it returned {got}. Return "
                              f"a tensor of the shape and dtype of x.")

    def frozen(self, pieces: Pieces, t: Tensor, x: Tensor, units: Tensor) -> Tensor:
        """F with the activation pattern held, counted as an evaluation."""
        self.evaluations += 1
        return pieces.frozen(t, x, units)


class WatchedProx(ProxFunction):
    """The prox of g with its evaluations counted."""

    def __init__(self, g: ProxFunction):
        self.inner: Callable[..., Tensor] = g.prox
        self.evaluations = 0

    def prox(self, x: Tensor, h: float | Tensor, t: float | Tensor = 0.0) -> Tensor:
        self.evaluations += 1
        return self.inner(x, h, t)
