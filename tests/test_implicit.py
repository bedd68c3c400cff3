"""Schemes with an inner iteration: it arrives, its gradients are those of the root, no step limit."""

import re

import pytest
import torch
from catalogue import EXPLICIT, FUNCTIONS, SCHEMES, D
from torch.linalg import vector_norm

import diffincl as di

F64 = torch.float64
NAMES = [name for name in SCHEMES if name not in EXPLICIT]
EVERY = pytest.mark.parametrize("name", NAMES)
TIMES = torch.tensor([0.0, 0.3], dtype=F64).unbind()


def step_of(scheme, field, g=None, h=0.3):
    """x⁺ as a function of x."""
    return lambda x: scheme.step(field, di.Orthant() if g is None else g, *TIMES, h, x)[0]


def stiff_field(seed, d, m, size):
    """ResNet-S with ‖A‖² = size."""
    gen = torch.Generator().manual_seed(seed)
    A = torch.randn(m, d, generator=gen, dtype=F64)
    A = A / torch.linalg.matrix_norm(A, 2) * size**0.5
    b1, b2 = torch.randn(m, generator=gen, dtype=F64), torch.randn(d, generator=gen, dtype=F64)
    return di.ResNetSField(A, b1, b2), torch.rand(150, d, generator=gen, dtype=F64)


@pytest.mark.parametrize(("size", "d", "m", "seed"), [(1e4, 3, 6, 1), (1e4, 16, 24, 2), (1e6, 3, 6, 1), (1e6, 8, 16, 0),
                                                      (1e6, 16, 24, 2)])
def test_stiff_fields_with_kinks(size, d, m, seed):
    """Of these Newton with a line search alone gave up dozens of samples. I + h∂F is strongly monotone, so the distance
    of −Γ(u) from the normal cone at u bounds the error of u; the tolerance of u, times hL, is in that distance."""
    field, x0 = stiff_field(seed, d, m, size)
    u = di.solve(di.Inclusion(field, di.Orthant()), x0, [0.0, 1.0], scheme=di.ImplicitEuler()).x[-1]
    error = di.Orthant().normal_distance(u, x0 - u - field(1.0, u))
    assert float(error.max()) < 256 * torch.finfo(F64).eps * size * d**0.5 * (1 + float(u.abs().max()))
    assert bool((vector_norm(u[:75] - u[75:], dim=-1) <= vector_norm(x0[:75] - x0[75:], dim=-1) * (1 + 1e-8)).all())


def test_what_a_stiff_sample_does_is_not_seen_by_the_others():
    field, x0 = stiff_field(1, 3, 6, 1e6)
    step = step_of(di.ImplicitEuler(), field, h=1.0)
    together = step(x0)
    for k in (0, 7, 50):
        torch.testing.assert_close(together[k], step(x0[k]), rtol=1e-9, atol=1e-12)


def test_max_iter_is_kept():
    field, x0 = stiff_field(1, 3, 6, 1e4)
    sol = di.solve(di.Inclusion(field, di.Orthant()), x0, [0.0, 1.0], scheme=di.ImplicitEuler(max_iter=20), throw=False)
    assert 0 < int((sol.status == 2).sum()) < 150
    assert bool(sol.x[-1, sol.status == 2].isnan().all())


def layers(count):
    """ResNet-S layers with h‖A‖² about 100 (h = 1) and pairs of starts."""
    gen = torch.Generator().manual_seed(4)
    A, b1, b2 = (torch.randn(count, *s, generator=gen, dtype=F64) for s in ((12, 6), (12,), (6,)))
    A = A * (10 / torch.linalg.matrix_norm(A, 2))[:, None, None]
    field = di.ResNetSField(*(di.PiecewiseConstant(w, 0.0, float(count)) for w in (A, 5 * b1, b2)))
    return field, 5 * b1, b2, 3 * torch.rand(2, 60, 6, generator=gen, dtype=F64)


def test_layers_far_beyond_the_step_limit():
    """h‖A‖² = 100: the layers of ForwardEuler expand, ImplicitEuler is nonexpansive and obeys C6 with sums for
    integrals, SemiImplicitEuler obeys it with b1 in place of (b1)₊."""
    field, b1, b2, x0 = layers(8)
    flow, t = di.Inclusion(field, di.Orthant()), torch.linspace(0, 8, 9)
    x = {name: di.solve(flow, x0, t, scheme=SCHEMES[name]).x for name in ("ForwardEuler", "ImplicitEuler",
                                                                          "SemiImplicitEuler")}
    gap = {name: vector_norm(v[:, 0] - v[:, 1], dim=-1) for name, v in x.items()}
    assert float((gap["ForwardEuler"][-1] / gap["ForwardEuler"][0]).max()) > 10
    assert bool((gap["ImplicitEuler"][1:] <= gap["ImplicitEuler"][:-1] * (1 + 1e-12) + 1e-12).all())
    push = torch.relu(b2).norm(dim=-1).cumsum(0)[:, None, None]
    for name, b in (("ImplicitEuler", torch.relu(b1)), ("SemiImplicitEuler", b1)):
        energy = 0.5 * b.square().sum(-1).cumsum(0)[:, None, None]
        assert bool((x[name][1:].norm(dim=-1) <= (x0.norm(dim=-1).square() + energy).sqrt() + push + 1e-12).all())
    assert float(x["ForwardEuler"][-1].norm(dim=-1).max()) > 10 * float(x["SemiImplicitEuler"][-1].norm(dim=-1).max())


@EVERY
def test_gradients_in_the_weights_against_finite_differences(name):
    """Through contact; of SemiImplicitEuler also through the frozen Jacobian, at kinks of nothing."""
    gen = torch.Generator().manual_seed(9)
    shapes = ((4, 2), (4,), (2, 4), (2,))
    A1, b1, A2, b2 = ((0.7 * torch.randn(*s, generator=gen, dtype=F64)).requires_grad_() for s in shapes)
    x0 = (0.3 * torch.rand(5, 2, generator=gen, dtype=F64)).requires_grad_()

    def end(x0, A1, b1, A2, b2):
        flow = di.Inclusion(di.ResNetField(A1, b1, A2, b2), di.Orthant())
        return di.solve(flow, torch.relu(x0), [0.0, 0.2, 0.4], scheme=SCHEMES[name]).x[-1]

    assert bool((end(x0, A1, b1, A2, b2) == 0).any())
    assert torch.autograd.gradcheck(end, (x0, A1, b1, A2, b2), eps=1e-7, atol=1e-5)


@EVERY
def test_transforms_agree_with_plain_calls(name):
    """vmap, jacrev, jacfwd, and derivatives in a captured weight; the loop reads values through the transforms."""
    A = torch.tensor([[1.0, -2.0], [0.5, 0.3]], dtype=F64)
    x0 = torch.tensor([[1.0, 0.2], [0.1, 0.01], [0.7, 3.0]], dtype=F64)

    def step(x, A=A):
        return step_of(SCHEMES[name], lambda t, x: torch.tanh(2 * x @ A.T) + x * x)(x)

    torch.testing.assert_close(torch.func.vmap(step)(x0), step(x0))
    rows = torch.stack([torch.autograd.functional.jacobian(step, x) for x in x0])
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(torch.func.vmap(transform(step))(x0), rows)
    by_weight = torch.autograd.functional.jacobian(lambda A: step(x0, A), A)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(transform(lambda A: step(x0, A))(A), by_weight)
    networks = torch.stack([A, A + 1, A - 0.5])
    torch.testing.assert_close(torch.func.vmap(lambda A: step(x0, A))(networks),
                               torch.stack([step(x0, B) for B in networks]))


def test_the_long_way_under_vmap():
    field, x0 = stiff_field(1, 3, 6, 1e4)
    step = step_of(di.ImplicitEuler(), field, h=1.0)
    torch.testing.assert_close(torch.func.vmap(step)(x0), step(x0), rtol=1e-9, atol=1e-12)


@EVERY
def test_a_step_per_sample(name):
    """h may be a tensor (*batch, 1); where it is 0 the sample rests."""
    scheme, F = SCHEMES[name], lambda t, x: x * x - 1  # not of t: every sample has the same field
    x0 = torch.tensor([[1.0, 0.2], [0.1, 0.0], [0.7, 3.0]], dtype=F64)
    h = torch.tensor([[0.3], [0.0], [0.1]], dtype=F64)
    together = scheme.step(F, di.Orthant(), *TIMES, h, x0)[0]
    alone = [scheme.step(F, di.Orthant(), *TIMES, float(s), x)[0] for s, x in zip(h, x0, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone))
    assert torch.equal(together[1], x0[1])


@pytest.mark.parametrize("theta", [0.5, 0.75])
@pytest.mark.parametrize("kind", ["convex", "rotation"])
def test_the_factor_of_the_trapezoid_is_attained_or_near(theta, kind):
    """Linear fields: F = kx has 1 − (1 − θ)hk over 1 + θhk, a rotation √(1 + (1 − θ)²s²)/√(1 + θ²s²)."""
    h, flow = 0.4, None
    J = torch.tensor([[-1.5, 0.0], [0.0, -1.5]] if kind == "convex" else [[0.0, 2.0], [-2.0, 0.0]], dtype=F64)
    flow = di.Inclusion(lambda t, x: x @ J.T, di.Whole(), lipschitz=float(torch.linalg.matrix_norm(J, 2)),
                        one_sided=1.5 if kind == "convex" else 0.0)
    x = di.solve(flow, torch.eye(2, dtype=F64), [0.0, h], scheme=di.Trapezoid(theta)).x[-1]
    bound = float(di.bounds.discrete_sensitivity(flow, [0.0, h], di.Trapezoid(theta)).curve[-1])
    assert float(torch.linalg.matrix_norm(x, 2)) <= bound * (1 + 1e-9)
    if kind == "convex":  # x' = 1.5x: the proof has equality everywhere
        assert float(torch.linalg.matrix_norm(x, 2)) == pytest.approx(bound, rel=1e-9)


def test_a_bound_of_the_trapezoid_that_is_infinite():
    flow = di.Inclusion(lambda t, x: -3 * x, di.Whole(), lipschitz=3.0)
    assert di.bounds.discrete_sensitivity(flow, [0.0, 1.0], di.Trapezoid()).curve[-1] == torch.inf
    assert di.bounds.discrete_sensitivity(flow, [0.0, 0.1], di.Trapezoid()).curve[-1] == pytest.approx(1.15 / 0.85)


@EVERY
def test_half_precision_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name} needs float32 or float64; got x0 of dtype torch.bfloat16"):
        di.solve(di.Inclusion(lambda t, x: x, di.Orthant()), torch.ones(1, dtype=torch.bfloat16), [0.0, 1.0],
                 scheme=SCHEMES[name])


@EVERY
def test_checkpointed_segments_have_the_same_gradients(name):
    flow = di.Inclusion(lambda t, x: x + torch.tanh(x.flip(-1)), di.Orthant())
    gradients = []
    for gradient in ("backprop", "checkpoint"):
        x0 = torch.tensor([[0.4, 0.9]], dtype=F64, requires_grad=True)
        sol = di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=70), scheme=SCHEMES[name], gradient=gradient)
        gradients.append(torch.autograd.grad(sol.x[-1].sum(), x0)[0])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(("stiffness", "dtype"), [(1e3, torch.float32), (1e3, F64), (1e6, F64), (1e9, F64)])
def test_implicit_euler_has_no_step_limit(stiffness, dtype):
    """hL up to 1e9: rounding of u times hL exceeds any residual tolerance, and the root is still found."""
    a = stiffness * torch.tensor([[1.0, 0.3], [-0.2, 1.0]], dtype=dtype)
    target = torch.tensor([1.0, -0.5], dtype=dtype)
    flow = di.Inclusion(lambda t, x: (x - target) @ a.T, di.Orthant())
    sol = di.solve(flow, torch.zeros(5, 2, dtype=dtype), [0.0, 1.0, 2.0, 3.0], scheme=di.ImplicitEuler())
    limit = torch.tensor([0.85, 0.0], dtype=dtype).expand(5, 2)
    torch.testing.assert_close(sol.x[-1], limit, rtol=0, atol=3 / stiffness**3 + 1e3 * torch.finfo(dtype).eps)
    assert torch.equal(sol.x[-1, :, 1], torch.zeros(5, dtype=dtype))


def test_implicit_euler_gradient_of_a_stiff_step_is_the_implicit_one():
    k = torch.tensor(1e7, dtype=F64, requires_grad=True)
    x0 = torch.tensor([2.0], dtype=F64, requires_grad=True)
    x = di.solve(di.Inclusion(lambda t, x: k * (x - 1), di.Orthant()), x0, [0.0, 1.0], scheme=di.ImplicitEuler()).x[-1]
    dx, dk = torch.autograd.grad(x.sum(), (x0, k))  # x = (x0 + k)/(1 + k)
    assert float(dx) == pytest.approx(1 / (1 + 1e7), rel=1e-6)
    assert float(dk) == pytest.approx(-1 / (1 + 1e7) ** 2, rel=1e-5)


@pytest.mark.parametrize("steep", [1e5, 1e7, 1e12])
def test_implicit_euler_is_not_taken_in_by_a_small_step_on_a_steep_piece(steep):
    """At 0 the residual over the slope is below the rounding of 1, and the root is 1."""
    flow = di.Inclusion(lambda t, x: steep * x.clamp(max=0) - 1, di.Whole())
    assert float(di.solve(flow, torch.zeros(1), [0.0, 1.0], scheme=di.ImplicitEuler()).x[-1]) == 1.0


def test_a_singular_jacobian_at_the_start():
    """F = −u + (u − 1)³, x = 1, h = 1: Γ'(1) = 0, the root is 2."""
    flow = di.Inclusion(lambda t, x: (x - 1) ** 3 - x, di.Whole())
    x = di.solve(flow, torch.ones(1, dtype=F64), [0.0, 1.0], scheme=di.ImplicitEuler()).x[-1]
    assert float(x) == pytest.approx(2.0, abs=1e-12)


def test_a_sample_without_a_root_is_given_up_in_time():
    sol = di.solve(di.Inclusion(lambda t, x: -1 - torch.exp(x * x), di.Whole()), torch.zeros(1, dtype=F64), [0.0, 1.0],
                   scheme=di.ImplicitEuler(), throw=False)
    assert sol.status.item() == 2
    assert sol.stats.evaluations < 1500  # all max_iter iterations would take 3000


@pytest.mark.parametrize("stiffness", [1e3, 1e6, 1e9])
@pytest.mark.parametrize("name", ["Ball", "Box numbers", "Simplex", "L1"])
def test_implicit_euler_converges_on_stiff_monotone_problems(name, stiffness):
    """The naive residual saturates for large hL and Newton jumps between two faces."""
    g, gen = FUNCTIONS[name], torch.Generator().manual_seed(0)
    x0 = g.prox(torch.randn(100, D, generator=gen, dtype=F64), 1.0)
    a = torch.randn(100, D, generator=gen, dtype=F64)
    x = di.solve(di.Inclusion(lambda t, x: stiffness * (x - a), g), x0, [0.0, 1.0], scheme=di.ImplicitEuler()).x[-1]
    exact_step = g.prox((x0 + stiffness * a) / (1 + stiffness), 1 / (1 + stiffness))
    torch.testing.assert_close(x, exact_step, rtol=0, atol=1e-9)


def test_implicit_euler_value_does_not_depend_on_who_differentiates():
    """√x has no derivative at the root 0: the value stays, with and without gradients, checkpointed or not."""
    flow = di.Inclusion(lambda t, x: x.clamp_min(0).sqrt(), di.Orthant())
    for wanted in (False, True):
        for gradient in ("backprop", "checkpoint"):
            x0 = torch.tensor([[0.0], [1.0]], dtype=F64, requires_grad=wanted)
            sol = di.solve(flow, x0, [0.0, 1.0], scheme=di.ImplicitEuler(), gradient=gradient)
            torch.testing.assert_close(sol.x[-1].detach(), torch.tensor([[0.0], [0.381966011250105]], dtype=F64))


@pytest.mark.parametrize("scheme", [di.ImplicitEuler(), di.Trapezoid(0.75), di.SemiImplicitEuler(max_iter=1)], ids=str)
def test_a_failure_tells_how_far_it_is_from_a_root(scheme):
    """u = max(x + 1 + exp(u²), 0) has none for x = 0: the residual told is that of some u, no less than the least."""
    flow = di.Inclusion(lambda t, x: -1 - torch.exp(x * x), di.Orthant())
    x0 = torch.tensor([[0.0], [0.25], [0.1]], dtype=F64)
    with pytest.raises(di.SolveError, match=r"sample \(0,\) failed in step 0 .*residual of .* All of them") as caught:
        di.solve(flow, x0, [0.0, 1.0], scheme=scheme)
    told = float(re.search(r"residual of ([\d.e+-]+),", str(caught.value)).group(1))
    u = torch.linspace(0, 30, 300_001, dtype=F64)
    theta = getattr(scheme, "theta", 1.0)
    least = ((u - (1 + theta * torch.exp((u * u).clamp_max(600)) + (1 - theta))).abs() / (1 + u)).min()
    assert told >= (1e-12 if isinstance(scheme, di.SemiImplicitEuler) else 0.99 * float(least))
    assert str(caught.value).endswith("All of them: (0,), (1,), (2,).")


def test_implicit_euler_nonmonotone_root_and_failure():
    """An iteration that does not converge is an error, never kept; the other samples go on."""
    def F(t, x):  # no solution of u = x − F(u) for x > 0.3 or so
        return -1 - torch.exp(x * x)

    flow = di.Inclusion(F, di.Whole())
    x0 = torch.tensor([[0.0], [-20.0]], dtype=F64)
    with pytest.raises(di.SolveError, match="inner Newton iteration of ImplicitEuler did not converge; take smaller"):
        di.solve(flow, x0, [0.0, 1.0], scheme=di.ImplicitEuler())
    step = di.solve(di.Inclusion(lambda t, x: torch.where(x < -5, x, F(t, x)), di.Whole()), x0, [0.0, 1.0],
                    scheme=di.ImplicitEuler(), throw=False)
    assert step.status.tolist() == [2, 0]
    assert bool(step.x[1, 0].isnan())
    assert float(step.x[1, 1]) == -10.0


@pytest.mark.parametrize(("make", "message"), [
    (lambda: di.ImplicitEuler(tol=0.0), "tol must be greater than 0; got 0"),
    (lambda: di.ImplicitEuler(max_iter=0), "max_iter must be at least 1; got 0"),
    (lambda: di.Trapezoid(0.4), r"theta must lie in \[0.5, 1\]; got 0.4. Below 0.5 the step has a limit"),
    (lambda: di.Trapezoid(1.5), r"theta must lie in \[0.5, 1\]; got 1.5"),
    (lambda: di.Trapezoid(float("nan")), "theta must be finite; got nan"),
    (lambda: di.Trapezoid(max_iter=2.5), "max_iter must be a whole number; got 2.5"),
    (lambda: di.SemiImplicitEuler(tol=-1.0), "tol must be greater than 0; got -1"),
    (lambda: di.ImplicitEuler(iterations=3), "unexpected keyword argument 'iterations'"),
])
def test_bad_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
