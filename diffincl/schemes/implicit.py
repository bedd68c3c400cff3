"""Implicit in F: the step is the root of an equation, found by the iteration in ``newton``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import _check
from ..fields import FieldFunction
from ..functions import ProxFunction
from .base import StepConstants
from .newton import Source, differentiated, implicit_step, jacobian, require_precision, residual, times

__all__ = ["Implicit", "ImplicitEuler", "SemiImplicitEuler", "Trapezoid"]


class Implicit:
    """A scheme whose step is the root u = prox_h(source(u, x)); ``equation`` is its formula."""

    tol: float | None
    max_iter: int
    prox_fraction: ClassVar[float] = 1.0

    def equation(self, F: FieldFunction, t: Tensor, t_next: Tensor, h: float, x: Tensor) -> Source:
        """(u, x) ↦ the point whose prox u must be."""
        raise NotImplementedError

    def step(self, F: FieldFunction, g: ProxFunction, t: Tensor, t_next: Tensor, h: float,
             x: Tensor) -> tuple[Tensor, Tensor]:
        """One step; see the package for the contract."""
        require_precision(type(self).__name__, x)
        return implicit_step(self.equation(F, t, t_next, h, x), g, t_next, h, x, self.tol, self.max_iter)

    def residual(self, F: FieldFunction, g: ProxFunction, t: Tensor, t_next: Tensor, h: float, x: Tensor) -> Tensor:
        """How far the iteration of a step stays from its root, relative to 1 + |u|, (*batch,)."""
        return residual(self.equation(F, t, t_next, h, x), g, t_next, h, x, self.tol, self.max_iter)


@dataclass(frozen=True)
class ImplicitEuler(Implicit):
    """Backward Euler: x⁺ = prox_h(x − hF(t + h, x⁺)). The scheme has no step limit for monotone F.

    Parameters
    ----------
    tol : float
        A sample has converged when the residual |u − prox_h(x − hF(t + h, u))| is at most tol·(1 + |u|) entry by entry,
        or no larger than its own rounding (of a stiff F it cannot be small: rounding of u is multiplied by hL); None
        takes 256 rounding units of the dtype.
    max_iter : int
        Newton iterations before a sample counts as failed; most steps take fewer than ten.

    Raises
    ------
    ValueError
        In ``step``, for a dtype coarser than float32.

    Notes
    -----
    With Γ(u) = u − x + hF(t + h, u) the step solves 0 ∈ Γ(u) + h∂g(u), that is, for every γ > 0,
    u = prox_{γh}(u − γΓ(u)). Semismooth Newton runs on this residual with γ = 1/‖Γ'(u)‖, which keeps it from saturating
    where hL is large. Where it cycles between the pieces of a kinky F, the sample goes through shorter steps sh,
    0 < s < 1, each started from the root of the one before: for monotone F the root is a continuous function of s, and
    near a root Newton arrives. A sample that has not converged after ``max_iter`` iterations fails, and its value is
    never kept. The result is differentiated implicitly (one linear solve, first derivatives only), not through the
    iterations. F must act on each sample of the batch alone; g.prox must take a step of shape (*batch, 1).

    Examples
    --------
    >>> import torch, diffincl as di
    >>> flow = di.Inclusion(lambda t, x: 1000 * (x - 1), di.Orthant())
    >>> di.solve(flow, torch.zeros(1), [0.0, 1.0], scheme=ImplicitEuler()).x[-1]
    tensor([0.9990])

    References
    ----------
    Qi, Sun, "A nonsmooth version of Newton's method", 1993; theory §6.
    """

    tol: float | None = None
    max_iter: int = 1000
    order = 1
    failure: ClassVar[str] = ("the inner Newton iteration of ImplicitEuler did not converge; take smaller "
                              "steps, raise max_iter, or use float64")

    def __post_init__(self) -> None:
        _check_iteration(self.tol, self.max_iter)

    def equation(self, F: FieldFunction, t: Tensor, t_next: Tensor, h: float, x: Tensor) -> Source:
        """x − hF(t + h, u)."""
        return lambda u, x: x - h * F(t_next, u)

    def bound(self, size: Tensor, c: StepConstants) -> Tensor:
        """(‖x‖ + h‖F(t + h, 0)‖)/(1 − hμ), infinite where hμ >= 1 (D4)."""
        return _resolvent(size + c.h * c.drift_next, c.h * c.one_sided_next)


@dataclass(frozen=True)
class Trapezoid(Implicit):
    """Trapezoidal rule on F, the set implicit: x⁺ = prox_h(x − h((1 − θ)F(t, x) + θF(t + h, x⁺))).

    Second order for θ = ½, through contact too (order 1 on curved sets and for g that is no indicator); ImplicitEuler
    is θ = 1, whatever lies between trades accuracy for damping, at order 1.

    Parameters
    ----------
    theta : float in [½, 1]
        Weight of the new end of the step. Below ½ the linear test equation with large hL is unstable, so the scheme
        would have the step limit that an implicit one is meant to remove.
    tol, max_iter
        As for ``ImplicitEuler``.

    Raises
    ------
    ValueError
        If ``theta`` lies outside [½, 1]; in ``step``, for a dtype coarser than float32.

    Notes
    -----
    Factor (D4). Write w = x − (1 − θ)hF(t, x) = θx + (1 − θ)(x − hF(t, x)), so ‖Δw‖ <= (θ + (1 − θ)ρ)‖Δx‖ with ρ the
    factor of x − hF(t, x); Δ is the difference of two trajectories. Since w − θhF(t + h, x⁺) − x⁺ ∈ h∂g(x⁺) and ∂g is
    monotone, (Δw − θhΔF − Δx⁺)·Δx⁺ >= 0, so ‖Δx⁺‖² <= Δw·Δx⁺ + θhμ‖Δx⁺‖² and
    ‖Δx⁺‖ <= (θ + (1 − θ)ρ)‖Δx‖/(1 − θhμ) where θhμ < 1. For θ = ½ and monotone F: ½(1 + ρ). Growth: the same against
    the trajectory 0 of the field without its drift, which adds (1 − θ)h‖F(t, 0)‖ + θh‖F(t + h, 0)‖ to the numerator.

    Examples
    --------
    >>> import math, torch, diffincl as di
    >>> flow = di.Inclusion(lambda t, x: x, di.Whole())
    >>> t = torch.linspace(0, 1, 101)
    >>> di.solve(flow, torch.ones(1, dtype=torch.float64), t, scheme=Trapezoid()).x[-1] - math.exp(-1)
    tensor([-3.0657e-06], dtype=torch.float64)

    References
    ----------
    Hairer, Wanner, "Solving Ordinary Differential Equations II", 1996, IV.3 (without g); theory D4, §6.
    """

    theta: float = 0.5
    tol: float | None = None
    max_iter: int = 1000
    failure: ClassVar[str] = ("the inner Newton iteration of Trapezoid did not converge; take smaller "
                              "steps, raise max_iter, or use float64")

    def __post_init__(self) -> None:
        if not 0.5 <= _check.number("theta", self.theta) <= 1:
            raise ValueError(f"theta must lie in [0.5, 1]; got {self.theta:g}. Below 0.5 the step has a limit like "
                             f"that of an explicit scheme, above 1 it extrapolates; ForwardEuler() is theta = 0.")
        _check_iteration(self.tol, self.max_iter)

    @property
    def order(self) -> int:
        """2 for θ = ½, else 1."""
        return 2 if self.theta == 0.5 else 1

    def equation(self, F: FieldFunction, t: Tensor, t_next: Tensor, h: float, x: Tensor) -> Source:
        """x − h((1 − θ)F(t, x) + θF(t + h, u))."""
        theta, F0 = self.theta, F(t, x)
        return lambda u, x: x - h * ((1 - theta) * F0 + theta * F(t_next, u))

    def bound(self, size: Tensor, c: StepConstants) -> Tensor:
        """((θ + (1 − θ)ρ)‖x‖ + h((1 − θ)‖F(t, 0)‖ + θ‖F(t + h, 0)‖))/(1 − θhμ), infinite where θhμ >= 1."""
        theta = self.theta
        explicit = (theta + (1 - theta) * c.euler) * size + (1 - theta) * c.h * c.drift
        return _resolvent(explicit + theta * c.h * c.drift_next, theta * c.h * c.one_sided_next)


@dataclass(frozen=True)
class SemiImplicitEuler(Implicit):
    """Backward Euler for F linearised at x: x⁺ = prox_h(x − h(F(t + h, x) + J(x⁺ − x))), J = ∂F/∂x(t + h, x).

    Of a ReLU field J is A₂DA₁ with the activation pattern D of x: the pattern is frozen, the affine part implicit. No
    step limit for monotone F, and one affine problem a step (on the orthant or a box a linear complementarity problem,
    which the iteration solves to rounding).

    Parameters
    ----------
    tol, max_iter
        As for ``ImplicitEuler``.

    Raises
    ------
    ValueError
        In ``step``, for a dtype coarser than float32.

    Notes
    -----
    The step jumps where the pattern changes, so it has no finite sensitivity factor, and ``bound`` returns infinity;
    the constants of a step do not see the affine part at 0 either, so it returns infinity for growth as well. For
    ResNet-S on the orthant growth is bounded all the same, for every h: with B_k = ‖b1‖, β_k = ‖(b2)₊‖ of step k,

        ‖x_N‖ <= √(‖x_0‖² + ½ Σ h B_k²) + Σ h β_k.

    Proof. On the orthant x⁺·(x⁺ − x + h(AᵀD(Ax⁺ + b1) − b2)) = 0, and −u(u + b) <= b²/4 for every unit of u = Ax⁺, so
    with a = ‖x⁺‖: a(a − ‖x‖ − hβ) <= hB²/4. The left side grows in a where it is positive. Let ‖x‖ <= √S + R and
    S' = S + ½hB². At a* = √S' + R + hβ it is at least √S'(√S' − √S) >= (S' − S)/2 = hB²/4, so a <= a*; S' and R + hβ
    are the S and R of the next step. ImplicitEuler has the pattern of x⁺, and −u(u + b)₊ <= (b₊)²/4: it obeys the same
    with (b1)₊ in place of b1. Here (b1)₊ would be wrong: a unit that was active at x may have 0 < u < −b at x⁺.

    Gradients are those of the step, J included; J of a ReLU field is locally constant in x but not in the weights.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> flow = di.Inclusion(di.ResNetSField(1000 * one[None], 0 * one, 0 * one), di.Orthant())  # h‖A‖² = 1e6
    >>> di.solve(flow, one, [0.0, 1.0], scheme=SemiImplicitEuler()).x[-1]
    tensor([1.0000e-06], dtype=torch.float64)

    References
    ----------
    Rosenbrock, "Some general implicit processes for the numerical solution of differential equations", 1963 (the form
    without prox); theory §6.
    """

    tol: float | None = None
    max_iter: int = 1000
    order = 1
    failure: ClassVar[str] = ("the inner iteration of SemiImplicitEuler left a residual |u − prox_h(x − h(F + J(u − "
                              "x)))| above its tolerance; take smaller steps, raise max_iter, or use float64")

    def __post_init__(self) -> None:
        _check_iteration(self.tol, self.max_iter)

    def equation(self, F: FieldFunction, t: Tensor, t_next: Tensor, h: float, x: Tensor) -> Source:
        """x − h(F + J(u − x)), F and J at (t + h, x)."""
        F0 = F(t_next, x)
        J = jacobian(lambda x: F(t_next, x), x, differentiable=differentiated(F0))
        constant = F0 - times(J, x)  # taken once: rounding of F + J(u − x) would differ from u to u
        return lambda u, x: x - h * (constant + times(J, u))

    def bound(self, size: Tensor, c: StepConstants) -> Tensor:
        """Infinite: the step is not continuous; see the notes for the growth of ResNet-S."""
        return torch.full_like(size + c.euler, torch.inf)


def _check_iteration(tol: float | None, max_iter: int) -> None:
    if tol is not None:
        _check.number("tol", tol, above=0.0)
    _check.count("max_iter", max_iter)


def _resolvent(size: Tensor, hmu: Tensor) -> Tensor:
    """size/(1 − hμ), infinite where hμ >= 1, rounding included."""
    room = 1 - hmu - 2.0**-50 * (1 + hmu.abs())
    return torch.where(room > 0, size / room, torch.inf)
