"""A case is an inclusion with pairs of initial points; a statement claims something of every pair."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..inclusion import Inclusion
from ..schemes import ForwardEuler, ProxHeun
from ..solve import KinkWarning, solve
from ..steps import Fixed

__all__ = ["Case", "Claim", "Statement"]


@dataclass(frozen=True, eq=False)
class Case:
    """Instances that are solved together.

    ``flow`` may hold an ensemble of networks; ``x0`` and ``y0`` are the pairs, (*weights, pairs, d) in float64; ``t``
    the save times (for discrete statements also the layers); ``origin`` says in words where the instances come from.
    """

    origin: str
    flow: Inclusion
    t: Tensor
    x0: Tensor
    y0: Tensor

    @property
    def instances(self) -> int:
        """Number of pairs."""
        return self.x0[..., 0].numel()

    def solve(self, x0: Tensor, y0: Tensor, steps: int | None) -> tuple[Tensor, Tensor]:
        """Both trajectories at the save times, from one solve.

        ``steps`` None runs the network (forward Euler, one step a layer), a number a converged one (prox-Heun).
        """
        start = torch.cat([x0, y0], dim=-2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", KinkWarning)  # gradients only show the attack where to look
            if steps is None:
                sol = solve(self.flow, start, self.t, scheme=ForwardEuler())
            else:
                sol = solve(self.flow, start, self.t, scheme=ProxHeun(), steps=Fixed(n=steps))
        x, y = sol.x.chunk(2, dim=-2)
        return x, y


# From trajectories x, y (T, *batch, d): for each form of the claim, observed and bound at t[1:], (T − 1, *batch) each.
Claim = Callable[[Tensor, Tensor], dict[str, tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class Statement:
    """A theorem that can be checked.

    Attributes
    ----------
    label, title, hypothesis, bound, source : str
        For people: label of the theory and the statement in words and formulas.
    continuous : bool
        About the flow (checked on converged trajectories) or about the network (checked on its layers).
    outside : Case -> str
        The hypothesis as code: why a case is outside it; empty inside.
    claim : Case -> Claim
        The bound as code: reads the weights of a case once and returns observed and bound for trajectories. It does
        not look at the hypothesis, so that a control can be put to it.
    draw : (generator, trials) -> list of Case
        Random instances inside the hypothesis.
    control : (generator, trials) -> Case
        Instances outside it, of which some must violate the claim.
    """

    label: str
    title: str
    hypothesis: str
    bound: str
    source: str
    continuous: bool
    outside: Callable[[Case], str]
    claim: Callable[[Case], Claim]
    draw: Callable[[torch.Generator, int], list[Case]]
    control: Callable[[torch.Generator, int], Case]
