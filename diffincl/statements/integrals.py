"""Integrals along trajectories, from above.

The flow integrates F and x along itself as further coordinates, so their integrals have the error of the trajectory and
no kink of F is stepped over. What is no integral of these, such as ∫‖F‖, is enclosed: between two save times a slow
solution (theory C1) moves at most at the speed S = ‖F‖e^{Lh}, so F changes at most at the speed M = LS, and the mean
square of what is M-Lipschitz differs from the square of its mean by at most M²h²/12, whatever happens in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from ..bounds.pieces import Pieces, lead
from ..fields import ResNetField
from ..functions import Ball, Box, HalfSpace, Orthant, OutsideBall, Product, ProxFunction, Whole
from ..inclusion import Inclusion
from .case import Case, Path, Run
from .fields import AccumulatedField
from .quantities import at_ends, carry, lengths, multipliers, norm

__all__: list[str] = []


def accumulate(run: Run, flow: Inclusion, x0: Tensor, t: Tensor, along: Iterable[ResNetField]
               ) -> tuple[Path, list[Tensor]]:
    """The trajectory and ∫G(s, x(s))ds over every interval of the times for every field G, (T − 1, *batch, d); the
    error covers them too, summed over intervals from the start."""
    assert isinstance(flow.field, ResNetField)
    along, d = tuple(along), x0.shape[-1]
    field = AccumulatedField(flow.field, *along)
    z0 = torch.cat([x0, x0.new_zeros(*x0.shape[:-1], d * len(along))], -1)
    path = run(Inclusion(field, _beside(flow.g, d, d * len(along))), z0, t)
    x, *integrals = path.x.split(d, -1)
    return Path(x, path.error), [q.diff(dim=0) for q in integrals]


def _beside(g: ProxFunction, d: int, free: int) -> ProxFunction:
    """g on the first d coordinates, nothing on the others."""
    if not isinstance(g, Whole | Orthant | Box):
        return Product(g, Whole(), sizes=(d, free))
    lower, upper = (torch.as_tensor(b, dtype=torch.float64).expand(d)
                    for b in g.bounds(torch.zeros(d, dtype=torch.float64)))
    far = torch.full((free,), torch.inf, dtype=torch.float64)
    return Box(torch.cat([lower, -far]), torch.cat([upper, far]))


class Reach(NamedTuple):
    """What holds all over each interval of the times: lengths h, S >= ‖x'‖, ‖F(x)‖, and L of F; all (T − 1, *batch)."""

    h: Tensor
    speed: Tensor
    L: Tensor

    @property
    def change(self) -> Tensor:
        """M, which bounds the speed of F along the trajectory."""
        return self.L * self.speed


def reach(case: Case, p: Pieces, x: Tensor, set_speed: float = 0.0, flow: Inclusion | None = None) -> Reach:
    """Bounds on the intervals from F at their ends: (‖F‖ + |v'|)e^{Lh} by Grönwall, forwards from the left end and
    backwards from the right one, since ‖F‖' <= L‖x'‖ <= L(‖F‖ + |v'|). ``p`` holds L of the field of ``flow``."""
    left, right = at_ends((case.flow if flow is None else flow).field, case.t, x)
    least = torch.minimum(norm(left), norm(right)) + set_speed
    L = p.lipschitz.amax(-1)
    return Reach(lengths(case.t, least), least * lead(p.weighted(L).exp(), least), lead(L, least).expand_as(least))


def size(integral: Tensor, change: Tensor, h: Tensor) -> Tensor:
    """∫‖f‖ <= √(h∫‖f‖²) <= √(‖∫f‖² + M²h⁴/12), from ∫f."""
    return (integral.square().sum(-1) + (change * h**2).square() / 12).clamp_min(1e-300).sqrt()


def square(integral: Tensor, change: Tensor, h: Tensor) -> Tensor:
    """∫‖f‖² <= ‖∫f‖²/h + M²h³/12."""
    return integral.square().sum(-1) / h + change.square() * h**3 / 12


def carried(start: Tensor, z: Tensor, integral: Tensor, change: Tensor, h: Tensor) -> Tensor:
    """``carry`` for an integrand that does not stand still, from its integral over each interval and its speed M:
    ∫e^{ν(t − s)}f <= φ(z)∫f + |z|e^{z⁺}Mh²/12, the covariance of two Lipschitz functions."""
    return carry(start, z, integral + lead(z.abs() * _against_mean(z), integral) * change * h**2 / 12)


def _against_mean(z: Tensor) -> Tensor:
    """e^{z⁺}/φ(z): the largest of the values of e^{zθ}, θ in [0, 1], over their mean."""
    safe = torch.where(z == 0, 1.0, z.abs())
    return torch.where(z == 0, 1.0, -safe / torch.expm1(-safe))


def pushes(flow: Inclusion, t: Tensor, x: Tensor, around: Reach, z: Tensor | None = None) -> Tensor:
    """From above ∫‖n‖ over each interval, n = −x' − F; with z = νh to be carried by ``carry``.

    A multiplier jumps up where the trajectory meets the set and fades to 0 before it leaves, so looking back from the
    right end ‖n(s)‖ <= ‖n(t⁻)‖ + M(t − s), with the bend 1/R of the set in M = LS + ‖F‖S/R; nor is it more than ‖F‖.
    """
    _, right = multipliers(flow, t, x)
    h, late = around.h, (around.change + bend(flow.g) * around.speed**2) * around.h**2 / 2
    return torch.minimum(right * h + (late if z is None else lead(_against_mean(z), late) * late), around.speed * h)


def bend(g: ProxFunction) -> float:
    """Largest curvature 1/R of the boundary of a set."""
    if isinstance(g, Ball | OutsideBall):
        return 1 / float(g.radius)
    if isinstance(g, Whole | Orthant | Box | HalfSpace):
        return 0.0
    raise ValueError(f"multipliers are integrated on boxes, half spaces and balls; got {g}.")
