"""R8 through many layers: one factor of a chain of residual layers, below the product of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import _check, norms
from ..norms.geometry import ZEROS, Axis
from .conv import real, step_multipliers
from .definite import schur_bound
from .dense import at_one_time
from .factor import positive, without_dead_units
from .factor import step_multipliers as dense_multipliers
from .kernels import Branch, branch

__all__ = ["chain"]

RATE, SMOOTH = 0.05, 10.0  # of the descent: its step, and the exponent of the soft maximum over eigenvalues
MOST = 2**18  # entries of the symbols that the descent looks at
BLOCK = 2**20  # entries of a block of symbols certified at once


@dataclass(frozen=True, eq=False)
class Layers:
    """A1 (N, F, m, d), A2 (N, F, d, m), real or, one matrix a frequency, complex; steps h (N,); errors of the entries
    of A1 and A2, (N, m, d) and (N, d, m); whether there is an outer σ."""

    A1: Tensor
    A2: Tensor
    h: Tensor
    error1: Tensor
    error2: Tensor
    clipped: bool = True

    def at(self, chosen: slice | Tensor) -> Layers:
        """Some of the frequencies."""
        return replace(self, A1=self.A1[:, chosen], A2=self.A2[:, chosen])

    def end(self) -> Tensor:
        """The identity for every frequency, (F, d, d)."""
        d = self.A1.shape[-1]
        return torch.eye(d, dtype=self.A1.dtype, device=self.A1.device).expand(self.A1.shape[1], d, d)


def chain(A1: Tensor, A2: Tensor, h: float | Tensor, *, image: Sequence[int] = (), padding_mode: str = ZEROS,
          clipped: bool = True, turns: int = 150, multiplier: Tensor | None = None) -> Tensor:
    """R8 along a chain: a Lipschitz factor of N layers x ↦ σ(x − hA2σ(A1x + b1) + hb2) together, b1 and b2 free.

    Parameters
    ----------
    A1 : Tensor (N, m, d), or (N, m, d, *k) with ``image``
        Matrices, or kernels of torch's convolutions with padding="same"; the first layer comes first.
    A2 : Tensor (N, d, m), or (N, d, m, *k) with ``image``
    h : float or Tensor (N,), positive
    image : (length,) or (height, width), for convolutions
    padding_mode : "zeros" or "circular"
    clipped : bool
        Whether there is an outer σ; without one (also with one) any inner σ with slopes in [0, 1] will do.
    turns : int
        Steps of the descent over the multipliers. Any multipliers are a certificate.
    multiplier : Tensor (N, m), positive, optional
        Λ of R8 of every layer, where the descent starts; optimised if it is not given, which takes a third of the time.

    Returns
    -------
    Tensor (), float64
        Certified from above; infinite where definiteness cannot be certified.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit, h or a multiplier is not positive, or an entry is not finite.

    Examples
    --------
    >>> import torch
    >>> A = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    >>> A1 = torch.stack([A[0] - A[1], A[1]])           # the first layer doubles x2, the second x1: 2, not 2·2
    >>> round(float(chain(A1, -A1, 1.0)), 4)
    2.0

    Notes
    -----
    ‖z‖²_P with P = I after the last layer is pulled back through the layers. Through the outer σ, with a diagonal M:
    S = M(2M − P)⁻¹M, 2M − P ≻ 0; through the residual, with a diagonal Λ: P = S + hRᵀ(2Λ − hA2ᵀSA2)⁻¹R,
    R = ΛA1 − A2ᵀS. The factor is √λmax(P) before the first layer. M = λmax(P)I gives the product of R8, from where a
    descent over all M and Λ starts. σ may be anything that acts coordinate by coordinate with slopes in [0, 1]. A
    zero-padded convolution is a circular one on a torus with the slope 0 outside the image, so M and Λ of one number a
    channel are pulled back frequency by frequency.

    References
    ----------
    Theory §5, R8, and §7; Fazlyab, Robey, Hassani, Morari, Pappas, "Efficient and accurate estimation of Lipschitz
    constants for deep neural networks", 2019 (the semidefinite programme that this solves by descent).
    """
    turns = _check.count("turns", turns)
    layers = _convolutions(A1, A2, h, image, padding_mode) if image else _matrices(A1, A2, h)
    layers = replace(layers, clipped=bool(clipped))
    if multiplier is None and image:
        inner = step_multipliers(A1, A2, image, layers.h, padding_mode=padding_mode)
    elif multiplier is None:
        inner = dense_multipliers(A1, A2, layers.h)
    else:
        inner = _given(multiplier, layers)
    start = _start(layers, inner)
    value = _everywhere(layers, *_improved(layers.at(_spread(layers)), *start, turns))
    # What is definite at the frequencies of the descent may not be so between them; the start is.
    return value if bool(torch.isfinite(value)) else _everywhere(layers, *start)


def _given(multiplier: Tensor, layers: Layers) -> Tensor:
    shape = (len(layers.A1), layers.A1.shape[-2])
    if multiplier.shape != shape:
        raise ValueError(f"multiplier must have shape {shape}, one a layer and hidden unit; got "
                         f"{_check.describe(multiplier)}.")
    return positive("multiplier", multiplier)


def _matrices(A1: Tensor, A2: Tensor, h: float | Tensor) -> Layers:
    weights = at_one_time(A1, A2)
    if weights.A1.ndim != 3:
        raise ValueError(f"A1 must have shape (N, m, d), one matrix a layer; got {_check.describe(A1)}.")
    A1, A2 = without_dead_units(weights.A1, weights.A2)
    h = positive("h", torch.as_tensor(h, dtype=torch.float64)).expand(len(A1))
    return Layers(A1.unsqueeze(1), A2.unsqueeze(1), h, torch.zeros_like(A1), torch.zeros_like(A2))


def _convolutions(K1: Tensor, K2: Tensor, h: float | Tensor, image: Sequence[int], mode: str) -> Layers:
    """All layers on one torus."""
    both = branch(K1, K2, image, mode, False).without_dead()
    if len(both.batch) != 1:
        raise ValueError(f"A1 must have shape (N, m, d, *k), one kernel a layer; got {_check.describe(K1)}.")
    h = positive("h", torch.as_tensor(h, dtype=torch.float64)).expand(both.batch)
    axes = both.axes()
    A1, A2 = (torch.stack(rows) for rows in zip(*(_symbols(one, axes) for one in both.members()), strict=True))
    error1, error2 = both.rounding()
    return Layers(A1, A2, h, error1.mT, error2)


def _symbols(one: Branch, axes: list[Axis]) -> tuple[Tensor, Tensor]:
    """Â1 and Â2 of a branch at all frequencies of a torus."""
    adjoint1, A2 = zip(*one.symbols(axes), strict=True)
    return torch.cat(adjoint1).mH, torch.cat(A2)


def _everywhere(layers: Layers, outer: Tensor, inner: Tensor) -> Tensor:
    """The certified factor with these multipliers, a block of frequencies at a time."""
    F, m, d = layers.A1.shape[1:]
    size = max(1, BLOCK // (m + d) ** 2)
    return torch.stack([_certified(layers.at(slice(k, k + size)), outer, inner) for k in range(0, F, size)]).amax()


def _spread(layers: Layers) -> Tensor:
    """So many frequencies as the descent looks at, evenly among all."""
    F, m, d = layers.A1.shape[1:]
    return torch.linspace(0, F - 1, min(F, max(4, MOST // (m * d)))).round().long()


def _pulled(P: Tensor, M: Tensor, R: Tensor, h: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """P + hRᴴM⁻¹R, and whether all M are positive definite."""
    factor, info = torch.linalg.cholesky_ex(M)
    W = torch.linalg.solve_triangular(factor, R, upper=False)
    return P + h * (W.mH @ W), (info == 0).all()


def _before(P: Tensor, layers: Layers, k: int, outer: Tensor, inner: Tensor) -> tuple[Tensor, Tensor]:
    """P before layer k from P after it, M and Λ (·,) given; and whether all is definite."""
    M, lam = torch.diag(outer).to(P.dtype), torch.diag(inner).to(P.dtype)
    S, fine = _pulled(0 * P, 2 * M - P, M.expand_as(P)) if layers.clipped else (P, torch.tensor(True))
    A1, A2, h = layers.A1[k], layers.A2[k], layers.h[k]
    P, also = _pulled(S, 2 * lam - h * (A2.mH @ S @ A2), lam @ A1 - A2.mH @ S, h)
    return 0.5 * (P + P.mH), fine & also


def _start(layers: Layers, inner: Tensor) -> tuple[Tensor, Tensor]:
    """M = λmax(P)I and the multipliers of R8, raised to where they are definite, times λmax(P): the product of R8."""
    P, d = layers.end(), layers.A1.shape[-1]
    outer, scaled = inner.new_zeros(len(inner), d), inner.clone()
    for k in reversed(range(len(inner))):
        top = (1 + 1e-9) * torch.linalg.eigvalsh(P)[..., -1].amax().clamp(max=1e250)
        half = layers.A2[k] * inner[k].rsqrt()
        needed = 0.5 * layers.h[k] * torch.linalg.matrix_norm(half, 2).square().amax()
        outer[k], scaled[k] = top, top * inner[k] * torch.clamp_min(1.01 * needed, 1.0)
        P = torch.nan_to_num(_before(P, layers, k, outer[k], scaled[k])[0])
    return outer, scaled


@torch.enable_grad()
def _improved(layers: Layers, outer: Tensor, inner: Tensor, turns: int) -> tuple[Tensor, Tensor]:
    """The multipliers with the least factor along a descent over their logarithms; steps out of the definite ones are
    taken back and halved."""
    logs = [outer.log().requires_grad_(), inner.log().requires_grad_()]
    best, kept, rate = torch.inf, [x.detach().clone() for x in logs], RATE
    optimiser = torch.optim.Adam(logs, lr=rate)
    for _ in range(turns):
        P, fine = layers.end(), torch.tensor(True)
        for k in reversed(range(len(inner))):
            P, definite = _before(P, layers, k, logs[0][k].exp(), logs[1][k].exp())
            fine = fine & definite
        if not bool(fine & torch.isfinite(P).all()):
            rate *= 0.5
            optimiser = _from(logs, kept, rate)
            continue
        sizes = torch.linalg.eigvalsh(P).clamp_min(1e-280).log().flatten()
        if float(sizes.detach().max()) < best:
            best, kept = float(sizes.detach().max()), [x.detach().clone() for x in logs]
        optimiser.zero_grad()
        (torch.logsumexp(SMOOTH * sizes, 0) / SMOOTH).backward()
        optimiser.step()
    return kept[0].exp(), kept[1].exp()


def _from(logs: list[Tensor], kept: list[Tensor], rate: float) -> torch.optim.Adam:
    """A descent that begins again, with a smaller step."""
    for x, value in zip(logs, kept, strict=True):
        x.data.copy_(value)
    return torch.optim.Adam(logs, lr=rate)


def _certified(layers: Layers, outer: Tensor, inner: Tensor) -> Tensor:
    """√λmax(P) from above, (): every matrix of the recursion is replaced by one certified to be larger."""
    layers, copies = _in_reals(layers)
    P = layers.end()
    for k in reversed(range(len(inner))):
        if not bool(torch.isfinite(P).all()):
            return torch.tensor(torch.inf, dtype=torch.float64)
        M, lam = outer[k].repeat(copies), inner[k].repeat(copies)
        A1, A2, h = layers.A1[k], layers.A2[k], layers.h[k]
        E1, E2 = layers.error1[k], layers.error2[k]
        gap = 2 * torch.diag(M) - P
        if layers.clipped:
            P = _above(0 * P, torch.diag(M).expand_as(P), gap, 0 * P, 2 * norms.UNIT * gap.abs())
        S = torch.nan_to_num(P)
        back, large = A2.mT @ S, A2.mT.abs() @ S.abs()
        moved = 1.01 * (E2.mT @ S.abs())  # what the errors of A2 do to A2ᵀS
        front = lam.unsqueeze(-1) * A1
        R_error = norms.gamma(len(M) + 4) * large + 4 * norms.UNIT * front.abs() + norms.UNDERFLOW \
            + moved + 1.01 * lam.unsqueeze(-1) * E1
        H, bound = back @ A2, large @ A2.abs()
        inside = torch.diag_embed(2 * lam / h).expand_as(H) - 0.5 * (H + H.mT)
        M_error = norms.gamma(2 * len(M) + 8) * bound + moved @ (A2.abs() + E2) + 1.01 * (large @ E2) \
            + 4 * norms.UNIT * (inside.abs() + torch.diag_embed(2 * lam / h)) + norms.UNDERFLOW
        P = _above(S, front - back, inside, R_error, M_error) + 0 * P
    if not bool(torch.isfinite(P).all()):
        return torch.tensor(torch.inf, dtype=torch.float64)
    return torch.sqrt(norms.largest_eigenvalue(P, 0 * P).amax()) * (1 + 4 * norms.UNIT)


def _above(S: Tensor, R: Tensor, M: Tensor, R_error: Tensor, M_error: Tensor) -> Tensor:
    """Matrices certified to be above S + RᵀM⁻¹R, NaN where M is not certified definite; S holds no NaN."""
    plain, _ = _pulled(S, M, R)
    plain = torch.nan_to_num(0.5 * (plain + plain.mT))
    more = plain - S
    c = schur_bound(more, R, M, (2 * norms.UNIT * more.abs(), R_error, M_error)).clamp_min(0.0)
    diagonal = plain.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    c = torch.where(torch.isfinite(c), c + 4 * norms.UNIT * (c + diagonal) + norms.UNDERFLOW, torch.nan)
    return plain + c[..., None, None] * torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)


def _in_reals(layers: Layers) -> tuple[Layers, int]:
    """Complex matrices as real ones of twice the size."""
    if not layers.A1.is_complex():
        return layers, 1
    return replace(layers, A1=real(layers.A1), A2=real(layers.A2), error1=layers.error1.repeat(1, 2, 2),
                   error2=layers.error2.repeat(1, 2, 2)), 2
