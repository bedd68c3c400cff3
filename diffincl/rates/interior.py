"""Diagonal multipliers that make a bound small: an interior-point method for one linear matrix inequality.

With the multipliers Λ > 0 of the hidden units the scaled rate (R3), the tube rate (R7) and the step factor (R8) are all

    the least c with  [[cI + S, Rᴴ], [R, 2Λ − H]] ⪰ 0,   R = ΛA − B,

(complex at a frequency of a convolution), which is linear in (Λ, c). What comes out is only a proposal: every Λ
certifies something, and the certified value is computed afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Inequality", "multipliers"]


@dataclass(frozen=True, eq=False)
class Inequality:
    """The data of the inequality at E times (or frequencies) that share their Λ, float64 or complex128.

    ``A``, ``B``: (E, *batch, m, d); ``S``: (E, *batch, d, d); ``H``: (E, *batch, m, m); ``alive``: (*batch, m), the
    units that count (rows of A, B and H of the others are zero). Each time has a c of its own, and their sum counts;
    with ``worst`` there is one c for all of them.
    """

    A: Tensor
    B: Tensor
    S: Tensor
    H: Tensor
    alive: Tensor
    worst: bool = False

    def matrix(self, lam: Tensor, c: Tensor) -> Tensor:
        """The block matrix at (Λ, c), (E, *batch, d + m, d + m)."""
        R = lam.unsqueeze(-1) * self.A - self.B
        top = self.S + c[..., None, None] * torch.eye(self.S.shape[-1], dtype=c.dtype, device=c.device)
        low = torch.diag_embed(2 * lam) - self.H
        return torch.cat([torch.cat([top, R.mH], -1), torch.cat([R, low], -1)], -2)

    def direction(self, d_lam: Tensor, d_c: Tensor) -> Tensor:
        """The change of the block matrix with (Λ, c)."""
        R = d_lam.unsqueeze(-1) * self.A
        identity = torch.eye(self.S.shape[-1], dtype=self.S.dtype, device=d_c.device)
        top = d_c[..., None, None] * identity.expand_as(self.S)
        low = torch.diag_embed(2 * d_lam).expand_as(self.H).to(self.H.dtype)
        return torch.cat([torch.cat([top, R.mH], -1), torch.cat([R, low], -1)], -2)


def multipliers(problem: Inequality, start: Tensor, *, accuracy: float = 1e-6, iterations: int = 60) -> Tensor:
    """Λ (*batch, m) > 0 that makes the sum of c over the E times (or the one c) least, to ``accuracy`` of its scale.

    ``start`` (*batch, m) > 0 sets the scale of every multiplier and is the first Λ where it is in the interior. Newton
    steps with exact line search on t Σc − log det of the blocks, t growing; the best Λ along the way is returned.
    """
    scaled = _balanced(problem, start)
    lam = 1 + 0.5 * scaled.H.abs().sum(-1).amax(0)
    c = _inside(scaled, lam)
    best, least = lam, c.sum(0)
    rank = (scaled.A.shape[-2] + scaled.A.shape[-1]) * (len(scaled.A) if problem.worst else 1)
    t = rank / least
    # Where many blocks share one c, the centres for different t are far apart: shorter strides are the quicker ones.
    growth = 3 if problem.worst else 10
    running = torch.isfinite(t)
    for _ in range(iterations):
        d_lam, d_c, decrement, factor, sound = _newton(scaled, lam, c, t)
        running = running & sound
        if not bool(running.any()):
            break
        length = _line_search(scaled.direction(d_lam, d_c), factor, t * d_c.sum(0)) * running
        lam, c = lam + length.unsqueeze(-1) * d_lam, c + length * d_c
        better = c.sum(0) < least
        best, least = torch.where(better.unsqueeze(-1), lam, best), torch.where(better, c.sum(0), least)
        running = running & ~((t >= rank / accuracy) & (decrement < 1))
        t = torch.where(decrement < 1, growth * t, t).clamp_max(growth * rank / accuracy)
    return best * start


def _balanced(problem: Inequality, start: Tensor) -> Inequality:
    """The problem for Λ/start, and of size one in z."""
    root = start.sqrt().unsqueeze(-1)
    A, B = root * problem.A, problem.B / root
    size = (A.abs().square() + B.abs().square()).sum(-2).amax((0, -1)) + problem.S.abs().sum(-1).amax(-1).amax(0)
    size = torch.where(size > 0, size, 1.0)
    z = size.sqrt()[..., None, None]
    return Inequality(A / z, B / z, problem.S / z / z, problem.H / root / root.mT, problem.alive,
                      problem.worst)


def _inside(problem: Inequality, lam: Tensor) -> Tensor:
    """A c in the interior for this Λ."""
    R = lam.unsqueeze(-1) * problem.A - problem.B
    factor = torch.linalg.cholesky_ex(torch.diag_embed(2 * lam) - problem.H)[0]
    W = torch.linalg.solve_triangular(factor, R, upper=False)
    c = 1.1 * torch.linalg.eigvalsh(W.mH @ W - problem.S)[..., -1].relu() + 1e-3
    return c.amax(0, keepdim=True) if problem.worst else c


def _line_search(direction: Tensor, factor: Tensor, slope: Tensor) -> Tensor:
    """The step length that makes slope·α − log det(F + α·direction) least, by bisection on its derivative."""
    half = torch.linalg.solve_triangular(factor, direction, upper=False)
    mu = torch.linalg.eigvalsh(torch.linalg.solve_triangular(factor, half.mH, upper=False))
    mu = mu.movedim(0, -2).flatten(-2)
    low = torch.zeros_like(slope)
    high = 0.99 / (-mu.amin(-1)).clamp_min(1e-2)
    for _ in range(20):
        middle = 0.5 * (low + high)
        rising = slope - (mu / (1 + middle.unsqueeze(-1) * mu)).sum(-1) > 0
        low, high = torch.where(rising, low, middle), torch.where(rising, middle, high)
    return low


def _newton(problem: Inequality, lam: Tensor, c: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Newton step in Λ and c of the barrier, its decrement, the Cholesky factors of the blocks, and where rounding does
    not have the last word yet (elsewhere the step is zero)."""
    factor, info = torch.linalg.cholesky_ex(problem.matrix(lam, c))
    sound = (info == 0).all(0) & torch.isfinite(factor).all(-1).all(-1).all(0)
    identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    factor = torch.where(sound[..., None, None], factor, identity)
    curvature, mixed, curvature_c, slope, slope_c = _derivatives(problem, torch.cholesky_inverse(factor), t)
    # c is eliminated.
    reduced = curvature - (mixed.unsqueeze(-1) * mixed.unsqueeze(-2) / curvature_c[..., None, None]).sum(0)
    right = slope - (mixed * (slope_c / curvature_c).unsqueeze(-1)).sum(0)
    root, info = torch.linalg.cholesky_ex(reduced)
    sound = sound & (info == 0)
    d_lam = -torch.cholesky_solve(right.unsqueeze(-1), root).squeeze(-1)
    sound = sound & torch.isfinite(d_lam).all(-1)
    d_lam = torch.where(sound.unsqueeze(-1), d_lam, 0.0)
    d_c = torch.where(sound, -(slope_c + (mixed * d_lam).sum(-1)) / curvature_c, 0.0)
    decrement = -((slope * d_lam).sum(-1) + (slope_c * d_c).sum(0))
    return d_lam, d_c, decrement.clamp_min(0).sqrt(), factor, sound


def _derivatives(problem: Inequality, P: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Second and first derivatives of t Σc − log det in Λ and c, from the inverse P of the blocks.

    With e the unit vectors of the lower block and a = (row of A, e)ᴴ: the block depends on Λ_k through e aᴴ + a eᴴ, so
    its gradient is −2Re eᴴPa and its Hessian 2Re(eᴴPa ∘ (eᴴPa)ᵀ + aᴴPa ∘ (eᴴPe)*). Units that do not count stay where
    they are.
    """
    d, alive = problem.S.shape[-1], problem.alive.to(t)
    zz, wz, ww = P[..., :d, :d], P[..., d:, :d], P[..., d:, d:]
    za = zz @ problem.A.mH + wz.mH
    ea = wz @ problem.A.mH + ww
    aa = problem.A @ za + ea
    curvature = 2 * (ea * ea.mT + aa * ww.conj()).real.sum(0) * alive.unsqueeze(-1) * alive.unsqueeze(-2)
    curvature = curvature + torch.diag_embed(1 - alive)
    mixed = 2 * (wz * za.mT).real.sum(-1) * alive
    slope = -2 * torch.diagonal(ea, dim1=-2, dim2=-1).real.sum(0) * alive
    trace, square = torch.diagonal(zz, dim1=-2, dim2=-1).real.sum(-1), zz.abs().square().sum((-2, -1))
    if problem.worst:
        mixed, trace, square = (v.sum(0, keepdim=True) for v in (mixed, trace, square))
    return curvature, mixed, square, slope, t - trace
