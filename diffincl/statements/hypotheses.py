"""Hypotheses as code: which part of one a case misses, and by how much; empty where it is met."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ..bounds.pieces import starts_at_zero
from ..fields import ResNetDField, ResNetField, ResNetSField, Weights
from ..functions import Box, ConvexSet, Orthant, Whole
from ..norms import dense
from ..steps import plan
from .case import Case

__all__: list[str] = []

Hypothesis = Callable[[Case], str]

STANDING = "weights that stand still between knots"
ROOM = 1 + 1e-12  # for the rounding of the weights themselves


def all_of(*parts: Hypothesis) -> Hypothesis:
    """The first part that is missed."""
    return lambda case: next((reason for part in parts if (reason := part(case))), "")


def not_convex(case: Case) -> str:
    return "" if case.flow.g.convex else "g is not convex"


def no_set(case: Case) -> str:
    return "" if isinstance(case.flow.g, ConvexSet) else "g is not the indicator of a convex set"


def set_moves(case: Case) -> str:
    return f"C moves ({case.flow.g})" if case.flow.g.moving else ""


def zero_not_minimal(case: Case) -> str:
    zero = torch.zeros_like(case.x0[..., :1, :])
    moved = [float(case.flow.g.prox(zero, 1.0, t).abs().max()) for t in case.t.tolist()]
    return not_convex(case) or (f"0 does not minimise g (0 is not in C): prox(0) is {max(moved):.4g} away" if max(moved)
                                else "")


def not_by_coordinate(case: Case) -> str:
    return "" if case.flow.g.coordinatewise else "the prox of g does not act coordinate by coordinate"


def no_box(case: Case) -> str:
    return "" if isinstance(case.flow.g, Whole | Orthant | Box) else "C is neither the orthant nor a box"


def no_orthant(case: Case) -> str:
    return "" if isinstance(case.flow.g, Orthant) else "C is not the orthant"


def not_decay(case: Case) -> str:
    field = case.flow.field
    if not isinstance(field, ResNetDField):
        least = float(case.weights["A2"].min()) if "A2" in case.weights else None
        return f"A₂ is not ≥ 0: its least entry is {least:.4g}" if least is not None and least < 0 \
            else "A₂ is not constrained to be nonnegative"
    field.check_structure()
    return "" if starts_at_zero(case.flow) else "C is neither the orthant nor a box [0, u]"


def not_symmetric(case: Case) -> str:
    return "" if isinstance(case.flow.field, ResNetSField) else "A₂ is not A₁ᵀ"


def not_resnet(case: Case) -> str:
    return "" if isinstance(case.flow.field, ResNetField) else "F is not A₂σ(A₁x + b₁) − b₂"


def weights_move(case: Case) -> str:
    """The integrals along trajectories that some claims take are enclosed for weights that stand still."""
    moves = isinstance(case.flow.field, ResNetField) and case.flow.field.time_dependent_within_a_step
    return "the weights move between their knots; sample the curves: curve.sample(n)" if moves else ""


def changes_in_time(case: Case) -> str:
    """Weights that change between the save times."""
    rows = [weights for _, weights in steps_of(case)]
    change = max(float((a - b).abs().max()) for row in rows for a, b in zip(row, rows[0], strict=True))
    return f"the weights change in time, by up to {change:.4g}" if change else ""


def steps_of(case: Case) -> list[tuple[float, Weights]]:
    """Length and weights (at its start) of every step between the save times."""
    field = case.flow.field
    assert isinstance(field, ResNetField)
    return [(b - a, field.weights_on(a, b)(a)) for a, b in pairwise(plan(field, case.t).stops)]


def above(limit: float | None = None) -> Hypothesis:
    """h‖A‖² <= ``limit`` (by default the one the case gives) in every layer."""

    def outside(case: Case) -> str:
        bound = float(case.number("limit")) if limit is None else limit
        for k, (h, weights) in enumerate(steps_of(case)):
            worst = h * float(dense(weights.A1).value.max()) ** 2
            if worst > bound * ROOM:
                return f"h‖A‖² = {worst:.4g} > {bound:g} in layer {k}"
        return ""

    return outside


def not_its_own(case: Case) -> str:
    """The factor of a scheme is put to other steps."""
    run, claimed = case.given.get("steps", ""), case.given.get("factor", "")
    return "" if run == claimed else f"the steps are those of {run}, the factor is that of {claimed}"


def other_set(case: Case) -> str:
    if case.other is None:
        return "there is no second field"
    same = case.other.g is case.flow.g or repr(case.other.g) == repr(case.flow.g)
    return "" if same else f"x and y live in different sets, {case.flow.g} and {case.other.g}"


def largest(x: Tensor) -> float:
    return float(x.max())
