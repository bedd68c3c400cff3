"""The ladder of rates ν with ‖x − y‖' <= ν‖x − y‖, from the product of norms to the scaled one-sided constant.

A rate along a piece of the time axis on which the weights are linear (or stand still) is a quadratic in time; it is
given by its three Bernstein control points (last dimension), so its integral is h·mean and its maximum at most max.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _check, norms
from ..fields import Weights
from .measures import measure_along
from .patterns import exact_along
from .scaling import alive_units, optimise_scaling, scaled_difference

__all__ = ["ALONG", "RATES", "Rate", "along", "at_one_time", "centred", "scaled", "transposed", "uniform"]

RATES = ("global", "centred", "scaled")  # for p = 2, at any width
ALONG = (*RATES, "exact", "measure")


@dataclass(frozen=True, eq=False)
class Rate:
    """A rate ν, 1/time: float64 tensor (*batch,) and its status ("certified", "float" or "estimate")."""

    value: Tensor
    status: str


def uniform(A1: Tensor, A2: Tensor, *, status: str = norms.CERTIFIED) -> Rate:
    """R1 "global": ‖A1‖₂‖A2‖₂, the Lipschitz constant of the paper.

    Parameters
    ----------
    A1 : Tensor (*batch, m, d)
    A2 : Tensor (*batch, d, m)
    status : "certified" or "float"
        Rounding enclosed, or plain float64 with a margin.

    Returns
    -------
    Rate
        ``value`` of shape (*batch,), float64.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit each other, or an entry is not finite.

    Examples
    --------
    >>> import torch
    >>> round(float(uniform(2 * torch.eye(2), torch.eye(2)).value), 12)
    2.0
    """
    return _at_one_time(A1, A2, "global", status)


def centred(A1: Tensor, A2: Tensor, *, status: str = norms.CERTIFIED) -> Rate:
    """R2 "centred": [λmax(−sym A2A1) + ‖A1‖‖A2‖]/2.

    Parameters and the result are those of `uniform`.

    Examples
    --------
    >>> import torch
    >>> abs(float(centred(torch.eye(2), torch.eye(2)).value)) < 1e-12
    True
    """
    return _at_one_time(A1, A2, "centred", status)


def scaled(A1: Tensor, A2: Tensor, *, status: str = norms.CERTIFIED) -> Rate:
    """R3 "scaled": ¼‖A2Q − A1ᵀQ⁻¹‖₂², the diagonal scaling Q > 0 optimised; zero for A2 = A1ᵀ.

    Parameters and the result are those of `uniform`.

    Notes
    -----
    For every hidden unit with column u of A2 and row v of A1, −(uvᵀ + vuᵀ)/2 ⪯ ¼(qu − v/q)(qu − v/q)ᵀ. Any Q is a
    certificate, so only the final norm is enclosed. Theory §5, R3.

    Examples
    --------
    >>> import torch
    >>> A = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    >>> float(scaled(A, A.T).value), float(scaled(A, 3 * A.T).value) < 1e-12, float(scaled(A, -A.T).value) > 5
    (0.0, True, True)
    """
    return _at_one_time(A1, A2, "scaled", status)


def _at_one_time(A1: Tensor, A2: Tensor, rate: str, status: str) -> Rate:
    weights = at_one_time(A1, A2)
    return Rate(along(weights, weights, rate, status=status)[..., 0], status)


def at_one_time(A1: Tensor, A2: Tensor) -> Weights:
    """A1 and A2 in float64 as weights without biases, shapes checked."""
    A1, A2 = norms.as_matrix("A1", A1), norms.as_matrix("A2", A2)
    if A2.mT.shape != A1.shape:
        raise ValueError(f"A1 and A2 must have shapes (*batch, m, d) and (*batch, d, m); got {tuple(A1.shape)} and "
                         f"{tuple(A2.shape)}.")
    return Weights(A1, A1[..., 0], A2, A2[..., 0])


def along(left: Weights, right: Weights, rate: str, p: float = 2, *, scaling: Tensor | None = None,
          status: str = norms.CERTIFIED) -> Tensor:
    """Control points (*batch, 3) of a rate on pieces whose weights go linearly from ``left`` to ``right``.

    ``p`` other than 2 (1 or inf) goes with "global" (products of ℓp norms), "measure" (R6) and "exact" (R4); "measure"
    with nothing else. ``scaling`` is the diagonal Q of "scaled", (*batch, m), optimised if it is not given.
    """
    _check.choice("rate", rate, ALONG)
    if rate == "global":
        return _global(left, right, p, status)
    if rate == "measure":
        return measure_along(left, right, p)
    same = (transposed(left) & transposed(right)).unsqueeze(-1)
    if rate == "exact":
        points = exact_along(left, right, _usual(p), status)
        return torch.where(same, 0.0, points) if p == 2 else points
    if p != 2:
        raise ValueError(f"rate={rate!r} bounds the Euclidean norm; got p = {p}. Use rate='global', 'measure' or "
                         f"'best' for p = 1 or inf.")
    if rate == "centred":
        return _centred(left, right, status)
    q = optimise_scaling(left, right) if scaling is None else scaling
    return torch.where(same, 0.0, _scaled(left, right, q, status))


def _usual(p: float) -> float:
    if p not in (1, 2, torch.inf):
        raise ValueError(f"p must be 1, 2 or inf (float('inf')) for a bound on sensitivity; got {p}.")
    return p


def transposed(weights: Weights) -> Tensor:
    """Where A2 = A1ᵀ exactly: there R3 is zero."""
    return (weights.A1.mT == weights.A2).all(-1).all(-1)


def _products(a0: Tensor, a1: Tensor, c0: Tensor, c1: Tensor) -> Tensor:
    """Control points of (lerp of a)·(lerp of c), rounded up."""
    points = torch.stack([a0 * c0, 0.5 * (a0 * c1 + a1 * c0), a1 * c1], dim=-1)
    return points * (1 + 8 * norms.UNIT)


def _norm(A: Tensor, p: float, status: str) -> Tensor:
    """‖A‖_p from above for p = 1, 2, inf."""
    if p == 2:
        return norms.dense(A, status=status).value
    return norms.row_sum(A.abs() if _usual(p) == torch.inf else A.mT.abs())


def _global(left: Weights, right: Weights, p: float, status: str) -> Tensor:
    a0, c0 = _norm(left.A1, p, status), _norm(left.A2, p, status)
    if right is left:
        return _products(a0, a0, c0, c0)
    return _products(a0, _norm(right.A1, p, status), c0, _norm(right.A2, p, status))


def _centred(left: Weights, right: Weights, status: str) -> Tensor:
    start, end = _minus_sym(left.A2, left.A1, status), _minus_sym(right.A2, right.A1, status)
    if right is left:
        middle = start
    else:
        # ½(P01 + P10) as one product, so that its eigenvalue is taken once.
        A2 = torch.cat([left.A2, right.A2], -1)
        A1 = torch.cat([right.A1, left.A1], -2)
        middle = 0.5 * _minus_sym(A2, A1, status)
    points = torch.stack([start, middle, end], -1) + _global(left, right, 2, status)
    return 0.5 * points + 4 * norms.UNIT * points.abs()


def _minus_sym(A2: Tensor, A1: Tensor, status: str) -> Tensor:
    """λmax(−sym(A2 A1)) from above."""
    P, m = A2 @ A1, A1.shape[-2]
    error = norms.gamma(m + 2) * (A2.abs() @ A1.abs()) + norms.UNDERFLOW
    return norms.largest_eigenvalue(-0.5 * (P + P.mT), 0.5 * (error + error.mT) + norms.UNIT * P.abs(), status=status)


def _scaled(left: Weights, right: Weights, q: Tensor, status: str) -> Tensor:
    alive = alive_units(left, right)
    start = _scaled_norm(left, q, alive, status)
    end = start if right is left else _scaled_norm(right, q, alive, status)
    return 0.25 * torch.stack([start * start, start * end, end * end], -1) * (1 + 8 * norms.UNIT)


def _scaled_norm(weights: Weights, q: Tensor, alive: Tensor, status: str) -> Tensor:
    """‖A2Q − A1ᵀQ⁻¹‖₂ from above, the rounding of the difference included."""
    plus, minus = scaled_difference(weights, q, alive)
    rounding = 4 * norms.UNIT * torch.linalg.matrix_norm(plus.abs() + minus.abs())
    return norms.dense(plus - minus, status=status).value + 1.01 * rounding
