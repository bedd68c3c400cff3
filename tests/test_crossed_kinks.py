"""Adaptive steps across the kinks of ℓ1: crossings and stickings of all phases, none beyond 20 tolerances."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import diffincl as di

F64 = torch.float64
TOLERANCES = pytest.mark.parametrize("tol", [1e-3, 1e-5, 1e-7])


def worst(flow, x0, horizon, truth, tol):
    sol = di.solve(flow, x0, [0.0, horizon], scheme=di.ARS222(), steps=di.Adaptive(tol, tol))
    return float((sol.x[-1] - truth).abs().max()) / tol, sol


@TOLERANCES
def test_crossings_at_256_phases_of_the_step(tol):
    """x' ∈ −½∂|x| − 1: x0 − 3t/2, −½ beyond the kink. Halved steps see as little of it as whole ones."""
    x0 = torch.linspace(0.01, 1.9, 256, dtype=F64).unsqueeze(-1)
    error, sol = worst(di.Inclusion(lambda t, x: torch.ones_like(x), di.L1(0.5)), x0, 2.0, -0.5 * (2 - x0 / 1.5), tol)
    assert error <= 1
    assert sol.stats.evaluations < 1000


@TOLERANCES
@pytest.mark.parametrize("g", [di.ElasticNet(0.5, 0.0), di.GroupL2([[0]], 0.5), di.Product(di.L1(0.5), sizes=(1,)),
                               di.CustomProx(di.L1(0.5).prox, kink_sides=lambda x: x.sign()),
                               di.Moving(di.L1(0.5), shift=lambda t: 0.0 * t)], ids=repr)
def test_every_function_that_tells_its_kinks(g, tol):
    x0 = torch.linspace(0.01, 1.9, 32, dtype=F64).unsqueeze(-1)
    assert worst(di.Inclusion(lambda t, x: torch.ones_like(x), g), x0, 2.0, -0.5 * (2 - x0 / 1.5), tol)[0] <= 1


def located(v, weight, x, horizon):
    """x_i' ∈ v_i(t, x) − weight·∂|x_i| from one crossing, sticking or leaving to the next, by scipy."""
    t, mode = 0.0, np.sign(x)  # 0: sticks
    while True:
        def slope(s, y, mode=mode):
            return np.where(mode == 0, 0.0, v(s, y) - weight * mode)

        def event(i, mode=mode):
            def found(s, y):
                return y[i] if mode[i] else weight - abs(v(s, y)[i])
            found.terminal, found.direction = True, -mode[i] if mode[i] else -1
            return found

        sol = solve_ivp(slope, (t, horizon), x, method="DOP853", rtol=1e-12, atol=1e-13, max_step=0.05,
                        events=[event(i) for i in range(len(x))])
        t, x = sol.t[-1], sol.y[:, -1].copy()
        if sol.status == 0:
            return x
        here = np.array([len(times) > 0 for times in sol.t_events])
        x[here] = 0.0
        force = v(t, x)
        holds = (abs(force) <= weight) & (mode != 0)
        mode = np.where(here, np.where(holds, 0, np.sign(force)), mode)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_crossing_sticking_and_leaving_at_random_phases(d):
    """Driven up and down, coupled: 96 samples with several events each."""
    g = torch.Generator().manual_seed(d)
    phase, x0 = 2 * math.pi * torch.rand(96, d, generator=g, dtype=F64), torch.rand(96, d, generator=g, dtype=F64)
    K = 0.5 * torch.randn(d, d, generator=g, dtype=F64) - 0.5 * torch.eye(d, dtype=F64)
    truth = torch.tensor(np.stack([
        located(lambda t, x, p=p: 1.5 * np.cos(2 * t + p) + K.numpy() @ x, 0.4, start, 4.0)
        for p, start in zip(phase.numpy(), x0.numpy(), strict=True)]))
    flow = di.Inclusion.from_velocity(lambda t, x: 1.5 * torch.cos(2 * t + phase) + x @ K.T, di.L1(0.4))
    for tol in (1e-3, 1e-5, 1e-7):
        assert worst(flow, x0, 4.0, truth, tol)[0] <= 20
