"""How trajectories are followed: as the network does, converged, or coarsely for a search; each with its error."""

from __future__ import annotations

import torch
from torch import Tensor

from ..fields import ResNetField
from ..functions import Box, Orthant, Whole
from ..inclusion import Inclusion
from ..schemes import ForwardEuler, ProxHeun, Scheme
from ..solve import solve
from ..steps import Fixed
from ..switching import ExactFlow
from .case import Path, Run

__all__ = ["coarse", "converged", "network", "pair"]

# Steps of prox-Heun for converged trajectories (and half as many, for their error), and for those inside a search.
FINE, COARSE = 256, 24
WIDEST = 18  # dimension up to which the exact flow, whose cost grows with the number of switches, is followed
EXACT = 1e-11  # relative error of the exact flow: dips of 1e3 rounding units at its switches, and the rounding of many


def network(flow: Inclusion, x0: Tensor, t: Tensor, scheme: Scheme | None = None, throw: bool = True) -> Path:
    """One step of forward Euler (or another scheme) from each time to the next: the layers themselves."""
    x = solve(flow, x0, t, scheme=ForwardEuler() if scheme is None else scheme, throw=throw).x
    return Path(x, _rounding(x, len(t)))


def converged(flow: Inclusion, x0: Tensor, t: Tensor) -> Path:
    """The flow: exact where it is piecewise affine, else prox-Heun with twice the step-doubling difference as error."""
    with torch.no_grad():
        if is_exact(flow):
            x = solve(flow, x0, t, scheme=ExactFlow()).x
            return Path(x, EXACT * (1 + x.abs().sum(-1)).cummax(0).values)
        x, rough = (solve(flow, x0, t, scheme=ProxHeun(), steps=Fixed(n=n)).x for n in (FINE, FINE // 2))
        error = 2 * (x - rough).abs().sum(-1)
        return Path(x, error.cummax(0).values + _rounding(x, FINE))


def coarse(flow: Inclusion, x0: Tensor, t: Tensor) -> Path:
    """Cheap and differentiable, for a search only: what it finds is looked at again with ``converged``."""
    x = solve(flow, x0, t, scheme=ProxHeun(), steps=Fixed(n=COARSE)).x
    return Path(x, torch.zeros_like(x[..., 0]))


def pair(run: Run, flow: Inclusion, x0: Tensor, y0: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both trajectories from one solve, and the error of their difference."""
    path = run(flow, torch.cat([x0, y0], dim=-2), t)
    x, y = path.x.chunk(2, dim=-2)
    errors = path.error.chunk(2, dim=-1)
    return x, y, errors[0] + errors[1]


def is_exact(flow: Inclusion) -> bool:
    """Whether the exact flow is followed."""
    return isinstance(flow.field, ResNetField) and not flow.field.time_dependent_within_a_step \
        and isinstance(flow.g, Whole | Orthant | Box) and flow.field.features <= WIDEST


def _rounding(x: Tensor, steps: int) -> Tensor:
    return 8 * torch.finfo(x.dtype).eps * steps * x.detach().abs().sum(-1).cummax(0).values
