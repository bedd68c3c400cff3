"""How far a moving g comes and leaves again within a step."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from ..functions import ProxFunction

__all__ = ["way_back"]

PIECES, APART = 4, 2.0**-16  # velocities are taken at the ends of equal pieces, from values so far apart
SHARE = 0.125  # of a bend that counts: an error of eight tolerances at a turn against a third of the steps


def way_back(g: ProxFunction, t: Tensor, h: Tensor, x: Tensor, free: Tensor) -> Tensor:
    """How far each coordinate of what rides on g turns back, relative to the free motion of x, (*batch, d): the most of
    two points, on both sides of x.

    A scheme sees g only at its stages. While g moves one way relative to x, that is enough: it has pushed x furthest at
    the end. Where it turns within the step it can have pushed further, by no more than it goes back:
    ½(∫|v| − |∫v|) with the relative velocity v, taken as linear on each piece of the step. Where g pushes in directions
    other than those of the coordinates, n·v must be asked for every n: for none is the way back longer than
    ½∫‖v − ∫v‖, of which a share is counted, since this does not vanish where n·v keeps its sign. A jump of g has no
    velocity and no way back.

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
    seen = place.amax(0) - place.amin(0)
    back = _turns(v) if g.coordinatewise else _bends(v)
    return torch.minimum(back, 2 * seen).amax(0)  # rounding of g is no motion


def _turns(v: Tensor) -> Tensor:
    """½(∫|v| − |∫v|) of every coordinate."""
    a, b = v[:-1].abs(), v[1:].abs()
    turns = (v[:-1] * v[1:]) < 0
    twice = torch.where(turns, (a**2 + b**2) / (a + b).clamp(min=1e-300), a + b)  # ∫|v| over a piece, in its length
    return 0.25 * (twice.sum(0) - (v[:-1] + v[1:]).sum(0).abs()) / PIECES


def _bends(v: Tensor) -> Tensor:
    """A share of ½∫‖v − ∫v‖."""
    mean = (v[:-1] + v[1:]).mean(0) / 2
    away = vector_norm(v - mean, dim=-1, keepdim=True)
    return (0.5 * SHARE * (away[:-1] + away[1:]).mean(0) / 2).expand_as(mean)
