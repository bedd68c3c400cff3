"""Write the pages that come from the code, statements.md and commands.md: python docs/make.py."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import diffincl as di
from diffincl import cli

STATEMENTS = """# The statements

Written by `python docs/make.py` from the catalogue in `diffincl/statements/`; `diffincl check` checks them. Labels are
those of [the theory](theory.md), where the proofs are: C for the flow, D for the layers, L for the limit.
"""
COMMANDS = """# Commands

Written by `python docs/make.py` from the command line itself. `diffincl` and `python -m diffincl` are the same.
"""


def statements() -> str:
    """The catalogue, a heading a statement."""
    parts = [f"## {s.label}: {s.title}\n\n* **If** {s.hypothesis}\n* **then** {s.bound}\n* *Source:* {s.source}\n"
             for s in di.statements.values()]
    return "\n".join([STATEMENTS, *parts])


def commands() -> str:
    """Every command with its options."""
    parser = cli._parser()
    choices = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    parts = [f"## diffincl {name}\n\n{command.description}\n\n" + "\n".join(options(command)) + "\n"
             for name, command in choices.items()]
    return "\n".join([COMMANDS, *parts])


def options(command: argparse.ArgumentParser) -> Iterator[str]:
    """Rows of the table of a command."""
    yield from ("| option | meaning |", "|---|---|")
    for action in command._actions:
        if not isinstance(action, argparse._HelpAction):
            of = action.metavar or ("" if action.nargs == 0 else "{" + ",".join(map(str, action.choices or ())) + "}")
            words = " ".join([*(", ".join(action.option_strings).split()), str(of)]).strip()
            yield f"| `{words}` | {(action.help or '').replace('|', chr(92) + '|')} |"


PAGES = {"statements.md": statements, "commands.md": commands}

if __name__ == "__main__":
    for name, page in PAGES.items():
        Path(__file__).with_name(name).write_text(page(), encoding="utf-8")
