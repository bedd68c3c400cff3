"""Figures say what they show."""

import matplotlib
import pytest
import torch

from diffincl import plot

matplotlib.use("Agg")


@pytest.fixture
def ax():
    from matplotlib.figure import Figure

    return Figure().subplots()


def test_bound_shows_every_curve_and_the_range_of_the_observed(ax):
    t = torch.linspace(0, 1, 5)
    observed = torch.stack([torch.ones(5), 2 * torch.ones(5), 4 * torch.ones(5)], dim=1)
    plot.bound(ax, t, {"global": t.exp(), "scaled": torch.ones(5)}, observed, "pairs")
    assert [line.get_label() for line in ax.lines] == ["global", "scaled", "pairs: median"]
    assert ax.lines[2].get_ydata().tolist() == [2.0] * 5
    low, high = ax.collections[0].get_paths()[0].get_extents().get_points()[:, 1]
    assert (low, high) == (1.0, 4.0)
    assert ax.get_yscale() == "log"


def test_trajectory_marks_contact_where_the_coordinate_is_zero(ax):
    t = torch.arange(5.0)
    x = torch.tensor([[2.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    plot.trajectory(ax, t, x, ["a", "b"])
    spans = [p.get_extents().get_points()[:, 0].tolist() for c in ax.collections for p in c.get_paths()]
    assert spans == [[2.0, 3.0]]
    assert ax.get_xlim() == (0.0, 4.0)
    assert all(tick >= 0 for tick in ax.get_yticks())
