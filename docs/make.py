"""Write docs/statements.md from the catalogue: python docs/make.py."""

from pathlib import Path

import diffincl as di

HEAD = """# The statements

Written by `python docs/make.py` from the catalogue in `diffincl/statements/`. Check them with `diffincl check`.
Labels are those of the theory: C for the continuous flow, D for the discrete network.
"""


def page() -> str:
    """The page as Markdown."""
    rows = [f"| {s.label} | {s.title} | {s.hypothesis} | {s.bound} | {s.source} |" for s in di.statements.values()]
    return "\n".join([HEAD, "| label | about | hypothesis | claim | source |", "|---|---|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("statements.md").write_text(page(), encoding="utf-8")
