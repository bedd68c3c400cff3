"""Processes that share a run: those of torchrun, or one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import Thread
from typing import Any

import torch
import torch.distributed as dist

__all__ = ["Shards", "shards"]

PATIENCE = timedelta(days=7)  # a process may finish long before the others


@dataclass(frozen=True)
class Shards:
    """Process ``rank`` of ``size``."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the report."""
        return self.rank == 0

    def mine(self, names: list[str]) -> list[str]:
        """The parts of this process: every size-th."""
        return names[self.rank::self.size]

    def exchange(self, found: dict[str, Any]) -> dict[str, Any]:
        """What all processes found, in each of them."""
        if self.size == 1:
            return found
        everything: list[dict[str, Any] | None] = [None] * self.size
        dist.all_gather_object(everything, found)
        return {name: value for part in everything if part for name, value in part.items()}


@contextmanager
def shards() -> Iterator[Shards]:
    """The processes that torchrun started, joined by nccl where each has a GPU and by gloo otherwise; else this one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or not dist.is_available():
        yield Shards()
        return
    local, beside = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", str(size)))
    on_gpus = torch.cuda.is_available() and dist.is_nccl_available() and torch.cuda.device_count() >= beside
    if on_gpus:
        torch.cuda.set_device(local)
    _end_with_launcher()
    dist.init_process_group("nccl" if on_gpus else "gloo", timeout=PATIENCE)
    try:
        yield Shards(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def _end_with_launcher() -> None:
    """A process whose torchrun was killed would compute on beside those of the next."""
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()
