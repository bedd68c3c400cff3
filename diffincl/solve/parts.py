"""The samples that are still on the way, where the others need not be evaluated with them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Part"]


class Part(NamedTuple):
    """Some entries of the first dimensions ``lead`` of a batch, ``who`` (n,) of them counted through, increasing.

    Where the weights are one network's these are samples, in an ensemble they are networks with all of their samples.
    """

    lead: tuple[int, ...]
    who: Tensor

    def take(self, whole: Tensor) -> Tensor:
        """Their entries (n, *rest) of a tensor (*lead, *rest)."""
        return whole.flatten(0, len(self.lead) - 1)[self.who]

    def put(self, whole: Tensor, part: Tensor) -> Tensor:
        """A tensor (*lead, *rest) with their entries replaced by ``part`` (n, *rest)."""
        return whole.flatten(0, len(self.lead) - 1).index_copy(0, self.who, part).reshape(whole.shape)

    def places(self, place: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Indices in the batch of entries of the part, both as a tensor for each dimension."""
        return (*torch.unravel_index(self.who[place[0]], self.lead), *place[1:])

    def those(self, stay: Tensor) -> Part:
        """The ones of them marked in ``stay`` (n,)."""
        return Part(self.lead, self.who[stay])
