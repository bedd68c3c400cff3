"""The main job as a user runs it: table, report, JSON, exit status, resuming."""

import json
import subprocess
import sys

import pytest
import torch

from diffincl import cli, experiment, report
from diffincl.statements import STATEMENTS


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """One quick run of everything, shared by the tests below."""
    out = tmp_path_factory.mktemp("check")
    settings = experiment.Settings(trials=40, ascent=5, images=12, epochs=4)
    outcome = experiment.run(settings, out)
    return outcome, out, report.write(outcome, out)


def test_every_statement_holds_and_every_control_is_violated(quick):
    outcome, _, _ = quick
    assert tuple(outcome.results) == tuple(STATEMENTS)
    assert outcome.passed
    assert all(r.holds and r.control_violated for r in outcome.results.values())


def test_each_network_is_checked_by_the_statements_that_apply_to_it(quick):
    outcome, _, _ = quick
    seen = {label: {f.origin.split(",")[0] for f in r.findings} & set(experiment.NAMES.values())
            for label, r in outcome.results.items()}
    everyone = {"ResNet", "ResNet-D", "ResNet-S"}
    assert seen == {"C2": everyone, "C3": everyone, "C5": {"ResNet-D"}, "C6": {"ResNet-S"}, "D1": everyone,
                    "D2": {"ResNet-D"}, "D3": {"ResNet-S"}}


def test_the_scaled_bound_of_the_symmetric_network_is_tight_where_the_global_one_is_not(quick):
    outcome, _, _ = quick
    rows = {row.rate: row for row in outcome.ladder if row.network == "ResNet-S"}
    assert rows["scaled"].flow_bound / rows["scaled"].flow_observed <= 1.2
    assert rows["global"].flow_bound > 100
    for row in outcome.ladder:
        assert row.flow_observed <= row.flow_bound * (1 + 1e-9)
        assert row.layer_observed <= row.layer_bound * (1 + 1e-9)


def test_report_json_is_valid_and_complete(quick):
    _, out, _ = quick
    found = json.loads((out / "report.json").read_text())
    assert [s["label"] for s in found["statements"]] == list(STATEMENTS)
    assert found["passed"] is True
    assert len(found["ladder"]) == 9
    w = found["statements"][0]["witness"]["case"]["flow"]["field"]
    assert set(w) >= {"class", "b1", "b2"}
    assert set(found["accuracy"]) == {"ResNet", "ResNet-D", "ResNet-S"}


def test_the_page_is_self_contained(quick):
    _, out, page = quick
    text = page.read_text()
    assert text.count("<img ") == text.count("data:image/png;base64,") == 2
    assert text.count('alt="') == 2
    assert "http" not in text
    assert all(f"<b>{label}</b>" in text for label in STATEMENTS)
    for name in ("bounds.png", "trajectories.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert not list(out.glob(".*.tmp"))


def test_the_table_has_a_row_a_statement(quick):
    lines = report.as_table(quick[0]).splitlines()
    assert all(heading in lines[0] for heading in report.HEADINGS)
    assert [line.split()[0] for line in lines[2:2 + len(STATEMENTS)]] == list(STATEMENTS)


def test_a_killed_run_resumes_from_its_parts(tmp_path, monkeypatch):
    settings = experiment.Settings(labels=("D3",), trials=16, ascent=1, images=4, epochs=1)

    class KilledError(Exception):
        pass

    def killed(*args, **kwargs):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "check", killed)
        with pytest.raises(KilledError):
            experiment.run(settings, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "fit", killed)  # the networks must not be trained again
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

        def changed(settings, out, advance, workers):
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
    (["check", "X1"], "unknown statement 'X1'; choose from C2"),
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
    assert "check D2 done" in done.stderr
    assert not (tmp_path / "parts").exists()
