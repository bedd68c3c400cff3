"""How tight the bounds are: the ladder of rates beside worst pairs found by ascent, and norms beside their truth.

    python benchmarks/ladder.py [--seed 0] [--nets 3] [--quick] [--out FILE]

Prints Markdown tables: bound / worst growth of a distance for random networks and for those trained on the digits, the
scaled rate over the exact one, tubes around trajectories, rates of convolutional branches, norms of convolutions over
the truth and their times. ``--out`` keeps every number as
JSON. One thread, float64. The full run takes about ten minutes for each of the ``--nets``, --quick under a minute.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from stability.kernels import tightness_row, time_row
from stability.local import branch_row, tube_rows
from stability.nets import NAMES, Net, random_net, trained_net
from stability.rungs import FLOW, LAYERS, TOGETHER, exactness_row, ladder_row

import diffincl as di
from diffincl.data import digits
from diffincl.storage import write_atomically

OBSERVED = ("layers, pairs", "layers, pairs and biases", "flow, pairs and biases")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nets", type=int, default=3, help="random networks a row; the row shows the largest ratios")
    parser.add_argument("--quick", action="store_true", help="one small network a row, short ascents")
    parser.add_argument("--out", metavar="FILE", type=Path)
    return parser.parse_args()


def networks(options: argparse.Namespace) -> Iterator[list[Net]]:
    """The networks of every row."""
    for kind in NAMES:
        for d in (8, 16) if options.quick else (8, 16, 32, 64):
            for shared in (True, False):
                generator = torch.Generator().manual_seed(options.seed)
                yield [random_net(kind, d, shared, generator) for _ in range(1 if options.quick else options.nets)]
    data = digits(options.seed)
    for kind in NAMES:
        yield [trained_net(kind, data, 2 if options.quick else 40, options.seed)]


def ladder(options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All rows, and the lines of the table."""
    rows, lines = [], []
    for nets in networks(options):
        found = [ladder_row(net, options.seed + k, options.quick) for k, net in enumerate(nets)]
        rows += found
        line: dict[str, Any] = {"network": found[0]["net"] + (f", {found[0]['note']}" if found[0]["note"] else "")}
        line |= {name: max(row["ratios"][name] for row in found) for name in (*FLOW, *LAYERS, TOGETHER)}
        line["∏R8 / pairs"] = max(row["∏R8 over pairs"] for row in found)
        line |= {f"observed: {name}": max(row["observed"][name] for row in found) for name in OBSERVED}
        line["seconds"] = max(row["seconds of the bounds"] for row in found)
        lines.append(line)
        print(line["network"], file=sys.stderr)
    return rows, lines


def cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1 or abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """A Markdown table; its columns are the keys of the first row."""
    print(f"\n**{title}**\n")
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(cell(row[name]) for name in rows[0]) + " |")


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", di.KinkWarning)  # an ascent may look anywhere
    count, kernels = (20, 1) if options.quick else (100, 5)
    rows, lines = ladder(options)
    show("bound / worst pair over starts and biases", lines)
    tables: dict[str, list[dict[str, Any]]] = {}
    tables["scaled rate / exact rate, d = 8, m = 10"] = [exactness_row(k, count, options.seed) for k in ("resnet", "d")]
    tables["scaled rate of S"] = [exactness_row("s", count, options.seed)]
    trained = [trained_net(kind, digits(options.seed), 2 if options.quick else 40, options.seed) for kind in NAMES]
    tables["trained networks, balls around states of test images: distance after ten layers / radius"] = [
        row for net in trained for row in tube_rows(net, 4 if options.quick else 64, 10 if options.quick else 200)]
    tables["convolutional branches, h = 0.1"] = [branch_row(kind, 2 if options.quick else 4, 8, 0.1, options.seed)
                                                 for kind in ("free", "D", "near S")]
    tables["Fourier bound / largest singular value"] = [tightness_row(k, s, kernels, options.seed) for k in (3, 5)
                                                        for s in (1, 2)]
    tables["time of one norm, 3×3, one thread"] = [time_row(16 if options.quick else 64, 32, status, 3, options.seed)
                                                   for status in ("float", "certified")]
    for title, table in tables.items():
        show(title, table)
    if options.out:
        about = {"machine": platform.processor() or platform.machine(), "python": sys.version.split()[0],
                 "torch": torch.__version__, "options": {**vars(options), "out": str(options.out)}}
        text = json.dumps({**about, "ladder": rows, "table": lines, **tables}, indent=1, ensure_ascii=False)
        write_atomically(options.out, lambda path: path.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    main()
