"""What makes training quicker changes nothing but rounding: optimisers, recomputation, compilation, layouts, norms."""

import copy
import math
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import torch

from diffincl import bounds, cli, data, rates, training
from diffincl.nn import DenseResNet, ImageResNet, Stage
from diffincl.rates import chains, conv, factor
from diffincl.training import Job, Recipe, Trainer, compiled, load_network, trainer
from diffincl.training.measures import quick_factors

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def digits():
    every = data.digits()
    return replace(every, train_x=every.train_x[:80], train_y=every.train_y[:80], test_x=every.test_x[:32],
                   test_y=every.test_y[:32])


def dense(variant="resnet", depth=4, **more):
    return DenseResNet(64, 10, variant=variant, width=8, depth=depth, generator=torch.Generator().manual_seed(1),
                       **more)


def images(variant="resnet", **more):
    more = {"widths": (4, 6), "channels": 1, "image": (8, 8), **more}
    return ImageResNet(variant, 2, generator=torch.Generator().manual_seed(1), **more)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


# Optimisers

@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_the_fused_optimiser_takes_the_steps_of_torchs_loop(optimiser):
    recipe = Recipe(optimiser=optimiser, lr=0.1, momentum=0.7, weight_decay=0.05)
    ours = [torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()]
    theirs = [ours[0].detach().clone().requires_grad_()]
    one = recipe.optimiser_for(iter(ours))
    assert one.param_groups[0]["fused"] is True
    more = {"momentum": 0.7} if optimiser == "sgd" else {}
    other = type(one)(theirs, lr=0.1, weight_decay=0.05, foreach=False, **more)
    for _ in range(5):
        for w, step in ((ours[0], one), (theirs[0], other)):
            w.grad = (w.detach() - 1) ** 3
            step.step()
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_run_begun_with_torchs_loop_goes_on_with_it_bit_for_bit(digits, optimiser, monkeypatch):
    """Checkpoints of versions whose optimiser was not fused; the way of a step is a part of its state."""
    recipe = Recipe(epochs=3, optimiser=optimiser, batch=32)
    one = Trainer(dense("s"), digits, recipe)
    for group in one.optimiser.param_groups:
        group["fused"] = None
    one.learn()
    state = copy.deepcopy(one.state_dict())
    other = Trainer(dense("s"), digits, recipe)
    other.load_state_dict(state)
    assert other.optimiser.param_groups[0]["fused"] is None
    for run in (one, other):
        run.learn()
    assert same(one.net, other.net)


# Recomputation by depth

def saved_bytes(stage, x0):
    """Bytes of what autograd keeps of the states, each memory counted once; weights and times left out."""
    weights = {p.untyped_storage().data_ptr() for p in stage.parameters()}
    kept = {}

    def note(tensor):
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in weights and tensor.shape[0] == len(x0) and tensor.ndim == x0.ndim:
            kept[memory.data_ptr()] = (memory.nbytes(), tensor)  # held, so that the address stays taken
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        stage(x0)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("variant", ["resnet", "d", "s"])
@pytest.mark.parametrize("image", [(), (7,), (5, 6)], ids=["dense", "1-D", "2-D"])
def test_the_layers_keep_as_many_bytes_as_they_say(variant, image):
    stage = Stage(variant, 6, 20, image=image, hidden=9, generator=torch.Generator().manual_seed(0))
    x0 = torch.rand(31, 6, *image, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert stage.kept(31) == pytest.approx(saved_bytes(stage, x0), rel=0.06)  # the last state is kept, too
    assert stage.kept(62) == 2 * stage.kept(31)
    assert stage.double().kept(31) == stage.float().kept(62)


def test_auto_takes_the_way_that_fits(digits, monkeypatch):
    limit = dense().layers.kept(32)
    monkeypatch.setattr(trainer, "KEPT", limit)
    recipe = Recipe(epochs=3, batch=32, gradient="auto")
    ways = {}
    for depth in (4, 5):
        for batch in (32, 33):
            run = Trainer(dense(depth=depth), digits, replace(recipe, batch=batch))
            ways[depth, batch] = run.net.layers.gradient
    assert ways == {(4, 32): "backprop", (4, 33): "checkpoint", (5, 32): "checkpoint", (5, 33): "checkpoint"}
    run = Trainer(dense(), digits, replace(recipe, refine=(1,)))
    found = []
    for _ in range(2):
        run.learn()
        found.append(run.net.layers.gradient)
    assert found == ["backprop", "checkpoint"]
    monkeypatch.setattr(trainer.company, "size", lambda: 2)  # each process has half of a batch
    run = Trainer.__new__(Trainer)
    run.net, run.recipe, run.device = dense(depth=8), recipe, torch.device("cpu")
    run._prepare()
    assert run.net.layers.gradient == "backprop"


def test_auto_counts_all_stages_together(digits, monkeypatch):
    net = images()
    monkeypatch.setattr(trainer, "KEPT", sum(stage.kept(64) for stage in net.stages) - 1)
    assert all(stage.kept(64) < trainer.KEPT for stage in net.parts)
    Trainer(net, digits, Recipe(gradient="auto", batch=64))
    assert {stage.gradient for stage in net.stages} == {"checkpoint"}


def test_auto_trains_to_the_same_bits_where_all_is_kept_and_to_rounding_elsewhere(digits, monkeypatch):
    nets = {}
    for name, limit in (("backprop", 2**30), ("auto", 2**30), ("again", 0)):
        monkeypatch.setattr(trainer, "KEPT", limit)
        nets[name] = dense("s")
        recipe = Recipe(epochs=2, batch=32, gradient="backprop" if name == "backprop" else "auto")
        Trainer(nets[name], digits, recipe).learn()
    assert same(nets["backprop"], nets["auto"])
    assert nets["again"].layers.gradient == "checkpoint"
    for a, b in zip(nets["backprop"].parameters(), nets["again"].parameters(), strict=True):
        torch.testing.assert_close(a, b)


# Compilation

class Counting:
    """A back end that compiles nothing and counts what it is given."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


@pytest.fixture
def counted(monkeypatch):
    torch._dynamo.reset()
    counting = Counting()
    monkeypatch.setattr(compiled.torch, "compile", partial(torch.compile, backend=counting))
    yield counting
    torch._dynamo.reset()


@pytest.mark.parametrize("build", [dense, partial(dense, "s"), partial(dense, curves="linear"), images,
                                   partial(images, "d")], ids=["dense", "s", "linear", "image", "image d"])
def test_a_network_is_compiled_once_for_each_size_of_a_batch(digits, counted, build):
    """80 samples in batches of 32: 32, 32 and 16. One graph a size, and one of the trial."""
    nets = [build().double(), build().double()]
    double = replace(digits, train_x=digits.train_x.double(), test_x=digits.test_x.double())
    recipe = Recipe(epochs=2, batch=32, augment=False)
    runs = [Trainer(net, double, replace(recipe, compile=way)) for net, way in zip(nets, (False, True), strict=True)]
    losses = [[run.learn()[0] for _ in range(2)] for run in runs]
    assert counted.graphs == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert list(nets[0].state_dict()) == list(nets[1].state_dict())


def test_a_refined_network_is_compiled_anew(digits, counted):
    recipe = Recipe(epochs=2, batch=80, augment=False, refine=(1,), compile=True)
    run, plain = Trainer(dense(), digits, recipe), Trainer(dense(), digits, replace(recipe, compile=False))
    losses = [[one.learn()[0] for _ in range(2)] for one in (run, plain)]
    assert run.net.depth == 8
    assert counted.graphs == 3  # the trial, 4 layers, 8 layers
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_loss_that_is_not_finite_is_noticed_in_compiled_code(digits, counted):
    net = dense()
    run = Trainer(net, digits, Recipe(compile=True))
    with torch.no_grad():
        net.layers.field.A1.values[2].fill_(torch.inf)
    with pytest.raises(ArithmeticError, match="A1 of layer 2"):
        run.learn()


def test_a_run_is_resumed_compiled_or_not(digits, counted, tmp_path):
    """Compiled, then not, then compiled: settings and weights fit, and it is the run that was never compiled."""
    job = Job(width=8, depth=3, recipe=Recipe(epochs=1, batch=40, schedule="constant"))
    for epochs, way in ((1, True), (2, False), (3, True)):
        longer = replace(job, recipe=replace(job.recipe, compile=way))
        stop = [0]

        def enough(metrics, stop=stop, epochs=epochs):
            stop[0] = metrics["epoch"]
            if stop[0] == epochs < 3:
                raise KeyboardInterrupt

        longer = replace(longer, recipe=replace(longer.recipe, epochs=3))
        with suppress(KeyboardInterrupt):
            longer.run(tmp_path / "a", digits, resume=epochs > 1, epoch=enough)
        assert stop == [epochs]
    replace(job, recipe=replace(job.recipe, epochs=3)).run(tmp_path / "b", digits)
    one, other = (load_network(tmp_path / name) for name in "ab")
    assert list(one.state_dict()) == list(other.state_dict())
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_how_a_network_was_compiled_is_no_setting_of_a_run():
    recipe = Recipe(compile=True)
    assert set(Job(recipe=recipe).settings) == {*asdict(Job()), *asdict(recipe)} - {"recipe", "compile"}
    assert Job(recipe=recipe).settings == Job().settings


@pytest.mark.parametrize(("values", "error", "words"), [
    ({"compile": True, "gradient": "checkpoint"}, ValueError, "needs gradient 'backprop'; got 'checkpoint'"),
    ({"compile": True, "gradient": "auto"}, ValueError, "needs gradient 'backprop'; got 'auto'"),
    ({"compile": "yes"}, TypeError, "compile must be True or False; got 'yes'"),
    ({"gradient": "never"}, ValueError, "'backprop', 'checkpoint', 'auto'"),
])
def test_choices_that_do_not_go_together(values, error, words):
    with pytest.raises(error, match=words):
        Recipe(**values)


@pytest.mark.slow
def test_without_a_compiler_nothing_is_lost(tmp_path):
    """As a user sees it: status 2, one line with the remedy, no file."""
    env = {**os.environ, "CXX": str(tmp_path / "no-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
           "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "diffincl", "train", "--width", "4", "--depth", "1", "--epochs", "1",
                           "--compile", "--out", str(tmp_path / "run")], env=env, text=True, capture_output=True,
                          check=False, timeout=300)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "compile needs a C++ compiler" in done.stderr
    assert "apt install g++" in done.stderr
    assert "leave compile out" in done.stderr
    assert not list((tmp_path / "run").glob("*"))


def test_the_command_reads_a_bare_compile(monkeypatch, tmp_path, capsys):
    seen = []
    monkeypatch.setattr(training.Job, "run", lambda job, *args, **more: seen.append(job.recipe.compile) or 1 / 0)
    for words in ([], ["--compile"], ["--compile", "no"], ["--compile", "yes"]):
        assert cli.main(["train", "--out", str(tmp_path), *words]) == 1
    assert seen == [False, True, False, True]
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--out", str(tmp_path), "--compile", "maybe"])
    assert stop.value.code == 2
    assert "must be yes or no; got 'maybe'" in capsys.readouterr().err


@pytest.mark.slow
def test_code_that_torch_compiled_has_the_gradients_of_the_network(digits):
    """The real back end, if there is a compiler; float64, in which rounding is far from what matters."""
    net = dense("s", depth=1).double()
    try:
        run = compiled.compiled(net, torch.device("cpu"))
    except ValueError as error:
        pytest.skip(str(error))
    x, found = digits.train_x[:16].double(), []
    for f in (net, run):
        net.zero_grad()
        f(x).square().sum().backward()
        found.append([p.grad.clone() for p in net.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


# Layout

def test_large_images_are_laid_out_with_the_channels_last(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    for side, last in ((15, False), (16, True)):
        x = torch.rand(8, 3 * side * side, generator=draw)
        some = data.ImageData(x, torch.arange(8), x, torch.arange(8), (3, side, side), 10)
        nets, seen = [images(channels=3, image=(side, side)) for _ in range(2)], []
        nets[0].stages[1].register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0]))
        runs = [Trainer(net, some.images(), Recipe(optimiser="sgd", epochs=1, batch=8)) for net in nets]
        runs[1]._laid_out = lambda x: x
        losses = [run.learn()[0] for run in runs]
        assert seen[0].is_contiguous(memory_format=torch.channels_last) is last
        assert seen[0].is_contiguous() is not last
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        for a, b in zip(*(net.parameters() for net in nets), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


# Norms

@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("image", [(), (7,), (5, 6)], ids=["dense", "1-D", "2-D"])
def test_all_layers_are_applied_in_one_call(image, mode):
    stage = Stage("s", 4, 5, hidden=3, image=image, padding_mode=mode, generator=torch.Generator().manual_seed(0))
    field, A = stage.field.double(), stage.weight.detach()
    v = torch.randn(5, 4, *image, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    one_by_one = torch.stack([field.affine(x[None], A_k, None)[0] for x, A_k in zip(v, A, strict=True)])
    torch.testing.assert_close(field.each(v, A), one_by_one)


@pytest.mark.parametrize("image", [(), (7,), (5, 6)], ids=["dense", "1-D", "2-D"])
def test_the_norms_of_all_layers_are_found_from_below(image):
    """Many turns come to the norm; the directions are those of AᵀA, one a layer."""
    stage = Stage("s", 4, 5, hidden=3, image=image, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for A_k, size in zip(stage.weight, (1, 3, 0.1, 5, 2), strict=True):
            A_k.mul_(size)
    before = stage.norm_of(stage.weight).value
    stage.cap_(turns=3000)
    after, most = stage.norm_of(stage.weight).value, (0.98 / stage.h) ** 0.5
    torch.testing.assert_close(after, before.clamp(max=most), rtol=1e-4, atol=0)


@pytest.mark.parametrize("build", [dense, partial(dense, "s"), images, partial(images, "s")])
def test_an_epoch_looks_at_the_norms_once(digits, build, monkeypatch):
    net, calls, real = build().eval(), [], Stage.factor
    blocks = math.prod(float(part.factor(rate="global").value) for part in net.parts)
    expected = float(net.sensitivity(rate="global").value), blocks
    monkeypatch.setattr(Stage, "factor", lambda stage, *args, **more: calls.append(stage) or real(stage, *args, **more))
    assert quick_factors(net) == expected
    assert len(calls) == len(net.stages)


@pytest.mark.parametrize("build", [partial(dense, depth=2), partial(dense, "d", 2, curves="linear"),
                                   images, partial(images, image=(8,))], ids=["dense", "linear", "2-D", "1-D"])
def test_the_multipliers_of_a_certificate_are_optimised_once(build, monkeypatch):
    """The same factor, to the accuracy of the optimisation, as the least of product and chain, each by itself."""
    stage = build().stages[0]
    A1, A2 = (torch.stack(A).detach() for A in zip(*((w.A1, w.A2) for w in stage.layers()), strict=True))
    h = torch.tensor(stage.times, dtype=torch.float64).diff()
    least = torch.minimum(stage.factors().value[-1], rates.chain(A1, A2, h, image=stage.image))
    seen, real = [], conv.optimised_multipliers if stage.image else rates.step_multipliers

    def counting(*args):
        seen.append(args)
        return real(*args)

    for module, name in ([(conv, "optimised_multipliers")] if stage.image else
                         [(rates, "step_multipliers"), (factor, "step_multipliers"), (chains, "dense_multipliers")]):
        monkeypatch.setattr(module, name, counting)
    assert float(stage.factor().value) == pytest.approx(float(least), rel=1e-6)
    # Weights that move within a layer have others at its end, with a factor of their own.
    assert len(seen) == 1 + stage.field.time_dependent_within_a_step


def test_the_chain_is_that_of_the_layers_as_they_are_stepped(monkeypatch):
    """Steps of length 1/3 in float64: rounded to float32 they would be those of another network."""
    seen, real = [], rates.chain
    monkeypatch.setattr(rates, "chain", lambda A1, A2, h, **more: seen.append(h) or real(A1, A2, h, **more))
    dense(depth=3).layers.factor()
    torch.testing.assert_close(seen[0], torch.full((3,), 1 / 3, dtype=torch.float64), rtol=1e-15, atol=0)


@pytest.mark.parametrize("image", [(), (6,)], ids=["dense", "1-D"])
def test_a_given_multiplier_is_a_certificate_and_a_poor_one_a_poor_one(image):
    draw = torch.Generator().manual_seed(3)
    A1, A2 = (0.5 * torch.randn(3, *shape, *(3,) * len(image), generator=draw, dtype=torch.float64)
              for shape in ((5, 4), (4, 5)))
    h = torch.full((3,), 0.4, dtype=torch.float64)
    lam = rates.conv.step_multipliers(A1, A2, image, h) if image else rates.step_multipliers(A1, A2, h)
    own = float(rates.chain(A1, A2, h, image=image))
    assert float(rates.chain(A1, A2, h, image=image, multiplier=lam)) == own
    assert float(rates.chain(A1, A2, h, image=image, multiplier=20 * lam, turns=1)) > own
    for wrong, words in ((lam[:2], r"multiplier must have shape \(3, 5\)"), (-lam, "multiplier must be positive")):
        with pytest.raises(ValueError, match=words):
            rates.chain(A1, A2, h, image=image, multiplier=wrong)


def test_the_product_takes_the_multipliers_that_it_is_given():
    stage = dense(depth=3).layers
    w = stage.layers()
    lam = rates.step_multipliers(*(torch.stack([getattr(v, name) for v in w]) for name in ("A1", "A2")),
                                 torch.tensor(stage.times, dtype=torch.float64).diff())
    own, given, poor = (bounds.discrete_sensitivity(stage.flow, stage.times, rate="step", multiplier=m).curve
                        for m in (None, lam, 3 * lam))
    torch.testing.assert_close(given, own, rtol=1e-9, atol=0)
    assert bool((poor[1:] > own[1:]).all())
    for wrong, words in ((lam[0], r"multiplier must have shape \(3, 8\)"), (0 * lam, "multiplier must be positive")):
        with pytest.raises(ValueError, match=words):
            bounds.discrete_sensitivity(stage.flow, stage.times, rate="step", multiplier=wrong)
