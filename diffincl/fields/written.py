"""Convolutions that keep the size of the image, written out as matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _check
from ..curves import Constant, Curve, PiecewiseConstant, PiecewiseLinear

__all__ = ["WrittenOut", "image_size"]

MOST = 2**26  # entries


@dataclass(frozen=True)
class WrittenOut:
    """How convolutions and biases act on flattened images of one size."""

    image: tuple[int, ...]
    padding_mode: str

    @property
    def pixels(self) -> int:
        """Number of pixels of the image."""
        return torch.Size(self.image).numel()

    def require_room(self, kernels: Sequence[Curve | Constant]) -> None:
        """Raise where the matrices would be too large."""
        dims = len(self.image)
        entries = [curve.values.shape[:-dims].numel() * self.pixels**2 for curve in kernels]
        if sum(entries) > MOST:
            raise ValueError(f"written out for images of size {self.image}, the convolutions have {sum(entries):,} "
                             f"entries in all, more than {MOST:,}. Use smaller images or fewer channels, or "
                             f"rates.conv, which needs no matrices.")

    def matrix(self, curve: Curve | Constant) -> Tensor | Curve:
        """A kernel (m, d, *k), or a curve of kernels, as matrices (m·pixels, d·pixels)."""
        return _like(curve, self._matrices(curve.values))

    def vector(self, curve: Curve | Constant) -> Tensor | Curve:
        """A bias (m,), or a curve of them, one number a pixel."""
        return _like(curve, curve.values.repeat_interleave(self.pixels, -1))

    def _matrices(self, K: Tensor) -> Tensor:
        """Exact, but where taps of a circular convolution meet: of each sum one term is not zero."""
        dims = len(self.image)
        place = self._places(K.shape[-dims:]).to(K.device)
        M = torch.einsum("...mda,apq->...mpdq", K.flatten(-dims).to(torch.float64), place)
        return M.flatten(-4, -3).flatten(-2).to(K.dtype)

    def _places(self, kernel: Sequence[int]) -> Tensor:
        """Whether tap a of pixel p is at pixel q, (taps, pixels, pixels)."""
        place = torch.ones(1, 1, 1, dtype=torch.float64)
        for n, k in zip(self.image, kernel, strict=True):
            at = torch.arange(n) + torch.arange(k).unsqueeze(-1) - k // 2  # (taps, n)
            at = at.unsqueeze(-1) % n if self.padding_mode == "circular" else at.unsqueeze(-1)
            axis = (at == torch.arange(n)).to(torch.float64)
            place = torch.einsum("apq,brs->abprqs", place, axis).flatten(0, 1).flatten(1, 2).flatten(2, 3)
        return place


def image_size(image: Sequence[int], dims: int) -> tuple[int, ...]:
    """The size of an image of ``dims`` dimensions, checked."""
    wanted = "(length,)" if dims == 1 else "(height, width)"
    if isinstance(image, int) or len(image) != dims:
        raise ValueError(f"image must be {wanted} for these kernels; got {image!r}.")
    return tuple(_check.count("image", n) for n in image)


def _like(curve: Curve | Constant, values: Tensor) -> Tensor | Curve:
    """The curve with other values; a constant as a tensor."""
    if isinstance(curve, PiecewiseConstant | PiecewiseLinear):
        return type(curve)(values, curve.t0, curve.t1)
    if isinstance(curve, Curve):
        raise TypeError(f"only PiecewiseConstant and PiecewiseLinear weights can be written out; got "
                        f"{type(curve).__name__}.")
    return values
