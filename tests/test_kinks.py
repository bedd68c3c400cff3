"""Crossed kinks of g: derivatives of the steps are not those of the flow, and a solve with gradients says so."""

import warnings

import exact
import pytest
import torch
from catalogue import SCHEMES

import diffincl as di
from diffincl.solve.kinks import Crossings

F64 = torch.float64
DOWN = {"field": lambda t, x: torch.ones_like(x)}  # x' ∈ −1 − ∂g


def solve(g, x0=(1.0,), field=DOWN["field"], scheme=None, steps=None, end=2.0, **options):
    x0 = torch.tensor(x0, dtype=F64, requires_grad=True)
    return di.solve(di.Inclusion(field, g), x0, [0.0, end], scheme=scheme, steps=steps or di.Fixed(n=40), **options)


def column(*entries):
    return torch.tensor(entries, dtype=F64).unsqueeze(-1)


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
    "CustomProx that says so": (di.CustomProx(di.L1(0.5).prox, kink_sides=lambda x: x.sign()), (1.0,), DOWN["field"]),
    "CustomProx that moves": (di.CustomProx(lambda x, h, t: di.L1(0.5).prox(x + t, h) - t,
                                            kink_sides=lambda x, t: (x + t).sign()), (0.7,), lambda t, x: x * 0 + 1.9),
    "Product": (di.Product(di.Orthant(), di.L1(0.5), sizes=(1, 1)), (1.0, 1.0), DOWN["field"]),
}
NOT_CROSSED = {
    "no weight": (di.L1(0.0), (1.0,), DOWN["field"]),
    "it sticks": (di.L1(1.5), (1.0,), DOWN["field"]),
    "it does not get there": (di.L1(0.5), (9.0,), DOWN["field"]),
    "around the kink": (di.L2(0.5), (1.0, 1.0), DOWN["field"]),
    "a wall, not a kink": (di.Orthant(), (1.0,), DOWN["field"]),
    "away from the moved kink": (di.Moving(di.L1(0.5), shift=lambda t: 3.0), (1.0,), DOWN["field"]),
    "CustomProx that says nothing": (di.CustomProx(di.L1(0.5).prox), (1.0,), DOWN["field"]),
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


def pushed(t, x):
    """From 0.1 it reaches the kink of ½|x| at t = 0.17…, sticks, and leaves to the other side at t = ½."""
    return torch.as_tensor(t, dtype=F64).expand_as(x)


@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
@pytest.mark.parametrize(("scheme", "steps"), [*((scheme, di.Fixed(n=41)) for scheme in SCHEMES.values()),
                                               (di.ARS222(), di.Adaptive(1e-4, 1e-4))], ids=str)
def test_a_sample_that_sticks_and_leaves_on_the_other_side_has_the_right_derivative(scheme, steps, gradient):
    x0 = torch.tensor([0.1, 0.05], dtype=F64, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = di.solve(di.Inclusion(pushed, di.L1(0.5)), x0, [0.0, 1.0], scheme=scheme, steps=steps, gradient=gradient).x
    assert float(x[-1].detach().max()) < -0.1
    assert not bool(torch.autograd.grad(x[-1].sum(), x0)[0].any())


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_a_crossing_that_happens_to_land_on_the_kink_is_told(scheme):
    """Steps of every phase: in two of three forward–backward Euler stops at 0 for one step, with the derivative 0."""
    landed, flow = 0, di.Inclusion(DOWN["field"], di.L1(0.5))
    for n in range(30, 42):
        x0 = torch.tensor([1.0], dtype=F64, requires_grad=True)
        with pytest.warns(di.KinkWarning, match="crosses a kink"):
            x = di.solve(flow, x0, torch.linspace(0, 2, n + 1), scheme=scheme).x
        landed += int((x == 0).any())
    assert landed >= 1 or scheme not in (di.ForwardEuler(), di.ImplicitEuler())


def test_a_rejected_attempt_from_the_kink_is_no_sticking():
    """The rest of a sample on the kink while others go on, and its attempts, take no time."""
    for last, crossed in ((0.4, True), (0.5, False)):  # when it is looked at again: at the same time, or later
        kinks = Crossings(di.L1(0.5), column(1.0, 1.0), 0.0)
        for x, t in (((0.0, 0.5), (0.4, 0.1)), ((0.0, 0.3), (last, 0.2)), ((-0.1, 0.2), (0.6, 0.3))):
            kinks.see(column(*x), column(*t))
        assert kinks.crossed == crossed


@pytest.mark.parametrize(("path", "crossed"), [
    ((1.0, -0.01, 0.0, 0.0, -1.0), False), ((1.0, -0.01, 0.0, -1.0), True), ((1.0, -0.01, -0.01, 0.0, 0.0), True),
    ((1.0, -0.01), True), ((1.0, -0.01, 1.0), True), ((1.0, -0.01, 0.0, 0.0, 1.0, -1.0), True), ((1.0, 0.0), False)])
def test_a_step_beyond_the_kink_before_sticking_is_no_crossing(path, crossed):
    kinks = Crossings(di.L1(0.5), column(path[0]), 0.0)
    for k, x in enumerate(path[1:]):
        kinks.see(column(x), float(k + 1))
    assert kinks.crossed == crossed
    kinks.begin(column(1.0), 0.0)
    assert not kinks.crossed


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
