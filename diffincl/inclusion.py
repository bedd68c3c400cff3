"""A field F and a function g make the inclusion −x'(t) ∈ ∂g(t, x(t)) + F(t, x(t))."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import _check
from .fields import Field, FieldFunction, as_field
from .functions import ConvexSet, ProxFunction

__all__ = ["Inclusion"]


@dataclass(frozen=True, eq=False)
class Inclusion:
    """The problem −x'(t) ∈ ∂g(t, x(t)) + F(t, x(t)).

    Parameters
    ----------
    field : Field or callable F(t, x)
        F stands on the **left**: for a velocity field v (x' = v) use ``Inclusion.from_velocity``.
    g : ProxFunction
        A set stands for its indicator.
    lipschitz : float, optional
        A Lipschitz constant L of F in x (ℓ2), 1/time. Needed by bounds of a plain callable.
    one_sided : float, optional
        A constant μ with (F(x) − F(y))·(x − y) >= −μ‖x − y‖², 1/time; may be negative.

    Raises
    ------
    TypeError, ValueError
        If ``field`` is not callable, ``g`` is no ProxFunction, or a constant is out of range.

    Examples
    --------
    >>> import torch
    >>> from diffincl import Orthant
    >>> flow = Inclusion.from_velocity(lambda t, x: torch.ones_like(x), Orthant())
    >>> flow.field(0.0, torch.zeros(1))
    tensor([-1.])
    """

    field: Field
    g: ProxFunction
    lipschitz: float | None = None
    one_sided: float | None = None

    def __init__(self, field: Field | FieldFunction, g: ProxFunction, *,
                 lipschitz: float | None = None, one_sided: float | None = None):
        if not isinstance(g, ProxFunction):
            hint = "Call it: write Orthant(), not Orthant. " if isinstance(g, type) else ""
            raise TypeError(f"g must be a ProxFunction such as Orthant() or L1(); got {g!r}. {hint}")
        if lipschitz is not None:
            lipschitz = _check.number("lipschitz", lipschitz, at_least=0.0)
        if one_sided is not None:
            one_sided = _check.number("one_sided", one_sided)
            if lipschitz is not None and one_sided < -lipschitz:
                raise ValueError(f"one_sided must be at least −lipschitz, since (F(x) − F(y))·(x − y) <= "
                                 f"lipschitz·‖x − y‖²; got one_sided = {one_sided:g} and lipschitz = {lipschitz:g}. "
                                 f"One of them is no constant of F; leave it out.")
        object.__setattr__(self, "field", as_field(field))
        object.__setattr__(self, "g", g)
        object.__setattr__(self, "lipschitz", lipschitz)
        object.__setattr__(self, "one_sided", one_sided)

    @classmethod
    def from_velocity(cls, v: FieldFunction, g: ProxFunction, *,
                      lipschitz: float | None = None, one_sided: float | None = None) -> Inclusion:
        """The inclusion x' ∈ v(t, x) − ∂g(t, x), torchdiffeq's sign: F = −v.

        A module ``v`` keeps its parameters; ``lipschitz`` and ``one_sided`` are those of F = −v.
        """
        if not callable(v):
            raise TypeError(f"v must be callable as v(t, x); got {type(v).__name__}.")
        return cls(_Negative(v), g, lipschitz=lipschitz, one_sided=one_sided)

    def validate(self, x0: Tensor, t0: float) -> None:
        """Raise where ``x0`` is no finite floating-point tensor (*batch, d) that fits the field and lies in C(t0)."""
        _check.finite("x0", _check.tensor("x0", x0))
        if x0.ndim < 1:
            raise ValueError(f"x0 must have shape (*batch, d); got {_check.describe(x0)}. Write x0.reshape(1).")
        self.field.validate(x0)
        with torch.no_grad():
            self._require_fit(x0, t0)
            if isinstance(self.g, ConvexSet) and _check.concrete(x0):
                _require_inside(self.g, x0, t0)

    def _require_fit(self, x0: Tensor, t0: float) -> None:
        """The prox must take x0 and return its like."""
        try:
            image = self.g.prox(x0, 1.0, t0)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"x0 does not fit {self.g}: {error}. Give both the same last dimension.") from error
        if image.shape != x0.shape or image.dtype != x0.dtype:
            raise ValueError(f"x0 does not fit {self.g}: of {_check.describe(x0)} its prox makes "
                             f"{_check.describe(image)}. Give both the same last dimension and dtype.")


def _require_inside(C: ConvexSet, x0: Tensor, t0: float) -> None:
    inside = C.contains(x0, t0)
    if not bool(inside.all()):
        i = _check.first(~inside)
        raise ValueError(f"x0 must lie in C; sample {i} is {float(C.distance(x0, t0)[i]):.3g} away from {C}. "
                         f"Project it with C.project(x0).")


class _Negative(torch.nn.Module):
    """−v, with the parameters of v."""

    def __init__(self, v: FieldFunction):
        super().__init__()
        self.v, self.__qualname__ = v, getattr(v, "__qualname__", type(v).__name__)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return -self.v(t, x)
