"""Corruptions of images and signals, each with one size."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.nn.functional import conv1d, pad

from .. import _check

__all__ = ["Corruption", "blur", "contrast", "corruptions", "gaussian_noise", "occlusion", "saturation",
           "structured_noise"]

Limits = tuple[float, float] | None
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in the brightness (ITU-R BT.601)


class Corruption(Protocol):
    """A corrupted copy of a batch; ``size`` 0 keeps it, ``clip`` is the range of the values (None: unlimited)."""

    def __call__(self, x: Tensor, size: float, generator: Generator, clip: Limits = (0.0, 1.0)) -> Tensor:
        """Samples of the shape, dtype and device of ``x``; the draws are made on the device of the generator."""
        ...


def gaussian_noise(x: Tensor, size: float, generator: Generator, clip: Limits = (0.0, 1.0)) -> Tensor:
    """x plus independent normal noise of standard deviation ``size``, clipped; x of any shape.

    Examples
    --------
    >>> import torch
    >>> gaussian_noise(torch.full((1, 3), 0.5), 0.1, torch.Generator().manual_seed(0))
    tensor([[0.6541, 0.4707, 0.2821]])
    """
    size = _check.number("size", size, at_least=0.0)
    _check_range(x, clip)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=generator.device)
    return _clipped(x + size * noise.to(x.device), clip)


def structured_noise(x: Tensor, size: float, image: Tensor, clip: Limits = (0.0, 1.0)) -> Tensor:
    """``image`` times ``size`` added to every sample, clipped; x of any shape.

    Examples
    --------
    >>> import torch
    >>> structured_noise(torch.tensor([[0.5, 0.9]]), 0.2, torch.tensor([1.0, 1.0]))
    tensor([[0.7000, 1.0000]])
    """
    size = _check.number("size", size)
    _check_range(x, clip)
    if image.shape != x.shape[1:]:
        raise ValueError(f"image must have the shape {tuple(x.shape[1:])} of a sample; got {_check.describe(image)}.")
    return _clipped(x + size * image, clip)


def blur(x: Tensor, size: float, generator: Generator, clip: Limits = (0.0, 1.0)) -> Tensor:
    """A Gaussian filter of standard deviation ``size``, in pixels, cut at four of them; the edge pixels go on outside.

    ``x`` holds images (n, channels, height, width) or signals (n, channels, length); nothing is drawn.

    Examples
    --------
    >>> import torch
    >>> blur(torch.eye(5)[2].view(1, 1, 5), 0.5, torch.Generator())
    tensor([[[2.6387e-04, 1.0645e-01, 7.8657e-01, 1.0645e-01, 2.6387e-04]]])
    """
    size = _check.number("size", size, at_least=0.0)
    _check_axes("blur", x)
    _check_range(x, clip)
    if size == 0:
        return x.clone()
    reach = ceil(4 * size)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype) / size) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    for axis in range(2, x.ndim):
        lines = x.transpose(axis, -1)
        smooth = conv1d(pad(lines.reshape(-1, 1, lines.shape[-1]), (reach, reach), mode="replicate"), kernel)
        x = smooth.view(lines.shape).transpose(axis, -1)
    return _clipped(x, clip).contiguous()


def contrast(x: Tensor, size: float, generator: Generator, clip: Limits = (0.0, 1.0)) -> Tensor:
    """Each sample is drawn towards its mean; ``size`` in [0, 1] is the share of the contrast that is lost.

    Examples
    --------
    >>> import torch
    >>> contrast(torch.tensor([[0.0, 1.0]]), 0.5, torch.Generator())
    tensor([[0.2500, 0.7500]])
    """
    size = _share(size)
    _check_range(x, clip)
    return _clipped(torch.lerp(x, x.mean(tuple(range(1, x.ndim)), keepdim=True), size), clip)


def saturation(x: Tensor, size: float, generator: Generator, clip: Limits = (0.0, 1.0)) -> Tensor:
    """Each pixel is drawn towards its grey; ``size`` in [0, 1] is the share of the colour that is lost.

    ``x`` holds colour images (n, 3, height, width); others are refused, for they have no colour.

    Examples
    --------
    >>> import torch
    >>> saturation(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1), 1.0, torch.Generator()).flatten()
    tensor([0.2990, 0.2990, 0.2990])
    """
    size = _share(size)
    _check.tensor("x", x)
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"saturation needs colour images (n, 3, height, width); got {_check.describe(x)}. "
                         f"Grey images and signals have no colour to lose: leave this corruption out.")
    _check_range(x, clip)
    grey = (x * torch.tensor(LUMA, device=x.device, dtype=x.dtype).view(3, 1, 1)).sum(1, keepdim=True)
    return _clipped(torch.lerp(x, grey, size), clip)


def occlusion(x: Tensor, size: float, generator: Generator, clip: Limits = (0.0, 1.0)) -> Tensor:
    """A block at a random place of each sample is set to 0; ``size`` in [0, 1] is its share of every side.

    ``x`` holds images (n, channels, height, width) or signals (n, channels, length); sides are rounded to pixels.

    Examples
    --------
    >>> import torch
    >>> occlusion(torch.ones(2, 1, 5), 0.4, torch.Generator().manual_seed(0))
    tensor([[[0., 0., 1., 1., 1.]],
            [[1., 1., 1., 0., 0.]]])
    """
    size = _share(size)
    _check_axes("occlusion", x)
    _check_range(x, clip)
    covered = torch.ones(len(x), 1, *(1,) * (x.ndim - 2), dtype=torch.bool, device=x.device)
    for axis in range(2, x.ndim):
        length = x.shape[axis]
        side = round(size * length)
        start = torch.randint(length - side + 1, (len(x), 1), generator=generator, device=generator.device)
        place = torch.arange(length, device=x.device) - start.to(x.device)
        shape = [len(x)] + [length if k == axis else 1 for k in range(1, x.ndim)]
        covered = covered & ((place >= 0) & (place < side)).view(shape)
    return _clipped(x.masked_fill(covered, 0), clip)


def _one_of_them(x: Tensor, size: float, generator: Generator, clip: Limits = (0.0, 1.0)) -> Tensor:
    """Structured noise by one of the samples, drawn at random: give the whole test set, or the image differs."""
    _check.tensor("x", x)
    k = int(torch.randint(len(x), (), generator=generator, device=generator.device))
    return structured_noise(x, _check.number("size", size, at_least=0.0), x[k], clip)


corruptions: Mapping[str, Corruption] = MappingProxyType({
    "gaussian_noise": gaussian_noise,
    "structured_noise": _one_of_them,
    "blur": blur,
    "contrast": contrast,
    "saturation": saturation,
    "occlusion": occlusion,
})
"""All corruptions by name, called alike; structured noise adds one of the samples, drawn at random, to all."""


def _share(size: float) -> float:
    """A size that is a share."""
    size = _check.number("size", size, at_least=0.0)
    if size > 1:
        raise ValueError(f"size is a share here: it must lie in [0, 1]; got {size:g}.")
    return size


def _check_axes(what: str, x: Tensor) -> None:
    """Refuse samples whose pixels have no neighbours."""
    _check.tensor("x", x)
    if x.ndim not in (3, 4):
        raise ValueError(f"{what} needs images (n, channels, height, width) or signals (n, channels, length); got "
                         f"{_check.describe(x)}. Take data.images().")


def _check_range(x: Tensor, clip: Limits) -> None:
    """Refuse values that clipping would change of its own accord."""
    _check.finite("x", _check.tensor("x", x))
    if clip is not None and bool(((x < clip[0]) | (x > clip[1])).any()):
        raise ValueError(f"x must lie in clip = {clip}; its values go from {float(x.min()):g} to {float(x.max()):g}. "
                         f"Pass clip=None for signals: the limits of the data set.")


def _clipped(x: Tensor, clip: Limits) -> Tensor:
    return x if clip is None else x.clamp(*clip)
