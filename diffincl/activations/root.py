"""The scalar equation y + hφ'(y) = x, solved for the point s with y = ρ(s).

With φ' = ρ⁻¹ − id it reads T(s) = ρ(s) + h(s − ρ(s)) = x. The slope T' = ρ' + h(1 − ρ') lies between min(1, h) and
max(1, h) for every nondecreasing 1-Lipschitz ρ, so s is well determined even where y saturates, and the root lies
between u/max(1, h) and u/min(1, h), u = x − T(0): a bracket on one side of 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import _check

__all__: list[str] = []

Quadruple = tuple[Tensor, Tensor, Tensor, Tensor]
Parts = Callable[[Tensor], Quadruple]  # s -> ρ(s), s − ρ(s), ρ'(s), 1 − ρ'(s)

ITERATIONS = 60  # 22 suffice for |x| in [1e-8, 1e6] and h in [1e-8, 1e8]
EPS = torch.finfo(torch.float64).eps
SLACK = 4 * EPS
TINY, LARGEST = torch.finfo(torch.float64).tiny, torch.finfo(torch.float64).max


def solve(parts: Parts, x: Tensor, h: Tensor, start: Tensor | None = None) -> Tensor:
    """The s with ρ(s) + h(s − ρ(s)) = x, float64, without derivatives, from a guess ``start``; h = 0 gives ρ⁻¹(x).

    Newton in m = |s|, clamped to the bracket; where a step is not half as long as the one before, the geometric mean of
    the bracket is taken instead (its ends may differ by 16 orders of magnitude).
    """
    x, h = torch.broadcast_tensors(x.detach(), h.detach())
    u = x - (1 - h) * parts(torch.zeros_like(x))[0]
    sign = torch.where(u < 0, -1.0, 1.0).to(u)
    lo, hi = u.abs() / h.clamp_min(1), (u.abs() / h.clamp(TINY, 1)).clamp_max(LARGEST)
    done, last = u.isinf(), torch.full_like(x, torch.inf)
    m = torch.where(h < 1, lo, hi) if start is None else start.abs().clamp(lo, hi)  # mostly T is concave for h < 1
    m = torch.where(done, LARGEST, m)
    for _ in range(ITERATIONS):
        rho, gap, slope, rest = parts(sign * m)
        f = sign * (rho + h * gap - x)
        exact = done | (f.abs() <= 2 * EPS * (rho.abs() + h * gap.abs()))
        lo, hi = torch.where(f <= 0, m, lo), torch.where(f >= 0, m, hi)
        newton = (m - f / (slope + h * rest)).clamp(lo, hi)
        step = (newton - m).abs()
        good = (step <= SLACK * m) | (step <= last / 2)
        new = torch.where(exact, m, torch.where(good, newton, lo.sqrt() * hi.sqrt()))
        last = (new - m).abs()
        done, m = exact | (last <= SLACK * m), new
        if _check.concrete(x) and bool((done | m.isnan()).all()):
            break
    return sign * m


def attach(parts: Parts, s: Tensor, x: Tensor, h: Tensor) -> Tensor:
    """``s``, a root found without derivatives, with its first and second derivatives by x and h.

    Each Newton step from a root doubles the number of correct derivatives; its value, rounding only, is left out.
    """
    if not differentiated(x, h):
        return s
    for _ in range(2):
        rho, gap, slope, rest = parts(s)
        s = s - valueless(rho + h * gap - x) / (slope + h * rest)
    return s


def valueless(a: Tensor) -> Tensor:
    """0 with the derivatives of ``a``."""
    return a - a.detach()


def with_value(y: Tensor, value: Tensor) -> Tensor:
    """``value`` with the derivatives of ``y``, for a ``value`` within a factor of two of ``y``."""
    value = value.detach()
    return torch.where(y == value, y, y + (value - y.detach()))


def differentiated(*tensors: Tensor) -> bool:
    """Whether somebody takes derivatives: backward, forward or by a torch.func transform."""
    return any(a.requires_grad or not _check.concrete(a) or forward_ad.unpack_dual(a).tangent is not None
               for a in tensors)


def step_length(h: float | Tensor, x: Tensor) -> Tensor:
    """``h`` as a float64 tensor; a negative one is refused."""
    step = h.double() if isinstance(h, Tensor) else torch.tensor(h, dtype=torch.float64, device=x.device)
    if _check.concrete(step) and bool((step < 0).any()):
        i = _check.first(step < 0)
        raise ValueError(f"h must be nonnegative; entry {i} is {float(step[i]):g}. A step runs forward in time.")
    return step
