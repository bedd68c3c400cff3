"""solve-nivp and nosnoc, in a subprocess of their own environment."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .problems import F64, Problem

WORKER = Path(__file__).with_name("nonsmooth_worker.py")
MODULES = {"solve-nivp": "solve_nivp", "nosnoc": "nosnoc", "torchode": "torchode", "diffrax": "diffrax"}


@dataclass(frozen=True)
class Found:
    """What a solver returned; ``reason`` says why there is nothing."""

    t: list[float]
    x: Tensor
    seconds: float
    evaluations: int | None
    note: str
    reason: str = ""


def missing(reason: str) -> Found:
    """No result."""
    return Found([], torch.empty(0), float("nan"), None, "", reason)


@cache
def installed(python: str, solver: str) -> bool:
    """Whether the environment of the peers has the solver."""
    try:
        return subprocess.run([python, "-c", f"import {MODULES[solver]}"], capture_output=True).returncode == 0
    except OSError:
        return False


def run(python: str, solver: str, problem: Problem, setting: dict[str, float], repeats: int, limit: float) -> Found:
    """One solver with one setting, within ``limit`` seconds for all repeats.

    An end within 1e-6 of the horizon counts: nosnoc's step lengths are unknowns of its programs and do not add up.
    """
    if not installed(python, solver):
        return missing("not installed")
    task = {"solver": solver, "weights": {name: w.tolist() for name, w in problem.weights.items()},
            "x0": problem.x0.tolist(), "horizon": problem.horizon, "repeats": repeats, **setting}
    found = ask(python, WORKER, task, limit)
    if isinstance(found, str):
        return missing(found)
    if found["t"][-1] < problem.horizon * (1 - 1e-6):
        return missing(f"ended at t = {found['t'][-1]:.6g}; {found['note']}")
    return Found(found["t"], torch.tensor(found["x"], dtype=F64), found["seconds"], found["evaluations"], found["note"])


def ask(python: str, worker: Path, task: dict[str, Any], limit: float) -> dict[str, Any] | str:
    """What a worker answers to a task on one thread, or the reason why it does not."""
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu",
                  "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}
    try:
        done = subprocess.run([python, str(worker)], input=json.dumps(task), capture_output=True, text=True,
                              timeout=limit, env=one_thread)
    except subprocess.TimeoutExpired:
        return f"no result in {limit:g} s"
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1][:60]}"
    return json.loads(done.stdout)
