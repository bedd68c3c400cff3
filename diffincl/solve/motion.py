"""How far a moving g comes and leaves again within a step."""

from __future__ import annotations

import torch
from torch import Tensor

from ..functions import ProxFunction

__all__ = ["way_back"]

PIECES, APART = 4, 2.0**-16  # velocities are taken at the ends of equal pieces, from values so far apart


def way_back(g: ProxFunction, t: Tensor, h: Tensor, x: Tensor, free: Tensor) -> Tensor:
    """How far each coordinate of what rides on g turns back, relative to the free motion of x, (*batch, d): the most of
    two points, on both sides of x.

    A scheme sees g only at its stages. While g moves one way relative to x, that is enough: it has pushed x furthest at
    the end. Where it turns within the step it can have pushed further, by no more than it goes back:
    ½(∫|v| − |∫v|) with the relative velocity v, taken as linear on each piece of the step. A jump of g has no velocity
    and no way back.

    Parameters
    ----------
    g : ProxFunction
    t, h : Tensor (*batch, 1)
        Where the step begins, and its length.
    x : Tensor (*batch, d)
    free : Tensor (2, *batch, d)
        Where x would be after half the step and after all of it without g, less x.
    """
    (half, whole), aside = free.double(), 1 + x.detach().double().abs()
    points = torch.stack([x.detach() - aside, x.detach() + aside])

    def relative(s: float) -> Tensor:
        return g.carried(points, t, t + s * h) - points - 4 * s * (1 - s) * half - s * (2 * s - 1) * whole

    nodes = [k / PIECES for k in range(PIECES + 1)]
    place = torch.stack([relative(s) for s in nodes])
    near = torch.stack([relative(s + APART) for s in nodes[:-1]] + [relative(1 - APART)])
    v = (near - place) / APART
    v[-1] = -v[-1]
    a, b = v[:-1].abs(), v[1:].abs()
    turns = (v[:-1] * v[1:]) < 0
    path = torch.where(turns, (a**2 + b**2) / (a + b).clamp(min=1e-300), a + b)  # 2∫|v| of each piece, in its length
    back = 0.25 * (path.sum(0) - (v[:-1] + v[1:]).sum(0).abs()) / PIECES
    seen = place.amax(0) - place.amin(0)
    return torch.minimum(back, 2 * seen).amax(0)  # rounding of g is no motion
