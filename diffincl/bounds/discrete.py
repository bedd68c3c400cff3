"""Bounds of the steps of a scheme: compare them with the network itself (theory D1, D2, D3, D4, D7)."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import norms, rates
from ..fields import ResNetDField, Weights
from ..inclusion import Inclusion
from ..schemes import ForwardEuler, ProxHeun, Scheme, StepConstants
from ..steps import Fixed, plan
from .pieces import (
    GROWTH,
    SENSITIVITY,
    Bound,
    Pieces,
    lead,
    pieces_of,
    rate_name,
    require_hypothesis,
    require_start,
    size_of,
    starts_at_zero,
)

__all__ = ["discrete_growth", "discrete_sensitivity"]


def discrete_sensitivity(flow: Inclusion, t: Tensor | list[float], scheme: Scheme | None = None,
                         rate: str = "scaled", p: float = 2, *, steps: Fixed | None = None) -> Bound:
    """‖x_k − y_k‖ <= curve_k·‖x_0 − y_0‖ for the steps of a scheme: the product of its factors (D1, D3, D4, D7).

    Parameters
    ----------
    flow, t, steps
        As for ``solve``: the steps are the same.
    scheme : Scheme, optional
        ``ForwardEuler()`` by default.
    rate : "global", "centred" or "scaled"
        "global": I − hF has factor 1 + hL (D1). The others: the least of that, √(1 + 2hμ + h²L²) (D4) and, where
        A2 = A1ᵀ, max(1, h‖A‖² − 1) (D3).
    p : 2; with rate="global" and a coordinatewise g also 1 or inf

    Returns
    -------
    Bound
        ``curve`` of shape (T,), or (T, *weights) for an ensemble; infinite where a scheme has no factor.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> A, zero = torch.eye(2), torch.zeros(2)
    >>> flow = di.Inclusion(di.ResNetSField(A, zero, zero), di.Orthant())
    >>> discrete_sensitivity(flow, [0.0, 1.0, 2.0], rate="global").curve.round(decimals=3)
    tensor([1., 2., 4.], dtype=torch.float64)
    >>> discrete_sensitivity(flow, [0.0, 1.0, 2.0]).curve.round(decimals=3)
    tensor([1., 1., 1.], dtype=torch.float64)
    """
    scheme = ForwardEuler() if scheme is None else scheme
    require_hypothesis(flow)
    pieces = pieces_of(flow, plan(flow.field, t, steps), rate, p)
    curve = product_of_factors(pieces, scheme, rate)
    curve = torch.where(curve == 1, 1.0, curve * pieces.slack)
    return pieces.bound(curve, f"{_label(scheme, rate)} with rate {rate_name(rate)}", SENSITIVITY, p)


def discrete_growth(flow: Inclusion, t: Tensor | list[float], x0: Tensor, scheme: Scheme | None = None,
                    rate: str = "scaled", p: float = 2, *, steps: Fixed | None = None) -> Bound:
    """‖x_k‖ from above for the steps of a scheme (D1); for ResNet-D with ForwardEuler the least of it and D2.

    Parameters
    ----------
    flow, t, x0, scheme, rate, p, steps
        As for ``growth`` and ``discrete_sensitivity``.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> one = torch.ones(1)
    >>> flow = di.Inclusion(di.ResNetDField(one[None], 0 * one, one[None], one), di.Orthant())
    >>> discrete_growth(flow, [0.0, 1.0, 2.0], torch.tensor([3.0])).curve.round(decimals=3)
    tensor([3., 4., 5.], dtype=torch.float64)
    """
    scheme = ForwardEuler() if scheme is None else scheme
    layout = plan(flow.field, t, steps)
    require_start(flow, x0, layout)
    pieces = pieces_of(flow, layout, rate, p)
    curve = growth_by_factor(pieces, scheme, rate, size_of(x0, p))
    statement = f"{_label(scheme, rate)} with rate {rate_name(rate)}"
    if rate != "global" and isinstance(scheme, ForwardEuler) and isinstance(flow.field, ResNetDField) \
            and starts_at_zero(flow):
        curve = torch.minimum(curve, size_of(waiting(pieces, x0.detach()), p))
        statement = f"least of {statement}, D2"
    return pieces.bound(curve * pieces.slack, statement, GROWTH, p)


def product_of_factors(pieces: Pieces, scheme: Scheme, rate: str) -> Tensor:
    """D1 (D3, D4, D7) at every boundary, (K + 1, *weights): the scheme's own bound repeated from 1, without drift."""
    rows = [torch.ones_like(pieces.rate[0, ..., 0])]
    for c in _step_constants(pieces, rate, drift=torch.zeros_like(pieces.rate)):
        rows.append(scheme.bound(rows[-1], c))
    return torch.stack(rows)


def growth_by_factor(pieces: Pieces, scheme: Scheme, rate: str, size: Tensor) -> Tensor:
    """D1 (D4, D7 for other schemes) at every boundary: the scheme's own bound repeated, (K + 1, *batch)."""
    rows = [size]
    for c in _step_constants(pieces, rate, pieces.drift):
        rows.append(scheme.bound(rows[-1], c.meet(size)))
    return torch.stack(rows)


def waiting(pieces: Pieces, x0: Tensor) -> Tensor:
    """D2, the Lindley recursion z⁺ = (z + h b2)₊ from z = x0, (K + 1, *batch, d): x_k <= z_k entry by entry."""
    if pieces.left is None:
        raise TypeError("the recursion of D2 needs the weights of a ResNet field")
    rows = [x0.to("cpu", torch.float64)]
    for h, b2 in zip(pieces.h, pieces.left.b2, strict=True):
        b2 = lead(b2.movedim(-1, 0), rows[0].movedim(-1, 0)).movedim(0, -1)
        rows.append(torch.relu(rows[-1] + h * b2))
    return torch.stack(rows)


def _step_constants(pieces: Pieces, rate: str, drift: Tensor) -> list[StepConstants]:
    """The constants of every step, for the scheme's own bound."""
    def transposed(w: Weights | None) -> Tensor:
        return torch.tensor(False) if w is None else rates.transposed(w)

    left, right = transposed(pieces.left), transposed(pieces.right)
    start = _euler_factor(pieces, pieces.lipschitz[..., 0], pieces.rate[..., 0], left, rate)
    end = _euler_factor(pieces, pieces.lipschitz[..., 2], pieces.rate[..., 2], right, rate)
    # Control points enclose what they control.
    L, mu, most = (values.amax(-1) for values in (pieces.lipschitz, pieces.rate, drift))
    inside = _euler_factor(pieces, L, mu, left & right, rate)
    return [StepConstants(h, start[k], end[k], inside[k], L[k], pieces.rate[k, ..., 2], drift[k, ..., 0],
                          drift[k, ..., 2], most[k]) for k, h in enumerate(pieces.h.tolist())]


def _euler_factor(pieces: Pieces, lipschitz: Tensor, one_sided: Tensor, transposed: Tensor, rate: str) -> Tensor:
    """Lipschitz factors (K, *weights) of x − hF(t, x) from L and μ of F(t, ·): D1, and D4 and D3 where allowed."""
    hL, hmu = pieces.weighted(lipschitz), pieces.weighted(one_sided)
    if rate == "global":
        return 1 + hL
    room = 1 + 8 * norms.UNIT
    rounding = 8 * norms.UNIT * (1 + 2 * hmu.abs() + hL * hL)  # absolute: for hμ near −1 the sum cancels
    by_side = torch.sqrt((1 + 2 * hmu + hL * hL).clamp_min(0) + rounding) * room
    by_symmetry = torch.where(transposed, torch.clamp_min(hL * room - 1, 1.0), torch.inf)
    return torch.minimum(torch.minimum(1 + hL, by_side), by_symmetry)


def _label(scheme: Scheme, rate: str) -> str:
    if isinstance(scheme, ForwardEuler):
        return "D1" if rate == "global" else "least of D1, D3, D4"
    return "D7" if isinstance(scheme, ProxHeun) else f"D4 for {type(scheme).__name__}"
