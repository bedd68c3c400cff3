"""Checkpoints of a run: whole or not at all, and one more than needed."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..storage import write_atomically

__all__ = ["Checkpoints"]

KEPT = 2
DIGEST = 32  # bytes of SHA-256 at the end of a file


class Checkpoints:
    """The files epoch-00001.ckpt … of a folder: what torch.save writes, and its SHA-256."""

    def __init__(self, folder: Path):
        self.folder = folder

    def found(self) -> list[Path]:
        """All checkpoints, oldest first."""
        return sorted(self.folder.glob("epoch-*.ckpt"))

    def keep(self, epoch: int, state: dict[str, Any]) -> None:
        """Write a checkpoint; when it is whole, delete all but the last two."""
        file = io.BytesIO()
        torch.save(state, file)
        content = file.getvalue()
        write_atomically(self.folder / f"epoch-{epoch:05d}.ckpt",
                         lambda path: path.write_bytes(content + hashlib.sha256(content).digest()))
        for old in self.found()[:-KEPT]:
            old.unlink()

    def newest(self, say: Callable[[str], object]) -> dict[str, Any] | None:
        """The newest whole checkpoint; ``say`` is told of those that are torn."""
        for path in reversed(self.found()):
            content = path.read_bytes()
            if hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]:
                return torch.load(io.BytesIO(content[:-DIGEST]), weights_only=True, map_location="cpu")
            say(f"{path} is torn and left out; going on from the one before")
        return None
