"""Norms of convolutions against the singular values of the operator written out as a matrix."""

import random
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from mpmath import mp

from diffincl import norms
from diffincl.norms import convolution, geometry, roots, symbol

F64 = torch.float64
CONV = {1: norms.conv1d, 2: norms.conv2d}
GRAM = {1: norms.gram_conv1d, 2: norms.gram_conv2d}
LAPLACIAN = torch.tensor([[[[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]]], dtype=F64)


@pytest.fixture(params=["matrix", "torus"])
def path(request, monkeypatch):
    """Small operators are written out; with "torus" they are not."""
    if request.param == "torus":
        monkeypatch.setattr(convolution, "SMALL", 0)
    return request.param


@pytest.fixture
def torus(monkeypatch):
    monkeypatch.setattr(convolution, "SMALL", 0)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def operator(K, image, stride=1, padding=1, dilation=1, groups=1, padding_mode="zeros", transposed=False,
             output_padding=0):
    """The matrix of torch's own convolution of images of the given size."""
    dims = K.ndim - 2
    image = (image,) * dims if isinstance(image, int) else tuple(image)
    channels = K.shape[0] if transposed else K.shape[1] * groups
    x = torch.eye(channels * torch.Size(image).numel(), dtype=F64).reshape(-1, channels, *image)
    K = K.to(F64)
    if transposed:
        run = F.conv_transpose1d if dims == 1 else F.conv_transpose2d
        y = run(x, K, stride=stride, padding=padding, output_padding=output_padding, groups=groups, dilation=dilation)
    else:
        if padding_mode == "circular":
            sides = (padding,) * dims if isinstance(padding, int) else padding
            x, padding = F.pad(x, [p for p in reversed(sides) for _ in range(2)], mode="circular"), 0
        run = F.conv1d if dims == 1 else F.conv2d
        y = run(x, K, stride=stride, padding=padding, groups=groups, dilation=dilation)
    return y.flatten(1).T


def truth(K, image, **options):
    return float(torch.linalg.matrix_norm(operator(K, image, **options), 2))


def draw(seed):
    """A random convolution that torch accepts."""
    r = random.Random(seed)
    while True:
        dims, groups, transposed = r.choice((1, 2, 2)), r.choice((1, 1, 2, 3)), r.random() < 0.25
        kernel, image = ([r.randint(a, b) for _ in range(dims)] for a, b in ((1, 5), (3, 10)))
        stride, dilation = ([r.randint(1, 3) for _ in range(dims)] for _ in range(2))
        window = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        padding = [r.randrange(w if r.random() < 0.8 else w + 3) for w in window]
        mode = "circular" if not transposed and r.random() < 0.3 else "zeros"
        extra = [r.randrange(max(s, d)) for s, d in zip(stride, dilation, strict=True)] if transposed else [0] * dims
        K = normal(groups * r.randint(1, 2), r.randint(1, 3), *kernel, seed=seed)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "padding_mode": mode,
                   "transposed": transposed, "output_padding": extra}
        try:
            operator(K, image, **options)
        except RuntimeError:
            continue
        return K, image, options


def test_four_hundred_convolutions_are_never_above_their_bounds(torus):
    for seed in range(400):
        K, image, options = draw(seed)
        exact = truth(K, image, **options)
        bound = {s: float(CONV[len(image)](K, image, **options, status=s).value) for s in ("certified", "float")}
        for status in ("certified", "float"):
            assert bound[status] >= exact * (1 - 1e-13), (seed, status, image, options)
        assert bound["certified"] == pytest.approx(bound["float"], rel=1e-10)
        assert float(GRAM[len(image)](K, image=image, **options)) >= exact * (1 - 1e-13), (seed, image, options)
        if options["padding_mode"] == "zeros":
            assert float(GRAM[len(image)](K, **options)) >= exact * (1 - 1e-13), (seed, image, options)


def test_estimates_are_below():
    for seed in range(60):
        K, image, options = draw(seed)
        exact, found = truth(K, image, **options), CONV[len(image)](K, image, **options, status="estimate")
        assert 0.9 * exact <= float(found.value) <= exact * (1 + 1e-12), (seed, image, options)


@pytest.mark.parametrize("status", ["certified", "float"])
def test_a_small_operator_is_its_matrix(status):
    for seed in range(60):
        K, image, options = draw(seed)
        if options["padding_mode"] == "zeros":
            bound = float(CONV[len(image)](K, image, **options, status=status).value)
            exact = truth(K, image, **options)
            assert exact * (1 - 1e-13) <= bound <= exact * (1 + 1e-10), (seed, image, options)


def test_the_matrix_is_the_one_of_torch():
    for seed in range(100):
        K, image, options = draw(seed)
        if options["padding_mode"] == "zeros" and options["groups"] == 1:
            place = geometry.layout(K, image, options["stride"], options["padding"], options["dilation"], 1, "zeros",
                                    dims=len(image), transposed=options["transposed"],
                                    output_padding=options["output_padding"])
            matrix = convolution._matrix(K[None], place)[0]
            assert torch.equal(matrix.T if options["transposed"] else matrix, operator(K, image, **options)), seed


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "image", "padding"), [(1, 8, 0), (2, 8, 1), (3, 8, 1), (3, 9, 1), (3, 10, 2),
                                                          (4, 14, 1), (5, 14, 2)])
@pytest.mark.parametrize("channels", [(1, 1), (2, 3), (3, 3)])
def test_the_torus_is_close_for_random_kernels(torus, stride, kernel, image, padding, channels):
    for seed in range(5):
        K = normal(channels[1], channels[0], kernel, kernel, seed=seed)
        exact = truth(K, image, stride=stride, padding=padding)
        bound = float(norms.conv2d(K, image, stride, padding, status="float").value)
        assert exact * (1 - 1e-13) <= bound <= 1.06 * exact


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_the_norm_itself_is_close_from_image_8_on(stride, kernel):
    for image, padding in ((8, (kernel - 1) // 2), (10, kernel - 1), (12, 0)):
        for seed in range(3):
            K = normal(3, 2, kernel, kernel, seed=seed)
            exact = truth(K, image, stride=stride, padding=padding)
            assert exact * (1 - 1e-13) <= float(norms.conv2d(K, image, stride, padding).value) <= 1.06 * exact


def test_a_torus_as_large_as_the_image_is_no_bound_for_zero_padding(path):
    """Control: the formula many codes use fails on the Laplacian; ours does not."""
    naive = float(torch.fft.fft2(LAPLACIAN[0, 0], s=(3, 3)).abs().max())
    exact = truth(LAPLACIAN, 3)
    assert naive < 0.9 * exact
    assert exact * (1 - 1e-13) <= float(norms.conv2d(LAPLACIAN, 3).value) <= 1.18 * exact


def test_the_power_iteration_is_no_bound():
    K = normal(3, 3, 3, 3)
    below = norms.conv2d(K, 8, status="estimate")
    assert below.status == "estimate"
    assert float(below.value) < truth(K, 8)
    assert norms.conv2d(K, 8, status="estimate").value == below.value  # the same start each time
    A = normal(2, 5, 4)
    found = norms.dense(A, status="estimate")
    assert found.status == "estimate"
    assert torch.allclose(found.value, torch.linalg.matrix_norm(A, 2), rtol=1e-6)
    assert bool((found.value <= norms.dense(A).value).all())


@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (2, 0), (4, 2), (1, 0), (5, 2), (3, 0)])
def test_circular_padding_is_exact_where_the_output_fills_the_torus(kernel, padding):
    for seed in range(3):
        K = normal(2, 3, kernel, seed=seed)
        bound = float(norms.conv1d(K, 6, 1, padding, padding_mode="circular").value)
        exact = truth(K, 6, padding=padding, padding_mode="circular")
        fills = 2 * padding >= kernel - 1
        repeats = 2 * padding > kernel - 1  # the output is larger than the image: pixels come round again
        assert exact * (1 - 1e-13) <= bound
        if fills and not repeats:
            assert bound <= exact * (1 + 1e-10)
        if repeats:
            assert bound <= exact * 2**0.5 * (1 + 1e-10)


def test_strided_circular_padding_is_exact_where_the_stride_divides():
    K = normal(2, 3, 3, 3)
    exact = truth(K, 8, stride=2, padding=1, padding_mode="circular")
    assert exact * (1 - 1e-13) <= float(norms.conv2d(K, 8, 2, padding_mode="circular").value) <= exact * (1 + 1e-10)


def test_outputs_that_come_round_again_are_counted():
    """A kernel of one tap reads pixels 0, 2, 1, 0, 2 of 3, and 0, 2, 0, 2 of 4."""
    one = torch.ones(1, 1, 1)
    for image, padding in ((3, 3), (4, 2)):
        bound = float(norms.conv1d(one, image, 2, padding, padding_mode="circular").value)
        assert truth(one, image, stride=2, padding=padding, padding_mode="circular") == pytest.approx(2**0.5)
        assert 2**0.5 * (1 - 1e-13) <= bound <= 2**0.5 * (1 + 1e-12)


def test_same_valid_and_uneven_padding():
    K = normal(3, 2, 4, 3)
    for name in ("same", "valid"):
        exact = truth(K, (7, 9), padding=name, dilation=2)
        bound = float(norms.conv2d(K, (7, 9), 1, name, dilation=2).value)
        assert exact * (1 - 1e-13) <= bound <= exact * (1 + 1e-9)
    pairs = norms.conv2d(K, (7, 9), 1, [(3, 3), (2, 2)], dilation=2).value
    assert float(pairs) == pytest.approx(truth(K, (7, 9), padding=(3, 2), dilation=2), rel=1e-9)
    one = normal(1, 1, 3)
    left, right = norms.conv1d(one, 5, 1, [(2, 0)]).value, norms.conv1d(one.flip(-1), 5, 1, [(0, 2)]).value
    assert float(left) == pytest.approx(float(right), rel=1e-9)  # mirrored
    matrix = operator(one, 7, padding=0)[:, 2:]
    assert float(left) == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-9)


def test_uneven_padding_on_the_torus(torus):
    for seed in range(40):
        r = random.Random(seed)
        K, n, a, b, s = normal(2, 2, 4, seed=seed), r.randint(3, 9), r.randint(0, 6), r.randint(0, 6), r.randint(1, 3)
        if n + a + b < 4:
            continue
        big = F.pad(torch.eye(2 * n, dtype=F64).reshape(-1, 2, n), (a, b))
        exact = float(torch.linalg.matrix_norm(F.conv1d(big, K, stride=s).flatten(1), 2))
        assert float(norms.conv1d(K, n, s, [(a, b)]).value) >= exact * (1 - 1e-13), seed


def test_symbols_held_a_few_at_a_time_give_the_same(torus, monkeypatch):
    K = normal(3, 2, 3, 3, seed=4)
    for options in ({}, {"stride": 2}):
        whole = norms.conv2d(K, 7, **options).value
        monkeypatch.setattr(symbol, "ENTRIES", 60)
        assert float(norms.conv2d(K, 7, **options).value) == pytest.approx(float(whole), rel=1e-13)
        monkeypatch.undo()
        monkeypatch.setattr(convolution, "SMALL", 0)


def exact_symbol(K, n, f):
    """Σ_j K_j e^{2πifj/n} to 40 digits."""
    return sum(mp.mpf(v) * mp.expjpi(mp.mpf(2 * f * j) / n) for j, v in enumerate(K.tolist()))


def test_certified_is_above_the_exact_norm_and_symbols_keep_their_error_bound():
    """Circular, one channel, alternating signs that nearly cancel: the norm is the largest |symbol|."""
    with mp.workdps(40):
        for seed in range(60):
            K = 1 + 1e-3 * normal(5, seed=seed) if seed % 2 else normal(5, seed=seed)
            exact = max(abs(exact_symbol(K, 7, f)) for f in range(7))
            value = mp.mpf(float(norms.conv1d(K[None, None], 7, 1, 2, padding_mode="circular").value))
            assert exact <= value <= exact * (1 + mp.mpf(10) ** -12)
            axis = geometry.Axis(7, 1, tuple((j, 0) for j in range(5)))
            real, imag = symbol.symbols(K[None, None, None], *symbol.tables([axis]))
            error = float(symbol.symbol_error(K[None, None, None]))
            for f in range(4):
                computed = mp.mpc(float(real[0, f, 0, 0]), float(imag[0, f, 0, 0]))
                assert abs(computed - exact_symbol(K, 7, f)) <= error <= 1e-14 * float(K.abs().sum())


def test_batches_are_loops(path):
    K = normal(2, 3, 4, 2, 3, 3)
    K[1, 1] = 0.0
    K[0, 2] *= 1e200
    for status in ("certified", "float", "estimate"):
        value = norms.conv2d(K, (5, 6), 2, groups=2, status=status).value
        assert value.shape == (2, 3)
        for i in range(2):
            for j in range(3):
                alone = norms.conv2d(K[i, j], (5, 6), 2, groups=2, status=status).value
                assert float(value[i, j]) == pytest.approx(float(alone), rel=1e-6 if status == "estimate" else 1e-12)
    gram = norms.gram_conv2d(K, image=(5, 6), stride=2, groups=2)
    assert gram.shape == (2, 3)
    assert torch.allclose(gram[1, 2], norms.gram_conv2d(K[1, 2], image=(5, 6), stride=2, groups=2), rtol=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e150, 1e-150, 1e-300])
def test_hard_kernels(path, size):
    graded = normal(2, 2, 3, 3) * 10.0 ** -torch.arange(36).reshape(2, 2, 3, 3)
    rank_one = torch.einsum("o,i,h,w->oihw", *(normal(n, seed=n) for n in (3, 2, 3, 3)))
    dead = normal(3, 2, 3, 3)
    dead[1] = 0.0
    for K in (graded, rank_one, dead, torch.ones(2, 2, 3, 3, dtype=F64), LAPLACIAN):
        exact = truth(K, 5)
        for status in ("certified", "float"):
            value = float(norms.conv2d(K * size, 5, status=status).value) / size
            assert exact * (1 - 1e-12) <= value <= 1.15 * exact


def test_a_delta_has_norm_one_and_zero_has_norm_zero(path):
    delta = torch.zeros(2, 2, 3, 3)
    delta[0, 0, 1, 1] = delta[1, 1, 0, 2] = 1.0
    for status in ("certified", "float"):
        assert 1.0 <= float(norms.conv2d(delta, 6, status=status).value) <= 1 + 1e-12
        assert float(norms.conv2d(0 * delta, 6, status=status).value) == 0.0
        # Every window lies in the padding: the stride jumps over the image.
        assert float(norms.conv2d(delta[..., :1, :1] + 1, 1, 3, 1, status=status).value) == 0.0
    assert 1.0 <= float(norms.gram_conv2d(delta.double(), image=6, iterations=8)) <= 1.002


def test_float32_kernels_are_bounded_as_the_stored_numbers(path):
    K = normal(2, 2, 3, 3).float()
    assert float(norms.conv2d(K, 6).value) == float(norms.conv2d(K.double(), 6).value)


def test_gradient_ascent_finds_no_violation(torus):
    """K is moved so that the bound falls towards the truth; it must stop at it, and not far from it."""
    for options in ({}, {"stride": 2}, {"padding": 0}, {"dilation": 2, "padding": 2}, {"padding": 2}):
        K = normal(2, 2, 3, 3, seed=7).requires_grad_()
        ascent = torch.optim.Adam([K], lr=0.1)
        ratios = []
        for _ in range(60):
            ratio = norms.gram_conv2d(K, 9, image=5, **options) / torch.linalg.matrix_norm(operator(K, 5, **options), 2)
            ascent.zero_grad()
            ratio.log().backward()
            ascent.step()
            exact = truth(K.detach(), 5, **options)
            bound = norms.conv2d(K, 5, **options).value
            for value in (bound, norms.gram_conv2d(K.detach(), image=5, **options),
                          norms.gram_conv2d(K.detach(), **options)):
                assert float(value) >= exact * (1 - 1e-13), options
            ratios.append(float(bound) / exact)
        assert min(ratios) - 1 < 0.5 * (ratios[0] - 1), options  # the attack is one


def test_gram_iteration_is_above_and_close():
    ratios = []
    for seed in range(10):
        A = normal(7, 12, seed=seed)
        ratios.append(norms.gram_dense(A) / torch.linalg.matrix_norm(A, 2))
        K = normal(4, 3, 3, 3, seed=seed)
        exact = truth(K, 10)
        ratios.append(norms.gram_conv2d(K, image=10) / exact)
        assert exact <= float(norms.gram_conv2d(K, oversampling=16)) <= 1.14 * exact
    assert min(ratios) >= 1.0
    assert max(ratios) <= 1.08


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"stride": 3, "dilation": 2}, {"dilation": 3},
                                     {"groups": 2}])
def test_the_bound_for_every_size_is_above_the_largest_image(options):
    """Peaks between the frequencies of a coarse grid are bounded, too."""
    for seed in range(10):
        K = normal(2, 2, 4, seed=seed)
        exact = truth(K, 150, **options)
        for oversampling in (2, 3, 8):
            value = float(norms.gram_conv1d(K, 12, oversampling=oversampling, **options))
            assert value >= exact, (seed, oversampling)
        assert value <= exact * 1.03


def test_the_gap_between_frequencies_matters():
    """Control: without the factor, a grid that misses the peak is below the truth."""
    below = 0
    for seed in range(20):
        K = normal(1, 1, 4, seed=seed)
        axis = geometry.any_size(4, 1, 1, 2)
        below += float(norms.gram_conv1d(K, 12, oversampling=2)) / axis.factor < truth(K, 150)
    assert below >= 5


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_gram_dtypes_and_scales(dtype):
    for size in (1.0, 1e30, 1e-30):
        A, K = (normal(5, 4) * size).to(dtype), (normal(3, 2, 3, 3) * size).to(dtype)
        dense, conv = norms.gram_dense(A), norms.gram_conv2d(K, image=6)
        assert dense.dtype == conv.dtype == dtype
        assert 1.0 <= float(dense) / float(norms.dense(A).value) <= 1.05
        assert 1.0 <= float(conv) / truth(K.to(F64) / size, 6) / size <= 1.1


def test_gradients_of_gram_bounds():
    A, K = normal(3, 4).requires_grad_(), normal(2, 2, 3, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(norms.gram_dense, A)
    assert torch.autograd.gradcheck(lambda K: norms.gram_conv1d(K, image=5, stride=2), K)
    assert torch.autograd.gradcheck(norms.gram_conv1d, K)
    U, _, V = torch.linalg.svd(A.detach())
    norms.gram_dense(A, 12).backward()
    assert torch.allclose(A.grad, torch.outer(U[:, 0], V[0]), atol=1e-2)


def test_gradients_at_zero_are_zero():
    for K in (torch.zeros(2, 2, 3, 3), torch.stack([torch.ones(2, 3, 3), torch.zeros(2, 3, 3)])):
        for image in (None, 4):
            K = K.detach().requires_grad_()
            value = norms.gram_conv2d(K, image=image)
            value.backward()
            assert bool(torch.isfinite(K.grad).all())
            assert (float(value.detach()) == 0.0) == (not bool(K.any()))
            assert bool(K.any()) or not bool(K.grad.any())
    A = torch.zeros(2, 3, 4)
    A[1, 0, 0] = 2.0
    A.requires_grad_()
    norms.gram_dense(A).sum().backward()
    assert torch.equal(A.grad[0], torch.zeros(3, 4))
    assert float(A.grad[1, 0, 0]) == pytest.approx(1.0, rel=1e-4)
    # A kernel that is dead at some frequencies: the difference at θ = 0.
    K = torch.tensor([[[1.0, -1.0]]], requires_grad=True)
    norms.gram_conv1d(K, image=7).backward()
    assert bool(torch.isfinite(K.grad).all())
    assert bool(K.grad.any())


@pytest.mark.parametrize("n", [2, 3, 7, 12, 66, 1000])
def test_roots_of_unity_are_correctly_rounded(n):
    table = roots.roots_of_unity(n)
    assert table.shape == (2, n)
    with mp.workdps(60):
        for t in range(0, n, max(1, n // 50)):
            for value, exact in zip(table[:, t].tolist(), (mp.cospi(mp.mpf(2 * t) / n), mp.sinpi(mp.mpf(2 * t) / n)),
                                    strict=True):
                assert abs(mp.mpf(value) - exact) <= mp.mpf(2) ** -54


def test_two_thousand_matrices_against_exact_fractions():
    """σ is above ‖A‖ iff σ² >= tr/2 and σ⁴ − tr·σ² + det² >= 0, decided without rounding."""
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(2000, 2, 2, generator=generator, dtype=F64)
    A[::4] = torch.randint(-3, 4, (500, 2, 2), generator=generator).to(F64)
    A[1::4, 1] = A[1::4, 0] * torch.randn(500, 1, generator=generator, dtype=F64)  # nearly of rank one
    A[2::4] *= 10.0 ** torch.randint(-8, 9, (500, 2, 2), generator=generator)
    for matrix, value in zip(A.tolist(), norms.dense(A).value.tolist(), strict=True):
        (a, b), (c, d) = ([Fraction(v) for v in row] for row in matrix)
        trace, det = a * a + b * b + c * c + d * d, a * d - b * c

        def above(square, trace=trace, det=det):
            return 2 * square >= trace and square * square - trace * square + det * det >= 0

        assert above(Fraction(value) ** 2)
        assert trace == 0 or not above((Fraction(value) * (1 - Fraction(1, 10**10))) ** 2)


K3 = torch.ones(2, 2, 3, 3)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: norms.conv2d(torch.ones(3, 3), 5), r"K must have shape \(\*batch, out, in/groups, kh, kw\); got a tensor"),
    (lambda: norms.conv1d(torch.ones(3, 3), 5), r"K must have shape \(\*batch, out, in/groups, k\); got a tensor"),
    (lambda: norms.conv2d(K3 * torch.nan, 5), "K must be finite"),
    (lambda: norms.conv2d(K3 * torch.inf, 5), "K must be finite"),
    (lambda: norms.conv2d([1.0], 5), r"K must be a torch\.Tensor; got list"),
    (lambda: norms.conv2d(K3.int(), 5), "K must have a real floating-point dtype"),
    (lambda: norms.conv2d(K3, 5, padding_mode="reflect"), "'reflect' is not covered.*Use 'zeros' or 'circular'"),
    (lambda: norms.gram_conv2d(K3, padding_mode="replicate"), "'replicate' is not covered"),
    (lambda: norms.conv2d(K3, 5, padding_mode="mirror"), "padding_mode must be one of 'zeros', 'circular'"),
    (lambda: norms.conv2d(K3, 0), "image must be at least 1; got 0"),
    (lambda: norms.conv2d(K3, (5, 5, 5)), "image must be a whole number or 2 of them"),
    (lambda: norms.conv2d(K3, 5.0), "image must be a whole number; got 5.0"),
    (lambda: norms.conv2d(K3, 5, stride=0), "stride must be at least 1"),
    (lambda: norms.conv2d(K3, 5, padding=-1), "padding must be at least 0; got -1"),
    (lambda: norms.conv2d(K3, 5, padding="full"), "padding must be one of 'same', 'valid'; got 'full'"),
    (lambda: norms.conv2d(K3, 5, stride=2, padding="same"), "'same' does not go with a stride"),
    (lambda: norms.conv2d(K3, 5, padding=(1, 1, 1)), "padding must be a whole number, 2 of them"),
    (lambda: norms.conv2d(K3, 1, padding=0), "does not fit into the padded image of 1 pixels"),
    (lambda: norms.conv2d(K3, 2, padding=3, padding_mode="circular"), "circular padding may go round the image once"),
    (lambda: norms.conv2d(K3, 5, groups=3), "groups must divide the first number of channels of K, 2; got 3"),
    (lambda: norms.conv2d(K3, 5, status="sure"), "status must be one of 'certified', 'float', 'estimate'"),
    (lambda: norms.conv2d(K3, 5, output_padding=1), "output_padding goes with transposed=True only"),
    (lambda: norms.conv2d(K3, 5, transposed=True, output_padding=1), "output_padding must be smaller than the stride"),
    (lambda: norms.conv2d(K3, 1, padding=2, transposed=True), "the transposed convolution of an image of 1 pixels"),
    (lambda: norms.conv2d(K3, 5, transposed=True, padding_mode="circular"), "padded with zeros only"),
    (lambda: norms.conv2d(K3.double() * 1e308, 5), "the norm of K overflows float64"),
    (lambda: norms.gram_conv2d(K3, padding_mode="circular"), "pass image for padding_mode='circular'"),
    (lambda: norms.gram_conv2d(K3, oversampling=1), "oversampling must be at least 2"),
    (lambda: norms.gram_conv2d(K3, iterations=0), "iterations must be at least 1"),
    (lambda: norms.gram_conv2d(K3 * torch.nan), "K must be finite"),
    (lambda: norms.gram_dense(torch.ones(3)), r"A must have shape \(\*batch, n, k\)"),
    (lambda: norms.gram_dense(torch.full((2, 2), torch.nan)), "A must be finite"),
])
def test_bad_arguments(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_torch_refuses_the_same_windows():
    """The errors for windows that do not fit come exactly where torch raises."""
    for k in range(1, 5):
        for n in range(1, 5):
            for p in range(3):
                K = torch.ones(1, 1, k)
                try:
                    F.conv1d(torch.ones(1, 1, n), K, padding=p)
                except RuntimeError:
                    with pytest.raises(ValueError, match="does not fit"):
                        norms.conv1d(K, n, 1, p)
                else:
                    norms.conv1d(K, n, 1, p)
