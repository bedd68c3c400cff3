"""Weights in time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import diffincl as di

F64 = torch.float64
KINDS = (di.PiecewiseConstant, di.PiecewiseLinear)


def random_values(n, *shape, seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@given(st.integers(1, 40), st.floats(-5, 5), st.floats(0.01, 50))
def test_piece_and_knots_agree(n, t0, length):
    curve = di.PiecewiseConstant(torch.arange(float(n), dtype=F64), t0, t0 + length)
    for k, knot in enumerate(curve.knots[:-1]):
        assert float(curve(knot)) == k  # from the right at a jump
    assert float(curve(curve.t1)) == n - 1
    assert curve.knots[0] == t0
    assert curve.knots[-1] == t0 + length


def test_linear_interpolates():
    values = random_values(5, 2)
    curve = di.PiecewiseLinear(values, 1.0, 3.0)
    for k in range(5):
        torch.testing.assert_close(curve(1.0 + 0.5 * k), values[k])
    torch.testing.assert_close(curve(1.1), 0.8 * values[0] + 0.2 * values[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [1, 2, 5])
def test_refining_does_not_change_the_function(kind, factor):
    curve = kind(random_values(4, 3), -1.0, 2.0)
    fine = curve.refine(factor)
    assert fine.pieces == factor * curve.pieces
    for t in torch.linspace(-1.0, 2.0, 50, dtype=F64).tolist():
        torch.testing.assert_close(fine(t), curve(t))


@pytest.mark.parametrize("kind", KINDS)
def test_integral_against_a_fine_sum(kind):
    curve = kind(random_values(4, 3), -1.0, 2.0)
    a, b, n = -0.7, 1.83, 20000
    midpoints = [a + (b - a) * (k + 0.5) / n for k in range(n)]
    numeric = torch.stack([curve(t) for t in midpoints]).mean(0) * (b - a)
    torch.testing.assert_close(curve.integrate(a, b), numeric, rtol=0, atol=5e-4)
    torch.testing.assert_close(curve.integrate(), curve.integrate(-1.0, 0.3) + curve.integrate(0.3, 2.0))


@pytest.mark.parametrize("kind", KINDS)
def test_sampling_takes_the_left_ends(kind):
    curve = kind(random_values(4, 3), 0.0, 1.0)
    layers = curve.sample(8)
    assert layers.pieces == 8
    for k in range(8):
        torch.testing.assert_close(layers.values[k], curve(k / 8))


def test_limits_are_taken_from_inside_the_step():
    curve = di.PiecewiseConstant(torch.tensor([1.0, 2.0]))
    assert float(curve.on(0.0, 0.5)(0.5)) == 1.0
    assert float(curve.on(0.5, 1.0)(0.5)) == 2.0


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_learned_and_buffers_move(kind):
    assert [n for n, _ in kind(torch.nn.Parameter(torch.ones(3, 2))).named_parameters()] == ["values"]
    plain = kind(torch.ones(3, 2))
    assert not list(plain.parameters())
    assert plain.to(torch.float64).values.dtype == F64
    assert plain.to(torch.float64)(0.3).dtype == F64


@pytest.mark.parametrize("values", [torch.tensor([1.0, 2.0]), torch.ones(3, 4)])
def test_the_dtype_of_the_values_is_kept_whatever_the_time(values):
    for kind in KINDS:
        for t in (0.25, torch.tensor(0.25, dtype=F64)):
            assert kind(values)(t).dtype == torch.float32


@pytest.mark.parametrize(("make", "message"), [
    (lambda: di.PiecewiseConstant([1.0]), "values must be a torch.Tensor; got list"),
    (lambda: di.PiecewiseConstant(torch.ones(3, dtype=torch.int64)), "values must have a real floating-point dtype"),
    (lambda: di.PiecewiseConstant(torch.tensor(1.0)), r"values must have shape \(N, ...\)"),
    (lambda: di.PiecewiseConstant(torch.ones(0)), "values is empty"),
    (lambda: di.PiecewiseLinear(torch.ones(1)), "with N >= 2 knots"),
    (lambda: di.PiecewiseLinear(torch.tensor([1.0, torch.nan])), r"values must be finite; entry \(1,\) is nan"),
    (lambda: di.PiecewiseConstant(torch.ones(2), 1.0, 1.0), "t1 must be greater than t0; got t0 = 1 and t1 = 1"),
    (lambda: di.PiecewiseConstant(torch.ones(2))(1.5), r"t = 1.5 is outside the curve's interval \[0, 1\]"),
    (lambda: di.PiecewiseConstant(torch.ones(2)).integrate(0.5, 0.2), "a and b must satisfy"),
    (lambda: di.PiecewiseConstant(torch.ones(2)).refine(0), "factor must be at least 1; got 0"),
    (lambda: di.PiecewiseConstant(torch.ones(2)).sample(2.5), "n must be a whole number"),
])
def test_bad_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
