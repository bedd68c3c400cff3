"""Every block keeps its contract: certificate, repr, state, plain export, field."""

import io

import pytest
import torch
from blocks import CASES, F64, RESIDUAL, each, trained, with_large_biases, worst_ratio

import diffincl as di
from diffincl.nn import *  # noqa: F403
from diffincl.nn import (
    SLLBlock,
)


@each(CASES)
@pytest.mark.parametrize("stage", ["initial", "trained", "let loose"])
def test_no_ascent_beats_the_certificate(name, stage):
    c = CASES[name]
    block = with_large_biases(c.block())
    if stage != "initial":
        trained(block, c.shape, lr=0.2, keep=stage == "trained")
    certificate, anywhere = block.certificate(c.image), block.certificate()
    worst = worst_ratio(block, c.shape)
    assert worst <= certificate.value * (1 + 1e-12)
    assert worst <= anywhere.value * (1 + 1e-12)
    assert certificate.status == "certified"
    assert anywhere.status == ("certified" if c.image is None or isinstance(block, SLLBlock) else "float")
    assert worst > 0.2  # else the search found nothing


@each(["resnet", "resnet2d", "decay", "symmetric"])
def test_the_certificate_is_near_the_worst_pair(name):
    """Nothing vacuous: within a factor of what the ascent finds."""
    c = CASES[name]
    block = with_large_biases(c.block())
    assert block.certificate(c.image).value <= 3 * worst_ratio(block, c.shape)


@each(CASES)
def test_repr_is_the_constructor_call(name):
    block = CASES[name].block(dtype=torch.float32)
    again = eval(repr(block))
    assert type(again) is type(block)
    assert "dtype" not in repr(block)
    assert repr(again) == repr(block)
    again.load_state_dict(block.state_dict())
    x = CASES[name].states(dtype=torch.float32)
    assert torch.equal(block(x), again(x))
    assert "dtype=torch.float64" in repr(CASES[name].block())


@each(CASES)
def test_state_survives_training_and_a_file(name):
    c = CASES[name]
    block = trained(c.block(), c.shape)
    file = io.BytesIO()
    torch.save(block.state_dict(), file)
    file.seek(0)
    again = c.block(seed=9)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again(c.states()), block(c.states()))
    trained(block, c.shape), trained(again, c.shape)  # what is left between steps is in the state, too
    assert torch.equal(again(c.states()), block(c.states()))


@each(CASES)
def test_plain_export_has_the_same_values_and_needs_torch_only(name):
    c = CASES[name]
    block = with_large_biases(trained(c.block(), c.shape))
    plain = block.plain()
    x = c.states()
    torch.testing.assert_close(plain(x), block(x), rtol=1e-14, atol=1e-14)
    # With a step that is a number h·F rounds once less than with a learned one.
    assert torch.equal(plain(x), block(x)) or getattr(block, "learn_h", False)
    file = io.BytesIO()
    torch.save(plain, file)
    assert b"diffincl" not in file.getvalue()
    assert all(type(m).__module__.startswith("torch") for m in plain.children())
    before = plain(x)
    with torch.no_grad():
        for p in block.parameters():
            p.zero_()
    assert torch.equal(plain(x), before)  # copies


@each(CASES)
def test_the_generator_decides_the_weights_and_the_dtype_is_kept(name):
    c = CASES[name]
    a, b, other = c.block(), c.block(), c.block(seed=7)
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    assert any(not torch.equal(v, other.state_dict()[k]) for k, v in a.state_dict().items())
    for dtype in (torch.float32, F64):
        block = c.block(dtype=dtype)
        assert {p.dtype for p in block.parameters()} == {dtype}
        assert block(c.states(dtype=dtype)).dtype == dtype


@each(CASES)
def test_gradients_reach_every_parameter(name):
    c = CASES[name]
    block = with_large_biases(c.block())
    with torch.no_grad():
        for key, p in block.named_parameters():
            if key.startswith("b"):
                p.abs_()  # no unit is off for good
    block(c.states(n=50)).square().sum().backward()
    for key, p in block.named_parameters():
        assert p.grad is not None, key
        assert float(p.grad.abs().max()) > 0, key


@each(RESIDUAL)
def test_the_block_is_a_forward_euler_step_of_its_field(name):
    c = CASES[name]
    block = with_large_biases(c.block())
    x = c.states()
    expected = di.solve(di.Inclusion(block.field(), di.Orthant()), x, [0.0, block.h]).x[-1]
    assert torch.equal(block(x), expected) or block.learn_h
    torch.testing.assert_close(block(x), expected)
    assert bool((block(x) >= 0).all())
