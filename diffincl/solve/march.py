"""The loop in which every sample has its own time and step; samples meet only at the knots of the weights.

Steps are searched without gradients. If derivatives are wanted, the accepted steps are taken once more, differentiably:
step lengths and switch times are constants then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ..inclusion import Inclusion
from ..solution import FIELD_NOT_FINITE, OK, STEP_TOO_SMALL, TOO_MANY_STEPS
from ..steps import Adaptive
from ..switching import Mode, Segment, Stepper, Tolerance
from .kinks import Crossings
from .parts import Part
from .recompute import recompute
from .records import Record, Rows, SwitchLog
from .watch import WatchedField

__all__ = ["Bind", "March"]

Bind = Callable[[float, float, Tensor], Stepper]  # (a, b, x) ↦ the scheme on the interval [a, b]
Rebind = Callable[[Record, Tensor], Stepper]  # the scheme on the interval of a round, for the samples in it

# A step that would leave less than this share of itself before a stop is stretched to end there.
STRETCH = 1e-2

# Samples that have arrived leave when no more than this share is still on the way, of at least so many.
LEAVE, MANY = 0.75, 32


class Clock(NamedTuple):
    """Where each sample is: time, the step it would like, the index of its next save time; attempts accepted and
    rejected, and attempts since its time last moved."""

    t: Tensor
    h: Tensor
    save: Tensor
    accepted: Tensor
    rejected: Tensor
    idle: Tensor


class March:
    """A solve in progress.

    ``intervals`` (a, b) lie between knots (or are the fixed steps, if ``control`` is None), ``saves`` are the save
    times after the first; ``stepper`` binds the scheme to an interval. A scheme that is not ``dense`` stops at save
    times.
    """

    def __init__(self, flow: Inclusion, stepper: Bind, F: WatchedField,
                 intervals: list[tuple[float, float]], saves: list[float], x0: Tensor, control: Adaptive | None,
                 dense: bool, kinks: Crossings):
        self.flow, self.stepper, self.F, self.intervals, self.control, self.dense, self.kinks = (
            flow, stepper, F, intervals, control, dense, kinks)
        self.saves = torch.tensor([*saves, torch.inf], dtype=torch.float64, device=x0.device)
        self.x, self.status = x0.detach(), torch.zeros(x0.shape[:-1], dtype=torch.int8, device=x0.device)
        zero = torch.zeros((*x0.shape[:-1], 1), dtype=torch.int64, device=x0.device)
        t = torch.full(zero.shape, intervals[0][0], dtype=torch.float64, device=x0.device)
        self.clock = Clock(t, torch.full_like(t, torch.inf), zero, zero, zero, zero)
        self.rounds, self.switches, self.records = 0, SwitchLog(x0), list[Record]()
        self.rows, self.interval = Rows(x0, len(saves)), intervals[0]
        self.part: Part | None = None  # who is on the way, if not all; of the whole batch is known
        self.whole: list[Tensor] = []

    def run(self, keep: bool, progress: bool) -> None:
        """March through all intervals; ``keep`` the accepted steps to take them again."""
        mode: Any = None
        first, last = self.intervals[0][0], self.intervals[-1][1]
        with torch.no_grad(), tqdm(total=last - first, unit="t", disable=not progress) as bar:
            for a, b in self.intervals:
                self.interval, stepper = (a, b), self.stepper(a, b, self.x)
                if self.control is not None and bool(torch.isinf(self.clock.h).all()):
                    self.clock = self.clock._replace(h=self._first_step(a, b, stepper.error_order))
                before, mode = mode, stepper.start(self.clock.t, self.x)
                if isinstance(before, Mode) and isinstance(mode, Mode):
                    self.switches.compare(before, mode, self.status.unsqueeze(-1) == OK, self.clock.t, kinks=False)
                while bool((live := self._live(b)).any()):
                    if stepper.lead and live.numel() >= MANY and int(live.sum()) <= LEAVE * live.numel():
                        mode, stepper = self._leave(stepper, live, mode)
                        live = self._live(b)
                    mode = self._round(stepper, b, live, mode, keep)
                    if progress:  # the time of the sample that is furthest behind
                        bar.update(float(torch.where(live, self.clock.t, b).min()) - first - bar.n)
                mode, self.part = self._resume(self._everyone(mode), mode), None

    def _live(self, b: float) -> Tensor:
        return (self.clock.t < b) & (self.status.unsqueeze(-1) == OK)

    def _leave(self, stepper: Stepper, live: Tensor, mode: Any) -> tuple[Any, Stepper]:
        """Go on with the samples that are still on the way alone."""
        lead = live.shape[:stepper.lead]
        stay = live.reshape(math.prod(lead), -1).any(-1)
        if bool(stay.all()):  # of every network some sample
            return mode, stepper
        who = stay.nonzero().squeeze(-1)
        self.whole = self._everyone(mode)
        self.part = self.part.those(stay) if self.part else Part(tuple(lead), who)
        return self._resume([self.part.take(v) for v in self.whole], mode), stepper.of(who)

    def _everyone(self, mode: Any) -> list[Tensor]:
        """What is known of all samples: state, status, clock and mode."""
        present = [self.x, self.status, *self.clock, *mode]
        return [self.part.put(w, v) for w, v in zip(self.whole, present, strict=True)] if self.part else present

    def _resume(self, known: list[Tensor], mode: Any) -> Any:
        """Go on from what is known of some samples; their mode."""
        n = 2 + len(self.clock)
        self.x, self.status, self.clock = known[0], known[1], Clock(*known[2:n])
        return type(mode)(*known[n:])

    def _round(self, stepper: Stepper, b: float, live: Tensor, mode: Any, keep: bool) -> Any:
        """One attempt of every sample that has not arrived; the modes after it."""
        c, x = self.clock, self.x
        stop = torch.full_like(c.t, b) if self.dense else self.saves[c.save].clamp(max=b)
        room = torch.where(live, stop - c.t, 0.0)
        wish = c.h if self.control is None else c.h.clamp(max=self.control.max_step)
        step = torch.where(live, torch.where(wish * (1 + STRETCH) >= room, room, wish), 0.0)
        tried = stepper.attempt(c.t, step, x, mode, self._tolerance())
        self.rounds += 1
        accept = live & (tried.ratio <= 1)
        length = tried.theta * tried.segment.span
        t = torch.where(accept, torch.where(length >= room, stop, c.t + length), c.t)
        self.x = torch.where(accept, tried.x, x)
        self.kinks.see(self.x, t.to(x))
        if isinstance(mode, Mode):
            self.switches.compare(tried.taken, tried.mode, accept, t, self.part)
        save = self._save(accept, c.t, t, tried.x, tried.segment)
        if keep:
            span = torch.where(accept, tried.segment.span, 0.0)
            self.records.append(Record(self.interval, c.t, span, tried.theta, accept, tried.taken, t, c.save, save,
                                       self.part))
        h = self._next_length(c.h, step, tried.ratio, stepper.error_order, live, accept, step >= wish)
        rejected, stuck = live & ~accept, live & (t <= c.t)
        self.clock = Clock(t, h, save, c.accepted + accept, c.rejected + rejected, (c.idle + 1) * stuck)
        if bool(stuck.any()) or (self.control is not None and self.rounds >= self.control.max_steps):
            self._fail(rejected, tried.ratio)
        return select(accept, tried.mode, mode)

    def _tolerance(self) -> Tolerance | None:
        return None if self.control is None else Tolerance(self.control.rtol, self.control.atol)

    def _next_length(self, h: Tensor, step: Tensor, ratio: Tensor, order: int, judged: Tensor, accept: Tensor,
                     full: Tensor) -> Tensor:
        """The step each sample would like next: a short step that was not its own choice does not shorten it."""
        if self.control is None:
            return h
        proposal = self.control.propose(step, ratio, order)
        kept = torch.where(full, proposal, torch.maximum(h, proposal))
        return torch.where(judged, torch.where(accept, kept, proposal.minimum(step)), h)

    def _save(self, accept: Tensor, t: Tensor, t_next: Tensor, x_next: Tensor, segment: Segment) -> Tensor:
        """Keep the states at the save times passed; the index of the next one of each sample."""
        save = self.clock.save
        while bool((passed := accept & (self.saves[save] <= t_next)).any()):
            state, n = state_at(self.saves[save], t, t_next, x_next, segment, self.flow)
            self.rows.add(save, passed, state, n, self.part)
            save = save + passed
        return save

    def _fail(self, rejected: Tensor, ratio: Tensor) -> None:
        """Mark samples that cannot go on."""
        c = self.clock
        tiny = 16 * torch.finfo(torch.float64).eps * c.t.abs().clamp(min=self.intervals[-1][1] - self.intervals[0][0])
        lost = (rejected & ((c.h <= tiny) | (self.control is None))) | (
            c.idle > 64 + 8 * (self.x.shape[-1] + self.switches.units))
        many = (c.accepted + c.rejected >= (self.control.max_steps if self.control else torch.inf)) & (
            c.t < self.intervals[-1][1])
        kind = torch.where(lost & ~ratio.isfinite(), FIELD_NOT_FINITE, torch.where(
            lost, STEP_TOO_SMALL, torch.where(many, TOO_MANY_STEPS, OK)))
        self.status = torch.where(self.status == OK, kind.squeeze(-1), self.status).to(torch.int8)

    def _first_step(self, a: float, b: float, order: int) -> Tensor:
        """A first step from the size of F and of its change over a tiny step (Hairer, Nørsett, Wanner, II.4)."""
        assert self.control is not None
        t, x, control = self.clock.t, self.x, self.control
        if control.first_step is not None:
            return torch.full_like(t, control.first_step)
        scale = Tolerance(control.rtol, control.atol).scale(x, x)

        def size(v: Tensor) -> Tensor:
            return (v.abs() / scale).amax(-1, keepdim=True).double()

        F0 = self.F(t.to(x), x)
        d0, d1 = size(x), size(F0)
        h0 = torch.where((d0 < 1e-5) | (d1 < 1e-5) | ~d1.isfinite(), 1e-6, 0.01 * d0 / d1).clamp(max=b - a)
        x1 = self.flow.g.prox(x - h0.to(x) * F0, h0.to(x), (t + h0).to(x))
        d2 = size(self.F((t + h0).to(x), x1) - F0) / h0
        largest = torch.maximum(d1, d2)
        h1 = torch.where(largest <= 1e-15, (h0 * 1e-3).clamp(min=1e-6), (0.01 / largest) ** (1 / order))
        h = torch.minimum(100 * h0, h1)
        return torch.where(h.isfinite() & (h > 0), h, h0)

    def again(self, x0: Tensor, checkpoint: bool) -> Rows:
        """The accepted steps once more from ``x0``, differentiably."""
        if checkpoint:
            _, kept = recompute([partial(self._retake, r, _anew(self.stepper)) for r in self.records], x0,
                                self.flow.field.parameters())
        else:
            kept, x, bound = [], x0, _once(self.stepper)
            for r in self.records:
                x, parts = self._retake(r, bound, x)
                kept.append(parts)
        rows = Rows(x0, self.rows.n)
        for r, parts in zip(self.records, kept, strict=True):
            for (save, passed), state, n in zip(r.passings(), parts[::2], parts[1::2], strict=True):
                rows.add(save, passed, state, n, r.part)
        return rows

    def _retake(self, r: Record, bind: Rebind, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """One round again from ``x``: the states after it; state and multiplier at the save times passed."""
        present = r.part.take(x) if r.part else x
        x_next, segment = bind(r, x).advance(r.t, r.span, r.theta, present, r.mode)
        parts: list[Tensor] = []
        for save, _ in r.passings():
            parts += state_at(self.saves[save], r.t, r.t_next, x_next, segment, self.flow)
        x_next = torch.where(r.accept, x_next, present)
        return r.part.put(x, x_next) if r.part else x_next, parts


def _anew(bind: Bind) -> Rebind:
    """Bound for every round."""
    return lambda r, x: bind(*r.interval, x).of(r.part.who) if r.part else bind(*r.interval, x)


def _once(bind: Bind) -> Rebind:
    """Bound anew for every interval and part only: weights read while searching carry no derivatives."""
    last: list[tuple[tuple[float, float], Part | None, Stepper]] = []

    def bound(r: Record, x: Tensor) -> Stepper:
        if not (last and last[0][0] == r.interval and last[0][1] is r.part):
            last[:] = [(r.interval, r.part, _anew(bind)(r, x))]
        return last[0][2]

    return bound


def state_at(s: Tensor, t: Tensor, t_next: Tensor, x_next: Tensor, segment: Segment, flow: Inclusion
             ) -> tuple[Tensor, Tensor]:
    """State, kept in C, and multiplier at times ``s`` of the step from t to t_next."""
    s = torch.where(s.isfinite(), s, t)  # samples without a save time left
    theta = ((s - t) / torch.where(segment.span > 0, segment.span, 1.0)).clamp(0, 1)
    inner = flow.g.prox(segment.state(theta), 0.0, s.to(x_next))
    return torch.where(s >= t_next, x_next, inner), segment.multiplier(theta)


def select(mask: Tensor, yes: Any, no: Any) -> Any:
    """Entry by entry the one or the other of two equal NamedTuples of tensors (*batch, n)."""
    if bool(mask.all()):
        return yes
    return type(yes)(*(torch.where(mask, a, b) for a, b in zip(yes, no, strict=True)))
