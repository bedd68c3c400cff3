"""Studies: cells on disk, tables, figures, the command."""

import json
import math
import re

import pytest
import torch

from diffincl import cli, studies
from diffincl.data import digits
from diffincl.nn import DenseResNet
from diffincl.studies.grids import CERTIFIED, Grid
from diffincl.studies.tables import TABLES, Mean, mean
from diffincl.training import Recipe, Trainer, fit

SMALL = ["--epochs", "2", "--seeds", "2", "--depth", "2", "--depths", "2,4", "--workers", "1"]


@pytest.fixture(autouse=True)
def quickly(monkeypatch, request):
    """Fewer samples under attack, where processes do not have to agree on it."""
    if "processes" not in request.node.name:
        monkeypatch.setattr("diffincl.studies.measures.ATTACKED", 40)
        monkeypatch.setattr("diffincl.studies.measures.DIFFERENTIATED", 16)


@pytest.fixture(scope="module")
def trained():
    data = digits()
    net = DenseResNet(64, 10, variant="s", width=64, depth=2, isometric=True,
                      generator=torch.Generator().manual_seed(0))
    return fit(net, data, recipe=Recipe(epochs=8, temperature=0.1)), data


def test_what_is_measured_of_a_network_fits_together(trained):
    found = studies.examine(*trained, seed=0)
    assert found["clean"] > 0.8
    assert 0.5 < found["observed"] <= found["factor"] <= 1.001
    before = 1.0
    for radius in found["radius"].values():
        assert radius["certified"] <= radius["attacked"] <= 1
        assert radius["certified"] <= before
        before = radius["certified"]
    assert found["radius"]["0.05"]["certified"] > 0.5
    clean = found["clean"]
    noise = list(found["corrupted"]["gaussian_noise"].values())
    assert clean > noise[0] > noise[2]
    apart = [found["deeper"][k]["difference"] for k in ("2", "4", "8")]
    assert 1.5 < apart[0] / apart[1] < 3
    assert 1.7 < apart[1] / apart[2] < 2.4
    assert studies.examine(*trained, seed=0) == found


@pytest.mark.parametrize("study", studies.STUDIES)
def test_the_command_writes_tables_and_a_figure_and_runs_no_cell_twice(study, tmp_path, capsys, monkeypatch):
    families = ["--families", "d" if study == "regularisation" else "d,certified,hamiltonian"]
    call = ["experiment", study, *SMALL, *families, "--out", str(tmp_path)]
    assert cli.main(call) == 0
    text = capsys.readouterr().out
    assert text.strip() == (tmp_path / f"{study}.md").read_text().strip()
    assert "| d" in text
    assert (tmp_path / f"{study}.png").stat().st_size > 10_000
    page = (tmp_path / f"{study}.html").read_text(encoding="utf-8")
    assert "<code><span>diffincl</span> <span>experiment</span>" in page
    assert page.count("<table") == len(json.loads((tmp_path / f"{study}.json").read_text())["tables"])
    found = json.loads((tmp_path / f"{study}.json").read_text())
    grid = Grid(families=families[1].split(","), depths=(2, 4), depth=2, epochs=2, seeds=2)
    assert len(list((tmp_path / "cells").iterdir())) == len(studies.STUDIES[study].cells(grid))
    clean = found["tables"][0]["rows"]["d"][0]
    assert 0 < clean[0] < 1
    assert clean[1] >= 0
    monkeypatch.setattr("diffincl.studies.runner._train", lambda *cell: pytest.fail("trained again"))
    assert cli.main(call) == 0
    assert capsys.readouterr().out == text


def test_a_cell_of_other_settings_or_a_torn_one_is_run_again(tmp_path):
    grid = Grid(families=("s",), depth=2, epochs=1, seeds=1)
    ((_, value),) = studies.run("corruption", grid, tmp_path)
    (path,) = (tmp_path / "cells").iterdir()
    path.write_text(path.read_text()[:100])
    ((_, again),) = studies.run("corruption", grid, tmp_path)
    assert again == value
    studies.run("corruption", Grid(families=("s",), depth=2, epochs=2, seeds=1), tmp_path)
    assert len(list((tmp_path / "cells").iterdir())) == 2


def test_a_cell_of_other_code_is_run_again(tmp_path, monkeypatch):
    grid = Grid(families=("s",), depth=2, epochs=1, seeds=1)
    studies.run("corruption", grid, tmp_path)
    monkeypatch.setattr("diffincl.studies.runner._train", lambda *cell: {"failed": "run again"})
    assert "failed" not in studies.run("corruption", grid, tmp_path)[0][1]
    monkeypatch.setattr("diffincl.studies.runner.code_digest", lambda: "another")
    assert studies.run("corruption", grid, tmp_path)[0][1] == {"failed": "run again"}


def test_a_training_that_fails_is_told_and_does_not_stop_the_others(tmp_path, monkeypatch):
    def fail(trainer, advance=None):
        if trainer.recipe.seed == 1:
            raise ArithmeticError("the loss is nan in epoch 0; lower lr")
        return learn(trainer)

    learn = Trainer.learn
    monkeypatch.setattr("diffincl.training.Trainer.learn", fail)
    grid = Grid(families=("s",), depth=2, epochs=1, seeds=2)
    results = studies.run("certificate", grid, tmp_path)
    assert results[1][1] == {"failed": "the loss is nan in epoch 0; lower lr"}
    (row,) = TABLES["certificate"](results, grid)[0].rows.values()
    assert row[0] == Mean(results[0][1]["clean"], None, 1)


def test_several_processes_find_the_same(tmp_path):
    grid = Grid(families=("s", "d"), depth=2, epochs=1, seeds=1)
    assert studies.run("certificate", grid, tmp_path / "one") == studies.run("certificate", grid, tmp_path / "two",
                                                                             workers=2)


@pytest.mark.parametrize("model", ["dense", "image"])
def test_relatives_run_on_signals(model, tmp_path, capsys):
    families = "certified,preactivation,sll" if model == "dense" else "d,antisymmetric,hamiltonian"
    assert cli.main(["experiment", "corruption", "--data", "mnist1d", "--model", model, "--families", families,
                     "--epochs", "1", "--seeds", "1", "--depth", "2", "--workers", "1", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    for family in families.split(","):
        assert re.search(rf"\| {family} \| [1-9][0-9]\.[0-9] \|", text)


def test_means_over_seeds():
    assert mean([1.0, 3.0]) == Mean(2.0, math.sqrt(2), 2)
    assert mean([None, 3.0]) == Mean(3.0, None, 1)
    assert mean([None]) is None


def test_every_family_has_its_cell():
    grid = Grid()
    jobs = {family: grid.cell((), family, 4, 0).job for family in grid.known}
    assert jobs[CERTIFIED].isometric
    assert jobs[CERTIFIED].recipe.temperature < 1
    assert len({cell.name for study in studies.STUDIES.values() for cell in study.cells(grid)}) == len(
        {cell for study in studies.STUDIES.values() for cell in study.cells(grid)})


def test_the_default_leaves_out_what_is_slow_and_no_more():
    assert set(Grid(model="image").known) - set(Grid(model="image").chosen) == {"cpl"}
    assert tuple(Grid().chosen) == Grid().known
    assert Grid(model="image", families=("cpl",)).chosen == ("cpl",)


@pytest.mark.parametrize(("change", "message"), [
    (["--families", "gru"], "families must be one of 'resnet', "),
    (["--model", "image", "--families", "certified"], "family certified comes with model 'dense' only; got model 'im"),
    (["--depths", "4,0"], r"depths\[1\] must be at least 1; got 0"),
    (["--seeds", "0"], "seeds must be at least 1; got 0"),
    (["--data", "cifar10", "--model", "image"], "folder must name the folder with the files of cifar10; got None"),
])
def test_bad_usage(change, message, tmp_path, capsys):
    assert cli.main(["experiment", "depth", *SMALL, "--out", str(tmp_path), *change]) == 2
    assert re.search(message, capsys.readouterr().err)
