"""Samples that have arrived leave a solve whose F is a library field; nothing but the time it takes may tell."""

import math

import pytest
import torch

import diffincl as di
from diffincl.fields import Pieces
from diffincl.solve import march

F64 = torch.float64
DP5, EXACT = di.SwitchingDP5(), di.ExactFlow()
SCHEMES = pytest.mark.parametrize("scheme", [DP5, EXACT], ids=lambda s: s.name)
N = 80


def weights(*ensemble, layers=None, d=3, m=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = ((m, d), (m,), (d, m), (d,))
    return [1.3 * torch.randn(*(() if layers is None else (layers,)), *ensemble, *shape, generator=g, dtype=F64)
            for shape in shapes]


def starts(*batch, d=3, seed=1):
    """From 0.01 to 10: near ones take few steps, far ones many."""
    g = torch.Generator().manual_seed(seed)
    size = torch.logspace(-2, 1, math.prod(batch), dtype=F64)[torch.randperm(math.prod(batch), generator=g)]
    return torch.rand(*batch, d, generator=g, dtype=F64) * size.reshape(*batch, 1)


def flow_of(w, C=None, field=di.ResNetField, curve=di.PiecewiseConstant):
    return di.Inclusion(field(*(curve(v) for v in w)), C or di.Orthant())


def together_and_apart(monkeypatch, solve):
    """The same solve with and without leaving."""
    left = solve()
    monkeypatch.setattr(march, "LEAVE", -1.0)
    return left, solve()


@pytest.fixture
def sizes(monkeypatch):
    """Numbers of samples that preactivations were taken of."""
    seen, original = [], Pieces.preactivation

    def counted(self, t, x):
        seen.append(x.shape[:-1].numel())
        return original(self, t, x)

    monkeypatch.setattr(Pieces, "preactivation", counted)
    return seen


def same_solution(a, b, rtol=0.0, atol=1e-10):
    torch.testing.assert_close(a.x, b.x, rtol=rtol, atol=atol, equal_nan=True)
    torch.testing.assert_close(a.multiplier, b.multiplier, rtol=rtol, atol=1e-7, equal_nan=True)
    torch.testing.assert_close(a.reached, b.reached, rtol=0, atol=1e-9)
    assert torch.equal(a.status, b.status)
    assert torch.equal(a.switches.sample, b.switches.sample)
    assert torch.equal(a.switches.index, b.switches.index)
    assert torch.equal(a.switches.kind, b.switches.kind)
    torch.testing.assert_close(a.switches.t, b.switches.t, rtol=0, atol=1e-8)
    assert torch.equal(a.stats.accepted, b.stats.accepted)
    assert torch.equal(a.stats.rejected, b.stats.rejected)
    assert (a.stats.steps, a.stats.evaluations) == (b.stats.steps, b.stats.evaluations)


@SCHEMES
def test_nothing_but_the_work_changes(monkeypatch, scheme, sizes):
    """Two batch dimensions, knots, save times within steps; states, multipliers, switches in their order, stats."""
    flow, x0, t = flow_of(weights(layers=3)), starts(4, N // 4), torch.linspace(0, 1, 6, dtype=F64)
    left, all_ = together_and_apart(monkeypatch, lambda: di.solve(flow, x0, t, scheme=scheme))
    assert min(sizes) <= N / 4
    assert set(sizes[-all_.stats.evaluations:]) <= {N, N * 5, N * 21}
    assert len(left.switches) > N
    same_solution(left, all_)
    torch.testing.assert_close(left(0.33), all_(0.33), rtol=0, atol=1e-10)


@SCHEMES
def test_every_sample_is_the_one_solved_alone(scheme):
    flow, x0 = flow_of(weights(layers=2)), starts(N)
    together = di.solve(flow, x0, [0.0, 0.3, 1.0], scheme=scheme)
    for i in (0, 17, 42, N - 1):
        alone = di.solve(flow, x0[i], [0.0, 0.3, 1.0], scheme=scheme)
        torch.testing.assert_close(together.x[:, i], alone.x, rtol=0, atol=1e-11)
        assert [s[1:] for s in together.switches.of(i)] == [s[1:] for s in alone.switches.of()]
        times = [[s.t for s in switches] for switches in (together.switches.of(i), alone.switches.of())]
        assert times[0] == pytest.approx(times[1], abs=1e-9)
        assert times[0] == sorted(times[0])
        assert int(together.stats.accepted[i]) == int(alone.stats.accepted)


@SCHEMES
@pytest.mark.parametrize("batch", [(8, 10), (2, 4, 10), (2, 20, 3)], ids=str)
def test_of_an_ensemble_networks_leave_with_all_of_their_samples(monkeypatch, scheme, batch, sizes):
    ensemble = batch[:-1]
    w = [v * torch.logspace(-2, 0, math.prod(ensemble), dtype=F64).reshape(*ensemble, *[1] * k)
         for v, k in zip(weights(*ensemble), (2, 1, 2, 1), strict=True)]
    flow, x0 = di.Inclusion(di.ResNetField(*w), di.Box(0.0, 2.0)), starts(*batch).clamp(max=2.0)
    left, all_ = together_and_apart(monkeypatch, lambda: di.solve(flow, x0, [0.0, 0.4, 1.0], scheme=scheme))
    assert min(sizes) < math.prod(batch)
    same_solution(left, all_)


def test_an_ensemble_with_weights_linear_in_time(monkeypatch, sizes):
    w = [v * torch.logspace(-2, 0, 8, dtype=F64).reshape(8, *[1] * k)
         for v, k in zip(weights(8, layers=3), (2, 1, 2, 1), strict=True)]
    flow = flow_of(w, curve=di.PiecewiseLinear)
    left, all_ = together_and_apart(monkeypatch, lambda: di.solve(flow, starts(8, 10), [0.0, 1.0], scheme=DP5))
    assert min(sizes) < 80
    same_solution(left, all_)


def test_a_sample_that_fails_leaves_with_its_status_and_the_others_go_on(monkeypatch, sizes):
    """Half of the samples grow beyond all bounds; x' = 60 x overflows to what no step can bear."""
    A = torch.diag(torch.tensor([-60.0, 1.0], dtype=F64))
    eye, zero = torch.eye(2, dtype=F64), torch.zeros(2, dtype=F64)
    flow = di.Inclusion(di.ResNetField(eye, zero, A, zero), di.Orthant())
    x0 = torch.ones(N, 2, dtype=F64)
    x0[::2, 0] = 0.0
    steps = di.Adaptive(1e-6, 1e-6, max_steps=60)
    left, all_ = together_and_apart(monkeypatch, lambda: di.solve(flow, x0, [0.0, 0.01, 8.0], scheme=DP5, steps=steps,
                                                                  throw=False))
    assert min(sizes) <= N / 2
    assert left.status.tolist() == [0, 4] * (N // 2)
    assert bool(left.x[2, 1::2].isnan().all())
    torch.testing.assert_close(left.x[2, ::2, 1], torch.full((N // 2,), math.exp(-8), dtype=F64), rtol=0, atol=1e-5)
    same_solution(left, all_)
    assert left.message == all_.message


@SCHEMES
@pytest.mark.parametrize("ensemble", [(), (8,)], ids=str)
@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
def test_gradients_where_samples_arrive_at_different_rounds(monkeypatch, scheme, ensemble, gradient, sizes):
    """In start, weights and bounds; with a knot, and save times within the steps."""
    w = weights(*ensemble, layers=2)
    if ensemble:
        w = [v * torch.logspace(-1, 0, 8, dtype=F64).reshape(8, *[1] * k) for v, k in zip(w, (2, 1, 2, 1), strict=True)]
    x0 = starts(*ensemble, N // math.prod(ensemble)).clamp(max=2.0)
    c = torch.randn(2, *x0.shape, generator=torch.Generator().manual_seed(2), dtype=F64)

    def gradients():
        inputs = [v.clone().requires_grad_() for v in (x0, torch.full((3,), 2.5, dtype=F64), *w)]
        sol = di.solve(flow_of(inputs[2:], di.Box(0.0, inputs[1])), inputs[0], [0.0, 0.37, 1.0], scheme=scheme,
                       gradient=gradient)
        return torch.autograd.grad((c * sol.x[1:]).sum() + (c * sol.multiplier).sum(), inputs)

    left, all_ = together_and_apart(monkeypatch, gradients)
    assert min(sizes) < N
    for a, b in zip(left, all_, strict=True):
        assert float(b.abs().max()) > 0
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)


def test_who_stays():
    """Callables, bounds of each sample's own, and ensembles without their pieces are evaluated with the whole batch."""
    seen = []

    def F(t, x):
        seen.append(x.shape)
        return torch.stack([torch.cos(3 * x[..., 0]), x[..., 1] - 1, x[..., 2]], -1)

    x0 = starts(N)
    di.solve(di.Inclusion(F, di.Orthant()), x0, [0.0, 1.0], scheme=DP5)
    assert set(seen) == {x0.shape}
    upper = x0 + torch.rand(N, 3, generator=torch.Generator().manual_seed(3), dtype=F64)
    flow = di.Inclusion(di.ResNetField(*weights()), di.Box(0.0, upper))
    sol = di.solve(flow, x0, [0.0, 0.2, 1.0], scheme=DP5)
    assert bool((sol.x <= upper).all())
    own = di.Inclusion(di.ResNetField(*weights()), di.Box(0.0, upper[5]))
    torch.testing.assert_close(sol.x[:, 5], di.solve(own, x0[5], [0.0, 0.2, 1.0], scheme=DP5).x, rtol=0, atol=1e-11)
    smooth = di.SwitchingDP5(kinks=False)
    flow, x0 = di.Inclusion(di.ResNetField(*weights(8)), di.Orthant()), starts(8, 10)
    sol = di.solve(flow, x0, [0.0, 1.0], scheme=smooth)
    alone = di.Inclusion(di.ResNetField(*(v[3] for v in weights(8))), di.Orthant())
    torch.testing.assert_close(sol.x[:, 3], di.solve(alone, x0[3], [0.0, 1.0], scheme=smooth).x,
                               rtol=1e-5, atol=1e-6)  # unseen kinks make steps differ, as the tolerance allows


def test_a_field_without_pieces_is_evaluated_with_few(monkeypatch, sizes):
    flow, x0 = di.Inclusion(di.ResNetField(*weights()), di.Orthant()), starts(N)
    scheme = di.SwitchingDP5(kinks=False)
    left, all_ = together_and_apart(monkeypatch, lambda: di.solve(flow, x0, [0.0, 1.0], scheme=scheme))
    same_solution(left, all_)
