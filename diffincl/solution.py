"""A solution is data: times, states, multipliers, switches, status; interpolation and residual are computed from it."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from . import _check, plot
from .inclusion import Inclusion

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Solution", "SolveError", "Source", "Stats", "Switch", "Switches"]

OK, FIELD_NOT_FINITE, STEP_FAILED, FIELD_MISSHAPEN, TOO_MANY_STEPS, STEP_TOO_SMALL, LEFT_TUBE = range(7)

REASONS = {
    OK: "success",
    FIELD_NOT_FINITE: "the field was not finite, or the states grew beyond the dtype; look at F near this time or take "
                      "smaller steps",
    STEP_FAILED: "the step failed",
    FIELD_MISSHAPEN: "the field returned another shape or dtype than that of x",
    TOO_MANY_STEPS: "max_steps attempts were made; raise Adaptive(max_steps=...) or the tolerances, or use an implicit "
                    "scheme if F is stiff",
    STEP_TOO_SMALL: "no step is small enough: the tolerances are below rounding, or F jumps in x, or a moving g in t, "
                    "here; raise rtol and atol, use float64, or end one solve at the jump and start another behind it",
    LEFT_TUBE: "a step left the tube around C in which projections are unique; take smaller steps",
}


class Switch(NamedTuple):
    """One located switch: its time, the coordinate of x or the hidden unit, and what it did."""

    t: float
    index: int
    kind: str


@dataclass(frozen=True, eq=False)
class Switches:
    """Located switches of all samples, in the order of time within each sample.

    ``sample`` (n, number of batch dimensions), ``t`` (n,) float64, ``index`` (n,) of the coordinate or hidden unit, and
    ``kind`` (n,), an index of ``KINDS``.
    """

    KINDS: ClassVar[tuple[str, ...]] = ("hit lower", "leave lower", "hit upper", "leave upper", "unit on", "unit off")

    sample: Tensor
    t: Tensor
    index: Tensor
    kind: Tensor

    def __len__(self) -> int:
        return len(self.t)

    def of(self, *sample: int, kinks: bool = True) -> list[Switch]:
        """The switches of one sample, by its index in the batch; ``kinks`` says whether those of hidden units, too."""
        if len(sample) != self.sample.shape[1]:
            raise ValueError(f"of takes the {self.sample.shape[1]} batch indices of a sample; got {sample}.")
        mine = (self.sample == torch.tensor(sample, device=self.sample.device)).all(-1) if sample else self.kind >= 0
        mine = mine if kinks else mine & (self.kind < 4)
        rows = zip(self.t[mine].tolist(), self.index[mine].tolist(), self.kind[mine].tolist(), strict=True)
        return [Switch(t, index, self.KINDS[kind]) for t, index, kind in rows]


@dataclass(frozen=True, eq=False)
class Stats:
    """What a solve cost.

    ``steps``: rounds of the loop; ``evaluations`` of F and ``proxes`` of g, each with the whole batch, or with all that
    is still on the way (library fields with ``SwitchingDP5`` and ``ExactFlow``); ``accepted`` and ``rejected``
    (*batch,): steps of each sample, where every sample has its own (None otherwise; a step repeated to end at a switch
    counts as rejected); ``engine``: "torch", step by step, or "fused", one compiled loop over all steps.
    """

    steps: int
    evaluations: int
    proxes: int = 0
    accepted: Tensor | None = None
    rejected: Tensor | None = None
    engine: str = "torch"


class Source(Protocol):
    """How the states of a solution came to be: what they do not hold themselves."""

    def multiplier(self, solution: Solution) -> Tensor:
        """Elements of ∂g at t[1:], shape (T − 1, *batch, *state)."""
        ...

    def between(self, solution: Solution, k: int, times: Sequence[float]) -> Tensor:
        """States at increasing times within (t[k], t[k + 1]), shape (n, *batch, *state)."""
        ...


@dataclass(frozen=True, eq=False)
class Solution:
    """Result of ``solve``.

    Attributes
    ----------
    t : Tensor (T,), float64
        Save times reached; t[0] is the initial time.
    x : Tensor (T, *batch, *state)
        States; NaN from the failure on in samples that failed.
    status : Tensor (*batch,), int
        0 success, 1 the field was not finite, 2 a step failed, 3 the field returned another shape or dtype, 4 too many
        steps, 5 the step became too small, 6 a step left the tube in which projections on C are unique.
    message : str
        What happened, and the remedy; ``explain`` says it for one sample.
    stats : Stats
    flow : Inclusion
    source : Source
        How it was computed. Multiplier, residual and states between save times are computed from it and from the flow
        when they are first asked for: ask before you change the weights.
    reached : Tensor (*batch,), float64
        Last time up to which each sample was solved.
    reasons : Mapping[int, str]
        Status in words.
    multiplier : Tensor (T − 1, *batch, *state)
        Row k is an element of ∂g(t[k+1], x[k+1]): that of the step ending at t[k+1]; −x' = multiplier + F.
    switches : Switches or None
        Located hits, leaves and kinks; None for schemes that locate none.
    active : Tensor (T, *batch, d), int8
        −1 at the lower bound, 1 at the upper one, 0 between them (Orthant, Box, Whole).

    Examples
    --------
    >>> import torch, diffincl as di
    >>> flow = di.Inclusion(lambda t, x: torch.ones_like(x), di.Orthant())
    >>> sol = di.solve(flow, torch.tensor([1.5]), [0.0, 1.0, 2.0, 3.0])
    >>> sol.x[:, 0], sol.multiplier[:, 0]
    (tensor([1.5000, 0.5000, 0.0000, 0.0000]), tensor([ 0.0000, -0.5000, -1.0000]))
    >>> sol(1.25)
    tensor([0.3750])
    """

    t: Tensor
    x: Tensor
    status: Tensor
    message: str
    stats: Stats
    flow: Inclusion
    source: Source
    reached: Tensor
    reasons: Mapping[int, str]
    switches: Switches | None = None

    @cached_property
    def multiplier(self) -> Tensor:
        """Elements of ∂g at t[1:]; computed once."""
        with self._derivatives():
            return self.source.multiplier(self)

    @property
    def active(self) -> Tensor:
        """−1 at the lower bound, 1 at the upper one, 0 between them."""
        bounds = getattr(self.flow.g, "bounds", None)
        if bounds is None:
            raise ValueError(f"an active set is kept for Orthant, Box and Whole; got {self.flow.g}. Look at "
                             f"sol.multiplier: it is not zero where the set acts.")
        lower, upper = bounds(self.x)
        return torch.where(self.x <= lower, -1, torch.where(self.x >= upper, 1, 0)).to(torch.int8)

    @property
    def success(self) -> bool:
        """Whether every sample reached the last time."""
        return bool((self.status == OK).all())

    def explain(self, *sample: int) -> str:
        """What happened to one sample, and the remedy; ``sample`` is its index in the batch."""
        if len(sample) != self.status.ndim:
            raise ValueError(f"explain takes the {self.status.ndim} batch indices of a sample; got {sample}.")
        kind, reached = int(self.status[sample]), float(self.reached[sample])
        return f"sample {sample}: solved up to t = {reached:g}: {self.reasons[kind]}"

    def __call__(self, t: float | Tensor) -> Tensor:
        """State at time ``t`` in [t[0], t[-1]], in C(t); shape (*batch, *state).

        ``t`` may be a 1-D tensor of n times: shape (n, *batch, *state). Between save times the steps are taken again
        from the save time before, so no switch is smeared: ask for many times at once. Fixed steps end where they did,
        and the state is interpolated linearly within the one that holds ``t``; states of ``Penalty`` are between save
        times. NaN where a sample had failed.

        Raises
        ------
        ValueError
            If ``t`` lies outside the solved interval.
        SolveError
            If steps that were taken fail when they are taken again, as after a change of the weights.
        """
        if isinstance(t, Tensor) and t.ndim == 1:
            return self._at([self._inside(float(time), t) for time in t])
        return self._at([self._inside(_check.number("t", t), t)])[0]

    def plot(self, *, coordinates: Sequence[int] | None = None, sample: int | Sequence[int] | None = None,
             labels: Sequence[str] | None = None, legend: bool = True, ax: Axes | None = None) -> Axes:
        """Coordinates of one sample over time, with contacts and switches: see ``plot.trajectory``."""
        return plot.trajectory(self, coordinates=coordinates, sample=sample, labels=labels, legend=legend, ax=ax)

    def _derivatives(self) -> torch.set_grad_enabled:
        """Whether steps that are taken again have derivatives: those of a part alone would be wrong."""
        return torch.set_grad_enabled(torch.is_grad_enabled() and self.x.requires_grad)

    def _inside(self, time: float, given: float | Tensor) -> float:
        """A time in the solved interval, up to the rounding of the dtype it was given in."""
        first, last = float(self.t[0]), float(self.t[-1])
        tensor = isinstance(given, Tensor) and given.is_floating_point()
        eps = torch.finfo(given.dtype if isinstance(given, Tensor) and tensor else torch.float64).eps
        room = 4 * eps * max(abs(first), abs(last))
        if not first - room <= time <= last + room:
            raise ValueError(f"t must lie in the solved interval [{first!r}, {last!r}]; got {time!r}. Solve further to "
                             f"look further.")
        return min(max(time, first), last)

    def _at(self, times: list[float]) -> Tensor:
        """States at times of the interval: those saved as they are, the others from their source, interval by
        interval."""
        saved = {time: k for k, time in enumerate(self.t.tolist())}
        rows: dict[float, Tensor] = {time: self.x[saved[time]] for time in times if time in saved}
        by_interval: dict[int, list[float]] = {}
        for time in sorted(set(times) - set(rows)):
            by_interval.setdefault(bisect(self.t.tolist(), time) - 1, []).append(time)
        for k, inner in by_interval.items():
            with self._derivatives():
                states = self.source.between(self, k, inner)
            for time, x in zip(inner, states, strict=True):
                rows[time] = torch.where((time <= self.reached).unsqueeze(-1), x, torch.nan)
        return torch.stack([rows[time] for time in times])

    def require_again(self, again: Solution, k: int) -> None:
        """Raise where steps taken ``again`` from t[k] failed in a sample that had got to t[k + 1]."""
        lost = (again.status != OK) & (self.reached >= self.t[k + 1].to(self.reached))
        if _check.concrete(lost) and bool(lost.any()):
            i = _check.first(lost) if lost.ndim else ()
            raise SolveError(f"states between save times are those of steps taken again, which failed: "
                             f"{again.explain(*i)}. Ask before you change the weights.{_check.others(lost)}", again)

    def complementarity(self) -> Tensor:
        """Distance of the multiplier from ∂g(t, x) at t[1:], shape (T − 1, *batch): 0 up to rounding where each
        multiplier is one; for boxes this is complementarity of multiplier and distance to the bound."""
        rows = [self.flow.g.normal_distance(x, n, t) for x, n, t in
                zip(self.x[1:], self.multiplier, self.t[1:], strict=True)]
        return torch.stack(rows) if rows else self.x[:0, ..., 0]

    def residual(self) -> Tensor:
        """dist(−x' − F(t, x), ∂g(t, x)) at t[1:], shape (T − 1, *batch): how well the states solve the inclusion (C1).

        x' is the difference quotient over the save interval and F takes its limit from the left, so for an exact
        solution the residual is of the order of the spacing of the save times, except in intervals with a contact.
        """
        rows = []
        for k in range(len(self.t) - 1):
            a, b, x = float(self.t[k]), float(self.t[k + 1]), self.x[k + 1]
            last_knot = max((knot for knot in self.flow.field.knots if a < knot < b), default=a)
            F = self.flow.field.on(last_knot, b)(self.t[k + 1], x)
            rows.append(self.flow.g.normal_distance(x, (self.x[k] - x) / (b - a) - F, self.t[k + 1]))
        return torch.stack(rows) if rows else self.x[:0, ..., 0]


class SolveError(RuntimeError):
    """A solve that failed; ``solution`` holds what was computed up to there."""

    def __init__(self, message: str, solution: Solution):
        super().__init__(message)
        self.solution = solution

    def __reduce__(self) -> tuple[type[SolveError], tuple[str, Solution]]:
        return type(self), (str(self), self.solution)  # so that another process can receive it
