"""The main job as a user runs it: table, report, JSON, exit status, resuming."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import diffincl as di
from diffincl import cli, experiment, report
from diffincl.statements import STATEMENTS, examine

LABELS = ("C5", "C6", "D1", "D3", "L3")  # of flows and of layers, for every network and for some, and one with orders


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """One quick run of everything, shared by the tests below."""
    out = tmp_path_factory.mktemp("check")
    settings = experiment.Settings(LABELS, trials=24, ascent=3, images=8, epochs=4)
    outcome = experiment.run(settings, out)
    return outcome, out, report.write(outcome, out)


def test_every_statement_holds_and_every_control_is_violated(quick):
    outcome, _, _ = quick
    assert tuple(outcome.results) == LABELS
    assert outcome.passed
    assert all(r.holds and r.control_violated for r in outcome.results.values())


def test_each_network_is_checked_by_the_statements_that_apply_to_it(quick):
    everyone = {"ResNet", "ResNet-D", "ResNet-S"}
    seen = {label: {f.origin.split(",")[0] for f in r.findings} & everyone for label, r in quick[0].results.items()}
    assert seen == {"C5": {"ResNet-D"}, "C6": {"ResNet-S"}, "D1": everyone, "D3": {"ResNet-S"}, "L3": set()}


@pytest.mark.parametrize("label", [label for label, s in STATEMENTS.items() if s.trained])
def test_the_statements_on_trained_networks_hold_for_images_of_all_kinds(quick, label):
    """Those that the run above leaves out, too; what the run attacks is looked at here as it is."""
    outcome, statement, seen = quick[0], STATEMENTS[label], set()
    for variant, net in outcome.networks.items():
        for case in experiment.trained_cases(variant, net, outcome.data, outcome.settings):
            if not statement.outside(case):
                found = examine(statement, case, ascent=0)
                assert found.violations == 0
                assert found.instances == outcome.settings.images
                seen.add(found.origin)
    structure = {"C5": ["ResNet-D"], "D2": ["ResNet-D"], "C6": ["ResNet-S"], "D3": ["ResNet-S"]}
    kinds = ("clean pairs", "Gaussian noise", "structured noise")
    assert seen == {f"{name}, {kind}" for name in structure.get(label, experiment.NAMES.values()) for kind in kinds}


def test_the_scaled_bound_of_the_symmetric_network_is_tight_where_the_global_one_is_not(quick):
    outcome, _, _ = quick
    rows = {row.rate: row for row in outcome.ladder if row.network == "ResNet-S"}
    assert rows["scaled"].flow_bound / rows["scaled"].flow_observed <= 1.2
    assert rows["global"].flow_bound > 100
    assert rows["step"].flow_bound is None
    for row in outcome.ladder:
        assert row.flow_bound is None or row.flow_observed <= row.flow_bound * (1 + 1e-9)
        assert row.layer_observed <= row.layer_bound * (1 + 1e-9)


def test_the_slack_adds_up(quick):
    rows = [row for row in quick[0].ladder if row.flow_bound is not None]
    assert len(rows) == 9
    for row in rows:
        parts = row.norm + row.rate_slack + row.path
        assert math.log(row.flow_bound) == pytest.approx(math.log(row.flow_observed) + parts, abs=1e-9)
        assert row.norm >= 0
        assert row.rate_slack >= -1e-9
        assert row.path >= -1e-6


def test_along_time_the_flow_keeps_to_its_bounds_and_the_network_to_its_own(quick):
    outcome = quick[0]
    assert [(a.network, a.kind, len(a.t)) for a in outcome.along] == [
        (name, kind, n) for name in experiment.NAMES.values() for kind, n in (("flow", 41), ("layers", 11))]
    for a in outcome.along:
        assert set(a.bounds) == set(a.ratios) == {"global", "centred", "scaled"} | ({"step"} & {*a.bounds})
        assert ("step" in a.bounds) == (a.kind == "layers")
        for rate, ratios in a.ratios.items():
            assert max(ratios) <= 1 + 1e-9
            largest = [high / bound for (_, _, high), bound in zip(a.observed, a.bounds[rate], strict=True)]
            assert list(ratios) == pytest.approx(largest, rel=1e-12)


def test_the_flow_of_the_figure_is_the_flow_and_its_layers_are_the_network(quick):
    """The last distances again, from the exact flow and from the plain layers."""
    outcome = quick[0]
    net = outcome.networks["s"]
    cases = experiment.trained_cases("s", net, outcome.data, outcome.settings)
    x0, y0 = (torch.cat([getattr(c, side) for c in cases]) for side in ("x0", "y0"))
    t, layers = torch.tensor([0.0, 2.0]).double(), net.layers.t
    flow, network = (a for a in outcome.along if a.network == "ResNet-S")
    for a, scheme, times in ((flow, di.ExactFlow(), t), (network, di.ForwardEuler(), layers)):
        x, y = (di.solve(net.layers.flow, z, times, scheme=scheme).x for z in (x0, y0))
        apart = (x[-1] - y[-1]).norm(dim=-1) / (x0 - y0).norm(dim=-1)
        shares = torch.tensor([0.0, 0.5, 1.0]).double()
        assert list(a.observed[-1]) == pytest.approx(apart.quantile(shares).tolist(), rel=1e-6)


def test_layers_converge_at_order_one(quick):
    order, = quick[0].orders
    assert order.label == "L3"
    assert 0.8 < order.order < 1.3
    assert 0.2 < order.ratio <= 1
    assert all(e <= b for e, b in zip(order.errors, order.bounds, strict=True))


def test_every_witness_replays(quick, capsys):
    _, out, _ = quick
    for label in LABELS:
        for name in (label, f"{label}-control"):
            assert cli.main(["replay", str(out / "witnesses" / f"{name}.json")]) == 0
    assert "reproduced" in capsys.readouterr().out


def test_a_witness_that_was_changed_does_not_replay(quick, tmp_path, capsys):
    found = json.loads((quick[1] / "witnesses" / "D3.json").read_text())
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(found | {"ratio": found["ratio"] * 0.99}))
    assert cli.main(["replay", str(path)]) == 1
    assert "NOT reproduced" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "message"), [
    ("{", "is no JSON"),
    ("{}", "holds no witness"),
    (None, "No such file"),
])
def test_a_bad_witness_is_bad_usage(tmp_path, capsys, text, message):
    path = tmp_path / "witness.json"
    if text is not None:
        path.write_text(text)
    assert cli.main(["replay", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_a_witness_of_another_version_is_bad_usage(quick, tmp_path, capsys):
    found = json.loads((quick[1] / "witnesses" / "D3.json").read_text())
    for change, message in (({"label": "Z1"}, "label must be one of"), ({"form": "gone"}, "form must be one of")):
        path = tmp_path / "other.json"
        path.write_text(json.dumps(found | change))
        assert cli.main(["replay", str(path)]) == 2
        assert message in capsys.readouterr().err


def test_processes_of_torchrun_find_the_same(tmp_path):
    """Verdicts, counts and ratios of one process and of four, of which some have more parts than others."""
    code = ("import sys; from diffincl import cli, experiment; "
            "experiment.Settings.of = classmethod(lambda cls, labels, trials, seed, quick: "
            "cls(labels, 5000, seed, ascent=1, images=4, epochs=1)); "
            "sys.exit(cli.main(['check', 'd3', 'd2', '--json', '--workers', '1', '--out', sys.argv[1]]))")
    script = tmp_path / "check.py"
    script.write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4", str(script)]
    done = subprocess.run([*command, str(tmp_path / "four")], capture_output=True, text=True, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()})
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "four" / "parts").exists()
    alone = experiment.run(experiment.Settings(("D3", "D2"), 5000, ascent=1, images=4, epochs=1), tmp_path / "one")
    assert sum(f.instances for r in alone.results.values() for f in r.findings) > 10000
    assert json.loads(done.stdout)["statements"] == json.loads(json.dumps(report.as_json(alone)["statements"]))


def test_processes_share_the_parts_whole_and_once():
    """Each part belongs to one process; a run resumed by more processes finds the parts of fewer."""
    training, later = experiment.parts_of(experiment.Settings(trials=3000))
    names = training + later
    assert len(set(names)) == len(names)
    for size in (1, 2, 4, 7):
        mine = [experiment.Shards(rank, size).mine(names) for rank in range(size)]
        assert sorted(name for part in mine for name in part) == sorted(names)
    drawn = {label: sum(experiment.trials_of(n, experiment.Settings(trials=3000)) for n in names
                        if n.split()[:2] == ["draws", label]) for label in STATEMENTS}
    assert all(3000 <= n < 3600 for n in drawn.values())


def test_report_json_is_valid_and_complete(quick):
    _, out, _ = quick
    found = json.loads((out / "report.json").read_text())
    assert [s["label"] for s in found["statements"]] == list(LABELS)
    assert found["passed"] is True
    assert len(found["ladder"]) == 12
    assert len(found["along_time"]) == 6
    assert found["orders"][0]["label"] == "L3"
    w = found["statements"][0]["witness"]["case"]["flow"]["field"]
    assert set(w) >= {"class", "b1", "b2"}
    assert set(found["accuracy"]) == {"ResNet", "ResNet-D", "ResNet-S"}


def test_the_page_is_self_contained(quick):
    _, out, page = quick
    text = page.read_text()
    assert text.count("<img ") == text.count("data:image/png;base64,") == 4
    assert text.count('alt="') == 4
    assert "://" not in text
    assert all(f'<th scope="row">{label}</th>' in text for label in LABELS)
    for name in ("flow.png", "bounds.png", "ratios.png", "trajectories.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert not list(out.glob(".*.tmp"))


def test_the_table_has_a_row_a_statement(quick):
    lines = report.as_table(quick[0]).splitlines()
    assert all(heading in lines[0] for heading in report.HEADINGS)
    assert [line.split()[0] for line in lines[2:2 + len(LABELS)]] == list(LABELS)


def test_a_killed_run_resumes_from_its_parts(tmp_path, monkeypatch):
    settings = experiment.Settings(labels=("D3",), trials=16, ascent=1, images=4, epochs=1)

    class KilledError(Exception):
        pass

    def killed(*args, **kwargs):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(experiment.job, "check_block", killed)
        with pytest.raises(KilledError):
            experiment.run(settings, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(experiment.job, "fit", killed)  # the networks must not be trained again
        resumed = experiment.run(settings, tmp_path)
    fresh = experiment.run(settings, tmp_path / "other", workers=2)
    assert resumed.results["D3"].worst_ratio == fresh.results["D3"].worst_ratio
    assert resumed.ladder == fresh.ladder
    for a, b in zip(resumed.networks["s"].parameters(), fresh.networks["s"].parameters(), strict=True):
        assert torch.equal(a, b)


def test_only_the_parts_of_this_run_are_removed(tmp_path):
    mine, other = (experiment.Parts(tmp_path / "parts", experiment.Settings(seed=s)) for s in (0, 1))
    for store in (mine, other):
        store.keep("x", lambda: 1)
    (tmp_path / "parts" / "precious.txt").write_text("kept")
    mine.remove()
    assert not mine.directory.exists()
    assert other.keep("x", lambda: 2) == 1
    assert (tmp_path / "parts" / "precious.txt").exists()
    other.remove()
    (tmp_path / "parts" / "precious.txt").unlink()
    other.remove()
    assert not (tmp_path / "parts").exists()


def test_parts_are_not_removed_while_a_process_uses_them(tmp_path):
    """Not by another run of the same, which ends first; but after a user was killed."""
    store = experiment.Parts(tmp_path / "parts", experiment.Settings())
    code = ("import sys, time, pathlib; from diffincl import experiment\n"
            "with experiment.Parts(pathlib.Path(sys.argv[1]), experiment.Settings()).in_use():\n"
            "    print('using', flush=True); time.sleep(600)")
    command = [sys.executable, "-c", code, str(tmp_path / "parts")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "using\n"
            with store.in_use():  # many may use them at once
                store.keep("x", lambda: 1)
                store.remove()
            store.remove()
            assert store.read("x") == 1
        finally:
            other.kill()
    store.remove()
    assert not (tmp_path / "parts").exists()


def test_a_process_of_torchrun_ends_with_it():
    """The launcher is killed; its process, asleep for ten minutes, ends."""
    code = ("import os, sys, time; from diffincl.experiment import processes\n"
            "processes._end_with_launcher(); print('started', flush=True); time.sleep(600)")
    launch = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    with subprocess.Popen([sys.executable, "-c", launch, code], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == "started\n"
        launcher.kill()
        killed = time.monotonic()
        assert launcher.stdout.read() == ""  # comes when the process, which could still write, has ended
    assert time.monotonic() - killed < 300


LONG = {"check": ["check", "C3", "--trials", "1000000"],
        "experiment": ["experiment", "corruption", "--families", "resnet", "--depth", "2", "--epochs", "3",
                       "--seeds", "99"]}
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the workers through /proc")


@contextmanager
def long_run(name, out):
    """A command with two workers, when a first part of it is finished, and the workers."""
    command = [sys.executable, "-m", "diffincl", *LONG[name], "--workers", "2", "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            workers, end = [], time.monotonic() + 120
            while not workers and time.monotonic() < end:
                time.sleep(0.2)
                if finished(out):
                    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                    workers = [int(pid) for pid in children
                               if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
            yield process, workers
        finally:
            process.kill()


def finished(out):
    return [*out.glob("parts/*/*.pt"), *out.glob("cells/*.json")]


@linux
@pytest.mark.parametrize("name", LONG)
def test_a_worker_that_is_killed_is_told_in_one_line_and_what_is_finished_stays(name, tmp_path):
    with long_run(name, tmp_path) as (process, workers):
        os.kill(workers[0], signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 3
    assert f"diffincl {name}: error: a worker process was killed" in errors
    assert "Traceback" not in errors
    assert finished(tmp_path)


@linux
@pytest.mark.parametrize("name", LONG)
def test_workers_end_with_the_run(name, tmp_path):
    with long_run(name, tmp_path) as (process, workers):
        assert len(workers) == 2
        process.kill()
    end = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < end, "workers go on without the run"
        time.sleep(0.1)


def test_a_damaged_part_is_computed_again(tmp_path):
    store = experiment.Parts(tmp_path, experiment.Settings())
    store.keep("x", lambda: torch.ones(1000))
    path = store.directory / "x.pt"
    path.write_bytes(path.read_bytes()[:200])
    assert store.keep("x", lambda: 7) == 7
    assert store.keep("x", lambda: 8) == 7


def test_an_output_that_is_no_folder_is_bad_usage(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["check", "--out", str(tmp_path / "file")]) == 2
    assert "--out must be a folder that can be written" in capsys.readouterr().err


def test_other_settings_do_not_reuse_parts(tmp_path):
    a = experiment.Parts(tmp_path, experiment.Settings(seed=0))
    b = experiment.Parts(tmp_path, experiment.Settings(seed=1))
    assert a.keep("x", lambda: 1) == 1
    assert a.keep("x", lambda: 2) == 1
    assert b.keep("x", lambda: 2) == 2


def test_exit_status_is_1_when_a_statement_is_violated_or_a_control_is_not(tmp_path, monkeypatch, capsys):
    import dataclasses

    def run_with(**change):
        real = experiment.run

        def changed(settings, out, advance, workers, among):
            outcome = real(settings, out, advance, workers=1)
            return dataclasses.replace(outcome, results={
                label: dataclasses.replace(r, **change) for label, r in outcome.results.items()})

        with monkeypatch.context() as patch:
            patch.setattr(experiment, "run", changed)
            patch.setattr(experiment.Settings, "of", classmethod(
                lambda cls, labels, trials, seed, quick: cls(labels, 8, seed, ascent=1, images=4, epochs=1)))
            return cli.main(["check", "D3", "--out", str(tmp_path)])

    assert run_with() == 0
    assert run_with(holds=False) == 1
    assert "VIOLATED" in capsys.readouterr().out
    assert run_with(control_violated=False) == 1
    assert "control failed" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "message"), [
    (["check", "X1"], "unknown statement 'X1'; choose from C1"),
    (["check", "--trials", "0"], "--trials: must be a whole number of at least 1; got '0'"),
    (["check", "--trials", "many"], "got 'many'"),
    (["check", "--seed", "9" * 20], "--seed: must be a whole number from 0 to 2^63"),
    (["check", "--frobnicate"], "unrecognized arguments"),
    ([], "required: command"),
])
def test_exit_status_is_2_on_bad_usage(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_line_from_a_shell(tmp_path):
    """python -m diffincl check, JSON on stdout, progress on stderr, parts cleaned up."""
    command = [sys.executable, "-m", "diffincl", "check", "d2", "--trials", "8", "--quick", "--json", "--out"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [s["label"] for s in json.loads(done.stdout)["statements"]] == ["D2"]
    assert "draws D2 0 done" in done.stderr
    assert not (tmp_path / "parts").exists()
