"""States of two coordinates: the part of the plane to show, and velocities there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check
from ..inclusion import Inclusion
from .reading import Path, is_set
from .sets import Window
from .style import look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Limits", "followed", "frame", "kind_of", "require_plane", "velocity", "window_of"]

Limits = Sequence[float] | None


def require_plane(sol: Path) -> None:
    """States must have two coordinates."""
    if sol.flow.field.state_dims != 1 or sol.x.shape[-1] != 2:
        d = tuple(sol.x.shape[sol.x.ndim - sol.flow.field.state_dims:])
        raise ValueError(f"a phase portrait needs states of 2 coordinates; sol.x has states of shape {d}. Show them "
                         f"over time with plot.trajectory(sol), or solve a flow in the plane.")


def kind_of(flow: Inclusion, solutions: Sequence[Path]) -> Tensor:
    """An empty tensor of the dtype and device to evaluate the flow in."""
    tensors = [sol.x for sol in solutions] or [*flow.field.parameters(), *flow.field.buffers()]
    return next((v for v in tensors if v.is_floating_point()), torch.zeros(())).detach().new_empty(0)


def window_of(flow: Inclusion, solutions: Sequence[Path], times: Sequence[float], like: Tensor, xlim: Limits,
              ylim: Limits) -> Window:
    """Limits as given, else around what is shown, neither side much longer than the other."""
    given = [_limits(name, limits) for name, limits in (("xlim", xlim), ("ylim", ylim))]
    if all(given):
        return (*given[0], *given[1])  # type: ignore[misc]
    low, high = _ends([sol.x.detach().reshape(-1, 2).double().cpu() for sol in solutions])
    if is_set(flow.g) and (not solutions or flow.g.moving):
        near = [_near(flow, low, high, t, like) if solutions else _near_origin(flow, t, like) for t in times]
        low, high = _ends([*near, *([torch.stack([low, high])] if solutions else [])])
    size = (high - low).clamp_min(0.8 * float((high - low).max())).clamp_min(1e-3 * (1 + float(high.abs().max())))
    middle, half = (low + high) / 2, 0.68 * size
    found = [(float(m - r), float(m + r)) for m, r in zip(middle, half, strict=True)]
    (left, right), (bottom, top) = (a or b for a, b in zip(given, found, strict=True))
    return left, right, bottom, top


def _ends(points: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Lower left and upper right corner around points; of none a square around the origin."""
    seen = torch.cat(points) if points else torch.tensor([[-2.0, -2.0], [2.0, 2.0]], dtype=torch.float64)
    seen = seen[torch.isfinite(seen).all(-1)]
    return seen.amin(0), seen.amax(0)


def _near(flow: Inclusion, low: Tensor, high: Tensor, t: float, like: Tensor) -> Tensor:
    """Points of C(t) nearest to those of a square around the corners, half as large again."""
    half = 0.75 * (high - low).max().clamp_min(1e-6)
    steps = torch.linspace(-1, 1, 12, dtype=torch.float64)
    square = (low + high) / 2 + half * torch.cartesian_prod(steps, steps)
    with torch.no_grad():
        return flow.g.project(square.to(like), t).double().cpu()  # type: ignore[attr-defined]


def _near_origin(flow: Inclusion, t: float, like: Tensor) -> Tensor:
    """The same around the point of C(t) nearest to the origin."""
    with torch.no_grad():
        middle = torch.nan_to_num(flow.g.project(torch.zeros(1, 2).to(like), t))  # type: ignore[attr-defined]
    middle = middle[0].double().cpu()
    return _near(flow, middle - 4 / 3, middle + 4 / 3, t, like)


def _limits(name: str, limits: Limits) -> tuple[float, float] | None:
    if limits is None:
        return None
    a, b = [_check.number(name, v) for v in limits] if len(limits) == 2 else (0.0, 0.0)
    if not a < b:
        raise ValueError(f"{name} must be (from, to) with from < to; got {limits!r}.")
    return a, b


def velocity(flow: Inclusion, points: Tensor, t: float) -> Tensor:
    """−F at points (n, 2)."""
    try:
        with torch.no_grad():
            v = -flow.field(torch.tensor(t, dtype=torch.float64), points)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"a phase portrait needs a field F(t, x) of states (n, 2); of points {tuple(points.shape)} "
                         f"this one says: {error}") from error
    if v.shape != points.shape:
        raise ValueError(f"a phase portrait needs a field of states (n, 2); F maps {tuple(points.shape)} to "
                         f"{tuple(v.shape)}.")
    return v


def followed(flow: Inclusion, points: Tensor, t: float, step: float) -> Tensor:
    """The velocity of solutions at points of the domain: what one small proximal step from there makes."""
    v = velocity(flow, points, t)
    h = step / max(float(vector_norm(v, dim=-1).max()), 1e-12)
    with torch.no_grad():
        return (flow.g.prox(points + h * v, h, t + h) - points) / h


def frame(ax: Axes, window: Window) -> None:
    """Limits, equal scales (normals are at right angles), labels."""
    left, right, bottom, top = window
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    ax.set_aspect("equal", adjustable="box")
    look(ax, xlabel="$x_1$", ylabel="$x_2$", grid=False)
