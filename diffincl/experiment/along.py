"""The trained networks along time: pairs of trajectories beside every bound, for the flow and for the layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import bounds
from ..nn import DenseResNet
from ..schemes import ForwardEuler
from ..solution import Solution
from ..solve import solve
from ..statements import Case
from ..steps import Adaptive
from ..switching import SwitchingDP5
from .slack import RUNGS, STEP

__all__ = ["CONVERGED", "FLOW", "LAYERS", "Along", "along_of"]

FLOW, LAYERS = "flow", "layers"
A_LAYER = 4  # save times of the flow in each layer
CONVERGED = Adaptive(rtol=1e-8, atol=1e-10)  # of the switch-locating DP5


@dataclass(frozen=True)
class Along:
    """One network, its flow or its layers, at times ``t``.

    ``observed`` has the least, the median and the largest ‖x − y‖/‖x0 − y0‖ over the pairs at each time; ``bounds`` the
    factor of every rate and ``ratios`` the largest observed/bound over the pairs.
    """

    network: str
    kind: str
    t: tuple[float, ...]
    observed: tuple[tuple[float, ...], ...]
    bounds: dict[str, tuple[float, ...]]
    ratios: dict[str, tuple[float, ...]]


def along_of(name: str, net: DenseResNet, cases: list[Case]) -> list[Along]:
    """The flow, by located switches, beside the continuous bounds; the network itself beside the discrete ones."""
    flow, layers = net.layers.flow, net.layers.t
    t = torch.linspace(float(layers[0]), float(layers[-1]), A_LAYER * (len(layers) - 1) + 1, dtype=torch.float64)
    with torch.no_grad():
        x0, y0 = (torch.cat([getattr(case, side) for case in cases]) for side in ("x0", "y0"))
        of_flow = [solve(flow, z, t, scheme=SwitchingDP5(), steps=CONVERGED) for z in (x0, y0)]
        of_layers = [solve(flow, z, layers, scheme=ForwardEuler()) for z in (x0, y0)]
    return [_along(name, FLOW, {rate: bounds.sensitivity(flow, t, rate=rate) for rate in RUNGS if rate != STEP},
                   *of_flow),
            _along(name, LAYERS, {rate: bounds.discrete_sensitivity(flow, layers, rate=rate) for rate in RUNGS},
                   *of_layers)]


def _along(name: str, kind: str, by_rate: dict[str, bounds.Bound], x: Solution, y: Solution) -> Along:
    compared = {rate: bounds.compare(b, x, y) for rate, b in by_rate.items()}
    distance = next(iter(compared.values())).observed
    apart = distance[:, distance[0] > 0]
    shares = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    observed = torch.quantile(apart / apart[0], shares, dim=1)
    return Along(name, kind, _numbers(x.t), tuple(_numbers(row) for row in observed.T),
                 {rate: _numbers(b.curve) for rate, b in by_rate.items()},
                 {rate: _numbers(c.ratio.amax(1)) for rate, c in compared.items()})


def _numbers(x: Tensor) -> tuple[float, ...]:
    return tuple(x.tolist())
