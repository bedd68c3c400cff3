"""What is measured of a trained network, the same for all studies."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.linalg import matrix_norm, vector_norm

from .. import _check
from ..bounds import robust_radius
from ..data import ImageData, corruptions, pgd
from ..nn import Network
from ..training import accuracy

__all__ = ["DEEPER", "PARTS", "RADII", "SIZES", "examine"]

PARTS = ("corrupted", "deeper", "sensitivity", "radius")

SIZES: dict[str, tuple[float, ...]] = {  # of corruptions, in the units of ``diffincl.data.corruptions``
    "gaussian_noise": (0.1, 0.2, 0.3), "structured_noise": (0.25, 0.5, 1.0), "blur": (0.5, 1.0), "contrast": (0.5, 0.8),
    "occlusion": (0.25, 0.5)}
RADII = (0.05, 0.1, 0.2, 0.3, 0.5)
DEEPER = (2, 4, 8)  # times the layers of training
DIFFERENTIATED, ATTACKED = 128, 400  # test samples looked at, at most


def examine(net: Network, data: ImageData, seed: int, parts: Sequence[str] = PARTS) -> dict[str, Any]:
    """Accuracy, clean, corrupted and deeper; sensitivity, from above and observed; accuracy against radius.

    Parameters
    ----------
    net : Network
        Trained, in evaluation mode.
    data : ImageData
        In the form that the network takes.
    seed : int
        Of noise and attacks.
    parts : sequence of str
        Which of PARTS to look at.

    Returns
    -------
    dict
        "clean", "train" accuracy, and of the parts: "corrupted" {name: {size: accuracy}}; "deeper" {times: {"accuracy",
        "difference"}}, the difference being the distance of the head's argument from that at half as many layers,
        relative; of "sensitivity" "factor" and "status" (from the input to the head's argument, from above) and
        "observed" (the largest expansion at test samples); "radius" {radius: {"certified", "attacked"}}.
    """
    for part in parts:
        _check.choice("parts", part, PARTS)
    net.eval()
    found: dict[str, Any] = {"clean": accuracy(net, data.test_x, data.test_y),
                             "train": accuracy(net, data.train_x, data.train_y)}
    if "corrupted" in parts:
        found["corrupted"] = _corrupted(net, data, seed)
    if "deeper" in parts:
        found["deeper"] = _deeper(net, data)
    factor = net.sensitivity() if {"sensitivity", "radius"} & set(parts) else None
    if factor and "sensitivity" in parts:
        found |= {"factor": float(factor.value), "status": factor.status, "observed": _observed(net, data)}
    if factor and "radius" in parts:
        found["radius"] = _radii(net, data, float(factor.value), seed)
    return found


def _corrupted(net: Network, data: ImageData, seed: int) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, sizes in SIZES.items():
        if len(data.shape) < 3 and name in ("blur", "contrast", "occlusion"):
            continue
        for size in sizes:
            x = corruptions[name](data.test_x.reshape(-1, *data.shape), size, Generator().manual_seed(seed),
                                  clip=data.limits).reshape(data.test_x.shape)
            found.setdefault(name, {})[f"{size:g}"] = accuracy(net, x, data.test_y)
    return found


@torch.no_grad()
def _deeper(net: Network, data: ImageData) -> dict[str, dict[str, float]]:
    """The same curves with more layers."""
    if not net.stages:
        return {}
    found, before = {}, net.argument(data.test_x)
    for times in DEEPER:
        deep = net.at_depth(times * net.depth)
        after = deep.argument(data.test_x)
        apart = vector_norm(after - before) / vector_norm(after).clamp_min(1e-30)
        found[str(times)] = {"accuracy": accuracy(deep, data.test_x, data.test_y), "difference": float(apart)}
        before = after
    return found


def _observed(net: Network, data: ImageData) -> float:
    """The largest norm of the Jacobian of the head's argument at test samples."""
    def argument(sample: Tensor) -> Tensor:
        return net.argument(sample.unsqueeze(0)).squeeze(0)

    x = data.test_x[:DIFFERENTIATED]
    jacobians = torch.func.vmap(torch.func.jacrev(argument), chunk_size=16)(x).detach()
    return float(matrix_norm(jacobians.flatten(2).double(), 2).max())


def _radii(net: Network, data: ImageData, factor: float, seed: int) -> dict[str, dict[str, float]]:
    """Shares of test samples that stay right: for every perturbation, by the bound, and under attack."""
    x, y = data.test_x[:ATTACKED], data.test_y[:ATTACKED]
    with torch.no_grad():
        logits = net(x).double()
    right = logits.argmax(-1) == y
    radius = robust_radius(logits, factor, net.head.weight.detach(), error=_rounding(net, x))
    certified = torch.where(right, radius, 0.0)
    found = {}
    for radius in RADII:
        moved = pgd(net, x, y, radius, generator=Generator().manual_seed(seed), clip=data.limits)
        found[f"{radius:g}"] = {"certified": float((certified >= radius).double().mean()),
                                "attacked": accuracy(net, moved, y)}
    return found


@torch.no_grad()
def _rounding(net: Network, x: Tensor) -> float:
    """The largest difference between the logits in the dtype of the network and in float64."""
    exact = copy.deepcopy(net).double()(x.double())
    return float((net(x).double() - exact).abs().max())
