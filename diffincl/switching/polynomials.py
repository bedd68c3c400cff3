"""Polynomials on [0, 1], many at a time, and the first place where each becomes negative: certain, not sampled.

A polynomial q(θ) = Σ_k c_k θ^k is held by its coefficients along one dimension.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

__all__ = ["evaluate", "first_negative"]

# Halvings of a bracket that reach the last bit of a float64 θ in [0, 1]. Intervals shorter than SHORTEST are points.
HALVINGS, SHORTEST = 54, 2.0**-44


def evaluate(coefficients: Tensor, theta: Tensor, dim: int = -1) -> Tensor:
    """Σ_k c_k θ^k by Horner; ``theta`` broadcasts against one coefficient, ``dim`` is the dimension of k."""
    terms = coefficients.unbind(dim)
    value = terms[-1]
    for term in reversed(terms[:-1]):
        value = value * theta + term
    return value


def first_negative(q: Tensor, slack: Tensor) -> Tensor:
    """Where each q becomes negative on its way to below −slack: the least such θ in [0, 1], inf if q >= −slack there.

    Parameters
    ----------
    q : Tensor (n, K + 1)
        Coefficients.
    slack : Tensor (n,)
        How far below 0 is still rounding.

    Notes
    -----
    The Bernstein coefficients of q on an interval bound it from both sides, so an interval is passed only when q is
    certainly at least −slack there, and a dip between two sample points cannot be missed. An interval that is not
    certain is halved; one on which q falls monotonically to below −slack holds one root.
    """
    theta = torch.full_like(slack, torch.inf)
    suspect = (_bernstein(q).amin(-1) < -slack).nonzero().squeeze(-1)
    if len(suspect) > 0:
        theta[suspect] = _search(q[suspect], slack[suspect])
    return theta


def _search(q: Tensor, slack: Tensor) -> Tensor:
    """``first_negative`` of polynomials that may have a root: walk along [0, 1] in certified intervals [a, a + w]."""
    a, w = torch.zeros_like(slack), torch.ones_like(slack)
    bracketed, walking = torch.zeros_like(slack, dtype=torch.bool), torch.arange(len(q), device=q.device)
    while len(walking) > 0:
        a_, w_, slack_ = a[walking], w[walking], slack[walking]
        B = _bernstein(_shift(q[walking], a_, w_))
        passed = B.amin(-1) >= -slack_
        below = B[:, -1] < -slack_
        found = below & ((B.diff(dim=-1) <= 0).all(-1) | (w_ <= SHORTEST))
        passed |= ~below & (w_ <= SHORTEST)
        bracketed[walking[found]] = True
        a[walking] = torch.where(passed, a_ + w_, a_)
        w[walking] = torch.where(passed, torch.minimum(2 * w_, 1 - a[walking]), torch.where(found, w_, w_ / 2))
        walking = walking[~found & (a[walking] < 1)]
    return torch.where(bracketed, _root(q, a, w), torch.inf)


def _root(q: Tensor, a: Tensor, w: Tensor) -> Tensor:
    """Where q, falling on [a, a + w], becomes negative (a if it is so already): Newton, bisected where it leaves the
    bracket."""
    slope = q[..., 1:] * torch.arange(1, q.shape[-1], dtype=q.dtype, device=q.device)
    left, right, theta = a, a + w, a + w / 2
    for _ in range(HALVINGS):
        value = evaluate(q, theta)
        left, right = torch.where(value < 0, left, theta), torch.where(value < 0, theta, right)
        newton = theta - value / evaluate(slope, theta)
        following = torch.where((newton >= left) & (newton <= right), newton, (left + right) / 2)
        done = bool(((following - theta).abs() <= 2.0**-52).all())
        theta = following
        if done:
            break
    return torch.where(evaluate(q, a) < 0, a, theta)


def _shift(q: Tensor, a: Tensor, w: Tensor) -> Tensor:
    """Coefficients of s ↦ q(a + w s), by repeated synthetic division."""
    terms = list(q.unbind(-1))
    degree = len(terms) - 1
    for low in range(degree):
        for k in range(degree - 1, low - 1, -1):
            terms[k] = torch.addcmul(terms[k], a, terms[k + 1])
    return torch.stack([term * w**k for k, term in enumerate(terms)], -1)


def _bernstein(q: Tensor) -> Tensor:
    """Bernstein coefficients on [0, 1]: b_j = Σ_{i<=j} C(j, i)/C(K, i) c_i."""
    return q @ _to_bernstein(q.shape[-1] - 1).to(q)


@cache
def _to_bernstein(degree: int) -> Tensor:
    rows = [[math.comb(j, i) / math.comb(degree, i) for j in range(degree + 1)] for i in range(degree + 1)]
    return torch.tensor(rows, dtype=torch.float64)
