"""Layers, data, training."""

import math

import pytest
import torch
from torch.nn.functional import linear

import diffincl as di
from diffincl import data as data_sets
from diffincl.norms import dense
from diffincl.training import accuracy, fit


@pytest.fixture(scope="module")
def digits():
    return data_sets.digits(seed=0)


def small(variant, **more):
    generator = torch.Generator().manual_seed(1)
    return di.nn.DenseResNet(64, 10, variant=variant, width=8, depth=4, generator=generator, **more)


def test_layer_is_the_loop_of_residual_layers():
    net = small("resnet", horizon=4.0)
    x = torch.rand(5, 64)
    state = net.features(x)
    field = net.layers.field
    for A1, b1, A2, b2 in zip(field.A1.values, field.b1.values, field.A2.values, field.b2.values, strict=True):
        state = torch.relu(state - linear(torch.relu(linear(state, A1, b1)), A2, -b2))
    assert torch.equal(net(x), net.head(state))


@pytest.mark.parametrize("n", [2, 3, 5, 7, 10])
def test_a_layer_with_times_in_float32_takes_one_step_a_layer(n):
    field = di.ResNetSField(di.PiecewiseConstant(torch.randn(n, 2, 2)), torch.zeros(2), torch.ones(2))
    layer = di.nn.InclusionLayer(field, di.Orthant(), torch.linspace(0, 1, n + 1))
    x0 = torch.rand(4, 2)
    sol = di.solve(layer.flow, x0, torch.linspace(0, 1, n + 1))
    assert sol.stats.steps == di.solve(layer.flow, x0, layer.t).stats.steps == n
    assert torch.equal(layer(x0), sol.x[-1])


def test_a_layer_is_checked_when_it_is_made():
    field = di.ResNetSField(di.PiecewiseConstant(torch.randn(2, 2, 2)), torch.zeros(2), torch.ones(2))
    with pytest.raises(TypeError, match="g must be a ProxFunction"):
        di.nn.InclusionLayer(field, "relu", [0.0, 1.0])
    with pytest.raises(ValueError, match="t must stay where the weights are defined"):
        di.nn.InclusionLayer(field, di.Orthant(), [0.0, 2.0])


def test_a_diverging_training_stops_with_a_remedy(digits):
    with pytest.raises(ArithmeticError, match="lower lr"):
        fit(small("resnet"), digits, epochs=2, lr=1e6)


@pytest.mark.parametrize("share", [1.0, 2.0, 1e-9])
def test_digits_are_never_divided_into_nothing(share):
    with pytest.raises(ValueError, match="test_share must leave samples for training and for test"):
        data_sets.digits(test_share=share)


@pytest.mark.parametrize("variant", di.nn.VARIANTS)
def test_every_parameter_gets_a_gradient_and_the_state_dict_goes_round(variant):
    net = small(variant)
    net(torch.rand(32, 64)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name
    twin = di.nn.DenseResNet(64, 10, variant=variant, width=8, depth=4)
    twin.load_state_dict(net.state_dict())
    x = torch.rand(3, 64)
    assert torch.equal(net(x), twin(x))


def test_constrain_projects_onto_the_structure():
    net = small("d")
    with torch.no_grad():
        net.layers.field.A2.values.normal_()
    net.constrain_()
    net.layers.field.check_structure()
    net = small("s")
    with torch.no_grad():
        net.layers.field.A.values.mul_(100)
    net.constrain_()
    assert bool((net.h * dense(net.layers.field.A.values).value ** 2 <= 2).all())


def test_training_learns_and_is_reproducible(digits):
    losses = []
    nets = [small("s"), small("s")]
    for net in nets:
        losses.append([])
        fit(net, digits, epochs=8, lr=1e-2, seed=0, each_epoch=lambda epoch, loss: losses[-1].append(loss))
    assert losses[0] == losses[1]
    assert losses[0][-1] < 0.7 * losses[0][0]
    assert accuracy(nets[0], digits.test_x, digits.test_y) > 0.8  # chance is 0.1
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


def test_a_loss_that_is_not_finite_stops_with_a_remedy(digits):
    net = small("resnet")
    with torch.no_grad():
        net.head.weight.fill_(float("inf"))
    with pytest.raises(ArithmeticError, match=r"loss is .* in epoch 0; lower lr"):
        fit(net, digits, epochs=1)


def test_digits_are_divided_without_overlap(digits):
    assert len(digits.train_x) + len(digits.test_x) == 1797
    assert 0 <= float(digits.train_x.min()) <= float(digits.train_x.max()) <= 1
    train = {tuple(row) for row in digits.train_x.tolist()}
    assert not any(tuple(row) in train for row in digits.test_x.tolist())
    again = data_sets.digits(seed=0)
    assert torch.equal(again.test_y, digits.test_y)
    assert not torch.equal(data_sets.digits(seed=1).test_y, digits.test_y)


def test_corruptions_stay_in_range_and_do_what_they_say(digits):
    x = digits.test_x[:20]
    noisy = data_sets.gaussian_noise(x, 0.1, torch.Generator().manual_seed(0))
    inside = (x > 0.4) & (x < 0.6)  # clipping does not reach these
    assert 0 <= float(noisy.min()) <= float(noisy.max()) <= 1
    assert float((noisy - x)[inside].std()) == pytest.approx(0.1, rel=0.15)
    added = data_sets.structured_noise(x, 0.1, x[0])
    assert torch.equal(added, (x + 0.1 * x[0]).clamp(0, 1))
    with pytest.raises(ValueError, match="size must be at least 0; got -1"):
        data_sets.gaussian_noise(x, -1.0, torch.Generator())


@pytest.mark.parametrize(("change", "message"), [
    ({"variant": "q"}, "variant must be one of 'resnet', 'd', 's'; got 'q'"),
    ({"width": 0}, "width must be at least 1; got 0"),
    ({"depth": 1.5}, "depth must be a whole number; got 1.5"),
    ({"horizon": 0.0}, "horizon must be greater than 0; got 0"),
])
def test_bad_arguments(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        di.nn.DenseResNet(64, 10, **change)


FIELDS = {"dense": ((4, 3, 3), (4, 3)), "image": ((4, 3, 3, 3, 3), (4, 3)), "signal": ((4, 3, 3, 3), (4, 3))}
STATES = {"dense": (5, 3), "image": (5, 3, 6, 5), "signal": (5, 3, 7)}
SETS = {"orthant": di.Orthant(), "box": di.Box(0.0, 1.0), "whole": di.Whole()}


def layer_of(kind, variant, curve, g, scheme, n=None):
    draw = torch.Generator().manual_seed(3)
    big, small = FIELDS[kind]
    name = ("" if kind == "dense" else "Conv") + f"ResNet{variant.replace('resnet', '').upper()}Field"
    shapes = (big, small, small) if variant == "s" else (big, small, big, small)
    weights = [curve(torch.nn.Parameter(torch.rand(shape, generator=draw) / math.prod(shape[2:]))) for shape in shapes]
    pieces = len(weights[0].knots) - 1
    t = torch.linspace(0, 1, (n or pieces) + 1).tolist()
    return di.nn.InclusionLayer(getattr(di, name)(*weights), g, t, scheme)


@pytest.mark.parametrize("n", [None, 2], ids=["a step a layer", "steps divided by knots"])
@pytest.mark.parametrize("scheme", [di.ForwardEuler(), di.ProxHeun(), di.ARS222()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("curve", [di.PiecewiseConstant, di.PiecewiseLinear])
@pytest.mark.parametrize("variant", di.nn.VARIANTS)
@pytest.mark.parametrize("kind", FIELDS)
def test_the_quick_way_is_that_of_solve_bit_for_bit(kind, variant, curve, scheme, n):
    g = SETS["orthant" if variant == "resnet" else "box" if variant == "d" else "whole"]
    layer = layer_of(kind, variant, curve, g, scheme, n if curve is di.PiecewiseConstant else None)
    assert layer._is_quick()
    results = []
    for quick in (True, False):
        x0 = torch.rand(STATES[kind], generator=torch.Generator().manual_seed(0)).requires_grad_()
        x = layer._quick(x0) if quick else di.solve(layer.flow, x0, layer.times, scheme=scheme).x[-1]
        x.square().sum().backward()
        results.append([x, x0.grad, *(p.grad for p in layer.parameters())])
        layer.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(results[0][:2], results[1][:2], strict=True))
    for a, b in zip(results[0][2:], results[1][2:], strict=True):
        torch.testing.assert_close(a, b)  # sums over steps in another order
        assert bool(b.any())


@pytest.mark.parametrize("size", [8, 40_000], ids=["looked at together", "one by one"])
def test_a_value_that_the_prox_hides_is_noticed(size):
    """relu(−∞) = 0 is finite."""
    field = di.ResNetField(torch.eye(1), torch.zeros(1), torch.full((1, 1), 3e38), torch.zeros(1))
    layer = di.nn.InclusionLayer(field, di.Orthant(), [0.0, 1.0, 2.0])
    x0 = torch.zeros(size, 1)
    assert torch.equal(layer(x0), x0)
    x0[3] = 9.0
    with pytest.raises(di.SolveError, match=r"sample \(3,\) failed in step 0"):
        layer(x0)


def test_a_start_that_does_not_fit_is_refused_after_one_that_does():
    layer = layer_of("dense", "resnet", di.PiecewiseConstant, di.Orthant(), None)
    layer(torch.ones(2, 3))
    bad = {"x0 must lie in C": -torch.ones(2, 3), "x0 must have last dimension 3": torch.ones(2, 4),
           "must share dtype": torch.ones(2, 3).double(), "must be finite": torch.full((2, 3), torch.nan)}
    for message, x0 in bad.items():
        with pytest.raises(ValueError, match=message):
            layer(x0)
    layer.double()
    with pytest.raises(ValueError, match="must share dtype"):
        layer(torch.ones(2, 3))
    assert layer(torch.ones(2, 3).double()).dtype is torch.float64


def test_weights_of_other_lengths_and_none_run_the_quick_way():
    A = di.PiecewiseConstant(torch.rand(4, 3, 3))
    A2, b2 = di.PiecewiseLinear(torch.rand(3, 3, 3)), di.PiecewiseConstant(torch.rand(2, 3))
    field = di.ResNetField(A, torch.rand(3), A2, b2)
    layer = di.nn.InclusionLayer(field, di.Orthant(), [0.0, 0.5, 1.0])
    x0 = torch.rand(5, 3)
    assert torch.equal(layer._quick(x0), di.solve(layer.flow, x0, layer.times).x[-1])


@pytest.mark.parametrize("curves", ["constant", "linear"])
def test_networks_of_other_depths_that_share_curves_do_not_disturb_each_other(curves):
    net, x = small("resnet", curves=curves), torch.rand(5, 64)
    for deep in (net, net.at_depth(8), net.at_depth(12), net, net.at_depth(8)):
        expected = di.solve(deep.layers.flow, deep.features(x), deep.layers.times).x[-1]
        assert torch.equal(deep(x), deep.head(expected))
