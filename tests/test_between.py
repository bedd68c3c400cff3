"""sol(t) between save times: the steps taken again, so no switch is smeared, nothing more is kept, failures show."""

import math
import pickle
from itertools import pairwise

import exact
import pytest
import torch
from catalogue import FUNCTIONS, SCHEMES, D

import diffincl as di

F64 = torch.float64
ALL = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)


def waves(t, x):
    return torch.cos(3 * t) * torch.ones_like(x) + 0.3 * x.flip(-1)


SETS = {"Orthant": di.Orthant(), "L1": di.L1(0.4), "Ball": di.Ball(2.0),
        "moving Ball": di.Moving(di.Ball(1.0), shift=lambda t: torch.stack([1 + t, 0.5 - t], -1).to(F64)
                                 if isinstance(t, torch.Tensor) and t.ndim == 0 else torch.cat([1 + t, 0.5 - t], -1)
                                 if isinstance(t, torch.Tensor) else torch.tensor([1 + t, 0.5 - t], dtype=F64))}
X0 = torch.tensor([[1.0, 0.4], [0.6, 0.1]], dtype=F64)


@ALL
@pytest.mark.parametrize("g", SETS.values(), ids=SETS)
def test_few_save_times_answer_like_many(scheme, g):
    """Within steps of other lengths in every interval."""
    flow, stops = di.Inclusion(waves, g), [0.0, 0.5, 0.55, 2.0]
    coarse = di.solve(flow, X0, stops, scheme=scheme, steps=di.Fixed(0.031))
    ends = [a + (b - a) * j / math.ceil((b - a) / 0.031) for a, b in pairwise(stops)
            for j in range(math.ceil((b - a) / 0.031))]
    fine = di.solve(flow, X0, [*ends, 2.0], scheme=scheme)
    times = torch.tensor([0.0, 1e-9, 0.0123, 0.25, 0.4999, 0.5, 0.51, 0.9, ends[30], 1.9999, 2.0], dtype=F64)
    torch.testing.assert_close(coarse(times), fine(times), rtol=0, atol=1e-13)
    assert torch.equal(coarse(coarse.t), coarse.x)
    assert torch.equal(coarse(0.9), coarse(times)[7])


def test_a_switch_is_not_smeared():
    """Saved at the ends only: a straight line between them would be off by 0.33."""
    flow = di.Inclusion(lambda t, x: torch.ones_like(x), di.Orthant())
    sol = di.solve(flow, torch.tensor([0.5], dtype=F64), [0.0, 1.5], steps=di.Fixed(n=300))
    t = torch.linspace(0, 1.5, 97, dtype=F64)
    torch.testing.assert_close(sol(t)[:, 0], torch.relu(0.5 - t), rtol=0, atol=1e-12)


@ALL
def test_between_save_times_the_order_is_that_of_straight_lines(scheme):
    flow, x0, horizon, solution = exact.spiral()
    t = torch.linspace(0, horizon, 61, dtype=F64)
    truth = torch.stack([solution(time) for time in t.tolist()])
    errors = [float((di.solve(flow, x0, [0.0, horizon], scheme=scheme, steps=di.Fixed(n=n))(t) - truth).abs().max())
              for n in (100, 400)]
    assert errors[1] < errors[0] / 3.5 ** (1 if scheme.order == 1 else 1.5)
    assert errors[1] < 0.1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_states_between_lie_in_the_domain(name):
    g = FUNCTIONS[name]
    x0 = g.prox(torch.tensor([[0.3, 0.2, 0.1], [1.5, -2.0, 0.7]], dtype=F64), 1.0, 0.0)
    flow = di.Inclusion(lambda t, x: torch.cos(torch.as_tensor(t + torch.arange(D))).to(x).expand_as(x), g)
    sol = di.solve(flow, x0, [0.0, 0.4], steps=di.Fixed(n=7))
    for time in (0.01, 0.123, 0.39):
        assert bool(torch.isfinite(g.value(sol(time), time)).all())
        torch.testing.assert_close(g.prox(sol(time), 0.0, time), sol(time), rtol=0, atol=1e-12)


def test_within_a_step_the_state_follows_a_set_on_its_way():
    """Straight lines between points of a ball on a circle would leave it by 0.03."""
    C = di.Moving(di.Ball(0.5), shift=lambda t: torch.stack([torch.cos(3 * t), torch.sin(3 * t)], -1).squeeze(-2)
                  if isinstance(t, torch.Tensor) and t.ndim else
                  torch.tensor([math.cos(3 * float(t)), math.sin(3 * float(t))], dtype=F64))
    sol = di.solve(di.Inclusion(lambda t, x: 0 * x, C), torch.tensor([0.5, 0.0], dtype=F64), [0.0, 2.0],
                   steps=di.Fixed(0.2))
    for time in (0.31, 1.1, 1.5, 1.9):
        assert bool(C.contains(sol(time), time))


def test_nothing_more_is_kept_for_it():
    sizes, field = [], di.ResNetField(*(torch.ones(*s, dtype=F64) for s in ((3, 2), (3,), (2, 3), (2,))))
    for n in (20, 20_000):
        sol = di.solve(di.Inclusion(field, di.Orthant()), X0, [0.0, 1e-3, 2e-3], steps=di.Fixed(n=n))
        sizes.append(len(pickle.dumps(sol)))
    assert abs(sizes[1] - sizes[0]) < 100


@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
@pytest.mark.parametrize("time", [0.2, 0.7])
def test_gradients_reach_through_the_steps_in_between(gradient, time):
    """Those of the same steps with a save time at every one of them."""
    found = []
    for t, steps in (([0.0, 0.5, 1.0], di.Fixed(n=60)), (torch.linspace(0, 1, 61, dtype=F64), None)):
        w = torch.tensor([0.7, -0.2], dtype=F64, requires_grad=True)
        x0 = X0.clone().requires_grad_()
        flow = di.Inclusion(lambda t, x, w=w: torch.sin(w * x.flip(-1)) + t, di.Orthant())
        y = di.solve(flow, x0, t, steps=steps, gradient=gradient)(time)
        found.append((y.detach(), *torch.autograd.grad(y.square().sum(), (x0, w))))
    for few, many in zip(*found, strict=True):
        assert bool(many.any())
        torch.testing.assert_close(few, many, rtol=0, atol=1e-12)


def test_what_was_solved_without_gradients_has_none_in_between():
    """The part since the save time would be a wrong one."""
    w = torch.ones(2, dtype=F64, requires_grad=True)
    flow = di.Inclusion(lambda t, x: w * x, di.Orthant())
    for options in ({"steps": di.Fixed(n=8)}, {"scheme": di.SwitchingDP5()}):
        with torch.no_grad():
            sol = di.solve(flow, X0, [0.0, 1.0], **options)
        assert not sol(0.6).requires_grad
        assert not sol.multiplier.requires_grad
        assert di.solve(flow, X0, [0.0, 1.0], **options)(0.6).requires_grad


def test_inside_transforms():
    flow = di.Inclusion(waves, di.Orthant())

    def at(x):
        return di.solve(flow, x, [0.0, 1.0], scheme=di.ProxHeun(), steps=di.Fixed(n=9))(0.7)

    torch.testing.assert_close(torch.func.vmap(at)(X0), at(X0), rtol=0, atol=1e-13)
    J = torch.autograd.functional.jacobian(at, X0[0])
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(jacobian(at)(X0[0]), J, rtol=0, atol=1e-13)
        torch.testing.assert_close(torch.func.vmap(jacobian(at))(X0)[0], J, rtol=0, atol=1e-13)
    H = torch.autograd.functional.hessian(lambda x: at(x)[0] ** 2, X0[0])
    torch.testing.assert_close(torch.func.hessian(lambda x: at(x)[0] ** 2)(X0[0]), H, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scheme", [di.ProxHeun(), di.ARS222(), di.SwitchingDP5()], ids=str)
def test_a_time_right_after_a_save_time(scheme, dtype):
    """Short for the rounding of its ends, as the whole interval is not."""
    flow = di.Inclusion(lambda t, x: x, di.Orthant())
    sol = di.solve(flow, X0.to(dtype), [0.0, 0.5, 1.0], scheme=scheme, steps=di.Adaptive(1e-4, 1e-4))
    for room in (1e-13, 1e-9, 1e-5, 1e-3):
        torch.testing.assert_close(sol(0.5 + room), X0.to(dtype) * math.exp(-0.5 - room), rtol=0, atol=2e-4)


# Failures

def turns_nan(t, x):
    """NaN from t = 0.5 on in samples whose first entry is above 5."""
    return torch.where((x[..., :1] > 5) & (t > 0.499), torch.nan, 0.1 * x)


@pytest.mark.parametrize("options", [{"steps": di.Fixed(n=50)}, {"steps": di.Fixed(n=300)},
                                     {"scheme": di.SwitchingDP5()}], ids=str)
def test_a_sample_that_failed_is_right_before_and_nan_after(options):
    x0 = torch.tensor([[1.0, 1.0], [9.0, 1.0]], dtype=F64)
    sol = di.solve(di.Inclusion(turns_nan, di.Orthant()), x0, [0.0, 0.2, 1.0], **options, throw=False)
    torch.testing.assert_close(sol(0.4), x0 * math.exp(-0.04), rtol=1e-3, atol=0)
    torch.testing.assert_close(sol(torch.tensor([0.1, 0.4], dtype=F64))[1], sol(0.4), rtol=1e-4, atol=0)
    assert sol(torch.tensor([0.6, 0.9], dtype=F64))[:, 1].isnan().all()
    assert not sol(torch.tensor([0.6, 0.9], dtype=F64))[:, 0].isnan().any()


def test_where_every_sample_has_failed_the_steps_end_early():
    """Taken again from t = ¼ they end after the block of steps in which they fail."""
    sol = di.solve(di.Inclusion(turns_nan, di.Orthant()), torch.tensor([9.0, 1.0], dtype=F64), [0.0, 0.25, 0.635, 1.0],
                   steps=di.Fixed(0.005), throw=False)
    assert sol.t.tolist() == [0.0, 0.25, 0.635]
    times = torch.tensor([0.49, 0.51, 0.63], dtype=F64)
    assert sol(times).isnan().all(-1).tolist() == [False, True, True]


@pytest.mark.parametrize(("scheme", "steps"), [
    (di.SwitchingDP5(), di.Adaptive(1e-6, 1e-6)), (di.ProxHeun(), di.Adaptive(1e-4, 1e-4))], ids=str)
def test_steps_that_ran_out_stay_run_out(scheme, steps):
    """Taken again from a save time the steps would be enough, but the sample had stopped before."""
    flow = di.Inclusion(lambda t, x: 10 * torch.cos(30 * t) * torch.ones_like(x) * x, di.Orthant())
    whole = di.solve(flow, X0, [0.0, 1.0, 2.0], scheme=scheme, steps=steps)
    enough = int(0.8 * int((whole.stats.accepted + whole.stats.rejected).min()))
    few = di.Adaptive(steps.rtol, steps.atol, max_steps=enough)
    sol = di.solve(flow, X0, [0.0, 1.0, 2.0], scheme=scheme, steps=few, throw=False)
    assert bool(((sol.reached > 1) & (sol.reached < 1.9)).all())
    last = float(sol.reached.max())
    assert sol(last + 0.01).isnan().all()
    torch.testing.assert_close(sol(1.05), whole(1.05), rtol=0, atol=1e-3)


@pytest.mark.parametrize("options", [{"steps": di.Fixed(n=50)}, {"scheme": di.SwitchingDP5()},
                                     {"scheme": di.ProxHeun(), "steps": di.Adaptive(1e-4, 1e-4)}], ids=str)
def test_steps_that_fail_when_taken_again_are_an_error(options):
    """The weights have changed since."""
    w = torch.ones(2, dtype=F64)
    sol = di.solve(di.Inclusion(lambda t, x: w * x, di.Orthant()), X0, [0.0, 1.0], **options)
    sol(0.3)
    w[1] = torch.nan
    with pytest.raises(di.SolveError, match=r"taken again, which failed: sample \(0,\): solved up to t = 0: the "
                                            r"field was not finite.* Ask before you change the weights\. All ") as told:
        sol(0.3)
    assert told.value.solution.status.tolist() == [1, 1]


def test_a_field_that_returns_something_else_when_asked_again():
    shape = []
    flow = di.Inclusion(lambda t, x: x[..., :1] if shape else x, di.Orthant())
    sols = [di.solve(flow, X0, [0.0, 1.0], scheme=scheme, steps=steps)
            for scheme, steps in ((None, di.Fixed(n=3)), (di.SwitchingDP5(), None))]
    shape.append(1)
    for sol in sols:
        with pytest.raises(ValueError, match="the field must return a tensor of shape"):
            sol(0.5)
