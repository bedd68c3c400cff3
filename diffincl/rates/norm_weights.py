"""R5: rates in a weighted norm ‖Wz‖, for nets whose coordinates are badly scaled."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _check
from ..fields import Weights
from .measures import measure_along
from .scaling import alive_units, scaled_difference

__all__ = ["condition", "in_weights", "optimise_weights"]


def in_weights(weights: Weights, W: Tensor) -> Weights:
    """The field in the coordinates Wx: A1W⁻¹, b1, WA2, Wb2. Exact (but for underflow), since W holds powers of two."""
    return Weights(weights.A1 / W.unsqueeze(-2), weights.b1, weights.A2 * W.unsqueeze(-1), weights.b2 * W)


def condition(W: Tensor) -> Tensor:
    """κ(W), (*batch,): what it costs to go from ‖·‖ to ‖W·‖ and back."""
    return W.amax(-1) / W.amin(-1)


def optimise_weights(left: Weights, right: Weights, h: Tensor, p: float = 2, iterations: int = 120) -> Tensor:
    """Powers of two W (*weights, d), the least of them 1, that make κ(W)exp(Σ hν) small over pieces (K, *weights, ...).

    Notes
    -----
    Adam on log W and, for p = 2, the logarithms of the scalings Q of all pieces together; from W = 1, best kept. The
    exponents are rounded to whole numbers with the offset that does least harm. A proposal, as Q is: any W is valid.
    """
    ends, h = (left,) if right is left else (left, right), h.reshape(-1, *[1] * (left.A1.ndim - 3))
    alive = alive_units(left, right)
    rows, columns = (torch.stack(n).mean(0) for n in zip(
        *((w.A1.norm(dim=-1), w.A2.norm(dim=-2)) for w in ends), strict=True))
    log_q = torch.where(alive, 0.5 * (rows / columns).log(), 0.0).nan_to_num(0, 0, 0).requires_grad_()
    log_w = torch.zeros_like(left.b2[0]).requires_grad_()
    optimiser = torch.optim.Adam([log_w, log_q], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    best, least = torch.zeros_like(log_w), torch.full(log_w.shape[:-1], torch.inf, dtype=log_w.dtype)
    with torch.enable_grad():
        for _ in range(iterations):
            price = log_w.amax(-1) - log_w.amin(-1)
            rate = torch.stack([_float_rate(_in_weights(w, log_w), log_q, alive, p) for w in ends]).mean(0)
            cost = price + (h * rate).sum(0)
            better = (cost < least).detach()
            least = torch.where(better, cost.detach(), least)
            best = torch.where(better.unsqueeze(-1), log_w.detach(), best)
            optimiser.zero_grad()
            cost.sum().backward()
            optimiser.step()
            schedule.step()
    return _powers_of_two(best)


def _in_weights(weights: Weights, log_w: Tensor) -> Weights:
    return in_weights(weights, log_w.exp())


def _float_rate(weights: Weights, log_q: Tensor, alive: Tensor, p: float) -> Tensor:
    """The rate of a piece in plain float64, (K, *weights)."""
    if p != 2:
        return measure_along(weights, weights, p)[..., 0]
    plus, minus = scaled_difference(weights, log_q.exp(), alive)
    return 0.25 * torch.linalg.eigvalsh((plus - minus) @ (plus - minus).mT)[..., -1]


def _powers_of_two(log_w: Tensor) -> Tensor:
    """The nearest powers of two, up to a common factor, the least of them 1."""
    exponent = log_w / torch.log(torch.tensor(2.0, dtype=log_w.dtype))
    offsets = torch.arange(8, dtype=log_w.dtype).reshape(-1, *[1] * log_w.ndim) / 8
    rounded = torch.round(exponent + offsets)
    harm = (rounded - offsets - exponent).square().sum(-1)
    rounded = rounded.gather(0, harm.argmin(0)[None, ..., None].expand(1, *log_w.shape)).squeeze(0)
    return torch.exp2(rounded - rounded.amin(-1, keepdim=True))


def require_powers_of_two(W: Tensor, d: int) -> Tensor:
    """W as float64, or an error: other weights would round the field."""
    W = _check.finite("W", _check.tensor("W", W)).detach().to(torch.float64)
    bad = (W <= 0) | (torch.frexp(W)[0] != 0.5)
    if W.shape[-1:] != (d,) or bool(bad.any()):
        wrong = f"entry {_check.first(bad)} is {float(W[bad][0]):g}" if bool(bad.any()) else _check.describe(W)
        raise ValueError(f"W must hold {d} positive powers of two in its last dimension, so that WA2 and A1W⁻¹ are "
                         f"exact; got {wrong}. Round it: torch.exp2(torch.log2(W).round()).")
    return W
