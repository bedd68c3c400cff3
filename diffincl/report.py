"""The report of a check: a table on the terminal, report.json, figures and a self-contained report.html."""

from __future__ import annotations

import base64
import html
import json
import math
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm

from . import __version__, bounds, plot
from .experiment import CONVERGED, DEPTH, NAMES, Ladder, Outcome, trained_cases
from .rates import RATES
from .schemes import ProxHeun
from .solve import solve
from .statements import STATEMENTS, CheckResult, network, pair
from .steps import Fixed
from .storage import write_atomically

__all__ = ["as_json", "as_table", "write"]

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
    verdicts = [(label, str(r.trials), _number(r.worst_ratio), _where(r), _control(r), _verdict(r))
                for label, r in outcome.results.items()]
    ladder = [(row.network, row.rate, *_ladder_cells(row)) for row in outcome.ladder]
    slack = [(row.network, row.rate, *_slack_cells(row)) for row in outcome.ladder]
    texts = [_columns(HEADINGS, verdicts), f"{LADDER_TITLE}\n{_columns(LADDER_HEADINGS, ladder)}",
             f"{SLACK_TITLE}\n{_columns(SLACK_HEADINGS, slack)}"]
    if outcome.orders:
        texts.append(f"{ORDER_TITLE}\n{_columns(_order_headings(outcome), _order_rows(outcome))}")
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
    return _plain({
        "passed": outcome.passed, "settings": asdict(outcome.settings), "statements": statements,
        "ladder": [asdict(row) for row in outcome.ladder], "orders": [asdict(o) for o in outcome.orders],
        "accuracy": outcome.accuracies,
        "versions": {"diffincl": __version__, "torch": torch.__version__, "python": platform.python_version()}})


def write(outcome: Outcome, directory: Path) -> Path:
    """Write report.json, the witnesses, the figures and report.html to ``directory``; returns the path of the page."""
    write_atomically(directory / "report.json",
                     lambda path: path.write_text(json.dumps(as_json(outcome), indent=1, ensure_ascii=False)))
    for label, r in outcome.results.items():
        for name, witness in ((label, r.witness), (f"{label}-control", r.control.witness)):
            text = json.dumps(_plain(asdict(witness)), ensure_ascii=False)
            write_atomically(directory / "witnesses" / f"{name}.json",
                             lambda path, text=text: path.write_text(text, encoding="utf-8"))
    figures = [("bounds.png", "Distance of trajectories over depth, against the bounds",
                "Each panel is one trained network. Blue: ‖x_k − y_k‖/‖x₀ − y₀‖ for pairs of test images, range and "
                "median. Lines: the product of layer factors by rate.", _bounds_figure(outcome)),
               ("trajectories.png", "Features over time, with contacts",
                "The flow of each network from one test image. A bar below the axis marks the time that the feature of "
                "that colour spends on the boundary x_i = 0.", _trajectories_figure(outcome))]
    for name, _, _, figure in figures:
        write_atomically(directory / name, lambda path, figure=figure: figure.savefig(path, format="png", dpi=150))
    page = _page(outcome, [(directory / name, title, text) for name, title, text, _ in figures])
    write_atomically(directory / "report.html", lambda path: path.write_text(page, encoding="utf-8"))
    return directory / "report.html"


# ----------------------------------------------------------------------------------------------------------------- text


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "∞"
    return f"{value:.3g}" if value >= 1e4 else f"{value:.4f}" if value < 10 else f"{value:.1f}"


def _where(r: CheckResult) -> str:
    return f"{r.witness.origin}; {r.witness.form}, t = {r.witness.time:g}"


def _control(r: CheckResult) -> str:
    word = "violated" if r.control_violated else "NOT violated"
    return f"{word}: {_number(r.control.worst_ratio)} ({r.control.origin})"


def _verdict(r: CheckResult) -> str:
    return "VIOLATED" if not r.holds else "holds" if r.control_violated else "control failed"


def _ladder_cells(row: Ladder) -> list[str]:
    return [_number(v) for v in (row.flow_bound, row.flow_observed, row.flow_bound / row.flow_observed,
                                 row.layer_bound, row.layer_observed, row.layer_bound / row.layer_observed)]


def _slack_cells(row: Ladder) -> list[str]:
    values = (math.log(row.flow_bound), math.log(row.flow_observed), row.norm, row.rate_slack, row.path)
    return [f"{v:.1e}" if 0 < abs(v) < 1e-4 else f"{v:.4f}" for v in values]


def _order_headings(outcome: Outcome) -> tuple[str, ...]:
    return ("statement", *(f"N = {n}" for n in outcome.orders[0].layers), "order", "worst observed/bound")


def _order_rows(outcome: Outcome) -> list[tuple[str, ...]]:
    return [(o.label, *(f"{e:.2e}" for e in o.errors), f"{o.order:.2f}", _number(o.ratio)) for o in outcome.orders]


def _columns(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[k]) for row in (headings, *rows)) for k in range(len(headings))]
    first, *rest = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                    for row in (headings, *rows)]
    return "\n".join([first, "-" * max(map(len, (first, *rest))), *rest])


def _plain(value: Any) -> Any:
    """Tensors as lists, floats that JSON lacks as strings."""
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


# -------------------------------------------------------------------------------------------------------------- figures


def _canvas(title: str, sharey: bool) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    figure.suptitle(title)
    return figure, figure.subplots(1, 3, sharey=sharey)


def _bounds_figure(outcome: Outcome) -> Any:
    figure, axes = _canvas("Distance of two trajectories over depth, relative to their initial distance", sharey=True)
    for ax, (variant, net) in zip(axes, outcome.networks.items(), strict=True):
        flow, t = net.layers.flow, net.layers.t
        layer = torch.arange(len(t))
        curves = {f"bound, {rate} rate": bounds.discrete_sensitivity(flow, t, rate=rate).curve for rate in RATES}
        observed = []
        with torch.no_grad():
            for case in trained_cases(variant, net, outcome.data, outcome.settings):
                x, y, _ = pair(network, case.flow, case.x0, case.y0, case.t)
                distance = vector_norm(x - y, dim=-1)
                observed.append(distance / distance[0])
        plot.bound(ax, layer, curves, torch.cat(observed, dim=1), "pairs of test images")
        ax.set_title(NAMES[variant])
        ax.set_xlabel("layer")
    axes[0].set_ylabel(r"$\|x_k - y_k\| \,/\, \|x_0 - y_0\|$")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _trajectories_figure(outcome: Outcome) -> Any:
    figure, axes = _canvas("Features of one test image along the flow; bars: contact with the boundary $x_i = 0$",
                           sharey=False)
    image = outcome.data.test_x[:1].double()
    for ax, (variant, net) in zip(axes, outcome.networks.items(), strict=True):
        t = torch.linspace(0, float(net.layers.t[-1]), 401, dtype=torch.float64)
        with torch.no_grad():
            sol = solve(net.layers.flow, net.features(image), t, scheme=ProxHeun(), steps=Fixed(n=CONVERGED))
        x = sol.x[:, 0]
        touches = ((x[1:] == 0) != (x[:-1] == 0)).any(0)
        chosen = torch.argsort(1e3 * touches + x.amax(0), descending=True, stable=True)[:5].sort().values
        plot.trajectory(ax, t, x[:, chosen], [f"feature {int(i)}" for i in chosen])
        ax.set_title(NAMES[variant])
        ax.set_xlabel(f"time t ({DEPTH} layers of length {net.h:g})")
        ax.legend(loc="best", fontsize="small", framealpha=0.9)
    axes[0].set_ylabel("feature $x_i(t)$")
    return figure


# ----------------------------------------------------------------------------------------------------------------- page

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


def _page(outcome: Outcome, figures: list[tuple[Path, str, str]]) -> str:
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
        "<h2>How tight: the ladder of rates</h2>", _ladder_rows(outcome),
        f"<h2>Where the slack comes from</h2><p><small>{html.escape(SLACK_TITLE)}</small></p>", _plain_rows(
            SLACK_HEADINGS, [(row.network, row.rate, *_slack_cells(row)) for row in outcome.ladder], range(2, 7)),
        *([f"<h2>From layers to the limit</h2><p><small>{html.escape(ORDER_TITLE)}</small></p>", _plain_rows(
            _order_headings(outcome), _order_rows(outcome), range(1, 8))] if outcome.orders else []),
        "<h2>Accuracy of the networks</h2>", _accuracy_rows(outcome)]
    for path, title, text in figures:
        data = base64.b64encode(path.read_bytes()).decode()
        body.append(f'<figure><h2>{title}</h2><img alt="{html.escape(title)}: {html.escape(text)}" '
                    f'src="data:image/png;base64,{data}"><figcaption>{html.escape(text)}</figcaption></figure>')
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
            f'<td class="n">{_number(r.worst_ratio)}</td><td>{html.escape(_where(r))}</td>'
            f'<td>{html.escape(_control(r))}</td><td class="{kind}">{_verdict(r)}</td></tr>')
    return _html_table(HEADINGS, rows, range(1, 3))


def _ladder_rows(outcome: Outcome) -> str:
    rows = []
    for row in outcome.ladder:
        numbers = "".join(f'<td class="n">{cell}</td>' for cell in _ladder_cells(row))
        rows.append(f"<tr><td>{row.network}</td><td>{row.rate}</td>{numbers}</tr>")
    return _html_table(LADDER_HEADINGS, rows, range(2, 8))


def _plain_rows(headings: tuple[str, ...], rows: list[tuple[str, ...]], numeric: range) -> str:
    cells = ["<tr>" + "".join(f'<td class="n">{html.escape(cell)}</td>' if k in numeric else
                              f"<td>{html.escape(cell)}</td>" for k, cell in enumerate(row)) + "</tr>" for row in rows]
    return _html_table(headings, cells, numeric)


def _accuracy_rows(outcome: Outcome) -> str:
    kinds = ("clean", "Gaussian noise", "structured noise")
    rows = [f"<tr><td>{name}</td>" + "".join(f'<td class="n">{100 * found[k]:.1f} %</td>' for k in kinds) + "</tr>"
            for name, found in outcome.accuracies.items()]
    return _html_table(("network", *kinds), rows, range(1, 4))

