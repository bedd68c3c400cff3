"""The report as one self-contained page."""

from __future__ import annotations

import base64
import html
from pathlib import Path

import torch

from .. import __version__
from ..experiment import DEPTH, Outcome
from ..statements import STATEMENTS
from .figures import Figure
from .text import (
    HEADINGS,
    LADDER_HEADINGS,
    ORDER_TITLE,
    SLACK_HEADINGS,
    SLACK_TITLE,
    control_of,
    ladder_rows,
    number,
    order_headings,
    order_rows,
    slack_rows,
    verdict_of,
    where,
)

__all__ = ["page_of"]

RUNGS = ("Bound and worst pair found, as expansion over the whole network. global: ‖A₁‖‖A₂‖, the paper's rate (R1); "
         "centred (R2) and scaled (R3): sharper one-sided rates; step (R8): the factor of a layer, not of the flow.")

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{line-height:1.2}.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.45rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}
th.n,td.n{text-align:right}
td.n{font-variant-numeric:tabular-nums;white-space:nowrap}th{border-bottom:2px solid #333}
.ok{color:#00613f;font-weight:600}.bad{color:#a11;font-weight:700}small{color:#555}
figure{margin:2rem 0}img{max-width:100%;height:auto}figcaption{color:#444}
@media print{body{margin:0;max-width:none}}
"""


def page_of(outcome: Outcome, figures: list[Figure], directory: Path) -> str:
    """The page, with the figures that lie in the directory inside."""
    word, kind = ("every statement holds and every control is violated", "ok") if outcome.passed else \
        ("a statement is violated or a control is not", "bad")
    s = outcome.settings
    body = [
        f'<h1>Stability theorems, checked</h1><p class="{kind}">Result: {word}.</p>',
        f"<p>{s.trials} random instances a statement, {s.ascent} steps of gradient ascent on the worst of each block, "
        f"and three networks of {DEPTH} layers trained for {s.epochs} epochs on handwritten digits, with {s.images} "
        f"test images each: clean, with Gaussian noise, and with one image added to all. Seed {s.seed}; diffincl "
        f"{__version__}, torch "
        f"{html.escape(torch.__version__)}.</p>",
        "<h2>Statements</h2>", _verdict_rows(outcome),
        "<p><small>A ratio of 1 means that the bound is attained. Violations are counted after the numerical error of "
        "the trajectories (rounding; for flows twice the step-doubling difference) is taken off. A control lies "
        "outside the hypothesis: there the same search must find a violation.</small></p>",
        f"<h2>How tight: the ladder of rates</h2><p><small>{html.escape(RUNGS)}</small></p>", _plain_rows(
            LADDER_HEADINGS, ladder_rows(outcome), range(2, 8)),
        f"<h2>Where the slack comes from</h2><p><small>{html.escape(SLACK_TITLE)}</small></p>", _plain_rows(
            SLACK_HEADINGS, slack_rows(outcome), range(2, 7)),
        *([f"<h2>From layers to the limit</h2><p><small>{html.escape(ORDER_TITLE)}</small></p>", _plain_rows(
            order_headings(outcome), order_rows(outcome), range(1, 8))] if outcome.orders else []),
        "<h2>Accuracy of the networks</h2>", _accuracy_rows(outcome)]
    for figure in figures:
        data = base64.b64encode((directory / figure.file).read_bytes()).decode()
        title, text = html.escape(figure.title), html.escape(figure.caption)
        body.append(f'<figure><h2>{title}</h2><img alt="{title}: {text}" src="data:image/png;base64,{data}">'
                    f"<figcaption>{text}</figcaption></figure>")
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width,initial-scale=1"><title>diffincl: stability theorems, checked</title>'
            f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n")


def _html_table(headings: tuple[str, ...], rows: list[str], numeric: range) -> str:
    """A table; headings of the columns ``numeric`` are set right, as their numbers are."""
    head = "".join(f'<th class="n">{h}</th>' if k in numeric else f"<th>{h}</th>" for k, h in enumerate(headings))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _verdict_rows(outcome: Outcome) -> str:
    rows = []
    for label, r in outcome.results.items():
        statement = STATEMENTS[label]
        kind = "ok" if r.holds and r.control_violated else "bad"
        rows.append(
            f"<tr><td><b>{label}</b> {html.escape(statement.title)}<br><small>{html.escape(statement.hypothesis)} ⇒ "
            f'{html.escape(statement.bound)}</small></td><td class="n">{r.trials}</td>'
            f'<td class="n">{number(r.worst_ratio)}</td><td>{html.escape(where(r))}</td>'
            f'<td>{html.escape(control_of(r))}</td><td class="{kind}">{verdict_of(r)}</td></tr>')
    return _html_table(HEADINGS, rows, range(1, 3))


def _plain_rows(headings: tuple[str, ...], rows: list[tuple[str, ...]], numeric: range) -> str:
    cells = ["<tr>" + "".join(f'<td class="n">{html.escape(cell)}</td>' if k in numeric else
                              f"<td>{html.escape(cell)}</td>" for k, cell in enumerate(row)) + "</tr>" for row in rows]
    return _html_table(headings, cells, numeric)


def _accuracy_rows(outcome: Outcome) -> str:
    kinds = ("clean", "Gaussian noise", "structured noise")
    rows = [f"<tr><td>{name}</td>" + "".join(f'<td class="n">{100 * found[k]:.1f} %</td>' for k in kinds) + "</tr>"
            for name, found in outcome.accuracies.items()]
    return _html_table(("network", *kinds), rows, range(1, 4))

