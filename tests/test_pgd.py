"""The attack against classifiers whose worst case is known."""

import pytest
import torch
from torch import nn

from diffincl.data import pgd
from diffincl.data.attack import _random


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(features, classes, dtype=torch.float64):
    net = nn.Linear(features, classes).to(dtype)
    with torch.no_grad():
        net.weight.copy_(torch.randn(classes, features, generator=seeded(1), dtype=dtype))
        net.bias.copy_(torch.randn(classes, generator=seeded(2), dtype=dtype))
    return net


def curved(dtype=torch.float32):
    """A small convolutional classifier with everything whose mode matters."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(),
                            nn.Linear(6 * 16, 4)).to(dtype)
        net[1].running_mean.normal_(std=0.1)
    return net


def images(n=12, dtype=torch.float32):
    return torch.rand(n, 1, 6, 6, generator=seeded(4), dtype=dtype)


def margins(net, x, y):
    logits = net.eval()(x).detach()
    right = logits.gather(1, y[:, None])
    return (logits.scatter(1, y[:, None], -torch.inf) - right).amax(1)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("radius", [0.0, 1e-6, 0.3, 5.0])
def test_on_a_linear_classifier_it_finds_the_exact_adversary(classes, radius):
    net = linear(15, classes)
    x = torch.randn(40, 15, generator=seeded(5), dtype=torch.float64)
    y = torch.randint(classes, (40,), generator=seeded(6))
    found = pgd(net, x, y, radius, generator=seeded(), restarts=classes - 1, clip=None)
    z, W = net(x).detach(), net.weight.detach()
    gain = z - z.gather(1, y[:, None]) + radius * (W - W[y][:, None]).norm(dim=2)
    exact = gain.scatter(1, y[:, None], -torch.inf).amax(1)
    torch.testing.assert_close(margins(net, found, y), exact, rtol=0, atol=1e-12)
    assert float((found - x).norm(dim=1).max()) <= radius + 1e-14


def test_below_the_distance_to_the_boundary_it_finds_nothing_and_above_it_does():
    net = linear(15, 10)
    x = torch.randn(40, 15, generator=seeded(5), dtype=torch.float64)
    z, W = net(x).detach(), net.weight.detach()
    y = z.argmax(1)
    gap = (z.gather(1, y[:, None]) - z) / (W - W[y][:, None]).norm(dim=2)
    distance = gap.scatter(1, y[:, None], torch.inf).amin(1)
    for k in range(40):
        for share, fooled in ((0.999, False), (1.001, True)):
            found = pgd(net, x[k:k + 1], y[k:k + 1], share * float(distance[k]), generator=seeded(), restarts=9,
                        steps=3, clip=None)
            assert bool(net(found).argmax() != y[k]) is fooled


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("radius", [1e-3, 0.5, 20.0])
def test_radius_and_range_are_kept_and_it_is_never_worse_than_the_start(dtype, radius):
    net, x = curved(dtype), images(dtype=dtype)
    x[0], x[1] = 0.0, 1.0
    kept, y = x.clone(), torch.arange(12) % 4
    start = margins(net, x, y)
    for step, restarts in ((None, 1), (None, 7), (10.0, 1), (1e-9, 2)):
        found = pgd(net, x, y, radius, generator=seeded(), steps=6, step=step, restarts=restarts)
        assert (found.shape, found.dtype, found.requires_grad) == (x.shape, dtype, False)
        change = (found.double() - x.double()).flatten(1).norm(dim=1)
        assert float(change.max()) <= radius * (1 + 4 * torch.finfo(dtype).eps) + 6 * torch.finfo(dtype).eps
        assert 0 <= float(found.min()) <= float(found.max()) <= 1
        assert bool((margins(net, found, y) >= start - 1e-5).all())
    better = margins(net, pgd(net, x, y, radius, generator=seeded()), y) - start
    assert float(better.min()) > 0
    assert torch.equal(x, kept)


def test_more_restarts_are_never_worse_and_leave_x_for_random_starts():
    net, x, y = curved(), images(), torch.arange(12) % 4
    values = [margins(net, pgd(net, x, y, 0.5, generator=seeded(), steps=5, restarts=k), y) for k in (1, 3, 8)]
    assert bool((values[1] >= values[0] - 1e-6).all())
    assert bool((values[2] >= values[1] - 1e-6).all())
    assert float((values[2] - values[0]).max()) > 1e-3
    for restarts, differ in ((3, False), (9, True)):
        first, second = (pgd(net, x, y, 5.0, generator=seeded(k), steps=1, step=0.1, restarts=restarts) for k in (0, 1))
        assert torch.equal(first, second) is not differ


def test_random_starts_fill_the_ball_evenly():
    change = _random(torch.zeros(4000, 3), 2.0, seeded()).double()
    volume = (change.norm(dim=1) / 2) ** 3  # share of the ball nearer to its centre
    places = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    assert float((volume.sort().values - places).abs().max()) < 1.95 / 4000**0.5  # Kolmogorov and Smirnov, 1 in 1000
    assert float(change.mean(0).abs().max()) < 0.1


def test_the_range_leaves_the_whole_radius_to_the_other_coordinates():
    net = linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    x = torch.tensor([[1.0, 0.2]], dtype=torch.float64)
    found = pgd(net, x, torch.tensor([0]), 0.5, generator=seeded())
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.7]], dtype=torch.float64), rtol=0, atol=1e-3)


def test_samples_are_attacked_alone():
    net, x, y = curved(torch.float64), images(dtype=torch.float64), torch.arange(12) % 4
    together = pgd(net, x, y, 0.5, generator=seeded(), restarts=3)
    alone = torch.cat([pgd(net, x[k:k + 1], y[k:k + 1], 0.5, generator=seeded(), restarts=3) for k in range(12)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)


def test_the_network_is_left_as_it_was():
    net, x, y = curved(), images(), torch.arange(12) % 4
    net.train()
    net[3].eval()
    net[0].bias.requires_grad_(False)
    net[5].weight.grad = torch.ones_like(net[5].weight)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    before = torch.get_rng_state()
    with torch.no_grad():
        found = pgd(net, x, y, 0.3, generator=seeded(), restarts=5)
    assert torch.equal(before, torch.get_rng_state())
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert bool((net[5].weight.grad == 1).all())
    assert [p.grad is None for p in net.parameters()] == [True] * 4 + [False, True]
    assert not net[0].bias.requires_grad
    assert torch.equal(found, pgd(net, x, y, 0.3, generator=seeded(), restarts=5))  # Dropout is off
    with pytest.raises(ValueError, match="the logits of net must be finite"):
        pgd(nn.Sequential(net, Infinite()), x, y, 0.3, generator=seeded())
    assert [module.training for module in net.modules()] == modes


class Infinite(nn.Module):
    def forward(self, x):
        return x / 0


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_gradients_of_any_size_give_directions(size):
    net = linear(8, 2, torch.float32)
    x = torch.randn(5, 8, generator=seeded(7))
    y = torch.zeros(5, dtype=torch.int64)
    expected = pgd(net, x, y, 0.1, generator=seeded(), clip=None)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(size)
    torch.testing.assert_close(pgd(net, x, y, 0.1, generator=seeded(), clip=None), expected)


def test_a_flat_classifier_leaves_x():
    net = linear(8, 3, torch.float32)
    nn.init.zeros_(net.weight)
    x = torch.rand(5, 8, generator=seeded(7))
    assert torch.equal(pgd(net, x, torch.zeros(5, dtype=torch.int64), 0.1, generator=seeded(), restarts=4), x)


@pytest.mark.parametrize(("change", "message"), [
    ({"radius": -1.0}, "radius must be at least 0"),
    ({"steps": 0}, "steps must be at least 1"),
    ({"step": 0.0}, "step must be greater than 0"),
    ({"restarts": 1.5}, "restarts must be a whole number"),
    ({"net": lambda x: x}, "net must be a torch.nn.Module; got function"),
    ({"x": torch.full((3, 8), 1.5)}, r"x must lie in clip = \(0.0, 1.0\); its values go from 1.5 to 1.5"),
    ({"x": torch.full((3, 8), torch.nan)}, "x must be finite"),
    ({"x": torch.zeros(3)}, r"x must be a batch \(n, …\)"),
    ({"y": torch.tensor([0, 1])}, "y must hold one int64 label, at least 0, for each of the 3 samples"),
    ({"y": torch.tensor([0, -1, 1])}, "y must hold one int64 label"),
    ({"y": torch.zeros(3)}, "y must hold one int64 label"),
    ({"y": [0, 1, 2]}, "got list"),
    ({"y": torch.tensor([0, 1, 3])}, r"net must return logits \(n, classes\) .* labels up to 3"),
    ({"net": nn.Linear(8, 1), "y": torch.zeros(3, dtype=torch.int64)}, "net must return logits"),
    ({"net": nn.Unflatten(1, (2, 4))}, "net must return logits"),
])
def test_bad_input(change, message):
    arguments = {"net": linear(8, 3, torch.float32), "x": torch.rand(3, 8), "y": torch.tensor([0, 1, 2]), "radius": 0.1,
                 "generator": seeded(), **change}
    with pytest.raises((ValueError, TypeError), match=message):
        pgd(**arguments)
