"""The fused loop on a GPU, and steps replayed there. Without a GPU the kernel runs in Triton's interpreter, if there is
Triton, and recorded steps run without a graph; what needs the device itself is skipped."""

import importlib.util
import os
import re
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fused import KINDS, SETS, a_field, a_start, agree, both

import diffincl as di
from diffincl.solve import fused, on_gpu, planned, replayed
from diffincl.steps import plan

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HAS_TRITON = importlib.util.find_spec("triton") is not None
in_the_interpreter = pytest.mark.skipif(not (INTERPRETED and HAS_TRITON), reason="run by test_the_kernel_interpreted")
on_cuda = pytest.mark.skipif(not torch.cuda.is_available() or INTERPRETED, reason="there is no GPU")
SCHEMES = di.ForwardEuler(), di.ProxHeun()


@pytest.fixture
def elsewhere(monkeypatch):
    """Tensors of the CPU count as those of a GPU."""
    monkeypatch.setattr(on_gpu, "is_here", lambda x: True)
    on_gpu.failure.cache_clear()
    yield
    on_gpu.failure.cache_clear()


# The kernel in Triton's interpreter, which has to be chosen before Triton is imported: in a process of its own.

@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED or not HAS_TRITON, reason="Triton is not installed")
def test_the_kernel_interpreted():
    done = subprocess.run([sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", __file__],
                          env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "run by test_the_kernel_interpreted" not in done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 40


def same(flow, x0, t, scheme, steps):
    a, b = both(flow, x0, t, scheme=scheme, steps=steps)
    assert (a.stats.engine, b.stats.engine) == ("torch", "fused")
    assert torch.equal(b.x[0], x0)
    assert agree(a.x, b.x)
    assert bool(flow.g.contains(b.x, atol=0.0).all())
    ends = plan(flow.field, t, steps).boundaries()
    shortest = min(y - x for x, y in pairwise(ends))
    assert agree(a.multiplier * shortest, b.multiplier * shortest)
    middle = 0.4 * t[0] + 0.6 * t[-1]
    assert agree(a(middle), b(middle))
    for name in ("status", "reached"):
        assert torch.equal(getattr(a, name), getattr(b, name))
        assert getattr(a, name).dtype == getattr(b, name).dtype
    assert (a.message, a.reasons) == (b.message, b.reasons)
    for name in ("steps", "evaluations", "proxes"):
        assert getattr(a.stats, name) == getattr(b.stats, name)


def a_set(name, d):
    return SETS[name] or di.Box(torch.zeros(d), torch.linspace(0.3, 2, d))


@in_the_interpreter
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("curves", ["constant", "layers", "lines", "mixed"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_all_combinations_give_what_torch_gives(elsewhere, kind, curves, scheme):
    first = list(KINDS).index(kind) + len(curves)  # what goes with a set differs from test to test
    for k, name in enumerate(SETS, start=first):
        dtype = (torch.float32, torch.float64)[k % 2]
        ensemble, rest = [((), (3,)), ((2,), (2,)), ((), ()), ((2, 1), (3,))][k % 4]
        d, m = [(3, 2), (1, 3), (2, 1), (4, 3), (5, 2)][k % 5]
        field = a_field(kind, d, m, ensemble=ensemble, curves=curves, dtype=dtype, seed=k)
        flow, x0 = di.Inclusion(field, a_set(name, d)), a_start(a_set(name, d), (*ensemble, *rest, d), dtype)
        same(flow, x0, [0.0, 0.4, 1.0] if k % 2 else [0.1, 0.9], scheme, di.Fixed(n=2))


@st.composite
def problems(draw):
    dtype, d = draw(st.sampled_from([torch.float32, torch.float64])), draw(st.integers(1, 6))
    ensemble = draw(st.sampled_from([(), (2,), (2, 1)]))
    rest = draw(st.sampled_from([(), (1,), (33,), (2, 3), (70,)]))
    field = a_field(draw(st.sampled_from(list(KINDS))), d, draw(st.integers(1, 4)), ensemble=ensemble, dtype=dtype,
                    curves=draw(st.sampled_from(["constant", "layers", "lines", "mixed"])),
                    seed=draw(st.integers(0, 99)))
    g = a_set(draw(st.sampled_from(list(SETS))), d)
    t = draw(st.sampled_from([[0.0, 1.0], [0.0, 0.1, 1 / 3, 1.0], [0.2, 0.9]]))
    steps = draw(st.sampled_from([di.Fixed(0.3), di.Fixed(n=5), None]))
    return di.Inclusion(field, g), a_start(g, (*ensemble, *rest, d), dtype), t, draw(st.sampled_from(SCHEMES)), steps


@in_the_interpreter
@settings(max_examples=30)
@given(problems(), st.booleans())
def test_the_kernel_gives_what_torch_gives(problem, many):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_gpu, "is_here", lambda x: True)
        patch.setattr(on_gpu, "MANY", 1 if many else on_gpu.MANY)
        same(*problem)


@in_the_interpreter
@pytest.mark.parametrize("layout", ["expanded", "transposed", "strided"])
def test_starts_and_weights_need_not_be_contiguous(elsewhere, layout):
    x0 = torch.rand(3, 8, dtype=torch.float64)
    x0 = {"expanded": x0[0, :3].expand(5, 3), "transposed": x0.T, "strided": x0.T[::2]}[layout]
    A = torch.randn(6, 10, dtype=torch.float64)[:, ::2]
    field = di.ResNetField(A[:, :3], A[:, 3], A[:, :3].T.contiguous().T.T, A[:3, 4])
    a, b = both(di.Inclusion(field, di.Orthant()), x0, [0.0, 1.0], steps=di.Fixed(n=2))
    assert b.stats.engine == "fused"
    assert agree(a.x, b.x)


@in_the_interpreter
@pytest.mark.parametrize("g", [di.Orthant(), di.Box(0.0, 2.0), di.Whole()], ids=repr)
@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_failures_are_those_of_torch(elsewhere, g, scheme):
    """One sample overflows, in the middle of the solve; a box hides it from the states."""
    A1, A2, zero = torch.eye(2).double(), -1e80 * torch.eye(2).double(), torch.zeros(2).double()
    A1[0, 0] = 0.0
    if isinstance(g, di.Box):
        A1, A2 = 1e200 * A1, 1e90 * A2
    flow = di.Inclusion(di.ResNetField(A1, zero, A2, zero), g)
    x0 = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.5, 0.0]], dtype=torch.float64)
    a, b = both(flow, x0, [0.0, 0.5, 1.0], scheme=scheme, steps=di.Fixed(n=8), throw=False)
    assert a.status.tolist() == [0, 1, 0] == b.status.tolist()
    assert (a.message, b.stats.engine) == (b.message, "torch")
    assert torch.equal(a.x.nan_to_num(7.0), b.x.nan_to_num(7.0))


@in_the_interpreter
@pytest.mark.parametrize("name", ["A1", "b1", "A2", "b2"])
def test_a_nan_among_the_weights_is_seen(elsewhere, name):
    field = a_field("resnet")
    getattr(field, name).values.flatten()[2] = torch.nan
    flow, x0 = di.Inclusion(field, di.Box(0.0, 1.0)), torch.full((5, 3), 0.5, dtype=torch.float64)
    sol = di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=2), engine="fused", throw=False)
    assert (sol.status.tolist(), sol.stats.engine) == ([1] * 5, "torch")


@in_the_interpreter
def test_weights_of_later_times_are_not_read(elsewhere):
    """A1 stands still while b1 moves: its next value is not on the way."""
    field = a_field("resnet", curves="mixed")
    field.A1.values[1:] = torch.nan
    flow, x0 = di.Inclusion(field, di.Orthant()), torch.rand(5, 3, dtype=torch.float64)
    same(flow, x0, [0.0, 0.3], di.ForwardEuler(), di.Fixed(n=2))


@in_the_interpreter
def test_what_fills_up_a_tile_cannot_fail(elsewhere):
    """From 0, where the tile is filled up, this field overflows; from 1 on it is 0."""
    one = torch.ones(1, 1, dtype=torch.float64)
    field = di.ResNetField(-one, one[0], 1e300 * one, 0 * one[0])
    flow = di.Inclusion(field, di.Whole())
    assert not di.solve(flow, 0 * one, [0.0, 1.0], steps=di.Fixed(n=3), throw=False).success
    assert di.solve(flow, one, [0.0, 1.0], steps=di.Fixed(n=3), engine="fused").stats.engine == "fused"


@in_the_interpreter
def test_the_start_is_not_changed_and_a_run_is_like_the_next(elsewhere):
    flow, x0 = di.Inclusion(a_field("s"), di.Orthant()), torch.rand(40, 3, dtype=torch.float64)
    before = x0.clone()
    first, second = (di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=3), engine="fused").x for _ in range(2))
    assert torch.equal(x0, before)
    assert torch.equal(first, second)


# What is decided without a GPU.

def test_what_a_gpu_does_not_take_is_said(elsewhere, monkeypatch):
    x0 = torch.rand(2, 65)
    flow = di.Inclusion(a_field("resnet", 65, 3, dtype=torch.float32), di.Orthant())
    with pytest.raises(ValueError, match=r"keeps states in registers, up to d = 64 in this dtype; got a tensor of "
                                         r"shape \(2, 65\) and dtype float32. Leave engine out, or take 'torch'"):
        di.solve(flow, x0, [0.0, 1.0], engine="fused")
    for dtype, largest in ((torch.float32, 64), (torch.float64, 32)):
        assert not on_gpu.unfit(torch.ones(1, largest, dtype=dtype))
        assert f"up to d = {largest} in" in on_gpu.unfit(torch.ones(1, largest + 1, dtype=dtype))


def test_without_triton_torch_is_taken_and_the_remedy_said(elsewhere, monkeypatch):
    monkeypatch.setattr(on_gpu, "kernels_at_hand", lambda: False)
    monkeypatch.setattr(on_gpu, "WORTH", 0.0)
    flow, x0 = di.Inclusion(a_field("resnet"), di.Orthant()), torch.rand(2, 3, dtype=torch.float64)
    assert on_gpu.is_quicker(flow, x0, plan(flow.field, [0.0, 1.0], di.Fixed(n=9)))
    assert di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=9)).stats.engine == "torch"
    with pytest.raises(ImportError, match=r"engine='fused' needs Triton 3.7 or later and a C compiler .* pip install "
                                          r"-U triton, or leave engine out"):
        di.solve(flow, x0, [0.0, 1.0], engine="fused")


@pytest.mark.parametrize(("end", "words"), [
    (None, r"Triton to work on this GPU, and it does not \(RuntimeError: no headers\). Repair it, or leave engine out"),
    (0.5, r"Triton to compute right on this GPU, and it gave \[1.0, 0.5\]. Update it, or leave engine out")])
def test_a_kernel_that_does_not_work_is_not_taken(elsewhere, monkeypatch, end, words):
    def advance(x, *rest, heun):
        if end is None:
            raise RuntimeError("no headers")
        x[1] = end
        return 0.0

    monkeypatch.setattr(on_gpu, "kernels_at_hand", lambda: True)
    monkeypatch.setattr(on_gpu, "advance", advance)
    monkeypatch.setattr(on_gpu, "WORTH", 0.0)
    flow, x0 = di.Inclusion(a_field("resnet"), di.Orthant()), torch.rand(2, 3, dtype=torch.float64)
    assert di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=9)).stats.engine == "torch"
    with pytest.raises(ImportError, match="engine='fused' needs " + words):
        di.solve(flow, x0, [0.0, 1.0], engine="fused")


@in_the_interpreter
def test_the_kernel_works(elsewhere):
    assert on_gpu.failure(torch.device("cpu")) == ""


def test_another_device_is_named():
    flow = di.Inclusion(a_field("resnet"), di.Orthant())
    reason = fused.unfit(flow, torch.ones(2, 3, device="meta"), di.ForwardEuler())
    assert reason == ("it takes float32 and float64 on the CPU and on CUDA devices; got a tensor of shape (2, 3) and "
                      "dtype float32 on meta")


@pytest.mark.parametrize(("triton", "compiler", "there"), [
    ("3.7.1", "gcc", True), ("4.0.0", "gcc", True), ("3.6.0", "gcc", False), ("3.9.0", None, False),
    (None, "gcc", False), ("3.10.0+git1", "gcc", True)])
def test_triton_is_looked_for(monkeypatch, triton, compiler, there):
    module = triton and type(sys)("triton")
    if triton:
        module.__version__ = triton
    monkeypatch.setitem(sys.modules, "triton", module)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: name if name == compiler else None)
    assert on_gpu.kernels_at_hand.__wrapped__() is there


@pytest.mark.parametrize(("d", "m", "batch", "steps", "quicker"), [
    (2, 8, 100_000, 10_000, True), (2, 8, 1, 10_000, True), (8, 16, 1_000_000, 1000, True),
    (32, 64, 1_000_000, 1000, False), (2, 8, 100_000, 100, False), (33, 8, 1000, 10_000, False),
    (32, 600, 1, 10_000, False)])
def test_the_kernel_is_chosen_by_an_estimate(elsewhere, d, m, batch, steps, quicker):
    flow = di.Inclusion(a_field("resnet", d, m, dtype=torch.float32), di.Orthant())
    x0 = torch.empty(1).expand(batch, d)
    assert fused.is_quicker(flow, x0, plan(flow.field, [0.0, 1.0], di.Fixed(n=steps))) is quicker


@pytest.mark.parametrize("total", [1, 2**17])
@pytest.mark.parametrize("batch", [1, 31, 32, 33, 100, 5000])
@pytest.mark.parametrize("words", [1, 2, 4, 8, 16, 64])
def test_tiles(total, batch, words):
    samples, warps = on_gpu._tile(max(total, batch), batch, words)
    assert samples % (32 * warps) == 0
    assert warps in (1, 2, 4)
    assert samples in (32, 64, 128, 256, 512)
    assert samples <= max(128, 2 * batch)
    assert words * samples // (32 * warps) <= max(16, words)


def test_importing_the_package_imports_no_triton():
    code = "import sys, diffincl; from diffincl.solve import on_gpu; print('triton' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Steps replayed, the graph replaced by what it does: the same results into the same memory.

@pytest.fixture
def replays(elsewhere, monkeypatch):
    """Blocks are recorded without CUDA; a list with an entry a replay."""
    done = []

    def recorded(run, x):
        for _ in range(3):
            run()
        owner = run.__self__
        memory = [*owner.states, *owner.points]

        def replay():
            run()
            done.append(len(owner.states))
            for old, new in zip(memory, [*owner.states, *owner.points], strict=True):
                old.copy_(new)
            owner.states[:], owner.points[:] = memory[:len(memory) // 2], memory[len(memory) // 2:]

        return replay

    monkeypatch.setattr(replayed, "recorded", recorded)
    return done


def in_both_ways(flow, x0, t, steps, scheme=None):
    """The solution with steps replayed, and without."""
    with pytest.MonkeyPatch.context() as patch:
        sol = di.solve(flow, x0, t, scheme=scheme, steps=steps, engine="torch")
        patch.setattr(on_gpu, "is_here", lambda x: False)
        return sol, di.solve(flow, x0, t, scheme=scheme, steps=steps, engine="torch")


@pytest.mark.parametrize("g", [di.Orthant(), di.Whole(), di.Box(0.1, 0.9)], ids=repr)
@pytest.mark.parametrize("ensemble", [(), (2,)])
@pytest.mark.parametrize("saves", [[0, 1024], [0, 64, 65, 129, 200, 640, 1000, 1024], [0, 63, 1023, 1024]])
@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_replayed_steps_are_plain_steps(replays, scheme, g, ensemble, saves):
    flow = di.Inclusion(a_field("resnet", 4, 6, ensemble=ensemble), g)
    x0, t = a_start(g, (*ensemble, 3, 5, 4), torch.float64), [k / 1024 for k in saves]
    sol, plain = in_both_ways(flow, x0, t, di.Fixed(1 / 1024), scheme)
    assert replays == [64] * 16
    assert torch.equal(sol.x, plain.x)
    assert torch.equal(sol.multiplier, plain.multiplier)
    assert (sol.message, vars(sol.stats)) == (plain.message, vars(plain.stats))


@pytest.mark.parametrize(("curves", "t", "steps", "blocks"), [
    ("layers", [0.0, 1.0], di.Fixed(n=1536), 24),  # three layers of eight blocks
    ("layers", [0.0, 0.3, 1.0], di.Fixed(n=600), 0),
    ("layers", [0.0, 1.0], di.Fixed(n=6), 0),
    ("constant", [0.0, 0.5, 1.0], di.Fixed(n=1000), 15),  # all steps alike
    ("constant", [0.0, 0.6, 1.5], di.Fixed(1 / 1000.5), 9 + 13),  # 601 and 901 steps of two lengths, one block of both
    ("constant", [0.0, 0.6, 0.6 + 1e-3, 1.5], di.Fixed(1 / 1000.5), 9 + 13),
    ("constant", [k / 700 for k in range(701)], None, 0),  # all states are kept
    ("lines", [0.0, 1.0], di.Fixed(n=1536), 0),
])
def test_what_changes_is_recorded_anew_or_not_replayed(replays, curves, t, steps, blocks):
    flow = di.Inclusion(a_field("resnet", 4, 6, curves=curves), di.Orthant())
    x0 = a_start(di.Orthant(), (5, 4), torch.float64)
    sol, plain = in_both_ways(flow, x0, t, steps)
    assert replays == [64] * blocks
    assert agree(sol.x, plain.x, 1000)


def test_failures_are_found_in_replayed_steps(replays, monkeypatch):
    field = di.ResNetField(*(torch.tensor(v, dtype=torch.float64) for v in ([[0.0, 1.0], [0.0, 1.0]], [0.0, 0.0],
                                                                           [[-40.0, 0.0], [0.0, -40.0]], [0.0, 0.0])))
    flow = di.Inclusion(field, di.Orthant())
    x0 = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.5, 0.0]], dtype=torch.float64)
    sols = []
    for here in (True, False):
        monkeypatch.setattr(on_gpu, "is_here", lambda x, here=here: here)
        sols.append(di.solve(flow, 1e-9 * x0, [0.0, 10.0, 40.0], steps=di.Fixed(n=2000), engine="torch", throw=False))
    a, b = sols
    assert a.status.tolist() == [0, 1, 0] == b.status.tolist()
    assert (a.message, a.stats.engine) == (b.message, b.stats.engine)
    assert agree(a.reached, b.reached)
    assert agree(a.x.nan_to_num(7.0), b.x.nan_to_num(7.0))
    assert replays


def test_where_nothing_can_be_recorded_steps_are_plain(elsewhere, monkeypatch):
    tried = []

    def recorded(run, x):
        run()
        tried.append(x)
        raise RuntimeError("another capture is under way")

    monkeypatch.setattr(replayed, "recorded", recorded)
    flow, x0 = di.Inclusion(a_field("resnet"), di.Orthant()), a_start(di.Orthant(), (5, 3), torch.float64)
    sol, plain = in_both_ways(flow, x0, [0.0, 0.3, 1.0], di.Fixed(1 / 1024))
    assert len(tried) == 1
    assert torch.equal(sol.x, plain.x)


def test_a_replay_that_is_wrong_is_not_taken(replays, monkeypatch):
    right = replayed.recorded

    def recorded(run, x):
        replay, owner = right(run, x), run.__self__

        def wrong():
            replay()
            owner.states[-1].add_(1e-3)

        return wrong

    monkeypatch.setattr(replayed, "recorded", recorded)
    flow, x0 = di.Inclusion(a_field("resnet"), di.Orthant()), a_start(di.Orthant(), (5, 3), torch.float64)
    sol, plain = in_both_ways(flow, x0, [0.0, 0.3, 1.0], di.Fixed(1 / 1024))
    assert len(replays) == 1
    assert torch.equal(sol.x, plain.x)
    assert torch.equal(sol.multiplier, plain.multiplier)


def test_large_steps_and_small_memory(replays, monkeypatch):
    flow, x0 = di.Inclusion(a_field("resnet"), di.Orthant()), a_start(di.Orthant(), (5, 3), torch.float64)
    monkeypatch.setattr(planned, "GPU_BYTES", 10 * x0.numel() * 8)
    di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=100), engine="torch")
    assert replays == [10] * 10
    monkeypatch.setattr(replayed, "SMALL", 2 * 5 * x0.numel() - 1)
    di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=100), engine="torch")
    assert len(replays) == 10


# On the device.

@on_cuda
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("curves", ["constant", "mixed"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_on_the_device_states_are_those_of_the_cpu_in_float64(kind, curves, scheme, dtype):
    for d, m, batch, name in ((2, 8, 1000, "orthant"), (9, 16, 33, "bounds"), (16, 20, 200_000, "box"),
                              (32, 40, 70, "whole")):
        g, field = a_set(name, d), a_field(kind, d, m, curves=curves, dtype=dtype)
        x0, t = a_start(g, (batch, d), dtype), [0.0, 0.3, 1.0]
        options = {"scheme": scheme, "steps": di.Fixed(n=50)}
        flow64 = di.Inclusion(a_field(kind, d, m, curves=curves, dtype=dtype).double(), g)
        exact = di.solve(flow64, x0.double(), t, engine="torch", **options)
        flow = di.Inclusion(field.cuda(), g)
        runs = [di.solve(flow, x0.cuda(), t, engine="fused", **options) for _ in range(2)]
        assert (runs[0].stats.engine, runs[0].x.device.type, runs[0].status.device.type) == ("fused", "cuda", "cuda")
        assert torch.equal(runs[0].x, runs[1].x)
        assert torch.equal(runs[0].reached, runs[1].reached)
        assert agree(exact.x.to(dtype), runs[0].x.cpu(), 2000)
        assert agree(exact.multiplier.to(dtype) / 50, runs[0].multiplier.cpu() / 50, 2000)


@on_cuda
def test_on_the_device_failures_are_found():
    field = a_field("resnet", dtype=torch.float32)
    field.A1.values[2, 1] = torch.nan
    flow, x0 = di.Inclusion(field.cuda(), di.Box(0.0, 1.0)), torch.full((5, 3), 0.5).cuda()
    sol = di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=9), engine="fused", throw=False)
    assert (sol.status.tolist(), sol.stats.engine) == ([1] * 5, "torch")


@on_cuda
@pytest.mark.parametrize("ensemble", [(), (3,)])
def test_on_the_device_graphs_replay_plain_steps(ensemble, monkeypatch):
    flow = di.Inclusion(a_field("resnet", 100, 120, ensemble=ensemble, dtype=torch.float32).cuda(), di.Orthant())
    x0 = a_start(di.Orthant(), (*ensemble, 64, 100), torch.float32).cuda()
    options = {"steps": di.Fixed(n=1000), "engine": "torch"}
    runs = [di.solve(flow, x0, [0.0, 0.3, 1.0], **options) for _ in range(2)]
    assert torch.equal(runs[0].x, runs[1].x)
    monkeypatch.setattr(replayed, "SMALL", 0)
    plain = di.solve(flow, x0, [0.0, 0.3, 1.0], **options)
    assert agree(plain.x, runs[0].x, 2000)
    assert agree(plain.multiplier / 1000, runs[0].multiplier / 1000, 2000)
