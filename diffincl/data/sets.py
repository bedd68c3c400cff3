"""Labelled samples for training and for test."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod

import torch
from torch import Generator, Tensor

from .. import _check
from .augmentation import Augmentation

__all__ = ["ImageData", "digits"]


@dataclass(frozen=True, eq=False, repr=False)
class ImageData:
    """Samples and labels for training and test. The sets of diffincl are rows (n, features); ``images()`` shapes them.

    Parameters
    ----------
    train_x, test_x : Tensor (n, features) or (n, *shape), floating point
    train_y, test_y : Tensor (n,), int64
        Labels 0 … classes − 1.
    shape : tuple of int
        Of a sample: (channels, height, width), or (channels, length) for signals.
    classes : int
    limits : (float, float), optional
        Range of the values: [0, 1] for images, None for signals; the ``clip`` of corruptions and of ``pgd``.
    augmentation : Augmentation
        The usual one for this set; see ``augment``.

    Raises
    ------
    ValueError
        If shapes do not fit or a label is out of range.

    Examples
    --------
    >>> data = digits()
    >>> data
    ImageData(1438 + 359 samples of shape (1, 8, 8), 10 classes)
    >>> data.images().train_x.shape
    torch.Size([1438, 1, 8, 8])
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    shape: tuple[int, ...]
    classes: int
    limits: tuple[float, float] | None = (0.0, 1.0)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        _check.count("classes", self.classes)
        for part, x, y in (("train", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            self._check_samples(f"{part}_x", x)
            _check_labels(f"{part}_y", y, len(x), self.classes)

    def __repr__(self) -> str:
        return (f"ImageData({len(self.train_x)} + {len(self.test_x)} samples of shape {self.shape}, "
                f"{self.classes} classes)")

    def images(self) -> ImageData:
        """The same samples as (n, channels, height, width), signals as (n, channels, length); nothing is copied."""
        return replace(self, train_x=self.train_x.reshape(-1, *self.shape),
                       test_x=self.test_x.reshape(-1, *self.shape))

    def rows(self) -> ImageData:
        """The same samples as (n, features); nothing is copied."""
        return replace(self, train_x=self.train_x.flatten(1), test_x=self.test_x.flatten(1))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> ImageData:
        """The set on another device, the samples in another dtype."""
        return replace(self, train_x=self.train_x.to(device=device, dtype=dtype), train_y=self.train_y.to(device),
                       test_x=self.test_x.to(device=device, dtype=dtype), test_y=self.test_y.to(device))

    def augment(self, x: Tensor, generator: Generator) -> Tensor:
        """The usual augmentation of a batch of this set, (n, features) or (n, *shape); the form is kept."""
        self._check_samples("x", x)
        return self.augmentation(x.reshape(-1, *self.shape), generator).reshape(x.shape)

    def _check_samples(self, name: str, x: Tensor) -> None:
        _check.tensor(name, x)
        if tuple(x.shape[1:]) not in (self.shape, (prod(self.shape),)):
            raise ValueError(f"{name} must have the shape (n, {prod(self.shape)}) or (n, {str(self.shape)[1:-1]}) of "
                             f"this set's samples; got {_check.describe(x)}.")


def _check_labels(name: str, y: Tensor, count: int, classes: int) -> None:
    """One int64 label in range for every sample."""
    if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.shape != (count,):
        got = _check.describe(y) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"{name} must be an int64 tensor of shape ({count},), a label for every sample; got {got}.")
    wrong = (y < 0) | (y >= classes)
    if bool(wrong.any()):
        (k,) = _check.first(wrong)
        raise ValueError(f"{name} must hold labels 0 … {classes - 1}; {name}[{k}] is {int(y[k])}.")


def digits(seed: int = 0, test_share: float = 0.2) -> ImageData:
    """The 1797 handwritten digits (8×8) that scikit-learn carries, shuffled and divided.

    Parameters
    ----------
    seed : int
        Of the division.
    test_share : float
        Share of the samples kept for the test.

    Returns
    -------
    ImageData
        float32 in [0, 1], rows of 64 or images (1, 8, 8), 10 classes; augmented by shifts of at most one pixel for
        half of the samples.

    Raises
    ------
    ModuleNotFoundError
        Without scikit-learn: install the extra ``data``.
    ValueError
        If no sample is left for training or for the test.

    Examples
    --------
    >>> data = digits(seed=0)
    >>> data.train_x.shape, data.test_x.shape, float(data.train_x.max())
    (torch.Size([1438, 64]), torch.Size([359, 64]), 1.0)

    References
    ----------
    E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998.
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
    return ImageData(x[train], y[train], x[test], y[test], (1, 8, 8), 10, augmentation=Augmentation(1, share=0.5))
