"""Contract of every scheme: staying in C, discrete bound, where F is evaluated, gradients."""

import dataclasses

import pytest
import torch
from catalogue import EXPLICIT, FUNCTIONS, SCHEMES, D
from torch.linalg import vector_norm
from torch.nn.functional import linear

import diffincl as di

F64 = torch.float64
IMPLICIT = tuple(name for name in SCHEMES if name not in EXPLICIT)
EVERY = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("layered", [False, True])
@pytest.mark.parametrize("n", [1, 10, 49])
def test_forward_euler_is_the_network_bit_for_bit(dtype, batch, layered, n):
    g = torch.Generator().manual_seed(n)
    d, m = 7, 12
    lead = (n,) if layered else ()
    A1, b1, A2, b2 = (torch.randn(*lead, *s, generator=g, dtype=dtype) / 4 for s in ((m, d), (m,), (d, m), (d,)))
    x0 = torch.rand(batch, d, generator=g, dtype=dtype)
    curves = [di.PiecewiseConstant(w, 0.0, float(n)) if layered else w for w in (A1, b1, A2, b2)]
    sol = di.solve(di.Inclusion(di.ResNetField(*curves), di.Orthant()), x0, torch.linspace(0, n, n + 1),
                   scheme=di.ForwardEuler())
    x = x0
    for k in range(n):
        W1, c1, W2, c2 = (w[k] if layered else w for w in (A1, b1, A2, b2))
        x = torch.relu(x - linear(torch.relu(linear(x, W1, c1)), W2, -c2))
        assert torch.equal(sol.x[k + 1], x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layers_of_another_length_than_one(dtype):
    """Bit for bit with the same calls; a plain x − h * F rounds once more and agrees to that."""
    g, h = torch.Generator().manual_seed(0), 0.1
    A1, b1, A2, b2 = (torch.randn(*s, generator=g, dtype=dtype) for s in ((12, 7), (12,), (7, 12), (7,)))
    x0 = torch.rand(64, 7, generator=g, dtype=dtype)
    sol = di.solve(di.Inclusion(di.ResNetField(A1, b1, A2, b2), di.Orthant()), x0, torch.arange(11) * h)
    x = x0
    for k in range(10):
        length = float(sol.t[k + 1]) - float(sol.t[k])
        F = linear(torch.relu(linear(x, A1, b1)), A2, -b2)
        torch.testing.assert_close(sol.x[k + 1], torch.relu(x - length * F))
        x = torch.relu(torch.sub(x, F, alpha=length))
        assert torch.equal(sol.x[k + 1], x)


@EVERY
@pytest.mark.parametrize("name", FUNCTIONS)
def test_stays_in_the_domain_and_the_multiplier_is_normal(scheme, name):
    g = FUNCTIONS[name]
    gen = torch.Generator().manual_seed(1)
    x0 = g.prox(torch.randn(20, D, generator=gen, dtype=F64), 1.0)
    A, c = torch.randn(D, D, generator=gen, dtype=F64), torch.randn(D, generator=gen, dtype=F64)
    sol = di.solve(di.Inclusion(lambda t, x: x @ A.T + c, g), x0, torch.linspace(0, 1, 11), scheme=scheme)
    assert sol.success
    for t, x in zip(sol.t, sol.x, strict=True):
        assert bool(torch.isfinite(g.value(x, t)).all())
        assert not isinstance(g, di.ConvexSet) or bool(g.contains(x, t).all())
    assert float(torch.stack([g.normal_distance(x, n, t) for t, x, n in
                              zip(sol.t[1:], sol.x[1:], sol.multiplier, strict=True)]).max()) < 1e-5


@EVERY
@pytest.mark.parametrize("kind", ["free", "d", "s"])
def test_the_discrete_bound_holds_under_attack(scheme, kind):
    """Gradient ascent over pairs of points for the expansion of six random networks in one ensemble."""
    gen, members, d, m, h = torch.Generator().manual_seed(2), 6, 3, 4, 0.4
    A1, A2 = (torch.randn(3, members, *s, generator=gen, dtype=F64) for s in ((m, d), (d, m)))
    b1, b2 = (torch.randn(3, members, k, generator=gen, dtype=F64) for k in (m, d))
    A1, A2, b1, b2 = (di.PiecewiseConstant(0.6 * w, 0.0, 3 * h) for w in (A1, A2, b1, b2))
    if kind == "d":
        A2 = di.PiecewiseConstant(A2.values.abs(), 0.0, 3 * h)
    field = di.ResNetSField(A1, b1, b2) if kind == "s" else \
        (di.ResNetDField if kind == "d" else di.ResNetField)(A1, b1, A2, b2)
    flow, t = di.Inclusion(field, di.Orthant()), [0.0, h, 2 * h, 3 * h]
    z = torch.rand(2, members, 20, d, generator=gen, dtype=F64).requires_grad_()
    optimiser = torch.optim.Adam([z], lr=0.05)
    worst = torch.zeros(members, dtype=F64)
    for _ in range(25):
        x = di.solve(flow, torch.relu(torch.cat([z[0], z[1]], 1)), t, scheme=scheme).x
        x, y = x.chunk(2, dim=2)
        gap = vector_norm(x - y, dim=-1)
        ratio = gap[-1] / gap[0].clamp_min(1e-6)
        worst = torch.maximum(worst, ratio.detach().amax(-1))
        optimiser.zero_grad()
        (-ratio).sum().backward()
        optimiser.step()
    for rate in ("global", "centred", "scaled"):
        bound = di.bounds.discrete_sensitivity(flow, t, scheme, rate=rate).curve[-1]
        assert bool((worst <= bound * (1 + 1e-9)).all()), rate
    if kind == "s":
        assert float(worst.max()) > 0.9  # the attack comes near the bound 1 of the scaled rate


@EVERY
def test_evaluates_the_field_inside_the_step_with_the_whole_batch(scheme):
    seen = []

    def F(t, x):
        seen.append((float(t), tuple(x.shape)))
        return x

    x0 = torch.rand(4, 3, dtype=F64)
    sol = di.solve(di.Inclusion(F, di.Orthant()), x0, [0.0, 0.5], scheme=scheme)
    assert all(0.0 <= t <= 0.5 for t, _ in seen)
    if scheme in map(SCHEMES.get, EXPLICIT):  # inside the Newton iteration a transform sees single samples
        assert all(shape == (4, 3) for _, shape in seen)
        assert sol.stats.evaluations == len(seen) == scheme.order


@EVERY
def test_the_last_stage_sees_the_weights_of_its_own_step(scheme):
    """With the right limit at the end of a layer prox-Heun would drop to order 1, silently."""
    C = di.PiecewiseConstant
    A, b2 = torch.ones(2, 1, 1, dtype=F64), torch.tensor([[0.0], [50.0]], dtype=F64)
    field = di.ResNetSField(C(A), C(torch.zeros(2, 1, dtype=F64)), C(b2))
    whole = di.solve(di.Inclusion(field, di.Orthant()), torch.ones(1, dtype=F64), [0.0, 0.5], scheme=scheme)
    alone = di.ResNetSField(A[0], torch.zeros(1, dtype=F64), b2[0])
    first = di.solve(di.Inclusion(alone, di.Orthant()), torch.ones(1, dtype=F64), [0.0, 0.5], scheme=scheme)
    assert torch.equal(whole.x, first.x)


@EVERY
def test_gradients_through_contact(scheme):
    """A hit and a leave inside; finite differences of the discrete solution, in x0 and in a parameter."""
    def end(x0, a):
        flow = di.Inclusion(lambda t, x: a * torch.cos(t) + 0.2 * x, di.Orthant())
        return di.solve(flow, x0, torch.linspace(0, 3, 41), scheme=scheme).x[-1]

    x0 = torch.tensor([[0.5], [0.8], [2.0]], dtype=F64, requires_grad=True)
    a = torch.tensor(1.1, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(end, (x0, a), eps=1e-7, atol=1e-6)
    assert torch.autograd.grad(end(x0, a).sum(), x0)[0][0].item() == 0.0  # after a hit the start is forgotten


@EVERY
@pytest.mark.parametrize("name", ["Ball", "Simplex", "L1", "L2", "HalfSpace", "Box numbers"])
def test_gradients_on_other_sets(scheme, name):
    g = FUNCTIONS[name]
    A = torch.tensor([[1.0, 0.5, 0.0], [-0.5, 0.8, 0.3], [0.1, 0.0, 1.2]], dtype=F64)

    def end(x0, c):
        flow = di.Inclusion(lambda t, x: x @ A.T - c, g)
        return di.solve(flow, g.prox(x0, 0.5), [0.0, 0.3, 0.7], scheme=scheme).x[-1]

    x0 = torch.tensor([[0.31, -0.83, 1.7], [1.3, 0.9, 0.45]], dtype=F64, requires_grad=True)
    c = torch.tensor([0.6, -0.9, 1.4], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(end, (x0, c), eps=1e-7, atol=1e-6)


@EVERY
def test_batch_is_loop(scheme):
    gen = torch.Generator().manual_seed(5)
    A = torch.randn(D, D, generator=gen, dtype=F64)
    x0 = torch.rand(2, 3, D, generator=gen, dtype=F64)
    flow = di.Inclusion(lambda t, x: torch.tanh(x @ A.T), di.Orthant())
    together = di.solve(flow, x0, torch.linspace(0, 1, 6), scheme=scheme).x
    for i in range(2):
        for j in range(3):
            alone = di.solve(flow, x0[i, j], torch.linspace(0, 1, 6), scheme=scheme).x
            torch.testing.assert_close(together[:, i, j], alone, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", EXPLICIT)
def test_vmap_jacrev_and_compile(name):
    scheme = SCHEMES[name]
    A, t, h = torch.tensor([[1.0, -2.0], [0.5, 0.3]], dtype=F64), torch.tensor([0.0, 0.1], dtype=F64).unbind(), 0.1
    x0 = torch.tensor([[1.0, 0.2], [0.1, 0.01], [0.7, 3.0]], dtype=F64)

    def step(x):
        return scheme.step(lambda t, x: x @ A.T, di.Orthant(), *t, h, x)[0]

    assert torch.equal(torch.func.vmap(step)(x0), torch.stack([step(x) for x in x0]))
    assert torch.equal(torch.compile(step, fullgraph=True, backend="aot_eager")(x0), step(x0))

    def run(x):
        return di.solve(di.Inclusion(lambda t, x: x @ A.T, di.Orthant()), x, [0.0, 0.1, 0.2, 0.3], scheme=scheme).x[-1]

    torch.testing.assert_close(torch.func.vmap(run)(x0), run(x0))
    J = torch.func.vmap(torch.func.jacrev(run))(x0)
    rows = [torch.autograd.functional.jacobian(run, x) for x in x0]
    torch.testing.assert_close(J, torch.stack(rows))


@EVERY
def test_forward_mode_derivatives(scheme):
    def end(x):
        return di.solve(di.Inclusion(lambda t, x: x * x, di.Orthant()), x, [0.0, 0.3, 0.5], scheme=scheme).x[-1]

    x, v = torch.tensor([1.0, 2.0], dtype=F64), torch.tensor([0.3, -1.0], dtype=F64)
    _, tangent = torch.func.jvp(end, (x,), (v,))
    torch.testing.assert_close(tangent, torch.autograd.functional.jacobian(end, x) @ v)


@EVERY
def test_an_infinite_field_is_never_hidden_by_the_prox(scheme):
    flow = di.Inclusion(lambda t, x: torch.where(t < 0.5, torch.inf, 1.0) + 0 * x, di.Orthant())
    if scheme in map(SCHEMES.get, IMPLICIT):
        flow = di.Inclusion(lambda t, x: torch.inf + 0 * x, di.Orthant())
    with pytest.raises(di.SolveError):
        di.solve(flow, torch.ones(2), [0.0, 1.0], scheme=scheme)


@pytest.mark.parametrize("scheme", [s for n, s in SCHEMES.items() if n != "SemiImplicitEuler"],  # it has no factor
                         ids=[n for n in SCHEMES if n != "SemiImplicitEuler"])
@pytest.mark.parametrize("kind", [di.PiecewiseConstant, di.PiecewiseLinear], ids=lambda k: k.__name__)
def test_growth_and_sensitivity_of_single_steps_under_attack(scheme, kind):
    """Ascent over the weights themselves, one step of an ensemble; linear weights move within the step."""
    gen, members, h = torch.Generator().manual_seed(7), 30, 0.5
    count = 1 if kind is di.PiecewiseConstant else 2
    weights = [torch.randn(count, members, *s, generator=gen, dtype=F64) for s in ((4, 2), (4,), (2, 4), (2,))]
    z = torch.randn(members, 2, 2, generator=gen, dtype=F64)
    z[:, 1] = z[:, 0] + 0.1 * z[:, 1]
    variables = [v.requires_grad_() for v in (*weights, z)]
    optimiser = torch.optim.Adam(variables, lr=0.03)
    nearest = 0.0
    if hasattr(scheme, "max_iter"):  # most of its time would go to samples without a root
        scheme = dataclasses.replace(scheme, max_iter=60)
    for k in range(30):
        flow = di.Inclusion(di.ResNetField(*(kind(w, 0.0, h) for w in weights)), di.Orthant())
        x0 = torch.relu(z)
        x = di.solve(flow, x0, [0.0, h], scheme=scheme, throw=False).x[-1]
        x = torch.where(x.isnan(), x0, x)  # no root: the field is not monotone
        gap = vector_norm(x[:, 0] - x[:, 1] + 1e-300, dim=-1) / vector_norm(x0[:, 0] - x0[:, 1], dim=-1).clamp_min(1e-6)
        if k % 5 == 4:
            still = di.Inclusion(di.ResNetField(*(kind(w.detach(), 0.0, h) for w in weights)), di.Orthant())
            factor = di.bounds.discrete_sensitivity(still, [0.0, h], scheme).curve[-1]
            growth = di.bounds.discrete_growth(still, [0.0, h], x0.detach(), scheme).curve[-1]
            assert bool((gap.detach() <= factor * (1 + 1e-9)).all())
            assert bool((x.detach().norm(dim=-1) <= growth * (1 + 1e-9)).all())
            nearest = max(nearest, float((x.detach().norm(dim=-1) / growth).max()))
        optimiser.zero_grad()
        (-(gap.clamp_max(1e3)).sum() - x.norm(dim=-1).sum() / 10).backward()
        optimiser.step()
    assert nearest > 0.3


def test_no_factor_of_ars222_is_near_one():
    """F(t) = 1, then 0: in contact the second prox sees the first one's multiplier √2 times; the bound is attained."""
    flow = di.Inclusion(lambda t, x: torch.where(t > 0, 0.0, 1.0) + 0 * x, di.Orthant(), lipschitz=0.0)
    x0 = torch.tensor([[0.0], [1e-3]], dtype=F64)
    x = di.solve(flow, x0, [0.0, 0.1], scheme=di.ARS222()).x[-1]
    factor = float(di.bounds.discrete_sensitivity(flow, [0.0, 0.1], di.ARS222()).curve[-1])
    assert float((x[0] - x[1]).abs()) / 1e-3 == pytest.approx(factor, rel=1e-9) == pytest.approx(2**0.5, rel=1e-9)


def test_the_factor_of_ars222_is_the_smaller_of_its_two_forms():
    """For hL = 2 and ρ = 1 (ResNet-S): 1/√8 + ¼ + 1 + 3γ/√8 + 1/(2γ); for small hL the other form."""
    A, zero = torch.eye(2, dtype=F64), torch.zeros(2, dtype=F64)
    flow, gamma = di.Inclusion(di.ResNetSField(A, zero, zero), di.Orthant()), 1 - 0.5**0.5

    def factor(h):
        return float(di.bounds.discrete_sensitivity(flow, [0.0, h], di.ARS222()).curve[-1])

    assert factor(2.0) == pytest.approx(1.25 + (1 + 3 * gamma) / 8**0.5 + 1 / (2 * gamma), rel=1e-9)
    assert factor(0.01) == pytest.approx(2**0.5 + 0.01 * (1 + 1 / (2 * gamma)), rel=1e-9)


def test_the_drift_in_the_growth_of_ars222():
    """From 0 with F = −b2: hd(√2γ + 1 + 1/(2γ)) in both forms, d = ‖b2‖; the step itself is h b2."""
    zero, b2, gamma = torch.zeros(1, 2, dtype=F64), torch.tensor([3.0, 4.0], dtype=F64), 1 - 0.5**0.5
    flow, x0 = di.Inclusion(di.ResNetSField(zero, zero[0, :1], b2), di.Orthant()), torch.zeros(2, dtype=F64)
    growth = float(di.bounds.discrete_growth(flow, [0.0, 0.1], x0, di.ARS222()).curve[-1])
    assert growth == pytest.approx(0.5 * (2**0.5 * gamma + 1 + 1 / (2 * gamma)), rel=1e-9)
