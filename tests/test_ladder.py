"""The rungs R4 to R8 against enumeration, exact arithmetic and each other."""

from itertools import product

import pytest
import torch
from mpmath import mp
from torch.linalg import eigvalsh, matrix_norm

from diffincl import rates
from diffincl.fields import Weights
from diffincl.rates import definite

F64, INF = torch.float64, float("inf")


def net(kind, seed, *batch, d=3, m=4):
    g = torch.Generator().manual_seed(seed)
    A1, A2 = torch.randn(*batch, m, d, generator=g, dtype=F64), torch.randn(*batch, d, m, generator=g, dtype=F64)
    size = 10.0 ** torch.randint(-3, 4, (m, 1), generator=g).double()
    return {"free": (A1, A2), "d": (A1, A2.abs()), "s": (A1, A1.mT.clone()), "minus s": (A1, -A1.mT),
            "scaled s": (A1, A1.mT * (0.1 + torch.rand(m, generator=g, dtype=F64))), "near s": (A1, A1.mT + 0.1 * A2),
            "badly scaled": (size * A1, A2 / size.mT), "zero": (0 * A1, 0 * A2),
            "dead units": (A1 * (torch.arange(m) % 2).unsqueeze(-1), A2 * (torch.arange(m) > 1))}[kind]


KINDS = ("free", "d", "s", "minus s", "scaled s", "near s", "badly scaled", "zero", "dead units")


def patterns(m):
    return torch.tensor(list(product((0.0, 1.0), repeat=m)), dtype=F64)


def products(A1, A2):
    """A2DA1 for all D, (2^m, d, d)."""
    return (A2.unsqueeze(0) * patterns(A1.shape[-2]).unsqueeze(1)) @ A1


def one_sided(A1, A2):
    J = products(A1, A2)
    return float(eigvalsh(-0.5 * (J + J.mT))[:, -1].max())


def measure(J, p):
    J = J if p == INF else J.mT
    diagonal = J.diagonal(dim1=-2, dim2=-1)
    return float((diagonal + J.abs().sum(-1) - diagonal.abs()).amax())


# ----------------------------------------------------------------------------------------------- definiteness and Schur


def test_definiteness_is_never_claimed_wrongly():
    """Matrices whose least eigenvalue is a few rounding units around zero, against 60 digits."""
    claimed = 0
    for seed in range(60):
        g = torch.Generator().manual_seed(seed)
        B = torch.randn(5, 4, generator=g, dtype=F64)
        S = B @ B.T + 10.0 ** -(10 + seed % 7) * torch.eye(5, dtype=F64)
        S = 0.5 * (S + S.T)
        with mp.workdps(60):
            least = min(mp.eigsy(mp.matrix(S.tolist()), eigvals_only=True))
        if definite.is_positive_definite(S, torch.tensor(0.0, dtype=F64)):
            claimed += 1
            assert least > 0
        assert not definite.is_positive_definite(S, torch.tensor(float(least) + 1e-15, dtype=F64))
    assert 10 <= claimed < 60


def test_definiteness_of_what_is_not_finite_is_not_claimed():
    S = torch.eye(2, dtype=F64).repeat(3, 1, 1)
    S[1, 0, 0], S[2, 0, 0] = torch.nan, torch.inf
    assert definite.is_positive_definite(S, torch.zeros(3, dtype=F64)).tolist() == [True, False, False]
    assert not definite.is_positive_definite(S[0], torch.tensor(torch.nan))


@pytest.mark.parametrize("seed", range(6))
def test_the_schur_bound_encloses_the_exact_value(seed):
    g = torch.Generator().manual_seed(seed)
    B, R = torch.randn(4, 4, generator=g, dtype=F64), torch.randn(4, 3, generator=g, dtype=F64)
    M = B @ B.T + 10.0**-seed * torch.eye(4, dtype=F64)
    M = 0.5 * (M + M.T)
    for S in (torch.zeros(3, 3, dtype=F64), 100 * torch.eye(3, dtype=F64)):
        zero = torch.zeros(())
        value = mp.mpf(float(definite.schur_bound(S, R, M, (0 * S, 0 * R, 0 * M + zero))))
        with mp.workdps(60):
            r, m, s = (mp.matrix(x.tolist()) for x in (R, M, S))
            full = r.T * mp.inverse(m) * r - s
            truth = max(mp.eigsy((full + full.T) / 2, eigvals_only=True))
        assert truth <= value <= truth + mp.mpf(1e-7) * (abs(truth) + 1)


# ---------------------------------------------------------------------------------------------------------------- rates


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p", [1, 2, INF])
def test_the_exact_rate_is_that_of_a_loop(kind, p):
    for seed in range(3):
        A1, A2 = net(kind, seed)
        truth = one_sided(A1, A2) if p == 2 else measure(-products(A1, A2), p)
        for status in ("certified", "float"):
            found = rates.exact(A1, A2, p, status=status)
            assert found.status == status
            assert truth - 1e-13 * (1 + truth) <= float(found.value) <= truth * (1 + 1e-11) + 1e-9


def test_the_certified_exact_rate_is_above_the_truth_in_many_digits():
    for seed in range(5):
        A1, A2 = net("free", seed)
        with mp.workdps(40):
            a1, a2 = mp.matrix(A1.tolist()), mp.matrix(A2.tolist())
            truth = max(max(mp.eigsy(-(J + J.T) / 2, eigvals_only=True)) for J in
                        (a2 * mp.diag(list(D)) * a1 for D in product((0, 1), repeat=4)))
        assert truth <= mp.mpf(float(rates.exact(A1, A2).value)) <= truth * (1 + mp.mpf(1e-11))


def test_rates_take_batches():
    A1, A2 = net("free", 0, 2, 3)
    on, unknown = torch.arange(4) < 1, torch.arange(4) > 1
    W = torch.tensor([1.0, 2.0, 0.5])
    for rate in (rates.exact, rates.scaled, lambda a, b: rates.measure(a, b, 1), lambda a, b: rates.weighted(a, b, W),
                 lambda a, b: rates.tube(a, b, on, unknown)):
        value = rate(A1, A2).value
        single = torch.stack([torch.stack([rate(a, b).value for a, b in zip(x, y, strict=True)])
                              for x, y in zip(A1, A2, strict=True)])
        torch.testing.assert_close(value, single, rtol=1e-6, atol=1e-9)
    value = rates.step(A1, A2, torch.tensor([[0.1, 0.2, 0.3]]))
    assert float(value[1, 2]) == pytest.approx(float(rates.step(A1[1, 2], A2[1, 2], 0.3)), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_estimate_is_from_below_and_the_scaled_rate_from_above(kind):
    for seed in range(3):
        A1, A2 = net(kind, seed)
        truth, size = one_sided(A1, A2), float(A1.norm() * A2.norm())
        below = rates.exact_estimate(A1, A2)
        assert below.status == "estimate"
        assert 0 <= float(below.value) <= truth + 1e-13 * size
        assert float(rates.scaled(A1, A2).value) >= truth - 1e-13 * size


def test_the_estimate_meets_the_exact_rate_nearly_always():
    A1, A2 = net("free", 0, 100, d=8, m=10)
    ratio = rates.exact_estimate(A1, A2).value / rates.exact(A1, A2).value
    assert float((ratio > 1 - 1e-9).double().mean()) > 0.9


@pytest.mark.parametrize("kind", ["free", "d"])
def test_how_far_the_scaled_rate_is_above_the_exact_one(kind):
    """d = 8, m = 10: at most 1.05 in most nets; the worst of many are beyond (benchmarks/ladder.py has the figures)."""
    A1, A2 = net(kind, 5, 100, d=8, m=10)
    ratio = rates.scaled(A1, A2).value / rates.exact(A1, A2).value
    assert float(ratio.min()) >= 1 - 1e-11
    assert float(ratio.quantile(0.9)) <= 1.05
    assert float(ratio.max()) <= 1.2


def test_no_scaling_near_the_optimised_one_is_better():
    """The problem is convex in Q⁻²: a local minimum is the minimum."""
    for seed in range(4):
        A1, A2 = net("free", seed, d=4, m=6)
        weights = Weights(A1, A1[:, 0], A2, A2[:, 0])
        q = rates.optimise_scaling(weights, weights)
        best = float(matrix_norm(A2 * q - A1.T / q, 2))
        for _ in range(200):
            other = q * (1 + 0.02 * torch.randn(6, dtype=F64))
            assert float(matrix_norm(A2 * other - A1.T / other, 2)) >= best * (1 - 1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p", [1, INF])
def test_the_measure_is_above_every_pattern(kind, p):
    for seed in range(4):
        A1, A2 = net(kind, seed)
        truth = measure(-products(A1, A2), p)
        value = float(rates.measure(A1, A2, p).value)
        assert value >= truth
        assert value <= float(_norm(A1, p) * _norm(A2, p)) * (1 + 1e-12) + 1e-200


def _norm(A, p):
    return A.abs().sum(-1 if p == INF else -2).max()


@pytest.mark.parametrize("rate", ["exact", "measure"])
@pytest.mark.parametrize("p", [1, 2, INF])
def test_rates_on_a_linear_piece_are_above_the_truth_inside_it(rate, p):
    if rate == "measure" and p == 2:
        return
    for seed, kind in enumerate(("free", "d", "near s", "dead units")):
        (A1, A2), (B1, B2) = net(kind, seed), net("free", seed + 50)
        left, right = (Weights(a, a[:, 0], b, b[:, 0]) for a, b in ((A1, A2), (B1, B2)))
        a, b, c = rates.along(left, right, rate, p).tolist()
        for s in (0.0, 0.2, 0.5, 0.9, 1.0):
            bound = a * (1 - s) ** 2 + 2 * b * s * (1 - s) + c * s * s
            now = ((1 - s) * A1 + s * B1, (1 - s) * A2 + s * B2)
            truth = one_sided(*now) if p == 2 else measure(-products(*now), p)
            assert bound >= truth - 1e-12 * (1 + abs(truth))


@pytest.mark.parametrize("p", [1, 2, INF])
def test_weighted_rates_hold_in_the_weighted_norm(p):
    for seed, kind in enumerate(KINDS):
        A1, A2 = net(kind, seed)
        W = torch.tensor([1.0, 8.0, 0.25], dtype=F64)
        value = float(rates.weighted(A1, A2, W, p).value)
        J = W.unsqueeze(-1) * -products(A1, A2) / W
        truth = float(eigvalsh(0.5 * (J + J.mT))[:, -1].max()) if p == 2 else measure(J, p)
        assert value >= truth - 1e-12 * (1 + abs(truth)), kind


@pytest.mark.parametrize("p", [1, 2, INF])
def test_optimised_weights_pay_where_coordinates_are_badly_scaled(p):
    g = torch.Generator().manual_seed(0)
    size = torch.tensor([1.0, 100.0, 1.0, 0.01], dtype=F64)
    A1 = torch.randn(2, 5, 4, generator=g, dtype=F64) / size
    A2 = size[:, None] * torch.randn(4, 5, generator=g, dtype=F64)
    w = Weights(A1, A1[..., 0], A2.expand(2, 4, 5), A2[:, 0].expand(2, 4))
    h = torch.full((2,), 3.0, dtype=F64)
    W = rates.optimise_weights(w, w, h, p)
    name = "scaled" if p == 2 else "measure"
    plain = 3 * float(rates.along(w, w, name, p)[..., 0].sum())
    better = 3 * float(rates.along(rates.in_weights(w, W), rates.in_weights(w, W), name, p)[..., 0].sum())
    assert float(rates.condition(W)) > 1
    assert better + float(rates.condition(W).log()) < 0.5 * plain


@pytest.mark.parametrize("kind", KINDS)
def test_the_tube_rate_is_above_every_pattern_that_is_left(kind):
    for seed in range(6):
        g = torch.Generator().manual_seed(seed)
        A1, A2 = net(kind, seed)
        state = torch.randint(0, 3, (4,), generator=g)
        clipped = torch.rand(3, generator=g) < 0.3
        on, unknown = state == 1, state == 2
        value = float(rates.tube(A1, A2, on, unknown, clipped).value)
        D = torch.where(unknown, patterns(4), on.double())
        J = ((A2.unsqueeze(0) * D.unsqueeze(1)) @ A1)[:, ~clipped][:, :, ~clipped]
        truth = float(eigvalsh(-0.5 * (J + J.mT))[:, -1].max()) if J.numel() else -INF
        assert value >= truth - 1e-12 * (1 + abs(truth) if truth > -INF else 0)
        assert value <= float(rates.scaled(A1, A2).value) * (1 + 1e-6) + 1e-9 * (1 + float(A1.norm() * A2.norm())) \
            or not bool(unknown.any()) or bool(on.any())


def test_a_negative_tube_rate_is_certified_with_the_right_sign():
    """All units on and A2 = A1ᵀ: the rate is −σ_min²; against 40 digits, also near zero."""
    off = torch.zeros(4, dtype=torch.bool)
    for seed in range(20):
        A1, _ = net("free", seed, d=4)
        if seed % 2:
            U, s, V = torch.linalg.svd(A1)
            A1 = U @ torch.diag(torch.cat([s[:-1], torch.tensor([1e-4], dtype=F64)])) @ V
        with mp.workdps(40):
            A = mp.matrix(A1.tolist())
            truth = -min(mp.eigsy(A.T * A, eigvals_only=True))
        value = mp.mpf(float(rates.tube(A1, A1.T, ~off, off).value))
        assert truth <= value < truth + 1e-12
        assert value < 0


# ------------------------------------------------------------------------------------------------------------------- R8


def true_factor(A1, A2, h):
    return float(matrix_norm(torch.eye(A1.shape[-1], dtype=F64) - h * products(A1, A2), 2).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("h", [1e-3, 0.1, 1.0, 5.0])
def test_the_step_factor_is_above_every_pattern_and_near(kind, h):
    for seed in range(3):
        A1, A2 = net(kind, seed)
        truth, value = true_factor(A1, A2, h), float(rates.step(A1, A2, h))
        assert truth * (1 - 1e-14) <= value <= 1.1 * truth, seed


def test_the_step_factor_without_definiteness_is_infinite():
    """Read off as a number, the formula with Λ too small claims less than the truth."""
    found = 0
    for seed in range(30):
        A1, A2 = net("free", seed, d=2, m=3)
        lam, h = torch.full((3,), 0.3, dtype=F64), 1.0
        M = 2 * torch.diag(lam) - h * A2.T @ A2
        R = lam[:, None] * A1 - A2.T
        blind = 1 + h * float(eigvalsh(R.T @ torch.linalg.inv(M) @ R)[-1])
        truth = true_factor(A1, A2, h)
        value = float(rates.step(A1, A2, h, multiplier=lam))
        if float(eigvalsh(M)[0]) <= 0:
            assert value == INF
            found += blind**0.5 < 0.5 * truth if blind > 0 else 1
        else:
            assert value >= truth * (1 - 1e-14)
    assert found >= 5


def test_special_multipliers():
    """Λ = I for A2 = A1ᵀ is h‖A‖² <= 2; Λ = (2/h)T⁻¹ with T_i = Σ_j|WWᵀ|_ij is the SLL layer (scaled by h/2)."""
    A, _ = net("s", 1)
    norm = float(matrix_norm(A, 2))
    one = torch.ones(4, dtype=F64)
    assert float(rates.step(A, A.T, 1.999 / norm**2, multiplier=one)) == pytest.approx(1, abs=1e-9)
    assert float(rates.step(A, A.T, 2.001 / norm**2, multiplier=one)) == INF
    T = (A @ A.T).abs().sum(-1)
    h = 0.7
    assert float(rates.step(A, 2 / h * A.T / T, h, multiplier=2 / h / T)) == pytest.approx(1, abs=1e-6)


def test_small_steps_give_the_scaled_rate():
    A1, A2 = net("free", 2)
    h = 1e-5
    assert (float(rates.step(A1, A2, h)) - 1) / h == pytest.approx(float(rates.scaled(A1, A2).value), rel=1e-3)


def test_the_step_factor_in_exact_arithmetic():
    """The certified ρ² against 50 digits for the Λ that was used: the rounding of the whole formula is enclosed."""
    for seed in range(8):
        A1, A2 = net("near s" if seed % 2 else "free", seed)
        h = 0.25
        lam = rates.step_multipliers(A1, A2, torch.tensor(h, dtype=F64))
        with mp.workdps(50):
            a1, a2, L = mp.matrix(A1.tolist()), mp.matrix(A2.tolist()), mp.diag(lam.tolist())
            R, M = L * a1 - a2.T, 2 * L - mp.mpf(h) * a2.T * a2
            K = R.T * mp.inverse(M) * R
            truth = mp.sqrt(1 + mp.mpf(h) * max(mp.eigsy((K + K.T) / 2, eigvals_only=True)))
        assert truth <= mp.mpf(float(rates.step(A1, A2, h, multiplier=lam))) <= truth * (1 + mp.mpf(1e-9))


def test_ascent_on_weights_finds_no_step_beyond_the_factor():
    """Weights and z climb ‖z − hA2Dz‖/ρ for all patterns D, through the optimised factor."""
    g = torch.Generator().manual_seed(0)
    A1, A2 = (torch.randn(24, *s, generator=g, dtype=F64).requires_grad_() for s in ((3, 2), (2, 3)))
    optimiser, worst = torch.optim.Adam([A1, A2], lr=0.05), 0.0
    for _ in range(40):
        J = torch.eye(2, dtype=F64) - 0.8 * (A2.unsqueeze(1) * patterns(3).unsqueeze(1)) @ A1.unsqueeze(1)
        truth = matrix_norm(J, 2).amax(1)
        lam = rates.step_multipliers(A1.detach(), A2.detach(), torch.full((24,), 0.8, dtype=F64))
        value = rates.step(A1, A2, 0.8, multiplier=lam)
        worst = max(worst, float((truth / value).detach().max()))
        R, M = lam.unsqueeze(-1) * A1 - A2.mT, torch.diag_embed(2 * lam) - 0.8 * A2.mT @ A2
        smooth = 1 + 0.8 * eigvalsh(R.mT @ torch.linalg.inv(M) @ R)[..., -1]
        optimiser.zero_grad()
        (0.5 * smooth.log() - truth.log()).sum().backward()
        optimiser.step()
    assert 0.999 < worst <= 1 + 1e-14


@pytest.mark.parametrize(("call", "message"), [
    (lambda: rates.exact(torch.ones(17, 2), torch.ones(2, 17)), "m <= 16; got m = 17. Use rate='scaled'"),
    (lambda: rates.exact(torch.ones(2, 2), torch.ones(2, 2), 3), "p must be 1, 2 or inf"),
    (lambda: rates.measure(torch.ones(2, 2), torch.ones(2, 2), 2), "bounds ℓ1 and ℓ∞; got p = 2"),
    (lambda: rates.weighted(torch.ones(2, 2), torch.ones(2, 2), torch.tensor([1.0, 3.0])), "powers of two .* is 3"),
    (lambda: rates.weighted(torch.ones(2, 2), torch.ones(2, 2), torch.ones(3)), "must hold 2 positive powers"),
    (lambda: rates.tube(torch.ones(2, 2), torch.ones(2, 2), torch.ones(2), torch.ones(2)), "on must be a bool tensor"),
    (lambda: rates.tube(torch.ones(2, 2), torch.ones(2, 2), torch.ones(2) > 0, torch.ones(2) > 0), "not both"),
    (lambda: rates.step(torch.ones(2, 2), torch.ones(2, 2), 0.0), "h must be positive and finite; got 0"),
    (lambda: rates.step(torch.ones(2, 2), torch.ones(2, 2), 1.0, multiplier=-torch.ones(2)), "multiplier must be pos"),
    (lambda: rates.step(torch.ones(2, 2), torch.ones(2, 2), 1.0, multiplier=torch.ones(3)), "must have shape"),
    (lambda: rates.step(torch.ones(2, 3), torch.ones(2, 3), 1.0), "A1 and A2 must have shapes"),
    (lambda: rates.exact_estimate(torch.ones(2, 2), torch.ones(2, 2), restarts=0), "restarts must be at least 1"),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize("size", [1e-150, 1e-20, 1e20, 1e150])
def test_extreme_weights_give_a_bound_or_an_error(size):
    A1, A2 = net("free", 0)
    A1, A2 = A1 * size, A2 / size
    assert float(rates.scaled(A1, A2).value) == pytest.approx(float(rates.scaled(*net("free", 0)).value), rel=1e-4)
    value = float(rates.step(A1, A2, 1.0))
    assert value >= true_factor(*net("free", 0), 1.0) * (1 - 1e-12)
