"""Bounds beside what they bound."""

from __future__ import annotations

import math
from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from .style import COLOURS, DASHES, axes, beside, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Compared", "bound", "ladder", "ratios"]


class Compared(Protocol):
    """A comparison, as far as a figure reads it."""

    @property
    def t(self) -> Tensor: ...
    @property
    def observed(self) -> Tensor: ...
    @property
    def bound(self) -> Tensor: ...
    @property
    def kind(self) -> str: ...
    @property
    def statement(self) -> str: ...


QUANTITIES = {"sensitivity": r"$\|x - y\| \,/\, \|x_0 - y_0\|$", "growth": r"$\|x\|$", "distance": r"$\|x - y\|$"}


def bound(comparison: Compared | Mapping[str, Compared] | Tensor, *, bounds: Mapping[str, Tensor] | None = None,
          observed: Tensor | None = None, name: str = "observed", xlabel: str = "time $t$", legend: bool = True,
          ax: Axes | None = None) -> Axes:
    """Observed distances against their bounds over time, logarithmic: the median, the range, and a line a bound.

    Parameters
    ----------
    comparison : Comparison, mapping of names to Comparisons of the same solutions (the ladder), or times t (T,)
        Distances of two solutions under a sensitivity bound are divided by their initial distance.
    bounds, observed : mapping of names to Tensors (T,), and a Tensor (T,) or (T, *batch)
        With times only.
    name : str
        What was observed, in the legend.
    xlabel : str
    legend : bool
        Right of the Axes.
    ax : Axes, optional
        A new figure by default.

    Raises
    ------
    ValueError
        If comparisons differ in what they observed, shapes do not fit, a value is NaN, or a pair starts at distance 0.

    Notes
    -----
    A bound that differs from sample to sample (growth) is drawn as that of the sample with the largest value at each
    time; one that is infinite somewhere says so in the legend.

    Examples
    --------
    >>> import matplotlib.figure
    >>> import torch
    >>> t = torch.linspace(0, 1, 5)
    >>> ax = bound(t, bounds={"global": t.exp()}, observed=torch.ones(5, 3), ax=matplotlib.figure.Figure().subplots())
    >>> ax.get_yscale()
    'log'
    """
    if isinstance(comparison, Tensor):
        if bounds is None or observed is None:
            raise ValueError("bound of times needs bounds={name: curve} and observed=...; or pass a Comparison.")
        t, curves, ylabel = comparison, dict(bounds), ""
    elif bounds is not None or observed is not None:
        raise ValueError("bounds and observed go with times; a Comparison has its own.")
    else:
        t, curves, observed, ylabel = _compared(comparison)
    seen = _observed(observed, t)
    for rung, curve in curves.items():
        _require_curve(rung, curve, t)
    with axes(ax, (6.4, 3.6)) as ax:
        _curves(ax, t, curves)
        if seen.shape[1] > 1:
            ax.fill_between(t, seen.amin(1), seen.amax(1), color=COLOURS[0], alpha=0.2, lw=0, label=f"{name}: range")
        ax.plot(t, seen.quantile(0.5, dim=1), color=COLOURS[0], lw=1.8,
                label=f"{name}: median" if seen.shape[1] > 1 else name)
        _logarithmic(ax, t, xlabel, ylabel)
        beside(ax, legend)
    return ax


def ratios(t: Tensor, *, curves: Mapping[str, Tensor], xlabel: str = "time $t$", legend: bool = True,
           ax: Axes | None = None) -> Axes:
    """observed/bound (T,) by name, logarithmic, with a line at 1, which no curve of a bound that holds crosses.

    Raises
    ------
    ValueError
        If a curve does not have the length of ``t`` or holds NaN.

    Examples
    --------
    >>> import matplotlib.figure
    >>> import torch
    >>> t = torch.linspace(0, 1, 5)
    >>> ax = ratios(t, curves={"global": (-t).exp()}, ax=matplotlib.figure.Figure().subplots())
    >>> ax.lines[0].get_label()
    'global'
    """
    for name, curve in curves.items():
        _require_curve(name, curve, t)
    with axes(ax, (6.4, 3.4)) as ax:
        _curves(ax, t, curves)
        ax.axhline(1.0, color="0.3", lw=1.0, zorder=1)
        _logarithmic(ax, t, xlabel, "observed/bound" if ax.get_ylabel() == "" else "")
        beside(ax, legend)
    return ax


def ladder(values: Mapping[str, float | Tensor | str | None], *, observed: float | Tensor | None = None,
           xlabel: str = "factor", name: str = "observed", legend: bool = True, ax: Axes | None = None) -> Axes:
    """Bounds by rung as bars, logarithmic, with the observed value as a line across them.

    Parameters
    ----------
    values : mapping of rungs to numbers
        From top to bottom. ``None`` stands as "not applicable", a string as itself, infinity as "∞".
    observed : float, optional
        Larger than a rung it would refute it.
    xlabel, name : str
        Of the axis; of the observed value.
    legend : bool
        Above the Axes, if there is an observed value.
    ax : Axes, optional
        A new figure by default.

    Raises
    ------
    ValueError
        If there is no rung, or a value is NaN or not positive.

    Examples
    --------
    >>> import matplotlib.figure
    >>> ax = ladder({"global": 164.3, "scaled": 1.0, "exact": None}, observed=0.45,
    ...             ax=matplotlib.figure.Figure().subplots())
    >>> [text.get_text() for text in ax.texts]
    ['164', '1', 'not applicable']
    """
    rungs = {rung: _rung(rung, value) for rung, value in values.items()}
    line = None if observed is None else _rung("observed", observed)
    numbers = [v for v in [*rungs.values(), line] if isinstance(v, float) and math.isfinite(v)]
    if not rungs:
        raise ValueError("values is empty; pass at least one rung, as {'global': 12.0}.")
    low, high = (min(numbers), max(numbers)) if numbers else (1.0, 1.0)
    decades = max(math.log10(high / low), 0.5)
    start, end = low / 10 ** (0.15 * decades), high * 10 ** (0.25 * decades)
    with axes(ax, (6.4, 1.1 + 0.3 * len(rungs))) as ax:
        for k, value in enumerate(rungs.values()):
            _bar(ax, k, value, start, end, decades)
        if isinstance(line, float):
            ax.axvline(line, color=COLOURS[1], ls=DASHES[1], lw=1.8, zorder=1.5, label=f"{name}: {_short(line)}")
        ax.set_xscale("log")
        ax.tick_params(axis="x", which="minor", labelbottom=False)  # their names would collide
        ax.set_xlim(start, end)
        ax.set_ylim(len(rungs) - 0.4, -0.6)
        ax.set_yticks(range(len(rungs)), list(rungs))
        ax.tick_params("y", length=0)
        look(ax, xlabel=xlabel, grid=False)
        if legend and line is not None:
            ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
    return ax


def _bar(ax: Axes, k: int, value: float | str, start: float, end: float, decades: float) -> None:
    """A bar with its number, an open one to the end for infinity, or words."""
    words = value if isinstance(value, str) else _short(value)
    at = start
    if isinstance(value, float):
        infinite = math.isinf(value)
        at = start if infinite else value
        ax.barh(k, (end if infinite else value) - start, left=start, height=0.62, edgecolor=COLOURS[0], lw=0.8,
                color="white" if infinite else COLOURS[0], hatch="/////" if infinite else None)
    colour, slant = ("black", "normal") if isinstance(value, float) else ("0.4", "italic")
    ax.text(at * 10 ** (0.015 * decades), k, words, va="center", ha="left", fontsize=8.5, color=colour, style=slant,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0})


def _short(value: float) -> str:
    """Three digits, or ∞."""
    if math.isinf(value):
        return "∞"
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"${mantissa} \\times 10^{{{int(exponent)}}}$" if exponent else mantissa


def _rung(name: str, value: float | Tensor | str | None) -> float | str:
    """A number above 0, or words."""
    if value is None or isinstance(value, str):
        return value or "not applicable"
    number = float(value)
    if math.isnan(number) or number <= 0:
        raise ValueError(f"a logarithmic ladder shows factors above 0; {name} is {number}. Pass the exponential of a "
                         f"rate, or None where a rung does not apply.")
    return number


def _compared(comparison: Compared | Mapping[str, Compared]) -> tuple[Tensor, dict[str, Tensor], Tensor, str]:
    """Times, a curve a rung, observed values and what they are."""
    many = isinstance(comparison, Mapping)
    rungs = dict(comparison) if many else {fill(f"bound {comparison.statement}", 26): comparison}
    if not rungs:
        raise ValueError("the ladder is empty; pass {'global': compare(b, x, y), ...}.")
    first = next(iter(rungs.values()))
    for name, c in rungs.items():
        if not all(hasattr(c, what) for what in ("t", "observed", "bound", "kind")):
            raise TypeError(f"{name!r} must be a Comparison; got {type(c).__name__}. Write di.compare(b, x, y).")
        if c.kind != first.kind or not torch.equal(c.observed, first.observed):
            raise ValueError(f"a ladder is of bounds of the same solutions; {name!r} compares others than "
                             f"{next(iter(rungs))!r}. Draw them one by one, or over time with bounds= and observed=.")
    scale = torch.ones_like(first.observed[:1])
    if first.kind == "sensitivity":
        scale = first.observed[:1]
        if bool((scale == 0).any()):
            i = tuple((scale[0] == 0).nonzero()[0].tolist())
            raise ValueError(f"a relative distance needs two different starts; pair {i} starts at distance 0. Leave it "
                             f"out of the comparison.")
    curves = {name: (c.bound / scale).flatten(1).amax(1) if c.bound.ndim > 1 else c.bound / scale
              for name, c in rungs.items()}
    return first.t, curves, first.observed / scale, QUANTITIES.get(first.kind, "")


def _observed(observed: Tensor | None, t: Tensor) -> Tensor:
    """(T, n), float64."""
    assert observed is not None
    if observed.ndim < 1 or len(observed) != len(t):
        raise ValueError(f"observed must have shape (T, *batch) with T = {len(t)}, the number of times; got "
                         f"{tuple(observed.shape)}.")
    seen = observed.detach().to("cpu", torch.float64).reshape(len(t), -1)
    if bool(seen.isnan().any()):
        raise ValueError("observed holds NaN; leave out the samples that failed.")
    return seen


def _require_curve(name: str, curve: Tensor, t: Tensor) -> None:
    if curve.shape != t.shape or bool(curve.isnan().any()):
        raise ValueError(f"the curve {name!r} must have shape {tuple(t.shape)}, that of the times, and no NaN; got "
                         f"{tuple(curve.shape)}.")


def _curves(ax: Axes, t: Tensor, curves: Mapping[str, Tensor]) -> None:
    """Lines told apart by colour and by dashes; later ones are thinner, so that of equal ones all are seen."""
    for k, (name, curve) in enumerate(curves.items()):
        infinite = "" if bool(curve.isfinite().all()) else f" (∞ from {float(t[curve.isinf()][0]):.3g})"
        ax.plot(t, curve.detach(), ls=DASHES[k % 4], color=COLOURS[1 + k % 6], lw=max(1.6, 3.0 - 0.5 * k),
                label=name + infinite)


def _logarithmic(ax: Axes, t: Tensor, xlabel: str, ylabel: str) -> None:
    ax.set_yscale("log")
    ax.set_xlim(float(t[0]), float(t[-1]))
    look(ax, xlabel=xlabel, ylabel=ylabel)
