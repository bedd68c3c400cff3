"""Two systems beside each other: other weights (C4), errors of the layers (D8)."""

import pytest
import torch
from torch.linalg import vector_norm

import diffincl as di

F64 = torch.float64
C, L = di.PiecewiseConstant, di.PiecewiseLinear


def weights(kind, seed, layers=3, d=3, m=4, size=0.8):
    g = torch.Generator().manual_seed(seed)
    A1, b1, A2, b2 = (size * torch.randn(layers, *s, generator=g, dtype=F64) for s in ((m, d), (m,), (d, m), (d,)))
    return (A1, b1, A1.mT.clone() if kind == "s" else A2, b2)


def perturbed(kind, seed, amount, curve, layers=3):
    first, noise = weights(kind, seed), weights("free", seed + 100, layers=layers)
    base = tuple(w.mean(0, keepdim=True).expand_as(n) for w, n in zip(first, noise, strict=True)) \
        if layers != 3 else first
    make = [tuple(curve(w) for w in first), tuple(curve(b + amount * n) for b, n in zip(base, noise, strict=True))]
    return [di.ResNetField(*ws) for ws in make]


@pytest.mark.parametrize("curve", [C, L])
@pytest.mark.parametrize("kind", ["free", "s"])
@pytest.mark.parametrize("amount", [1e-3, 0.3])
def test_two_flows_stay_within_the_bound(curve, kind, amount):
    t = torch.linspace(0.1, 1, 5, dtype=F64)
    for layers, g in ((3, di.Orthant()), (5, di.Box(0.0, 2.0)), (3, di.Ball(2.0))):  # 5: knots of its own
        F, other = perturbed(kind, 0, amount, curve, layers)
        flow = di.Inclusion(F, g)
        x0 = g.prox(torch.rand(30, 3, dtype=F64, generator=torch.Generator().manual_seed(0)), 1.0)
        y0 = g.prox(x0 + 0.1, 1.0)
        x, y = (di.solve(di.Inclusion(f, g), z, t, scheme=di.ProxHeun(), steps=di.Fixed(n=400))
                for f, z in ((F, x0), (other, y0)))
        for rate in ("global", "scaled", "best"):
            c = di.compare(di.bounds.two_fields(flow, other, t, x0, y0, rate), x, y)
            assert c.observed.shape == (5, 30)
            assert float(c.ratio.max()) <= 1 + 1e-4


def test_equal_fields_and_points_stay_together():
    F, _ = perturbed("free", 0, 0.1, C)
    b = di.bounds.two_fields(di.Inclusion(F, di.Orthant()), F, [0.0, 1.0], torch.ones(3, dtype=F64))
    assert float(b.curve[-1]) < 1e-12


def test_a_shift_of_b2_attains_the_bound():
    """F = −1 and F = −1.5 on the half line: the distance is ½t, and so is the bound."""
    zero, one = torch.zeros(1, 1, dtype=F64), torch.ones(1, dtype=F64)
    F, other = di.ResNetField(zero, 0 * one, zero, one), di.ResNetField(zero, 0 * one, zero, 1.5 * one)
    b = di.bounds.two_fields(di.Inclusion(F, di.Orthant()), other, [0.0, 2.0], one)
    assert float(b.curve[-1]) == pytest.approx(1.0, rel=1e-9)


def test_ascent_over_both_weights_finds_no_violation():
    g, shapes = torch.Generator().manual_seed(0), ((3, 2), (3,), (2, 3), (2,))
    w = [(0.7 * torch.randn(24, *s, generator=g, dtype=F64)).requires_grad_() for s in shapes]
    v = [(a + 0.2 * torch.randn(a.shape, generator=g, dtype=F64)).detach().requires_grad_() for a in w]
    x = torch.rand(24, 1, 2, generator=g, dtype=F64).requires_grad_()
    optimiser, best = torch.optim.Adam([*w, *v, x], lr=0.03), 0.0
    for _ in range(40):
        flows = [di.Inclusion(di.ResNetField(*ws), di.Orthant()) for ws in (w, v)]
        start = torch.relu(x)
        a, b = (di.solve(f, start, [0.0, 1.0], scheme=di.ProxHeun(), steps=di.Fixed(n=40)).x[-1] for f in flows)
        gap = (a - b).square().sum(-1).clamp_min(1e-12).sqrt()
        curve = di.bounds.two_fields(flows[0], flows[1].field, [0.0, 1.0], start.detach()).curve[-1]
        best = max(best, float((gap / curve).detach().max()))
        A1, b1, A2, b2 = (p - q for p, q in zip(w, v, strict=True))
        price = sum(p.square().sum(tuple(range(1, p.ndim))) for p in (A1, b1, A2, b2)).sqrt()
        optimiser.zero_grad()
        (price.log() - gap[:, 0].log()).sum().backward()
        optimiser.step()
    assert 0.3 < best <= 1 + 1e-3


@pytest.mark.parametrize("scheme", [di.ForwardEuler(), di.ProxHeun()], ids=lambda s: type(s).__name__)
def test_errors_of_the_layers_add_up_within_the_bound(scheme):
    F = di.ResNetField(*(C(w) for w in weights("free", 0)))
    flow, t = di.Inclusion(F, di.Orthant()), torch.linspace(0, 1, 4, dtype=F64)
    g = torch.Generator().manual_seed(0)
    e = 0.2 * torch.randn(3, 50, 3, generator=g, dtype=F64)
    x = y = torch.rand(50, 3, generator=g, dtype=F64)
    y = torch.relu(y + 0.1)
    start = vector_norm(x - y, dim=-1)
    rows = [start]
    for k in range(3):
        x = di.solve(flow, x, t[k:k + 2], scheme=scheme).x[-1]
        y = di.solve(flow, y, t[k:k + 2], scheme=scheme).x[-1] + e[k]
        rows.append(vector_norm(x - y, dim=-1))
        y = torch.relu(y)  # back into the set: no farther from x
    b = di.bounds.layer_errors(flow, t, vector_norm(e, dim=-1), start, scheme)
    ratio = torch.stack(rows) / b.curve
    assert b.curve.shape == (4, 50)
    assert float(ratio.max()) <= 1 + 1e-12
    assert float(ratio[-1].max()) > 0.15
    shared = di.bounds.layer_errors(flow, t, vector_norm(e, dim=-1).amax(1), start.max(), scheme)
    assert float(shared.curve[-1]) >= float(b.curve[-1].max()) * (1 - 1e-12)


FIELD = di.ResNetField(*(C(w) for w in weights("free", 0)))
FLOW = di.Inclusion(FIELD, di.Orthant())
NARROW = di.ResNetField(*(C(w) for w in weights("free", 0, m=2)))
OFF = di.Inclusion(FIELD, di.Box(1.0, 2.0))
ONES = torch.ones(3, dtype=F64)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: di.bounds.two_fields(FLOW, NARROW, [0.0, 1.0], ONES), "of the same shapes"),
    (lambda: di.bounds.two_fields(FLOW, lambda t, x: x, [0.0, 1.0], ONES), "other must be a ResNet field"),
    (lambda: di.bounds.two_fields(FLOW, FIELD, [0.0, 1.0], ONES, rate="step"), "got 'step'"),
    (lambda: di.bounds.two_fields(FLOW, FIELD, [0.0, 1.0], -ONES), "x0 must lie in C"),
    (lambda: di.bounds.two_fields(OFF, FIELD, [0.0, 1.0], ONES), "need 0 to minimise"),
    (lambda: di.bounds.layer_errors(FLOW, [0.0, 1.0], torch.ones(2)), "errors must hold 3 nonnegative numbers"),
    (lambda: di.bounds.layer_errors(FLOW, [0.0, 1.0], -torch.ones(3)), "least entry -1"),
    (lambda: di.bounds.layer_errors(FLOW, [0.0, 1.0], torch.ones(3), rate="weighted"), "must be one of ℓ2"),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
