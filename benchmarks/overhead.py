"""What one forward Euler step costs beside a hand-written loop and torchdiffeq's euler, same field, same run.

    python benchmarks/overhead.py [--steps 1000] [--repeats 25] [--seed 0] [--json FILE]

Prints microseconds a step and ratios (medians over interleaved repeats, one thread, float32, no gradients). All three
return every state. The hand-written loop is ``x = torch.relu(x - h * F(t, x))``; torchdiffeq integrates −F without any
constraint, which is the less of a task. Then seconds of processor time that ``import torch`` takes, and that ``import
diffincl`` adds to it (fresh processes, bytecode from disk).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchdiffeq import odeint

import diffincl as di


def resnet(d: int, m: int, generator: torch.Generator) -> Callable[[Tensor, Tensor], Tensor]:
    """A ResNet field as a user would write it."""
    A1, A2 = torch.randn(m, d, generator=generator) / d**0.5, torch.randn(d, m, generator=generator) / m**0.5
    b1, b2 = torch.randn(m, generator=generator), torch.randn(d, generator=generator)
    return lambda t, x: torch.nn.functional.linear(torch.relu(torch.nn.functional.linear(x, A1, b1)), A2, b2)


def matrix(d: int, generator: torch.Generator) -> Callable[[Tensor, Tensor], Tensor]:
    """The cheapest field there is: one matrix product."""
    A = torch.randn(d, d, generator=generator) / d**0.5
    return lambda t, x: x @ A


def by_hand(F: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: Tensor) -> Tensor:
    h, states = float(t[-1]) / (len(t) - 1), [x]
    for time_ in t[:-1].unbind():
        x = torch.relu(x - h * F(time_, x))
        states.append(x)
    return torch.stack(states)


def measure(F: Callable[[Tensor, Tensor], Tensor], x0: Tensor, steps: int, repeats: int) -> dict[str, float]:
    """Median microseconds a step of each; the runs are interleaved so that all see the same machine."""
    t = torch.linspace(0, 1, steps + 1)
    flow = di.Inclusion(F, di.Orthant())
    runs = {"hand": lambda: by_hand(F, x0, t), "diffincl": lambda: di.solve(flow, x0, t),
            "torchdiffeq": lambda: odeint(lambda t, x: -F(t, x), x0, t, method="euler")}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 2):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat >= 2:  # the first two warm up
                seconds[name].append(time.perf_counter() - start)
    return {name: 1e6 * statistics.median(values) / steps for name, values in seconds.items()}


IMPORT = """
import time
start = time.process_time()
import torch
middle = time.process_time()
import diffincl
print(middle - start, time.process_time() - middle)
"""


def import_seconds(repeats: int = 5) -> tuple[float, float]:
    """Of torch, and of diffincl after it: medians of processor time."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        settings.pop("PYTHONDONTWRITEBYTECODE", None)
        found = [[float(word) for word in subprocess.run([sys.executable, "-c", IMPORT], env=settings, check=True,
                                                         capture_output=True, text=True).stdout.split()]
                 for _ in range(repeats + 1)]
    first, second = zip(*found[1:], strict=True)  # the first run writes the bytecode
    return statistics.median(first), statistics.median(second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(options.seed)
    cases = {"one matrix product, d = 8, batch 16": (matrix(8, generator), (16, 8)),
             "ResNet field, d = 2, m = 8, batch 1": (resnet(2, 8, generator), (1, 2)),
             "ResNet field, d = 16, m = 32, batch 256": (resnet(16, 32, generator), (256, 16)),
             "ResNet field, d = 64, m = 64, batch 256": (resnet(64, 64, generator), (256, 64))}
    rows = []
    print(f"{'field':42} {'hand':>8} {'diffincl':>9} {'torchdiffeq':>12}   diffincl/hand  torchdiffeq/diffincl")
    with torch.no_grad():
        for name, (F, shape) in cases.items():
            found = measure(F, torch.rand(shape, generator=generator), options.steps, options.repeats)
            rows.append({"field": name, **found})
            print(f"{name:42} {found['hand']:6.1f}µs {found['diffincl']:7.1f}µs {found['torchdiffeq']:10.1f}µs   "
                  f"{found['diffincl'] / found['hand']:13.2f}  {found['torchdiffeq'] / found['diffincl']:20.2f}")
    first, added = import_seconds()
    print(f"import torch {first:.2f} s, import diffincl adds {added:.2f} s")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": platform.processor() or platform.machine(), "torch": torch.__version__,
                       "rows": rows, "import": {"torch": first, "diffincl": added}}, file, indent=1)


if __name__ == "__main__":
    main()
