"""Norms of torch's convolutions from above, by the Fourier transform on a torus that contains the image (theory §7)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _check
from .geometry import CIRCULAR, ZEROS, Axis, Layout, layout
from .matrices import (
    CERTIFIED,
    ESTIMATE,
    FLOAT,
    UNDERFLOW,
    UNIT,
    OperatorNorm,
    check_overflow,
    dense,
    rounded_back,
    to_unit_size,
)
from .power import power_iteration
from .symbol import blocks, symbol_error, tables

__all__ = ["conv1d", "conv2d"]

SMALL = 2**18  # entries up to which the matrix of the whole convolution is written down
FEW, MANY = 16, 64  # channels (and points) up to which two sizes, and all twists, of the torus are tried


def conv2d(K: Tensor, image: int | Sequence[int], stride: int | Sequence[int] = 1, padding: Any = 1, *,
           dilation: int | Sequence[int] = 1, groups: int = 1, padding_mode: str = ZEROS, transposed: bool = False,
           output_padding: int | Sequence[int] = 0, status: str = CERTIFIED) -> OperatorNorm:
    """Norm of torch's ``conv2d`` or ``conv_transpose2d`` with kernel K, as a linear map of images, from above.

    Parameters
    ----------
    K : Tensor (*batch, out, in/groups, kh, kw), float32 or float64
        Kernels in torch's layout; with ``transposed`` (*batch, in, out/groups, kh, kw).
    image : int or pair
        Height and width of the images the map is applied to (of its input, with ``transposed``, too).
    stride, dilation, groups
        As in torch.
    padding : int, one entry per axis (a number, or a pair before and after), "same" or "valid"
    padding_mode : "zeros" or "circular"
    transposed : bool
        conv_transpose2d: the adjoint of the convolution with the same K, stride and padding.
    output_padding
        As in torch, with ``transposed`` only.
    status : "certified", "float" or "estimate"
        Rounding enclosed; float64 with a margin; or power iteration, a number from below that no bound may use.

    Returns
    -------
    OperatorNorm
        ``value`` of shape (*batch,), float64.

    Raises
    ------
    TypeError, ValueError
        If K is no tensor of that shape or holds NaN or infinity, if the kernel does not fit into the padded image, or
        for reflect and replicate padding, which this theory does not cover.

    Examples
    --------
    >>> import torch
    >>> laplacian = torch.tensor([[[[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]]])
    >>> norm = conv2d(laplacian, image=3)
    >>> round(float(norm.value), 6), norm.status        # 4 + 2√2
    (6.828427, 'certified')

    Notes
    -----
    The convolution is a part of a circular one on M coarse pixels per axis (`geometry`), whose norm is the largest
    spectral norm of the blocks Σ_j K_j e^{iθ·a_j} (out × in·stride²) over the frequencies θ; of several tori, with
    and without a change of sign at the wrap, the best one is taken (up to 64 channels). Groups: the largest block. If
    the matrix of the whole convolution has at most 2¹⁸ entries, its own norm is taken instead. Circular padding: exact
    if the stride divides the image and the output is as large as the torus; else an upper bound.

    References
    ----------
    Theory §7; Sedghi, Gupta, Long, "The singular values of convolutional layers", 2019 (circular, stride 1).
    """
    place = layout(K, image, stride, padding, dilation, groups, padding_mode, dims=2, transposed=transposed,
                   output_padding=output_padding)
    return _norm(K, place, status)


def conv1d(K: Tensor, image: int, stride: int = 1, padding: Any = 1, *, dilation: int = 1, groups: int = 1,
           padding_mode: str = ZEROS, transposed: bool = False, output_padding: int = 0,
           status: str = CERTIFIED) -> OperatorNorm:
    """Norm of torch's ``conv1d`` or ``conv_transpose1d`` with kernel K, as a linear map of signals, from above.

    Parameters
    ----------
    K : Tensor (*batch, out, in/groups, k), float32 or float64
        With ``transposed`` (*batch, in, out/groups, k).
    image : int
        Length of the signals the map is applied to.
    stride, padding, dilation, groups, padding_mode, transposed, output_padding, status
        As for `conv2d`; ``padding`` may be a pair (before, after) in a list: ``[(2, 1)]``.

    Returns
    -------
    OperatorNorm
        ``value`` of shape (*batch,), float64.

    Raises
    ------
    TypeError, ValueError
        As `conv2d`.

    Examples
    --------
    >>> import torch
    >>> difference = torch.tensor([[[1.0, -1.0]]])
    >>> round(float(conv1d(difference, image=5, padding=0, padding_mode="zeros").value), 6)     # 2 cos(π/10)
    1.902113

    Notes
    -----
    As `conv2d`. Source: theory §7.
    """
    place = layout(K, image, stride, padding, dilation, groups, padding_mode, dims=1, transposed=transposed,
                   output_padding=output_padding)
    return _norm(K, place, status)


def _norm(K: Tensor, place: Layout, status: str) -> OperatorNorm:
    _check.choice("status", status, (CERTIFIED, FLOAT, ESTIMATE))
    dims = len(place.kernel)
    batch, g = K.shape[:-dims - 2], place.groups
    K = K.detach().to(torch.float64)
    flat, scale = to_unit_size(K.reshape(-1, 1, K.shape[-dims - 2:].numel()))
    units = flat.reshape(-1, *K.shape[-dims - 2:])
    if status == ESTIMATE:
        value = power_iteration(lambda x: _apply(units, x, place), _input_shape(units, place), units)
    else:
        groupwise = units.reshape(-1, K.shape[-dims - 2] // g, *K.shape[-dims - 1:])
        value = _bound(groupwise, place, status).reshape(-1, g).amax(-1)
    return OperatorNorm(check_overflow("K", rounded_back(value, scale), K).reshape(batch), status)


def _bound(K: Tensor, place: Layout, status: str) -> Tensor:
    """The norm of each of the kernels K (b, out, in, *k) of unit size, without groups."""
    axes = place.axes()
    if axes is None:
        return K.new_zeros(len(K))
    rows, columns = K.shape[1] * math.prod(place.m), K.shape[2] * math.prod(place.n)
    if place.mode == ZEROS and rows * columns <= SMALL:
        return torch.cat([dense(_matrix(part, place), status=status).value for part in K.split(1)])
    taps, tori = K.flatten(3), tori_of(axes, min(K.shape[1], K.shape[2] * math.prod(place.stride)))
    value, best = torch.stack([torus_norm(taps, torus, FLOAT) for torus in tori]).min(0)
    if status == CERTIFIED:
        value = value.clone()
        for i in best.unique().tolist():
            value[best == i] = torus_norm(taps[best == i], tori[i], CERTIFIED)
    return value * math.prod(axis.factor for axis in axes) * (1 + 8 * UNIT)


def tori_of(axes: list[Axis], channels: int) -> list[list[Axis]]:
    """The tori to choose from: twisted or not, and, where they are small and cheap, one point larger along all axes."""
    if channels > MANY or not all(axis.free for axis in axes):
        return [axes]
    sizes = (0, 1) if channels <= FEW and max(axis.points for axis in axes) <= FEW else (0,)
    return [[replace(axis, points=axis.points + more, twist=twist) for axis, twist in zip(axes, twists, strict=True)]
            for more in sizes for twists in itertools.product((0, 1), repeat=len(axes))]


def torus_norm(K: Tensor, axes: list[Axis], status: str) -> Tensor:
    """Norm of the circular convolutions K (b, out, in, T)."""
    cos, sin = (table.to(K.device) for table in tables(axes))
    block = _certified_block if status == CERTIFIED else _float_block
    largest = torch.stack([block(real, imag).amax(-1) for real, imag in blocks(K, cos, sin)]).amax(0)
    return (largest + symbol_error(K)) * (1 + 8 * UNIT)


def _certified_block(real: Tensor, imag: Tensor) -> Tensor:
    """Norm of R + iJ as that of the real matrix [R −J; J R]."""
    return dense(torch.cat([torch.cat([real, -imag], -1), torch.cat([imag, real], -1)], -2)).value


def _float_block(real: Tensor, imag: Tensor) -> Tensor:
    """√λmax of the smaller Gram matrix G.

    Margin: products of length n round to within √2·γ_{n+2}‖S‖_F², the eigenvalues to within a small multiple of
    k·u·‖G‖; both are below 8(n + k)u·trace(G).
    """
    S = torch.complex(real, imag)
    G = S.mH @ S if S.shape[-2] >= S.shape[-1] else S @ S.mH
    trace = torch.diagonal(G, dim1=-2, dim2=-1).real.sum(-1)
    top = torch.linalg.eigvalsh(G)[..., -1].clamp(min=0)
    return torch.sqrt(top + 8 * sum(S.shape[-2:]) * UNIT * trace + UNDERFLOW)


def _matrix(K: Tensor, place: Layout) -> Tensor:
    """The matrix of the zero-padded convolutions (b, out·m, in·n). Exact: each entry is one of K, or zero."""
    A = K
    numbers = zip(place.n, place.m, place.kernel, place.stride, place.dilation, place.before, strict=True)
    for n, m, k, s, d, p in numbers:
        read = s * torch.arange(m)[:, None] + d * torch.arange(k) - p
        reads = (read[:, :, None] == torch.arange(n)).to(K)  # output, tap, pixel
        A = torch.einsum("boik...,mkn->boi...mn", A, reads)
    order = (0, 1, *range(3, A.ndim, 2), 2, *range(4, A.ndim, 2))
    return A.permute(order).reshape(len(K), K.shape[1] * math.prod(place.m), -1)


def _input_shape(K: Tensor, place: Layout) -> tuple[int, ...]:
    return (K.shape[2] * place.groups, *place.n)


def _apply(K: Tensor, x: Tensor, place: Layout) -> Tensor:
    """The convolutions K (b, out, in/groups, *k) of x (b, in, *n), each of its own sample."""
    b = len(K)
    sides = [side for pair in zip(place.before[::-1], place.after[::-1], strict=True) for side in pair]
    x = F.pad(x, sides, mode="circular" if place.mode == CIRCULAR else "constant")
    convolve = F.conv1d if len(place.n) == 1 else F.conv2d
    y = convolve(x.flatten(0, 1)[None], K.flatten(0, 1), stride=place.stride, dilation=place.dilation,
                 groups=b * place.groups)
    y = y.reshape(b, -1, *y.shape[2:])
    return y[(..., *(slice(m) for m in place.m))]
