"""The loop and what it returns: saving, failures, gradients, interpolation, residual, bad input."""

import dataclasses
import math
import pickle
from itertools import pairwise

import exact
import numpy as np
import pytest
import torch
from catalogue import SCHEMES
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import diffincl as di

F64 = torch.float64


def rotation(t, x):
    return torch.stack([x[..., 1], -x[..., 0]], -1)


FLOW = di.Inclusion(rotation, di.Orthant())
X0 = torch.tensor([[1.0, 0.5], [0.2, 2.0]], dtype=F64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [(), (1,), (3, 2)])
def test_shapes_and_dtypes(dtype, batch):
    x0 = torch.rand(*batch, 2, dtype=dtype)
    sol = di.solve(FLOW, x0, torch.linspace(0, 1, 8, dtype=torch.float32))
    assert sol.t.dtype == F64
    assert sol.x.shape == (8, *batch, 2)
    assert sol.x.dtype == dtype
    assert sol.multiplier.shape == (7, *batch, 2)
    assert sol.status.shape == batch
    assert sol.residual().shape == (7, *batch)
    assert torch.equal(sol.x[0], x0)
    assert sol.success
    assert sol.message == "success: 7 steps"
    assert sol.stats.steps == sol.stats.evaluations == 7


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_save_times_do_not_change_the_steps(scheme):
    fine = di.solve(FLOW, X0, torch.linspace(0, 1, 201, dtype=F64), scheme=scheme)
    coarse = di.solve(FLOW, X0, torch.linspace(0, 1, 5, dtype=F64), scheme=scheme, steps=di.Fixed(n=200))
    torch.testing.assert_close(coarse.x, fine.x[::50], rtol=0, atol=1e-12)
    torch.testing.assert_close(coarse.multiplier, fine.multiplier[49::50], rtol=0, atol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_the_multiplier_is_the_missing_force(scheme):
    """On the disk −x' = n + F: the multiplier balances the stream, n = cos(p)·(outward normal)."""
    flow, x0, horizon, _ = exact.disk()
    sol = di.solve(flow, x0, torch.linspace(0, horizon, 601, dtype=F64), scheme=scheme)
    late = sol.t[1:] > 1.4
    expected = (sol.x[1:, :1] * sol.x[1:])[late]
    torch.testing.assert_close(sol.multiplier[late], expected, rtol=0, atol=1e-2)
    assert bool((sol.multiplier[sol.t[1:] < 1.29] == 0).all())


def test_residual_falls_with_the_spacing_of_an_exact_solution():
    flow, x0, horizon, solution = exact.spiral()
    def largest(n):
        t = torch.linspace(0, horizon, n + 1, dtype=F64)
        sol = di.solve(flow, x0, t, scheme=di.ProxHeun(), steps=di.Fixed(n=8000))
        return float(sol.residual().quantile(0.8)), sol

    coarse, _ = largest(100)
    fine, sol = largest(400)
    assert fine < 0.3 * coarse
    for time in (0.7, 1.2, 1.9, 3.3):
        torch.testing.assert_close(sol(time), solution(time), rtol=0, atol=1e-4)
    wrong = dataclasses.replace(sol, x=sol.x * 1.1)
    assert float(wrong.residual().quantile(0.8)) > 0.05


def test_interpolant_stays_in_the_set_and_meets_the_states():
    flow = di.Inclusion(rotation, di.Ball())
    sol = di.solve(flow, torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=F64), [0.0, 0.5, 2.0])
    times = torch.linspace(0, 2, 33, dtype=F64)
    assert bool(flow.g.contains(sol(times)).all())
    assert torch.equal(sol(sol.t), sol.x)
    assert sol(0.25).shape == (2, 2)
    with pytest.raises(ValueError, match=r"t must lie in the solved interval \[0.0, 2.0\]; got 2.1"):
        sol(2.1)


def test_checkpointing_gives_the_same_gradients():
    gen = torch.Generator().manual_seed(0)
    w = [torch.nn.Parameter(torch.randn(*s, generator=gen, dtype=F64)) for s in ((5, 2), (5,), (2, 5), (2,))]
    flow = di.Inclusion(di.ResNetField(*w), di.Orthant())
    results = []
    for gradient in ("backprop", "checkpoint"):
        x0 = X0.clone().requires_grad_()
        sol = di.solve(flow, x0, torch.linspace(0, 1, 4), steps=di.Fixed(n=300), gradient=gradient)
        results.append((sol.x.detach(), torch.autograd.grad(sol.x.square().sum(), [x0, *w])))
    assert torch.equal(results[0][0], results[1][0])
    for a, b in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(a, b)


def test_the_derivative_through_contact_where_adjoints_fail():
    """x' = a cos t on x >= 0, T = 2π: exact dx(T)/dx0 = 0 and dx(T)/da = 1."""
    x0 = torch.tensor([0.5], dtype=F64, requires_grad=True)
    a = torch.tensor(1.0, dtype=F64, requires_grad=True)
    flow = di.Inclusion.from_velocity(lambda t, x: a * torch.cos(t).expand_as(x), di.Orthant())
    sol = di.solve(flow, x0, [0.0, 2 * torch.pi], scheme=di.ProxHeun(), steps=di.Fixed(n=1000))
    dx0, da = torch.autograd.grad(sol.x[-1].sum(), (x0, a))
    assert float(dx0) == 0.0
    assert float(da) == pytest.approx(1.0, abs=1e-4)


def turns_nan(t, x):
    """NaN from t = ½ on in samples whose first entry is above 5."""
    return torch.where((x[..., :1] > 5) & (t > 0.499), torch.nan, 0.1 * x)


@pytest.mark.parametrize("n", [10, 300])
def test_a_field_that_turns_nan_keeps_the_partial_solution(n):
    flow = di.Inclusion(turns_nan, di.Orthant())
    x0 = torch.tensor([[1.0, 1.0], [9.0, 1.0]], dtype=F64)
    t = torch.linspace(0, 1, n + 1, dtype=F64)
    message = r"1 of 2 samples failed; first, sample \(1,\) failed in step .* from t = 0.5: the field was not finite"
    with pytest.raises(di.SolveError, match=message) as caught:
        di.solve(flow, x0, t)
    kept = caught.value.solution
    assert kept.status.tolist() == [0, 1]
    assert bool(torch.isfinite(kept.x[kept.t < 0.501]).all())
    received = pickle.loads(pickle.dumps(caught.value))  # what a process pool does
    assert str(received) == str(caught.value)
    torch.testing.assert_close(received.solution.x, kept.x, rtol=0, atol=0, equal_nan=True)
    sol = di.solve(flow, x0, t, throw=False)
    assert not sol.success
    assert bool(torch.isfinite(sol.x[:, 0]).all())
    assert bool(sol.x[sol.t > 0.501, 1].isnan().all())
    alone = di.solve(flow, x0[:1], t)
    assert torch.equal(sol.x[:, :1], alone.x)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("scheme", [di.ProxHeun(), di.ARS222(), di.SwitchingDP5()], ids=str)
def test_a_field_that_is_not_finite_from_the_start_is_no_success(scheme, bad):
    """Not even where the first step is chosen from the size of F."""
    flow = di.Inclusion(lambda t, x: torch.tensor([1.0, bad], dtype=F64) * x, di.Orthant())
    with pytest.raises(di.SolveError, match=r"sample \(0,\) stopped at t = 0: the field was not finite"):
        di.solve(flow, X0, [0.0, 1.0], scheme=scheme, steps=di.Adaptive(1e-4, 1e-4))


@pytest.mark.parametrize(("value", "words"), [
    (lambda x: x[..., :1], r"shape \(2, 1\)"),
    (lambda x: x.float(), "dtype float32"),
    (lambda x: 3.0, "returned 3.0"),
    (lambda x: None, "returned None"),
])
def test_a_field_that_returns_something_else_midway(value, words):
    flow = di.Inclusion(lambda t, x: value(x) if t > 0.35 else 0.1 * x, di.Orthant())
    with pytest.raises(di.SolveError, match=r"the field must return .* like x0; at t = 0.4 it") as caught:
        di.solve(flow, X0, torch.linspace(0, 1, 11, dtype=F64))
    assert caught.match(words)
    assert len(caught.value.solution.t) == 5
    assert float(caught.value.solution.t[-1]) == pytest.approx(0.4)
    assert caught.value.solution.status.tolist() == [3, 3]


def test_a_solve_that_fails_in_its_first_step_is_still_a_solution():
    with pytest.raises(di.SolveError) as caught:
        di.solve(di.Inclusion(lambda t, x: None, di.Orthant()), X0, [0.0, 1.0])
    kept = caught.value.solution
    assert torch.equal(kept(0.0), X0)
    assert kept.residual().shape == (0, 2)
    assert kept.multiplier.shape == (0, 2, 2)


def test_times_in_float32_may_be_asked_back():
    sol = di.solve(FLOW, X0, [0.0, 0.3])
    assert sol(torch.linspace(0, 0.3, 7)).shape == (7, 2, 2)


class Careless(di.ProxFunction):
    """A prox that breaks the contract."""

    def __init__(self, wrong):
        self.prox = lambda x, h, t=0.0: wrong(x)


def test_growth_beyond_the_dtype_is_reported():
    flow = di.Inclusion(lambda t, x: -x * x, di.Orthant())
    with pytest.raises(di.SolveError, match="or the states grew beyond the dtype"):
        di.solve(flow, torch.tensor([3.0]), torch.linspace(0, 20, 41))


def test_progress_is_shown_on_request(capsys):
    di.solve(FLOW, X0, [0.0, 1.0], steps=di.Fixed(n=200), progress=True)
    assert "200/200" in capsys.readouterr().err
    di.solve(FLOW, X0, [0.0, 1.0])
    assert capsys.readouterr().err == ""


def test_same_input_same_bits():
    a, b = (di.solve(FLOW, X0, [0.0, 1.0], scheme=di.ProxHeun(), steps=di.Fixed(n=100)).x for _ in range(2))
    assert torch.equal(a, b)


NET = di.ResNetField(torch.ones(3, 2, dtype=F64), torch.zeros(3, dtype=F64), torch.ones(2, 3, dtype=F64),
                     torch.zeros(2, dtype=F64))
GOOD = {"flow": FLOW, "x0": X0, "t": [0.0, 1.0]}


@pytest.mark.parametrize(("change", "message"), [
    ({"x0": torch.tensor([[1.0, 2.0], [0.5, -0.25]])},
     r"x0 must lie in C; sample \(1,\) is 0.25 away from Orthant\(\). Project it with C.project\(x0\)"),
    ({"x0": torch.tensor([[1.0, torch.nan]])}, r"x0 must be finite; entry \(0, 1\) is nan in a tensor"),
    ({"x0": torch.zeros(0, 2)}, r"x0 is empty; got a tensor of shape \(0, 2\)"),
    ({"x0": torch.zeros(3, 0)}, r"x0 is empty; got a tensor of shape \(3, 0\)"),
    ({"x0": torch.tensor([1, 2])}, r"x0 must have a real floating-point dtype; got .* int64. Convert it: x0.to"),
    ({"x0": torch.tensor([1j, 2])}, "x0 must have a real floating-point dtype; got .* complex64"),
    ({"x0": [1.0, 2.0]}, "x0 must be a torch.Tensor; got list. Wrap it"),
    ({"x0": torch.tensor(1.0)}, r"x0 must have shape \(\*batch, d\); got a tensor of shape \(\)"),
    ({"flow": di.Inclusion(NET, di.Orthant()), "x0": torch.ones(4, 3, dtype=F64)},
     r"x0 must have last dimension 2, the columns of A1; got a tensor of shape \(4, 3\)"),
    ({"flow": di.Inclusion(NET, di.Orthant()), "x0": torch.ones(4, 2)}, "x0 and the weights must share dtype"),
    ({"flow": di.Inclusion(rotation, di.Box(torch.zeros(3), 1.0))}, "x0 does not fit Box.* Give both the same last"),
    ({"flow": di.Inclusion(rotation, di.L1(torch.ones(3)))}, "x0 does not fit L1.* Give both the same last"),
    ({"flow": di.Inclusion(rotation, di.Ball(1.0, torch.zeros(3))), "x0": torch.zeros(1)}, "x0 does not fit Ball"),
    ({"flow": di.Inclusion(rotation, Careless(lambda x: x[..., :1]))}, r"its prox makes a tensor of shape \(2, 1\)"),
    ({"flow": di.Inclusion(rotation, Careless(lambda x: x.float()))}, "its prox makes .* float32"),
    ({"t": [1.0, 0.0]}, "t must be strictly increasing"),
    ({"t": [0.0, 0.0]}, r"t\[0\] and t\[1\] are both 0"),
    ({"t": [0.0, float("nan")]}, r"t must be finite; t\[1\] is nan"),
    ({"t": [0.0]}, "t must be a 1-D tensor of at least two times"),
    ({"flow": rotation}, r"flow must be an Inclusion; got function. Write Inclusion\(field, g\)"),
    ({"scheme": di.ForwardEuler}, r"scheme must be an instance such as ForwardEuler\(\); got <class"),
    ({"scheme": "euler"}, "scheme must be an instance such as ForwardEuler"),
    ({"steps": -0.1}, "steps must be Fixed"),
    ({"gradient": "adjoint"}, "gradient must be one of 'backprop', 'checkpoint'; got 'adjoint'"),
    ({"method": "rk4"}, "unexpected keyword argument 'method'"),
])
def test_bad_arguments(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        di.solve(**{**GOOD, **change})


@given(arrays(st.sampled_from([np.float32, np.float64, np.int64, np.complex64, np.bool_]),
              array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)), st.integers(0, 26),
       st.sampled_from([1.0, -1.0, float("nan"), float("inf")]))
def test_any_start_is_solved_or_refused_by_name(values, place, entry):
    """A start that fits is solved; any other is refused with a message about x0, never anything else."""
    x0 = torch.from_numpy(values.copy())
    if x0.is_floating_point():
        x0 = x0.nan_to_num(0.5, 0.5, 0.5).abs().clamp(max=3)
        if x0.numel():
            x0.view(-1)[place % x0.numel()] = entry
    field = di.ResNetField(*(torch.ones(*s, dtype=F64) / 9 for s in ((3, 2), (3,), (2, 3), (2,))))
    fits = x0.dtype == F64 and x0.ndim >= 1 and x0.numel() > 0 and x0.shape[-1] == 2 and entry == 1.0
    if fits:
        assert di.solve(di.Inclusion(field, di.Orthant()), x0, [0.0, 1.0]).success
    else:
        with pytest.raises((ValueError, TypeError), match="x0"):
            di.solve(di.Inclusion(field, di.Orthant()), x0, [0.0, 1.0])


@given(st.lists(st.floats(-5, 5) | st.sampled_from([float("nan"), float("inf"), -float("inf")]), max_size=6))
def test_any_times_are_solved_or_refused_by_name(t):
    good = len(t) > 1 and all(math.isfinite(v) for v in t) and all(a < b for a, b in pairwise(t))
    if good:
        flow = di.Inclusion(lambda s, x: 0.1 * x, di.Orthant())
        sol = di.solve(flow, torch.ones(2, dtype=F64), t)
        assert sol.t.tolist() == t
    else:
        with pytest.raises((ValueError, TypeError), match=r"^t(\[| must)"):
            di.solve(FLOW, X0, t)


def test_ensemble_of_networks_needs_its_batch_dimensions():
    g = torch.Generator().manual_seed(0)
    w = [torch.randn(4, *s, generator=g, dtype=F64) for s in ((3, 2), (3,), (2, 3), (2,))]
    flow = di.Inclusion(di.ResNetField(*w), di.Orthant())
    with pytest.raises(ValueError, match=r"x0 must lead with the batch dimensions \(4,\) of the weights"):
        di.solve(flow, torch.ones(2, dtype=F64), [0.0, 1.0])
    together = di.solve(flow, torch.ones(4, 5, 2, dtype=F64), torch.linspace(0, 1, 9)).x
    for k in range(4):
        one = di.solve(di.Inclusion(di.ResNetField(*(v[k] for v in w)), di.Orthant()), torch.ones(5, 2, dtype=F64),
                       torch.linspace(0, 1, 9)).x
        torch.testing.assert_close(together[:, k], one)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_device_is_kept_and_the_states_agree():
    g = torch.Generator().manual_seed(0)
    w = [torch.randn(10, *s, generator=g, dtype=F64) / 4 for s in ((16, 8), (16,), (8, 16), (8,))]
    field = di.ResNetField(*(di.PiecewiseConstant(v) for v in w))
    x0, t = torch.rand(32, 8, generator=g, dtype=F64), torch.linspace(0, 1, 11)
    here = di.solve(di.Inclusion(field, di.Orthant()), x0, t).x
    there = di.solve(di.Inclusion(field.to("cuda"), di.Orthant()), x0.to("cuda"), t).x
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), here)


def through_the_middle(speed):
    """A stream to the right, fast where the obstacle is and slow where the second sample passes it."""
    x0 = torch.tensor([[-3.0, 0.1], [-3.0, 4.0]], dtype=F64)
    right = torch.tensor([1.0, 0.0], dtype=F64)
    return di.Inclusion.from_velocity(lambda t, x: torch.where(x[..., 1:] < 3, speed, 1.0) * right + 0 * x,
                                      di.OutsideBall(2.0)), x0


@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_a_step_that_jumps_through_an_obstacle_is_refused(scheme, gradient):
    flow, x0 = through_the_middle(6.0)
    x0.requires_grad_()
    leads = 4.19 if isinstance(scheme, di.ARS222) else 6  # its first stage is at γ, and not refused
    message = (r"1 of 2 samples failed; first, sample \(0,\) failed in step 0 from t = 0: the step of h = 1 leads "
               rf"{leads} away from OutsideBall\(radius=2.0, .*\), whose nearest point is unique only within its reach "
               rf"2; try h below {str(2 / leads)[:5]}")
    with pytest.raises(di.SolveError, match=message) as caught:
        di.solve(flow, x0, [0.0, 1.0, 2.0], scheme=scheme, gradient=gradient)
    assert caught.value.solution.status.tolist() == [6, 0]
    sol = di.solve(flow, x0, [0.0, 1.0, 2.0], scheme=scheme, gradient=gradient, throw=False)
    assert sol.status.tolist() == [6, 0]
    assert sol.reached.tolist() == [0.0, 2.0]
    assert bool(sol.x[1:, 0].isnan().all())
    torch.testing.assert_close(sol.x[:, 1], torch.tensor([[-3.0, 4.0], [-2.0, 4.0], [-1.0, 4.0]], dtype=F64))
    assert "left the tube around C" in sol.explain(0)
    allowed = 0.99 * 2 / 6
    assert di.solve(flow, x0, [0.0, 1.0], scheme=scheme, steps=di.Fixed(allowed), gradient=gradient).success


def test_a_later_jump_is_told_with_its_time_and_a_nan_of_the_field_is_not_taken_for_one():
    def v(t, x):
        return torch.where(t > 0.45, 9.0, 0.1) * torch.tensor([1.0, 0.0], dtype=F64).expand_as(x) + 0 * x
    x0 = torch.tensor([[-3.0, 0.1]], dtype=F64)
    sol = di.solve(di.Inclusion.from_velocity(v, di.OutsideBall(1.0)), x0, torch.linspace(0, 2, 5), throw=False)
    assert sol.message.startswith("1 of 1 samples failed; first, sample (0,) failed in step 1 from t = 0.5: the step "
                                  "of h = 0.5 leads 4.5 away")
    assert sol.reached.tolist() == [0.5]
    flow = di.Inclusion(turns_nan, di.OutsideBall(1.0))
    sol = di.solve(flow, torch.tensor([[1.0, 1.0], [9.0, 1.0]], dtype=F64), torch.linspace(0, 1, 11), throw=False)
    assert sol.status.tolist() == [0, 1]
    at_centre = di.Inclusion.from_velocity(lambda t, x: -x, di.OutsideBall(1.0))
    sol = di.solve(at_centre, torch.tensor([1.5, 0.0], dtype=F64), [0.0, 1.0], throw=False)
    assert sol.status.tolist() == 6
    assert "the step of h = 1 leads 1.5 away" in sol.message


def test_a_set_with_finite_reach_solves_under_vmap():
    flow, x0 = through_the_middle(1.0)
    plain = di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=10)).x
    mapped = torch.func.vmap(lambda x: di.solve(flow, x, [0.0, 1.0], steps=di.Fixed(n=10)).x[-1])(x0)
    torch.testing.assert_close(mapped, plain[-1])
    jumps, x0 = through_the_middle(6.0)
    mapped = torch.func.vmap(lambda x: di.solve(jumps, x, [0.0, 1.0]).x[-1])(x0)
    assert mapped.isnan().tolist() == [[True, True], [False, False]]


def test_a_field_made_of_time_alone_is_told_of_its_dtype():
    flow = di.Inclusion(lambda t, x: torch.cos(t).expand_as(x), di.Orthant())
    with pytest.raises(di.SolveError, match=r"take t.to\(x\) where a term is made of t alone"):
        di.solve(flow, torch.ones(2), [0.0, 1.0])
    assert di.solve(flow, torch.ones(2, dtype=F64), [0.0, 1.0]).success
