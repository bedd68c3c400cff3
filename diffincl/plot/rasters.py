"""Coordinates × time: the multiplier, and who is in contact."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .reading import (
    Path,
    coordinates_of,
    is_set,
    labels_of,
    pick,
    require_path,
    require_steps,
    sample_of,
    sides_of,
)
from .style import LOWER, UPPER, axes, beside, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["contacts", "multiplier"]

NAMED = 16  # rows up to which each has its name on the axis
Edges = list[float]


def multiplier(sol: Path, *, coordinates: Sequence[int] | None = None, sample: int | Sequence[int] | None = None,
               labels: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """The multiplier −x' − F ∈ ∂g of one sample, a strip for each coordinate over time; white is 0, grey is unknown.

    Parameters
    ----------
    sol : Solution
    coordinates : sequence of int, optional
        Which to draw, from top to bottom; all by default.
    sample : int or tuple of int, optional
        Index in the batch; needed where there is a batch.
    labels : sequence of str, optional
        Names of the coordinates drawn.
    ax : Axes, optional
        A new figure by default.

    Raises
    ------
    ValueError
        If there is no multiplier, a batch has no ``sample``, or ``coordinates`` or ``labels`` do not fit.

    Examples
    --------
    >>> import matplotlib.figure
    >>> import torch, diffincl as di
    >>> flow = di.Inclusion(lambda t, x: torch.ones_like(x), di.Orthant())
    >>> sol = di.solve(flow, torch.tensor([1.0, 3.0]), torch.linspace(0, 2, 21))
    >>> ax = di.plot.multiplier(sol, ax=matplotlib.figure.Figure().subplots())
    >>> ax.collections[0].get_array().shape, float(ax.collections[0].get_array()[0, -1])
    ((2, 20), -1.0)
    """
    index = sample_of(sol, sample)
    require_steps(sol)
    if not isinstance(sol.multiplier, Tensor):
        raise ValueError("the solution has no multiplier: its scheme keeps none. Solve with ForwardEuler(), ProxHeun() "
                         "or SwitchingDP5().")
    rows = pick(sol.multiplier, index)
    chosen = coordinates_of(coordinates, rows.shape[1])
    names, known = labels_of(labels, chosen), torch.nan_to_num(rows[:, chosen], 0.0, 0.0, 0.0)
    most = float(known.abs().max()) or 1.0
    with axes(ax, (6.4, 1.4 + 0.25 * min(len(chosen), 12))) as ax:
        mesh = _raster(ax, sol.t.tolist(), rows[:, chosen], names, _signed(), (-most, most))
        ax.figure.colorbar(mesh, ax=ax, label=r"multiplier $-x' - F$", pad=0.02)
    return ax


def contacts(sol: Path, *, coordinates: Sequence[int] | None = None, sample: int | Sequence[int] | None = None,
             labels: Sequence[str] | None = None, legend: bool = True, ax: Axes | None = None) -> Axes:
    """Which coordinate is in contact when: at its lower bound (dark), at its upper one (light), at neither (white).

    Of a batch without ``sample`` the share of samples in contact. Sets whose projection mixes coordinates have one row:
    whether the state is on the boundary.

    Parameters
    ----------
    sol : Solution
    coordinates : sequence of int, optional
        Which to draw, from top to bottom; all by default.
    sample : int or tuple of int, optional
        Index in the batch.
    labels : sequence of str, optional
        Names of the rows.
    legend : bool
        Right of the Axes; a share has a scale of colours instead.
    ax : Axes, optional
        A new figure by default.

    Raises
    ------
    ValueError
        If g is no set, or ``coordinates``, ``sample`` or ``labels`` do not fit.

    Examples
    --------
    >>> import matplotlib.figure
    >>> import torch, diffincl as di
    >>> flow = di.Inclusion(lambda t, x: torch.ones_like(x), di.Orthant())
    >>> sol = di.solve(flow, torch.tensor([[1.0], [3.0]]), torch.linspace(0, 2, 21))
    >>> ax = di.plot.contacts(sol, ax=matplotlib.figure.Figure().subplots())
    >>> float(ax.collections[0].get_array()[0, -1])
    0.5
    """
    require_path(sol)
    require_steps(sol)
    if not is_set(sol.flow.g):
        raise ValueError(f"contacts are those with a set; g is {sol.flow.g}. See plot.multiplier(sol) for the force "
                         f"of a function.")
    sides = sides_of(sol)
    assert sides is not None
    share = sample is None and sides.ndim > 2
    if share:
        touching = (sides != 0).double().cpu()
        rows = touching.reshape(len(sides), -1, *_state(sol, sides)).flatten(2).mean(1)
    else:
        rows = pick(sides, sample_of(sol, sample))
    chosen = coordinates_of(coordinates, rows.shape[1])
    one = rows.shape[1] == 1 and labels is None and not sol.flow.g.coordinatewise
    names = ["boundary"] if one else labels_of(labels, chosen)
    with axes(ax, (6.4, 1.4 + 0.25 * min(len(chosen), 12))) as ax:
        colours, limits = (_shares(), (0.0, 1.0)) if share else (_signed(), (-1.0, 1.0))
        mesh = _raster(ax, _between(sol.t.tolist()), rows[:, chosen], names, colours, limits)
        ax.set_xlim(float(sol.t[0]), float(sol.t[-1]))
        if share:
            ax.figure.colorbar(mesh, ax=ax, label="share of samples in contact", pad=0.02)
        else:
            beside(ax, legend, handles=_sides(rows[:, chosen], one))
    return ax


def _state(sol: Path, sides: Tensor) -> tuple[int, ...]:
    """The shape of one sample's sides."""
    return tuple(sides.shape[sides.ndim - sol.flow.field.state_dims:])


def _sides(rows: Tensor, one: bool) -> list[Any]:
    """What the two colours mean, of those that occur."""
    from matplotlib.patches import Patch

    if one:
        return [Patch(facecolor=UPPER, label="on the boundary")]
    both = ((-1, LOWER, "at lower bound"), (1, UPPER, "at upper bound"))
    return [Patch(facecolor=colour, label=word) for side, colour, word in both if bool((rows == side).any())]


def _between(t: list[float]) -> Edges:
    """Edges of cells around save times."""
    middles = [(a + b) / 2 for a, b in pairwise(t)]
    return [t[0], *middles, t[-1]]


def _raster(ax: Axes, edges: Edges, rows: Tensor, names: list[str], colours: Any, limits: tuple[float, float]) -> Any:
    """Cells of rows (cells, n), the first coordinate on top; in a vector file one picture; text stays text."""
    n = rows.shape[1]
    heights = [k - 0.5 for k in range(n + 1)]
    mesh = ax.pcolormesh(edges, heights, rows.T.numpy(), cmap=colours, vmin=limits[0], vmax=limits[1], rasterized=True)
    ax.set_ylim(n - 0.5, -0.5)
    look(ax, xlabel="time $t$", ylabel="" if n <= NAMED else "coordinate $i$", grid=False)
    if n <= NAMED:
        ax.set_yticks(range(n), names)
        ax.tick_params("y", length=0)
        ax.hlines(torch.arange(1, n) - 0.5, edges[0], edges[-1], color="0.85", lw=0.5)
    else:
        at = [int(k) for k in torch.linspace(0, n - 1, 8)]
        ax.set_yticks(at, [names[k] for k in at])
    return mesh


def _signed() -> Any:
    """Dark for negative, light for positive, white for 0."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("signed", [LOWER, "white", UPPER])
    return colours.with_extremes(bad="0.8")


def _shares() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shares", ["white", LOWER])
