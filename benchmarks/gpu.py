"""Whole solves with fixed steps on a GPU beside a hand-written loop and torchdiffeq on it, and training steps there.

    python benchmarks/gpu.py [--repeats 5] [--steps 1000] [--seed 0] [--quick] [--json FILE]

Prints milliseconds a solve (medians over interleaved repeats, float32, no gradients, only the end is kept), the ratios
hand/fused and torchdiffeq/fused, and how far hand and fused are from the CPU in float64 on the first samples. Of
weights too large for the fused loop: the loop in place with and without CUDA graphs. Then images a second of training
steps of an ImageResNet in float32 and bfloat16. Without a GPU it says so and ends with status 2.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import torch
from fixed_step import Run, by_hand, ours, peer, weights
from torch import Tensor

import diffincl as di
from diffincl.data import ImageData
from diffincl.nn import ImageResNet
from diffincl.solve import replayed
from diffincl.training import Recipe, Trainer

ROWS = tuple((d, m, batch) for d, m in ((2, 8), (8, 16), (32, 64)) for batch in (100_000, 1_000_000))
LARGE = (512, 512, 256)
CHECKED = 256  # samples that are compared with the CPU
BATCH = 256  # of training

Layer = tuple[Tensor, ...]


def milliseconds(runs: dict[str, Run], repeats: int) -> dict[str, float]:
    """Medians; the runs are interleaved, and each is waited for. The first of each compiles and warms up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            torch.cuda.synchronize()
            if repeat:
                found[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in found.items()}


def peer_on(layer: Layer, x0: Tensor, n: int) -> Run:
    """torchdiffeq's solve with its times on the device, too."""
    with torch.device(x0.device):
        return peer(layer, x0, n)


def without_graphs(run: Run) -> Run:
    """The same solve, its steps launched one by one."""
    def plain() -> object:
        before, replayed.SMALL = replayed.SMALL, 0
        try:
            return run()
        finally:
            replayed.SMALL = before

    return plain


def distances(layer: Layer, x0: Tensor, n: int) -> dict[str, float]:
    """How far the ends are from those of the CPU in float64, relative to the largest."""
    exact = ours(tuple(w.cpu().double() for w in layer), x0[:CHECKED].cpu().double(), n, "torch")().x[-1]
    ends = {"hand": by_hand(layer, x0, n)(), "fused": ours(layer, x0, n, "fused")().x[-1]}
    some = {name: x[:CHECKED].cpu().double() for name, x in ends.items()}
    return {name: float((x - exact).abs().max() / exact.abs().max()) for name, x in some.items()}


def solves(n: int, repeats: int, draw: torch.Generator, part: int) -> list[dict[str, object]]:
    """One network on many samples: the fused loop beside the others."""
    columns = ("torchdiffeq", "hand", "torch", "fused")
    print(f"{'d, m, batch, steps':26}" + "".join(f"{name:>14}" for name in columns)
          + "   chosen  hand/fused  torchdiffeq/fused   error: hand    fused")
    rows = []
    for d, m, batch in ROWS:
        batch //= part
        layer = tuple(w.cuda() for w in weights(d, m, (), draw))
        x0 = torch.rand(batch, d, generator=draw).cuda()
        runs = {"torchdiffeq": peer_on(layer, x0, n), "hand": by_hand(layer, x0, n),
                "torch": ours(layer, x0, n, "torch"), "fused": ours(layer, x0, n, "fused")}
        chosen = ours(layer, x0, n)().stats.engine
        took, error = milliseconds(runs, repeats), distances(layer, x0, n)
        ratios = {name: took[name] / took["fused"] for name in ("hand", "torchdiffeq")}
        print(f"{f'{d}, {m}, {batch}, {n}':26}" + "".join(f"{took[name]:12.2f}ms" for name in columns)
              + f"   {chosen:6}{ratios['hand']:12.1f}{ratios['torchdiffeq']:19.1f}{error['hand']:14.1e}"
              f"{error['fused']:9.1e}", flush=True)
        rows.append({"d": d, "m": m, "batch": batch, "steps": n, "chosen": chosen, "milliseconds": took,
                     "ratios": ratios, "errors": error})
    return rows


def large(n: int, repeats: int, draw: torch.Generator) -> dict[str, object]:
    """Weights too large for the fused loop: the loop in place, launched step by step and replayed."""
    d, m, batch = LARGE
    layer = tuple(w.cuda() for w in weights(d, m, (), draw))
    x0 = torch.rand(batch, d, generator=draw).cuda()
    graphs = ours(layer, x0, n, "torch")
    took = milliseconds({"hand": by_hand(layer, x0, n), "plain": without_graphs(graphs), "graphs": graphs}, repeats)
    print(f"\n{f'{d}, {m}, {batch}, {n}':26} " + ", ".join(f"{name} {value:.2f}ms" for name, value in took.items())
          + f"; hand/graphs {took['hand'] / took['graphs']:.1f}, plain/graphs {took['plain'] / took['graphs']:.1f}\n")
    return {"d": d, "m": m, "batch": batch, "steps": n, "milliseconds": took}


def training(repeats: int, seed: int, draw: torch.Generator) -> list[dict[str, object]]:
    """Images a second of training steps, medians."""
    x, y = torch.rand(BATCH, 3 * 32 * 32, generator=draw), torch.randint(10, (BATCH,), generator=draw)
    data, rows, found = ImageData(x, y, x, y, (3, 32, 32), 10), torch.arange(BATCH, device="cuda"), []
    for variant in ("resnet", "d", "s"):
        for precision in ("float32", "bfloat16"):
            net = ImageResNet(variant, 6, generator=torch.Generator().manual_seed(seed))
            trainer = Trainer(net.train(), data, Recipe(augment=False, batch=BATCH, precision=precision), device="cuda")
            took = milliseconds({"step": lambda trainer=trainer: trainer.step(rows)}, 4 * repeats)["step"]
            print(f"{variant:7} {precision:9} {took:8.2f}ms a step of {BATCH} images, "
                  f"{1e3 * BATCH / took:.0f} images/s", flush=True)
            found.append({"variant": variant, "precision": precision, "milliseconds": took})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps and of the samples")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(f"There is no GPU that torch {torch.__version__} can use here: nothing was measured.", file=sys.stderr)
        sys.exit(2)
    draw, part = torch.Generator().manual_seed(options.seed), 10 if options.quick else 1
    device, n = torch.cuda.get_device_name(), max(1, options.steps // part)
    print(f"{device}, torch {torch.__version__}, diffincl {di.__version__}\n")
    with torch.no_grad():
        rows = solves(n, options.repeats, draw, part)
        one = large(n, options.repeats, draw)
    steps = training(options.repeats, options.seed, draw)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"device": device, "torch": torch.__version__, "cuda": torch.version.cuda,
                       "diffincl": di.__version__, "rows": rows, "large": one, "training": steps}, file, indent=1)


if __name__ == "__main__":
    main()
