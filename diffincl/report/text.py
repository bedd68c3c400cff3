"""The report as text and as plain data."""

from __future__ import annotations

import math
import platform
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..experiment import Ladder, Outcome
from ..statements import STATEMENTS, CheckResult

__all__ = ["HEADINGS", "LADDER_HEADINGS", "ORDER_TITLE", "SLACK_HEADINGS", "SLACK_TITLE", "as_json", "as_table",
           "control_of", "ladder_rows", "number", "order_headings", "order_rows", "plain", "slack_rows", "verdict_of",
           "versions", "where"]

HEADINGS = ("statement", "instances", "worst observed/bound", "where", "control", "verdict")
LADDER_HEADINGS = ("network", "rate", "flow bound", "flow worst", "flow ratio", "layers bound", "layers worst",
                   "layers ratio")
SLACK_HEADINGS = ("network", "rate", "log bound", "log worst", "norm", "rate", "path")
LADDER_TITLE = "Expansion over the trained networks, bound against the worst pair found:"
SLACK_TITLE = ("Where the slack of the flow bounds comes from: log bound = log worst + norm (enclosure of the norms) + "
               "rate (∫ν − μ, μ the largest one-sided constant found) + path (the worst pair does not keep to the "
               "worst direction):")
ORDER_TITLE = "Error of N layers, against the flow (L1, L2) and against 2N layers (L3); order from 8 layers on:"


def as_table(outcome: Outcome) -> str:
    """The verdicts and the ladder of rates as text."""
    verdicts = [(label, str(r.trials), number(r.worst_ratio), where(r), control_of(r), verdict_of(r))
                for label, r in outcome.results.items()]
    texts = [_columns(HEADINGS, verdicts), f"{LADDER_TITLE}\n{_columns(LADDER_HEADINGS, ladder_rows(outcome))}",
             f"{SLACK_TITLE}\n{_columns(SLACK_HEADINGS, slack_rows(outcome))}"]
    if outcome.orders:
        texts.append(f"{ORDER_TITLE}\n{_columns(order_headings(outcome), order_rows(outcome))}")
    return "\n\n".join(texts)


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Everything as plain data; infinite numbers as the string "inf"."""
    statements = [{
        "label": label, "title": STATEMENTS[label].title, "hypothesis": STATEMENTS[label].hypothesis,
        "bound": STATEMENTS[label].bound, "source": STATEMENTS[label].source, "instances": r.trials,
        "worst_ratio": r.worst_ratio, "holds": r.holds, "control_violated": r.control_violated,
        "witness": asdict(r.witness), "control": asdict(r.control),
        "findings": [{"origin": f.origin, "instances": f.instances, "worst_ratio": f.worst_ratio,
                      "violations": f.violations, "form": f.witness.form, "time": f.witness.time} for f in r.findings],
    } for label, r in outcome.results.items()]
    return plain({
        "passed": outcome.passed, "settings": asdict(outcome.settings), "statements": statements,
        "ladder": [asdict(row) for row in outcome.ladder], "orders": [asdict(o) for o in outcome.orders],
        "along_time": [asdict(a) for a in outcome.along],
        "accuracy": outcome.accuracies,
        "versions": versions()})


def versions() -> dict[str, str]:
    """Of what computed the report."""
    return {"diffincl": __version__, "torch": torch.__version__, "python": platform.python_version()}


def number(value: float) -> str:
    """Four digits, or ∞."""
    if not math.isfinite(value):
        return "∞"
    return f"{value:.3g}" if value >= 1e4 else f"{value:.4f}" if value < 10 else f"{value:.1f}"


def where(r: CheckResult) -> str:
    """Origin, form and time of the worst ratio."""
    return f"{r.witness.origin}; {r.witness.form}, t = {r.witness.time:g}"


def control_of(r: CheckResult) -> str:
    """What the control showed."""
    word = "violated" if r.control_violated else "NOT violated"
    return f"{word}: {number(r.control.worst_ratio)} ({r.control.origin})"


def verdict_of(r: CheckResult) -> str:
    """The verdict in a word or two."""
    return "VIOLATED" if not r.holds else "holds" if r.control_violated else "control failed"


def ladder_rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """Network, rung, and the numbers of the ladder."""
    return [(row.network, row.rate, *_ladder_cells(row)) for row in outcome.ladder]


def _ladder_cells(row: Ladder) -> list[str]:
    flow = ["–"] * 3 if row.flow_bound is None else \
        [number(v) for v in (row.flow_bound, row.flow_observed, row.flow_bound / row.flow_observed)]
    return flow + [number(v) for v in (row.layer_bound, row.layer_observed, row.layer_bound / row.layer_observed)]


def slack_rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """Network, rung, and the parts of the logarithm of its bound."""
    rows = []
    for row in outcome.ladder:
        if row.flow_bound is None:
            continue
        values = (math.log(row.flow_bound), math.log(row.flow_observed), row.norm, row.rate_slack, row.path)
        rows.append((row.network, row.rate, *(_small(v) for v in values if v is not None)))
    return rows


def _small(value: float) -> str:
    return f"{value:.1e}" if 0 < abs(value) < 1e-4 else f"{value:.4f}"


def order_headings(outcome: Outcome) -> tuple[str, ...]:
    """Headings of the table of orders."""
    return ("statement", *(f"N = {n}" for n in outcome.orders[0].layers), "order", "worst observed/bound")


def order_rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """Errors for every depth, and their order."""
    return [(o.label, *(f"{e:.2e}" for e in o.errors), f"{o.order:.2f}", number(o.ratio)) for o in outcome.orders]


def _columns(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[k]) for row in (headings, *rows)) for k in range(len(headings))]
    first, *rest = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                    for row in (headings, *rows)]
    return "\n".join([first, "-" * max(map(len, (first, *rest))), *rest])


def plain(value: Any) -> Any:
    """Tensors as lists, floats that JSON lacks as strings."""
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
