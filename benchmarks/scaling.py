"""How the cost of a solve grows with steps, batch and dimension, over two decades of each, and what threads give.

    python benchmarks/scaling.py [--repeats 7] [--seed 0] [--quick] [--json FILE]

Prints milliseconds (minima over interleaved repeats, one thread, float32, no gradients) and the slope of the line
through them on logarithmic scales: 1 is cost in proportion, less than 1 where fixed costs are left at the small end.
Hidden layers have 16 units whatever the dimension. Every engine by itself: the fused loop and torch step by step.
At the end the fused loop with one thread and with two, which means something where two cores are idle.
"""

from __future__ import annotations

import argparse
import json
import platform
import time

import numpy as np
import torch

import diffincl as di

BASE = {"steps": 1000, "batch": 256, "dimension": 8}
RANGES = {"steps": (100, 316, 1000, 3162, 10000), "batch": (100, 316, 1000, 3162, 10000),
          "dimension": (4, 12, 40, 126, 400)}
THREADED = (1000, 4000, 16000)  # samples of the fused loop


def solver(engine: str, steps: int, batch: int, dimension: int, draw: torch.Generator):
    """A solve of this size."""
    shapes = ((16, dimension), (16,), (dimension, 16), (dimension,))
    field = di.ResNetField(*(torch.randn(shape, generator=draw) / shape[-1] ** 0.5 for shape in shapes))
    flow, x0 = di.Inclusion(field, di.Orthant()), torch.rand(batch, dimension, generator=draw)
    return lambda: di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=steps), engine=engine)


def scan(engine: str, name: str, part: int, repeats: int, draw: torch.Generator) -> dict[str, object]:
    """Milliseconds along one range, and their slope."""
    sizes = [{**BASE, "steps": BASE["steps"] // (4 * part), name: value if name != "steps" else value // part}
             for value in RANGES[name]]
    runs, best = [solver(engine, draw=draw, **size) for size in sizes], [np.inf] * len(sizes)
    for _ in range(repeats + 1):
        for k, run in enumerate(runs):
            start = time.perf_counter()
            run()
            best[k] = min(best[k], 1e3 * (time.perf_counter() - start))
    values = [size[name] for size in sizes]
    return {"engine": engine, "range": name, "values": values, "milliseconds": best,
            "slope": float(np.polyfit(np.log(values), np.log(best), 1)[0])}


def threads(batch: int, part: int, repeats: int, draw: torch.Generator) -> dict[str, object]:
    """Milliseconds of a fused solve in one thread and in two, turn by turn."""
    run, best = solver("fused", BASE["steps"] // part, batch, BASE["dimension"], draw), [np.inf, np.inf]
    for _ in range(repeats + 1):
        for k in range(2):
            torch.set_num_threads(k + 1)
            start = time.perf_counter()
            run()
            best[k] = min(best[k], 1e3 * (time.perf_counter() - start))
    torch.set_num_threads(1)
    return {"engine": "fused", "range": "threads", "batch": batch, "milliseconds": best, "ratio": best[0] / best[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    draw, rows = torch.Generator().manual_seed(options.seed), []
    with torch.no_grad():
        for engine in ("fused", "torch"):
            for name in RANGES:
                row = scan(engine, name, 10 if options.quick else 1, options.repeats, draw)
                rows.append(row)
                times = "".join(f"{value:8}: {ms:9.3g}ms" for value, ms in
                                zip(row["values"], row["milliseconds"], strict=True))
                print(f"{engine:6} {name:10}{times}   slope {row['slope']:.2f}", flush=True)
        for batch in THREADED:
            row = threads(batch, 10 if options.quick else 1, options.repeats, draw)
            rows.append(row)
            one, two = row["milliseconds"]
            print(f"fused  batch {batch:6}: one thread {one:8.3g}ms, two {two:8.3g}ms   ratio {row['ratio']:.2f}",
                  flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": platform.processor() or platform.machine(), "torch": torch.__version__,
                       "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
