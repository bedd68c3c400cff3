"""Runs torchode or diffrax on the projected field of one problem: JSON on standard input, JSON on standard output.

It runs in the environment of benchmarks/requirements.txt, which does not have diffincl. Every row of ``x0`` is a
trajectory of its own with steps of its own, all in one call. The problem is x' = b − Ax or x' = cos(t + phase) − drift,
reflected at x >= 0; the solvers get v where x > 0 and max(v, 0) at x <= 0.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

MAX_STEPS = 100_000


def measured(run: Callable[[], dict], repeats: int) -> dict:
    """The last result and the seconds of every run; one before them compiles."""
    seconds = []
    run()
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - start)
    return result | {"seconds": seconds}


def with_torchode(task: dict) -> dict:
    """dopri5 with an integral controller, as in torchode's documentation."""
    import torch
    import torchode

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    weights = {name: torch.tensor(value) for name, value in task["weights"].items()}
    x0 = torch.tensor(task["x0"])

    def projected(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        v = (weights["b2"] - x @ weights["A2"].T if "A2" in weights
             else torch.cos(t.unsqueeze(-1) + weights["phase"]) - weights["drift"])
        return torch.where(x > 0, v, torch.relu(v))

    term = torchode.ODETerm(projected)
    controller = torchode.IntegralController(atol=task["tol"], rtol=task["tol"], term=term)
    solver = torchode.AutoDiffAdjoint(torchode.Dopri5(term=term), controller, max_steps=MAX_STEPS)
    ends = torch.zeros(len(x0)), torch.full((len(x0),), task["horizon"])

    def run() -> dict:
        with torch.no_grad():
            found = solver.solve(torchode.InitialValueProblem(y0=x0, t_start=ends[0], t_end=ends[1]))
        return {"x": found.ys[:, -1].tolist(), "evaluations": int(found.stats["n_f_evals"].max()),
                "failed": int((found.status != 0).sum())}

    return measured(run, task["repeats"])


def with_diffrax(task: dict) -> dict:
    """Dopri5 with a PID controller, vmapped over the trajectories and compiled."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    import diffrax

    weights = {name: jnp.array(value) for name, value in task["weights"].items()}
    x0, phase = jnp.array(task["x0"]), jnp.array(task["weights"].get("phase", [[0.0]] * len(task["x0"])))

    def projected(t: float, x: jax.Array, phase: jax.Array) -> jax.Array:
        v = weights["b2"] - weights["A2"] @ x if "A2" in weights else jnp.cos(t + phase) - weights["drift"]
        return jnp.where(x > 0, v, jnp.maximum(v, 0))

    def solve(x: jax.Array, phase: jax.Array) -> tuple:
        found = diffrax.diffeqsolve(diffrax.ODETerm(projected), diffrax.Dopri5(), 0.0, task["horizon"], None, x,
                                    args=phase, max_steps=MAX_STEPS, throw=False,
                                    stepsize_controller=diffrax.PIDController(rtol=task["tol"], atol=task["tol"]))
        return found.ys[-1], found.stats["num_steps"], found.result == diffrax.RESULTS.successful

    compiled = jax.jit(jax.vmap(solve))

    def run() -> dict:
        x, steps, fine = jax.block_until_ready(compiled(x0, phase))
        return {"x": x.tolist(), "evaluations": 6 * int(steps.max()), "failed": int((~fine).sum())}

    return measured(run, task["repeats"])


def main() -> None:
    task = json.load(sys.stdin)
    json.dump({"torchode": with_torchode, "diffrax": with_diffrax}[task["solver"]](task), sys.stdout)


if __name__ == "__main__":
    main()
