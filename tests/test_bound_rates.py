"""Bounds with the rates R4, R5, R6, R8 and "best", the growth that only counts what pushes outward, and D8."""

import math
from itertools import pairwise

import pytest
import torch
from torch.linalg import vector_norm

import diffincl as di
from diffincl.bounds.discrete import growth_of_symmetric_layers
from diffincl.bounds.pieces import pieces_of
from diffincl.steps import plan

F64, INF = torch.float64, float("inf")
C, L = di.PiecewiseConstant, di.PiecewiseLinear
MEMBERS = 4
SCHEMES = (di.ForwardEuler(), di.ProxHeun(), di.ImplicitEuler(), di.Trapezoid(), di.ARS222())


def field(kind, curve=C, *lead, seed=0, d=3, m=4, size=0.8):
    g = torch.Generator().manual_seed(seed)
    A1, b1, A2, b2 = (size * torch.randn(3, *lead, *s, generator=g, dtype=F64) for s in ((m, d), (m,), (d, m), (d,)))
    if kind == "s":
        return di.ResNetSField(curve(A1), curve(b1), curve(b2))
    return (di.ResNetDField if kind == "d" else di.ResNetField)(curve(A1), curve(b1),
                                                               curve(A2.abs() if kind == "d" else A2), curve(b2))


def starts(g, d=3, seed=1):
    gen = torch.Generator().manual_seed(seed)
    x, gap = torch.randn(2, MEMBERS, 20, d, generator=gen, dtype=F64)
    return g.prox(x, 1.0), g.prox(x + 0.3 * gap, 1.0)


def converged(flow, x0, t):
    return di.solve(flow, x0, t, scheme=di.ProxHeun(), steps=di.Fixed(n=200))


@pytest.mark.parametrize("curve", [C, L])
@pytest.mark.parametrize(("rate", "p"), [("exact", 2), ("weighted", 2), ("best", 2), ("measure", 1), ("measure", INF),
                                         ("exact", 1), ("weighted", INF), ("best", 1), ("best", INF)])
def test_continuous_bounds_hold(curve, rate, p):
    t = torch.linspace(0.1, 1, 6, dtype=F64)
    for kind, g in (("free", di.Orthant()), ("d", di.Box(0.0, 1.5)), ("s", di.Orthant())):
        flow = di.Inclusion(field(kind, curve, MEMBERS), g)
        x, y = (converged(flow, z, t) for z in starts(g))
        assert float(di.compare(di.bounds.sensitivity(flow, t, rate, p), x, y).ratio.max()) <= 1 + 1e-4
        assert float(di.compare(di.bounds.growth(flow, t, x.x[0], rate, p), x).ratio.max()) <= 1 + 1e-4


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("curve", [C, L])
def test_discrete_bounds_hold(scheme, curve):
    t, steps = torch.linspace(0, 1, 5, dtype=F64), di.Fixed(n=5)
    for kind in ("free", "d", "s"):
        flow = di.Inclusion(field(kind, curve, MEMBERS), di.Orthant())
        x, y = (di.solve(flow, z, t, scheme=scheme, steps=steps) for z in starts(flow.g))
        for rate, p in (("step", 2), ("best", 2), ("exact", 2), ("weighted", 2), ("measure", INF), ("best", 1)):
            if p != 2 and type(scheme).__name__ in ("ARS222", "ImplicitEuler", "Trapezoid"):
                continue
            assert di.compare(di.bounds.discrete_sensitivity(flow, t, scheme, rate, p, steps=steps), x, y).holds
            assert di.compare(di.bounds.discrete_growth(flow, t, x.x[0], scheme, rate, p, steps=steps), x).holds


def test_the_ladder_descends():
    t = torch.linspace(0, 1, 4, dtype=F64)
    for kind in ("free", "d", "s"):
        flow = di.Inclusion(field(kind, d=5, m=6), di.Orthant())
        curves = [di.bounds.sensitivity(flow, t, rate).curve[-1] for rate in ("global", "centred", "scaled", "exact")]
        assert all(float(b) <= float(a) * (1 + 1e-9) for a, b in pairwise(curves))
        best = di.bounds.sensitivity(flow, t, "best")
        assert float(best.curve[-1]) <= float(curves[-1]) * (1 + 1e-9)
        layers = [di.bounds.discrete_sensitivity(flow, t, rate=rate).curve[-1] for rate in ("scaled", "step", "best")]
        assert float(layers[2]) <= float(layers[1]) * (1 + 1e-9) <= float(layers[0]) * (1 + 2e-9)


def test_statements_say_which_rate():
    t = torch.linspace(0, 1, 4, dtype=F64)
    narrow, wide = (di.Inclusion(field("free", m=m), di.Orthant()) for m in (4, 12))
    assert di.bounds.sensitivity(wide, t, "best").statement == "C3 with rate R3 (scaled)"
    assert "R4 (exact)" in di.bounds.sensitivity(narrow, t, "best").statement
    assert di.bounds.sensitivity(narrow, t, "weighted").statement == "C3 with rate R5 (weighted)"
    assert "R8" in di.bounds.discrete_sensitivity(narrow, t, rate="step").statement
    assert "R8" not in di.bounds.discrete_sensitivity(narrow, t).statement
    mixed = field("free", d=4, m=4)
    with torch.no_grad():
        mixed.A1.values[0].copy_(mixed.A2.values[0].mT)
    text = di.bounds.sensitivity(di.Inclusion(mixed, di.Orthant()), t, "best", 1).statement
    assert text.startswith("C3 with rate")


def test_weights_pay_for_a_badly_scaled_net():
    g = torch.Generator().manual_seed(0)
    size = torch.tensor([1.0, 100.0, 0.01], dtype=F64)
    A1, A2 = torch.randn(4, 3, generator=g, dtype=F64) / size, size[:, None] * torch.randn(3, 4, generator=g, dtype=F64)
    zero = torch.zeros(4, dtype=F64), torch.zeros(3, dtype=F64)
    flow = di.Inclusion(di.ResNetField(0.5 * A1, zero[0], 0.5 * A2, zero[1]), di.Orthant())
    t = torch.linspace(0, 2, 9, dtype=F64)
    plain, weighted = (di.bounds.sensitivity(flow, t, rate).curve for rate in ("scaled", "weighted"))
    assert float(weighted[-1]) < 1e-3 * float(plain[-1])
    assert float(weighted[0]) == 1.0
    x, y = (di.solve(flow, z[0], t, scheme=di.ProxHeun(), steps=di.Fixed(n=4000)) for z in starts(flow.g))
    assert float(di.compare(di.bounds.sensitivity(flow, t, "weighted"), x, y).ratio.max()) <= 1 + 1e-4


def test_growth_counts_only_what_pushes_outward():
    """F(t, 0) = 1 pulls towards 0: ‖x‖ need not grow at all; the paper's bound adds ∫‖F(s, 0)‖."""
    one = torch.ones(1, dtype=F64)
    flow = di.Inclusion(di.ResNetField(one[None], 0 * one, one[None], -one), di.Orthant())
    assert di.bounds.growth(flow, [0.0, 1.0], 2 * one).curve.tolist() == pytest.approx([2, 2], rel=1e-9)
    assert float(di.bounds.growth(flow, [0.0, 1.0], 2 * one, "global").curve[-1]) == pytest.approx(3 * math.e - 1)
    for scheme in SCHEMES:
        least = float(di.bounds.discrete_growth(flow, [0.0, 0.5], 2 * one, scheme).curve[-1])
        assert (least > 2.1) == isinstance(scheme, di.ARS222)
    everywhere = di.Inclusion(flow.field, di.Box(-5.0, 5.0))  # below 0 the same F pushes outward
    assert float(di.bounds.growth(everywhere, [0.0, 1.0], 2 * one).curve[-1]) == pytest.approx(3.0)


def length(x):
    """‖x‖ with a slope at 0."""
    return (x.square().sum(-1) + 1e-12).sqrt()


def test_the_closed_form_of_symmetric_layers():
    """D8 under ascent over weights inside h‖A‖² < 2 and points: nearly attained, never exceeded."""
    g, shapes = torch.Generator().manual_seed(0), ((2, 2, 2), (2, 2), (2, 2), (2,))
    A, b1, b2, x = (torch.randn(64, *s, generator=g, dtype=F64).requires_grad_() for s in shapes)
    optimiser, best, t = torch.optim.Adam([A, b1, b2, x], lr=0.05), 0.0, torch.arange(3.0, dtype=F64)
    for _ in range(150):
        unit = A * ((1.95 / A.square().sum((-2, -1))).sqrt()).clamp(max=1)[..., None, None]  # Frobenius: inside
        f = di.ResNetSField(*(C(w.movedim(1, 0), 0, 2) for w in (unit, b1, b2)))
        start = torch.relu(x)
        observed = length(di.solve(di.Inclusion(f, di.Orthant()), start, t).x[-1])
        pieces = pieces_of(di.Inclusion(f, di.Orthant()), plan(f, t), "global", 2)
        bound = growth_of_symmetric_layers(pieces, vector_norm(start, dim=-1).detach())[-1]
        best = max(best, float(((observed.square() - 1e-12).clamp_min(0).sqrt() / bound).detach().max()))
        room = 2 - unit.square().sum((-2, -1))
        smooth = (start.square().sum(-1) + (torch.relu(b1).square().sum(-1) / room).sum(-1) + 1e-12).sqrt() \
            + length(torch.relu(b2)).sum(-1)
        optimiser.zero_grad()
        (smooth.log() - observed.log()).sum().backward()
        optimiser.step()
    assert 0.9 < best <= 1 + 1e-12


def test_the_closed_form_is_left_out_where_a_layer_is_too_large():
    A, zero = 2.0 * torch.eye(2, dtype=F64), torch.zeros(2, dtype=F64)
    flow = di.Inclusion(di.ResNetSField(A, zero, zero), di.Orthant())
    x0 = torch.ones(2, dtype=F64)
    assert "D8" in di.bounds.discrete_growth(flow, [0.0, 0.25], x0).statement
    assert "D8" not in di.bounds.discrete_growth(flow, [0.0, 1.0], x0).statement


def test_many_equal_steps_share_one_factor():
    f = field("free", d=6, m=8)
    flow = di.Inclusion(f, di.Orthant())
    b = di.bounds.discrete_sensitivity(flow, [0.0, 1.0], rate="step", steps=di.Fixed(n=1500))
    fine = float(di.bounds.sensitivity(flow, [0.0, 1.0]).curve[-1])
    assert float(b.curve[-1]) == pytest.approx(fine, rel=1e-2)


def test_ascent_on_layers_finds_no_violation_of_best():
    gen = torch.Generator().manual_seed(0)
    w = [(0.8 * torch.randn(16, *s, generator=gen, dtype=F64)).requires_grad_() for s in ((3, 2), (3,), (2, 3), (2,))]
    z = torch.rand(2, 16, 1, 2, generator=gen, dtype=F64).requires_grad_()
    t, optimiser, best = [0.0, 0.5, 1.0], torch.optim.Adam([*w, z], lr=0.05), 0.0
    for _ in range(60):
        flow = di.Inclusion(di.ResNetField(*w), di.Orthant())
        start = torch.relu(z)
        x, y = (di.solve(flow, v, t).x for v in start)
        gap = vector_norm(x - y, dim=-1)[..., 0]
        apart = gap[0] > 1e-3
        curve = di.bounds.discrete_sensitivity(flow, t, rate="step").curve[-1]
        best = max(best, float(torch.where(apart, gap[-1] / gap[0] / curve, 0.0).detach().max()))
        value = gap[-1].clamp_min(1e-9).log() - gap[0].clamp_min(1e-3).log() - 0.01 * sum(v.square().sum() for v in w)
        optimiser.zero_grad()
        (-value).sum().backward()
        optimiser.step()
    assert 0.95 < best <= 1 + 1e-12


FLOW = di.Inclusion(field("free"), di.Orthant())
BALL = di.Inclusion(FLOW.field, di.Ball())
WIDE = di.Inclusion(field("free", m=17), di.Orthant())


@pytest.mark.parametrize(("call", "message"), [
    (lambda: di.bounds.sensitivity(FLOW, [0.0, 1.0], "step"), "rate='step' is the factor of one forward Euler step"),
    (lambda: di.bounds.growth(FLOW, [0.0, 1.0], torch.ones(3, dtype=F64), "step"), "rate='step' is the factor"),
    (lambda: di.bounds.discrete_sensitivity(FLOW, [0.0, 1.0], rate="step", p=1), "rate='step' bounds the Euclidean"),
    (lambda: di.bounds.sensitivity(FLOW, [0.0, 1.0], "measure"), r"\(R6\) bounds ℓ1 and ℓ∞; got p = 2"),
    (lambda: di.bounds.sensitivity(BALL, [0.0, 1.0], "weighted"), "rate='weighted' needs a g whose prox acts coord"),
    (lambda: di.bounds.sensitivity(BALL, [0.0, 1.0], "best", INF), "p = inf needs a g whose prox acts"),
    (lambda: di.bounds.sensitivity(WIDE, [0.0, 1.0], "exact"), "m <= 16; got m = 17"),
    (lambda: di.bounds.sensitivity(FLOW, [0.0, 1.0], "best", 3), "p must be 1, 2 or inf"),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
