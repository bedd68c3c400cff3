"""Runs one nonsmooth solver on one problem: JSON on standard input, JSON on standard output.

It runs in the environment of benchmarks/requirements.txt, which does not have diffincl. The problem is
x' = b2 − A2 σ(A1 x + b1) (σ and A1 may be missing), reflected at x >= 0.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time

import numpy as np


class Affine:
    """The velocity and its Jacobian, counted."""

    def __init__(self, weights: dict[str, list]):
        self.w = {name: np.array(value) for name, value in weights.items()}
        self.evaluations = 0

    def __call__(self, t: float, x: np.ndarray) -> np.ndarray:
        self.evaluations += 1
        hidden = np.maximum(self.w["A1"] @ x + self.w["b1"], 0) if "A1" in self.w else x
        return self.w["b2"] - self.w["A2"] @ hidden

    def jacobian(self, t: float, x: np.ndarray) -> np.ndarray:
        if "A1" not in self.w:
            return -self.w["A2"]
        active = (self.w["A1"] @ x + self.w["b1"] > 0).astype(float)
        return -self.w["A2"] @ (active[:, None] * self.w["A1"])


def with_solve_nivp(task: dict) -> dict:
    """Semismooth Newton with the projection onto the orthant and the exact Jacobian."""
    from solve_nivp import CompositeMethod, ImplicitEquationSolver, ODESolver, ODESystem, Trapezoidal
    from solve_nivp.projections import Projection

    class Orthant(Projection):
        def project(self, state, candidate, **context):
            return np.maximum(candidate, 0)

        def tangent_cone(self, candidate, state, **context):
            return np.diag((np.asarray(candidate) > 0).astype(float))

    velocity, tol = Affine(task["weights"]), task.get("tol")
    newton = ImplicitEquationSolver(method="semismooth_newton", proj=Orthant(), adaptive_lam=False)
    newton.rhs_jacobian = velocity.jacobian
    method = Trapezoidal(solver=newton) if tol is None else CompositeMethod(solver=newton)
    adaptive = {"adaptive": False} if tol is None else {"adaptive": True, "rtol": tol, "atol": tol}
    system = ODESystem(velocity, np.array(task["x0"]), method=method, **adaptive)
    first = 1e-2 if tol is not None else task["horizon"] / task["n"]
    start = time.perf_counter()
    t, x, _, _, info = ODESolver(system, (0.0, task["horizon"]), h=first).solve()
    seconds = time.perf_counter() - start
    failed = sum(not step[1] for step in info)
    return {"t": t.tolist(), "x": x.tolist(), "seconds": seconds, "evaluations": velocity.evaluations,
            "note": f"{failed} of {len(info)} steps did not converge" if failed else ""}


def with_nosnoc(task: dict) -> dict:
    """FESD with step functions: where x_i < 0 the velocity is a push K inward, so that x_i slides along zero."""
    import casadi as ca
    import nosnoc

    w = {name: np.array(value) for name, value in task["weights"].items()}
    x, steps = ca.SX.sym("x", len(task["x0"])), task["n"]
    inside = ca.SX.sym("inside", x.numel())
    hidden, alphas, kinks = x, [inside], [x]
    if "A1" in w:
        active = ca.SX.sym("active", len(w["b1"]))
        before = w["A1"] @ x + w["b1"]
        hidden, alphas, kinks = active * before, [inside, active], [x, before]
    push = 10.0
    f = inside * (w["b2"] - w["A2"] @ hidden) + (1 - inside) * push
    options = nosnoc.NosnocOpts()
    options.pss_mode, options.print_level = nosnoc.PssMode.STEP, 0
    options.n_s, options.N_finite_elements, options.terminal_time = task["stages"], 2, task["horizon"] / steps
    model = nosnoc.NosnocModel(x=x, x0=np.array(task["x0"]), f_x=[f], c=[ca.vertcat(*kinks)],
                               alpha=[ca.vertcat(*alphas)])
    loop = nosnoc.NosnocSimLooper(nosnoc.NosnocSolver(options, model), np.array(task["x0"]), steps)
    start = time.perf_counter()
    loop.run()
    seconds, found = time.perf_counter() - start, loop.get_results()
    failed = sum(status != nosnoc.Status.SUCCESS for status in found["status"])
    return {"t": found["t_grid"].tolist(), "x": found["X_sim"].tolist(), "seconds": seconds, "evaluations": None,
            "note": f"{failed} of {steps} programs not solved" if failed else ""}


def main() -> None:
    task = json.load(sys.stdin)
    run = {"solve-nivp": with_solve_nivp, "nosnoc": with_nosnoc}[task["solver"]]
    # Both print, nosnoc's IPOPT from C: keep standard output for the answer alone.
    answer = os.dup(1)
    os.dup2(2, 1)
    with contextlib.redirect_stdout(sys.stderr):
        runs = [run(task) for _ in range(task["repeats"])]
    result = runs[-1] | {"seconds": float(np.median([r["seconds"] for r in runs]))}
    with os.fdopen(answer, "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
