"""Differentiable upper bounds of norms for training penalties: Gram iteration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _check
from .geometry import ZEROS, Axis, any_size, check_kernel, check_mode, layout, whole
from .matrices import check_matrix
from .symbol import symbol_error, symbols, tables

__all__ = ["gram_conv1d", "gram_conv2d", "gram_dense"]


def gram_dense(A: Tensor, iterations: int = 6) -> Tensor:
    """Spectral norm ‖A‖₂ from above, differentiable: a training penalty.

    Parameters
    ----------
    A : Tensor (*batch, n, k), float32 or float64
    iterations : int
        Each halves the logarithm of the ratio to the truth, which is at most rank^(1/2^(iterations + 1)).

    Returns
    -------
    Tensor (*batch,)
        Of the dtype of A; 0 with gradient 0 where A is zero.

    Raises
    ------
    TypeError, ValueError
        If A is no floating-point tensor of at least two dimensions, or holds NaN or infinity.

    Examples
    --------
    >>> import torch
    >>> A = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64)).requires_grad_()
    >>> norm = gram_dense(A)
    >>> norm.backward()
    >>> round(float(norm.detach()), 6), round(float(A.grad[0, 0]), 6)
    (3.0, 1.0)

    Notes
    -----
    G_0 = A, G_{i+1} = G_iᴴG_i/‖G_i‖_F² has ‖A‖ = ‖G_0‖_F·‖G_1‖_F^{1/2}·…·‖G_i/‖G_i‖_F‖^{1/2^i}, and the last norm is at
    most one. A margin of 8(n + k) rounding units of A's dtype is added; rounding is not enclosed (status "float").

    References
    ----------
    Delattre, Barthélemy, Araujo, Allauzen, "Efficient bound of Lipschitz constant for convolutional layers by Gram
    iteration", 2023.
    """
    A, scale = _to_unit_size(check_matrix("A", A), 2)
    return _gram(A, _check.count("iterations", iterations)) * scale


def gram_conv2d(K: Tensor, iterations: int = 5, *, image: int | Sequence[int] | None = None,
                stride: int | Sequence[int] = 1, padding: Any = 1, dilation: int | Sequence[int] = 1, groups: int = 1,
                padding_mode: str = ZEROS, transposed: bool = False, output_padding: int | Sequence[int] = 0,
                oversampling: int = 8) -> Tensor:
    """Norm of torch's ``conv2d`` or ``conv_transpose2d`` with kernel K from above, differentiable: a training penalty.

    Parameters
    ----------
    K : Tensor (*batch, out, in/groups, kh, kw), float32 or float64
        With ``transposed`` (*batch, in, out/groups, kh, kw).
    iterations : int
        Each halves the logarithm of what Gram iteration adds.
    image : int or pair, optional
        Size of the images the map is applied to; without it the bound holds for every size and every zero padding.
    stride, padding, dilation, groups, padding_mode, transposed, output_padding
        As for `conv2d`; circular padding needs ``image``.
    oversampling : int
        Without ``image``: M = oversampling·(k − 1) frequencies per axis, which costs a factor 1/cos(π/(2·oversampling))
        for each axis; 8 gives 1.04 in all, 16 gives 1.01.

    Returns
    -------
    Tensor (*batch,)
        Of the dtype of K; 0 with gradient 0 where K is zero.

    Raises
    ------
    TypeError, ValueError
        As `conv2d`.

    Examples
    --------
    >>> import torch
    >>> K = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    >>> K[..., 1, 1] = 2.0
    >>> round(float(gram_conv2d(K, image=8)), 6), round(float(gram_conv2d(K, oversampling=64)), 3)
    (2.0, 2.001)

    Notes
    -----
    Gram iteration on the Fourier symbol at each frequency, then the maximum. Between the points of the grid the symbol
    is bounded by the inequality for trigonometric polynomials in `geometry.any_size`. A margin for the rounding of K's
    dtype is added, not enclosed (status "float").

    References
    ----------
    As `gram_dense`; Ehlich, Zeller, "Schwankung von Polynomen zwischen Gitterpunkten", 1964.
    """
    place = (image, stride, padding, dilation, groups, padding_mode, transposed, output_padding)
    return _conv(K, iterations, place, oversampling, dims=2)


def gram_conv1d(K: Tensor, iterations: int = 5, *, image: int | None = None, stride: int = 1, padding: Any = 1,
                dilation: int = 1, groups: int = 1, padding_mode: str = ZEROS, transposed: bool = False,
                output_padding: int = 0, oversampling: int = 8) -> Tensor:
    """Norm of torch's ``conv1d`` or ``conv_transpose1d`` with kernel K from above, differentiable: a training penalty.

    Parameters
    ----------
    K : Tensor (*batch, out, in/groups, k), float32 or float64
        With ``transposed`` (*batch, in, out/groups, k).
    iterations, image, stride, padding, dilation, groups, padding_mode, transposed, output_padding, oversampling
        As for `gram_conv2d`.

    Returns
    -------
    Tensor (*batch,)
        Of the dtype of K; 0 with gradient 0 where K is zero.

    Raises
    ------
    TypeError, ValueError
        As `conv1d`.

    Examples
    --------
    >>> import torch
    >>> float(gram_conv1d(torch.tensor([[[1.0, -1.0]]], dtype=torch.float64), oversampling=64)) < 2.001
    True

    Notes
    -----
    As `gram_conv2d`. Source: theory §7.
    """
    place = (image, stride, padding, dilation, groups, padding_mode, transposed, output_padding)
    return _conv(K, iterations, place, oversampling, dims=1)


def _conv(K: Tensor, iterations: int, place: tuple[Any, ...], oversampling: int, *, dims: int) -> Tensor:
    image, stride, padding, dilation, groups, mode, transposed, output_padding = place
    if image is None:
        axes = _any_size(K, stride, dilation, groups, mode, oversampling, dims)
    else:
        axes = layout(K, image, stride, padding, dilation, groups, mode, dims=dims, transposed=transposed,
                      output_padding=output_padding).axes()
    return _norm(K, axes, _check.count("iterations", iterations), groups, dims)


def _any_size(K: Tensor, stride: Any, dilation: Any, groups: int, mode: str, oversampling: int,
              dims: int) -> list[Axis]:
    check_mode(mode)
    kernel, _ = check_kernel(K, groups, dims)
    if mode != ZEROS:
        raise ValueError(f"the bound for every image size is one for zero padding; pass image for "
                         f"padding_mode={mode!r}.")
    if _check.count("oversampling", oversampling) < 2:
        raise ValueError("oversampling must be at least 2; got 1: frequencies that far apart bound nothing between.")
    numbers = zip(kernel, whole("stride", stride, dims), whole("dilation", dilation, dims), strict=True)
    return [any_size(k, s, d, oversampling) for k, s, d in numbers]


def _norm(K: Tensor, axes: list[Axis] | None, iterations: int, groups: int, dims: int) -> Tensor:
    """Largest norm of the blocks at all frequencies."""
    batch = K.shape[:-dims - 2]
    K, scale = _to_unit_size(K, dims + 2)
    if axes is None:
        return K.flatten(-dims - 2).sum(-1) * 0.0
    taps = K.reshape(-1, K.shape[-dims - 2] // groups, K.shape[-dims - 1], math.prod(K.shape[-dims:]))
    error = symbol_error(taps.detach(), torch.finfo(K.dtype).eps)
    cos, sin = (table.to(taps) for table in tables(axes))
    largest = _gram(torch.complex(*symbols(taps, cos, sin)), iterations).amax(-1)
    value = (largest + error) * math.prod(axis.factor for axis in axes)
    return value.reshape(*batch, groups).amax(-1) * scale


def _gram(A: Tensor, iterations: int) -> Tensor:
    """Upper bound of the norms of real or complex matrices with entries around one."""
    if A.shape[-2] < A.shape[-1]:
        A = A.mH
    margin = 1 + 8 * sum(A.shape[-2:]) * torch.finfo(A.dtype).eps
    alive, size = _frobenius(A)
    value, power = size, 1.0
    for _ in range(iterations):
        A = A / size[..., None, None]
        A, power = A.mH @ A, power / 2
        size = _frobenius(A)[1]
        value = value * size**power
    return torch.where(alive, value * margin, 0.0)


def _frobenius(A: Tensor) -> tuple[Tensor, Tensor]:
    """Where A is not zero, and its Frobenius norm there; 1 elsewhere, so that neither it nor its gradient is 0/0."""
    square = (A.real.square() + A.imag.square() if A.is_complex() else A.square()).sum((-2, -1))
    return square > 0, torch.where(square > 0, square, 1.0).sqrt()


def _to_unit_size(A: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """A over its largest entry, taken over the last ``dims`` dimensions and held constant; and that entry."""
    largest = A.detach().abs().flatten(-dims).amax(-1)
    scale = torch.where(largest > 0, largest, 1.0)
    return A / scale[(..., *(None,) * dims)], scale
