"""Total variation, groups, elastic net and a prox from outside."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import lsq_linear
from torch.linalg import vector_norm

import diffincl as di

F64 = torch.float64
numbers = st.floats(-100, 100)


def walk(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64).cumsum(-1)


@given(st.lists(numbers, min_size=2, max_size=15), st.floats(0, 50))
def test_total_variation_satisfies_its_optimality_conditions(entries, bound):
    """x − u = Dᵀq with |q| <= bound, and q_i = bound·sign of the jump wherever u jumps."""
    x = torch.tensor(entries, dtype=F64)
    u = di.TotalVariation(bound).prox(x, 1.0)
    q = -(x - u).cumsum(-1)
    assert float(q[-1].abs()) < 1e-11
    assert float(q[:-1].abs().max()) <= bound + 1e-11
    jump = u.diff()
    jumps = jump.abs() > 1e-10
    torch.testing.assert_close(q[:-1][jumps], bound * jump.sign()[jumps], rtol=0, atol=1e-11)


@pytest.mark.parametrize("seed", range(4))
def test_total_variation_of_long_signals(seed):
    x, bound = walk(3, 400, seed=seed), 2.5
    u = di.TotalVariation(bound).prox(x, 1.0)
    q, jump = -(x - u).cumsum(-1)[:, :-1], u.diff(dim=-1)
    assert float(q.abs().max()) <= bound * (1 + 1e-12)
    jumps = jump != 0
    assert 10 < int(jumps.sum()) < 1000
    torch.testing.assert_close(q[jumps], bound * jump.sign()[jumps], rtol=1e-11, atol=0)


def test_total_variation_flow_of_two_plateaus():
    """Exact problem 14 of the theory: a + t/m, b − t/m until they meet."""
    m, a, b = 3, -1.0, 2.0
    x0 = torch.tensor([a] * m + [b] * m, dtype=F64)
    t = torch.linspace(0, 6, 25, dtype=F64)
    x = di.solve(di.Inclusion(lambda t, x: 0 * x, di.TotalVariation()), x0, t).x
    move = (t / m).clamp_max((b - a) / 2).unsqueeze(-1)
    torch.testing.assert_close(x, x0 + move * torch.tensor([1.0] * m + [-1.0] * m, dtype=F64))


def test_derivative_of_total_variation_is_the_mean_over_plateaus():
    x = walk(12, seed=3)
    g = di.TotalVariation(1.2)
    u = g.prox(x, 1.0)
    same = (u.unsqueeze(0) == u.unsqueeze(1)).to(F64)
    assert 1 < torch.linalg.matrix_rank(same) < 12
    expected = same / same.sum(-1, keepdim=True)
    plain = torch.autograd.functional.jacobian(lambda x: g.prox(x, 1.0), x)
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(jacobian(lambda x: g.prox(x, 1.0))(x), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(plain, expected, rtol=0, atol=1e-14)
    h = torch.tensor([1.0], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h: g.prox(x, h), h)


@pytest.mark.parametrize("seed", range(8))
def test_distance_from_the_subdifferential_of_total_variation(seed):
    """q is fixed at jumps; on plateaus the best one by bounded least squares."""
    d, weight = 7, 0.8
    x, v = walk(d, seed=seed).round(), walk(d, seed=seed + 50)
    jump = x.diff()
    D = torch.diff(torch.eye(d, dtype=F64), dim=0)
    fixed, free = D[jump != 0].T @ (weight * jump.sign()[jump != 0]), D[jump == 0]
    left = lsq_linear(free.T.numpy(), (v - fixed).numpy(), bounds=(-weight, weight), method="bvls", tol=1e-14)
    assert float(di.TotalVariation(weight).normal_distance(x, v)) == pytest.approx((2 * left.cost) ** 0.5, abs=1e-9)


def test_one_coordinate_has_no_variation():
    x = torch.tensor([[3.0], [-1.0]])
    g = di.TotalVariation(2.0)
    assert torch.equal(g.prox(x, 1.0), x)
    assert g.value(x).tolist() == [0.0, 0.0]
    assert g.normal_distance(x, x).tolist() == [3.0, 1.0]


def test_groups_by_lists_and_by_labels_are_the_same():
    x = walk(20, 5)
    lists, labels = di.GroupL2([[0, 3], [1]], 0.7), di.GroupL2(torch.tensor([0, 1, -1, 0, -5]), 0.7)
    assert torch.equal(lists.prox(x, 0.5), labels.prox(x, 0.5))
    assert torch.equal(lists.prox(x, 0.5)[:, [2, 4]], x[:, [2, 4]])
    assert torch.equal(lists.prox(x, 0.5)[:, [0, 3]], di.L2(0.7).prox(x[:, [0, 3]], 0.5))
    v = walk(20, 5, seed=1)
    apart = torch.stack([di.L2(0.7).normal_distance(x[:, [0, 3]], v[:, [0, 3]]),
                         di.L2(0.7).normal_distance(x[:, [1]], v[:, [1]]), vector_norm(v[:, [2, 4]], dim=-1)])
    torch.testing.assert_close(lists.normal_distance(x, v), vector_norm(apart, dim=0))


def test_groups_of_one_are_the_l1_norm():
    x = walk(20, 3)
    torch.testing.assert_close(di.GroupL2([[2], [0], [1]], torch.tensor([3.0, 1.0, 2.0], dtype=F64)).prox(x, 0.5),
                               di.L1(torch.tensor([1.0, 2.0, 3.0], dtype=F64)).prox(x, 0.5))


def test_elastic_net_flow():
    """Exact problem 15 of the theory, the whole of it in g: x0 = 2 decays as (x0 + 1)e^{−t} − 1, then rests."""
    t = torch.linspace(0, 2, 4001, dtype=F64)
    x = di.solve(di.Inclusion(lambda t, x: 0 * x, di.ElasticNet(1.0, 1.0)), torch.tensor([2.0], dtype=F64), t).x[:, 0]
    torch.testing.assert_close(x, (3 * torch.exp(-t) - 1).clamp_min(0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("prox", [lambda x, h, t: x / (1 + h * (1 + t)), lambda x, h, t=0.0: x / (1 + h * (1 + t))])
def test_a_custom_prox_gets_the_time(prox):
    g = di.CustomProx(prox, lambda x, t: (1 + t) / 2 * (x**2).sum(-1))
    assert float(g.prox(torch.ones(1), 0.5, 1.0)) == 0.5
    assert float(g.value(torch.ones(1), 3.0)) == 2.0


def test_an_option_of_a_custom_prox_is_not_mistaken_for_the_time():
    g = di.CustomProx(lambda x, h, strength=2.0: x / (1 + h * strength))
    assert float(g.prox(torch.ones(1), 0.5, 100.0)) == 0.5
    assert float(g.normal_distance(torch.ones(1, dtype=F64), torch.full((1,), 2.0, dtype=F64))) < 1e-5
    with pytest.raises(NotImplementedError, match=r"no value; pass one: CustomProx\(prox, value="):
        g.value(torch.ones(1))


ONES = torch.ones(2, 3)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: di.CustomProx(3), r"prox must be callable as prox\(x, h\) or prox\(x, h, t\); got 3 of type int"),
    (lambda: di.CustomProx(lambda x: x), r"prox must be callable as .*; its arguments are \(x\)"),
    (lambda: di.CustomProx(lambda x, h: x, value=lambda: 0), r"value must be callable as value\(x\) or value\(x, t\)"),
    (lambda: di.CustomProx(lambda x, h: x, kink_sides=torch.sign), r"cannot be read. Wrap it: lambda x: …"),
    (lambda: di.CustomProx(lambda x, h: x, kink_sides=1), r"kink_sides must be callable as kink_sides\(x\)"),
    (lambda: di.CustomProx(lambda x, h: x, kink_sides=lambda x: x.sum(-1)).kink_sides(ONES),
     r"kink_sides must return signs of shape \(2, 'n'\), one row a sample; it returned a tensor of shape \(2,\)"),
    (lambda: di.CustomProx(lambda x, h: x, kink_sides=lambda x: x.T).kink_sides(torch.ones(2, 3)), "one row a sample"),
    (lambda: di.CustomProx(lambda x, h: x, kink_sides=lambda x: None).kink_sides(ONES), "it returned None"),
    (lambda: di.CustomProx(lambda x, h: x, convex=1), "convex must be True or False; got 1"),
    (lambda: di.CustomProx(lambda x, h: 0.0).prox(ONES, 1.0), "prox must return a tensor; it returned 0.0"),
    (lambda: di.CustomProx(lambda x, h: x.sum(-1)).prox(ONES, 1.0),
     r"prox must return a tensor of shape \(2, 3\) and dtype float32; it returned a tensor of shape \(2,\)"),
    (lambda: di.CustomProx(lambda x, h: x.double()).prox(ONES, 1.0), "and dtype float32; it returned .* dtype float64"),
    (lambda: di.CustomProx(lambda x, h: x, lambda x: x).value(ONES), r"value must return a tensor of shape \(2,\)"),
    (lambda: di.CustomProx(lambda x, h: x / torch.tensor([[1.0], [0.0]])).prox(ONES, 1.0),
     r"prox must be finite where x is; of sample \(1,\) it makes \[inf, inf, inf\]"),
    (lambda: di.TotalVariation(-1.0), "weight must be at least 0; got -1"),
    (lambda: di.TotalVariation(ONES), "weight must be a real number"),
    (lambda: di.ElasticNet(-1.0, 0.0), "l1 must be at least 0; got -1"),
    (lambda: di.ElasticNet(1.0, torch.tensor([0.0, -2.0])), r"l2 must be nonnegative; entry \(1,\) is -2"),
    (lambda: di.GroupL2([[0, 1], [1]]), "index 1 of group 1 is in group 0 too"),
    (lambda: di.GroupL2([[0], []]), "groups must not be empty; group 1 is"),
    (lambda: di.GroupL2([[-1]]), "index -1 of group 0 is negative"),
    (lambda: di.GroupL2([]), "groups must hold at least one group"),
    (lambda: di.GroupL2(torch.tensor([-1, -1])), "groups must hold at least one group"),
    (lambda: di.GroupL2(torch.tensor([0, 2])), "groups must not be empty; group 1 is"),
    (lambda: di.GroupL2([["a"]]), "groups must be lists of whole numbers"),
    (lambda: di.GroupL2([0, 1]), "groups must be lists of whole numbers"),
    (lambda: di.GroupL2(torch.ones(3)), r"groups must be lists of indices or an integer tensor of labels \(d,\)"),
    (lambda: di.GroupL2([[0], [1]], torch.ones(3)), r"weight must be a number or have shape \(2,\)"),
    (lambda: di.GroupL2([[0], [5]]).prox(ONES, 1.0), "x must have last dimension at least 6, by the groups"),
    (lambda: di.GroupL2(torch.tensor([0, 0])).prox(ONES, 1.0), "x must have last dimension 2, by the groups"),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_nan_in_nan_out_of_a_custom_prox():
    x = torch.tensor([[torch.nan, 1.0], [1.0, 1.0]])
    assert di.CustomProx(lambda x, h: x).prox(x, 1.0).isnan().tolist() == [[True, False], [False, False]]


@given(st.one_of(st.floats(max_value=-1e-9), st.sampled_from([float("inf"), float("nan"), "1", None, True])))
def test_bad_weights_are_refused_by_name(weight):
    for make, name in ((di.TotalVariation, "weight"), (di.L2, "weight"), (lambda w: di.ElasticNet(w, 1.0), "l1"),
                       (lambda w: di.GroupL2([[0]], w), "weight"), (di.OutsideBall, "radius"), (di.Ball, "radius")):
        with pytest.raises((ValueError, TypeError), match=name):
            make(weight)


class Wall(di.ConvexSet):
    """x >= sin t, written by hand."""

    moving = True

    def project(self, x, t=0.0):
        return torch.maximum(x, torch.sin(torch.as_tensor(t, dtype=x.dtype)))


@pytest.mark.parametrize("steps", [di.Fixed(n=40), di.Adaptive(1e-5, 1e-5)], ids=str)
def test_what_moves_and_does_not_say_how_is_solved_as_what_does(steps):
    """ARS222 treats jerks of g apart: a prox that depends on t, or says so, is not one for that."""
    x0 = torch.tensor([[1.9], [0.3]], dtype=F64)
    pairs = [(di.CustomProx(di.L1(0.5).prox, kink_sides=lambda x: x.sign()), di.L1(0.5)),
             (Wall(), di.Moving(di.Orthant(), shift=lambda t: torch.sin(torch.as_tensor(t, dtype=F64))))]
    for custom, known in pairs:
        assert custom.moving
        x, y = (di.solve(di.Inclusion(lambda t, x: torch.ones_like(x), g), x0, [0.0, 1.3], scheme=di.ARS222(),
                         steps=steps).x[-1] for g in (custom, known))
        torch.testing.assert_close(x, y, rtol=0, atol=1e-12)
