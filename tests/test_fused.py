"""The fused loop and the steps in place: the same as torch step by step, or not taken."""

import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import diffincl as di
from diffincl.solve import fused
from diffincl.steps import plan

KINDS = {"resnet": di.ResNetField, "d": di.ResNetDField, "s": di.ResNetSField}
SETS = {"orthant": di.Orthant(), "whole": di.Whole(), "box": di.Box(0.1, 0.9), "bounds": None}
needs_numba = pytest.mark.skipif(not fused.kernels_at_hand(), reason="numba is not installed")


def a_field(kind, d=3, m=5, *, ensemble=(), curves="constant", dtype=torch.float64, seed=0, size=1.0):
    """A field of a kind; curves: constant, layers (piecewise constant), lines, or mixed."""
    draw = torch.Generator().manual_seed(seed)

    def weight(name, *shape):
        mixed = {"A": "layers", "A1": "layers", "b1": "lines", "A2": "lines", "b2": "constant"}[name]
        how = mixed if curves == "mixed" else curves
        n = {"A": 3, "A1": 3, "b1": 2, "A2": 4, "b2": 3}[name] if curves == "mixed" else 3
        pieces = () if how == "constant" else (n + (how == "lines"),)
        v = size * torch.randn(*pieces, *ensemble, *shape, generator=draw, dtype=torch.float64) / shape[-1] ** 0.5
        v = (v.abs() if kind == "d" and name == "A2" else v).to(dtype)
        return {"constant": lambda v: v, "layers": di.PiecewiseConstant, "lines": di.PiecewiseLinear}[how](v)

    names = (("A", m, d), ("b1", m), ("b2", d)) if kind == "s" else (("A1", m, d), ("b1", m), ("A2", d, m), ("b2", d))
    return KINDS[kind](*(weight(*name) for name in names))


def a_start(g, shape, dtype, seed=0):
    return g.project(torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype))


def both(flow, x0, t, **options):
    """The solutions of both engines."""
    return (di.solve(flow, x0, t, engine=engine, **options) for engine in ("torch", "fused"))


def agree(a, b, digits=200):
    """To rounding: ``digits`` units of the last place of the largest entry."""
    scale = digits * torch.finfo(a.dtype).eps * (1 + float(a.abs().max()))
    return a.shape == b.shape and a.dtype == b.dtype and float((a - b).abs().max()) <= scale


@st.composite
def problems(draw):
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    d, m = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    ensemble = draw(st.sampled_from([(), (2,), (2, 3), (1,)]))
    rest = draw(st.sampled_from([(), (1,), (7,), (2, 3), (300,)]))
    curves = draw(st.sampled_from(["constant", "layers", "lines", "mixed"]))
    field = a_field(draw(st.sampled_from(list(KINDS))), d, m, ensemble=ensemble, curves=curves, dtype=dtype,
                    seed=draw(st.integers(0, 99)))
    g = SETS[draw(st.sampled_from(list(SETS)))] or di.Box(torch.zeros(d), torch.linspace(0.3, 2, d))
    t = draw(st.sampled_from([[0.0, 1.0], [0.0, 0.1, 1 / 3, 0.7, 1.0], [0.2, 0.9], torch.linspace(0, 1, 13).tolist()]))
    steps = draw(st.sampled_from([di.Fixed(0.04), di.Fixed(n=7), di.Fixed(n=50), None]))
    scheme = draw(st.sampled_from([di.ForwardEuler(), di.ProxHeun()]))
    return di.Inclusion(field, g), a_start(g, (*ensemble, *rest, d), dtype), t, scheme, steps


@needs_numba
@settings(max_examples=100)
@given(problems(), st.floats(0, 1))
def test_both_engines_give_the_same(problem, share):
    flow, x0, t, scheme, steps = problem
    a, b = both(flow, x0, t, scheme=scheme, steps=steps)
    assert (a.stats.engine, b.stats.engine) == ("torch", "fused")
    assert torch.equal(a.t, b.t)
    assert torch.equal(b.x[0], x0)
    assert agree(a.x, b.x)
    between = t[0] + share * (t[-1] - t[0])
    assert agree(a(between), b(between))
    assert bool(flow.g.contains(b.x, atol=0.0).all())
    for name in ("status", "reached"):
        assert torch.equal(getattr(a, name), getattr(b, name))
        assert getattr(a, name).dtype == getattr(b, name).dtype
    assert (a.message, a.reasons, a.switches) == (b.message, b.reasons, b.switches)
    for name in ("steps", "evaluations", "proxes", "accepted", "rejected"):
        assert getattr(a.stats, name) == getattr(b.stats, name)
    shortest = min(b - a for a, b in pairwise(plan(flow.field, t, steps).boundaries()))
    assert agree(a.multiplier * shortest, b.multiplier * shortest)
    assert bool((b.complementarity() == 0).all())
    assert agree(a.residual() * shortest, b.residual() * shortest)
    assert agree(a.active.double().abs(), b.active.double().abs(), 2**60)  # the same shape; contact only up to rounding


@needs_numba
@pytest.mark.parametrize("shape", [(1,), (2, 5), (8,), (9,), (2, 40)])
def test_larger_weights_and_few_samples_give_the_same(shape):
    """A few samples go one by one, more side by side; rows that are no multiple of four."""
    ensemble = shape[:-1]
    flow = di.Inclusion(a_field("resnet", 23, 31, ensemble=ensemble, curves="mixed"), di.Orthant())
    a, b = both(flow, a_start(di.Orthant(), (*shape, 23), torch.float64), [0.0, 0.6, 1.0], steps=di.Fixed(n=30))
    assert agree(a.x, b.x)
    assert float(a.x[-1].max()) > 0.1


@needs_numba
def test_the_plans_are_those_of_torch_where_they_are_long():
    """Rounding does not add up to a drift: 3000 steps, knots that are no save times, many tiles."""
    field = a_field("s", 4, 6, curves="mixed")
    flow, x0 = di.Inclusion(field, di.Orthant()), a_start(di.Orthant(), (600, 4), torch.float64)
    for scheme in (di.ForwardEuler(), di.ProxHeun()):
        a, b = both(flow, x0, [0.0, 0.37, 1.0], scheme=scheme, steps=di.Fixed(n=3000))
        assert agree(a.x, b.x, 1000)


@needs_numba
@pytest.mark.parametrize("layout", ["expanded", "transposed", "strided"])
def test_starts_and_weights_need_not_be_contiguous(layout):
    x0 = torch.rand(3, 40, dtype=torch.float64)
    x0 = {"expanded": x0[0, :3].expand(5, 3), "transposed": x0.T, "strided": x0.T[::2]}[layout]
    A = torch.randn(6, 10, dtype=torch.float64)[:, ::2]
    field = di.ResNetField(A[:, :3], A[:, 3], A[:, :3].T.contiguous().T.T, A[:3, 4])
    a, b = both(di.Inclusion(field, di.Orthant()), x0, [0.0, 1.0], steps=di.Fixed(n=9))
    assert agree(a.x, b.x)


@needs_numba
def test_the_start_is_not_changed():
    x0 = torch.rand(4, 3, dtype=torch.float64)
    before = x0.clone()
    sol = di.solve(di.Inclusion(a_field("resnet"), di.Orthant()), x0, [0.0, 1.0], steps=di.Fixed(n=9), engine="fused")
    x0 += 1
    assert torch.equal(sol.x[0], before)


@needs_numba
@pytest.mark.parametrize("g", [di.Orthant(), di.Box(0.0, 2.0), di.Whole()], ids=repr)
@pytest.mark.parametrize("scheme", [di.ForwardEuler(), di.ProxHeun()], ids=repr)
@pytest.mark.parametrize("size", [1e30, 1e170])
def test_failures_are_those_of_torch(g, scheme, size):
    """One sample overflows, in the middle of the solve or in the first step; a box hides it from the states."""
    A1, A2 = torch.eye(2, dtype=torch.float64), -size * torch.eye(2, dtype=torch.float64)
    A1[0, 0] = 0.0
    field = di.ResNetField(A1, torch.zeros(2, dtype=torch.float64), A2, torch.zeros(2, dtype=torch.float64))
    if isinstance(g, di.Box):
        field = di.ResNetField(1e200 * A1, field.b1.values, A2 * (1e170 / size), field.b2.values)
    x0 = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.5, 0.0]], dtype=torch.float64)
    flow = di.Inclusion(field, g)
    a, b = both(flow, x0, [0.0, 0.5, 1.0], scheme=scheme, steps=di.Fixed(n=40), throw=False)
    assert a.status.tolist() == [0, 1, 0] == b.status.tolist()
    assert a.message == b.message
    assert b.stats.engine == "torch"
    assert torch.equal(a.reached, b.reached)
    assert torch.equal(a.x.nan_to_num(7.0), b.x.nan_to_num(7.0))
    with pytest.raises(di.SolveError, match=r"sample \(1,\) failed in step"):
        di.solve(flow, x0, [0.0, 0.5, 1.0], scheme=scheme, steps=di.Fixed(n=40), engine="fused")


@needs_numba
def test_a_nan_among_the_weights_is_seen():
    field = a_field("resnet")
    field.A1.values[2, 1] = torch.nan
    flow, x0 = di.Inclusion(field, di.Box(0.0, 1.0)), torch.full((5, 3), 0.5, dtype=torch.float64)
    sol = di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=9), engine="fused", throw=False)
    assert sol.status.tolist() == [1] * 5


@needs_numba
def test_engines_are_chosen():
    field, x0 = a_field("resnet"), torch.rand(4, 3, dtype=torch.float64)
    flow = di.Inclusion(field, di.Orthant())

    def engine(flow=flow, x0=x0, **options):
        return di.solve(flow, x0, [0.0, 1.0], **{"steps": di.Fixed(n=600), **options}).stats.engine

    assert engine() == "fused"
    assert engine(engine="torch") == "torch"
    assert engine(engine="fused", steps=None) == "fused"
    assert engine(steps=di.Fixed(n=300)) == "torch"  # too little work to import numba for
    assert engine(x0=x0.repeat(10_000, 1), steps=di.Fixed(n=300)) == "fused"
    assert engine(steps=None) == "torch"  # a network, bit for bit
    assert engine(progress=True) == "torch"
    assert engine(scheme=di.ARS222()) == "torch"
    assert engine(scheme=di.ProxHeun(), steps=di.Adaptive()) == "torch"
    assert engine(x0=x0.clone().requires_grad_()) == "torch"
    assert engine(di.Inclusion(field, di.Ball(9.0))) == "torch"
    assert engine(di.Inclusion(lambda t, x: x, di.Orthant())) == "torch"
    assert engine(di.Inclusion(field, di.Box(0.0, torch.ones(4, 1)))) == "torch"
    large = di.Inclusion(a_field("resnet", 70, 70), di.Orthant())
    assert engine(large, torch.rand(2, 70, dtype=torch.float64)) == "torch"
    assert engine(large, torch.rand(2, 70, dtype=torch.float64), engine="fused") == "fused"
    assert engine(large, torch.rand(1, 70, dtype=torch.float64)) == "fused"  # one sample: nothing for torch to multiply
    half = di.Inclusion(a_field("resnet", dtype=torch.bfloat16), di.Orthant())
    assert engine(half, x0.bfloat16()) == "torch"
    with torch.inference_mode():
        assert engine() == "fused"
    with torch.autocast("cpu"):
        assert engine() == "torch"


@pytest.mark.parametrize(("options", "words"), [
    ({"scheme": di.ARS222()}, "takes ForwardEuler.. and ProxHeun..; got scheme = ARS222"),
    ({"scheme": di.SwitchingDP5()}, "got scheme = SwitchingDP5"),
    ({"scheme": di.ProxHeun(), "steps": di.Adaptive()}, r"takes fixed steps; got steps = Adaptive"),
    ({"progress": True}, "shows no progress"),
    ({"x0": torch.rand(4, 3).half()}, "float32 and float64 on the CPU and on CUDA devices; got a tensor of shape"),
    ({"x0": torch.rand(4, 3).requires_grad_()}, r"requires gradients; solve under torch.no_grad\(\)"),
    ({"g": di.Ball(9.0)}, "takes Orthant, Box and Whole; got g = Ball"),
    ({"g": di.Box(0.0, torch.ones(4, 1))}, r"takes bounds of shape \(d,\)"),
    ({"g": di.Box(0.0, torch.ones(3, requires_grad=True))}, "requires gradients"),
    ({"field": lambda t, x: x}, "takes ResNetField, ResNetDField and ResNetSField; got CallableField"),
])
def test_a_forced_engine_says_what_does_not_fit(options, words):
    dtype = options.get("x0", torch.rand(1)).dtype
    parts = {"x0": torch.rand(4, 3), "g": di.Orthant(), "field": a_field("resnet", dtype=dtype), **options}
    flow, x0 = di.Inclusion(parts.pop("field"), parts.pop("g")), parts.pop("x0")
    with pytest.raises(ValueError, match=f"engine='fused' does not fit this solve: it .*{words}"):
        di.solve(flow, x0, [0.0, 1.0], engine="fused", **parts)
    with pytest.raises(ValueError, match="engine must be one of None, 'torch', 'fused'; got 'numba'"):
        di.solve(flow, x0, [0.0, 1.0], engine="numba")


@needs_numba
def test_gradients_and_transforms_are_those_of_torch():
    field, x0 = a_field("resnet"), torch.rand(4, 3, dtype=torch.float64)
    field.A2.values.requires_grad_()
    flow = di.Inclusion(field, di.Orthant())
    sol = di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=600))
    sol.x[-1].sum().backward()
    assert sol.stats.engine == "torch"
    assert float(field.A2.values.grad.abs().sum()) > 0
    with torch.no_grad():
        assert di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=600)).stats.engine == "fused"

        def end(x):
            return di.solve(flow, x, [0.0, 1.0], steps=di.Fixed(n=600)).x[-1]

        assert agree(torch.vmap(end)(x0), end(x0))
        assert torch.func.jacrev(end)(x0[0]).shape == (3, 3)


@needs_numba
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_change_no_bit(dtype, monkeypatch):
    monkeypatch.setattr(fused, "WORK", 1)
    flow = di.Inclusion(a_field("resnet", ensemble=(3,), dtype=dtype), di.Orthant())
    x0, found, before = a_start(di.Orthant(), (3, 700, 3), dtype), [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(di.solve(flow, x0, [0.0, 0.5, 1.0], steps=di.Fixed(n=20), engine="fused").x)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


WITHOUT = """
import sys, torch
if {blocked}: sys.modules["numba"] = None
import diffincl as di
field = di.ResNetField(torch.eye(2), torch.zeros(2), torch.eye(2), torch.zeros(2))
flow = di.Inclusion(field, di.Orthant())
assert "numba" not in sys.modules or {blocked}
print(di.solve(flow, torch.ones(2), [0.0, 1.0]).stats.engine, "numba" in sys.modules)
print(di.solve(flow, torch.ones(2), [0.0, 1.0], steps=di.Fixed(n=600)).stats.engine)
try: print(di.solve(flow, torch.ones(2), [0.0, 1.0], engine="fused").stats.engine)
except ImportError as error: print(error)
"""


def test_without_numba_everything_works():
    done = run(WITHOUT.format(blocked=True))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1] == "torch"
    assert "Install it: pip install 'diffincl[fast]'" in lines[2]


@needs_numba
def test_numba_is_imported_by_the_first_fused_solve():
    done = run(WITHOUT.format(blocked=False))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["torch", "False", "fused", "fused"]


@needs_numba
def test_the_kernels_work_where_nothing_can_be_kept(tmp_path):
    """A cache is looked for when the kernels are imported; where there is no place for one, they are compiled anew."""
    done = run("from numba.core import caching\n"
               "caching.CacheImpl._locator_classes = []\n"
               "from diffincl.solve import kernels\n"
               "print(kernels.affine._cache.__class__.__name__)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "NullCache"


@settings(max_examples=60)
@given(problems())
def test_steps_in_place_have_the_bits_of_plain_steps(problem):
    """A field of one's own that calls the library's takes the plain way."""
    flow, x0, t, scheme, steps = problem
    plain = di.Inclusion(type("Mine", (type(flow.field),), {"__init__": torch.nn.Module.__init__})(), flow.g)
    plain.field.__dict__.update(flow.field.__dict__)
    a, b = (di.solve(f, x0, t, scheme=scheme, steps=steps, engine="torch") for f in (plain, flow))
    for name in ("x", "multiplier", "reached"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    assert (a.message, a.stats) != (b.message, None)
    assert a.stats.evaluations == b.stats.evaluations
    assert a.stats.proxes == b.stats.proxes


def test_kept_states_are_not_written_over():
    """More steps than two blocks of 64, saved now and then, at the first step of a block too, and all of them."""
    flow, x0 = di.Inclusion(a_field("resnet"), di.Orthant()), a_start(di.Orthant(), (5, 3), torch.float64)
    h, x, states, points = 1 / 512, x0, [x0], []
    for _ in range(512):
        points.append(torch.sub(x, flow.field(0.0, x), alpha=h))
        x = torch.relu(points[-1])
        states.append(x)
    multiplier = (torch.stack(points) - torch.stack(states[1:])) / h
    for saves in ([0, 65, 129, 130, 193, 200, 512], range(513)):
        steps = di.Fixed(h) if len(saves) < 513 else None
        sol = di.solve(flow, x0, [k * h for k in saves], steps=steps, engine="torch")
        assert torch.equal(sol.x, torch.stack([states[k] for k in saves]))
        assert torch.equal(sol.multiplier, multiplier[[k - 1 for k in saves[1:]]])
    assert bool((multiplier != 0).any())
