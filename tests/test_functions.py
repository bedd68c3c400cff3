"""Contract of every function g: its operators against their definitions."""

import pytest
import torch
from catalogue import FUNCTIONS, D
from hypothesis import given
from hypothesis import strategies as st
from torch.linalg import vector_norm

import diffincl as di

F64 = torch.float64
EVERY = pytest.mark.parametrize("g", FUNCTIONS.values(), ids=FUNCTIONS)
CONVEX = pytest.mark.parametrize("g", [g for g in FUNCTIONS.values() if g.convex],
                                 ids=[n for n, g in FUNCTIONS.items() if g.convex])
ACTIVATIONS = [g for g in FUNCTIONS.values() if type(g).__module__.startswith("diffincl.activations")]
SETS = pytest.mark.parametrize("g", [g for g in FUNCTIONS.values() if isinstance(g, di.ConvexSet)],
                               ids=[n for n, g in FUNCTIONS.items() if isinstance(g, di.ConvexSet)])


def points(n=200, seed=0, scale=2.0):
    return scale * torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=F64)


@CONVEX
@pytest.mark.parametrize("h", [0.3, 2.0])
def test_firmly_nonexpansive(g, h):
    x, y = points(seed=0), points(seed=1)
    u, v = g.prox(x, h), g.prox(y, h)
    assert bool((((u - v) ** 2).sum(-1) <= ((u - v) * (x - y)).sum(-1) + 1e-12).all())


@CONVEX
@pytest.mark.parametrize("h", [0.3, 2.0])
def test_variational_inequality(g, h):
    """u = prox_h(x) exactly when g(w) >= g(u) + (x − u)·(w − u)/h for all w; w runs through points of the domain."""
    x, w = points(60, seed=0), g.prox(points(80, seed=1), h)
    u = g.prox(x, h)
    slope = ((x - u).unsqueeze(1) * (w.unsqueeze(0) - u.unsqueeze(1))).sum(-1) / h
    assert bool((g.value(w).unsqueeze(0) >= g.value(u).unsqueeze(1) + slope - 1e-9).all())


@EVERY
def test_brute_force_minimiser(g):
    """No better point in a dense cloud around the claimed minimiser, pulled into the domain."""
    h, x = 0.7, points(5, seed=3)
    for point in x:
        u = g.prox(point, h)
        best = g.value(u) + vector_norm(u - point) ** 2 / (2 * h)
        for radius in (1.0, 1e-1, 1e-2, 1e-3):
            w = g.prox(u + radius * points(400, seed=4, scale=1.0), 1e-9)
            cost = g.value(w) + vector_norm(w - point, dim=-1) ** 2 / (2 * h)
            assert float(cost.min()) >= float(best) - 1e-10


def shape_rounding(g, x, u):
    """By how much a sample may change with the shape of the batch around it: not at all, unless g multiplies by a
    matrix, whose products add up in another order in another shape. Two products of length d and their differences in
    two passes leave each result within 6dκ·eps·(‖x‖ + ‖u‖), where κ = 1/σ_min of the unit rows that hold is 1 for the
    orthonormal basis of an Affine and below 3 for the independent rows of the polyhedra in the catalogue."""
    if not isinstance(g, di.Affine | di.Polyhedron):
        return torch.zeros(len(x), dtype=F64)
    return 2 * 6 * D * 3 * torch.finfo(F64).eps * (vector_norm(x, dim=-1) + vector_norm(u, dim=-1))


@EVERY
def test_batch_is_loop(g):
    x, v = points(24).reshape(2, 3, 4, D), points(24, seed=1).reshape(2, 3, 4, D)
    v[0, 0, 0] *= 1e9  # one large sample must not spoil the others
    each = torch.stack([g.prox(row, 0.4) for row in x.reshape(-1, D)])
    u = g.prox(x, 0.4).reshape(-1, D)
    assert bool((vector_norm(u - each, dim=-1) <= shape_rounding(g, x.reshape(-1, D), u)).all())
    x = g.prox(x, 0.4)
    each = torch.stack([g.normal_distance(a, b) for a, b in zip(x.reshape(-1, D), v.reshape(-1, D), strict=True)])
    torch.testing.assert_close(g.normal_distance(x, v).reshape(-1), each, rtol=1e-7, atol=1e-6)
    assert g.value(x).shape == g.normal_distance(x, v).shape == (2, 3, 4)


@EVERY
def test_every_sample_has_its_own_step(g):
    """h of shape (*batch, 1) is the same as one float a sample; h = 0 gives the nearest point of the domain."""
    x, h = points(12, seed=2).reshape(3, 4, D), torch.tensor([0.0, 1e-3, 0.4, 30.0], dtype=F64).repeat(3, 1)
    each = torch.stack([g.prox(row, float(s)) for row, s in zip(x.reshape(-1, D), h.reshape(-1), strict=True)])
    u = g.prox(x, h.unsqueeze(-1))
    torch.testing.assert_close(u.reshape(-1, D), each, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(u[:, 0], g.prox(x[:, 0], 1e-13), rtol=0, atol=1e-11)


@EVERY
def test_every_way_to_give_the_time(g):
    x, t = points(12, seed=2).reshape(3, 4, D), torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=F64).repeat(3, 1)
    u = g.prox(x, 0.4, t.unsqueeze(-1))
    for k in range(4):
        torch.testing.assert_close(u[:, k], g.prox(x[:, k], 0.4, t[0, k]), rtol=1e-14, atol=1e-14)
        assert torch.equal(g.prox(x[:, k], 0.4, t[0, k]), g.prox(x[:, k], 0.4, float(t[0, k])))
    assert g.moving or torch.equal(u, g.prox(x, 0.4))


@EVERY
def test_the_whole_batch_may_be_empty(g):
    assert g.prox(points(0), 0.4).shape == (0, D)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept_and_nan_passes(g, dtype):
    x = points(4).to(dtype)
    assert g.prox(x, 0.5).dtype == dtype
    assert g.value(g.prox(x, 0.5)).dtype == dtype
    assert g.normal_distance(g.prox(x, 0.5), x).dtype == dtype
    x[1, 0] = torch.nan
    u = g.prox(x, 0.5)
    assert bool(u[1].isnan().any())
    assert not bool(u[[0, 2, 3]].isnan().any())


@EVERY
def test_gradients_away_from_kinks(g):
    x = points(6, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: g.prox(x, 0.4), x)


@EVERY
def test_gradients_are_finite_at_the_origin(g):
    x = torch.zeros(2, D, dtype=F64, requires_grad=True)
    g.prox(x, 0.4).sum().backward()
    assert bool(torch.isfinite(x.grad).all())


@EVERY
def test_vmap_and_compile_give_the_same(g):
    x = points(8)
    assert torch.equal(torch.func.vmap(lambda row: g.prox(row, 0.4))(x), g.prox(x, 0.4))


@EVERY
def test_the_multiplier_of_a_prox_is_normal(g):
    """(x − prox_h(x))/h ∈ ∂g(prox_h(x)), and a vector off ∂g is as far as the nearest multiplier says."""
    x, h = points(100, seed=6), 0.5
    u = g.prox(x, h)
    n = (x - u) / h
    assert float(g.normal_distance(u, n).max()) < 2e-6
    v = points(100, seed=7)
    away = g.normal_distance(u, v)
    assert bool((away <= vector_norm(v - n, dim=-1) + 2e-6).all())  # n is one element of ∂g
    # The distance is that of the minimal element: u' = prox_ε(u + εv) moves away with that speed.
    speed, slower = (vector_norm(g.prox(u + eps * v, eps) - u, dim=-1) / eps for eps in (1e-7, 2e-7))
    # Where g curves so much that the step still matters (tanh near 1) the speed has not reached its limit.
    reached = (speed - slower).abs() <= 2e-5 * speed + 2e-6
    assert float(reached.double().mean()) > 0.4
    assert bool(reached.all()) or g in ACTIVATIONS
    torch.testing.assert_close(away[reached], speed[reached], rtol=1e-4, atol=1e-5)
    assert bool((speed <= away * (1 + 1e-4) + 1e-5).all())  # and comes from below


@EVERY
def test_float32_multipliers_are_normal_too(g):
    """Rounding of a state in float32 must not look like a normal of size 1e-7/1e-6."""
    x = points(50, seed=8).float()
    u = g.prox(x, 0.5)
    assert float(g.normal_distance(u, (x - u) / 0.5).max()) < 2e-5


def test_a_users_set_in_float32_gets_a_normal_cone_without_its_rounding():
    class Plane(di.ConvexSet):
        """{x : Σ x_i = 1}, with nothing but its projection."""

        def project(self, x, t=0.0):
            return x - (x.sum(-1, keepdim=True) - 1) / x.shape[-1]

    x = Plane().project(100 * points(50, seed=12).float())
    normal = torch.ones_like(x)
    assert float(Plane().normal_distance(x, normal).max()) < 1e-5
    tangent = torch.tensor([1.0, -1.0, 0.0])
    torch.testing.assert_close(Plane().normal_distance(x, normal + tangent), torch.full((50,), 2.0**0.5))


@SETS
def test_projection(g):
    x = points()
    u = g.project(x)
    assert bool(g.contains(u).all())
    torch.testing.assert_close(g.project(u), u, rtol=0, atol=1e-14)
    torch.testing.assert_close(g.distance(x), vector_norm(x - u, dim=-1))
    assert bool((g.value(u) == 0).all())
    far = x[g.distance(x) > 1e-3]
    assert len(far) > 0 or isinstance(g, di.Whole)
    assert not bool(g.contains(far).any())
    assert bool(torch.isinf(g.value(far)).all())
    assert torch.equal(g.prox(x, 0.1), g.prox(x, 10.0))


@pytest.mark.parametrize("name", [n for n, g in FUNCTIONS.items() if g.coordinatewise])
def test_coordinatewise_means_each_coordinate_alone(name):
    g, x = FUNCTIONS[name], points(20)
    y = x.clone()
    y[:, 1] = 7.0
    assert torch.equal(g.prox(x, 0.3)[:, [0, 2]], g.prox(y, 0.3)[:, [0, 2]])


def test_only_coordinatewise_functions_say_so():
    """In ℓ∞ a projection that mixes coordinates expands some pair: those functions must not claim every ℓp."""
    for name, g in FUNCTIONS.items():
        # The prox of total variation keeps the order and commutes with constants: nonexpansive in ℓ∞ though it mixes.
        if not g.coordinatewise and "radius 0" not in name and "TotalVariation" not in name:
            x, y = points(4000, seed=9), points(4000, seed=10)
            y = x + 0.1 * y
            ratio = torch.stack([(g.prox(x, h) - g.prox(y, h)).abs().amax(-1) for h in (0.01, 0.5)])
            assert float((ratio / (x - y).abs().amax(-1)).max()) > 1.0, name


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_half_space_of_any_length_of_normal(size):
    x = torch.tensor([[3.0, 2.0], [0.0, 0.0]])
    C = di.HalfSpace(torch.tensor([size, size]), size)
    torch.testing.assert_close(C.project(x), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert C.contains(x).tolist() == [False, True]


def test_half_space_refuses_another_dimension():
    with pytest.raises(ValueError, match="x must have last dimension 1, that of the normal; got a tensor of shape"):
        di.HalfSpace(torch.ones(1), 1.0).project(torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_simplex_projection_from_far_away(dtype):
    x = 1e6 * points(50, seed=11).to(dtype)
    C = di.Simplex(1e-3)
    assert bool(C.contains(C.project(x)).all())
    assert float((C.project(x).sum(-1) / 1e-3 - 1).abs().max()) < 1e-5


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12), st.floats(0.1, 10))
def test_simplex_projection_satisfies_its_optimality_conditions(entries, total):
    x = torch.tensor(entries, dtype=F64)
    u = di.Simplex(total).project(x)
    assert bool((u >= 0).all())
    assert float(u.sum()) == pytest.approx(total, rel=1e-9, abs=1e-9)
    theta = (x - u)[u > 0]
    assert float(theta.max() - theta.min()) < 1e-9  # one threshold on the support
    assert bool((x[u == 0] <= theta.max() + 1e-9).all())


def test_normal_cones_of_the_obstacle_are_not_monotone():
    x = torch.tensor([[0.6, 0.0], [-0.6, 0.0]], dtype=F64)
    p = di.OutsideBall().prox(x, 1.0)
    assert float((p[0] - p[1]).norm()) > float((x[0] - x[1]).norm())


@pytest.mark.parametrize(("make", "message"), [
    (lambda: di.Ball(-1.0), "radius must be at least 0; got -1"),
    (lambda: di.Ball(float("nan")), "radius must be finite; got nan"),
    (lambda: di.Ball(1.0, torch.tensor([0.0, torch.inf])), r"center must be finite; entry \(1,\) is inf"),
    (lambda: di.Ball("big"), "radius must be a real number; got 'big' of type str"),
    (lambda: di.Box(1.0, 0.0), r"lower must not exceed upper; at index \(\) lower is 1 and upper is 0"),
    (lambda: di.Box(torch.zeros(2), torch.tensor([1.0, -1.0])), r"at index \(1,\) lower is 0 and upper is -1"),
    (lambda: di.Box(float("nan"), 0.0), "lower must not be NaN"),
    (lambda: di.Box(float("inf"), float("inf")), r"lower must not be NaN or \+inf; entry \(\) is. Use -inf"),
    (lambda: di.Box(torch.zeros(2), torch.ones(3)), "lower and upper must broadcast"),
    (lambda: di.Box([0.0, 0.0], 1.0), r"lower must be a number or a torch.Tensor; got \[0.0, 0.0\] of type list"),
    (lambda: di.Ball(1.0, [0.0, 1.0]), "center must be a number or a torch.Tensor"),
    (lambda: di.HalfSpace(torch.zeros(2), 1.0), "normal must be a nonzero vector"),
    (lambda: di.HalfSpace([1.0], 1.0), "normal must be a torch.Tensor; got list"),
    (lambda: di.Simplex(0.0), "total must be greater than 0; got 0"),
    (lambda: di.L1(-0.1), "weight must be at least 0; got -0.1"),
    (lambda: di.L1(torch.tensor([1.0, -2.0])), r"weight must be nonnegative; entry \(1,\) is -2"),
    (lambda: di.L2(-1.0), "weight must be at least 0; got -1"),
])
def test_bad_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_a_function_without_its_operators_says_what_to_write():
    class Nothing(di.ProxFunction):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing must define prox\(x, h, t\)"):
        Nothing().prox(torch.zeros(1), 1.0)
