"""Run a study: cells in several processes, finished ones from disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import Future, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..data import ImageData
from ..storage import code_digest, write_atomically
from ..training import Trainer
from ..workers import pool
from .grids import STUDIES, Cell, Grid
from .measures import examine

__all__ = ["Result", "run"]

Result = tuple[Cell, dict[str, Any]]


def run(study: str, grid: Grid, out: Path, *, folder: Path | None = None, workers: int = 1,
        advance: Callable[[str], object] = lambda name: None) -> list[Result]:
    """All cells of a study, in the order of its grid.

    Parameters
    ----------
    study : str
        A key of ``STUDIES``.
    grid : Grid
    out : Path
        Finished cells lie in ``out``/cells; those of the same settings and the same code are not run again.
    folder : Path, optional
        Of the data, for CIFAR.
    workers : int
        Processes.
    advance : callable
        Called with the name of every cell as it is finished.
    """
    cells = STUDIES[study].cells(grid)
    found = {cell: kept for cell in cells if (kept := _read(out, cell)) is not None}
    for cell in found:
        advance(cell.name)
    missing = [cell for cell in cells if cell not in found]
    if workers == 1 or len(missing) < 2:
        for cell in missing:
            found[cell] = _finish(out, cell, folder)
            advance(cell.name)
        return [(cell, found[cell]) for cell in cells]
    with pool(workers) as processes:
        futures: dict[Future[dict[str, Any]], Cell] = {processes.submit(_finish, out, c, folder): c for c in missing}
        for future in as_completed(futures):
            found[futures[future]] = future.result()
            advance(futures[future].name)
    return [(cell, found[cell]) for cell in cells]


def _finish(out: Path, cell: Cell, folder: Path | None) -> dict[str, Any]:
    """Train, examine and keep a cell."""
    value = _train(cell, folder)
    entry = {"settings": asdict(cell), "code": code_digest(), "value": value}
    write_atomically(_path(out, cell), lambda path: path.write_text(json.dumps(entry, indent=1)))
    return value


def _train(cell: Cell, folder: Path | None) -> dict[str, Any]:
    """What is found of the trained network; of one whose training fails, the failure."""
    data = cell.job.load_data(folder)
    trainer = Trainer(cell.job.network(data.classes, data.shape), data, cell.job.recipe)
    try:
        for _ in range(cell.job.recipe.epochs):
            loss, _, _ = trainer.learn()
    except ArithmeticError as error:
        return {"failed": str(error)}
    shaped: ImageData = trainer.data
    value = examine(trainer.net, shaped, cell.job.recipe.seed, cell.parts)
    if cell.job.recipe.control:
        value["exponent"] = trainer.measure(loss)["exponent"]
    return value


def _read(out: Path, cell: Cell) -> dict[str, Any] | None:
    """A finished cell of the same settings and code."""
    try:
        entry = json.loads(_path(out, cell).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    same = entry["settings"] == json.loads(json.dumps(asdict(cell))) and entry["code"] == code_digest()
    return entry["value"] if same else None


def _path(out: Path, cell: Cell) -> Path:
    settings = json.dumps(asdict(cell), sort_keys=True).encode()
    return out / "cells" / f"{cell.name}-{hashlib.sha256(settings).hexdigest()[:8]}.json"
