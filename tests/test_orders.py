"""Schemes against exact solutions: the table of orders, problems without error, and what no fixed step can do."""

import math
from itertools import pairwise

import exact
import pytest
import torch
from catalogue import EXPLICIT, SCHEMES

import diffincl as di

F64 = torch.float64
CURVED = {"ProxHeun": 1, "Trapezoid": 1}

# Theory §6, one row a regime: the problem, over how many phases of the contact within its step to average, and the
# schemes of order 2 that lose it there.
REGIMES = {
    "interior": (exact.decay, 1, {}),
    "face": (exact.face, 1, {}),
    "hit, leave": (exact.skorokhod, 10, {}),
    "two hits, two leaves": (exact.spiral, 4, {}),
    "moving box": (exact.moving_box, 10, {}),
    "moving half plane": (exact.moving_half_plane, 6, {}),
    "curved set": (exact.disk, 10, CURVED),
    "moving curved set": (exact.shrinking_disk, 1, CURVED),
    "curved g, no indicator": (exact.radial, 1, CURVED),
    # ℓ1 is no indicator but polyhedral: its prox is a shift while the sign stays, and nothing is lost.
    "polyhedral g, no indicator": (exact.elastic, 1, {}),
}


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("regime", REGIMES)
def test_the_table_of_orders(name, regime):
    problem, phases, exceptions = REGIMES[regime]
    scheme = SCHEMES[name]
    order = exceptions.get(name, scheme.order)
    numbers = (100, 400) if name in EXPLICIT else (25, 100)
    phases = phases if order == 2 else min(phases, 3)
    assert exact.observed_order(problem, scheme, numbers, phases) == pytest.approx(order, abs=0.15)


def projected_heun(problem, n):
    """Heun's step of −F with the prox after it only, the usual advice: the largest error over time."""
    flow, x, horizon, solution = problem()
    t = torch.linspace(0, horizon, n + 1, dtype=F64)
    worst = 0.0
    for a, b in pairwise(t):
        k = flow.field(a, x)
        x = flow.g.prox(x - 0.5 * (b - a) * (k + flow.field(b, x - (b - a) * k)), float(b - a), b)
        worst = max(worst, float((x - solution(float(b))).abs().max()))
    return worst


@pytest.mark.parametrize(("problem", "order"), [
    (exact.decay, 2), (exact.face, 1), (exact.spiral, 1), (exact.moving_half_plane, 1), (exact.disk, 1),
    (exact.radial, 1), (exact.elastic, 1), (exact.crossing, 1)], ids=lambda p: getattr(p, "__name__", str(p)))
def test_projecting_after_the_step_only_loses_the_order(problem, order):
    few, many = (max(projected_heun(problem, n + k) for k in range(8)) for n in (100, 400))
    assert math.log(few / many) / math.log(407 / 107) == pytest.approx(order, abs=0.25)


def test_trapezoid_between_the_two_is_of_order_one():
    assert exact.observed_order(exact.decay, di.Trapezoid(0.75), (25, 100)) == pytest.approx(1.0, abs=0.1)
    assert di.Trapezoid(0.75).order == 1
    x, y = (di.solve(exact.spiral()[0], exact.spiral()[1], torch.linspace(0, 4, 41), scheme=s).x
            for s in (di.Trapezoid(1.0), di.ImplicitEuler()))
    torch.testing.assert_close(x, y)


@pytest.mark.parametrize("problem", [exact.half_line, exact.norm_flow, exact.l1_flow, exact.moving_half_space,
                                     exact.linear_cost, exact.two_blocks], ids=lambda p: p.__name__)
@pytest.mark.parametrize("n", [1, 7, 40])
def test_catching_up_reproduces_flows_of_constant_speed(problem, n):
    """Problems 1, 5, 11, 13 and 14: no error but rounding, whatever the step."""
    assert exact.sup_error(problem, di.ForwardEuler(), n) < 1e-14 * (1 + n)


def test_the_play_operator_is_exact_but_for_missed_turning_points():
    """Problem 4: catching-up is the operator on u sampled at the grid, so only a peak between two times is lost, O(h²).

    So with F = 0 even a scheme of order 1 shows 2 here.
    """
    assert exact.sup_error(exact.play, di.ForwardEuler(), 100) < 1e-14  # the peaks T/5, 3T/5 are on the grid
    for scheme in (di.ForwardEuler(), di.ProxHeun(), di.ARS222()):
        assert exact.observed_order(exact.play, scheme, (100, 400), 10) == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize("name", SCHEMES)
def test_crossing_a_kink_of_l1_leaves_order_one(name):
    numbers, phases = ((100, 500) if name in EXPLICIT else (30, 120)), 6
    assert exact.observed_order(exact.crossing, SCHEMES[name], numbers, phases) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("n", [15, 40])
def test_crossing_a_kink_of_l1_gives_a_wrong_sensitivity(name, n):
    """x' ∈ −½∂|x| − 1: slopes −3/2 and −½, so dx(T)/dx0 = (1/2)/(3/2) = 1/3; through the steps it is 0 or 1."""
    flow, x0, horizon, _ = exact.crossing()
    x0 = x0.requires_grad_()
    with pytest.warns(di.KinkWarning, match="crosses a kink"):
        end = di.solve(flow, x0, torch.linspace(0, horizon, n + 1, dtype=F64), scheme=SCHEMES[name]).x[-1]
    seen = float(torch.autograd.grad(end.sum(), x0)[0])
    assert min(abs(seen), abs(seen - 1)) < 1e-12


def test_ars222_has_a_transient_of_first_size_where_dry_friction_sticks():
    """One step long: the largest error of all is of order 1, that after the instant of sticking of order 2 or less."""
    flow, x0, horizon, solution = exact.friction()
    stick = math.log(1 + 1.5 / 0.8) / 1.5
    errors = {}
    for n in (100, 400):
        for k in range(10):
            sol = di.solve(flow, x0, torch.linspace(0, horizon, n + k + 1, dtype=F64), scheme=di.ARS222())
            e = (sol.x - torch.stack([solution(t) for t in sol.t.tolist()])).abs()[:, 0]
            away = (sol.t < stick) | (sol.t > stick + 3 * horizon / n)
            errors.setdefault(n, []).append([float(e.max()), float(e[away].max())])
    whole, away = (math.log(max(e[i] for e in errors[100]) / max(e[i] for e in errors[400])) / math.log(409 / 109)
                   for i in range(2))
    assert whole == pytest.approx(1.0, abs=0.3)
    assert away == pytest.approx(2.0, abs=0.15)
    assert exact.observed_order(exact.friction, di.ProxHeun(), (100, 400)) == pytest.approx(2.0, abs=0.15)


def test_the_knee():
    """x' = 1e6 (1 − t − x)x on x >= 0: follows 1 − t, then the edge; explicit schemes would need h < 1e-6."""
    flow = di.Inclusion(lambda t, x: -1e6 * (1 - t - x) * x, di.Orthant())
    x0 = torch.ones(1, dtype=F64)
    sol = di.solve(flow, x0, torch.linspace(0, 2, 101, dtype=F64), scheme=di.ImplicitEuler())
    assert float(sol.x.min()) >= 0.0
    assert float(sol.x[-1]) < 1e-4
    assert float((sol.x[:41, 0] - (1 - sol.t[:41])).abs().max()) < 1e-4


@pytest.mark.parametrize("name", SCHEMES)
def test_decay_to_the_edge_that_must_not_turn_negative(name):
    """x' = −|x|: below zero the solution of the equation alone would leave for −∞; on the orthant it cannot."""
    flow, x0 = di.Inclusion(lambda t, x: x.abs(), di.Orthant()), torch.ones(1, dtype=F64)
    sol = di.solve(flow, x0, torch.linspace(0, 40, 81, dtype=F64), scheme=SCHEMES[name])
    assert float(sol.x.min()) >= 0.0
    assert float(sol.x[-1]) < 1e-6
    assert float((sol.x[:, 0] - (-sol.t).exp()).abs().max()) < (0.12 if SCHEMES[name].order == 1 else 0.03)


def test_orders_with_jumping_and_with_linear_weights():
    gen = torch.Generator().manual_seed(3)
    for kind in (di.PiecewiseConstant, di.PiecewiseLinear):
        A, b1, b2 = (kind(torch.randn(4, *s, generator=gen, dtype=F64)) for s in ((3, 2), (3,), (2,)))
        flow, x0 = di.Inclusion(di.ResNetSField(A, b1, b2), di.Orthant()), torch.tensor([1.0, 0.5], dtype=F64)

        def end(n, flow=flow, x0=x0):
            return di.solve(flow, x0, [0.0, 1.0], scheme=di.ProxHeun(), steps=di.Fixed(n=n)).x[-1]

        reference = end(6000)
        errors = [float((end(n) - reference).abs().max()) for n in (60, 120, 240, 480)]
        order = math.log2(errors[0] / errors[-1]) / 3
        assert order == pytest.approx(2.0, abs=0.25)
