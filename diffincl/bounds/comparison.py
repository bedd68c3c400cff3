"""A bound beside the trajectories it bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import plot
from ..solution import Solution
from .pieces import GROWTH, SENSITIVITY, Bound, lead

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """A bound beside trajectories.

    Attributes
    ----------
    t : Tensor (T,)
    observed, bound : Tensor (T, *batch), float64
    ratio : Tensor (T, *batch), float64
        observed/bound, 0 where both are 0; <= 1 where the bound holds.
    rounding : Tensor (T, *batch), float64
        What rounding of the trajectories in their dtype may have added to ``observed``, estimated from the sizes of the
        states, the number of steps and the bound's own amplification; not from terms that cancel inside F. Where it is
        not small beside ``bound`` (near pairs in float32) the comparison cannot refute: compare in float64.
    holds : bool
        Whether observed <= bound + rounding everywhere.
    kind, statement : str
        Those of the bound.
    """

    t: Tensor
    observed: Tensor
    bound: Tensor
    ratio: Tensor
    rounding: Tensor
    holds: bool
    kind: str
    statement: str

    def plot(self, *, legend: bool = True, ax: Axes | None = None) -> Axes:
        """Observed against bound over time, logarithmic: see ``plot.bound``."""
        return plot.bound(self, legend=legend, ax=ax)


def compare(b: Bound, sol_x: Solution, sol_y: Solution | None = None) -> Comparison:
    """Put a bound beside a solution (growth) or a pair of solutions (sensitivity, distance).

    Raises
    ------
    ValueError
        If the save times differ from those of the bound, a sample failed, or the number of solutions is wrong.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> A, zero, t = torch.eye(2), torch.zeros(2), torch.linspace(0, 1, 11)
    >>> flow = di.Inclusion(di.ResNetSField(A, zero, zero), di.Orthant())
    >>> x, y = (di.solve(flow, torch.tensor(start), t) for start in ([1.0, 2.0], [2.0, 0.0]))
    >>> c = compare(di.bounds.discrete_sensitivity(flow, t), x, y)
    >>> c.holds, round(float(c.ratio[-1]), 3)
    (True, 0.349)
    """
    if (sol_y is None) != (b.kind == GROWTH):
        wanted, got = ("one solution", "two") if b.kind == GROWTH else ("two solutions", "one")
        raise ValueError(f"a {b.kind} bound is compared with {wanted}; got {got}.")
    solutions = [sol_x] if sol_y is None else [sol_x, sol_y]
    for sol in solutions:
        if sol.t.shape != b.t.shape or not bool(torch.allclose(sol.t, b.t, rtol=1e-12, atol=1e-12)):
            raise ValueError(f"the solution and the bound must share their times; the bound has {len(b.t)} in "
                             f"[{float(b.t[0]):g}, {float(b.t[-1]):g}], the solution {len(sol.t)} in "
                             f"[{float(sol.t[0]):g}, {float(sol.t[-1]):g}]. Pass the same t to both.")
        if not sol.success:
            raise ValueError(f"the solution is not complete: {sol.message}")
    x = [sol.x.detach().to("cpu", torch.float64) for sol in solutions]
    distance = x[0] if sol_y is None else x[0] - x[1]
    observed = vector_norm(distance, ord=b.p, dim=-1)
    curve = lead(b.curve, observed)
    bound = torch.where(curve.isinf(), torch.inf, curve * observed[0]) if b.kind == SENSITIVITY else curve
    eps = max(torch.finfo(sol.x.dtype).eps for sol in solutions)
    steps = max(sol.stats.steps for sol in solutions)
    largest = torch.stack([vector_norm(v, ord=b.p, dim=-1) for v in x]).amax(0).cummax(0).values
    rounding = 8 * eps * (1 + steps) * largest + torch.finfo(torch.float64).tiny
    if b.kind == SENSITIVITY:  # the flow amplifies rounding as it does any other difference
        rounding = rounding * curve.cummax(0).values.clamp_min(1)
    ratio = torch.where(observed == 0, 0.0, observed / bound)
    holds = bool((observed <= bound + rounding).all())
    return Comparison(b.t, observed, bound.expand_as(observed), ratio, rounding, holds, b.kind, b.statement)
