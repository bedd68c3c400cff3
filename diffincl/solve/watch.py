"""F and g as a solve sees them: counted, and F checked for the shape and dtype of its values."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .. import _check
from ..fields import FieldFunction, Pieces
from ..functions import ProxFunction

__all__ = ["FieldShapeError", "Notice", "WatchedField", "WatchedProx"]


class FieldShapeError(ValueError):
    """F returned something that is not like x."""


class Notice:
    """While steps are searched without gradients: whether somebody may want derivatives of F or g all the same, because
    a tensor that requires gradients came in, perhaps late in time."""

    def __init__(self):
        self.wanted = False

    def __call__(self, f: Callable[..., Tensor], *arguments: float | Tensor) -> Tensor:
        """The value of ``f``, without derivatives."""
        with torch.enable_grad():
            value = f(*arguments)
        if isinstance(value, Tensor) and value.requires_grad:
            self.wanted, value = True, value.detach()
        return value


_HINT = " Times are float64 whatever x is: take t.to(x) where a term is made of t alone."


class WatchedField:
    """F with its evaluations counted, the shape and dtype of its values and its arguments, which must stay as they
    are, checked."""

    __slots__ = ("F", "compiled", "dtype", "evaluations", "notice")

    def __init__(self, x: Tensor, notice: Notice | None = None):
        self.F: FieldFunction = lambda t, x: x
        self.dtype = x.dtype
        self.evaluations, self.compiled, self.notice = 0, torch.compiler.is_compiling(), notice

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        self.evaluations += 1
        before = 0 if self.compiled else _check.version(t, x)
        value = self.F(t, x) if self.notice is None else self.notice(self.F, t, x)
        if not self.compiled and _check.version(t, x) != before:
            raise ValueError(_check.changed(self.F, t))
        try:
            if value.shape == x.shape and value.dtype is self.dtype:
                return value
            if value.shape == x.shape and torch.is_autocast_enabled(x.device.type):
                return value.to(self.dtype)  # mixed precision: states keep their dtype
            got, hint = _check.describe(value), _HINT if value.dtype is t.dtype is not self.dtype else ""
        except AttributeError:
            got, hint = repr(value), ""
        time = f"t = {float(t):g}" if t.ndim == 0 else f"t of shape {tuple(t.shape)}"
        raise FieldShapeError(f"the field must return a tensor of shape {tuple(x.shape)} and dtype "
                              f"{str(self.dtype).removeprefix('torch.')}, like x0; at {time} it returned {got}. Return "
                              f"a tensor of the shape and dtype of x.{hint}")

    def frozen(self, pieces: Pieces, t: Tensor, x: Tensor, units: Tensor) -> Tensor:
        """F with the activation pattern held, counted as an evaluation."""
        self.evaluations += 1
        return pieces.frozen(t, x, units)


class WatchedProx(ProxFunction):
    """The prox of g with its evaluations counted; of a g with finite reach it is NaN where a step leaves the tube.

    Where ``limited``, a loop calls ``begin`` before each step; after it, ``left`` (*batch,) says which samples asked
    for a prox beyond the reach, and ``refusal`` why that of one sample was refused.
    """

    def __init__(self, g: ProxFunction, notice: Notice | None = None):
        self.g, self.notice = g, notice
        self.inner: Callable[..., Tensor] = g.with_memory().prox
        self.limited, self.moving, self.coordinatewise = math.isfinite(g.reach), g.moving, g.coordinatewise
        self.evaluations = 0
        self.start: tuple[Tensor, Tensor] | None = None

    def begin(self, x: Tensor, t: Tensor) -> None:
        """A step starts from ``x`` at ``t``, a 0-dim tensor or (*batch, 1)."""
        self.start = x, t
        self.left = torch.zeros(x.shape[:-1], dtype=torch.bool, device=x.device)
        self.z, self.t_next = x.detach(), torch.zeros((*x.shape[:-1], 1), dtype=torch.float64, device=x.device)

    def prox(self, x: Tensor, h: float | Tensor, t: float | Tensor = 0.0) -> Tensor:
        self.evaluations += 1
        value = self.inner(x, h, t) if self.notice is None else self.notice(self.inner, x, h, t)
        return value if self.start is None else self._within_reach(x, t, value)

    def _within_reach(self, z: Tensor, t_next: float | Tensor, value: Tensor) -> Tensor:
        """The value, NaN where the step from the start to ``z`` leaves the tube; the first such z of each sample is
        remembered (one that is not finite is the fault of F)."""
        assert self.start is not None
        inside = self.g.within_reach(*self.start, z, t_next)
        new = ~inside & ~self.left & torch.isfinite(z).all(-1)
        self.z = torch.where(new.unsqueeze(-1), z.detach(), self.z)
        self.t_next = torch.where(new.unsqueeze(-1), t_next, self.t_next)
        self.left = self.left | new
        return torch.where(inside.unsqueeze(-1), value, torch.nan)

    def carried(self, x: Tensor, t: float | Tensor, t_next: float | Tensor) -> Tensor:
        return self.g.carried(x, t, t_next)

    def refusal(self, sample: tuple[int, ...], h: float) -> str:  # type: ignore[override]
        """Why the prox of one sample was refused in a step of length ``h``, and the remedy."""
        assert self.start is not None
        x, t = self.start
        return self.g.refusal(x[sample].detach(), t[sample].squeeze(-1) if t.ndim else t, self.z[sample],
                              self.t_next[sample].squeeze(-1), h)
