"""Data sets, their augmentation, corruptions, and an attack by gradient ascent."""

from .attack import pgd
from .augmentation import Augmentation
from .cifar import cifar10, cifar100
from .corruption import (
    Corruption,
    blur,
    contrast,
    corruptions,
    gaussian_noise,
    occlusion,
    saturation,
    structured_noise,
)
from .sets import ImageData, digits
from .signals import mnist1d

__all__ = [
    "Augmentation",
    "Corruption",
    "ImageData",
    "blur",
    "cifar10",
    "cifar100",
    "contrast",
    "corruptions",
    "digits",
    "gaussian_noise",
    "mnist1d",
    "occlusion",
    "pgd",
    "saturation",
    "structured_noise",
]
