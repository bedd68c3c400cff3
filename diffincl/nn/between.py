"""What stands between blocks: normalisation that keeps their structure, and maps between resolutions and widths."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.modules.batchnorm import _BatchNorm

from .. import _check, norms
from ..bounds.folding import fold_batch_norm, fold_symmetric, pooling_norm
from .base import Certificate, constructor_call, traced
from .maps import Image

__all__ = ["AveragePool", "BatchNorm1d", "BatchNorm2d", "GlobalMean", "PadChannels", "Subsample"]

SMALLEST = 1e-6  # of a scale: at 0 a channel would never learn again


class PositiveScale(_BatchNorm):
    """Batch normalisation with its scale kept positive; the two forms differ in the states they take."""

    plain_class: ClassVar[type[nn.BatchNorm1d | nn.BatchNorm2d]]

    def __init__(self, features: int, eps: float = 1e-5, momentum: float = 0.1, *,
                 device: torch.device | str | None = None, dtype: torch.dtype | None = None):
        super().__init__(_check.count("features", features), eps, momentum, device=device, dtype=dtype)
        self.features = self.num_features

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.weight.dtype

    @torch.no_grad()
    def constrain_(self) -> None:
        """Keep the scale positive."""
        self.weight.clamp_(min=SMALLEST)

    def fold(self, A: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weights (A', b') with A'x + b' = norm(A x + b), in evaluation mode."""
        return fold_batch_norm(A, b, self)

    def fold_symmetric(self, A: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weights of ResNet-S with A'ᵀσ(A'x + b') = Aᵀσ(norm(A x + b)), in evaluation mode."""
        return fold_symmetric(A, b, self)

    def certificate(self, image: Image | None = None) -> Certificate:
        """The largest scale/√(variance + eps), in evaluation mode; the same for all images."""
        return largest_scale(self)

    def plain(self) -> nn.Module:
        """torch's own class with a copy of the state."""
        return copied(self, self.plain_class(self.features, self.eps, self.momentum, dtype=self.dtype))

    def __repr__(self) -> str:
        return constructor_call(self)


class BatchNorm1d(PositiveScale, nn.BatchNorm1d):
    """torch's batch normalisation of states (N, features) or (N, features, L), its scale kept positive.

    Parameters
    ----------
    features : int
    eps : float
    momentum : float
    device, dtype
        As for nn.BatchNorm1d.

    Examples
    --------
    >>> import torch
    >>> norm = BatchNorm1d(3)
    >>> norm(torch.rand(5, 3)).shape, norm.eval()
    (torch.Size([5, 3]), BatchNorm1d(3))

    Notes
    -----
    ``constrain_()`` after an optimiser step: with a positive scale the folded layers of ResNet-S and ResNet-D keep
    their structure (theory §1). In training mode the statistics couple the samples, so there is no factor.
    """

    plain_class = nn.BatchNorm1d


class BatchNorm2d(PositiveScale, nn.BatchNorm2d):
    """``BatchNorm1d`` for images (N, features, H, W), parameters as there.

    Examples
    --------
    >>> import torch
    >>> norm = BatchNorm2d(3).eval()
    >>> norm(torch.rand(5, 3, 4, 4)).shape, round(norm.certificate().value, 6)
    (torch.Size([5, 3, 4, 4]), 0.999995)
    """

    plain_class = nn.BatchNorm2d


def largest_scale(norm: _BatchNorm) -> Certificate:
    """The factor of batch normalisation in evaluation mode, rounding enclosed."""
    if norm.training or norm.running_var is None:
        raise ValueError("batch normalisation has a factor in evaluation mode only: while training, its statistics "
                         "couple the samples. Call eval().")
    scale = norm.weight.detach().double().abs() / torch.sqrt(norm.running_var.double() + norm.eps)
    value = float(_check.finite("the scale", scale).max()) * (1 + 8 * norms.UNIT)
    return Certificate(value, norms.CERTIFIED, "largest scale")


def copied(norm: nn.Module, plain: nn.Module) -> nn.Module:
    plain.load_state_dict(norm.state_dict())
    return plain.to(next(norm.parameters()).device).train(norm.training)


class Between(nn.Module):
    """A fixed nonnegative linear map between states of different sizes: P∘layer has the factor ‖P‖·factor."""

    def certificate(self, image: Image | None = None) -> Certificate:
        """‖P‖₂."""
        raise NotImplementedError

    def constrain_(self) -> None:
        """Nothing is learned."""

    def plain(self) -> nn.Module:
        """The same map in torch's own classes."""
        return traced(self)

    def __repr__(self) -> str:
        return constructor_call(self)


class AveragePool(Between):
    """Mean over disjoint windows times ``scale``: norm scale/√(pixels of a window), 1 by default.

    Parameters
    ----------
    window : int
        Pixels along each axis; what is left over at the border is dropped.
    dims : 1 or 2
    scale : float, optional
        √(pixels of a window) by default (2 for 2×2), which makes the norm 1; 1 is the plain mean, norm ½ for 2×2.

    Examples
    --------
    >>> import torch
    >>> pool = AveragePool(2)
    >>> pool(torch.ones(1, 1, 4, 4)).flatten().tolist(), pool.certificate().value
    ([2.0, 2.0, 2.0, 2.0], 1.0)
    >>> AveragePool(2, scale=1.0).certificate().value
    0.5

    Notes
    -----
    Nonnegative entry by entry. Only with the plain mean growth in every ℓp (C5, D2) passes through. Theory §1.
    """

    def __init__(self, window: int = 2, dims: int = 2, scale: float | None = None):
        super().__init__()
        self.window, self.dims = _check.count("window", window), _check.choice("dims", dims, (1, 2))
        self.scale = None if scale is None else _check.number("scale", scale, above=0.0)

    @property
    def factor(self) -> float:
        """What the mean is multiplied with."""
        return math.sqrt(self.window**self.dims) if self.scale is None else self.scale

    def forward(self, x: Tensor) -> Tensor:
        mean = nn.functional.avg_pool1d if self.dims == 1 else nn.functional.avg_pool2d
        return self.factor * mean(x, self.window)

    def certificate(self, image: Image | None = None) -> Certificate:
        """scale/√(pixels of a window)."""
        norm = pooling_norm("average", self.window**self.dims) * self.factor
        exact = norm == 1.0 or self.factor == 1.0
        return Certificate(norm if exact else norm * (1 + 8 * norms.UNIT), norms.CERTIFIED, "mean over windows")


class Subsample(Between):
    """Every ``stride``-th pixel along each axis: norm 1.

    Examples
    --------
    >>> import torch
    >>> Subsample(2, dims=1)(torch.arange(5.0).reshape(1, 1, 5)).tolist()
    [[[0.0, 2.0, 4.0]]]
    """

    def __init__(self, stride: int = 2, dims: int = 2):
        super().__init__()
        self.stride, self.dims = _check.count("stride", stride), _check.choice("dims", dims, (1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x[..., ::self.stride] if self.dims == 1 else x[..., ::self.stride, ::self.stride]

    def certificate(self, image: Image | None = None) -> Certificate:
        """1."""
        return Certificate(pooling_norm("subsample"), norms.CERTIFIED, "part of the pixels")


class PadChannels(Between):
    """Zero features appended: norm 1.

    Parameters
    ----------
    features, out_features : int
    dims : 0, 1 or 2
        Dimensions of the image after the features.

    Examples
    --------
    >>> import torch
    >>> PadChannels(2, 3)(torch.ones(5, 2, 4, 4)).shape
    torch.Size([5, 3, 4, 4])
    """

    def __init__(self, features: int, out_features: int, dims: int = 2):
        super().__init__()
        self.features, self.dims = _check.count("features", features), _check.choice("dims", dims, (0, 1, 2))
        self.out_features = _check.count("out_features", out_features)
        if self.out_features < self.features:
            raise ValueError(f"out_features must be at least features = {features}, since channels are added; got "
                             f"{out_features}.")

    def forward(self, x: Tensor) -> Tensor:
        return pad(x, (*(0, 0) * self.dims, 0, self.out_features - self.features))

    def certificate(self, image: Image | None = None) -> Certificate:
        """1."""
        return Certificate(pooling_norm("pad"), norms.CERTIFIED, "zeros appended")


class GlobalMean(Between):
    """The mean over the whole image, (*batch, features, *image) to (*batch, features): norm 1/√pixels.

    Examples
    --------
    >>> import torch
    >>> mean = GlobalMean()
    >>> mean(torch.ones(5, 3, 4, 4)).shape, mean.certificate(image=4).value
    (torch.Size([5, 3]), 0.25)
    """

    def __init__(self, dims: int = 2):
        super().__init__()
        self.dims = _check.choice("dims", dims, (1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1) if self.dims == 2 else -1)

    def certificate(self, image: Image | None = None) -> Certificate:
        """1/√pixels; at most 1 for images of every size."""
        if image is None:
            return Certificate(1.0, norms.CERTIFIED, "mean over the image")
        pixels = image**self.dims if isinstance(image, int) else math.prod(image)
        return Certificate(pooling_norm("average", pixels), norms.CERTIFIED, "mean over the image")


class UnitRows(nn.Module):
    """Rows of length 1."""

    def forward(self, W: Tensor) -> Tensor:
        return nn.functional.normalize(W, dim=1)

    def right_inverse(self, W: Tensor) -> Tensor:
        return W
