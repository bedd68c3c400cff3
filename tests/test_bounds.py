"""Bounds against trajectories: continuous against converged ones, discrete against the steps, attacked by ascent."""

import dataclasses
import math

import pytest
import torch
from catalogue import SCHEMES
from torch.linalg import vector_norm

import diffincl as di
from diffincl.bounds.continuous import growth_of_gradient
from diffincl.bounds.pieces import pieces_of
from diffincl.steps import plan

F64, INF = torch.float64, float("inf")
C, L = di.PiecewiseConstant, di.PiecewiseLinear
KINDS = ("free", "d", "s")


def field(kind, curve=C, *lead, seed=0, d=3, m=4, size=0.8):
    g = torch.Generator().manual_seed(seed)
    A1, b1, A2, b2 = (size * torch.randn(3, *lead, *s, generator=g, dtype=F64) for s in ((m, d), (m,), (d, m), (d,)))
    if kind == "s":
        return di.ResNetSField(curve(A1), curve(b1), curve(b2))
    return (di.ResNetDField if kind == "d" else di.ResNetField)(curve(A1), curve(b1),
                                                               curve(A2.abs() if kind == "d" else A2), curve(b2))


MEMBERS = 4


def starts(g, d=3, seed=1):
    """Pairs for an ensemble, (MEMBERS, 20, d)."""
    gen = torch.Generator().manual_seed(seed)
    x, gap = torch.randn(2, MEMBERS, 20, d, generator=gen, dtype=F64)
    return g.prox(x, 1.0), g.prox(x + 0.3 * gap, 1.0)


def converged(flow, x0, t):
    return di.solve(flow, x0, t, scheme=di.ProxHeun(), steps=di.Fixed(n=400))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("curve", [C, L])
@pytest.mark.parametrize("rate", ["global", "centred", "scaled"])
def test_continuous_bounds_hold_on_converged_trajectories(kind, curve, rate):
    t = torch.linspace(0.1, 1, 8, dtype=F64)  # not aligned with the knots at 1/3, 2/3 or 1/2
    for g in (di.Orthant(), di.Box(0.0, 1.5), di.Ball(2.0)):
        flow = di.Inclusion(field(kind, curve, MEMBERS), g)
        x, y = (converged(flow, z, t) for z in starts(g))
        c = di.compare(di.bounds.sensitivity(flow, t, rate=rate), x, y)
        assert float(c.ratio.max()) <= 1 + 1e-4
        c = di.compare(di.bounds.growth(flow, t, x.x[0], rate=rate), x)
        assert float(c.ratio.max()) <= 1 + 1e-4


@pytest.mark.parametrize("p", [1, INF])
@pytest.mark.parametrize("kind", KINDS)
def test_other_norms(kind, p):
    t = torch.linspace(0, 1, 7, dtype=F64)
    flow = di.Inclusion(field(kind, C, MEMBERS), di.Orthant())
    x, y = (converged(flow, z, t) for z in starts(flow.g))
    a, b = (di.solve(flow, z, t) for z in starts(flow.g))
    assert float(di.compare(di.bounds.sensitivity(flow, t, "global", p), x, y).ratio.max()) <= 1 + 1e-4
    assert float(di.compare(di.bounds.growth(flow, t, x.x[0], "scaled", p), x).ratio.max()) <= 1 + 1e-4
    assert di.compare(di.bounds.discrete_sensitivity(flow, t, rate="global", p=p), a, b).holds
    assert di.compare(di.bounds.discrete_growth(flow, t, a.x[0], rate="global", p=p), a).holds


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("curve", [C, L])
def test_discrete_bounds_hold_on_the_steps(scheme, kind, curve):
    t, steps = torch.linspace(0, 1, 5, dtype=F64), di.Fixed(n=12)
    flow = di.Inclusion(field(kind, curve, MEMBERS), di.Orthant())
    x, y = (di.solve(flow, z, t, scheme=scheme, steps=steps) for z in starts(flow.g))
    for rate in ("global", "centred", "scaled"):
        assert di.compare(di.bounds.discrete_sensitivity(flow, t, scheme, rate, steps=steps), x, y).holds
        assert di.compare(di.bounds.discrete_growth(flow, t, x.x[0], scheme, rate, steps=steps), x).holds


def test_a_continuous_bound_need_not_hold_for_steps():
    """Rotation: the flow keeps distances, explicit Euler expands by √(1 + h²) a step (D4)."""
    flow = di.Inclusion(lambda t, x: torch.stack([x[..., 1], -x[..., 0]], -1), di.Whole(), lipschitz=1.0, one_sided=0.0)
    t = torch.linspace(0, 4, 11, dtype=F64)
    x, y = (di.solve(flow, torch.tensor(v, dtype=F64), t) for v in ([1.0, 0.0], [0.0, 0.5]))
    assert not di.compare(di.bounds.sensitivity(flow, t), x, y).holds
    c = di.compare(di.bounds.discrete_sensitivity(flow, t), x, y)
    assert c.holds
    assert float(c.ratio[-1]) == pytest.approx(1.0, rel=1e-9)  # attained


def test_known_values():
    A = 2.0 * torch.eye(2, dtype=F64)
    zero, t = torch.zeros(2, dtype=F64), [0.0, 0.5, 1.0]
    flow = di.Inclusion(di.ResNetSField(A, zero, zero), di.Orthant())
    for rate, exponent in (("global", 4.0), ("centred", 0.0), ("scaled", 0.0)):
        curve = di.bounds.sensitivity(flow, t, rate=rate).curve
        assert curve.tolist() == pytest.approx([1.0, math.exp(exponent / 2), math.exp(exponent)], rel=1e-9)
    # h‖A‖² = 2: nonexpansive; h‖A‖² = 4: factor 3 a step (D3)
    assert di.bounds.discrete_sensitivity(flow, t).curve.tolist() == pytest.approx([1, 1, 1], rel=1e-9)
    assert di.bounds.discrete_sensitivity(flow, [0.0, 1.0, 2.0]).curve.tolist() == pytest.approx([1, 3, 9], rel=1e-9)
    # growth of a flow with ν = 1, β = 2: e^t r + 2(e^t − 1)
    one = torch.ones(1, 1, dtype=F64)
    flow = di.Inclusion(di.ResNetField(-one, 0 * one[0], one, 2 * one[0]), di.Orthant())
    curve = di.bounds.growth(flow, [0.0, 1.0], torch.tensor([3.0], dtype=F64), rate="global").curve
    assert curve.tolist() == pytest.approx([3.0, 3 * math.e + 2 * (math.e - 1)], rel=1e-9)


def test_structural_growth_bounds_are_attained():
    one = torch.ones(1, 1, dtype=F64)
    x0, t = torch.tensor([0.5], dtype=F64), [0.0, 1.0, 2.0]
    flow = di.Inclusion(di.ResNetDField(one, -100 * one[0], one, one[0]), di.Orthant())
    assert float(di.compare(di.bounds.growth(flow, t, x0), converged(flow, x0, t)).ratio.min()) > 1 - 1e-9  # C5
    layers = di.compare(di.bounds.discrete_growth(flow, t, x0), di.solve(flow, x0, t))
    assert float(layers.ratio.min()) > 1 - 1e-9  # D2
    # C6 with b2 = 0: x' = (b − x)₊ climbs as √(x0² + ½b²t) where b = 2x.
    flow = di.Inclusion(di.ResNetSField(-one, 2.0 * one[0], 0 * one[0]), di.Orthant())
    t = torch.linspace(0, 0.3, 4, dtype=F64)
    x0 = torch.tensor([1.0], dtype=F64)
    c = di.compare(di.bounds.growth(flow, t, x0), converged(flow, x0, t))
    assert 0.97 < float(c.ratio[1:].min()) <= float(c.ratio.max()) <= 1


def test_curves_of_an_ensemble_are_those_of_its_members():
    members, t = 2, torch.linspace(0, 1, 4, dtype=F64)
    for kind in KINDS:
        both = field(kind, C, members)
        flow = di.Inclusion(both, di.Orthant())
        sensitivity = di.bounds.sensitivity(flow, t).curve
        x0 = torch.rand(members, 5, 3, dtype=F64)
        growth = di.bounds.discrete_growth(flow, t, x0).curve
        assert sensitivity.shape == (4, members)
        assert growth.shape == (4, members, 5)
        for k in range(members):
            names = ("A", "b1", "b2") if kind == "s" else ("A1", "b1", "A2", "b2")
            alone = di.Inclusion(type(both)(*(C(getattr(both, n).values[:, k]) for n in names)), di.Orthant())
            close = {"rtol": 1e-3, "atol": 1e-3}  # the optimised scalings differ a little
            torch.testing.assert_close(sensitivity[:, k], di.bounds.sensitivity(alone, t).curve, **close)
            torch.testing.assert_close(growth[:, k], di.bounds.discrete_growth(alone, t, x0[k]).curve, **close)


def test_more_save_times_do_not_loosen_a_bound():
    for curve in (C, L):
        flow = di.Inclusion(field("free", curve), di.Orthant())
        few = di.bounds.sensitivity(flow, [0.0, 0.4, 1.0]).curve
        many = di.bounds.sensitivity(flow, torch.linspace(0, 1, 101, dtype=F64)).curve
        # Where the weights move, shorter pieces give a sharper bound; elsewhere nothing changes.
        assert bool((many[[0, 40, 100]] <= few * (1 + 1e-9)).all())
        assert bool((many[[40, 100]] >= few[1:] * (0.7 if curve is L else 1 - 1e-9)).all())


def test_comparison_of_float32_trajectories_allows_for_their_rounding():
    flow = di.Inclusion(field("s", size=0.5), di.Orthant())
    flow.field.float()
    t = torch.linspace(0, 1, 4)
    x0 = 100 * torch.rand(200, 3)
    x, y = di.solve(flow, x0, t), di.solve(flow, x0 + 1e-4 * torch.rand(200, 3), t)
    c = di.compare(di.bounds.discrete_sensitivity(flow, t), x, y)
    assert c.holds
    far = dataclasses.replace(y, x=y.x + 1.0 * (y.t > 0)[:, None, None].float())
    assert not di.compare(di.bounds.discrete_sensitivity(flow, t), x, far).holds


FLOW = di.Inclusion(field("free"), di.Orthant())
PLAIN = di.Inclusion(lambda t, x: x, di.Orthant())
OFF = di.Inclusion(field("free"), di.Box(1.0, 2.0))
NEGATIVE = di.Inclusion(field("d"), di.Orthant())
T01, ONES = [0.0, 1.0], torch.ones(3, dtype=F64)


def made_negative():
    with torch.no_grad():
        NEGATIVE.field.A2.values.neg_()
    return di.bounds.growth(NEGATIVE, T01, ONES)


def not_convex():
    return di.bounds.sensitivity(di.Inclusion(field("free"), di.OutsideBall()), T01)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: di.bounds.sensitivity(FLOW, T01, rate="magic"), "rate must be one of 'global', 'centred', 'scaled'"),
    (lambda: di.bounds.sensitivity(FLOW, T01, p=1), "rate='scaled' bounds the Euclidean norm; got p = 1"),
    (lambda: di.bounds.sensitivity(FLOW, T01, rate="global", p=3), "p must be 1, 2 or inf"),
    (lambda: di.bounds.sensitivity(di.Inclusion(FLOW.field, di.Ball()), T01, rate="global", p=1),
     "p = 1 needs a g whose prox acts coordinate by coordinate"),
    (lambda: di.bounds.sensitivity(PLAIN, T01), "needs its constant: pass lipschitz= or one_sided= to Inclusion"),
    (lambda: di.bounds.sensitivity(PLAIN, T01, rate="global"), "pass lipschitz= to Inclusion"),
    (lambda: di.bounds.growth(PLAIN, T01, ONES), "which a plain callable does not tell"),
    (lambda: di.bounds.growth(OFF, T01, ONES), "growth bounds need 0 to minimise g"),
    (lambda: di.bounds.growth(FLOW, T01, -ONES), r"x0 must lie in C; sample \(\) is 1.73 away from Orthant"),
    (lambda: di.bounds.discrete_growth(FLOW, T01, -ONES), "x0 must lie in C"),
    (lambda: di.bounds.growth(NEGATIVE, T01, ONES, p=0.5), r"p must be at least 1 .* got 0.5"),
    (lambda: di.bounds.growth(NEGATIVE, T01, ONES, p=float("nan")), r"p must be at least 1 .* got nan"),
    (lambda: di.bounds.growth(FLOW, T01, ONES[:2]), "x0 must have last dimension 3"),
    (lambda: di.bounds.growth(FLOW, T01, ONES * torch.nan), "x0 must be finite"),
    (lambda: di.bounds.sensitivity(FLOW, [0.0, 2.0]), "t must stay where the weights are defined"),
    (lambda: di.bounds.sensitivity(FLOW, T01, rates="global"), "unexpected keyword argument 'rates'"),
    (made_negative, "A2 must be nonnegative entry by entry in ResNet-D"),
    (not_convex, r"bounds need a convex g, whose normal cones are monotone; OutsideBall"),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_c5_survives_an_overflow_of_the_exponential():
    W, one = 30 * torch.ones(1, 1, dtype=F64), torch.ones(1, dtype=F64)
    flow = di.Inclusion(di.ResNetDField(-W, one, W, one), di.Orthant())
    for p in (1, 2, INF):
        assert float(di.bounds.growth(flow, T01, one, p=p).curve[-1]) == pytest.approx(2.0)
    assert not bool(di.bounds.growth(flow, T01, 0 * one, rate="global").curve.isnan().any())


@pytest.mark.parametrize("gap", [3e-9, 1e-7, 1e-3])
def test_a_factor_near_zero_is_still_an_upper_bound(gap):
    L = 10 * (1 - gap)
    flow = di.Inclusion(lambda t, x: L * x, di.Whole(), one_sided=-L, lipschitz=L)
    x, y = (di.solve(flow, torch.tensor([v], dtype=F64), [0.0, 0.1]) for v in (1.0, 2.0))
    assert float(di.compare(di.bounds.discrete_sensitivity(flow, [0.0, 0.1]), x, y).ratio[-1]) <= 1


def test_bad_comparisons():
    x = di.solve(FLOW, ONES, T01)
    s, g = di.bounds.discrete_sensitivity(FLOW, T01), di.bounds.discrete_growth(FLOW, T01, ONES)
    with pytest.raises(ValueError, match="a sensitivity bound is compared with two solutions; got one"):
        di.compare(s, x)
    with pytest.raises(ValueError, match="a growth bound is compared with one solution; got two"):
        di.compare(g, x, x)
    with pytest.raises(ValueError, match=r"must share their times; the bound has 2 in .* the solution 3"):
        di.compare(g, di.solve(FLOW, ONES, [0.0, 0.5, 1.0]))
    failing = di.Inclusion(lambda t, x: x * torch.nan, di.Orthant(), lipschitz=1.0)
    bad = di.solve(failing, ONES, T01, throw=False)
    with pytest.raises(ValueError, match="the solution is not complete: 1 of 1 samples"):
        di.compare(di.bounds.discrete_sensitivity(failing, T01, rate="global"), bad, bad)


def test_gradient_ascent_on_points_and_weights_finds_no_violation():
    """Weights and points are both free: the ascent climbs the ratio of the sharpest continuous bound."""
    gen = torch.Generator().manual_seed(0)
    shapes = ((3, 2), (3,), (2, 3), (2,))
    w = [(0.8 * torch.randn(20, *shape, generator=gen, dtype=F64)).requires_grad_() for shape in shapes]
    z = torch.rand(2, 20, 1, 2, generator=gen, dtype=F64).requires_grad_()
    t, optimiser = [0.0, 1.0], torch.optim.Adam([*w, z], lr=0.05)
    best = torch.zeros(20, dtype=F64)
    for _ in range(30):
        flow = di.Inclusion(di.ResNetField(*w), di.Orthant())
        start = torch.relu(z)
        x, y = (di.solve(flow, v, t, scheme=di.ProxHeun(), steps=di.Fixed(n=40)).x for v in start)
        gap = vector_norm(x - y, dim=-1)[..., 0]
        J = -0.5 * (w[2] @ w[0] + (w[2] @ w[0]).mT)
        surrogate = (gap[-1].clamp_min(1e-9) / gap[0].clamp_min(1e-3)).log() - torch.linalg.eigvalsh(J)[..., -1].relu()
        with torch.no_grad():
            curve = di.bounds.sensitivity(flow, t).curve[-1]
            best = torch.maximum(best, torch.where(gap[0] > 1e-3, gap[-1] / gap[0] / curve, 0.0))
        optimiser.zero_grad()
        (-surrogate).sum().backward()
        optimiser.step()
    assert 0.9 < float(best.max()) <= 1 + 1e-4


def test_growth_of_c6_has_a_slope_at_the_origin():
    zero = torch.zeros(2, dtype=F64)
    flow = di.Inclusion(di.ResNetSField(torch.eye(2, dtype=F64), zero - 1, zero), di.Orthant())
    pieces = pieces_of(flow, plan(flow.field, T01), "global", 2)
    size = torch.zeros(3, dtype=F64, requires_grad=True)
    growth_of_gradient(pieces, size).sum().backward()
    assert bool(torch.isfinite(size.grad).all())


def test_a_bound_interpolates_float32_weights_in_float64():
    """The exponent of a 1×1 net with linear float32 weights against the exact integral of |A1(t)|·|A2|."""
    g = torch.Generator().manual_seed(0)
    one, t = torch.ones(1, 1), torch.linspace(0, 1, 8, dtype=F64)
    for _ in range(50):
        values = 1 + torch.rand(3, 1, 1, generator=g)
        field = di.ResNetField(L(values), torch.zeros(1), one, torch.zeros(1))
        a, b, c = values.double().flatten().tolist()
        exact = math.exp((a + 2 * b + c) / 4)
        assert float(di.bounds.sensitivity(di.Inclusion(field, di.Orthant()), t, "global").curve[-1]) >= exact
