"""A look at whether a path crosses a kink of g, where derivatives of the steps are not those of the flow."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _check
from ..functions import ProxFunction

__all__ = ["CROSSED", "Crossings", "KinkWarning"]


class KinkWarning(UserWarning):
    """Derivatives were taken through a crossed kink of g, where those of the steps are not those of the flow."""


CROSSED = ("a trajectory crosses a kink of g = {g} from one side to the other. Derivatives through the steps are not "
           "those of the flow there, however small the steps: where x' = −½sign(x) − 1, dx(T)/dx0 is 1/3, through the "
           "steps 0 or 1. Take Penalty(lam, rtol=1e-9, atol=1e-9), which follows the kink in small steps, or smooth g.")


class Crossings:
    """What is known of the sides of the kinks that every sample has been on."""

    def __init__(self, g: ProxFunction, x: Tensor, t: float):
        self.g = g
        self.begin(x, t)

    def begin(self, x: Tensor, t: float) -> None:
        """Paths begin here."""
        seen = torch.is_grad_enabled() and _check.concrete(x)
        self.side = self.g.kink_sides(x.detach(), t) if seen else None
        self.last, self.t, self.beyond = self.side, t, False  # as seen last; whether a path was beyond a kink
        self.turned = torch.zeros_like(x if self.side is None else self.side, dtype=torch.bool)  # in the step before

    @property
    def crossed(self) -> bool:
        """Whether a path has crossed a kink without sticking to it."""
        return self.side is not None and (self.beyond or bool(self.turned.any()))

    def see(self, x: Tensor, t: float | Tensor) -> None:
        """Look at states that follow those seen before, at times ``t``, those before or later ones.

        A state that is exactly on a kink may cross it in the next step. One that was there at both ends of a step
        sticks: the derivative is 0 from then on, as that of the steps, whichever way it leaves. So it is where a scheme
        goes beyond the kink for one step and then sticks.
        """
        if self.side is None or self.last is None:
            return
        now, moved = self.g.kink_sides(x.detach(), t), torch.as_tensor(t > self.t)
        assert now is not None
        sticks = moved & (now == 0) & (self.last == 0)
        self.beyond = self.beyond or bool((self.turned & moved & (now != 0)).any())
        self.turned = (self.turned & ~sticks) | (now * self.side < 0)
        self.side = torch.where(sticks, 0, torch.where(now == 0, self.side, now))
        self.last, self.t = now, t
