"""Fields of the ResNet family, ensembles, callables, and the Inclusion."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import diffincl as di
from diffincl.fields import CallableField

F64 = torch.float64
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 6), st.lists(st.integers(1, 3), max_size=2))
DTYPES = st.sampled_from([torch.float32, torch.float64])


def weights(d, m, *lead, dtype=F64, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(*lead, *shape, generator=g, dtype=dtype) for shape in ((m, d), (m,), (d, m), (d,))]


@given(SHAPES, DTYPES)
def test_value_is_the_formula(shape, dtype):
    d, m, batch = shape
    A1, b1, A2, b2 = weights(d, m, dtype=dtype)
    x = torch.randn(*batch, d, dtype=dtype)
    expected = torch.relu(x @ A1.T + b1) @ A2.T - b2
    value = di.ResNetField(A1, b1, A2, b2)(0.0, x)
    assert value.shape == x.shape
    assert value.dtype == dtype
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(di.ResNetSField(A1, b1, b2)(0.0, x), torch.relu(x @ A1.T + b1) @ A1 - b2)
    torch.testing.assert_close(di.ResNetDField(A1, b1, A2.abs(), b2)(0.0, x),
                               torch.relu(x @ A1.T + b1) @ A2.abs().T - b2)


@given(SHAPES, st.integers(1, 4), DTYPES)
def test_an_ensemble_is_a_loop_over_networks(shape, members, dtype):
    d, m, batch = shape
    A1, b1, A2, b2 = weights(d, m, members, dtype=dtype)
    x = torch.randn(members, *batch, d, dtype=dtype)
    value = di.ResNetField(A1, b1, A2, b2)(0.0, x)
    for k in range(members):
        torch.testing.assert_close(value[k], di.ResNetField(A1[k], b1[k], A2[k], b2[k])(0.0, x[k]))


@pytest.mark.parametrize("kind", [di.PiecewiseConstant, di.PiecewiseLinear])
def test_an_ensemble_of_layers_is_a_loop_over_networks(kind):
    layers, members, d, m = 4, 3, 2, 5
    w = weights(d, m, layers, members)
    field = di.ResNetField(*(kind(v) for v in w))
    x = torch.randn(members, 6, d, dtype=F64)
    for t in (0.0, 0.3, 0.5, 1.0):
        for k in range(members):
            alone = di.ResNetField(*(kind(v[:, k]) for v in w))
            torch.testing.assert_close(field(t, x)[k], alone(t, x[k]))
    assert field.ensemble == (members,)


def test_symmetric_field_is_the_gradient_of_its_potential():
    A, b1, _, b2 = weights(3, 4)
    x = torch.randn(7, 3, dtype=F64, requires_grad=True)
    phi = 0.5 * (torch.relu(x @ A.T + b1) ** 2).sum() - (x * b2).sum()
    gradient, = torch.autograd.grad(phi, x)
    torch.testing.assert_close(di.ResNetSField(A, b1, b2)(0.0, x), gradient)


def test_knots_of_curves_with_different_numbers_of_pieces_are_merged():
    """3/10 and 9/30 differ in the last bit; as two knots they would make a step of length 1e-17."""
    A1, b1, A2, b2 = weights(2, 3, 30)
    C = di.PiecewiseConstant
    field = di.ResNetField(C(A1[:10]), C(b1), C(A2[:10]), C(b2[:10]))
    assert len(field.knots) == 31
    sol = di.solve(di.Inclusion(field, di.Orthant()), torch.ones(2, dtype=F64), [0.0, 1.0])
    assert sol.stats.steps == 30
    x = torch.ones(2, dtype=F64)
    for k in range(30):
        x = torch.relu(x - (A2[k // 3] @ torch.relu(A1[k // 3] @ x + b1[k]) - b2[k // 3]) / 30)
    torch.testing.assert_close(sol.x[-1], x)


def test_value_at_a_knot_is_from_the_right_and_in_a_step_from_inside():
    A = torch.eye(1, dtype=F64)
    field = di.ResNetField(A, torch.zeros(1, dtype=F64), A,
                           di.PiecewiseConstant(torch.tensor([[1.0], [2.0]], dtype=F64)))
    x = torch.zeros(1, dtype=F64)
    assert float(field(0.5, x)) == -2.0
    assert float(field.on(0.0, 0.5)(0.5, x)) == -1.0
    assert float(field(1.0, x)) == -2.0


def test_velocity_has_the_other_sign_and_keeps_its_parameters():
    v = torch.nn.Linear(2, 2)

    class Velocity(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.v = v

        def forward(self, t, x):
            return self.v(x)

    flow = di.Inclusion.from_velocity(Velocity(), di.Whole())
    x = torch.randn(3, 2)
    torch.testing.assert_close(flow.field(0.0, x), -v(x))
    assert {id(p) for p in flow.field.parameters()} == {id(p) for p in v.parameters()}


def test_a_module_as_a_field_is_found_by_parameters():
    class F(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.k = torch.nn.Parameter(torch.tensor(1.5))

        def forward(self, t, x):
            return self.k * x

    field = CallableField(F())
    assert len(list(field.parameters())) == 1
    sol = di.solve(di.Inclusion(field, di.Orthant()), torch.ones(1), [0.0, 0.5])
    sol.x[-1].sum().backward()
    assert float(field.function.k.grad) == -0.5


A1, b1, A2, b2 = weights(2, 3)
C = di.PiecewiseConstant


@pytest.mark.parametrize(("make", "message"), [
    (lambda: di.ResNetField(A1.T, b1, A2, b2), r"b1 must have shape \(2,\) to fit A1 \(or A\) of shape \(2, 3\)"),
    (lambda: di.ResNetField(A1, b1, A1, b2), r"A2 must have shape \(2, 3\) to fit A1"),
    (lambda: di.ResNetField(A1, b1, A2, b1), r"b2 must have shape \(2,\) to fit A1"),
    (lambda: di.ResNetField(A1[0], b1, A2, b2), r"A1 \(or A\) must have shape \(\*batch, m, d\)"),
    (lambda: di.ResNetField(A1, b1.float(), A2, b2), "b1 must share dtype and device with A1"),
    (lambda: di.ResNetField(A1, b1 * torch.nan, A2, b2), r"b1 must be finite; entry \(0,\) is nan"),
    (lambda: di.ResNetField(A1, None, A2, b2), "b1 must be a torch.Tensor; got NoneType"),
    (lambda: di.ResNetField(A1.long(), b1, A2, b2), "A1 must have a real floating-point dtype; got a tensor"),
    (lambda: di.ResNetDField(A1, b1, -A2.abs(), b2), r"A2 must be nonnegative entry by entry in ResNet-D; entry \(0,"),
    (lambda: di.ResNetField(C(A1[None], 0, 1), b1, A2, C(b2[None], 2, 3)), "share no time interval"),
    (lambda: di.ResNetField(A1, b1, A2, b2, b3=1), "unexpected keyword argument 'b3'"),
    (lambda: di.Inclusion(3, di.Orthant()), r"field must be callable as F\(t, x\); got int"),
    (lambda: di.Inclusion(lambda t, x: x, di.Orthant), r"g must be a ProxFunction .* Call it: write Orthant\(\)"),
    (lambda: di.Inclusion(lambda t, x: x, di.Orthant(), lipschitz=-1), "lipschitz must be at least 0; got -1"),
    (lambda: di.Inclusion(lambda t, x: x, di.Orthant(), one_sided=torch.nan), "one_sided must be finite; got nan"),
    (lambda: di.Inclusion(lambda t, x: x, di.Orthant(), lipschitz=1, one_sided=-2), "one_sided must be at least −lips"),
    (lambda: di.Inclusion(lambda t, x: x, di.Orthant(), lipschits=1), "unexpected keyword argument 'lipschits'"),
    (lambda: di.Inclusion.from_velocity("v", di.Orthant()), r"v must be callable as v\(t, x\); got str"),
])
def test_bad_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
