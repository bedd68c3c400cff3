"""Functions that act on consecutive blocks of the coordinates."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check
from .base import ConvexSet, ProxFunction, Time

__all__ = ["Product"]


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Product(ProxFunction):
    """The block-separable sum g(x) = Σ g_k(x_k) over consecutive blocks x_k of the last dimension; of sets the product.

    A product of ``ConvexSet`` is a ``ConvexSet``.

    Parameters
    ----------
    *parts : ProxFunction
    sizes : sequence of int
        Lengths of the blocks, one a part; they sum to d.

    Examples
    --------
    >>> import torch
    >>> from diffincl import Ball, Orthant
    >>> Product(Ball(), Orthant(), sizes=(2, 1)).project(torch.tensor([3.0, 4.0, -1.0]))
    tensor([0.6000, 0.8000, 0.0000])
    """

    parts: tuple[ProxFunction, ...]
    sizes: tuple[int, ...]

    def __new__(cls, *parts: ProxFunction, sizes: Sequence[int] = ()) -> Product:
        """A ``ConvexSet`` where all parts are."""
        return object.__new__(_ProductSet if cls is Product and parts and all(isinstance(g, ConvexSet) for g in parts)
                              else cls)

    def __init__(self, *parts: ProxFunction, sizes: Sequence[int]):
        for k, g in enumerate(parts):
            if not isinstance(g, ProxFunction):
                raise TypeError(f"parts must be ProxFunctions such as Ball(); part {k} is {g!r}.")
        if not isinstance(sizes, Sequence) or isinstance(sizes, str):
            raise TypeError(f"sizes must be a sequence of whole numbers; got {sizes!r}.")
        sizes = tuple(_check.count(f"sizes[{k}]", size) for k, size in enumerate(sizes))
        if not parts or len(parts) != len(sizes):
            raise ValueError(f"sizes must name the length of each part's block; got {len(parts)} parts and sizes = "
                             f"{sizes}.")
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "sizes", sizes)

    @property
    def coordinatewise(self) -> bool:  # type: ignore[override]
        """Whether all parts are."""
        return all(g.coordinatewise for g in self.parts)

    @property
    def convex(self) -> bool:  # type: ignore[override]
        """Whether all parts are."""
        return all(g.convex for g in self.parts)

    @property
    def polyhedral(self) -> bool:  # type: ignore[override]
        """Whether all parts are."""
        return all(g.polyhedral for g in self.parts)

    @property
    def moving(self) -> bool:  # type: ignore[override]
        """Whether a part moves."""
        return any(g.moving for g in self.parts)

    @property
    def reach(self) -> float:  # type: ignore[override]
        """The least of the parts."""
        return min(g.reach for g in self.parts)

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """prox of g_k on block k."""
        return torch.cat([g.prox(block, h, t) for g, block in zip(self.parts, self._blocks(x), strict=True)], -1)

    def carried(self, x: Tensor, t: Time, t_next: Time) -> Tensor:
        """Block by block."""
        return torch.cat([g.carried(block, t, t_next) for g, block in zip(self.parts, self._blocks(x), strict=True)],
                         -1)

    def with_memory(self) -> Product:
        """With that of each part."""
        parts = tuple(g.with_memory() for g in self.parts)
        if all(a is b for a, b in zip(parts, self.parts, strict=True)):
            return self
        same = copy.copy(self)
        object.__setattr__(same, "parts", parts)
        return same

    def kink_sides(self, x: Tensor, t: Time = 0.0) -> Tensor | None:
        """Those of all parts."""
        sides = [g.kink_sides(block, t) for g, block in zip(self.parts, self._blocks(x), strict=True)]
        known = [part for part in sides if part is not None]
        return torch.cat(known, -1) if known else None

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Σ g_k(x_k)."""
        return self._each(lambda g, block: g.value(block, t), x).sum(-1)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """∂g is the product of the ∂g_k."""
        return vector_norm(self._each(lambda g, block, w: g.normal_distance(block, w, t), x, v), dim=-1)

    def within_reach(self, x: Tensor, t: Time, z: Tensor, t_next: Time) -> Tensor:
        """Whether every block's step stays in its part's tube."""
        return self._each(lambda g, block, end: g.within_reach(block, t, end, t_next), x, z).all(-1)

    def refusal(self, x: Tensor, t: Time, z: Tensor, t_next: Time, h: float) -> str:
        """That of the first part whose tube the step leaves."""
        for k, (g, block, end) in enumerate(zip(self.parts, self._blocks(x), self._blocks(z), strict=True)):
            if not bool(g.within_reach(block, t, end, t_next)):
                return f"part {k}: {g.refusal(block, t, end, t_next, h)}"
        return super().refusal(x, t, z, t_next, h)

    def _each(self, what: Callable[..., Tensor], *points: Tensor) -> Tensor:
        """``what(part, block, …)`` of every part, (*batch, parts)."""
        return torch.stack([what(g, *blocks) for g, *blocks in
                            zip(self.parts, *map(self._blocks, points), strict=True)], -1)

    def _blocks(self, x: Tensor) -> tuple[Tensor, ...]:
        if x.shape[-1] != sum(self.sizes):
            raise ValueError(f"x must have last dimension {sum(self.sizes)}, the sum of sizes = {self.sizes}; got "
                             f"{_check.describe(x)}.")
        return x.split(self.sizes, -1)  # type: ignore[arg-type]


class _ProductSet(Product, ConvexSet):
    """The product of convex sets."""

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Block k onto the set k."""
        return self.prox(x, 1.0, t)

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """0 in the set, infinity outside."""
        return ConvexSet.value(self, x, t)
