"""Steps with an estimate of their error, for step lengths that differ from sample to sample."""

import math

import pytest
import torch

import diffincl as di

F64 = torch.float64
EMBEDDED = pytest.mark.parametrize("scheme", [di.ProxHeun(), di.ARS222()], ids=lambda s: type(s).__name__)


def column(*values, dtype=F64):
    return torch.tensor(values, dtype=dtype).unsqueeze(-1)


def rows(h):
    """A batch in which every sample has its own time, in the last two rows no time at all."""
    t = column(0.0, 0.3, 1.0, 0.2, 0.7)
    return t, t + h, torch.tensor([[1.0, 0.2], [0.4, 0.01], [0.0, 3.0], [0.7, 0.0], [0.0, 0.0]], dtype=F64)


def field(t, x):
    return torch.cos(t) * torch.ones_like(x) + 0.5 * x.flip(-1)


H = column(0.3, 0.1, 0.02, 0.0, 0.0)


@EMBEDDED
@pytest.mark.parametrize("g", [di.Orthant(), di.Ball(3.5), di.L1(0.4), di.L2(0.4)], ids=lambda g: type(g).__name__)
def test_every_sample_takes_its_own_step(scheme, g):
    t, t_next, x = rows(H)
    x = g.project(x) if isinstance(g, di.ConvexSet) else x
    e = scheme.embedded(field, g, t, t_next, H, x)
    seen, gamma = [], 1 - 0.5**0.5

    def seen_field(t, x):
        seen.append(field(t, x))
        return seen[-1]

    for k in range(5):
        a, b, h = t[k, 0], t_next[k, 0], float(H[k])
        seen.clear()
        if isinstance(scheme, di.ARS222):
            whole = scheme.step(seen_field, g, a, b, h, x[k])[0]
            middle = scheme.step(seen_field, g, a, (a + b) / 2, h / 2, x[k])[0]
            y, z = scheme.step(seen_field, g, (a + b) / 2, b, h / 2, middle)
            error = (y - whole) / 3
            z = z + error
            y = g.prox(z, scheme.prox_fraction * h / 2, b)
            means = [(1 - 0.5 / gamma) * F0 + 0.5 / gamma * F1 for F0, F1 in zip(seen[::2], seen[1::2], strict=True)]
            without = h * (means[0] - (means[1] + means[2]) / 2) / 3
        else:
            y, z = scheme.step(seen_field, g, a, b, h, x[k])
            error = y - di.ForwardEuler().step(field, g, a, b, h, x[k])[0]
            without = h * (seen[0] - seen[1]) / 2
        torch.testing.assert_close(e.x[k], y)
        torch.testing.assert_close(e.error[k], torch.where(error.abs() >= without.abs(), error, without))
        torch.testing.assert_close(e.z[k], z)
        torch.testing.assert_close(g.prox(e.z[k], e.prox_step[k], b), e.x[k])
    assert [v.shape for v in e] == [(5, 2), (5, 2), (5, 2), (5, 2), (5, 1), (2, 5, 2)]


@EMBEDDED
def test_rows_without_time_rest(scheme):
    t, t_next, x = rows(H)
    for g in (di.Orthant(), di.Ball(0.9), di.L2(0.4)):
        e = scheme.embedded(field, g, t, t_next, H, x)
        assert torch.equal(e.x[3:], x[3:])
        assert torch.equal(e.z[3:], x[3:])
        assert not bool(e.error[3:].any() or e.displacement[3:].any() or e.prox_step[3:].any())


@EMBEDDED
def test_no_nan_reaches_the_gradients(scheme):
    t, t_next, x = rows(H)
    for g in (di.Orthant(), di.Ball(0.9), di.L1(0.4), di.L2(0.4), di.Simplex()):
        h, y = H.clone().requires_grad_(), x.clone().requires_grad_()
        a = torch.tensor(1.0, dtype=F64, requires_grad=True)
        e = scheme.embedded(lambda t, x, a=a: a * field(t, x), g, t, t_next, h, y)
        gradients = torch.autograd.grad((e.x.sum() + e.error.square().sum()), (h, y, a))
        assert all(bool(torch.isfinite(v).all()) for v in gradients)
        assert torch.equal(gradients[1][3:], torch.ones(2, 2, dtype=F64))


@EMBEDDED
def test_gradients_in_state_and_step(scheme):
    t, _, x = rows(H)

    def end(x, h):
        e = scheme.embedded(field, di.Orthant(), t, t + h, h, x)
        return e.x[:3], e.error[:3]

    assert torch.autograd.gradcheck(end, (x.clone().requires_grad_(), H.clone().requires_grad_()), eps=1e-7, atol=1e-6)


@EMBEDDED
def test_the_estimate_has_its_order_and_its_size(scheme):
    """In the interior: error ≈ C·h**error_order; of ARS222 it is that of the two half steps to leading order, which the
    extrapolation takes off."""
    x, t, flow = torch.tensor([[1.0, 2.0]], dtype=F64), column(0.0), di.Inclusion(field, di.Whole())
    errors, missed = [], []
    for h in (0.04, 0.02):
        exact_x = di.solve(flow, x, [0.0, h], scheme=di.SwitchingDP5(), steps=di.Adaptive(1e-12, 1e-13)).x[-1]
        e = scheme.embedded(field, di.Whole(), t, t + h, column(h), x)
        errors.append(e.error.abs().max())
        missed.append((exact_x - e.x).abs().max())
    assert float(torch.log2(errors[0] / errors[1])) == pytest.approx(scheme.error_order, abs=0.1)
    if isinstance(scheme, di.ARS222):
        torch.testing.assert_close(e.error, exact_x - (e.x - e.error), rtol=0.05, atol=1e-12)
        assert float(torch.log2(missed[0] / missed[1])) == pytest.approx(4.0, abs=0.2)


def test_extrapolated_steps_keep_the_error_at_the_tolerance():
    """256 contacts of all lengths: tens of tolerances, however small the tolerance is."""
    phase = torch.linspace(0, 2 * math.pi, 257, dtype=F64)[:-1].unsqueeze(-1)
    flow = di.Inclusion.from_velocity(lambda t, x: torch.cos(t + phase), di.Orthant())
    bottom = torch.remainder(1.5 * math.pi - phase, 2 * math.pi)
    path = [0.5 + torch.sin(t + phase) - torch.sin(phase) for t in (bottom, torch.tensor(2 * math.pi))]
    exact_x = path[1] + torch.relu(-torch.minimum(*path))
    for tol in (1e-3, 1e-5, 1e-7):
        x = di.solve(flow, torch.full_like(phase, 0.5), [0.0, 2 * math.pi], scheme=di.ARS222(),
                     steps=di.Adaptive(tol, tol)).x[-1]
        assert float((x - exact_x).abs().max()) <= 20 * tol


def test_heun_is_blind_on_a_curved_set_and_ars_is_not():
    """Along the circle Heun and forward–backward Euler are off by the same: the step sees no error, of order 2."""
    C, F = di.Ball(), lambda t, x: torch.tensor([-1.0, 0.0], dtype=F64).expand_as(x)
    x, h, zero = torch.tensor([[0.0, 1.0]], dtype=F64), column(0.1), column(0.0)
    angle = 2 * torch.atan(torch.tensor(1.0, dtype=F64) * torch.exp(-h[0, 0]))
    true = torch.stack([torch.cos(angle), torch.sin(angle)])
    heun, ars = (s.embedded(F, C, zero, zero + h, h, x) for s in (di.ProxHeun(), di.ARS222()))
    assert float(heun.error.abs().max()) < 0.1 * float((heun.x - true).abs().max())
    assert float(ars.error.abs().max()) > 0.2 * float((ars.x - true).abs().max())


@EMBEDDED
def test_displacement_sees_every_prox(scheme):
    """F pushes out in the first stage only: the last prox moves nothing, and the displacement still shows the first."""
    x, h, zero = torch.tensor([[0.005]], dtype=F64), column(0.1), column(0.0)
    e = scheme.embedded(lambda t, x: torch.where(t == 0, 1.0, -5.0) + 0 * x, di.Orthant(), zero, h, h, x)
    assert torch.equal(e.z, e.x)
    share = 1.0 if isinstance(scheme, di.ProxHeun) else scheme.prox_fraction
    assert float(e.displacement) == pytest.approx(share * 0.1 - 0.005)
    free = scheme.embedded(lambda t, x: 0 * x + 1, di.Orthant(), zero, h, h, x + 1)
    assert float(free.displacement) == 0.0


@EMBEDDED
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_dtype_and_batch_shapes(scheme, dtype):
    x = torch.rand(2, 3, 4, dtype=dtype)
    h = torch.full((2, 3, 1), 0.1, dtype=dtype)
    t = torch.zeros(2, 3, 1, dtype=F64)
    e = scheme.embedded(lambda t, x: x, di.Orthant(), t, t + h, h, x)
    assert all(v.dtype is dtype for v in e)
    assert e.displacement.shape == (2, 3, 4)
    assert e.prox_step.shape == (2, 3, 1)
    assert e.free.shape == (2, 2, 3, 4)


@EMBEDDED
def test_embedded_under_transforms(scheme):
    t, t_next, x = rows(H)

    def step(t, t_next, h, x):
        return scheme.embedded(field, di.Orthant(), t, t_next, h, x).x

    torch.testing.assert_close(torch.func.vmap(step)(t, t_next, H, x), step(t, t_next, H, x))
    J = torch.func.vmap(torch.func.jacrev(step, argnums=3))(t, t_next, H, x)
    assert bool(torch.isfinite(J).all())
    torch.testing.assert_close(torch.func.vmap(torch.func.jacfwd(step, argnums=3))(t, t_next, H, x), J)
    assert torch.equal(torch.compile(step, fullgraph=True, backend="aot_eager")(t, t_next, H, x), step(t, t_next, H, x))
