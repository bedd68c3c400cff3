"""Steps along sets that move: turned, fast and in jumps; what a scheme does not look at must not be lost."""

import math
from itertools import pairwise

import pytest
import torch
from catalogue import SCHEMES, vector

import diffincl as di

F64 = torch.float64
PHASES = torch.linspace(0, 2 * math.pi, 9, dtype=F64)[:-1].unsqueeze(-1)


def resting(t, x):
    return 0 * x


def pushed(x0, low, high, velocity, t):
    """States at the times ``t`` between the walls low(t) and high(t), from steps of 5e-4 of the exact solution."""
    grid = torch.cat([torch.linspace(float(a), float(b), 1 + math.ceil(float(b - a) / 5e-4), dtype=F64)[1:]
                      for a, b in pairwise(t)])
    states, x, before = {float(t[0]): x0}, x0, float(t[0])
    for now, floor, ceiling in zip(grid.tolist(), low(grid[:, None, None]), high(grid[:, None, None]), strict=True):
        x, before = torch.clamp(x + (now - before) * velocity, floor, ceiling), now
        states[now] = x
    return torch.stack([states[float(s)] for s in t])


TIMES = torch.tensor([0.0, 0.5, 1.7, 2.5, 5.0, 9.9, 10.0], dtype=F64)


@pytest.mark.parametrize("tol", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("scheme", [di.ProxHeun(), di.ARS222()], ids=lambda s: type(s).__name__)
def test_play_follows_every_turn(scheme, tol):
    """Exact problem 4, F = 0: at a turn nothing but the motion of C tells that x has been pushed further."""
    def u(t):
        return torch.sin(3 * t + PHASES) + 0.5 * torch.cos(1.7 * t)

    x0 = u(TIMES[0]) + 0.1
    sol = di.solve(di.Inclusion(resting, di.Moving(di.Box(-0.2, 0.2), shift=u)), x0, TIMES, scheme=scheme,
                   steps=di.Adaptive(tol, tol))
    expected = pushed(x0, lambda t: u(t) - 0.2, lambda t: u(t) + 0.2, 0.0, TIMES)
    assert float((sol.x - expected).abs().max()) <= 5 * tol
    assert int(sol.stats.accepted.max()) < 1000


@pytest.mark.parametrize("tol", [1e-4, 1e-6])
@pytest.mark.parametrize("scheme", [di.ProxHeun(), di.ARS222()], ids=lambda s: type(s).__name__)
def test_a_wall_that_swings_under_a_falling_state(scheme, tol):
    """x' = −0.1 above a wall sin(t + φ): captures and releases lie anywhere, and long free
    falls must not be stepped over."""
    t = torch.tensor([0.0, 21.3, 30.0], dtype=F64)

    def wall(s):
        return torch.sin(s + PHASES)

    flow = di.Inclusion.from_velocity(lambda t, x: 0 * x - 0.1, di.Moving(di.Orthant(), shift=wall))
    x0 = torch.ones_like(PHASES)
    sol = di.solve(flow, x0, t, scheme=scheme, steps=di.Adaptive(tol, tol))
    expected = pushed(x0, wall, lambda s: torch.full_like(wall(s), torch.inf), -0.1, t)
    assert float((sol.x - expected).abs().max()) <= 10 * tol


@pytest.mark.parametrize("scheme", [di.ProxHeun(), di.ARS222()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("build", [
    lambda u, r: di.Moving(di.Moving(di.Box(-r, r), shift=lambda t: 0.5 * u(t)), shift=lambda t: 0.5 * u(t)),
    lambda u, r: di.Product(di.Moving(di.Box(-r, r), shift=lambda t: u(t)[..., :1]),
                            di.Moving(di.Box(-r, r), shift=lambda t: u(t)[..., 1:]), sizes=(1, 2)),
], ids=["moved twice", "product"])
def test_components_turn_one_by_one_in_nests_and_products(scheme, build):
    phases, r, tol = vector(0.0, 2.0, 4.5), 0.3, 1e-6

    def u(t):
        return torch.sin(2 * t + phases)

    x0 = u(TIMES[:1]).unsqueeze(0)  # a batch of one
    sol = di.solve(di.Inclusion(resting, build(u, r)), x0, TIMES, scheme=scheme, steps=di.Adaptive(tol, tol))
    expected = pushed(x0, lambda t: u(t) - r, lambda t: u(t) + r, 0.0, TIMES)
    assert float((sol.x - expected).abs().max()) <= 5 * tol


@pytest.mark.parametrize("tol", [1e-4, 1e-6])
@pytest.mark.parametrize("scheme", [di.ProxHeun(), di.ARS222()], ids=lambda s: type(s).__name__)
def test_a_slanting_wall_turns_at_other_times_than_its_coordinates(scheme, tol):
    """n·x >= sin(3t + φ), x' = −0.7(1, 1, 1): n·v and the entries of v, the velocity of the wall relative to x, change
    sign at different times."""
    n, speed = vector(1.0, -0.5, 0.3) / vector(1.0, -0.5, 0.3).norm(), -0.7

    def wall(t):
        return torch.sin(3 * t + PHASES)

    t = torch.tensor([0.0, 1.3, 2.9], dtype=F64)
    g = di.Moving(di.HalfSpace(-n, 0.0), shift=lambda t: n * wall(t))
    x0 = g.project(torch.zeros(8, 3, dtype=F64))
    sol = di.solve(di.Inclusion.from_velocity(lambda t, x: 0 * x + speed, g), x0, t, scheme=scheme,
                   steps=di.Adaptive(tol, tol))
    height = pushed(x0 @ n.unsqueeze(-1), wall, lambda s: torch.full_like(wall(s), torch.inf), speed * n.sum(), t)
    free = x0 + speed * t[:, None, None]
    expected = free + (height - free @ n.unsqueeze(-1)) * n
    assert float((sol.x - expected).abs().max()) <= 20 * tol


@pytest.mark.parametrize("scheme", [di.ProxHeun(), di.ARS222()], ids=lambda s: type(s).__name__)
def test_a_scale_that_breathes_leaves_what_it_pressed(scheme):
    """|x| <= 1 + ½cos t, F = 0: pressed to ½ at t = π and left there, whatever the step."""
    breathing = di.Moving(di.Box(-1.0, 1.0), scale=lambda t: 1 + 0.5 * torch.cos(t))
    sol = di.solve(di.Inclusion(resting, breathing), vector(1.2, -0.9, 0.3), [0.0, 2 * math.pi, 20.0], scheme=scheme,
                   steps=di.Adaptive(1e-6, 1e-6))
    torch.testing.assert_close(sol.x[1:], vector(0.5, -0.5, 0.3).expand(2, 3), rtol=0, atol=5e-6)


def test_the_motion_of_a_set_of_ones_own_is_seen():
    class Wall(di.ConvexSet):
        moving, polyhedral, coordinatewise = True, True, True

        def project(self, x, t=0.0):
            return torch.maximum(x, torch.sin(torch.as_tensor(t, dtype=F64) + 0 * x))

    same = di.CustomProx(lambda x, h, t: torch.maximum(x, torch.sin(torch.as_tensor(t, dtype=F64) + 0 * x)))
    for scheme, g in ((di.ProxHeun(), Wall()), (di.ARS222(), Wall()), (di.ARS222(), same)):
        flow = di.Inclusion(resting, g)
        x = di.solve(flow, vector(0.0), [0.0, 9.0], scheme=scheme, steps=di.Adaptive(1e-6, 1e-6)).x[-1]
        assert float(x) == pytest.approx(1.0, abs=5e-6)


SHIFTS = {
    "one jump": lambda t: torch.where(t > 0.512, 1.0, 0.0),
    "two jumps": lambda t: torch.where(t > 0.1, 1.0, 0.0) + torch.where(t > 0.6, 1.0, 0.0),
    "two jumps in one step": lambda t: torch.where(t > 0.513, 0.25, 0.0) + torch.where(t > 0.58, 0.75, 0.0),
    "jump and drift": lambda t: torch.where(t > 0.103, 0.5, 0.0) + 0.5 * t,
    "there and back": lambda t: torch.where(t > 0.05, 1.0, 0.0) - torch.where(t > 0.9, 1.0, 0.0),
    "steep": lambda t: 0.5 + 0.5 * torch.tanh(1e4 * (t - 0.5)),
    "less steep": lambda t: torch.sigmoid(1e2 * (t - 0.512)),
}


@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS)
@pytest.mark.parametrize("name", SCHEMES)
def test_fixed_steps_go_where_a_jumping_set_pushes(name, shift):
    """The nearest point of the new set and no further: ARS222 would be thrown ahead by √2 times the jump and stay."""
    flow = di.Inclusion(resting, di.Moving(di.Orthant(), shift=shift))
    x0 = vector(0.5, 1.7, 0.1).unsqueeze(-1)
    sol = di.solve(flow, x0, torch.linspace(0, 1, 11, dtype=F64), scheme=SCHEMES[name])
    highest = max(float(shift(t)) for t in sol.t)
    torch.testing.assert_close(sol.x[-1], x0.clamp(min=highest), rtol=0, atol=1e-9)


def test_smooth_motion_is_carried_on_at_order_2():
    """A disk that swings carries a point along its edge: were every step one of Euler, the order would be 1."""
    disk = di.Moving(di.Ball(), shift=lambda t: torch.stack([torch.sin(t), 0 * t], -1))
    flow = di.Inclusion.from_velocity(lambda t, x: vector(0.0, 1.0).expand_as(x), disk)
    x0 = vector(0.6, 0.8)
    ends = [di.solve(flow, x0, [0.0, 1.0], scheme=di.ARS222(), steps=di.Fixed(n=n)).x[-1]
            for n in (40, 80, 160, 320, 2560)]
    errors = [float((x - ends[-1]).norm()) for x in ends[:-1]]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert sum(orders) / 3 > 1.85, orders


@pytest.mark.parametrize("steps", [di.Fixed(n=3000), di.Adaptive(1e-6, 1e-6)], ids=["fixed", "adaptive"])
def test_dry_friction_on_a_belt_that_turns(steps):
    """x' in −0.8 sign(x − sin 3t): slips, sticks and turns; here a multiplier counts by the time it acts."""
    def belt(t):
        return math.sin(3 * t)

    state, n, times = 0.3, 200_000, [0.0, 0.3, 0.6, 1.0, 2.0, 2.65]
    expected, h = [state], times[-1] / n
    for k in range(n):  # catching-up, which is exact but for the time of the turns
        away = state - belt((k + 1) * h)
        state = belt((k + 1) * h) + math.copysign(max(abs(away) - 0.8 * h, 0.0), away)
        if len(expected) < len(times) and (k + 1) * h >= times[len(expected)] - h / 2:
            expected.append(state)
    flow = di.Inclusion(resting, di.Moving(di.L1(0.8), shift=lambda t: torch.sin(3 * t)))
    sol = di.solve(flow, vector(0.3), times, scheme=di.ARS222(), steps=steps)
    torch.testing.assert_close(sol.x[:, 0], vector(*expected), rtol=0, atol=2e-3 if steps == di.Fixed(n=3000) else 4e-5)


def test_the_jerk_of_a_set_does_not_depend_on_the_state():
    """Else two states of one flow would take different steps, and the factor of the scheme would not hold."""
    g = di.Moving(di.Box(-1.0, 1.0), shift=lambda t: torch.where(t > 0.1, 0.2, 0.0), scale=lambda t: 1 + t)
    jerks = di.ARS222()._jerks(g, *torch.tensor([0.0, 0.3, 1.0], dtype=F64), 5 * torch.randn(20, 3, dtype=F64))
    assert bool(jerks.all())


def test_times_too_far_from_zero_for_the_dtype_are_refused():
    flow = di.Inclusion(lambda t, x: torch.cos(t) * torch.ones_like(x), di.Orthant())
    t = [1e6, 1e6 + 1]
    with pytest.raises(ValueError, match=r"too far from 0 for times in float32.*by 0.06, more than rtol = 1e-06 of"):
        di.solve(flow, torch.ones(1), t, scheme=di.ProxHeun(), steps=di.Adaptive(1e-6, 1e-4))
    exact = 1 - math.sin(t[1]) + math.sin(t[0])
    x = di.solve(flow, torch.ones(1, dtype=F64), t, scheme=di.ProxHeun(), steps=di.Adaptive(1e-6, 1e-6)).x[-1]
    assert float(x) == pytest.approx(exact, abs=1e-5)
