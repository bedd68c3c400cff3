"""The hypotheses of bounds, as errors."""

from __future__ import annotations

import torch
from torch import Tensor

from ..fields import ResNetDField, ResNetField
from ..functions import Box, Orthant
from ..inclusion import Inclusion
from ..steps import Plan

__all__ = ["require_coordinatewise", "require_hypothesis", "require_start", "starts_at_zero"]


def require_coordinatewise(flow: Inclusion, what: str) -> None:
    """Norms other than ℓ2 need a prox that is nonexpansive in them."""
    if not flow.g.coordinatewise:
        raise ValueError(f"{what} needs a g whose prox acts coordinate by coordinate, such as Orthant or Box; got "
                         f"{flow.g}. Use p = 2 and rate='scaled' or 'best'.")


def require_hypothesis(flow: Inclusion) -> None:
    """Bounds need a convex g, whose normal cones are monotone, and the structure that the field claims."""
    if not flow.g.convex:
        raise ValueError(f"bounds need a convex g, whose normal cones are monotone; {flow.g} is not convex.")
    if isinstance(flow.field, ResNetDField):
        flow.field.check_structure()


def starts_at_zero(flow: Inclusion) -> bool:
    """Whether the set is the orthant or a box [0, u]."""
    g = flow.g
    return isinstance(g, Orthant) or (isinstance(g, Box) and bool((torch.as_tensor(g.lower) == 0).all()))


def require_start(flow: Inclusion, x0: Tensor, layout: Plan) -> None:
    """Growth bounds need a state that fits, lies in C, and 0 ∈ argmin g at all times."""
    if not isinstance(flow.field, ResNetField):
        raise ValueError("growth bounds need F(t, 0) between the save times, which a plain callable does not tell. Use "
                         "a ResNet field.")
    require_hypothesis(flow)
    flow.validate(x0, layout.stops[0])
    zero = torch.zeros_like(x0).reshape(-1, x0.shape[-1])[:1]
    for t in layout.boundaries():
        if bool(flow.g.prox(zero, 1.0, t).any()):
            raise ValueError(f"growth bounds need 0 to minimise g (for a set: 0 in C); at t = {t:g} it does not for "
                             f"{flow.g}. Shift the state, or use a sensitivity bound against a known trajectory.")
