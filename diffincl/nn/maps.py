"""What A x means in a block: a matrix product, or a convolution that keeps the size of signals or images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .. import _check, norms
from ..fields import adjoint_kernel, convolve

__all__ = ["DENSE", "Image", "Maps"]

Image = int | Sequence[int]
PROBE = 16  # pixels along an axis of the images on which norms are estimated while training


@dataclass(frozen=True)
class Maps:
    """Linear maps between features: ``dims`` 0 for matrices, 1 or 2 for convolutions with odd kernels.

    Every block is written once for all three.
    """

    dims: int = 0
    kernel: tuple[int, ...] = ()
    padding_mode: str = "zeros"

    def shape(self, out: int, into: int) -> tuple[int, ...]:
        """Shape of the weight of a map from ``into`` to ``out`` features."""
        return (out, into, *self.kernel)

    def affine(self, x: Tensor, A: Tensor, b: Tensor | None) -> Tensor:
        """A x + b."""
        return linear(x, A, b) if self.dims == 0 else convolve(x, A, b, self.padding_mode)

    def adjoint(self, A: Tensor) -> Tensor:
        """The weight of Aᵀ."""
        return A.mT if self.dims == 0 else adjoint_kernel(A)

    def identity(self, like: Tensor) -> Tensor:
        """The weight of the identity, for ``like`` (d, d, *k)."""
        A = torch.zeros_like(like)
        A[(..., *(k // 2 for k in self.kernel))] = torch.eye(len(like), dtype=like.dtype, device=like.device)
        return A

    def spread(self, b: Tensor) -> Tensor:
        """A vector of features, to be multiplied with states."""
        return b.reshape(-1, *[1] * self.dims)

    def norm(self, A: Tensor, image: Image | None, status: str) -> norms.OperatorNorm:
        """‖A‖ from above on images of that size; without ``image`` on those of every size, with status "float"."""
        _check.choice("status", status, (norms.CERTIFIED, norms.FLOAT))  # an estimate from below certifies nothing
        if self.dims == 0:
            if image is not None:
                raise ValueError(f"a dense block has no image; got image = {image!r}. Leave it out.")
            return norms.dense(A, status=status)
        if image is None:
            return norms.OperatorNorm(self.norm_at_any_size(A.detach().double()), norms.FLOAT)
        half = [k // 2 for k in A.shape[2:]]
        if self.dims == 1:
            return norms.conv1d(A, self.sides(image)[0], padding=half[0], padding_mode=self.padding_mode, status=status)
        return norms.conv2d(A, image, padding=half, padding_mode=self.padding_mode, status=status)

    def sides(self, image: Image) -> tuple[int, ...]:
        """The size of an image along each of its axes."""
        return (image,) * self.dims if isinstance(image, int) else tuple(image)

    def norm_at_any_size(self, A: Tensor) -> Tensor:
        """‖A‖ from above, differentiable; for convolutions on images of every size.

        Circular convolutions sample the same Fourier symbol as zero-padded ones are bounded by.
        """
        if self.dims == 0:
            return norms.gram_dense(A, iterations=8)
        gram = norms.gram_conv1d if self.dims == 1 else norms.gram_conv2d
        return gram(A, iterations=8, oversampling=16)

    def probe(self, into: int) -> tuple[int, ...]:
        """Shape of a state on which a norm is estimated."""
        return (into, *(max(PROBE, k) for k in self.kernel))

    def pushed(self, A: Tensor, v: Tensor) -> Tensor:
        """AᵀA v, circular, so that border pixels are no special case."""
        circular = Maps(self.dims, self.kernel, "circular")
        return circular.affine(circular.affine(v, A, None), self.adjoint(A), None)

    def layer(self, A: Tensor, b: Tensor | None) -> nn.Module:
        """torch's layer x ↦ A x + b with copies of the weights."""
        out, into = A.shape[:2]
        if self.dims == 0:
            layer = nn.Linear(into, out, b is not None, device=A.device, dtype=A.dtype)
        else:
            kind: Any = nn.Conv1d if self.dims == 1 else nn.Conv2d
            half = tuple(k // 2 for k in A.shape[2:])
            layer = kind(into, out, tuple(A.shape[2:]), padding=half, bias=b is not None,
                         padding_mode=self.padding_mode, device=A.device, dtype=A.dtype)
        with torch.no_grad():
            layer.weight.copy_(A)
            if layer.bias is not None and b is not None:
                layer.bias.copy_(b)
        return layer

    def draw(self, out: int, into: int, *, device: torch.device | str | None, dtype: torch.dtype | None,
             generator: torch.Generator | None) -> Tensor:
        """A random weight with entries of size √(2/fan)."""
        shape = self.shape(out, into)
        size = math.sqrt(2 / (into * math.prod(self.kernel)))
        return size * torch.randn(*shape, device=device, dtype=dtype, generator=generator)


DENSE = Maps()


def convolutions(dims: int, kernel_size: Image, padding_mode: str) -> Maps:
    """Convolutions with a kernel of odd size."""
    sizes = tuple(kernel_size) if isinstance(kernel_size, Sequence) else (kernel_size,) * dims
    sizes = tuple(_check.count("kernel_size", k) for k in sizes)
    if len(sizes) != dims or any(k % 2 == 0 for k in sizes):
        raise ValueError(f"kernel_size must be odd, one number or {dims}, so that the image keeps its size; got "
                         f"{kernel_size!r}.")
    return Maps(dims, sizes, _check.choice("padding_mode", padding_mode, ("zeros", "circular")))
