"""The certified robustness radius of a classifier, from its margins."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from .. import _check, norms

__all__ = ["robust_radius"]


def robust_radius(logits: Tensor, factor: float | Tensor, head: nn.Linear | Tensor, p: float = 2, *,
                  error: float = 0.0) -> Tensor:
    """How far an input may move, in ‖·‖_p, before the class can change.

    Parameters
    ----------
    logits : Tensor (*batch, classes)
        Of the linear head, Wx + b. They count as exact: compute them in float64, or give ``error``.
    factor : float or Tensor (*batch,)
        Sensitivity factor from the input to the head's argument x: that of a bound, times the norms of what comes
        before (a linear lift: ``norms.dense(lift.weight)``; activations that are nonexpansive cost nothing).
    head : nn.Linear or Tensor (classes, d)
        The head or its weights W.
    p : 1, 2 or inf
        Norm of the factor.
    error : float
        Bound of the error of a logit; taken off the margins.

    Returns
    -------
    Tensor (*batch,), float64
        For every smaller move the class stays that of the largest logit; 0 where nothing is certified.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not fit, a number is not finite or negative, or p is another norm.

    Notes
    -----
    min over j of (logit_i − logit_j)/(factor·‖w_i − w_j‖_q), q dual to p: the difference of two logits is the linear
    function (w_i − w_j)·x, whose constant is smaller than √2‖W‖. Rounded down. Tsuzuku, Sato, Sugiyama,
    "Lipschitz-margin training", 2018 (there with √2‖W‖).

    Examples
    --------
    >>> import torch
    >>> head = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> robust_radius(torch.tensor([[3.0, 1.0], [1.0, 1.0]]), 1.0, head).round(decimals=3)
    tensor([1.4140, 0.0000], dtype=torch.float64)
    """
    weight = _weight(logits, head)
    logits = _check.finite("logits", logits).detach().to(torch.float64)
    factor, error = _factor(factor, logits), _check.number("error", error, at_least=0.0)
    if p not in (1, 2, torch.inf):
        raise ValueError(f"p must be 1, 2 or inf (float('inf')); got {p}.")
    top = logits.argmax(-1)
    first = logits.gather(-1, top.unsqueeze(-1))
    rounding = 4 * norms.UNIT * (first.abs() + logits.abs())
    margin = (first - logits - rounding - 2 * error).clamp_min(0)
    dual = {1: torch.inf, 2: 2, torch.inf: 1}[p]
    gap = weight[top].unsqueeze(-2) - weight
    slack = 2 * norms.gamma(weight.shape[-1] + 4)
    size = (vector_norm(gap, ord=dual, dim=-1)
            + norms.UNIT * vector_norm(weight[top].unsqueeze(-2).abs() + weight.abs(), ord=dual, dim=-1)) * (1 + slack)
    speed = size * factor.unsqueeze(-1) * (1 + 4 * norms.UNIT)
    radius = torch.where(margin > 0, margin / speed, 0.0)
    others = torch.arange(logits.shape[-1], device=logits.device) != top.unsqueeze(-1)
    return torch.where(others, radius, torch.inf).amin(-1) * (1 - 8 * norms.UNIT)


def _weight(logits: Tensor, head: nn.Linear | Tensor) -> Tensor:
    _check.tensor("logits", logits)
    weight = _check.finite("head", _check.tensor("head", head.weight if isinstance(head, nn.Linear) else head))
    if weight.ndim != 2 or logits.ndim < 1 or logits.shape[-1] != len(weight) or len(weight) < 2:
        raise ValueError(f"logits must have shape (*batch, classes) and head (classes, d), at least two classes; got "
                         f"{_check.describe(logits)} and {_check.describe(weight)}.")
    return weight.detach().to(logits.device, torch.float64)


def _factor(factor: float | Tensor, logits: Tensor) -> Tensor:
    factor = torch.as_tensor(factor, dtype=torch.float64, device=logits.device).detach()
    if not bool((factor >= 0).all()):
        raise ValueError(f"factor must be nonnegative; got {float(factor.min()):g} as its least entry.")
    return factor.expand(logits.shape[:-1])
