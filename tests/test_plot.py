"""Figures: what their Axes hold, that they look as they did, and what is refused.

``RENEW_BASELINE=1 pytest tests/test_plot.py`` draws the pictures in tests/baseline anew; look at them then.
"""

import builtins
import os
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import diffincl as di
from diffincl import plot

matplotlib.use("Agg")
BASELINE = Path(__file__).parent / "baseline"
ROOM = 2.0  # of 255, root mean square over the pixels: one line moved by one pixel makes 6 or more


@pytest.fixture
def ax():
    figure = Figure(figsize=(5.2, 3.0), dpi=60, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    assert not pyplot.get_fignums()


def test_the_style_keeps_what_a_backend_sets_within_it(monkeypatch):
    """Loaded by the first figure, the backend of notebooks says so by ``interactive``, on which later figures rest."""
    monkeypatch.setitem(matplotlib.rcParams, "interactive", False)
    size = matplotlib.rcParams["font.size"]
    with plot.style():
        matplotlib.rcParams["interactive"] = True
        assert matplotlib.rcParams["font.size"] != size
    assert matplotlib.rcParams["interactive"] is True
    assert matplotlib.rcParams["font.size"] == size


def spin(t, x):
    """A field that turns around (0.3, 0.2) and leads away from it."""
    A = torch.tensor([[0.3, 1.0], [-1.0, 0.3]]).to(x)
    return -(x - torch.tensor([0.3, 0.2]).to(x)) @ A.T


def down(t, x):
    return torch.ones_like(x)


def planar(g, start=(0.0, 0.5)):
    return di.solve(di.Inclusion(spin, g), torch.tensor(start, dtype=torch.float64), torch.linspace(0, 2, 81))


def boxed(scheme=None, steps=None):
    """Five coordinates in [0, 1.5], four samples, random layers."""
    torch.manual_seed(1)
    weights = [torch.randn(6, *shape, dtype=torch.float64) for shape in ((5, 5), (5,), (5, 5), (5,))]
    field = di.ResNetField(*(di.PiecewiseConstant(1.5 * w) for w in weights))
    start = torch.rand(4, 5, dtype=torch.float64)
    return di.solve(di.Inclusion(field, di.Box(0.0, 1.5)), start, torch.linspace(0, 1, 61), scheme=scheme, steps=steps)


def compared(rates=("global", "scaled")):
    torch.manual_seed(0)
    field = di.ResNetField(*(torch.randn(*shape, dtype=torch.float64) for shape in ((4, 4), (4,), (4, 4), (4,))))
    flow, t = di.Inclusion(field, di.Orthant()), torch.linspace(0, 1, 11)
    x, y = (di.solve(flow, torch.rand(9, 4, dtype=torch.float64), t) for _ in range(2))
    return {rate: di.compare(di.bounds.discrete_sensitivity(flow, t, rate=rate), x, y) for rate in rates}


def same_as_baseline(figure, name):
    """Compare with the stored picture; the error names both."""
    figure.canvas.draw()
    now = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float)
    path = BASELINE / f"{name}.png"
    if os.environ.get("RENEW_BASELINE"):
        Image.fromarray(now.astype(np.uint8)).save(path, optimize=True)
    before = np.asarray(Image.open(path).convert("RGB")).astype(float)
    assert now.shape == before.shape
    return float(np.sqrt(((now - before) ** 2).mean())) <= ROOM


def drawn_trajectory(ax):
    plot.trajectory(boxed(di.SwitchingDP5()), sample=2, ax=ax)


def drawn_euler(ax):
    plot.trajectory(boxed(), sample=2, coordinates=[0, 3], labels=["a", "b"], ax=ax)


def drawn_ball(ax):
    plot.phase(planar(di.Ball()).flow, planar(di.Ball()), xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), ax=ax)


def drawn_polyhedron(ax):
    triangle = di.Polyhedron(torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, -1.0]]), torch.tensor([1.0, 1.0, 0.5]))
    plot.phase(di.Inclusion(spin, triangle), ax=ax)


def drawn_moving(ax):
    disk = di.Moving(di.Ball(0.5), shift=lambda t: torch.stack([t.cos(), t.sin()], -1))
    plot.phase(di.Inclusion(spin, disk), t=1.0, xlim=(-1.0, 2.0), ylim=(-1.0, 2.0), ax=ax)


def drawn_function(ax):
    plot.phase(di.Inclusion(spin, di.L1(0.5)), planar(di.L1(0.5), (1.0, 0.5)), ax=ax)


def drawn_multiplier(ax):
    plot.multiplier(boxed(), sample=2, ax=ax)


def drawn_contacts(ax):
    plot.contacts(boxed(), sample=2, ax=ax)


def drawn_shares(ax):
    plot.contacts(boxed(), ax=ax)


def drawn_bound(ax):
    plot.bound(compared(), ax=ax)


def drawn_ladder(ax):
    plot.ladder({"global": 164.3, "scaled": 1.0, "exact": None, "measure": float("inf")}, observed=0.45, ax=ax)


def drawn_convergence(ax):
    n = [10, 20, 40, 80]
    plot.convergence(n, {"Euler": [1 / k for k in n], "Heun": [3 / k**2 for k in n]}, ax=ax)


def drawn_depth(ax):
    torch.manual_seed(0)
    accuracy = {f: 80 + torch.tensor([0.0, 5.0, 8.0]) + 2 * torch.randn(4, 3) for f in ("resnet", "d", "s")}
    plot.depth([2, 4, 8], accuracy, ax=ax)


def drawn_layers(ax):
    net = di.nn.ImageResNet("s", depth=3, widths=(2, 4), channels=1, image=(8, 8),
                            generator=torch.Generator().manual_seed(0))
    plot.layers(net, torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)), rate="global", ax=ax)


PICTURES = [drawn_trajectory, drawn_euler, drawn_ball, drawn_polyhedron, drawn_moving, drawn_function,
            drawn_multiplier, drawn_contacts, drawn_shares, drawn_bound, drawn_ladder, drawn_convergence, drawn_depth,
            drawn_layers]


@pytest.mark.parametrize("draw", PICTURES, ids=lambda draw: draw.__name__.removeprefix("drawn_"))
def test_the_picture_is_as_it_was(draw, ax):
    draw(ax)
    assert same_as_baseline(ax.figure, draw.__name__.removeprefix("drawn_"))


def test_every_baseline_is_of_a_picture():
    assert {path.stem for path in BASELINE.glob("*.png")} == {d.__name__.removeprefix("drawn_") for d in PICTURES}


def test_a_moved_line_is_noticed(ax):
    drawn_convergence(ax)
    line = ax.lines[0]
    line.set_ydata(1.25 * line.get_ydata())
    assert not same_as_baseline(ax.figure, "convergence") or os.environ.get("RENEW_BASELINE")
    if os.environ.get("RENEW_BASELINE"):  # put the true one back
        line.set_ydata(line.get_ydata() / 1.25)
        same_as_baseline(ax.figure, "convergence")


@pytest.mark.parametrize("draw", PICTURES, ids=lambda draw: draw.__name__)
def test_the_legend_covers_no_axes(draw, ax):
    draw(ax)
    if ax.get_legend() is None:
        return
    ax.figure.canvas.draw()
    inside, box = ax.get_window_extent(), ax.get_legend().get_window_extent()
    assert box.x0 >= inside.x1 - 1 or box.y0 >= inside.y1 - 1


def test_a_trajectory_reaches_its_bound_at_the_switch_and_shows_all(ax):
    sol = boxed(di.SwitchingDP5())
    plot.trajectory(sol, sample=2, coordinates=[1, 2], ax=ax)
    mine = [s for s in sol.switches.of(2) if s.kind[:3] in ("hit", "lea") and s.index in (1, 2)]
    assert mine
    for s in mine:
        line = ax.lines[[1, 2].index(s.index)]
        place = list(line.get_xdata()).index(s.t)
        assert line.get_ydata()[place] == (1.5 if s.kind.endswith("upper") else 0.0)
    marks = {line.get_label(): len(line.get_xdata()) for line in ax.lines}
    assert marks["hits"] == sum(s.kind.startswith("hit") for s in mine)
    assert marks.get("leaves", 0) == sum(s.kind.startswith("leave") for s in mine)
    assert marks["hidden units switch"] == sum(s.kind.startswith("unit") for s in sol.switches.of(2))


def bars(ax):
    """Spans in time of the bars below the curves, by row."""
    rows = [c.get_paths() for c in ax.collections if c.get_paths()]
    return [[p.get_extents().get_points()[:, 0].tolist() for p in row] for row in rows]


def test_contact_is_shaded_from_hit_to_leave_and_between_save_times(ax):
    flow = di.Inclusion(lambda t, x: torch.where(t < 2, 1.0, -1.0) * torch.ones_like(x), di.Orthant())
    sol = di.solve(flow, torch.tensor([1.0]), torch.linspace(0, 4, 9))  # 1, 0.5, 0, 0, 0, 0.5, …
    plot.trajectory(sol, ax=ax)
    assert bars(ax) == [[[1.0, 2.0]]]
    assert ax.lines[0].get_ydata().tolist() == sol.x[:, 0].tolist()
    assert all(tick >= 0 for tick in ax.get_yticks())


@pytest.mark.parametrize(("start", "push", "span"), [(1.0, 1.0, [1.0, 3.0]), (0.0, 1.0, [0.0, 3.0]), (0.0, -1.0, None)])
def test_located_contact(start, push, span, ax):
    field = di.ResNetField(*(torch.zeros(1, 1), torch.zeros(1), torch.zeros(1, 1), torch.tensor([-push])))
    sol = di.solve(di.Inclusion(field, di.Orthant()), torch.tensor([start]), [0.0, 1.4, 3.0], scheme=di.SwitchingDP5())
    plot.trajectory(sol, ax=ax)
    assert bars(ax) == ([] if span is None else [[pytest.approx(span, abs=1e-5)]])


def test_upper_contact_is_hatched_and_lower_one_filled(ax):
    for push, hatch in ((1.0, None), (-1.0, "/////")):
        ax.clear()
        sol = di.solve(di.Inclusion(lambda t, x, push=push: push + 0 * x, di.Box(0.0, 1.0)), torch.tensor([0.5]),
                       torch.linspace(0, 1, 11))
        plot.trajectory(sol, ax=ax)
        (shown,) = [c for c in ax.collections if c.get_paths()]
        assert shown.get_hatch() == hatch
        assert ax.get_legend().get_texts()[-1].get_text() == ("at upper bound" if hatch else "at lower bound")


def test_sets_without_bounds_show_contact_by_their_multiplier(ax):
    sol = planar(di.Ball())
    plot.trajectory(sol, ax=ax)
    touching = (sol.multiplier != 0).any(-1).nonzero()[:, 0]
    assert bars(ax) == [[[pytest.approx(float(sol.t[touching[0] + 1])), pytest.approx(float(sol.t[touching[-1] + 1]))]]]
    moving = di.Inclusion(down, di.Moving(di.Orthant(), shift=lambda t: -t / 4))
    ax.clear()
    plot.trajectory(di.solve(moving, torch.tensor([1.0, 9.0]), torch.linspace(0, 2, 9)), ax=ax)
    assert bars(ax) == [[[1.5, 2.0]]]  # of x₁ alone, which meets −t/4 between 1.25 and 1.5


def test_of_many_coordinates_the_busiest_are_shown_and_the_legend_says_so(ax):
    speed = torch.arange(12.0) / 12
    sol = di.solve(di.Inclusion(lambda t, x: speed + 0 * x, di.Whole()), torch.ones(12), [0.0, 1.0])
    plot.trajectory(sol, ax=ax)
    assert [line.get_label() for line in ax.lines] == [f"$x_{{{i}}}$" for i in range(6, 13)]
    assert ax.get_legend().get_title().get_text() == "7 of 12 coordinates"


def test_the_portrait_of_a_box_has_its_outline_cones_and_velocities(ax):
    plot.phase(di.Inclusion(down, di.Box(0.0, 1.0)), ax=ax, xlim=(-0.5, 1.5), ylim=(-0.5, 1.5))
    (edge,) = [torch.as_tensor(line.get_xydata()) for line in ax.lines if line.get_gid() == "boundary"]
    on_boundary = torch.minimum(edge, 1 - edge).abs().amin(-1)
    assert float(on_boundary.max()) < 1e-12
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert float((edge - torch.tensor(corner)).norm(dim=-1).min()) < 1e-12
    (cones,) = [c for c in ax.collections if c.get_gid() == "cones"]
    centres = {tuple(round(v) for v in p.vertices[-2].tolist()) for p in cones.get_paths()}
    assert len(cones.get_paths()) == 4
    assert centres == {(0, 0), (0, 1), (1, 0), (1, 1)}
    projected = ax.collections[-1]
    for (x, y), u, v in zip(projected.get_offsets().tolist(), projected.U, projected.V, strict=True):
        assert (abs(x) < 1e-9) <= (u >= -1e-9)  # nothing leads out at the left and at the bottom
        assert (abs(y) < 1e-9) <= (v >= -1e-9)


def test_wedges_are_normal_cones():
    from diffincl.plot.sets import cones_of

    box, points = di.Box(0.0, 1.0), torch.tensor([[0.0, 0.0], [0.5, 0.0], [1.0, 1.0]], dtype=torch.float64)
    spans = [c.spans for c in cones_of(box, points, 0.0, 0.1, points)]
    assert spans[0] == [pytest.approx((180.0, 270.0), abs=1.1)]
    assert spans[1] == [pytest.approx((270.0, 270.0), abs=0.6)]
    assert [(a % 360, b % 360) for a, b in spans[2]] in ([pytest.approx((0, 90), abs=1.1)],
                                                        [pytest.approx((359.5, 90.5), abs=1.1)])


@pytest.mark.parametrize("C", [di.Orthant(), di.Ball(0.7, torch.tensor([0.2, 0.1])), di.OutsideBall(0.6), di.Simplex(),
                               di.HalfSpace(torch.tensor([1.0, 2.0]), 0.3), di.Box(-0.4, 0.3)], ids=str)
def test_outlines_lie_on_the_boundary(C):
    from diffincl.plot.sets import outline_of

    outline = outline_of(C, (-1.0, 1.0, -1.0, 1.0), 0.0, torch.zeros(0, dtype=torch.float64))
    assert outline.edges
    for edge in outline.edges:
        assert float((edge - C.project(edge)).norm(dim=-1).max()) < 1e-12
        nudged = edge + 1e-6 * torch.randn(200, *edge.shape, generator=torch.Generator().manual_seed(0))
        outside = (nudged - C.project(nudged)).norm(dim=-1) > 1e-9
        assert bool(outside.any(0).all())  # so none lies within


def test_a_portrait_holds_its_trajectories_and_equal_scales(ax):
    sol = planar(di.Ball())
    plot.phase(sol.flow, sol, ax=ax)
    start, end = [line.get_xydata()[0] for line in ax.lines if line.get_marker() in "os"][-2:]
    assert start.tolist() == sol.x[0].tolist()
    assert end.tolist() == sol.x[-1].tolist()
    assert ax.get_aspect() == 1.0
    segments = [c.get_segments() for c in ax.collections if hasattr(c, "get_segments") and len(c.get_segments()) == 1]
    assert any(np.array_equal(s[0], sol.x.numpy()) for s in segments)


def test_the_strip_and_the_raster_hold_multipliers_and_sides(ax):
    sol = boxed()
    plot.multiplier(sol, sample=1, coordinates=[4, 0], ax=ax)
    assert np.array_equal(ax.collections[0].get_array(), sol.multiplier[:, 1, [4, 0]].T.numpy())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["$x_{5}$", "$x_{1}$"]
    low, high = ax.collections[0].get_clim()
    assert -low == high == float(sol.multiplier[:, 1, [4, 0]].abs().max())
    ax.clear()
    plot.contacts(sol, sample=1, ax=ax)
    assert np.array_equal(ax.collections[0].get_array(), sol.active[:, 1].T.numpy())
    ax.clear()
    plot.contacts(sol, ax=ax)
    assert np.allclose(ax.collections[0].get_array(), (sol.active != 0).double().mean(1).T.numpy())


def test_a_comparison_is_drawn_relative_to_its_start(ax):
    ladder = compared()
    plot.bound(ladder, ax=ax)
    c = ladder["global"]
    curves = {line.get_label(): torch.as_tensor(line.get_ydata()) for line in ax.lines}
    relative = c.observed / c.observed[0]
    assert torch.allclose(curves["global"], (c.bound / c.observed[0]).amax(1))
    assert torch.allclose(curves["observed: median"], relative.quantile(0.5, dim=1))
    band = ax.collections[0].get_paths()[0].get_extents().get_points()[:, 1]
    assert band.tolist() == pytest.approx([float(relative.min()), float(relative.max())])
    assert ax.get_yscale() == "log"


def test_methods_draw_the_obvious_figure(ax):
    sol = boxed()
    assert sol.plot(sample=0, coordinates=[1], labels=["one"], ax=ax) is ax
    assert ax.lines[0].get_label() == "one"
    ax.clear()
    c = compared(["scaled"])["scaled"]
    assert c.plot(ax=ax) is ax
    assert ax.lines[0].get_label().replace("\n", " ") == f"bound {c.statement}"


def test_a_bound_that_is_infinite_says_from_when(ax):
    t = torch.linspace(0, 1, 5)
    plot.bound(t, bounds={"global": torch.tensor([1.0, 2.0, torch.inf, torch.inf, torch.inf])}, observed=torch.ones(5),
               ax=ax)
    assert ax.lines[0].get_label() == "global (∞ from 0.5)"


def test_ratios_have_a_line_at_one(ax):
    t = torch.linspace(0, 1, 5)
    plot.ratios(t, curves={"scaled": (-t).exp()}, ax=ax)
    assert ax.lines[0].get_ydata().tolist() == (-t).exp().tolist()
    assert list(ax.lines[1].get_ydata()) == [1.0, 1.0]


def test_no_rung_is_dropped(ax):
    values = {"a": 2e7, "b": None, "c": float("inf"), "d": "width > 16", "e": torch.tensor(3.0)}
    plot.ladder(values, observed=2.0, ax=ax)
    assert [text.get_text() for text in ax.texts] == [r"$2 \times 10^{7}$", "not applicable", "∞", "width > 16", "3"]
    ends = [bar.get_x() + bar.get_width() for bar in ax.patches]
    assert ends[0] == pytest.approx(2e7)
    assert ends[2] == pytest.approx(3.0)
    assert ends[1] >= ax.get_xlim()[1]
    assert list(ax.lines[0].get_xdata()) == [2.0, 2.0]


def test_triangles_have_the_slope_of_their_order_and_cover_no_data(ax):
    n = torch.tensor([10.0, 20, 40, 80, 160])
    lines = {"one": 1 / n, "flat": 0 * n + 1e-3, "five": 1e3 / n**5}
    plot.convergence(n, lines, orders=(1, 2.5, 5), ax=ax)
    points = torch.cat([torch.stack([n, y], -1) for y in lines.values()]).log10()
    for order, triangle in zip((1, 2.5, 5), ax.patches, strict=True):
        a, b, top = torch.as_tensor(triangle.get_xy()[:3]).log10()
        assert float((top[1] - b[1]) / (b[0] - a[0])) == pytest.approx(order)
        within = (points[:, 0] >= a[0] - 0.05) & (points[:, 0] <= b[0] + 0.05)
        assert bool((points[within, 1] > top[1]).all())
        assert ax.get_ylim()[0] < 10 ** float(a[1])


def test_nine_families_are_told_apart(ax):
    """Each by its colour; bars of many families are faint, since they lie over each other."""
    plot.spread([1, 2], {str(k): [(k, 0.5), (k, None)] for k in range(9)}, ax=ax)
    assert len({bars.lines[0].get_color() for bars in ax.containers}) == 9
    assert {bars.lines[2][0].get_alpha() for bars in ax.containers} == {0.4}
    assert {bars.lines[0].get_alpha() for bars in ax.containers} == {None}


def test_depth_shows_mean_and_spread_of_the_seeds_that_are_known(ax):
    plot.depth([2, 4], {"s": torch.tensor([[90.0, 94.0], [92.0, torch.nan]]), "d": torch.tensor([80.0, 81.0])}, ax=ax)
    s, d = ax.containers
    assert s.lines[0].get_ydata().tolist() == [91.0, 94.0]
    ends = [segment[:, 1].tolist() for segment in s.lines[2][0].get_segments()]
    assert ends[0] == pytest.approx([91 - 2**0.5, 91 + 2**0.5])
    assert ends[1] == [94.0, 94.0]
    assert d.lines[0].get_ydata().tolist() == [80.0, 81.0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2", "4"]


@pytest.mark.parametrize("variant", ["resnet", "d", "s"])
@pytest.mark.parametrize("rate", ["global", "best"])
def test_layers_end_where_the_network_does(variant, rate, ax):
    g = torch.Generator().manual_seed(0)
    net = di.nn.ImageResNet(variant, depth=2, widths=(2, 3), channels=1, image=(4, 4), generator=g)
    before = {name: v.clone() for name, v in net.state_dict().items()}
    x = torch.rand(6, 1, 4, 4, generator=g)
    states, factors = net.states(x), net.factors(rate=rate)
    assert net.training
    assert all(torch.equal(v, before[name]) for name, v in net.state_dict().items())
    net.eval()
    assert torch.equal(net.close(net.mean(states[-1][-1])), net.argument(x))
    assert [len(s) for s in states] == [len(f) for f in factors] == [3, 3]
    for stage, factor in zip(net.stages, (factors[0], factors[1] / factors[1][0]), strict=True):
        together = float(stage.factor(rate=rate).value)  # "best" looks at the layers together, too
        assert together <= float(factor[-1]) * (1 + 1e-9)
        assert rate == "best" or float(factor[-1]) == pytest.approx(together, rel=1e-9)
    for s, f in zip(states, factors, strict=True):
        moved = (s[:, :3] - s[:, 3:]).flatten(2).norm(dim=-1)
        start = (states[0][0, :3] - states[0][0, 3:]).flatten(1).norm(dim=-1)
        assert bool((moved <= f[:, None] * start * (1 + 1e-5)).all())
    plot.layers(net, x, rate=rate, ax=ax)
    assert ax.lines[0].get_ydata().tolist() == states[0].double().flatten(2).norm(dim=-1).quantile(0.5, dim=1).tolist()


def test_layers_of_a_net_of_blocks(ax):
    net = di.nn.BlockNet(4, 2, variant="cpl", width=3, depth=4, generator=torch.Generator().manual_seed(0))
    x = torch.randn(5, 4)
    assert torch.equal(net.states(x)[0][-1], net.argument(x))
    plot.layers(net, x, ax=ax)
    assert len(ax.lines[0].get_ydata()) == 5


def test_an_animation_moves(tmp_path):
    disk = di.Moving(di.Ball(0.5), shift=lambda t: torch.stack([t.cos(), t.sin()], -1))
    flow = di.Inclusion(lambda t, x: 0 * x, disk)
    sol = di.solve(flow, torch.tensor([[1.0, 0.0], [1.2, 0.1]]), torch.linspace(0, 2, 41))
    animation = plot.animate(sol, path=tmp_path / "disk.gif", frames=4, fps=10)
    with Image.open(tmp_path / "disk.gif") as gif:
        pictures = []
        for k in range(gif.n_frames):
            gif.seek(k)
            pictures.append(np.asarray(gif.convert("RGB")).astype(float))
        assert gif.info["duration"] == 100
    assert len(pictures) == 4
    assert all(np.abs(a - b).mean() > 0.5 for a, b in pairwise(pictures))
    (ax,) = animation._fig.axes  # the last frame: the points where they ended, the disk where it is
    points = next(line for line in ax.lines if line.get_marker() == "o").get_xydata()
    assert points.tolist() == pytest.approx(sol.x[-1].double().numpy(), abs=1e-6)
    edge = next(torch.as_tensor(line.get_xydata()) for line in ax.lines if line.get_gid() == "boundary")
    centre = torch.tensor([2.0, 2.0], dtype=torch.float64)
    centre = torch.stack([centre[0].cos(), centre[1].sin()])
    assert (edge - centre).norm(dim=-1).numpy() == pytest.approx(0.5, abs=1e-6)
    assert "<img" in plot.animate(sol, frames=2).to_jshtml()


def test_a_new_figure_is_made_where_no_axes_are_given_and_closed_where_drawing_fails(monkeypatch):
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "show", lambda: pytest.fail("a figure was shown"))
    ax = plot.ladder({"a": 2.0})
    assert pyplot.get_fignums() == [ax.figure.number]
    pyplot.close(ax.figure)
    monkeypatch.setattr("diffincl.plot.ladders._bar", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plot.ladder({"a": 2.0})


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    true_import = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return true_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        plot.ladder({"a": 2.0})
    with pytest.raises(ImportError, match="pip install matplotlib"):
        plot.animate(planar(di.Ball()))


def cubic():
    return di.solve(di.Inclusion(down, di.Orthant()), torch.ones(3), [0.0, 1.0])


REFUSED = [
    (lambda ax: plot.trajectory(boxed(), ax=ax), ValueError, r"batch, whose shape is \(4,\).*Pass sample=0"),
    (lambda ax: plot.trajectory(boxed(), sample=4, ax=ax), ValueError, "got 4"),
    (lambda ax: plot.trajectory(boxed(), sample=(0, 1), ax=ax), ValueError, r"got \(0, 1\)"),
    (lambda ax: plot.trajectory(cubic(), sample=0, ax=ax), ValueError, "Leave it out"),
    (lambda ax: plot.trajectory(cubic(), coordinates=[3], ax=ax), ValueError, "below 3.*got 3"),
    (lambda ax: plot.trajectory(cubic(), coordinates=[], ax=ax), ValueError, "empty"),
    (lambda ax: plot.trajectory(cubic(), labels=["a"], ax=ax), ValueError, "each of the 3"),
    (lambda ax: plot.trajectory(cubic().x, ax=ax), TypeError, "must be a Solution"),
    (lambda ax: plot.trajectory(cubic(), ax=ax.figure), TypeError, "must be matplotlib Axes"),
    (lambda ax: plot.phase(cubic().flow, cubic(), ax=ax), ValueError, r"2 coordinates.*\(3,\).*plot.trajectory"),
    (lambda ax: plot.phase(cubic(), ax=ax), TypeError, r"phase\(sol.flow, sol\)"),
    (lambda ax: plot.phase(boxed().flow, ax=ax), ValueError, r"field F\(t, x\) of states \(n, 2\)"),
    (lambda ax: plot.phase(planar(di.Ball()).flow, xlim=(1, 0), ax=ax), ValueError, "xlim must be"),
    (lambda ax: plot.multiplier(boxed(), ax=ax), ValueError, "sample must name"),
    (lambda ax: plot.contacts(planar(di.L1(), (1.0, 0.5)), ax=ax), ValueError, "those with a set"),
    (lambda ax: plot.bound(torch.arange(3.0), ax=ax), ValueError, "bounds="),
    (lambda ax: plot.bound({}, ax=ax), ValueError, "empty"),
    (lambda ax: plot.bound({"a": 3}, ax=ax), TypeError, "must be a Comparison"),
    (lambda ax: plot.bound(torch.arange(3.0), bounds={"a": torch.ones(2)}, observed=torch.ones(3), ax=ax), ValueError,
     "curve 'a'"),
    (lambda ax: plot.bound(torch.arange(3.0), bounds={}, observed=torch.ones(2), ax=ax), ValueError, "T = 3"),
    (lambda ax: plot.bound(torch.arange(3.0), bounds={}, observed=torch.ones(3) * torch.nan, ax=ax), ValueError, "NaN"),
    (lambda ax: plot.ratios(torch.arange(3.0), curves={"a": torch.ones(2)}, ax=ax), ValueError, "curve 'a'"),
    (lambda ax: plot.ladder({}, ax=ax), ValueError, "empty"),
    (lambda ax: plot.ladder({"a": -1.0}, ax=ax), ValueError, "a is -1.0.*exponential"),
    (lambda ax: plot.ladder({"a": float("nan")}, ax=ax), ValueError, "a is nan"),
    (lambda ax: plot.convergence([1, 2], {"a": [0.1, 0.0]}, ax=ax), ValueError, "errors of 'a'.*entry 1 is 0.0"),
    (lambda ax: plot.convergence([1, 2], {"a": [0.1]}, ax=ax), ValueError, "one length"),
    (lambda ax: plot.convergence([1, 2], {}, ax=ax), ValueError, "map schemes to errors"),
    (lambda ax: plot.convergence([1, 2], {"a": [0.1, 0.2]}, orders=(0,), ax=ax), ValueError, r"orders\[0\]"),
    (lambda ax: plot.depth([1, 2], {"a": torch.ones(3)}, ax=ax), ValueError, r"\(seeds, 2\)"),
    (lambda ax: plot.depth([0, 2], {"a": torch.ones(2)}, ax=ax), ValueError, r"depths\[0\]"),
    (lambda ax: plot.spread([0, 1], {"a": [None]}, ax=ax), ValueError, "2 entries"),
    (lambda ax: plot.layers(torch.nn.Linear(2, 2), torch.ones(1, 2), ax=ax), TypeError, "Linear"),
    (lambda ax: plot.animate(cubic(), ax=ax), ValueError, "2 coordinates"),
    (lambda ax: plot.animate(planar(di.Ball()), path="a.webm", ax=ax), ValueError, r"\.gif or \.mp4"),
    (lambda ax: plot.animate(planar(di.Ball()), path="nowhere/a.gif", ax=ax), FileNotFoundError, "nowhere"),
    (lambda ax: plot.animate(planar(di.Ball()), frames=0, ax=ax), ValueError, "frames"),
]


@pytest.mark.parametrize(("call", "error", "words"), REFUSED, ids=[str(k) for k in range(len(REFUSED))])
def test_bad_input_is_refused_and_nothing_drawn(call, error, words, ax):
    with pytest.raises(error, match=words):
        call(ax)
    assert not ax.lines
    assert not ax.patches
    assert not ax.collections


def test_an_mp4_without_ffmpeg_points_at_gif(monkeypatch, tmp_path):
    from matplotlib.animation import FFMpegWriter

    monkeypatch.setattr(FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(RuntimeError, match=r"ffmpeg.*\.gif"):
        plot.animate(planar(di.Ball()), path=tmp_path / "a.mp4")


def test_pairs_that_start_together_have_no_relative_distance():
    flow, t = di.Inclusion(lambda t, x: -x, di.Orthant(), lipschitz=1.0), torch.linspace(0, 1, 3)
    x = di.solve(flow, torch.ones(2, 1), t)
    with pytest.raises(ValueError, match=r"pair \(0,\) starts at distance 0"):
        di.compare(di.bounds.discrete_sensitivity(flow, t), x, x).plot()
