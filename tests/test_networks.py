"""Networks of stages: any depth, refined, kept to their structure, bounded."""

from itertools import pairwise

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, pad

import diffincl as di
import diffincl.data
from diffincl import norms
from diffincl.fields import adjoint_kernel
from diffincl.nn import BlockNet, DenseResNet, ImageBlockNet, ImageResNet, Stage
from diffincl.training import Recipe, fit

F64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def image_net(variant, **more):
    settings = {"depth": 2, "widths": (4, 6), "channels": 1, "image": (8, 8), "generator": generator()} | more
    return ImageResNet(variant, **settings).eval()


NETS = {f"dense {v} {c}": lambda v=v, c=c: DenseResNet(12, 5, variant=v, width=6, depth=3, curves=c,
                                                       generator=generator())
        for v in di.nn.VARIANTS for c in ("constant", "linear")}
NETS |= {f"image {v} {c}": lambda v=v, c=c: image_net(v, curves=c) for v in di.nn.VARIANTS
         for c in ("constant", "linear")}
NETS |= {f"signal {v}": lambda v=v: image_net(v, image=(9,)) for v in di.nn.VARIANTS}
NETS |= {f"blocks {v}": lambda v=v: BlockNet(12, 5, variant=v, width=6, depth=3, generator=generator())
         for v in di.nn.RELATIVES}
NETS |= {f"blocks {kind} {v}": lambda v=v, image=image: ImageBlockNet(
    v, 2, widths=(4, 6), channels=1, image=image, generator=generator()).eval()
    for v in di.nn.RELATIVES for kind, image in (("image", (8, 8)), ("signal", (9,)))}


def samples(net, n=7):
    shape = (net.channels, *net.image) if isinstance(net, ImageResNet) else (12,)
    return torch.rand(n, *shape, generator=generator(1))


@pytest.mark.parametrize("name", NETS)
def test_the_factor_bounds_the_expansion_found_by_ascent(name):
    net = NETS[name]().double().requires_grad_(False)
    bound = float(net.sensitivity().value)
    x, y = (samples(net, 40).double().requires_grad_() for _ in range(2))
    y = (x.detach() + 0.1 * torch.randn(x.shape, generator=generator(2), dtype=F64)).requires_grad_()

    def ratio():
        apart = (net.argument(x) - net.argument(y)).flatten(1).norm(dim=1)
        return apart / (x - y).flatten(1).norm(dim=1)

    optimiser = torch.optim.Adam([x, y], lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        (-ratio().sum()).backward()
        optimiser.step()
    assert float(ratio().max()) <= bound
    # Products of the half steps of Hamiltonian layers with kernels say next to nothing; so does anything of "image d".
    if not name.startswith("image d") and name not in ("blocks image hamiltonian", "blocks signal hamiltonian"):
        assert bound < 1e4 * float(ratio().max())
    assert bound <= float(net.sensitivity(rate="global").value) * (1 + 1e-9)


@pytest.mark.parametrize("variant", di.nn.VARIANTS)
def test_an_image_network_is_the_loop_of_residual_layers(variant):
    """Stem, layers written out, pooling, mean and head: bit for bit."""
    net, x = image_net(variant), samples(image_net(variant))
    state = torch.relu(net.open(conv2d(x, net.stem.weight, padding=1)))
    for part in net.body:
        if not isinstance(part, Stage):
            state = avg_pool2d(state, 2) if isinstance(part, di.nn.AveragePool) else pad(state, (0, 0, 0, 0, 0, 2))
            continue
        field = part.field
        for k in range(part.depth):
            A1 = (field.A if variant == "s" else field.A1).values[k]
            A2 = adjoint_kernel(A1) if variant == "s" else field.A2.values[k]
            hidden = torch.relu(conv2d(state, A1, field.b1.values[k], padding=1))
            state = torch.relu(torch.sub(state, conv2d(hidden, A2, -field.b2.values[k], padding=1), alpha=part.h))
    assert torch.equal(net(x), net.head(net.close(state.flatten(2).mean(-1))))


@pytest.mark.parametrize("name", [name for name in NETS if not name.startswith("blocks")])
def test_a_refined_network_has_the_same_curves(name):
    net = NETS[name]()
    x, fine = samples(net), net.refine()
    assert fine.depth == 2 * net.depth
    torch.testing.assert_close(fine(x), net.at_depth(2 * net.depth)(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fine.at_depth(4 * fine.depth)(x), net.at_depth(8 * net.depth)(x), rtol=1e-5, atol=1e-6)
    assert {id(p) for p in net.at_depth(2 * net.depth).parameters()} == {id(p) for p in net.parameters()}
    assert not {id(p) for p in fine.parameters()} & {id(p) for p in net.parameters()}
    with torch.no_grad():
        fine(x).sum()
        fine.constrain_()
        fine.certify_()


@pytest.mark.parametrize("variant", di.nn.VARIANTS)
def test_more_layers_converge_at_order_1(variant):
    net = DenseResNet(12, 5, variant=variant, width=6, depth=3, generator=generator()).double()
    x = samples(net).double()
    outs = [net.at_depth(3 * 2**k).argument(x) for k in range(3, 8)]
    apart = [float((b - a).norm()) for a, b in pairwise(outs)]
    assert 1.8 < apart[-2] / apart[-1] < 2.2


@pytest.mark.parametrize("image", [(), (9,), (8, 8)], ids=str)
@pytest.mark.parametrize("limit", [0.5, 1.0, 2.0])
def test_the_norms_of_resnet_s_are_put_under_the_limit(image, limit):
    stage = Stage("s", 4, 3, image=image, limit=limit, generator=generator())
    with torch.no_grad():
        stage.field.A.values.mul_(5)
    for _ in range(6):
        stage.constrain_()
    assert stage.certify_() < 1.05 * limit  # from below it was nearly there
    size = stage.norm_of(stage.field.A.values, norms.CERTIFIED).value
    assert bool((stage.h * size**2 <= limit).all())
    assert float((stage.h * size**2).max()) > 0.9 * limit
    assert float(stage.factor().value) == 1.0


def test_the_cost_is_the_integral_over_time():
    """Of constant pieces a sum, of lines Simpson's rule on each piece, of ResNet-S twice that of A."""
    for variant in di.nn.VARIANTS:
        for curves in ("constant", "linear"):
            stage = Stage(variant, 3, 4, curves=curves, horizon=2.0, generator=generator())
            with torch.no_grad():
                for curve in stage.curves.values():
                    curve.values.normal_(generator=generator(3))
            total = 0.0
            for a in torch.linspace(0, 1.5, 4).tolist():
                weights = stage.field.weights_on(a, a + 0.5)
                for s, share in ((0.0, 1 / 6), (0.25, 4 / 6), (0.5, 1 / 6)):
                    w = weights(a + s)
                    total += 0.5 * share * float(w.A1.square().sum() + w.A2.square().sum())
            assert float(stage.cost()) == pytest.approx(total, rel=1e-5)


def test_the_generator_alone_decides_the_initial_weights_of_an_isometric_network():
    """torch completes an orthogonal matrix by its default random numbers, which go on as before."""
    torch.manual_seed(1)
    first = DenseResNet(12, 5, width=8, depth=2, isometric=True, generator=generator())
    after = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), after)
    second = DenseResNet(12, 5, width=8, depth=2, isometric=True, generator=generator())
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_isometric_ends():
    net = DenseResNet(12, 5, variant="s", width=8, depth=2, isometric=True, generator=generator())
    assert float(net.sensitivity().value) == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(net.head.weight.norm(dim=1), torch.ones(5))
    net(samples(net)).square().sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    assert float(net.sensitivity().value) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: Stage("q", 3, 2), "variant must be one of 'resnet', 'd', 's'; got 'q'"),
    (lambda: Stage("s", 3, 2, limit=2.5), r"limit must be at most 2.*got 2\.5"),
    (lambda: Stage("s", 3, 2, curves="cubic"), "curves must be one of 'constant', 'linear'; got 'cubic'"),
    (lambda: Stage("d", 3, 4).at_depth(6), "n must be a multiple of 4, the number of pieces of the weights; got 6"),
    (lambda: image_net("s", image=(1, 8)), r"image must be .* at least 2 pixels a side for 2 stages; got \(1, 8\)"),
    (lambda: image_net("s", widths=(6, 4)), "out_features must be at least features = 6"),
    (lambda: image_net("s")(torch.zeros(2, 1, 9, 8)), r"images must have shape \(n, 1, 8, 8\), that of this network"),
    (lambda: BlockNet(4, 2, variant="cpl", width=4).at_depth(20), "BlockNet has no curves in time"),
    (lambda: BlockNet(4, 2, variant="gru"), "variant must be one of 'preactivation', "),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.fixture(scope="module")
def trained():
    data = di.data.digits()
    nets = {v: DenseResNet(64, 10, variant=v, width=16, depth=4, generator=generator()) for v in di.nn.VARIANTS}
    return {v: fit(net, data, recipe=Recipe(epochs=3)).double() for v, net in nets.items()}, data.test_x.double()


@pytest.mark.parametrize("times", [1, 2, 8])
def test_trained_resnet_d_grows_by_its_bias_alone_at_every_depth(trained, times):
    """D2, coordinate by coordinate: x_N <= x_0 + hΣ(b2)₊."""
    net, x = trained[0]["d"].at_depth(4 * times), trained[1]
    with torch.no_grad():
        start = net.features(x)
        sol = di.solve(net.layers.flow, start, net.layers.times)
        push = torch.relu(net.layers.field.b2.values).repeat_interleave(times, 0).cumsum(0) * net.h
    assert bool((sol.x[1:] <= start + push.unsqueeze(1) + 1e-12).all())
    assert float(sol.x[-1].norm()) > 0


@pytest.mark.parametrize("n", [4, 8, 16])
def test_trained_resnet_s_moves_with_the_depth_by_no_more_than_l3(trained, n):
    """‖x_N − x_2N‖ <= (h/4) L B T, K = 0 for constant pieces, L = max‖A‖², B = max‖F‖ along the N layers."""
    net, x = trained[0]["s"], trained[1]
    with torch.no_grad():
        shallow, deep = net.at_depth(n), net.at_depth(2 * n)
        start = net.features(x)
        sol = di.solve(shallow.layers.flow, start, shallow.layers.times)
        pairs = zip(pairwise(shallow.layers.times), sol.x[:-1], strict=True)
        B = torch.stack([shallow.layers.field.on(a, b)(torch.tensor(a), state).norm(dim=-1)
                         for (a, b), state in pairs]).amax(0)
        L = float(norms.dense(net.layers.field.A.values).value.max()) ** 2
        apart = (sol.x[-1] - deep.layers(start)).norm(dim=-1)
    ratio = apart / (0.25 * shallow.h * L * B)
    assert 0.02 < float(ratio.max()) <= 1
