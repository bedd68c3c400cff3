"""Parts of a run: what they are called, and where finished ones are kept."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

try:
    import fcntl
except ImportError:  # a system without such locks
    fcntl = None

from ..nn import VARIANTS
from ..statements import STATEMENTS, Block, blocks_of
from ..storage import code_digest, write_atomically
from .orders import KINDS

__all__ = ["Parts", "Settings", "blocks_in", "parts_of", "trials_of"]

LOCK = "lock"
GROUP = 4  # blocks of random instances in one part

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What to check and how hard: instances drawn for a statement, steps of the attack, test images, training epochs,
    layers of the trained networks."""

    labels: tuple[str, ...] = tuple(STATEMENTS)
    trials: int = 1000
    seed: int = 0
    ascent: int = 30
    images: int = 120
    epochs: int = 40

    @classmethod
    def of(cls, labels: tuple[str, ...], trials: int | None, seed: int, quick: bool) -> Settings:
        """The settings of a run; ``quick`` does less of everything."""
        if quick:
            return cls(labels, trials or 64, seed, ascent=8, images=16, epochs=6)
        return cls(labels, trials or 1000, seed)


def parts_of(settings: Settings) -> tuple[list[str], list[str]]:
    """Names of the parts of a run: those that train the networks, and those that need them.

    "draws C3 2" are the blocks 8 to 11 of C3, "control C3" its control, "images C3" the trained networks.
    """
    later = [f"{kind} {variant}" for kind in ("ladder", "along") for variant in VARIANTS]
    for label in settings.labels:
        later += [f"images {label}"] * STATEMENTS[label].trained + [f"orders {label}"] * (label in KINDS)
        count = len(blocks_of(label, settings.trials, settings.seed))
        later += [f"draws {label} {k}" for k in range(-(-count // GROUP))]
    return [f"train {variant}" for variant in VARIANTS], later + [f"control {label}" for label in settings.labels]


def blocks_in(label: str, number: int, settings: Settings) -> list[Block]:
    """The blocks of the part "draws label number"."""
    return blocks_of(label, settings.trials, settings.seed, slice(number * GROUP, (number + 1) * GROUP))


def trials_of(name: str, settings: Settings) -> int:
    """Random instances that a part draws."""
    kind, label, *number = name.split()
    if kind != "draws":
        return 0
    return sum(block.networks for block in blocks_in(label, int(number[0]), settings)) * STATEMENTS[label].draw.pairs


class Parts:
    """Finished parts of a run on disk, found again only by a run of the same settings and the same code."""

    def __init__(self, directory: Path, settings: Settings):
        key = json.dumps(asdict(settings), sort_keys=True) + code_digest()
        self.directory = directory / hashlib.sha256(key.encode()).hexdigest()[:16]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While this lasts no process removes the parts; a process that was killed no longer uses them."""
        handle = self._locked(alone=False)
        while handle is None:  # they are being removed
            time.sleep(0.01)
            handle = self._locked(alone=False)
        try:
            yield
        finally:
            os.close(handle)

    def remove(self) -> None:
        """Delete the parts of this run, and nothing else; if a process uses them, they are left to it."""
        if (handle := self._locked(alone=True)) is None:
            return
        try:
            for path in (*self.directory.glob("*.pt"), self.directory / LOCK):
                path.unlink(missing_ok=True)
            for folder in (self.directory, self.directory.parent):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
        finally:
            os.close(handle)

    def _locked(self, alone: bool) -> int | None:
        """The lock of these parts, closed to unlock it; None while others have it, or when it has been removed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.directory / LOCK, os.O_CREAT | os.O_RDWR)
        try:
            if fcntl is not None:
                fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(self.directory / LOCK)):
                return handle
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(handle)
        return None

    def keep(self, name: str, compute: Callable[[], T]) -> T:
        """The part as kept, or computed and kept; plain containers of numbers, strings and tensors."""
        try:
            return self.read(name)
        except (FileNotFoundError, RuntimeError, EOFError, pickle.UnpicklingError):
            value = compute()  # not there yet, or damaged
        write_atomically(self._path(name), lambda temporary: torch.save(value, temporary))
        return value

    def read(self, name: str) -> Any:
        """A part that is known to be there."""
        return torch.load(self._path(name), weights_only=True)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name.replace(' ', '-')}.pt"
