"""Whole solves with fixed steps under torch.func transforms and torch.compile."""

import pytest
import torch
from catalogue import EXPLICIT, SCHEMES
from torch.func import functional_call, hessian, jacfwd, jacrev, jvp, vmap

import diffincl as di

F64 = torch.float64
TIMES = [0.0, 0.1, 0.2, 0.3]


def weights(n=None):
    generator = torch.Generator().manual_seed(0)
    shapes = ((5, 3), (5,), (3, 5), (3,))
    return [torch.nn.Parameter(torch.randn(*s if n is None else (n, *s), generator=generator, dtype=F64) / 2)
            for s in shapes]


FIELDS = {
    "constant": di.ResNetField(*weights()),
    "PiecewiseConstant": di.ResNetField(*map(di.PiecewiseConstant, weights(10))),
    "PiecewiseLinear": di.ResNetField(*map(di.PiecewiseLinear, weights(11))),
    "callable": lambda t, x: torch.sin(3 * x) * torch.cos(t) + torch.roll(x, 1, -1),
}
SETS = {"Orthant": di.Orthant(), "Box": di.Box(-0.1, torch.tensor([0.9, 1.0, 1.0], dtype=F64)), "Ball": di.Ball(1.0),
        "OutsideBall": di.OutsideBall(0.5, torch.tensor(-0.3, dtype=F64))}
X0 = 0.5 * torch.rand(4, 3, generator=torch.Generator().manual_seed(1), dtype=F64)


def end(scheme, field, g, steps=None):
    flow = di.Inclusion(FIELDS[field], SETS[g])
    return lambda x: di.solve(flow, x, TIMES, scheme=SCHEMES[scheme], steps=steps).x[-1]


cases = pytest.mark.parametrize(("scheme", "field", "g"), [(s, f, g) for s in EXPLICIT for f in FIELDS for g in SETS])


@cases
def test_vmap_is_the_batch(scheme, field, g):
    f = end(scheme, field, g, di.Fixed(n=7))
    torch.testing.assert_close(vmap(f)(X0), f(X0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(vmap(vmap(f))(X0.reshape(2, 2, 3)).reshape(4, 3), f(X0), rtol=1e-12, atol=1e-12)


@cases
def test_jacobians_agree_with_backward_and_differences(scheme, field, g):
    f, x = end(scheme, field, g), X0[0]
    J = torch.autograd.functional.jacobian(f, x)
    assert bool(J.any())
    torch.testing.assert_close(jacrev(f)(x), J, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(jacfwd(f)(x), J, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(vmap(jacrev(f))(X0)[0], J, rtol=1e-12, atol=1e-12)
    v = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    torch.testing.assert_close(jvp(f, (x,), (v,))[1], J @ v, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close((f(x + 1e-6 * v) - f(x - 1e-6 * v)) / 2e-6, J @ v, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scheme", EXPLICIT)
@pytest.mark.parametrize("g", SETS)
def test_hessians_agree_with_differences_of_gradients(scheme, g):
    f = end(scheme, "callable", g)
    def size(x):
        return (f(x) ** 3).sum()
    H = hessian(size)(X0[0])
    e = 1e-5 * torch.eye(3, dtype=F64)
    differences = torch.stack([(torch.func.grad(size)(X0[0] + v) - torch.func.grad(size)(X0[0] - v)) / 2e-5 for v in e])
    torch.testing.assert_close(H, differences, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.autograd.functional.hessian(size, X0[0]), H, rtol=1e-11, atol=1e-11)


def test_gradients_of_one_layer_per_sample():
    layer = di.nn.InclusionLayer(FIELDS["PiecewiseConstant"], di.Orthant(), TIMES)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    def loss(parameters, x):
        return functional_call(layer, parameters, (x,)).square().sum()
    together = vmap(torch.func.grad(loss), (None, 0))(parameters, X0)
    for k, x in enumerate(X0):
        alone = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
        for a, b in zip(together.values(), alone, strict=True):
            torch.testing.assert_close(a[k], b, rtol=1e-12, atol=1e-12)


def compiled(f):
    torch._dynamo.reset()
    return torch.compile(f, fullgraph=True, backend="aot_eager")


def assert_compiles(f, x0, parameters):
    """Values, and gradients of the start and of the parameters."""
    found = []
    for run in (f, compiled(f)):
        x = x0.clone().requires_grad_()
        y = run(x)
        found.append([y.detach(), *torch.autograd.grad(y.square().sum(), [x, *parameters])])
    for eager, other in zip(*found, strict=True):
        assert bool(eager.any())
        torch.testing.assert_close(other, eager, rtol=1e-12, atol=1e-13)


# Every scheme, field and set at least once: tracing takes seconds.
@pytest.mark.parametrize(("scheme", "field", "g"), [
    *(("ProxHeun", field, "Orthant") for field in FIELDS),
    *(("ProxHeun", "constant", g) for g in SETS if g != "Orthant"),
    *((scheme, "PiecewiseConstant", "Box") for scheme in EXPLICIT if scheme != "ProxHeun")])
def test_a_solve_compiles_into_one_graph(scheme, field, g):
    parameters = list(FIELDS[field].parameters()) if isinstance(FIELDS[field], torch.nn.Module) else []
    steps = di.Fixed(n=6) if g == "Box" else None
    f = end(scheme, field, g, steps)
    used = [p for p, d in zip(parameters, torch.autograd.grad(f(X0).sum(), parameters, allow_unused=True), strict=True)
            if d is not None] if parameters else []
    assert_compiles(f, X0, used)


def test_layers_compile_into_one_graph():
    for times in (torch.linspace(0, 1, 11), torch.linspace(0, 1, 11, dtype=F64), [k / 10 for k in range(11)]):
        layer = di.nn.InclusionLayer(FIELDS["PiecewiseConstant"], di.Orthant(), times)
        assert torch.equal(layer(X0), di.solve(layer.flow, X0, layer.t).x[-1])
    assert_compiles(layer, X0, list(layer.parameters()))


@pytest.mark.parametrize("variant", di.nn.VARIANTS)
def test_a_network_compiles_into_one_graph(variant):
    net = di.nn.DenseResNet(12, 3, variant=variant, width=6, depth=4,
                            generator=torch.Generator().manual_seed(0)).double()
    assert_compiles(net, torch.rand(5, 12, dtype=F64), list(net.parameters()))


def test_checkpointing_compiles_to_the_same():
    flow = di.Inclusion(FIELDS["constant"], di.Orthant())
    assert_compiles(lambda x: di.solve(flow, x, [0, 1], steps=di.Fixed(n=5), gradient="checkpoint").x[-1], X0,
                    list(FIELDS["constant"].parameters()))


def test_times_in_a_tensor_are_refused_inside_compile():
    t = torch.tensor(TIMES, dtype=F64)
    flow = di.Inclusion(FIELDS["callable"], di.Orthant())
    with pytest.raises(Exception, match=r"list of floats inside torch.compile"):
        compiled(lambda x: di.solve(flow, x, t).x[-1])(X0)


def test_a_jump_out_of_the_tube_is_nan_in_a_compiled_solve():
    flow = di.Inclusion.from_velocity(lambda t, x: -3 * x, di.OutsideBall(1.0))
    y = compiled(lambda x: di.solve(flow, x, [0.0, 1.0]).x[-1])(torch.tensor([[1.5, 0.0], [0.0, 2.0]]))
    assert bool(y.isnan().all())
