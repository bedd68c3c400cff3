"""ODE solvers on the projected field: v where x > 0, max(v, 0) at x <= 0, what their users write today."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torchdiffeq import odeint

from .problems import Velocity


class OverBudget(Exception):
    """More evaluations than were allowed."""


class Projected:
    """The tangent-cone-projected field, counted."""

    def __init__(self, velocity: Velocity, budget: float = float("inf")):
        self.velocity, self.budget, self.evaluations = velocity, budget, 0

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        self.evaluations += 1
        if self.evaluations > self.budget:
            raise OverBudget
        v = self.velocity(t, x)
        return torch.where(x > 0, v, torch.relu(v))

    def on_arrays(self, t: float, x: np.ndarray) -> np.ndarray:
        """The same for scipy."""
        return self(torch.tensor(t, dtype=torch.float64), torch.from_numpy(x)).numpy()


@dataclass(frozen=True)
class Outcome:
    """States at the times asked for, evaluations, and whether the solver says that it succeeded."""

    x: Tensor
    evaluations: int
    success: bool


def with_scipy(velocity: Velocity, x0: Tensor, times: list[float], method: str, tol: float,
               budget: float = float("inf")) -> Outcome:
    """scipy.integrate.solve_ivp of a state (d,); raises OverBudget."""
    field = Projected(velocity, budget)
    options: dict[str, Any] = {"method": method, "rtol": tol, "atol": tol, "t_eval": times}
    with torch.no_grad():
        found = solve_ivp(field.on_arrays, (times[0], times[-1]), x0.numpy(), **options)
    return Outcome(torch.from_numpy(found.y.T.copy()), field.evaluations, bool(found.success))


def with_torchdiffeq(velocity: Velocity, x0: Tensor, times: list[float], tol: float,
                     budget: float = float("inf")) -> Outcome:
    """torchdiffeq's dopri5; raises OverBudget."""
    field = Projected(velocity, budget)
    t = torch.tensor(times, dtype=torch.float64)
    with torch.no_grad():
        try:
            return Outcome(odeint(field, x0, t, rtol=tol, atol=tol, method="dopri5"), field.evaluations, True)
        except AssertionError:  # "underflow in dt": it reports a failure
            return Outcome(x0.new_full((len(times), *x0.shape), torch.nan), field.evaluations, False)
