"""The tube around a trajectory: attacked by ascent, against linear maps, the global bound and rounding."""

import pytest
import torch
from torch.linalg import matrix_norm, vector_norm

import diffincl as di
from diffincl.bounds import tube

F64, INF = torch.float64, float("inf")
T = torch.linspace(0, 1, 6, dtype=F64)
SETS = {"orthant": di.Orthant(), "box": di.Box(0.0, 1.2), "whole": di.Whole(), "ball": di.Ball(2.0)}
# What an ascent reaches at least, of the bound: of a ball the tube does not know where its projection contracts.
REACHED = {"orthant": 0.9, "box": 0.7, "whole": 0.9, "ball": 0.2}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def flow_of(kind, g, seed=0, d=4, m=5, layers=5, bias=1.0, size=0.9):
    A1, A2 = size * normal(layers, m, d, seed=seed), size * normal(layers, d, m, seed=seed + 50)
    b1, b2 = bias * normal(layers, m, seed=seed + 1), bias * normal(layers, d, seed=seed + 2)
    A1, b1, A2, b2 = (di.PiecewiseConstant(w) for w in (A1, b1, A2.abs() if kind == "d" else A2, b2))
    if kind == "s":
        return di.Inclusion(di.ResNetSField(A1, b1, b2), g)
    return di.Inclusion((di.ResNetDField if kind == "d" else di.ResNetField)(A1, b1, A2, b2), g)


def starts(g, n=12, d=4, seed=7):
    return g.prox(0.8 * normal(n, d, seed=seed).abs(), 1.0)


def attack(flow, x0, radius, curve, t=T, iterations=60):
    """The largest ‖y_k − x_k‖/curve_k found by ascent over y_0, (K + 1,): each layer has its own y_0."""
    K, (n, d) = len(t), x0.shape
    x = di.solve(flow, x0, t).x
    z = (normal(K, n, d, seed=3) * radius / d**0.5).requires_grad_()
    optimiser, worst = torch.optim.Adam([z], lr=0.1 * radius), torch.zeros(K, dtype=F64)
    for _ in range(iterations):
        with torch.no_grad():
            z.mul_((radius / vector_norm(z, dim=-1, keepdim=True)).clamp(max=1))
            z.copy_(flow.g.prox(x0 + z, 1.0) - x0)  # a projection onto C brings y_0 no further from x_0 in C
        y = di.solve(flow, x0 + z, t).x
        away = vector_norm(y - x.unsqueeze(1), dim=-1)  # (T, K, n)
        ratio = torch.stack([away[k, k] / curve[k] for k in range(K)])
        worst = torch.maximum(worst, ratio.detach().amax(1))
        optimiser.zero_grad()
        (-(ratio + 1e-12).log().sum()).backward()
        optimiser.step()
    return worst


@pytest.mark.parametrize("kind", ["resnet", "d", "s"])
@pytest.mark.parametrize("name", SETS)
def test_ascent_finds_no_trajectory_outside(kind, name):
    g, best = SETS[name], 0.0
    for seed, radius in enumerate((1e-3, 0.05, 0.5, 3.0)):
        flow = flow_of(kind, g, seed)
        x0 = starts(g)
        b = tube(flow, T, x0, radius)
        worst = attack(flow, x0, radius, b.curve)
        assert float(worst.max()) <= 1 + 1e-9, (seed, worst)
        best = max(best, float(worst[-1]))
    assert best > REACHED[name]


@pytest.mark.parametrize("kind", ["resnet", "d", "s"])
def test_it_is_below_the_global_bound_and_far_below_for_small_radii(kind):
    for seed in range(3):
        flow, x0 = flow_of(kind, di.Orthant(), seed), starts(di.Orthant(), 40)
        total = di.bounds.discrete_sensitivity(flow, T, rate="step").curve[:, None]
        small, medium, large = (tube(flow, T, x0, r).curve / r for r in (1e-4, 0.1, 100.0))
        for share in (small, medium, large):
            assert bool((share <= total * (1 + 1e-10)).all())
        assert bool((small[-1] <= medium[-1] * (1 + 1e-6) + 1e-8).all())
        assert bool((medium[-1] <= large[-1] * (1 + 1e-6) + 1e-8).all())
        assert float(small[-1].median()) < 0.75 * float(total[-1])


def test_without_unknown_units_it_is_the_norm_of_the_product():
    """Whole space, biases that leave no unit in doubt: ‖∏(I − hA2DA1)‖, less than the product of norms."""
    flow, h = flow_of("resnet", di.Whole(), 1, bias=5.0), 0.2
    x0 = starts(di.Whole(), 5)
    x = di.solve(flow, x0, T).x
    curve = tube(flow, T, x0, 1e-3).curve
    for i in range(5):
        M, product = torch.eye(4, dtype=F64), 1.0
        for k in range(5):
            A1, b1, A2, _ = (w.values[k] for w in (flow.field.A1, flow.field.b1, flow.field.A2, flow.field.b2))
            J = torch.eye(4, dtype=F64) - h * (A2 * (A1 @ x[k, i] + b1 > 0)) @ A1
            M, product = J @ M, product * float(matrix_norm(J, 2))
            assert float(curve[k + 1, i]) == pytest.approx(1e-3 * float(matrix_norm(M, 2)), rel=1e-8)
        assert float(curve[-1, i]) < 0.97e-3 * product


def test_clipped_coordinates_are_dropped_where_both_are_clipped_only():
    """x' = x on the half line: a start whose ball lies at the boundary stays; one whose ball reaches out grows."""
    A = torch.ones(1, 1, dtype=F64)
    field = di.ResNetField(A, torch.zeros(1, dtype=F64), -A, torch.full((1,), -0.5, dtype=F64))  # F = −σ(x) + ½
    flow, t = di.Inclusion(field, di.Orthant()), torch.linspace(0, 3, 4, dtype=F64)
    x0 = torch.zeros(2, 1, dtype=F64)
    curve = tube(flow, t, x0, torch.tensor([0.2, 0.3], dtype=F64)).curve
    assert float(curve[1, 0]) <= 1e-14  # 2·0.2 − ½ < 0: everything at 0
    y = di.solve(flow, torch.tensor([[0.2], [0.3]], dtype=F64), t).x[..., 0]
    assert float(y[-1, 0]) == 0
    assert float(curve[1, 1]) >= float(y[1, 1]) > 0.09


def test_a_clip_for_some_of_the_ball_ends_the_product():
    """J2J1 = 0, but y whose second coordinate is clipped in between ends elsewhere."""
    J1 = torch.full((2, 2), 0.5, dtype=F64)
    A2 = torch.stack([torch.eye(2, dtype=F64) - J1, J1])
    A1, b1 = torch.eye(2, dtype=F64).expand(2, 2, 2), torch.full((2, 2), 100.0, dtype=F64)
    shift = torch.tensor([[0.0, -0.95], [10.0, 10.0]], dtype=F64)
    b2 = (A2 @ b1.unsqueeze(-1)).squeeze(-1) + shift
    flow = di.Inclusion(di.ResNetField(*(di.PiecewiseConstant(w, 0.0, 2.0) for w in (A1, b1, A2, b2))), di.Orthant())
    x0, t = torch.ones(2, dtype=F64), torch.tensor([0.0, 1.0, 2.0], dtype=F64)
    x, y = (di.solve(flow, v, t).x for v in (x0, x0 - 0.35))
    curve = tube(flow, t, x0, 0.5).curve
    away = vector_norm(x - y, dim=-1)
    assert float(away[2]) > 0.2
    assert bool((away <= curve).all())
    assert float(tube(flow, t, x0, 0.01).curve[2]) < 1e-10  # too small to be clipped


def test_contraction_is_certified():
    """All units on, A2 = A1ᵀ: the balls shrink like ∏(1 − hσ_min²), a negative rate."""
    A = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=F64)
    flow = di.Inclusion(di.ResNetSField(A, torch.full((2,), 20.0, dtype=F64), torch.zeros(2, dtype=F64)), di.Whole())
    curve = tube(flow, T, torch.ones(3, 2, dtype=F64), 0.5).curve
    torch.testing.assert_close(curve, (0.5 * 0.8 ** torch.arange(6, dtype=F64))[:, None].expand(6, 3), rtol=1e-9,
                               atol=0)
    assert bool((curve[:, 0] >= 0.5 * 0.8 ** torch.arange(6, dtype=F64) * (1 - 1e-15)).all())


def test_radius_zero_leaves_the_rounding():
    flow = flow_of("resnet", di.Orthant())
    curve = tube(flow, T, starts(di.Orthant()), 0.0).curve
    assert float(curve[0].max()) == 0
    assert 0 < float(curve[1:].max()) < 1e-12


def test_rounding_of_the_middle_is_inside():
    """A trajectory computed in another order of summation stays in a tube of radius 0."""
    flow = flow_of("resnet", di.Orthant(), size=3.0)
    x0 = 100 * starts(di.Orthant())
    curve, y = tube(flow, T, x0, 0.0).curve, x0
    x = di.solve(flow, x0, T).x
    for k in range(5):
        A1, b1, A2, b2 = (w.values[k] for w in (flow.field.A1, flow.field.b1, flow.field.A2, flow.field.b2))
        hidden = torch.relu((y.flip(-1).unsqueeze(-2) * A1.flip(-1)).sum(-1) + b1)
        y = torch.relu(y - 0.2 * ((hidden.flip(-1).unsqueeze(-2) * A2.flip(-1)).sum(-1) - b2))
        assert bool((vector_norm(y - x[k + 1], dim=-1) <= curve[k + 1]).all())
    assert float((y - x[-1]).abs().max()) > 0


def test_moving_weights_batches_and_compare():
    values = [normal(4, *s, seed=k) for k, s in enumerate(((5, 4), (5,), (4, 5), (4,)))]
    flow = di.Inclusion(di.ResNetField(*(di.PiecewiseLinear(v) for v in values)), di.Orthant())
    x0 = starts(di.Orthant(), 6).reshape(2, 3, 4)
    steps = di.Fixed(n=12)
    radius = torch.tensor([[0.01, 0.1, 1.0], [0.02, 0.2, 2.0]], dtype=F64)
    t = torch.linspace(0, 1, 4, dtype=F64)
    b = tube(flow, t, x0, radius, steps=steps)
    assert b.curve.shape == (4, 2, 3)
    assert (b.kind, b.status, b.p) == ("distance", "certified", 2)
    single = tube(flow, t, x0[1, 2], 2.0, steps=steps)
    torch.testing.assert_close(b.curve[:, 1, 2], single.curve, rtol=1e-6, atol=0)
    away = normal(2, 3, 4, seed=9)
    y0 = torch.relu(x0 + radius.unsqueeze(-1) * away / vector_norm(away, dim=-1, keepdim=True))
    assert di.compare(b, *(di.solve(flow, v, t, steps=steps) for v in (x0, y0))).holds


FLOW = flow_of("resnet", di.Orthant())
WIDE = di.Inclusion(di.ResNetField(normal(2, 3, 2), normal(2, 3), normal(2, 2, 3), normal(2, 2)), di.Orthant())
ONE = torch.ones(4, dtype=F64)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: tube(di.Inclusion(lambda t, x: x, di.Orthant(), lipschitz=1.0), T, ONE, 0.1), "weights of one network"),
    (lambda: tube(WIDE, T, torch.ones(2, 2, dtype=F64), 0.1), "weights of one network"),
    (lambda: tube(FLOW, T, ONE, -0.1), "radius must be finite and nonnegative; got -0.1"),
    (lambda: tube(FLOW, T, ONE, INF), "radius must be finite and nonnegative; got inf"),
    (lambda: tube(FLOW, T, ONE, float("nan")), "radius must be finite and nonnegative; got nan"),
    (lambda: tube(FLOW, T, torch.ones(3, 4, dtype=F64), torch.ones(2)), r"batch shape \(3,\) of x0"),
    (lambda: tube(FLOW, T, -ONE, 0.1), "x0 must lie in C"),
    (lambda: tube(FLOW, T, torch.ones(3, dtype=F64), 0.1), "x0 must have last dimension 4"),
    (lambda: tube(di.Inclusion(FLOW.field, di.OutsideBall()), T, 2 * ONE, 0.1), "bounds need a convex g"),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
