"""What figures show, in words: the alternative texts of the pages."""

from __future__ import annotations

import math

from ..experiment import FLOW, LAYERS, Along, Outcome
from ..studies.tables import Mean, Table
from .figures import Figure

__all__ = ["extremes_of", "seen_in", "seen_in_table"]


def seen_in(outcome: Outcome, figures: list[Figure]) -> dict[str, str]:
    """By the file of the figure."""
    flow, layers = ([a for a in outcome.along if a.kind == kind] for kind in (FLOW, LAYERS))
    words = {"flow.png": " ".join(map(_distances, flow)), "bounds.png": " ".join(map(_distances, layers)),
             "ratios.png": " ".join(map(_ratios, (*flow, *layers)))}
    return {f.file: words.get(f.file) or _features(f) for f in figures}


def seen_in_table(table: Table) -> str:
    """The lowest and the highest of each column of a panel."""
    unit = " %" if table.percent else ""
    parts = []
    for k, column in enumerate(table.columns):
        known = {name: m for name, row in table.rows.items() if isinstance(m := row[k], Mean)}
        if not known:
            continue
        low, high = (pick(known, key=lambda name: known[name].value) for pick in (min, max))
        both = f"{table.figure(known[low])} ({low}) to {table.figure(known[high])} ({high})"
        parts.append(f"{column}: {both if len(known) > 1 else f'{table.figure(known[low])} ({low})'}{unit}")
    where = f"by {table.axis}" if table.axis else "by column"
    return f"{table.title}. Lowest to highest {where}: {'; '.join(parts) or 'nothing known'}."


def extremes_of(table: Table) -> str:
    """The highest and the lowest value of a table, and where."""
    known = [(m.value, f"{table.figure(m)} ({name}, {column})") for name, row in table.rows.items()
             for column, m in zip(table.columns, row, strict=True) if m is not None and not math.isnan(m.value)]
    if not known:
        return f"{table.title}: nothing known."
    (_, low), (_, high) = (pick(known, key=lambda pair: pair[0]) for pick in (min, max))
    return f"{table.title}: highest {high}, lowest {low}."


def _end(along: Along) -> str:
    return f"at time {along.t[-1]:g}" if along.kind == FLOW else f"after {len(along.t) - 1} layers"


def _distances(along: Along) -> str:
    low, middle, high = along.observed[-1]
    bounds = ", ".join(f"{rate} {curve[-1]:.3g}" for rate, curve in along.bounds.items())
    return (f"{along.network}: {_end(along)} the distances of pairs lie between {low:.3g} and {high:.3g} times "
            f"those at the start, half of them below {middle:.3g}; bounds: {bounds}.")


def _ratios(along: Along) -> str:
    ends = ", ".join(f"{rate} {ratios[-1]:.3g}" for rate, ratios in along.ratios.items())
    highest = max(max(ratios) for ratios in along.ratios.values())
    above = "no curve is above 1" if highest <= 1 + 1e-9 else f"the highest value is {highest:.6g}, above 1"
    return (f"{along.network}, {along.kind}: observed over bound starts at 1 and {_end(along)} is, by rate, "
            f"{ends}; {above}.")


def _features(figure: Figure) -> str:
    """Of the lines of each panel: where they start and end, and how long they rest at 0."""
    panels = []
    for ax in figure.canvas.axes:
        lines = []
        for line in ax.get_lines():
            x = [float(value) for value in line.get_ydata()]
            if line.get_label().startswith("_") or len(x) < 3:
                continue
            resting = sum(value == 0 for value in x) / len(x)
            lines.append(f"{line.get_label()} from {x[0]:.2g} to {x[-1]:.2g}"
                         + (f", at 0 for {resting:.0%} of the time" if resting >= 0.01 else ""))
        panels.append(f"{ax.get_title()}: {'; '.join(lines)}.")
    return " ".join(panels)
