"""What a figure reads of a solution: one sample, its coordinates, when it touches its bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..functions import ProxFunction
from ..inclusion import Inclusion

__all__ = ["Contact", "Path", "contacts_of", "coordinates_of", "is_set", "labels_of", "pick", "require_path",
           "sample_of", "sides_of", "states_of"]

MOST = 7  # coordinates in a figure unless they are named: as many as there are colours


class Path(Protocol):
    """A solution, as far as a figure reads it."""

    @property
    def t(self) -> Tensor: ...
    @property
    def x(self) -> Tensor: ...
    @property
    def flow(self) -> Inclusion: ...
    @property
    def switches(self) -> Any: ...
    @property
    def multiplier(self) -> Any: ...
    @property
    def active(self) -> Tensor: ...
    def __call__(self, t: Tensor) -> Tensor: ...


class Contact(NamedTuple):
    """A coordinate at a bound from ``start`` to ``end``; side −1 is the lower bound, 1 the upper one."""

    row: int
    start: float
    end: float
    side: int


def require_path(sol: object) -> None:
    """Refuse what is no solution."""
    if not isinstance(getattr(sol, "x", None), Tensor) or not isinstance(getattr(sol, "t", None), Tensor):
        raise TypeError(f"sol must be a Solution; got {type(sol).__name__}. Solve first: sol = di.solve(flow, x0, t).")


def batch_of(sol: Path) -> tuple[int, ...]:
    """The batch shape of a solution."""
    return tuple(sol.x.shape[1:sol.x.ndim - sol.flow.field.state_dims])


def sample_of(sol: Path, sample: int | Sequence[int] | None) -> tuple[int, ...]:
    """The index of one sample, checked; () of a solution without a batch."""
    require_path(sol)
    batch = batch_of(sol)
    index = () if sample is None else (sample,) if isinstance(sample, int) else tuple(sample)
    inside = [isinstance(i, int) and -n <= i < n for i, n in zip(index, batch, strict=False)]
    if len(index) != len(batch) or not all(inside):
        remedy = f"Pass sample={0 if len(batch) == 1 else (0,) * len(batch)}" if batch else "Leave it out"
        raise ValueError(f"sample must name one sample of the batch, whose shape is {batch}; got {sample!r}. {remedy}.")
    return tuple(i % n for i, n in zip(index, batch, strict=True))


def pick(values: Tensor, index: tuple[int, ...]) -> Tensor:
    """Rows of one sample with its state flattened, (T, n), float64 on the CPU."""
    return values.detach()[(slice(None), *index)].flatten(1).to("cpu", torch.float64)


def states_of(sol: Path, index: tuple[int, ...]) -> Tensor:
    """States of one sample, (T, d)."""
    return pick(sol.x, index)


def coordinates_of(chosen: Sequence[int] | None, d: int) -> list[int]:
    """Indices of coordinates, checked; all by default."""
    if chosen is None:
        return list(range(d))
    chosen = chosen.tolist() if isinstance(chosen, Tensor) else list(chosen)
    for i in chosen:
        if isinstance(i, bool) or not isinstance(i, int) or not -d <= i < d:
            raise ValueError(f"coordinates must be indices below {d}, the number of coordinates; got {i!r}.")
    if not chosen:
        raise ValueError(f"coordinates is empty; name at least one of the {d}.")
    return [i % d for i in chosen]


def busiest(x: Tensor, sides: Tensor | None) -> list[int]:
    """The coordinates that change contact, then those that move most, in order of their index."""
    move = torch.nan_to_num(x).amax(0) - torch.nan_to_num(x).amin(0)
    if sides is not None and sides.shape == x.shape:
        move = move + 1e6 * (1 + move.max()) * (sides.diff(dim=0) != 0).any(0)
    return sorted(move.argsort(descending=True, stable=True)[:MOST].tolist())


def labels_of(labels: Sequence[str] | None, chosen: list[int]) -> list[str]:
    """Names of the chosen coordinates."""
    if labels is None:
        return [f"$x_{{{i + 1}}}$" for i in chosen]
    if isinstance(labels, str) or len(labels) != len(chosen):
        raise ValueError(f"labels must name each of the {len(chosen)} coordinates shown; got {labels!r}.")
    return list(labels)


def is_set(g: ProxFunction) -> bool:
    """Whether g is the indicator of a set."""
    return callable(getattr(g, "project", None))


def sides_of(sol: Path) -> Tensor | None:
    """−1 at the lower bound, 1 at the upper one, 0 in the interior, (T, *batch, d).

    Of sets without bounds of their own the multiplier tells: by coordinate where the projection acts on each alone,
    else one row, 1 on the boundary. None where g is no set.
    """
    if not is_set(sol.flow.g):
        return None
    if getattr(sol.flow.g, "bounds", None) is not None:
        return sol.active
    force = sol.multiplier.detach()
    room = 1e-9 * torch.nan_to_num(force).abs().max() if force.numel() else 0.0
    if sol.flow.g.coordinatewise:
        sides = torch.where(force.abs() > room, force.sign(), 0.0)
    else:
        sides = (torch.linalg.vector_norm(force, dim=-1, keepdim=True) > room).to(force)
    return torch.cat([torch.zeros_like(sides[:1]), torch.nan_to_num(sides)]).to(torch.int8) if len(sides) else None


def contacts_of(sol: Path, index: tuple[int, ...]) -> list[Contact]:
    """Contact intervals of one sample: between located switches where there are some, else between save times."""
    sides = sides_of(sol)
    if sides is None:
        return []
    mine, t = pick(sides, index).to(torch.int64), sol.t.tolist()
    if sol.switches is None:
        return [contact for row in range(mine.shape[1]) for contact in _runs(row, mine[:, row].tolist(), t)]
    return _located(mine, t, sol.switches.of(*index, kinks=False))


def _runs(row: int, sides: list[int], t: list[float]) -> list[Contact]:
    """Runs of equal sides; one of a single save time has no length."""
    found, start = [], 0
    for k in range(1, len(sides) + 1):
        if k == len(sides) or sides[k] != sides[start]:
            if sides[start]:
                found.append(Contact(row, t[start], t[k - 1], sides[start]))
            start = k
    return found


def _located(sides: Tensor, t: list[float], switches: list[Any]) -> list[Contact]:
    """From hit to leave; a coordinate that is at its bound at the start may leave it at once, without a switch."""
    found = []
    for row in range(sides.shape[1]):
        events = [switch for switch in switches if switch.index == row]
        first, second = int(sides[0, row]), int(sides[min(1, len(t) - 1), row])
        held = first and (events[0].kind.startswith("leave") if events else first == second)
        start, side = (t[0], first) if held else (None, 0)
        for switch in events:
            if switch.kind.startswith("hit"):
                start, side = switch.t, -1 if switch.kind.endswith("lower") else 1
            elif start is not None:
                found.append(Contact(row, start, switch.t, side))
                start = None
        if start is not None:
            last = int(sides[:, row].nonzero()[-1]) if bool(sides[:, row].any()) else 0
            found.append(Contact(row, start, max(t[last], start), side))
    return found


def require_steps(sol: Path) -> None:
    """A figure over time needs at least one step."""
    if len(sol.t) < 2:
        raise ValueError(f"the solution holds {len(sol.t)} save time only, since its first step failed; nothing can be "
                         f"drawn over time. sol.message says what happened.")
