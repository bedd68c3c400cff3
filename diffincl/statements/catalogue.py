"""The catalogue of statements, in the order of their labels."""

from __future__ import annotations

from . import energy, flow, gradients, layers, leaks, limits, order, schemes, solutions
from .case import Statement

__all__ = ["STATEMENTS"]

FAMILIES = (flow, solutions, energy, leaks, order, gradients, layers, schemes, limits)


def _place(statement: Statement) -> tuple[int, int]:
    return "CDL".index(statement.label[0]), int(statement.label[1:])


STATEMENTS: dict[str, Statement] = {
    statement.label: statement
    for statement in sorted((s for family in FAMILIES for s in family.STATEMENTS), key=_place)}
