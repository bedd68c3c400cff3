"""Certified radii of classifiers, folded batch normalisation, pooling maps."""

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d

import diffincl as di
from diffincl.bounds import fold_batch_norm, fold_symmetric, pooling_norm, robust_radius

F64, INF = torch.float64, float("inf")


@pytest.mark.parametrize("p", [1, 2, INF])
def test_the_radius_is_attained_by_a_linear_classifier_and_not_exceeded(p):
    """Identity in front of the head: the nearest boundary is at exactly that distance."""
    g = torch.Generator().manual_seed(0)
    W, x = torch.randn(5, 3, generator=g, dtype=F64), torch.randn(200, 3, generator=g, dtype=F64)
    logits = x @ W.T
    radius = robust_radius(logits, 1.0, W, p)
    top = logits.argmax(-1)
    gap = W - W[top].unsqueeze(1)  # towards every other class
    direction = {2: gap, INF: gap.sign(), 1: gap * (gap.abs() == gap.abs().amax(-1, keepdim=True))}[p]
    direction = direction / torch.linalg.vector_norm(direction, ord=p, dim=-1, keepdim=True).clamp_min(1e-300)
    for share, changed in ((1 - 1e-9, False), (1 + 1e-9, True)):
        moved = x.unsqueeze(1) + share * radius[:, None, None] * direction
        new = torch.einsum("nji,ki->njk", moved, W).argmax(-1)
        differs = (new != top.unsqueeze(1)).any(1)
        assert bool((differs == changed).all())


def test_a_network_keeps_its_class_within_the_radius():
    """Gradient ascent on the margin from inside the ball does not change the class."""
    net = di.nn.DenseResNet(6, 3, variant="s", width=8, depth=4, generator=torch.Generator().manual_seed(0)).double()
    g = torch.Generator().manual_seed(1)
    x = torch.randn(100, 6, generator=g, dtype=F64)
    factor = di.bounds.discrete_sensitivity(net.layers.flow, net.layers.t, rate="best").curve[-1]
    factor = factor * di.norms.dense(net.lift.weight).value
    with torch.no_grad():
        logits = net(x)
    radius, top = robust_radius(logits, factor, net.head), logits.argmax(-1)
    assert float(radius.min()) > 0
    y = x.clone()
    for _ in range(60):
        y.requires_grad_()
        out = net(y)
        rival = out.scatter(-1, top.unsqueeze(-1), -INF).amax(-1) - out.gather(-1, top.unsqueeze(-1))[:, 0]
        slope, = torch.autograd.grad(rival.sum(), y)
        with torch.no_grad():
            step = y - x + 0.2 * radius.unsqueeze(-1) * slope / slope.norm(dim=-1, keepdim=True).clamp_min(1e-12)
            y = x + step * (radius / step.norm(dim=-1).clamp_min(1e-12)).clamp(max=1).unsqueeze(-1)
    with torch.no_grad():
        assert bool((net(y).argmax(-1) == top).all())


def test_radii_at_the_edges():
    head = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    logits = torch.tensor([[2.0, 2.0, 0.0], [2.0, 1.0, 2.5], [2.0, 1.0, -1.0]])
    assert robust_radius(logits, 1.0, head)[0] == 0  # a tie
    same = robust_radius(logits[2:], 1.0, head)  # equal rows keep their order
    assert float(same) == pytest.approx(3.0)
    assert robust_radius(logits, INF, head).tolist() == [0, 0, 0]
    assert float(robust_radius(logits[2:], 0.0, head)) == INF
    assert float(robust_radius(logits[2:], 1.0, head, error=1.0)) == 0
    assert float(robust_radius(logits[2:], 1.0, head, error=0.25)) == pytest.approx(2.5)


@pytest.mark.parametrize("bias", [False, True])
def test_folded_batch_normalisation_is_the_same_map(bias):
    g = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(4, affine=bias).double().eval()
    norm.running_mean.copy_(torch.randn(4, generator=g)), norm.running_var.copy_(torch.rand(4, generator=g))
    if bias:
        nn.init.normal_(norm.weight, generator=g), nn.init.normal_(norm.bias, generator=g)
    K, b = torch.randn(4, 3, 3, 3, generator=g, dtype=F64), torch.randn(4, generator=g, dtype=F64)
    x = torch.randn(2, 3, 6, 6, generator=g, dtype=F64)
    for given in (b, None):
        A, shift = fold_batch_norm(K, given, norm)
        torch.testing.assert_close(conv2d(x, A, shift, padding=1), norm(conv2d(x, K, given, padding=1)))


def test_folded_symmetric_field():
    g = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm1d(4).double().eval()
    norm.running_var.copy_(0.1 + torch.rand(4, generator=g)), norm.running_mean.copy_(torch.randn(4, generator=g))
    A, b, x = (torch.randn(*s, generator=g, dtype=F64) for s in ((4, 3), (4,), (7, 3)))
    expected = torch.relu(norm(x @ A.T + b)) @ A
    folded, shift = fold_symmetric(A, b, norm)
    field = di.ResNetSField(folded.detach(), shift.detach(), torch.zeros(3, dtype=F64))
    torch.testing.assert_close(field(0.0, x), expected.detach())


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, INF])
def test_pooling_norms_are_those_of_the_maps(p):
    """x constant on a window attains the norm of its mean; no x exceeds it."""
    g = torch.Generator().manual_seed(0)
    for k in (2, 3, 4):
        bound = pooling_norm("average", k * k, p)
        x = torch.randn(50, 1, 4 * k, 4 * k, generator=g, dtype=F64)
        for v in (x, torch.ones_like(x)):
            ratio = avg_pool2d(v, k).flatten(1).norm(p, dim=1) / v.flatten(1).norm(p, dim=1)
            assert float(ratio.max()) <= bound * (1 + 1e-13)
        assert float(ratio.max()) == pytest.approx(bound)
    assert pooling_norm("pad", 9, p) == pooling_norm("subsample", 9, p) == 1


TRAINING = nn.BatchNorm1d(2)
NEGATIVE = nn.BatchNorm1d(2).eval()
NEGATIVE.weight.data[1] = -0.5


@pytest.mark.parametrize(("call", "message"), [
    (lambda: fold_batch_norm(torch.eye(2), None, TRAINING), "it is in training mode: its statistics couple"),
    (lambda: fold_batch_norm(torch.eye(2), None, nn.BatchNorm1d(2, track_running_stats=False).eval()), "no running st"),
    (lambda: fold_batch_norm(torch.eye(3), None, NEGATIVE), "A must have 2 output channels"),
    (lambda: fold_batch_norm(torch.eye(2), None, nn.LayerNorm(2)), "norm must be nn.BatchNorm1d"),
    (lambda: fold_symmetric(torch.eye(2), None, NEGATIVE), "needs positive scales.*channel 1 has -0.49"),
    (lambda: pooling_norm("max"), "kind must be one of 'average'"),
    (lambda: pooling_norm("average", 0), "pixels must be at least 1"),
    (lambda: pooling_norm("average", 4, 0.5), "p must be at least 1"),
    (lambda: robust_radius(torch.ones(2), 1.0, torch.ones(3, 2)), "logits must have shape"),
    (lambda: robust_radius(torch.ones(2), -1.0, torch.ones(2, 2)), "factor must be nonnegative; got -1"),
    (lambda: robust_radius(torch.ones(2), float("nan"), torch.ones(2, 2)), "factor must be nonnegative; got nan"),
    (lambda: robust_radius(torch.ones(2) * torch.nan, 1.0, torch.ones(2, 2)), "logits must be finite"),
    (lambda: robust_radius(torch.ones(2), 1.0, torch.ones(2, 2), 3), "p must be 1, 2 or inf"),
])
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
