"""The report of a check: a table on the terminal, report.json, figures and a self-contained report.html."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from ..experiment import Outcome
from ..storage import write_atomically
from .figures import figures_of
from .page import page_of
from .text import HEADINGS, as_json, as_table, plain

__all__ = ["HEADINGS", "as_json", "as_table", "write"]


def write(outcome: Outcome, directory: Path) -> Path:
    """Write report.json, the witnesses, the figures and report.html to ``directory``; returns the path of the page."""
    write_atomically(directory / "report.json",
                     lambda path: path.write_text(json.dumps(as_json(outcome), indent=1, ensure_ascii=False),
                                                  encoding="utf-8"))
    for label, r in outcome.results.items():
        for name, witness in ((label, r.witness), (f"{label}-control", r.control.witness)):
            text = json.dumps(plain(asdict(witness)), ensure_ascii=False)
            write_atomically(directory / "witnesses" / f"{name}.json",
                             lambda path, text=text: path.write_text(text, encoding="utf-8"))
    figures = figures_of(outcome)
    for figure in figures:
        write_atomically(directory / figure.file, lambda path, figure=figure: figure.save(path))
    page = page_of(outcome, figures, directory)
    write_atomically(directory / "report.html", lambda path: path.write_text(page, encoding="utf-8"))
    return directory / "report.html"
