"""Normalisation that keeps the structure, and maps between resolutions: norms against the matrix of the map."""

import copy
import io

import pytest
import torch
from torch import nn

import diffincl as di
from diffincl.nn import *  # noqa: F403
from diffincl.nn import AveragePool, BatchNorm1d, BatchNorm2d, GlobalMean, PadChannels, Subsample, SymmetricBlock2d

F64 = torch.float64

MAPS = [
    (AveragePool(2), (2, 6, 4), 1.0),
    (AveragePool(2), (2, 5, 7), 1.0),
    (AveragePool(2, scale=1.0), (2, 6, 4), 0.5),
    (AveragePool(3, dims=1, scale=3.0), (2, 9), 3**0.5),
    (AveragePool(3, dims=1), (2, 9), 1.0),
    (Subsample(2), (2, 5, 4), 1.0),
    (Subsample(3, dims=1), (2, 7), 1.0),
    (PadChannels(2, 5), (2, 3, 3), 1.0),
    (PadChannels(2, 2, dims=1), (2, 3), 1.0),
    (PadChannels(2, 4, dims=0), (2,), 1.0),
    (GlobalMean(), (2, 4, 3), 12**-0.5),
    (GlobalMean(dims=1), (2, 7), 7**-0.5),
]


def matrix(module, shape):
    return module(torch.eye(torch.Size(shape).numel(), dtype=F64).reshape(-1, *shape)).flatten(1).T


@pytest.mark.parametrize(("module", "shape", "norm"), MAPS, ids=lambda v: repr(v) if isinstance(v, nn.Module) else "")
def test_norms_of_maps_between_resolutions(module, shape, norm):
    M = matrix(module, shape)
    assert bool((M >= 0).all())
    certificate = module.certificate(shape[1:] or None)
    true = float(torch.linalg.matrix_norm(M, 2))
    assert abs(true - norm) < 1e-12
    assert norm <= certificate.value <= norm * (1 + 1e-12)
    assert certificate.status == "certified"
    assert module.certificate().value >= certificate.value
    again = eval(repr(module))
    assert repr(again) == repr(module)
    x = torch.rand(3, *shape)
    assert torch.equal(again(x), module(x))
    plain, file = module.plain(), io.BytesIO()
    assert torch.equal(plain(x), module(x))
    torch.save(plain, file)
    assert b"diffincl" not in file.getvalue()


@pytest.mark.parametrize(("kind", "shape"), [(BatchNorm1d, (3,)), (BatchNorm1d, (3, 5)), (BatchNorm2d, (3, 5, 4))])
def test_batch_normalisation_is_torch_s_with_a_positive_scale(kind, shape):
    torch.manual_seed(0)
    norm = kind(3, momentum=0.3, dtype=F64)
    reference = (nn.BatchNorm1d if kind is BatchNorm1d else nn.BatchNorm2d)(3, momentum=0.3, dtype=F64)
    for _ in range(3):
        x = 3 * torch.randn(20, *shape, dtype=F64) + 1
        assert torch.equal(norm(x), reference(x))
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([-1.0, 0.5, 2.0]))
    with pytest.raises(ValueError, match="evaluation mode only"):
        norm.certificate()
    plain = norm.plain()
    assert plain.training
    assert type(plain).__module__.startswith("torch")
    norm.eval()
    plain = norm.plain()
    x = torch.randn(20, *shape, dtype=F64)
    assert torch.equal(plain(x), norm(x))
    gap = (norm(x[:10]) - norm(x[10:])).flatten(1).norm(dim=1) / (x[:10] - x[10:]).flatten(1).norm(dim=1)
    value = norm.certificate().value
    steepest = float((norm.weight.detach().abs() / (norm.running_var + norm.eps).sqrt()).max())
    assert float(gap.detach().max()) <= value
    assert steepest <= value <= steepest * (1 + 1e-12)
    norm.constrain_()
    assert norm.weight.tolist() == [1e-6, 0.5, 2.0]
    assert eval(repr(norm)).momentum == 0.3
    again = eval(repr(norm))
    again.load_state_dict(norm.state_dict())
    assert torch.equal(again.eval()(x), norm(x))


def test_folding_keeps_the_field():
    """Aᵀσ(norm(A*x + b)) is a ResNet-S field with the folded kernel, by conv and by its adjoint."""
    torch.manual_seed(1)
    A, b = torch.randn(3, 2, 3, 3, dtype=F64), torch.randn(3, dtype=F64)
    norm = BatchNorm2d(3, dtype=F64)
    norm(torch.randn(9, 3, 5, 4, dtype=F64))
    with torch.no_grad():
        norm.weight.uniform_(-0.5, 1.0)
    norm.constrain_()
    norm.eval()
    x = torch.rand(4, 2, 5, 4, dtype=F64)
    hidden = torch.relu(norm(torch.conv2d(x, A, b, padding=1)))
    folded = di.ConvResNetSField(*norm.fold_symmetric(A, b), torch.zeros(2, dtype=F64))
    torch.testing.assert_close(folded(0.0, x), torch.conv_transpose2d(hidden, A, padding=1))
    A1, b1 = norm.fold(A, b)
    torch.testing.assert_close(torch.relu(torch.conv2d(x, A1, b1, padding=1)), hidden)


def test_a_chain_of_blocks_and_maps_obeys_the_product_of_its_factors():
    g = torch.Generator().manual_seed(0)
    net = nn.Sequential(SymmetricBlock2d(2, 4, dtype=F64, generator=g), AveragePool(2), PadChannels(2, 3),
                        SymmetricBlock2d(3, 4, dtype=F64, generator=g), GlobalMean())
    images = (8, 8, 4, 4, 4)
    factor = 1.0
    for part, image in zip(net, images, strict=True):
        factor *= part.certificate(None if isinstance(part, AveragePool | PadChannels) else image).value
    assert abs(factor - 0.25) < 1e-12
    x, y = torch.rand(2, 50, 2, 8, 8, dtype=F64)
    assert bool(((net(x) - net(y)).norm(dim=1) <= factor * (x - y).flatten(1).norm(dim=1)).all())
    torch.testing.assert_close(copy.deepcopy(net)(x), net(x))


@pytest.mark.parametrize(("words", "act"), [
    ("window must be at least 1", lambda: AveragePool(0)),
    ("dims must be one of", lambda: AveragePool(2, dims=3)),
    ("scale must be greater than 0", lambda: AveragePool(2, scale=0.0)),
    ("stride must be at least 1", lambda: Subsample(0)),
    ("out_features must be at least features = 3", lambda: PadChannels(3, 2)),
    ("features must be at least 1", lambda: BatchNorm2d(0)),
])
def test_bad_input_is_refused_with_words(words, act):
    with pytest.raises(ValueError, match=words):
        act()
