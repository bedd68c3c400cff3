"""What the blocks promise besides their contract: signs, limits, formulas, bad input."""

import pytest
import torch
from blocks import CASES, F64, RESIDUAL, each, trained, with_large_biases, worst_ratio
from torch import nn

import diffincl as di
from diffincl.nn import (
    AntisymmetricBlock,
    DecayBlock,
    DecayBlock1d,
    HamiltonianBlock,
    ResNetBlock,
    ResNetBlock2d,
    SLLBlock,
    SLLBlock2d,
    SymmetricBlock,
    SymmetricBlock1d,
    SymmetricBlock2d,
)


@each(n for n in RESIDUAL if n.startswith("decay"))
def test_decay_blocks_keep_a_nonnegative_matrix_and_do_not_let_states_grow(name):
    """C5, D2: x⁺ <= (x + h b2)₊ entry by entry, so that without b2 no ℓp norm grows."""
    c = CASES[name]
    block = trained(with_large_biases(c.block()), c.shape, lr=0.3)
    block.field().check_structure()
    x = 3 * c.states(n=200)
    b2 = block.weights().b2.reshape(-1, *[1] * (len(c.shape) - 1))
    assert bool((block(x) <= torch.relu(x + block.h * b2) + 1e-12).all())
    with torch.no_grad():
        block.b2.zero_()
    assert bool((block(x).flatten(1).norm(dim=1) <= x.flatten(1).norm(dim=1)).all())


def test_parametrisations_begin_with_the_same_matrix():
    first, *others = [DecayBlock(4, 6, parametrisation=p, generator=torch.Generator().manual_seed(0), dtype=F64).outer()
                      for p in ("projection", "softplus", "square")]
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-6, atol=2e-6)


def test_projected_decay_blocks_would_leave_the_structure_without_projection():
    block = trained(CASES["decay"].block(), (4,), lr=0.5, steps=8, keep=False)
    assert bool((block.A2 < 0).any())
    with pytest.raises(ValueError, match="nonnegative"):
        block.field()
    kept = block.A2.detach().clamp(min=0)
    block.constrain_()
    assert torch.equal(block.A2, kept)


@each(n for n in RESIDUAL if n.startswith("symmetric"))
def test_symmetric_blocks_stay_under_their_limit(name):
    c = CASES[name]
    block = c.block()
    assert block.certificate(c.image).value == block.certificate().value == 1.0
    loose = c.block()
    with torch.no_grad():
        (loose.A if loose.step is None else loose.step).mul_(3)
    assert size_of(loose, c.image) > block.limit
    trained(block, c.shape, steps=20, lr=0.3)
    assert size_of(block, c.image) <= block.limit * 1.02  # from below, hence the little
    for image in (c.image, None):
        assert loose.certify_(image).value == 1.0
        assert size_of(loose, image) <= block.limit * (1 + 1e-12)  # of an upper bound a little above the one used
        with torch.no_grad():
            (loose.A if loose.step is None else loose.step).mul_(2)
    before = {k: v.clone() for k, v in block.state_dict().items()}
    block.certify_(c.image), block.certify_(c.image)
    after = {k: v.clone() for k, v in block.state_dict().items()}
    block.certify_(c.image)
    assert all(torch.equal(v, block.state_dict()[k]) for k, v in after.items())  # nothing to do: nothing done
    for k, v in before.items():
        torch.testing.assert_close(after[k], v, rtol=0.05, atol=0.0)


def size_of(block, image):
    return block.length * float(block.maps.norm(block.A, image, "certified").value) ** 2


def test_weights_under_the_limit_are_left_alone_and_the_cap_is_not_far_below():
    block = SymmetricBlock(6, h=0.01, dtype=F64)
    before = block.A.detach().clone()
    block.constrain_(), block.certify_()
    assert torch.equal(block.A, before)
    with torch.no_grad():
        block.A.mul_(100)
    for _ in range(30):
        block.constrain_()
    assert 0.97 * 2 <= size_of(block, None) <= 2


def test_a_learned_step_moves_the_step_and_leaves_the_weights():
    block = SymmetricBlock(6, h=1.0, learn_h=True, dtype=F64)
    before = block.A.detach().clone()
    with torch.no_grad():
        block.step.fill_(50.0)
    assert block.certificate().value > 2
    assert block.certify_().value == 1.0
    assert torch.equal(block.A, before)
    assert 1.999 < size_of(block, None) <= 2
    with torch.no_grad():
        block.step.fill_(-0.5)
    negative = block.certificate().value
    assert 1 < worst_ratio(block, (6,)) <= negative
    block.constrain_()
    assert block.length == 0.0


def test_the_limits_of_the_constructor():
    A = torch.randn(3, 2, 3, 3, dtype=F64)
    block = SymmetricBlock2d.from_weights(A, torch.ones(3, dtype=F64), h=1e-3, image=6)
    assert torch.equal(block.A, A)
    assert float(block.b1.detach().sum()) == 3
    assert float(block.b2.detach().abs().sum()) == 0
    with pytest.raises(ValueError, match=r"h must be at most limit/‖A‖² = .*; got 100"):
        SymmetricBlock2d.from_weights(A, h=100.0, image=6)


@pytest.mark.parametrize(("words", "act"), [
    ("limit must be at most 2", lambda: SymmetricBlock(3, limit=2.5)),
    ("limit must be greater than 0", lambda: SymmetricBlock(3, limit=0.0)),
    ("h must be greater than 0", lambda: ResNetBlock(3, h=0.0)),
    ("h must be greater than 0", lambda: SymmetricBlock2d(3, h=-1.0)),
    ("features must be at least 1", lambda: DecayBlock(0)),
    ("hidden must be at least 1", lambda: ResNetBlock2d(3, 0)),
    ("kernel_size must be odd", lambda: ResNetBlock2d(3, kernel_size=4)),
    ("kernel_size must be odd", lambda: DecayBlock1d(3, kernel_size=(3, 3))),
    ("kernel_size must be at least 1", lambda: SymmetricBlock1d(3, kernel_size=0)),
    ("padding_mode must be one of", lambda: SymmetricBlock2d(3, padding_mode="reflect")),
    ("parametrisation must be one of", lambda: DecayBlock(3, parametrisation="exp")),
    ("a dense block has no image", lambda: ResNetBlock(3).certificate(8)),
    ("status must be one of", lambda: ResNetBlock(3).certificate(status="sure")),
    ("A must have shape", lambda: SymmetricBlock.from_weights(torch.ones(2))),
    ("A must have shape", lambda: SymmetricBlock1d.from_weights(torch.ones(2, 2))),
    (r"b2 must have shape \(2,\)", lambda: SymmetricBlock.from_weights(torch.eye(2), b2=torch.ones(3))),
    ("features must be even", lambda: HamiltonianBlock(3)),
    ("gamma must be at least 0", lambda: AntisymmetricBlock(3, gamma=-1.0)),
    ("kernel_size must be odd", lambda: SLLBlock2d(3, kernel_size=2)),
    ("A must be finite", lambda: SymmetricBlock.from_weights(torch.eye(2) / 0)),
])
def test_bad_input_is_refused_with_words(words, act):
    with pytest.raises(ValueError, match=words):
        act()


def test_an_estimate_is_no_certificate():
    for block in (ResNetBlock(3), SymmetricBlock(3), ResNetBlock2d(3)):
        with pytest.raises(ValueError, match="status must be one of"):
            block.certificate(None if block.maps.dims == 0 else 5, status="estimate")


def test_weights_that_diverged_have_no_certificate():
    block = SymmetricBlock(3)
    with torch.no_grad():
        block.A.fill_(torch.nan)
    with pytest.raises(ValueError, match="A must be finite"):
        block.certificate()
    block = SymmetricBlock(3, learn_h=True)
    with torch.no_grad():
        block.step.fill_(torch.nan)
    with pytest.raises(ValueError, match="must be finite"):
        block.certificate()


@each(["cpl", "cpl1d", "cpl2d", "cpl2d-circular", "sll", "sll1d", "sll2d", "sll2d-circular"])
def test_convex_potentials_are_nonexpansive_whatever_the_weights(name):
    c = CASES[name]
    block = with_large_biases(c.block())
    with torch.no_grad():
        for p in block.parameters():
            p.mul_(20)
        if isinstance(block, SLLBlock):
            block.log_q.copy_(torch.linspace(-1, 1, len(block.log_q)))
    assert block.certificate(c.image).value == 1.0
    M = map_matrix(lambda x: block.maps.affine(x, block.A, None), c.shape)
    out = map_matrix(lambda x: block.maps.affine(x, block.outer(), None), (block.hidden, *c.shape[1:]))
    step = torch.linalg.eigvals(out @ M).real.max()
    assert 1.0 < step <= 2.0  # neither expanding nor idle
    if isinstance(block, SLLBlock):
        T = block.scaling().detach().repeat_interleave(M.shape[0] // block.hidden)
        assert float(torch.linalg.eigvalsh(torch.diag(T) - M @ M.T)[0]) >= 0
    with torch.no_grad():
        block.A.zero_()
    x = c.states()
    assert torch.equal(block(x), x)
    block(x).sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in block.parameters() if p.grad is not None)


def map_matrix(apply, shape):
    with torch.no_grad():
        return apply(torch.eye(torch.Size(shape).numel(), dtype=F64).reshape(-1, *shape)).flatten(1).T


def test_relatives_are_their_formulas():
    x = torch.randn(5, 4, dtype=F64)
    block = with_large_biases(CASES["pre-activation"].block())
    torch.testing.assert_close(block(x), x + torch.relu(x @ block.A1.T + block.b1) @ block.A2.T)
    y = di.solve(di.Inclusion(block.field(), di.Whole()), x, [0.0, 1.0]).x[-1]
    torch.testing.assert_close(block(x), y)
    block = with_large_biases(CASES["cpl"].block())
    h = 2 / torch.linalg.matrix_norm(block.A, 2) ** 2
    torch.testing.assert_close(block(x), x - h * torch.relu(x @ block.A.T + block.b) @ block.A, rtol=0.02, atol=0.02)
    torch.testing.assert_close(block(x), di.solve(di.Inclusion(block.field(), di.Whole()), x, [0.0, 1.0]).x[-1])
    block = with_large_biases(CASES["antisymmetric"].block())
    M = block.A - block.A.T - 0.5 * torch.eye(4, dtype=F64)
    torch.testing.assert_close(block(x), x + 0.3 * torch.tanh(x @ M.T + block.b))
    block = with_large_biases(CASES["hamiltonian"].block())
    y, z = x[:, :2], x[:, 2:]
    y = y + torch.relu(z @ block.A1.T + block.b1) @ block.A1
    z = z - torch.relu(y @ block.A2.T + block.b2) @ block.A2
    torch.testing.assert_close(block(x), torch.cat([y, z], 1))


def test_a_half_step_of_a_hamiltonian_block_attains_its_factor():
    """With all units on and A2 = 0: (y, z) ↦ (y + hA1ᵀA1z, z) + const."""
    block = HamiltonianBlock(4, 3, h=0.1, dtype=F64)
    with torch.no_grad():
        block.b1.fill_(1000.0)
        block.A2.zero_()
        inputs = torch.eye(4, dtype=F64)
        M = (block(inputs) - block(0 * inputs)).T
    true = float(torch.linalg.matrix_norm(M, 2))
    assert true > 1.01
    assert true - 1e-9 <= block.certificate().value <= true + 1e-9


@each(["antisymmetric1d", "antisymmetric2d", "antisymmetric2d-circular"])
def test_the_matrix_of_an_antisymmetric_block(name):
    c = CASES[name]
    block = c.block()
    M = map_matrix(lambda x: block.maps.affine(x, block.inner(), None), c.shape)
    torch.testing.assert_close(M + M.T, -2 * block.gamma * torch.eye(len(M), dtype=F64))


@each(["hamiltonian", "hamiltonian1d", "hamiltonian2d"])
def test_hamiltonian_blocks_are_inverted(name):
    block = with_large_biases(CASES[name].block())
    x = torch.randn(3, *CASES[name].shape, dtype=F64)
    torch.testing.assert_close(block.inverse(block(x)), x)
    assert not torch.allclose(block(x), x)


def test_blocks_in_a_network_learn_and_compile():
    net = nn.Sequential(SymmetricBlock2d(2, 4), ResNetBlock2d(2, 4), nn.Flatten(), nn.Linear(40, 3))
    x = torch.rand(6, 2, 5, 4)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), net(x))
