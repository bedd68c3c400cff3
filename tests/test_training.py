"""Training: recipes, the loop, refinement, resuming, several processes, the command."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

import diffincl as di
from diffincl import cli, data, training
from diffincl.training import Job, Recipe, Trainer, checkpoints, company, fit, load_network
from diffincl.training.measures import dead, quick_factors

ROOT = Path(__file__).parent.parent
TINY = ["--width", "8", "--depth", "3", "--batch", "256"]


@pytest.fixture(scope="module")
def digits():
    return data.digits()


def dense(variant="s", seed=1, **more):
    more = {"width": 8, "depth": 4, **more}
    return di.nn.DenseResNet(64, 10, variant=variant, generator=torch.Generator().manual_seed(seed), **more)


def images(variant="s", **more):
    return di.nn.ImageResNet(variant, 2, widths=(4, 6), channels=1, image=(8, 8),
                             generator=torch.Generator().manual_seed(1), **more)


def few(digits, n=64):
    return replace(digits, train_x=digits.train_x[:n], train_y=digits.train_y[:n], test_x=digits.test_x[:n],
                   test_y=digits.test_y[:n])


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# The loop

def test_a_step_is_that_of_the_formula(digits):
    """Loss, penalties, temperature, clipping and optimiser against the same written by hand."""
    some = few(digits)
    recipe = Recipe(epochs=1, optimiser="sgd", lr=0.3, momentum=0.5, weight_decay=0.01, batch=64, clip=0.4,
                    control=0.02, smoothness=0.03, temperature=0.5, augment=False)
    net, twin = dense("resnet"), dense("resnet")
    Trainer(net, some, recipe).learn()
    field = twin.layers.field
    penalty = sum((A.values**2).sum() / 4 for A in (field.A1, field.A2))
    rough = sum((curve.values.diff(dim=0)**2).sum() * 4 for curve in twin.layers.curves.values())
    loss = cross_entropy(twin(some.train_x) / 0.5, some.train_y) + 0.01 * penalty + 0.03 * rough
    gradients = torch.autograd.grad(loss, list(twin.parameters()))
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    assert norm > 0.4
    for p, g, trained in zip(twin.parameters(), gradients, net.parameters(), strict=True):
        torch.testing.assert_close(trained, p - 0.3 * (0.4 * g / norm + 0.01 * p))


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("make", [dense, images], ids=["dense", "image"])
def test_every_optimiser_learns(digits, make, optimiser):
    recipe = Recipe(epochs=3, optimiser=optimiser, lr=0.1 if optimiser == "sgd" else 1e-2, batch=32)
    trainer = Trainer(make("resnet"), few(digits, 512), recipe)
    losses = [trainer.learn()[0] for _ in range(3)]
    assert losses[2] < 0.9 * losses[0]
    assert not trainer.net.training


def test_the_schedule_falls_along_half_a_cosine(digits):
    recipe = Recipe(epochs=4, lr=0.1)
    wave = [0.1, 0.05 * (1 + 0.5**0.5), 0.05, 0.05 * (1 - 0.5**0.5)]
    assert [recipe.lr_of(e) for e in range(4)] == pytest.approx(wave)
    assert replace(recipe, schedule="constant").lr_of(3) == 0.1
    trainer = Trainer(dense(), few(digits), recipe)
    for epoch in range(2):
        trainer.learn()
        assert trainer.optimiser.param_groups[0]["lr"] == recipe.lr_of(epoch)


def test_batches_are_augmented_as_the_data_set_says(digits):
    some, seen = few(digits), []
    for augment in (True, False):
        net = dense()
        net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        Trainer(net, some, Recipe(epochs=1, augment=augment)).learn()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    expected = some.augment(some.train_x[order], torch.Generator().manual_seed(0))
    assert torch.equal(seen[0], expected)
    assert torch.equal(seen[1], some.train_x[order])
    assert not torch.equal(seen[0], seen[1])


def test_checkpointed_gradients_train_to_the_same_weights(digits):
    nets = [dense(), dense()]
    for net, gradient in zip(nets, ("backprop", "checkpoint"), strict=True):
        Trainer(net, few(digits), Recipe(epochs=2, gradient=gradient)).learn()
    assert nets[1].layers.gradient == "checkpoint"
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
@pytest.mark.parametrize("make", [dense, images], ids=["dense", "image"])
def test_mixed_precision_keeps_states_and_weights_in_float32(digits, make, gradient):
    net, states = make("s"), []
    net.stages[0].register_forward_hook(lambda module, inputs, output: states.append(output))
    exact = Trainer(make("s"), few(digits), Recipe(epochs=1)).learn()[0]
    rough = Trainer(net, few(digits), Recipe(epochs=1, precision="bfloat16", gradient=gradient)).learn()[0]
    assert states[0].dtype is torch.float32
    assert all(p.dtype is torch.float32 for p in net.parameters())
    assert 0 < abs(rough - exact) < 0.02 * exact


def test_a_last_batch_of_one_joins_the_one_before(digits):
    trainer = Trainer(images(), few(digits, 33), Recipe(epochs=1, batch=16))
    for n, sizes in ((33, [16, 17]), (32, [16, 16]), (34, [16, 16, 2]), (1, [1])):
        trainer.data = few(digits, n).images()
        assert [len(rows) for rows in trainer._batches(torch.arange(n))] == sizes
        assert trainer.steps == len(sizes)
    trainer.data = few(digits, 33).images()
    assert math.isfinite(trainer.learn()[0])


# What is measured

def test_metrics_are_what_they_say(digits):
    some, net = few(digits), dense("d")
    trainer = Trainer(net, some, Recipe(epochs=2, control=1e-2, smoothness=1e-3, augment=False, batch=64))
    first, last = trainer.epoch(), trainer.epoch()
    assert (first["epoch"], last["epoch"], last["depth"], last["lr"]) == (1, 2, 4, 2.5e-3)
    right = net(some.test_x).argmax(-1) == some.test_y
    assert last["test"] == pytest.approx(float(right.double().mean()))
    assert first["certified"] is None
    assert last["certified"] == float(net.sensitivity().value) <= last["factor"]
    J = last["loss"] + 0.005 * float(net.cost().detach()) + 1e-3 * float(net.roughness().detach())
    assert last["exponent"] == pytest.approx(100 * J, rel=1e-6)
    json.dumps(last, allow_nan=False)


@pytest.mark.parametrize("make", [dense, images], ids=["dense", "image"])
@pytest.mark.parametrize("variant", di.nn.VARIANTS)
def test_the_depth_free_bound_holds_at_every_depth(digits, make, variant):
    net = make(variant)
    last = Trainer(net, few(digits), Recipe(epochs=1, control=1.0)).epoch()
    assert last["depth_free"] == pytest.approx(math.exp(last["exponent"]))
    for factor in (1, 2, 8):
        assert quick_factors(net.at_depth(factor * net.depth))[1] <= last["depth_free"]


def test_the_depth_free_bound_counts_the_taps_of_kernels():
    """A kernel of ones has the norm k‖K‖ nearly: without the taps the bound would be violated."""
    net = di.nn.ImageResNet("resnet", 1, widths=(1,), channels=1, image=(32, 32))
    with torch.no_grad():
        for curve in (net.stages[0].field.A1, net.stages[0].field.A2):
            curve.values.fill_(0.3)
    exponent = training.measures.control_exponent(net, 0.0, 1.0, 0.0)
    assert exponent >= float(net.at_depth(64).stages[0].factor(rate="global").value.log()) > exponent / 9


def test_dead_units_and_features_are_counted():
    net = dense("resnet", width=4, depth=2)
    field, x = net.layers.field, torch.rand(9, 64)
    with torch.no_grad():
        field.b1.values.fill_(100.0)
        field.A1.values[1, :3] = 0.0
        field.b1.values[1, :3] = torch.tensor([-1e6, -0.01, 0.0])  # 3 of 8 units
        field.b2.values.fill_(1e4)
        field.b2.values[1, 2] = -1e6  # 1 of 4 features
    assert dead(net, x) == (3 / 8, 1 / 4)


@pytest.mark.parametrize("make", [dense, images], ids=["dense", "image"])
@pytest.mark.parametrize("curves", ["constant", "linear"])
def test_the_layers_of_resnet_s_have_factor_one_after_every_epoch(digits, make, curves):
    trainer = Trainer(make("s", curves=curves, limit=2.0), few(digits), Recipe(epochs=3, lr=0.3, clip=None))
    for metrics in (trainer.epoch() for _ in range(3)):
        assert metrics["blocks"] <= 1
    assert metrics["step_norm"] > 1.5  # the limit is at work


# Faults

@pytest.mark.parametrize(("spoil", "place"), [
    (lambda net: net.layers.field.b1.values[2, 0].fill_(torch.nan), "b1 of layer 2 of the stage layers"),
    (lambda net: net.lift.bias[0].fill_(torch.inf), "the weight lift.bias"),
    (lambda net: net.layers.field.A1.values[1].fill_(1e38), "the state after layer 1 of the stage layers"),
])
def test_a_loss_that_is_not_finite_names_epoch_place_and_remedy(digits, spoil, place):
    net = dense("resnet")
    trainer = Trainer(net, few(digits), Recipe(epochs=3))
    trainer.learn()
    with torch.no_grad():
        spoil(net)
    with pytest.raises(ArithmeticError, match=rf"the loss is \S+ in epoch 1; lower lr .* First not finite: {place}"):
        trainer.learn()


def test_a_fault_in_an_image_network_names_the_stage(digits):
    net = images("resnet")
    with torch.no_grad():
        net.body[3].field.A2.values[1].fill_(1e38)
        net.body[3].field.b1.values[1].fill_(1e5)
    with pytest.raises(ArithmeticError, match=r"First not finite: the state after layer 1 of the stage body\.3"):
        Trainer(net, few(digits), Recipe(epochs=1)).learn()


def test_weights_that_are_not_finite_at_the_end_of_an_epoch_stop_it(digits):
    trainer = Trainer(dense("resnet"), few(digits), Recipe(epochs=1, batch=64, clip=None, augment=False))
    trainer.net.head.weight.register_hook(lambda g: g * torch.nan)
    with pytest.raises(ArithmeticError, match=r"First not finite: the weight head\.weight"):
        trainer.learn()


@pytest.mark.parametrize(("change", "message"), [
    ({"epochs": 0}, "epochs must be at least 1; got 0"),
    ({"optimiser": "lion"}, "optimiser must be one of 'adamw', 'adam', 'sgd'; got 'lion'"),
    ({"lr": 0.0}, "lr must be greater than 0"),
    ({"lr": math.nan}, "lr must be finite"),
    ({"clip": 0.0}, "clip must be greater than 0"),
    ({"momentum": 1.0}, "momentum must be less than 1"),
    ({"control": -1.0}, "control must be at least 0"),
    ({"temperature": 0.0}, "temperature must be greater than 0"),
    ({"seed": -1}, "seed must be a whole number"),
    ({"augment": 1}, "augment must be True or False"),
    ({"epochs": 4, "refine": (4,)}, "refine must hold increasing epochs from 1 to epochs − 1 = 3"),
    ({"refine": (3, 2)}, "refine must hold increasing epochs"),
    ({"precision": "float16"}, "precision must be one of"),
])
def test_bad_recipes(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Recipe(**change)


# Refinement

@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("curves", ["constant", "linear"])
def test_refinement_keeps_the_curves_and_carries_the_moments(digits, curves, optimiser):
    recipe = Recipe(epochs=2, refine=(1,), optimiser=optimiser, batch=32)
    trainer = Trainer(dense("resnet", curves=curves), few(digits), recipe)
    trainer.learn()
    net, old = trainer.net, trainer.optimiser
    trainer._refine()
    assert trainer.net.depth == 8 == 2 * net.depth
    assert same(net.head, trainer.net.head)
    A, fine = net.layers.field.A1, trainer.net.layers.field.A1
    assert torch.equal(A(0.3), fine(0.3)) or curves == "linear"
    torch.testing.assert_close(A(0.3), fine(0.3))
    key = "exp_avg" if optimiser == "adamw" else "momentum_buffer"
    moment, finer = old.state[A.values][key], trainer.optimiser.state[fine.values][key]
    assert finer.shape == fine.values.shape
    torch.testing.assert_close(finer[0], moment[0] / 2)
    torch.testing.assert_close(finer[-1], moment[-1] / 2)
    if optimiser == "adamw":
        torch.testing.assert_close(trainer.optimiser.state[fine.values]["exp_avg_sq"][0],
                                   old.state[A.values]["exp_avg_sq"][0] / 4)
    assert trainer.optimiser.state[trainer.net.head.weight][key].equal(old.state[net.head.weight][key])


def test_training_goes_on_with_the_refined_network(digits):
    net = dense("s")
    fine = fit(net, few(digits), recipe=Recipe(epochs=3, refine=(1, 2)))
    assert (net.depth, fine.depth) == (4, 16)


# Resuming

def log_of(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{**line, "seconds": 0} for line in lines]


def train(*arguments):
    return cli.main(["train", *TINY, *map(str, arguments)])


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_state_goes_on_bit_for_bit(digits, optimiser, stop):
    """Also where the depth changes before, at and after the break; augmentation and batch normalisation on."""
    recipe = Recipe(epochs=4, refine=(2,), optimiser=optimiser, batch=32)
    whole, first, second = (Trainer(images("s"), few(digits), recipe) for _ in range(3))
    expected = [whole.learn() for _ in range(4)]
    found = [first.learn() for _ in range(stop)]
    second.load_state_dict(first.state_dict())
    found += [second.learn() for _ in range(4 - stop)]
    assert found == expected
    assert same(whole.net, second.net)


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    command = ["--variant", "s", "--epochs", "8", "--refine", "3", "--control", "0.001"]
    assert train(*command, "--out", tmp_path / "whole") == 0
    line = [sys.executable, "-m", "diffincl", "train", *TINY, *command, "--out", str(tmp_path / "killed")]
    process = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})
    log = tmp_path / "killed" / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") >= 2):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = log.read_text().count("\n")
    assert 2 <= done < 8, "the run was not killed in the middle"
    assert train(*command, "--out", tmp_path / "killed", "--resume") == 0
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")
    assert same(load_network(tmp_path / "killed"), load_network(tmp_path / "whole"))


@pytest.fixture
def run(tmp_path):
    """A finished run of three epochs."""
    assert train("--epochs", 3, "--out", tmp_path / "run") == 0
    return tmp_path / "run"


def test_a_run_keeps_a_log_and_two_checkpoints(run, capsys):
    assert sorted(path.name for path in run.iterdir()) == ["epoch-00002.ckpt", "epoch-00003.ckpt", "log.jsonl"]
    lines = log_of(run)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    net, digits = load_network(run), data.digits()
    assert training.accuracy(net, digits.test_x, digits.test_y) == lines[-1]["test"]
    assert train("--epochs", 3, "--out", run, "--resume") == 0  # nothing left to do
    assert f"test accuracy {lines[-1]['test']:.2%}" in capsys.readouterr().out
    assert log_of(run) == lines


def test_another_configuration_is_refused_by_name(run, capsys):
    before = (run / "log.jsonl").read_text()
    assert train("--epochs", 3, "--out", run, "--resume", "--lr", 0.01, "--variant", "d") == 2
    said = capsys.readouterr().err
    assert "lr 0.005 there, 0.01 here" in said
    assert "variant 'resnet' there, 'd' here" in said
    assert "width" not in said
    assert (run / "log.jsonl").read_text() == before


def test_a_run_is_not_overwritten(run, capsys):
    assert train("--epochs", 3, "--out", run) == 2
    assert "holds a run; go on with --resume, or take another folder" in capsys.readouterr().err


@pytest.mark.parametrize("tear", [
    lambda content: content[:len(content) // 2],
    lambda content: b"",
    lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
], ids=["cut", "empty", "one bit"])
def test_a_torn_checkpoint_is_left_out_and_said(run, capsys, tear):
    before, net = log_of(run), load_network(run)
    last = run / "epoch-00003.ckpt"
    last.write_bytes(tear(last.read_bytes()))
    assert train("--epochs", 3, "--out", run, "--resume") == 0
    assert "epoch-00003.ckpt is torn and left out; going on from the one before" in capsys.readouterr().err
    assert log_of(run) == before
    assert same(load_network(run), net)


@pytest.mark.parametrize("when", ["checkpoint", "log"])
def test_a_full_disk_leaves_the_checkpoints_before(tmp_path, capsys, monkeypatch, when):
    assert train("--epochs", 3, "--out", tmp_path / "whole") == 0
    full = OSError(28, "No space left on device")
    written, write, opened = [], Path.write_bytes, Path.open

    def write_bytes(path, content):
        written.append(path)
        if when == "checkpoint" and len(written) == 3:
            write(path, content[:1000])
            raise full
        return write(path, content)

    def open_(path, mode="r", *more, **others):
        if when == "log" and mode == "a" and len(written) == 3:
            with opened(path, mode) as file:
                file.write('{"epoch": 3, "de')
            raise full
        return opened(path, mode, *more, **others)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_bytes)
        patch.setattr(Path, "open", open_)
        assert train("--epochs", 3, "--out", tmp_path / "run") == 2
    assert "No space left on device; checkpoints kept before are whole" in capsys.readouterr().err
    assert len(written) == 3
    state = checkpoints.Checkpoints(tmp_path / "run").newest(print)
    assert state["trainer"]["done"] == (2 if when == "checkpoint" else 3)
    assert not list((tmp_path / "run").glob(".*"))
    assert train("--epochs", 3, "--out", tmp_path / "run", "--resume") == 0
    assert log_of(tmp_path / "run") == log_of(tmp_path / "whole")


@pytest.mark.parametrize(("arguments", "message"), [
    (["--device", "cuda"], "--device cuda needs a GPU that torch can use, and there is none here"),
    (["--data", "cifar10"], "folder must name the folder with the files of cifar10"),
    (["--data", "cifar10", "--folder", "/nowhere"], "/nowhere"),
    (["--depth", "0"], "depth must be at least 1; got 0"),
    (["--limit", "3", "--variant", "s"], "limit must be at most 2"),
    (["--model", "image", "--isometric", "yes"], "isometric is for the dense network"),
    (["--refine", "9", "--epochs", "3"], "refine must hold increasing epochs"),
    (["--lr", "-1"], "lr must be greater than 0"),
])
def test_bad_usage_is_one_line_and_status_two(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert train("--out", tmp_path, *arguments) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert said.startswith("diffincl train: error: ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--epochs", "many"], ["--augment", "perhaps"], ["--widths", "4,x"],
                                       ["--variant", "q"], ["--data", "mnist"]])
def test_words_that_mean_nothing_are_refused(tmp_path, capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        train("--out", tmp_path, *arguments)
    assert arguments[1].split(",")[-1] in capsys.readouterr().err


def test_a_loss_that_diverges_ends_the_command_with_status_one(tmp_path, capsys):
    assert train("--out", tmp_path, "--lr", 1e30, "--clip", "none", "--optimiser", "sgd", "--epochs", 2) == 1
    assert "First not finite" in capsys.readouterr().err


def test_options_reach_the_recipe(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Job, "run", lambda self, *a, epoch, **k: (seen.append(self), epoch(
        {"epoch": 1, "loss": 0.0, "test": 1.0, "certified": 1.0})))
    assert cli.main(["train", "--data", "mnist1d", "--model", "image", "--variant", "s", "--depth", "5", "--widths",
                     "4,8", "--clip", "none", "--augment", "no", "--refine", "2,3", "--control", "0.1", "--seed", "7",
                     "--out", str(tmp_path)]) == 0
    assert seen == [Job(data="mnist1d", model="image", variant="s", depth=5, widths=(4, 8), recipe=Recipe(
        clip=None, augment=False, refine=(2, 3), control=0.1, seed=7))]


# Several processes

@pytest.mark.slow
@pytest.mark.parametrize("network", [["--variant", "s"], ["--model", "image", "--widths", "2,3", "--depth", "2",
                                                         "--refine", "1", "--variant", "d"]], ids=["dense", "image"])
def test_two_processes_take_the_steps_of_one(tmp_path, network):
    command = [*TINY, *network, "--epochs", "2", "--batch", "359", "--control", "0.001"]
    assert cli.main(["train", *command, "--out", str(tmp_path / "one")]) == 0
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
                           "diffincl", "train", *command, "--out", str(tmp_path / "two")], cwd=ROOT, check=False,
                          capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120)
    assert done.returncode == 0, done.stderr
    one, two = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert len(one) == len(two) == 2
    for a, b in zip(one, two, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], abs=1e-5)
        assert b["factor"] == pytest.approx(a["factor"], rel=1e-4)
        assert b["test"] == pytest.approx(a["test"], abs=0.003)  # a sample may stand on the edge


def test_shared_norms_are_those_of_torch(monkeypatch):
    """As of one process that shares with nobody: values, gradients and running statistics."""
    x = torch.randn(6, 3, 4, dtype=torch.float64)
    mine, torchs = torch.nn.BatchNorm1d(3).double(), torch.nn.BatchNorm1d(3).double()
    monkeypatch.setattr(company, "size", lambda: 2)
    monkeypatch.setattr(company, "_sum", lambda v: v)
    company.share_norms(mine)
    for norm in (mine, torchs):
        torch.nn.init.constant_(norm.weight, 1.5)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    for norm, x in ((mine, a), (torchs, b)):
        norm(x).pow(3).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(mine.weight.grad, torchs.weight.grad)
    for s, t in zip(mine.state_dict().values(), torchs.state_dict().values(), strict=True):
        torch.testing.assert_close(s, t)
    torch.testing.assert_close(mine.eval()(x), torchs.eval()(x))


@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
def test_an_empty_share_of_a_batch_has_gradients_of_zero(digits, gradient):
    trainer = Trainer(dense(), few(digits), Recipe(epochs=1, gradient=gradient))
    loss, right = trainer._loss(digits.train_x[:0], digits.train_y[:0])
    loss.backward()
    assert float(loss.detach()) == float(right) == 0
    assert all(p.grad is not None and not bool(p.grad.any()) for p in trainer.net.parameters())


@pytest.mark.parametrize("model", ["dense", "image"])
@pytest.mark.parametrize("variant", di.nn.RELATIVES)
def test_relatives_are_trained_by_the_same_loop(digits, variant, model):
    job = training.Job(model=model, variant=variant, width=8, widths=(4, 6), depth=2, recipe=Recipe(epochs=1))
    last = Trainer(job.network(10, (1, 8, 8)), few(digits), job.recipe).epoch()
    assert last["blocks"] >= 1
    assert last["certified"] <= last["factor"]
    assert last["dead_units"] is None
    with pytest.raises(ValueError, match="control needs weights that are curves in time"):
        training.Job(variant=variant, recipe=Recipe(control=1e-3))
