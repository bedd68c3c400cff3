"""The penalty method and its way through torchdiffeq and scipy."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .. import _check
from ..curves import KNOT_TOLERANCE
from ..fields import Field
from ..functions.base import Time
from ..inclusion import Inclusion
from .system import System
from .velocity import Stopped, Velocity

__all__ = ["Penalty", "PenaltyError"]

STIFF = ("BDF", "Radau", "LSODA")  # scipy's methods that take large steps where 1/lam is large
# No explicit method in torchdiffeq is stable on x' = −x/lam with a step beyond this many lam (rk4: 2.79).
STABLE = 3.0
# scipy's smallest rtol, 100 rounding units of float64.
SMALLEST_RTOL = 100 * torch.finfo(torch.float64).eps


class PenaltyError(RuntimeError):
    """An integration that stopped early; ``states`` (K, *batch, d) are those at the save times reached, ``at_fault``
    (*batch,) says which samples were not finite (none, where that is not why)."""

    def __init__(self, message: str, states: Tensor, at_fault: Tensor):
        super().__init__(message)
        self.states, self.at_fault = states, at_fault


@dataclass(frozen=True)
class Penalty:
    """The penalised ODE −x' = (x − prox_{λg}(x))/λ + F(t, x), through torchdiffeq or scipy.

    Parameters
    ----------
    lam : float
        λ > 0, in units of time. The state leaves a set C by about λ‖F‖, and explicit methods need steps of order λ.
    method : str
        A Runge–Kutta method of torchdiffeq ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun"; with fixed steps
        "euler", "midpoint", "heun2", "heun3", "rk4"), differentiable by backpropagation; or one of scipy's for stiff
        problems, "BDF", "Radau", "LSODA", without gradients.
    step : float, optional
        Step of the methods with fixed steps, and of these only; stable below 2λ ("euler", "midpoint", "heun2"), 2.5λ
        ("heun3") and 2.7λ ("rk4"). More than 3λ is refused.
    rtol, atol : float
        Tolerances of the methods that choose their steps, on the root mean square over d of the error of a step: of the
        worst sample in torchdiffeq, of the whole batch in scipy. One step size serves the whole batch.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range, the method is not known, or ``step`` is missing or has no meaning.

    Notes
    -----
    (x − prox_{λg}(x))/λ is the gradient of the Moreau envelope of g, Lipschitz with constant 1/λ. For a fixed convex C
    ‖x_λ − x‖(t)² <= (λ/2)B²∫E_μ(s, t)²ds with B a bound of ‖F‖, and on the orthant and boxes the error is of order
    one: ‖x_λ − x‖ <= λB(1 + ∫L E_μ) with B the norm of (max over t of |F_i|)_i. scipy's methods get the exact
    Jacobian, one block a sample, so F must act on each sample alone; they run in float64, F in the dtype of x0.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> flow = di.Inclusion(lambda t, x: torch.ones_like(x), di.Orthant())
    >>> x, evaluations = Penalty(1e-3).integrate(flow, torch.ones(1, dtype=torch.float64), [0.0, 0.5, 2.0])
    >>> x[:, 0].round(decimals=5)
    tensor([ 1.0000,  0.5000, -0.0010], dtype=torch.float64)

    References
    ----------
    Moreau, "Proximité et dualité dans un espace hilbertien", 1965 (the envelope); theory C9.
    """

    lam: float
    method: str = "dopri5"
    _: KW_ONLY
    step: float | None = None
    rtol: float = 1e-6
    atol: float = 1e-8

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", _check.number("lam", self.lam, above=0.0))
        object.__setattr__(self, "rtol", _check.number("rtol", self.rtol, at_least=SMALLEST_RTOL))
        object.__setattr__(self, "atol", _check.number("atol", self.atol, above=0.0))
        adaptive, fixed = torchdiffeq_methods()
        _check.choice("method", self.method, (*adaptive, *fixed, *STIFF))
        if self.method not in fixed:
            if self.step is not None:
                raise ValueError(f"step is for methods with fixed steps, {', '.join(fixed)}; got step = {self.step} "
                                 f"with {self.method!r}, which chooses its steps from rtol and atol. Leave step out.")
            return
        if self.step is None:
            raise ValueError(f"step must be given for {self.method!r}, which has fixed steps. Pass step = "
                             f"{self.lam / 2:g} (lam/2) or less, or an adaptive method: {', '.join(adaptive)}.")
        object.__setattr__(self, "step", _check.number("step", self.step, above=0.0))
        if self.step > STABLE * self.lam:
            raise ValueError(f"step must be at most {STABLE:g}·lam = {STABLE * self.lam:g}, beyond which no explicit "
                             f"method is stable; got {self.step:g}. Take lam/2, or one of {', '.join(STIFF)}.")

    def integrate(self, flow: Inclusion, x0: Tensor, t: Tensor | list[float], *, progress: bool = False
                  ) -> tuple[Tensor, int]:
        """The states x (T, *batch, d) at the times ``t``, and how often F was evaluated (with the whole batch).

        Parameters
        ----------
        flow : Inclusion, with convex g
        x0 : Tensor (*batch, d), floating point, in C(t[0])
            Its dtype and device are kept.
        t : sequence of T floats, strictly increasing
            The integration restarts at the knots of the weights; torchdiffeq's methods stop at every time, scipy's
            interpolate between their steps.
        progress : bool
            Show a progress bar over the time.

        Raises
        ------
        TypeError, ValueError
            For bad arguments, an F that returns another shape or dtype, a g that is not convex, and where gradients are
            asked of a method of scipy.
        PenaltyError
            If F or the prox is not finite, or the integrator cannot meet its tolerance.
        """
        times = self._validate(flow, x0, t)
        states = [x0]
        with tqdm(total=times[-1] - times[0], unit="t", disable=not progress) as bar:
            velocity = Velocity(flow, self.lam, x0, times[0], bar)
            try:
                self._through(velocity, times, states)
                velocity.reach(times[-1])
            except Stopped as stop:
                raise PenaltyError(f"the penalty with method {self.method!r} and lam = {self.lam:g} stopped at "
                                   f"t = {stop.t:g}: {stop.reason}", torch.stack(states), stop.at_fault) from stop
        return torch.stack(states), velocity.evaluations

    def _through(self, velocity: Velocity, times: list[float], states: list[Tensor]) -> None:
        """Append the states at the save times after the first."""
        advance, x = self._scipy if self.method in STIFF else self._torchdiffeq, states[0]
        for stops in _pieces(velocity.flow.field, times):
            for time, state in zip(stops[1:], advance(velocity, x, stops), strict=True):
                x = state
                if time == times[len(states)]:
                    states.append(x)

    def multiplier(self, flow: Inclusion, t: Time, x: Tensor) -> Tensor:
        """(x − prox_{λg}(x))/λ, shape of ``x``: the penalty force, in place of the element of ∂g."""
        return (x - flow.g.prox(x, self.lam, t)) / self.lam

    def _validate(self, flow: Inclusion, x0: Tensor, t: Tensor | list[float]) -> list[float]:
        """Check the arguments; the times as floats."""
        if not isinstance(flow, Inclusion):
            raise TypeError(f"flow must be an Inclusion; got {type(flow).__name__}. Write Inclusion(field, g).")
        if not flow.g.convex:
            raise ValueError(f"g must be convex for a penalty: its force is the gradient of the Moreau envelope. Got "
                             f"{flow.g}; use ForwardEuler.")
        if not _check.plain_autograd():
            raise ValueError("Penalty cannot run inside torch.compile, a torch.func transform or forward mode: its "
                             "steps depend on the values. Pass the whole batch as x0 (*batch, d), and use "
                             "torch.autograd.")
        times, _ = _check.times(t)
        flow.validate(x0, times[0])
        return times

    def _torchdiffeq(self, velocity: Velocity, x: Tensor, stops: list[float]) -> Iterator[Tensor]:
        """The states at ``stops[1:]``, by one call of odeint from each stop to the next."""
        from torchdiffeq import odeint

        velocity.restrict(stops[0], stops[-1])
        velocity.proposal = 0.1 * self.lam  # within the scale of the penalty; grows tenfold a step where it may
        for a, b in pairwise(stops):
            velocity.origin = a
            s = torch.tensor([0.0, b - a], dtype=torch.float64, device=x.device)
            try:
                x = odeint(velocity, x, s, rtol=self.rtol, atol=self.atol, method=self.method,
                           options=self._options(velocity, s))[1]  # type: ignore[assignment]
            except AssertionError as error:
                raise velocity.stopped(message=error) from error
            velocity.require_finite(x)
            yield x

    def _options(self, velocity: Velocity, s: Tensor) -> dict[str, object]:
        """torchdiffeq's options for a call on the interval ``s``."""
        if self.step is not None:
            n = max(1, math.ceil(float(s[1]) / self.step - 1e-9))
            grid = torch.linspace(0.0, float(s[1]), n + 1, dtype=s.dtype, device=s.device)
            return {"grid_constructor": lambda F, x, t: grid}
        # step_t: the last step ends at the stop, so F is not evaluated beyond it.
        return {"norm": _worst_sample, "first_step": velocity.proposal, "step_t": s[1:]}

    def _scipy(self, velocity: Velocity, x: Tensor, stops: list[float]) -> Iterator[Tensor]:
        """The states at ``stops[1:]``, by one call of solve_ivp on the piece, in float64."""
        from scipy.integrate import solve_ivp

        velocity.restrict(stops[0], stops[-1])
        self._require_start(velocity, x)
        system, saves = System(velocity, x), np.array(stops) - stops[0]
        bands: dict[str, Any] = {"lband": x.shape[-1] - 1, "uband": x.shape[-1] - 1} if self.method == "LSODA" else {}
        with torch.no_grad():
            found = solve_ivp(system.value, (0.0, saves[-1]), system.y0, method=self.method, t_eval=saves[1:],
                              rtol=self.rtol, atol=self.atol, jac=system.banded if bands else system.sparse, **bands)
        for y in found.y.T:
            state = system.tensor(y)
            velocity.require_finite(state)
            yield state.to(x.dtype)
        if found.status < 0:
            raise velocity.stopped(message=found.message)

    def _require_start(self, velocity: Velocity, x: Tensor) -> None:
        """The velocity at the start of a piece must be finite (scipy may not notice) and want no gradient."""
        value = velocity(torch.zeros((), dtype=torch.float64, device=x.device), x)
        if value.requires_grad:
            raise ValueError(f"method {self.method!r} runs in scipy and has no gradients, but x0 or the value of F "
                             f"requires one. Use a method of torchdiffeq ({', '.join(sum(torchdiffeq_methods(), ()))}),"
                             f" or solve under torch.no_grad().")
        velocity.require_finite(value)


def torchdiffeq_methods() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The Runge–Kutta methods of the installed torchdiffeq: those that choose their steps, those with fixed steps.

    Its Adams methods are left out: up to order 12, they are unstable at any step that is worth taking here.
    """
    from torchdiffeq._impl.odeint import SOLVERS
    from torchdiffeq._impl.rk_common import RKAdaptiveStepsizeODESolver
    from torchdiffeq._impl.solvers import FixedGridODESolver

    adaptive = (name for name, solver in SOLVERS.items() if issubclass(solver, RKAdaptiveStepsizeODESolver))
    fixed = (name for name, solver in SOLVERS.items() if issubclass(solver, FixedGridODESolver) and "adams" not in name)
    return tuple(adaptive), tuple(fixed)


@torch.no_grad()
def _worst_sample(error: Tensor) -> Tensor:
    """Root mean square over d of the worst sample, so that a large batch does not hide it."""
    return error.square().mean(-1).amax().sqrt()


def _pieces(field: Field, times: list[float]) -> Iterator[list[float]]:
    """The save times, cut at the knots of the weights: each piece is a list of its ends and the times in between."""
    room = KNOT_TOLERANCE * field.knot_length if field.knots else 0.0
    cuts = [times[0]]
    for knot in field.knots:
        k = bisect_left(times, knot - room)  # a save time may differ from its knot by rounding
        cut = times[k] if k < len(times) and times[k] <= knot + room else knot
        if cuts[-1] < cut < times[-1]:
            cuts.append(cut)
    for a, b in pairwise([*cuts, times[-1]]):
        yield [a, *times[bisect_right(times, a):bisect_left(times, b)], b]
