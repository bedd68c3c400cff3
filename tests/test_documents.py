"""Documents agree with the code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import diffincl as di

ROOT = Path(__file__).parent.parent


def test_versions_agree():
    assert f'version = "{di.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_public_names_are_all_there():
    for name in di.__all__:
        assert getattr(di, name) is not None


def test_the_overhead_benchmark_runs():
    done = subprocess.run([sys.executable, str(ROOT / "benchmarks/overhead.py"), "--steps", "20", "--repeats", "2"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6


@pytest.mark.parametrize(("script", "lines"), [("fixed_step.py", 7), ("scaling.py", 9)])
def test_the_benchmarks_of_engines_run(script, lines, tmp_path):
    pytest.importorskip("numba")
    done = subprocess.run([sys.executable, str(ROOT / "benchmarks" / script), "--quick", "--repeats", "1", "--json",
                           str(tmp_path / "rows.json")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == lines
    assert json.loads((tmp_path / "rows.json").read_text())["rows"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_of_gpus_says_that_there_is_none():
    done = subprocess.run([sys.executable, str(ROOT / "benchmarks/gpu.py"), "--quick"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2
    assert "There is no GPU" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout


@pytest.mark.parametrize("kind", ["resnet", "d", "s"])
def test_the_rows_of_the_ladder_benchmark(kind, monkeypatch):
    """No pair found by its ascents exceeds a bound, and biases only add to what pairs alone reach."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from stability.local import branch_row
    from stability.nets import random_net
    from stability.rungs import ladder_row

    net = random_net(kind, 6, True, torch.Generator().manual_seed(0))
    row = ladder_row(net, 0, quick=True)
    assert min(row["ratios"].values()) >= 1 - 1e-6
    assert row["∏R8 over pairs"] >= row["ratios"]["∏R8"] >= 1 - 1e-6
    assert row["ratios"]["exp∫R1"] > 1.5 * row["ratios"]["exp∫R3"]
    branch = branch_row("D", 2, 4, 0.1, 0)
    assert 1 <= branch["R3 / exact from below"] < branch["R1 / exact from below"]
