"""Lipschitz factors of x ↦ x − hA2σ(A1x + b1), followed by anything nonexpansive, for matrices and convolutions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import norms, rates
from .base import Certificate, joint
from .maps import Image, Maps

__all__ = ["euler_factor", "symmetric_factor"]

ROOM = 1 + 16 * norms.UNIT


def euler_factor(maps: Maps, A1: Tensor, A2: Tensor, h: float, image: Image | None, status: str,
                 multiplier: Tensor | None = None) -> Certificate:
    """The least of D1, R8 and, for convolutions, D4 with R3: √(1 + 2hμ + h²L²); R8 of a convolution needs the image.

    ``multiplier`` (m,) is the Λ of R8, optimised if it is not given."""
    first, second = maps.norm(A1, image, status), maps.norm(A2, image, status)
    L = float(first.value * second.value) * ROOM
    choices = {"D1": (1 + h * L) * ROOM}
    if maps.dims == 0:
        choices["R8"] = float(rates.step(A1, A2, h, multiplier=multiplier))
    else:
        mu = _scaled(maps, A1, A2, image, status)
        choices["D4 with R3"] = math.sqrt(1 + (2 * h * mu + (h * L) ** 2) * ROOM) * ROOM
        if image is not None:
            choices["R8"] = float(rates.conv.step(A1, A2, maps.sides(image), h, multiplier=multiplier,
                                                  padding_mode=maps.padding_mode))
    statement = min(choices, key=lambda name: choices[name])
    return Certificate(choices[statement], joint(first, second), statement)


def symmetric_factor(size: float, status: str) -> Certificate:
    """max(1, h‖A‖² − 1) of a layer with A2 = A1ᵀ, from ``size`` >= h‖A‖² (D3): exactly 1 up to 2.

    A learned step that turned negative has 1 + |h|‖A‖².
    """
    if not math.isfinite(size):
        raise ValueError(f"h‖A‖² must be finite; got {size}. The weights have diverged; lower the learning rate.")
    if size < 0:
        return Certificate((1 - size) * ROOM, status, "D1: h < 0")
    if size <= 2:
        return Certificate(1.0, status, "D3: h‖A‖² <= 2")
    return Certificate((size - 1) * ROOM, status, "D3: h‖A‖² − 1")


def _scaled(maps: Maps, A1: Tensor, A2: Tensor, image: Image | None, status: str) -> float:
    """¼‖A2Q − A1ᵀQ⁻¹‖² of convolutions with one q a hidden channel, q² = ‖row of A1‖/‖column of A2‖ (R3).

    The kernel of the difference is rounded in float64; what that can change is added to the norm.
    """
    A1, A2 = A1.detach().double(), A2.detach().double()
    if A1.shape[2:] != A2.shape[2:]:
        return math.inf
    rows, columns = A1.flatten(1).norm(dim=1), A2.transpose(0, 1).flatten(1).norm(dim=1)
    alive = (rows > 0) & (columns > 0)
    q = torch.where(alive, rows / torch.where(alive, columns, 1.0), 1.0).sqrt()
    scale = q.reshape(1, -1, *[1] * maps.dims)
    left, right = A2 * scale * alive.reshape(scale.shape), maps.adjoint(A1) / scale * alive.reshape(scale.shape)
    rounding = 4 * norms.UNIT * float((left.abs() + right.abs()).sum())  # a norm is at most the sum of all entries
    size = float(maps.norm(left - right, image, status).value) + rounding
    return 0.25 * size * size * ROOM
