"""What a solve with fixed steps does not keep, from some of its steps taken again."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..schemes import Scheme
from ..solution import Solution
from ..steps import Fixed, Plan, plan

__all__ = ["Retraced"]


@dataclass(frozen=True, eq=False)
class Retraced:
    """The steps (a, b) that ended at the save times after the first, with the states ``before`` them or the ``points``
    whose prox they led to, and how to take others again: ``run(x, layout)`` solves along a part of the plan, whose
    steps were no longer than ``longest``.
    """

    scheme: Scheme
    intervals: tuple[tuple[float, float], ...]
    before: Tensor | None
    longest: float
    run: Callable[[Tensor, Plan], Solution]
    points: Tensor | None = None

    def multiplier(self, solution: Solution) -> Tensor:
        """(z − x)/h of the last prox x = prox_h(z) before each save time after the first."""
        if self.points is not None:
            lengths = self.points.new_tensor([self.scheme.prox_fraction * (b - a) for a, b in self.intervals])
            return (self.points - solution.x[1:]) / lengths.reshape(-1, *[1] * (self.points.ndim - 1))
        assert self.before is not None
        rows = []
        for k, ((a, b), x) in enumerate(zip(self.intervals, self.before, strict=True)):
            t, t_next = torch.tensor([a, b], dtype=torch.float64).unbind()
            _, z = self.scheme.step(solution.flow.field.on(a, b), solution.flow.g, t, t_next, b - a, x)
            rows.append((z - solution.x[k + 1]) / (self.scheme.prox_fraction * (b - a)))
        return torch.stack(rows) if rows else solution.x[:0]

    def between(self, solution: Solution, k: int, times: Sequence[float]) -> Tensor:
        """Linear between the ends of the step that holds the time, and moved into the domain of g at that time."""
        save, save_next = solution.t[k:k + 2].tolist()
        steps = None if math.isinf(self.longest) else Fixed(self.longest)
        t = plan(solution.flow.field, [save, save_next], steps).boundaries()
        ends = [bisect_left(t, time) for time in times]
        x = self._states(solution, k, t, sorted({0, *(end - 1 for end in ends), *ends}))
        rows = []
        for end, time in zip(ends, times, strict=True):
            a, b = t[end - 1:end + 1]
            straight = torch.lerp(x[end - 1], x[end], (time - a) / (b - a))
            rows.append(solution.flow.g.prox(straight, 0.0, time))
        return torch.stack(rows)

    def _states(self, solution: Solution, k: int, t: tuple[float, ...], wanted: list[int]) -> dict[int, Tensor]:
        """The states at some step ends between t[k] and t[k + 1]; NaN where the steps had failed."""
        if len(t) == 2:
            return {0: solution.x[k], 1: solution.x[k + 1]}
        again = self.run(solution.x[k], Plan(t[:wanted[-1] + 1], tuple(wanted), self.longest))
        solution.require_again(again, k)
        lost = torch.full_like(solution.x[k], torch.nan)
        return {end: again.x[row] if row < len(again.x) else lost for row, end in enumerate(wanted)}
