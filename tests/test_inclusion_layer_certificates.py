"""The factor of a whole layer of steps, dense and convolutional."""

import pytest
import torch

import diffincl as di
from diffincl.fields import adjoint_kernel

F64 = torch.float64
C = di.PiecewiseConstant


def kernels(layers=3, size=0.4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [size * torch.randn(layers, *shape, generator=g, dtype=F64)
            for shape in ((3, 2, 3, 3), (3,), (2, 3, 3, 3), (2,))]


def layer(variant, curve=C, **more):
    A1, b1, A2, b2 = map(curve, kernels(size=0.2 if variant == "s" else 0.4))
    field = di.ConvResNetField(A1, b1, A2, b2) if variant == "resnet" else di.ConvResNetSField(A1, b1, b2)
    return di.nn.InclusionLayer(field, di.Orthant(), [0.0, 1 / 3, 2 / 3, 1.0], **more)


def worst_ratio(module, shape):
    g = torch.Generator().manual_seed(1)
    x, z = (torch.rand(32, *shape, generator=g, dtype=F64).requires_grad_() for _ in range(2))
    optimiser, worst = torch.optim.Adam([x, z], lr=0.05), 0.0
    for _ in range(100):
        optimiser.zero_grad()
        start, other = torch.relu(x), torch.relu(x + z)
        ratio = (module(other) - module(start)).flatten(1).norm(dim=1) / (other - start).flatten(1).norm(dim=1)
        worst = max(worst, float(ratio.detach().max()))
        (-ratio.sum()).backward()
        optimiser.step()
    return worst


@pytest.mark.parametrize("variant", ["resnet", "s"])
@pytest.mark.parametrize("curve", [C, di.PiecewiseLinear])
def test_no_ascent_beats_the_product_of_the_factors(variant, curve):
    module = layer(variant, curve)
    worst = worst_ratio(module, (2, 5, 4))
    assert worst <= module.certificate((5, 4)).value <= module.certificate().value * (1 + 1e-12)
    assert worst > 0.5
    assert module.certificate((5, 4)).status == "certified"
    assert module.certificate().status == "float"
    if variant == "s":
        assert module.certificate((5, 4)).value == 1.0


def test_the_factor_is_that_of_the_layers_by_hand():
    """A symmetric layer with h‖A‖² > 2 has the factor h‖A‖² − 1; a general one at most 1 + h‖A1‖‖A2‖."""
    big = layer("s")
    with torch.no_grad():
        big.field.A.values.mul_(3)
    sizes = [float(di.norms.conv2d(A, (5, 4)).value) ** 2 / 3 for A in big.field.A.values]
    expected = torch.tensor([max(1.0, size - 1) for size in sizes]).prod()
    assert float(expected) > 2
    assert abs(big.certificate((5, 4)).value / float(expected) - 1) < 1e-6
    general = layer("resnet")
    A1, A2 = general.field.A1.values, general.field.A2.values
    product = 1.0
    for k in range(3):
        product *= 1 + float(di.norms.conv2d(A1[k], (5, 4)).value * di.norms.conv2d(A2[k], (5, 4)).value) / 3
    assert general.certificate((5, 4)).value <= product * (1 + 1e-9)


def test_of_a_transposed_pair_the_general_factor_is_near_one():
    """The difference A2Q − A1ᵀQ⁻¹ vanishes: without an image what is left of D4 is √(1 + h²L²), with one R8 gives 1."""
    A1, b1, _, b2 = (v[0] for v in kernels())
    field = di.ConvResNetField(A1, b1, adjoint_kernel(A1), b2)
    module = di.nn.InclusionLayer(field, di.Orthant(), [0.0, 0.1])
    assert 1 <= module.certificate(5).value < 1 + 1e-6
    maps = di.nn.ResNetBlock2d(2).maps
    L = float(maps.norm(A1, None, "float").value) ** 2
    assert abs(module.certificate().value - (1 + (0.1 * L) ** 2) ** 0.5) < 1e-6


def test_forward_euler_has_the_factor_of_the_weights_at_the_start_of_its_step():
    A, b1, _, b2 = (v[0] for v in kernels(size=2.0))
    field = di.ConvResNetSField(di.PiecewiseLinear(torch.stack([A, 0 * A])), b1, b2)
    module = di.nn.InclusionLayer(field, di.Orthant(), [0.0, 1.0])
    size = float(di.norms.conv2d(A, 5).value) ** 2
    assert abs(module.certificate(5).value / (size - 1) - 1) < 1e-9


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
def test_a_layer_that_pushes_outward_attains_its_factor(padding_mode):
    """A2 = −A1ᵀ with all units on: x⁺ = x + hAᵀAx + const, of norm 1 + h‖A‖²; nothing may be below."""
    A, b1, _, b2 = (v[0] for v in kernels())
    field = di.ConvResNetField(A, b1 + 1000, -adjoint_kernel(A), b2, padding_mode=padding_mode)
    module = di.nn.InclusionLayer(field, di.Whole(), [0.0, 0.1])
    inputs = torch.eye(2 * 20, dtype=F64).reshape(-1, 2, 5, 4)
    M = (module(inputs) - module(0 * inputs)).flatten(1).T
    true = float(torch.linalg.matrix_norm(M, 2))
    assert true > 1.1
    assert true <= module.certificate((5, 4)).value <= true * 1.001
    assert true <= module.certificate().value


def test_a_dense_layer_takes_the_bound_of_its_flow():
    A, zero = torch.eye(2), torch.zeros(2)
    module = di.nn.InclusionLayer(di.ResNetSField(A, zero, zero), di.Orthant(), [0.0, 1.0, 2.0], di.ProxHeun())
    assert module.certificate().value == 1.0
    assert module.certificate().status == "certified"
    assert "Orthant()" in repr(module)
    with pytest.raises(ValueError, match="has no image"):
        module.certificate(8)


def test_other_schemes_have_no_product():
    with pytest.raises(ValueError, match="ForwardEuler"):
        layer("s", scheme=di.ProxHeun()).certificate(5)
