"""The loop along a plan: the same steps for all samples, in blocks; failures are noticed once a block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

from .. import _check
from ..inclusion import Inclusion
from ..schemes import Scheme
from ..solution import FIELD_MISSHAPEN, FIELD_NOT_FINITE, OK, REASONS, STEP_FAILED, LastSteps, Solution, Stats
from ..steps import Plan
from .watch import FieldShapeError, WatchedField, WatchedProx

__all__ = ["solve_planned"]

# Steps between two looks for values that are not finite (and in a segment of checkpointing): long enough that looking
# is cheap. Of large states fewer are held back, no more than BLOCK_BYTES, which stay in the cache. States of up to
# STACKED entries are looked at in one stack, larger ones one by one, without a copy.
BLOCK, BLOCK_BYTES, STACKED = 64, 2**19, 2048


def solve_planned(flow: Inclusion, x0: Tensor, layout: Plan, scheme: Scheme, gradient: str, throw: bool,
                  progress: bool) -> tuple[Solution, FieldShapeError | None]:
    """Repeat the scheme's step along the plan; up to the first failure, if ``throw``."""
    run = Planned(flow, scheme, layout, x0)
    segments = gradient == "checkpoint" and torch.is_grad_enabled()
    length = BLOCK if segments else max(1, min(BLOCK, BLOCK_BYTES // (x0.numel() * x0.element_size())))
    for block in run.blocks(length, progress):
        if segments:
            states, points = checkpoint(run.advance, block, run.x, use_reentrant=False)  # type: ignore[misc]
        else:
            states, points = run.advance(block, run.x)
        failed = run.accept(block, states, points)
        if run.error or (failed and (throw or not run.alive)):
            break
    return run.solution(), run.error


class Planned:
    """A solve in progress: what is kept so far, and which samples have failed."""

    def __init__(self, flow: Inclusion, scheme: Scheme, plan: Plan, x0: Tensor):
        self.flow, self.scheme, self.plan, self.x = flow, scheme, plan, x0
        self.F, self.g = WatchedField(x0), WatchedProx(flow.g)
        self.times = torch.tensor(plan.t, dtype=torch.float64).unbind()
        self.every_step_saved = len(plan.saves) == len(plan.t)
        self.at_save = frozenset(plan.saves)
        self.saved = [x0]
        self.before: list[Tensor] = []  # the state before the last step to each save time, where steps lie between
        self.steps = 0
        self.status = torch.zeros(x0.shape[:-1], dtype=torch.int8, device=x0.device)
        self.reached = torch.full(self.status.shape, plan.t[0], dtype=torch.float64, device=x0.device)
        self.failure = ""
        self.error: FieldShapeError | None = None

    @property
    def alive(self) -> bool:
        """Whether a sample is left that has not failed."""
        return bool((self.status == OK).any())

    def blocks(self, length: int, progress: bool) -> Iterator[range]:
        """The steps, ``length`` at a time."""
        total = len(self.plan.t) - 1
        with tqdm(total=total, unit="step", disable=not progress) as bar:
            for start in range(0, total, length):
                block = range(start, min(start + length, total))
                yield block
                bar.update(len(block))

    def advance(self, block: range, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The states after the steps of a block and the points whose prox they are."""
        states, points = [], []
        step, on, g, F = self.scheme.step, self.flow.field.on, self.g, self.F
        ends = slice(block.start, block.stop + 1)
        try:
            for (a, b), (t, t_next) in zip(pairwise(self.plan.t[ends]), pairwise(self.times[ends]), strict=True):
                F.F = on(a, b)
                x, z = step(F, g, t, t_next, b - a, x)
                states.append(x)
                points.append(z)
        except FieldShapeError as error:
            self.error = error
            self.status = torch.full_like(self.status, FIELD_MISSHAPEN)
        return states, points

    def accept(self, block: range, states: list[Tensor], points: list[Tensor]) -> bool:
        """Keep a block's results; mark and blank samples in which a value was not finite. True if a sample failed."""
        if not states:
            return False
        self.steps += len(states)
        failed = False
        if not _sums_are_finite(points, states[-1]):
            states, failed = self._blank(block, torch.stack(states), torch.stack(points))
        if self.every_step_saved:
            self.saved += states
        else:
            rows = [k for k in range(len(states)) if block[k] + 1 in self.at_save]
            self.saved += [states[k] for k in rows]
            self.before += [states[k - 1] if k else self.x for k in rows]
        self.x = states[-1]
        going = (self.status == OK) | (self.status == FIELD_MISSHAPEN)
        self.reached = torch.where(going, self.plan.t[block.start + len(states)], self.reached)
        return failed

    def _blank(self, block: range, states: Tensor, points: Tensor) -> tuple[list[Tensor], bool]:
        """NaN from the first value on that is not finite; says which samples failed here, why and when."""
        finite_z = torch.isfinite(points.detach()).all(-1)
        finite_x = torch.isfinite(states.detach()).all(-1)
        good = (finite_z & finite_x).long().cumprod(0).bool()
        news = ~good[-1] & (self.status == OK)
        first = good.sum(0).clamp_max(len(states) - 1)
        z_at_fault = ~finite_z.gather(0, first.unsqueeze(0))[0]
        kind = torch.where(z_at_fault, FIELD_NOT_FINITE, STEP_FAILED).to(torch.int8)
        self.status = torch.where(news, kind, self.status)
        starts = torch.tensor(self.plan.t, dtype=torch.float64, device=news.device)[block.start:block.stop]
        self.reached = torch.where(news, starts[first], self.reached)
        if bool(news.any()) and not self.failure:
            i = _check.first(news & (first == first[news].min())) if news.ndim else ()
            self.failure = self._describe(i, block[int(first[i])], int(kind[i]))
        return list(torch.where(good.unsqueeze(-1), states, torch.nan)), bool(news.any())

    def _describe(self, sample: tuple[int, ...], step: int, kind: int) -> str:
        return f"sample {sample} failed in step {step} from t = {self.plan.t[step]:g}: {self.reasons[kind]}"

    @property
    def reasons(self) -> dict[int, str]:
        """Status in words."""
        return {**REASONS, STEP_FAILED: self.scheme.failure}

    def solution(self) -> Solution:
        """What has been computed so far."""
        x, ends = torch.stack(self.saved), self.plan.saves[:len(self.saved)]
        t = torch.tensor([self.plan.t[k] for k in ends], dtype=torch.float64)
        before = x[:-1] if self.every_step_saved or not self.before else torch.stack(self.before)
        source = LastSteps(self.scheme, tuple((self.plan.t[k - 1], self.plan.t[k]) for k in ends[1:]), before)
        stats = Stats(self.steps, self.F.evaluations, self.g.evaluations)
        return Solution(t, x, self.status, self._message(), stats, self.flow, source, self.reached, self.reasons)

    def _message(self) -> str:
        if self.error:
            return f"{self.error} The solution up to there is kept on this exception."
        if not self.failure:
            return f"success: {self.steps} steps"
        failed = int((self.status != OK).sum())
        return f"{failed} of {self.status.numel()} samples failed; first, {self.failure}."


def _sums_are_finite(points: list[Tensor], state: Tensor) -> bool:
    """A quick look: a sum is finite only if its terms are (an overflow of the sum only costs a closer look)."""
    if not _check.concrete(state):
        return True
    with torch.no_grad():
        if state.numel() > STACKED:
            points = [z.sum() for z in points]
        return math.isfinite(float(torch.stack(points).sum())) and math.isfinite(float(state.sum()))
