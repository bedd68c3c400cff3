"""Numbers that are called upper bounds are: norms against exact arithmetic, rates against enumeration."""

from fractions import Fraction
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

import diffincl as di
from diffincl import norms, rates
from diffincl.fields import Weights

F64 = torch.float64


def exact_norm(A):
    """‖A‖₂ to 40 digits."""
    with mp.workdps(40):
        return max(mp.svd_r(mp.matrix(A.tolist()), compute_uv=False))


def exact_largest_eigenvalue(S):
    with mp.workdps(40):
        return max(mp.eigsy(mp.matrix(S.tolist()), eigvals_only=True))


MATRICES = {
    "random": lambda g, n, k: torch.randn(n, k, generator=g, dtype=F64),
    "rank one": lambda g, n, k: torch.randn(n, 1, generator=g, dtype=F64) * torch.randn(1, k, generator=g, dtype=F64),
    "orthogonal": lambda g, n, k: torch.linalg.qr(torch.randn(max(n, k), max(n, k), generator=g, dtype=F64))[0][:n, :k],
    "graded": lambda g, n, k: torch.randn(n, k, generator=g, dtype=F64) * 10.0 ** -torch.arange(k),
    "huge": lambda g, n, k: 1e150 * torch.randn(n, k, generator=g, dtype=F64),
    "tiny": lambda g, n, k: 1e-200 * torch.randn(n, k, generator=g, dtype=F64),
    "equal": lambda g, n, k: torch.full((n, k), 0.1, dtype=F64),
    "zero rows": lambda g, n, k: torch.randn(n, k, generator=g, dtype=F64) * (torch.arange(n) % 2).unsqueeze(-1),
}


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize(("n", "k"), [(1, 1), (1, 7), (6, 2), (8, 8)])
def test_dense_norm_is_above_the_exact_one_and_close(kind, n, k):
    for seed in range(5):
        A = MATRICES[kind](torch.Generator().manual_seed(seed), n, k)
        truth = exact_norm(A)
        for status, room in (("certified", 1e-11), ("float", 1e-12)):
            norm = norms.dense(A, status=status)
            value = mp.mpf(float(norm.value))
            assert norm.status == status
            assert value >= truth if status == "certified" else value >= truth * (1 - mp.mpf(10) ** -20)
            assert value <= truth * (1 + room)


def test_a_bare_singular_value_would_fail_the_test_above():
    """The enclosure is needed: plain float64 is below the truth in a good share of cases."""
    below = 0
    for seed in range(40):
        A = torch.randn(6, 6, generator=torch.Generator().manual_seed(seed), dtype=F64)
        below += mp.mpf(float(torch.linalg.matrix_norm(A, 2))) < exact_norm(A)
    assert below >= 8


def test_batches_and_dtypes_of_norms():
    A = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    value = norms.dense(A).value
    assert value.shape == (3, 2)
    assert value.dtype == F64
    for i, j in product(range(3), range(2)):
        assert float(value[i, j]) == pytest.approx(float(norms.dense(A[i, j]).value), rel=1e-12)
        assert mp.mpf(float(value[i, j])) >= exact_norm(A[i, j].double())
    assert float(norms.dense(torch.zeros(3, 2)).value) == 0.0


@pytest.mark.parametrize("shift", [-30.0, -3.0, 0.0, 5.0])
def test_largest_eigenvalue_of_either_sign_is_above(shift):
    for seed in range(10):
        B = torch.randn(6, 6, generator=torch.Generator().manual_seed(seed), dtype=F64)
        S = B + B.T + shift * torch.eye(6, dtype=F64)
        truth = exact_largest_eigenvalue(S)
        value = mp.mpf(float(norms.largest_eigenvalue(S)))
        assert truth <= value <= truth + abs(truth) * 1e-11 + 1e-11
        E = torch.full((6, 6), 1e-3, dtype=F64)
        worst = exact_largest_eigenvalue(S + E)  # one of the matrices within E
        assert worst <= mp.mpf(float(norms.largest_eigenvalue(S, E)))


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9))
def test_row_sums_are_above_the_exact_sum(entries):
    A = torch.tensor([entries], dtype=F64).abs()
    assert Fraction(float(norms.row_sum(A))) >= sum((Fraction(v) for v in A[0].tolist()), Fraction(0))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: norms.dense(torch.ones(3)), r"A must have shape \(\*batch, n, k\); got a tensor of shape \(3,\)"),
    (lambda: norms.dense(torch.tensor([[torch.nan]])), r"A must be finite; entry \(0, 0\) is nan"),
    (lambda: norms.dense(torch.full((2, 2), 1.7e308, dtype=F64)), "overflows float64"),
    (lambda: norms.dense(torch.ones(2, 2), status="sure"),
     "status must be one of 'certified', 'float', 'estimate'; got 'sure'"),
    (lambda: norms.largest_eigenvalue(torch.eye(2), status="estimate"), "one of 'certified', 'float'; got"),
    (lambda: norms.dense(torch.ones(2, 2, dtype=torch.int32)), "A must have a real floating-point dtype"),
    (lambda: rates.scaled(torch.ones(2, 3), torch.ones(2, 3)), "A1 and A2 must have shapes"),
    (lambda: rates.scaled(torch.ones(2, 3), torch.full((3, 2), torch.nan)), "A2 must be finite"),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def exact_rate(A1, A2):
    """R4: the largest eigenvalue of −sym(A2 D A1) over all D in {0, 1}^m, and the same for ‖A2 D A1‖."""
    m = A1.shape[-2]
    D = torch.tensor(list(product((0.0, 1.0), repeat=m)), dtype=F64)
    J = (A2.unsqueeze(0) * D.unsqueeze(1)) @ A1
    return float(torch.linalg.eigvalsh(-0.5 * (J + J.mT))[:, -1].max()), float(torch.linalg.matrix_norm(J, 2).max())


def nets(seed, d=3, m=4):
    g = torch.Generator().manual_seed(seed)
    A1, A2 = torch.randn(m, d, generator=g, dtype=F64), torch.randn(d, m, generator=g, dtype=F64)
    yield "free", A1, A2
    yield "d", A1, A2.abs()
    yield "s", A1, A1.T.clone()
    yield "minus s", A1, -A1.T
    yield "scaled s", A1, A1.T * (0.1 + torch.rand(m, generator=g, dtype=F64))
    size = torch.tensor([1e-6, 1.0, 1e6, 1.0], dtype=F64)
    yield "badly scaled units", A1 * size[:, None], A2 / size
    yield "dead row", A1 * torch.tensor([0.0, 1.0, 1.0, 1.0])[:, None], A2
    yield "dead column", A1, A2 * torch.tensor([1.0, 1.0, 0.0, 1.0])
    yield "zero", 0 * A1, 0 * A2


@pytest.mark.parametrize("seed", range(4))
def test_every_rate_is_above_the_exact_one_and_the_ladder_descends(seed):
    for name, A1, A2 in nets(seed):
        mu, lipschitz = exact_rate(A1, A2)
        found = {r.__name__: float(r(A1, A2).value) for r in (rates.uniform, rates.centred, rates.scaled)}
        room = 1e-12 * (1 + found["uniform"])
        assert found["uniform"] >= lipschitz - room, name
        assert found["centred"] >= mu - room, name
        assert found["scaled"] >= mu - room, name
        assert found["centred"] <= found["uniform"] + room, name
        assert found["scaled"] <= 0.25 * (1 + 1e-9) * 4 * found["uniform"] + room, name
        if name in ("s", "scaled s", "zero"):
            assert found["scaled"] < 1e-10, name


def test_the_optimised_scaling_is_near_the_best_for_one_unit():
    """For one unit the best Q gives ½(‖u‖‖v‖ − u·v), which is the exact rate."""
    for seed in range(10):
        g = torch.Generator().manual_seed(seed)
        u, v = torch.randn(4, 1, generator=g, dtype=F64), torch.randn(1, 4, generator=g, dtype=F64)
        expected = 0.5 * (u.norm() * v.norm() - (v @ u).squeeze())
        assert float(rates.scaled(v, u).value) == pytest.approx(float(expected), rel=1e-5)


def inside(points, s):
    """The quadratic with the given control points at share s of the piece."""
    a, b, c = points.tolist()
    return a * (1 - s) ** 2 + 2 * b * s * (1 - s) + c * s * s


@pytest.mark.parametrize("rate", rates.RATES)
def test_a_rate_on_a_linear_piece_is_above_the_exact_one_inside_it(rate):
    for seed in range(2):
        for (name, A1, A2), (other, B1, B2) in zip(nets(seed), [*nets(seed + 50)][::-1], strict=True):
            left, right = Weights(A1, A1[:, 0], A2, A2[:, 0]), Weights(B1, B1[:, 0], B2, B2[:, 0])
            points = rates.along(left, right, rate)
            for s in (0.0, 0.1, 0.5, 0.8, 1.0):
                mu, lipschitz = exact_rate((1 - s) * A1 + s * B1, (1 - s) * A2 + s * B2)
                bound = inside(points, s)
                truth = lipschitz if rate == "global" else mu
                assert bound >= truth - 1e-12 * (1 + abs(bound)), (name, other, s)


@pytest.mark.parametrize("dying", ["column", "row"])
def test_a_unit_that_dies_at_one_end_only_counts_inside_the_piece(dying):
    """One factor goes to zero while the other turns: dropping the unit at that end would claim the rate 0."""
    steady, turned = torch.tensor([[1.0, 0.0]], dtype=F64), torch.tensor([[0.0, 3.0]], dtype=F64)
    A1, A2 = (turned, 0 * steady.T) if dying == "column" else (0 * steady, turned.T)
    left = Weights(steady, torch.zeros(1), steady.T, torch.zeros(2))
    right = Weights(A1, torch.zeros(1), A2, torch.zeros(2))
    mu, _ = exact_rate(0.5 * (left.A1 + right.A1), 0.5 * (left.A2 + right.A2))
    assert mu > 0.2
    assert inside(rates.along(left, right, "scaled"), 0.5) >= mu


def test_status_is_passed_through():
    A = torch.eye(2)
    assert di.rates.scaled(A, A, status="float").status == "float"
    assert di.rates.uniform(A, A).status == "certified"


@pytest.mark.parametrize("unit", [5e-324, 1e-315])
def test_norms_below_the_normal_range_are_rounded_up(unit):
    for seed in range(10):
        A = unit * torch.randint(-9, 10, (3, 3), generator=torch.Generator().manual_seed(seed)).to(F64)
        assert mp.mpf(float(norms.dense(A).value)) >= exact_norm(A)


@pytest.mark.parametrize("size", [1e-160, 1e160])
def test_rates_survive_extreme_weights(size):
    A1, A2 = (size * torch.ones(*shape, dtype=F64) for shape in ((4, 3), (3, 4)))
    if size < 1:
        assert float(rates.scaled(A1, -A2).value) >= 0
    else:
        with pytest.raises(ValueError, match=r"finite|overflow"):
            rates.centred(A1, A2)
