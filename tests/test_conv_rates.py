"""Rates of convolutional branches against those of the operators written out as matrices."""

import pytest
import torch
import torch.nn.functional as F
from mpmath import mp
from torch.linalg import eigvalsh, matrix_norm, vector_norm

from diffincl import rates
from diffincl.norms import convolution
from diffincl.rates import conv
from diffincl.rates.factor import certified_factor
from diffincl.rates.kernels import branch

F64, INF = torch.float64, float("inf")
SHAPES = [((5,), (3,), (3,)), ((7,), (5,), (2,)), ((6,), (4,), (4,)), ((4, 5), (3, 3), (3, 3)),
          ((5, 4), (2, 3), (3, 1)), ((4, 4), (1, 1), (3, 4))]
MODES = [("zeros", False), ("zeros", True), ("circular", False), ("circular", True)]


LOOSE = 1.6  # products of two norms on images hardly larger than the kernel, each some percent above the truth


@pytest.fixture
def torus(monkeypatch):
    """No operator is small enough to be written out."""
    monkeypatch.setattr(convolution, "SMALL", 0)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def kernels(k1, k2, transposed, seed=0, channels=2, hidden=3):
    K1 = normal(hidden, channels, *k1, seed=seed)
    return K1, normal(*((hidden, channels) if transposed else (channels, hidden)), *k2, seed=seed + 100)


def apply(K, x, mode):
    """torch's own convolution with padding="same", which puts the odd pixel after the image."""
    sides = [side for k in reversed(K.shape[2:]) for side in ((k - 1) // 2, k - 1 - (k - 1) // 2)]
    padded = F.pad(x, sides, mode="circular" if mode == "circular" else "constant")
    return (F.conv1d if K.ndim == 3 else F.conv2d)(padded, K)


def matrix(K, image, mode):
    pixels = K.shape[1] * torch.Size(image).numel()
    return apply(K, torch.eye(pixels, dtype=F64).reshape(pixels, K.shape[1], *image), mode).flatten(1).T


def matrices(K1, K2, image, mode, transposed):
    A2 = matrix(K2, image, mode)
    return matrix(K1, image, mode), A2.T if transposed else A2


def on_pixels(q, image):
    return q.repeat_interleave(torch.Size(image).numel(), -1)


@pytest.mark.parametrize(("image", "k1", "k2"), SHAPES)
@pytest.mark.parametrize(("mode", "transposed"), MODES)
def test_the_scaled_rate_is_the_dense_one_of_the_same_scaling(torus, image, k1, k2, mode, transposed):
    for seed in range(3):
        K1, K2 = kernels(k1, k2, transposed, seed)
        q = 0.5 + normal(3, seed=seed).abs()
        A1, A2 = matrices(K1, K2, image, mode, transposed)
        Q = on_pixels(q, image)
        truth = 0.25 * float(matrix_norm(A2 * Q - A1.T / Q, 2)) ** 2
        for status in ("certified", "float"):
            found = conv.scaled(K1, K2, image, scaling=q, padding_mode=mode, transposed=transposed, status=status)
            assert found.status == status
            assert truth * (1 - 1e-14) <= float(found.value) <= truth * (1 + 1e-9 if mode == "circular" else LOOSE)
        lipschitz = float(matrix_norm(A1, 2) * matrix_norm(A2, 2))
        found = conv.uniform(K1, K2, image, padding_mode=mode, transposed=transposed)
        assert lipschitz * (1 - 1e-14) <= float(found.value) <= lipschitz * (1 + 1e-9 if mode == "circular" else LOOSE)


@pytest.mark.parametrize(("image", "k1", "k2"), SHAPES)
@pytest.mark.parametrize(("mode", "transposed"), MODES)
def test_the_step_factor_is_the_dense_one_of_the_same_multipliers(image, k1, k2, mode, transposed):
    """For zero padding it lies above; and so it is infinite where the dense one is."""
    finite = 0
    for seed, h in enumerate((0.01, 0.05, 0.2)):
        K1, K2 = kernels(k1, k2, transposed, seed)
        A1, A2 = matrices(K1, K2, image, mode, transposed)
        for size in (0.3, 1.0, 3.0):
            lam = size * (0.5 + normal(3, seed=seed).abs())
            Lam = torch.diag(on_pixels(lam, image))
            M, R = 2 * Lam - h * A2.T @ A2, Lam @ A1 - A2.T
            definite = float(eigvalsh(M)[0]) > 0
            dense = (1 + h * float(eigvalsh(R.T @ torch.linalg.solve(M, R))[-1])) ** 0.5 if definite else INF
            found = float(conv.step(K1, K2, image, h, multiplier=lam, padding_mode=mode, transposed=transposed))
            finite += found < INF
            assert found >= dense * (1 - 1e-11)
            if mode == "circular" and definite:
                assert found <= dense * (1 + 1e-8)
    assert finite >= 3


def test_a_step_factor_is_not_claimed_where_the_symbol_is_not_definite():
    """2Λ − hA2ᵀA2 is definite for the small image, not for the torus: no factor; the plain formula would give one."""
    K = normal(2, 2, 3, 3)
    A1, A2 = matrices(K, K, (3, 3), "zeros", False)
    lam = torch.full((2,), 0.5 * 1.01 * float(matrix_norm(A2, 2)) ** 2, dtype=F64)
    assert float(rates.step(A1, A2, 1.0, multiplier=on_pixels(lam, (3, 3)))) < INF
    assert float(conv.step(K, K, (3, 3), 1.0, multiplier=lam)) == INF
    assert float(conv.step(K, K, (3, 3), 1.0)) < INF


@pytest.mark.parametrize("k", [(3,), (4,), (3, 3), (2, 5)])
def test_symmetric_branches(torus, k):
    image = (6, 5)[:len(k)]
    K = normal(3, 2, *k)
    for mode in ("zeros", "circular"):
        assert float(conv.scaled(K, K, image, padding_mode=mode, transposed=True).value) == 0
        own = torch.tensor([0.1, 3.0, 1.0], dtype=F64)
        scaled_own = conv.scaled(K, own.reshape(-1, 1, *[1] * len(k)) * K, image, padding_mode=mode, transposed=True)
        assert float(scaled_own.value) < 1e-9
        L = float(conv.uniform(K, K, image, padding_mode=mode, transposed=True).value)
        assert float(conv.step(K, K, image, 1.9 / L, padding_mode=mode, transposed=True)) == pytest.approx(1, abs=1e-6)
        assert float(conv.scaled(K, -K, image, padding_mode=mode, transposed=True).value) == pytest.approx(L, rel=1e-6)


@pytest.mark.parametrize("image", [(5,), (3, 4)])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_optimised_channelwise_values_are_the_dense_optima_on_a_circle(image, transposed):
    """By symmetry no scaling of single pixels is better; at most 64 frequencies are all looked at."""
    for seed in range(3):
        K1, K2 = kernels((3,) * len(image), (3,) * len(image), transposed, seed)
        A1, A2 = matrices(K1, K2, image, "circular", transposed)
        options = {"padding_mode": "circular", "transposed": transposed}
        dense, found = rates.scaled(A1, A2).value, conv.scaled(K1, K2, image, **options).value
        assert float(found) == pytest.approx(float(dense), rel=1e-5)
        for h in (0.02, 0.3):
            rho = float(conv.step(K1, K2, image, h, **options))
            assert rho == pytest.approx(float(rates.step(A1, A2, h)), rel=1e-5)


def test_no_scaling_near_the_optimised_one_is_better_on_a_large_image(torus):
    """Hundreds of frequencies, of which the optimisation takes few at first."""
    K1, K2 = kernels((3, 3), (3, 3), False)
    best = float(conv.scaled(K1, K2, (24, 24)).value)
    q = conv.optimise_scaling(K1, K2, (24, 24))
    assert float(conv.scaled(K1, K2, (24, 24), scaling=q).value) == best
    plain = float(conv.scaled(K1, K2, (24, 24), scaling=torch.ones(3, dtype=F64)).value)
    near = [q * (1 + 0.05 * normal(3, seed=seed)) for seed in range(30)]
    least = min(float(conv.scaled(K1, K2, (24, 24), scaling=other, status="float").value) for other in near)
    assert best <= 1.01 * least
    assert best <= plain * (1 + 1e-9) <= float(conv.uniform(K1, K2, (24, 24)).value) * 1.5


def dense_measure(A1, A2, p):
    """R6 term by term."""
    U, V = (A2, A1) if p == INF else (A1.T, A2.T)
    rows = torch.zeros(len(U), dtype=F64)
    for i in range(len(U)):
        for k in range(len(V)):
            others = V[k].abs().sum() - V[k, i].abs()
            rows[i] += U[i, k].abs() * torch.relu(-torch.sign(U[i, k]) * V[k, i] + others)
    return float(rows.max())


@pytest.mark.parametrize(("image", "k1", "k2"), [*SHAPES, ((9,), (3,), (5,)), ((7, 6), (3, 2), (2, 3))])
@pytest.mark.parametrize(("mode", "transposed"), MODES)
def test_the_measure_is_that_of_a_pixel_inside(image, k1, k2, mode, transposed):
    """Equal to R6 of the matrices where the taps of some pixel are all in the image, above it elsewhere."""
    inside = all(n >= 2 * max(a, b) - 1 for n, a, b in zip(image, k1, k2, strict=True))
    for seed in range(2):
        K1, K2 = kernels(k1, k2, transposed, seed)
        A1, A2 = matrices(K1, K2, image, mode, transposed)
        for p in (1, INF):
            truth = dense_measure(A1, A2, p)
            assert truth == pytest.approx(float(rates.measure(A1, A2, p).value), rel=1e-12)
            found = conv.measure(K1, K2, image, p, padding_mode=mode, transposed=transposed)
            assert found.status == "certified"
            assert truth * (1 - 1e-14) <= float(found.value)
            if inside:
                assert float(found.value) <= truth * (1 + 1e-12)


def test_the_measure_where_taps_meet_on_a_small_circle():
    for n in (1, 2, 3):
        for seed in range(20):
            K1, K2 = kernels((3,), (3,), False, seed)
            A1, A2 = (sum(torch.roll(torch.eye(n, dtype=F64), 1 - a, 0)[None, :, None] * K[:, None, :, a, None]
                          for a in range(3)).reshape(K.shape[0] * n, K.shape[1] * n) for K in (K1, K2))
            for p in (1, INF):
                found = conv.measure(K1, K2, (n,), p, padding_mode="circular").value
                assert dense_measure(A1, A2, p) <= float(found) * (1 + 1e-14)


@pytest.mark.parametrize("p", [1, INF])
def test_the_measure_bounds_every_pattern(p):
    """Patterns drawn and improved one unit at a time, against the matrix measure itself."""
    worst = 0.0
    for seed in range(8):
        K1, K2 = (0.3 * K for K in kernels((3,), (3,), False, seed, hidden=2))
        K1[:, :, 1] += 1.0
        A1, A2 = matrices(K1, K2, (5,), "zeros", False)
        bound = float(conv.measure(K1, K2, (5,), p).value)
        D = (normal(64, 10, seed=seed) > 0).to(F64)
        for k in list(range(10)) * 2:
            both = torch.stack([D, D])
            both[0, :, k], both[1, :, k] = 0, 1
            J = -(A2 * both.unsqueeze(-2)) @ A1
            J = J if p == INF else J.mT
            mu = (J.abs().sum(-1) - J.diagonal(dim1=-2, dim2=-1).abs() + J.diagonal(dim1=-2, dim2=-1)).amax(-1)
            D = torch.where((mu[0] > mu[1]).unsqueeze(-1), both[0], both[1])
            worst = max(worst, float(mu.max()) / bound)
    assert 0.7 < worst <= 1


@pytest.mark.parametrize(("mode", "transposed"), MODES)
def test_the_centred_rate_lies_between_the_best_uniform_scaling_and_the_dense_one(torus, mode, transposed):
    """With q of its own no rate of one number for all is lower by much; R2 of the matrices is above."""
    options = {"padding_mode": mode, "transposed": transposed}
    for seed in range(4):
        K1, K2 = kernels((3, 3), (3, 3), transposed, seed)
        K2 = K2 + (K1 if transposed else K1.transpose(0, 1).flip(2, 3)) * (-1) ** seed * seed
        A1, A2 = matrices(K1, K2, (6, 6), mode, transposed)
        value = float(conv.centred(K1, K2, (6, 6), **options).value)
        room = 1e-9 if mode == "circular" else 0.1
        assert value <= float(rates.centred(A1, A2).value) * (1 + room)
        assert value >= float(rates.exact_estimate(A1, A2).value)
        lipschitz = float(conv.uniform(K1, K2, (6, 6), **options).value)
        q = (float(matrix_norm(A1, 2)) / float(matrix_norm(A2, 2))) ** 0.5
        assert value == pytest.approx(0.25 * float(matrix_norm(q * A2 - A1.T / q, 2)) ** 2, rel=2 * room)
        assert value <= lipschitz * (1 + 1e-12)
        assert float(conv.scaled(K1, K2, (6, 6), **options).value) <= value * (1 + 1e-6)


def test_the_centred_rate_of_special_branches():
    K = normal(3, 2, 3)
    assert float(conv.centred(K, K, (6,), transposed=True).value) == 0
    assert float(conv.centred(0 * K, K, (6,), transposed=True).value) == 0
    assert float(conv.centred(1e-200 * K, 1e200 * K, (6,), transposed=True).value) < 1e-12
    both = conv.centred(torch.stack([K, 2 * K]), torch.stack([-K, K]), (6,), transposed=True)
    L = float(conv.uniform(K, K, (6,), transposed=True).value)
    assert float(both.value[0]) == pytest.approx(L, rel=1e-9)
    assert float(both.value[1]) < 1e-9


def test_the_ladder_of_a_branch_descends(torus):
    for transposed in (False, True):
        K1, K2 = kernels((3, 3), (3, 3), transposed, hidden=6)
        L, nu = (rate(K1, K2, (8, 8), transposed=transposed).value for rate in (conv.uniform, conv.scaled))
        assert float(nu) < 0.8 * float(L)
        for h in (1e-4, 0.01, 0.05):
            rho = float(conv.step(K1, K2, (8, 8), h, transposed=transposed))
            assert rho <= 1 + h * float(L)
        small = (float(conv.step(K1, K2, (8, 8), 1e-5, transposed=transposed)) - 1) / 1e-5
        assert small == pytest.approx(float(nu), rel=0.05)


@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("image", [(6,), (4, 4)])
def test_ascent_on_patterns_finds_no_violation(mode, image):
    """All patterns of the hidden pixels can occur: −z·A2DA1z and ‖z − hA2Dz‖ climb over D and z in turn."""
    h, worst = 0.1, [0.0, 0.0]
    for seed in range(6):
        K1, K2 = kernels((3,) * len(image), (3,) * len(image), False, seed)
        A1, A2 = matrices(0.6 * K1, 0.6 * K2, image, mode, False)
        rate = float(conv.scaled(0.6 * K1, 0.6 * K2, image, padding_mode=mode).value)
        below = float(rates.exact_estimate(A1, A2).value)
        rho = float(conv.step(0.6 * K1, 0.6 * K2, image, h, padding_mode=mode))
        z, grown = normal(32, A1.shape[1], seed=seed), 0.0
        for _ in range(60):
            z = z / vector_norm(z, dim=-1, keepdim=True)
            units = z @ A1.T
            p = z.clone()
            for _ in range(3):
                D = ((p @ A2) * units < 0).to(F64)
                p = z - h * (units * D) @ A2.T
            grown = max(grown, float(vector_norm(p, dim=-1).max()))
            z = p - h * ((p @ A2) * D) @ A1
        assert below <= rate
        assert grown <= rho
        worst = [max(a, b) for a, b in zip(worst, (below / rate, (grown - 1) / (rho - 1)), strict=True)]
    assert min(worst) > 0.8


def test_pairs_of_images_drift_no_faster_than_the_factor():
    """The layer itself, biases free: gradient ascent through torch's convolutions."""
    K1, K2 = kernels((3, 3), (3, 3), True, hidden=4)
    h, image = 0.15, (5, 5)
    rho = float(conv.step(K1, K2, image, h, transposed=True))
    z, b = normal(2, 16, 2, *image), normal(16, 4, *image, seed=1)
    z.requires_grad_(), b.requires_grad_()
    optimiser, worst = torch.optim.Adam([z, b], lr=0.05), 0.0
    for _ in range(150):
        hidden = torch.relu(F.conv2d(z.flatten(0, 1), K1, padding=1).unflatten(0, (2, 16)) + b)
        out = z - h * F.conv_transpose2d(hidden.flatten(0, 1), K2, padding=1).unflatten(0, (2, 16))
        growth = (out[0] - out[1]).flatten(1).norm(dim=1) / (z[0] - z[1]).flatten(1).norm(dim=1)
        worst = max(worst, float(growth.detach().max()))
        optimiser.zero_grad()
        (-growth.log().sum()).backward()
        optimiser.step()
    assert 1 + 0.6 * (rho - 1) < worst <= rho


def test_batches_dtypes_and_dead_channels():
    K1, K2 = normal(2, 3, 4, 2, 3), normal(2, 3, 2, 4, 3, seed=1)
    K1[0, 0, 1], K2[1, 2, :, 3] = 0, 0
    h = torch.tensor([[0.1, 0.2, 0.3], [0.05, 0.1, 0.2]])
    together = [conv.uniform(K1, K2, (6,)).value, conv.scaled(K1, K2, (6,)).value, conv.step(K1, K2, (6,), h)]
    assert all(value.shape == (2, 3) and value.dtype == F64 for value in together)
    for i in range(2):
        for j in range(3):
            a, b = K1[i, j], K2[i, j]
            single = [conv.uniform(a, b, (6,)).value, conv.scaled(a, b, (6,)).value, conv.step(a, b, (6,), h[i, j])]
            for many, one in zip(together, single, strict=True):
                assert float(many[i, j]) == pytest.approx(float(one), rel=1e-5)
    dropped = torch.tensor([True, False, True, True])
    alone = conv.scaled(K1[0, 0][dropped], K2[0, 0][:, dropped], (6,)).value
    assert float(together[1][0, 0]) == pytest.approx(float(alone), rel=1e-5)
    zero = conv.scaled(0 * K1, K2, (6,)), conv.step(0 * K1, K2, (6,), 0.5)
    assert float(zero[0].value.max()) < 1e-200
    assert float(zero[1].max()) == pytest.approx(1)
    assert conv.scaled(K1.float(), K2.float(), (6,)).value.dtype == F64


@pytest.mark.parametrize("size", [1e-100, 1e-10, 1e10, 1e100])
def test_badly_scaled_kernels(size):
    K1, K2 = kernels((3,), (3,), False)
    plain, other = conv.scaled(K1, K2, (6,)).value, conv.scaled(K1 * size, K2 / size, (6,)).value
    assert float(other) == pytest.approx(float(plain), rel=1e-4)
    rho = float(conv.step(K1 * size, K2 / size, (6,), 0.1))
    assert rho == INF or rho == pytest.approx(float(conv.step(K1, K2, (6,), 0.1)), rel=1e-3)


def test_errors_of_the_weights_are_enclosed():
    """Against weights off by the errors in the worst directions found among signs, far larger than any rounding."""
    for seed in range(5):
        A1, A2 = 0.5 * normal(4, 3, seed=seed), 0.5 * normal(3, 4, seed=seed + 9)
        lam, h = torch.full((4,), 3.0, dtype=F64), torch.tensor(0.3, dtype=F64)
        for E1, E2 in ((1e-8, 0.0), (0.0, 1e-8), (1e-8, 1e-8)):
            errors = E1 * torch.ones_like(A1), E2 * torch.ones_like(A2)
            value = float(certified_factor(A1, A2, h, lam, *errors))
            d1, d2 = (torch.sign(normal(2000, *A.shape, seed=seed)) * E
                      for A, E in ((A1, E1), (A2, E2)))
            B1, B2 = A1 + d1, A2 + d2
            M, R = 2 * torch.diag(lam) - h * B2.mT @ B2, lam[:, None] * B1 - B2.mT
            off = torch.sqrt(1 + h * eigvalsh(R.mT @ torch.linalg.solve(M, R))[:, -1])
            plain = float(certified_factor(A1, A2, h, lam))
            assert plain < float(off.max()) <= value <= plain + 1e3 * (float(off.max()) - plain)


def test_definiteness_is_not_claimed_for_weights_that_may_be_off():
    """2Λ − hA2ᵀA2 has the least eigenvalue 0.1, which errors of 0.005 in A2, whose norm is 30, can undo."""
    A2 = normal(3, 4)
    A2 = 30 * A2 / matrix_norm(A2, 2)
    lam = torch.full((4,), 450.05, dtype=F64)
    A1, one = A2.T / lam[:, None], torch.ones((), dtype=F64)
    assert float(certified_factor(A1, A2, one, lam)) == pytest.approx(1)
    assert float(certified_factor(A1, A2, one, lam, 0.0, torch.full_like(A2, 5e-3))) == INF


def test_rounding_of_the_symbols_is_enclosed():
    """Each part of every entry of both symbols against 40 digits."""
    K1, K2 = kernels((3,), (5,), False)
    both = branch(K1, K2, (7,), "zeros", False)
    axes, bounds = both.axes(), both.rounding()
    ((adjoint1, A2),) = both.symbols(axes)
    with mp.workdps(40):
        for kernel, symbol, bound in ((both.adjoint1, adjoint1, bounds[0]), (both.kernel2, A2, bounds[1])):
            worst = 0.0
            for f in range(len(symbol)):
                angle = 2 * mp.pi * (f + mp.mpf(axes[0].twist) / 2) / axes[0].points
                for i in range(2):
                    for j in range(3):
                        exact = sum(mp.mpf(float(v)) * mp.expj(angle * a)
                                    for v, (a, _) in zip(kernel[i, j], axes[0].taps, strict=True))
                        for part, found in ((exact.real, symbol[f, i, j].real), (exact.imag, symbol[f, i, j].imag)):
                            worst = max(worst, float(abs(part - mp.mpf(float(found)))) / float(bound[i, j]))
            assert 0.01 < worst <= 1


ONE, PAIR = torch.ones(1, 1, 3), torch.ones(2, 1, 3)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: conv.scaled(ONE, ONE, 8), r"image must be \(length,\) or \(height, width\); got 8"),
    (lambda: conv.scaled(ONE, ONE, (8, 8)), r"K1 must have shape \(\*batch, out, in, kh, kw\)"),
    (lambda: conv.scaled(PAIR, PAIR, (8,)), "K1 and K2 must have shapes .* channels, hidden"),
    (lambda: conv.scaled(PAIR, ONE, (8,), transposed=True), "K1 and K2 must have shapes"),
    (lambda: conv.scaled(ONE, ONE, (8,), padding_mode="reflect"), "'reflect' is not covered"),
    (lambda: conv.scaled(ONE, ONE, (8,), status="estimate"), "status must be one of 'certified', 'float'"),
    (lambda: conv.scaled(ONE, ONE, (8,), scaling=torch.ones(2)), r"scaling must have shape \(1,\)"),
    (lambda: conv.scaled(ONE, ONE, (8,), scaling=-torch.ones(1)), "scaling must be positive and finite; got -1"),
    (lambda: conv.measure(ONE, ONE, (8,), 2), r"bounds ℓ1 and ℓ∞; got p = 2. Use rates.conv.scaled"),
    (lambda: conv.measure(ONE, ONE, (8, 8), 1), r"K1 must have shape \(\*batch, out, in, kh, kw\)"),
    (lambda: conv.centred(ONE, ONE, (8,), status="estimate"), "status must be one of 'certified', 'float'"),
    (lambda: conv.step(ONE, ONE, (8,), -0.1), "h must be positive and finite; got -0.1"),
    (lambda: conv.step(ONE, ONE, (8,), 0.1, multiplier=torch.zeros(1)), "multiplier must be positive"),
    (lambda: conv.uniform(ONE * torch.nan, ONE, (8,)), "K1 must be finite"),
    (lambda: conv.uniform(ONE, [1.0], (8,)), "K2 must be a torch.Tensor"),
    (lambda: conv.uniform(ONE, ONE, (0,)), "image must be at least 1; got 0"),
    (lambda: conv.step(ONE, ONE, (0,), 0.1), "image must be at least 1; got 0"),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
