"""Norms as functions g: their prox shrinks."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import pad

from .. import _check
from .base import ProxFunction, Time, like, require_nonnegative

__all__ = ["L1", "L2", "ElasticNet", "GroupL2"]


@dataclass(frozen=True, eq=False, repr=False)
class L1(ProxFunction):
    """The weighted ℓ1 norm weight·Σ|x_i|; its prox is soft thresholding.

    Parameters
    ----------
    weight : float, or Tensor broadcasting against (*batch, d); nonnegative

    Examples
    --------
    >>> import torch
    >>> L1(2.0).prox(torch.tensor([3.0, -0.5]), h=0.5)
    tensor([2., -0.])
    """

    weight: float | Tensor = 1.0
    coordinatewise = True

    def __post_init__(self) -> None:
        require_nonnegative("weight", self.weight)

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """sign(x)·(|x| − h·weight)₊."""
        return x.sign() * torch.relu(x.abs() - h * like(self.weight, x))

    def kink_sides(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Signs of the coordinates of positive weight."""
        return torch.where(torch.as_tensor(self.weight, device=x.device) > 0, x.sign(), 0.0)

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """weight·Σ|x_i|."""
        return (like(self.weight, x) * x.abs()).sum(-1)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: ∂g is weight·sign(x_i), the interval [−weight, weight] at 0."""
        weight = like(self.weight, x)
        return vector_norm(torch.where(x == 0, torch.relu(v.abs() - weight), v - weight * x.sign()), dim=-1)


@dataclass(frozen=True, eq=False, repr=False)
class L2(ProxFunction):
    """The Euclidean norm weight·‖x‖ (not squared); its prox shortens the vector.

    Examples
    --------
    >>> import torch
    >>> L2().prox(torch.tensor([3.0, 4.0]), h=1.0)
    tensor([2.4000, 3.2000])
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", _check.number("weight", self.weight, at_least=0.0))

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """x·(1 − h·weight/‖x‖)₊."""
        norm = vector_norm(x, dim=-1, keepdim=True)
        shrunk = torch.relu(norm - h * self.weight)
        return x * (shrunk / norm.clamp_min(torch.finfo(x.dtype).tiny))

    def kink_sides(self, x: Tensor, t: Time = 0.0) -> Tensor | None:
        """The sign of x on a line; in more dimensions a path goes around the kink."""
        return x.sign() if x.shape[-1] == 1 and self.weight > 0 else None

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """weight·‖x‖."""
        return self.weight * vector_norm(x, dim=-1)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: ∂g is weight·x/‖x‖, the ball of radius ``weight`` at 0."""
        norm = vector_norm(x, dim=-1, keepdim=True)
        away = vector_norm(v - self.weight * x / norm.clamp_min(torch.finfo(x.dtype).tiny), dim=-1)
        return torch.where(norm[..., 0] == 0, torch.relu(vector_norm(v, dim=-1) - self.weight), away)


@dataclass(frozen=True, eq=False, repr=False)
class ElasticNet(ProxFunction):
    """The elastic net l1·Σ|x_i| + (l2/2)·Σx_i²; its prox is soft thresholding, then shrinking.

    Parameters
    ----------
    l1, l2 : float, or Tensor broadcasting against (*batch, d); nonnegative

    Examples
    --------
    >>> import torch
    >>> ElasticNet(1.0, 2.0).prox(torch.tensor([3.0, -0.5]), h=0.5)
    tensor([1.2500, -0.0000])
    """

    l1: float | Tensor
    l2: float | Tensor
    coordinatewise = True

    def __post_init__(self) -> None:
        require_nonnegative("l1", self.l1)
        require_nonnegative("l2", self.l2)

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """sign(x)·(|x| − h·l1)₊/(1 + h·l2)."""
        return x.sign() * torch.relu(x.abs() - h * like(self.l1, x)) / (1 + h * like(self.l2, x))

    def kink_sides(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Signs of the coordinates of positive ``l1``."""
        return torch.where(torch.as_tensor(self.l1, device=x.device) > 0, x.sign(), 0.0)

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """l1·Σ|x_i| + (l2/2)·Σx_i²."""
        return (like(self.l1, x) * x.abs() + like(self.l2, x) * x**2 / 2).sum(-1)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: ∂g is l1·sign(x_i) + l2·x_i, the interval [−l1, l1] at 0."""
        l1 = like(self.l1, x)
        slope = l1 * x.sign() + like(self.l2, x) * x
        return vector_norm(torch.where(x == 0, torch.relu(v.abs() - l1), v - slope), dim=-1)


@dataclass(frozen=True, eq=False, repr=False)
class GroupL2(ProxFunction):
    """The group norm Σ_G weight_G·‖x_G‖ over disjoint groups of coordinates; its prox shortens each group's vector.

    Parameters
    ----------
    groups : list of lists of indices, or integer Tensor (d,) of labels
        Coordinates in no list (or with a negative label) are free.
    weight : float, or Tensor (number of groups,) in the order of the lists or labels; nonnegative

    Raises
    ------
    ValueError
        If groups are empty or overlap, or ``weight`` does not fit them.

    Examples
    --------
    >>> import torch
    >>> GroupL2([[0, 1], [2]]).prox(torch.tensor([3.0, 4.0, -0.5, 7.0]), h=1.0)
    tensor([2.4000, 3.2000, -0.0000, 7.0000])
    """

    groups: Sequence[Sequence[int]] | Tensor
    weight: float | Tensor = 1.0

    def __post_init__(self) -> None:
        require_nonnegative("weight", self.weight)
        groups = _index_lists(self.groups)
        if isinstance(self.weight, Tensor) and self.weight.shape not in ((), (len(groups),)):
            raise ValueError(f"weight must be a number or have shape ({len(groups)},), one entry a group; got "
                             f"{_check.describe(self.weight)}.")
        longest = max(map(len, groups))
        members = torch.tensor([group + [-1] * (longest - len(group)) for group in groups])
        label = torch.full((int(members.max()) + 1,), -1)
        for k, group in enumerate(groups):
            label[group] = k
        object.__setattr__(self, "_members", members)
        object.__setattr__(self, "_label", label)

    def _norms(self, x: Tensor) -> Tensor:
        """‖x_G‖ of each group, (*batch, number of groups)."""
        d, least = x.shape[-1], len(self._label)  # type: ignore[attr-defined]
        exact = isinstance(self.groups, Tensor)
        if d < least or (exact and d != len(self.groups)):
            raise ValueError(f"x must have last dimension {'' if exact else 'at least '}"
                             f"{len(self.groups) if exact else least}, by the groups; got {_check.describe(x)}.")
        members = self._members.to(x.device)  # type: ignore[attr-defined]
        return vector_norm(torch.where(members >= 0, x[..., members.clamp_min(0)], 0.0), dim=-1)

    def _spread(self, factor: Tensor, x: Tensor, free: float) -> Tensor:
        """The factor of each coordinate's group, (*batch, d)."""
        label = pad(self._label, (0, x.shape[-1] - len(self._label)), value=-1).to(x.device)  # type: ignore[attr-defined]
        return torch.where(label >= 0, factor[..., label.clamp_min(0)], free)

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """x_G·(1 − h·weight_G/‖x_G‖)₊ for every group."""
        norm = self._norms(x)
        shrunk = torch.relu(norm - h * like(self.weight, x))
        return x * self._spread(shrunk / norm.clamp_min(torch.finfo(x.dtype).tiny), x, free=1.0)

    def kink_sides(self, x: Tensor, t: Time = 0.0) -> Tensor | None:
        """Signs of the coordinates that are a group of positive weight by themselves."""
        members = self._members  # type: ignore[attr-defined]
        single = (members >= 0).sum(-1) == 1
        heavy = torch.as_tensor(self.weight).expand(len(members)) > 0
        alone = members[single & heavy.to(single.device), 0].to(x.device)
        return x[..., alone].sign() if len(alone) else None

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Σ weight_G·‖x_G‖."""
        return (like(self.weight, x) * self._norms(x)).sum(-1)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: as ``L2`` in each group; on free coordinates ∂g is {0}."""
        norm, weight = self._norms(x), like(self.weight, x)
        slope = self._spread(weight / norm.clamp_min(torch.finfo(x.dtype).tiny), x, free=0.0)
        away = vector_norm(torch.where(self._spread(norm, x, free=1.0) == 0, 0.0, v - slope * x), dim=-1, keepdim=True)
        at_zero = torch.where(norm == 0, torch.relu(self._norms(v) - weight), 0.0)
        return vector_norm(torch.cat([away, at_zero], -1), dim=-1)


def _index_lists(groups: Sequence[Sequence[int]] | Tensor) -> list[list[int]]:
    """The groups as lists of indices; a tensor holds a label for every coordinate, negative for none."""
    if isinstance(groups, Tensor):
        if groups.ndim != 1 or groups.is_floating_point() or groups.dtype == torch.bool or groups.is_complex():
            raise ValueError(f"groups must be lists of indices or an integer tensor of labels (d,); got "
                             f"{_check.describe(groups)}.")
        lists = [(groups == label).nonzero()[:, 0].tolist() for label in range(max([-1, *groups.tolist()]) + 1)]
    else:
        try:
            lists = [[operator.index(i) for i in group] for group in groups]
        except TypeError as error:
            raise TypeError(f"groups must be lists of whole numbers or an integer tensor of labels; got {groups!r}: "
                            f"{error}.") from error
    taken: dict[int, int] = {}
    for k, group in enumerate(lists):
        if not group:
            raise ValueError(f"groups must not be empty; group {k} is. Number the groups 0, 1, 2, … without a gap.")
        for i in group:
            if i < 0 or i in taken:
                why = "is negative" if i < 0 else f"is in group {taken[i]} too"
                raise ValueError(f"groups must hold disjoint nonnegative indices; index {i} of group {k} {why}.")
            taken[i] = k
    if not taken:
        raise ValueError("groups must hold at least one group; got none. Without groups write Whole().")
    return lists
