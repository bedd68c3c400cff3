"""Solve an inclusion: the same steps for all samples along a plan, or steps of its own for each."""

from __future__ import annotations

import warnings
from functools import partial

from torch import Tensor

from .. import _check
from ..inclusion import Inclusion
from ..penalty import Penalty
from ..schemes import ForwardEuler, Implicit, Scheme
from ..solution import Solution, SolveError
from ..steps import Adaptive, Fixed, Plan, plan
from ..switching import ExactFlow, SwitchingDP5
from .fused import compiler_missing, is_quicker, solve_fused, unfit
from .kinks import CROSSED, Crossings, KinkWarning
from .marched import solve_marched
from .penalised import solve_penalised
from .planned import planned_again, solve_planned

__all__ = ["KinkWarning", "solve"]


def solve(flow: Inclusion, x0: Tensor, t: Tensor | list[float], *,
          scheme: Scheme | SwitchingDP5 | ExactFlow | Penalty | None = None,
          steps: Fixed | Adaptive | None = None, gradient: str = "backprop", throw: bool = True,
          progress: bool = False, engine: str | None = None) -> Solution:
    """Solve −x'(t) ∈ ∂g(t, x(t)) + F(t, x(t)), x(t[0]) = x0.

    Parameters
    ----------
    flow : Inclusion
    x0 : Tensor (*batch, d), floating point, in C(t[0])
        Its dtype and device are kept.
    t : Tensor (T,) or sequence, strictly increasing
        Save times, kept in float64; t[0] is the initial time. Inside torch.compile a list of floats.
    scheme : Scheme, optional
        ``ForwardEuler()`` (the ResNet layer) by default.
    steps : Fixed or Adaptive, optional
        Without it one step leads from each stop to the next; stops are the save times and the knots of the weights, so
        ``t = torch.linspace(0, T, N + 1)`` with N-piece weights on [0, T] is the N-layer network. ``SwitchingDP5``
        takes ``Adaptive()`` then, and ``ExactFlow`` needs none. With ``Adaptive`` every sample has steps of its own.
    gradient : "backprop" or "checkpoint"
        Automatic differentiation through the steps. "backprop" keeps what every step computes; "checkpoint" keeps 2√N
        of N states and takes the steps once more in the backward pass: first derivatives only; F and g must give the
        same values again (torch's default random numbers are drawn again). Under torch.func, torch.compile and
        forward mode both are plain automatic differentiation of fixed steps. ``Penalty`` has "backprop" only.
    throw : bool
        Raise ``SolveError`` with the partial solution when a sample fails; otherwise go on with the others (whose
        states are right; for gradients of weights that they share with it, solve again without the failed sample).
    progress : bool
        Show a progress bar over the steps.
    engine : "torch" or "fused", optional
        "torch" takes step by step. "fused" is one loop over all steps, compiled by numba (``pip install
        'diffincl[fast]'``): ``ResNetField``, ``ResNetDField``, ``ResNetSField`` on ``Orthant``, ``Box``, ``Whole`` with
        ``ForwardEuler`` and ``ProxHeun`` in float32 or float64, without derivatives; states are those of "torch" up to
        rounding. By default "fused" where ``steps`` are Fixed, the compiler is installed, all that fits, the weights
        are small enough for it to be quicker and the work large enough to be worth it (some hundred steps);
        ``sol.stats.engine`` says which it was. Where a value is not finite "torch" solves again and says why. numba
        compiles once, seconds, and keeps it on disk. On CUDA devices the loop is one Triton kernel, up to d = 64 in
        float32 and 32 in float64, chosen by an estimate for d up to half of that and some thousand steps; "torch"
        replays many equal steps of library fields there as CUDA graphs. Neither has run on a GPU yet.

    Returns
    -------
    Solution

    Raises
    ------
    TypeError, ValueError
        For bad arguments: the message names the argument, the value and the remedy. Steps per sample (``Adaptive``,
        ``SwitchingDP5``, ``ExactFlow``) and ``Penalty`` are refused under torch.func, torch.compile and forward mode.
        ``engine="fused"`` where it does not fit; ImportError without numba.
    SolveError
        If F or the prox turns NaN or infinite, F returns another shape, or an inner iteration does not converge.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> flow = di.Inclusion.from_velocity(lambda t, x: -torch.cos(t).expand_as(x), di.Orthant())
    >>> sol = di.solve(flow, torch.tensor([0.5], dtype=torch.float64), [0.0, 1.5, 3.0], steps=di.Fixed(n=300))
    >>> sol.x[:, 0].round(decimals=2)
    tensor([0.5000, 0.0000, 0.8500], dtype=torch.float64)

    Notes
    -----
    Fixed steps of the explicit schemes work under torch.func.vmap, jacrev, jvp, hessian and
    torch.compile(fullgraph=True), where values cannot be read: start and states are not checked there, and a failure
    shows as NaN. Gradients are those of the discrete steps. There is no reverse-time adjoint: trajectories merge at
    contact, so the flow is not injective and cannot be run backward. Where a trajectory crosses a kink of g (ℓ1), the
    derivatives of the steps are not those of the flow; with gradients that is a ``KinkWarning``, except where values
    cannot be read.

    With steps per sample F is called with every sample at a time of its own, t (*batch, 1): an F that couples samples,
    by batch statistics for instance, mixes states of different times there. Take Fixed steps with it.
    """
    scheme = ForwardEuler() if scheme is None else scheme
    if not isinstance(flow, Inclusion):
        raise TypeError(f"flow must be an Inclusion; got {type(flow).__name__}. Write Inclusion(field, g).")
    marches = isinstance(scheme, SwitchingDP5 | ExactFlow)
    if isinstance(scheme, type) or not (marches or isinstance(scheme, Penalty) or callable(getattr(scheme, "step", 0))):
        raise TypeError(f"scheme must be an instance such as ForwardEuler(); got {scheme!r}.")
    _check.choice("gradient", gradient, ("backprop", "checkpoint"))
    _check.choice("engine", engine, (None, "torch", "fused"))
    if flow.field.state_dims > 1 and (marches or isinstance(scheme, Implicit | Penalty) or isinstance(steps, Adaptive)):
        raise ValueError(f"{type(flow.field).__name__} has images as states, which take the same explicit steps "
                         f"together; got scheme = {scheme} and steps = {steps}. Use ForwardEuler(), ProxHeun() or "
                         f"ARS222() with fixed steps.")
    layout = plan(flow.field, t, steps)
    flow.validate(x0, layout.stops[0])
    fused = _is_fused(flow, x0, layout, scheme, steps, progress, engine)
    kinks = Crossings(flow.g, x0, layout.stops[0])
    if isinstance(scheme, Penalty):
        if steps is not None:
            raise ValueError(f"Penalty has steps of its own, Penalty(step=...) or its tolerances; got steps = {steps}.")
        if gradient != "backprop":
            raise ValueError(f"Penalty leaves its steps to torchdiffeq or scipy and cannot take them again; got "
                             f"gradient = {gradient!r}. Take 'backprop'.")
        solution, error = solve_penalised(flow, x0, layout, scheme, progress), None
    elif marches or isinstance(steps, Adaptive):
        solution, error = solve_marched(flow, x0, layout, scheme, steps, gradient, progress, kinks)
    elif fused and (found := solve_fused(flow, x0, layout, scheme, partial(planned_again, flow, scheme, gradient))):
        solution, error = found, None
    else:
        solution, error = solve_planned(flow, x0, layout, scheme, gradient, throw, progress, kinks)
    if kinks.crossed and solution.x.requires_grad:
        warnings.warn(CROSSED.format(g=flow.g), KinkWarning, stacklevel=2)
    if error or (throw and _check.concrete(solution.status) and not solution.success):
        raise SolveError(solution.message, solution) from error
    return solution


def _is_fused(flow: Inclusion, x0: Tensor, layout: Plan, scheme: object, steps: Fixed | Adaptive | None,
              progress: bool, engine: str | None) -> bool:
    """Whether all steps are taken in one compiled loop."""
    chosen = engine is not None
    if engine == "torch" or not (chosen or (isinstance(steps, Fixed) and not progress and _check.plain_autograd())):
        return False
    misfit = "it takes fixed steps; got steps = " + repr(steps) if isinstance(steps, Adaptive) else \
        "it shows no progress" if progress else unfit(flow, x0, scheme)
    if not chosen:
        return not misfit and is_quicker(flow, x0, layout) and not compiler_missing(x0)
    if misfit:
        raise ValueError(f"engine='fused' does not fit this solve: {misfit}. Leave engine out, or take 'torch'.")
    if missing := compiler_missing(x0):
        raise ImportError(f"engine='fused' needs {missing}, or leave engine out.")
    return True
