"""Convolutional fields written out as dense ones."""

import pytest
import torch

import diffincl as di

F64 = torch.float64
FIELDS = {"resnet": (di.ConvResNetField, di.ResNetField), "d": (di.ConvResNetDField, di.ResNetDField),
          "s": (di.ConvResNetSField, di.ResNetSField)}


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def conv_field(kind, k1, k2, mode="zeros", lead=(), curve=None, dtype=F64, m=3, d=2):
    A1, b1 = normal(*lead, m, d, *k1, dtype=dtype), normal(*lead, m, seed=1, dtype=dtype)
    A2, b2 = normal(*lead, d, m, *k2, seed=2, dtype=dtype), normal(*lead, d, seed=3, dtype=dtype)
    A2 = A2.abs() if kind == "d" else A2
    A1, b1, A2, b2 = (w if curve is None else curve(w, 0.0, 2.0) for w in (A1, b1, A2, b2))
    return FIELDS[kind][0](*((A1, b1, b2) if kind == "s" else (A1, b1, A2, b2)), padding_mode=mode)


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize(("image", "k1", "k2"), [((5,), (3,), (1,)), ((4, 6), (3, 5), (1, 3)), ((2, 2), (3, 3), (3, 3)),
                                                 ((1, 7), (1, 3), (1, 7))])
def test_it_is_the_same_field(kind, mode, image, k1, k2):
    field = conv_field(kind, k1, k2, mode)
    x = normal(4, 2, *image, seed=9)
    dense = field.dense(image)
    assert type(dense) is FIELDS[kind][1]
    flat = 1 + len(image)
    torch.testing.assert_close(dense(0.0, x.flatten(-flat)), field(0.0, x).flatten(-flat), rtol=1e-12, atol=1e-12)


def test_entries_are_those_of_the_kernel_exactly():
    field = conv_field("resnet", (3, 3), (5, 3), dtype=torch.float32)
    dense = field.dense((4, 5))
    for matrix, kernel in ((dense.A1.values, field.A1.values), (dense.A2.values, field.A2.values)):
        assert matrix.dtype == torch.float32
        assert set(matrix.flatten().tolist()) - {0.0} == set(kernel.flatten().tolist())


@pytest.mark.parametrize("curve", [di.PiecewiseConstant, di.PiecewiseLinear])
def test_curves_stay_curves_and_networks_the_same(curve):
    for kind in FIELDS:
        field = conv_field(kind, (3, 3), (3, 3), lead=(4,), curve=curve)
        x0, t = normal(3, 2, 3, 3, seed=5).abs(), torch.linspace(0, 2, 9, dtype=F64)
        dense = field.dense((3, 3))
        assert dense.knots == field.knots
        x = di.solve(di.Inclusion(field, di.Orthant()), x0, t).x.flatten(-3)
        y = di.solve(di.Inclusion(dense, di.Orthant()), x0.flatten(-3), t).x
        torch.testing.assert_close(y, x, rtol=1e-11, atol=1e-11)


def test_gradients_reach_the_kernels():
    K = normal(2, 1, 3).requires_grad_()
    field = di.ConvResNetSField(K, torch.ones(2, dtype=F64), torch.zeros(1, dtype=F64))
    x = normal(1, 5, seed=1).abs()
    dense = torch.autograd.grad(field.dense((5,))(0.0, x.flatten(-2)).square().sum(), K)[0]
    plain = torch.autograd.grad(field(0.0, x).square().sum(), K)[0]
    torch.testing.assert_close(dense, plain)


def test_every_bound_takes_a_small_image():
    """The rungs that need matrices, on images: exact (16 hidden pixels), the tube; and what rates.conv bounds, too."""
    field = conv_field("resnet", (3,), (3,), lead=(3,), curve=di.PiecewiseConstant, m=2, d=1)
    flow, t = di.Inclusion(field.dense((8,)), di.Orthant()), torch.linspace(0, 2, 4, dtype=F64)
    curves = {rate: di.bounds.sensitivity(flow, t, rate).curve for rate in ("global", "scaled", "exact")}
    for lower, upper in (("exact", "scaled"), ("scaled", "global")):
        assert bool((curves[lower][1:] < curves[upper][1:]).all())
    K1, K2 = field.A1.values, field.A2.values
    whole = (2 / 3 * di.rates.conv.scaled(K1, K2, (8,)).value.cumsum(0)).exp()
    assert bool((curves["scaled"][1:] <= whole * (1 + 1e-9)).all())
    x0, away = normal(5, 1, 8, seed=4).abs(), normal(5, 1, 8, seed=5)
    y0 = torch.relu(x0 + 0.01 * away / away.flatten(1).norm(dim=1).reshape(5, 1, 1))
    x, y = (di.solve(di.Inclusion(field, di.Orthant()), v, t).x.flatten(-2) for v in (x0, y0))
    tube = di.bounds.tube(flow, t, x0.flatten(-2), 0.01).curve
    assert bool(((x - y).norm(dim=-1) <= tube * (1 + 1e-12)).all())


@pytest.mark.parametrize(("call", "message"), [
    (lambda: conv_field("s", (3, 3), (3, 3)).dense((7,)), r"image must be \(height, width\) for these kernels; got"),
    (lambda: conv_field("s", (3,), (3,)).dense(7), r"image must be \(length,\) for these kernels; got 7"),
    (lambda: conv_field("s", (3,), (3,)).dense((0,)), "image must be at least 1; got 0"),
    (lambda: conv_field("resnet", (3, 3), (3, 3)).dense((64, 64)),
     r"\(64, 64\), the convolutions have 201,326,592 entries"),
    (lambda: conv_field("s", (3, 3), (3, 3)).dense((64, 64)), r"100,663,296 entries in all, more than 67,108,864"),
    (lambda: conv_field("s", (3, 3), (3, 3), lead=(100,), curve=di.PiecewiseConstant).dense((24, 24)),
     "199,065,600 entries"),
    (lambda: conv_field("d", (5,), (5,), "circular").dense((1,)), "once at most"),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_a_bound_of_a_convolutional_field_says_what_it_needs():
    field = conv_field("resnet", (3,), (3,))
    with pytest.raises(ValueError, match=r"needs the size of the image. Write .* Inclusion\(field.dense\(image\), g\)"):
        di.bounds.sensitivity(di.Inclusion(field, di.Orthant()), [0.0, 1.0])
    nu = float(di.rates.conv.scaled(field.A1.values, field.A2.values, (8,)).value)
    given = di.bounds.sensitivity(di.Inclusion(field, di.Orthant(), one_sided=nu), [0.0, 1.0])
    dense = di.bounds.sensitivity(di.Inclusion(field.dense((8,)), di.Orthant()), [0.0, 1.0])
    assert float(dense.curve[-1]) <= float(given.curve[-1]) * (1 + 1e-6)  # one scaling a pixel, not a channel
