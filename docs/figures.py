"""Draw the pictures of the documentation into docs/pictures: python docs/figures.py (half a minute)."""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import diffincl as di

HERE = Path(__file__).parent
F64 = torch.float64
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
         "axes.titlesize": 11,
         "legend.frameon": True, "legend.edgecolor": "none",
         "legend.framealpha": 0.9, "axes.axisbelow": True, "lines.linewidth": 2, "savefig.dpi": 160,
         "svg.hashsalt": "diffincl"}

A, CENTRE = torch.tensor([[0.3, 2.0], [-2.0, 0.3]], dtype=F64), torch.tensor([0.8, 0.5], dtype=F64)
START, END = torch.tensor([2.0, 1.0], dtype=F64), 4.0


def spiral() -> di.Inclusion:
    """x' = −A(x − c) in the quadrant: it hits and leaves both axes."""
    return di.Inclusion(lambda t, x: (x - CENTRE) @ A.T, di.Orthant())


def exact(t: Tensor) -> di.Solution:
    """Its solution, the switches located."""
    return di.solve(spiral(), START, t, scheme=di.SwitchingDP5(), steps=di.Adaptive(1e-10, 1e-11))


def first() -> Figure:
    """What the library is about: layers and flow, contact, bounds."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.9), layout="constrained")
    portrait(left, layers=40)
    contact(middle)
    ladder_along(right)
    return figure


def portrait(ax: Axes, layers: int) -> None:
    """The quadrant with the field, the flow, and a network."""
    t = torch.linspace(0, END, 801, dtype=F64)
    x = exact(t).x
    network = di.solve(spiral(), START, torch.linspace(0, END, layers + 1, dtype=F64)).x
    grid = torch.linspace(0.15, 2.25, 8, dtype=F64)
    points = torch.cartesian_prod(grid, grid)
    v = -spiral().field(torch.tensor(0.0), points)
    v = 0.13 * v / v.norm(dim=-1, keepdim=True)
    ax.quiver(*points.T, *v.T, color="0.72", angles="xy", scale_units="xy", scale=1, width=0.005, zorder=1)
    ax.plot(*x.T, color=BLUE, label="flow", zorder=3)
    rests = (x == 0).any(-1, keepdim=True)
    ax.plot(*torch.where(rests, x, torch.nan).T, color=ORANGE, lw=5, solid_capstyle="butt",
            label="at rest on the boundary", zorder=4, clip_on=False)
    ax.plot(*network.T, "o", color=GREEN, ms=3.6, label=f"network of {layers} layers", zorder=5, clip_on=False)
    ax.plot(*START, "o", color="black", ms=6, zorder=6)
    ax.set(xlim=(0, 2.4), ylim=(0, 2.4), xlabel="x₁", ylabel="x₂", aspect="equal",
           title="A network is a projected Euler method")
    ax.grid(False)
    ax.legend(loc="upper right", fontsize=8.5)


def contact(ax: Axes) -> None:
    """Coordinates and the multiplier over time."""
    t = torch.linspace(0, END, 801, dtype=F64)
    sol = exact(t)
    for i, colour in enumerate((BLUE, GREEN)):
        ax.plot(t, sol.x[:, i], color=colour, label=f"x{'₁₂'[i]}(t)")
        ax.fill_between(t, -0.08, 2.3, where=sol.x[:, i] == 0, color=colour, alpha=0.13, lw=0)
    force = sol.multiplier.norm(dim=-1)
    ax.plot(t[1:], torch.where(force > 0, force, torch.nan), color=ORANGE, ls="--", label="force that holds it, ‖n(t)‖")
    ax.set(xlim=(0, END), ylim=(-0.08, 2.3), xlabel="t", title="Contact is found, not stepped over")
    ax.legend(loc="upper right", fontsize=8.5)


def random_network(kind: str, width: int, layers: int = 10) -> di.Inclusion:
    """Layers with entries N(0, 1/width) on the orthant."""
    generator = torch.Generator().manual_seed(0)
    A1, A2 = (torch.randn(layers, width, width, generator=generator, dtype=F64) / width**0.5 for _ in range(2))
    b1, b2 = (0.3 * torch.randn(layers, width, generator=generator, dtype=F64) for _ in range(2))
    A1, b1, A2, b2 = (di.PiecewiseConstant(w) for w in (A1, b1, A2.abs() if kind == "d" else A2, b2))
    if kind == "s":
        return di.Inclusion(di.ResNetSField(A1, b1, b2), di.Orthant())
    return di.Inclusion((di.ResNetDField if kind == "d" else di.ResNetField)(A1, b1, A2, b2), di.Orthant())


def ladder_along(ax: Axes) -> None:
    """Bounds along depth against pairs."""
    flow, t = random_network("resnet", 16), torch.linspace(0, 1, 11, dtype=F64)
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(2000, 16, generator=generator, dtype=F64)
    y = (x + 0.1 * torch.randn(2000, 16, generator=generator, dtype=F64)).clamp(min=0)
    pairs = [di.solve(flow, start, t) for start in (x, y)]
    layers = torch.arange(11)
    for rate, colour, style, name in (("global", ORANGE, "-", "∏(1 + h‖A₁‖‖A₂‖)"), ("centred", YELLOW, "--", "centred"),
                                      ("step", PINK, "-.", "factor of each layer")):
        b = di.bounds.discrete_sensitivity(flow, t, rate=rate)
        ax.plot(layers, b.curve, style, color=colour, label=name)
        c = di.compare(b, *pairs)
        assert c.holds
    seen = c.observed / c.observed[0]
    ax.fill_between(layers, seen.amin(1), seen.amax(1), color=BLUE, alpha=0.25, lw=0, label="2 000 pairs of inputs")
    ax.plot(layers, seen.median(1).values, color=BLUE)
    ax.set(yscale="log", xlim=(0, 10), xlabel="layer", title="Distance of two inputs, and bounds of it")
    ax.set_yticks([0.3, 1, 3, 10], ["0.3", "1", "3", "10"])
    ax.minorticks_off()
    ax.legend(loc="upper left", fontsize=8.5)


def trajectory() -> Figure:
    """Contact, for the tutorial."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", width_ratios=(1, 1.4))
    portrait(left, layers=40)
    contact(right)
    return figure


def orders() -> Figure:
    """Clamping after the step beside schemes that know the set."""
    figure, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    end = exact(torch.tensor([0.0, END], dtype=F64)).x[-1]
    numbers = [round(25 * 2**k) for k in range(8)]
    methods: dict[str, Callable[[int], Tensor]] = {"Heun, clamped after the step": clamped_heun} | {
        type(s).__name__: lambda n, s=s: steps(s, n) for s in (di.ForwardEuler(), di.ProxHeun(), di.ARS222())}
    for (name, method), colour, mark in zip(methods.items(), (ORANGE, YELLOW, BLUE, GREEN), "so^v", strict=True):
        errors = [max(float((method(n + k) - end).norm()) for k in range(5)) for n in numbers]
        ax.loglog(numbers, errors, marker=mark, ms=5, color=colour, label=name)
    ax.loglog(numbers, [12 / n for n in numbers], color="0.6", lw=1, ls=":")
    ax.loglog(numbers, [60 / n**2 for n in numbers], color="0.6", lw=1, ls=":")
    ax.text(numbers[-1], 12 / numbers[-1], " order 1", color="0.4", va="center")
    ax.text(numbers[-1], 60 / numbers[-1] ** 2, " order 2", color="0.4", va="center")
    ax.set(xlabel="steps", ylabel="error at the end")
    ax.legend(loc="lower left", fontsize=9)
    return figure


def steps(scheme: di.ForwardEuler | di.ProxHeun | di.ARS222, n: int) -> Tensor:
    """The spiral at its end after n steps."""
    return di.solve(spiral(), START, torch.linspace(0, END, n + 1, dtype=F64), scheme=scheme).x[-1]


def clamped_heun(n: int) -> Tensor:
    """Heun's method with max(x, 0) after each step."""
    x, h = START, END / n
    for _ in range(n):
        k = (CENTRE - x) @ A.T
        x = (x + h * (k + (CENTRE - x - h * k) @ A.T) / 2).clamp(min=0)
    return x


def ladder() -> Figure:
    """Bound/worst pair for the rungs, from benchmarks/."""
    sys.path.insert(0, str(HERE.parent / "benchmarks"))
    from stability.nets import random_net
    from stability.worst import worst_over_biases, worst_pair

    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.2), layout="constrained", sharey=True)
    rungs = {"global": "R1 global", "centred": "R2 centred", "scaled": "R3 scaled", "exact": "R4 exact",
             "step": "R8 step"}
    for ax, kind, title in zip(axes, ("resnet", "d", "s"), ("ResNet", "ResNet-D", "ResNet-S"), strict=True):
        net = random_net(kind, 12, False, torch.Generator().manual_seed(0))
        worst = max(worst_pair(net, flow=False, seed=0, pairs=8, iterations=60),
                    worst_over_biases(net, flow=False, restarts=16, sweeps=30, seed=0))
        ratios = [float(di.bounds.discrete_sensitivity(net.flow(), net.t, rate=r).curve[-1]) / worst for r in rungs]
        bars = ax.barh(list(rungs.values()), ratios, color=[ORANGE, YELLOW, SKY, GREEN, BLUE], height=0.7, left=0)
        ax.bar_label(bars, [f"{r:.3g}" for r in ratios], padding=3, fontsize=9)
        ax.set(xscale="log", xlim=(0.9, 100), title=title, xlabel="bound / worst pair found")
        ax.set_xticks([1, 10, 100], ["1", "10", "100"])
        ax.grid(axis="y", visible=False)
    axes[0].invert_yaxis()
    return figure


def dry_friction() -> Figure:
    """A g that is no indicator, and a set that moves."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    t = torch.linspace(0, 12, 1201, dtype=F64)
    friction = di.Inclusion(lambda t, x: x - 2 * torch.sin(t), di.L1(1.0))
    left.plot(t, di.solve(friction, torch.zeros(1, dtype=F64), t, scheme=di.ARS222()).x, color=BLUE)
    left.set(xlabel="t", title="Dry friction: it sticks until the force exceeds it", xlim=(0, 12))
    play = di.Inclusion(lambda t, x: torch.zeros_like(x), di.Moving(di.Box(-0.5, 0.5), shift=lambda t: wave(t)))
    x = di.solve(play, torch.zeros(1, dtype=F64), t).x[:, 0]
    right.plot(wave(t), x, color=GREEN)
    right.set(xlabel="input u(t)", ylabel="x(t)", title="A moving box: hysteresis")
    return figure


def wave(t: Tensor) -> Tensor:
    """A wave that grows."""
    return 0.16 * t * torch.sin(2 * math.pi * t / 4)


PICTURES = {"first": first, "trajectory": trajectory, "orders": orders, "ladder": ladder, "beyond": dry_friction}


def main() -> None:
    """Draw all, or those that are named."""
    matplotlib.use("Agg")
    plt.rcParams.update(STYLE)
    torch.set_num_threads(1)
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name]().savefig(HERE / "pictures" / f"{name}.png", metadata={"Software": None})


if __name__ == "__main__":
    main()
