"""Phase portraits in the plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check
from ..inclusion import Inclusion
from .plane import Limits, followed, frame, kind_of, require_plane, velocity, window_of
from .reading import Path, is_set, require_path
from .sets import Cone, Outline, Window, cones_of, corners_of, distinct, outline_of, spread_over
from .style import COLOURS, DASHES, axes, beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["arrows", "draw_set", "phase"]

INSIDE, PROJECTED, CONES = COLOURS[5], COLOURS[1], COLOURS[2]
ARROWS = 15  # of the field along the longer side
ON_BOUNDARY, RAYS, CORNERS = 22, 4, 8  # boundary points with a projected arrow, with a ray, with a cone
LINES = (COLOURS[0], COLOURS[6], COLOURS[3], COLOURS[4])  # trajectories; the other colours are taken


def phase(flow: Inclusion, *solutions: Path, t: float = 0.0, xlim: Limits = None, ylim: Limits = None,
          legend: bool = True, ax: Axes | None = None) -> Axes:
    """Portrait in the plane: the set C(t), the velocity −F within, what is left of it on the boundary, trajectories.

    Outside C the plane is hatched. On the boundary the projected velocity stands beside −F; normal cones (wedges at
    corners, rays elsewhere) hold what is taken away. Trajectories go from an open circle to a full square. Lengths of
    arrows grow with the square root of the speed. Of a function g that is no set the arrows are the velocity
    −(F + ∂g)°, which solutions follow.

    Parameters
    ----------
    flow : Inclusion
        Of states (2,); g may be any set or function.
    *solutions : Solution
        With states (2,); of a batch all samples are drawn.
    t : float
        Time of the set and of the field.
    xlim, ylim : (from, to), optional
        By default around the trajectories, or around the set near the origin.
    legend : bool
        Right of the Axes.
    ax : Axes, optional
        A new figure by default.

    Raises
    ------
    ValueError
        If states have not 2 coordinates, or a limit is no pair (from, to) that increases.
    TypeError
        If ``flow`` is no Inclusion.

    Examples
    --------
    >>> import matplotlib.figure
    >>> import torch, diffincl as di
    >>> flow = di.Inclusion(lambda t, x: torch.ones_like(x), di.Ball())
    >>> sol = di.solve(flow, torch.tensor([0.0, 0.5]), torch.linspace(0, 2, 21))
    >>> ax = di.plot.phase(flow, sol, ax=matplotlib.figure.Figure().subplots())
    >>> ax.get_xlabel(), [text.get_text() for text in ax.get_legend().get_texts()][0]
    ('$x_1$', '$C$')
    """
    t = _check.number("t", t)
    if not isinstance(flow, Inclusion):
        hint = "Pass sol.flow first: phase(sol.flow, sol)." if hasattr(flow, "flow") else "Write Inclusion(field, g)."
        raise TypeError(f"flow must be an Inclusion; got {type(flow).__name__}. {hint}")
    for sol in solutions:
        require_path(sol)
        require_plane(sol)
    like = kind_of(flow, solutions)
    window = window_of(flow, solutions, [t], like, xlim, ylim)
    velocity(flow, torch.zeros(1, 2).to(like), t)  # complains, before a figure is opened
    with axes(ax, (5.8, 4.2), "compressed") as ax:
        handles = []
        if is_set(flow.g):
            outline = outline_of(flow.g, window, t, like)
            handles += draw_set(ax, outline, window, name=f"$C({t:g})$" if flow.g.moving else "$C$")
            handles += _cones(ax, flow, outline, window, t, like)
            handles += _field(ax, flow, outline, window, t, like)
        else:
            handles += arrows(ax, flow, window, t, like)
        handles += _paths(ax, solutions)
        frame(ax, window)
        beside(ax, legend, handles=handles)
    return ax


def draw_set(ax: Axes, outline: Outline, window: Window, *, name: str) -> list[Any]:
    """The hatched outside, the set in white, its boundary; handles for the legend."""
    from matplotlib.patches import Patch, PathPatch, Rectangle
    from matplotlib.path import Path as Curve

    left, right, bottom, top = window
    out = Rectangle((left, bottom), right - left, top - bottom, facecolor="0.96", edgecolor="0.75", hatch="///", lw=0,
                    zorder=0)
    ax.add_patch(out)
    if outline.rings:
        shape = Curve.make_compound_path(*(Curve(ring.numpy(), closed=True) for ring in outline.rings))
        ax.add_patch(PathPatch(shape, facecolor="white", edgecolor="none", zorder=0.5, gid="set"))
    for edge in outline.edges:
        ax.plot(*edge.T, color="black", lw=1.4, zorder=2, gid="boundary")
    return [Patch(facecolor="white", edgecolor="black", label=name)]


def _grid(window: Window, like: Tensor) -> tuple[Tensor, float]:
    """Points of a regular grid and their distance."""
    left, right, bottom, top = window
    step = max(right - left, top - bottom) / ARROWS
    xs, ys = (torch.arange(a + step / 2, b, step, dtype=torch.float64) for a, b in ((left, right), (bottom, top)))
    return torch.cartesian_prod(xs, ys).to(like), step


def _quiver(ax: Axes, points: Tensor, v: Tensor, unit: float, colour: str, width: float) -> Any:
    """Arrows in the units of the plane, (n, 2) both; ``unit`` is the length of speed 1 to the power 1/2."""
    points, v = points.double().cpu(), v.double().cpu()
    speed = vector_norm(v, dim=-1, keepdim=True)
    v = unit * v / speed.clamp_min(1e-300).sqrt()
    return ax.quiver(*points.T, *v.T, color=colour, angles="xy", scale_units="xy", scale=1.0, units="dots", width=width,
                     minlength=0.0, minshaft=1.5, headwidth=4.5, zorder=2.5)


def arrows(ax: Axes, flow: Inclusion, window: Window, t: float, like: Tensor) -> list[Any]:
    """The velocity of solutions, on the part of a grid that belongs to the domain of g."""
    points, step = _grid(window, like)
    if is_set(flow.g):
        away = vector_norm(points - flow.g.project(points, t), dim=-1)  # type: ignore[attr-defined]
        points = points[away < 1e-6 * (1 + points.abs().amax())]
    if not len(points):
        return []
    v = velocity(flow, points, t) if is_set(flow.g) else followed(flow, points, t, 1e-3 * step)
    _quiver(ax, points, v, _unit(v, step), INSIDE, 1.6)
    return [_arrow(INSIDE, "$-F$" if is_set(flow.g) else r"$-(F + \partial g)^\circ$")]


def _unit(v: Tensor, step: float) -> float:
    """So that the longest arrow reaches to its neighbour."""
    return 0.9 * step / max(float(vector_norm(v, dim=-1).max()), 1e-12) ** 0.5


def _field(ax: Axes, flow: Inclusion, outline: Outline, window: Window, t: float, like: Tensor) -> list[Any]:
    """−F within, and beside it what is left of it on the boundary."""
    points, step = _grid(window, like)
    at = spread_over(outline.edges, ON_BOUNDARY, window).to(like)
    everywhere = torch.cat([points, at])
    handles = arrows(ax, flow, window, t, like)
    if len(at):
        at = flow.g.project(at, t)  # type: ignore[attr-defined]
        unit = _unit(velocity(flow, everywhere, t), step)
        v = followed(flow, at, t, 1e-3 * step)
        _quiver(ax, at, velocity(flow, at, t), unit, INSIDE, 1.6)
        _quiver(ax, at, v, unit, PROJECTED, 2.2)
        handles.append(_arrow(PROJECTED, "projected velocity"))
    return handles or [_arrow(INSIDE, "$-F$")]


def _arrow(colour: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, lw=1.8, marker=">", markevery=[1], ms=5, label=label)


def _cones(ax: Axes, flow: Inclusion, outline: Outline, window: Window, t: float, like: Tensor) -> list[Any]:
    """Normal cones at the corners and at a few other points."""
    left, right, bottom, top = window
    size = max(right - left, top - bottom)
    corners = distinct([p for edge in outline.edges for p in corners_of(edge, size)], 1e-3 * size)[:CORNERS]
    points = torch.stack([*corners, *spread_over(outline.edges, RAYS, window)]) if outline.edges else torch.zeros(0, 2)
    if not len(points):
        return []
    cones = cones_of(flow.g, points, t, 0.05 * size, like)
    _draw_cones(ax, cones, 0.075 * size)
    from matplotlib.patches import Patch

    return [Patch(facecolor=CONES, alpha=0.5, edgecolor=CONES, label="normal cones")]


def _draw_cones(ax: Axes, cones: list[Cone], radius: float) -> None:
    from matplotlib.collections import LineCollection, PatchCollection
    from matplotlib.patches import Wedge

    wedges = [Wedge(tuple(c.at.tolist()), radius, a, b) for c in cones for a, b in c.spans if b > a]
    rays = [(c.at, torch.deg2rad(torch.tensor(a, dtype=torch.float64))) for c in cones for a, b in c.spans if a == b]
    lines = [torch.stack([x, x + radius * torch.stack([a.cos(), a.sin()])]).numpy() for x, a in rays]
    ax.add_collection(PatchCollection(wedges, facecolor=CONES, alpha=0.5, lw=0, zorder=1.5, gid="cones"))
    ax.add_collection(LineCollection(lines, color=CONES, alpha=0.8, lw=3.0, zorder=1.5, gid="rays"))


def _paths(ax: Axes, solutions: Sequence[Path]) -> list[Any]:
    """Trajectories from open circles to full squares."""
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    handles = []
    for k, sol in enumerate(solutions):
        colour, dashes = LINES[k % 4], DASHES[k % 7]
        x = sol.x.detach().flatten(1, -2) if sol.x.ndim > 2 else sol.x.detach()[:, None]
        x = x.double().cpu()
        ax.add_collection(LineCollection(list(x.transpose(0, 1).numpy()), color=colour, ls=dashes, lw=1.8, zorder=3))
        ax.plot(*x[0].T, ls="none", marker="o", mfc="white", mec=colour, mew=1.4, ms=6, zorder=4)
        ax.plot(*_last(x).T, ls="none", marker="s", color=colour, ms=6, zorder=4)
        name = "trajectories" if x.shape[1] > 1 else "trajectory"
        name += f" {k + 1}" if len(solutions) > 1 else ""
        handles.append(Line2D([], [], color=colour, ls=dashes, label=name))
    if solutions:
        handles += [Line2D([], [], ls="none", marker="o", mfc="white", mec="0.3", mew=1.4, label="start"),
                    Line2D([], [], ls="none", marker="s", color="0.3", label="end")]
    return handles


def _last(x: Tensor) -> Tensor:
    """The last known point of each of x (T, n, 2)."""
    known = torch.isfinite(x).all(-1)
    last = (known * torch.arange(1, len(x) + 1)[:, None]).amax(0).sub(1).clamp_min(0)
    return x[last, torch.arange(x.shape[1])]
