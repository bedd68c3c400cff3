"""Gradients through a contact: x' = a cos t on x >= 0, x(0) = ½, T = 2π ends at x(T) = a, so dx(T)/dx0 = 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchdiffeq import odeint, odeint_adjoint

import diffincl as di

from .ours import adaptive, fixed
from .problems import F64
from .rows import Settings, timed

Row = dict[str, Any]
T = 2 * math.pi


class Cosine(torch.nn.Module):
    """a cos t, where asked projected to the tangent cone of x >= 0."""

    def __init__(self, a: Tensor, projected: bool):
        super().__init__()
        self.a, self.projected = torch.nn.Parameter(a), projected

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        v = (self.a * torch.cos(t)).expand_as(x)
        return torch.where(x > 0, v, torch.relu(v)) if self.projected else v


def gradient_rows(settings: Settings) -> list[Row]:
    """dx(T)/dx0 and dx(T)/da of everyone."""
    rows = [measure(ours.name, ours.setting, False, by_diffincl(ours.scheme, ours.steps), settings)
            for ours in (*fixed((1000,)), *adaptive((1e-6,)))]
    for lam in (1e-2, 1e-3):
        rows.append(measure("diffincl Penalty dopri5", f"lam = {lam:.0e}", False, by_penalty(lam), settings))
    for name, solve in (("torchdiffeq backprop", odeint), ("torchdiffeq adjoint", odeint_adjoint)):
        rows.append(measure(name, "tol = 1e-06", True, by_torchdiffeq(solve), settings))
    return rows


def by_diffincl(scheme: Any, steps: Any) -> Callable[[Cosine, Tensor], Tensor]:
    return lambda v, x0: di.solve(di.Inclusion.from_velocity(v, di.Orthant()), x0, [0.0, T], scheme=scheme,
                                  steps=steps).x[-1]


def by_penalty(lam: float) -> Callable[[Cosine, Tensor], Tensor]:
    return lambda v, x0: di.Penalty(lam).integrate(di.Inclusion.from_velocity(v, di.Orthant()), x0, [0.0, T])[0][-1]


def by_torchdiffeq(solve: Callable[..., Tensor]) -> Callable[[Cosine, Tensor], Tensor]:
    t = torch.tensor([0.0, T], dtype=F64)
    return lambda v, x0: solve(v, x0, t, rtol=1e-6, atol=1e-6, method="dopri5")[-1]


def measure(solver: str, setting: str, projected: bool, end: Callable[[Cosine, Tensor], Tensor],
            settings: Settings) -> Row:
    """Both derivatives at a = 1."""
    def run() -> tuple[float, float, float]:
        v, x0 = Cosine(torch.ones(1, dtype=F64), projected), torch.full((1,), 0.5, dtype=F64, requires_grad=True)
        x = end(v, x0)
        x.sum().backward()
        return float(x.detach()), float(x0.grad), float(v.a.grad)  # type: ignore[arg-type]

    (x, dx0, da), seconds = timed(run, settings.repeats)
    return {"solver": solver, "setting": setting, "x(T), exact 1": x, "dx(T)/dx0, exact 0": dx0,
            "dx(T)/da, exact 1": da, "seconds": seconds}
