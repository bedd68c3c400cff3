"""Contract of every scheme: order through contact, staying in C, discrete bound, where F is evaluated, gradients."""

import math

import exact
import pytest
import torch
from catalogue import EXPLICIT, FUNCTIONS, SCHEMES, D
from torch.linalg import vector_norm
from torch.nn.functional import linear

import diffincl as di

F64 = torch.float64
EVERY = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
NUMBERS = (73, 149, 307, 611, 1231)  # of steps, none of which ends at a switch


def decay(t, x):
    """x' = −x·(1 + ½ sin t): smooth, never at the boundary."""
    return x * (1 + 0.5 * torch.sin(t))


def smooth():
    x0 = torch.tensor([1.0, 0.3], dtype=F64)
    return di.Inclusion(decay, di.Orthant()), x0, 2.0, lambda t: x0 * math.exp(-t - 0.5 * (1 - math.cos(t)))


@EVERY
@pytest.mark.parametrize("problem", [smooth, exact.skorokhod, exact.spiral, exact.elastic], ids=lambda p: p.__name__)
def test_order_in_the_interior_and_through_contact(scheme, problem):
    numbers = NUMBERS[:4] if isinstance(scheme, di.ImplicitEuler) else NUMBERS
    assert exact.observed_order(problem, scheme, numbers) == pytest.approx(scheme.order, abs=0.1)


@EVERY
def test_order_one_on_a_curved_set(scheme):
    assert exact.observed_order(exact.disk, scheme, NUMBERS[:4]) == pytest.approx(1.0, abs=0.1)


def test_second_order_on_the_spiral_within_the_stated_margin():
    """Two hits and two leaves, steps not aligned with any of them."""
    assert exact.observed_order(exact.spiral, di.ProxHeun(), (149, 307, 611, 1231)) == pytest.approx(2.0, abs=0.15)
    assert exact.observed_order(exact.spiral, di.ForwardEuler(), (149, 307, 611, 1231)) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("problem", [exact.half_line, exact.norm_flow, exact.l1_flow], ids=lambda p: p.__name__)
@pytest.mark.parametrize("n", [1, 7, 40])
def test_catching_up_reproduces_flows_of_constant_speed(problem, n):
    assert exact.sup_error(problem, di.ForwardEuler(), n) < 1e-14 * (1 + n)


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
    if not isinstance(scheme, di.ImplicitEuler):  # inside the Newton iteration a transform sees single samples
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


def test_orders_with_jumping_and_with_linear_weights():
    gen = torch.Generator().manual_seed(3)
    for kind in (di.PiecewiseConstant, di.PiecewiseLinear):
        A, b1, b2 = (kind(torch.randn(4, *s, generator=gen, dtype=F64)) for s in ((3, 2), (3,), (2,)))
        flow, x0 = di.Inclusion(di.ResNetSField(A, b1, b2), di.Orthant()), torch.tensor([1.0, 0.5], dtype=F64)

        def end(n, flow=flow, x0=x0):
            return di.solve(flow, x0, [0.0, 1.0], scheme=di.ProxHeun(), steps=di.Fixed(n=n)).x[-1]

        reference = end(6000)
        errors = [float((end(n) - reference).abs().max()) for n in (60, 120, 240, 480)]
        order = math.log2(errors[0] / errors[-1]) / 3
        assert order == pytest.approx(2.0, abs=0.25)


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


@pytest.mark.parametrize(("stiffness", "dtype"), [(1e3, torch.float32), (1e3, F64), (1e6, F64), (1e9, F64)])
def test_implicit_euler_has_no_step_limit(stiffness, dtype):
    """hL up to 1e9: rounding of u times hL exceeds any residual tolerance, and the root is still found."""
    a = stiffness * torch.tensor([[1.0, 0.3], [-0.2, 1.0]], dtype=dtype)
    target = torch.tensor([1.0, -0.5], dtype=dtype)
    flow = di.Inclusion(lambda t, x: (x - target) @ a.T, di.Orthant())
    sol = di.solve(flow, torch.zeros(5, 2, dtype=dtype), [0.0, 1.0, 2.0, 3.0], scheme=di.ImplicitEuler())
    limit = torch.tensor([0.85, 0.0], dtype=dtype).expand(5, 2)
    torch.testing.assert_close(sol.x[-1], limit, rtol=0, atol=3 / stiffness**3 + 1e3 * torch.finfo(dtype).eps)
    assert torch.equal(sol.x[-1, :, 1], torch.zeros(5, dtype=dtype))


def test_implicit_euler_gradient_of_a_stiff_step_is_the_implicit_one():
    k = torch.tensor(1e7, dtype=F64, requires_grad=True)
    x0 = torch.tensor([2.0], dtype=F64, requires_grad=True)
    x = di.solve(di.Inclusion(lambda t, x: k * (x - 1), di.Orthant()), x0, [0.0, 1.0], scheme=di.ImplicitEuler()).x[-1]
    dx, dk = torch.autograd.grad(x.sum(), (x0, k))  # x = (x0 + k)/(1 + k)
    assert float(dx) == pytest.approx(1 / (1 + 1e7), rel=1e-6)
    assert float(dk) == pytest.approx(-1 / (1 + 1e7) ** 2, rel=1e-5)


def test_implicit_euler_is_not_taken_in_by_a_small_step_on_a_steep_piece():
    flow = di.Inclusion(lambda t, x: 1e5 * x.clamp(max=0) - 1, di.Whole())
    assert float(di.solve(flow, torch.zeros(1), [0.0, 1.0], scheme=di.ImplicitEuler()).x[-1]) == 1.0


@pytest.mark.parametrize("stiffness", [1e3, 1e6, 1e9])
@pytest.mark.parametrize("name", ["Ball", "Box numbers", "Simplex", "L1"])
def test_implicit_euler_converges_on_stiff_monotone_problems(name, stiffness):
    """The naive residual saturates for large hL and Newton jumps between two faces."""
    g, gen = FUNCTIONS[name], torch.Generator().manual_seed(0)
    x0 = g.prox(torch.randn(100, D, generator=gen, dtype=F64), 1.0)
    a = torch.randn(100, D, generator=gen, dtype=F64)
    x = di.solve(di.Inclusion(lambda t, x: stiffness * (x - a), g), x0, [0.0, 1.0], scheme=di.ImplicitEuler()).x[-1]
    exact_step = g.prox((x0 + stiffness * a) / (1 + stiffness), 1 / (1 + stiffness))
    torch.testing.assert_close(x, exact_step, rtol=0, atol=1e-9)


@EVERY
def test_forward_mode_derivatives(scheme):
    def end(x):
        return di.solve(di.Inclusion(lambda t, x: x * x, di.Orthant()), x, [0.0, 0.3, 0.5], scheme=scheme).x[-1]

    x, v = torch.tensor([1.0, 2.0], dtype=F64), torch.tensor([0.3, -1.0], dtype=F64)
    _, tangent = torch.func.jvp(end, (x,), (v,))
    torch.testing.assert_close(tangent, torch.autograd.functional.jacobian(end, x) @ v)


def test_implicit_euler_value_does_not_depend_on_who_differentiates():
    """√x has no derivative at the root 0: the value stays, with and without gradients, checkpointed or not."""
    flow = di.Inclusion(lambda t, x: x.clamp_min(0).sqrt(), di.Orthant())
    for wanted in (False, True):
        for gradient in ("backprop", "checkpoint"):
            x0 = torch.tensor([[0.0], [1.0]], dtype=F64, requires_grad=wanted)
            sol = di.solve(flow, x0, [0.0, 1.0], scheme=di.ImplicitEuler(), gradient=gradient)
            torch.testing.assert_close(sol.x[-1].detach(), torch.tensor([[0.0], [0.381966011250105]], dtype=F64))


def test_implicit_euler_gradients_through_checkpointed_segments():
    flow = di.Inclusion(lambda t, x: x + torch.tanh(x.flip(-1)), di.Orthant())
    gradients = []
    for gradient in ("backprop", "checkpoint"):
        x0 = torch.tensor([[0.4, 0.9]], dtype=F64, requires_grad=True)
        sol = di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=70), scheme=di.ImplicitEuler(), gradient=gradient)
        gradients.append(torch.autograd.grad(sol.x[-1].sum(), x0)[0])
    torch.testing.assert_close(*gradients)


def test_implicit_euler_refuses_half_precision():
    with pytest.raises(ValueError, match=r"needs float32 or float64; got x0 of dtype torch.bfloat16"):
        di.solve(di.Inclusion(lambda t, x: x, di.Orthant()), torch.ones(1, dtype=torch.bfloat16), [0.0, 1.0],
                 scheme=di.ImplicitEuler())


@EVERY
def test_an_infinite_field_is_never_hidden_by_the_prox(scheme):
    flow = di.Inclusion(lambda t, x: torch.where(t < 0.5, torch.inf, 1.0) + 0 * x, di.Orthant())
    if isinstance(scheme, di.ImplicitEuler):
        flow = di.Inclusion(lambda t, x: torch.inf + 0 * x, di.Orthant())
    with pytest.raises(di.SolveError):
        di.solve(flow, torch.ones(2), [0.0, 1.0], scheme=scheme)


def test_implicit_euler_nonmonotone_root_and_failure():
    """An iteration that does not converge is an error, never kept; the other samples go on."""
    def F(t, x):  # no solution of u = x − F(u) for x > 0.3 or so
        return -1 - torch.exp(x * x)

    flow = di.Inclusion(F, di.Whole())
    x0 = torch.tensor([[0.0], [-20.0]], dtype=F64)
    with pytest.raises(di.SolveError, match="inner Newton iteration of ImplicitEuler did not converge; take smaller"):
        di.solve(flow, x0, [0.0, 1.0], scheme=di.ImplicitEuler())
    step = di.solve(di.Inclusion(lambda t, x: torch.where(x < -5, x, F(t, x)), di.Whole()), x0, [0.0, 1.0],
                    scheme=di.ImplicitEuler(), throw=False)
    assert step.status.tolist() == [2, 0]
    assert bool(step.x[1, 0].isnan())
    assert float(step.x[1, 1]) == -10.0


@pytest.mark.parametrize(("make", "message"), [
    (lambda: di.ImplicitEuler(tol=0.0), "tol must be greater than 0; got 0"),
    (lambda: di.ImplicitEuler(max_iter=0), "max_iter must be at least 1; got 0"),
    (lambda: di.ImplicitEuler(iterations=3), "unexpected keyword argument 'iterations'"),
])
def test_bad_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
