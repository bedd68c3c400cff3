"""The Fourier symbol of a convolution on a torus, with a bound of its rounding; half of the frequencies is enough."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .geometry import Axis
from .matrices import UNIT
from .roots import roots_of_unity

__all__: list[str] = []

ENTRIES = 2**21  # of a block of symbols held at once


def tables(axes: list[Axis]) -> tuple[Tensor, Tensor]:
    """cos and sin of θ·a for every frequency θ, channel r of coarse pixels and tap: each (F, R, T), within 4u.

    Frequencies are 2π(f + twist/2)/M. Kernels are real: opposite frequencies have the same singular values, so the last
    axis stops half way. A tap counts in its own channel r, the other entries are zero.
    """
    cos, sin = _axis_table(axes[0], half=len(axes) == 1)
    for i in range(1, len(axes)):
        c, s = _axis_table(axes[i], half=i == len(axes) - 1)
        cos, sin = _outer(cos, c) - _outer(sin, s), _outer(cos, s) + _outer(sin, c)
    return cos, sin


def symbols(K: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts, each (b, F, out, in·R), of Σ_j K_j e^{iθ·a_j} for kernels K (b, out, in, T)."""
    b, out, n = K.shape[:3]
    F, R, T = cos.shape
    parts = []
    for table in (cos, sin):
        S = K.reshape(-1, T) @ table.reshape(-1, T).T
        parts.append(S.reshape(b, out, n, F, R).permute(0, 3, 1, 2, 4).reshape(b, F, out, n * R))
    return parts[0], parts[1]


def blocks(K: Tensor, cos: Tensor, sin: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The symbols, few frequencies at a time."""
    step = max(1, ENTRIES // (K.numel() // K.shape[-1] * cos.shape[1]))
    for first in range(0, len(cos), step):
        yield symbols(K, cos[first:first + step], sin[first:first + step])


def symbol_error(K: Tensor, unit: float = UNIT) -> Tensor:
    """‖computed − exact symbol‖₂ from above at every frequency, (b,).

    Each part of an entry errs by (γ_T + 4u)Σ_j|K_j| at most: T products are added, and the tables are within 4u. The
    spectral norm is below the Frobenius norm of the errors, real and imaginary.
    """
    T = K.shape[-1]
    return 1.01 * math.sqrt(2) * (T + 5) * unit * torch.linalg.vector_norm(K.abs().sum(-1), dim=(-2, -1))


def _axis_table(axis: Axis, half: bool) -> tuple[Tensor, Tensor]:
    order = 2 * axis.points
    roots = roots_of_unity(order)
    count = (axis.points + 2 - axis.twist) // 2 if half else axis.points
    f = 2 * torch.arange(count) + axis.twist
    cos, sin = torch.zeros(2, count, axis.stride, len(axis.taps), dtype=torch.float64)
    for j, (a, r) in enumerate(axis.taps):
        cos[:, r, j], sin[:, r, j] = roots[:, f * a % order]
    return cos, sin


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """All products, (F1·F2, R1·R2, T1·T2)."""
    product = left[:, None, :, None, :, None] * right[None, :, None, :, None, :]
    return product.flatten(4).flatten(2, 3).flatten(0, 1)
