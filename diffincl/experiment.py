"""The main job: check every statement on random instances and on three networks trained on real images."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor
from torch.linalg import vector_norm

from . import bounds
from .data import ImageData, digits, gaussian_noise, structured_noise
from .nn import VARIANTS, DenseResNet
from .rates import RATES
from .statements import (
    STATEMENTS,
    Case,
    CheckResult,
    Finding,
    Look,
    Run,
    Sides,
    Witness,
    attack_points,
    check,
    converged,
    examine,
    network,
    pair,
    verdict,
)
from .storage import write_atomically
from .training import accuracy, fit

__all__ = ["NAMES", "Ladder", "Outcome", "Settings", "run"]

NAMES = {"resnet": "ResNet", "d": "ResNet-D", "s": "ResNet-S"}
NOISE = 0.1  # standard deviation of the Gaussian noise; share of the added image for structured noise
HORIZON, DEPTH, WIDTH = 2.0, 10, 32
CONVERGED = 512  # steps of prox-Heun in the figure of trajectories

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What to check and how hard: pairs drawn for a statement, steps of the attack, test images, training epochs."""

    labels: tuple[str, ...] = tuple(STATEMENTS)
    trials: int = 1000
    seed: int = 0
    ascent: int = 40
    images: int = 120
    epochs: int = 40

    @classmethod
    def of(cls, labels: tuple[str, ...], trials: int | None, seed: int, quick: bool) -> Settings:
        """The settings of a run; ``quick`` does less of everything."""
        if quick:
            return cls(labels, trials or 160, seed, ascent=10, images=24, epochs=6)
        return cls(labels, trials or 1000, seed)


@dataclass(frozen=True)
class Ladder:
    """One network and one rate: bound and worst observed expansion over [0, T], for the flow and for the layers."""

    network: str
    rate: str
    flow_bound: float
    flow_observed: float
    layer_bound: float
    layer_observed: float


@dataclass(frozen=True)
class Outcome:
    """Everything the report shows."""

    settings: Settings
    results: dict[str, CheckResult]
    ladder: list[Ladder]
    accuracies: dict[str, dict[str, float]]
    networks: dict[str, DenseResNet]
    data: ImageData

    @property
    def passed(self) -> bool:
        """Every statement holds and every control is violated."""
        return all(r.holds and r.control_violated for r in self.results.values())


def run(settings: Settings, directory: Path, advance: Callable[[str], None] = lambda what: None, *,
        workers: int = 1) -> Outcome:
    """Train, check, attack. Finished parts are kept in ``directory``/parts, so that a killed run resumes.

    ``advance`` is called with the name of each part when it is done (``parts`` lists them); ``workers`` processes share
    the parts. The result does not depend on their number.
    """
    store = Parts(directory / "parts", settings)
    store.directory.mkdir(parents=True, exist_ok=True)
    networks_first, others = parts(settings)
    for stage in (networks_first, others):
        for name in _completed(stage, settings, directory, workers):
            advance(name)
    data = digits(settings.seed)
    networks = {variant: _network(variant, data, settings, store) for variant in VARIANTS}
    results = {label: _result(label, store.read(f"check {label}")) for label in settings.labels}
    ladder = [Ladder(**row) for variant in VARIANTS for row in store.read(f"ladder {variant}")]
    accuracies = {NAMES[v]: _accuracies(net, data, settings.seed) for v, net in networks.items()}
    return Outcome(settings, results, ladder, accuracies, networks, data)


def parts(settings: Settings) -> tuple[list[str], list[str]]:
    """Names of the parts of a run: those that train the networks, and those that need them."""
    return ([f"train {variant}" for variant in VARIANTS],
            [f"check {label}" for label in settings.labels] + [f"ladder {variant}" for variant in VARIANTS])


def _completed(names: list[str], settings: Settings, directory: Path, workers: int) -> Iterator[str]:
    """Complete the parts and yield the name of each when it is done."""
    if workers == 1:
        for name in names:
            yield _complete(name, settings, directory)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_complete, name, settings, directory) for name in names]):
            yield done.result()


def _complete(name: str, settings: Settings, directory: Path) -> str:
    """Compute a part and keep it, unless it is there already; returns its name."""
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other, very long where cores are shared
    store, data = Parts(directory / "parts", settings), digits(settings.seed)
    kind, what = name.split()
    if kind == "train":
        _network(what, data, settings, store)
        return name
    networks = {variant: _network(variant, data, settings, store) for variant in VARIANTS}
    if kind == "check":
        store.keep(name, lambda: _check_label(what, networks, data, settings))
    else:
        store.keep(name, lambda: [asdict(row) for row in _ladder(what, networks[what], data, settings)])
    return name


class Parts:
    """Finished parts of a run on disk, found again only by a run of the same settings and the same code."""

    def __init__(self, directory: Path, settings: Settings):
        code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py")))
        key = json.dumps(asdict(settings), sort_keys=True).encode() + code + torch.__version__.encode()
        self.directory = directory / hashlib.sha256(key).hexdigest()[:16]

    def remove(self) -> None:
        """Delete the parts of this run, and nothing else."""
        for path in self.directory.glob("*.pt"):
            path.unlink()
        for folder in (self.directory, self.directory.parent):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def keep(self, name: str, compute: Callable[[], T]) -> T:
        """The part as kept, or computed and kept; plain containers of numbers, strings and tensors."""
        try:
            return self.read(name)
        except (FileNotFoundError, RuntimeError, EOFError, pickle.UnpicklingError):
            value = compute()  # not there yet, or damaged
        write_atomically(self._path(name), lambda temporary: torch.save(value, temporary))
        return value

    def read(self, name: str) -> Any:
        """A part that is known to be there."""
        return torch.load(self._path(name), weights_only=True)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name.replace(' ', '-')}.pt"


def _network(variant: str, data: ImageData, settings: Settings, store: Parts) -> DenseResNet:
    """A trained network in float64, so that pairs of trajectories can be compared."""
    net = DenseResNet(data.train_x.shape[-1], 10, variant=variant, width=WIDTH, depth=DEPTH, horizon=HORIZON,
                      generator=Generator().manual_seed(settings.seed))

    def train() -> dict[str, Tensor]:
        fit(net, data, epochs=settings.epochs, seed=settings.seed)
        return net.state_dict()

    net.load_state_dict(store.keep(f"train {variant}", train))
    return net.double().requires_grad_(False)


def corrupted(data: ImageData, images: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs of test images, float64: two different ones, and one clean with its noisy copy."""
    x = data.test_x[:images].double()
    generator = Generator().manual_seed(seed)
    return {"clean pairs": (x, x.roll(1, 0)),
            "Gaussian noise": (x, gaussian_noise(x, NOISE, generator)),
            "structured noise": (x, structured_noise(x, NOISE, data.test_x[-1].double()))}


def trained_cases(variant: str, net: DenseResNet, data: ImageData, settings: Settings) -> list[Case]:
    """The trained network with pairs of real images as initial points."""
    return [Case(f"{NAMES[variant]}, {kind}", net.layers.flow, net.layers.t, net.features(x), net.features(y))
            for kind, (x, y) in corrupted(data, settings.images, settings.seed).items()]


def _check_label(label: str, networks: dict[str, DenseResNet], data: ImageData, settings: Settings) -> dict[str, Any]:
    """A statement on random instances and on the trained networks inside its hypothesis, as plain containers."""
    statement = STATEMENTS[label]
    result = check(label, settings.trials, settings.seed, ascent=settings.ascent)
    findings = list(result.findings)
    for variant, net in networks.items() if statement.trained else ():
        findings += [examine(statement, case, ascent=settings.ascent)
                     for case in trained_cases(variant, net, data, settings) if not statement.outside(case)]
    return {"findings": [asdict(f) for f in findings], "control": asdict(result.control)}


def _result(label: str, kept: dict[str, Any]) -> CheckResult:
    return verdict(label, [_finding(f) for f in kept["findings"]], _finding(kept["control"]))


def _finding(plain: dict[str, Any]) -> Finding:
    return Finding(**{**plain, "witness": Witness(**plain["witness"])})


def _ladder(variant: str, net: DenseResNet, data: ImageData, settings: Settings) -> list[Ladder]:
    """Bounds of every rate against the worst expansion found over [0, T]."""
    flow, t = net.layers.flow, net.layers.t
    cases = trained_cases(variant, net, data, settings)
    flow_seen, layers_seen = (max(_worst_expansion(case, run, settings) for case in cases)
                              for run in (converged, network))
    return [Ladder(NAMES[variant], rate, float(bounds.sensitivity(flow, t, rate=rate).curve[-1]), flow_seen,
                   float(bounds.discrete_sensitivity(flow, t, rate=rate).curve[-1]), layers_seen) for rate in RATES]


def _worst_expansion(case: Case, run: Run, settings: Settings) -> float:
    """Largest ‖x(T) − y(T)‖/‖x0 − y0‖ over the pairs of a case, as drawn and attacked."""
    attacked = attack_points(case, _expansion(case, network if run is network else None), 2 * settings.ascent)
    worst = 0.0
    with torch.no_grad():
        for pairs in (case, attacked):
            now, start, _ = _expansion(pairs, None)(pairs.x0, pairs.y0, run)["expansion"]
            worst = max(worst, float((now / start)[start > 0].max()))
    return worst


def _expansion(case: Case, layers: Run | None) -> Look:
    """Distance at the end and at the start of pairs of trajectories."""

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        x, y, error = pair(layers or run, case.flow, x0, y0, case.t)
        distance = vector_norm(x - y, dim=-1)
        return {"expansion": Sides(distance[-1:], distance[:1], error[-1:])}

    return look


def _accuracies(net: DenseResNet, data: ImageData, seed: int) -> dict[str, float]:
    """Test accuracy on clean and corrupted images."""
    pairs = corrupted(data, len(data.test_x), seed)
    clean = accuracy(net, data.test_x.double(), data.test_y)
    return {"clean": clean} | {kind: accuracy(net, pairs[kind][1], data.test_y)
                               for kind in ("Gaussian noise", "structured noise")}
