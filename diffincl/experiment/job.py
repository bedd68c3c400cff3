"""Train, check, attack: the parts of a run, and the outcome put together from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from ..data import ImageData, digits, gaussian_noise, structured_noise
from ..nn import VARIANTS, DenseResNet
from ..statements import (
    STATEMENTS,
    Case,
    CheckResult,
    Finding,
    Witness,
    check_block,
    control_of,
    examine,
    merged,
    verdict,
)
from ..training import accuracy, alone, fit
from ..workers import pool
from .along import Along, along_of
from .orders import Order, orders_of
from .parts import Parts, Settings, blocks_in, parts_of
from .processes import Shards
from .slack import Ladder, ladder_of

__all__ = ["DEPTH", "NAMES", "Outcome", "run", "trained_cases"]

NAMES = {"resnet": "ResNet", "d": "ResNet-D", "s": "ResNet-S"}
NOISE = 0.1  # standard deviation of the Gaussian noise; share of the added image for structured noise
HORIZON, DEPTH, WIDTH = 2.0, 10, 32


@dataclass(frozen=True)
class Outcome:
    """Everything the report shows."""

    settings: Settings
    results: dict[str, CheckResult]
    ladder: list[Ladder]
    along: list[Along]
    orders: list[Order]
    accuracies: dict[str, dict[str, float]]
    networks: dict[str, DenseResNet]
    data: ImageData

    @property
    def passed(self) -> bool:
        """Every statement holds and every control is violated."""
        return all(r.holds and r.control_violated for r in self.results.values())


def run(settings: Settings, directory: Path, advance: Callable[[str], None] = lambda what: None, *,
        workers: int = 1, among: Shards | None = None) -> Outcome:
    """Train, check, attack. Finished parts are kept in ``directory``/parts, so that a killed run resumes.

    ``advance`` is called with the name of each part when it is done (``parts_of`` lists them); ``workers`` processes
    share the parts of each process of ``among``. The result depends on neither of their numbers.
    """
    among = Shards() if among is None else among
    store = Parts(directory / "parts", settings)
    with store.in_use():
        for stage in parts_of(settings):
            mine = among.mine(stage)
            for name in _completed(mine, settings, store, workers):
                advance(name)
            found = {name: store.read(name) for name in mine} if among.size > 1 else {}
            for name, value in among.exchange(found).items():
                store.keep(name, lambda value=value: value)  # found already where the processes share a disk
        return _outcome(settings, store)


def _outcome(settings: Settings, store: Parts) -> Outcome:
    """The parts put together."""
    data = digits(settings.seed)
    networks = {variant: _network(variant, data, settings, store) for variant in VARIANTS}
    _, names = parts_of(settings)
    results = {}
    for label in settings.labels:
        mine = [name for name in names if name.split()[0] in ("draws", "images") and name.split()[1] == label]
        mine.sort(key=lambda name: name.startswith("images"))
        findings = [_finding(f) for name in mine for f in store.read(name)]
        results[label] = verdict(label, findings, _finding(store.read(f"control {label}")[0]))
    ladder = [Ladder(**row) for variant in VARIANTS for row in store.read(f"ladder {variant}")]
    along = [Along(**row) for variant in VARIANTS for row in store.read(f"along {variant}")]
    orders = [Order(**store.read(name)) for name in names if name.startswith("orders")]
    accuracies = {NAMES[v]: _accuracies(net, data, settings.seed) for v, net in networks.items()}
    return Outcome(settings, results, ladder, along, orders, accuracies, networks, data)


def _completed(names: list[str], settings: Settings, store: Parts, workers: int) -> Iterator[str]:
    """Complete the parts and yield the name of each when it is done."""
    if workers == 1:
        for name in names:
            yield _complete(name, settings, store)
        return
    with pool(workers) as processes:
        for done in as_completed([processes.submit(_complete, name, settings, store) for name in names]):
            yield done.result()


def _complete(name: str, settings: Settings, store: Parts) -> str:
    """Compute a part and keep it, unless it is there already; returns its name."""
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other, very long where cores are shared
    kind, what, *number = name.split()
    if kind == "train":
        _network(what, digits(settings.seed), settings, store)
    elif kind in OF_NETWORKS:
        store.keep(name, lambda: OF_NETWORKS[kind](what, settings, store))
    elif kind == "orders":
        store.keep(name, lambda: asdict(orders_of(what, settings.seed)))
    elif kind == "control":
        block = control_of(what, settings.trials, settings.seed)
        store.keep(name, lambda: [asdict(check_block(block, settings.ascent))])
    else:
        store.keep(name, lambda: _drawn(what, int(number[0]), settings))
    return name


def _drawn(label: str, number: int, settings: Settings) -> list[dict[str, Any]]:
    """The findings of a group of blocks, as plain containers."""
    return [asdict(f) for f in merged(check_block(block, settings.ascent)
                                      for block in blocks_in(label, number, settings))]


def _on_images(label: str, settings: Settings, store: Parts) -> list[dict[str, Any]]:
    """A statement on the trained networks inside its hypothesis."""
    statement, findings = STATEMENTS[label], []
    for variant in VARIANTS:
        cases = [case for case in _trained(variant, settings, store)[1] if not statement.outside(case)]
        look = statement.claim(cases[0]) if cases else None
        findings += [examine(statement, case, ascent=settings.ascent, look=look) for case in cases]
    return [asdict(f) for f in findings]


def _ladder(variant: str, settings: Settings, store: Parts) -> list[dict[str, Any]]:
    net, cases = _trained(variant, settings, store)
    return [asdict(row) for row in ladder_of(NAMES[variant], net, cases, settings.ascent)]


def _along(variant: str, settings: Settings, store: Parts) -> list[dict[str, Any]]:
    net, cases = _trained(variant, settings, store)
    return [asdict(row) for row in along_of(NAMES[variant], net, cases)]


OF_NETWORKS = {"ladder": _ladder, "along": _along, "images": _on_images}


def _trained(variant: str, settings: Settings, store: Parts) -> tuple[DenseResNet, list[Case]]:
    """A trained network and its pairs of images."""
    data = digits(settings.seed)
    net = _network(variant, data, settings, store)
    return net, trained_cases(variant, net, data, settings)


def _finding(plain: dict[str, Any]) -> Finding:
    return Finding(**{**plain, "witness": Witness(**plain["witness"])})


def _network(variant: str, data: ImageData, settings: Settings, store: Parts) -> DenseResNet:
    """A trained network in float64, so that pairs of trajectories can be compared."""
    net = DenseResNet(data.train_x.shape[-1], 10, variant=variant, width=WIDTH, depth=DEPTH, horizon=HORIZON,
                      generator=Generator().manual_seed(settings.seed))

    def train() -> dict[str, Tensor]:
        with alone():
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


def _accuracies(net: DenseResNet, data: ImageData, seed: int) -> dict[str, float]:
    """Test accuracy on clean and corrupted images."""
    pairs = corrupted(data, len(data.test_x), seed)
    clean = accuracy(net, data.test_x.double(), data.test_y)
    return {"clean": clean} | {kind: accuracy(net, pairs[kind][1], data.test_y)
                               for kind in ("Gaussian noise", "structured noise")}
