"""Step lengths: which steps a solve takes between its save times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from . import _check
from .curves import KNOT_TOLERANCE
from .fields import Field

__all__ = ["Adaptive", "Fixed", "Plan", "plan"]


@dataclass(frozen=True, init=False)
class Fixed:
    """Equal steps: every interval between two stops (save times and knots) is divided into steps no longer than ``h``.

    Parameters
    ----------
    h : float
        Longest step, in units of t.
    n : int
        Instead of ``h``: at least ``n`` steps in all, h = (t[-1] − t[0])/n.

    Raises
    ------
    TypeError, ValueError
        If both or neither are given, or one is not positive.

    Examples
    --------
    >>> Fixed(0.1), Fixed(n=100)
    (Fixed(h=0.1, n=None), Fixed(h=None, n=100))
    """

    h: float | None
    n: int | None

    def __init__(self, h: float | None = None, *, n: int | None = None):
        if (h is None) == (n is None):
            raise TypeError(f"Fixed takes either the step length h or the number of steps n; got h = {h}, n = {n}.")
        object.__setattr__(self, "h", None if h is None else _check.number("h", h, above=0.0))
        object.__setattr__(self, "n", None if n is None else _check.count("n", n))

    def longest(self, span: float) -> float:
        """Longest step allowed on a time span of this length."""
        return span / self.n if self.n is not None else float(self.h or 0.0)


@dataclass(frozen=True, init=False)
class Adaptive:
    """Steps chosen per sample so that the estimated local error stays below atol + rtol·max(|x|, |x_next|), entry by
    entry. The result of a sample does not depend on its neighbours. What is controlled is the error of one step: over
    many of them it adds up: ``SwitchingDP5`` stays within a few tolerances, ``ARS222``, which is extrapolated, within
    tens of them, and ``ProxHeun`` has a cautious estimate and stays at the tolerance at the price of more steps.

    Parameters
    ----------
    rtol, atol : float, positive
        Relative and absolute tolerance.
    first_step : float, optional
        Length of the first step; chosen from F by default.
    max_step : float
        Longest step. Set it to less than the shortest pulse of F or motion of a moving set that must not be stepped
        over: an error estimate sees F and g only where it evaluates them.
    max_steps : int
        Attempts per sample before it counts as failed.

    Raises
    ------
    TypeError, ValueError
        If a tolerance or a step is not a positive number.

    Examples
    --------
    >>> Adaptive(rtol=1e-9)
    Adaptive(rtol=1e-09, atol=1e-08, first_step=None, max_step=inf, max_steps=100000)
    """

    rtol: float
    atol: float
    first_step: float | None
    max_step: float
    max_steps: int

    def __init__(self, rtol: float = 1e-6, atol: float = 1e-8, *, first_step: float | None = None,
                 max_step: float = math.inf, max_steps: int = 100_000):
        for name, value in (("rtol", rtol), ("atol", atol)):
            object.__setattr__(self, name, _check.number(name, value, above=0.0))
        first_step = None if first_step is None else _check.number("first_step", first_step, above=0.0)
        object.__setattr__(self, "first_step", first_step)
        if max_step != math.inf:
            max_step = _check.number("max_step", max_step, above=0.0)
        object.__setattr__(self, "max_step", max_step)
        object.__setattr__(self, "max_steps", _check.count("max_steps", max_steps))

    def propose(self, h: Tensor, ratio: Tensor, error_order: int) -> Tensor:
        """The next step after one of length ``h`` with error ``ratio`` tolerances; a ratio that is not finite shortens
        it most."""
        factor = 0.9 * ratio.double().clamp(min=1e-12) ** (-1 / error_order)
        return h * torch.where(ratio.isfinite(), factor.clamp(0.2, 5.0), 0.2)


@dataclass(frozen=True)
class Plan:
    """Step boundaries and which of them are saved.

    The steps lead from each of the ``stops`` to the next, ``counts`` equal ones in every interval (one each, if left
    out), no longer than ``longest``; ``stops[saved[k]]`` is the k-th save time.
    """

    stops: tuple[float, ...]
    saved: tuple[int, ...]
    longest: float = math.inf
    counts: tuple[int, ...] = ()

    def boundaries(self) -> tuple[float, ...]:
        """Ends of the S steps, S + 1 floats, put together anew at every call."""
        if not self.counts:
            return self.stops
        boundaries = list(self.stops[:1])
        for (a, b), n in zip(pairwise(self.stops), self.counts, strict=True):
            boundaries += [_between(a, b, k, n) for k in range(1, n)] + [b]
        return tuple(boundaries)

    def saves(self) -> tuple[int, ...]:
        """``boundaries()[saves()[k]]`` is the k-th save time."""
        ends = (0, *accumulate(self.counts)) if self.counts else range(len(self.stops))
        return tuple(ends[k] for k in self.saved)

    @property
    def steps(self) -> int:
        """How many."""
        return sum(self.counts) if self.counts else len(self.stops) - 1

    def times(self) -> list[float]:
        """The save times."""
        return [self.stops[k] for k in self.saved]

    def last_steps(self) -> tuple[tuple[float, float], ...]:
        """The step (a, b) that ends at each save time after the first."""
        ends = [(*self.stops[k - 1:k + 1], self.counts[k - 1] if self.counts else 1) for k in self.saved[1:]]
        return tuple((_between(a, b, n - 1, n) if n > 1 else a, b) for a, b, n in ends)


def plan(field: Field, t: object, steps: Fixed | Adaptive | None = None) -> Plan:
    """Lay out the steps for save times ``t``: one from each stop to the next, divided further by ``steps``.

    Stops are the save times and the knots of the weights in between, so no step crosses a jump of F (theory §6, knots).
    A save time within 4 eps(dtype of t)·max|t| + 1e-9 pieces of a knot is that knot.
    """
    if steps is not None and not isinstance(steps, Fixed | Adaptive):
        raise TypeError(f"steps must be Fixed(h), Fixed(n=...), Adaptive(rtol, atol) or None; got {steps!r}.")
    values, eps = _check.times(t)
    largest = max(abs(values[0]), abs(values[-1]))
    tolerance = 4 * eps * largest + (KNOT_TOLERANCE * field.knot_length if field.knots else 0.0)
    saves = _snapped(values, field.knots, tolerance) if field.knots else values
    for a, b in pairwise(saves if field.knots else ()):
        if not a < b:
            raise ValueError(f"t holds two times that both count as the knot {a:g} of the weights (tolerance "
                             f"{tolerance:.1e}). Drop one, or pass t in float64.")
    if not (field.domain[0] <= saves[0] and saves[-1] <= field.domain[1]):
        raise ValueError(f"t must stay where the weights are defined, [{field.domain[0]:g}, {field.domain[1]:g}]; got "
                         f"[{saves[0]:g}, {saves[-1]:g}]. Build the curves with t0 and t1 that cover t.")
    longest = steps.longest(saves[-1] - saves[0]) if isinstance(steps, Fixed) else math.inf
    stops = saves if not field.knots else sorted({*saves, *(k for k in field.knots if saves[0] < k < saves[-1])})
    index = {time: k for k, time in enumerate(stops)}
    counts = () if math.isinf(longest) else tuple(_count(b - a, longest) for a, b in pairwise(stops))
    return Plan(tuple(stops), tuple(index[time] for time in saves), longest, counts)


def _snapped(values: list[float], knots: Sequence[float], tolerance: float) -> list[float]:
    """For each of some increasing times the knot within ``tolerance`` of it, else the time."""
    snapped, k = [], 0
    for value in values:
        while k + 1 < len(knots) and abs(knots[k + 1] - value) <= abs(knots[k] - value):
            k += 1
        snapped.append(knots[k] if abs(knots[k] - value) <= tolerance else value)
    return snapped


def _between(a: float, b: float, k: int, n: int) -> float:
    """The end of step k of n equal ones from a to b."""
    return a + (b - a) * k / n


def _count(span: float, longest: float) -> int:
    """Equal steps no longer than ``longest`` on an interval."""
    return max(1, math.ceil(span / longest - 1e-9))
