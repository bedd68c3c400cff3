"""Residual branches x ↦ A2 σ(A1 x + b1) of two convolutions: A1ᵀ and A2 as kernels over one window.

Along every axis A1ᵀ and A2 are sections of convolutions on all of Z, so every combination A2Q − A1ᵀQ⁻¹ with a Q of one
number a hidden channel is one, too: that of the combined kernels. Over a common window both share one torus.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _check, norms
from ..norms.convolution import tori_of, torus_norm
from ..norms.geometry import Axis, check_mode, layout
from ..norms.symbol import ENTRIES, symbols, tables

__all__ = ["Branch", "branch"]


@dataclass(frozen=True, eq=False)
class Branch:
    """Kernels (*batch, channels, hidden, *window), float64, of A1ᵀ and A2, with the same padding around ``image``."""

    adjoint1: Tensor
    kernel2: Tensor
    image: tuple[int, ...]
    padding: list[tuple[int, int]]
    mode: str

    @property
    def dims(self) -> int:
        return len(self.image)

    @property
    def batch(self) -> tuple[int, ...]:
        return tuple(self.kernel2.shape[:-self.dims - 2])

    @property
    def alive(self) -> Tensor:
        """Hidden channels that are read and written, (*batch, hidden)."""
        return _nonzero(self.adjoint1, self.dims) & _nonzero(self.kernel2, self.dims)

    @property
    def transposed(self) -> Tensor:
        """Where A2 = A1ᵀ exactly, (*batch,)."""
        return (self.adjoint1 == self.kernel2).flatten(-self.dims - 2).all(-1)

    def by_channel(self, q: Tensor) -> Tensor:
        """Numbers (*batch, hidden) with the dimensions of the kernels."""
        return q[(..., None, slice(None), *(None,) * self.dims)]

    def without_dead(self) -> Branch:
        """The branch without the hidden channels that contribute nothing."""
        alive = self.by_channel(self.alive)
        return replace(self, adjoint1=self.adjoint1 * alive, kernel2=self.kernel2 * alive)

    def members(self) -> list[Branch]:
        """The branches of the batch, one by one: each has a torus of its own."""
        pairs = zip(*(K.flatten(0, -self.dims - 3) if self.batch else K[None] for K in (self.adjoint1, self.kernel2)),
                    strict=True)
        return [replace(self, adjoint1=adjoint1, kernel2=kernel2) for adjoint1, kernel2 in pairs]

    def axes(self) -> list[Axis]:
        """Of the tori on which the symbols bound the branches, the one on which the product of all ‖A2‖ is least."""
        axes = layout(self.kernel2, self.image, 1, self.padding, 1, 1, self.mode, dims=self.dims).axes()
        assert axes is not None  # the window covers its own pixel
        tori = tori_of(axes, min(self.kernel2.shape[-self.dims - 2:-self.dims]))
        taps = self.kernel2.reshape(-1, *self.kernel2.shape[-self.dims - 2:]).flatten(3)
        sizes = [float(torus_norm(taps, torus, norms.FLOAT).log().sum()) for torus in tori] if tori[1:] else [0.0]
        return tori[sizes.index(min(sizes))]

    def symbols(self, axes: list[Axis]) -> Iterator[tuple[Tensor, Tensor]]:
        """For one branch: Â1ᴴ and Â2, (F, channels, hidden) complex128, at the frequencies of a torus, some at a
        time."""
        taps = torch.stack([self.adjoint1.flatten(2), self.kernel2.flatten(2)])
        cos, sin = (table.to(taps.device) for table in tables(axes))
        step = max(1, ENTRIES // (8 * sum(self.kernel2.shape[:2]) ** 2))
        for first in range(0, len(cos), step):
            adjoint1, A2 = torch.complex(*symbols(taps, cos[first:first + step], sin[first:first + step]))
            yield adjoint1, A2

    def rounding(self) -> list[Tensor]:
        """Bounds (*batch, channels, hidden) of the error of the real, and of the imaginary, part of both symbols."""
        share = 1.01 * (self.kernel2.shape[-self.dims:].numel() + 5) * norms.UNIT  # as in symbol_error
        return [share * K.abs().flatten(-self.dims).sum(-1) + norms.UNDERFLOW for K in (self.adjoint1, self.kernel2)]


def branch(K1: Tensor, K2: Tensor, image: Sequence[int], padding_mode: str, transposed: bool) -> Branch:
    """The two convolutions, checked."""
    check_mode(padding_mode)
    if isinstance(image, int) or len(image) not in (1, 2):
        raise ValueError(f"image must be (length,) or (height, width); got {image!r}.")
    dims = len(image)
    K1, K2 = (_kernel(name, K, dims) for name, K in (("K1", K1), ("K2", K2)))
    K2 = K2 if not transposed else _flip(K2, dims)
    hidden, channels = K1.shape[-dims - 2:-dims]
    if K2.shape[-dims - 2:-dims] != (channels, hidden) or K1.shape[:-dims - 2] != K2.shape[:-dims - 2]:
        wanted = "(*batch, hidden, channels, ...)" if transposed else "(*batch, channels, hidden, ...)"
        raise ValueError(f"K1 and K2 must have shapes (*batch, hidden, channels, ...) and {wanted}; got "
                         f"{_check.describe(K1)} and, as a map back, {tuple(K2.shape)}.")
    sides1 = [(k - 1 - (k - 1) // 2, (k - 1) // 2) for k in K1.shape[-dims:]]  # of A1ᵀ, whose taps are mirrored
    sides2 = [((k - 1) // 2, k - 1 - (k - 1) // 2) for k in K2.shape[-dims:]]
    if transposed:
        sides2 = [(after, before) for before, after in sides2]
    padding = [(max(a, c), max(b, d)) for (a, b), (c, d) in zip(sides1, sides2, strict=True)]
    return Branch(_widened(_flip(K1, dims), sides1, padding), _widened(K2, sides2, padding), tuple(image), padding,
                  padding_mode)


def _kernel(name: str, K: Tensor, dims: int) -> Tensor:
    _check.finite(name, _check.tensor(name, K))
    if K.ndim < dims + 2:
        raise ValueError(f"{name} must have shape (*batch, out, in, {'kh, kw' if dims == 2 else 'k'}) for an image of "
                         f"{dims} dimensions; got {_check.describe(K)}.")
    return K.detach().to(torch.float64)


def _flip(K: Tensor, dims: int) -> Tensor:
    """The kernel of the adjoint: channels exchanged, taps mirrored."""
    return K.transpose(-dims - 2, -dims - 1).flip(tuple(range(-dims, 0)))


def _widened(K: Tensor, sides: list[tuple[int, int]], padding: list[tuple[int, int]]) -> Tensor:
    """The kernel over the wider window, zeros around it."""
    more = [extra for (a, b), (p, q) in zip(reversed(sides), reversed(padding), strict=True)
            for extra in (p - a, q - b)]
    return F.pad(K, more)


def _nonzero(K: Tensor, dims: int) -> Tensor:
    return (K != 0).flatten(-dims).any(-1).any(-2)

