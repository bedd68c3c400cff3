"""Sets and functions that move in time."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _check
from .base import ConvexSet, ProxFunction, Time

__all__ = ["Moving"]

Motion = Callable[[Tensor], Tensor | float]


@dataclass(frozen=True, eq=False, repr=False)
class Moving(ProxFunction):
    """A set or function in motion: C(t) = shift(t) + scale(t)·C, or g(t, x) = base((x − shift(t))/scale(t)).

    Moving over a ``ConvexSet`` is a ``ConvexSet``.

    Parameters
    ----------
    base : ProxFunction
    shift : callable of t, optional
        Returns a number or a tensor broadcasting against (*batch, d).
    scale : callable of t, optional
        Returns a positive number or a tensor broadcasting against (*batch, 1): one number a sample.

        Both are called with a float64 tensor: 0-dim, or (*batch, 1) where every sample has its own time. Their values
        take the dtype and device of x.

    Raises
    ------
    ValueError
        In use: if a value is complex, not finite, larger than x or, of ``scale``, not positive.

    Examples
    --------
    >>> import torch
    >>> from diffincl import Ball
    >>> disk = Moving(Ball(), shift=lambda t: torch.stack([t.cos(), t.sin()], -1), scale=lambda t: 1 + t)
    >>> disk.project(torch.tensor([5.0, 0.0]), t=1.0)
    tensor([2.5056, 0.4706])

    Notes
    -----
    prox_{h g(t)}(x) = shift + scale·prox_{h/scale², base}((x − shift)/scale). ``reach`` is that of ``base``, a length
    before scaling; ``within_reach`` and ``refusal`` measure in the frame that moves with the set, so a jump of the
    shift counts as a step.
    """

    base: ProxFunction
    shift: Motion | None = None
    scale: Motion | None = None
    moving = True

    def __new__(cls, base: ProxFunction | None = None, shift: Motion | None = None,
                scale: Motion | None = None) -> Moving:
        """A ``ConvexSet`` over a ``ConvexSet``."""
        return object.__new__(_MovingSet if cls is Moving and isinstance(base, ConvexSet) else cls)

    def __post_init__(self) -> None:
        if not isinstance(self.base, ProxFunction):
            raise TypeError(f"base must be a ProxFunction such as Ball(); got {self.base!r}.")
        for name, motion in (("shift", self.shift), ("scale", self.scale)):
            if motion is not None and not callable(motion):
                raise TypeError(f"{name} must be a callable of t; got {type(motion).__name__}. Write lambda t: value.")

    @property
    def coordinatewise(self) -> bool:  # type: ignore[override]
        """As ``base``."""
        return self.base.coordinatewise

    @property
    def convex(self) -> bool:  # type: ignore[override]
        """As ``base``."""
        return self.base.convex

    @property
    def polyhedral(self) -> bool:  # type: ignore[override]
        """As ``base``."""
        return self.base.polyhedral

    @property
    def reach(self) -> float:  # type: ignore[override]
        """As ``base``, before scaling."""
        return self.base.reach

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """shift + scale·prox_{h/scale², base}((x − shift)/scale)."""
        shift, scale = self._frame(x, t)
        if isinstance(scale, Tensor):
            h = (h / scale**2).expand(*x.shape[:-1], 1)
        return self.base.prox((x - shift) / scale, h, t) * scale + shift

    def carried(self, x: Tensor, t: Time, t_next: Time) -> Tensor:
        """shift + scale·y at t_next, y being (x − shift)/scale at t, carried by ``base``."""
        shift, scale = self._frame(x, t_next)
        return self.base.carried(self._inside(x, t), t, t_next) * scale + shift

    def with_memory(self) -> Moving:
        """With that of ``base``, in the frame that moves with the set."""
        base = self.base.with_memory()
        if base is self.base:
            return self
        same = copy.copy(self)
        object.__setattr__(same, "base", base)
        return same

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """base((x − shift)/scale)."""
        return self.base.value(self._inside(x, t), t)

    def kink_sides(self, x: Tensor, t: Time = 0.0) -> Tensor | None:
        """Those of ``base``."""
        return self.base.kink_sides(self._inside(x, t), t)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """By that of ``base``: ∂g(t, x) = ∂base((x − shift)/scale)/scale."""
        shift, scale = self._frame(x, t)
        away = self.base.normal_distance((x - shift) / scale, v * scale, t)
        return away / (scale.expand(*x.shape[:-1], 1)[..., 0] if isinstance(scale, Tensor) else scale)

    def within_reach(self, x: Tensor, t: Time, z: Tensor, t_next: Time) -> Tensor:
        """That of ``base``, in the frame that moves with the set."""
        return self.base.within_reach(self._inside(x, t), t, self._inside(z, t_next), t_next)

    def refusal(self, x: Tensor, t: Time, z: Tensor, t_next: Time, h: float) -> str:
        """That of ``base``, in the frame that moves with the set."""
        reason = self.base.refusal(self._inside(x, t), t, self._inside(z, t_next), t_next, h)
        return reason if math.isinf(self.reach) else f"{reason} (in the frame that moves with the set)"

    def _inside(self, x: Tensor, t: Time) -> Tensor:
        """x as ``base`` sees it."""
        shift, scale = self._frame(x, t)
        return (x - shift) / scale

    def _frame(self, x: Tensor, t: Time) -> tuple[Tensor | float, Tensor | float]:
        """Shift and scale at t, like ``x``."""
        if not isinstance(t, Tensor):
            t = torch.tensor(float(t), dtype=torch.float64)
        shift = 0.0 if self.shift is None else _at("shift", self.shift, t, x)
        scale = 1.0 if self.scale is None else _at("scale", self.scale, t, x)
        return shift, scale


class _MovingSet(Moving, ConvexSet):
    """Moving over a convex set."""

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """shift + scale·project((x − shift)/scale)."""
        return self.prox(x, 1.0, t)

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """0 in C(t), infinity outside; rounding is judged by the size of x."""
        return ConvexSet.value(self, x, t)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """By that of ``base``; where coordinates stand alone, those within rounding of a bound count as on it."""
        if not self.coordinatewise:
            return super().normal_distance(x, v, t)
        shift, scale = self._frame(x, t)
        y = (x - shift) / scale
        room = 64 * torch.finfo(x.dtype).eps * (y.abs() + x.abs() / scale)
        return self.base.normal_distance(self.base.prox(y + room * v.sign(), 1.0, t), v, t)


def _at(name: str, motion: Motion, t: Tensor, x: Tensor) -> Tensor:
    """The value of shift or scale at t in the dtype and on the device of ``x``, checked."""
    value = motion(t)
    if not isinstance(value, Tensor):
        value = torch.tensor(_check.number(f"{name}(t)", value), dtype=torch.float64)
    when = f"at t = {float(t):g}" if t.numel() == 1 and _check.concrete(t) else f"at times of shape {tuple(t.shape)}"
    if value.is_complex():
        raise ValueError(f"{name}(t) must be real; {when} it is {_check.describe(value)}. Take its real part.")
    most = (*x.shape[:-1], 1) if name == "scale" else tuple(x.shape)
    if not _fits(value.shape, most):
        raise ValueError(f"{name}(t) must broadcast against {most}, for x of shape {tuple(x.shape)}; {when} it is "
                         f"{_check.describe(value)}. Return a number, or a tensor of shape {most[-1:]} or {most}.")
    if _check.concrete(value) and bool((bad := ~torch.isfinite(value.detach())).any()):
        i = _check.first(bad)
        raise ValueError(f"{name}(t) must be finite; {when} entry {i} is {float(value[i])}. Look at {name} there.")
    if name == "scale" and _check.concrete(value) and bool((value <= 0).any()):
        i = _check.first(value <= 0)
        raise ValueError(f"scale(t) must be positive; {when} entry {i} is {float(value[i]):g}. End before the set "
                         f"shrinks to a point, or bound scale from below.")
    return value.to(x)


def _fits(shape: torch.Size, most: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape broadcasts against ``most`` without enlarging it."""
    return len(shape) <= len(most) and all(a in (1, b) for a, b in zip(shape[::-1], most[::-1], strict=False))
