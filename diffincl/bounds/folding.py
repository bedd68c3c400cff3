"""Batch normalisation folded into weights, and the norms of pooling maps: what image networks add to a field."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import _check

__all__ = ["fold_batch_norm", "fold_symmetric", "pooling_norm"]

BatchNorm = _BatchNorm  # what BatchNorm1d and BatchNorm2d share
MAPS = ("average", "subsample", "pad")


def fold_batch_norm(A: Tensor, b: Tensor | None, norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Weights (A', b') with A'x + b' = norm(Ax + b), batch normalisation in evaluation mode.

    Parameters
    ----------
    A : Tensor (channels, ...)
        A matrix (m, d) or a kernel (out, in, k, k); output channels first.
    b : Tensor (channels,) or None
    norm : nn.BatchNorm1d or nn.BatchNorm2d in evaluation mode, with running statistics

    Returns
    -------
    A', b' : Tensors in the dtype of A
        Bounds are those of the folded weights.

    Raises
    ------
    ValueError, TypeError
        In training mode, where the statistics couple the samples and no bound holds; without running statistics; or if
        the channels do not fit.

    Examples
    --------
    >>> import torch
    >>> norm = torch.nn.BatchNorm1d(2, eps=0.0).eval()
    >>> norm.running_var.fill_(4.0), norm.running_mean.fill_(1.0)
    (tensor([4., 4.]), tensor([1., 1.]))
    >>> A, b = fold_batch_norm(torch.eye(2), None, norm)
    >>> A.diagonal(), b
    (tensor([0.5000, 0.5000], grad_fn=<DiagonalBackward0>), tensor([-0.5000, -0.5000], grad_fn=<AddBackward0>))
    """
    scale, shift = _affine(norm, A)
    b = torch.zeros_like(scale) if b is None else b
    return A * scale.reshape(-1, *[1] * (A.ndim - 1)), scale * b + shift


def fold_symmetric(A: Tensor, b: Tensor | None, norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Weights (A', b') of a ``ResNetSField`` with A'ᵀσ(A'x + b') = Aᵀσ(norm(Ax + b)): A' = √s A, b' = (sb + shift)/√s.

    Raises
    ------
    ValueError
        Besides those of ``fold_batch_norm``: if a scale s is not positive. For s < 0 the field is no gradient of a
        convex function, and nothing that holds for ResNet-S holds for it.

    Examples
    --------
    >>> import torch
    >>> norm = torch.nn.BatchNorm1d(2, eps=0.0).eval()
    >>> norm.running_var.fill_(0.25)
    tensor([0.2500, 0.2500])
    >>> A, b = fold_symmetric(torch.eye(2), torch.ones(2), norm)
    >>> [round(v.item(), 3) for v in (A[0, 0], b[0])]
    [1.414, 1.414]
    """
    scale, shift = _affine(norm, A)
    if not bool((scale > 0).all()):
        i = _check.first(~(scale > 0))
        raise ValueError(f"batch normalisation inside ResNet-S needs positive scales, else −Aᵀσ(sAx + b) is no "
                         f"gradient of a concave function; channel {i[0]} has {float(scale.detach()[i]):g}. "
                         f"Parametrise the scale, by weight.exp() for example.")
    root = scale.sqrt()
    b = torch.zeros_like(scale) if b is None else b
    return A * root.reshape(-1, *[1] * (A.ndim - 1)), (scale * b + shift) / root


def pooling_norm(kind: str, pixels: int = 1, p: float = 2) -> float:
    """‖P‖_p of a map between resolutions, from above: a layer before or after it has the factor ‖P‖·factor.

    Parameters
    ----------
    kind : "average", "subsample" or "pad"
        Mean over disjoint windows (2×2 average pooling, or the mean over a whole image); one pixel of each window
        (stride); zero-padded channels.
    pixels : int
        Pixels of a window of "average": 4 for 2×2.
    p : float >= 1

    Notes
    -----
    pixels^{−1/p} for "average" (½ for 2×2 in ℓ2), 1 for the others. All are nonnegative entry by entry, so growth in ℓp
    (C5, D2) passes through them. Apply P to the whole layer: on the skip alone it breaks ResNet-S (theory §1).

    Examples
    --------
    >>> pooling_norm("average", 4), pooling_norm("average", 49, float("inf")), pooling_norm("subsample")
    (0.5, 1.0, 1.0)
    """
    _check.choice("kind", kind, MAPS)
    pixels = _check.count("pixels", pixels)
    if not p >= 1:
        raise ValueError(f"p must be at least 1 (below, ‖·‖_p is no norm); got {p}.")
    if kind != "average":
        return 1.0
    value = 1.0 if math.isinf(p) else pixels ** (-1 / p)
    exact = p == 2 and math.isqrt(pixels) ** 2 == pixels and (pixels & (pixels - 1)) == 0
    return value if exact or value == 1.0 else math.nextafter(value * (1 + 1e-15), math.inf)


def _affine(norm: BatchNorm, A: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift of batch normalisation in evaluation mode, (channels,), in the dtype of A."""
    if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
        raise TypeError(f"norm must be nn.BatchNorm1d or nn.BatchNorm2d; got {type(norm).__name__}.")
    mean, variance = norm.running_mean, norm.running_var
    if norm.training or mean is None or variance is None:
        why = "it is in training mode" if norm.training else "it keeps no running statistics"
        raise ValueError(f"batch normalisation folds in evaluation mode only; {why}: its statistics couple the samples "
                         f"of a batch, and no bound covers that. Call norm.eval(), with track_running_stats=True.")
    if _check.tensor("A", A).shape[0] != len(mean):
        raise ValueError(f"A must have {len(mean)} output channels in its first dimension, as norm; got "
                         f"{_check.describe(A)}.")
    one = torch.ones_like(variance)
    scale = (one if norm.weight is None else norm.weight) / torch.sqrt(variance + norm.eps)
    shift = (0 * one if norm.bias is None else norm.bias) - scale * mean
    return scale.to(A), shift.to(A)
