"""Schemes that locate switches: exact problems, nothing missed, gradients through contact, batches, failures."""

import gc
import math
import weakref

import exact
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import RK45, solve_ivp

import diffincl as di
from diffincl.switching import dp5, polynomials
from diffincl.switching.polynomials import evaluate, first_negative

F64 = torch.float64
DP5, EXACT = di.SwitchingDP5(), di.ExactFlow()


def relu_flow(d, seed, C=None, layers=3, kind=di.PiecewiseConstant, horizon=2.0):
    """A random ResNet flow with weights of moderate size."""
    g, m = torch.Generator().manual_seed(seed), 2 * d
    shapes = (((m, d), d**-0.5), ((m,), 1.0), ((d, m), 2 * m**-0.5), ((d,), 1.0))
    weights = [kind(scale * torch.randn(layers, *s, generator=g, dtype=F64), 0.0, horizon) for s, scale in shapes]
    return di.Inclusion(di.ResNetField(*weights), C or di.Orthant()), torch.rand(10, d, generator=g, dtype=F64)


# Polynomials

@pytest.mark.parametrize("degree", [1, 3, 4, 5, 20])
def test_first_negative_against_roots(degree):
    g = torch.Generator().manual_seed(degree)
    q = torch.randn(500, degree + 1, generator=g, dtype=F64)
    q[:, 0] = 0.3 * q[:, 0].abs()
    found = first_negative(q, torch.full((500,), 1e-14, dtype=F64))
    for theta, row in zip(found.tolist(), q.numpy(), strict=True):
        roots = np.roots(row[::-1])
        real = [r.real for r in roots if abs(r.imag) < 1e-9 and 0 < r.real <= 1]
        assert theta == pytest.approx(min(real, default=math.inf), abs=1e-8)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6), st.floats(0, 0.1))
def test_first_negative_never_passes_a_dip(coefficients, slack):
    """On a fine grid: nothing below −slack before θ, and right after θ the polynomial does go below 0."""
    q, grid = torch.tensor([coefficients], dtype=F64), torch.linspace(0, 1, 2001, dtype=F64)
    theta = float(first_negative(q, torch.tensor([slack + 1e-13], dtype=F64)))
    values = evaluate(q[0], grid)
    assert bool((values[grid < theta] >= -slack - 1e-12).all())
    if theta < 1:
        assert float(values[grid >= theta].min()) < 1e-9


@pytest.mark.parametrize(("depth", "seen"), [(1e-9, True), (1e-12, True), (-1e-12, False)])
def test_a_dip_between_any_two_samples_is_seen(depth, seen):
    q = torch.tensor([[0.3**2 - depth, -0.6, 1.0]], dtype=F64)  # (θ − 0.3)² − depth
    theta = float(first_negative(q, torch.full((1,), 1e-14, dtype=F64)))
    assert theta == pytest.approx(0.3 - depth**0.5, abs=1e-7) if seen else theta == math.inf


def test_the_search_looks_no_further_than_it_must(monkeypatch):
    """What starts below is found at once, and nothing right of an interval that ends below is halved."""
    looked, original = [], polynomials._least

    def counted(a, who, left, counts):
        looked.append(len(who))
        return original(a, who, left, counts)

    monkeypatch.setattr(polynomials, "_least", counted)
    slack, below = torch.full((4,), 1e-14, dtype=F64), torch.tensor(
        [[-1.0, 3.0, 0.0, 0.0], [-1e-3, 1.0, -4.0, 3.2], [-1e-9, 0.0, 1.0, -1.0], [-2.0, 0.0, 0.0, 0.0]], dtype=F64)
    assert first_negative(below, slack).tolist() == [0.0] * 4
    assert looked == [4]
    looked.clear()
    wiggles = torch.tensor(np.polynomial.chebyshev.Chebyshev.basis(6, domain=[0, 1]).convert(
        kind=np.polynomial.Polynomial, domain=[-1, 1]).coef[None], dtype=F64)  # 6 roots in [0, 1]
    first = (1 - math.cos(math.pi / 12)) / 2
    assert float(first_negative(wiggles, slack[:1])) == pytest.approx(first, abs=1e-9)
    assert max(looked) <= 2


def test_tables_are_those_of_dormand_prince_and_shampine():
    assert np.allclose(dp5.B, RK45.B, rtol=1e-15)
    assert np.allclose(np.abs(dp5.E), np.abs(RK45.E), rtol=1e-12)
    assert np.allclose(dp5.P, RK45.P, rtol=1e-15)
    assert np.allclose(dp5.C, RK45.C, rtol=1e-15)
    for row, theirs in zip(dp5.A[1:], RK45.A[1:], strict=True):
        assert np.allclose(row, theirs[:len(row)], rtol=1e-15)


# Exact problems

@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8, 1e-10])
def test_error_of_the_spiral_in_units_of_the_tolerance(rtol):
    flow, x0, horizon, solution = exact.spiral()
    sol = di.solve(flow, x0, torch.linspace(0, horizon, 57, dtype=F64), scheme=DP5, steps=di.Adaptive(rtol, rtol))
    error = (sol.x - torch.stack([solution(t) for t in sol.t.tolist()])).abs().max()
    assert float(error) <= 3 * rtol
    assert sol.stats.evaluations < 8 * sol.stats.steps + 10


def test_fifth_order_with_fixed_steps_through_four_switches():
    flow, x0, horizon, solution = exact.spiral()
    numbers = (20, 40, 80, 160)
    errors = [float((di.solve(flow, x0, [0.0, horizon], scheme=DP5, steps=di.Fixed(n=n)).x[-1] - solution(horizon))
                    .abs().max()) for n in numbers]
    assert math.log2(errors[0] / errors[-1]) / 3 >= 4.5


def test_switch_times_and_kinds_of_the_spiral():
    flow, x0, horizon, _ = exact.spiral()
    sol = di.solve(flow, x0, [0.0, horizon], scheme=DP5, steps=di.Adaptive(1e-11, 1e-11))
    switches = sol.switches.of()
    assert [s.kind for s in switches] == ["hit lower", "leave lower"] * 2
    assert [s.index for s in switches] == [0, 0, 1, 1]
    for s, t in zip(switches, (1.1022954858, 1.3165041522, 1.7869608997, 2.1729370577), strict=True):
        assert s.t == pytest.approx(t, abs=1e-9)


def reflected(phases, horizon):
    """x' = cos(t + φ), x >= 0, x(0) = 0.3, and its exact solution by the Skorokhod map."""
    phi = phases.unsqueeze(-1)

    def free(t):
        return 0.3 + torch.sin(t + phi) - torch.sin(phi)

    def solution(t):
        low = torch.minimum(free(torch.zeros_like(phi)), free(torch.full_like(phi, t)))
        for k in range(-1, int(horizon) + 2):  # minima of the free path at t + φ = −π/2 + 2πk
            s = 2 * math.pi * k - math.pi / 2 - phi
            low = torch.where((s >= 0) & (s <= t), torch.minimum(low, free(s)), low)
        return free(torch.full_like(phi, t)) + torch.relu(-low)

    flow = di.Inclusion.from_velocity(lambda t, x: torch.cos(t + phi), di.Orthant())
    return flow, torch.full_like(phi, 0.3), solution


@pytest.mark.parametrize("rtol", [1e-3, 1e-5, 1e-7])
def test_no_silent_miss(rtol):
    flow, x0, solution = reflected(torch.linspace(0, 2 * math.pi, 257, dtype=F64)[:-1], 4 * math.pi)
    t = torch.linspace(0, 4 * math.pi, 80, dtype=F64)
    sol = di.solve(flow, x0, t, scheme=DP5, steps=di.Adaptive(rtol, rtol))
    error = (sol.x - torch.stack([solution(s) for s in t.tolist()])).abs().amax((0, 2))
    assert float(error.max()) <= 20 * rtol


def test_many_coordinates_that_switch_at_different_times():
    phases = torch.linspace(0, 2 * math.pi, 61, dtype=F64)[:-1]
    flow, x0, solution = reflected(phases, 6.0)
    joint = di.Inclusion(lambda t, x: flow.field(t, x.unsqueeze(-1)).squeeze(-1), di.Orthant())
    sol = di.solve(joint, x0.squeeze(-1), [0.0, 3.0, 6.0], scheme=DP5, steps=di.Adaptive(1e-7, 1e-7))
    torch.testing.assert_close(sol.x[-1], solution(6.0).squeeze(-1), rtol=0, atol=2e-6)
    assert len(sol.switches) > 60


# Against the exact flow

@pytest.mark.parametrize("d", [2, 5, 16])
@pytest.mark.parametrize("C", [di.Orthant(), di.Box(0.0, 1.5), di.Whole()], ids=repr)
def test_random_relu_inclusions_against_the_exact_flow(d, C):
    flow, x0 = relu_flow(d, seed=d, C=C)
    t = torch.linspace(0, 2, 9, dtype=F64)
    reference = di.solve(flow, x0, t, scheme=EXACT)
    for tol in (1e-5, 1e-9):
        x = di.solve(flow, x0, t, scheme=DP5, steps=di.Adaptive(tol, tol)).x
        assert float((x - reference.x).abs().max()) <= 10 * tol
    assert float(reference.complementarity().max()) < 1e-9


def test_kinks_cap_the_accuracy_unless_located():
    flow, x0 = relu_flow(5, seed=1)
    reference = di.solve(flow, x0, [0.0, 2.0], scheme=EXACT).x[-1]
    errors = [float((di.solve(flow, x0, [0.0, 2.0], scheme=di.SwitchingDP5(kinks=kinks),
                              steps=di.Adaptive(1e-7, 1e-7)).x[-1] - reference).abs().max()) for kinks in (True, False)]
    assert errors[0] < 1e-6
    assert errors[1] > 2 * errors[0]


@pytest.mark.slow
@pytest.mark.parametrize(("d", "C"), [(3, di.Orthant()), (5, di.Box(0.0, 1.5)), (16, di.Orthant())], ids=repr)
def test_the_exact_flow_against_prox_heun_at_40_000_steps(d, C):
    """Ten starts each: 8e-9 apart at most, by an error of ProxHeun, of order 2."""
    flow, x0 = relu_flow(d, seed=d, C=C)
    reference = di.solve(flow, x0, [0.0, 1.0, 2.0], scheme=EXACT).x
    errors = []
    for n in (10_000, 40_000):
        with torch.no_grad():
            heun = di.solve(flow, x0, [0.0, 1.0, 2.0], scheme=di.ProxHeun(), steps=di.Fixed(n=n)).x
        errors.append(float((heun - reference).abs().max()))
    assert errors[1] < errors[0] / 8
    assert errors[1] <= 1e-8


def as_relu(A, b):
    """The affine field Ax − b as a ReLU network: σ(z) − σ(−z) = z."""
    eye = torch.eye(len(A), dtype=F64)
    return di.ResNetField(torch.cat([A, -A]), torch.zeros(2 * len(A), dtype=F64), torch.cat([eye, -eye], -1), b)


def test_the_exact_flow_is_a_chain_of_matrix_exponentials():
    A, x0 = torch.tensor([[0.3, 2.0], [-2.0, 0.3]], dtype=F64), torch.tensor([2.0, 1.0], dtype=F64)
    b = A @ torch.tensor([0.8, 0.5], dtype=F64)
    sol = di.solve(di.Inclusion(as_relu(A, b), di.Orthant()), x0, [0.0, 1.0, 1.2, 1.6, 2.0, 4.0], scheme=EXACT)
    solution = exact.spiral()[3]  # its switch times are rounded to 1e-10
    torch.testing.assert_close(sol.x, torch.stack([solution(t) for t in sol.t.tolist()]), rtol=0, atol=2e-9)
    times = [s.t for s in sol.switches.of(kinks=False)]
    assert times == pytest.approx([1.1022954858, 1.3165041522, 1.7869608997, 2.1729370577], abs=1e-9)


def test_the_exact_flow_without_contact_is_one_exponential():
    g = torch.Generator().manual_seed(0)
    A, b = torch.randn(4, 4, generator=g, dtype=F64), torch.randn(4, generator=g, dtype=F64)
    x0 = torch.randn(4, generator=g, dtype=F64)
    x = di.solve(di.Inclusion(as_relu(A, b), di.Whole()), x0, [0.0, 2.0], scheme=EXACT).x[-1]
    M = torch.zeros(5, 5, dtype=F64)
    M[:4, :4], M[:4, 4] = -A, b
    expected = torch.linalg.matrix_exp(2 * M) @ torch.cat([x0, torch.ones(1, dtype=F64)])
    torch.testing.assert_close(x, expected[:4], rtol=1e-13, atol=1e-13)


def test_weights_linear_in_time_with_their_kinks():
    """The preactivations are polynomials of one degree more; the reference is a very fine ProxHeun run."""
    flow, x0 = relu_flow(3, seed=2, kind=di.PiecewiseLinear, layers=3)
    x = di.solve(flow, x0, [0.0, 1.0, 2.0], scheme=DP5, steps=di.Adaptive(1e-9, 1e-9)).x
    tight = di.solve(flow, x0, [0.0, 1.0, 2.0], scheme=DP5, steps=di.Adaptive(1e-12, 1e-12)).x
    torch.testing.assert_close(x, tight, rtol=0, atol=1e-8)
    heun = di.solve(flow, x0, [0.0, 1.0, 2.0], scheme=di.ProxHeun(), steps=di.Fixed(n=3000)).x
    torch.testing.assert_close(tight, heun, rtol=0, atol=2e-6)


# Boxes, bounds, starts

def test_upper_bounds_and_coordinates_without_room():
    C = di.Box(torch.tensor([0.0, 0.5, -torch.inf], dtype=F64), torch.tensor([1.0, 0.5, 2.0], dtype=F64))
    flow = di.Inclusion.from_velocity(lambda t, x: torch.cos(t).expand_as(x), C)
    sol = di.solve(flow, torch.tensor([0.5, 0.5, 0.5], dtype=F64), [0.0, 4.0], scheme=DP5)
    kinds = [(s.index, s.kind) for s in sol.switches.of()]
    assert kinds == [(0, "hit upper"), (0, "leave upper"), (0, "hit lower")]
    assert sol.x[-1].tolist() == pytest.approx([0.0, 0.5, 0.5 + math.sin(4.0)], abs=1e-5)
    assert sol.active[-1].tolist() == [-1, -1, 0]
    assert sol.switches.t.tolist() == pytest.approx([math.pi / 6, math.pi / 2, math.pi], abs=1e-4)


def test_a_start_on_the_bound_and_a_graze_of_it():
    def v(t, x):
        return torch.stack([-torch.sin(t[..., 0]), t[..., 0] - 1], -1)

    flow = di.Inclusion.from_velocity(v, di.Orthant())
    x0 = torch.tensor([2.0, 0.0], dtype=F64)  # 1 + cos t touches 0 at π; the second waits for t = 1
    sol = di.solve(flow, x0, [0.0, math.pi, 5.0], scheme=DP5, steps=di.Adaptive(1e-8, 1e-8))
    assert sol.x[1].tolist() == pytest.approx([0.0, (math.pi - 1) ** 2 / 2], abs=1e-7)
    assert sol.x[2].tolist() == pytest.approx([1 + math.cos(5.0), 8.0], abs=1e-7)


def test_resting_coordinates_are_let_go_at_a_knot():
    C = di.PiecewiseConstant
    field = di.ResNetSField(torch.zeros(1, 1, dtype=F64), torch.zeros(1, dtype=F64),
                            C(torch.tensor([[-1.0], [2.0]], dtype=F64)))
    for scheme in (DP5, EXACT):
        sol = di.solve(di.Inclusion(field, di.Orthant()), torch.zeros(1, dtype=F64), [0.0, 0.5, 1.0], scheme=scheme)
        assert sol.x[:, 0].tolist() == pytest.approx([0.0, 0.0, 1.0])
        assert [(s.kind, s.t) for s in sol.switches.of()] == [("leave lower", 0.5)]


# Peers' problems on the whole space

def test_problems_of_ode_solvers_on_the_whole_space():
    a, b = 0.2, 3.0
    constant = (lambda t, y: a + (y - (a * t + b)) ** 5, 3.0, lambda t: a * t + b, (0.0, 8.0))
    sine = (lambda t, y: 2 * y / t + t**4 * torch.sin(2 * t) - t**2 + 4 * t**3, None,
            lambda t: -0.5 * t**4 * math.cos(2 * t) + 0.5 * t**3 * math.sin(2 * t) + 0.25 * t**2 * math.cos(2 * t)
            - t**3 + 2 * t**4 + (math.pi - 0.25) * t**2, (1.0, 8.0))
    decay = (lambda t, y: -y, 1.0, lambda t: math.exp(-t), (0.0, 8.0))
    for v, y0, solution, (t0, t1) in (constant, sine, decay):
        x0 = torch.tensor([solution(t0) if y0 is None else y0], dtype=F64)
        t = torch.linspace(t0, t1, 10, dtype=F64)
        sol = di.solve(di.Inclusion.from_velocity(v, di.Whole()), x0, t, scheme=DP5, steps=di.Adaptive(1e-7, 1e-9))
        expected = torch.tensor([[solution(s)] for s in t.tolist()], dtype=F64)
        assert float(((sol.x - expected).abs() / (1e-9 + 1e-7 * expected.abs())).max()) < 50
        assert len(sol.switches) == 0


def test_a_linear_system_against_scipy():
    g = torch.Generator().manual_seed(1)
    A = torch.randn(6, 6, generator=g, dtype=F64)
    x0 = torch.randn(6, generator=g, dtype=F64)
    ours = di.solve(di.Inclusion.from_velocity(lambda t, x: x @ (A - A.T), di.Whole()), x0, [0.0, 3.0], scheme=DP5,
                    steps=di.Adaptive(1e-9, 1e-9))
    theirs = solve_ivp(lambda t, x: x @ (A - A.T).numpy(), (0, 3), x0.numpy(), rtol=1e-9, atol=1e-9)
    exact_end = torch.linalg.matrix_exp(3 * (A - A.T).T) @ x0
    assert float((ours.x[-1] - exact_end).abs().max()) < 3e-8
    assert ours.stats.evaluations < 3 * theirs.nfev


def test_shampines_problem_stays_nonnegative():
    flow = di.Inclusion.from_velocity(lambda t, x: -x.abs(), di.Orthant())
    t = torch.linspace(0, 40, 81, dtype=F64)
    sol = di.solve(flow, torch.ones(1, dtype=F64), t, scheme=DP5, steps=di.Adaptive(1e-4, 1e-5))
    assert float((sol.x[:, 0] - torch.exp(-t)).abs().max()) < 9.9e-5
    assert float(sol.x.min()) >= 0


# Gradients

def test_the_derivative_through_contact_where_adjoints_fail():
    x0 = torch.tensor([0.5], dtype=F64, requires_grad=True)
    a = torch.tensor(1.0, dtype=F64, requires_grad=True)
    flow = di.Inclusion.from_velocity(lambda t, x: a * torch.cos(t).expand_as(x), di.Orthant())
    x = di.solve(flow, x0, [0.0, 2 * math.pi], scheme=DP5, steps=di.Adaptive(1e-9, 1e-9)).x[-1]
    dx0, da = torch.autograd.grad(x.sum(), (x0, a))
    assert float(dx0) == 0.0
    assert float(da) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("end", [1.2, 1.5, 2.0, 4.0])
def test_the_jacobian_through_the_switches_of_the_spiral(end):
    flow, x0, _, _ = exact.spiral()

    def final(x):
        return di.solve(flow, x, [0.0, end], scheme=DP5, steps=di.Adaptive(1e-11, 1e-11)).x[-1]

    J = torch.autograd.functional.jacobian(final, x0)
    h = 1e-4
    central = torch.stack([(final(x0 + h * e) - final(x0 - h * e)) / (2 * h) for e in torch.eye(2, dtype=F64)], -1)
    torch.testing.assert_close(J, central, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scheme", [DP5, EXACT], ids=lambda s: s.name)
def test_gradients_in_weights_and_bounds(scheme):
    """Against central differences along random directions, through hits, leaves, kinks and a knot; save times inside
    the steps, too."""
    g = torch.Generator().manual_seed(7)
    w = [torch.randn(2, *s, generator=g, dtype=F64) for s in ((4, 3), (4,), (3, 4), (3,))]
    upper, x0 = torch.tensor([0.8, 1.0, 1.2], dtype=F64), torch.rand(3, 3, generator=g, dtype=F64) * 0.7

    def final(x, upper, *w):
        field = di.ResNetField(*(di.PiecewiseConstant(v) for v in w))
        flow = di.Inclusion(field, di.Box(0.0, upper))
        steps = None if scheme is EXACT else di.Adaptive(1e-11, 1e-11)
        return di.solve(flow, x, [0.0, 0.37, 1.0], scheme=scheme, steps=steps).x[1:]

    inputs = [v.clone().requires_grad_() for v in (x0, upper, *w)]
    weights = torch.randn(2, 3, 3, generator=g, dtype=F64)
    gradients = torch.autograd.grad((weights * final(*inputs)).sum(), inputs)
    for k, (v, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        direction, h = torch.randn(v.shape, generator=g, dtype=F64), 1e-5
        ends = [(weights * final(*inputs[:k], v.detach() + s * h * direction, *inputs[k + 1:])).sum() for s in (1, -1)]
        slope = float((ends[0] - ends[1]).detach()) / (2 * h)
        assert float((gradient * direction).sum()) == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize("scheme", [DP5, EXACT], ids=lambda s: s.name)
def test_a_coordinate_that_rests_from_the_start_has_no_derivative(scheme):
    """Moved off its bound it is back at once: differences into the box are 0, whatever F makes of the coordinate."""
    A = torch.tensor([[0.0, 2.0], [0.0, 1.0]], dtype=F64)  # x1' = −2 x2 + 4, x2' = −x2 + 2, upwards at (·, 1)
    field = di.ResNetField(A, 5 * torch.ones(2, dtype=F64), torch.eye(2, dtype=F64),
                           torch.tensor([9.0, 7.0], dtype=F64))
    flow, x0 = di.Inclusion(field, di.Box(0.0, torch.tensor([9.0, 1.0], dtype=F64))), torch.ones(2, dtype=F64)

    def final(x):
        steps = None if scheme is EXACT else di.Adaptive(1e-9, 1e-11)
        return di.solve(flow, x, [0.0, 0.5], scheme=scheme, steps=steps).x[-1]

    J = torch.autograd.functional.jacobian(final, x0)
    inwards = (final(x0) - final(x0 - torch.tensor([0.0, 1e-6], dtype=F64))) / 1e-6
    assert float(inwards.abs().max()) < 1e-5
    assert J.tolist() == [[1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("scheme", [DP5, EXACT], ids=lambda s: s.name)
def test_checkpointed_gradients_are_the_same(scheme):
    """In start, bounds and weights, through hits, kinks and a knot, with save times inside the steps."""
    g = torch.Generator().manual_seed(7)
    w = [torch.randn(2, *s, generator=g, dtype=F64) for s in ((4, 3), (4,), (3, 4), (3,))]
    inputs = [v.requires_grad_() for v in (torch.rand(5, 3, generator=g, dtype=F64) * 0.7,
                                           torch.tensor([0.8, 1.0, 1.2], dtype=F64), *w)]
    gradients = []
    for gradient in ("backprop", "checkpoint"):
        flow = di.Inclusion(di.ResNetField(*(di.PiecewiseConstant(v) for v in inputs[2:])), di.Box(0.0, inputs[1]))
        t = [0.0, 0.37, 0.4, *(0.5 + 1e-9 * k for k in range(4)), 1.0]  # some of them in one step
        sol = di.solve(flow, inputs[0], t, scheme=scheme, gradient=gradient)
        assert len(sol.switches) > 5
        assert bool(sol.x.isfinite().all())
        gradients.append(torch.autograd.grad(sol.x.pow(2).sum() + sol.multiplier.sum(), inputs))
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain, rtol=1e-12, atol=1e-12)


def test_checkpointing_keeps_few_of_the_stages():
    """Evaluations whose results are kept for the backward pass: all of them, or those of one segment at a time."""
    alive, most = [], []

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            alive.append(1)
            most.append(len(alive))
            ctx.counted = weakref.finalize(ctx, alive.pop)
            return torch.sin(x)

        @staticmethod
        def backward(ctx, gradient):
            return gradient * torch.cos(ctx.saved_tensors[0])

    x0 = torch.tensor([0.5], dtype=F64, requires_grad=True)
    flow, found = di.Inclusion(lambda t, x: Counted.apply(x) - 0.3 * torch.cos(t), di.Orthant()), {}
    for gradient in ("backprop", "checkpoint"):
        alive.clear()
        most.clear()
        sol = di.solve(flow, x0, [0.0, 20.0], scheme=DP5, steps=di.Adaptive(1e-9, 1e-9), gradient=gradient)
        sol.x[-1].sum().backward()
        found[gradient] = max(most), int(sol.stats.accepted)
        del sol
        gc.collect()
    (plain, n), (again, _) = found["backprop"], found["checkpoint"]
    assert plain > 6 * n > 600
    assert again < 8 * 2 * math.sqrt(n)


# Batches

@pytest.mark.parametrize("scheme", [DP5, EXACT], ids=lambda s: s.name)
def test_a_sample_does_not_depend_on_its_neighbours(scheme):
    flow, x0 = relu_flow(4, seed=5)
    steps = None if scheme is EXACT else di.Adaptive(1e-6, 1e-6)
    together = di.solve(flow, x0.reshape(2, 5, 4), [0.0, 0.5, 2.0], scheme=scheme, steps=steps)
    for i, j in ((0, 0), (0, 3), (1, 4)):
        alone = di.solve(flow, x0.reshape(2, 5, 4)[i, j], [0.0, 0.5, 2.0], scheme=scheme, steps=steps)
        torch.testing.assert_close(together.x[:, i, j], alone.x, rtol=0, atol=1e-12)
        torch.testing.assert_close(together.multiplier[:, i, j], alone.multiplier, rtol=0, atol=1e-9)
        assert [s[1:] for s in together.switches.of(i, j)] == [s[1:] for s in alone.switches.of()]
        assert int(together.stats.accepted[i, j]) == int(alone.stats.accepted)


def test_an_ensemble_of_networks():
    g = torch.Generator().manual_seed(8)
    w = [torch.randn(4, *s, generator=g, dtype=F64) for s in ((3, 2), (3,), (2, 3), (2,))]
    x0 = torch.rand(4, 5, 2, generator=g, dtype=F64)
    for scheme in (DP5, EXACT):
        x = di.solve(di.Inclusion(di.ResNetField(*w), di.Orthant()), x0, [0.0, 1.0], scheme=scheme).x
        for k in range(4):
            field = di.ResNetField(*(v[k] for v in w))
            alone = di.solve(di.Inclusion(field, di.Orthant()), x0[k], [0.0, 1.0], scheme=scheme).x
            torch.testing.assert_close(x[:, k], alone, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_dtype_is_kept(dtype):
    flow = di.Inclusion.from_velocity(lambda t, x: torch.cos(t).expand_as(x), di.Orthant())
    sol = di.solve(flow, torch.full((3, 1), 0.5, dtype=dtype), [0.0, 5.0], scheme=DP5, steps=di.Adaptive(1e-5, 1e-5))
    assert [s.kind for s in sol.switches.of(2)] == ["hit lower", "leave lower"]
    assert sol.x.dtype == sol.multiplier.dtype == dtype
    assert float(sol.x[-1, 0, 0]) == pytest.approx(1 + math.sin(5.0), abs=1e-3)


def test_mixed_precision_does_not_reach_the_scheme():
    flow = di.Inclusion.from_velocity(lambda t, x: torch.cos(t).to(x).expand_as(x), di.Orthant())
    x0 = torch.linspace(0.1, 1, 40).unsqueeze(-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sol = di.solve(flow, x0, [0.0, 5.0], scheme=DP5, steps=di.Adaptive(1e-5, 1e-5))
    assert torch.equal(sol.x, di.solve(flow, x0, [0.0, 5.0], scheme=DP5, steps=di.Adaptive(1e-5, 1e-5)).x)


# What a solution knows

def test_the_interpolant_stays_in_the_set_and_does_not_smear_switches():
    flow, x0, horizon, solution = exact.spiral()
    sol = di.solve(flow, x0, [0.0, 2.0, horizon], scheme=DP5, steps=di.Adaptive(1e-9, 1e-9))
    times = torch.linspace(0, horizon, 101, dtype=F64)
    x = sol(times)
    assert bool((x >= 0).all())
    torch.testing.assert_close(x, torch.stack([solution(t) for t in times.tolist()]), rtol=0, atol=2e-8)
    assert torch.equal(sol(2.0), sol.x[1])
    torch.testing.assert_close(sol(1.0), sol(torch.tensor([1.0], dtype=F64))[0], rtol=0, atol=1e-9)


def test_multiplier_active_set_and_complementarity():
    flow, x0, _, _ = exact.skorokhod()
    sol = di.solve(flow, x0, [0.0, 0.3, 1.0, 1.3, 2.0], scheme=DP5)
    assert sol.multiplier[:, 0].tolist() == pytest.approx([0.0, -math.cos(1.0), -math.cos(1.3), 0.0], abs=1e-5)
    assert sol.active[:, 0].tolist() == [0, 0, -1, -1, 0]
    assert float(sol.complementarity().max()) == 0.0
    assert sol.explain() == "sample (): solved up to t = 2: success"
    with pytest.raises(ValueError, match="explain takes the 0 batch indices of a sample"):
        sol.explain(1)
    with pytest.raises(ValueError, match="of takes the 0 batch indices of a sample"):
        sol.switches.of(0)


# Failures

FLOW = relu_flow(2, 0)[0]


def test_a_field_that_turns_nan_keeps_what_each_sample_has():
    def v(t, x):
        return torch.where((t > 0.7) & (x[..., :1] > 1), torch.nan, torch.ones_like(x))

    x0 = torch.tensor([[0.0, 0.0], [1.5, 0.0]], dtype=F64)
    flow = di.Inclusion.from_velocity(v, di.Orthant())
    with pytest.raises(di.SolveError, match=r"1 of 2 samples failed; first, sample \(1,\) stopped at t = 0") as caught:
        di.solve(flow, x0, [0.0, 0.5, 0.9], scheme=DP5)
    sol = caught.value.solution
    assert sol.status.tolist() == [0, 1]
    assert sol.reached.tolist() == pytest.approx([0.9, 0.7], abs=1e-6)
    torch.testing.assert_close(sol.x[1], torch.tensor([[0.5, 0.5], [2.0, 0.5]], dtype=F64))
    assert bool(sol.x[2, 1].isnan().all())
    assert "the field was not finite" in sol.explain(1)
    assert di.solve(flow, x0, [0.0, 0.5, 0.9], scheme=DP5, throw=False).x[2, 0].tolist() == pytest.approx([0.9, 0.9])


def test_too_many_steps_keeps_a_partial_solution():
    flow = di.Inclusion.from_velocity(lambda t, x: torch.cos(x[..., :1] * 50 * t), di.Orthant())
    x0 = torch.tensor([[0.0], [1.0]], dtype=F64)
    sol = di.solve(flow, x0, [0.0, 0.01, 5.0], scheme=DP5, steps=di.Adaptive(1e-9, 1e-9, max_steps=40), throw=False)
    assert sol.status.tolist() == [4, 4]
    assert bool(sol.x[1].isfinite().all())
    assert bool(sol.x[2].isnan().all())
    assert bool(((sol.reached > 0.01) & (sol.reached < 5)).all())
    assert "raise Adaptive(max_steps=...)" in sol.message


def test_a_field_that_jumps_is_reported():
    flow = di.Inclusion.from_velocity(lambda t, x: -torch.sign(x - 0.5) * 1.0, di.Orthant())
    sol = di.solve(flow, torch.ones(1, dtype=F64), [0.0, 2.0], scheme=DP5, steps=di.Adaptive(max_steps=400),
                   throw=False)
    assert int(sol.status) in (4, 5)
    assert float(sol.reached) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("value", [lambda x: x[..., :1], lambda x: x.float(), lambda x: None])
def test_a_field_that_returns_something_else(value):
    flow = di.Inclusion(lambda t, x: value(x) if bool((t > 0.3).any()) else -x, di.Orthant())
    with pytest.raises(di.SolveError, match="the field must return a tensor of shape") as caught:
        di.solve(flow, torch.ones(2, 2, dtype=F64), [0.0, 0.01, 1.0], scheme=DP5)
    assert caught.value.solution.status.tolist() == [3, 3]
    assert bool(caught.value.solution.x[1].isfinite().all())


@pytest.mark.parametrize(("call", "message"), [
    (lambda: di.solve(di.Inclusion(lambda t, x: x, di.Ball()), torch.zeros(2), [0.0, 1.0], scheme=DP5),
     r"SwitchingDP5 follows Whole, Orthant and Box only; got Ball.*Use ARS222\(\) or ProxHeun\(\)"),
    (lambda: di.solve(di.Inclusion(lambda t, x: x, di.L1()), torch.zeros(2), [0.0, 1.0], scheme=DP5), "got L1"),
    (lambda: di.solve(di.Inclusion(lambda t, x: x, di.Orthant()), torch.zeros(2), [0.0, 1.0], scheme=EXACT),
     "ExactFlow needs a ResNet field with constant or piecewise constant weights; got CallableField"),
    (lambda: di.solve(*relu_flow(2, 0, kind=di.PiecewiseLinear), [0.0, 1.0], scheme=EXACT), "with linear ones"),
    (lambda: di.solve(*relu_flow(2, 0, di.Ball(9.0)), [0.0, 1.0], scheme=EXACT), "ExactFlow follows Whole, Orthant"),
    (lambda: di.solve(*relu_flow(2, 0), [0.0, 1.0], scheme=EXACT, steps=di.Fixed(0.1)), "ExactFlow takes no steps"),
    (lambda: di.solve(*relu_flow(2, 0), [0.0, 1.0], scheme=di.ForwardEuler(), steps=di.Adaptive()),
     "Adaptive steps need a scheme with an error estimate"),
    (lambda: torch.func.vmap(lambda x: di.solve(FLOW, x, [0.0, 1.0], scheme=DP5).x)(torch.rand(3, 2, dtype=F64)),
     "reads the values of the states"),
    (lambda: di.solve(di.Inclusion(lambda t, x: x, di.Orthant()), torch.ones(1), [0.0, 1.0], scheme=DP5,
                      steps=di.Adaptive(1e-9, 1e-9)), "are below the rounding of x0 in float32.* x0.double()"),
    (lambda: di.Adaptive(rtol=0.0), "rtol must be greater than 0; got 0"),
    (lambda: di.Adaptive(atol=-1e-9), "atol must be greater than 0; got -1e-09"),
    (lambda: di.Adaptive(rtol=float("nan")), "rtol must be finite; got nan"),
    (lambda: di.Adaptive("tight"), "rtol must be a real number; got 'tight'"),
    (lambda: di.Adaptive(max_step=0.0), "max_step must be greater than 0"),
    (lambda: di.Adaptive(first_step=-1.0), "first_step must be greater than 0"),
    (lambda: di.Adaptive(max_steps=0), "max_steps must be at least 1"),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
