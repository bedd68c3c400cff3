"""Figures; matplotlib is imported inside functions only. Functions draw on the Axes they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["bound", "ratios", "trajectory"]

# Okabe and Ito's palette, told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def bound(ax: Axes, t: Tensor, bounds: dict[str, Tensor], observed: Tensor, observed_label: str = "observed") -> Axes:
    """Bounds (T,) by name against observed distances (T, n), logarithmic: the median, the range and the largest.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> import matplotlib.pyplot as plt, torch
    >>> t = torch.linspace(0, 1, 5)
    >>> ax = bound(plt.figure().subplots(), t, {"global": t.exp()}, torch.ones(5, 3))
    >>> ax.get_yscale()
    'log'
    """
    _curves(ax, t, bounds)
    shares = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    low, middle, high = torch.quantile(observed.detach().double(), shares, dim=1)
    ax.fill_between(t, low, high, color=COLOURS[0], alpha=0.2, lw=0, label=f"{observed_label}: range")
    ax.plot(t, middle, color=COLOURS[0], lw=1.8, label=f"{observed_label}: median")
    return _logarithmic(ax, t)


def ratios(ax: Axes, t: Tensor, curves: dict[str, Tensor]) -> Axes:
    """observed/bound (T,) by name, logarithmic, with a line at 1, which no curve may cross.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> import matplotlib.pyplot as plt, torch
    >>> t = torch.linspace(0, 1, 5)
    >>> [line.get_label() for line in ratios(plt.figure().subplots(), t, {"global": (-t).exp()}).lines][:1]
    ['global']
    """
    _curves(ax, t, curves)
    ax.axhline(1.0, color="0.3", lw=1.0, zorder=1)
    return _logarithmic(ax, t)


def _curves(ax: Axes, t: Tensor, curves: dict[str, Tensor]) -> None:
    """Lines told apart by colour and by dashes; later ones are thinner, so that of equal ones all are seen."""
    styles = ("-", "--", "-.", ":")
    for k, (name, curve) in enumerate(curves.items()):
        ax.plot(t, curve.detach(), styles[k % 4], color=COLOURS[1 + k % 6], lw=max(1.6, 3.0 - 0.5 * k), label=name)


def _logarithmic(ax: Axes, t: Tensor) -> Axes:
    ax.set_yscale("log")
    ax.set_xlim(float(t[0]), float(t[-1]))
    ax.grid(True, which="major", alpha=0.25)
    return ax


def trajectory(ax: Axes, t: Tensor, x: Tensor, labels: list[str]) -> Axes:
    """Coordinates x (T, n) over time; a bar below the axis marks the time that a coordinate spends at 0 (contact).

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> import matplotlib.pyplot as plt, torch
    >>> ax = trajectory(plt.figure().subplots(), torch.arange(3.0), torch.tensor([[1.0], [0.0], [0.0]]), ["x₁"])
    >>> [line.get_label() for line in ax.lines][:1]
    ['x₁']
    """
    x = x.detach()
    top = max(float(x.max()), 1e-12)
    for i, label in enumerate(labels):
        colour = COLOURS[i % len(COLOURS)]
        ax.plot(t, x[:, i], color=colour, lw=1.8, label=label)
        height = -top * (0.035 + 0.045 * i)
        contact = x[:, i] == 0
        ax.fill_between(t, height - 0.014 * top, height + 0.014 * top, where=contact.numpy(), color=colour, lw=0)
    ax.axhline(0, color="0.4", lw=0.8)
    ax.set_xlim(float(t[0]), float(t[-1]))
    ax.set_ylim(-top * (0.06 + 0.045 * len(labels)), top * 1.05)
    ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= 1.05 * top])
    ax.grid(True, alpha=0.25)
    return ax
