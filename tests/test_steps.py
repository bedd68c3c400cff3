"""Which steps a solve takes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import diffincl as di
from diffincl.fields import CallableField
from diffincl.steps import plan

PLAIN = CallableField(lambda t, x: x)


def layers(n, t0=0.0, t1=1.0):
    A, b = torch.ones(n, 1, 1), di.PiecewiseConstant(torch.zeros(n, 1), t0, t1)
    return di.ResNetSField(di.PiecewiseConstant(A, t0, t1), b, b)


def test_without_steps_one_step_leads_to_the_next_save_time():
    layout = plan(PLAIN, [0.0, 0.3, 1.0])
    assert layout.boundaries() == (0.0, 0.3, 1.0)
    assert layout.saves() == (0, 1, 2)


@given(st.integers(1, 60), st.integers(1, 400))
def test_fixed_steps_divide_every_interval_equally(saves, n):
    t = torch.linspace(0, 2, saves + 1, dtype=torch.float64)
    layout = plan(PLAIN, t, di.Fixed(n=n))
    lengths = torch.tensor(layout.boundaries(), dtype=torch.float64).diff()
    assert float(lengths.max()) <= 2 / n * (1 + 1e-9)
    assert [layout.boundaries()[k] for k in layout.saves()] == t.tolist()
    assert len(layout.boundaries()) - 1 == saves * -(-n // saves)


def test_save_times_far_apart_find_their_knots():
    """Times that miss knots 3 and 8 of ten by rounding, with other knots and times between them."""
    knots = [k / 10 for k in range(11)]
    layout = plan(layers(10), [0.0, 0.3 + 1e-15, 0.55, 0.8 - 1e-15, 1.0])
    field = layers(10)
    assert [layout.boundaries()[k] for k in layout.saves()] == [0.0, field.knots[3], 0.55, field.knots[8], 1.0]
    assert len(layout.boundaries()) == len({*knots, 0.55})


def test_a_step_length_that_divides_evenly_takes_no_extra_step():
    assert len(plan(PLAIN, [0.0, 0.3], di.Fixed(0.1)).boundaries()) == 4
    assert len(plan(PLAIN, [0.0, 0.31], di.Fixed(0.1)).boundaries()) == 5


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 30, 49, 100, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("span", [(0.0, 1.0), (-1.3, 2.9), (0.0, 1e3)])
def test_linspace_of_any_dtype_is_one_step_a_layer(n, dtype, span):
    t = torch.linspace(*span, n + 1, dtype=dtype)
    field = layers(n, float(t[0]), float(t[-1]))
    layout = plan(field, t)
    assert len(layout.boundaries()) == n + 1
    values = torch.arange(float(n))
    curve = di.PiecewiseConstant(values, float(t[0]), float(t[-1]))
    for k, (a, b) in enumerate(zip(layout.boundaries(), layout.boundaries()[1:], strict=False)):
        assert float(curve.on(a, b)(a)) == k


@given(st.integers(1, 12), st.lists(st.floats(0.001, 0.999), max_size=5), st.integers(1, 50))
def test_no_step_crosses_a_knot(n, inner, steps):
    field = layers(n)
    t = sorted({0.0, 1.0, *(round(v, 4) for v in inner)})
    layout = plan(field, t, di.Fixed(n=steps))
    for a, b in zip(layout.boundaries(), layout.boundaries()[1:], strict=False):
        assert a < b
        assert not any(a + 1e-12 < knot < b - 1e-12 for knot in field.knots)
    assert len(layout.saves()) == len(t)
    ends = layout.boundaries()
    assert layout.steps == len(ends) - 1
    assert layout.times() == [ends[k] for k in layout.saves()]
    assert layout.last_steps() == tuple((ends[k - 1], ends[k]) for k in layout.saves()[1:])


@pytest.mark.parametrize(("call", "message"), [
    (lambda: di.Fixed(), "Fixed takes either the step length h or the number of steps n; got h = None, n = None"),
    (lambda: di.Fixed(0.1, n=3), "got h = 0.1, n = 3"),
    (lambda: di.Fixed(-0.1), "h must be greater than 0; got -0.1"),
    (lambda: di.Fixed(float("inf")), "h must be finite; got inf"),
    (lambda: di.Fixed(n=0), "n must be at least 1; got 0"),
    (lambda: di.Fixed(n=2.5), "n must be a whole number; got 2.5"),
    (lambda: plan(PLAIN, [0.0, 1.0], 0.1), r"Fixed\(n=...\), Adaptive\(rtol, atol\) or None; got 0.1"),
    (lambda: plan(PLAIN, [1.0]), "t must be a 1-D tensor of at least two times"),
    (lambda: plan(PLAIN, 1.0), "t must be a 1-D tensor of at least two times"),
    (lambda: plan(PLAIN, []), "t must be a 1-D tensor of at least two times"),
    (lambda: plan(PLAIN, "soon"), "t must be a 1-D tensor or a sequence of times; got str"),
    (lambda: plan(PLAIN, [0.0, 1.0, 1.0]), r"t\[1\] and t\[2\] are both 1. Drop the repeat"),
    (lambda: plan(PLAIN, [1.0, 0.5]), r"t\[0\] = 1 is followed by 0.5. An inclusion cannot be run backward"),
    (lambda: plan(PLAIN, [0.0, float("nan")]), r"t must be finite; t\[1\] is nan"),
    (lambda: plan(PLAIN, torch.tensor([True, False])), "t must hold real numbers"),
    (lambda: plan(layers(2), [0.0, 1.5]), r"t must stay where the weights are defined, \[0, 1\]; got \[0, 1.5\]"),
    (lambda: plan(layers(2), [0.0, 0.5, 0.5 + 1e-12]), "t holds two times that both count as the knot 0.5"),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
