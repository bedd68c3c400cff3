"""Many trajectories in one solve, each with its own steps and switches, beside the same ones one by one."""

from __future__ import annotations

from typing import Any

import torch

import diffincl as di

from . import ode
from .problems import F64
from .rows import Settings, timed

Row = dict[str, Any]
TRAJECTORIES, D, TOL = 2000, 10, 1e-4
SOME = 50  # of them are solved one by one


def batch_rows(settings: Settings) -> list[Row]:
    """A random ReLU field on the orthant from many starts; seconds a trajectory."""
    field, x0 = problem(settings)
    flow = di.Inclusion(field, di.Orthant())

    def solve(x: torch.Tensor) -> di.Solution:
        with torch.no_grad():
            return di.solve(flow, x, [0.0, 1.0], scheme=di.SwitchingDP5(), steps=di.Adaptive(TOL, TOL))

    together, seconds = timed(lambda: solve(x0), settings.repeats)
    alone, gradual = timed(lambda: torch.stack([solve(x).x[-1] for x in x0[:SOME]]), settings.repeats)
    apart = float((together.x[-1][:SOME] - alone).abs().max())

    def velocity(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return -field(0.0, x)

    peer, slow = timed(lambda: torch.stack([ode.with_scipy(velocity, x, [0.0, 1.0], "RK45", TOL, 50_000).x[-1]
                                            for x in x0[:SOME]]), 1)
    each, own = seconds / len(x0), gradual / SOME
    return [
        {"solver": "diffincl SwitchingDP5", "setting": f"{len(x0)} together", "ms a trajectory": 1e3 * each,
         "slower than together": 1.0, "largest difference": 0.0},
        {"solver": "diffincl SwitchingDP5", "setting": "one by one", "ms a trajectory": 1e3 * own,
         "slower than together": own / each, "largest difference": apart},
        {"solver": "scipy RK45, projected field", "setting": "one by one", "ms a trajectory": 1e3 * slow / SOME,
         "slower than together": slow / SOME / each,
         "largest difference": float((together.x[-1][:SOME] - peer).abs().max())},
    ]


def problem(settings: Settings) -> tuple[di.ResNetField, torch.Tensor]:
    """A field of width 20 in dimension 10 and starts in the unit cube."""
    generator = torch.Generator().manual_seed(settings.seed)
    shapes = (((2 * D, D), 1.5 / D**0.5), ((2 * D,), 1.0), ((D, 2 * D), 1.5 / (2 * D) ** 0.5), ((D,), 1.0))
    weights = [scale * torch.randn(shape, generator=generator, dtype=F64) for shape, scale in shapes]
    n = 200 if settings.quick else TRAJECTORIES
    return di.ResNetField(*weights), torch.rand(n, D, generator=generator, dtype=F64)
