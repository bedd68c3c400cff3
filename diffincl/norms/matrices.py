"""Operator norms and largest eigenvalues from above, with a status that says how far the number can be trusted.

A power iteration gives a number from below and must never enter a bound; neither must a bare float64 singular value,
which is below the truth in about half of all cases. Every routine takes batches (*batch, n, k), works in float64 and
bounds the exact matrix whose entries are the given floating-point numbers (theory §7).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _check
from .power import power_iteration

__all__ = ["OperatorNorm", "dense", "largest_eigenvalue"]

UNIT = 2.0**-53  # rounding unit of float64
# Added to every enclosure of data scaled to size one; covers what underflow can lose.
UNDERFLOW = 1e-290

CERTIFIED, FLOAT, ESTIMATE = "certified", "float", "estimate"


@dataclass(frozen=True, eq=False)
class OperatorNorm:
    """An upper bound of a norm.

    Attributes
    ----------
    value : Tensor (*batch,), float64
    status : str
        "certified": rounding is enclosed; "float": plain float64 with a margin; "estimate": from below, no bound.
    """

    value: Tensor
    status: str


def dense(A: Tensor, *, status: str = CERTIFIED) -> OperatorNorm:
    """Spectral norm ‖A‖₂ from above.

    Parameters
    ----------
    A : Tensor (*batch, n, k), float32 or float64
    status : "certified", "float" or "estimate"
        With the rounding enclosed; a float64 singular value decomposition plus a margin of 8(n + k) rounding units; or
        power iteration, a number from below that no bound may use.

    Returns
    -------
    OperatorNorm
        ``value`` of shape (*batch,).

    Raises
    ------
    TypeError, ValueError
        If A is no floating-point tensor of at least two dimensions, or holds NaN or infinity.

    Examples
    --------
    >>> import torch
    >>> norm = dense(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    >>> 4.0 <= float(norm.value) < 4.0 + 1e-12, norm.status
    (True, 'certified')

    Notes
    -----
    With any approximate eigenvectors V of AᵀA and ε = ‖I − VᵀV‖_∞ < 1: ‖A‖² <= ‖(AV)ᵀ(AV)‖_∞/(1 − ε). All products are
    enclosed with γ_n = n·u/(1 − n·u). Source: theory §7; Rump, "Verified bounds for singular values", 2011.
    """
    A = as_matrix("A", A)
    _check.choice("status", status, (CERTIFIED, FLOAT, ESTIMATE))
    if A.shape[-2] < A.shape[-1]:
        A = A.mT
    units, scale = to_unit_size(A)
    compute = {CERTIFIED: _enclosed_norm, FLOAT: _float_norm, ESTIMATE: _estimated_norm}[status]
    return OperatorNorm(check_overflow("A", rounded_back(compute(units), scale), A), status)


def largest_eigenvalue(S: Tensor, error: Tensor | None = None, *, status: str = CERTIFIED) -> Tensor:
    """λmax of the symmetric matrix S, or of any symmetric matrix within ``error`` of it, from above; may be negative.

    Parameters
    ----------
    S : Tensor (*batch, n, n), symmetric
    error : Tensor (*batch, n, n), nonnegative, optional
        Bound of |exact − S| entry by entry.
    status : "certified" or "float"

    Returns
    -------
    Tensor (*batch,), float64

    Examples
    --------
    >>> import torch
    >>> float(largest_eigenvalue(-2 * torch.eye(3))) - (-2.0) < 1e-12
    True

    Notes
    -----
    Gershgorin's discs of VᵀSV with approximate eigenvectors V; γ/(1 − ε) if γ >= 0 but γ/(1 + ε) if γ < 0 (theory §7).
    """
    S = as_matrix("S", S)
    _check.choice("status", status, (CERTIFIED, FLOAT))
    slack = torch.zeros(S.shape[:-2], dtype=torch.float64, device=S.device) if error is None else row_sum(error)
    if status == FLOAT:
        size = row_sum(S.abs())
        return torch.linalg.eigvalsh(S)[..., -1] + slack + 16 * S.shape[-1] * UNIT * size
    S, scale = to_unit_size(S)
    n = S.shape[-1]
    V = torch.linalg.eigh(S)[1]
    eps = _orthogonality_defect(V)
    M = V.mT @ (S @ V)
    spread = 2 * gamma(2 * n) * (V.abs().mT @ (S.abs() @ V.abs())) + UNDERFLOW
    diagonal = torch.diagonal(M, dim1=-2, dim2=-1)
    radius = (M.abs() + spread).sum(-1) - diagonal.abs()
    disc = (diagonal + radius + 4 * gamma(n) * (diagonal.abs() + radius)).amax(-1)
    bound = torch.where(disc >= 0, disc / (1 - eps), disc / (1 + eps))
    bound = rounded_back(bound, scale) + slack
    return bound + 8 * UNIT * (bound.abs() + slack)


def as_matrix(name: str, A: Tensor) -> Tensor:
    """A checked matrix in float64, without gradient."""
    return check_matrix(name, A).detach().to(torch.float64)


def check_matrix(name: str, A: Tensor) -> Tensor:
    _check.finite(name, _check.tensor(name, A))
    if A.ndim < 2:
        raise ValueError(f"{name} must have shape (*batch, n, k); got {_check.describe(A)}.")
    return A


def gamma(n: int) -> float:
    """γ_n = nu/(1 − nu), with room for the rounding of its own use."""
    return 1.01 * n * UNIT / (1 - n * UNIT)


def row_sum(A: Tensor) -> Tensor:
    """Largest row sum of a nonnegative matrix, from above."""
    return A.sum(-1).amax(-1) * (1 + 2 * gamma(A.shape[-1]))


def to_unit_size(A: Tensor) -> tuple[Tensor, Tensor]:
    """A divided by a power of two (exactly, but for underflow) so that its entries are at most one
    (two for entries from 2¹⁰²³ on, where the power would overflow); and that power."""
    largest = A.abs().amax((-2, -1))
    power = torch.ldexp(torch.ones_like(largest), torch.frexp(largest)[1].clamp(max=1023))
    scale = torch.where(largest > 0, power, 0.0)
    return A / torch.where(scale > 0, scale, 1.0)[..., None, None], scale


def rounded_back(value: Tensor, scale: Tensor) -> Tensor:
    """value·scale rounded up (below the normal range the product is not exact), 0 for scale 0 or value 0."""
    product = value * scale
    up = torch.nextafter(product, torch.full_like(product, torch.inf))
    return torch.where((scale > 0) & (value != 0), torch.where(product.abs() < 1e-290, up, product), 0.0)


def check_overflow(name: str, value: Tensor, A: Tensor) -> Tensor:
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"the norm of {name} overflows float64; the largest entry of {name} is "
                         f"{float(A.abs().max()):.3g}.")
    return value


def _orthogonality_defect(V: Tensor) -> Tensor:
    """ε = ‖I − VᵀV‖_∞ from above, asserted to be below one."""
    n = V.shape[-2]
    identity = torch.eye(V.shape[-1], dtype=V.dtype, device=V.device)
    defect = (identity - V.mT @ V).abs() * (1 + 2 * UNIT) + gamma(n) * (V.abs().mT @ V.abs()) + UNDERFLOW
    eps = row_sum(defect)
    if not bool((eps < 0.5).all()):
        raise ArithmeticError(f"eigenvectors too far from orthogonal for an enclosure: defect {float(eps.max()):.1e}")
    return eps


def _float_norm(A: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(A, 2) * (1 + 8 * sum(A.shape[-2:]) * UNIT)


def _estimated_norm(A: Tensor) -> Tensor:
    flat = A.reshape(-1, *A.shape[-2:])
    return power_iteration(lambda x: (flat @ x.unsqueeze(-1)).squeeze(-1), (A.shape[-1],), flat).reshape(A.shape[:-2])


def _enclosed_norm(A: Tensor) -> Tensor:
    """‖A‖₂ of a tall matrix with entries of size one, rounding enclosed."""
    n, k = A.shape[-2:]
    V = torch.linalg.eigh(A.mT @ A)[1]
    eps = _orthogonality_defect(V)
    W = A @ V
    E = gamma(k) * (A.abs() @ V.abs()) + UNDERFLOW  # |AV − W| <= E
    # (AV)ᵀ(AV) lies within `spread` of WᵀW: rounding of the product, and E on either side.
    spread = 1.01 * gamma(n) * (W.abs().mT @ W.abs()) + 1.01 * (W.abs().mT @ E + E.mT @ W.abs() + E.mT @ E) + UNDERFLOW
    gram = row_sum((W.mT @ W).abs() + spread)
    return torch.sqrt(gram / (1 - eps) * (1 + 8 * UNIT)) * (1 + 8 * UNIT)
