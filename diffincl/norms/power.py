"""Power iteration: a norm from below, to be held against the bounds. It must never enter one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__: list[str] = []

STEPS, TOLERANCE = 1000, 1e-10


def power_iteration(apply: Callable[[Tensor], Tensor], shape: tuple[int, ...], like: Tensor) -> Tensor:
    """max ‖A_b x‖/‖x‖ found for each linear map b: x of shape (b, *shape) to any (b, …); (b,) float64, from below.

    The start is random with a fixed seed; AᵀAx is the gradient of ½‖Ax‖². Ends when no estimate moves by more than
    1e-10 of itself, after 1 000 steps at the latest.
    """
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x, best = _unit(start.to(like.device).expand(like.shape[0], *shape)), like.new_zeros(like.shape[0])
    for _ in range(STEPS):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = apply(x)
            square = y.square().flatten(1).sum(1)
            (x,) = torch.autograd.grad(0.5 * square.sum(), x)
        value = square.detach().sqrt()
        done = bool((value - best <= TOLERANCE * value).all())
        x, best = _unit(x), torch.maximum(value, best)
        if done:
            break
    return best


def _unit(x: Tensor) -> Tensor:
    size = x.flatten(1).norm(dim=1)
    return x / torch.where(size > 0, size, 1.0).reshape(-1, *(1,) * (x.ndim - 1))
