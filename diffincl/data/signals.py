"""MNIST-1D: ten drawn signals, deformed and buried in noise."""

from __future__ import annotations

import numbers
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import RandomState
from scipy.ndimage import gaussian_filter1d

from .. import _check
from .augmentation import Augmentation
from .sets import ImageData

__all__ = ["mnist1d"]

# The data of the recipe: a signal for every digit, drawn by hand through twelve points.
DRAWN = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)
LIFT = 1e-8  # added to the signals, so that a zero is a place where none is
SMOOTH = 2.0  # standard deviation, in points, of the filter that correlates the noise


@dataclass(frozen=True)
class _Recipe:
    """What happens to a signal, and how much of it."""

    template_len: int
    padding: tuple[int, int]
    scale_coeff: float
    max_translation: int
    corr_noise_scale: float
    iid_noise_scale: float
    shear_scale: float
    final_seq_length: int

    def __post_init__(self) -> None:
        for name in ("template_len", "max_translation", "final_seq_length"):
            _check.count(name, getattr(self, name))
        for name in ("scale_coeff", "corr_noise_scale", "iid_noise_scale", "shear_scale"):
            _check.number(name, getattr(self, name), at_least=0.0)
        if not (len(self.padding) == 2 and all(isinstance(p, numbers.Integral) for p in self.padding)
                and 0 <= self.padding[0] <= self.padding[1]):
            raise ValueError(f"padding must be two whole numbers 0 <= least <= most; got {self.padding!r}.")
        if self.max_translation > self.length:
            raise ValueError(f"max_translation must be at most {self.length}, the length template_len + padding[1] of "
                             f"a signal; got {self.max_translation}.")

    @property
    def length(self) -> int:
        """Points of a signal before it is sampled at ``final_seq_length`` points."""
        return self.template_len + self.padding[1]

    def sample(self, drawn: np.ndarray, random: RandomState) -> np.ndarray:
        """One sample. The random numbers are drawn in the order of the published program."""
        least, most = self.padding
        room = least + int(random.rand() * (most - least + 1))
        x = _resampled(np.concatenate([drawn + LIFT, np.zeros(room)]), self.length)
        x = x * (1 + self.scale_coeff * (random.rand() - 0.5))
        x = np.roll(x, random.choice(self.max_translation))
        noise = gaussian_filter1d(self.corr_noise_scale * random.randn(self.length), SMOOTH)
        x = np.where(x != 0, x, noise) + self.iid_noise_scale * random.randn(self.length)
        x = x - self.shear_scale * (random.rand() - 0.5) * np.linspace(-0.5, 0.5, self.length)
        return _resampled(x, self.final_seq_length)


def mnist1d(seed: int = 42, *, num_samples: int = 5000, train_split: float = 0.8, template_len: int = 12,
            padding: tuple[int, int] = (36, 60), scale_coeff: float = 0.4, max_translation: int = 48,
            corr_noise_scale: float = 0.25, iid_noise_scale: float = 0.02, shear_scale: float = 0.75,
            shuffle_seq: bool = False, final_seq_length: int = 40) -> ImageData:
    """MNIST-1D: signals of 40 points in ten classes, made here by the published recipe.

    Parameters
    ----------
    seed : int
        Of numpy's legacy generator; 42 is that of the published set.
    num_samples : int
        Of training and test together, the same number of each class.
    train_split : float
        Share of the samples kept for training.
    template_len, padding, scale_coeff, max_translation, corr_noise_scale, iid_noise_scale, shear_scale
        Of the deformations, named as in the published package: a drawn signal is padded with ``padding`` zeros (a
        random number between the two), stretched to template_len + padding[1] points, scaled by 1 ± scale_coeff/2 and
        moved around by less than max_translation points; smooth noise fills the places without signal, independent
        noise is added everywhere, and a random line of slope at most shear_scale/2 is taken away.
    shuffle_seq : bool
        Whether the points are put in one random order, the same for all samples.
    final_seq_length : int
        Points of a sample.

    Returns
    -------
    ImageData
        float32, rows of 40 or signals (1, 40), 10 classes, mean 0 and standard deviation 1 over the whole set, no
        ``limits``; augmented by shifts of at most two points.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind or range.

    Examples
    --------
    >>> data = mnist1d()
    >>> data
    ImageData(4000 + 1000 samples of shape (1, 40), 10 classes)
    >>> data.train_x[0, :4], data.train_y[:8]
    (tensor([-0.3320, -0.4719, -0.7787, -1.0097]), tensor([2, 6, 4, 5, 6, 6, 6, 0]))

    References
    ----------
    S. Greydanus, D. Kobak, *Scaling Down Deep Learning with MNIST-1D*, ICML 2024 (drawn signals and defaults: the
    package ``mnist1d``).
    """
    recipe = _Recipe(template_len, padding, scale_coeff, max_translation, corr_noise_scale, iid_noise_scale,
                     shear_scale, final_seq_length)
    train = _training_samples(num_samples, train_split)
    random = RandomState(seed)
    x = np.stack([recipe.sample(drawn, random) for drawn in _signals() for _ in range(num_samples // len(DRAWN))])
    y = np.repeat(np.arange(len(DRAWN)), num_samples // len(DRAWN))
    order = random.permutation(num_samples)
    x, y = x[order], y[order]
    if shuffle_seq:
        x = x[:, random.permutation(final_seq_length)]
    rows, labels = torch.from_numpy((x - x.mean()) / x.std()).float(), torch.from_numpy(y)
    return ImageData(rows[:train], labels[:train], rows[train:], labels[train:], (1, final_seq_length), len(DRAWN),
                     limits=None, augmentation=Augmentation(shift=min(2, final_seq_length - 1)))


def _training_samples(num_samples: int, train_split: float) -> int:
    """How many of the samples are kept for training."""
    if _check.count("num_samples", num_samples) % len(DRAWN):
        raise ValueError(f"num_samples must be a multiple of {len(DRAWN)}, the number of classes; got {num_samples}.")
    train = int(num_samples * _check.number("train_split", train_split, above=0.0))
    if not 0 < train < num_samples:
        raise ValueError(f"train_split must leave samples for training and for test; got {train_split:g}. Take 0.8.")
    return train


def _signals() -> np.ndarray:
    """The drawn signals (10, 12), starting at 0, scaled to standard deviation 1/6."""
    x = np.array(DRAWN, dtype=float)
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    return (x - x[:, :1]) / 6


def _resampled(x: np.ndarray, length: int) -> np.ndarray:
    """x at ``length`` equidistant points, by linear interpolation."""
    return np.interp(np.linspace(0, 1, length), np.linspace(0, 1, len(x)), x)
