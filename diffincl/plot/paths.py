"""Coordinates over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .reading import (
    MOST,
    Contact,
    Path,
    busiest,
    contacts_of,
    coordinates_of,
    labels_of,
    pick,
    require_steps,
    sample_of,
    sides_of,
    states_of,
)
from .style import COLOURS, DASHES, axes, beside, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["trajectory"]


def trajectory(sol: Path, *, coordinates: Sequence[int] | None = None, sample: int | Sequence[int] | None = None,
               labels: Sequence[str] | None = None, legend: bool = True, ax: Axes | None = None) -> Axes:
    """Coordinates of one sample over time, with the times they spend at a bound and their switches.

    Below the curves each coordinate that touches a bound has a row: a filled bar while it is at its lower bound, a
    hatched one while at its upper bound; of sets that are no boxes one row, filled while the state is on the boundary.
    Located hits are filled triangles, leaves open ones, switches of hidden units ticks along the top.

    Parameters
    ----------
    sol : Solution
    coordinates : sequence of int, optional
        Which to draw, in this order; by default all, of more than 7 those that change contact or move most (the title
        of the legend says so).
    sample : int or tuple of int, optional
        Index in the batch; needed where there is a batch.
    labels : sequence of str, optional
        Names of the coordinates drawn.
    legend : bool
        Right of the Axes.
    ax : Axes, optional
        A new figure by default.

    Raises
    ------
    ValueError
        If a batch has no ``sample``, or ``coordinates`` or ``labels`` do not fit.

    Examples
    --------
    >>> import matplotlib.figure
    >>> import torch, diffincl as di
    >>> flow = di.Inclusion(lambda t, x: torch.ones_like(x), di.Orthant())
    >>> sol = di.solve(flow, torch.tensor([1.0, 3.0]), torch.linspace(0, 2, 21))
    >>> ax = di.plot.trajectory(sol, ax=matplotlib.figure.Figure().subplots())
    >>> [line.get_label() for line in ax.lines][:2]
    ['$x_{1}$', '$x_{2}$']
    """
    index = sample_of(sol, sample)
    require_steps(sol)
    x, sides = states_of(sol, index), sides_of(sol)
    d, mine = x.shape[1], None if sides is None else pick(sides, index)
    few = coordinates is None and d > MOST
    chosen = busiest(x, mine) if few else coordinates_of(coordinates, d)
    names, contacts = labels_of(labels, chosen), contacts_of(sol, index)
    with axes(ax) as ax:
        for k, (i, name) in enumerate(zip(chosen, names, strict=True)):
            t, values = _with_switches(sol, index, x, i)
            ax.plot(t, values, color=COLOURS[k % 7], ls=DASHES[k % 7], label=name)
        look(ax, xlabel="time $t$", ylabel="$x_i(t)$")
        by_coordinate = sides is None or sides.shape == sol.x.shape
        handles = _contact_rows(ax, x[:, chosen], contacts, chosen if by_coordinate else [0], by_coordinate)
        _switches(ax, sol, index, chosen)
        ax.set_xlim(float(sol.t[0]), float(sol.t[-1]))
        title = f"{len(chosen)} of {d} coordinates" if few else None
        beside(ax, legend, handles=[*ax.get_legend_handles_labels()[0], *handles], title=title)
    return ax


def _events(sol: Path, index: tuple[int, ...]) -> list[tuple[float, int, str, float]]:
    """Located hits and leaves of a sample: time, coordinate, kind, and the bound at which it happens."""
    if sol.switches is None:
        return []
    lower, upper = (b.detach().to("cpu", torch.float64) for b in sol.flow.g.bounds(sol.x))  # type: ignore[attr-defined]
    ends = [torch.broadcast_to(b, sol.x.shape[1:])[index] for b in (lower, upper)]
    return [(s.t, s.index, s.kind, float(ends[s.kind.endswith("upper")][s.index]))
            for s in sol.switches.of(*index, kinks=False)]


def _with_switches(sol: Path, index: tuple[int, ...], x: Tensor, i: int) -> tuple[list[float], list[float]]:
    """A curve that reaches its bound when it does, not at the next save time."""
    points = dict(zip(sol.t.tolist(), x[:, i].tolist(), strict=True))
    points |= {t: bound for t, j, _, bound in _events(sol, index) if i == j}
    times = sorted(points)
    return times, [points[t] for t in times]


def _contact_rows(ax: Axes, x: Tensor, contacts: list[Contact], rows: list[int], by_coordinate: bool) -> list[Any]:
    """Bars below the curves, one row a coordinate; handles for the legend."""
    from matplotlib.patches import Patch

    mine = [c for c in contacts if c.row in rows]
    touching = [(k, row) for k, row in enumerate(rows) if any(c.row == row for c in mine)]
    if not mine:
        return []
    finite = x[torch.isfinite(x)]
    low, high = float(finite.min()), float(finite.max())
    span = (high - low) or max(abs(high), 1.0)
    ticks = [tick for tick in ax.get_yticks() if low - 0.02 * span <= tick <= high + 0.05 * span]
    for place, (k, row) in enumerate(touching):
        colour = COLOURS[k % 7] if by_coordinate else COLOURS[-1]
        for side in (-1, 1):
            bars = [(c.start, c.end - c.start) for c in mine if c.row == row and (c.side == side)]
            fill = colour if side == -1 or not by_coordinate else "none"
            hatch = "/////" if fill == "none" else None
            ax.broken_barh(bars, (low - span * (0.09 + 0.06 * place), 0.04 * span), facecolor=fill, edgecolor=colour,
                           hatch=hatch, lw=0.8)
    ax.axhline(low - 0.03 * span, color="0.6", lw=0.6)
    ax.set_ylim(low - span * (0.07 + 0.06 * len(touching)), high + 0.05 * span)
    ax.set_yticks(ticks)
    if not by_coordinate:
        return [Patch(facecolor=COLOURS[-1], label="on the boundary")]
    words = {-1: Patch(facecolor="0.4", label="at lower bound"),
             1: Patch(facecolor="none", edgecolor="0.4", hatch="/////", label="at upper bound")}
    return [words[side] for side in (-1, 1) if any(c.side == side for c in mine)]


def _switches(ax: Axes, sol: Path, index: tuple[int, ...], chosen: list[int]) -> None:
    """Triangles at hits and leaves, ticks along the top for hidden units."""
    for kind, marker, colour in (("hit", "v", "black"), ("leave", "^", "white")):
        points = [(t, bound) for t, i, what, bound in _events(sol, index) if i in chosen and what.startswith(kind)]
        if points:
            ax.plot(*zip(*points, strict=True), ls="none", marker=marker, mfc=colour, mec="black", ms=6, zorder=4,
                    label=f"{kind}s")
    kinks = [] if sol.switches is None else [s.t for s in sol.switches.of(*index) if s.kind.startswith("unit")]
    if kinks:
        ax.plot(kinks, [0.985] * len(kinks), ls="none", marker="|", color="black", ms=8, mew=1.0,
                transform=ax.get_xaxis_transform(), label="hidden units switch")
