"""Bounds of the steps of a scheme: compare them with the network itself (theory D1, D2, D3, D4, D7)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check, norms, rates
from ..fields import ResNetDField, ResNetSField, Weights
from ..functions import Orthant
from ..inclusion import Inclusion
from ..schemes import ForwardEuler, ImplicitEuler, ProxHeun, Scheme, StepConstants, Trapezoid
from ..steps import Fixed, plan
from .pieces import (
    GROWTH,
    SENSITIVITY,
    Bound,
    Pieces,
    lead,
    lead_vector,
    pieces_of,
    require_hypothesis,
    require_start,
    size_of,
    starts_at_zero,
)

__all__ = ["discrete_growth", "discrete_sensitivity"]

# Schemes in which every F(t, ·) enters with a factor >= 0, so that states of the orthant feel ‖(−F(t, 0))₊‖ only.
PUSHED = (ForwardEuler, ProxHeun, ImplicitEuler, Trapezoid)


def discrete_sensitivity(flow: Inclusion, t: Tensor | list[float], scheme: Scheme | None = None,
                         rate: str = "scaled", p: float = 2, *, steps: Fixed | None = None,
                         multiplier: Tensor | None = None) -> Bound:
    """‖x_k − y_k‖ <= curve_k·‖x_0 − y_0‖ for the steps of a scheme: the product of its factors (D1, D3, D4, D7).

    Parameters
    ----------
    flow, t, steps
        As for ``solve``: the steps are the same.
    scheme : Scheme, optional
        ``ForwardEuler()`` by default.
    rate : str
        "global": I − hF has factor 1 + hL (D1). The others, named as for ``sensitivity``: the least of that,
        √(1 + 2hμ + h²L²) (D4) and, where A2 = A1ᵀ, max(1, h‖A‖² − 1) (D3); for p = 1, inf the least of 1 + hL and
        max(1 + hμ, hL − 1). "step" and "best" also take the factor R8.
    p : 2; with a coordinatewise g and rate "global", "measure", "exact", "weighted" or "best" also 1 or inf
    multiplier : Tensor (steps, *weights, m), positive, optional
        Λ of R8 for the weights at the start of every step, which "step" and "best" optimise if it is not given (most of
        their time); any is a certificate.

    Returns
    -------
    Bound
        ``curve`` of shape (T,), or (T, *weights) for an ensemble; infinite where a scheme has no factor.

    Raises
    ------
    ValueError
        If there is not one multiplier a step and hidden unit, or one is not positive.

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
    curve = product_of_factors(pieces, scheme, rate, multiplier)
    curve = pieces.back(torch.where(curve == 1, 1.0, curve * pieces.slack))
    return pieces.bound(curve, f"{_label(scheme, rate)} with {pieces.rung}", SENSITIVITY, p)


def discrete_growth(flow: Inclusion, t: Tensor | list[float], x0: Tensor, scheme: Scheme | None = None,
                    rate: str = "scaled", p: float = 2, *, steps: Fixed | None = None) -> Bound:
    """‖x_k‖ from above for the steps of a scheme (D1); with ForwardEuler the least of it and D2 (ResNet-D) or D8
    (ResNet-S on the orthant with h‖A_k‖² < 2).

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
    if rate != "global" and starts_at_zero(flow) and isinstance(scheme, PUSHED):
        pieces = pieces.pushed()
    candidates = {f"{_label(scheme, rate)} with {pieces.rung}":
                  growth_by_factor(pieces, scheme, rate, pieces.size_of(x0, p))}
    if rate not in ("global", "weighted") and isinstance(scheme, ForwardEuler):
        candidates |= _structural(flow, pieces, x0, p)
    curve = torch.stack(list(candidates.values())).amin(0)
    labels = ", ".join(candidates)
    return pieces.bound(curve * pieces.slack, labels if len(candidates) == 1 else f"least of {labels}", GROWTH, p)


def _structural(flow: Inclusion, pieces: Pieces, x0: Tensor, p: float) -> dict[str, Tensor]:
    """The growth bounds of the ResNet layers that hold by structure, by label."""
    if isinstance(flow.field, ResNetDField) and starts_at_zero(flow):
        return {"D2": size_of(waiting(pieces, x0.detach()), p)}
    if isinstance(flow.field, ResNetSField) and isinstance(flow.g, Orthant) and p == 2:
        curve = growth_of_symmetric_layers(pieces, size_of(x0, p))
        return {"D8": curve} if bool(torch.isfinite(curve[1:]).any()) else {}
    return {}


def product_of_factors(pieces: Pieces, scheme: Scheme, rate: str, multiplier: Tensor | None = None) -> Tensor:
    """D1 (D3, D4, D7) at every boundary, (K + 1, *weights): the scheme's own bound repeated from 1, without drift."""
    rows = [torch.ones_like(pieces.rate[0, ..., 0])]
    for c in step_constants(pieces, rate, torch.zeros_like(pieces.rate), multiplier):
        rows.append(scheme.bound(rows[-1], c))
    return torch.stack(rows)


def growth_by_factor(pieces: Pieces, scheme: Scheme, rate: str, size: Tensor, added: Tensor | None = None) -> Tensor:
    """D1 (D4, D7 for other schemes) at every boundary: the scheme's own bound repeated, (K + 1, *batch); after step k
    ``added[k]`` is added."""
    rows = [size]
    for k, c in enumerate(step_constants(pieces, rate, pieces.drift)):
        row = scheme.bound(rows[-1], c.meet(size))
        rows.append(row if added is None else row + lead(added[k], size))
    return torch.stack(rows)


def waiting(pieces: Pieces, x0: Tensor) -> Tensor:
    """D2, the Lindley recursion z⁺ = (z + h b2)₊ from z = x0, (K + 1, *batch, d): x_k <= z_k entry by entry."""
    if pieces.left is None:
        raise TypeError("the recursion of D2 needs the weights of a ResNet field")
    rows = [x0.to("cpu", torch.float64)]
    for h, b2 in zip(pieces.h, pieces.left.b2, strict=True):
        rows.append(torch.relu(rows[-1] + h * lead_vector(b2, rows[0])))
    return torch.stack(rows)


def growth_of_symmetric_layers(pieces: Pieces, size: Tensor) -> Tensor:
    """D8 at every boundary: √(‖x0‖² + Σh‖(b1)₊‖²/(2 − h‖A‖²)) + Σh‖(b2)₊‖; infinite from the first layer on that has
    h‖A‖² >= 2."""
    if pieces.left is None:
        raise TypeError("the bound of D8 needs the weights of a ResNet field")
    hidden, outer = (vector_norm(torch.relu(b), dim=-1) for b in (pieces.left.b1, pieces.left.b2))
    room = 2 - pieces.weighted(pieces.lipschitz[..., 0])
    inner = torch.where(room > 0, pieces.weighted(hidden.square()) / room.clamp_min(1e-300), torch.inf).cumsum(0)
    total = pieces.weighted(outer).cumsum(0)
    rows = [size] + [lead(b, size) + torch.sqrt(size * size + lead(a, size)) for a, b in zip(inner, total, strict=True)]
    return torch.stack(rows)


def step_constants(pieces: Pieces, rate: str, drift: Tensor, multiplier: Tensor | None = None
                   ) -> list[StepConstants]:
    """The constants of every step, for the scheme's own bound."""
    def transposed(w: Weights | None) -> Tensor:
        return torch.tensor(False) if w is None else rates.transposed(w)

    left, right = transposed(pieces.left), transposed(pieces.right)
    step = _by_step(pieces, pieces.left, rate, multiplier)
    step_end = step if pieces.right is pieces.left else _by_step(pieces, pieces.right, rate)
    start = torch.minimum(step, _euler_factor(pieces, pieces.lipschitz[..., 0], pieces.rate[..., 0], left, rate))
    end = torch.minimum(step_end, _euler_factor(pieces, pieces.lipschitz[..., 2], pieces.rate[..., 2], right, rate))
    # Control points enclose what they control.
    L, mu, most = (values.amax(-1) for values in (pieces.lipschitz, pieces.rate, drift))
    inside = _euler_factor(pieces, L, mu, left & right, rate)
    if pieces.right is pieces.left:
        inside = torch.minimum(inside, step)
    return [StepConstants(h, start[k], end[k], inside[k], L[k], pieces.rate[k, ..., 2], drift[k, ..., 0],
                          drift[k, ..., 2], most[k]) for k, h in enumerate(pieces.h.tolist())]


def _euler_factor(pieces: Pieces, lipschitz: Tensor, one_sided: Tensor, transposed: Tensor, rate: str) -> Tensor:
    """Lipschitz factors (K, *weights) of x − hF(t, x) from L and μ of F(t, ·): D1, and D4 and D3 where allowed."""
    hL, hmu = pieces.weighted(lipschitz), pieces.weighted(one_sided)
    if rate == "global":
        return 1 + hL
    room = 1 + 8 * norms.UNIT
    if pieces.p != 2:  # |1 + hJ_ii| + hΣ|hJ_ij| is at most 1 + hμ, or hL − 1 where 1 + hJ_ii < 0
        return torch.minimum(1 + hL, torch.maximum(1 + hmu, hL - 1)) * room
    rounding = 8 * norms.UNIT * (1 + 2 * hmu.abs() + hL * hL)  # absolute: for hμ near −1 the sum cancels
    by_side = torch.sqrt((1 + 2 * hmu + hL * hL).clamp_min(0) + rounding) * room
    by_symmetry = torch.where(transposed, torch.clamp_min(hL * room - 1, 1.0), torch.inf)
    return torch.minimum(torch.minimum(1 + hL, by_side), by_symmetry)


def _by_step(pieces: Pieces, weights: Weights | None, rate: str, multiplier: Tensor | None = None) -> Tensor:
    """R8 of every step, (K, *weights), where the rate asks for it; infinite elsewhere."""
    if rate not in ("step", "best") or weights is None or pieces.p != 2:
        return torch.full_like(pieces.rate[..., 0], torch.inf)
    if multiplier is not None and multiplier.shape != weights.A1.shape[:-1]:
        raise ValueError(f"multiplier must have shape {tuple(weights.A1.shape[:-1])}, one a step and hidden unit; got "
                         f"{_check.describe(multiplier)}.")
    # Steps of one interval that differ in length by rounding only share the longest: the factor grows with h.
    kind = torch.arange(len(pieces.h)) if pieces.interval is None else pieces.interval
    length = torch.round(torch.log(pieces.h) * 1e9).to(torch.int64)
    groups, which = torch.unique(torch.stack([kind, length]), dim=1, return_inverse=True)
    members = [(which == k).nonzero()[:, 0] for k in range(groups.shape[1])]
    h, first = torch.stack([pieces.h[k].amax() for k in members]), torch.stack([k[0] for k in members])
    A1, A2 = weights.A1[first], weights.A2[first]
    lam = None if multiplier is None else multiplier[first]
    return rates.step(A1, A2, h.reshape(-1, *[1] * (A1.ndim - 3)), multiplier=lam)[which]


def _label(scheme: Scheme, rate: str) -> str:
    if isinstance(scheme, ForwardEuler):
        return {"global": "D1", "step": "least of D1, D3, D4, R8", "best": "least of D1, D3, D4, R8"}.get(
            rate, "least of D1, D3, D4")
    return "D7" if isinstance(scheme, ProxHeun) else f"D4 for {type(scheme).__name__}"
