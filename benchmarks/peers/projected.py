"""torchode and diffrax on the projected field, in a subprocess of their own environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import nonsmooth

WORKER = Path(__file__).with_name("projected_worker.py")
SOLVERS = ("torchode", "diffrax")


def run(python: str, solver: str, weights: dict[str, Any], x0: Tensor, horizon: float, tol: float, repeats: int,
        limit: float) -> dict[str, Any] | str:
    """All trajectories, the rows of ``x0``, in one solve: their ends ``x``, the ``seconds`` of every run, the most
    ``evaluations`` of one and how many ``failed``; or the reason why there is nothing."""
    if not nonsmooth.installed(python, solver):
        return "not installed"
    plain = {name: w.tolist() if isinstance(w, Tensor) else w for name, w in weights.items()}
    task = {"solver": solver, "weights": plain, "x0": x0.tolist(), "horizon": horizon, "tol": tol, "repeats": repeats}
    found = nonsmooth.ask(python, WORKER, task, limit)
    return found if isinstance(found, str) else found | {"x": torch.tensor(found["x"], dtype=x0.dtype)}
