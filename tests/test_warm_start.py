"""Polyhedra in a solve: the rows that carried the last projection are tried first, and change nothing but the work."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from polyhedra import KINDS, draw, far_and_near, require_optimal
from torch.linalg import vector_norm

import diffincl as di
from diffincl.functions import active

F64 = torch.float64
EPS = torch.finfo(F64).eps
CORNER = di.Polyhedron(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=F64),
                       torch.tensor([1.0, 1.0, 2.0], dtype=F64))  # three rows through (1, 1)


@pytest.fixture
def searched(monkeypatch):
    """How many samples each search looked at."""
    counts, search = [], active._searched

    def counted(x, *rest):
        counts.append(len(x))
        return search(x, *rest)

    monkeypatch.setattr(active, "_searched", counted)
    return counts


def rotating(k=12, d=4, n=20, seed=0):
    """A polyhedron around 0 and a field that drives the samples along its faces."""
    gen = torch.Generator().manual_seed(seed)
    G = torch.randn(k, d, generator=gen, dtype=F64)
    C, S = di.Polyhedron(G, vector_norm(G, dim=-1)), torch.randn(d, d, generator=gen, dtype=F64)
    target = 3 * torch.randn(n, d, generator=gen, dtype=F64)
    x0 = C.project(torch.randn(n, d, generator=gen, dtype=F64))
    return C, lambda t, x: x - target - 2 * torch.sin(2 * t) - x @ (S - S.T) / 2, x0


def require_same(u, v, x):
    """Both are nearest to x, which is computed with up to the rounding of its size times the condition of the rows."""
    assert float((vector_norm(u - v, dim=-1) / (1 + vector_norm(x, dim=-1))).max()) < 1e-12


class Cold(di.ConvexSet):
    """The same set, each projection from no row."""

    polyhedral = True

    def __init__(self, C):
        self.C = C

    def project(self, x, t=0.0):
        return self.C.project(x, t)


@pytest.mark.parametrize("kind", KINDS)
def test_projections_along_a_path_are_optimal_and_those_from_no_row(kind):
    for seed in range(8):
        G, h = draw(kind, seed)
        C = di.Polyhedron(G, h)
        warm, x, gen = C.with_memory(), far_and_near(G.shape[1], seed=seed), torch.Generator().manual_seed(seed)
        for size in (0.0, 1e-14, 1e-3, 0.1, 0.1, 3.0, 0.0, 0.1):
            x = x + size * torch.randn(x.shape, generator=gen, dtype=F64)
            u = warm.project(x)
            require_optimal(G, h, x, u)
            require_same(u, C.project(x), x)


def test_any_start_leads_to_the_same_point():
    for seed in range(20):
        G, h = draw("many", seed)
        C, x = di.Polyhedron(G, h), far_and_near(G.shape[1], seed=seed)
        for other in range(3):
            warm = C.with_memory()
            warm.project(10 * far_and_near(G.shape[1], seed=100 + other))  # carried by rows that mean nothing for x
            u = warm.project(x)
            require_optimal(G, h, x, u)
            require_same(u, C.project(x), x)


def test_rows_that_carry_are_not_searched_again(searched):
    C, x = CORNER.with_memory(), torch.tensor([[3.0, 0.0], [3.0, 3.0], [0.0, 0.0]], dtype=F64)
    C.project(x)
    assert searched == [2]  # the third is inside
    for shift in (0.0, 0.1, -0.2, 1e-9):
        torch.testing.assert_close(C.project(x + shift), CORNER.project(x + shift), rtol=0, atol=4 * EPS)
    assert [n for n in searched if n != 3] == [2]  # 3: those of CORNER itself


def test_only_samples_whose_rows_are_wrong_are_searched(searched):
    C, x = CORNER.with_memory(), torch.tensor([[3.0, 0.0], [0.0, 3.0], [3.0, 3.0], [2.0, -1.0]], dtype=F64)
    C.project(x)
    x[1] = torch.tensor([3.0, 0.5], dtype=F64)  # another row
    x[2] = torch.tensor([4.0, 0.0], dtype=F64)  # one row of two
    u = C.project(x)
    assert searched == [4, 2]
    assert u.tolist() == [[1.0, 0.0], [1.0, 0.5], [1.0, 0.0], [1.0, -1.0]]


def test_a_row_that_leaves_and_one_that_is_missing(searched):
    """From rows 0 and 1 of a cube to row 2 alone, and from row 0 to all three."""
    C = di.Polyhedron(torch.eye(3, dtype=F64), torch.zeros(3, dtype=F64)).with_memory()
    C.project(torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0]], dtype=F64))
    u = C.project(torch.tensor([[-1.0, -1.0, 1.0], [1.0, 2.0, 3.0]], dtype=F64))
    assert searched == [2, 2]
    assert u.tolist() == [[-1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]


def test_dependent_rows_and_a_thin_set():
    G = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [3.0, 0.0], [1.0, 1.0], [1.0, -1.0]], dtype=F64)
    C = di.Polyhedron(G, torch.tensor([1.0, 1.0, -1.0, 3.0, 1.0, 1.0], dtype=F64))  # x = 1, and y = 0 by two rows
    warm, gen = C.with_memory(), torch.Generator().manual_seed(0)
    for _ in range(30):
        u = warm.project(5 * torch.randn(40, 2, generator=gen, dtype=F64))
        # Each row holds to 16 rounding units of 2|u| + |h| <= 3, and y is seen at 45 degrees.
        torch.testing.assert_close(u, torch.tensor([1.0, 0.0], dtype=F64).expand(40, 2), rtol=0, atol=48 * 2.5 * EPS)


def test_rows_are_kept_while_a_sample_rests_inside(searched):
    C, out, inside = CORNER.with_memory(), torch.tensor([[3.0, 0.0]], dtype=F64), torch.zeros(1, 2, dtype=F64)
    for x in (out, inside, inside, out):
        C.project(x)
    assert searched == [1]


def test_a_search_that_fails_from_its_start_is_made_from_no_row(monkeypatch):
    """Nothing is known to fail so; here the start is spoiled on purpose."""
    def spoil(self, rows):
        self.h = torch.full_like(self.h, -1e3)  # rows 0 and 1 with row 2 through them: no point there
        self.h[:, 2] = -1e9
        self.G = torch.cat([self.G[:2], -self.G[2:]])

    monkeypatch.setattr(active._Search, "start", spoil)
    C, x = CORNER.with_memory(), torch.tensor([[3.0, 0.0], [3.0, 3.0]], dtype=F64)
    torch.testing.assert_close(C.project(x), CORNER.project(x), rtol=0, atol=0)


def test_on_a_kink_the_derivative_does_not_depend_on_what_came_before():
    x = torch.tensor([[1.0, 0.0]], dtype=F64, requires_grad=True)  # on row 0, which carried the projection before
    warm = CORNER.with_memory()
    warm.project(torch.tensor([[3.0, 0.0]], dtype=F64))
    for shift in (0.0, EPS, -EPS):
        (a,), (b,) = (torch.autograd.grad(C.project(x + shift).sum(), x) for C in (warm, CORNER))
        assert torch.equal(a, b)


def test_a_sample_that_is_not_finite_is_nan_alone_and_comes_back():
    C, x = CORNER.with_memory(), torch.tensor([[3.0, 0.0], [3.0, 3.0], [0.0, 4.0]], dtype=F64)
    expected = C.project(x)
    for bad in (torch.nan, torch.inf, -torch.inf):
        spoiled = x.clone()
        spoiled[1, 0] = bad
        u = C.project(spoiled)
        assert u.isnan().all(-1).tolist() == [False, True, False]
        torch.testing.assert_close(C.project(x), expected, rtol=0, atol=4 * EPS)


def test_shapes_and_dtypes_may_change():
    C, x = CORNER.with_memory(), 3 * torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    for y in (x, x.reshape(3, 2, 2), x[0], x[0, 0], x[:0], x.float(), x):
        u = C.project(y)
        assert u.dtype == y.dtype
        torch.testing.assert_close(u, CORNER.project(y), rtol=0, atol=4 * torch.finfo(y.dtype).eps)


def test_derivatives_in_every_mode():
    G, h = draw("any", 4)
    C, x = di.Polyhedron(G, h).with_memory(), far_and_near(G.shape[1], n=8, seed=3).clamp(-5, 5)
    C.project(x)
    C.project(torch.where(torch.arange(8).unsqueeze(-1) < 4, x, -x))  # half of what is remembered is wrong for x
    assert torch.autograd.gradcheck(C.project, x.clone().requires_grad_(), check_forward_ad=True,
                                    check_batched_grad=True)
    one_by_one = torch.autograd.functional.jacobian(lambda y: C.project(y).sum(0), x).movedim(1, 0)
    torch.testing.assert_close(torch.func.vmap(torch.func.jacrev(C.project))(x), one_by_one, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.func.vmap(torch.func.jacfwd(C.project))(x), one_by_one, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(C.project(x), di.Polyhedron(G, h).project(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scheme", [di.ForwardEuler(), di.ProxHeun(), di.ARS222(), di.ImplicitEuler(), di.Trapezoid()],
                         ids=lambda s: type(s).__name__)
def test_a_solve_is_that_with_cold_projections(scheme, searched):
    C, F, x0 = rotating()
    implicit = isinstance(scheme, di.ImplicitEuler | di.Trapezoid)
    n = 12 if implicit else 150
    found = []
    for g in (Cold(C), C):
        searched.clear()
        x = x0.clone().requires_grad_()
        sol = di.solve(di.Inclusion(F, g), x, [0.0, 0.75, 1.5], steps=di.Fixed(n=n), scheme=scheme)
        found.append((sol.x.detach(), sol.stats.proxes, sum(searched), torch.autograd.grad(sol.x.square().sum(), x)[0]))
    (cold, calls, all_samples, slope), (warm, calls_again, few, slope_again) = found
    torch.testing.assert_close(warm, cold, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slope_again, slope, rtol=1e-9, atol=1e-9)
    assert abs(calls - calls_again) <= 0.05 * calls
    assert few < (0.5 if implicit else 0.15) * all_samples
    held = C.G @ warm[-1].mT - C.h.unsqueeze(-1) > -1e-9
    assert 1 < float(held.double().sum(0).mean()) < C.G.shape[1] + 1e-9  # in contact, mostly with several rows


@pytest.mark.parametrize("scheme", [di.ProxHeun(), di.ARS222()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
def test_adaptive_steps_with_rows_that_rest(scheme, gradient, searched):
    C, F, x0 = rotating(n=4)
    found = []
    for g in (Cold(C), C):
        searched.clear()
        x = x0.clone().requires_grad_()
        sol = di.solve(di.Inclusion(F, g), x, [0.0, 0.2, 0.4], scheme=scheme, gradient=gradient,
                       steps=di.Adaptive(rtol=1e-3, atol=1e-4))
        found.append((sol.x.detach(), torch.autograd.grad(sol.x.square().sum(), x)[0], sum(searched)))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-8, atol=1e-8)
    assert found[1][2] < 0.4 * found[0][2]


def test_checkpointing_takes_the_steps_again_from_other_guesses():
    C, F, x0 = rotating()
    a = torch.tensor(1.0, dtype=F64, requires_grad=True)
    flow, found = di.Inclusion(lambda t, x: a * F(t, x), C), []
    for gradient in ("backprop", "checkpoint"):
        x = x0.clone().requires_grad_()
        sol = di.solve(flow, x, torch.linspace(0, 1.5, 101), gradient=gradient)
        found.append([sol.x.detach(), *torch.autograd.grad(sol.x.square().sum(), [x, a])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_the_set_itself_remembers_nothing():
    C, F, x0 = rotating()
    before, held = dict(vars(C)), C.with_memory()
    di.solve(di.Inclusion(F, C), x0, torch.linspace(0, 1, 21))
    assert vars(C) == before
    assert held is not C.with_memory()
    assert repr(held) == repr(C)
    held.project(x0 + 5)
    assert torch.equal(held.normal_distance(x0, F(torch.tensor(0.0), x0)),
                       C.normal_distance(x0, F(torch.tensor(0.0), x0)))


def test_solves_in_threads_do_not_meet():
    C, F, x0 = rotating()
    flow = di.Inclusion(F, C)
    starts = [x0, x0.flip(0), x0[:7], C.project(-x0)]

    def end(x):
        return di.solve(di.Inclusion(lambda t, x: F(t, x.new_zeros(20, 4))[:len(x)] + x, flow.g), x,
                        torch.linspace(0, 1, 41)).x[-1]

    alone = [end(x) for x in starts]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(end, starts), strict=True):
            assert torch.equal(one, other)


def test_moving_sets_and_products_remember_too(searched):
    C, F, x0 = rotating()
    shift = {"shift": lambda t: 0.2 * torch.sin(3 * t), "scale": lambda t: 1 + t / 4}
    for g, cold, d in ((di.Moving(C, **shift), di.Moving(Cold(C), **shift), 4),
                       (di.Product(C, di.Orthant(), sizes=(4, 1)), di.Product(Cold(C), di.Orthant(), sizes=(4, 1)), 5)):
        def field(t, x, d=d):
            return torch.cat([F(t, x[:, :4]), torch.cos(9 * t).expand(20, 1)], -1)[:, :d]

        start, found = g.project(torch.cat([x0, torch.zeros(20, 1, dtype=F64)], -1)[:, :d]), []
        for h in (cold, g):
            searched.clear()
            x = di.solve(di.Inclusion(field, h), start, torch.linspace(0, 1, 101)).x
            found.append((x, sum(searched)))
        torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-12, atol=1e-12)
        assert found[1][1] < 0.2 * found[0][1]


def test_a_function_without_memory_is_itself():
    for g in (di.Ball(), di.Moving(di.Ball()), di.Product(di.Ball(), di.L1(), sizes=(1, 2))):
        assert g.with_memory() is g


def test_a_class_of_its_own_keeps_what_it_overrides():
    class Halved(di.Moving):
        def prox(self, x, h, t=0.0):
            return super().prox(x, h, t) / 2

    assert Halved(CORNER).with_memory().prox(torch.tensor([3.0, 0.0], dtype=F64), 1.0).tolist() == [0.5, 0.0]


def test_float32_states(searched):
    C, F, x0 = rotating()
    def field(t, x):
        return F(t.double(), x.double()).float()

    start, times, found = x0.float() * 0.99, torch.linspace(0, 1, 101), []
    for g in (Cold(C), C):
        searched.clear()
        found.append((di.solve(di.Inclusion(field, g), start, times).x, sum(searched)))
    assert found[1][0].dtype == torch.float32
    torch.testing.assert_close(found[1][0], found[0][0], rtol=0, atol=1e-5)
    assert found[1][1] < 0.2 * found[0][1]


def test_the_penalty_tries_the_last_rows_first(searched):
    C, F, x0 = rotating(n=5)
    ends = []
    for g in (Cold(C), C):
        searched.clear()
        sol = di.solve(di.Inclusion(F, g), x0, [0.0, 1.0], scheme=di.Penalty(0.02, method="rk4", step=0.01))
        ends.append((sol.x[-1], sum(searched)))
    torch.testing.assert_close(ends[1][0], ends[0][0], rtol=1e-10, atol=1e-10)
    assert ends[1][1] < 0.2 * ends[0][1]


def test_under_transforms_all_samples_are_searched():
    C, _, x0 = rotating()
    flow = di.Inclusion(lambda t, x: x - 3 + t, C)

    def end(x):
        return di.solve(flow, x, torch.linspace(0, 1, 11)).x[-1]

    torch.testing.assert_close(torch.func.vmap(end)(x0), end(x0), rtol=1e-12, atol=1e-12)
    J = torch.autograd.functional.jacobian(end, x0[0])
    torch.testing.assert_close(torch.func.jacrev(end)(x0[0]), J, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(torch.func.jacfwd(end)(x0[0]), J, rtol=1e-11, atol=1e-11)
