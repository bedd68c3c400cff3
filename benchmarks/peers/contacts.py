"""How many of 256 reflected scalar problems come out wrong while the solver reports success."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

import diffincl as di

from . import ode
from .ours import adaptive, fixed
from .problems import F64, Reflected, reflected
from .rows import Settings, timed

Row = dict[str, Any]


def contact_rows(settings: Settings) -> list[Row]:
    """ODE solvers one problem at a time; diffincl all at once (and each with its own steps where they are adaptive)."""
    problem = reflected(32 if settings.quick else 256, settings.seed, 4 * math.pi)
    times = torch.linspace(0, problem.horizon, 65, dtype=F64).tolist()
    exact = torch.stack([problem.exact(t) for t in times])[..., 0]
    rows = []
    flow = di.Inclusion.from_velocity(problem.velocity, di.Orthant())
    for ours in (*fixed((2000,)), *adaptive((1e-3, 1e-7))):
        def solve(ours=ours):
            with torch.no_grad():
                return di.solve(flow, problem.x0, times, scheme=ours.scheme, steps=ours.steps, throw=False)

        sol, seconds = timed(solve, settings.repeats)
        rows.append(row(ours.name, ours.setting, ours.rtol, sol.x[..., 0] - exact, sol.status.ravel() == 0, seconds))
    for solver in ("scipy RK45", "scipy LSODA", "torchdiffeq dopri5"):
        for tol in (1e-3, 1e-7):
            (x, success), seconds = timed(lambda s=solver, tol=tol: one_by_one(problem, times, s, tol), 1)
            rows.append(row(solver, f"tol = {tol:.0e}", tol, x - exact, success, seconds))
    return rows


def one_by_one(problem: Reflected, times: list[float], solver: str, tol: float) -> tuple[Tensor, Tensor]:
    """States (T, n) and whether each solve says that it succeeded."""
    found, budget = [], 50_000
    for phase, x0 in zip(problem.phase, problem.x0, strict=True):
        def velocity(t: Tensor, x: Tensor, phase: Tensor = phase) -> Tensor:
            return torch.cos(t + phase).expand_as(x)

        try:
            if solver.startswith("scipy"):
                found.append(ode.with_scipy(velocity, x0, times, solver.split()[1], tol, budget))
            else:
                found.append(ode.with_torchdiffeq(velocity, x0, times, tol, budget))
        except ode.OverBudget:  # never ends: no wrong answer, but none either
            found.append(ode.Outcome(x0.new_full((len(times), 1), torch.nan), budget, False))
    return (torch.cat([outcome.x for outcome in found], dim=1), torch.tensor([outcome.success for outcome in found]))


def row(solver: str, setting: str, tol: float | None, difference: Tensor, success: Tensor, seconds: float) -> Row:
    """Count the wrong ones among those that are reported as right."""
    errors = difference.abs().amax(0)[success]
    return {"solver": solver, "setting": setting, "reported as right": len(errors),
            "beyond 1e-3": int((errors > 1e-3).sum()),
            "beyond 20 tol": None if tol is None else int((errors > 20 * tol).sum()),
            "worst error": float(errors.max()), "seconds": seconds}
