"""The page of a check."""

from __future__ import annotations

from pathlib import Path

from ..experiment import DEPTH, Outcome
from ..statements import STATEMENTS, CheckResult
from .figures import Figure
from .markup import Cell, Section, figure, page, summary, table
from .seen import seen_in
from .text import (
    LADDER_HEADINGS,
    ORDER_TITLE,
    SLACK_TITLE,
    control_of,
    ladder_rows,
    number,
    order_headings,
    order_rows,
    slack_rows,
    verdict_of,
    versions,
    where,
)

__all__ = ["page_of"]

TITLE = "diffincl check: stability theorems"
VERDICTS = ("A ratio observed/bound of 1 means that the bound is attained. Violations are counted after the numerical "
            "error of the trajectories (rounding; for flows twice the step-doubling difference) is taken off. A "
            "control lies outside the hypothesis: there the same search must find a violation.")
RUNGS = ("Bound and worst pair found, as expansion over the whole network. global: ‖A₁‖‖A₂‖, the paper's rate (R1); "
         "centred (R2) and scaled (R3): sharper one-sided rates; step (R8): the factor of a layer, not of the flow.")
VERDICT_HEADINGS = ("label", "verdict", "what it says", "worst observed/bound", "control", "instances", "where")
SLACK_HEADINGS = ("network", "bound by rate", "log bound", "log worst", "norm", "rate", "path")


def page_of(outcome: Outcome, figures: list[Figure], directory: Path, command: str) -> str:
    """The page, with the figures that lie in the directory inside."""
    sections = [
        Section("statements", "Statements", table(VERDICTS, VERDICT_HEADINGS, [
            _verdict_row(label, r) for label, r in outcome.results.items()], (3, 5))),
        Section("ladder", "How tight: the ladder of rates", table(
            RUNGS, LADDER_HEADINGS, ladder_rows(outcome), range(2, 8))),
        Section("slack", "Where the slack comes from", table(
            SLACK_TITLE.rstrip(":") + ".", SLACK_HEADINGS, slack_rows(outcome), range(2, 7)))]
    if outcome.orders:
        headings = order_headings(outcome)
        sections.append(Section("orders", "From layers to the limit", table(
            ORDER_TITLE.rstrip(":") + ".", headings, order_rows(outcome), range(1, len(headings)))))
    kinds = ("clean", "Gaussian noise", "structured noise")
    sections.append(Section("accuracy", "Accuracy of the networks", table(
        "Share of the test images that are classified rightly.", ("network", *kinds),
        [(name, *(f"{100 * found[k]:.1f} %" for k in kinds)) for name, found in outcome.accuracies.items()],
        range(1, 4))))
    seen = seen_in(outcome, figures)
    sections += [Section(f.file.removesuffix(".png"), f.title, figure(directory / f.file, seen[f.file], f.caption))
                 for f in figures]
    return page(TITLE, _top(outcome, command), sections)


def _top(outcome: Outcome, command: str) -> str:
    """The verdict in words, and what was checked with what."""
    s, results = outcome.settings, outcome.results
    what = f"all {len(results)} statements" if tuple(results) == tuple(STATEMENTS) else ", ".join(results)
    tightest = max(results, key=lambda label: results[label].worst_ratio)
    return (f'<p class="verdict {"ok" if outcome.passed else "bad"}">{_verdict(outcome)}</p>' + summary({
        "command": command,
        "checked": f"{what}: {s.trials} random instances each, {s.ascent} steps of gradient ascent on the worst of "
                   f"each block of them",
        "networks": f"{', '.join(outcome.accuracies)}, {DEPTH} layers each, trained for {s.epochs} epochs on "
                    f"handwritten digits; looked at on {s.images} test images: clean, with Gaussian noise, with one "
                    f"image added to all",
        "tightest": f"{tightest}, observed/bound {number(results[tightest].worst_ratio)}",
        "seed": str(s.seed),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items())}))


def _verdict(outcome: Outcome) -> str:
    """Which statements and controls are as they should be, and which are not."""
    results = outcome.results
    violated = [label for label, r in results.items() if not r.holds]
    missed = [label for label, r in results.items() if not r.control_violated]
    statements = (f"{len(violated)} of {len(results)} statements violated: {', '.join(violated)}." if violated else
                  f"All {len(results)} statements hold." if len(results) > 1 else f"{', '.join(results)} holds.")
    controls = (f"Outside the hypothesis of {', '.join(missed)} no violation was found, where there must be one."
                if missed else "Outside its hypothesis the search finds a violation of each, as it must."
                if len(results) > 1 else "Outside its hypothesis the search finds a violation, as it must.")
    return f"{statements} {controls}"


def _verdict_row(label: str, r: CheckResult) -> tuple[str | Cell, ...]:
    statement = STATEMENTS[label]
    return (label, Cell(verdict_of(r), kind="ok" if r.holds and r.control_violated else "bad"),
            Cell(statement.title, f"{statement.hypothesis} ⇒ {statement.bound}", kind="long"),
            Cell(number(r.worst_ratio), sort=repr(r.worst_ratio)),
            Cell(control_of(r), sort=repr(r.control.worst_ratio), kind="text"), str(r.trials),
            Cell(where(r), kind="text"))
