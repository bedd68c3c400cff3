"""Gradients by recomputation: equal to backpropagation, with √N states kept and every evaluation repeated once."""

import gc
import math
import weakref

import pytest
import torch
from catalogue import SCHEMES

import diffincl as di
from diffincl.solve.recompute import recompute

F64 = torch.float64
TIMES = {"ends": [0.0, 1.0], "several": [0.0, 0.1, 0.5, 0.51, 1.0], "first and last steps": [0.0, 1 / 37, 36 / 37, 1.0]}


def drawn(*shape, seed=0, grad=True):
    value = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64) / 2
    return value.requires_grad_(grad)


def both(make, loss, t, inputs, n, scheme=None):
    """Values and gradients of both modes; ``make`` is called for each, so nothing is shared but the leaves."""
    found = []
    for gradient in ("backprop", "checkpoint"):
        flow, x0, more = make()
        sol = di.solve(flow, x0, t, scheme=scheme, steps=di.Fixed(n=n), gradient=gradient)
        found.append((sol.x.detach(), torch.autograd.grad(loss(sol), [*inputs, *more], allow_unused=True)))
    return found


def assert_same(found):
    (x, plain), (x_again, again) = found
    assert torch.equal(x, x_again)
    for a, b in zip(plain, again, strict=True):
        assert a is not None
        assert b is not None
        assert bool(a.any())
        torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12 * float(a.abs().max()))


def everything(theta, leaf, radius, start):
    """A flow with an inner parameter, a leaf and a computed tensor in the closure, and computed bounds of the box."""
    def make():
        W = 2 * theta + start.mean()  # not a leaf, and on the way from two tensors that F reads as well
        def field(t, x):
            return torch.tanh(x @ W) + x * leaf + theta.sum() * t + 0.1 * start
        upper = radius.exp()
        return di.Inclusion(field, di.Box(-upper, upper)), 0.5 * start.tanh(), [W, upper]
    return make


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("t", TIMES.values(), ids=TIMES)
def test_closures_bounds_and_start_get_the_gradients_of_backpropagation(scheme, t):
    inputs = drawn(3, 3), drawn(3, seed=1), drawn(3, seed=2), drawn(4, 3, seed=3)
    def loss(sol):
        return (sol.x * torch.arange(1, 1 + sol.x.numel()).reshape(sol.x.shape)).sum()
    assert_same(both(everything(*inputs), loss, t, inputs, 37, scheme))


@pytest.mark.parametrize("n", [1, 2, 3, 16, 101, 300])
@pytest.mark.parametrize("curve", [di.PiecewiseConstant, di.PiecewiseLinear])
def test_parameters_of_layers_get_the_gradients_of_backpropagation(n, curve):
    w = [torch.nn.Parameter(drawn(7, *s, seed=k)) for k, s in enumerate(((5, 3), (5,), (3, 5), (3,)))]
    start = drawn(4, 3).detach().abs().requires_grad_()
    def make():
        return di.Inclusion(di.ResNetField(*(curve(v) for v in w)), di.Orthant()), start, []
    assert_same(both(make, lambda sol: sol.x.square().sum(), [0.0, 0.3, 1.0], [*w, start], n))


def test_multipliers_have_the_gradients_of_backpropagation():
    a, start = drawn(3), drawn(4, 3, seed=1).detach().abs().requires_grad_()
    def make():
        return di.Inclusion(lambda t, x: a.exp() + x, di.Orthant()), start, []
    assert_same(both(make, lambda sol: (sol.multiplier**2).sum() + sol.x.sum(), [0.0, 0.25, 1.0], [a, start], 40))


def test_backward_fills_grad_and_leaves_what_is_computed_before_intact():
    theta, x0 = drawn(2, 2), drawn(5, 2, seed=1).detach().abs()
    W = theta**2
    W.retain_grad()
    sol = di.solve(di.Inclusion(lambda t, x: x @ W, di.Orthant()), x0, [0.0, 1.0], steps=di.Fixed(n=30),
                   gradient="checkpoint")
    (sol.x[-1].sum() + W.sum()).backward()
    torch.testing.assert_close(theta.grad, 2 * theta.detach() * W.grad)


class Energy(torch.nn.Module):
    """The gradient of an energy, differentiated inside F: its parameters are read with gradients enabled."""

    def __init__(self):
        super().__init__()
        self.W = torch.nn.Parameter(drawn(3, 3))

    def forward(self, t, x):
        with torch.enable_grad():
            y = x if x.requires_grad else x.detach().requires_grad_()
            energy = torch.cosh(y @ self.W).sum()
            return torch.autograd.grad(energy, y, create_graph=True)[0]


class Transformed(Energy):
    """The same by torch.func."""

    def forward(self, t, x):
        return torch.func.grad(lambda y: torch.cosh(y @ self.W).sum())(x)


class Doubled(torch.autograd.Function):
    """2xW by hand."""

    @staticmethod
    def forward(ctx, x, W):
        ctx.save_for_backward(x, W)
        return 2 * x @ W

    @staticmethod
    def backward(ctx, v):
        x, W = ctx.saved_tensors
        return 2 * v @ W.T, 2 * x.T @ v


class ByHand(Energy):
    """A field with a derivative of its own."""

    def forward(self, t, x):
        return Doubled.apply(x, self.W)


@pytest.mark.parametrize("field", [Energy(), Transformed(), ByHand(), torch.nn.utils.parametrizations.weight_norm(
    torch.nn.Linear(3, 3, dtype=F64))], ids=lambda f: type(f).__name__)
def test_fields_that_differentiate_inside_keep_their_parameters(field):
    start = drawn(4, 3, seed=1)
    F = field if isinstance(field, Energy) else lambda t, x: field(x)
    def make():
        return di.Inclusion(F, di.Box(-1.0, 1.0)), start.tanh(), []
    assert_same(both(make, lambda sol: sol.x.square().sum(), [0.0, 1.0], [*field.parameters(), start], 23))


class ByKeyword(Energy):
    """Tensors in keywords and in lists."""

    def forward(self, t, x):
        return torch.stack([torch.nn.functional.linear(x, weight=self.W), x]).sum(0)


class DetachedEnergy(Energy):
    """Makes a leaf for itself in every call."""

    def forward(self, t, x):
        with torch.enable_grad():
            y = x.detach().requires_grad_()
            return torch.autograd.grad(torch.cosh(y @ self.W).sum(), y, create_graph=True)[0]


@pytest.mark.parametrize("field", [ByKeyword(), DetachedEnergy()], ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("scheme", [di.ForwardEuler(), di.ProxHeun()], ids=repr)
def test_fields_that_make_leaves_or_take_keywords(field, scheme):
    x0 = drawn(4, 3, seed=1, grad=False).tanh()
    def make():  # in a closure, where no module shows the parameter
        return di.Inclusion(lambda t, x: field(t, x), di.Box(-1.0, 1.0)), x0, []
    assert_same(both(make, lambda sol: sol.x.square().sum(), [0.0, 1.0], [field.W], 23, scheme))


def test_compiled_fields_keep_their_parameters_and_hidden_tensors_are_refused():
    start, W = drawn(4, 3, seed=1), drawn(3, 3)
    field = Transformed()
    field.forward = lambda t, x: torch.tanh(x @ field.W)
    torch._dynamo.reset()
    module = torch.compile(field, backend="eager")
    def make():
        return di.Inclusion(module, di.Box(-1.0, 1.0)), start.tanh(), []
    assert_same(both(make, lambda sol: sol.x.square().sum(), [0.0, 1.0], [field.W, start], 23))
    closure = torch.compile(lambda t, x: torch.tanh(x @ W), backend="eager")
    sol = di.solve(di.Inclusion(closure, di.Box(-1.0, 1.0)), start.tanh(), [0.0, 1.0], gradient="checkpoint")
    with pytest.raises(RuntimeError, match=r"did not see that F or g reads a tensor of shape \(3, 3\)"):
        sol.x.sum().backward()


def test_a_computed_tensor_in_a_function_of_its_own_is_refused_not_lost():
    theta, x0 = drawn(3, 3), drawn(4, 3, seed=1, grad=False).abs()
    W = 2 * theta
    flow = di.Inclusion(lambda t, x: Doubled.apply(x, W), di.Orthant())
    sol = di.solve(flow, x0, [0.0, 1.0], gradient="checkpoint")
    with pytest.raises(RuntimeError, match=r"Hand over W.clone\(\) in place of W, or take gradient='backprop'"):
        sol.x.sum().backward()
    def cured():
        W = 2 * theta
        return di.Inclusion(lambda t, x: Doubled.apply(x, W.clone()), di.Orthant()), x0, []
    assert_same(both(cured, lambda sol: sol.x.sum(), [0.0, 1.0], [theta], 9))


@pytest.mark.parametrize("n", [1, 10, 97, 400, 1009])
def test_states_kept_and_evaluations_are_counted(n):
    """At most 2√N + 2 states are kept and F is evaluated at most 2N times."""
    a, x0, calls = drawn(3), torch.rand(7, 3, dtype=F64), []
    def field(t, x):
        calls.append(0)
        return torch.tanh(a * x)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda v: (kept.append(v.shape), v)[1], lambda v: v):
        sol = di.solve(di.Inclusion(field, di.Orthant()), x0, [0.0, 1.0], steps=di.Fixed(n=n), gradient="checkpoint")
    assert sum(shape == x0.shape for shape in kept) <= 2 * math.sqrt(n) + 2
    assert len(calls) == n
    sol.x.sum().backward()
    assert len(calls) == 2 * n


@pytest.mark.parametrize(("gradient", "most"), [("backprop", 1009), ("checkpoint", 5 * math.sqrt(1009))])
def test_states_alive_at_one_time_are_counted(gradient, most):
    """Kept ones and those of the segment being taken again; F saves one tensor like x, the prox another."""
    a, x0, saved, alive = drawn(3), torch.rand(7, 3, dtype=F64), [], 0
    def field(t, x):
        nonlocal alive
        alive = max(alive, len({id(v()) for v in saved if v() is not None}))
        return torch.tanh(a * x)
    def note(v):
        if v.shape == x0.shape:
            saved.append(weakref.ref(v))
        return v
    with torch.autograd.graph.saved_tensors_hooks(note, lambda v: v):
        sol = di.solve(di.Inclusion(field, di.Orthant()), x0, [0.0, 1.0], steps=di.Fixed(n=1009), gradient=gradient)
        sol.x.sum().backward()
    assert (alive > most) == (gradient == "backprop")


def test_nothing_is_left_when_the_solution_goes():
    """No circle of references keeps the states alive."""
    a, x0, kept = drawn(3), torch.rand(7, 3, dtype=F64), []
    def note(v):
        kept.append(weakref.ref(v))
        return v
    with torch.autograd.graph.saved_tensors_hooks(note, lambda v: v):
        sol = di.solve(di.Inclusion(lambda t, x: a * x, di.Orthant()), x0, [0.0, 0.5, 1.0], steps=di.Fixed(n=50),
                       gradient="checkpoint")
    gc.disable()
    try:
        assert sum(v() is not None for v in kept) > 10
        sol.x.sum().backward()
        assert sum(v() is not None for v in kept) == 1  # a; the states go with the graph
        del sol
        assert sum(v() is not None for v in kept) == 1  # a, which the test holds
    finally:
        gc.enable()


def test_recompute_skips_segments_without_a_cotangent():
    a, calls = drawn(1)[0].detach().requires_grad_(), []
    def step(x):
        calls.append(0)
        return a * x, [x]
    _, kept = recompute([step] * 100, torch.tensor(1.0, dtype=F64))
    calls.clear()
    (da,) = torch.autograd.grad(kept[3][0], a)
    assert float(da) == pytest.approx(3 * float(a) ** 2)
    assert len(calls) == 5  # one segment


def test_a_solution_used_at_one_time_has_the_gradient_of_that_time():
    a, x0 = drawn(3), torch.rand(7, 3, dtype=F64)
    flow = di.Inclusion(lambda t, x: a * x, di.Orthant())
    sol = di.solve(flow, x0, [0.0, 0.25, 1.0], steps=di.Fixed(n=400), gradient="checkpoint")
    plain = di.solve(flow, x0, [0.0, 0.25], steps=di.Fixed(n=100))
    torch.testing.assert_close(torch.autograd.grad(sol.x[1].sum(), a), torch.autograd.grad(plain.x[1].sum(), a))


def test_without_gradients_it_is_a_plain_run():
    flow = di.Inclusion(lambda t, x: x, di.Orthant())
    sol = di.solve(flow, torch.ones(2), [0.0, 1.0], gradient="checkpoint")
    assert not sol.x.requires_grad
    x0 = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        assert not di.solve(flow, x0, [0.0, 1.0], gradient="checkpoint").x.requires_grad


def test_random_numbers_are_drawn_again():
    layer, start = torch.nn.Linear(3, 3, dtype=F64), drawn(4, 3)
    def make():
        torch.manual_seed(5)
        F = lambda t, x: torch.nn.functional.dropout(layer(x), 0.5)  # noqa: E731
        return di.Inclusion(F, di.Box(-1.0, 1.0)), start.tanh(), []
    assert_same(both(make, lambda sol: sol.x.square().sum(), [0.0, 1.0], [*layer.parameters(), start], 40))
    flow, x0, _ = make()
    sol = di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=40), gradient="checkpoint")
    here = torch.get_rng_state()
    sol.x.sum().backward()
    assert torch.equal(torch.get_rng_state(), here)


def test_other_values_the_second_time_are_an_error():
    generator, a = torch.Generator().manual_seed(0), drawn(3)
    flow = di.Inclusion(lambda t, x: a * x * torch.rand(3, generator=generator, dtype=F64), di.Orthant())
    sol = di.solve(flow, torch.ones(2, 3, dtype=F64), [0.0, 1.0], gradient="checkpoint")
    with pytest.raises(RuntimeError, match=r"F or g gave other values than before.*take gradient='backprop'"):
        sol.x.sum().backward()


def test_weights_changed_in_place_before_backward_are_an_error():
    a = drawn(3)
    flow = di.Inclusion(lambda t, x: a * x, di.Orthant())
    sol = di.solve(flow, torch.ones(2, 3, dtype=F64), [0.0, 1.0], gradient="checkpoint")
    with torch.no_grad():
        a.add_(1e-9)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        sol.x.sum().backward()


def test_a_second_backward_or_derivative_is_an_error():
    a = drawn(3)
    flow = di.Inclusion(lambda t, x: a * x, di.Orthant())
    sol = di.solve(flow, torch.ones(2, 3, dtype=F64), [0.0, 1.0], steps=di.Fixed(n=9), gradient="checkpoint")
    with pytest.raises(RuntimeError, match="first derivatives only, so create_graph=True is not"):
        torch.autograd.grad((sol.x * a).square().sum(), a, create_graph=True)
    sol = di.solve(flow, torch.ones(2, 3, dtype=F64), [0.0, 1.0], gradient="checkpoint")
    sol.x.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        sol.x.sum().backward()


def blows_up(a):
    return lambda t, x: torch.where((x[..., :1] > 5) & (t > 0.499), torch.nan, a * x)


@pytest.mark.parametrize(("n", "rows"), [(10, 4), (100, 2)])
def test_partial_solutions_keep_their_gradients(n, rows):
    a, x0 = drawn(2), torch.tensor([[1.0, 1.0], [90.0, 1.0], [2.0, 0.5]], dtype=F64, requires_grad=True)
    flow = di.Inclusion(blows_up(a), di.Orthant())
    t, found = [0.0, 0.25, 0.75, 1.0], {}
    for gradient in ("backprop", "checkpoint"):
        sol = di.solve(flow, x0, t, steps=di.Fixed(n=n), gradient=gradient, throw=False)
        assert sol.status.tolist() == [0, 1, 0]
        assert bool(sol.x[2:, 1].isnan().all())
        with pytest.raises(di.SolveError, match="1 of 3 samples failed") as caught:
            di.solve(flow, x0, t, steps=di.Fixed(n=n), gradient=gradient)
        kept = caught.value.solution
        found[gradient] = (sol.x.detach(), sol.message, sol.reached, kept.x[:2].detach(),
                           torch.autograd.grad(sol.x[:, [0, 2]].sum(), x0)[0][[0, 2]],
                           torch.autograd.grad(kept.x[:2].sum(), a)[0])
        if rows == 2:  # rows after the failure would hand back 0·NaN
            assert bool(found[gradient][-1].isfinite().all())
    for plain, again in zip(*found.values(), strict=True):
        assert plain == again if isinstance(plain, str) else torch.allclose(plain, again, 1e-12, 0.0, equal_nan=True)


@pytest.mark.parametrize("n", [10, 100])
def test_a_failure_that_the_prox_hides_is_repeated_as_it_was(n):
    """F is infinite for an instant, which the projection makes finite: NaN from there on in both passes."""
    x0 = torch.tensor([[0.1, 0.2], [0.9, 0.3]], dtype=F64, requires_grad=True)
    a, found = torch.tensor([0.1, -0.2], dtype=F64, requires_grad=True), []
    flow = di.Inclusion(lambda t, x: torch.where((x[..., :1] > 0.5) & (t > 0.4) & (t < 0.6), torch.inf, a * x),
                        di.Box(-1.0, 1.0))
    for gradient in ("backprop", "checkpoint"):
        sol = di.solve(flow, x0, [0.0, 0.25, 0.75, 1.0], steps=di.Fixed(n=n), gradient=gradient, throw=False)
        assert sol.status.tolist() == [0, 1]
        assert sol.x[:, 1].isnan().all(-1).tolist() == [False, False, True, True]
        found.append(torch.autograd.grad(sol.x[:, 0].sum() + sol.x[1].sum(), x0)[0])
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-12, atol=0)
    assert bool(found[1][0].isfinite().all())


def test_a_field_that_changes_shape_midway_keeps_what_came_before():
    a = drawn(2)
    flow = di.Inclusion(lambda t, x: a * x if t < 0.35 else x[..., :1], di.Orthant())
    with pytest.raises(di.SolveError, match="the field must return") as caught:
        di.solve(flow, torch.ones(1, 2, dtype=F64), torch.linspace(0, 1, 11, dtype=F64), gradient="checkpoint")
    kept = caught.value.solution
    assert len(kept.t) == 5
    (da,) = torch.autograd.grad(kept.x[-1].sum(), a)
    torch.testing.assert_close(da, -0.4 * (1 - 0.1 * a.detach()) ** 3)
    with pytest.raises(di.SolveError) as caught:
        di.solve(di.Inclusion(lambda t, x: None, di.Orthant()), a.detach().abs().requires_grad_(), [0.0, 1.0],
                 gradient="checkpoint")
    assert len(caught.value.solution.t) == 1


def test_under_transforms_and_forward_mode_it_is_plain_differentiation():
    a, x0 = drawn(3, grad=False), torch.rand(4, 3, dtype=F64)
    def end(x, a, gradient):
        return di.solve(di.Inclusion(lambda t, x: torch.sin(a * x), di.Orthant()), x, [0.0, 1.0], steps=di.Fixed(n=9),
                        gradient=gradient).x[-1]
    for transform in (lambda f: torch.func.jacrev(f, argnums=1)(x0, a), lambda f: torch.func.vmap(f, (0, None))(x0, a),
                      lambda f: torch.func.jacfwd(f)(x0, a)):
        plain, again = (transform(lambda x, a, mode=mode: end(x, a, mode)) for mode in ("backprop", "checkpoint"))
        torch.testing.assert_close(again, plain)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x0, torch.ones_like(x0))
        plain, again = (torch.autograd.forward_ad.unpack_dual(end(dual, drawn(3), mode)).tangent
                        for mode in ("backprop", "checkpoint"))
        torch.testing.assert_close(again, plain)


def test_mixed_precision_is_as_it_was():
    layer, x0 = torch.nn.Linear(8, 8), torch.rand(4, 8)
    flow = di.Inclusion(lambda t, x: layer(x).float(), di.Orthant())
    grads = []
    for gradient in ("backprop", "checkpoint"):
        with torch.autocast("cpu", torch.bfloat16):
            sol = di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=20), gradient=gradient)
            after = layer(x0).float()  # the casts of the pass without gradients are not kept for it
        grads.append((sol.x.detach(), torch.autograd.grad(sol.x[-1].sum(), layer.weight)[0]))
        assert bool(torch.autograd.grad(after.sum(), layer.weight)[0].any())
    assert torch.equal(grads[0][0], grads[1][0])
    torch.testing.assert_close(grads[0][1], grads[1][1], rtol=0.05, atol=1e-2)
