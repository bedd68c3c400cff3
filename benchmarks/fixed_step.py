"""Whole solves with fixed steps beside torchdiffeq's euler and a hand-written loop, same field, same run.

    python benchmarks/fixed_step.py [--repeats 7] [--threads 1] [--seed 0] [--quick] [--crossover] [--json FILE]

Prints milliseconds a solve (medians over interleaved repeats, float32, no gradients, only the end is kept), the ratio
torchdiffeq/ours of medians and of minima, and the fraction of the limit: the time of the bare matrix products of the
same shapes, into memory that is used again, over ours. Ours is what ``solve`` chooses. torchdiffeq integrates −F
without any constraint, which is the less of a task. Of the ensemble it solves every fiftieth network, times 50.
``--crossover`` prints torch/fused for square weights of growing size instead: from where torch is quicker.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear
from torchdiffeq import odeint

import diffincl as di

ROWS = ((2, 8, 1, 1000), (2, 8, 1000, 1000), (16, 32, 256, 1000), (64, 64, 256, 1000), (512, 512, 256, 100))
SIZES = ((16, 16), (32, 32), (32, 64), (64, 64), (128, 128), (256, 256))
SAMPLED = 50  # of an ensemble, one network in so many

Run = Callable[[], object]


def weights(d: int, m: int, ensemble: tuple[int, ...], draw: torch.Generator) -> tuple[Tensor, ...]:
    """A1, b1, A2, b2 of a ResNet field."""
    shapes = ((m, d), (m,), (d, m), (d,))
    return tuple(torch.randn(*ensemble, *shape, generator=draw) / shape[-1] ** 0.5 for shape in shapes)


def peer(layer: tuple[Tensor, ...], x0: Tensor, n: int) -> Run:
    A1, b1, A2, b2 = layer
    t, options = torch.tensor([0.0, 1.0]), {"step_size": 1 / n}
    return lambda: odeint(lambda t, x: -linear(torch.relu(linear(x, A1, b1)), A2, -b2), x0, t, method="euler",
                          options=options)


def by_hand(layer: tuple[Tensor, ...], x0: Tensor, n: int) -> Run:
    A1, b1, A2, b2 = layer

    def run() -> Tensor:
        x = x0
        for _ in range(n):
            x = torch.relu(x - 1 / n * linear(torch.relu(linear(x, A1, b1)), A2, -b2))
        return x

    return run


def products(layer: tuple[Tensor, ...], x0: Tensor, n: int) -> Run:
    """The matrix products of the steps and nothing else."""
    A1, _, A2, _ = layer
    H, V, multiply = torch.empty(*x0.shape[:-1], A1.shape[-2]), torch.empty_like(x0), torch.matmul

    def run() -> None:
        for _ in range(n):
            multiply(x0, A1.mT, out=H)
            multiply(H, A2.mT, out=V)

    return run


def ours(layer: tuple[Tensor, ...], x0: Tensor, n: int, engine: str | None = None) -> Run:
    flow = di.Inclusion(di.ResNetField(*layer), di.Orthant())
    return lambda: di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=n), engine=engine)


def network_runs(d: int, m: int, batch: int, n: int, draw: torch.Generator) -> dict[str, Run]:
    """One network on a batch."""
    layer, x0 = weights(d, m, (), draw), torch.rand(batch, d, generator=draw)
    return {"torchdiffeq": peer(layer, x0, n), "hand": by_hand(layer, x0, n), "torch": ours(layer, x0, n, "torch"),
            "fused": ours(layer, x0, n, "fused"), "ours": ours(layer, x0, n), "products": products(layer, x0, n)}


def ensemble_runs(size: int, d: int, m: int, batch: int, n: int, draw: torch.Generator) -> dict[str, Run]:
    """Many networks, each on a batch of its own; others solve them one by one, here every fiftieth."""
    layer, x0 = weights(d, m, (size,), draw), torch.rand(size, batch, d, generator=draw)
    some = [(tuple(w[k] for w in layer), x0[k]) for k in range(0, size, SAMPLED)]

    def one_by_one(make: Callable[[tuple[Tensor, ...], Tensor, int], Run]) -> Run:
        runs = [make(*pair, n) for pair in some]
        return lambda: [run() for run in runs]

    return {"torchdiffeq": one_by_one(peer), "hand": one_by_one(by_hand), "torch": ours(layer, x0, n, "torch"),
            "fused": ours(layer, x0, n, "fused"), "ours": ours(layer, x0, n), "products": products(layer, x0, n)}


def measure(runs: dict[str, Run], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every repeat; the runs are interleaved so that all see the same machine."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:  # the first warms up
                found[name].append(1e3 * (time.perf_counter() - start))
    return found


def table(cases: dict[str, dict[str, Run]], repeats: int, many: str) -> list[dict[str, object]]:
    """Measure and print one row a case; ``many`` is the ensemble, whose peers solve a sample of it."""
    columns = ("torchdiffeq", "hand", "torch", "fused", "ours", "products")
    print(f"{'d, m, batch, steps':28}" + "".join(f"{name:>13}" for name in columns)
          + "   engine   torchdiffeq/ours (minima)   products/ours")
    rows = []
    for name, runs in cases.items():
        engine = runs["ours"]().stats.engine  # type: ignore[attr-defined]
        found = measure(runs, repeats)
        if name == many:
            found |= {key: [SAMPLED * value for value in found[key]] for key in ("torchdiffeq", "hand")}
        middle = {key: statistics.median(values) for key, values in found.items()}
        ratio, best = middle["torchdiffeq"] / middle["ours"], min(found["torchdiffeq"]) / min(found["ours"])
        print(f"{name:28}" + "".join(f"{middle[key]:11.2f}ms" for key in columns)
              + f"   {engine:6}{ratio:14.1f} {f'({best:.1f})':>10}{middle['products'] / middle['ours']:16.2f}",
              flush=True)
        rows.append({"case": name, "engine": engine, "milliseconds": middle, "ratio": ratio, "ratio of minima": best})
    return rows


def crossover(quick: bool, repeats: int, draw: torch.Generator) -> list[dict[str, object]]:
    """torch/fused as the weights grow."""
    rows = []
    print(f"{'d, m':>10} {'batch':>6}   torch/fused")
    for d, m in SIZES[:2] if quick else SIZES:
        for batch in (1, 16, 256, 4096):
            n = max(3, 2**28 // (d * m * (batch + 64) * (16 if quick else 1)))
            runs = network_runs(d, m, batch, n, draw)
            found = measure({name: runs[name] for name in ("torch", "fused")}, repeats)
            ratio = min(found["torch"]) / min(found["fused"])
            rows.append({"d": d, "m": m, "batch": batch, "torch/fused": ratio})
            print(f"{f'{d}, {m}':>10} {batch:6} {ratio:13.2f}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the steps and of the ensemble")
    parser.add_argument("--crossover", action="store_true", help="where torch becomes quicker than the fused loop")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    draw = torch.Generator().manual_seed(options.seed)
    with torch.no_grad():
        if options.crossover:
            rows = crossover(options.quick, options.repeats, draw)
        else:
            part = 20 if options.quick else 1
            cases = {f"{d}, {m}, {batch}, {n // part}": network_runs(d, m, batch, n // part, draw)
                     for d, m, batch, n in ROWS}
            many = f"{1000 // part} networks 8, 16, 32, {200 // part}"
            cases[many] = ensemble_runs(1000 // part, 8, 16, 32, 200 // part, draw)
            rows = table(cases, options.repeats, many)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": platform.processor() or platform.machine(), "torch": torch.__version__,
                       "threads": options.threads, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
