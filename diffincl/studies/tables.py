"""Results in tables: means over seeds with their spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from .grids import Grid
from .runner import Result

__all__ = ["TABLES", "Mean", "Table", "mean"]

NOISE, STRUCTURE = ("gaussian_noise", "0.2"), ("structured_noise", "0.5")
Value = dict[str, Any]


@dataclass(frozen=True)
class Mean:
    """Over the seeds, with the standard deviation (None for one seed)."""

    value: float
    spread: float | None
    seeds: int


@dataclass(frozen=True)
class Table:
    """Rows by name, of one mean a column; ``percent`` says how to print, ``axis`` what the columns are."""

    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[Mean | None, ...]]
    percent: bool = True
    axis: str = ""

    def markdown(self) -> str:
        """In Markdown."""
        lines = [f"**{self.title}**", "", "| | " + " | ".join(self.columns) + " |", "|---" * (len(self.columns) + 1)
                 + "|"]
        lines += [f"| {name} | " + " | ".join(map(self.word, row)) + " |" for name, row in self.rows.items()]
        return "\n".join(lines) + "\n"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        rows = {name: [None if m is None else [m.value, m.spread] for m in row] for name, row in self.rows.items()}
        return {"title": self.title, "columns": self.columns, "rows": rows}

    def word(self, m: Mean | None) -> str:
        """As it is printed."""
        if m is None:
            return "–"
        return self.figure(m) + (f" ± {100 * m.spread:.1f}" if self.percent and m.spread is not None else "")

    def figure(self, m: Mean) -> str:
        """The mean without its spread."""
        return f"{100 * m.value:.1f}" if self.percent else f"{m.value:.3g}"


def mean(values: Iterable[float | None]) -> Mean | None:
    """Of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Mean(fmean(known), stdev(known) if len(known) > 1 and all(map(math.isfinite, known)) else None, len(known))


def over_seeds(results: list[Result], key: Callable[[Result], Any], value: Callable[[Value], float | None]
               ) -> dict[Any, Mean | None]:
    """Means of a value over the results with the same key, in order; failed trainings count as accuracy unknown."""
    groups: dict[Any, list[float | None]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(None if "failed" in result[1] else value(result[1]))
    return {k: mean(values) for k, values in groups.items()}


def _grid_table(title: str, results: list[Result], value: Callable[[Value], float | None]) -> Table:
    """Families against depths."""
    means = over_seeds(results, lambda r: (r[0].family, r[0].job.depth), value)
    families, depths = dict.fromkeys(k[0] for k in means), sorted({k[1] for k in means})
    return Table(title, tuple(map(str, depths)), {f: tuple(means.get((f, d)) for d in depths) for f in families},
                 axis="layers a stage")


def _family_table(title: str, results: list[Result], columns: dict[str, Callable[[Value], float | None]],
                  percent: bool = True, axis: str = "") -> Table:
    """Families against quantities."""
    means = [over_seeds(results, lambda r: r[0].family, value) for value in columns.values()]
    return Table(title, tuple(columns), {f: tuple(column[f] for column in means) for f in means[0]}, percent,
                 axis)


def corrupted(name: str, size: str) -> Callable[[Value], float | None]:
    """Accuracy under a corruption."""
    return lambda v: v["corrupted"].get(name, {}).get(size)


def _depth(results: list[Result], grid: Grid) -> list[Table]:
    middle = sorted(grid.depths)[len(grid.depths) // 2]
    there = [r for r in results if r[0].job.depth == middle]
    times = [2, 4, 8]

    def deeper(k: int, what: str) -> Callable[[Value], float | None]:
        return lambda v: v["deeper"].get(str(k), {}).get(what)

    return [
        _grid_table("Accuracy (%) by layers a stage, clean", results, lambda v: v["clean"]),
        _grid_table(f"Accuracy (%) by layers a stage, Gaussian noise {NOISE[1]}", results, corrupted(*NOISE)),
        _grid_table(f"Accuracy (%) by layers a stage, structured noise {STRUCTURE[1]}", results, corrupted(*STRUCTURE)),
        _family_table(f"Trained with {middle} layers a stage, stepped through with more: accuracy (%)", there,
                      {f"{middle}": lambda v: v["clean"]} | {f"{k * middle}": deeper(k, "accuracy") for k in times}),
        _family_table("Relative distance of the head's argument from that with half as many layers", there,
                      {f"{k * middle}": deeper(k, "difference") for k in times}, percent=False)]


def _corruption(results: list[Result], grid: Grid) -> list[Table]:
    sizes = {(name, size): None for _, v in results if "failed" not in v for name, each in v["corrupted"].items()
             for size in each}
    columns = {"clean": lambda v: v["clean"]} | {f"{name.replace('_', ' ')} {size}": corrupted(name, size)
                                                 for name, size in sizes}
    return [_family_table(f"Accuracy (%) under corruptions, {grid.depth} layers a stage", results, columns)]


def _regularisation(results: list[Result], grid: Grid) -> list[Table]:
    columns = sorted({cell.job.recipe.control for cell, _ in results})

    def table(title: str, value: Callable[[Value], float | None], percent: bool = True) -> Table:
        means = over_seeds(results, lambda r: (r[0].family, r[0].job.recipe.control), value)
        families = dict.fromkeys(family for family, _ in means)
        return Table(title, tuple(f"{c:g}" for c in columns), {f: tuple(means.get((f, c)) for c in columns)
                                                               for f in families}, percent, "λ")

    return [table("Accuracy (%) by λ, clean", lambda v: v["clean"]),
            table(f"Accuracy (%) by λ, Gaussian noise {NOISE[1]}", corrupted(*NOISE)),
            table(f"Accuracy (%) by λ, structured noise {STRUCTURE[1]}", corrupted(*STRUCTURE)),
            table("Factor from the input to the argument of the head by λ, certified", lambda v: v["factor"], False),
            table("Expansion from the input to the argument of the head by λ, observed", lambda v: v["observed"],
                  False),
            table("J/λ by λ, e^{J/λ} bounds the factor of the layers at any depth", lambda v: v.get("exponent"),
                  False)]


def _certificate(results: list[Result], grid: Grid) -> list[Table]:
    radii = next((tuple(v["radius"]) for _, v in results if "failed" not in v), ())

    def at(radius: str, what: str) -> Callable[[Value], float | None]:
        return lambda v: v["radius"][radius][what]

    columns = {"clean": lambda v: v["clean"]}
    size = {"certified factor": lambda v: v["factor"], "observed": lambda v: v["observed"]}
    return [_family_table("Share (%) of test samples certified at ℓ2 radius", results,
                          columns | {r: at(r, "certified") for r in radii}, axis="ℓ2 radius"),
            _family_table("Accuracy (%) under attack (projected gradient ascent) at ℓ2 radius", results,
                          columns | {r: at(r, "attacked") for r in radii}, axis="ℓ2 radius"),
            _family_table("Sensitivity from the input to the argument of the head", results, size, percent=False)]


TABLES: dict[str, Callable[[list[Result], Grid], list[Table]]] = {
    "depth": _depth, "corruption": _corruption, "regularisation": _regularisation, "certificate": _certificate}
