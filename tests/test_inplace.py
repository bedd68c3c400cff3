"""A field that changes its arguments in place would corrupt the solve: it is refused by name."""

import pytest
import torch
from catalogue import SCHEMES

import diffincl as di

F64 = torch.float64
X0 = torch.tensor([[1.0, 0.5], [0.2, 2.0]], dtype=F64)
MESSAGE = r"the field {} changed an argument, x or t, in place.* begin with x = x\.clone\(\)"


def doubles(t, x):
    return x.mul_(2)


def later(t, x):
    return x.add_(1) if bool((t > 0.6).any()) else 0.1 * x


def moves_time(t, x):
    t += 0.25
    return 0.1 * x


class Clamps(torch.nn.Module):
    def forward(self, t, x):
        return torch.relu_(x) + t


FIELDS = [doubles, later, moves_time, Clamps()]
MARCHES = {"adaptive ProxHeun": (di.ProxHeun(), di.Adaptive()), "adaptive ARS222": (di.ARS222(), di.Adaptive()),
           "SwitchingDP5": (di.SwitchingDP5(), None)}
PENALTIES = {"dopri5": (di.Penalty(0.1), None), "BDF": (di.Penalty(0.1, "BDF"), None)}
SOLVES = {name: (scheme, di.Fixed(n=5)) for name, scheme in SCHEMES.items()} | MARCHES | PENALTIES


def solve(F, x0, scheme=None, steps=None, **options):
    return di.solve(di.Inclusion(F, di.Orthant()), x0, [0.0, 0.5, 1.0], scheme=scheme, steps=steps, **options)


@pytest.mark.parametrize("F", FIELDS, ids=lambda F: getattr(F, "__name__", "Clamps"))
@pytest.mark.parametrize("name", SOLVES)
def test_a_field_that_writes_on_its_arguments_is_refused(name, F):
    if F is moves_time and name in PENALTIES:
        pytest.skip("the penalty hands out a time of its own to every call")
    with pytest.raises(ValueError, match=MESSAGE.format(getattr(F, "__name__", "Clamps"))):
        solve(F, X0.clone(), *SOLVES[name])


def test_a_velocity_is_named_too_and_checkpoints_tell():
    flow = di.Inclusion.from_velocity(doubles, di.Orthant())
    with pytest.raises(ValueError, match=MESSAGE.format("doubles")):
        di.solve(flow, X0.clone(), [0.0, 1.0])
    with pytest.raises(ValueError, match=MESSAGE.format("doubles")):
        solve(doubles, X0.clone().requires_grad_(), steps=di.Fixed(n=4), gradient="checkpoint")


def test_it_is_told_inside_transforms():
    def end(x):
        return solve(doubles, 1 * x).x[-1]

    def run_jvp(x):
        return torch.func.jvp(end, (x,), (x,))

    for run in (torch.func.vmap(end), torch.func.jacrev(end), torch.func.vmap(torch.func.jacrev(end)), run_jvp,
                torch.func.vmap(torch.func.vmap(end, in_dims=0), in_dims=1)):
        with pytest.raises(ValueError, match=MESSAGE.format("doubles")):
            run(X0.clone().unsqueeze(-1))


def test_a_copy_is_the_remedy_and_inference_mode_runs():
    def remedied(t, x):
        return doubles(t, x.clone())

    expected = solve(lambda t, x: 2 * x, X0).x
    assert torch.equal(solve(remedied, X0).x, expected)
    with torch.inference_mode():  # tensors made there do not count their changes
        x0 = X0.clone()
        assert torch.equal(solve(remedied, x0).x, expected)
        torch.func.vmap(lambda x: solve(remedied, x).x)(x0)
        assert solve(remedied, x0, di.SwitchingDP5()).success
    assert torch.equal(solve(remedied, x0).x, expected)
