"""Fields that some statements speak of or look along, written as ResNet fields so that they are followed exactly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..curves import Constant, Curve
from ..fields import ResNetField, Weights

__all__ = ["AccumulatedField", "LeakySField", "PenalisedField", "PlusLinearField"]

Weight = Tensor | Curve


class PlusLinearField(ResNetField):
    """F(t, x) = A2 σ(A1 x + b1) − b2 + Mx; Mx is Mσ(x) − Mσ(−x), 2d more units.

    Parameters
    ----------
    A1, b1, A2, b2
        As in ``ResNetField``.
    M : Tensor (*weights, d, d), or a curve

    Examples
    --------
    >>> import torch
    >>> zero = torch.zeros(1)
    >>> PlusLinearField(torch.eye(1), zero, torch.eye(1), zero, 2 * torch.eye(1))(0.0, torch.tensor([[3.0], [-3.0]]))
    tensor([[ 9.],
            [-6.]])
    """

    M: Curve | Constant

    def __init__(self, A1: Weight, b1: Weight, A2: Weight, b2: Weight, M: Weight):
        torch.nn.Module.__init__(self)
        self.set_weights({"A1": A1, "b1": b1, "A2": A2, "b2": b2, "M": M})

    def weights_on(self, a: float, b: float, dtype: torch.dtype | None = None) -> Callable[[float | Tensor], Weights]:
        """The weights with the 2d units of Mx."""
        base, linear = super().weights_on(a, b, dtype), self.M.on(a, b, dtype)

        def at(t: float | Tensor) -> Weights:
            A1, b1, A2, b2 = base(t)
            M = linear(t)
            one = torch.eye(M.shape[-1], dtype=M.dtype, device=M.device).expand_as(M)
            zero = torch.zeros_like(b2)
            return Weights(torch.cat([A1, one, -one], -2), torch.cat([b1, zero, zero], -1),
                           torch.cat([A2, M, -M], -1), b2)

        return at

    def without(self) -> ResNetField:
        """The field without Mx."""
        return ResNetField(_weight(self.A1), _weight(self.b1), _weight(self.A2), _weight(self.b2))


class LeakySField(ResNetField):
    """F(t, x) = Aᵀ ρ(A x + b1) − b2 with the leaky ReLU ρ(u) = σ(u) − aσ(−u): inner slopes in [a, 1].

    Examples
    --------
    >>> import torch
    >>> F = LeakySField(torch.eye(1), torch.zeros(1), torch.zeros(1), torch.tensor(0.5))
    >>> F(0.0, torch.tensor([[2.0], [-2.0]]))
    tensor([[ 2.],
            [-1.]])
    """

    A: Curve | Constant
    slope: Curve | Constant

    def __init__(self, A: Weight, b1: Weight, b2: Weight, slope: Weight):
        torch.nn.Module.__init__(self)
        self.set_weights({"A": A, "b1": b1, "b2": b2, "slope": slope})

    def weights_on(self, a: float, b: float, dtype: torch.dtype | None = None) -> Callable[[float | Tensor], Weights]:
        """The weights with one unit for each side of ρ."""
        A, b1, b2, slope = (curve.on(a, b, dtype) for curve in (self.A, self.b1, self.b2, self.slope))

        def at(t: float | Tensor) -> Weights:
            A_t, b_t, a_t = A(t), b1(t), slope(t)
            return Weights(torch.cat([A_t, -A_t], -2), torch.cat([b_t, -b_t], -1),
                           torch.cat([A_t.mT, -a_t[..., None, None] * A_t.mT], -1), b2(t))

        return at


def _weight(curve: Curve | Constant) -> Weight:
    return curve if isinstance(curve, Curve) else curve.values


class PenalisedField(ResNetField):
    """F + (x − P x)/λ for a box: −σ(l − x)/λ + σ(x − u)/λ, one more unit for every bound that is finite.

    Parameters
    ----------
    base : ResNetField
    lam : Tensor (*weights,)
    lower, upper : Tensor, broadcasting against (d,)

    Examples
    --------
    >>> import torch
    >>> zero = torch.zeros(1, 1)
    >>> base = ResNetField(zero, zero[0], zero, zero[0])
    >>> F = PenalisedField(base, torch.tensor(0.5), torch.tensor(0.0), torch.tensor(torch.inf))
    >>> F(0.0, torch.tensor([[2.0], [-1.0]]))
    tensor([[ 0.],
            [-2.]])
    """

    def __init__(self, base: ResNetField, lam: Tensor, lower: Tensor, upper: Tensor):
        torch.nn.Module.__init__(self)
        self.base, self.lam = base, lam
        self.lower, self.upper = lower.expand(base.features), upper.expand(base.features)
        self.knots, self.knot_length, self.domain = base.knots, base.knot_length, base.domain
        self.time_dependent_within_a_step = base.time_dependent_within_a_step

    def weights_on(self, a: float, b: float, dtype: torch.dtype | None = None) -> Callable[[float | Tensor], Weights]:
        """The weights with the units of the penalty."""
        base = self.base.weights_on(a, b, dtype)

        def at(t: float | Tensor) -> Weights:
            A1, b1, A2, b2 = base(t)
            one = torch.eye(A1.shape[-1], dtype=A1.dtype).expand(*A1.shape[:-2], -1, -1)
            push = one / self.lam[..., None, None]
            rows, shifts, columns = [A1], [b1], [A2]
            for side, bound in ((1.0, self.lower), (-1.0, -self.upper)):
                finite = bound.isfinite().to(A1)
                rows.append(-side * finite.unsqueeze(-1) * one)
                shifts.append(torch.where(bound.isfinite(), bound, 0.0).to(b1).expand_as(b2))
                columns.append(-side * push * finite)
            return Weights(torch.cat(rows, -2), torch.cat(shifts, -1), torch.cat(columns, -1), b2)

        return at


class AccumulatedField(ResNetField):
    """The field of (x, q₁, …, qₙ) with x' = −F(t, x) and qₖ' = Gₖ(t, x): a flow that integrates along itself.

    Parameters
    ----------
    base : ResNetField
        F.
    integrands : ResNetField
        G₁, …, Gₙ; curves of theirs have their knots among those of F.

    Examples
    --------
    >>> import torch
    >>> F = ResNetField(torch.eye(1), torch.zeros(1), torch.eye(1), torch.ones(1))
    >>> AccumulatedField(F, F)(0.0, torch.tensor([3.0, 7.0]))
    tensor([ 2., -2.])
    """

    def __init__(self, base: ResNetField, *integrands: ResNetField):
        torch.nn.Module.__init__(self)
        self.base, self.integrands = base, torch.nn.ModuleList(integrands)
        self.knots, self.knot_length, self.domain = base.knots, base.knot_length, base.domain
        self.time_dependent_within_a_step = any(F.time_dependent_within_a_step for F in (base, *integrands))

    def weights_on(self, a: float, b: float, dtype: torch.dtype | None = None) -> Callable[[float | Tensor], Weights]:
        """The weights with the units of every field once, and a row of blocks for every integral."""
        rows = [self.base, *self.integrands]
        fields = list(dict.fromkeys(rows))
        of_fields = [F.weights_on(a, b, dtype) for F in fields]

        def at(t: float | Tensor) -> Weights:
            weights = [_with_ensemble(at_t(t), self.base.ensemble) for at_t in of_fields]
            A1, b1 = (torch.cat([w[k] for w in weights], -2 + k) for k in (0, 1))
            A1 = torch.nn.functional.pad(A1, (0, A1.shape[-1] * (len(rows) - 1)))
            A2, b2 = [], []
            for k, F in enumerate(rows):
                sign = 1.0 if k == 0 else -1.0
                A2.append(torch.cat([sign * w.A2 if F is G else torch.zeros_like(w.A2)
                                     for G, w in zip(fields, weights, strict=True)], -1))
                b2.append(sign * weights[fields.index(F)].b2)
            return Weights(A1, b1, torch.cat(A2, -2), torch.cat(b2, -1))

        return at


def _with_ensemble(weights: Weights, ensemble: tuple[int, ...]) -> Weights:
    return Weights(*(w.expand(*ensemble, *w.shape[-own:]) for w, own in zip(weights, (2, 1, 2, 1), strict=True)))


def identity(d: int) -> ResNetField:
    """F(x) = x as σ(x) − σ(−x)."""
    one, zero = torch.eye(d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64)
    return ResNetField(torch.cat([one, -one]), torch.cat([zero, zero]), torch.cat([one, -one], -1), zero)
