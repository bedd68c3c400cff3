"""What located contacts cost beside solvers of nonsmooth problems and ODE solvers on the projected field, in one run.

    python3 -m venv .venv-peers && .venv-peers/bin/python -m pip install -r benchmarks/requirements.txt   # optional
    python benchmarks/contacts.py [--repeats 5] [--seed 0] [--quick] [--json FILE] [--peers PYTHON]

One trajectory and 2 000 starts of the spiral of theory §6 (two hits, two leaves), every solver at the first of its
settings whose largest error is below 1e-6; 256 reflected components in one solve, everyone at tolerance 1e-5; and
trajectories with more and more contacts. One thread, float64, medians (in brackets minima) over the repeats, in which
all solvers take turns; torchdiffeq on 256 components is timed once.

solve-nivp gets the projection, the exact Jacobian and equal steps of its trapezoid rule or those it chooses, and solves
four of the 2 000 starts one by one, by the trapezoid rule. The ODE solvers get the projected field. diffrax is compiled
before it is timed; it and torchode give every trajectory steps of its own. Where a peer is not installed, its row says
so.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from peers import nonsmooth, projected
from peers.joint import of_torchdiffeq
from peers.problems import F64, reflected, spiral
from peers.rows import Settings, cell, show
from torch import Tensor

import diffincl as di

Row = dict[str, Any]
TARGET = 1e-6
LIMIT = 120.0  # seconds for one call of a peer
ALONE = 4  # of many starts, so many are solved one by one
TOLERANCES = tuple(m * 10.0**-k for k in range(6, 11) for m in (1.0, 0.3))


@dataclass(frozen=True)
class Trial:
    """What one run of a solver gave: the largest error, seconds, evaluations of F; or why there is nothing."""

    error: float
    seconds: float
    evaluations: int | None
    note: str = ""


@dataclass(frozen=True)
class Entry:
    """A solver at one setting, timed over and over; ``share`` of its seconds count."""

    solver: str
    setting: str
    run: Callable[[], Trial]
    share: float = 1.0
    trials: list[Trial] = field(default_factory=list)

    def row(self) -> Row:
        """Medians and minima."""
        seconds = [self.share * trial.seconds for trial in self.trials]
        last = self.trials[-1]
        found = not math.isnan(last.seconds)
        return {"solver": self.solver, "setting": self.setting, "error": last.error if found else None,
                "ms": 1e3 * statistics.median(seconds) if found else None,
                "least ms": 1e3 * min(seconds) if found else None, "evaluations": last.evaluations, "note": last.note}


def lost(reason: str) -> Trial:
    return Trial(math.inf, math.nan, None, reason)


def ours(flow: di.Inclusion, x0: Tensor, horizon: float, exact: Tensor, tol: float) -> Trial:
    """SwitchingDP5, and its largest error over all samples."""
    start = time.perf_counter()
    sol = di.solve(flow, x0, [0.0, horizon], scheme=di.SwitchingDP5(), steps=di.Adaptive(tol, tol))
    seconds = time.perf_counter() - start
    return Trial(float((sol.x[-1] - exact).abs().max()), seconds, sol.stats.evaluations)


def nivp(python: str, starts: Tensor, exact: Tensor, setting: dict[str, float]) -> Trial:
    """solve-nivp on the spiral from starts one by one; seconds a start."""
    errors, seconds, evaluations, note = [], [], None, ""
    for x0, end in zip(starts, exact, strict=True):
        problem = replace(spiral(), x0=x0)
        found = nonsmooth.run(python, "solve-nivp", problem, setting, 1, LIMIT)
        if found.reason:
            return lost(found.reason)
        errors.append(float((found.x[-1] - end).abs().max()))
        seconds.append(found.seconds)
        evaluations, note = found.evaluations, found.note
    return Trial(max(errors), statistics.mean(seconds), evaluations, note)


def in_worker(python: str, solver: str, weights: dict[str, Any], x0: Tensor, horizon: float, exact: Tensor,
              tol: float) -> Trial:
    """torchode or diffrax, all rows of ``x0`` in one solve."""
    found = projected.run(python, solver, weights, x0, horizon, tol, 1, LIMIT)
    if isinstance(found, str):
        return lost(found)
    note = f"{found['failed']} reported as failed" if found["failed"] else ""
    return Trial(float((found["x"] - exact).abs().max()), found["seconds"][0], found["evaluations"], note)


def tightened(solver: str, settings: Iterable[tuple[str, Callable[[], Trial]]], share: float = 1.0) -> Entry:
    """The solver at the first setting with an error below the target; where there is none, at the last one."""
    for setting, run in settings:
        entry = Entry(solver, setting, run, share, [run()])
        if entry.trials[0].error < TARGET or entry.trials[0].note == "not installed":
            break
    return entry


def race(entries: list[Entry], repeats: int) -> list[Row]:
    """All entries in turn, over and over; what was run to find the settings does not count."""
    for entry in entries:
        if math.isnan(entry.trials[0].seconds):
            continue
        entry.trials.clear()
    for _ in range(repeats):
        for entry in entries:
            if not (entry.trials and math.isnan(entry.trials[0].seconds)):
                entry.trials.append(entry.run())
    return [entry.row() for entry in entries]


def by_tolerance(run: Callable[[float], Trial], tolerances: tuple[float, ...] = TOLERANCES
                 ) -> list[tuple[str, Callable[[], Trial]]]:
    return [(f"tol = {tol:.0e}", lambda tol=tol: run(tol)) for tol in tolerances]


def equal_steps(settings: Settings, starts: Tensor, exact: Tensor) -> Entry:
    """solve-nivp's trapezoid rule."""
    return tightened("solve-nivp", [
        (f"trapezoid n = {n}", lambda n=n: nivp(settings.python, starts, exact, {"n": n}))
        for n in (2500, 3300, 4000, 5000, 8000, 20000)])


def own_steps(settings: Settings, starts: Tensor, exact: Tensor) -> Entry:
    """solve-nivp with the steps that it chooses."""
    return tightened("solve-nivp", [
        (f"TR-BE tol = {tol:.0e}", lambda tol=tol: nivp(settings.python, starts, exact, {"tol": tol}))
        for tol in (3e-9, 1e-9, 3e-10, 1e-10)])


def one_rows(settings: Settings) -> list[Row]:
    """One trajectory of the spiral at equal error."""
    problem, flow = spiral(), spiral().flow()
    x0, end = problem.x0, problem.exact([problem.horizon])[0]
    entries = [tightened("diffincl SwitchingDP5", by_tolerance(lambda tol: ours(flow, x0, 4.0, end, tol))),
               equal_steps(settings, x0[None], end[None]), own_steps(settings, x0[None], end[None])]
    for solver in projected.SOLVERS:
        entries.append(tightened(solver, by_tolerance(
            lambda tol, s=solver: in_worker(settings.python, s, problem.weights, x0[None], 4.0, end[None], tol),
            TOLERANCES[2:])))
    return race(entries, settings.repeats)


def many_rows(settings: Settings) -> list[Row]:
    """Many starts of the spiral, uniform in [0, 3]²; milliseconds a trajectory, errors the largest of all."""
    problem, flow, n = spiral(), spiral().flow(), 200 if settings.quick else 2000
    x0 = 3 * torch.rand(n, 2, generator=torch.Generator().manual_seed(settings.seed), dtype=F64)
    exact = di.solve(flow, x0, [0.0, 4.0], scheme=di.SwitchingDP5(), steps=di.Adaptive(1e-12, 1e-12)).x[-1]
    some = slice(None, 2 if settings.quick else ALONE)
    entries = [tightened("diffincl SwitchingDP5", by_tolerance(lambda tol: ours(flow, x0, 4.0, exact, tol)), 1 / n),
               equal_steps(settings, x0[some], exact[some])]
    for solver in projected.SOLVERS:
        entries.append(tightened(solver, by_tolerance(
            lambda tol, s=solver: in_worker(settings.python, s, problem.weights, x0, 4.0, exact, tol),
            TOLERANCES[2:]), 1 / n))
    return race(entries, min(settings.repeats, 3))


def joint_rows(settings: Settings) -> list[Row]:
    """Reflected components x' = cos(t + φ) − 1/4, each in contact once a period, all in one solve: everyone at one
    tolerance, and ours at the loosest one that leaves it more accurate than torchdiffeq."""
    n, tol = 32 if settings.quick else 256, 1e-5
    problem = reflected(n, settings.seed, 8 * math.pi, drift=0.25)
    exact, flow = problem.exact(problem.horizon), di.Inclusion.from_velocity(problem.velocity, di.Orthant())
    weights = {"phase": problem.phase, "drift": problem.drift}

    def entry(solver: str, run: Callable[[], Trial]) -> Entry:
        return Entry(solver, f"tol = {tol:.0e}", run, trials=[run()])

    entries = [entry("diffincl SwitchingDP5", lambda: ours(flow, problem.x0, problem.horizon, exact, tol)),
               *(entry(s, lambda s=s: in_worker(settings.python, s, weights, problem.x0, problem.horizon, exact, tol))
                 for s in projected.SOLVERS)]
    peer = of_torchdiffeq(problem, exact, n, 120_000)
    loose = next(tol for tol in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
                 if ours(flow, problem.x0, problem.horizon, exact, tol).error <= (peer["final error"] or math.inf))
    entries.insert(1, replace(entry("diffincl SwitchingDP5", lambda: ours(
        flow, problem.x0, problem.horizon, exact, loose)), setting=f"tol = {loose:.0e}"))
    ms = None if peer["seconds"] is None else 1e3 * peer["seconds"]
    return [*race(entries, settings.repeats),
            {"solver": peer["solver"], "setting": peer["setting"], "error": peer["final error"], "ms": ms,
             "least ms": ms, "evaluations": peer["evaluations"], "note": peer["note"]}]


def contact_rows(settings: Settings) -> list[Row]:
    """Longer and longer trajectories, one contact (a hit and a leave) a period."""
    rows = []
    for n in (1, 256):
        for periods in (4, 16) if settings.quick else (4, 16, 64, 256):
            problem = reflected(n, settings.seed, 2 * math.pi * periods, drift=0.25)
            flow = di.Inclusion.from_velocity(problem.velocity, di.Orthant())
            exact = problem.exact(problem.horizon)
            trials = [ours(flow, problem.x0, problem.horizon, exact, 1e-6) for _ in range(min(settings.repeats, 3))]
            seconds = statistics.median(trial.seconds for trial in trials)
            rows.append({"trajectories": n, "contacts of each": periods, "error": trials[0].error, "ms": 1e3 * seconds,
                         "µs a contact": 1e6 * seconds / periods / n})
    return rows


def against(mine: Row, rows: list[Row], wanted: float, names: tuple[str, ...]) -> list[str]:
    """peer/ours of medians and of minima; the best row of a peer counts."""
    lines = []
    for name in dict.fromkeys(row["solver"] for row in rows if not row["solver"].startswith("diffincl")):
        timed = [row for row in rows if row["solver"] == name and row["ms"] is not None]
        right = [row for row in timed if row["error"] < TARGET] or timed
        if right:
            best = min(right, key=lambda row: row["ms"])
            goal = f", wanted at least {wanted:g}" if name in names else ""
            lines.append(f"  {name} / diffincl {mine['setting']}: {cell(best['ms'] / mine['ms'])} "
                         f"(minima {cell(best['least ms'] / mine['least ms'])}){goal}; errors {cell(best['error'])} "
                         f"and {cell(mine['error'])}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="fewer starts, components, contacts and repeats")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--peers", metavar="PYTHON", default=".venv-peers/bin/python",
                        help="Python of the environment with solve-nivp, torchode and diffrax")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings(options.seed, min(2, options.repeats) if options.quick else options.repeats, options.quick,
                        options.peers)
    tables: dict[str, list[Row]] = {}
    with torch.no_grad():
        for title, make, wanted, names in (
                ("one trajectory, errors below 1e-6", one_rows, 3, ("solve-nivp",)),
                ("many trajectories, errors below 1e-6, ms a trajectory", many_rows, 300, ("solve-nivp",)),
                ("reflected components in one solve, tolerance 1e-5", joint_rows, 20, ("torchdiffeq dopri5",))):
            tables[title] = make(settings)
            show(title, tables[title])
            for mine in tables[title]:
                if mine["solver"].startswith("diffincl"):
                    print("\n".join(against(mine, tables[title], wanted, names)), flush=True)
        tables["more and more contacts, tolerance 1e-6"] = contact_rows(settings)
        show("more and more contacts, tolerance 1e-6", tables["more and more contacts, tolerance 1e-6"])
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": platform.processor() or platform.machine(), "python": sys.version.split()[0],
                       "torch": torch.__version__, "options": vars(options), "tables": tables}, file, indent=1)


if __name__ == "__main__":
    main()
