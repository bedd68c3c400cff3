"""The nearest weights inside a hypothesis, for the ascent over weights."""

from __future__ import annotations

from torch import Tensor
from torch.linalg import matrix_norm

from ..fields import ResNetDField
from .case import Case, Keep

__all__: list[str] = []

Weights = dict[str, Tensor]

LARGEST_NORM, LARGEST_BIAS = 3.0, 4.0  # so that an ascent stays where trajectories are resolved


def modest(case: Case, weights: Weights) -> Weights:
    """Any weights, of norm at most ``LARGEST_NORM``; for ResNet-D A2 >= 0."""
    kept = {name: _short(w, LARGEST_NORM) if w.ndim > 1 and name.startswith(("A", "M")) else
            w.clamp(-LARGEST_BIAS, LARGEST_BIAS) for name, w in weights.items()}
    return kept | {"A2": kept["A2"].clamp_min(0)} if isinstance(case.flow.field, ResNetDField) else kept


def under(limit: float | None = None) -> Keep:
    """h‖A‖² <= limit (by default the one the case gives), by the longest step between the save times."""

    def keep(case: Case, weights: Weights) -> Weights:
        square = float(case.number("limit")) if limit is None else limit
        largest = (square * (1 - 1e-9) / float(case.t.diff().max())) ** 0.5
        return modest(case, weights) | {"A": _short(weights["A"], min(largest, LARGEST_NORM))}

    return keep


def _short(A: Tensor, largest: float) -> Tensor:
    """A, shortened where its norm is larger."""
    return A * (largest / matrix_norm(A, 2).clamp_min(1e-300)).clamp_max(1.0)[..., None, None]
