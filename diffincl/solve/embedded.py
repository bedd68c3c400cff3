"""Step control for one-step schemes that estimate their own error."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..fields import FieldFunction
from ..schemes import ARS222, Embedded, ProxHeun
from ..switching import Attempt, Segment, Tolerance
from .motion import way_back
from .watch import WatchedProx

__all__ = ["EmbeddedStepper"]


class Contact(NamedTuple):
    """``touching`` (*batch, d) bool: whether the prox moved the coordinate in the step before."""

    touching: Tensor


class EmbeddedStepper:
    """A scheme with an error estimate on an interval without knots.

    A moving set can capture a sample between two evaluations without a trace in the estimate, and a hit of a curved set
    leaves too small a one. So where g moves or is no polyhedron and the prox begins to displace a coordinate within a
    step, the displacement counts as error: the step is shortened until the sample cannot have got further past the
    boundary than the tolerance (theory §6). And what a moving set pushed while it came and left again where it is not
    looked at, the proxes do not know of: the way back of its motion counts as error as well.

    Steps that cross a kink of g (ℓ1) may all be off by the same, however long they are. So where a sample leaves its
    side of a kink, all that it moves counts as error: the step is shortened until that is below the tolerance.
    """

    lead = 0  # F and g see the whole batch

    def __init__(self, scheme: ProxHeun | ARS222, F: FieldFunction, g: WatchedProx, polyhedral: bool):
        self.scheme, self.F, self.g = scheme, F, g
        self.watched = g.moving or not polyhedral
        self.error_order = scheme.error_order

    def start(self, t: Tensor, x: Tensor) -> Contact:
        """Whether a sample touches is not known yet."""
        return Contact(torch.zeros_like(x, dtype=torch.bool))

    def attempt(self, t: Tensor, h: Tensor, x: Tensor, mode: Contact, tolerance: Tolerance | None) -> Attempt:
        """A step with its error estimate."""
        assert tolerance is not None
        e = self._step(t, h, x)
        error = e.error.abs()
        if self.watched:
            error = torch.where(mode.touching, error, torch.maximum(error, e.displacement))
        if self.g.moving:
            error = torch.maximum(error, way_back(self.g, t, h, x, e.free))
        error = torch.where(self._leaves_a_side(t, h, x, e.x), torch.maximum(error, (e.x - x).abs()), error)
        scale = tolerance.scale(x, e.x)
        ratio = (error / scale).amax(-1, keepdim=True)
        after = Contact(torch.where(h > 0, e.displacement > 0, mode.touching))
        return Attempt(e.x, torch.ones_like(h), ratio, mode, after, _straight(h, x, e))

    def advance(self, t: Tensor, span: Tensor, theta: Tensor, x: Tensor, mode: Contact) -> tuple[Tensor, Segment]:
        """An accepted step again, for its derivatives."""
        e = self._step(t, span, x)
        return e.x, _straight(span, x, e)

    def of(self, who: Tensor) -> EmbeddedStepper:
        """All samples stay."""
        return self

    def _leaves_a_side(self, t: Tensor, h: Tensor, x: Tensor, x_next: Tensor) -> Tensor:
        """Which samples are on a kink of g at the end of the step, or beyond it, and were not at its start."""
        sides = (self.g.g.kink_sides(x, t.to(x)), self.g.g.kink_sides(x_next, (t + h).to(x)))
        if sides[0] is None or sides[1] is None:
            return torch.zeros_like(t, dtype=torch.bool)
        return ((sides[0] != 0) & (sides[0] != sides[1])).any(-1, keepdim=True)

    def _step(self, t: Tensor, h: Tensor, x: Tensor) -> Embedded:
        """The step; of a sample that leaves the tube around a prox-regular set it is NaN, and tried shorter."""
        if self.g.limited:
            self.g.begin(x, t.to(x))
        return self.scheme.embedded(self.F, self.g, t.to(x), (t + h).to(x), h.to(x), x)


def _straight(h: Tensor, x: Tensor, e: Embedded) -> Segment:
    """The line from x to the end of the step with the multiplier there."""
    multiplier = torch.where(h > 0, (e.z - e.x) / torch.where(h > 0, e.prox_step, 1.0).to(x), 0.0)
    return Segment(h, torch.stack([x, e.x - x], -2), multiplier.unsqueeze(-2), torch.ones_like(x, dtype=torch.bool))
