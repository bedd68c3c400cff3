"""What is kept of a march: states at save times, switches, and the accepted steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..solution import Switches
from ..switching import Mode
from .parts import Part

__all__ = ["Record", "Rows", "SwitchLog"]


class Record(NamedTuple):
    """One round in an interval: who accepted a step (its span is 0 for the others), from t to t_next, which is at theta
    of its span, with which mode, and which save times, save … save_next − 1, it passed. Only a ``part`` of the samples
    took part in it (None: all)."""

    interval: tuple[float, float]
    t: Tensor
    span: Tensor
    theta: Tensor
    accept: Tensor
    mode: Any
    t_next: Tensor
    save: Tensor
    save_next: Tensor
    part: Part | None

    def passings(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Indices of save times, one a sample, and which samples passed theirs."""
        save = self.save
        while bool((passed := save < self.save_next).any()):
            yield save, passed
            save = save + passed


class Rows:
    """States and multipliers at the save times after the first, which samples reach one by one."""

    def __init__(self, x0: Tensor, n: int):
        self.x0, self.n = x0, n
        self.index: list[tuple[Tensor, ...]] = []
        self.states: list[Tensor] = []
        self.multipliers: list[Tensor] = []

    def add(self, save: Tensor, passed: Tensor, x: Tensor, multiplier: Tensor, part: Part | None) -> None:
        """Keep the samples marked in ``passed`` (*batch, 1), each at its own save index; of a part of the batch."""
        who = passed.squeeze(-1)
        place = who.nonzero(as_tuple=True) if who.ndim else ()
        self.index.append((save.squeeze(-1)[who], *(part.places(place) if part else place)))
        self.states.append(x[who])
        self.multipliers.append(multiplier[who])

    def stacked(self) -> tuple[Tensor, Tensor]:
        """States (n + 1, *batch, d) and multipliers (n, *batch, d); NaN where a sample did not arrive."""
        blank = torch.full((self.n, *self.x0.shape), torch.nan, dtype=self.x0.dtype, device=self.x0.device)
        if not self.index:
            return torch.cat([self.x0.unsqueeze(0), blank]), blank
        index = tuple(torch.cat(parts) for parts in zip(*self.index, strict=True))
        states = blank.index_put(index, torch.cat(self.states))
        return torch.cat([self.x0.unsqueeze(0), states]), blank.index_put(index, torch.cat(self.multipliers))


class SwitchLog:
    """Switches in the order in which they were found."""

    def __init__(self, x0: Tensor):
        self.batch, self.d, self.units, self.device = x0.ndim - 1, x0.shape[-1], 0, x0.device
        self.found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def compare(self, before: Mode, after: Mode, who: Tensor, t: Tensor, part: Part | None = None, kinks: bool = True
                ) -> None:
        """Log what differs between two modes of the samples marked in ``who`` (*batch, 1); of a part of the batch."""
        if bool((changed := (before.side != after.side) & who).any()):
            side = torch.where(before.side == 0, torch.where(after.side < 0, 0, 2), torch.where(before.side < 0, 1, 3))
            self._log(changed, side, t, part)
        if kinks:
            self.units = after.units.shape[-1]
            if bool((changed := (before.units != after.units) & who).any()):
                self._log(changed, torch.where(after.units, 4, 5), t, part)

    def _log(self, changed: Tensor, kind: Tensor, t: Tensor, part: Part | None) -> None:
        *place, index = changed.nonzero(as_tuple=True)
        place = part.places(tuple(place)) if part else place
        sample = torch.stack([*place], -1) if place else index.new_zeros((len(index), 0))
        self.found.append((sample, t.expand(changed.shape)[changed], index, kind[changed]))

    def switches(self) -> Switches:
        """All of them as data."""
        if not self.found:
            none = torch.zeros(0, dtype=torch.int64, device=self.device)
            return Switches(none.reshape(0, self.batch), none.double(), none, none)
        return Switches(*(torch.cat(parts) for parts in zip(*self.found, strict=True)))
