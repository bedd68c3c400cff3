"""Bounds of the exact flow: compare them with a converged trajectory (theory C2, C3, C5, C6)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from ..fields import ResNetDField, ResNetSField, Weights
from ..functions import Orthant
from ..inclusion import Inclusion
from ..steps import plan
from .pieces import (
    GROWTH,
    SENSITIVITY,
    Bound,
    Pieces,
    lead,
    pieces_of,
    require_hypothesis,
    require_start,
    size_of,
    starts_at_zero,
)

__all__ = ["growth", "sensitivity"]


def sensitivity(flow: Inclusion, t: Tensor | list[float], rate: str = "scaled", p: float = 2) -> Bound:
    """‖x(t) − y(t)‖ <= E_ν(t0, t)·‖x0 − y0‖ for the exact flow (C3; C6 where A2 = A1ᵀ, whose scaled rate is zero).

    Parameters
    ----------
    flow : Inclusion
        With a ResNet field, or a callable with ``lipschitz`` or ``one_sided`` given.
    t : Tensor (T,)
    rate : str
        "global" (R1), "centred" (R2), "scaled" (R3), "exact" (R4, at most 16 hidden units), "weighted" (R5, g
        coordinatewise), "measure" (R6, p = 1 or inf), or "best": on every piece the least of R3 (for p = 1, inf: R1 and
        R6) and, up to 10 hidden units, R4. The statement of the bound says which it was.
    p : 2; with a coordinatewise g and rate "global", "measure", "exact", "weighted" or "best" also 1 or inf

    Returns
    -------
    Bound
        ``curve`` of shape (T,), or (T, *weights) for an ensemble.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> A, zero = torch.eye(2), torch.zeros(2)
    >>> flow = di.Inclusion(di.ResNetSField(A, zero, zero), di.Orthant())
    >>> b = sensitivity(flow, [0.0, 1.0], rate="global")
    >>> b.curve.round(decimals=3), b.statement
    (tensor([1.0000, 2.7180], dtype=torch.float64), 'C3 with rate R1 (global)')
    >>> sensitivity(flow, [0.0, 1.0]).curve.round(decimals=3)
    tensor([1., 1.], dtype=torch.float64)
    """
    require_hypothesis(flow)
    _require_flow_rate(rate)
    pieces = pieces_of(flow, plan(flow.field, t), rate, p)
    exponent = pieces.weighted(pieces.rate.mean(-1)).cumsum(0)
    exponent = torch.cat([torch.zeros_like(exponent[:1]), exponent])
    curve = pieces.back(torch.where(exponent == 0, 1.0, exponent.exp() * pieces.slack))
    return pieces.bound(curve, f"C3 with {pieces.rung}", SENSITIVITY, p)


def _require_flow_rate(rate: str) -> None:
    if rate == "step":
        raise ValueError("rate='step' is the factor of one forward Euler step, which the exact flow does not take. Use "
                         "'scaled', 'exact' or 'best', or discrete_sensitivity for the network.")


def growth(flow: Inclusion, t: Tensor | list[float], x0: Tensor, rate: str = "scaled", p: float = 2) -> Bound:
    """‖x(t)‖ from above for the exact flow.

    With rate="global" the bound of the paper, C2: E_L‖x0‖ + ∫E_L‖F(s, 0)‖ds. With the other rates C2 with that rate
    and, on the orthant or a box [0, u], ‖(−F(s, 0))₊‖ for ‖F(s, 0)‖; and the least of it and the structural bounds
    that apply: C5 for ResNet-D on the orthant or a box [0, u], C6 for ResNet-S on the orthant.

    Parameters
    ----------
    flow, t, rate, p
        As for ``sensitivity``. p = 1, 2, inf ("scaled" and "centred" then stand for R1); where C5 applies any p >= 1
        with rate "scaled" or "centred".
    x0 : Tensor (*batch, d)

    Returns
    -------
    Bound
        ``curve`` of shape (T, *batch).

    Raises
    ------
    ValueError
        If 0 does not minimise g (for a set: 0 is not in C), or the field is a callable.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> one = torch.ones(1)
    >>> flow = di.Inclusion(di.ResNetDField(one[None], 0 * one, one[None], one), di.Orthant())
    >>> b = growth(flow, [0.0, 2.0], torch.tensor([3.0]))
    >>> b.curve.round(decimals=3), b.statement
    (tensor([3., 5.], dtype=torch.float64), 'least of C2 with rate R3 (scaled), C5')
    """
    if not p >= 1:
        raise ValueError(f"p must be at least 1 (below, ‖·‖_p is no norm); got {p}.")
    _require_flow_rate(rate)
    layout = plan(flow.field, t)
    require_start(flow, x0, layout)
    by_rate = p in (1, 2, torch.inf)
    rate_of_p = "global" if p != 2 and rate in ("scaled", "centred") else rate
    pieces = pieces_of(flow, layout, rate_of_p, p if by_rate else 2)
    pushed = pieces if rate == "global" or not starts_at_zero(flow) else pieces.pushed()
    candidates = {f"C2 with {pieces.rung}": growth_by_rate(pushed, pieces.size_of(x0, p))} if by_rate else {}
    if rate not in ("global", "weighted"):
        candidates |= structural_growth(flow, pieces, size_of(x0, p), p)
    if not candidates:
        raise ValueError(f"p must be 1, 2 or inf for this field and set; got {p}.")
    curve = torch.stack(list(candidates.values())).amin(0) * pieces.slack
    labels = ", ".join(candidates)
    return pieces.bound(curve, labels if len(candidates) == 1 else f"least of {labels}", GROWTH, p)


def growth_by_rate(pieces: Pieces, size: Tensor) -> Tensor:
    """C2 at every boundary: r⁺ = e^{∫ν} r + β h φ(νh), φ(z) = (e^z − 1)/z, with the largest ν and β of a piece."""
    z = pieces.weighted(pieces.rate.amax(-1))
    phi = torch.where(z == 0, 1.0, torch.expm1(z) / torch.where(z == 0, 1.0, z))
    drift = pieces.weighted(pieces.drift.amax(-1))
    added = torch.where(drift == 0, 0.0, drift * lead(phi, drift))
    factor = torch.exp(pieces.weighted(pieces.rate.mean(-1)))
    rows = [size]
    for k in range(len(z)):
        grown = torch.where(rows[-1] == 0, 0.0, lead(factor[k], size) * rows[-1])  # the factor may overflow
        rows.append(grown + lead(added[k], size))
    return torch.stack(rows)


def growth_of_decay(pieces: Pieces, size: Tensor, p: float) -> Tensor:
    """C5 at every boundary: ‖x0‖_p + ∫‖(b2)₊‖_p."""
    b2 = [vector_norm(torch.relu(w.b2), ord=p, dim=-1) for w in _ends(pieces)]
    return size + _integral(pieces, (b2[0] + b2[1]) / 2, size)


def growth_of_gradient(pieces: Pieces, size: Tensor) -> Tensor:
    """C6 at every boundary: ∫‖(b2)₊‖ + √(‖x0‖² + ½∫‖(b1)₊‖²)."""
    b1, b2 = ([vector_norm(torch.relu(b), dim=-1) for b in ends] for ends in zip(
        *((w.b1, w.b2) for w in _ends(pieces)), strict=True))
    squares = (b1[0] ** 2 + b1[0] * b1[1] + b1[1] ** 2) / 3
    outer, inner = (_integral(pieces, mean, size) for mean in ((b2[0] + b2[1]) / 2, squares))
    return outer + torch.sqrt((size * size + 0.5 * inner).clamp_min(1e-300))  # above 0, where the root has a slope


def _ends(pieces: Pieces) -> tuple[Weights, Weights]:
    if pieces.left is None or pieces.right is None:
        raise TypeError("a structural bound needs the weights of a ResNet field")
    return pieces.left, pieces.right


def _integral(pieces: Pieces, mean: Tensor, size: Tensor) -> Tensor:
    """∫ from the start to every boundary, (K + 1, *batch), from the mean on every piece (for a norm of weights that go
    linearly, the chord lies above)."""
    total = pieces.weighted(mean).cumsum(0)
    total = torch.cat([torch.zeros_like(total[:1]), total])
    return lead(total, size.unsqueeze(0)).expand(len(total), *size.shape)


def structural_growth(flow: Inclusion, pieces: Pieces, size: Tensor, p: float) -> dict[str, Tensor]:
    """The growth bounds that hold by structure, by label."""
    if isinstance(flow.field, ResNetDField) and starts_at_zero(flow):
        return {"C5": growth_of_decay(pieces, size, p)}
    if isinstance(flow.field, ResNetSField) and isinstance(flow.g, Orthant) and p == 2:
        return {"C6": growth_of_gradient(pieces, size)}
    return {}
