"""Convolutional fields: the formula, the exact adjoint, the plain torch loop bit for bit, bad input."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.func import jacrev, vmap

import diffincl as di
from diffincl.fields import adjoint_kernel, convolve

F64 = torch.float64
PADDINGS = ("zeros", "circular")
IMAGES = {1: (6,), 2: (5, 4)}


def kernels(dims, m=3, d=2, k=3, layers=(), dtype=F64, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = ((m, d, *(k,) * dims), (m,), (d, m, *(k,) * dims), (d,))
    return [torch.randn(*layers, *shape, generator=g, dtype=dtype) for shape in shapes]


def plain(x, A, b, padding_mode):
    """torch's layer on a batch of images."""
    layer = (torch.nn.Conv1d if A.ndim == 3 else torch.nn.Conv2d)(
        A.shape[1], A.shape[0], A.shape[2:], padding="same", padding_mode=padding_mode, dtype=A.dtype)
    with torch.no_grad():
        layer.weight.copy_(A)
        layer.bias.copy_(b)
        return layer(x)


def matrix(A, padding_mode, image):
    """The convolution as a matrix, column by column."""
    d = A.shape[1]
    inputs = torch.eye(d * torch.Size(image).numel(), dtype=A.dtype).reshape(-1, d, *image)
    return plain(inputs, A, A.new_zeros(len(A)), padding_mode).flatten(1).T


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("k", [1, 3, 5])
def test_value_is_the_formula_and_s_uses_the_exact_adjoint(dims, padding_mode, k):
    image = IMAGES[dims]
    A1, b1, A2, b2 = kernels(dims, k=k)
    x = torch.randn(7, 2, *image, dtype=F64)
    hidden = torch.relu(plain(x, A1, b1, padding_mode))
    expected = plain(hidden, A2, -b2, padding_mode)
    torch.testing.assert_close(di.ConvResNetField(A1, b1, A2, b2, padding_mode=padding_mode)(0.0, x), expected)
    M, N = matrix(A1, padding_mode, image), matrix(adjoint_kernel(A1), padding_mode, image)
    assert torch.equal(N, M.T)
    s = di.ConvResNetSField(A1, b1, b2, padding_mode=padding_mode)
    expected = (hidden.flatten(1) @ M).reshape(x.shape) - b2.reshape(-1, *[1] * dims)
    torch.testing.assert_close(s(0.0, x), expected)


@pytest.mark.parametrize("dims", [1, 2])
def test_the_adjoint_of_zero_padding_is_torch_s_transposed_convolution(dims):
    A, b = kernels(dims)[0], torch.zeros(2, dtype=F64)
    y = torch.randn(4, 3, *IMAGES[dims], dtype=F64)
    transposed = F.conv_transpose1d if dims == 1 else F.conv_transpose2d
    torch.testing.assert_close(convolve(y, adjoint_kernel(A), b, "zeros"), transposed(y, A, padding=1))


def test_kernels_may_differ_from_axis_to_axis_and_be_of_two_sizes():
    A1, A2 = torch.randn(3, 2, 5, 1), torch.randn(2, 3, 1, 3)
    x = torch.randn(4, 2, 6, 5)
    for mode in PADDINGS:
        field = di.ConvResNetField(A1, torch.zeros(3), A2, torch.zeros(2), padding_mode=mode)
        expected = plain(torch.relu(plain(x, A1, torch.zeros(3), mode)), A2, torch.zeros(2), mode)
        torch.testing.assert_close(field(0.0, x), expected)


@pytest.mark.parametrize("dims", [1, 2])
def test_symmetric_field_is_the_gradient_of_its_potential(dims):
    A, b1, _, b2 = kernels(dims)
    x = torch.randn(3, 2, *IMAGES[dims], dtype=F64, requires_grad=True)
    for mode in PADDINGS:
        phi = 0.5 * (torch.relu(convolve(x, A, b1, mode)) ** 2).sum() - (x * b2.reshape(-1, *[1] * dims)).sum()
        gradient, = torch.autograd.grad(phi, x)
        torch.testing.assert_close(di.ConvResNetSField(A, b1, b2, padding_mode=mode)(0.0, x), gradient)


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("batch", [(), (5,), (2, 3)])
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_every_batch_is_a_loop(dims, batch, padding_mode):
    x = torch.randn(*batch, 2, *IMAGES[dims], dtype=F64)
    field = di.ConvResNetField(*kernels(dims), padding_mode=padding_mode)
    value = field(0.0, x)
    assert value.shape == x.shape
    for v, one in zip(value.reshape(-1, *x.shape[-dims - 1:]), x.reshape(-1, *x.shape[-dims - 1:]), strict=True):
        torch.testing.assert_close(v, field(0.0, one))


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("variant", ["resnet", "d", "s"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_forward_euler_is_the_plain_loop_bit_for_bit(dims, variant, dtype):
    layers = 4
    A1, b1, A2, b2 = kernels(dims, layers=(layers,), dtype=dtype)
    A2 = A2.abs() if variant == "d" else adjoint_kernels(A1) if variant == "s" else A2
    C = di.PiecewiseConstant
    curves = [C(v, 0.0, float(layers)) for v in (A1, b1, A2, b2)]
    field = {"resnet": di.ConvResNetField, "d": di.ConvResNetDField}.get(variant, di.ConvResNetField)(*curves)
    if variant == "s":
        field = di.ConvResNetSField(curves[0], curves[1], curves[3])
    x = torch.rand(3, 2, *IMAGES[dims], dtype=dtype)
    sol = di.solve(di.Inclusion(field, di.Orthant()), x, torch.linspace(0, layers, layers + 1))
    conv = F.conv1d if dims == 1 else F.conv2d
    for k in range(layers):
        x = torch.relu(x - conv(torch.relu(conv(x, A1[k], b1[k], padding=1)), A2[k], -b2[k], padding=1))
        assert torch.equal(sol.x[k + 1], x)


def adjoint_kernels(A):
    return torch.stack([adjoint_kernel(K) for K in A])


@pytest.mark.parametrize("kind", [di.PiecewiseConstant, di.PiecewiseLinear])
def test_prox_heun_takes_the_weights_of_its_step(kind):
    """Each step by hand, the stage at its end with the limit from the left."""
    w = kernels(2, layers=(3,))
    pieces = 3 if kind is di.PiecewiseConstant else 2
    curves = [kind(v, 0.0, float(pieces)) for v in w]
    x = torch.rand(2, 2, 5, 4, dtype=F64)
    sol = di.solve(di.Inclusion(di.ConvResNetField(*curves), di.Orthant()), x, [float(k) for k in range(pieces + 1)],
                   scheme=di.ProxHeun())

    def field(weights, x):
        A1, b1, A2, b2 = weights
        return plain(torch.relu(plain(x, A1, b1, "zeros")), A2, -b2, "zeros")

    for k in range(pieces):
        start, end = [v[k] for v in w], [v[k if kind is di.PiecewiseConstant else k + 1] for v in w]
        y = torch.relu(x - field(start, x))
        x = torch.relu(0.5 * x + 0.5 * (y - field(end, y)))
        torch.testing.assert_close(sol.x[k + 1], x)


@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
def test_gradients_reach_the_kernels(gradient):
    A, b1, _, b2 = (torch.nn.Parameter(0.3 * v) for v in kernels(2, layers=(4,)))
    C = di.PiecewiseConstant
    field = di.ConvResNetSField(C(A), C(b1), C(b2))
    x0 = torch.rand(3, 2, 5, 4, dtype=F64, requires_grad=True)
    t = [0.0, 0.25, 0.5, 0.75, 1.0]
    di.solve(di.Inclusion(field, di.Orthant()), x0, t, gradient=gradient).x[-1].square().sum().backward()
    x, start = x0.detach().clone().requires_grad_(), x0
    hand = copy.deepcopy(field)
    x = start = x.requires_grad_()
    for k in range(4):
        K, c, e = hand.A.values[k], hand.b1.values[k], hand.b2.values[k]
        F_x = F.conv_transpose2d(torch.relu(F.conv2d(x, K, c, padding=1)), K, -e, padding=1)
        x = torch.relu(x - 0.25 * F_x)
    x.square().sum().backward()
    for got, expected in ((x0, start), (A, hand.A.values), (b1, hand.b1.values), (b2, hand.b2.values)):
        assert float(expected.grad.abs().max()) > 0
        torch.testing.assert_close(got.grad, expected.grad)


def test_transforms_and_state_dict():
    field = di.ConvResNetSField(*(torch.nn.Parameter(v) for k, v in enumerate(kernels(2)) if k != 2))
    x = torch.rand(4, 2, 5, 4, dtype=F64)
    flow = di.Inclusion(field, di.Orthant())

    def last(x):
        return di.solve(flow, x, [0.0, 0.1, 0.2]).x[-1]

    torch.testing.assert_close(vmap(last)(x), last(x))
    assert jacrev(last)(x[0]).shape == (*x[0].shape, *x[0].shape)
    assert sorted(field.state_dict()) == ["A.values", "b1.values", "b2.values"]


def bad_inputs():
    A1, b1, A2, b2 = kernels(2)
    x = torch.rand(3, 2, 5, 4, dtype=F64)
    C = di.ConvResNetField
    yield "odd kernel sizes", lambda: C(A1[..., :2], b1, A2, b2)
    yield r"A2 must have odd", lambda: C(A1, b1, A2[..., :2], b2)
    yield r"A1 \(or A\) must have shape", lambda: C(A1[0, 0], b1, A2, b2)
    yield r"b1 must have shape \(3,\)", lambda: C(A1, b2, A2, b2)
    yield r"A2 must have shape \(2, 3, 3, 3\)", lambda: C(A1, b1, A1, b2)
    yield r"A2 must have shape", lambda: C(A1, b1, A2[..., 0], b2)
    yield "b2 must share dtype", lambda: C(A1, b1, A2, b2.float())
    yield "padding_mode must be one of", lambda: C(A1, b1, A2, b2, padding_mode="reflect")
    yield "must be nonnegative entry by entry", lambda: di.ConvResNetDField(A1, b1, A2, b2)
    yield "A1 must be finite", lambda: C(A1 / 0, b1, A2, b2)
    solve = lambda field, x, **k: di.solve(di.Inclusion(field, di.Orthant()), x, [0.0, 1.0], **k)  # noqa: E731
    field = C(A1, b1, A2, b2)
    yield r"x0 must have shape \(\*batch, 2, H, W\)", lambda: solve(field, x.movedim(1, -1).contiguous())
    yield r"x0 must have shape \(\*batch, 2, H, W\)", lambda: solve(field, x[0, 0])
    yield "share dtype and device", lambda: solve(field, x.float())
    yield "once at most", lambda: solve(C(*kernels(2, k=5), padding_mode="circular"), x[..., :1])
    yield "images as states", lambda: solve(field, x, steps=di.Adaptive(), scheme=di.ProxHeun())
    yield "images as states", lambda: solve(field, x, scheme=di.ImplicitEuler())
    yield "images as states", lambda: solve(field, x, scheme=di.SwitchingDP5())
    yield "images as states", lambda: solve(field, x, scheme=di.Penalty(1e-2))


@pytest.mark.parametrize(("words", "act"), list(bad_inputs()))
def test_bad_input_is_refused_with_words(words, act):
    with pytest.raises(ValueError, match=words):
        act()
