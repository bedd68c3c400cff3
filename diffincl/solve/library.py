"""Problems of the library's own fields and sets, whose steps can be taken on plain numbers where nobody asks for
derivatives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _check
from ..fields import Field, ResNetDField, ResNetField, ResNetSField
from ..functions import Box, Orthant, ProxFunction, Whole
from ..inclusion import Inclusion

__all__ = ["bounds", "misfit"]

FIELDS, SETS = (ResNetField, ResNetDField, ResNetSField), (Orthant, Box, Whole)  # these themselves, no subclasses


def misfit(flow: Inclusion, x0: Tensor) -> str:
    """Why the problem is none of these, or derivatives are asked for, in words; empty where all is well."""
    field, g = flow.field, flow.g
    if not _check.plain_autograd():
        return "it does not work under torch.func, torch.compile and forward mode"
    if type(field) not in FIELDS:
        return f"it takes ResNetField, ResNetDField and ResNetSField; got {type(field).__name__}"
    if type(g) not in SETS:
        return f"it takes Orthant, Box and Whole; got g = {g}"
    if any(b.ndim and b.numel() != b.shape[-1] for b in bounds(g)):
        return f"it takes bounds of shape (d,); got g = {g}"
    if type(x0) not in (Tensor, nn.Parameter):
        return f"it takes plain tensors; got x0 of type {type(x0).__name__}"
    if torch.is_autocast_enabled(x0.device.type):
        return "it has no mixed precision"
    if torch.is_grad_enabled() and any(v.requires_grad for v in (x0, *_weights(field), *bounds(g))):
        return "it gives no derivatives, and a weight, a bound or x0 requires gradients; solve under torch.no_grad()"
    return ""


def _weights(field: Field) -> list[Tensor]:
    """All parameters and buffers."""
    return [*field.parameters(), *field.buffers()]


def bounds(g: ProxFunction) -> list[Tensor]:
    """Bounds of a box that are tensors."""
    return [bound for bound in (g.lower, g.upper) if isinstance(bound, Tensor)] if isinstance(g, Box) else []
