"""x ↦ ReLU(x − h(A2 σ(A1 x + b1) − b2)): the layer of the ResNet family with weights of its own, and ResNet-D."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _check, norms
from ..fields import ConvResNetDField, ConvResNetField, Field, ResNetDField, ResNetField, Weights
from .base import Block, Certificate, traced, widths
from .factors import euler_factor
from .maps import DENSE, Image, Maps

__all__ = ["DecayBlock", "DecayBlock1d", "DecayBlock2d", "ResNetBlock", "ResNetBlock1d", "ResNetBlock2d"]

PARAMETRISATIONS = ("projection", "softplus", "square")


class ResNetBlock(Block):
    """x ↦ ReLU(x − h(A2 ReLU(A1 x + b1) − b2)), the post-activation residual layer.

    Parameters
    ----------
    features : int
        Dimension d of the state (*batch, d).
    hidden : int, optional
        Number m of hidden units; d by default.
    h : float > 0
        Step; 1 is the layer of the paper.
    bias : bool
        Whether there are b1 and b2.
    device, dtype, generator
        Of the initial weights: A1 and A2 normal with variance 2/fan, b1 = b2 = 0.

    Examples
    --------
    >>> import torch
    >>> block = ResNetBlock(2, h=0.5, generator=torch.Generator().manual_seed(0))
    >>> block
    ResNetBlock(2, h=0.5)
    >>> block(torch.ones(7, 2)).shape, block.certificate().statement
    (torch.Size([7, 2]), 'R8')

    Notes
    -----
    One step of ``ForwardEuler`` of −x' ∈ N_C + F on the orthant with F = ``field()``, bit for bit. Theory §1, D1, R8.
    """

    A1: nn.Parameter
    A2: nn.Parameter
    b1: nn.Parameter | None
    b2: nn.Parameter | None

    def __init__(self, features: int, hidden: int | None = None, h: float = 1.0, bias: bool = True, *,
                 device: torch.device | str | None = None, dtype: torch.dtype | None = None,
                 generator: torch.Generator | None = None):
        super().__init__()
        A1, A2 = self.begin(DENSE, features, hidden, h, bias, device, dtype, generator)
        self.extra_weights({"A1": A1, "A2": A2})

    def begin(self, maps: Maps, features: int, hidden: int | None, h: float, bias: bool,
              device: torch.device | str | None, dtype: torch.dtype | None,
              generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Keep the arguments and make the biases; the initial A1 and A2."""
        self.maps, (self.features, self.hidden) = maps, widths(features, hidden)
        self.h, self.bias = _check.number("h", h, above=0.0), bool(bias)
        d, m = self.features, self.hidden
        A1 = maps.draw(m, d, device=device, dtype=dtype, generator=generator)
        A2 = maps.draw(d, m, device=device, dtype=dtype, generator=generator)
        self.extra_weights({"b1": A1.new_zeros(m) if bias else None, "b2": A1.new_zeros(d) if bias else None})
        return A1, A2

    def weights(self) -> Weights:
        """The weights that the layer multiplies with, biases that are left out as zeros."""
        A2 = self.outer()
        b1 = self.A1.new_zeros(self.hidden) if self.b1 is None else self.b1
        return Weights(self.A1, b1, A2, self.A1.new_zeros(self.features) if self.b2 is None else self.b2)

    def outer(self) -> Tensor:
        """A2."""
        return self.A2

    def forward(self, x: Tensor) -> Tensor:
        A1, b1, A2, b2 = self.weights()
        affine = self.maps.affine
        return torch.relu(torch.sub(x, affine(torch.relu(affine(x, A1, b1)), A2, -b2), alpha=self.h))

    def field(self) -> Field:
        """F = A2 σ(A1 x + b1) − b2 with the present weights (parameters are shared)."""
        A1, b1, A2, b2 = self.weights()
        if self.maps.dims == 0:
            return ResNetField(A1, b1, A2, b2)
        return ConvResNetField(A1, b1, A2, b2, padding_mode=self.maps.padding_mode)

    def certificate(self, image: Image | None = None, *, status: str = norms.CERTIFIED) -> Certificate:
        """The ℓ2 Lipschitz factor: D1 or, for matrices, R8; for convolutions D1 or D4."""
        weights = self.weights()
        return euler_factor(self.maps, weights.A1, weights.A2, self.h, image, status)

    def plain(self) -> nn.Module:
        """x ↦ ReLU(x − h(second(ReLU(first(x))))) in torch's own classes."""
        A1, b1, A2, b2 = (w.detach() for w in self.weights())
        return traced(Residual(self.maps.layer(A1, b1), self.maps.layer(A2, -b2), self.h, clip=True))


class Residual(nn.Module):
    """x − h second(ReLU(first(x))), with ``clip`` its positive part."""

    def __init__(self, first: nn.Module, second: nn.Module, h: float, *, clip: bool):
        super().__init__()
        self.first, self.second, self.h, self.clip = first, second, h, clip

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sub(x, self.second(torch.relu(self.first(x))), alpha=self.h)
        return torch.relu(x) if self.clip else x


class ResNetBlock2d(ResNetBlock):
    """``ResNetBlock`` with convolutions in place of matrices, for states (*batch, features, H, W).

    Parameters
    ----------
    features, hidden, h, bias, device, dtype, generator
        As for ``ResNetBlock``.
    kernel_size : int or pair, odd
    padding_mode : "zeros" or "circular"
        The image keeps its size.

    Examples
    --------
    >>> import torch
    >>> block = ResNetBlock2d(3, 8)
    >>> block(torch.rand(2, 3, 5, 5)).shape
    torch.Size([2, 3, 5, 5])
    """

    dims = 2

    def __init__(self, features: int, hidden: int | None = None, kernel_size: Image = 3, h: float = 1.0,
                 bias: bool = True, padding_mode: str = "zeros", *, device: torch.device | str | None = None,
                 dtype: torch.dtype | None = None, generator: torch.Generator | None = None):
        maps = self.convolve(kernel_size, padding_mode)
        A1, A2 = self.begin(maps, features, hidden, h, bias, device, dtype, generator)
        self.extra_weights({"A1": A1, "A2": A2})


class ResNetBlock1d(ResNetBlock2d):
    """``ResNetBlock2d`` for signals (*batch, features, L)."""

    dims = 1


class DecayBlock(ResNetBlock):
    """ResNet-D: ``ResNetBlock`` with A2 >= 0 entry by entry, so that from x >= 0 states grow by h(b2)₊ at most (D2).

    Parameters
    ----------
    features, hidden, h, bias, device, dtype, generator
        As for ``ResNetBlock``; A2 begins with absolute values.
    parametrisation : "projection", "softplus" or "square"
        A2 itself, its negative entries cut by ``constrain_()``; or softplus or the square of a parameter ``raw``.

    Examples
    --------
    >>> import torch
    >>> block = DecayBlock(2, parametrisation="square")
    >>> bool((block.weights().A2 >= 0).all()), block
    (True, DecayBlock(2, parametrisation='square'))
    """

    raw: nn.Parameter

    def __init__(self, features: int, hidden: int | None = None, h: float = 1.0, bias: bool = True,
                 parametrisation: str = "projection", *, device: torch.device | str | None = None,
                 dtype: torch.dtype | None = None, generator: torch.Generator | None = None):
        Block.__init__(self)
        self.begin_nonnegative(self.begin(DENSE, features, hidden, h, bias, device, dtype, generator), parametrisation)

    def begin_nonnegative(self, initial: tuple[Tensor, Tensor], parametrisation: str) -> None:
        """The initial A1, and what |A2| comes from."""
        self.parametrisation = _check.choice("parametrisation", parametrisation, PARAMETRISATIONS)
        A1, A2 = initial[0], initial[1].abs()
        if parametrisation == "projection":
            self.extra_weights({"A1": A1, "A2": A2})
        else:
            raw = A2.sqrt() if parametrisation == "square" else torch.log(torch.expm1(A2).clamp_min(1e-6))
            self.extra_weights({"A1": A1, "raw": raw})

    def outer(self) -> Tensor:
        """A2 >= 0."""
        if self.parametrisation == "projection":
            return self.A2
        return self.raw.square() if self.parametrisation == "square" else nn.functional.softplus(self.raw)

    @torch.no_grad()
    def constrain_(self) -> None:
        """Cut the negative entries of A2."""
        if self.parametrisation == "projection":
            self.A2.clamp_(min=0)

    def field(self) -> Field:
        """F = A2 σ(A1 x + b1) − b2 with the present weights; A2 >= 0 is checked."""
        A1, b1, A2, b2 = self.weights()
        if self.maps.dims == 0:
            return ResNetDField(A1, b1, A2, b2)
        return ConvResNetDField(A1, b1, A2, b2, padding_mode=self.maps.padding_mode)


class DecayBlock2d(DecayBlock):
    """``DecayBlock`` with convolutions, for states (*batch, features, H, W); parameters as there and ``ResNetBlock2d``.

    Examples
    --------
    >>> import torch
    >>> DecayBlock2d(3, 8, kernel_size=5)
    DecayBlock2d(3, hidden=8, kernel_size=5)
    """

    dims = 2

    def __init__(self, features: int, hidden: int | None = None, kernel_size: Image = 3, h: float = 1.0,
                 bias: bool = True, padding_mode: str = "zeros", parametrisation: str = "projection", *,
                 device: torch.device | str | None = None, dtype: torch.dtype | None = None,
                 generator: torch.Generator | None = None):
        maps = self.convolve(kernel_size, padding_mode)
        self.begin_nonnegative(self.begin(maps, features, hidden, h, bias, device, dtype, generator), parametrisation)


class DecayBlock1d(DecayBlock2d):
    """``DecayBlock2d`` for signals (*batch, features, L)."""

    dims = 1
