"""Solutions in which every sample has its own steps: set up a march, run it, take its steps again for derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from .. import _check
from ..functions import ConvexSet, ProxFunction
from ..inclusion import Inclusion
from ..schemes import ARS222, ProxHeun, Scheme
from ..solution import FIELD_MISSHAPEN, OK, REASONS, Solution, Stats
from ..steps import Adaptive, Fixed, Plan, plan
from ..switching import ExactFlow, Stepper, SwitchingDP5
from .embedded import EmbeddedStepper
from .kinks import Crossings
from .march import Bind, March
from .watch import FieldShapeError, Notice, WatchedField, WatchedProx

__all__ = ["solve_marched"]


def solve_marched(flow: Inclusion, x0: Tensor, layout: Plan, scheme: Scheme | SwitchingDP5 | ExactFlow,
                  steps: Fixed | Adaptive | None, gradient: str, progress: bool, kinks: Crossings
                  ) -> tuple[Solution, FieldShapeError | None]:
    """Solve with steps per sample; what has been computed, and the error of a field that returned something else."""
    if not _check.concrete(x0) or not _check.plain_autograd():
        raise ValueError(f"{type(scheme).__name__} with steps per sample reads the values of the states, which is not "
                         f"possible inside torch.func transforms, torch.compile and forward mode. Take Fixed steps of "
                         f"ProxHeun or ARS222 there.")
    _require_resolvable(_control(flow, scheme, steps), x0, layout)
    return _marched(flow, x0, layout, scheme, steps, gradient, progress, kinks)


def _marched(flow: Inclusion, x0: Tensor, layout: Plan, scheme: Scheme | SwitchingDP5 | ExactFlow,
             steps: Fixed | Adaptive | None, gradient: str, progress: bool, kinks: Crossings
             ) -> tuple[Solution, FieldShapeError | None]:
    """The solution along a layout, or along a part of one."""
    control = _control(flow, scheme, steps)
    wanted = torch.is_grad_enabled() and _differentiated(flow, x0, layout)
    notice = Notice() if torch.is_grad_enabled() and not wanted else None
    F, g = WatchedField(x0, notice), WatchedProx(flow.g, notice)
    prepared = partial(March, flow, _binder(flow, scheme, F, g), F, _intervals(flow, layout, steps), _saves(layout), x0,
                       control, dense=isinstance(scheme, SwitchingDP5 | ExactFlow), kinks=kinks)
    march = prepared()
    error = _run(march, wanted, progress)
    if notice and notice.wanted:  # so seldom that steps are searched again rather than always kept
        march, wanted, F.notice, g.notice = prepared(), True, None, None
        kinks.begin(x0, layout.stops[0])
        error = _run(march, wanted, progress)
    x, multiplier = (march.again(x0, gradient == "checkpoint") if wanted else march.rows).stacked()
    c, again = march.clock, Resumed(multiplier, scheme, steps)
    stats = Stats(march.rounds, F.evaluations, g.evaluations, c.accepted.squeeze(-1), c.rejected.squeeze(-1))
    switches = march.switches.switches() if isinstance(scheme, SwitchingDP5 | ExactFlow) else None
    t = torch.tensor(layout.times(), dtype=torch.float64)
    return Solution(t, x, march.status, _message(march, error), stats, flow, again, c.t.squeeze(-1), REASONS,
                    switches), error


def _run(march: March, keep: bool, progress: bool) -> FieldShapeError | None:
    """March to the end, or to where the field returns something else."""
    try:
        march.run(keep, progress)
    except FieldShapeError as error:
        march.status = torch.where(march.status == OK, FIELD_MISSHAPEN, march.status)
        return error
    return None


@dataclass(frozen=True, eq=False)
class Resumed:
    """States between save times by starting again from the save time before, with the same scheme and tolerances."""

    multipliers: Tensor
    scheme: Scheme | SwitchingDP5 | ExactFlow
    steps: Fixed | Adaptive | None

    def multiplier(self, solution: Solution) -> Tensor:
        """As they were in the solve."""
        return self.multipliers

    def between(self, solution: Solution, k: int, times: Sequence[float]) -> Tensor:
        """States at times after t[k]; NaN in samples that had failed before."""
        flow, x = solution.flow, solution.x[k]
        fine = x.isfinite().all(-1, keepdim=True)
        start = torch.where(fine, x, solution.x[0])
        stops, steps = (float(solution.t[k]), *times), self.steps
        layout = Plan(stops, tuple(range(len(stops))))
        if isinstance(steps, Fixed):  # of the same length on a part of the interval
            steps = Fixed(steps.longest(float(solution.t[-1] - solution.t[0])))
            layout = plan(flow.field, list(stops), steps)
        again, error = _marched(flow, start, layout, self.scheme, steps, "backprop", progress=False,
                                kinks=Crossings(flow.g, start, stops[0]))
        if error:
            raise error
        solution.require_again(again, k)
        return torch.where(fine, again.x[1:], torch.nan)


def _control(flow: Inclusion, scheme: Scheme | SwitchingDP5 | ExactFlow, steps: Fixed | Adaptive | None
             ) -> Adaptive | None:
    """The tolerances; None for fixed steps and for the exact flow."""
    if isinstance(scheme, ExactFlow):
        if steps is not None:
            raise ValueError(f"ExactFlow takes no steps: it goes from switch to switch; got {steps}. Leave steps out.")
        return None
    if isinstance(scheme, SwitchingDP5):
        return Adaptive() if steps is None else steps if isinstance(steps, Adaptive) else None
    if not isinstance(scheme, ProxHeun | ARS222):
        raise ValueError(f"Adaptive steps need a scheme with an error estimate: ProxHeun(), ARS222() or "
                         f"SwitchingDP5(); got {scheme}. Take Fixed steps with it.")
    assert isinstance(steps, Adaptive)
    if isinstance(scheme, ProxHeun) and not _polyhedral(flow.g):
        raise ValueError(f"the error estimate of ProxHeun is blind on curved sets and on functions that are no "
                         f"indicator of a polyhedron; got {flow.g}. Use ARS222() with Adaptive, or Fixed steps.")
    return steps


def _polyhedral(g: ProxFunction) -> bool:
    return isinstance(g, ConvexSet) and g.polyhedral


def _require_resolvable(control: Adaptive | None, x0: Tensor, layout: Plan) -> None:
    unit, first, last = torch.finfo(x0.dtype).eps, layout.stops[0], layout.stops[-1]
    if control is not None and unit * max(abs(first), abs(last)) > max(control.rtol, 4 * unit) * (last - first):
        raise ValueError(f"t = [{first:g}, …, {last:g}] is too far from 0 for times in "
                         f"{str(x0.dtype).removeprefix('torch.')}, the dtype of x0 and of the times that F gets: they "
                         f"are rounded by {unit * max(abs(first), abs(last)) / 2:.1g}, more than rtol = "
                         f"{control.rtol:g} of its length. Let t begin at 0, or solve in float64: x0.double().")
    if control is not None and max(control.rtol, control.atol) < 4 * unit:
        raise ValueError(f"rtol = {control.rtol:g} and atol = {control.atol:g} are below the rounding of x0 in "
                         f"{str(x0.dtype).removeprefix('torch.')}; one of them must be at least {4 * unit:.1e}. Raise "
                         f"it, or solve in float64: x0.double().")


def _binder(flow: Inclusion, scheme: Scheme | SwitchingDP5 | ExactFlow, F: WatchedField, g: WatchedProx
            ) -> Bind:
    """How the scheme is bound to an interval."""

    def bind(a: float, b: float, x: Tensor) -> Stepper:
        F.F = flow.field.on(a, b)
        if isinstance(scheme, SwitchingDP5 | ExactFlow):
            return scheme.on(flow, a, b, F, x)
        assert isinstance(scheme, ProxHeun | ARS222)
        return EmbeddedStepper(scheme, F, g, _polyhedral(flow.g))

    return bind


def _intervals(flow: Inclusion, layout: Plan, steps: Fixed | Adaptive | None) -> list[tuple[float, float]]:
    """Between knots; or the steps, if they are fixed."""
    if isinstance(steps, Fixed):
        stops = list(layout.boundaries())
    else:
        first, last = layout.stops[0], layout.stops[-1]
        stops = [first, *(knot for knot in flow.field.knots if first < knot < last), last]
    return list(pairwise(stops))


def _saves(layout: Plan) -> list[float]:
    return layout.times()[1:]


def _differentiated(flow: Inclusion, x0: Tensor, layout: Plan) -> bool:
    """Whether somebody may take derivatives of the solution: in x0, in parameters, or in what F and g hold at first."""
    F = flow.field.on(layout.stops[0], layout.stops[1])
    t = torch.full((*x0.shape[:-1], 1), layout.stops[0], dtype=x0.dtype, device=x0.device)
    value = F(t, x0.clone())  # if F changes it in place, the search will tell
    known = (x0, *flow.field.parameters(), flow.g.prox(x0, 1.0, layout.stops[0]))
    return any(v.requires_grad for v in known) or (isinstance(value, Tensor) and value.requires_grad)


def _message(march: March, error: FieldShapeError | None) -> str:
    if error:
        return f"{error} The solution up to there is kept on this exception."
    failed = march.status != OK
    if not bool(failed.any()):
        return f"success: {march.rounds} rounds, {int(march.clock.accepted.max())} steps at most"
    i = _check.first(failed) if failed.ndim else ()
    return (f"{int(failed.sum())} of {failed.numel()} samples failed; first, sample {i} stopped at t = "
            f"{float(march.clock.t.squeeze(-1)[i]):g}: {REASONS[int(march.status[i])]}.{_check.others(failed)}")
