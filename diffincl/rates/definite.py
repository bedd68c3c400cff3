"""Positive definiteness with the rounding enclosed, and what follows from it."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import norms

__all__ = ["eigenvalue_at_most", "is_positive_definite", "schur_bound"]


def is_positive_definite(S: Tensor, error: Tensor) -> Tensor:
    """Whether every symmetric matrix within ``error`` of S is positive definite, (*batch,) bool; False if in doubt.

    Parameters
    ----------
    S : Tensor (*batch, n, n), symmetric, float64
    error : Tensor (*batch,)
        Bound of ‖exact − S‖₂ (the largest row sum of |exact − S| will do).

    Examples
    --------
    >>> import torch
    >>> S = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    >>> none = torch.tensor(0.0)
    >>> is_positive_definite(S + 1e-12 * torch.eye(2), none), is_positive_definite(S, none)
    (tensor(True), tensor(False))

    Notes
    -----
    Where a floating-point Cholesky decomposition of S − εI runs to its end, λmin(S − εI) > −γ_{n+1}/(1 − γ_{n+1})·tr,
    in any order of evaluation. Source: Rump, "Verification of positive definiteness", 2006.
    """
    n = S.shape[-1]
    diagonal = torch.diagonal(S, dim1=-2, dim2=-1)
    room = 2 * norms.gamma(n + 4) * diagonal.abs().sum(-1) + 1.01 * error + norms.UNDERFLOW
    shifted = S - room[..., None, None] * torch.eye(n, dtype=S.dtype, device=S.device)
    sound = torch.isfinite(S).all(-1).all(-1) & torch.isfinite(room)
    shifted = torch.where(sound[..., None, None], shifted, -torch.eye(n, dtype=S.dtype, device=S.device))
    return sound & (torch.linalg.cholesky_ex(shifted)[1] == 0)


def eigenvalue_at_most(S: Tensor, c: Tensor, error: Tensor) -> Tensor:
    """Whether λmax < c for every symmetric matrix within ``error`` (*batch,) of S, (*batch,) bool."""
    gap = c[..., None, None] * torch.eye(S.shape[-1], dtype=S.dtype, device=S.device) - S
    size = c.abs() + S.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    return is_positive_definite(gap, error + 4 * norms.UNIT * size)


def schur_bound(S: Tensor, R: Tensor, M: Tensor, errors: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The largest eigenvalue of RᵀM⁻¹R − S from above, (*batch,); infinite unless M is certified positive definite.

    Parameters
    ----------
    S : Tensor (*batch, d, d), symmetric
    R : Tensor (*batch, m, d)
    M : Tensor (*batch, m, m), symmetric
    errors : three Tensors
        Bounds of |exact − S|, |exact − R|, |exact − M|, entry by entry.

    Notes
    -----
    It is at most c exactly if [[cI + S, Rᵀ], [R, M]] ⪰ 0 (Schur complement, M ≻ 0): one Cholesky decomposition with a
    margin certifies the value and the definiteness together. Scaled by powers of two first, which is exact.
    """
    scale = torch.exp2(-torch.round(0.5 * torch.log2(M.diagonal(dim1=-2, dim2=-1).clamp_min(1e-280))))
    S_error, R_error, M_error = errors
    R, R_error = scale.unsqueeze(-1) * R, scale.unsqueeze(-1) * R_error
    both = scale.unsqueeze(-1) * scale.unsqueeze(-2)
    M, M_error = both * M, both * M_error
    guess, size = _float_schur(S, R, M)
    # Below this the rounding of R is all that is left; adding it to the scale keeps its share of the block small.
    size = size + (1e5 * torch.maximum(norms.row_sum(R_error), norms.row_sum(R_error.mT))).square()
    best = torch.full_like(guess, torch.inf)
    for slack in (1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-6, 1e-4, 1e-2):
        c = guess + slack * (size + norms.UNDERFLOW)
        done = _block_definite(c, S, R, M, (S_error, R_error, M_error), size)
        best = torch.where(done & (c < best), c, best)
        if bool((torch.isfinite(best) | ~torch.isfinite(guess)).all()):
            break
    return best


def _float_schur(S: Tensor, R: Tensor, M: Tensor) -> tuple[Tensor, Tensor]:
    """λmax(RᵀM⁻¹R − S) in plain float64 (infinite where M is not definite), and the size of its terms."""
    factor, info = torch.linalg.cholesky_ex(M)
    fine = (info == 0) & torch.isfinite(M).all(-1).all(-1) & torch.isfinite(R).all(-1).all(-1)
    identity = torch.eye(M.shape[-1], dtype=M.dtype, device=M.device)
    W = torch.linalg.solve_triangular(torch.where(fine[..., None, None], factor, identity), R, upper=False)
    gram = W.mT @ W
    fine = fine & torch.isfinite(gram).all(-1).all(-1)
    gram = torch.where(fine[..., None, None], gram, 0.0)
    value = torch.linalg.eigvalsh(gram - S)[..., -1]
    size = gram.diagonal(dim1=-2, dim2=-1).sum(-1) + S.abs().sum(-1).amax(-1)
    return torch.where(fine, value, torch.inf), size


def _block_definite(c: Tensor, S: Tensor, R: Tensor, M: Tensor, errors: tuple[Tensor, Tensor, Tensor],
                    size: Tensor) -> Tensor:
    """Whether [[cI + S, Rᵀ], [R, M]] ≻ 0, whatever the rounding in its parts."""
    S_error, R_error, M_error = errors
    finite = torch.where(torch.isfinite(c), c, 1.0)
    largest = torch.maximum(finite.abs(), size).clamp_min(norms.UNDERFLOW)
    z = torch.exp2(-torch.round(0.5 * torch.log2(largest)))[..., None, None]
    identity = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
    top = z * z * (S + finite[..., None, None] * identity)
    top_error = z * z * (S_error + 2 * norms.UNIT * (S.abs() + finite.abs()[..., None, None]) * identity)
    R, R_error = z * R, z * R_error
    block = torch.cat([torch.cat([top, R.mT], -1), torch.cat([R, M], -1)], -2)
    error = torch.cat([torch.cat([top_error, R_error.mT], -1), torch.cat([R_error, M_error], -1)], -2)
    return torch.isfinite(c) & is_positive_definite(block, norms.row_sum(error) + norms.UNDERFLOW)
