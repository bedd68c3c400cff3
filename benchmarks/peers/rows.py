"""Measuring and printing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """The options of the command."""

    seed: int
    repeats: int
    quick: bool
    python: str


def timed(run: Callable[[], T], repeats: int) -> tuple[T, float]:
    """The result of the last run and the median seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - start)
    return result, statistics.median(seconds)


def cell(value: Any) -> str:
    """A value for a table."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if 1e-2 <= abs(value) < 1e5 or value == 0 else f"{value:.1e}"
    return str(value)


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print rows as a table; the columns are the keys of the first row."""
    print(f"\n{title}")
    columns = list(rows[0])
    lines = [columns, *([cell(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(columns))]
    for line in lines:
        print("  ".join(text.ljust(width) if k < 2 else text.rjust(width)
                        for k, (text, width) in enumerate(zip(line, widths, strict=True))).rstrip())


def ratios(rows: Sequence[dict[str, Any]], error: str) -> list[str]:
    """For each peer row: the fastest row of diffincl at least as accurate, and how many times faster it is."""
    ours = [row for row in rows if row["solver"].startswith("diffincl") and row["seconds"] is not None]
    lines = []
    for peer in rows:
        if peer["solver"].startswith("diffincl") or peer["seconds"] is None:
            continue
        as_good = [row for row in ours if row[error] <= peer[error]]
        if as_good:
            best = min(as_good, key=lambda row: row["seconds"])
            lines.append(f"{peer['solver']} {peer['setting']} / {best['solver']} {best['setting']}: time "
                         f"{peer['seconds'] / best['seconds']:.2g}, error {peer[error] / best[error]:.2g}")
        else:
            lines.append(f"{peer['solver']} {peer['setting']}: no row of diffincl is as accurate")
    return lines
