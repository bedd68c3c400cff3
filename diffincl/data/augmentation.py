"""Random shifts and reflections of training batches."""

from __future__ import annotations

import numbers
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .. import _check

__all__ = ["Augmentation"]


@dataclass(frozen=True)
class Augmentation:
    """Each sample of a batch is shifted by whole pixels and reflected, at random; without arguments it is kept.

    Parameters
    ----------
    shift : int
        Every axis is shifted by −shift … shift pixels, all equally likely: 4 is "pad by 4 and crop".
    share : float in [0, 1]
        Probability that a sample is shifted at all.
    flip : bool
        Whether half of the samples are reflected left to right (the last axis).
    around : bool
        Whether what leaves on one side comes back on the other; otherwise zeros enter.

    Examples
    --------
    >>> import torch
    >>> x = torch.arange(8.0).view(2, 1, 4)
    >>> Augmentation(shift=1, around=True)(x, torch.Generator().manual_seed(0))
    tensor([[[3., 0., 1., 2.]],
            [[5., 6., 7., 4.]]])
    """

    shift: int = 0
    share: float = 1.0
    flip: bool = False
    around: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.shift, bool) or not isinstance(self.shift, numbers.Integral) or self.shift < 0:
            raise ValueError(f"shift must be a whole number of pixels, at least 0; got {self.shift!r}.")
        if not 0 <= _check.number("share", self.share) <= 1:
            raise ValueError(f"share is a probability: it must lie in [0, 1]; got {self.share:g}.")

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Augmented copies of images (n, channels, height, width) or signals (n, channels, length).

        The draws are made on the device of the generator: those of a CPU generator do not depend on where x lies.
        """
        if x.ndim not in (3, 4) or min(x.shape[2:]) <= self.shift:
            raise ValueError(f"x must hold images (n, channels, height, width) or signals (n, channels, length) with "
                             f"sides longer than shift = {self.shift}; got {_check.describe(x)}.")
        if self.shift:
            moved = torch.rand(len(x), generator=generator, device=generator.device) < self.share
            for axis in range(2, x.ndim):
                by = torch.randint(-self.shift, self.shift + 1, (len(x),), generator=generator,
                                   device=generator.device)
                x = self._shifted(x, axis, (by * moved).to(x.device))
        if self.flip:
            turned = torch.rand(len(x), generator=generator, device=generator.device) < 0.5
            x = torch.where(_along(turned.to(x.device), x.ndim), x.flip(-1), x)
        return x

    def _shifted(self, x: Tensor, axis: int, by: Tensor) -> Tensor:
        """Sample k shifted by by[k] pixels along an axis."""
        length = x.shape[axis]
        source = torch.arange(length, device=x.device) - by[:, None]
        source = _along(source, x.ndim, axis)
        shifted = x.take_along_dim(source % length, axis)
        return shifted if self.around else shifted.where((source >= 0) & (source < length), 0)


def _along(values: Tensor, ndim: int, axis: int = -1) -> Tensor:
    """Values (n,) or (n, length) that broadcast against (n, …), the length along ``axis``."""
    shape = [1] * ndim
    shape[0] = len(values)
    if values.ndim == 2:
        shape[axis] = values.shape[1]
    return values.reshape(shape)
