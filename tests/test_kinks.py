"""Crossed kinks of g: derivatives of the steps are not those of the flow, and a solve with gradients says so."""

import warnings

import exact
import pytest
import torch
from catalogue import SCHEMES

import diffincl as di

F64 = torch.float64
DOWN = {"field": lambda t, x: torch.ones_like(x)}  # x' ∈ −1 − ∂g


def solve(g, x0=(1.0,), field=DOWN["field"], scheme=None, steps=None, end=2.0, **options):
    x0 = torch.tensor(x0, dtype=F64, requires_grad=True)
    return di.solve(di.Inclusion(field, g), x0, [0.0, end], scheme=scheme, steps=steps or di.Fixed(n=40), **options)


def drifting(t, x):
    """Coordinates that pull apart and cross each other."""
    return torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype).expand_as(x)


CROSSED = {
    "L1": (di.L1(0.5), (1.0,), DOWN["field"]),
    "L1, one coordinate of two": (di.L1(torch.tensor([0.0, 0.5], dtype=F64)), (1.0, 1.0), DOWN["field"]),
    "L2 on a line": (di.L2(0.5), (1.0,), DOWN["field"]),
    "ElasticNet": (di.ElasticNet(0.3, 0.1), (1.0,), DOWN["field"]),
    "GroupL2, a group of one": (di.GroupL2([[0, 1], [2]], 0.1), (5.0, 5.0, 1.0), DOWN["field"]),
    "TotalVariation": (di.TotalVariation(0.1), (0.0, 1.0), drifting),
    "Moving": (di.Moving(di.L1(0.5), shift=lambda t: torch.tensor(-0.5, dtype=F64)), (0.2,), DOWN["field"]),
    "Product": (di.Product(di.Orthant(), di.L1(0.5), sizes=(1, 1)), (1.0, 1.0), DOWN["field"]),
}
NOT_CROSSED = {
    "no weight": (di.L1(0.0), (1.0,), DOWN["field"]),
    "it sticks": (di.L1(1.5), (1.0,), DOWN["field"]),
    "it does not get there": (di.L1(0.5), (9.0,), DOWN["field"]),
    "around the kink": (di.L2(0.5), (1.0, 1.0), DOWN["field"]),
    "a wall, not a kink": (di.Orthant(), (1.0,), DOWN["field"]),
    "away from the moved kink": (di.Moving(di.L1(0.5), shift=lambda t: 3.0), (1.0,), DOWN["field"]),
    "jumps that keep their order": (di.TotalVariation(0.1), (1.0, 0.0), drifting),
    "a group of two": (di.GroupL2([[0, 1]], 0.1), (1.0, 2.0), DOWN["field"]),
}


@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
@pytest.mark.parametrize("name", CROSSED)
def test_a_crossed_kink_is_told(name, gradient):
    g, x0, field = CROSSED[name]
    with pytest.warns(di.KinkWarning, match="crosses a kink of g = .*Penalty") as told:
        solve(g, x0, field, gradient=gradient)
    assert told[0].filename == __file__  # blamed on the caller's line


@pytest.mark.parametrize("name", NOT_CROSSED)
def test_nothing_is_told_where_no_kink_is_crossed(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(*NOT_CROSSED[name])


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_every_scheme_tells(scheme):
    with pytest.warns(di.KinkWarning, match="crosses a kink"):
        solve(di.L1(0.5), scheme=scheme)


def test_steps_per_sample_tell_too_and_one_sample_is_enough():
    with pytest.warns(di.KinkWarning, match="crosses a kink"):
        solve(di.L1(0.5), ((9.0,), (1.0,)), scheme=di.ARS222(), steps=di.Adaptive(1e-4, 1e-4))


def test_nothing_is_told_without_gradients_or_by_the_penalty_whose_gradients_are_near():
    """dx(T)/dx0 = (1/2)/(3/2) of x' = −½sign(x) − 1."""
    x0 = torch.tensor([1.0], dtype=F64, requires_grad=True)
    flow = di.Inclusion(DOWN["field"], di.L1(0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.no_grad():
            di.solve(flow, x0, [0.0, 2.0], steps=di.Fixed(n=40))
        di.solve(flow, x0.detach(), [0.0, 2.0], steps=di.Fixed(n=40))
        x = di.solve(flow, x0, [0.0, 1.5], scheme=di.Penalty(1e-2, rtol=1e-9, atol=1e-9)).x[-1]
    assert float(torch.autograd.grad(x.sum(), x0)[0]) == pytest.approx(1 / 3, abs=2e-3)


def test_the_problem_of_the_message():
    flow, x0, horizon, _ = exact.crossing()
    with pytest.warns(di.KinkWarning, match="crosses a kink"):
        x = di.solve(flow, x0.requires_grad_(), [0.0, horizon], steps=di.Fixed(n=30)).x[-1]
    assert float(torch.autograd.grad(x.sum(), x0)[0]) in (0.0, 1.0)
