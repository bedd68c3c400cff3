"""Reports: of a check, a table, report.json, figures and a self-contained page; of a study, its page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from ..experiment import Outcome
from ..storage import write_atomically
from .figures import figures_of
from .page import page_of
from .study import page_of_study
from .text import HEADINGS, as_json, as_table, plain

__all__ = ["HEADINGS", "as_json", "as_table", "page_of_study", "write"]


def write(outcome: Outcome, directory: Path, command: str = "") -> Path:
    """Write report.json, the witnesses, the figures and report.html to ``directory``; returns the path of the page,
    which names the ``command`` that was run."""
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
    page = page_of(outcome, figures, directory, command)
    write_atomically(directory / "report.html", lambda path: path.write_text(page, encoding="utf-8"))
    return directory / "report.html"
