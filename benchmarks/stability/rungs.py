"""The bounds of the ladder beside what was observed, and the scaled rate beside the exact one."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import torch

import diffincl as di

from .nets import F64, Net
from .worst import worst_over_biases, worst_pair

FLOW = {"exp∫R1": "global", "exp∫R3": "scaled", "flow, best": "best"}
LAYERS = {"∏(1 + hR1)": "global", "∏R8": "step", "layers, best": "best"}
TOGETHER = "R8, chain"


def ladder_row(net: Net, seed: int, quick: bool) -> dict[str, Any]:
    """Bounds, worst pairs and ratios of one network; flow bounds over the flow's pairs, products over the layers'."""
    start = time.perf_counter()
    flow, t = net.flow(), net.t
    bounds = {name: float(di.bounds.sensitivity(flow, t, rate).curve[-1]) for name, rate in FLOW.items()}
    bounds |= {name: float(di.bounds.discrete_sensitivity(flow, t, rate=rate).curve[-1])
               for name, rate in LAYERS.items()}
    bounds[TOGETHER] = _together(flow.field, t)
    seconds = time.perf_counter() - start
    effort = {"restarts": 16, "sweeps": 30} if quick else {"restarts": 64, "sweeps": 100}
    found: dict[str, float] = {}
    for what, is_flow in (("layers", False), ("flow", True)):
        pairs, iterations = (8, 40) if quick else (16, 150) if is_flow else (64, 300)  # a flow takes longer
        pair = worst_pair(net, flow=is_flow, seed=seed, pairs=pairs, iterations=iterations)
        found[f"{what}, pairs"] = pair
        found[f"{what}, pairs and biases"] = max(pair, worst_over_biases(net, flow=is_flow, seed=seed, **effort))
    return {"net": net.title, "note": net.note, "bounds": bounds, "observed": found, "seconds of the bounds": seconds,
            "ratios": {name: value / found[f"{'flow' if name in FLOW else 'layers'}, pairs and biases"]
                       for name, value in bounds.items()},
            "∏R8 over pairs": bounds["∏R8"] / found["layers, pairs"]}


def _together(field: di.ResNetField, t: torch.Tensor) -> float:
    """R8 along all layers."""
    layers = [field.weights_on(a, b)(a) for a, b in pairwise(t.tolist())]
    A1, A2 = (torch.stack(A) for A in zip(*((w.A1, w.A2) for w in layers), strict=True))
    return float(di.rates.chain(A1, A2, t.diff()))


def exactness_row(kind: str, count: int, seed: int) -> dict[str, Any]:
    """The scaled rate over the exact one, d = 8, m = 10, for many random fields; for S the largest scaled rate."""
    generator = torch.Generator().manual_seed(seed)
    A1, A2 = (torch.randn(count, *shape, generator=generator, dtype=F64) for shape in ((10, 8), (8, 10)))
    A2 = {"resnet": A2, "d": A2.abs(), "s": A1.mT.contiguous()}[kind]
    scaled, exact = di.rates.scaled(A1, A2).value, di.rates.exact(A1, A2).value
    if kind == "s":
        return {"fields": "S", "largest scaled rate": float(scaled.max())}
    ratio = scaled / exact
    return {"fields": {"resnet": "free", "d": "D"}[kind], "median": float(ratio.median()),
            "90 %": float(ratio.quantile(0.9)), "largest": float(ratio.max()),
            "share ≤ 1.05": float((ratio <= 1.05).double().mean())}
