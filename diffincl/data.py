"""Data sets and corruptions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from . import _check

__all__ = ["ImageData", "digits", "gaussian_noise", "structured_noise"]


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images (n, pixels) in [0, 1], float32, and labels (n,), for training and test."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def digits(seed: int = 0, test_share: float = 0.2) -> ImageData:
    """The 1797 handwritten digits (8×8) that scikit-learn carries, shuffled and divided.

    Raises
    ------
    ModuleNotFoundError
        Without scikit-learn: install the extra ``data``.

    Examples
    --------
    >>> data = digits(seed=0)
    >>> data.train_x.shape, data.test_x.shape, float(data.train_x.max())
    (torch.Size([1438, 64]), torch.Size([359, 64]), 1.0)
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        message = 'the digits need scikit-learn; install it with pip install "diffincl[data]"'
        raise ModuleNotFoundError(message) from error
    share = _check.number("test_share", test_share, above=0.0)
    source = load_digits()
    x = torch.tensor(source.data, dtype=torch.float32) / 16  # type: ignore[union-attr]
    y = torch.tensor(source.target)  # type: ignore[union-attr]
    if not 0 < int(share * len(x)) < len(x):
        raise ValueError(f"test_share must leave samples for training and for test; got {share:g}. Take 0.2.")
    order = torch.randperm(len(x), generator=Generator().manual_seed(seed))
    test, train = order[:int(share * len(x))], order[int(share * len(x)):]
    return ImageData(x[train], y[train], x[test], y[test])


def gaussian_noise(x: Tensor, size: float, generator: Generator) -> Tensor:
    """x plus independent normal noise of standard deviation ``size``, clipped to [0, 1]."""
    size = _check.number("size", size, at_least=0.0)
    return (x + size * torch.randn(x.shape, generator=generator, dtype=x.dtype)).clamp(0, 1)


def structured_noise(x: Tensor, size: float, image: Tensor) -> Tensor:
    """``image`` times ``size`` added to every image, clipped to [0, 1]."""
    return (x + _check.number("size", size) * image).clamp(0, 1)
