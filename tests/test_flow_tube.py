"""The tube of the exact flow: attacked by ascent, against closed forms, the global bound and a converged middle."""

import pytest
import torch
from torch.linalg import vector_norm

import diffincl as di
from diffincl.bounds import flow_tube, sensitivity
from diffincl.bounds.middle import Segment, follow
from diffincl.fields import Weights

F64, INF = torch.float64, float("inf")
T = torch.tensor([0.0, 0.3, 1.0], dtype=F64)
SETS = {"orthant": di.Orthant(), "box": di.Box(0.0, 1.2), "whole": di.Whole()}
FINE = {"scheme": di.SwitchingDP5(), "steps": di.Adaptive(rtol=1e-9, atol=1e-11)}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def flow_of(kind, g, seed=0, d=3, m=4, layers=2, size=0.9, curve=di.PiecewiseConstant, bias=1.0):
    A1, A2 = size * normal(layers, m, d, seed=seed), size * normal(layers, d, m, seed=seed + 50)
    b1, b2 = bias * normal(layers, m, seed=seed + 1), bias * normal(layers, d, seed=seed + 2)
    A1, b1, A2, b2 = (curve(w) for w in (A1, b1, A2.abs() if kind == "d" else A2, b2))
    if kind == "s":
        return di.Inclusion(di.ResNetSField(A1, b1, b2), g)
    return di.Inclusion((di.ResNetDField if kind == "d" else di.ResNetField)(A1, b1, A2, b2), g)


def starts(g, n=4, d=3, seed=7):
    return g.prox(0.8 * normal(n, d, seed=seed).abs(), 1.0)


def attack(flow, x0, radius, curve, t=T, iterations=4, tries=4):
    """The largest ‖y − x‖/curve at any save time found by ascent over y0 in the balls, ascent for the last time."""
    x = di.solve(flow, x0, t, **FINE).x
    z = normal(tries, *x0.shape, seed=3)
    z, worst = z / vector_norm(z, dim=-1, keepdim=True) * radius, 0.0
    for _ in range(iterations):
        z = (flow.g.prox(x0 + z, 1.0) - x0).requires_grad_()  # a projection onto C brings y0 no further from x0 in C
        y = di.solve(flow, x0 + z, t, **FINE).x
        away = vector_norm(y - x.unsqueeze(1), dim=-1)
        ratio = away.detach() / curve.unsqueeze(1).clamp_min(1e-300)
        worst = max(worst, float(ratio.where(away.detach() > 1e-9, 0.0).max()))
        grad = torch.autograd.grad((away[-1] + 1e-9).log().sum(), z)[0]
        z = z.detach() + 0.7 * radius * grad / vector_norm(grad, dim=-1, keepdim=True).clamp_min(1e-30)
        z = z * (radius / vector_norm(z, dim=-1, keepdim=True).clamp_min(1e-30)).clamp(max=1)
    return worst


@pytest.mark.parametrize("kind", ["resnet", "d", "s"])
@pytest.mark.parametrize("name", SETS)
def test_ascent_finds_no_trajectory_outside(kind, name):
    g, best = SETS[name], 0.0
    for seed, radius in enumerate((1e-3, 0.05, 0.6)):
        curve = di.PiecewiseLinear if seed == 1 else di.PiecewiseConstant
        flow, x0 = flow_of(kind, g, seed, curve=curve), starts(g)
        b = flow_tube(flow, T, x0, radius)
        worst = attack(flow, x0, radius, b.curve)
        assert worst <= 1 + 1e-6, (seed, worst)
        best = max(best, worst)
    assert best > 0.3


def test_it_is_below_the_global_bound_and_far_below_for_small_radii():
    for seed, curve in enumerate((di.PiecewiseConstant, di.PiecewiseLinear)):
        for kind in ("resnet", "d", "s"):
            flow, x0 = flow_of(kind, di.Orthant(), seed, curve=curve), starts(di.Orthant(), 8)
            total = sensitivity(flow, T).curve[:, None]
            small, large = (flow_tube(flow, T, x0, r).curve / r for r in (1e-4, 100.0))
            assert bool((large <= total * (1 + 1e-10)).all())
            assert bool((small <= total * (1 + 1e-10)).all())
            assert bool((small[-1] <= large[-1] * (1 + 1e-10)).all())
            if kind != "s":  # there the global factor is 1, and it is sharp where a direction sees no unit
                assert float(small[-1].median()) < 0.75 * float(total[-1])


def test_contraction_is_certified():
    """All units on, A2 = A1ᵀ: r' = −σ_min² r exactly."""
    A = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=F64)
    flow = di.Inclusion(di.ResNetSField(A, torch.full((2,), 20.0, dtype=F64), torch.full((2,), 9.0, dtype=F64)),
                        di.Whole())
    curve = flow_tube(flow, T, torch.ones(3, 2, dtype=F64), 0.5).curve
    truth = (0.5 * (-T).exp())[:, None].expand(3, 3)
    torch.testing.assert_close(curve, truth, rtol=1e-9, atol=0)
    assert bool((curve >= truth * (1 - 1e-15)).all())


def test_expansion_with_its_own_rate():
    """F = −ax with the one unit on: r = e^{at}r0, no more; and with it off: r = r0."""
    one, big = torch.ones(1, 1, dtype=F64), torch.full((1,), 10.0, dtype=F64)
    for sign, rate in ((1.0, 1.5), (-1.0, 0.0)):
        flow = di.Inclusion(di.ResNetField(one, sign * big, -1.5 * one, 0 * big), di.Whole())
        curve = flow_tube(flow, T, torch.ones(1, dtype=F64), 0.5).curve
        truth = 0.5 * (rate * T).exp()
        assert bool((curve >= truth * (1 - 1e-15)).all())
        torch.testing.assert_close(curve, truth, rtol=1e-9, atol=0)


def outward():
    """x' = x − ½ on the half line."""
    one = torch.ones(1, 1, dtype=F64)
    return di.Inclusion(di.ResNetField(one, torch.zeros(1, dtype=F64), -one, torch.full((1,), -0.5, dtype=F64)),
                        di.Orthant())


def test_clipped_coordinates_drop_where_all_are_clipped_only():
    """The middle rests at 0 from the start; y0 = 0.3 gets there at log 2.5, y0 = 0.6 never."""
    flow, t = outward(), torch.linspace(0, 2, 9, dtype=F64)
    x0, radius = torch.zeros(2, 1, dtype=F64), torch.tensor([0.3, 0.6], dtype=F64)
    y = di.solve(flow, radius[:, None], t, scheme=di.ExactFlow()).x[..., 0]
    curve = flow_tube(flow, t, x0, radius).curve
    assert bool((curve >= y * (1 - 1e-9)).all())
    assert 0 < float(y[3, 0]) <= float(curve[3, 0])
    assert float(curve[4, 0]) == float(y[4, 0]) == 0  # t = 1 > log 2.5: known exactly
    assert float(y[8, 1]) > 1


@pytest.mark.parametrize("upper", [False, True])
def test_extinction_ends_the_distance(upper):
    """Constant speed towards the boundary: sensitivity stays 1, the tube closes when the last one arrives."""
    zero, speed = torch.zeros(1, 2, dtype=F64), torch.tensor([-1.0, -2.0], dtype=F64)
    field = di.ResNetField(zero, torch.zeros(1, dtype=F64), zero.T, -speed if upper else speed)
    g = di.Box(-1.0, 1.0)
    x0 = torch.tensor([0.5, 0.5], dtype=F64) * (-1 if not upper else 1)
    t = torch.tensor([0.0, 0.2, 0.3, 0.5, 0.7, 0.71, 1.0], dtype=F64)
    curve = flow_tube(di.Inclusion(field, g), t, x0, 0.2).curve
    y0 = x0 + 0.2 * torch.eye(2, dtype=F64) * (-1 if upper else 1)
    y, x = (di.solve(di.Inclusion(field, g), v, t, **FINE).x for v in (y0, x0.expand(2, 2)))
    assert bool((vector_norm(x - y, dim=-1) <= curve[:, None] * (1 + 1e-9) + 1e-12).all())
    assert float(curve[4]) >= 0
    assert bool((curve[5:] == 0).all())
    assert float(curve[3]) == pytest.approx(0.2, rel=1e-9)


def test_radius_zero_is_zero():
    curve = flow_tube(flow_of("resnet", di.Orthant()), T, starts(di.Orthant()), 0.0).curve
    assert float(curve.max()) == 0


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("name", SETS)
def test_the_middle_is_the_flow_up_to_its_defect(moving, name):
    """Pieces of many lengths, kinks and contacts among them: e^{Lh}h‖δ‖ bounds ‖X − x‖, the ranges hold along x."""
    g, tight, most = SETS[name], 0, 0.0
    for seed in range(4):
        A1, b1, A2, b2 = (normal(2, *s, seed=seed + k) for k, s in enumerate(((4, 3), (4,), (3, 4), (3,))))
        curve = di.PiecewiseLinear if moving else di.PiecewiseConstant
        x = starts(g, 16, seed=seed)
        for h in (1e-3, 0.02, 0.1):
            sides = [torch.stack([w[0], w[0] + 3 * h * (w[1] - w[0]) * moving]) for w in (A1, b1, A2, b2)]
            segment = Segment(h, Weights(*(w[0] for w in sides)), Weights(*(w[1] for w in sides)) if moving else None)
            lower, upper = (side.expand_as(x) for side in g.bounds(x))
            path = follow(segment, x, lower, upper)
            flow = di.Inclusion(di.ResNetField(*(curve(w, 0.0, h) for w in sides)), g)
            t = torch.linspace(0, h, 9, dtype=F64)
            exact = di.solve(flow, x, t, scheme=di.SwitchingDP5(), steps=di.Adaptive(rtol=1e-12, atol=1e-13)).x
            L = max(float(torch.linalg.matrix_norm(w, 2)) for w in A1) * max(
                float(torch.linalg.matrix_norm(w, 2)) for w in A2)
            e = torch.e ** (L * h) * h * vector_norm(path.defect, dim=-1) + path.end_error
            off = vector_norm(path.end - exact[-1], dim=-1)
            assert bool((off <= e + 1e-11).all())
            tight, most = tight + int((e < 1e-9).sum()), max(most, float((off / e).where(off > 1e-10, 0.0).max()))
            for k, time in enumerate(t.tolist()):
                share = time / h
                w = [(1 - share) * side[0] + share * side[1] for side in sides]
                hidden = exact[k] @ w[0].T + w[1]
                force = torch.relu(hidden) @ w[2].T - w[3]
                for value, (low, high), reach in ((hidden, path.hidden, 4.0), (force, path.force, 4 * L)):
                    room = (reach * e + 1e-11).unsqueeze(-1)
                    assert bool(((value >= low - room) & (value <= high + room)).all())
    assert tight > 60  # of 192: pieces without an event have no defect to speak of
    assert most > 0.1


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_coordinate_that_leaves_the_boundary_within_a_piece_is_a_defect(side):
    """x_0' = ±(x_1 − ½), x_1' = 1 from (boundary, 0.45): held at first, at 0.05 it leaves; 0.01125 away at 0.2."""
    A1, A2 = torch.tensor([[0.0, 1.0]], dtype=F64), torch.tensor([[-side], [0.0]], dtype=F64)
    b2 = torch.tensor([-0.5 * side, 1.0], dtype=F64)
    g = di.Box(0.0, 9.0) if side > 0 else di.Box(-9.0, 0.0)
    x = torch.tensor([[0.0, 0.45]], dtype=F64)
    lower, upper = torch.tensor([[g.lower, 0.0]], dtype=F64), torch.tensor([[g.upper, 9.0]], dtype=F64)
    path = follow(Segment(0.2, Weights(A1, torch.zeros(1, dtype=F64), A2, b2), None), x, lower, upper)
    assert bool(path.held[0, 0])
    truth = torch.tensor([[side * 0.01125, 0.65]], dtype=F64)
    assert float(vector_norm(path.end - truth)) == pytest.approx(0.01125)
    assert float(path.defect[0, 0]) == pytest.approx(0.15, rel=1e-9)  # the speed at the end of the piece


def test_pieces_as_asked_for():
    """Coarser pieces are valid, finer ones better; the save times stay."""
    flow, x0 = flow_of("resnet", di.Orthant(), 1), starts(di.Orthant())
    coarse, fine = (flow_tube(flow, T, x0, 0.05, steps=di.Fixed(n=n)) for n in (4, 64))
    assert torch.equal(coarse.t, T)
    assert bool((fine.curve[-1] < coarse.curve[-1]).all())
    assert attack(flow, x0, 0.05, coarse.curve, iterations=2) <= 1 + 1e-9


def test_batches_dtypes_and_compare():
    flow = flow_of("resnet", di.Orthant(), 2, curve=di.PiecewiseLinear)
    x0 = starts(di.Orthant(), 4).reshape(2, 2, 3)
    radius = torch.tensor([[0.01, 0.1], [1.0, 0.0]], dtype=F64)
    b = flow_tube(flow, T, x0, radius)
    assert b.curve.shape == (3, 2, 2)
    assert (b.kind, b.status, b.p, b.statement) == ("distance", "certified", 2, "C3 with rate R7 (tube)")
    single = flow_tube(flow, T, x0[0, 1], 0.1)
    torch.testing.assert_close(b.curve[:, 0, 1], single.curve, rtol=1e-6, atol=0)
    away = normal(2, 2, 3, seed=9)
    y0 = torch.relu(x0 + radius.unsqueeze(-1) * away / vector_norm(away, dim=-1, keepdim=True))
    assert di.compare(b, *(di.solve(flow, v, T, **FINE) for v in (x0, y0))).holds
    short = di.Inclusion(di.ResNetSField(torch.eye(2), torch.zeros(2), torch.zeros(2)), di.Orthant())
    assert flow_tube(short, [0.0, 1.0], torch.ones(2), 0.1).curve.dtype == F64


FLOW, ONE = flow_of("resnet", di.Orthant()), torch.ones(3, dtype=F64)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: flow_tube(di.Inclusion(lambda t, x: x, di.Orthant(), lipschitz=1.0), T, ONE, 0.1), "weights of one netw"),
    (lambda: flow_tube(di.Inclusion(FLOW.field, di.Ball(2.0)), T, ONE, 0.1), r"got Ball.*\. Use sensitivity times"),
    (lambda: flow_tube(di.Inclusion(FLOW.field, di.OutsideBall()), T, 2 * ONE, 0.1), "bounds need a convex g"),
    (lambda: flow_tube(FLOW, T, ONE, -0.1), "radius must be finite and nonnegative; got -0.1"),
    (lambda: flow_tube(FLOW, T, ONE, float("nan")), "radius must be finite and nonnegative; got nan"),
    (lambda: flow_tube(FLOW, T, ONE, torch.ones(2)), "radius must be one number"),
    (lambda: flow_tube(FLOW, T, -ONE, 0.1), "x0 must lie in C"),
    (lambda: flow_tube(FLOW, T, ONE[:2], 0.1), "x0 must have last dimension 3"),
    (lambda: flow_tube(FLOW, [0.0, 2.0], ONE, 0.1), "t must stay where the weights are defined"),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
