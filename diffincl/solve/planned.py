"""The loop along a plan: the same steps for all samples, in blocks; failures are noticed once a block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor
from tqdm import tqdm

from .. import _check
from ..inclusion import Inclusion
from ..schemes import Implicit, Scheme
from ..solution import (
    FIELD_MISSHAPEN,
    FIELD_NOT_FINITE,
    LEFT_TUBE,
    OK,
    REASONS,
    STEP_FAILED,
    Solution,
    Stats,
)
from ..steps import Plan
from . import on_gpu
from .inplace import InPlace, goes_in_place
from .kinks import Crossings
from .recompute import Tape
from .replayed import Replayed, is_replayed
from .retraced import Retraced
from .watch import FieldShapeError, WatchedField, WatchedProx

__all__ = ["planned_again", "solve_planned"]

# Steps between two looks for values that are not finite: long enough that looking is cheap. Of large states fewer are
# held back, no more than BLOCK_BYTES, which stay in the cache. States of up to STACKED entries are looked at in one
# stack, larger ones one by one, without a copy. On a GPU a look waits for the device, and every launch costs: there
# more is held back, and all of it is looked at in one stack.
BLOCK, BLOCK_BYTES, GPU_BYTES, STACKED = 64, 2**19, 2**27, 2048


def solve_planned(flow: Inclusion, x0: Tensor, layout: Plan, scheme: Scheme, gradient: str, throw: bool,
                  progress: bool, kinks: Crossings) -> tuple[Solution, FieldShapeError | None]:
    """Repeat the scheme's step along the plan; up to the first failure, if ``throw``."""
    every = len(layout.saved) == layout.steps + 1
    in_place = InPlace(flow, scheme, layout, x0, every) if goes_in_place(flow, scheme, x0) else None
    in_place = Replayed(flow, scheme, layout, x0) if in_place is not None and is_replayed(in_place, x0) else in_place
    run = Planned(Steps(flow, scheme, layout, x0, in_place), x0, kinks)
    if in_place is None and gradient == "checkpoint" and torch.is_grad_enabled() and _check.plain_autograd():
        tape = Tape(x0, layout.steps, flow.field.parameters())
        run.x = x0.detach()
        with tape.recording():
            run.through(throw, progress, tape)
        run.attach(tape)
    else:
        run.through(throw, progress, None)
    return run.solution(partial(planned_again, flow, scheme, gradient)), run.error


def planned_again(flow: Inclusion, scheme: Scheme, gradient: str, x: Tensor, part: Plan) -> Solution:
    """Steps of a solve taken again along a part of its plan."""
    kinks = Crossings(flow.g, x, part.stops[0])
    solution, error = solve_planned(flow, x, part, scheme, gradient, throw=False, progress=False, kinks=kinks)
    if error:
        raise error
    return solution


class Steps:
    """The steps of a plan as functions of the state."""

    def __init__(self, flow: Inclusion, scheme: Scheme, plan: Plan, x0: Tensor,
                 in_place: InPlace | Replayed | None = None):
        self.flow, self.scheme, self.plan, self.in_place = flow, scheme, plan, in_place
        self.F, self.g = WatchedField(x0), WatchedProx(flow.g)
        self.ends = plan.boundaries()
        self.times = torch.tensor(self.ends, dtype=torch.float64).unbind()

    def along(self, block: range, x: Tensor, states: list[Tensor], points: list[Tensor]) -> None:
        """Append the states after the steps of a block and the points whose prox they are."""
        if self.in_place is not None:
            self.in_place.along(block, x, states, points)
            self.F.evaluations += self.in_place.calls * len(block)
            self.g.evaluations += self.in_place.calls * len(block)
            return
        step, on, g, F = self.scheme.step, self.flow.field.on, self.g, self.F
        ends = slice(block.start, block.stop + 1)
        for (a, b), (t, t_next) in zip(pairwise(self.ends[ends]), pairwise(self.times[ends]), strict=True):
            F.F = on(a, b)
            if g.limited:
                g.begin(x, t)
            x, z = step(F, g, t, t_next, b - a, x)
            states.append(x)
            points.append(z)

    def residual(self, k: int, x: Tensor) -> Tensor:
        """How far step k of an implicit scheme, from ``x``, stays from its root, (*batch,)."""
        assert isinstance(self.scheme, Implicit)
        (a, b), (t, t_next) = self.ends[k:k + 2], self.times[k:k + 2]
        return self.scheme.residual(self.flow.field.on(a, b), self.flow.g, t, t_next, b - a, x.detach())


class Planned:
    """A solve in progress: what is kept so far, and which samples have failed."""

    def __init__(self, steps: Steps, x0: Tensor, kinks: Crossings):
        self.along, self.plan, self.x0, self.x, self.kinks = steps, steps.plan, x0, x0, kinks
        self.every_step_saved = len(self.plan.saved) == self.plan.steps + 1
        self.at_save = frozenset(self.plan.saves())
        self.saved: list[Tensor] = []
        self.before: list[Tensor] = []  # the state before the last step to each save time, where steps lie between
        self.steps = 0
        self.status = torch.zeros(x0.shape[:-1], dtype=torch.int8, device=x0.device)
        self.reached = torch.full(self.status.shape, self.plan.stops[0], dtype=torch.float64, device=x0.device)
        self.lost: Tensor | None = None  # the step from which on each sample is NaN
        self.failure = ""
        self.error: FieldShapeError | None = None

    @property
    def alive(self) -> bool:
        """Whether a sample is left that has not failed."""
        return bool((self.status == OK).any())

    def through(self, throw: bool, progress: bool, tape: Tape | None) -> None:
        """Take the steps, block by block; up to the first failure, if ``throw``."""
        room = GPU_BYTES if on_gpu.is_here(self.x) else BLOCK_BYTES
        length = max(1, min(BLOCK, room // (self.x.numel() * self.x.element_size())))
        length = 1 if self.along.g.limited else min(length, tape.spacing) if tape else length
        for block in self._blocks(length, progress):
            if tape:
                tape.mark(block.start, self.x)
            failed = self._accept(block, *self._advance(block))
            if self.error or (failed and (throw or not self.alive)):
                break

    def _blocks(self, length: int, progress: bool) -> Iterator[range]:
        """The steps, ``length`` at a time."""
        total = self.plan.steps
        blocks = (range(start, min(start + length, total)) for start in range(0, total, length))
        if not progress:
            yield from blocks
            return
        with tqdm(total=total, unit="step") as bar:
            for block in blocks:
                yield block
                bar.update(len(block))

    def _advance(self, block: range) -> tuple[list[Tensor], list[Tensor]]:
        """The states after the steps of a block and the points whose prox they are."""
        states, points = [], []
        try:
            self.along.along(block, self.x, states, points)
        except FieldShapeError as error:
            self.error = error
            self.status = torch.full_like(self.status, FIELD_MISSHAPEN)
        return states, points

    def _accept(self, block: range, states: list[Tensor], points: list[Tensor]) -> bool:
        """Keep a block's results; mark and blank samples in which a value was not finite. True if a sample failed."""
        if not states:
            return False
        for k, x in enumerate(states):
            self.kinks.see(x, self.along.ends[block[k] + 1])
        self.steps += len(states)
        failed = False
        if not _sums_are_finite(points, states[-1]):
            states, failed = self._blank(block, states, torch.stack(points))
        if self.every_step_saved:
            self.saved += states
        else:
            rows = [k for k in range(len(states)) if block[k] + 1 in self.at_save]
            keep = torch.clone if self.along.in_place else lambda x: x  # the memory will be used again
            self.saved += [keep(states[k]) for k in rows]
            self.before += [keep(states[k - 1] if k else self.x) for k in rows]
        self.x = states[-1]
        going = (self.status == OK) | (self.status == FIELD_MISSHAPEN)
        self.reached = torch.where(going, self.along.ends[block.start + len(states)], self.reached)
        return failed

    def _blank(self, block: range, states: list[Tensor], points: Tensor) -> tuple[list[Tensor], bool]:
        """NaN from the first value on that is not finite; says which samples failed here, why and when."""
        finite_z = torch.isfinite(points.detach()).all(-1)
        finite_x = torch.isfinite(torch.stack(states).detach()).all(-1)
        good = (finite_z & finite_x).long().cumprod(0).bool()
        news = ~good[-1] & (self.status == OK)
        first = good.sum(0).clamp_max(len(states) - 1)
        z_at_fault = ~finite_z.gather(0, first.unsqueeze(0))[0]
        kind = torch.where(z_at_fault, FIELD_NOT_FINITE, STEP_FAILED)
        if self.along.g.limited:
            kind = torch.where(self.along.g.left, LEFT_TUBE, kind)
        self.status = torch.where(news, kind, self.status).to(torch.int8)
        starts = torch.tensor(self.along.ends, dtype=torch.float64, device=news.device)[block.start:block.stop]
        self.reached = torch.where(news, starts[first], self.reached)
        never = torch.full_like(first, self.plan.steps + 1)
        self.lost = torch.where(news, block.start + first, never if self.lost is None else self.lost)
        if bool(news.any()) and not self.failure:
            i = _check.first(news & (first == first[news].min())) if news.ndim else ()
            step = int(first[i])
            self.failure = self._describe(i, block[step], int(kind[i]), states[step - 1] if step else self.x)
        return [torch.where(g.unsqueeze(-1), x, torch.nan) for g, x in zip(good, states, strict=True)], bool(news.any())

    def _describe(self, sample: tuple[int, ...], step: int, kind: int, x: Tensor) -> str:
        """What happened to a sample in a step from ``x``."""
        a, b = self.along.ends[step:step + 2]
        reason = self.along.g.refusal(sample, b - a) if kind == LEFT_TUBE else self.reasons[kind]
        if kind == STEP_FAILED and isinstance(self.along.scheme, Implicit):
            left = self.along.residual(step, x)[sample]
            reason = f"{reason} (it left a residual of {float(left):.2g}, relative to 1 + |u|)"
        return f"sample {sample} failed in step {step} from t = {a:g}: {reason}"

    @property
    def reasons(self) -> dict[int, str]:
        """Status in words."""
        return {**REASONS, STEP_FAILED: self.along.scheme.failure}

    def attach(self, tape: Tape) -> None:
        """Let what was kept have derivatives: those of the steps on ``tape``, taken again."""
        along, lost, at_save, every = self.along, self.lost, self.at_save, self.every_step_saved

        def take(k: int, x: Tensor) -> tuple[Tensor, list[Tensor]]:
            states: list[Tensor] = []
            along.along(range(k, k + 1), x, states, [])
            x_next = states[0] if lost is None else torch.where((lost > k).unsqueeze(-1), states[0], torch.nan)
            return x_next, [] if k + 1 not in at_save else [x_next] if every else [x_next, x]

        pairs = iter([[v] for v in self.saved] if every else zip(self.saved, self.before, strict=True))
        kept = [list(next(pairs)) if k + 1 in at_save else [] for k in range(self.steps)]
        self.x, kept = tape.attach(take, self.x0, self.x, kept)
        self.saved, self.before = [rows[0] for rows in kept if rows], [rows[1] for rows in kept if rows[1:]]

    def solution(self, again: Callable[[Tensor, Plan], Solution]) -> Solution:
        """What has been computed so far; ``again`` takes steps again."""
        plan, scheme = self.plan, self.along.scheme
        x = torch.stack([self.x0, *self.saved])
        t = torch.tensor(plan.times()[:len(x)], dtype=torch.float64)
        before = x[:-1] if self.every_step_saved or not self.before else torch.stack(self.before)
        source = Retraced(scheme, plan.last_steps()[:len(self.saved)], before, plan.longest, again)
        stats = Stats(self.steps, self.along.F.evaluations, self.along.g.evaluations)
        return Solution(t, x, self.status, self._message(), stats, self.along.flow, source, self.reached, self.reasons)

    def _message(self) -> str:
        if self.error:
            return f"{self.error} The solution up to there is kept on this exception."
        if not self.failure:
            return f"success: {self.steps} steps"
        failed = self.status != OK
        return f"{int(failed.sum())} of {failed.numel()} samples failed; first, {self.failure}.{_check.others(failed)}"


def _sums_are_finite(points: list[Tensor], state: Tensor) -> bool:
    """A quick look: a sum is finite only if its terms are (an overflow of the sum only costs a closer look)."""
    if not _check.concrete(state):
        return True
    with torch.no_grad():
        if state.numel() > STACKED and not on_gpu.is_here(state):
            points = [z.sum() for z in points]
        return math.isfinite(float(torch.stack(points).sum())) and math.isfinite(float(state.sum()))
