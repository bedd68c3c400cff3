"""The command line: ``diffincl check``, ``diffincl replay`` and ``diffincl train``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from . import __version__, experiment, report
from .statements import STATEMENTS, read_witness, replay
from .study_command import add_experiment
from .train_command import add_train

__all__ = ["main"]

HOLDS, VIOLATED, BAD_USAGE, BROKEN_OFF = 0, 1, 2, 3  # argparse exits with 2 too


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    options.command = shlex.join(["diffincl", *arguments])
    return options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="diffincl", description="Differential inclusions: check their stability "
                                                                  "theorems on random and on trained networks.")
    parser.add_argument("--version", action="version", version=f"diffincl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser(
        "check", help="check the stability theorems",
        description="Check the stability theorems on random instances and on three networks trained on real images, "
                    "attack them by gradient ascent, and put each to a control that must violate it. Under torchrun "
                    "--nproc-per-node P -m diffincl check … the processes share the work. Exit status: 0 all hold, 1 a "
                    "statement is violated or a control is not, 2 bad usage, 3 a worker process was killed.",
        epilog="statements: " + "; ".join(f"{s.label} {s.title}" for s in STATEMENTS.values()))
    check.add_argument("labels", nargs="*", metavar="LABEL", type=_label, help="statements to check (default: all)")
    check.add_argument("--trials", type=_positive, metavar="N",
                       help="random instances a statement (default 1000, with --quick 64)")
    check.add_argument("--seed", type=_seed, default=0, metavar="S", help="seed of everything random (default 0)")
    check.add_argument("--out", type=Path, default=Path("out/check"), metavar="DIR",
                       help="folder of the report (default out/check); an interrupted run resumes from here")
    check.add_argument("--quick", action="store_true", help="fewer trials, images and epochs")
    check.add_argument("--workers", type=_positive, default=os.cpu_count() or 1, metavar="W",
                       help="processes that share the work (default: one a core); the result is the same")
    check.add_argument("--json", action="store_true", help="print the report as JSON instead of the table")
    check.set_defaults(run=_check)
    again = commands.add_parser(
        "replay", help="look again at a stored witness",
        description="Build the instance of a witness that diffincl check stored, solve it and put the claim to it "
                    "again. Exit status: 0 reproduced, 1 not reproduced, 2 bad usage.")
    again.add_argument("witness", type=Path, metavar="FILE", help="such as out/check/witnesses/C3.json")
    again.set_defaults(run=_replay)
    add_train(commands)
    add_experiment(commands)
    return parser


def _label(text: str) -> str:
    if text.upper() not in STATEMENTS:
        raise argparse.ArgumentTypeError(f"unknown statement {text!r}; choose from {', '.join(STATEMENTS)}")
    return text.upper()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 2^63 − 1; got {text!r}")
    return int(text)


def _check(options: argparse.Namespace) -> int:
    labels = tuple(dict.fromkeys(options.labels)) or tuple(STATEMENTS)
    settings = experiment.Settings.of(labels, options.trials, options.seed, options.quick)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"diffincl check: error: --out must be a folder that can be written; {error}", file=sys.stderr)
        return BAD_USAGE
    with experiment.shards() as among:
        try:
            outcome = _run(settings, options, among)
        except ChildProcessError as error:
            print(f"diffincl check: error: {error}", file=sys.stderr)
            return BROKEN_OFF
        among.exchange({})  # all have read the parts
        if among.first:
            page = report.write(outcome, options.out, options.command)
            print(json.dumps(report.as_json(outcome), indent=1, ensure_ascii=False) if options.json else
                  f"{report.as_table(outcome)}\n\nReport: {page}")
            experiment.Parts(options.out / "parts", settings).remove()
    return HOLDS if outcome.passed else VIOLATED


def _run(settings: experiment.Settings, options: argparse.Namespace, among: experiment.Shards) -> experiment.Outcome:
    """The run with a bar over the random instances of this process, shown by the first."""
    names = [name for stage in experiment.parts_of(settings) for name in among.mine(stage)]
    total = sum(experiment.trials_of(name, settings) for name in names)
    with tqdm(total=total, unit="trial", unit_scale=True, file=sys.stderr, dynamic_ncols=True,
              disable=not among.first) as bar:

        def advance(name: str) -> None:
            whose = f"process 1 of {among.size}, " if among.size > 1 else ""
            bar.set_description(f"{whose}{name} done")
            bar.update(experiment.trials_of(name, settings))

        workers = options.workers if among.size == 1 else 1
        return experiment.run(settings, options.out, advance, workers=workers, among=among)


def _replay(options: argparse.Namespace) -> int:
    try:
        witness = read_witness(options.witness)
        if witness.label not in STATEMENTS:
            raise ValueError(f"label must be one of {', '.join(STATEMENTS)} in a witness; got {witness.label!r}")
        again = replay(witness, STATEMENTS[witness.label])
    except (OSError, ValueError, TypeError, KeyError) as error:
        print(f"diffincl replay: error: {error}", file=sys.stderr)
        return BAD_USAGE
    print(f"{witness.label}, {witness.origin}; {witness.form}, t = {witness.time:g}\n"
          f"            observed          bound             ratio\n"
          f"stored      {witness.observed:<16.10g}  {witness.bound:<16.10g}  {witness.ratio:.10g}\n"
          f"replayed    {again.observed:<16.10g}  {again.bound:<16.10g}  {again.ratio:.10g}\n"
          f"{'reproduced' if again.reproduced else 'NOT reproduced'}")
    return HOLDS if again.reproduced else VIOLATED
