"""Parts of a self-contained page: tables, figures, the frame with its style and script."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

__all__ = ["Cell", "Section", "figure", "page", "summary", "table"]

MANY = 9  # columns; a table with more is set smaller on paper


@dataclass(frozen=True)
class Cell:
    """Text of a cell; ``detail`` stands small below it, ``sort`` is a number to sort by, ``kind`` a class of style."""

    text: str
    detail: str = ""
    sort: str = ""
    kind: str = ""

    def markup(self, *, numeric: bool) -> str:
        """As a cell of the body of a table."""
        kinds = " ".join(filter(None, (self.kind, "n" if numeric else "")))
        attributes = (f' class="{kinds}"' if kinds else "") + (f' data-sort="{escape(self.sort)}"' if self.sort else "")
        detail = f"<br><small>{escape(self.detail)}</small>" if self.detail else ""
        return f"<td{attributes}>{escape(self.text)}{detail}</td>"


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading that the contents point to."""

    name: str
    title: str
    body: str

    def markup(self) -> str:
        """Heading and body."""
        heading = f'<h2 id="{self.name}">{escape(self.title)}</h2>'
        return f'<section aria-labelledby="{self.name}">{heading}{self.body}</section>'


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str | Cell]], numeric: Iterable[int]) -> str:
    """A table in a box of its own that scrolls where it is too wide; the first cell of a row is its heading."""
    right, kind = set(numeric), ' class="wide"' if len(headings) > MANY else ""
    head = "".join(f'<th scope="col"{_class(k in right)}>{escape(h)}</th>' for k, h in enumerate(headings))
    lines = []
    for row in rows:
        first, *rest = (cell if isinstance(cell, Cell) else Cell(cell) for cell in row)
        lines.append(f'<tr><th scope="row">{escape(first.text)}</th>'
                     + "".join(cell.markup(numeric=k in right) for k, cell in enumerate(rest, 1)) + "</tr>")
    return (f'{_box("table: " + caption)}<table{kind}><caption><span>{escape(caption)}</span></caption>'
            f'<thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>')


def figure(image: Path, alternative: str, caption: str) -> str:
    """A PNG file inside the page, with the text for those who do not see it."""
    data = base64.b64encode(image.read_bytes()).decode()
    return (f'<figure>{_box("figure")}<img alt="{escape(alternative)}" src="data:image/png;base64,{data}"></div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>")


def summary(entries: dict[str, str]) -> str:
    """What was done, with what, in a list of names and values; the command is broken between words only."""
    code = " ".join(f"<span>{escape(word)}</span>" for word in entries.get("command", "").split())
    rows = (f"<dt>{escape(name)}</dt><dd>{f'<code>{code}</code>' if name == 'command' else escape(text)}</dd>"
            for name, text in entries.items() if text)
    return f"<dl>{''.join(rows)}</dl>"


def page(title: str, top: str, sections: Sequence[Section]) -> str:
    """The whole page; nothing in it is fetched from elsewhere."""
    style, script = ((files("diffincl.report") / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    contents = "".join(f'<li><a href="#{s.name}">{escape(s.title)}</a></li>' for s in sections)
    body = "\n".join(s.markup() for s in sections)
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
            f"<title>{escape(title)}</title><style>{style}</style></head>\n<body><main><h1>{escape(title)}</h1>{top}"
            f'<nav aria-label="contents"><ul>{contents}</ul></nav>\n{body}</main>\n'
            f"<script>{script}</script></body></html>\n")


def _class(numeric: bool) -> str:
    return ' class="n"' if numeric else ""


def _box(label: str) -> str:
    """A box that scrolls sideways, by keyboard, too."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">'
