"""The figures of the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import plot
from ..experiment import CONVERGED, DEPTH, FLOW, LAYERS, NAMES, Along, Outcome
from ..solve import solve
from ..switching import SwitchingDP5

__all__ = ["Figure", "figures_of"]

WIDTH, HEIGHT = 12.0, 4.2  # inches; one row of panels


@dataclass(frozen=True)
class Figure:
    """A figure, the name of its file, and its title and caption for the page."""

    file: str
    title: str
    caption: str
    canvas: Any

    def save(self, path: Path) -> None:
        """Write it as PNG."""
        self.canvas.savefig(path, format="png", dpi=150)


def figures_of(outcome: Outcome) -> list[Figure]:
    """All figures of a run."""
    pairs = "Blue: {} for pairs of test images, range and median."
    return [
        Figure("flow.png", "The flow: distance of trajectories along time, against the bounds",
               f"Each panel is the flow of one trained network, followed by the switch-locating DP5. "
               f"{pairs.format('‖x(t) − y(t)‖/‖x₀ − y₀‖')} Lines: exp ∫ν by rate.",
               _bounds(outcome, FLOW, "Flow: distance of two trajectories, relative to their initial distance")),
        Figure("bounds.png", "The network: distance of trajectories over depth, against the bounds",
               f"Each panel is one trained network itself. {pairs.format('‖x_k − y_k‖/‖x₀ − y₀‖')} Lines: the product "
               f"of layer factors by rate.",
               _bounds(outcome, LAYERS, "Layers: distance of two trajectories, relative to their initial distance")),
        Figure("ratios.png", "Observed/bound along time",
               "The largest observed/bound over the pairs of test images: the flow above, the network below. At 1 a "
               "bound would be attained; above 1 it would be violated.", _ratios(outcome)),
        Figure("trajectories.png", "Features over time, with contacts",
               "The flow of each network from one test image. A bar below the axis marks the time that the feature of "
               "that colour spends on the boundary x_i = 0. Triangles are located hits (full) and leaves (open), ticks "
               "along the top switches of hidden units.", _trajectories(outcome))]


def _canvas(title: str, *, rows: int = 1, sharey: bool) -> tuple[Any, Any]:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(WIDTH, HEIGHT * (0.5 + 0.5 * rows) if rows > 1 else HEIGHT), layout="constrained")
    canvas.suptitle(title)
    return canvas, canvas.subplots(rows, len(NAMES), sharey=sharey, squeeze=False)


def _panels(outcome: Outcome, kind: str) -> list[Along]:
    return [along for along in outcome.along if along.kind == kind]


def _axis(along: Along) -> tuple[Tensor, str]:
    """Times of a flow, numbers of layers."""
    t = torch.tensor(along.t, dtype=torch.float64)
    return (t, "time t") if along.kind == FLOW else (torch.arange(len(t)), "layer k")


def _legend_below(canvas: Any, axes: list[Any]) -> None:
    """One legend for all panels."""
    by_label = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    canvas.legend(by_label.values(), by_label.keys(), loc="outside lower center", ncols=6, frameon=False)


def _bounds(outcome: Outcome, kind: str, title: str) -> Any:
    canvas, ((*axes,),) = _canvas(title, sharey=True)
    for ax, along in zip(axes, _panels(outcome, kind), strict=True):
        x, label = _axis(along)
        curves = {f"{rate} bound": torch.tensor(curve) for rate, curve in along.bounds.items()}
        plot.bound(x, bounds=curves, observed=torch.tensor(along.observed), name="image pairs", xlabel=label,
                   legend=False, ax=ax)
        ax.set_title(along.network)
        ax.locator_params("x", nbins=5)
    axes[0].set_ylabel(r"$\|x - y\| \,/\, \|x_0 - y_0\|$")
    _legend_below(canvas, axes[:1])
    return canvas


def _ratios(outcome: Outcome) -> Any:
    canvas, axes = _canvas("Largest observed/bound over pairs of test images", rows=2, sharey=True)
    for row, (kind, name) in zip(axes, ((FLOW, "flow"), (LAYERS, "layers")), strict=True):
        for ax, along in zip(row, _panels(outcome, kind), strict=True):
            x, label = _axis(along)
            curves = {f"{rate} bound": torch.tensor(curve) for rate, curve in along.ratios.items()}
            plot.ratios(x, curves=curves, xlabel=label, legend=False, ax=ax)
            ax.set_title(f"{along.network}, {name}")
            ax.locator_params("x", nbins=5)
        row[0].set_ylabel("observed/bound")
    _legend_below(canvas, [*axes[0], *axes[1]])
    return canvas


def _trajectories(outcome: Outcome) -> Any:
    canvas, ((*axes,),) = _canvas("Features of one test image along the flow; bars: contact with the boundary "
                                  "$x_i = 0$", sharey=False)
    image = outcome.data.test_x[:1].double()
    for ax, (variant, net) in zip(axes, outcome.networks.items(), strict=True):
        t = torch.linspace(0, float(net.layers.t[-1]), 401, dtype=torch.float64)
        with torch.no_grad():
            sol = solve(net.layers.flow, net.features(image), t, scheme=SwitchingDP5(), steps=CONVERGED)
        x = sol.x[:, 0]
        touches = ((x[1:] == 0) != (x[:-1] == 0)).any(0)
        chosen = torch.argsort(1e3 * touches + x.amax(0), descending=True, stable=True)[:5].sort().values
        plot.trajectory(sol, sample=0, coordinates=chosen.tolist(), labels=[f"feature {int(i)}" for i in chosen],
                        legend=False, ax=ax)
        ax.set_title(NAMES[variant])
        ax.set_xlabel(f"time t ({DEPTH} layers of length {net.h:g})")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize="small", frameon=False)
    axes[0].set_ylabel("feature $x_i(t)$")
    return canvas
