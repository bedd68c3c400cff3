"""Steps per sample are searched without gradients: what wants them is found wherever and whenever it comes in."""

import warnings

import pytest
import torch

import diffincl as di

F64 = torch.float64
X0 = torch.tensor([[1.0, 0.4], [0.6, 0.1]], dtype=F64)
SEARCHED = pytest.mark.parametrize(("scheme", "steps"), [
    (di.SwitchingDP5(), di.Adaptive(1e-6, 1e-6)), (di.SwitchingDP5(), di.Fixed(n=20)),
    (di.ProxHeun(), di.Adaptive(1e-4, 1e-4)), (di.ARS222(), di.Adaptive(1e-5, 1e-5))], ids=str)


def late(w):
    """x' = −1 up to t = ½, w from then on: dx(1)/dw = ½ where x stays off the wall."""
    return lambda t, x: torch.where(t > 0.5, -w, 1.0) * torch.ones_like(x) if bool((t > 0.5).any()) else x * 0 + 1


class Late(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(2.0, dtype=F64))

    def forward(self, t, x):
        return late(self.w)(t, x)


@SEARCHED
@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
def test_a_tensor_that_comes_in_late_gets_its_gradient(scheme, steps, gradient):
    w = torch.tensor(2.0, dtype=F64, requires_grad=True)
    module = Late()
    for field, weight in ((late(w), w), (module, module.w)):
        x = di.solve(di.Inclusion(field, di.Orthant()), X0 + 1, [0.0, 1.0], scheme=scheme, steps=steps,
                     gradient=gradient).x[-1]
        assert float(torch.autograd.grad(x.sum(), weight)[0]) == pytest.approx(2.0, abs=0.3)  # a step may hold t = ½
        torch.testing.assert_close(x.detach(), X0 + 1.5, rtol=0, atol=0.1)


@pytest.mark.parametrize("scheme", [di.ProxHeun(), di.ARS222()], ids=str)
def test_a_set_that_starts_late_to_move_with_a_tensor(scheme):
    speed = torch.tensor(1.0, dtype=F64, requires_grad=True)

    def wall(t):
        rest = torch.zeros((*t.shape, 1) if t.ndim == 0 else t.shape, dtype=F64)
        return rest + speed * torch.relu(t - 0.5) if bool((t > 0.5).any()) else rest

    g = di.Moving(di.Orthant(), shift=wall)
    sol = di.solve(di.Inclusion(lambda t, x: x * 0 + 1, g), X0[:, :1] * 0, [0.0, 1.0], scheme=scheme,
                   steps=di.Adaptive(1e-4, 1e-4))
    assert float(torch.autograd.grad(sol.x[-1].sum(), speed)[0]) == pytest.approx(1.0, abs=1e-3)


@SEARCHED
def test_nothing_is_taken_twice_where_nothing_wants_gradients(scheme, steps):
    """As many evaluations with gradients enabled as without, and one search more where they come in late."""
    flow, counts = di.Inclusion(late(torch.tensor(2.0, dtype=F64)), di.Orthant()), []
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            sol = di.solve(flow, X0 + 1, [0.0, 1.0], scheme=scheme, steps=steps)
        counts.append(sol.stats.evaluations)
        assert not sol.x.requires_grad
    assert counts[0] == counts[1]
    learned = di.Inclusion(late(torch.tensor(2.0, dtype=F64, requires_grad=True)), di.Orthant())
    again = di.solve(learned, X0 + 1, [0.0, 1.0], scheme=scheme, steps=steps)
    assert torch.equal(again.x.detach(), sol.x)
    assert again.stats.evaluations >= 2 * counts[0]


def test_a_second_search_sees_no_kink_on_its_way_back_to_the_start():
    """It ends below the kink that it reached, and began above it: it stuck in between."""
    w = torch.tensor(2.0, dtype=F64, requires_grad=True)
    flow = di.Inclusion(lambda t, x: w * t * torch.ones_like(x) if bool((t > 0.6).any()) else x * 0, di.L1(0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = di.solve(flow, torch.tensor([0.1], dtype=F64), [0.0, 1.0], scheme=di.ARS222(),
                     steps=di.Adaptive(1e-4, 1e-4, max_step=0.01)).x[-1]
    assert float(x.detach()) < -0.1
    assert float(torch.autograd.grad(x.sum(), w)[0]) < -0.1
