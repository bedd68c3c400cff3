"""What a field is, and any callable as one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

__all__ = ["CallableField", "Field", "FieldFunction", "as_field"]

FieldFunction = Callable[[Tensor, Tensor], Tensor]


class Field(nn.Module):
    """What the solver and the bounds ask of a field.

    1. ``field(t, x)`` is F(t, x), shape of ``x``; ``t`` is a float or a 0-dim tensor;
    2. ``field.on(a, b)`` is F restricted to a step [a, b] between two knots: a function of (t, x) that takes its limits
       in t from inside the step;
    3. ``field.knots`` are the times at which F may jump, ``field.knot_length`` the shortest distance between them and
       ``field.domain`` the interval on which F is defined;
    4. ``field.validate(x0)`` raises where ``x0`` does not fit;
    5. ``field.state_dims`` is the number of last dimensions that make up one state: 1, of images 3.
    """

    knots: tuple[float, ...] = ()
    knot_length: float = math.inf
    domain: tuple[float, float] = (-math.inf, math.inf)
    state_dims: int = 1

    def on(self, a: float, b: float) -> FieldFunction:
        """F restricted to the step [a, b]."""
        raise NotImplementedError

    def validate(self, x0: Tensor) -> None:
        """Raise where the initial state does not fit the field."""


class CallableField(Field):
    """Any callable F(t, x) as a field; a module's parameters are found and learned.

    Examples
    --------
    >>> import torch
    >>> CallableField(lambda t, x: -x)(0.0, torch.tensor([2.0]))
    tensor([-2.])
    """

    def __init__(self, function: FieldFunction):
        super().__init__()
        if not callable(function):
            raise TypeError(f"field must be callable as F(t, x); got {type(function).__name__}.")
        self.function = function

    def on(self, a: float, b: float) -> FieldFunction:
        """The callable itself."""
        return self.function

    def forward(self, t: float | Tensor, x: Tensor) -> Tensor:
        return self.function(cast(Tensor, t), x)


def as_field(field: Field | FieldFunction) -> Field:
    """A library field as it is, any other callable wrapped."""
    return field if isinstance(field, Field) else CallableField(field)
