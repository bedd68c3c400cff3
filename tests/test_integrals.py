"""Integrals along trajectories: from above, against sums over save times 64 times as dense."""

import dataclasses

import pytest
import torch

import diffincl as di
from diffincl.statements import STATEMENTS, Case, converged, integrals
from diffincl.statements.fields import AccumulatedField, PlusLinearField, identity
from diffincl.statements.paths import is_exact
from diffincl.statements.quantities import at_ends, multipliers, norm, pieces

INTERVALS, DENSE = 8, 512
SETS = {"orthant": di.Orthant(), "box": di.Box(-1.0, 1.5), "half space": di.HalfSpace(torch.ones(6).double(), 0.5),
        "ball": di.Ball(1.5), "outside": di.OutsideBall()}


def coarse_case(g=None, label="C4", kind=0, networks=8, intervals=INTERVALS):
    """By default two intervals a layer."""
    case = STATEMENTS[label].draw(torch.Generator().manual_seed(2), kind, networks)
    if g is not None:
        case = dataclasses.replace(case, flow=di.Inclusion(case.flow.field, g), x0=g.prox(case.x0 + 0.1, 1.0))
    return dataclasses.replace(case, t=torch.linspace(0, 1, intervals + 1).double())


def dense(case):
    return dataclasses.replace(case, t=torch.linspace(0, 1, DENSE + 1).double())


def sums(case, left, right, n=INTERVALS):
    """Trapezoidal sums over the dense times, one for each coarse interval."""
    h = case.t.diff().reshape(-1, *[1] * (left.ndim - 1))
    return (0.5 * h * (left + right)).unflatten(0, (n, -1)).sum(1)


@pytest.mark.parametrize("name", SETS)
def test_F_and_x_are_integrated_along_the_flow(name):
    case = coarse_case(SETS[name])
    d = case.x0.shape[-1]
    path, (push, position) = integrals.accumulate(converged, case.flow, case.x0, case.t, (case.flow.field, identity(d)))
    x = converged(case.flow, case.x0, dense(case).t).x
    left, right = at_ends(case.flow.field, dense(case).t, x)
    torch.testing.assert_close(path.x, x[::DENSE // INTERVALS], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(push, sums(dense(case), left, right), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(position, sums(dense(case), x[:-1], x[1:]), rtol=1e-3, atol=1e-3)
    assert path.error.shape == path.x.shape[:-1]


def test_integrals_of_the_exact_flow_are_exact():
    """x' = −σ(x − 1): x = 1 + e^{−t} from 2, ∫F = 1 − e^{−t}, ∫x = t + 1 − e^{−t}; from ½ at rest."""
    one = torch.ones(1, 1, dtype=torch.float64)
    flow = di.Inclusion(di.ResNetField(one, -one[0], one, 0 * one[0]), di.Orthant())
    x0, t = torch.tensor([[2.0], [0.5]], dtype=torch.float64), torch.tensor([0.0, 0.7, 2.0], dtype=torch.float64)
    path, (push, position) = integrals.accumulate(converged, flow, x0, t, (flow.field, identity(1)))
    lost = -torch.exp(-t).diff()
    torch.testing.assert_close(push[..., 0], torch.stack([lost, 0 * lost], -1), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(position[..., 0], torch.stack([t.diff() + lost, 0.5 * t.diff()], -1), rtol=1e-12, atol=0)
    assert float(path.error.max()) < 1e-10


@pytest.mark.parametrize("name", ["orthant", "box", "ball", "moving"])
def test_sizes_of_F_are_enclosed(name):
    """‖F‖ and ‖x'‖ on the way, ∫‖F‖ and ∫‖F‖²: above the sums, and not far."""
    if name == "moving":
        case, speed = coarse_case(label="C1", kind=2), 0.9
    else:
        case, speed = coarse_case(SETS[name]), 0.0
    path, (push,) = integrals.accumulate(converged, case.flow, case.x0, case.t, (case.flow.field,))
    around = integrals.reach(case, pieces(case), path.x, speed)
    x = converged(case.flow, case.x0, dense(case).t).x
    left, right = (norm(F) for F in at_ends(case.flow.field, dense(case).t, x))
    largest = torch.maximum(left, right).unflatten(0, (INTERVALS, -1)).amax(1)
    quick = (norm(x.diff(dim=0)) * DENSE).unflatten(0, (INTERVALS, -1)).amax(1)
    assert bool((largest <= around.speed * (1 + 1e-9) + 1e-9).all())
    assert bool((quick <= around.speed * (1 + 1e-6) + 1e-4).all())
    room = 1e-5 * (1 + largest**2)
    for bound, power in ((integrals.size, 1), (integrals.square, 2)):
        whole, allowed = sums(dense(case), left**power, right**power), bound(push, around.change, around.h)
        assert bool((whole <= allowed + room).all())
        assert float(allowed.sum()) <= 1.3 * float(whole.sum())


def test_a_size_that_changes_as_fast_as_it_may_is_enclosed_and_attained():
    """f = (1, Ms) on [−h/2, h/2]: √(‖∫f‖² + M²h⁴/12) is √(h∫‖f‖²), and a little more than ∫‖f‖."""
    h, M = torch.tensor(0.5, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64)
    s = torch.linspace(-0.25, 0.25, 100001, dtype=torch.float64)
    f = torch.stack([torch.ones_like(s), M * s], -1)
    mean = h * torch.tensor([1.0, 0.0], dtype=torch.float64)
    squares = float(torch.trapezoid(norm(f) ** 2, s))
    assert float(integrals.square(mean, M, h)) == pytest.approx(squares, rel=1e-8)
    assert float(integrals.size(mean, M, h)) == pytest.approx((float(h) * squares) ** 0.5, rel=1e-8)


@pytest.mark.parametrize("z", [-3.0, -0.1, 0.0, 0.2, 2.0])
@pytest.mark.parametrize("slope", [-1.0, 1.0])
def test_what_is_carried_covers_integrands_that_rise_and_fall(z, slope):
    """∫e^{z(1 − s)}f for f = 1 ± s/2 on [0, 1], from ∫f and M = ½; and not more than by what it must."""
    s = torch.linspace(0, 1, 100001, dtype=torch.float64)
    f, one = 1 + 0.5 * slope * s, torch.ones(1, dtype=torch.float64)
    exact = float(torch.trapezoid((z * (1 - s)).exp() * f, s))
    found = float(integrals.carried(0 * one[0], z * one, torch.trapezoid(f, s) * one, 0.5 * one, one)[1])
    assert exact <= found * (1 + 1e-9)
    assert found <= exact + 0.11 * abs(z) * max(1.0, torch.tensor(z).exp().item()) + 1e-9


@pytest.mark.parametrize("rate", [None, 1.5, -1.5])
@pytest.mark.parametrize("name", SETS)
def test_multipliers_are_integrated_from_above(name, rate):
    """Through hits and leaves; with a rate the sums are those of e^{ν(t − s)}‖n‖."""
    n = 32  # intervals: the enclosure is of first order only
    case = coarse_case(label="C10", intervals=n) if name == "outside" else coarse_case(SETS[name], intervals=n)
    fine = dense(case)
    x = converged(case.flow, case.x0, fine.t).x
    around = integrals.reach(case, pieces(case), x[::DENSE // n])
    z = torch.full((n, 8), (rate or 0) / n, dtype=torch.float64)
    found = integrals.pushes(case.flow, case.t, x[::DENSE // n], around, None if rate is None else z)
    left, right = multipliers(case.flow, fine.t, x)
    s = torch.arange(DENSE, dtype=torch.float64).reshape(-1, 1, 1) % (DENSE // n)
    left, right = (f * (z[0, 0] * (1 - k * n / DENSE)).exp() for f, k in ((left, s), (right, s + 1)))
    exact = sums(fine, left, right, n)
    phi = float(torch.expm1(z[0, 0]) / z[0, 0]) if rate else 1.0
    jump = 6 * around.speed / DENSE  # what each coordinate that hits adds to a sum for a half of a dense interval
    assert bool((exact <= phi * found + jump).all())
    assert float(exact.sum()) > 0.1
    assert float(phi * found.sum()) <= 2 * float(exact.sum())


def pushed_over_one_interval(F, g, x0, T):
    """What ``pushes`` allows for a multiplier that fades to 0 just at the end of the interval."""
    case = Case("fading", di.Inclusion(F, g), torch.tensor([0.0, T], dtype=torch.float64), x0, x0)
    x = converged(case.flow, x0, case.t).x
    assert float(multipliers(case.flow, case.t, x)[1].max()) < 0.02
    return float(integrals.pushes(case.flow, case.t, x, integrals.reach(case, pieces(case), x)).max())


def test_a_multiplier_that_fades_as_the_field_turns_is_covered():
    """F = (1, x₁) above the first axis from (1, 0): n₂ = x₁ = 1 − t, ∫n = ½."""
    one, zero = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    F = di.ResNetField(one, zero, one.flip(-1).mT, torch.tensor([-1.0, 0.0], dtype=torch.float64))
    above = di.Box(torch.tensor([-5.0, 0.0], dtype=torch.float64), torch.inf)
    assert 0.5 <= pushed_over_one_interval(F, above, one, 1.0) < 2.8


@pytest.mark.parametrize("R", [1.0, 2.0])
def test_a_multiplier_that_fades_as_the_set_bends_is_covered(R):
    """−F = (1, 0) around a ball: at an angle p from its front Rp' = sin p and ‖n‖ = cos p, so ∫‖n‖ = −R ln sin p0."""
    zero = torch.zeros(1, 2, dtype=torch.float64)
    F = di.ResNetField(zero, zero[:, 0], zero.mT, torch.tensor([1.0, 0.0], dtype=torch.float64))
    p = torch.tensor(0.3, dtype=torch.float64)
    T = -R * float((p / 2).tan().log())  # when p = π/2
    x0 = R * torch.stack([-p.cos(), p.sin()]).unsqueeze(0)
    assert -R * float(p.sin().log()) <= pushed_over_one_interval(F, di.OutsideBall(R), x0, T) < T * (1 + 1e-9)


def test_sets_of_unknown_curvature_are_refused():
    with pytest.raises(ValueError, match="multipliers are integrated on boxes, half spaces and balls; got"):
        integrals.bend(di.Simplex())


def test_an_accumulated_field_keeps_the_units_of_a_field_once():
    case = coarse_case()
    base = case.flow.field
    field = AccumulatedField(base, base, identity(6), base)
    w = field.weights_on(0.0, 0.25)(0.0)
    assert w.A1.shape[-2:] == (6 + 12, 24)
    assert w.A2.shape[-2:] == (24, 18)
    x = torch.randn(8, 8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value = field.on(0.0, 0.25)(torch.tensor(0.0), torch.cat([x, x + 1, x + 2, x + 3], -1))
    F = base.on(0.0, 0.25)(torch.tensor(0.0), x)
    torch.testing.assert_close(value, torch.cat([F, -F, -x, -F], -1), rtol=1e-12, atol=1e-12)
    assert field.knots == base.knots
    assert is_exact(di.Inclusion(AccumulatedField(base, base, identity(6)), di.Orthant()))


def test_a_linear_part_is_accumulated_with_its_units():
    one, zero = torch.eye(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    base = PlusLinearField(one, zero, one, zero, 2 * one)
    flow = di.Inclusion(base, di.Whole())
    path, (push,) = integrals.accumulate(converged, flow, -one, torch.tensor([0.0, 1.0], dtype=torch.float64), (base,))
    assert float(push) == pytest.approx(float(path.x[0] - path.x[-1]), rel=1e-12)
