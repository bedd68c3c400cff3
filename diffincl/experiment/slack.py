"""How tight the bounds of a trained network are, rung by rung, and where the slack comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import eigh, matrix_norm, vector_norm

from .. import bounds
from ..nn import DenseResNet
from ..rates import RATES
from ..statements import Case, Look, Run, Sides, attack_points, converged, network, pair
from ..statements.hypotheses import steps_of

__all__ = ["RUNGS", "STEP", "Ladder", "ladder_of"]

STEP = "step"  # the factor of one layer, R8: no rate of the flow
RUNGS = (*RATES, STEP)


@dataclass(frozen=True)
class Ladder:
    """One network and one rung: bound and worst observed expansion over [0, T], for the flow (which has no rung
    "step") and for the layers.

    For the flow log(bound) = log(observed) + ``norm`` + ``rate_slack`` + ``path``: what the enclosure of the norms
    costs, ∫(ν − ν in plain float64) for R1 (other rungs: their certified value less R1's share is not told apart, 0);
    what the rung costs, ∫(ν − μ) with μ the largest one-sided constant found (from below); and what Grönwall costs:
    the worst pair does not meet the worst direction of the worst pattern all the time, ∫μ − log(observed).
    """

    network: str
    rate: str
    flow_bound: float | None
    flow_observed: float
    layer_bound: float
    layer_observed: float
    norm: float | None = None
    rate_slack: float | None = None
    path: float | None = None


def ladder_of(name: str, net: DenseResNet, cases: list[Case], ascent: int) -> list[Ladder]:
    """Every rung against the worst expansion found over [0, T]."""
    flow, t = net.layers.flow, net.layers.t
    seen, of_layers = (max(_worst_expansion(case, run, ascent) for case in cases) for run in (converged, network))
    weights = steps_of(cases[0])
    least = sum(h * one_sided_from_below(w.A1, w.A2) for h, w in weights)
    plain = sum(h * float(matrix_norm(w.A1, 2) * matrix_norm(w.A2, 2)) for h, w in weights)
    rows = []
    for rate in RUNGS:
        layers = float(bounds.discrete_sensitivity(flow, t, rate=rate).curve[-1])
        if rate == STEP:
            rows.append(Ladder(name, rate, None, seen, layers, of_layers))
            continue
        bound = float(bounds.sensitivity(flow, t, rate=rate).curve[-1])
        norm = math.log(bound) - plain if rate == "global" else 0.0
        rows.append(Ladder(name, rate, bound, seen, layers, of_layers, norm, math.log(bound) - norm - least,
                           least - math.log(seen)))
    return rows


def one_sided_from_below(A1: Tensor, A2: Tensor, starts: int = 32, rounds: int = 30) -> float:
    """The largest λmax(−sym A2DA1), D in {0, 1}^m, that turns of choosing D for z and z for D find: from below."""
    generator = torch.Generator().manual_seed(0)
    z, best = torch.randn(starts, A1.shape[-1], generator=generator, dtype=torch.float64), torch.zeros(starts).double()
    for _ in range(rounds):
        on = ((z @ A2) * (z @ A1.mT) < 0).double()
        M = -(A2 * on.unsqueeze(-2)) @ A1
        values, vectors = eigh(0.5 * (M + M.mT))
        best, z = torch.maximum(best, values[..., -1]), vectors[..., -1]
    return float(best.max())


def _worst_expansion(case: Case, run: Run, ascent: int) -> float:
    """Largest ‖x(T) − y(T)‖/‖x0 − y0‖ over the pairs of a case, as drawn and attacked."""
    attacked = attack_points(case, _expansion(case, network if run is network else None), ascent)
    worst = 0.0
    with torch.no_grad():
        for pairs in (case, attacked):
            now, start, _ = _expansion(pairs, None)(pairs.x0, pairs.y0, run)["expansion"]
            worst = max(worst, float((now / start)[start > 0].max()))
    return worst


def _expansion(case: Case, layers: Run | None) -> Look:
    """Distance at the end and at the start of pairs of trajectories."""

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        x, y, error = pair(layers or run, case.flow, x0, y0, case.t)
        distance = vector_norm(x - y, dim=-1)
        return {"expansion": Sides(distance[-1:], distance[:1], error[-1:])}

    return look
