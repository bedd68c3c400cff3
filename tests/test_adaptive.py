"""Steps chosen per sample for ProxHeun and ARS222, and the penalised ODE: through ``solve`` as a user calls them."""

import math

import exact
import pytest
import torch
from torch.autograd import forward_ad

import diffincl as di

F64 = torch.float64


def worst(problem, scheme, tol, saves=41):
    """Largest error at the save times, in units of the tolerance, and the solution."""
    flow, x0, horizon, solution = problem()
    sol = di.solve(flow, x0, torch.linspace(0, horizon, saves, dtype=F64), scheme=scheme, steps=di.Adaptive(tol, tol))
    return float((sol.x - torch.stack([solution(t) for t in sol.t.tolist()])).abs().max()) / tol, sol


@pytest.mark.parametrize("tol", [1e-4, 1e-6])
@pytest.mark.parametrize(("scheme", "problem"), [
    (di.ProxHeun(), exact.skorokhod), (di.ProxHeun(), exact.spiral), (di.ARS222(), exact.skorokhod),
    (di.ARS222(), exact.spiral), (di.ARS222(), exact.disk), (di.ARS222(), exact.elastic),
], ids=lambda v: getattr(v, "__name__", type(v).__name__))
def test_error_in_units_of_the_tolerance(scheme, problem, tol):
    error, sol = worst(problem, scheme, tol)
    assert error <= 5
    assert int(sol.stats.accepted.max()) <= 45 + 4 * tol ** (-1 / scheme.error_order)  # 40 save times


@pytest.mark.parametrize("scheme", [di.ProxHeun(), di.ARS222()], ids=lambda s: type(s).__name__)
def test_a_capture_by_a_moving_set_is_noticed(scheme):
    """F = 0 and a wall that comes from far: nothing but the displacement tells of it."""
    wall = di.Moving(di.Orthant(), shift=lambda t: torch.relu(3 * t - 2.0))
    x0 = torch.tensor([[0.5], [0.25], [9.0]], dtype=F64)
    sol = di.solve(di.Inclusion(lambda t, x: 0 * x, wall), x0, [0.0, 0.8, 0.9, 1.0], scheme=scheme,
                   steps=di.Adaptive(1e-6, 1e-6))
    expected = torch.maximum(x0, torch.relu(3 * sol.t - 2)[:, None, None])
    torch.testing.assert_close(sol.x, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize(("scheme", "tol", "factor"), [(di.ProxHeun(), 1e-4, 5), (di.ARS222(), 1e-5, 5),
                                                       (di.SwitchingDP5(), 1e-4, 5)], ids=str)
def test_no_release_is_missed_in_a_long_rest(scheme, tol, factor):
    """x' = cos(t + φ) − ¼, x >= 0: at rest the state says nothing about F, and a step over a whole period would end at
    rest again."""
    phase = torch.linspace(0, 2 * math.pi, 17, dtype=F64)[:-1].unsqueeze(-1)
    flow = di.Inclusion.from_velocity(lambda t, x: torch.cos(t + phase) - 0.25, di.Orthant())
    horizon = 8 * math.pi

    def free(t):
        return 0.5 + torch.sin(t + phase) - torch.sin(phase) - 0.25 * t

    turn = -math.acos(0.25)  # where the free path turns upward, up to periods: the last time before the end
    last = turn + 2 * math.pi * torch.floor((phase + horizon - turn) / (2 * math.pi)) - phase
    end = torch.full_like(phase, horizon)
    exact_end = free(end) + torch.relu(-torch.minimum(free(end), free(last)))
    x = di.solve(flow, torch.full_like(phase, 0.5), [0.0, horizon], scheme=scheme, steps=di.Adaptive(tol, tol)).x[-1]
    assert float((x - exact_end).abs().max()) <= factor * tol


def test_an_obstacle_is_gone_around_and_not_jumped_over():
    """Prox-regular: a trial step through the ball is refused and tried shorter, whatever the first step was."""
    obstacle = di.OutsideBall(1.0)
    flow = di.Inclusion.from_velocity(lambda t, x: torch.tensor([1.0, 0.0], dtype=F64).expand_as(x), obstacle)
    x0 = torch.tensor([-2.0, 0.1], dtype=F64)
    free = di.solve(flow, x0, [0.0, 6.0], scheme=di.ARS222(), steps=di.Adaptive(1e-6, 1e-6))
    bold = di.solve(flow, x0, [0.0, 6.0], scheme=di.ARS222(), steps=di.Adaptive(1e-6, 1e-6, first_step=4.0))
    assert float(free.x[-1, 1]) == pytest.approx(1.0, abs=1e-4)  # it leaves the ball at the top
    torch.testing.assert_close(free.x, bold.x, rtol=0, atol=1e-4)


@pytest.mark.parametrize("scheme", [di.ProxHeun(), di.ARS222()], ids=lambda s: type(s).__name__)
def test_a_sample_does_not_depend_on_its_neighbours(scheme):
    g = torch.Generator().manual_seed(0)
    A = torch.randn(3, 3, generator=g, dtype=F64)
    flow = di.Inclusion(lambda t, x: x @ A.T - torch.cos(t), di.Orthant())
    x0 = torch.rand(2, 4, 3, generator=g, dtype=F64)
    together = di.solve(flow, x0, [0.0, 0.4, 2.0], scheme=scheme, steps=di.Adaptive(1e-5, 1e-5))
    alone = di.solve(flow, x0[1, 2], [0.0, 0.4, 2.0], scheme=scheme, steps=di.Adaptive(1e-5, 1e-5))
    torch.testing.assert_close(together.x[:, 1, 2], alone.x, rtol=0, atol=1e-12)
    torch.testing.assert_close(together.multiplier[:, 1, 2], alone.multiplier, rtol=0, atol=1e-6)
    assert int(together.stats.accepted[1, 2]) == int(alone.stats.accepted)


@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
@pytest.mark.parametrize("scheme", [di.ProxHeun(), di.ARS222()], ids=lambda s: type(s).__name__)
def test_gradients_through_contact_where_adjoints_fail(scheme, gradient):
    x0 = torch.tensor([0.5], dtype=F64, requires_grad=True)
    a = torch.tensor(1.0, dtype=F64, requires_grad=True)
    flow = di.Inclusion.from_velocity(lambda t, x: a * torch.cos(t).expand_as(x), di.Orthant())
    x = di.solve(flow, x0, [0.0, 2 * math.pi], scheme=scheme, steps=di.Adaptive(1e-6, 1e-6), gradient=gradient).x[-1]
    dx0, da = torch.autograd.grad(x.sum(), (x0, a))
    assert float(dx0) == 0.0
    assert float(da) == pytest.approx(1.0, abs=1e-3)


def test_many_reflected_components_in_one_solve():
    phases = torch.linspace(0, 2 * math.pi, 4097, dtype=F64)[:-1]
    flow = di.Inclusion.from_velocity(lambda t, x: torch.cos(t + phases), di.Orthant())
    x0 = torch.full_like(phases, 0.3)
    adaptive = di.solve(flow, x0, [0.0, 6.0], scheme=di.ProxHeun(), steps=di.Adaptive(1e-5, 1e-5)).x[-1]
    fixed = di.solve(flow, x0, [0.0, 6.0], scheme=di.ProxHeun(), steps=di.Fixed(n=4000)).x[-1]
    torch.testing.assert_close(adaptive, fixed, rtol=0, atol=1e-4)


def test_many_reflected_components_with_every_switch_located():
    """The Skorokhod map: the free path less its running minimum below 0, which is at π + φ' − φ or at an end."""
    n = 512
    phases = torch.linspace(0, 2 * math.pi, n + 1, dtype=F64)[:-1]
    flow = di.Inclusion.from_velocity(lambda t, x: torch.cos(t + phases), di.Orthant())
    x0, end = torch.full_like(phases, 0.3), 6.0
    sol = di.solve(flow, x0, [0.0, end], scheme=di.SwitchingDP5(), steps=di.Adaptive(1e-5, 1e-5))
    bottom = torch.remainder(1.5 * math.pi - phases, 2 * math.pi)  # where cos(t + φ) turns positive
    path = [x0 + torch.sin(t + phases) - torch.sin(phases) for t in (bottom.clamp(max=end), torch.tensor(end))]
    expected = path[1] + torch.relu(-torch.minimum(*path))
    assert float((sol.x[-1] - expected).abs().max()) < 1e-4
    assert len(sol.switches) > n


WALL = di.Moving(di.Orthant(), shift=lambda t: torch.where(t > 0.5, 1.0, 0.0))
JUMPED = torch.tensor([[0.5], [2.0], [0.1]], dtype=F64)


@pytest.mark.parametrize("scheme", [di.ProxHeun(), di.ARS222()], ids=lambda s: type(s).__name__)
def test_adaptive_steps_report_a_set_that_jumps(scheme):
    flow = di.Inclusion(lambda t, x: 0 * x, WALL)
    with pytest.raises(di.SolveError, match=r"stopped at t = 0.5: .*moving g.*: \(0,\), \(2,\)") as caught:
        di.solve(flow, JUMPED, [0.0, 0.25, 1.0], scheme=scheme, steps=di.Adaptive(1e-6, 1e-6))
    assert caught.value.solution.status.tolist() == [5, 0, 5]
    assert caught.value.solution.x[1].tolist() == JUMPED.tolist()


def test_states_between_save_times_of_fixed_switching_steps_keep_the_step_length():
    flow, x0, horizon, solution = exact.spiral()
    sol = di.solve(flow, x0, [0.0, horizon], scheme=di.SwitchingDP5(), steps=di.Fixed(n=80))
    for t in (0.7, 2.9, 3.99):
        torch.testing.assert_close(sol(t), solution(t), rtol=0, atol=1e-7)


def test_progress_is_shown_in_time(capsys):
    flow, x0, horizon, _ = exact.spiral()
    di.solve(flow, x0, [0.0, horizon], scheme=di.SwitchingDP5(), progress=True)
    assert "100%" in capsys.readouterr().err


# The penalised ODE

def test_a_penalty_through_solve():
    flow, x0, horizon, solution = exact.skorokhod()
    t = torch.linspace(0, horizon, 13, dtype=F64)
    sol = di.solve(flow, x0, t, scheme=di.Penalty(1e-3))
    assert float((sol.x - torch.stack([solution(s) for s in t.tolist()])).abs().max()) < 2e-3  # λ‖F‖ and a tolerance
    first = -math.cos(math.pi / 4)  # at the first save while x rests at 0
    assert float(sol.multiplier.min()) == pytest.approx(first, abs=5e-3)
    assert sol.stats.evaluations > 100
    assert sol.explain() == "sample (): solved up to t = 3.14159: success"
    torch.testing.assert_close(sol(2.6), solution(2.6), rtol=0, atol=2e-2)


def test_a_penalty_that_fails_keeps_what_it_has():
    flow = di.Inclusion(lambda t, x: torch.where(t > 0.5, torch.nan, 1.0) + 0 * x, di.Orthant())
    with pytest.raises(di.SolveError) as caught:
        di.solve(flow, torch.ones(2, 1, dtype=F64), [0.0, 0.25, 1.0], scheme=di.Penalty(0.1))
    kept = caught.value.solution
    assert kept.status.tolist() == [1, 1]
    assert kept.t.tolist() == [0.0, 0.25]
    assert bool(kept.x.isfinite().all())
    assert di.solve(flow, torch.ones(1, dtype=F64), [0.0, 0.25, 1.0], scheme=di.Penalty(0.1), throw=False).message


@pytest.mark.parametrize(("call", "message"), [
    (lambda F: di.solve(di.Inclusion(F, di.Ball()), torch.zeros(2), [0.0, 1.0], scheme=di.ProxHeun(),
                        steps=di.Adaptive(1e-4, 1e-4)), r"estimate of ProxHeun is blind on curved sets.*Ball.*ARS222"),
    (lambda F: di.solve(di.Inclusion(F, di.Orthant()), torch.zeros(2), [0.0, 1.0], scheme=di.Penalty(0.1),
                        steps=di.Fixed(0.1)), "Penalty has steps of its own"),
    (lambda F: di.solve(di.Inclusion(F, di.Orthant()), torch.zeros(2), [0.0, 1.0], scheme=di.Penalty),
     "scheme must be an instance"),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(lambda t, x: x)


@pytest.mark.parametrize("scheme", [di.SwitchingDP5(), di.ARS222()], ids=lambda s: type(s).__name__)
def test_forward_mode_is_refused_where_steps_are_searched(scheme):
    flow = di.Inclusion(lambda t, x: 1 + x, di.Orthant())
    with forward_ad.dual_level():
        x0 = forward_ad.make_dual(torch.tensor([2.0], dtype=F64), torch.ones(1, dtype=F64))
        with pytest.raises(ValueError, match="forward mode"):
            di.solve(flow, x0, [0.0, 0.5], scheme=scheme, steps=di.Adaptive(1e-6, 1e-6))
