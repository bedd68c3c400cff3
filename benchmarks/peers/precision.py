"""Work and precision on one trajectory: the spiral, and random ReLU fields."""

from __future__ import annotations

from typing import Any

import torch

import diffincl as di

from . import nonsmooth, ode
from .ours import Ours, adaptive, fixed
from .problems import F64, Problem, relu_field, spiral
from .rows import Settings, timed

Row = dict[str, Any]
GRID = 400  # intervals of the grid on which sup errors of solvers that choose their steps are taken; else their steps
LIMIT = 100.0  # seconds for one run of a nonsmooth solver
BUDGET = 50_000  # evaluations for one run of an ODE solver: some chatter on the edge of C without end


def spiral_rows(settings: Settings) -> list[Row]:
    """Everyone on the spiral."""
    n, tolerances = ((131, 1049), (1e-5, 1e-8)) if settings.quick else ((131, 1049, 8393), (1e-4, 1e-6, 1e-8, 1e-10))
    nonsmooth_settings = [("solve-nivp", "trapezoid n = 1049", {"n": 1049}),
                          *(("solve-nivp", f"TR-BE tol = {tol:.0e}", {"tol": tol})
                            for tol in ((1e-4,) if settings.quick else (1e-4, 1e-6, 1e-8))),
                          ("nosnoc", "n_s = 2, N = 20", {"stages": 2, "n": 20})]
    if not settings.quick:
        nonsmooth_settings.append(("nosnoc", "n_s = 3, N = 65", {"stages": 3, "n": 65}))
    return rows_of(spiral(), settings, n, tolerances, nonsmooth_settings)


def relu_rows(d: int, settings: Settings) -> list[Row]:
    """Everyone on a random ReLU field."""
    problem = relu_field(d, settings.seed, steps=20_000 if settings.quick else 200_000)
    n, tolerances = ((1000,), (1e-5,)) if settings.quick else ((100, 1000, 10_000), (1e-5, 1e-8))
    nonsmooth_settings = [("solve-nivp", "trapezoid n = 1000", {"n": 1000})]
    if not settings.quick or d == 2:
        nonsmooth_settings.append(("nosnoc", "n_s = 2, N = 40", {"stages": 2, "n": 40}))
    return rows_of(problem, settings, n, tolerances, nonsmooth_settings)


def rows_of(problem: Problem, settings: Settings, n: tuple[int, ...], tolerances: tuple[float, ...],
            nonsmooth_settings: list[tuple[str, str, dict[str, float]]]) -> list[Row]:
    """One row a solver and setting."""
    reference = Reference(problem)
    rows = [of_ours(reference, ours, settings.repeats) for ours in (*fixed(n), *adaptive(tolerances))]
    for solver, run in (("scipy RK45", "RK45"), ("scipy LSODA", "LSODA"), ("torchdiffeq dopri5", None)):
        rows += [of_ode(reference, solver, run, tol, settings.repeats) for tol in tolerances]
    for solver, label, setting in nonsmooth_settings:
        repeats = settings.repeats if solver == "solve-nivp" else 1
        found = nonsmooth.run(settings.python, solver, problem, setting, repeats, LIMIT * repeats)
        rows.append(of_nonsmooth(reference, solver, label, found))
    return rows


class Reference:
    """A problem, its exact end, and its exact states on the common grid."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.grid = torch.linspace(0, problem.horizon, GRID + 1, dtype=F64).tolist()
        self.on_grid, self.end = problem.exact(self.grid), problem.exact([problem.horizon])[0]

    def errors(self, end: torch.Tensor, states: torch.Tensor, times: list[float] | None = None) -> dict[str, float]:
        """Largest entry of the error at the end, and over ``times`` (the grid)."""
        exact = self.on_grid if times is None else self.problem.exact([min(t, self.problem.horizon) for t in times])
        return {"final error": float((end - self.end).abs().max()), "sup error": float((states - exact).abs().max())}


def of_ours(reference: Reference, ours: Ours, repeats: int) -> Row:
    """A scheme of diffincl: timed from start to end; again with all steps, or the grid, saved for the sup error."""
    problem = reference.problem
    flow, ends = problem.flow(), [0.0, problem.horizon]
    with torch.no_grad():
        sol, seconds = timed(lambda: di.solve(flow, problem.x0, ends, scheme=ours.scheme, steps=ours.steps), repeats)
        times = reference.grid
        if ours.rtol is None:
            times = torch.linspace(0, problem.horizon, sol.stats.steps + 1, dtype=F64).tolist()
        saved = di.solve(flow, problem.x0, times, scheme=ours.scheme, steps=ours.steps)
    return {"solver": ours.name, "setting": ours.setting, **reference.errors(sol.x[-1], saved.x, times),
            "seconds": seconds, "evaluations": sol.stats.evaluations, "note": ""}


def of_ode(reference: Reference, solver: str, method: str | None, tol: float, repeats: int) -> Row:
    """An ODE solver on the projected field, in the same two runs."""
    problem = reference.problem

    def run(times: list[float]) -> ode.Outcome:
        if method is None:
            return ode.with_torchdiffeq(problem.velocity, problem.x0, times, tol, BUDGET)
        return ode.with_scipy(problem.velocity, problem.x0, times, method, tol, BUDGET)

    try:
        found, seconds = timed(lambda: run([0.0, problem.horizon]), repeats)
        on_grid = run(reference.grid)
    except ode.OverBudget:
        return empty(solver, f"tol = {tol:.0e}", f"no result after {BUDGET} evaluations")
    if not (found.success and on_grid.success):
        return empty(solver, f"tol = {tol:.0e}", "reports a failure")
    outside = float(-on_grid.x.min())
    return {"solver": solver, "setting": f"tol = {tol:.0e}", **reference.errors(found.x[-1], on_grid.x),
            "seconds": seconds, "evaluations": found.evaluations,
            "note": f"leaves C by {outside:.1e}" if outside > 0 else ""}


def of_nonsmooth(reference: Reference, solver: str, setting: str, found: nonsmooth.Found) -> Row:
    """A nonsmooth solver; its own steps are the grid of its sup error."""
    if found.reason:
        return empty(solver, setting, found.reason)
    return {"solver": solver, "setting": setting, **reference.errors(found.x[-1], found.x, found.t),
            "seconds": found.seconds, "evaluations": found.evaluations, "note": found.note}


def empty(solver: str, setting: str, note: str) -> Row:
    """A row without a result."""
    return {"solver": solver, "setting": setting, "final error": None, "sup error": None, "seconds": None,
            "evaluations": None, "note": note}
