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
    theta, B = torch.full_like(slack, torch.inf), q @ _to_bernstein(q.shape[-1] - 1).to(q)
    suspect = (B.amin(-1) < -slack).nonzero().squeeze(-1)
    if len(suspect) > 0:
        a, w = _bracket(B[suspect], slack[suspect])
        falls = a.isfinite()
        theta[suspect[falls]] = _root(q[suspect[falls]], a[falls], w[falls])
    return theta


def _bracket(B: Tensor, slack: Tensor) -> tuple[Tensor, Tensor]:
    """The first interval [a, a + w] in which each polynomial falls monotonically to below −slack, or at whose start it
    is there; a = inf: there is none. ``B`` holds Bernstein coefficients on [0, 1].

    All intervals that are not certain are halved at once. Where one ends below −slack the next one starts there and is
    found, so none right of it is halved again.
    """
    a, w, halves = torch.full_like(slack, torch.inf), torch.zeros_like(slack), _to_halves(B.shape[-1] - 1).to(B)
    who, left, width = torch.arange(len(B), device=B.device), torch.zeros_like(slack), 1.0
    while len(who) > 0:
        low = -slack[who]
        falls = (B.diff(dim=-1) <= 0).all(-1) | (width <= SHORTEST)
        found = ((B[:, -1] < low) & falls) | (B[:, 0] < low)
        nearest = _least(a, who, left, found)
        w, a = torch.where(nearest < a, width, w), nearest
        halved = ~found & (left < a[who]) & (width > SHORTEST)
        who, left, width = who[halved].repeat_interleave(2), left[halved].repeat_interleave(2), width / 2
        left[1::2] += width
        B = (B[halved] @ halves).reshape(len(who), B.shape[-1])  # a left half, then its right one
        uncertain = B.amin(-1) < -slack[who]
        B, who, left = B[uncertain], who[uncertain], left[uncertain]
    return a, w


def _least(a: Tensor, who: Tensor, left: Tensor, counts: Tensor) -> Tensor:
    """The least of ``a`` and of those ``left`` that count, each for the polynomial ``who``."""
    return a.scatter_reduce(0, who, torch.where(counts, left, torch.inf), "amin")


def _root(q: Tensor, a: Tensor, w: Tensor) -> Tensor:
    """Where q, falling on [a, a + w], becomes negative (a if it is so already), to its own rounding: Newton, bisected
    where it leaves the bracket."""
    slope = q[..., 1:] * torch.arange(1, q.shape[-1], dtype=q.dtype, device=q.device)
    first, rounding = evaluate(q, a), 2.0**-52 * q.abs().sum(-1)
    w = torch.where(first < 0, 0.0, w)
    left, right, theta = a, a + w, a + w * (first / (first - evaluate(q, a + w))).clamp(0, 1)
    for _ in range(HALVINGS):
        value = evaluate(q, theta)
        left, right = torch.where(value < 0, left, theta), torch.where(value < 0, theta, right)
        newton = theta - value / evaluate(slope, theta)
        following = torch.where((newton >= left) & (newton <= right), newton, (left + right) / 2)
        following = torch.where(value.abs() <= rounding, theta, following)
        done, theta = bool(((following - theta).abs() <= 2.0**-52).all()), following
        if done:
            break
    return torch.where(first < 0, a, theta)


@cache
def _to_bernstein(degree: int) -> Tensor:
    rows = [[math.comb(j, i) / math.comb(degree, i) for j in range(degree + 1)] for i in range(degree + 1)]
    return torch.tensor(rows, dtype=torch.float64)


@cache
def _to_halves(degree: int) -> Tensor:
    """From Bernstein coefficients on an interval to those on its left half, then its right half (de Casteljau)."""
    left = torch.tensor([[math.comb(j, i) / 2.0**j for j in range(degree + 1)] for i in range(degree + 1)],
                        dtype=torch.float64)
    return torch.cat([left, left.flip(0, 1)], -1)
