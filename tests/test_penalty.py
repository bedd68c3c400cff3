"""The penalty: its error bounds, its gradients, its two families of integrators, and how it fails."""

import math

import pytest
import torch
from exact import F64, disk, half_line, norm_flow, skorokhod, spiral
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import forward_ad
from tqdm import tqdm

import diffincl as di
from diffincl.penalty import PenaltyError
from diffincl.penalty.penalty import STIFF, torchdiffeq_methods

ADAPTIVE, FIXED = torchdiffeq_methods()
METHODS = (*ADAPTIVE, *FIXED, *STIFF)


def penalty(lam, method="dopri5", **tolerances):
    """The method with a stable step where it needs one; a low order gets a low tolerance, or it takes very long."""
    if method == "adaptive_heun":
        tolerances = {"rtol": 1e-4, "atol": 1e-6}
    return di.Penalty(lam, method, step=lam / 2 if method in FIXED else None, **tolerances)


def error(problem, pen, times=41):
    """Largest Euclidean distance from the exact solution of the inclusion, over time and batch."""
    flow, x0, horizon, exact = problem()
    t = torch.linspace(0, horizon, times, dtype=F64)
    x, _ = pen.integrate(flow, x0, t)
    return float((x - torch.stack([exact(time) for time in t.tolist()])).norm(dim=-1).max())


# --- error in λ (theory C9)

@pytest.mark.parametrize("method", METHODS)
def test_error_on_the_half_line_is_lambda_times_F(method):
    # x' = −c − min(x, 0)/λ settles at −λc; c = 0.7, and the error is 0 before the contact.
    assert error(half_line, penalty(0.05, method), 4) == pytest.approx(0.035, rel=0.01)


@pytest.mark.parametrize("method", ["dopri5", "BDF"])
@pytest.mark.parametrize("lam", [0.05, 0.01])
def test_exact_penalised_solution_of_the_skorokhod_problem(method, lam):
    # In contact, from t = π/6 on, x' = −x/λ − cos t and x(π/6) = 0: within λ‖F‖ of the exact x = 0.
    flow, x0, _, _ = skorokhod()
    t = torch.linspace(0.55, 1.55, 11, dtype=F64)
    x, _ = di.Penalty(lam, method, rtol=1e-8, atol=1e-10).integrate(flow, x0, [0.0, *t.tolist()])
    steady = -(lam * t.cos() + lam**2 * t.sin()) / (1 + lam**2)
    at_contact = -(lam * math.cos(math.pi / 6) + lam**2 * 0.5) / (1 + lam**2)
    expected = steady - at_contact * ((math.pi / 6 - t) / lam).exp()
    assert torch.allclose(x[1:, 0], expected, rtol=0, atol=1e-6)
    assert float(x[1:].abs().max()) <= lam * math.cos(math.pi / 6)


def spiral_bound(lam):
    """λB(1 + ∫L E_μ) with the constants of the spiral, F = Ax − b: L = ‖A‖, μ = −0.3, B = max‖F‖ along both paths."""
    flow, x0, horizon, exact = spiral()
    t = torch.linspace(0, horizon, 41, dtype=F64)
    x, _ = di.Penalty(lam, "LSODA").integrate(flow, x0, t)
    paths = torch.cat([x, torch.stack([exact(time) for time in t.tolist()])])
    B = float(flow.field(0.0, paths).norm(dim=-1).max())
    L, mu = math.hypot(0.3, 2.0), -0.3
    return lam * B * (1 + L * (math.exp(mu * horizon) - 1) / mu)


def test_order_one_on_the_orthant_and_the_bound_holds():
    errors = {lam: error(spiral, di.Penalty(lam, "LSODA", rtol=1e-9, atol=1e-11), 81) for lam in (1e-2, 1e-3, 1e-4)}
    for lam, found in errors.items():
        assert found <= spiral_bound(lam)
    assert math.log10(errors[1e-3] / errors[1e-4]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("method", ["dopri5", "LSODA"])
def test_general_bound_holds_on_the_disk(method):
    # F = −(1, 0) is constant: μ = 0, B = 1, so ‖x_λ − x‖(t) <= √(λt/2).
    for lam in (0.1, 0.01):
        assert 0 < error(disk, penalty(lam, method), 11) <= math.sqrt(lam * 3.0 / 2)


def test_a_norm_is_penalised_by_its_envelope():
    # g = ‖x‖₂: the envelope is ‖x‖ − λ/2 outside the ball of radius λ, so x moves as the exact flow until then,
    # and then decays as e^{−t/λ}.
    lam = 0.05
    flow, x0, _, _ = norm_flow()
    x, _ = di.Penalty(lam, rtol=1e-9, atol=1e-12).integrate(flow, x0, [0.0, 0.4, 0.5, 2.0])
    reached = x0[1].norm() - lam
    expected = torch.stack([(x0[0].norm() - t).clamp(min=0) for t in torch.tensor([0.0, 0.4, 0.5, 2.0], dtype=F64)])
    assert torch.allclose(x[:, 0].norm(dim=-1), expected, rtol=1e-7)
    assert float(x[2, 1].norm()) == pytest.approx(lam * math.exp(-(0.5 - float(reached)) / lam), rel=1e-5)


# --- integrators

@pytest.mark.parametrize("method", METHODS)
def test_methods_agree(method):
    flow, x0, horizon, _ = spiral()
    t = [0.0, 1.0, 1.2, 2.0, horizon]
    reference, _ = di.Penalty(0.05, "LSODA", rtol=1e-11, atol=1e-13).integrate(flow, x0, t)
    x, evaluations = penalty(0.05, method).integrate(flow, x0, t)
    # Fixed steps of λ/2 cross the kinks of the penalty; the error estimate of fehlberg2 misses a factor of 100.
    room = {"euler": 5e-2, "midpoint": 1e-3, "heun2": 1e-3, "heun3": 5e-4, "rk4": 2e-4, "fehlberg2": 1e-3,
            "adaptive_heun": 1e-3}
    assert float((x - reference).abs().max()) < room.get(method, 2e-5)
    assert evaluations > len(t)


def test_sharper_tolerances_give_sharper_states():
    flow, x0, horizon, _ = spiral()
    reference, _ = di.Penalty(0.1, "LSODA", rtol=1e-12, atol=1e-14).integrate(flow, x0, [0.0, horizon])
    for method in ("dopri5", *STIFF):
        loose, sharp = (float((di.Penalty(0.1, method, rtol=rtol, atol=rtol / 100).integrate(
            flow, x0, [0.0, horizon])[0] - reference).abs().max()) for rtol in (1e-3, 1e-9))
        assert sharp < 1e-7 < loose


def test_evaluations_are_counted_and_stay_within_the_interval():
    seen = []

    def F(t, x):
        seen.append(float(t))
        return torch.cos(t).expand_as(x)

    for method in METHODS:
        seen.clear()
        _, evaluations = penalty(0.1, method).integrate(di.Inclusion(F, di.Orthant()), torch.ones(2, 1, dtype=F64),
                                                       [0.3, 1.0, 2.9])
        assert evaluations == len(seen)
        assert 0.3 <= min(seen) <= 0.3 + 1e-12
        assert 2.5 < max(seen) <= 2.9


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_last_step_ends_at_the_stop(method, dtype):
    # Adaptive steps grow tenfold here, and the last one would overshoot: only its last two stages may see the end.
    # float32 rounds 0.8 up.
    seen = []
    flow = di.Inclusion(lambda t, x: seen.append(float(t)) or 0 * x, di.Whole())
    penalty(0.01, method).integrate(flow, torch.ones(1, dtype=dtype), [0.0, 0.8])
    assert max(seen) <= 0.8
    assert sum(t > 0.8 - 1e-6 for t in seen) <= 2


def test_a_time_beside_a_knot_adds_no_piece():
    flow = di.Inclusion(di.ResNetField(*(torch.zeros(shape, dtype=F64) for shape in ((1, 1), (1,), (1, 1))),
                                       di.PiecewiseConstant(torch.ones(2, 1, dtype=F64), 0.0, 2.0)), di.Orthant())
    for time in (1.0, 1.0 + 1e-12, 1.0 - 1e-12):
        _, evaluations = di.Penalty(0.1, "euler", step=0.1).integrate(flow, torch.ones(1, dtype=F64), [0.0, time, 2.0])
        assert evaluations == 20


def test_step_lengths_are_carried_over_the_stops():
    # 40 intervals, one step each (seven evaluations) once the step has grown from λ/10.
    flow = di.Inclusion(lambda t, x: 0 * x, di.Whole())
    _, evaluations = di.Penalty(1e-3).integrate(flow, torch.ones(1), torch.linspace(0, 4, 41))
    assert evaluations <= 7 * 40 + 30


def test_the_tolerance_holds_for_the_worst_sample():
    # 999 samples at rest do not change the steps that the moving one asks for.
    x0 = torch.zeros(1000, 2, dtype=F64)
    x0[500] = 1.0
    flow = di.Inclusion(lambda t, x: torch.sin(5 * x) * x.roll(1, -1), di.Ball(2.0))
    pen = di.Penalty(0.1, rtol=1e-4, atol=1e-6)
    many, alone = (pen.integrate(flow, x, [0.0, 1.0])[0][-1] for x in (x0, x0[500:501]))
    assert torch.allclose(many[500], alone[0], rtol=1e-12, atol=0)


def test_explicit_cost_grows_as_one_over_lambda_and_implicit_cost_does_not():
    flow, x0, horizon, _ = skorokhod()
    cost = {(method, lam): di.Penalty(lam, method).integrate(flow, x0, [0.0, horizon])[1]
            for method in ("dopri5", "BDF") for lam in (3e-2, 1e-3)}
    # dopri5 is stable on x' = −x/λ up to steps of 3.31λ, and the contact lasts π/3: six evaluations a step.
    assert cost["dopri5", 1e-3] > 6 * (math.pi / 3) / 3.4e-3
    assert cost["BDF", 1e-3] < 1.5 * cost["BDF", 3e-2] < cost["dopri5", 1e-3] / 3


@pytest.mark.parametrize("method", ["dopri5", "rk4", *STIFF])
@pytest.mark.parametrize("shape", [(3,), (2, 4, 3), (6, 1)])
def test_a_sample_of_a_batch_is_that_sample_alone(method, shape):
    generator = torch.Generator().manual_seed(0)
    d = shape[-1]
    A = torch.randn(d, d, generator=generator, dtype=F64)
    x0 = torch.rand(shape, generator=generator, dtype=F64)
    flow = di.Inclusion(lambda t, x: torch.tanh(x @ A.T) + torch.cos(3 * t), di.Orthant())
    pen = penalty(0.1, method, rtol=1e-7, atol=1e-9)
    x, _ = pen.integrate(flow, x0, [0.0, 1.0, 2.0])
    assert x.shape == (3, *shape)
    for index in (tuple(0 for _ in shape[:-1]), tuple(n - 1 for n in shape[:-1])):
        alone, _ = pen.integrate(flow, x0[index], [0.0, 1.0, 2.0])
        assert torch.allclose(x[(slice(None), *index)], alone, rtol=0, atol=2e-6)


def test_many_stiff_samples_cost_little_more_than_one():
    x0 = torch.linspace(0, 1, 120, dtype=F64).reshape(40, 3)
    flow = di.Inclusion(lambda t, x: torch.sin(t + 7 * torch.arange(40.0, dtype=F64)[:, None] / 40).expand_as(x),
                        di.Orthant())
    _, evaluations = di.Penalty(1e-5, "BDF").integrate(flow, x0, [0.0, 3.0])
    assert evaluations < 3 / 3e-5  # the steps of an explicit method are at most 3λ long


@pytest.mark.parametrize("method", STIFF)
def test_the_jacobian_of_scipy_is_exact(method):
    from diffincl.penalty.system import System
    from diffincl.penalty.velocity import Velocity

    generator = torch.Generator().manual_seed(1)
    A, x = (torch.randn(shape, generator=generator, dtype=F64) for shape in ((3, 3), (4, 3)))
    flow = di.Inclusion(lambda t, x: torch.sin(x @ A.T), di.Ball())
    velocity = Velocity(flow, 0.1, x, first=0.0, bar=tqdm(disable=True))
    velocity.restrict(0.0, 1.0)
    system, y = System(velocity, x), x.numpy().ravel()
    differences = torch.tensor([[(system.value(0.5, y + 1e-6 * (torch.arange(12) == j).numpy())
                                  - system.value(0.5, y - 1e-6 * (torch.arange(12) == j).numpy()))[i] / 2e-6
                                 for j in range(12)] for i in range(12)], dtype=F64)
    assert torch.allclose(torch.tensor(system.sparse(0.5, y).toarray()), differences, atol=1e-7)
    packed = system.banded(0.5, y)
    for i in range(12):
        for j in range(max(0, i - 2), min(12, i + 3)):
            assert packed[i - j + 2, j] == pytest.approx(float(differences[i, j]), abs=1e-7)


# --- weights in time, dtype

@pytest.mark.parametrize("method", ["dopri5", "rk4", *STIFF])
def test_weights_jump_at_their_knots(method):
    # F = −b2 is +1, −2, +1 on thirds of [0, 3]; x0 = ½: rests at 0, rises to 2, falls to 1.
    zero = torch.zeros(1, 1, dtype=F64)
    field = di.ResNetField(zero, torch.zeros(1, dtype=F64), zero,
                           di.PiecewiseConstant(torch.tensor([[-1.0], [2.0], [-1.0]], dtype=F64), 0.0, 3.0))
    flow, lam = di.Inclusion(field, di.Orthant()), 0.02
    t = [0.0, 0.9, 1.0 + 1e-12, 2.5, 3.0]  # 1 + 1e-12 is the knot, up to rounding
    pen = di.Penalty(lam, method, step=lam / 10 if method in FIXED else None)
    x, _ = pen.integrate(flow, torch.tensor([0.5], dtype=F64), t)
    delay = lam * math.log(1.5)  # from −λ up to 0 at x' = 2 − x/λ
    expected = [0.5, -lam, -lam, 2 * (1 - delay) - 0.5, 2 * (1 - delay) - 1.0]
    assert torch.allclose(x[:, 0], torch.tensor(expected, dtype=F64), rtol=0,
                          atol=3e-4 if method in FIXED else 2e-5)  # a fixed step straddles the kink at x = 0


@pytest.mark.parametrize("method", ["dopri5", "euler", *STIFF])
def test_dtype_is_kept_and_time_is_not_rounded_to_it(method):
    flow = di.Inclusion(lambda t, x: torch.cos(t).to(x.dtype).expand_as(x), di.Orthant())
    start = 1e5  # float32 resolves 0.008 here
    x, _ = penalty(0.01, method).integrate(flow, torch.ones(2, 1), [start, start + 2.0])
    x64, _ = penalty(0.01, method).integrate(flow, torch.ones(2, 1, dtype=F64), [start, start + 2.0])
    assert x.dtype == torch.float32
    assert x64.dtype == F64
    assert torch.allclose(x.double(), x64, atol=1e-5)


def test_multiplier_is_the_penalty_force():
    flow, x0, _, _ = skorokhod()
    pen = di.Penalty(1e-4, "BDF", rtol=1e-9, atol=1e-12)
    t = torch.linspace(0.6, 1.5, 10, dtype=F64)  # in contact: the multiplier of the inclusion is −cos t
    x, _ = pen.integrate(flow, x0, [0.0, *t.tolist()])
    assert torch.allclose(pen.multiplier(flow, 0.0, x[1:])[:, 0], -torch.cos(t), atol=2e-4)
    assert not pen.multiplier(flow, 0.0, x0).any()


# --- gradients

@pytest.mark.parametrize("method", ["dopri5", "dopri8", "bosh3", "fehlberg2", "euler", "rk4"])
def test_gradients_by_backpropagation(method):
    # x' = a cos t on x >= 0 from x0 = ½, T = 2π, rests from π + asin ½ to 3π/2 and ends at a: dx(T)/da = 1,
    # dx(T)/dx0 = 0.
    a, x0 = torch.ones(1, dtype=F64, requires_grad=True), torch.full((1,), 0.5, dtype=F64, requires_grad=True)
    flow = di.Inclusion.from_velocity(lambda t, x: a * torch.cos(t), di.Orthant())
    for lam in (0.2, 0.05):
        x, _ = penalty(lam, method).integrate(flow, x0, [0.0, 2 * math.pi])
        da, dx0 = torch.autograd.grad(x[-1, 0], (a, x0))
        assert float(da) == pytest.approx(1, abs=lam)
        assert float(dx0) == pytest.approx(0, abs=lam)


@pytest.mark.parametrize("method", ["dopri5", "heun3"])
def test_gradients_against_finite_differences(method):
    generator = torch.Generator().manual_seed(2)
    A = torch.randn(2, 2, generator=generator, dtype=F64, requires_grad=True)
    x0 = torch.rand(1, 2, generator=generator, dtype=F64, requires_grad=True)
    pen = penalty(0.2, method, rtol=1e-9, atol=1e-11)

    def end(A, x0):
        flow = di.Inclusion(lambda t, x: torch.tanh(x @ A.T) + 0.3, di.Ball(1.5))
        return pen.integrate(flow, x0, [0.0, 0.5, 1.0])[0][1:]

    assert torch.autograd.gradcheck(end, (A, x0), eps=1e-6, atol=1e-4)


@pytest.mark.parametrize("method", STIFF)
def test_scipy_refuses_gradients_instead_of_losing_them(method):
    a, x0 = torch.ones(1, dtype=F64, requires_grad=True), torch.ones(1, dtype=F64)
    learned = di.Inclusion(lambda t, x: a * x, di.Orthant())
    plain = di.Inclusion(lambda t, x: x, di.Orthant())
    with pytest.raises(ValueError, match=rf"'{method}' runs in scipy .* torchdiffeq \(dopri8, dopri5,"):
        di.Penalty(0.1, method).integrate(learned, x0, [0.0, 1.0])
    with pytest.raises(ValueError, match="has no gradients"):
        di.Penalty(0.1, method).integrate(plain, x0.clone().requires_grad_(), [0.0, 1.0])
    with torch.no_grad():
        x, _ = di.Penalty(0.1, method).integrate(learned, x0, [0.0, 1.0])
    assert not x.requires_grad
    assert float(x[-1]) == pytest.approx(math.exp(-1), abs=1e-5)


# --- failures

@pytest.mark.parametrize("method", ["dopri5", "rk4", *STIFF])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_field_that_turns_bad_keeps_the_states_before(method, bad):
    def F(t, x):
        return torch.where((t > 1.5) & (torch.arange(3)[:, None] == 1), torch.full_like(x, bad), 0.1 * x)

    near = r"1\.[3-6]" if method in ("rk4", "BDF", "Radau") else r"1(\.\d+)?"  # the others take long steps here
    with pytest.raises(PenaltyError, match=rf"'{method}' .* stopped at t = {near}\d*: .* not finite") as caught:
        penalty(0.1, method).integrate(di.Inclusion(F, di.Orthant()), torch.ones(3, 2, dtype=F64), [0.0, 0.5, 1.0, 2.0])
    assert caught.value.states.shape == (3, 3, 2)
    assert torch.allclose(caught.value.states[2], torch.full((3, 2), math.exp(-0.1), dtype=F64), atol=1e-5)
    assert "sample (1,)" in str(caught.value) or method in STIFF


@pytest.mark.parametrize("method", ["dopri5", "rk4", *STIFF])
@pytest.mark.parametrize("bad", [(1,), (0, 2)])
def test_a_solve_says_for_which_sample_it_stopped(method, bad):
    who = torch.tensor([[k in bad] for k in range(3)])
    flow = di.Inclusion(lambda t, x: torch.where((t > 1.5) & who, math.nan, 0.1 * x), di.Orthant())
    x0 = torch.ones(3, 2, dtype=F64)
    sol = di.solve(flow, x0, [0.0, 0.5, 1.0, 2.0], scheme=penalty(0.1, method), throw=False)
    assert sol.status.tolist() == [1 if k in bad else 2 for k in range(3)]
    assert sol.reached.tolist() == [1.0] * 3
    assert "look at F near this time" in sol.explain(bad[0])
    assert f"not finite for sample ({bad[0]},)" in sol.explain(1 - bad[0])
    assert "all stop there" in sol.explain(1 - bad[0])
    assert ("All of them: (0,), (2,)." in sol.message) == (len(bad) == 2)


def test_a_solve_that_stops_for_another_reason_blames_no_sample():
    flow = di.Inclusion.from_velocity(lambda t, x: x**2, di.Orthant())
    sol = di.solve(flow, torch.tensor([[1.0], [0.1]], dtype=F64), [0.0, 0.5, 2.0], scheme=di.Penalty(0.1), throw=False)
    assert sol.status.tolist() == [2, 2]
    assert "underflow" in sol.explain(1)


@pytest.mark.parametrize("method", ["dopri5", "rk4", "BDF", "LSODA"])
def test_progress_is_shown_on_request(method, capsys):
    flow = di.Inclusion(lambda t, x: torch.cos(t) + x, di.Orthant())
    options = {"scheme": penalty(0.1, method)}
    plain = di.solve(flow, torch.ones(1, dtype=F64), [-1.0, 0.5, 2.0], **options)
    assert capsys.readouterr().err == ""
    shown = di.solve(flow, torch.ones(1, dtype=F64), [-1.0, 0.5, 2.0], **options, progress=True)
    assert "3.0/3.0" in capsys.readouterr().err
    assert torch.equal(shown.x, plain.x)


def test_the_progress_bar_follows_the_steps():
    seen = []

    class Bar(tqdm):
        def update(self, n=1):
            seen.append(self.n)
            self.n += n

    flow, x0 = di.Inclusion(lambda t, x: torch.cos(t) + x, di.Orthant()), torch.ones(1, dtype=F64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffincl.penalty.penalty.tqdm", Bar)
        di.Penalty(0.1).integrate(flow, x0, [1.0, 3.0])
    assert seen == sorted(seen)
    assert len({round(n, 1) for n in seen}) > 5
    assert 1.0 < max(seen) <= 2.0


def test_a_gradient_mode_that_it_does_not_have_is_refused():
    flow = di.Inclusion(lambda t, x: x, di.Orthant())
    with pytest.raises(ValueError, match=r"Penalty leaves its steps .* got gradient = 'checkpoint'\. Take 'backprop'"):
        di.solve(flow, torch.ones(1), [0.0, 1.0], scheme=di.Penalty(0.1), gradient="checkpoint")


@pytest.mark.parametrize("method", ["dopri5", "euler", *STIFF])
def test_a_field_that_is_bad_from_the_start(method):
    flow = di.Inclusion(lambda t, x: x * math.nan, di.Orthant())
    with pytest.raises(PenaltyError, match=r"stopped at t = .*F or the prox of g was not finite for sample \(\)"):
        penalty(0.1, method).integrate(flow, torch.ones(2, dtype=F64), [0.0, 1.0])


@pytest.mark.parametrize("method", ["dopri5", "rk4", "BDF"])
def test_blow_up_in_finite_time_is_an_error(method):
    flow = di.Inclusion.from_velocity(lambda t, x: x**2, di.Orthant())  # 1/(1 − t)
    with pytest.raises(PenaltyError, match="stopped at t = ") as caught:
        penalty(0.1, method).integrate(flow, torch.ones(1, dtype=F64), [0.0, 0.5, 2.0])
    assert float(caught.value.states[1]) == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize(("value", "got"), [
    (lambda x: x.sum(-1), r"shape \(2,\)"), (lambda x: x.float(), "float32"), (lambda x: None, "None")])
@pytest.mark.parametrize("method", ["dopri5", "BDF"])
def test_a_field_of_the_wrong_shape_or_dtype(method, value, got):
    flow = di.Inclusion(lambda t, x: value(x), di.Orthant())
    with pytest.raises(ValueError, match=rf"the field must return .* it returned .*{got}"):
        di.Penalty(0.1, method).integrate(flow, torch.ones(2, 3, dtype=F64), [0.0, 1.0])


class Outside(di.ConvexSet):
    """Pretends to be a set that is not convex."""

    convex = False

    def project(self, x, t=0.0):
        return x


@pytest.mark.parametrize(("flow", "x0", "t", "message"), [
    (lambda t, x: x, torch.ones(1), [0.0, 1.0], "flow must be an Inclusion"),
    (di.Inclusion(lambda t, x: x, Outside()), torch.ones(1), [0.0, 1.0], "g must be convex"),
    (di.Inclusion(lambda t, x: x, di.Orthant()), -torch.ones(1), [0.0, 1.0], "x0 must lie in C"),
    (di.Inclusion(lambda t, x: x, di.Orthant()), torch.ones(1), [1.0, 0.0], "cannot be run backward"),
    (di.Inclusion(lambda t, x: x, di.Orthant()), torch.ones(1).int(), [0.0, 1.0], "x0 must have a real floating"),
])
def test_bad_arguments_of_integrate(flow, x0, t, message):
    with pytest.raises((TypeError, ValueError), match=message):
        di.Penalty(0.1).integrate(flow, x0, t)


def test_transforms_of_functions_are_refused():
    flow = di.Inclusion(lambda t, x: x, di.Orthant())
    refused = r"cannot run inside torch\.compile, a torch\.func transform or forward mode"
    with pytest.raises(ValueError, match=refused):
        torch.func.vmap(lambda x: di.Penalty(0.1).integrate(flow, x, [0.0, 1.0])[0])(torch.ones(3, 1))
    with forward_ad.dual_level():
        x0 = forward_ad.make_dual(torch.ones(1), torch.ones(1))
        for method in ("dopri5", "BDF"):  # BDF would lose the tangent
            with pytest.raises(ValueError, match=refused):
                di.solve(flow, x0, [0.0, 1.0], scheme=di.Penalty(0.1, method))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"lam": 0.0}, "lam must be greater than 0; got 0"),
    ({"lam": -1e-3}, r"lam must be greater than 0; got -0\.001"),
    ({"lam": math.nan}, "lam must be finite; got nan"),
    ({"lam": math.inf}, "lam must be finite"),
    ({"lam": "small"}, "lam must be a real number; got 'small'"),
    ({"lam": 0.1, "method": "rk45"}, "method must be one of 'dopri8', 'dopri5', .*'euler', .*'LSODA'; got 'rk45'"),
    ({"lam": 0.1, "method": "scipy_solver"}, "method must be one of"),
    ({"lam": 0.1, "method": "explicit_adams", "step": 0.01}, "method must be one of"),
    ({"lam": 0.1, "rtol": math.nan}, "rtol must be finite"),
    ({"lam": 0.1, "rtol": -1e-3}, "rtol must be at least"),
    ({"lam": 0.1, "rtol": 0.0}, "rtol must be at least"),
    ({"lam": 0.1, "atol": math.nan}, "atol must be finite"),
    ({"lam": 0.1, "atol": 0.0}, "atol must be greater than 0"),
    ({"lam": 0.1, "atol": -1e-9}, "atol must be greater than 0"),
    ({"lam": 0.1, "method": "rk4"}, r"step must be given for 'rk4'.*Pass step = 0\.05"),
    ({"lam": 0.1, "method": "rk4", "step": -0.01}, "step must be greater than 0"),
    ({"lam": 0.1, "method": "rk4", "step": math.nan}, "step must be finite"),
    ({"lam": 0.1, "method": "euler", "step": 0.31}, r"step must be at most 3·lam = 0\.3.*got 0\.31"),
    ({"lam": 0.1, "step": 0.01}, "step is for methods with fixed steps, euler, .*with 'dopri5'"),
    ({"lam": 0.1, "method": "BDF", "step": 0.01}, "step is for methods with fixed steps"),
])
def test_bad_parameters(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        di.Penalty(**arguments)


@given(st.floats(max_value=0.0) | st.sampled_from([math.nan, math.inf, True, "1", None]))
def test_only_positive_numbers_are_parameters(value):
    for arguments in ({"lam": value}, {"lam": 0.1, "rtol": value}, {"lam": 0.1, "atol": value},
                      *([{"lam": 0.1, "method": "euler", "step": value}] if value is not None else [])):
        with pytest.raises((TypeError, ValueError), match=list(arguments)[-1]):
            di.Penalty(**arguments)
