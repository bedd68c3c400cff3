"""The house: imports go strictly down the list of layers; importing the package stays light."""

import ast
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "diffincl"
LAYERS = ("_check", "functions", "activations", "curves", "fields", "inclusion", "schemes", "switching", "penalty",
          "steps", "plot", "solution", "solve", "norms", "rates", "bounds", "statements", "nn", "data", "storage",
          "workers", "training", "studies", "experiment", "report", "train_command", "study_command", "cli", "__main__")
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def layer_of(path):
    """Layer of a file: the first part of its path below the package."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_modules(source, path):
    """Dotted names, relative to the package, of everything of diffincl that a file imports."""
    package = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "diffincl":
                    yield name.name.split(".")[1:] or ["__init__"]
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0 and (node.module or "").split(".")[0] != "diffincl":
                continue
            base = list(package[:len(package) - node.level + 1]) if node.level else []
            module = base + [part for part in (node.module or "").split(".") if part and part != "diffincl"]
            for name in node.names:
                yield [*module, name.name]


def faults(source, path):
    """Imports of a file that do not go down."""
    mine = layer_of(path)
    found = []
    for module in imported_modules(source, path):
        other = module[0]
        if other == "__version__":
            continue
        if other not in LAYERS:
            found.append(f"{path.name} imports {'.'.join(module)}, which is in no layer")
        elif other != mine and LAYERS.index(other) >= LAYERS.index(mine):
            found.append(f"{path.name} ({mine}) imports upward from {other}")
    return found


def inner_arrows(folder):
    """Imports between the files of one folder, as file -> files."""
    arrows = {}
    for path in sorted((PACKAGE / folder).glob("*.py")):
        names = {module[1] for module in imported_modules(path.read_text(), path) if module[0] == folder and module[1:]}
        arrows[path.stem] = {n for n in names if (PACKAGE / folder / f"{n}.py").exists()}
    return arrows


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    assert not faults(path.read_text(), path)


@pytest.mark.parametrize("folder", sorted({p.parent.name for p in FILES if p.parent != PACKAGE}))
def test_no_circle_within_a_folder(folder):
    arrows = inner_arrows(folder)
    while arrows:
        leaves = {name for name, targets in arrows.items() if not targets & set(arrows)}
        assert leaves, f"circular imports among {sorted(arrows)}"
        arrows = {name: targets for name, targets in arrows.items() if name not in leaves}


def test_every_layer_exists_and_every_file_has_a_layer():
    assert {layer_of(path) for path in FILES} == set(LAYERS)


@pytest.mark.parametrize(("source", "place"), [
    ("from .solve import solve", "functions.py"),
    ("from . import bounds", "rates.py"),
    ("import diffincl.cli", "data.py"),
    ("from diffincl.report import write", "plot.py"),
    ("from ..experiment import run", "nn/layer.py"),
    ("def late():\n    from .cli import main", "solve.py"),
    ("import diffincl", "norms.py"),
])
def test_an_upward_import_is_noticed(source, place):
    assert faults(source, PACKAGE / place)


def test_importing_the_package_is_light():
    heavy = ("matplotlib", "sklearn", "torchdiffeq", "numba", "triton")
    code = f"import sys, diffincl; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_exported_names_are_defined():
    for path in FILES:
        tree = ast.parse(path.read_text())
        for node in tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Name) and target.id == "__all__":
                if path.stem == "triton_kernels" and importlib.util.find_spec("triton") is None:
                    continue
                parts = path.relative_to(PACKAGE).with_suffix("").parts
                module = ".".join(("diffincl", *parts)).removesuffix(".__init__")
                loaded = importlib.import_module(module)
                assert all(hasattr(loaded, name) for name in ast.literal_eval(node.value)), module
