"""CIFAR-10 and CIFAR-100 from the files their authors publish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import _check
from .arrays import unpickled
from .augmentation import Augmentation
from .sets import ImageData

__all__ = ["cifar10", "cifar100"]

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"


@dataclass(frozen=True)
class _Format:
    """Where a published archive puts which files, and where its labels are.

    ``label`` is the place of the label byte among the ``label_bytes`` before the pixels of an image in a binary file,
    or the name of the list of labels in a pickle.
    """

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    label: int | str
    label_bytes: int = 0

    def missing(self, place: Path) -> list[str]:
        """Names of the files that are not there."""
        return [name for name in self.train + self.test if not (place / name).is_file()]

    def read(self, path: Path, classes: int) -> tuple[Tensor, Tensor]:
        """Pixels (n, 3072), uint8, and labels (n,), int64, of one file."""
        if isinstance(self.label, str):
            pixels, labels = _from_pickle(path, self.label)
        else:
            pixels, labels = _from_bytes(path, self.label, self.label_bytes)
        wrong = (labels < 0) | (labels >= classes)
        if bool(wrong.any()):
            (k,) = _check.first(wrong)
            raise ValueError(f"{path} gives image {k} the label {int(labels[k])}; labels are 0 … {classes - 1}. "
                             f"It is damaged or another data set: unpack it again from {SOURCE}.")
        return pixels, labels


def cifar10(folder: str | PathLike[str]) -> ImageData:
    """CIFAR-10 from a folder with its published files, in binary or in python format.

    Parameters
    ----------
    folder : path
        With data_batch_1.bin … data_batch_5.bin and test_batch.bin, or with data_batch_1 … data_batch_5 and
        test_batch; or with the folder cifar-10-batches-bin or cifar-10-batches-py that holds them.

    Returns
    -------
    ImageData
        float32 in [0, 1], rows of 3072 or images (3, 32, 32), 10 classes; 737 MB for all 60,000 images. Augmented by
        padding by 4 pixels, a random crop, and reflecting half of the images.

    Raises
    ------
    FileNotFoundError
        If the folder or one of the files is missing: with the expected names.
    ValueError
        If a file is cut off, damaged, holds anything but arrays, or has labels out of range.

    Notes
    -----
    Python files are read by an unpickler that admits numpy arrays and plain containers only, so that a file from
    elsewhere cannot run code. A file may hold any number of images: one cut off between two images is not noticed.

    References
    ----------
    A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.
    """
    train = tuple(f"data_batch_{k}" for k in range(1, 6))
    return _read(Path(folder), "CIFAR-10", 10, (
        _Format("cifar-10-batches-bin", tuple(f"{name}.bin" for name in train), ("test_batch.bin",), 0, 1),
        _Format("cifar-10-batches-py", train, ("test_batch",), "labels")))


def cifar100(folder: str | PathLike[str], *, labels: str = "fine") -> ImageData:
    """CIFAR-100 from a folder with its published files, in binary or in python format.

    Parameters
    ----------
    folder : path
        With train.bin and test.bin, or with train and test; or with the folder cifar-100-binary or cifar-100-python
        that holds them.
    labels : "fine" (100 classes) or "coarse" (20)

    Returns
    -------
    ImageData
        As of ``cifar10``.

    Raises
    ------
    FileNotFoundError, ValueError
        As ``cifar10``.

    References
    ----------
    A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.
    """
    kinds = ("coarse", "fine")  # in the order of the bytes of the binary files
    place = kinds.index(_check.choice("labels", labels, kinds))
    return _read(Path(folder), "CIFAR-100", (20, 100)[place], (
        _Format("cifar-100-binary", ("train.bin",), ("test.bin",), place, 2),
        _Format("cifar-100-python", ("train",), ("test",), f"{labels}_labels")))


def _read(folder: Path, name: str, classes: int, formats: Sequence[_Format]) -> ImageData:
    """The set from the first complete format found in the folder or in the folder of its archive."""
    place, found = _found(folder, name, formats)
    train, test = (_joined([found.read(place / file, classes) for file in names])
                   for names in (found.train, found.test))
    return ImageData(*train, *test, shape=SHAPE, classes=classes, augmentation=Augmentation(shift=4, flip=True))


def _joined(files: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The images of several files in [0, 1], and their labels."""
    pixels, labels = zip(*files, strict=True)
    return torch.cat(pixels).float().div_(255), torch.cat(labels)


def _found(folder: Path, name: str, formats: Sequence[_Format]) -> tuple[Path, _Format]:
    """Folder and format of the files, binary before python."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}. Unpack an archive of {name} from {SOURCE} there.")
    places = [(place, form) for form in formats for place in (folder, folder / form.folder)]
    for place, form in places:
        if not form.missing(place):
            return place, form
    expected = " or ".join(", ".join(form.train + form.test) for form in formats)
    for place, form in places:
        missing = form.missing(place)
        if len(missing) < len(form.train + form.test):
            raise FileNotFoundError(f"{place} lacks {', '.join(missing)} of {name}; expected are {expected}.")
    raise FileNotFoundError(f"{folder} holds no files of {name}; expected are {expected}. "
                            f"Unpack an archive from {SOURCE} there.")


def _from_bytes(path: Path, label: int, label_bytes: int) -> tuple[Tensor, Tensor]:
    """Records of label bytes and 3072 pixels, one after another."""
    data, record = bytearray(path.read_bytes()), label_bytes + PIXELS
    if not data or len(data) % record:
        raise ValueError(f"{path} is cut off or damaged: it has {len(data)} bytes, not a multiple of {record}, the "
                         f"bytes of an image with its label. Unpack it again from {SOURCE}.")
    records = torch.frombuffer(data, dtype=torch.uint8).view(-1, record)
    return records[:, label_bytes:], records[:, label].long()


def _from_pickle(path: Path, key: str) -> tuple[Tensor, Tensor]:
    """The entries "data" and ``key`` of a pickled dictionary."""
    try:
        batch = unpickled(path.read_bytes())
        missing = [name for name in ("data", key) if name not in batch]
        if missing:
            raise ValueError(f"it has no entry \"{missing[0]}\"")
        pixels, labels = batch["data"], np.asarray(batch[key])
    except ValueError as error:
        raise ValueError(f"{path} is not a whole batch of CIFAR images: {error}. Unpack it again from "
                         f"{SOURCE}.") from error
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (labels.size, PIXELS) \
            or labels.dtype.kind not in "iu" or labels.ndim != 1 or not labels.size:
        raise ValueError(f"{path} must hold a uint8 array \"data\" (n, {PIXELS}) and n whole numbers \"{key}\"; got "
                         f"{_kind(pixels)} and {_kind(labels)}. Unpack it again from {SOURCE}.")
    return torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64))


def _kind(value: Any) -> str:
    """Type, dtype and shape in words."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"a {type(value).__name__}"
