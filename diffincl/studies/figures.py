"""One figure a study."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from .. import plot
from ..storage import write_atomically
from .tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SHOWN", "draw"]

SHOWN = {"depth": slice(3), "corruption": slice(None), "regularisation": slice(3, 5), "certificate": slice(2)}  # tables


def draw(study: str, tables: list[Table], path: Path) -> None:
    """Draw a study to a PNG file; a folder that is killed half way keeps no half file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = tables[SHOWN[study]]
    figure = Figure(figsize=(4.8 * max(len(panels), 1.4), 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, table in zip(axes, panels, strict=True):
        _panel(ax, table)
    handles, labels = axes[0].get_legend_handles_labels()
    rows = 1 if len(labels) <= 6 else 2
    figure.legend(handles, labels, loc="outside lower center", ncols=-(-len(labels) // rows), frameon=False, fontsize=9)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=150))


def _panel(ax: Axes, table: Table) -> None:
    """Lines over the columns, bars of spread."""
    numbers = [_number(column) for column in table.columns]
    places = [n for n in numbers if n is not None] if None not in numbers[1:] and len(numbers) > 2 else []
    at = ([0.0] if numbers[0] is None else []) + places if places else list(range(len(table.columns)))
    if 0.0 in places:  # λ over decades, and none
        at = list(range(len(places)))
    scale = 100.0 if table.percent else 1.0
    rows = {name: [None if m is None else (scale * m.value, scale * (m.spread or 0.0)) for m in row]
            for name, row in table.rows.items()}
    plot.spread(at, rows, joined=bool(places), legend=False, ax=ax)
    if places and numbers[0]:
        ax.set_xscale("log", base=2)
    if places:
        ax.set_xticks(at, ["0" if n is None else c for n, c in zip(numbers, table.columns, strict=True)])
        ax.minorticks_off()
    else:
        ax.set_xticks(at, table.columns, rotation=60, ha="right", fontsize=8)
    if not table.percent:
        ax.set_yscale("log")
    ax.set_xlabel(table.axis)
    ax.set_ylabel("%" if table.percent else "factor")
    title, _, rest = table.title.partition(",")
    ax.set_title("\n".join(line for part in (title, rest) for line in textwrap.wrap(part, 60)), fontsize=9.5)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
