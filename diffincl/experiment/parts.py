"""Parts of a run: what they are called, and where finished ones are kept."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..nn import VARIANTS
from ..statements import STATEMENTS, Block, blocks_of
from ..storage import write_atomically
from .orders import KINDS

__all__ = ["Parts", "Settings", "blocks_in", "parts_of", "trials_of"]

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
        code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.parent.rglob("*.py")))
        key = json.dumps(asdict(settings), sort_keys=True).encode() + code + torch.__version__.encode()
        self.directory = directory / hashlib.sha256(key).hexdigest()[:16]

    def remove(self) -> None:
        """Delete the parts of this run, and nothing else."""
        for path in self.directory.glob("*.pt"):
            path.unlink()
        for folder in (self.directory, self.directory.parent):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

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
