"""A solution is data: times, states, multipliers, status; interpolation and residual are computed from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from . import _check
from .functions import ConvexSet
from .inclusion import Inclusion
from .schemes import Scheme

__all__ = ["LastSteps", "Solution", "SolveError", "Stats"]

OK, FIELD_NOT_FINITE, STEP_FAILED, FIELD_MISSHAPEN = 0, 1, 2, 3


@dataclass(frozen=True)
class Stats:
    """What a solve cost: steps taken and evaluations of F (each with the whole batch)."""

    steps: int
    evaluations: int


@dataclass(frozen=True, eq=False)
class LastSteps:
    """The steps that ended at the save times after the first: their scheme, their ends (a, b) and the states before."""

    scheme: Scheme
    intervals: tuple[tuple[float, float], ...]
    before: Tensor


@dataclass(frozen=True, eq=False)
class Solution:
    """Result of ``solve``.

    Attributes
    ----------
    t : Tensor (T,), float64
        Save times reached; t[0] is the initial time.
    x : Tensor (T, *batch, *state)
        States; NaN from the failure on in samples that failed.
    status : Tensor (*batch,), int
        0 success, 1 the field was not finite, 2 a step failed, 3 the field returned another shape or dtype.
    message : str
        What happened, and the remedy.
    stats : Stats
    flow : Inclusion
    multiplier : Tensor (T − 1, *batch, *state)
        Row k is the element of ∂g(t[k+1], x[k+1]) that the step ending at t[k+1] used; −x' = multiplier + F.
    switches : None
        Located contacts; fixed-step schemes locate none.
    last_steps : LastSteps
        The step that ended at each save time. Multiplier and residual are computed from it and from the flow when they
        are first asked for: ask before you change the weights.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> flow = di.Inclusion(lambda t, x: torch.ones_like(x), di.Orthant())
    >>> sol = di.solve(flow, torch.tensor([1.5]), [0.0, 1.0, 2.0, 3.0])
    >>> sol.x[:, 0], sol.multiplier[:, 0]
    (tensor([1.5000, 0.5000, 0.0000, 0.0000]), tensor([ 0.0000, -0.5000, -1.0000]))
    >>> sol(1.25)
    tensor([0.3750])
    """

    t: Tensor
    x: Tensor
    status: Tensor
    message: str
    stats: Stats
    flow: Inclusion
    last_steps: LastSteps
    switches: None = None

    @cached_property
    def multiplier(self) -> Tensor:
        """(z − x)/h of the last prox x = prox_h(z) before each save time after the first."""
        scheme, rows = self.last_steps.scheme, []
        for k, ((a, b), x) in enumerate(zip(self.last_steps.intervals, self.last_steps.before, strict=True)):
            t, t_next = torch.tensor([a, b], dtype=torch.float64).unbind()
            _, z = scheme.step(self.flow.field.on(a, b), self.flow.g, t, t_next, b - a, x)
            rows.append((z - self.x[k + 1]) / (scheme.prox_fraction * (b - a)))
        return torch.stack(rows) if rows else self.x[:0]

    @property
    def success(self) -> bool:
        """Whether every sample reached the last time."""
        return bool((self.status == OK).all())

    def __call__(self, t: float | Tensor) -> Tensor:
        """State at time ``t`` in [t[0], t[-1]], linear between save times and kept in C(t); shape (*batch, *state).

        ``t`` may be a 1-D tensor of n times: shape (n, *batch, *state).
        """
        if isinstance(t, Tensor) and t.ndim == 1:
            return torch.stack([self(time) for time in t])
        time, first, last = _check.number("t", t), float(self.t[0]), float(self.t[-1])
        eps = torch.finfo(t.dtype if isinstance(t, Tensor) and t.is_floating_point() else torch.float64).eps
        room = 4 * eps * max(abs(first), abs(last))
        if not first - room <= time <= last + room:
            raise ValueError(f"t must lie in the solved interval [{first!r}, {last!r}]; got {time!r}. Solve further to "
                             f"look further.")
        if len(self.t) == 1:
            return self.x[0]
        time = min(max(time, first), last)
        k = int(torch.searchsorted(self.t, torch.tensor(time, dtype=torch.float64), right=True)) - 1
        k = min(k, len(self.t) - 2)
        weight = (time - float(self.t[k])) / float(self.t[k + 1] - self.t[k])
        x = torch.lerp(self.x[k], self.x[k + 1], weight)
        g = self.flow.g
        return g.project(x, time) if isinstance(g, ConvexSet) else x

    def residual(self) -> Tensor:
        """dist(−x' − F(t, x), ∂g(t, x)) at t[1:], shape (T − 1, *batch): how well the states solve the inclusion (C1).

        x' is the difference quotient over the save interval and F takes its limit from the left, so for an exact
        solution the residual is of the order of the spacing of the save times, except in intervals with a contact.
        """
        rows = []
        for k in range(len(self.t) - 1):
            a, b, x = float(self.t[k]), float(self.t[k + 1]), self.x[k + 1]
            last_knot = max((knot for knot in self.flow.field.knots if a < knot < b), default=a)
            F = self.flow.field.on(last_knot, b)(self.t[k + 1], x)
            rows.append(self.flow.g.normal_distance(x, (self.x[k] - x) / (b - a) - F, self.t[k + 1]))
        return torch.stack(rows) if rows else self.x[:0, ..., 0]


class SolveError(RuntimeError):
    """A solve that failed; ``solution`` holds what was computed up to there."""

    def __init__(self, message: str, solution: Solution):
        super().__init__(message)
        self.solution = solution
