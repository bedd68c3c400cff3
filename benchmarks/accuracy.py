"""Accuracy, time and gradients beside torchdiffeq, scipy, solve-nivp and nosnoc, in one run.

    python3 -m venv .venv-peers && .venv-peers/bin/python -m pip install -r benchmarks/requirements.txt   # optional
    python benchmarks/accuracy.py [--seed 0] [--repeats 5] [--quick] [--json FILE] [--figure FILE] [--peers PYTHON]

Tables: work and precision on the spiral and on random ReLU fields; how many of 256 reflected problems come out wrong
unnoticed; gradients through a contact; N components in one solve; many trajectories together and one by one.

ODE solvers get the projected field, v where x > 0 and max(v, 0) at x <= 0, with rtol = atol = tol. solve-nivp and
nosnoc run in the environment of the first line; without it their rows say "not installed". One thread, float64; times
are medians over the repeats, of runs from start to end with only the end saved; nosnoc, the ODE solvers on the
reflected problems and torchdiffeq on N components are timed once. Sup errors are taken over the steps, of solvers that
choose them on 401 times (the steps of ARS222 and ProxHeun end there, so they are shorter than in the timed run).
ProxHeun needs tol^(-1/2) steps and chooses them down to tol = 1e-6 only. Every solver has a budget; "no result" says
that it was spent.
The full run takes a quarter of an hour or more, --quick a few minutes.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from peers.batch import batch_rows
from peers.contacts import contact_rows
from peers.figure import draw
from peers.gradients import gradient_rows
from peers.joint import joint_rows, one_state_rows
from peers.precision import relu_rows, spiral_rows
from peers.rows import Settings, ratios, show


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="fewer settings, smaller problems, one repeat")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--figure", metavar="FILE")
    parser.add_argument("--peers", metavar="PYTHON", default=".venv-peers/bin/python",
                        help="Python of the environment with solve-nivp and nosnoc")
    return parser.parse_args()


def precision(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """The work–precision tables and their ratios, printed as they come."""
    tables = {"spiral": spiral_rows(settings)}
    for d in (2, 10, 50):
        tables[f"ReLU field, d = {d}"] = relu_rows(d, settings)
    for title, rows in tables.items():
        show(title, rows)
        print("peer / the fastest row of diffincl that is at least as accurate at the end:")
        print("\n".join(f"  {line}" for line in ratios(rows, "final error")))
    return tables


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    settings = Settings(options.seed, 1 if options.quick else options.repeats, options.quick, options.peers)
    tables = precision(settings)
    panels = dict(tables)
    for title, make in (("reflected problems, one by one for the ODE solvers", contact_rows),
                        ("gradients through a contact", gradient_rows), ("N components in one solve", joint_rows),
                        ("N components as one state, which share their steps", one_state_rows),
                        ("2 000 trajectories of a ReLU field, d = 10, tol = 1e-4", batch_rows)):
        tables[title] = make(settings)
        show(title, tables[title])
    if options.json:
        about = {"machine": platform.processor() or platform.machine(), "python": sys.version.split()[0],
                 "torch": torch.__version__, "options": vars(options)}
        Path(options.json).write_text(json.dumps({**about, "tables": tables}, indent=1), encoding="utf-8")
    if options.figure:
        draw(panels, options.figure)


if __name__ == "__main__":
    main()
