"""Solutions of the penalised ODE in the form of all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..inclusion import Inclusion
from ..penalty import Penalty, PenaltyError
from ..solution import FIELD_NOT_FINITE, OK, REASONS, STEP_FAILED, Solution, Stats
from ..steps import Plan

__all__ = ["solve_penalised"]


@dataclass(frozen=True, eq=False)
class Penalised:
    """The penalty force as multiplier; states between save times are interpolated."""

    scheme: Penalty

    def multiplier(self, solution: Solution) -> Tensor:
        """(x − prox_{λg}(x))/λ."""
        rows = [self.scheme.multiplier(solution.flow, t, x)
                for t, x in zip(solution.t[1:], solution.x[1:], strict=True)]
        return torch.stack(rows) if rows else solution.x[:0]

    def between(self, solution: Solution, k: int, times: Sequence[float]) -> Tensor:
        """Linear: a penalised state may lie outside C, where no integration starts."""
        a, b = float(solution.t[k]), float(solution.t[k + 1])
        return torch.stack([torch.lerp(solution.x[k], solution.x[k + 1], (time - a) / (b - a)) for time in times])


def solve_penalised(flow: Inclusion, x0: Tensor, layout: Plan, scheme: Penalty, progress: bool) -> Solution:
    """Integrate the penalised ODE, as one system: if one sample stops it, all stop there."""
    times, message, evaluations = layout.times(), "success", 0
    status = torch.full(x0.shape[:-1], OK, dtype=torch.int8, device=x0.device)
    try:
        x, evaluations = scheme.integrate(flow, x0, times, progress=progress)
    except PenaltyError as error:
        x, message = error.states, str(error)
        status = torch.where(error.at_fault, FIELD_NOT_FINITE, STEP_FAILED).to(torch.int8)
    t = torch.tensor(times[:len(x)], dtype=torch.float64)
    reached = torch.full(status.shape, float(t[-1]), dtype=torch.float64, device=x0.device)
    stats = Stats(len(t) - 1, evaluations, evaluations)
    reasons = {**REASONS, STEP_FAILED: f"{message} The batch is one system: if one sample stops it, all stop there"}
    return Solution(t, x, status, message, stats, flow, Penalised(scheme), reached, reasons)
