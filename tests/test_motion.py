"""Moving sets, products, and the tube around a set that is not convex."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.linalg import vector_norm

import diffincl as di

F64 = torch.float64


def vector(*entries):
    return torch.tensor(entries, dtype=F64)


def points(n=50, d=2, seed=0):
    return 2 * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_a_moving_ball_is_a_ball_elsewhere():
    C = di.Moving(di.Ball(2.0), shift=lambda t: torch.stack([t.cos(), t.sin()]), scale=lambda t: 1 + t)
    x, v, t = points(), points(seed=1), 0.7
    there = di.Ball(2.0 * 1.7, vector(math.cos(0.7), math.sin(0.7)))
    torch.testing.assert_close(C.project(x, t), there.project(x))
    torch.testing.assert_close(C.distance(x, t), there.distance(x))
    torch.testing.assert_close(C.normal_distance(C.project(x, t), v, t), there.normal_distance(there.project(x), v))
    assert torch.equal(C.contains(x, t), there.contains(x))


def test_prox_of_a_scaled_function():
    """|（x − m)/s| is the ℓ1 norm of weight 1/s around m."""
    g, x = di.Moving(di.L1(), shift=lambda t: vector(1.0, -2.0), scale=lambda t: 4.0), points()
    m = vector(1.0, -2.0)
    torch.testing.assert_close(g.prox(x, 0.6), m + di.L1(0.25).prox(x - m, 0.6))
    torch.testing.assert_close(g.value(x), di.L1(0.25).value(x - m))
    torch.testing.assert_close(g.normal_distance(x, 2 * x), di.L1(0.25).normal_distance(x - m, 2 * x))


def test_each_sample_may_have_its_own_time_and_scale():
    t = torch.linspace(0, 1, 50, dtype=F64).unsqueeze(-1)
    x = points()
    for shift in (lambda t: t * vector(1.0, 2.0), lambda t: t, lambda t: vector(0.3, 0.4), lambda t: 0.5):
        g = di.Moving(di.L2(), shift=shift, scale=lambda t: 1 + t)
        each = torch.stack([g.prox(row, 0.3, float(s)) for row, s in zip(x, t[:, 0], strict=True)])
        torch.testing.assert_close(g.prox(x, 0.3, t), each, rtol=1e-14, atol=1e-14)
        distances = torch.stack([g.normal_distance(row, row, float(s)) for row, s in zip(x, t[:, 0], strict=True)])
        torch.testing.assert_close(g.normal_distance(x, x, t), distances)


def test_values_of_the_motion_take_the_dtype_of_x():
    C = di.Moving(di.Box(-1.0, 1.0), shift=lambda t: t * vector(0.1, 1e6), scale=lambda t: torch.tensor(2))
    u = C.project(points().float(), 1.0)
    assert u.dtype == torch.float32
    assert bool(C.contains(u, 1.0).all())
    assert bool((C.value(u, 1.0) == 0).all())


def test_a_coordinate_on_a_moved_bound_is_on_it():
    """Rounding of shift + scale·bound must not look like the inside of the box."""
    C = di.Moving(di.Box(-0.1, 0.3), shift=lambda t: vector(1e3, 0.7), scale=lambda t: 1.7)
    u = C.project(points(200, seed=2).double() * 1e4)
    outward = u - vector(1e3, 0.7)
    assert float(C.normal_distance(u, outward).max()) < 1e-12
    torch.testing.assert_close(C.normal_distance(u, -outward), vector_norm(outward, dim=-1))


def test_play_operator():
    """Exact problem 4 of the theory: x ← min(max(x, u − r), u + r) as u(t) runs up and down."""
    r, t = 0.5, torch.linspace(0, 2 * math.pi, 401, dtype=F64)
    C = di.Moving(di.Box(-r, r), shift=torch.sin)
    x = di.solve(di.Inclusion(lambda t, x: 0 * x, C), vector(0.0), t, scheme=di.ProxHeun()).x[:, 0]
    exact, state = [], 0.0
    for u in t.sin().tolist():
        state = min(max(state, u - r), u + r)
        exact.append(state)
    torch.testing.assert_close(x, vector(*exact), rtol=0, atol=1e-14)


def test_what_follows_from_the_base():
    shift = torch.sin
    ball, net = di.Moving(di.Ball(), shift), di.Moving(di.L1(), shift)
    assert isinstance(ball, di.Moving)
    assert isinstance(ball, di.ConvexSet)
    assert not isinstance(net, di.ConvexSet)
    assert ball.moving
    assert not di.Ball().moving
    assert not ball.polyhedral
    assert not ball.coordinatewise
    assert net.coordinatewise
    assert net.convex
    assert math.isinf(net.reach)
    assert di.Moving(di.Box(0.0, 1.0), shift).polyhedral
    assert di.Moving(di.Box(0.0, 1.0), shift).coordinatewise
    hole = di.Moving(di.OutsideBall(2.0), shift)
    assert not hole.convex
    assert hole.reach == 2.0
    assert not isinstance(hole, di.ConvexSet)


def test_which_sets_are_polyhedral():
    one = torch.ones(1, 2)
    flat = [di.Whole(), di.Orthant(), di.Box(0.0, 1.0), di.HalfSpace(one[0], 1.0), di.Simplex(),
            di.Affine(one, one[0, :1]), di.Polyhedron(one, one[0, :1])]
    assert all(C.polyhedral for C in flat)
    assert di.Product(*flat, sizes=[2] * 7).polyhedral
    assert not di.Product(di.Ball(), di.Orthant(), sizes=(2, 2)).polyhedral
    assert not any(g.polyhedral for g in (di.Ball(), di.L1(), di.L2(), di.OutsideBall(), di.TotalVariation(1.0)))


def test_copies_and_pickles_keep_the_kind():
    for g in (di.Moving(di.Ball(2.0)), di.Product(di.Ball(), di.L1(), sizes=(2, 1)),
              di.Product(di.Ball(), di.Orthant(), sizes=(2, 1)), di.Polyhedron(torch.eye(3), torch.ones(3))):
        for other in (copy.deepcopy(g), pickle.loads(pickle.dumps(g))):
            assert type(other) is type(g)
            assert repr(other) == repr(g)
            assert torch.equal(other.prox(torch.full((3,), 2.0), 1.0), g.prox(torch.full((3,), 2.0), 1.0))


@pytest.mark.parametrize(("g", "words"), [
    (di.Ball(), "Ball(radius=1.0, center=0.0)"),
    (di.Moving(di.Ball(2.0), scale=math.exp), "Moving(base=Ball(radius=2.0, center=0.0), shift=None, scale=exp)"),
    (di.Product(di.Orthant(), di.L1(), sizes=(1, 2)), "Product(parts=(Orthant(), L1(weight=1.0)), sizes=(1, 2))"),
    (di.HalfSpace(torch.tensor([1.0, 2.0]), 3.0), "HalfSpace(normal=[1.0, 2.0], offset=3.0)"),
    (di.Polyhedron(torch.eye(20), torch.ones(20)), "Polyhedron(G=<tensor (20, 20)>, h=<tensor (20,)>)"),
])
def test_names_in_messages(g, words):
    assert repr(g) == words


def test_a_product_acts_block_by_block():
    C = di.Product(di.Ball(), di.Box(0.0, 1.0), sizes=[2, 3])
    x, v = points(d=5), points(d=5, seed=1)
    assert isinstance(C, di.ConvexSet)
    assert isinstance(C, di.Product)
    u = C.project(x)
    assert torch.equal(u[:, :2], di.Ball().project(x[:, :2]))
    assert torch.equal(u[:, 2:], x[:, 2:].clamp(0, 1))
    torch.testing.assert_close(C.distance(x), vector_norm(x - u, dim=-1))
    apart = [di.Ball().normal_distance(u[:, :2], v[:, :2]), di.Box(0.0, 1.0).normal_distance(u[:, 2:], v[:, 2:])]
    torch.testing.assert_close(C.normal_distance(u, v), torch.hypot(*apart))
    g = di.Product(di.L1(), di.Moving(di.OutsideBall(), torch.sin), sizes=(3, 2))
    assert not isinstance(g, di.ConvexSet)
    assert g.moving
    assert not g.convex
    assert not g.coordinatewise
    assert g.reach == 1.0
    assert torch.equal(g.value(torch.ones(5)), torch.tensor(3.0))


# -------------------------------------------------------------------------------------------------------- outside a ba


def test_the_normal_cone_of_the_outside_points_inward():
    C, x = di.OutsideBall(2.0, vector(1.0, 0.0)), vector(3.0, 0.0)
    assert float(C.normal_distance(x, vector(-5.0, 0.0))) == 0.0
    assert float(C.normal_distance(x, vector(5.0, 0.0))) == 5.0
    assert float(C.normal_distance(x, vector(-5.0, 2.0))) == 2.0
    assert float(C.normal_distance(x + 1, vector(-5.0, 0.0))) == 5.0


def test_a_stream_runs_around_the_ball():
    """−x' = (−1, 0) + n: from the sphere the point slides along it, tan(p/2) = tan(p0/2)·e^{−t}, p the angle."""
    p0, t = 2.5, torch.linspace(0, 1, 2001, dtype=F64)
    flow = di.Inclusion(lambda t, x: vector(-1.0, 0.0).expand_as(x), di.OutsideBall())
    x = di.solve(flow, vector(math.cos(p0), math.sin(p0)), t).x[-1]
    p = 2 * math.atan(math.tan(p0 / 2) * math.exp(-1))
    torch.testing.assert_close(x, vector(math.cos(p), math.sin(p)), rtol=0, atol=1e-3)


def test_at_the_centre_nothing_is_nearest():
    x = vector(1.0, 2.0, 1.0, 2.5).reshape(2, 2)
    u = di.OutsideBall(1.0, torch.tensor([1.0, 2.0])).prox(x, 1.0)
    assert u[0].isnan().all()
    assert di.OutsideBall().prox(torch.zeros(1, 2), 1.0).isnan().all()
    assert u[1].tolist() == [1.0, 3.0]


def test_a_step_must_stay_within_the_reach():
    g, x = di.OutsideBall(1.0), vector(1.0, 0.0).expand(6, 2)
    z = torch.tensor([[0.5, 0.0], [0.001, 0.0], [0.0, 0.0], [-0.5, 0.0], [1.0, 1.5], [torch.nan, 0.0]], dtype=F64)
    assert g.within_reach(x, 0.0, z, 0.1).tolist() == [True, True, False, False, False, False]
    assert not bool(g.within_reach(x[0], 0.0, vector(1.0, 1.0), 0.1))  # as far as the reach
    assert not bool(g.within_reach(vector(0.5, 0.0), 0.0, vector(0.0, 0.0), 0.1))  # nearer, but nothing is nearest
    assert di.Ball().within_reach(x, 0.0, z, 0.1).tolist() == [True] * 6
    reason = g.refusal(x[3], 0.0, z[3], 0.1, 0.3)
    assert reason == ("the step of h = 0.3 leads 1.5 away from OutsideBall(radius=1.0, center=0.0), whose nearest "
                      "point is unique only within its reach 1; try h below 0.2")
    assert "not finite; check g.prox" in di.Ball().refusal(x[3], 0.0, z[3], 0.1, 0.3)
    assert "not finite; check g.prox" in g.refusal(x[5], 0.0, z[5], 0.1, 0.3)


def test_a_jump_of_the_shift_counts_as_a_step():
    g = di.Moving(di.OutsideBall(), shift=lambda t: t * vector(3.0, 0.0), scale=lambda t: 2.0)
    x = vector(2.0, 0.0)  # stays where it is while the ball comes
    assert bool(g.within_reach(x, 0.0, x, 0.5))
    assert not bool(g.within_reach(x, 0.0, x, 0.7))
    assert g.refusal(x, 0.0, x, 0.8, 0.8).endswith("try h below 0.6667 (in the frame that moves with the set)")
    product = di.Product(di.Ball(), g, sizes=(1, 2))
    far = torch.cat([vector(0.0), x])
    assert bool(product.within_reach(far, 0.0, far, 0.5))
    assert not bool(product.within_reach(far, 0.0, far, 0.8))
    assert product.refusal(far, 0.0, far, 0.8, 0.8).startswith("part 1: the step of h = 0.8 leads 1.2 away")


# -------------------------------------------------------------------------------------------------------------- errors

X = torch.ones(4, 2)


def moved(shift=None, scale=None, t=0.5):
    return lambda: di.Moving(di.Ball(), shift, scale).project(X, t)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: di.Moving(3), "base must be a ProxFunction such as Ball"),
    (lambda: di.Moving(di.Ball(), shift=1.0), r"shift must be a callable of t; got float\. Write lambda t: value"),
    (moved(shift=lambda t: torch.ones(3)), r"shift\(t\) must broadcast against \(4, 2\).*; at t = 0.5 it is a tensor"),
    (moved(shift=lambda t: torch.ones(7, 4, 2)), r"shift\(t\) must broadcast"),
    (moved(shift=lambda t: torch.ones(3), t=torch.zeros(4, 1)), r"at times of shape \(4, 1\) it is a tensor"),
    (moved(shift=lambda t: torch.tensor([0.0, torch.nan])), r"must be finite; at t = 0.5 entry \(1,\) is nan"),
    (moved(shift=lambda t: torch.ones(2) * 1j), r"shift\(t\) must be real; at t = 0.5"),
    (moved(shift=lambda t: "far"), r"shift\(t\) must be a real number; got 'far'"),
    (moved(scale=lambda t: 0.0), r"scale\(t\) must be positive; at t = 0.5 entry \(\) is 0"),
    (moved(scale=lambda t: torch.tensor(-1.0)), r"scale\(t\) must be positive; .* is -1"),
    (moved(scale=lambda t: torch.ones(2)), r"scale\(t\) must broadcast against \(4, 1\)"),
    (moved(scale=lambda t: math.inf), r"scale\(t\) must be finite; got inf"),
    (lambda: di.Product(di.Ball(), torch.relu, sizes=(1, 1)), "parts must be ProxFunctions such as Ball"),
    (lambda: di.Product(di.Ball(), sizes=3), "sizes must be a sequence of whole numbers; got 3"),
    (lambda: di.Product(di.Ball(), sizes=(1, 1)), r"got 1 parts and sizes = \(1, 1\)"),
    (lambda: di.Product(sizes=()), "got 0 parts"),
    (lambda: di.Product(di.Ball(), sizes=(0,)), r"sizes\[0\] must be at least 1; got 0"),
    (lambda: di.Product(di.Ball(), sizes=(1.5,)), r"sizes\[0\] must be a whole number"),
    (lambda: di.Product(di.Ball(), di.L1(), sizes=(1, 2)).prox(X, 1.0), "x must have last dimension 3, the sum"),
    (lambda: di.OutsideBall(0.0), "radius must be greater than 0; got 0"),
    (lambda: di.OutsideBall(1.0, [0.0]), "center must be a number or a torch.Tensor"),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.sampled_from(["shift", "scale"]))
def test_a_motion_never_enlarges_x(shape, name):
    """Any shape either keeps the shape of x or is refused by name."""
    C = di.Moving(di.Ball(), **{name: lambda t: torch.ones(shape)})
    try:
        assert C.project(X).shape == X.shape
    except ValueError as error:
        assert f"{name}(t) must broadcast" in str(error)  # noqa: PT017


def test_the_gradient_of_the_motion_flows():
    def project(amount):
        return di.Moving(di.Ball(), shift=lambda t: amount * t, scale=lambda t: 1 + amount[0]**2).project(x, 0.7)

    x = points(5)
    assert torch.autograd.gradcheck(project, vector(0.4, -0.2).requires_grad_())


def test_gradients_of_a_half_space_reach_its_normal():
    normal = vector(1.0, -2.0, 0.5).requires_grad_()
    x = points(6, d=3)
    assert torch.autograd.gradcheck(lambda n: di.HalfSpace(n, 0.4).project(x), normal)


def test_a_number_beside_a_tensor_keeps_double_precision():
    u = di.Box(0.1, torch.tensor([1.0, 1.0], dtype=F64)).project(vector(-1.0, 2.0))
    assert u.tolist() == [0.1, 1.0]
