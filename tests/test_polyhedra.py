"""Affine subspaces and polyhedra: optimality conditions, degenerate rows, derivatives, refusals."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from polyhedra import KINDS, draw, far_and_near, require_optimal
from scipy.optimize import linprog, minimize, nnls
from torch.linalg import vector_norm

import diffincl as di
from diffincl.functions.active import nearest

F64 = torch.float64
EPS = torch.finfo(F64).eps


@pytest.mark.parametrize("kind", KINDS)
def test_projection_on_a_polyhedron_is_optimal(kind):
    for seed in range(25):
        G, h = draw(kind, seed)
        x = far_and_near(G.shape[1], seed=seed)
        require_optimal(G, h, x, di.Polyhedron(G, h).project(x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_no_sample_fails_to_converge(kind):
    for seed in range(100, 115):
        G, h = draw(kind, seed)
        C, x = di.Polyhedron(G, h), far_and_near(G.shape[1], n=300, seed=seed)
        u = C.project(x)
        assert not bool(u.isnan().any())
        assert bool(C.contains(u).all())
        assert not bool(C.normal_distance(u, x - u).isnan().any())


def test_from_far_away_the_projection_lies_in_the_set():
    for seed in range(20):
        G, h = draw("many", seed)
        C, x = di.Polyhedron(G, h), 1e9 * far_and_near(G.shape[1], seed=seed)
        u = C.project(x)
        assert bool(C.contains(u).all())
        assert float(((u @ G.T - h) / vector_norm(G, dim=-1)).max()) < 1e-14 * (1 + float(u.abs().max()))


@pytest.mark.parametrize("depth", [1e-13, 1e-10, 1e-6])
def test_a_point_just_outside_is_moved(depth):
    normal = torch.tensor([0.6, 0.8], dtype=F64)
    C = di.Polyhedron(torch.stack([normal, -normal]), torch.tensor([1.0, 2.0], dtype=F64))
    torch.testing.assert_close(C.project((1 + depth) * normal), normal, rtol=0, atol=4e-16)


def test_rows_that_meet_far_away_have_a_solution():
    C = di.Polyhedron(torch.tensor([[1.0, 0.0], [-1.0, -1e-10]], dtype=F64), torch.tensor([0.0, -1.0], dtype=F64))
    u = C.project(torch.zeros(2, dtype=F64))
    torch.testing.assert_close(u, torch.tensor([0.0, 1e10], dtype=F64), rtol=1e-5, atol=1e-5)
    assert float(u[0]) < 1e-5


def test_an_empty_set_has_no_projection():
    """What the constructor refuses gives NaN, not a wrong point, in the search beneath it."""
    G, h = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=F64), torch.tensor([0.0, -1.0], dtype=F64)
    assert nearest(torch.zeros(3, 2, dtype=F64), G, h).isnan().all()


def test_agreement_with_scipy():
    for seed in range(6):
        G, h = draw("any", seed)
        x = 3 * far_and_near(G.shape[1], n=1, seed=seed)[0].clamp(-2, 2)
        rows = {"type": "ineq", "fun": lambda u, G=G, h=h: h.numpy() - G.numpy() @ u}
        found = minimize(lambda u, x=x: ((u - x.numpy())**2).sum(), np.zeros(len(x)), tol=1e-14, constraints=rows)
        torch.testing.assert_close(di.Polyhedron(G, h).project(x), torch.as_tensor(found.x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_distance_from_the_normal_cone_is_that_of_nonnegative_least_squares(kind):
    for seed in range(6):
        G, h = draw(kind, seed)
        C = di.Polyhedron(G, h)
        u, v = C.project(far_and_near(G.shape[1], seed=seed)), far_and_near(G.shape[1], seed=seed + 100)
        away = C.normal_distance(u, v)
        for point, vector, found in zip(u, v, away, strict=True):
            length = vector_norm(G, dim=-1).clamp_min(1e-300)
            held = G[(length > 1e-300) & ((h - G @ point) / length < 1e-9 * (1 + vector_norm(point)))]
            held = (held / vector_norm(held, dim=-1, keepdim=True)).numpy()
            left = nnls(held.T, vector.numpy())[1] if len(held) else float(vector_norm(vector))
            assert float(found) == pytest.approx(left, rel=1e-7, abs=1e-12 * (1 + float(vector_norm(vector))))


@pytest.mark.parametrize("size", [2.0**-664, 2.0**-20, 2.0**20, 2.0**664])
def test_the_length_of_the_rows_does_not_matter(size):
    (G, h), x = draw("any", 3), far_and_near(draw("any", 3)[0].shape[1])
    assert torch.equal(di.Polyhedron(size * G, size * h).project(x), di.Polyhedron(G, h).project(x))


@pytest.mark.parametrize("size", [1e-200, 1e-6, 1e6, 1e200])
def test_rows_that_rounding_changed_give_the_projection_of_their_condition(size):
    """size·G rounds, so each of the m rows that hold, of length 1, is off by η <= (d + 4)·eps and its offset by η·|b|:
    to first order the projection is off by √m η/σ (2‖u‖ + ‖x − u‖), σ the least singular value of these rows."""
    (G, h), x = draw("any", 3), far_and_near(draw("any", 3)[0].shape[1])
    length, d = vector_norm(G, dim=-1), G.shape[1]
    u, v = di.Polyhedron(G, h).project(x), di.Polyhedron(size * G, size * h).project(x)
    held = (h - u @ G.T) / length < 1e-9 * (1 + vector_norm(x, dim=-1, keepdim=True))
    for point, a, b, rows in zip(x, u, v, held, strict=True):
        sigma = float(torch.linalg.svdvals(G[rows] / length[rows, None]).min()) if bool(rows.any()) else 1.0
        room = int(rows.sum()) ** 0.5 * (d + 4) * EPS / sigma * (2 * vector_norm(a) + vector_norm(point - a))
        assert float(vector_norm(a - b)) <= float(room)


def test_what_was_projected_before_does_not_matter():
    G, h = draw("many", 1)
    C, x = di.Polyhedron(G, h), far_and_near(G.shape[1])
    first = C.project(x)
    C.project(-5 * x)
    assert torch.equal(C.project(x), first)


def test_far_away_in_float32():
    G, h = draw("any", 2)
    x = 1e5 * torch.randn(50, G.shape[1], generator=torch.Generator().manual_seed(0))
    C = di.Polyhedron(G, h)
    u = C.project(x)
    assert u.dtype == torch.float32
    assert torch.equal(u, C.project(x.double()).float())
    assert bool(C.contains(u).all())


@pytest.mark.parametrize("C", [di.Polyhedron(*draw("any", 4)), di.Polyhedron(*draw("multiples", 4)),
                               di.Affine(torch.tensor([[1.0, 2, 3, 4], [0, 1, -1, 2]], dtype=F64), torch.ones(2))],
                         ids=["any", "degenerate", "affine"])
def test_derivatives_in_every_mode(C):
    d = (C.A if isinstance(C, di.Affine) else C.G).shape[1]
    x = far_and_near(d, n=8, seed=3).clamp(-5, 5).requires_grad_()
    assert torch.autograd.gradcheck(C.project, x, check_forward_ad=True, check_batched_grad=True)
    backward = torch.func.vmap(torch.func.jacrev(C.project))(x.detach())
    forward = torch.func.vmap(torch.func.jacfwd(C.project))(x.detach())
    one_by_one = torch.stack([torch.autograd.functional.jacobian(C.project, row) for row in x.detach()])
    torch.testing.assert_close(backward, one_by_one, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(forward, one_by_one, rtol=1e-13, atol=1e-13)
    assert float(torch.func.hessian(lambda row: C.project(row).sum())(x.detach()[0]).abs().max()) < 1e-13


def test_nested_vmap_over_points_and_over_vectors_alone():
    C = di.Polyhedron(*draw("any", 4))
    x = far_and_near(C.G.shape[1], n=12).reshape(3, 4, -1)
    nested = torch.func.vmap(torch.func.vmap(C.project, in_dims=0), in_dims=1, out_dims=1)(x)
    torch.testing.assert_close(nested, C.project(x), rtol=1e-13, atol=1e-13)
    u = C.project(x[0, 0])
    each = torch.func.vmap(C.normal_distance, in_dims=(None, 0))(u, x[1])
    torch.testing.assert_close(each, C.normal_distance(u.expand(4, -1), x[1]), rtol=1e-12, atol=1e-12)


def test_samples_that_are_not_finite_are_nan_alone():
    C = di.Polyhedron(*draw("any", 4))
    x = far_and_near(C.G.shape[1], n=4)
    expected, x[1, 0], x[2, 0] = C.project(x), torch.nan, torch.inf
    u = C.project(x)
    assert u.isnan().all(-1).tolist() == [False, True, True, False]
    assert torch.equal(u[[0, 3]], expected[[0, 3]])


def test_implicit_euler_runs_on_a_polyhedron():
    """The Newton iteration takes the Jacobian of the prox inside transforms; compare with small explicit steps."""
    C = di.Polyhedron(torch.tensor([[1.0, 1.0], [-1.0, 2.0]], dtype=F64), torch.tensor([1.0, 0.5], dtype=F64))
    flow = di.Inclusion(lambda t, x: 3 * (x - torch.tensor([2.0, 1.0], dtype=F64)), C)
    x0 = C.project(torch.tensor([[-1.0, 0.0], [0.2, 0.1]], dtype=F64))
    fine = di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=200)).x[-1]
    coarse = di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=40), scheme=di.ImplicitEuler()).x[-1]
    torch.testing.assert_close(coarse, fine, rtol=0, atol=2e-2)
    single = torch.func.vmap(lambda x: di.solve(flow, x, [0.0, 1.0], steps=di.Fixed(n=10), scheme=di.ProxHeun()).x[-1])
    torch.testing.assert_close(single(x0), di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=10),
                                                    scheme=di.ProxHeun()).x[-1], rtol=0, atol=1e-13)


@pytest.mark.parametrize("gap", [0.0, 1e-16, -1e-3])
def test_a_thin_set(gap):
    """1 <= x <= 1 − gap, empty by rounding at most: the plane x = 1."""
    C = di.Polyhedron(torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=F64), torch.tensor([1.0 - gap, -1.0], dtype=F64))
    u = C.project(torch.tensor([[5.0, 2.0], [-5.0, 3.0]], dtype=F64))
    torch.testing.assert_close(u[:, 0], torch.tensor([1.0 - min(gap, 0.0), 1.0], dtype=F64), rtol=0, atol=1e-15)
    assert torch.equal(u[:, 1], torch.tensor([2.0, 3.0], dtype=F64))


def test_affine_is_the_polyhedron_of_both_signs():
    for seed in range(10):
        G, h = draw("any", seed)
        A, b = torch.cat([G[:2], 2 * G[:1]]), torch.cat([h[:2], 2 * h[:1]])
        if torch.linalg.matrix_rank(A) < min(2, len(G)):
            continue
        x = far_and_near(A.shape[1], seed=seed)
        C = di.Affine(A, b)
        u = C.project(x)
        torch.testing.assert_close(u, di.Polyhedron(torch.cat([A, -A]), torch.cat([b, -b])).project(x), rtol=1e-11,
                                   atol=1e-11)
        assert float((u @ A.T - b).abs().max()) < 1e-13 * (1 + float(u.abs().max())) * float(A.abs().max())
        across = torch.linalg.lstsq(A.T, (x - u).T, driver="gelsd").solution
        torch.testing.assert_close((A.T @ across).T, x - u, rtol=1e-11, atol=1e-11)
        assert float((C.normal_distance(u, x - u) / (1 + vector_norm(x, dim=-1))).max()) < 1e-13


def test_an_affine_subspace_of_a_float32_system_that_float32_rounding_makes_inconsistent():
    A = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    A = torch.cat([A, A.sum(0, keepdim=True)])
    C = di.Affine(A, A @ torch.ones(4))
    assert float((A @ C.project(torch.zeros(4)) - A @ torch.ones(4)).abs().max()) < 1e-5


EYE = torch.eye(2, dtype=F64)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: di.Affine(torch.ones(2, 2), torch.tensor([1.0, 2.0])),
     r"A x = b has no solution: the best x leaves row 1 a residual of 0\.5\. Correct b"),
    (lambda: di.Affine(torch.zeros(1, 2), torch.ones(1)), "leaves row 0 a residual of"),
    (lambda: di.Affine(EYE, torch.ones(3)), r"A must have shape \(k, d\) and b shape \(k,\)"),
    (lambda: di.Affine([[1.0]], torch.ones(1)), "A must be a torch.Tensor; got list"),
    (lambda: di.Affine(EYE.clone().requires_grad_(), torch.ones(2)), r"A must not require gradients.*A\.detach\(\)"),
    (lambda: di.Affine(EYE, torch.tensor([1.0, torch.nan])), r"b must be finite; entry \(1,\) is nan"),
    (lambda: di.Polyhedron(EYE[:1], torch.ones(1)).project(torch.ones(3)), "x must have last dimension 2, the columns"),
    (lambda: di.Affine(EYE[:1], torch.ones(1)).normal_distance(torch.ones(3), torch.ones(3)), "must have last dimens"),
    (lambda: di.Polyhedron(EYE.int(), torch.ones(2)), "G must have a real floating-point dtype"),
    (lambda: di.Polyhedron(1e-308 * EYE, torch.tensor([0.0, 4.0])), r"row 1 of G is too short beside h\[1\] = 4"),
    (lambda: di.Polyhedron(EYE[0], torch.ones(2)), r"G must have shape \(k, d\)"),
    (lambda: di.Polyhedron(EYE, torch.ones(2).requires_grad_()), "h must not require gradients"),
    (lambda: di.Polyhedron(torch.stack([EYE[0], 0 * EYE[0]]), torch.tensor([1.0, -2.0])),
     r"row 1 of G is zero and h\[1\] is -2"),
    (lambda: di.Polyhedron(torch.stack([EYE[1], EYE[0], 0 * EYE[0], -EYE[0]]), torch.tensor([0.0, 1.0, 0.0, -1.5])),
     r"no solution: rows \[1, 3\] contradict each other"),
    (lambda: di.Polyhedron(1e9 * torch.stack([EYE[0], EYE[1], -EYE[0] - EYE[1]]), 1e9 * torch.tensor([1.0, 1.0, -3.0])),
     r"no solution: rows \[0, 1, 2\] contradict each other"),
])
def test_bad_systems(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@given(st.lists(st.tuples(*[st.integers(-4, 4)] * 3), min_size=1, max_size=8))
def test_inequalities_are_refused_exactly_where_they_have_no_solution(rows):
    table = torch.tensor(rows, dtype=F64)
    G, h = table[:, :2], table[:, 2]
    solvable = linprog([0, 0], A_ub=G.numpy(), b_ub=h.numpy(), bounds=[(None, None)] * 2).status == 0
    if not solvable:
        with pytest.raises(ValueError, match="G x <= h has no solution") as caught:
            di.Polyhedron(G, h)
        if "contradict" in str(caught.value):  # and the named rows alone have none either
            named = [int(i) for i in re.search(r"rows \[(.*?)\]", str(caught.value)).group(1).split(",")]
            assert linprog([0, 0], A_ub=G[named].numpy(), b_ub=h[named].numpy(), bounds=[(None, None)] * 2).status == 2
        return
    x = torch.tensor([[3.0, -2.0], [-100.0, 1.0]], dtype=F64)
    require_optimal(G, h, x, di.Polyhedron(G, h).project(x))


entries = st.floats(-10, 10)


@given(st.lists(st.tuples(entries, entries, entries), min_size=1, max_size=8))
def test_any_inequalities_give_a_projection_or_an_error(rows):
    table = torch.tensor(rows, dtype=F64)
    try:
        C = di.Polyhedron(table[:, :2], table[:, 2])
    except ValueError as error:
        assert re.search("no solution|too short", str(error))  # noqa: PT017
        return
    u = C.project(torch.tensor([3.0, -2.0], dtype=F64))
    assert not bool(u.isnan().any())
    room = 1e-8 * table[:, :2].abs().amax(-1) * (1 + u.abs().max()) + 1e-9
    assert bool((table[:, :2] @ u - table[:, 2] <= room).all())
