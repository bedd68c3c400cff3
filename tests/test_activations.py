"""Activations as prox maps: against torch, 50-digit arithmetic, brute force, the definition; numbers of refusals."""

import math
import pickle
from functools import partial

import mpmath as mp
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as nnf

import diffincl as di
from diffincl import activations as act
from diffincl.activations import root, series
from diffincl.activations.lookup import MODULES, NAMED, REFUSED, REFUSED_MODULES

F64 = torch.float64
mp.mp.dps = 50
ROOT = 2 / mp.pi


def softplus(s):
    return mp.log1p(mp.exp(s)) if s < 0 else s + mp.log1p(mp.exp(-s))


def exponential(height, width):
    return lambda s: s if s > 0 else mp.mpf(height) * mp.expm1(s / width)


# name: g, the activation in torch, ρ in 50 digits
ROWS = {
    "leaky relu": (act.leaky_relu(0.125), lambda x: nnf.leaky_relu(x, 0.125), lambda s: s if s > 0 else s / 8),
    "hardsigmoid": (act.hardsigmoid(), nnf.hardsigmoid, lambda s: min(max((s + 3) / 6, mp.mpf(0)), mp.mpf(1))),
    "tanh": (act.tanh(), torch.tanh, mp.tanh),
    "sigmoid": (act.sigmoid(), torch.sigmoid, lambda s: 1 / (1 + mp.exp(-s))),
    "softsign": (act.softsign(), nnf.softsign, lambda s: s / (1 + abs(s))),
    "isru": (act.isru(), lambda x: x / (1 + x * x).sqrt(), lambda s: s / mp.sqrt(1 + s * s)),
    "elu": (act.elu(), nnf.elu, exponential(1, 1)),
    "elu 0.25": (act.elu(0.25), lambda x: nnf.elu(x, 0.25), exponential(0.25, 1)),
    "celu 2": (act.celu(2.0), lambda x: nnf.celu(x, 2.0), exponential(2, 2)),
    "arctan": (act.arctan(1.0), torch.atan, mp.atan),
    "unit arctan": (act.arctan(), lambda x: 2 / math.pi * x.atan(), lambda s: mp.atan(s) * mp.mpf(2 / math.pi)),
    "softplus": (act.softplus(), nnf.softplus, softplus),
    "softplus 4": (act.softplus(4.0), lambda x: nnf.softplus(x, 4.0), lambda s: softplus(4 * s) / 4),
    "logsigmoid": (act.logsigmoid(), nnf.logsigmoid, lambda s: -softplus(-s)),
    "symlog": (act.symlog(), lambda x: x.sign() * x.abs().log1p(), lambda s: mp.sign(s) * mp.log1p(abs(s))),
    "tanhshrink": (act.tanhshrink(), nnf.tanhshrink, lambda s: s - mp.tanh(s)),
}
SCALAR = pytest.mark.parametrize("name", ROWS)
EVERY = pytest.mark.parametrize("g", [*(g for g, _, _ in ROWS.values()), act.Softmax()], ids=[*ROWS, "softmax"])
STEPS = (1e-8, 1e-3, 0.3, 0.999, 1.001, 4.0, 1e4, 1e8)


def points(n=60, seed=0, scale=2.0, d=4):
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


def exact_prox(rho, x, h):
    """ρ(s) at the root s of (1 − h)ρ(s) + hs = x, by bisection; the relative change of ρ per relative change of s."""
    x, h = mp.mpf(x), mp.mpf(h)
    u = x - (1 - h) * rho(mp.mpf(0))
    sign = -1 if u < 0 else 1
    lo, hi = abs(u) / max(h, 1) * (1 - mp.mpf(10) ** -30), abs(u) / min(h, 1) * (1 + mp.mpf(10) ** -30)
    while hi - lo > mp.mpf(10) ** -24 * hi:
        m = mp.sqrt(lo * hi)
        if sign * ((1 - h) * rho(sign * m) + h * sign * m - x) > 0:
            hi = m
        else:
            lo = m
    s = sign * lo
    return rho(s), abs(rho(s * (1 + mp.mpf(10) ** -20)) / rho(s) - 1) * mp.mpf(10) ** 20 if rho(s) else mp.mpf(0)


@SCALAR
def test_prox_at_step_1_is_the_activation(name):
    g, rho, _ = ROWS[name]
    for x in (points(), 30 * points().float(), torch.tensor([[-1e6, -745.0, -0.0, 0.0, 20.0, 1e6]], dtype=F64)):
        assert torch.equal(g.prox(x, 1.0), g.prox(x, torch.ones_like(x[..., :1])))
        torch.testing.assert_close(g.prox(x, 1.0), rho(x), rtol=4 * torch.finfo(x.dtype).eps, atol=0)
        assert torch.equal(g.prox(x, 1.0), act.activation(g)(x))


@SCALAR
@pytest.mark.parametrize("h", STEPS)
def test_prox_in_50_digits(name, h):
    """A few rounding units of y and of s: below 1e-14 unless y is tiny, as e^s is; also where ρ saturates."""
    g, _, rho = ROWS[name]
    xs = [-1e6, -30.0, -1.0, -0.99999, -0.3, -1e-8, 1e-5, 0.65904, 0.9, 1.0, 1.0 + 1e-9, 7.0, 1e6]
    for x, y in zip(xs, g.prox(torch.tensor(xs, dtype=F64), h).tolist(), strict=True):
        exact, condition = exact_prox(rho, x, h)
        assert abs(mp.mpf(y) - exact) <= (2e-15 + 4e-16 * condition) * abs(exact) + mp.mpf(10) ** -307, (x, y, exact)


@SCALAR
def test_float32_is_float64_rounded(name):
    g, x = ROWS[name][0], 5 * points().float()
    for h in STEPS:
        assert torch.equal(g.prox(x, h), g.prox(x.double(), h).float())


@EVERY
def test_step_0_projects_onto_the_closed_domain(g):
    x = points()
    if isinstance(g, act.Softmax):
        projected = di.Simplex().project(x)
    else:
        projected = di.Box(g.lower, g.upper).project(x)
    assert torch.equal(g.prox(x, 0.0), projected)
    torch.testing.assert_close(g.prox(x, 1e-13), projected, rtol=0, atol=1e-9)
    h = torch.tensor([0.0, 0.3, 1.0, 5.0], dtype=F64).repeat(15).unsqueeze(-1)
    together = torch.stack([g.prox(row, float(step)) for row, step in zip(x, h, strict=True)])
    torch.testing.assert_close(g.prox(x, h), together, rtol=1e-14, atol=1e-15)


@SCALAR
def test_the_number_of_iterations_leaves_room(name, monkeypatch):
    """22 suffice for every |x| in [1e-8, 1e6] and h in [1e-8, 1e8]; 60 are allowed."""
    size = torch.logspace(-8, 6, 57, dtype=F64)
    x, h = torch.cat([-size, size, points(5).flatten()]), torch.logspace(-8, 8, 33, dtype=F64).unsqueeze(-1)
    many = root.solve(ROWS[name][0].parts, x, h)
    monkeypatch.setattr(root, "ITERATIONS", 22)
    assert torch.equal(root.solve(ROWS[name][0].parts, x, h), many)


@EVERY
@pytest.mark.parametrize("h", [0.2, 1.0, 6.0])
def test_no_better_point_by_brute_force(g, h):
    """The prox minimises φ(y) + (y − x)²/(2h): scalars on a fine grid, softmax on a fine grid of the triangle."""
    if isinstance(g, act.Softmax):
        a = torch.linspace(0, 1, 401, dtype=F64)
        w = torch.cartesian_prod(a, a)
        w = torch.cat([w, 1 - w.sum(-1, keepdim=True)], -1)[w.sum(-1) <= 1 + 1e-12]
        w, xs = w.clamp_min(0), points(10, d=3)
    else:
        w, xs = torch.linspace(-9, 9, 360001, dtype=F64).unsqueeze(-1), points(10, d=1)
    value = g.value(w)
    for x in xs:
        u = g.prox(x, h)
        cost = value + ((w - x) ** 2).sum(-1) / (2 * h)
        best = g.value(u) + ((u - x) ** 2).sum(-1) / (2 * h)
        assert float(best) - 1e-13 <= float(cost.min())
        resolution = 5e-3 if isinstance(g, act.Softmax) else 5e-5
        assert float((w[cost.argmin()] - u).abs().max()) < 2 * resolution


@EVERY
@pytest.mark.parametrize("h", STEPS)
def test_firmly_nonexpansive(g, h):
    x, y = points(400, seed=0), points(400, seed=1)
    d, e = g.prox(x, h) - g.prox(y, h), x - y
    assert bool(((d * d).sum(-1) <= (d * e).sum(-1) + 1e-14).all())


@SCALAR
def test_the_slope_of_phi_is_the_inverse_less_the_identity(name):
    """φ'(ρ(s)) = s − ρ(s), by central differences of value."""
    g, rho, _ = ROWS[name]
    s = torch.linspace(-2.7, 2.7, 28, dtype=F64)
    y = rho(s)
    step = 1e-4 * torch.minimum(torch.minimum(y - g.lower, g.upper - y), torch.ones_like(y))
    up, down = (g.value((y + sign * step).unsqueeze(-1)) for sign in (1, -1))
    tolerance = 2e-3 if name == "tanhshrink" else 1e-6  # its φ'' is infinite at 0, φ' ~ (3y)^(1/3)
    torch.testing.assert_close((up - down) / (2 * step), s - y, rtol=0, atol=tolerance)


VALUES = {
    "leaky relu": (-2.0, 14.0), "hardsigmoid": (1.0, -0.5), "tanh": (1.0, math.log(2) - 0.5), "sigmoid": (0.0, 0.0),
    "softsign": (1.0, math.inf), "isru": (-1.0, -0.5), "elu": (-1.0, 0.5), "elu 0.25": (-0.25, 0.25 - 0.03125),
    "celu 2": (-2.0, 2.0), "arctan": (math.pi / 2, math.inf), "unit arctan": (1.0, math.inf),
    "softplus": (0.0, math.pi**2 / 6), "softplus 4": (0.0, math.pi**2 / 96), "logsigmoid": (0.0, math.pi**2 / 6),
    "symlog": (-1.0, math.e - 2.5), "tanhshrink": (0.0, 0.0),
}


@SCALAR
def test_values_at_the_ends_and_outside(name):
    g, (y, value) = ROWS[name][0], VALUES[name]
    assert float(g.value(torch.tensor([y], dtype=F64))) == pytest.approx(value, abs=1e-14)
    for end, outward in ((g.lower, -1), (g.upper, 1)):
        if math.isfinite(end):
            outside = torch.tensor([end + outward * 1e-9, 0.5 * (max(g.lower, -1) + min(g.upper, 1))], dtype=F64)
            assert float(g.value(outside)) == math.inf
            assert float(g.normal_distance(outside, outside)) == math.inf


def test_value_sums_over_the_coordinates_and_is_the_table():
    x = torch.tensor([0.3, -0.6], dtype=F64)
    table = (x * x.atanh() + 0.5 * ((1 - x * x).log() - x * x)).sum()
    torch.testing.assert_close(act.tanh().value(x), table)
    y = torch.tensor([0.2, 0.8], dtype=F64)
    torch.testing.assert_close(act.Softmax().value(y), (y * y.log() - y * y / 2).sum())
    assert float(act.Softmax().value(y + 0.01)) == math.inf
    torch.testing.assert_close(act.celu(0.5).value(x[1:] / 2), act.ScalarActivation.value(act.celu(0.5), -x[1:] * -0.5))


def test_dilogarithm_in_50_digits():
    w = torch.cat([torch.zeros(1, dtype=F64), torch.logspace(-12, 2.8, 200, dtype=F64),
                   math.log(2) + torch.linspace(-1e-9, 1e-9, 5, dtype=F64)])
    exact = [mp.polylog(2, mp.exp(-mp.mpf(a))) for a in w.tolist()]
    for value, reference in zip(series.dilogarithm(w).tolist(), exact, strict=True):
        assert abs(value - reference) <= 5e-16 * reference * 4


@pytest.mark.parametrize(("fast", "slow"), [
    (series.s_minus_tanh, lambda s: s - mp.tanh(s)), (series.s_minus_log1p, lambda s: s - mp.log1p(s)),
    (lambda s: series.s_minus_expm1(-s), lambda s: -s - mp.expm1(-s)),
], ids=["tanh", "log1p", "expm1"])
def test_differences_keep_all_digits(fast, slow):
    s = torch.cat([torch.logspace(-9, 3, 300, dtype=F64), torch.tensor([1 - 1e-12, 1.0, 1 + 1e-12], dtype=F64)])
    for value, a in zip(fast(s).tolist(), s.tolist(), strict=True):
        assert abs(value - slow(mp.mpf(a))) <= 2e-15 * abs(slow(mp.mpf(a)))


@SCALAR
def test_parts_belong_together(name):
    """gap = s − ρ, slope = ρ', rest = 1 − ρ'; the derivatives that automatic differentiation sees are those of ρ."""
    parts = ROWS[name][0].parts
    s = torch.cat([torch.linspace(-6, 6, 50, dtype=F64), torch.tensor([-0.5, 0.5, -1.0, 1.0], dtype=F64) * (1 + 1e-9)])
    if name not in ("leaky relu", "hardsigmoid", "elu 0.25"):  # a kink at 0
        s = torch.cat([s, torch.zeros(1, dtype=F64)])
    rho, gap, slope, rest = parts(s)
    torch.testing.assert_close(rho + gap, s, rtol=0, atol=1e-15)
    torch.testing.assert_close(slope + rest, torch.ones_like(s), rtol=0, atol=1e-15)
    for part, derivative in ((0, slope), (1, rest)):
        torch.testing.assert_close(torch.func.vmap(torch.func.grad(lambda a, part=part: parts(a)[part]))(s), derivative)


@EVERY
@pytest.mark.parametrize("h", [1e-2, 1.0, 3.0])
def test_gradients_in_x_and_h(g, h):
    x = points(2, seed=5, d=2).requires_grad_()
    step = torch.full((2, 1), h, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(g.prox, (x, step))
    assert torch.autograd.gradcheck(g.prox, (x, step), check_forward_ad=True, check_backward_ad=False)


@EVERY
def test_second_derivatives(g):
    x = points(1, seed=6, d=3).requires_grad_()
    h = torch.full((1, 1), 0.4, dtype=F64, requires_grad=True)
    assert torch.autograd.gradgradcheck(g.prox, (x, h))


@SCALAR
def test_gradients_at_extreme_steps_and_saturation(name):
    """dy/dx = ρ'/(ρ' + h(1 − ρ')) at the root, finite and in [0, 1] everywhere."""
    g = ROWS[name][0]
    for h in STEPS:
        x = torch.tensor([-1e6, -40.0, -1.0, -1e-7, 1e-7, 0.9, 1.0, 40.0, 1e6], dtype=F64, requires_grad=True)
        (slope,) = torch.autograd.grad(g.prox(x, h).sum(), x)
        assert bool(((slope >= 0) & (slope <= 1 + 1e-12)).all())
        s = root.solve(g.parts, x.detach(), torch.tensor(h, dtype=F64))
        _, _, d, rest = g.parts(s)
        torch.testing.assert_close(slope, d / (d + h * rest), rtol=1e-9, atol=1e-16)


@SCALAR
def test_gradients_at_step_0_are_those_of_the_projection(name):
    g = ROWS[name][0]
    x = torch.tensor([[-50.0, 50.0, 0.4, -0.15]], dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(g.prox(x, torch.zeros(1, 1, dtype=F64)).sum(), x)
    assert slope.tolist() == ((x >= g.lower) & (x <= g.upper)).double().tolist()


def test_a_float32_state_at_the_end_of_the_domain_has_its_multiplier_as_a_normal():
    """tanh(40) is 1 in float32, where ∂φ is empty: the state counts as known to four rounding units."""
    x = torch.tensor([40.0, 5.0])
    u = act.tanh().prox(x, 0.5)
    assert float(act.tanh().normal_distance(u, (x - u) / 0.5)) < 1e-5
    assert float(act.tanh().normal_distance(u, torch.zeros(2))) > 5


@EVERY
def test_transforms_agree(g):
    x, v = points(6, seed=8), points(6, seed=9)

    def prox(row):
        return g.prox(row, 0.3)

    assert torch.equal(torch.func.vmap(prox)(x), prox(x))
    J = torch.func.vmap(torch.func.jacrev(prox))(x)
    rows = torch.stack([torch.autograd.functional.jacobian(prox, row) for row in x])
    torch.testing.assert_close(J, rows)
    torch.testing.assert_close(torch.func.vmap(torch.func.jacfwd(prox))(x), rows)
    value, tangent = torch.func.jvp(prox, (x,), (v,))
    assert torch.equal(value, prox(x))
    torch.testing.assert_close(tangent, (rows @ v.unsqueeze(-1)).squeeze(-1))


@EVERY
def test_infinities_and_nan(g):
    x = torch.tensor([[torch.inf, -torch.inf, 0.3], [torch.nan, 0.1, 0.2], [0.0, 1.0, 2.0]], dtype=F64)
    for h in (1.0, 0.3, 3.0, torch.full((3, 1), 0.5, dtype=F64)):
        u = g.prox(x, h)
        assert bool(u[1, 0].isnan())
        assert bool(torch.isfinite(u[2]).all())
        if g.coordinatewise and not (isinstance(h, float) and h == 1.0):  # there torch decides: its softsign(∞) is NaN
            assert u[0, :2].tolist() == [g.upper, g.lower]


@EVERY
def test_a_negative_step_is_refused(g):
    with pytest.raises(ValueError, match=r"h must be nonnegative; entry \(\) is -0.5. A step runs forward"):
        g.prox(torch.zeros(2), -0.5)
    with pytest.raises(ValueError, match=r"h must be nonnegative; entry \(1, 0\) is -2"):
        g.prox(torch.zeros(2, 3), torch.tensor([[0.1], [-2.0]]))


@EVERY
def test_pickles(g):
    x = points(3)
    assert torch.equal(pickle.loads(pickle.dumps(g)).prox(x, 0.4), g.prox(x, 0.4))


@pytest.mark.parametrize("d", [1, 2, 5, 300])
@pytest.mark.parametrize("h", [0.0, *STEPS])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_softmax_satisfies_its_optimality_conditions(d, h, scale):
    """h ln y + (1 − h) y = x − θ with one θ, in 50 digits; Σ y = 1."""
    x = points(3, seed=d, scale=scale, d=d)
    y = act.Softmax().prox(x, h)
    assert float((y.sum(-1) - 1).abs().max()) <= 1e-15 * max(4, d)
    if h == 0:
        return
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        theta = [mp.mpf(p) - mp.mpf(h) * mp.log(mp.mpf(q)) - (1 - mp.mpf(h)) * mp.mpf(q)
                 for p, q in zip(a, b, strict=True) if q > 1e-290]
        assert max(theta) - min(theta) <= 1e-12 * max(h, 1e-3, scale)


def test_softmax_at_step_1_is_softmax_and_exact_for_two():
    x = points()
    assert torch.equal(act.Softmax().prox(x, 1.0), x.softmax(-1))
    assert torch.equal(act.Softmax().prox(x, torch.ones(60, 1, dtype=F64)), x.softmax(-1))
    for h in STEPS:  # of two, (y, 1 − y): h ln(y/(1 − y)) + (1 − h)(2y − 1) = x₁ − x₂
        y = float(act.Softmax().prox(torch.tensor([0.3, 0.0], dtype=F64), h)[0])
        H = mp.mpf(h)
        a, b = mp.mpf("0.5"), 1 - mp.mpf(10) ** -45
        for _ in range(160):
            m = (a + b) / 2
            a, b = (m, b) if H * mp.log(m / (1 - m)) + (1 - H) * (2 * m - 1) < mp.mpf(0.3) else (a, m)
        assert y == pytest.approx(float(a), rel=1e-14)


LIBRARY = {
    "relu": (torch.relu, nn.ReLU()), "relu6": (nnf.relu6, nn.ReLU6()), "hardtanh": (nnf.hardtanh, nn.Hardtanh()),
    "identity": (nn.Identity(), nn.Identity()), "softshrink": (nnf.softshrink, nn.Softshrink()),
    "leaky_relu": (nnf.leaky_relu, nn.LeakyReLU()), "tanh": (torch.tanh, nn.Tanh()),
    "sigmoid": (torch.sigmoid, nn.Sigmoid()), "softsign": (nnf.softsign, nn.Softsign()), "elu": (nnf.elu, nn.ELU()),
    "celu": (nnf.celu, nn.CELU()), "softplus": (nnf.softplus, nn.Softplus()),
    "logsigmoid": (nnf.logsigmoid, nn.LogSigmoid()), "hardsigmoid": (nnf.hardsigmoid, nn.Hardsigmoid()),
    "tanhshrink": (nnf.tanhshrink, nn.Tanhshrink()), "softmax": (torch.softmax, nn.Softmax(dim=-1)),
    "atan": (torch.atan, None), "arctan": (torch.arctan, None),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_lookup_by_name_function_and_module_and_back(name):
    x = 4 * points()
    call, module = LIBRARY[name]
    expected = x.softmax(-1) if name == "softmax" else call(x)
    for key in (name, call, module):
        if key is not None:
            g = act.function(key)
            assert torch.equal(g.prox(x, 1.0), expected)
            assert torch.equal(act.activation(g)(x), expected)


def test_every_name_is_looked_up_and_every_module_of_torch_is_decided():
    assert set(NAMED) - set(LIBRARY) == {"isru", "unit_arctan", "symlog"}
    for name in NAMED:
        x = points(5)
        assert torch.equal(act.activation(act.function(name))(x), act.function(name).prox(x, 1.0))
    decided = {kind.__name__ for kind in (*MODULES, *REFUSED_MODULES)} | {"ReLU6", "Softmax2d", "MultiheadAttention"}
    assert set(nn.modules.activation.__all__) <= decided


@pytest.mark.parametrize(("module", "rho"), [
    (nn.LeakyReLU(0.1), None), (nn.ELU(0.5), None), (nn.CELU(3.0), None), (nn.Softshrink(0.3), None),
    (nn.Hardtanh(-2, 2), None), (nn.Softplus(beta=2), None), (nn.PReLU(init=0.3), None), (nn.PReLU(4, init=0.2), None),
    (nn.LeakyReLU(0.0), None), (nn.PReLU(init=0.0), None), (nn.Threshold(0.5, 0.5), None), (nn.LeakyReLU(1.0), None),
    (nn.Softmax(-1), None),
], ids=repr)
def test_parameters_of_modules_are_read(module, rho):
    x = 2 * points().float()
    assert torch.equal(act.function(module).prox(x, 1.0), module(x).detach())


def test_relu_is_the_orthant_and_clips_are_boxes():
    assert isinstance(act.function(nn.LeakyReLU(0.0)), di.Orthant)
    assert act.activation(di.Orthant()) is torch.relu
    assert act.activation(di.Box(0.0, 6.0)) is nnf.relu6
    x = points()
    assert torch.equal(act.activation(di.Box(torch.zeros(4), 1.0))(x), x.clamp(0, 1))
    assert torch.equal(act.activation(di.L1(torch.ones(4)))(x), nnf.softshrink(x, 1.0))
    assert torch.equal(act.activation(di.L1(0.2))(x), nnf.softshrink(x, 0.2))
    assert torch.equal(act.activation(di.Ball())(x), di.Ball().project(x))


# The numbers in the refusals, computed: minimum (place, value) of those that fall.
FALLING = {"gelu": nnf.gelu, "silu": nnf.silu, "mish": nnf.mish, "hardswish": nnf.hardswish}


@pytest.mark.parametrize("name", FALLING)
def test_refused_for_falling_with_the_right_minimum(name):
    x = torch.linspace(-3, 0, 3_000_001, dtype=F64)
    y = FALLING[name](x)
    k = int(y.argmin())
    at, value = f"{float(x[k]):.4f}".replace("-", "−"), f"{float(y[k]):.4f}".replace("-", "−")
    assert f"falls to {value} at x = {at}" in REFUSED[name]
    module = {"gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish, "hardswish": nn.Hardswish}[name]()
    for key in (name, FALLING[name], module):
        with pytest.raises(ValueError, match=f"{name} is no prox map: it is not monotone: it falls to {value}"):
            act.function(key)


def test_the_other_numbers_of_refusals():
    x = torch.tensor([-1e-9, 0.0], dtype=F64)
    assert f"{float(nnf.selu(x).diff() / x.diff()):.4f}" == "1.7581"
    assert "1.7581" in REFUSED["selu"]
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0])
    difference = a.sort(descending=True).values - b.sort(descending=True).values
    assert float(difference @ (a - b)) == -2.0
    assert "of −2" in REFUSED["maxmin"]
    assert "of −2" in REFUSED["groupsort"]
    assert float(nnf.hardshrink(torch.tensor(0.500001))) == pytest.approx(0.5, abs=1e-5)
    J = torch.func.jacrev(lambda x: x.log_softmax(-1))(torch.tensor([0.1, 0.7, -0.3]))
    torch.testing.assert_close(J, torch.eye(3) - torch.tensor([0.1, 0.7, -0.3]).softmax(-1).expand(3, 3))
    assert float((J - J.T).abs().max()) > 0.1


@pytest.mark.parametrize(("key", "message"), [
    (nn.SELU(), "selu is no prox map: it expands: its slope is 1.7581 at 0 from the left"),
    (torch.abs, "abs is no prox map: it is not monotone: it falls with slope −1"),
    ("groupsort", "groupsort is no prox map: it is not monotone"),
    (nn.RReLU(), "rrelu is no prox map: its slope is random"),
    (nn.Hardshrink(), "hardshrink is no prox map: it jumps, from 0 to 0.5"),
    (nnf.threshold, "threshold is no prox map: it jumps"),
    (nn.Threshold(0.1, 20.0), "threshold is no prox map: it jumps from 20 to 0.1 at x = 0.1"),
    (nn.ELU(1.5), "alpha must be at most 1; got 1.5. It is the slope at 0 from the left"),
    (nn.ELU(0.0), "alpha must be greater than 0; got 0"),
    (nn.LeakyReLU(1.5), r"negative_slope must lie in \(0, 1\]; entry \(\) is 1.5"),
    (nn.LeakyReLU(-0.1), r"negative_slope must lie in \(0, 1\]; entry \(\) is -0.1"),
    (nn.PReLU(init=-0.25), r"negative_slope must lie in \(0, 1\]; entry \(\) is -0.25"),
    (nn.PReLU(3, init=2.0), r"negative_slope must lie in \(0, 1\]; entry \(0,\) is 2"),
    (nn.Softplus(threshold=5.0), "softplus is no prox map: with threshold 5"),
    (nn.Softmax(dim=0), "softmax must act on the last dimension, as every g does; got dim = 0"),
    (nn.Softmin(dim=-1), "softmin is no prox map: it is not monotone"),
    (nn.LogSoftmax(dim=-1), "log_softmax is no prox map: its Jacobian"),
    (nn.GLU(), "glu is no prox map: it halves"),
    (nn.Linear(2, 2), r"activation Linear\(.*\) is not known. Known are relu, .*activations.from_callable"),
    (torch.sin, "is not known. Known are relu, .*activations.from_callable"),
    ("tan", "activation 'tan' is not known"),
    (nn.Tanh, r"got the class Tanh. Call it: Tanh\(\)"),
    (3.0, "activation must be a name, a function or a module; got 3.0"),
], ids=lambda v: v if isinstance(v, str) else type(v).__name__)
def test_refusals(key, message):
    with pytest.raises((ValueError, TypeError), match=message):
        act.function(key)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: act.activation(torch.relu), r"g must be a ProxFunction such as Orthant\(\)"),
    (lambda: act.arctan(1.2), "scale must be at most 1; got 1.2. It is the slope at 0"),
    (lambda: act.arctan(-0.5), "scale must be greater than 0; got -0.5"),
    (lambda: act.celu(-1.0), "alpha must be greater than 0; got -1"),
    (lambda: act.softplus(0.0), "beta must be greater than 0; got 0"),
    (lambda: act.leaky_relu("0.1"), "negative_slope must be a number or a torch.Tensor; got '0.1'"),
    (lambda: act.leaky_relu(float("nan")), r"negative_slope must be finite; entry \(\) is nan"),
    (lambda: act.from_callable(3), "rho must be callable as rho.x.; got 3 of type int"),
    (lambda: act.from_callable(torch.sin), "sin is no prox map: it falls from .* must not decrease"),
    (lambda: act.from_callable(torch.erf), r"erf is no prox map: .* a slope of 1.12838; a prox map must not be"),
    (lambda: act.from_callable(lambda x: x.round(), name="round"), "round is no prox map: it rises .* a slope of 400"),
    (lambda: act.from_callable(lambda x: x.softmax(-1)), "must act on each entry alone"),
    (lambda: act.from_callable(lambda x: x + x.sum() * 0.1), "must act on each entry alone"),
    (lambda: act.from_callable(torch.log, name="log"), "log must be finite with a finite slope; at x = -1e.06 it"),
    (lambda: act.from_callable(lambda x: x @ x), "must take a float64 tensor"),
    (lambda: act.from_callable(lambda x: x.numpy()), "must take a float64 tensor and be differentiable by torch"),
    (lambda: act.from_callable(lambda x: x / (1 + x * x).sqrt(), name="isru"),
     r"the range of isru cannot be read off its values .* pass domain=\(lower, upper\)"),
])
def test_bad_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize("name", ["tanh", "softplus", "elu 0.25", "hardsigmoid", "unit arctan", "sigmoid"])
def test_from_callable_finds_what_the_table_has(name):
    g, rho, _ = ROWS[name]
    own, x = act.from_callable(rho), points()
    assert (own.lower, own.upper) == (g.lower, g.upper)
    tolerance = 1e-8 if name == "softplus" else 1e-12  # torch's softplus is not exact
    for h in (1e-3, 0.3, 1.0, 4.0):
        torch.testing.assert_close(own.prox(x, h), g.prox(x, h), rtol=tolerance, atol=tolerance)
    y = g.prox(points(20, seed=3), 1.0)
    base = g.value(rho(torch.zeros(4, dtype=F64)))
    kinks = name in ("elu 0.25", "hardsigmoid")
    torch.testing.assert_close(own.value(y), g.value(y) - base, rtol=0, atol=5e-4 if kinks else 1e-8)


def test_from_callable_with_a_given_domain():
    g = act.from_callable(lambda x: x / (1 + x * x).sqrt(), domain=(-1.0, 1.0))
    x = points()
    torch.testing.assert_close(g.prox(x, 0.2), act.isru().prox(x, 0.2))
    assert torch.equal(g.prox(x, 0.0), x.clamp(-1, 1))


@given(st.floats(-1e6, 1e6), st.floats(1e-8, 1e8), st.sampled_from(sorted(ROWS)))
def test_any_point_and_step_solve_the_equation(x, h, name):
    """y + hφ'(y) = x in the form that s = ρ⁻¹(y) gives. Rounding s moves y = ρ(s) by |s|ρ'(s) units, which is much of y
    where ρ has a zero away from 0 (hardsigmoid at −3, whose own prox has a formula); rounding x by a unit moves it by
    |x|ρ'(s)/T'(s) (tanhshrink for large h)."""
    g = ROWS[name][0]
    y = g.prox(torch.tensor([x], dtype=F64), h)
    s = root.solve(g.parts, torch.tensor([x], dtype=F64), torch.tensor(h, dtype=F64))
    rho, gap, slope, rest = g.parts(s)
    assert g.lower <= float(y) <= g.upper
    miss = float((rho + h * gap - x).abs() / (slope + h * rest) * slope)  # in y
    rounding = float(slope * torch.maximum(s.abs(), abs(x) / (slope + h * rest)))
    assert miss <= 1e-14 * max(max(abs(float(y)), 1e-290) * max(1.0, float(s.abs())), rounding)
    torch.testing.assert_close(y, rho, rtol=1e-13, atol=1e-14 * rounding if name == "hardsigmoid" else 0)


def test_euler_with_tanh_is_the_residual_layer():
    """With h = 1 and g of tanh a step is x⁺ = tanh(x − F(x)), bit for bit."""
    gen = torch.Generator().manual_seed(4)
    A1, A2 = torch.randn(10, 6, 5, generator=gen), torch.randn(10, 5, 6, generator=gen)
    b1, b2 = torch.randn(10, 6, generator=gen), torch.randn(10, 5, generator=gen)
    weights = (di.PiecewiseConstant(w, 0.0, 10.0) for w in (A1, b1, A2, b2))
    x = torch.rand(7, 5, generator=gen)
    sol = di.solve(di.Inclusion(di.ResNetField(*weights), act.function("tanh")), x, torch.linspace(0, 10, 11),
                   scheme=di.ForwardEuler())
    for k in range(10):
        x = torch.tanh(x - nnf.linear(torch.relu(nnf.linear(x, A1[k], b1[k])), A2[k], -b2[k]))
        assert torch.equal(sol.x[k + 1], x)


@pytest.mark.parametrize("name", ["tanh", "softplus", "softmax"])
def test_gradient_flow_of_g_alone_reaches_its_minimum(name):
    """F = 0: implicit steps of any length fall to argmin φ: 0 for tanh, far out for softplus, 1/d for softmax."""
    g = act.function(name)
    x = di.solve(di.Inclusion(lambda t, x: 0 * x, g), torch.full((3,), 0.2, dtype=F64), [0.0, 1e6, 2e12]).x[-1]
    if name == "softplus":
        assert float(x.min()) > 10
    else:
        torch.testing.assert_close(x, torch.full_like(x, 0.0 if name == "tanh" else 1 / 3), rtol=0, atol=1e-2)


@EVERY
def test_gradients_pass_checkpointed_segments(g):
    """Iterations inside torch.utils.checkpoint, where torch.func is restricted."""
    ends = []
    for gradient in ("backprop", "checkpoint"):
        x = g.prox(points(3), 1.0).requires_grad_()
        sol = di.solve(di.Inclusion(lambda t, x: x * x, g), x, [0.0, 0.1, 0.2, 0.3], gradient=gradient)
        ends.append(torch.autograd.grad(sol.x[-1].sum(), x)[0])
    assert torch.equal(*ends)


def test_partial_of_the_prox_has_step_1():
    assert isinstance(act.activation(di.Ball()), partial)
    assert act.activation(di.Ball()).keywords == {"h": 1.0}
