"""The page of a study."""

from __future__ import annotations

from html import escape
from pathlib import Path

from ..studies import STUDIES, Grid
from ..studies.figures import SHOWN
from ..studies.tables import Mean, Table
from .markup import Cell, Section, figure, page, summary, table
from .seen import extremes_of, seen_in_table
from .text import versions

__all__ = ["page_of_study"]


def page_of_study(study: str, grid: Grid, tables: list[Table], networks: int, failed: list[str], image: Path,
                  command: str) -> str:
    """Summary, figure and tables of a study, in one self-contained page.

    Parameters
    ----------
    study : str
        A key of ``STUDIES``.
    grid : Grid
    tables : list of Table
        What was found, as ``TABLES[study]`` puts it.
    networks : int
        How many were trained.
    failed : list of str
        The trainings that failed, one line each.
    image : Path
        The figure, a PNG file.
    command : str
        The command that was run, for the reader to run again.

    Returns
    -------
    str
        HTML.
    """
    panels = tables[SHOWN[study]]
    sections = [Section("figure", "At a glance", figure(image, " ".join(map(seen_in_table, panels)), _caption(panels)))]
    sections += [Section(f"table-{k}", t.title, table(_note(t, grid), ("family", *t.columns), _rows(t),
                                                      range(1, len(t.columns) + 1))) for k, t in enumerate(tables, 1)]
    if failed:
        items = "".join(f"<li>{escape(line)}</li>" for line in failed)
        sections.append(Section("failed", "Trainings that failed", f"<ul>{items}</ul>"))
    return page(f"diffincl experiment: {study}", _top(study, grid, tables, networks, failed, command), sections)


def _top(study: str, grid: Grid, tables: list[Table], networks: int, failed: list[str], command: str) -> str:
    """The question, whether all went well, what was found, and with what."""
    verdict = f"{len(failed)} of {networks} networks failed to train; the tables show the others." if failed else \
        f"All {networks} networks were trained and examined."
    return (f'<p>{escape(STUDIES[study].question)}</p><p class="verdict {"bad" if failed else "ok"}">{verdict}</p>'
            f"<ul>{''.join(f'<li>{escape(extremes_of(t))}</li>' for t in tables)}</ul>" + summary({"command": command,
                       "networks": f"{networks} of the kind {grid.model!r}, on {grid.data}", "epochs": str(grid.epochs),
                       "seeds": ", ".join(map(str, grid.numbers())),
                       "versions": ", ".join(f"{name} {version}" for name, version in versions().items())}))


def _caption(panels: list[Table]) -> str:
    titles = "; ".join(t.title for t in panels)
    return f"{titles}. Bars: standard deviation over the seeds. The numbers are in the tables below."


def _note(t: Table, grid: Grid) -> str:
    """The caption of a table: what its columns and its numbers are."""
    columns = f"Columns: {t.axis}. " if t.axis else ""
    spread = " ± standard deviation" if t.percent else ""
    return columns + ("One seed." if grid.seeds == 1 else f"Means over {grid.seeds} seeds{spread}.")


def _rows(t: Table) -> list[tuple[str | Cell, ...]]:
    def cell(m: Mean | None) -> Cell:
        return Cell(t.word(m).replace("± ", "±\N{NO-BREAK SPACE}"), sort="" if m is None else repr(m.value))

    return [(name, *map(cell, row)) for name, row in t.rows.items()]
