"""``diffincl experiment``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .report import page_of_study
from .storage import write_atomically
from .studies import STUDIES, Grid, run
from .studies.figures import draw
from .studies.tables import TABLES
from .training import DATA, MODELS

__all__ = ["add_experiment"]

DONE, BAD_USAGE, BROKEN_OFF, INTERRUPTED = 0, 2, 3, 130


def add_experiment(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "experiment", help="train and examine networks over a grid",
        description="Train networks over a grid, examine each, and write DIR/NAME.html, NAME.md, NAME.json and "
                    "NAME.png. Finished networks lie in DIR/cells and are not trained again. Exit status: 0 done, 2 "
                    "bad usage or a file that cannot be read or written, 3 a worker process was killed, 130 "
                    "interrupted.",
        epilog=" ".join(f"{name}: {study.question}" for name, study in STUDIES.items()))
    parser.add_argument("study", choices=tuple(STUDIES), metavar="NAME", help=", ".join(STUDIES))
    parser.add_argument("--data", choices=DATA, default="digits", help="data set (default digits)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the files of cifar10 or cifar100 are")
    parser.add_argument("--model", choices=MODELS, default="dense", help="kind of network (default dense)")
    parser.add_argument("--families", type=_words, default=(), metavar="A,B",
                        help="default: all of the model, but on images cpl, which is slow")
    parser.add_argument("--depths", type=_numbers, default=Grid.depths, metavar="N,N",
                        help="layers a stage in the study of depth (default 4,8,16,32,64)")
    parser.add_argument("--depth", type=int, default=Grid.depth, metavar="N", help="in the others (default 10)")
    parser.add_argument("--epochs", type=int, default=Grid.epochs, metavar="N", help="of each network (default 100)")
    parser.add_argument("--seeds", type=int, default=Grid.seeds, metavar="N", help="0 … N − 1 (default 3)")
    parser.add_argument("--seed", type=int, default=Grid.seed, metavar="S", help="the first of them (default 0)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of cells, tables and figures")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="W",
                        help="processes that share the networks (default: one a core)")
    parser.set_defaults(run=_experiment)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be whole numbers with commas between them; got {text!r}") from error


def _experiment(options: argparse.Namespace) -> int:
    try:
        grid = Grid(options.data, options.model, options.families, options.depths, options.depth, options.epochs,
                    options.seeds, options.seed)
        _tell(options, grid)
    except KeyboardInterrupt:
        print(f"diffincl experiment: interrupted; the same command goes on with what is in {options.out}",
              file=sys.stderr)
        return INTERRUPTED
    except ChildProcessError as error:
        print(f"diffincl experiment: error: {error}", file=sys.stderr)
        return BROKEN_OFF
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        print(f"diffincl experiment: error: {error}", file=sys.stderr)
        return BAD_USAGE
    return DONE


def _tell(options: argparse.Namespace, grid: Grid) -> None:
    """Run the cells under a bar, write what they show, print the tables."""
    name, out = options.study, options.out
    with tqdm(total=len(STUDIES[name].cells(grid)), unit="network", file=sys.stderr, dynamic_ncols=True) as bar:
        def advance(cell: str) -> None:
            bar.set_postfix_str(cell)
            bar.update()

        results = run(name, grid, out, folder=options.folder, workers=options.workers, advance=advance)
    tables = TABLES[name](results, grid)
    failed = [f"{cell.name}: {value['failed']}" for cell, value in results if "failed" in value]
    text = "\n".join([STUDIES[name].question, f"\n{grid.words()}\n", *(table.markdown() for table in tables),
                      *(["Trainings that failed:", "", *(f"* {line}" for line in failed), ""] if failed else [])])
    plain = json.dumps({"study": name, "grid": grid.settings(), "tables": [t.plain() for t in tables],
                        "failed": failed}, indent=1)
    write_atomically(out / f"{name}.md", lambda path: path.write_text(text, encoding="utf-8"))
    write_atomically(out / f"{name}.json", lambda path: path.write_text(plain))
    draw(name, tables, out / f"{name}.png")
    page = page_of_study(name, grid, tables, len(results), failed, out / f"{name}.png", options.command)
    write_atomically(out / f"{name}.html", lambda path: path.write_text(page, encoding="utf-8"))
    print(text)
    print(f"Report: {out / f'{name}.html'}", file=sys.stderr)
