"""A function g from any scalar activation that passes for a prox map."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .root import LARGEST, Quadruple, solve
from .scalar import ScalarActivation

__all__ = ["from_callable"]

TOLERANCE = 1e-9  # on slopes; rounding in the grid's differences is 1e-11


def from_callable(rho: Callable[[Tensor], Tensor], *, name: str = "",
                  domain: tuple[float, float] | None = None) -> ScalarActivation:
    """The g whose prox at h = 1 is ``rho``, after a look at ``rho`` on a grid.

    Parameters
    ----------
    rho : callable
        Acts on each entry alone, keeps shape and dtype, differentiable by torch in float64 (forward mode).
    name : str, optional
        Shown in messages.
    domain : (float, float), optional
        Closure of the range of ``rho``; default: its values at ±∞, where NaN at the largest numbers.

    Raises
    ------
    ValueError
        If ``rho`` decreases, or rises more steeply than 1, between two points of the grid, names them and the slope; if
        it does not act on each entry alone, or is not finite.

    Examples
    --------
    >>> import torch
    >>> g = from_callable(torch.asinh)
    >>> g.prox(torch.tensor([2.0]), h=0.5)  # y + ½(sinh y − y) = 2
    tensor([1.6068])
    >>> from_callable(torch.sin)
    Traceback (most recent call last):
    ValueError: sin is no prox map: it falls from ...

    Notes
    -----
    A ρ is a prox map exactly if it is nondecreasing and 1-Lipschitz. The grid, 40001 points to ±50 and a geometric one
    to ±1e6, can refute that and cannot prove it. s − ρ(s) is a difference here, so where ρ' is close to 1 the prox
    loses digits for h >> 1. φ is integrated numerically from φ(ρ(0)) = 0: ten digits for a smooth ρ, four with kinks.

    References
    ----------
    Combettes, Pesquet, "Deep neural network structures solving variational inequalities", 2020, §2; theory §8.
    """
    if not callable(rho):
        raise TypeError(f"rho must be callable as rho(x); got {rho!r} of type {type(rho).__name__}.")
    name = name or getattr(rho, "__name__", type(rho).__name__)
    _look(rho, name)
    lower, upper = _range(rho, name) if domain is None else domain
    parts = partial(_parts, rho=rho)
    return ScalarActivation(name, rho, parts, partial(_phi, parts=parts), lower, upper)


def _parts(s: Tensor, rho: Callable[[Tensor], Tensor]) -> Quadruple:
    out = torch.func.jvp(rho, (s,), (torch.ones_like(s),))
    value, slope = out[0], out[1]
    return value, s - value, slope, 1 - slope


def grid() -> Tensor:
    """Where ρ is looked at."""
    near = torch.linspace(-50, 50, 40001, dtype=torch.float64)
    far = torch.logspace(1.7, 6, 400, dtype=torch.float64)
    return torch.cat([-far.flip(0), near[1:-1], far])


def _look(rho: Callable[[Tensor], Tensor], name: str) -> None:
    """Refuse a ``rho`` that the grid refutes."""
    s = grid()
    try:
        y, _, slope, _ = _parts(s, rho)
        alone = torch.cat([rho(s[:1]), rho(s[1:])])
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ValueError(f"{name} must take a float64 tensor and be differentiable by torch in forward mode; on a "
                         f"tensor of shape {tuple(s.shape)} it raised: {error}") from error
    if y.shape != s.shape or y.dtype != s.dtype or not torch.allclose(y, alone, rtol=1e-9, atol=1e-12, equal_nan=True):
        raise ValueError(f"{name} must act on each entry alone and keep shape and dtype. For softmax there is "
                         f"Softmax(), for another map that mixes coordinates write a ProxFunction.")
    if not bool((ok := torch.isfinite(y) & torch.isfinite(slope)).all()):
        raise ValueError(f"{name} must be finite with a finite slope; at x = {float(s[~ok][0]):g} it is "
                         f"{float(y[~ok][0]):g} with slope {float(slope[~ok][0]):g}.")
    secant = y.diff() / s.diff()
    for slopes in (secant, slope):
        k = int((slopes - 0.5).abs().argmax())
        if slopes[k] < -TOLERANCE or slopes[k] > 1 + TOLERANCE:
            a, b = (k, k + 1) if slopes is secant else (k, k)
            raise ValueError(_fault(name, s[a], s[b], y[a], y[b], float(slopes[k])))


def _fault(name: str, a: Tensor, b: Tensor, ya: Tensor, yb: Tensor, slope: float) -> str:
    if a == b:
        what = f"its slope is {slope:.6g} at x = {float(a):.6g}"
    else:
        what = (f"it {'falls' if slope < 0 else 'rises'} from {float(ya):.6g} at x = {float(a):.6g} to {float(yb):.6g} "
                f"at x = {float(b):.6g}, a slope of {slope:.6g}")
    reason = "must not decrease" if slope < 0 else "must not be steeper than 1"
    return (f"{name} is no prox map: {what}; a prox map {reason} (theory §8). As part of F any "
            f"activation will do.")


def _range(rho: Callable[[Tensor], Tensor], name: str) -> tuple[float, float]:
    """Values of ρ at ±∞, or at the largest numbers; they must not lie inside those on the grid."""
    largest = torch.tensor([-LARGEST, LARGEST], dtype=torch.float64)
    ends = torch.where(rho(largest * torch.inf).isnan(), rho(largest), rho(largest * torch.inf))
    inner = rho(grid()[[0, -1]])
    if not bool((ends[0] <= inner[0]) & (ends[1] >= inner[1])):
        raise ValueError(f"the range of {name} cannot be read off its values {float(ends[0]):g} and "
                         f"{float(ends[1]):g} at the ends of float64; pass domain=(lower, upper).")
    return float(ends[0]), float(ends[1])


def _phi(y: Tensor, parts: Callable[[Tensor], Quadruple]) -> Tensor:
    """∫ (s − ρ(s)) ρ'(s) ds from 0 to ρ⁻¹(y), by Gauss–Legendre in v, s = sinh v, on 64 panels."""
    end = torch.asinh(solve(parts, y, torch.zeros_like(y)))
    nodes, weights = _gauss_legendre(y)
    v = end.unsqueeze(-1) * nodes
    _, gap, slope, _ = parts(torch.sinh(v))
    return end * (gap * slope * torch.cosh(v) * weights).sum(-1)


def _gauss_legendre(like: Tensor, panels: int = 64, order: int = 8) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1], by the eigenvalues of the Jacobi matrix (Golub, Welsch, 1969)."""
    k = torch.arange(1, order, dtype=torch.float64, device=like.device)
    beta = k / (4 * k * k - 1).sqrt()
    x, V = torch.linalg.eigh(torch.diag(beta, 1) + torch.diag(beta, -1))
    starts = torch.arange(panels, dtype=torch.float64, device=like.device).unsqueeze(-1)
    return ((starts + (x + 1) / 2) / panels).flatten(), (V[0] ** 2 / panels).expand(panels, order).flatten()
