"""The right-hand side of the penalised ODE, as torchdiffeq calls it: counted, checked, restricted to a piece."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from .. import _check
from ..fields import FieldFunction
from ..inclusion import Inclusion

__all__ = ["Stopped", "Velocity"]


class Stopped(Exception):
    """The integrator cannot go on from time ``t``, because of ``reason``, which names the remedy; ``at_fault``
    (*batch,) says which samples are not finite there."""

    def __init__(self, t: float, reason: str, at_fault: Tensor):
        super().__init__(reason)
        self.t, self.reason, self.at_fault = t, reason, at_fault


class Velocity:
    """s, x ↦ −F(t, x) − (x − prox_{λg}(x))/λ at t = origin + s, counted and checked.

    Integrators run in the time s since the last stop, which float32 resolves at any t. torchdiffeq calls
    ``callback_step`` before each step; ``reached`` and ``proposal`` are its start and its length. A progress ``bar``
    counts the time reached since the first.
    """

    def __init__(self, flow: Inclusion, lam: float, x0: Tensor, first: float, bar: tqdm):
        self.flow, self.lam, self.dtype, self.first, self.bar = flow, lam, x0.dtype, first, bar
        self.F: FieldFunction = flow.field
        self.prox = flow.g.with_memory().prox
        self.origin = self.end = self.reached = self.proposal = 0.0
        self.evaluations = 0
        self.last = x0

    def restrict(self, a: float, b: float) -> None:
        """From here on F is that of the piece [a, b]."""
        self.F = self.flow.field.on(a, b)
        self.origin, self.end = a, b
        self.reach(a)

    def reach(self, t: float) -> None:
        """The integration stands at ``t``; a Newton iteration of scipy's may look ahead and return."""
        self.reached = t
        self.bar.update(max(0.0, t - self.first - self.bar.n))

    def __call__(self, s: Tensor, x: Tensor) -> Tensor:
        t = (self.origin + s.detach().double()).clamp_max(self.end)
        self.evaluations += 1
        before = _check.version(t, x)
        F = self._checked(self.F(t, x.to(self.dtype)), x, t)
        if _check.version(t, x) != before:
            raise ValueError(_check.changed(self.F, t))
        self.last = -F.to(x.dtype) - (x - self.prox(x, self.lam, t)) / self.lam
        return self.last

    def _checked(self, value: Tensor, x: Tensor, t: Tensor) -> Tensor:
        if isinstance(value, Tensor) and value.shape == x.shape and value.dtype is self.dtype:
            return value
        got = _check.describe(value) if isinstance(value, Tensor) else repr(value)
        raise ValueError(f"the field must return a tensor of shape {tuple(x.shape)} and dtype "
                         f"{str(self.dtype).removeprefix('torch.')}, like x0; at t = {float(t):g} it returned {got}. "
                         f"Return a tensor of the shape and dtype of x.")

    def callback_step(self, s: Tensor, x: Tensor, length: Tensor) -> None:
        """Note where torchdiffeq stands; its methods with fixed steps would go on with NaN."""
        self.reach(self.origin + float(s))
        self.proposal = float(length)
        self.require_finite(x)

    def require_finite(self, x: Tensor) -> None:
        """Raise ``Stopped`` where a state is not finite."""
        if not bool(torch.isfinite(x.detach()).all()):
            raise self.stopped(~torch.isfinite(x.detach()).all(-1))

    def stopped(self, at_fault: Tensor | None = None, message: object = "") -> Stopped:
        """Where and why the integrator stopped, and what to do."""
        bad = ~torch.isfinite(self.last.detach()).all(-1)
        bad = bad if at_fault is None else bad | at_fault
        if bool(bad.any()):
            return Stopped(self.reached, f"F or the prox of g was not finite for sample "
                           f"{_check.first(bad) if bad.ndim else ()}, or its state grew beyond the dtype; look at F "
                           f"near this time, or take a smaller step or tolerance.{_check.others(bad)}", bad)
        return Stopped(self.reached, f"its integrator says '{message}'; take a larger lam or tolerances, a smaller "
                       f"step if steps are fixed, or float64.", bad)
