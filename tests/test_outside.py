"""What the theory says is false outside its hypotheses, beyond the one control that each statement has."""

import dataclasses

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, conv_transpose2d

import diffincl as di
from diffincl.statements import STATEMENTS, Case, Sides, examine, network
from diffincl.statements.attack import Ascent
from diffincl.statements.fields import LeakySField

WIDTH, NETWORKS, PAIRS = 4, 8, 4


# ------------------------------------------------------------------------------- growth with another inner activation


def with_leaky_units(horizon, square):
    """ResNet-S with the inner activation u ↦ σ(u) − aσ(−u), which is negative where u is, and ‖A‖² up to ``square``."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    A = normal(NETWORKS, WIDTH, WIDTH)
    A = A * (torch.linspace(0.3, square, NETWORKS).double().sqrt() / torch.linalg.matrix_norm(A, 2))[:, None, None]
    slope = torch.linspace(0.5, 1, NETWORKS, dtype=torch.float64)
    field = LeakySField(A, normal(NETWORKS, WIDTH), normal(NETWORKS, WIDTH), slope)
    x0 = normal(NETWORKS, PAIRS, WIDTH).relu()
    return Case("leaky units", di.Inclusion(field, di.Orthant()), torch.linspace(0, horizon, 4).double(), x0, x0 + 1)


def growth_claim(size_of_b1, layers):
    """The growth of C6 (flow) or D8 (layers of length 1) with a size of b1 in the place of ‖(b1)₊‖."""

    def claim(case):
        A, b1, b2 = (case.weights[name] for name in ("A", "b1", "b2"))
        t = (case.t[1:] - case.t[0]).reshape(-1, 1, 1)
        share = 1 / (2 - torch.linalg.matrix_norm(A, 2) ** 2) if layers else torch.tensor(0.5)
        pulled, pushed = (share * size_of_b1(b1) ** 2).unsqueeze(-1), b2.relu().norm(dim=-1).unsqueeze(-1)

        def look(x0, y0, run):
            x, error = (network if layers else run)(case.flow, x0, case.t)
            bound = t * pushed + torch.sqrt(x0.norm(dim=-1) ** 2 + t * pulled + 1e-300)
            return {"growth": Sides(x[1:].norm(dim=-1), bound, error[1:])}

        return look

    return claim


def keep(case, weights):
    """‖A‖² at most 1.9, slopes in [0, 1], biases at most 4."""
    A = weights["A"]
    A = A * (1.9**0.5 / torch.linalg.matrix_norm(A, 2).clamp_min(1e-9)).clamp_max(1)[:, None, None]
    return {"A": A, "slope": weights["slope"].clamp(0, 1)} | {b: weights[b].clamp(-4, 4) for b in ("b1", "b2")}


@pytest.mark.parametrize(("label", "layers", "horizon"), [("C6", False, 1.0), ("D8", True, 3.0)])
def test_growth_with_the_positive_part_of_b1_needs_an_inner_activation_that_is_nowhere_negative(label, layers, horizon):
    case = with_leaky_units(horizon, 1.9)
    false, true = (dataclasses.replace(STATEMENTS[label], claim=growth_claim(size, layers), outside=lambda case: "",
                                       keep=keep)
                   for size in (lambda b: b.relu().norm(dim=-1), lambda b: b.norm(dim=-1)))
    refuted, holds = examine(false, case, ascent=25), examine(true, case, ascent=25)
    assert refuted.violations > 0
    assert refuted.worst_ratio > 1.5
    assert holds.violations == 0
    assert 0.8 < holds.worst_ratio <= 1


# ------------------------------------------------------------------------------------------------ pooling on the skip


def halved(x, K, b, skip_alone):
    """A ResNet-S layer with h‖A‖² = 2 that halves the resolution: 2×2 average of the whole layer, or of the skip alone
    with every second pixel of the branch."""
    branch = conv_transpose2d(conv2d(x, K, b, padding=1).relu(), K, padding=1)
    return (avg_pool2d(x, 2) - branch[..., ::2, ::2] if skip_alone else avg_pool2d(x - branch, 2)).relu()


def attack_on_pooling(skip_alone, ascent=150):
    """Largest expansion, over kernels with ‖A‖² = 2, biases and pairs of 4×4 images."""
    generator = torch.Generator().manual_seed(0)
    K, b, x, y = (torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
                  for shape in ((4, 1, 3, 3), (4,), (8, 1, 4, 4), (8, 1, 4, 4)))
    pixels = torch.eye(16, dtype=torch.float64).reshape(16, 1, 4, 4)
    climb, worst = Ascent([K, b, x, y], [0.05] * 4), 0.0
    for _ in range(ascent):
        A = conv2d(pixels, K, padding=1).flatten(1).mT
        unit = K * (2**0.5 / torch.linalg.matrix_norm(A, 2))
        gap = halved(x, unit, b, skip_alone) - halved(y, unit, b, skip_alone)
        ratio = gap.flatten(1).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
        worst = max(worst, float(ratio.detach().max()))
        climb.step((ratio + 1e-9).log().sum())
    return worst


def test_average_pooling_on_the_skip_alone_breaks_the_symmetric_layer():
    """At most ‖P − S‖ + ‖S(I − hAᵀDA)‖ = √3/2 + 1, and nearly that; on the whole layer ½."""
    worst = attack_on_pooling(skip_alone=True)
    assert 1.7 < worst <= 1 + 3**0.5 / 2
    assert attack_on_pooling(skip_alone=False) <= di.bounds.pooling_norm("average", 4) * (1 + 1e-12)
