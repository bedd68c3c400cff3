"""R8 along a chain of layers: above every choice of slopes, below the product of single layers."""

from dataclasses import replace

import pytest
import torch

from diffincl import rates
from diffincl.nn import BlockNet, DenseResNet, ImageResNet
from diffincl.rates import chains
from diffincl.rates.kernels import branch

F64 = torch.float64


def draw(*shape, seed=0, size=1.0):
    return size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def worst_slopes(A1, A2, h, tries=8, turns=40):
    """The largest ‖∏E_k(I − hA2D_kA1)‖ found over slopes 0 or 1: a norm is convex in each, so an end is the worst."""
    N, m, d = A1.shape
    worst = 0.0
    for seed in range(tries):
        g = torch.Generator().manual_seed(seed)
        D, E = ((torch.rand(N, n, generator=g) < 0.7).to(F64) for n in (m, d))
        for turn in range(turns):
            D, E = D.detach().requires_grad_(), E.detach().requires_grad_()
            J = torch.eye(d, dtype=F64)
            for k in range(N):
                J = E[k].unsqueeze(-1) * (J - h * A2[k] @ (D[k].unsqueeze(-1) * (A1[k] @ J)))
            value = torch.linalg.matrix_norm(J, 2)
            worst = max(worst, float(value.detach()))
            up, out = torch.autograd.grad(value, (D, E))
            with torch.no_grad():
                D[turn % N], E[turn % N] = (up[turn % N] > 0).to(F64), (out[turn % N] > 0).to(F64)
    return worst


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sign", ["free", "D"])
def test_between_the_worst_slopes_and_the_product(seed, sign):
    A1, A2 = draw(4, 6, 5, seed=seed, size=0.6), draw(4, 5, 6, seed=seed + 9, size=0.6)
    A2 = A2.abs() if sign == "D" else A2
    together, product, worst = rates.chain(A1, A2, 0.5), rates.step(A1, A2, 0.5).prod(), worst_slopes(A1, A2, 0.5)
    assert worst <= float(together) <= 2 * worst
    assert together < 0.8 * product


def dense_of(K, image, mode):
    """The matrices of convolutions that keep the size of the image, (N, out, in)."""
    from diffincl.nn.maps import Maps
    maps = Maps(len(image), tuple(K.shape[3:]), mode)
    size = torch.Size((K.shape[2], *image))
    basis = torch.eye(size.numel(), dtype=F64).reshape(-1, *size)
    return torch.stack([maps.affine(basis, one, None).flatten(1).T for one in K])


@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("image", [(5,), (3, 4)], ids=str)
@pytest.mark.parametrize("sign", ["free", "D"])
def test_convolutions_are_bounded_on_the_whole_image(image, mode, sign):
    taps = (3,) * len(image)
    A1, A2 = draw(3, 3, 2, *taps, seed=1, size=0.4), draw(3, 2, 3, *taps, seed=2, size=0.4)
    A2 = A2.abs() if sign == "D" else A2
    together = float(rates.chain(A1, A2, 0.5, image=image, padding_mode=mode))
    matrices = dense_of(A1, image, mode), dense_of(A2, image, mode)
    worst = worst_slopes(*matrices, 0.5, tries=4)
    assert worst <= together
    assert mode == "zeros" or together <= 2.5 * worst  # at the border of a small image the torus gives away more
    assert together < float(rates.conv.step(A1, A2, image, 0.5, padding_mode=mode).prod())
    assert together >= float(rates.chain(*matrices, 0.5)) * 0.97  # the multipliers are a part of those there


def test_one_layer_has_its_r8_and_dead_units_do_not_count():
    A1, A2 = draw(1, 6, 4), draw(1, 4, 6, seed=3)
    one = float(rates.step(A1, A2, 0.5))
    assert float(rates.chain(A1, A2, 0.5)) == pytest.approx(one, rel=1e-3)
    A1[:, 4], A2[:, :, 5] = 0, 0
    alive = float(rates.step(A1[:, :4], A2[..., :4], 0.5))
    assert float(rates.chain(A1, A2, 0.5)) == pytest.approx(alive, rel=1e-3)
    assert float(rates.chain(0 * A1, A2, 0.5)) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("image", [(), (6,)], ids=str)
def test_resnet_s_is_nonexpansive_along_the_chain(image):
    A = draw(5, 4, 3, *(3,) * len(image), size=0.3)
    back = A.transpose(1, 2).flip(3) if image else A.mT
    assert 1 <= float(rates.chain(A, back, 0.3, image=image)) < 1 + 1e-6


def test_every_multiplier_is_a_certificate_or_none():
    """Random Λ and M: a bound above the worst slopes where they are definite, infinite where not."""
    A1, A2 = draw(3, 5, 4, size=0.7), draw(3, 4, 5, seed=4, size=0.7)
    layers = chains._matrices(A1, A2, 0.4)
    inner = rates.step_multipliers(A1, A2, layers.h)
    worst, found = worst_slopes(A1, A2, 0.4), []
    outer, inner = chains._start(layers, inner)
    for seed in range(40):
        spread = 0.15 * (seed % 4)
        found.append(float(chains._certified(layers, outer * draw(3, 4, seed=seed, size=spread).exp(),
                                             inner * draw(3, 5, seed=seed + 50, size=spread).exp())))
    assert min(found) >= worst
    assert max(found) == torch.inf
    assert sum(value < torch.inf for value in found) > 10


def test_steps_of_different_lengths_and_the_order_of_the_layers():
    A1, A2 = draw(2, 5, 4, size=0.7), draw(2, 4, 5, seed=4, size=0.7)
    h = torch.tensor([0.1, 0.9])
    scaled = A2 * h.reshape(2, 1, 1)
    assert float(rates.chain(A1, A2, h)) == pytest.approx(float(rates.chain(A1, scaled, 1.0)), rel=1e-2)
    turned = worst_slopes(A1.flip(0), scaled.flip(0), 1.0)
    assert float(rates.chain(A1, A2, h)) >= worst_slopes(A1, scaled, 1.0) != turned


def test_blocks_without_an_outer_activation_gain_by_it():
    net = BlockNet(6, 3, variant="preactivation", width=6, depth=4, generator=torch.Generator().manual_seed(0))
    blocks = net.blocks.double()
    A1, A2 = (torch.stack([getattr(b.weights(), name) for b in blocks]).detach() for name in ("A1", "A2"))
    clipped, free = (float(rates.chain(A1, A2, 0.25, clipped=value)) for value in (True, False))
    assert 1 < free < 0.98 * clipped
    assert float(blocks.factor().value) == pytest.approx(free)


def test_positive_kernels_are_looked_at_on_the_torus_that_suits_them():
    """With a change of sign at the wrap there is no constant mode, which a small padded image has not either."""
    A1, A2 = draw(2, 3, 2, 3, 3, seed=1, size=0.4), draw(2, 2, 3, 3, 3, seed=2, size=0.4).abs()
    one = branch(A1, A2, (3, 4), "zeros", False)
    plain = [replace(axis, twist=0) for axis in one.axes()]
    assert any(axis.twist for axis in one.axes())
    largest = [max(float(torch.linalg.matrix_norm(A, 2).max()) for _, A in one.members()[0].symbols(axes))
               for axes in (one.axes(), plain)]
    assert largest[0] < 0.95 * largest[1]


@pytest.mark.parametrize("net", [
    DenseResNet(6, 3, variant="d", width=6, depth=4, generator=torch.Generator().manual_seed(0)),
    ImageResNet("resnet", 3, widths=(4, 6), channels=1, image=(8, 8), generator=torch.Generator().manual_seed(0)),
], ids=["dense", "image"])
def test_networks_use_it(net):
    for stage in net.stages:
        with torch.no_grad():
            stage.field.A2.values.mul_(3)
    net.eval()
    best, scaled, norm = (float(net.sensitivity(rate=rate).value) for rate in ("best", "scaled", "global"))
    assert best < 0.8 * scaled <= 0.8 * norm
    stage = net.stages[0]
    with torch.no_grad():
        x = torch.rand(64, *((4, 8, 8) if stage.image else (6,)), dtype=F64)
        y = (x + 1e-3 * torch.randn(x.shape, dtype=F64)).relu()
        apart = (stage.double()(x) - stage(y)).flatten(1).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    assert float(apart.max()) <= float(stage.factor().value)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: rates.chain(draw(3, 2), draw(2, 3), 1.0), r"A1 must have shape \(N, m, d\)"),
    (lambda: rates.chain(draw(2, 3, 2), draw(2, 3, 2), 1.0), r"shapes \(\*batch, m, d\) and"),
    (lambda: rates.chain(draw(3, 2, 3), draw(2, 3, 3), 1.0, image=(4,)), r"A1 must have shape \(N, m, d, \*k\)"),
    (lambda: rates.chain(draw(1, 3, 2), draw(1, 2, 3), 0.0), "h must be positive and finite; got 0"),
    (lambda: rates.chain(draw(1, 3, 2), draw(1, 2, 3) / 0, 1.0), "A2 must be finite"),
    (lambda: rates.chain(draw(1, 3, 2), draw(1, 2, 3), 1.0, turns=0), "turns must be at least 1; got 0"),
    (lambda: rates.chain(draw(1, 3, 2, 3), draw(1, 2, 3, 3), 1.0, image=(4,), padding_mode="reflect"), "reflect"),
])
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
