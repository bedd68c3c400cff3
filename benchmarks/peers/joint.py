"""N reflected components in one solve, each in contact once a period: what that costs a solver with one step size."""

from __future__ import annotations

import math
from typing import Any

import torch

import diffincl as di

from . import ode
from .ours import adaptive, fixed
from .problems import reflected
from .rows import Settings, timed

Row = dict[str, Any]
TOL = 1e-5


def joint_rows(settings: Settings) -> list[Row]:
    """N components as a batch (N, 1) of one solve."""
    rows = []
    budget = 20_000 if settings.quick else 120_000
    for n in (1, 16, 256) if settings.quick else (1, 16, 256, 4096):
        problem = reflected(n, settings.seed, 8 * math.pi, drift=0.25)
        exact = problem.exact(problem.horizon)
        flow = di.Inclusion.from_velocity(problem.velocity, di.Orthant())
        for ours in (*fixed((5000,)), *adaptive((TOL,))):
            def solve(ours=ours, flow=flow, problem=problem):
                with torch.no_grad():
                    return di.solve(flow, problem.x0, [0.0, problem.horizon], scheme=ours.scheme, steps=ours.steps)

            sol, seconds = timed(solve, settings.repeats)
            rows.append({"solver": ours.name, "setting": ours.setting, "N": n, "evaluations": sol.stats.evaluations,
                         "seconds": seconds, "final error": float((sol.x[-1] - exact).abs().max()), "note": ""})
        rows.append(of_torchdiffeq(problem, exact, n, budget))
    return rows


def one_state_rows(settings: Settings) -> list[Row]:
    """The same components as one state (N,) with steps that all of them share: no two of them switch together."""
    rows = []
    for n in (16, 256) if settings.quick else (256, 4096):
        problem = reflected(n, settings.seed, 8 * math.pi, drift=0.25)
        exact = problem.exact(problem.horizon)[:, 0]
        flow = di.Inclusion.from_velocity(lambda t, x, p=problem: p.velocity(t, x)[:, 0], di.Orthant())
        for ours in (*fixed((5000,)), *adaptive((TOL,))):
            def solve(ours=ours, flow=flow, problem=problem):
                with torch.no_grad():
                    return di.solve(flow, problem.x0[:, 0], [0.0, problem.horizon], scheme=ours.scheme,
                                    steps=ours.steps)

            sol, seconds = timed(solve, 1)
            rows.append({"solver": ours.name, "setting": ours.setting, "N": n, "evaluations": sol.stats.evaluations,
                         "switches": len(sol.switches) if sol.switches else None, "seconds": seconds,
                         "final error": float((sol.x[-1] - exact).abs().max())})
    return rows


def of_torchdiffeq(problem: Any, exact: torch.Tensor, n: int, budget: int) -> Row:
    """dopri5 of torchdiffeq on the projected field, run once (it takes long), within a budget of evaluations."""
    result = {"solver": "torchdiffeq dopri5", "setting": f"tol = {TOL:.0e}", "N": n}
    try:
        found, seconds = timed(lambda: ode.with_torchdiffeq(problem.velocity, problem.x0, [0.0, problem.horizon], TOL,
                                                            budget), 1)
    except ode.OverBudget:
        return {**result, "evaluations": budget, "seconds": None, "final error": None, "note": "no result"}
    error = float((found.x[-1] - exact).abs().max())
    return {**result, "evaluations": found.evaluations, "seconds": seconds, "final error": error,
            "note": "" if found.success else "reports a failure"}
