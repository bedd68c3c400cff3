"""Measurements: error against work, accuracy against depth, networks by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from .. import _check
from .style import COLOURS, DASHES, MARKERS, axes, beside, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Layered", "convergence", "depth", "layers", "spread"]

Numbers = Sequence[float] | Tensor
Spread = tuple[float, float | None]


def convergence(work: Numbers | Mapping[str, Numbers], errors: Mapping[str, Numbers], *,
                orders: Sequence[float] = (1, 2), xlabel: str = "steps", ylabel: str = "error", legend: bool = True,
                ax: Axes | None = None) -> Axes:
    """Work against precision by scheme, both logarithmic, with triangles whose slope is that of an order.

    Parameters
    ----------
    work : sequence (n,), or mapping of schemes to sequences
        Steps, evaluations or seconds.
    errors : mapping of schemes to sequences (n,)
        NaN where there is no result leaves a gap.
    orders : sequence of numbers
        A triangle each; empty for none.
    xlabel, ylabel : str
    legend : bool
        Right of the Axes.
    ax : Axes, optional
        A new figure by default.

    Raises
    ------
    ValueError
        If lengths differ, or work or an error is not positive or infinite.

    Examples
    --------
    >>> import matplotlib.figure
    >>> ax = convergence([10, 20, 40], {"Euler": [0.1, 0.05, 0.025]}, orders=(1,),
    ...                  ax=matplotlib.figure.Figure().subplots())
    >>> ax.get_xscale(), ax.lines[0].get_label(), len(ax.patches)
    ('log', 'Euler', 1)
    """
    if not isinstance(errors, Mapping) or not errors:
        raise ValueError(f"errors must map schemes to errors, as {{'ForwardEuler': [0.1, 0.05]}}; got {errors!r}.")
    lines = {name: _line(name, work[name] if isinstance(work, Mapping) else work, error)
             for name, error in errors.items()}
    orders = [_check.number(f"orders[{k}]", order, above=0.0) for k, order in enumerate(orders)]
    with axes(ax, (6.4, 4.0)) as ax:
        for k, (name, (x, y)) in enumerate(lines.items()):
            ax.plot(x, y, color=COLOURS[k % 9], ls=DASHES[(k + k // 7) % 7], marker=MARKERS[k % 9], label=name)
        ax.set_xscale("log")
        ax.set_yscale("log")
        _ticks(ax, sorted({float(v) for x, _ in lines.values() for v in x}))
        look(ax, xlabel=xlabel, ylabel=ylabel)
        _triangles(ax, torch.cat([torch.stack(line, -1) for line in lines.values()]), orders)
        beside(ax, legend)
    return ax


def _ticks(ax: Axes, work: list[float]) -> None:
    """Few amounts of work, as of halved steps, are named one by one; minor ticks, whose names collide, are not."""
    if len(work) <= 8 and all(b / a > 1.3 for a, b in pairwise(work)):
        ax.set_xticks(work, [f"{v:g}" for v in work])
    ax.tick_params(axis="x", which="minor", labelbottom=False)


def _line(name: str, work: Numbers, errors: Numbers) -> tuple[Tensor, Tensor]:
    x, y = (torch.as_tensor(v, dtype=torch.float64).detach().cpu() for v in (work, errors))
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise ValueError(f"work and errors of {name!r} must be sequences of one length; got {tuple(x.shape)} and "
                         f"{tuple(y.shape)}.")
    for what, v in (("work", x), ("errors", y)):
        bad = (v <= 0) | v.isinf()
        if bool(bad.any()):
            k = int(bad.nonzero()[0])
            raise ValueError(f"{what} of {name!r} must be positive and finite on a logarithmic axis; entry {k} is "
                             f"{float(v[k])}. Put NaN where there is no result, the rounding unit for an error of 0.")
    return x, y


def _triangles(ax: Axes, points: Tensor, orders: Sequence[float]) -> None:
    """Right triangles side by side below the data, their hypotenuse falling with the order."""
    from matplotlib.patches import Polygon

    points = points[torch.isfinite(points).all(-1)].log10()
    if not len(orders) or not len(points):
        return
    left, low = points.amin(0).tolist()
    width, height = (points.amax(0) - points.amin(0)).clamp_min(0.3).tolist()
    bottom = low
    for k, order in enumerate(orders):
        w = min(0.13 * width, 0.3 * height / order)
        a = left + width * (0.04 + 0.2 * k)
        over = points[(points[:, 0] > a - 0.08 * width) & (points[:, 0] < a + w + 0.12 * width), 1]
        ceiling = min(float(over.min()) if len(over) else low + 0.35 * height, low + 0.35 * height) - 0.06 * height
        base = ceiling - w * order
        corners = [(10**u, 10**v) for u, v in ((a, base), (a + w, base), (a, ceiling))]
        ax.add_patch(Polygon(corners, closed=True, fill=False, edgecolor="0.3", lw=0.9, gid=f"order {order:g}"))
        ax.annotate(f"order {order:g}", (10 ** (a + w / 2), 10**base), xytext=(0, -3), textcoords="offset points",
                    ha="center", va="top", fontsize=8, color="0.3")
        bottom = min(bottom, base)
    ax.set_ylim(bottom=10 ** (bottom - 0.12 * height))


def depth(depths: Sequence[int], accuracy: Mapping[str, Tensor], *, xlabel: str = "layers",
          ylabel: str = "accuracy (%)", legend: bool = True, ax: Axes | None = None) -> Axes:
    """Accuracy against depth by family: the mean over the seeds, bars of their standard deviation.

    Parameters
    ----------
    depths : sequence of int (n,)
    accuracy : mapping of families to Tensors (seeds, n) or (n,)
        In the units of ``ylabel``; NaN where a training failed is left out of the mean.
    xlabel, ylabel : str
    legend : bool
        Right of the Axes.
    ax : Axes, optional
        A new figure by default.

    Raises
    ------
    ValueError
        If a shape does not fit the depths, or a depth is not positive.

    Examples
    --------
    >>> import matplotlib.figure
    >>> import torch
    >>> ax = depth([2, 4], {"s": torch.tensor([[90.0, 94.0], [92.0, 94.0]])}, ax=matplotlib.figure.Figure().subplots())
    >>> ax.containers[0].lines[0].get_ydata().tolist()
    [91.0, 94.0]
    """
    places = [_check.number(f"depths[{k}]", n, above=0.0) for k, n in enumerate(depths)]
    rows = {family: _means(family, values, len(places)) for family, values in accuracy.items()}
    ax = spread(places, rows, legend=legend, ax=ax)
    ax.set_xscale("log", base=2)
    ax.set_xticks(places, [f"{n:g}" for n in places])
    ax.minorticks_off()
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    return ax


def _means(family: str, values: Tensor, n: int) -> list[Spread | None]:
    """Mean and standard deviation over the seeds that are known."""
    values = torch.as_tensor(values).detach().to("cpu", torch.float64)
    if values.ndim not in (1, 2) or values.shape[-1] != n:
        raise ValueError(f"accuracy of {family!r} must have shape (seeds, {n}) or ({n},); got {tuple(values.shape)}.")
    columns = [[v for v in column.tolist() if not math.isnan(v)] for column in torch.atleast_2d(values).T]
    return [None if not c else (math.fsum(c) / len(c), float(torch.tensor(c, dtype=torch.float64).std()) if len(c) > 1
                                else None) for c in columns]


def spread(places: Sequence[float], rows: Mapping[str, Sequence[Spread | None]], *, joined: bool = True,
           legend: bool = True, ax: Axes | None = None) -> Axes:
    """Means with bars of spread by family, over places on the axis.

    Parameters
    ----------
    places : sequence of numbers (n,)
    rows : mapping of families to n pairs (mean, spread or None), or None where nothing is known
    joined : bool
        Lines between the places; else families stand side by side at each.
    legend : bool
        Right of the Axes.
    ax : Axes, optional
        A new figure by default.

    Raises
    ------
    ValueError
        If a row has not as many entries as there are places.

    Examples
    --------
    >>> import matplotlib.figure
    >>> ax = spread([0, 1], {"s": [(90.0, 1.5), None]}, ax=matplotlib.figure.Figure().subplots())
    >>> ax.containers[0].lines[0].get_xydata().tolist()
    [[0.0, 90.0]]
    """
    for family, row in rows.items():
        if len(row) != len(places):
            raise ValueError(f"row {family!r} must have {len(places)} entries, one a place; got {len(row)}.")
    with axes(ax) as ax:
        for k, (family, row) in enumerate(rows.items()):
            aside = 0.0 if joined else 0.75 * ((k + 0.5) / len(rows) - 0.5)
            known = [(x + aside, *pair) for x, pair in zip(places, row, strict=True) if pair is not None]
            dashes = DASHES[(k + k // 7) % 7] if joined else "none"
            spreads = [s or 0.0 for _, _, s in known] if any(s for _, _, s in known) else None
            drawn = ax.errorbar([x for x, _, _ in known], [m for _, m, _ in known], spreads,
                                color=COLOURS[k % 9], marker=MARKERS[k % 9], ls=dashes, lw=1.4, capsize=2,
                                elinewidth=1.0, label=family)
            for part in (*drawn.lines[1], *drawn.lines[2]):  # bars of many families lie over each other
                part.set_alpha(0.4 if joined and len(rows) > 3 else 1.0)
        look(ax)
        beside(ax, legend)
    return ax


class Layered(Protocol):
    """A network, as far as a figure reads it."""

    def states(self, x: Tensor) -> list[Tensor]: ...
    def factors(self, status: str = "float", rate: str = "best") -> list[Tensor]: ...


def layers(net: Layered, x: Tensor, *, status: str = "float", rate: str = "best", legend: bool = True,
           ax: Axes | None = None) -> Axes:
    """Norms of the features after each layer (median and range over a batch), and the certified factor up to there.

    The factor, on the right, bounds the distance of two features by that of the features before the first layer.

    Parameters
    ----------
    net : DenseResNet, ImageResNet or BlockNet
    x : Tensor (n, *input)
        Inputs.
    status, rate : str
        Of the certificates, as of ``net.sensitivity``; "best" takes seconds, "global" an instant.
    legend : bool
        Above the Axes.
    ax : Axes, optional
        A new figure by default.

    Raises
    ------
    TypeError
        If ``net`` has no layers to look at.

    Examples
    --------
    >>> import matplotlib.figure
    >>> import torch, diffincl as di
    >>> net = di.nn.DenseResNet(4, 2, variant="s", width=3, depth=5, generator=torch.Generator().manual_seed(0))
    >>> ax = di.plot.layers(net, torch.randn(8, 4), ax=matplotlib.figure.Figure().subplots())
    >>> len(ax.lines[0].get_ydata())
    6
    """
    if not (hasattr(net, "states") and hasattr(net, "factors")):
        raise TypeError(f"net must be a network of this package, such as nn.DenseResNet; got {type(net).__name__}.")
    norms = [states.detach().to("cpu", torch.float64).flatten(2).norm(dim=-1) for states in net.states(x)]
    factors = [factor.detach().to("cpu", torch.float64) for factor in net.factors(status, rate)]
    with axes(ax, (6.4, 3.8)) as ax:
        right: Any = ax.twinx()
        for k, (start, stage, factor) in enumerate(zip(_starts(norms), norms, factors, strict=True)):
            at = torch.arange(start, start + len(stage))
            ax.fill_between(at, stage.amin(1), stage.amax(1), color=COLOURS[0], alpha=0.2, lw=0,
                            label="norm: range" if not k else None)
            ax.plot(at, stage.quantile(0.5, dim=1), color=COLOURS[0], marker="o", ms=3.5,
                    label="norm: median" if not k else None)
            right.plot(at, factor, color=COLOURS[1], ls=DASHES[1], marker="s", ms=3.5,
                       label="factor, certified" if not k else None)
            if k:
                ax.axvline(start, color="0.7", lw=0.8)
        _two_axes(ax, right, legend)
    return ax


def _starts(stages: list[Tensor]) -> list[int]:
    """Number of the layer at which each stage starts."""
    ends = [0]
    for stage in stages:
        ends.append(ends[-1] + len(stage) - 1)
    return ends[:-1]


def _two_axes(ax: Axes, right: Any, legend: bool) -> None:
    look(ax, xlabel="layer $k$", ylabel=r"feature norm $\|x_k\|$")
    right.set_yscale("log")
    right.set_ylabel("factor from the first features")
    right.spines["top"].set_visible(False)
    right.spines["right"].set_visible(True)
    ax.locator_params("x", integer=True)
    ax.set_ylim(bottom=0)
    if legend:
        handles = [*ax.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
        ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
