"""What a gradient through a deep solve costs in memory and time: plain backpropagation beside gradient="checkpoint".

    python benchmarks/memory.py [--steps 1000] [--width 32] [--batch 2048] [--repeats 5] [--seed 0] [--json FILE]

Learned weights, one set a step, forward Euler, saved at the two ends only, float32, one thread. Each mode runs in a
process of its own, with a fixed threshold of malloc, so that freed memory goes back at once. Memory is the peak
resident set of solve and backward less the resident set before them; time is the median over the repeats, in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time

import torch

import diffincl as di

MODES = ("backprop", "checkpoint")
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}


def resident() -> int:
    """Bytes of this process in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def flow_and_start(steps: int, width: int, batch: int, seed: int) -> tuple[di.Inclusion, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((width, width), (width,), (width, width), (width,))
    weights = [torch.nn.Parameter(torch.randn(steps, *s, generator=generator) / width**0.5) for s in shapes]
    field = di.ResNetField(*(di.PiecewiseConstant(w) for w in weights))
    return di.Inclusion(field, di.Orthant()), torch.rand(batch, width, generator=generator)


def one(mode: str, options: argparse.Namespace) -> dict[str, float]:
    """Peak bytes and seconds of one solve with its backward pass, after a first one of two steps."""
    torch.set_num_threads(1)
    for steps in (2, options.steps):
        flow, x0 = flow_and_start(steps, options.width, options.batch, options.seed)
        before, start = resident(), time.perf_counter()
        di.solve(flow, x0, [0.0, 1.0], steps=di.Fixed(n=steps), gradient=mode).x[-1].square().mean().backward()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"bytes": peak - before, "seconds": seconds,
            "gradient": sum(float(w.grad.double().square().sum()) for w in flow.field.parameters()) ** 0.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("steps", 1000), ("width", 32), ("batch", 2048), ("repeats", 5), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--only", choices=MODES, help=argparse.SUPPRESS)  # the process of one mode
    options = parser.parse_args()
    if options.only:
        print(json.dumps(one(options.only, options)))
        return
    found: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for _ in range(options.repeats):
        for mode in MODES:
            done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", mode], check=True, text=True,
                                  capture_output=True, env={**os.environ, **MALLOC})
            found[mode].append(json.loads(done.stdout))
    rows = {mode: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for mode, runs in found.items()}
    print(f"{options.steps} steps, width {options.width}, batch {options.batch}")
    print(f"{'gradient':12} {'memory':>10} {'time':>8}   {'norm of the gradient'}")
    for mode, row in rows.items():
        print(f"{mode:12} {row['bytes'] / 1e6:7.1f} MB {row['seconds']:6.2f} s   {row['gradient']:.9g}")
    plain, again = rows["backprop"], rows["checkpoint"]
    print(f"checkpoint/backprop: memory {again['bytes'] / plain['bytes']:.3f}, "
          f"time {again['seconds'] / plain['seconds']:.2f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": platform.processor() or platform.machine(), "torch": torch.__version__,
                       "options": vars(options), "runs": found}, file, indent=1)


if __name__ == "__main__":
    main()
