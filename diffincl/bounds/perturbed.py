"""Two systems beside each other: other weights (C4) and additive errors of the layers (D8)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check, norms
from ..fields import ResNetField, Weights
from ..inclusion import Inclusion
from ..schemes import ForwardEuler, Scheme
from ..steps import Fixed, Plan, plan
from .continuous import growth_by_rate, structural_growth
from .discrete import growth_by_factor
from .hypothesis import require_hypothesis, require_start, starts_at_zero
from .pieces import DISTANCE, Bound, Pieces, lead, pieces_of, size_of

__all__ = ["layer_errors", "two_fields"]


def two_fields(flow: Inclusion, other: ResNetField, t: Tensor | list[float], x0: Tensor, y0: Tensor | None = None,
               rate: str = "scaled") -> Bound:
    """‖x(t) − y(t)‖ from above for the flows of two fields on the same g (C4): perturbed weights, pruning, rounding.

    Parameters
    ----------
    flow : Inclusion
        With a ResNet field, whose rate is used.
    other : ResNetField
        The field of y; weights of the same shapes.
    t : Tensor (T,)
    x0 : Tensor (*batch, d)
    y0 : Tensor (*batch, d), optional
        ``x0`` by default.
    rate : str
        As for ``sensitivity``, p = 2; not "weighted".

    Returns
    -------
    Bound
        ``curve`` of shape (T, *batch), of kind "distance": ``compare`` takes it with both solutions.

    Raises
    ------
    ValueError, TypeError
        If 0 does not minimise g, so that nothing bounds ‖y‖ beforehand, or the fields do not fit each other.

    Notes
    -----
    ‖x − y‖(t) <= E_ν(0, t)‖x0 − y0‖ + ∫E_ν(s, t)‖F(s, y(s)) − F̃(s, y(s))‖ds, ν of F, with

        ‖F(y) − F̃(y)‖ <= ‖A2 − Ã2‖(‖Ã1‖‖y‖ + ‖(b̃1)₊‖) + ‖A2‖(‖A1 − Ã1‖‖y‖ + ‖b1 − b̃1‖) + ‖b2 − b̃2‖

    and ‖y‖ from its own growth bound. Theory C4.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> A, zero = torch.eye(2), torch.zeros(2)
    >>> flow = di.Inclusion(di.ResNetSField(A, zero, zero), di.Orthant())
    >>> b = two_fields(flow, di.ResNetSField(A, zero, zero + 0.1), [0.0, 1.0], torch.ones(2))
    >>> b.curve.round(decimals=3), b.statement
    (tensor([0.0000, 0.1410], dtype=torch.float64), 'C4 with rate R3 (scaled)')
    """
    if rate in ("weighted", "step"):
        raise ValueError(f"rate must be one that bounds the exact flow in ℓ2; got {rate!r}. Use 'scaled' or 'best'.")
    second = _second(flow, other)
    y0 = x0 if y0 is None else y0
    layout = _common_plan(flow, second, t)
    for system, start in ((flow, x0), (second, y0)):
        require_start(system, start, layout)
    pieces, across = pieces_of(flow, layout, rate, 2), pieces_of(second, layout, rate, 2)
    size = size_of(y0, 2)
    grown = growth_by_rate(across.pushed() if starts_at_zero(second) else across, size)
    curves = [grown, *structural_growth(second, across, size, 2).values()]
    y = torch.stack(curves).amin(0)[1:] * across.slack  # no growth bound decreases: its end bounds the piece
    curve = growth_by_rate(replace(pieces, drift=_difference(pieces, across, y)), size_of(x0.double() - y0.double(), 2))
    return pieces.bound(curve * pieces.slack, f"C4 with {pieces.rung}", DISTANCE, 2)


def layer_errors(flow: Inclusion, t: Tensor | list[float], errors: Tensor, distance: Tensor | float = 0.0,
                 scheme: Scheme | None = None, rate: str = "best", *, steps: Fixed | None = None) -> Bound:
    """‖x_k − x̃_k‖ from above where step k of x̃ is followed by an error of norm at most ``errors[k]`` (D8).

    Parameters
    ----------
    flow, t, scheme, rate, steps
        As for ``discrete_sensitivity``, p = 2; not "weighted".
    errors : Tensor (K,) or (K, *batch), nonnegative
        One for each of the K steps: quantisation, dropout of layers, other weights.
    distance : Tensor (*batch,) or float
        ‖x_0 − x̃_0‖.

    Returns
    -------
    Bound
        ``curve`` (T, *batch), of kind "distance".

    Notes
    -----
    ‖x_N − x̃_N‖ <= Σ_k(∏_{j>k}ρ_j)‖e_k‖ (+ ∏ρ_j‖x_0 − x̃_0‖). Theory D8.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> A, zero = torch.eye(2), torch.zeros(2)
    >>> flow = di.Inclusion(di.ResNetSField(A, zero, zero), di.Orthant())
    >>> layer_errors(flow, [0.0, 1.0, 2.0], torch.tensor([0.1, 0.2])).curve.round(decimals=3)
    tensor([0.0000, 0.1000, 0.3000], dtype=torch.float64)
    """
    if rate == "weighted":
        raise ValueError("rate must be one of ℓ2; got 'weighted'. Use 'best'.")
    scheme = ForwardEuler() if scheme is None else scheme
    require_hypothesis(flow)
    pieces = pieces_of(flow, plan(flow.field, t, steps), rate, 2)
    errors = _check.finite("errors", _check.tensor("errors", errors)).detach().to("cpu", torch.float64)
    if errors.shape[0] != len(pieces.h) or bool((errors < 0).any()):
        raise ValueError(f"errors must hold {len(pieces.h)} nonnegative numbers, one a step; got "
                         f"{_check.describe(errors)} with least entry {float(errors.min()):g}.")
    weights = pieces.rate.shape[1:-1]
    shape = errors.shape[1:] if errors.ndim > len(weights) else weights
    size = torch.as_tensor(distance, dtype=torch.float64).expand(shape)
    pieces = replace(pieces, drift=torch.zeros_like(pieces.drift))
    curve = growth_by_factor(pieces, scheme, rate, size, added=errors)
    return pieces.bound(curve * pieces.slack, f"D8 with {pieces.rung}", DISTANCE, 2)


def _second(flow: Inclusion, other: ResNetField) -> Inclusion:
    for name, field in (("flow.field", flow.field), ("other", other)):
        if not isinstance(field, ResNetField):
            raise TypeError(f"{name} must be a ResNet field, whose weights can be compared; got "
                            f"{type(field).__name__}.")
    assert isinstance(flow.field, ResNetField)
    mine, theirs = (tuple(w.shape for w in field.weights_now()) for field in (flow.field, other))
    if mine != theirs:
        raise ValueError(f"both fields must have weights (A1, b1, A2, b2) of the same shapes; got {mine} and {theirs}.")
    return Inclusion(other, flow.g)


def _common_plan(flow: Inclusion, second: Inclusion, t: Tensor | list[float]) -> Plan:
    """A plan that stops at the knots of both fields."""
    first, theirs = plan(flow.field, t), plan(second.field, t).stops
    near = 1e-9 * min(flow.field.knot_length, second.field.knot_length, first.stops[-1] - first.stops[0])
    extra = [stop for stop in theirs if min(abs(stop - mine) for mine in first.stops) > near]
    stops = tuple(sorted((*first.stops, *extra)))
    return Plan(stops, tuple(stops.index(time) for time in first.times()))


def _difference(pieces: Pieces, across: Pieces, y: Tensor) -> Tensor:
    """Control points (K, *batch, 3), all the same, of a bound of ‖F(s, y) − F̃(s, y)‖ for ‖y‖ <= ``y`` on each piece."""
    def most(of: list[Tensor]) -> Tensor:
        return lead(torch.stack(of).amax(0), y)

    ends = list(zip(_ends(pieces), _ends(across), strict=True))
    d_A2, d_A1 = (most([_gap(getattr(a, n), getattr(b, n)) for a, b in ends]) for n in ("A2", "A1"))
    d_b1, d_b2 = (most([_length(getattr(a, n), getattr(b, n)) for a, b in ends]) for n in ("b1", "b2"))
    A2 = most([norms.dense(a.A2).value for a, _ in ends])
    A1 = most([norms.dense(b.A1).value for _, b in ends])
    b1 = most([_length(torch.relu(b.b1), torch.zeros_like(b.b1)) for _, b in ends])
    value = d_A2 * (A1 * y + b1) + A2 * (d_A1 * y + d_b1) + d_b2
    return (value * (1 + 16 * norms.UNIT)).unsqueeze(-1).expand(*value.shape, 3)


def _gap(A: Tensor, B: Tensor) -> Tensor:
    """‖A − B‖ from above, the rounding of the difference included."""
    rounding = 2 * norms.UNIT * torch.linalg.matrix_norm(A - B)
    return norms.dense(A - B).value + rounding


def _length(a: Tensor, b: Tensor) -> Tensor:
    return vector_norm(a - b, dim=-1) * (1 + 2 * norms.gamma(a.shape[-1] + 4))


def _ends(pieces: Pieces) -> tuple[Weights, Weights]:
    assert pieces.left is not None
    assert pieces.right is not None
    return pieces.left, pieces.right
