"""Every notebook runs from top to bottom in a fresh kernel and prints what is stored in it."""

import math
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

FOLDER = Path(__file__).parent.parent / "notebooks"
NUMBER = re.compile(r"[-−+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?")
LIMIT = 120  # seconds a notebook


def printed(cell):
    """The text that a cell prints or shows; bars of progress, warnings and pictures are left out."""
    parts = []
    for output in cell.get("outputs", ()):
        if output["output_type"] == "stream" and output["name"] == "stdout":
            parts.append(output["text"])
        elif output["output_type"] == "execute_result":
            parts.append(output["data"].get("text/plain", ""))
    return "".join(part if isinstance(part, str) else "".join(part) for part in parts)


def resolution(number):
    """The size of one unit in the last printed digit."""
    mantissa, _, exponent = number.partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 10.0 ** (int(exponent or 0) - decimals)


def differences(stored, now):
    """Words that differ, and numbers that differ by more than two units of the last digit that is printed."""
    if NUMBER.sub("#", stored).split() != NUMBER.sub("#", now).split():
        return [f"stored {stored!r}, now {now!r}"]
    found = []
    for a, b in zip(NUMBER.findall(stored), NUMBER.findall(now), strict=True):
        x, y = (float(number.replace("−", "-")) for number in (a, b))
        unit = max(resolution(a), resolution(b)) if "." in a + b or "e" in a + b else 0.0
        if abs(x - y) > 2.001 * unit:
            found.append(f"stored {a}, now {b}")
    return found


def test_differences_are_noticed():
    assert not differences("error 0.123, 4 steps\n", "error 0.125, 4 steps")
    assert not differences("1.2e-05 x", "1.4e-05 x")
    assert differences("error 0.123", "error 0.127")
    assert differences("4 steps", "5 steps")
    assert differences("1.2e-05", "1.2e-04")
    assert differences("−0.5 y", "0.5 y")
    assert differences("holds: True", "holds: False")
    assert differences("a", "")
    assert math.isclose(resolution("-1.25e-03"), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebook_runs_top_to_bottom(path, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    stored = nbformat.read(path, as_version=4)
    fresh = nbformat.from_dict(stored.copy())
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbclient.NotebookClient(fresh, timeout=LIMIT, kernel_name="python3",
                            resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert not [p.name for p in FOLDER.iterdir() if p.suffix != ".ipynb" and not p.name.startswith(".")]
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in code if "print(" in cell.source), "run it and store its outputs"
    for k, (old, new) in enumerate(zip(stored.cells, fresh.cells, strict=True)):
        if old.cell_type == "code" and "nondeterministic" not in old.metadata.get("tags", ()):
            assert not differences(printed(old), printed(new)), f"cell {k}"
